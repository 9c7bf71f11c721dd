"""The NumPy path: any problem, any dtype, any border; no compiled code. The last row of the table, it never refuses.

Maths: the definition with the loops turned inside out. For every kernel tap one strided view of the padded input is
multiplied by one slice of the kernel, for all positions, pictures and channels at once:

    O[n, s, i, j] += sum_r K[s, r, p, q] X[n, r, i s + p d, j s + q d]        for each (p, q)

The gradients read the same line for X and for K. Limits: none, except speed. It goes picture by picture when a copy of
all of them would break the workspace bound.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import border_sources
from ...problem import Problem
from ..emit.target import Target
from .rounding import sum_bound

NAME = "numpy"

Array = NDArray[Any]

WORKSPACE_TARGET = 16 << 20
"""Bytes of temporary arrays above which the batch is taken in parts."""
SECONDS_PER_PRODUCT = 1.0e-9
SECONDS_PER_CALL = 30e-6


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Never: this is the path for what nothing else takes."""
    return None


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: a product costs about 1 ns in a tap loop over whole arrays, and a call some 30 µs of Python."""
    return SECONDS_PER_CALL + problem.multiply_adds * SECONDS_PER_PRODUCT


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: a copy of the second operand; the padded input and one tap's slice and products of some pictures."""
    second = problem.itemsize * math.prod(problem.operand_shapes[1])
    return second + _pictures_at_a_time(problem) * _bytes_per_picture(problem)


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|, which NumPy's matrix product forms in an order of its own."""
    return sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "Vectorized":
    """The solution of `problem`."""
    return Vectorized(problem)


class Vectorized:
    """Runs one problem; see the module's text."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def prepare(self, second: Array, bias: Array | None, fill: float) -> tuple[Array, Array | None, float]:
        """A copy of the second operand and of the bias, in the problem's dtype."""
        dtype = self.problem.dtype
        return second.astype(dtype), None if bias is None else bias.astype(dtype), fill

    def run(self, first: Array, prepared: tuple[Array, Array | None, float], out: Array) -> None:
        """Write the result for the first operand into `out`."""
        second, bias, fill = prepared
        problem = self.problem
        compute = {"conv": self._convolve, "input_grad": self._input_gradient}.get(problem.operation)
        if compute is None:
            self._weight_gradient(first, second, out)
            return
        step = max(_pictures_at_a_time(problem), 1)
        for start in range(0, problem.batch, step):
            part = slice(start, start + step)
            result = compute(first[part].astype(problem.dtype, copy=False), second, fill)
            if bias is not None:
                result += bias.reshape(-1, *[1] * problem.spatial)
            if problem.activation == "relu":
                np.maximum(result, 0, out=result)
            out[part] = result

    def _convolve(self, x: Array, w: Array, fill: float) -> Array:
        problem = self.problem
        padded = _grouped(pad(problem, x, fill), problem.groups)
        kernels = w.reshape(problem.groups, -1, *w.shape[1:])
        output = np.zeros((len(x), *problem.output_shape[1:]), problem.dtype)
        total = _grouped(output, problem.groups)
        for tap, window in _taps(problem):
            total += _contract(kernels[(..., *tap)], padded[(..., *window)])
        return output

    def _input_gradient(self, g: Array, w: Array, fill: float) -> Array:
        problem = self.problem
        sizes = [max(axis.padded, axis.before + axis.input) for axis in problem.axes]
        canvas = np.zeros((len(g), problem.in_channels, *sizes), problem.dtype)
        total = _grouped(canvas, problem.groups)
        gradient = _grouped(g, problem.groups)
        kernels = w.reshape(problem.groups, -1, *w.shape[1:]).swapaxes(1, 2)
        for tap, window in _taps(problem):
            total[(..., *window)] += _contract(kernels[(..., *tap)], gradient)
        return _unpad(problem, canvas)

    def _weight_gradient(self, x: Array, g: Array, out: Array) -> None:
        problem = self.problem
        result = np.zeros(problem.weight_shape, problem.dtype)
        total = result.reshape(problem.groups, -1, *result.shape[1:])
        step = max(_pictures_at_a_time(problem), 1)
        for start in range(0, problem.batch, step):
            part = slice(start, start + step)
            padded = _grouped(pad(problem, x[part].astype(problem.dtype, copy=False), 0.0), problem.groups)
            gradient = _grouped(g[part].astype(problem.dtype, copy=False), problem.groups)
            flat = np.ascontiguousarray(gradient.reshape(*gradient.shape[:3], -1))
            for tap, window in _taps(problem):
                patch = padded[(..., *window)]
                patch = np.ascontiguousarray(patch.reshape(*patch.shape[:3], -1))
                total[(..., *tap)] += np.matmul(flat, patch.swapaxes(2, 3)).sum(axis=0)
        out[...] = result


def pad(problem: Problem, x: Array, fill: float) -> Array:
    """`x` (N, C, ...) with its padding drawn in; `x` itself where there is none."""
    for number, axis in enumerate(problem.axes, start=2):
        if axis.before == 0 and axis.after <= 0:
            continue
        sources = border_sources(axis.input, axis.before, max(axis.after, 0), problem.border)
        if axis.input == 0:
            x = np.full((*x.shape[:number], len(sources), *x.shape[number + 1 :]), fill, x.dtype)
            continue
        x = np.take(x, sources, axis=number)
        if problem.border == "constant":
            x[(slice(None),) * number + (sources < 0,)] = fill
    return x


def _unpad(problem: Problem, canvas: Array) -> Array:
    """The transpose of `pad`: padding gives what it received to the elements it shows."""
    for number, axis in enumerate(problem.axes, start=2):
        inner = (slice(None),) * number + (slice(axis.before, axis.before + axis.input),)
        folded = canvas[inner]
        if problem.border != "constant" and (axis.before or axis.after > 0):
            sources = border_sources(axis.input, axis.before, max(axis.after, 0), problem.border)
            outside = np.r_[0 : axis.before, axis.before + axis.input : len(sources)]
            target = np.moveaxis(folded, number, 0)
            np.add.at(target, sources[outside], np.moveaxis(canvas, number, 0)[outside])
        canvas = folded
    return canvas


def _taps(problem: Problem) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Every kernel tap with the slices of the padded input that it meets, one element per output position."""
    for tap in np.ndindex(*(axis.kernel for axis in problem.axes)):
        yield (
            tap,
            tuple(
                slice(offset * axis.dilation, offset * axis.dilation + (axis.output - 1) * axis.stride + 1, axis.stride)
                for offset, axis in zip(tap, problem.axes, strict=True)
            ),
        )


def _grouped(x: Array, groups: int) -> Array:
    """(N, C, ...) seen as (N, groups, C / groups, ...); a view wherever NumPy can give one."""
    return x.reshape(len(x), groups, x.shape[1] // groups, *x.shape[2:])


def _contract(w: Array, x: Array) -> Array:
    """Sum over channels of one tap: w (groups, K, C) with x (N, groups, C, ...) gives (N, groups, K, ...)."""
    if w.shape[2] == 1:
        return w.reshape(*w.shape[:2], *[1] * (x.ndim - 3)) * x
    # Contiguous, because NumPy multiplies arrays of other strides in its own loops, which round differently from BLAS.
    flat = np.ascontiguousarray(x.reshape(*x.shape[:3], -1))
    products: Array = np.matmul(np.ascontiguousarray(w), flat)
    return products.reshape(*x.shape[:2], w.shape[1], *x.shape[3:])


def _bytes_per_picture(problem: Problem) -> int:
    padded = problem.in_channels * math.prod(max(axis.padded, axis.input) for axis in problem.axes)
    outputs = math.prod(axis.output for axis in problem.axes)
    return problem.itemsize * (2 * padded + (problem.in_channels + 2 * problem.out_channels) * outputs)


def _pictures_at_a_time(problem: Problem) -> int:
    return min(problem.batch, max(1, WORKSPACE_TARGET // max(_bytes_per_picture(problem), 1)))
