"""A convolution is a linear map: its matrix, and its transpose at work."""

import numpy as np

import starconv as sc

kernel = np.array([[1, 2], [3, 4]])
A = sc.conv_matrix(kernel, (3, 3))
print(A.toarray())

x = np.arange(9).reshape(1, 1, 3, 3)
w = kernel[np.newaxis, np.newaxis]
assert np.array_equal(A @ x.ravel(), sc.conv2d(x, w).ravel())

y = np.array([[1, -1], [2, 0]]).reshape(1, 1, 2, 2)
assert np.array_equal(A.T @ y.ravel(), sc.conv_transpose2d(y, w).ravel())
# <A x, y> = <x, A^T y>
assert np.sum(sc.conv2d(x, w) * y) == np.sum(x * sc.conv_transpose2d(y, w))
