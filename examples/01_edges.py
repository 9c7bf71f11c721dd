"""Both kinds of horizontal edge: what a kernel finds is what it looks like."""

import numpy as np

import starconv as sc

kernel = np.array([[-1, -1, -1], [0, 0, 0], [1, 1, 1]], "float32")

picture = np.zeros((9, 9), "float32")
picture[3:6] = 1  # dark, light, dark

response = sc.correlate(picture, kernel, mode="nearest")
print(response[:, 4])
assert response[:, 4].tolist() == [0, 0, 3, 3, 0, -3, -3, 0, 0]  # light line, then dark line

# Each output element is the inner product of the flattened kernel with a patch.
patch = picture[1:4, 3:6]
assert response[2, 4] == kernel.ravel() @ patch.ravel()
