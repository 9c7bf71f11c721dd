"""The gradient of a loss with respect to the kernel, against finite differences; then descent along it."""

import numpy as np

import starconv as sc

random = np.random.default_rng(1)
x = random.standard_normal((4, 1, 16, 16))
target = np.array([[-1.0, -1, -1], [0, 0, 0], [1, 1, 1]])[np.newaxis, np.newaxis]
wanted = sc.conv2d(x, target)


def loss(w: np.ndarray) -> float:
    return 0.5 * np.mean((sc.conv2d(x, w) - wanted) ** 2)


def gradient(w: np.ndarray) -> np.ndarray:
    error = (sc.conv2d(x, w) - wanted) / wanted.size
    return sc.grad.conv2d_weight(x, w.shape, error)


w = random.standard_normal(target.shape)
step = 1e-6
for index in np.ndindex(w.shape):
    there = w.copy()
    there[index] += step
    back = w.copy()
    back[index] -= step
    assert np.isclose((loss(there) - loss(back)) / (2 * step), gradient(w)[index], atol=1e-8)

velocity = np.zeros_like(w)
for _ in range(100):  # SGD with momentum finds the edge kernel again
    velocity = 0.9 * velocity + gradient(w)
    w -= 0.1 * velocity
print(np.round(w[0, 0], 3))
assert np.allclose(w, target, atol=1e-2)
