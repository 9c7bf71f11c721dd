"""The definition, in float64 NumPy that a reader believes. Everything else in starconv is tested against it.

Each function is a loop over output positions. At a position the kernel lies over one *patch* of the padded input:

    O[n, s, i, j] = b[s] + sum_r sum_p sum_q X[n, r, i * stride + p * dilation, j * stride + q * dilation] K[s, r, p, q]

with r over the channels of the kernel's group. Both gradients follow from reading the same line differently: the
output element is linear in the patch with coefficients K, and linear in K with the patch as coefficients.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .geometry import border_sources
from .problem import ACTIVATION_LIMITS, Problem

__all__ = ["convolution", "input_gradient", "pad", "weight_gradient"]

Array = NDArray[np.float64]
Index = tuple[Any, ...]
"""One int or slice per spatial axis."""


def convolution(
    problem: Problem,
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    fill: float = 0.0,
    residual: ArrayLike | None = None,
) -> Array:
    """O = X ⋆ K + b. `x` has `problem.input_shape`, `w` `problem.weight_shape`, `b` one value per output channel.

    `fill` is what constant padding holds; `residual`, an array like O, is added before the activation.
    """
    padded = pad(problem, np.asarray(x, np.float64), fill)
    w = np.asarray(w, np.float64)
    output = np.zeros(problem.output_shape)
    for position, patch in _windows(problem):
        for channels, kernels in _groups(problem):
            # One inner product per picture and kernel: (N, C/g, k, k) with (K/g, C/g, k, k) gives (N, K/g).
            output[:, kernels, *position] = _inner(padded[:, channels, *patch], w[kernels])
    return _finished(problem, output, b, residual)


def input_gradient(
    problem: Problem,
    output_gradient: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    residual: ArrayLike | None = None,
) -> Array:
    """Sum over O of dL/dO dO/dX: every output element stamps its kernel, scaled, onto the patch that it read.

    This is A^T vec(dL/dO) for vec(O) = A vec(X), and so the transposed convolution, to which a bias `b` (one value per
    channel of X) and a `residual` (an array like X) may be added.
    """
    g = np.asarray(output_gradient, np.float64)
    w = np.asarray(w, np.float64)
    canvas = np.zeros(
        (*problem.input_shape[:2], *(max(axis.padded, axis.before + axis.input) for axis in problem.axes))
    )
    for position, patch in _windows(problem):
        for channels, kernels in _groups(problem):
            canvas[:, channels, *patch] += np.tensordot(g[:, kernels, *position], w[kernels], axes=1)
    return _finished(problem, _unpad(problem, canvas), b, residual)


def weight_gradient(problem: Problem, x: ArrayLike, output_gradient: ArrayLike) -> Array:
    """Sum over O of dL/dO dO/dK: every output element adds the patch that it read, scaled, to its kernel's gradient."""
    padded = pad(problem, np.asarray(x, np.float64))
    g = np.asarray(output_gradient, np.float64)
    gradient = np.zeros(problem.weight_shape)
    for position, patch in _windows(problem):
        for channels, kernels in _groups(problem):
            gradient[kernels] += np.tensordot(g[:, kernels, *position].T, padded[:, channels, *patch], axes=1)
    return gradient


def pad(problem: Problem, x: Array, fill: float = 0.0) -> Array:
    """`x` with its padding drawn in, as the problem's border says."""
    for number, axis in enumerate(problem.axes, start=2):
        sources = border_sources(axis.input, axis.before, axis.after, problem.border)
        leading: Index = (slice(None),) * number
        padded = np.full((*x.shape[:number], len(sources), *x.shape[number + 1 :]), fill)
        padded[(*leading, sources >= 0)] = x[(*leading, sources[sources >= 0])]
        x = padded
    return x


def _finished(problem: Problem, sums: Array, b: ArrayLike | None, residual: ArrayLike | None) -> Array:
    """Bias and residual added to `sums`, and the activation."""
    if b is not None:
        sums += np.asarray(b, np.float64).reshape(-1, *[1] * problem.spatial)
    if residual is not None:
        sums += np.asarray(residual, np.float64)
    return activated(problem.activation, sums)


def activated(activation: str, sums: Array) -> Array:
    """An activation of `sums`, by its formula."""
    if activation == "silu":
        with np.errstate(over="ignore"):  # e^-x is infinite where the result is 0
            gated: Array = sums / (1 + np.exp(-sums))
        return gated
    if activation == "hard_swish":
        return sums * np.clip(sums / 6 + 0.5, 0, 1)
    return np.clip(sums, *ACTIVATION_LIMITS[activation])


def _unpad(problem: Problem, canvas: Array) -> Array:
    """The transpose of :func:`pad`: what padding received goes to the elements it shows; constant padding has none."""
    for number, axis in enumerate(problem.axes, start=2):
        sources = border_sources(axis.input, axis.before, max(axis.after, 0), problem.border)
        folded = np.zeros((axis.input, *np.delete(canvas.shape, number)))
        np.add.at(folded, sources[sources >= 0], np.moveaxis(canvas, number, 0)[sources >= 0])
        canvas = np.moveaxis(folded, 0, number)
    return canvas


def _windows(problem: Problem) -> Iterator[tuple[Index, Index]]:
    """Every output position with the slices of the padded input that its window covers."""
    for position in np.ndindex(*(axis.output for axis in problem.axes)):
        starts = [index * axis.stride for index, axis in zip(position, problem.axes, strict=True)]
        yield (
            position,
            tuple(
                slice(start, start + axis.extent, axis.dilation)
                for start, axis in zip(starts, problem.axes, strict=True)
            ),
        )


def _groups(problem: Problem) -> Iterator[tuple[slice, slice]]:
    """Per group, its slice of the input channels and its slice of the kernels."""
    channels, kernels = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    for group in range(problem.groups):
        yield slice(group * channels, (group + 1) * channels), slice(group * kernels, (group + 1) * kernels)


def _inner(patches: Array, kernels: Array) -> Array:
    """Inner products of (N, ...) patches with (K, ...) kernels: (N, K)."""
    return patches.reshape(len(patches), kernels[0].size) @ kernels.reshape(len(kernels), -1).T
