"""What sharing weights is worth: a convolution commutes with shifts, and learns from few pictures what dense cannot."""

import numpy as np

import starconv as sc
from starconv import nn

# A convolution is a dense layer with most weights zero and the others shared ...
layer = nn.Conv2d(1, 2, 3, padding=1, seed=0)
dense = sc.bias.as_dense(layer, (1, 12, 12))
x = np.random.default_rng(0).random((1, 1, 12, 12), "float32")
assert np.allclose(dense(x.reshape(1, -1)), layer(x).reshape(1, -1), atol=1e-5)
print(layer.weight.size, "shared weights do what a dense layer does with", dense.weight.size)

# ... so that it commutes with shifts, which a dense layer of its own weights does not.
own = nn.Linear(144, 288, seed=0)
for name, function in (("convolution", layer), ("dense", lambda v: own(v.reshape(1, -1)).reshape(1, 2, 12, 12))):
    print(f"{name}: equivariance error {sc.bias.equivariance_error(function, x, 2, margin=1):.2g}")

print(sc.bias.compare([50, 200], steps=100, seeds=[0, 1]))
