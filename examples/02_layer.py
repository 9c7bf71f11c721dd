"""A convolutional layer: per input channel a 2-D convolution, their sum, and the bias."""

import numpy as np

import starconv as sc

random = np.random.default_rng(0)
x = random.integers(-3, 4, (3, 6, 6))  # C_in, H, W
w = random.integers(-3, 4, (2, 3, 3, 3))  # C_out, C_in, k, k
b = np.array([10, -10])

output = sc.conv2d(x, w, b, stride=2, padding=1)
size = sc.output_size((6, 6), 3, stride=2, padding=1)
assert output.shape == (2, *size)

for s in range(2):
    per_channel = [sc.conv2d(x[r : r + 1], w[s : s + 1, r : r + 1], stride=2, padding=1)[0] for r in range(3)]
    print(f"channel {s}: {[part.tolist() for part in per_channel]} + {b[s]} = {output[s].tolist()}")
    assert np.array_equal(output[s], sum(per_channel) + b[s])
