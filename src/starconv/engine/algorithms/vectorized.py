"""The NumPy path: any problem, any dtype, any border; no compiled code. The last row of the table, it never refuses.

Maths: the definition with the loops turned inside out. For every kernel tap one strided view of the padded input is
multiplied by one slice of the kernel, for all positions, pictures and channels at once:

    O[n, s, i, j] += sum_r K[s, r, p, q] X[n, r, i s + p d, j s + q d]        for each (p, q)

The gradients read the same line for X and for K. Limits: none, except speed. It goes picture by picture, and within a
picture by bands of output rows, where a copy of everything would break the workspace bound.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...geometry import Axis, border_sources
from ...problem import Problem
from ..emit.target import Target
from .finish import finish_with_numpy
from .rounding import sum_bound

NAME = "numpy"

Array = NDArray[Any]

WORKSPACE_TARGET = 16 << 20
"""Bytes of temporary arrays above which the batch is taken in parts, and a picture in bands."""
SECONDS_PER_PRODUCT = 1.0e-9
SECONDS_PER_CALL = 30e-6


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Never: this is the path for what nothing else takes."""
    return None


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: a product costs about 1 ns in a tap loop over whole arrays, and a call some 30 µs of Python."""
    return SECONDS_PER_CALL + problem.multiply_adds * SECONDS_PER_PRODUCT


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: a copy of the kernels; the padded input and one tap's slice and products of a part."""
    parts = list(_parts(problem))[:1]
    copied = problem.operation != "weight_grad"
    second = problem.itemsize * math.prod(problem.operand_shapes[1]) if copied else 0
    return second + max((part.pictures * _bytes_per_picture(problem, part.rows) for part in parts), default=0)


def repeats(problem: Problem, target: Target | None) -> None:
    """Products of matrices sum in orders of their own."""


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

    def prepare(
        self, second: Array, bias: Array | None, fill: float, once: bool = False
    ) -> tuple[Array, Array | None, float]:
        """The second operand and the bias in the problem's dtype; copies, except of an output's gradient."""
        dtype, copy = self.problem.dtype, not once and self.problem.operation != "weight_grad"
        return second.astype(dtype, copy=copy), None if bias is None else bias.astype(dtype), fill

    def run(
        self, first: Array, prepared: tuple[Array, Array | None, float], out: Array, residual: Array | None = None
    ) -> None:
        """Write the result for the first operand into `out`."""
        second, bias, fill = prepared
        if residual is not None and np.may_share_memory(residual, out):
            residual = residual.copy()  # `out` must not overwrite what is still to be added
        if self.problem.operation == "conv":
            for part in _parts(self.problem):
                result = self._convolve(part, self._cast(part.of(first)), second, fill)
                part.of_rows(out)[...] = self._finished(
                    result, bias, None if residual is None else part.of_rows(residual)
                )
            return
        out[...] = 0
        for part in _parts(self.problem):
            if self.problem.operation == "weight_grad":
                self._add_weight_gradient(part, self._cast(part.of(first)), self._cast(part.of_rows(second)), out)
            else:
                self._add_input_gradient(part, self._cast(part.of_rows(first)), second, part.of(out))
        if bias is not None or residual is not None or self.problem.activation != "none":
            out[...] = self._finished(out, bias, residual)

    def _cast(self, array: Array) -> Array:
        return array.astype(self.problem.dtype, copy=False)

    def _finished(self, result: Array, bias: Array | None, residual: Array | None) -> Array:
        if bias is not None:
            result += bias.reshape(-1, *[1] * self.problem.spatial)
        return finish_with_numpy(self.problem, result, residual)

    def _convolve(self, part: "_Part", x: Array, w: Array, fill: float) -> Array:
        problem = self.problem
        padded = _grouped(pad(problem, x, fill, part.padded_rows(problem)), problem.groups)
        kernels = w.reshape(problem.groups, -1, *w.shape[1:])
        output = np.zeros((len(x), problem.out_channels, part.rows, *problem.output_shape[3:]), problem.dtype)
        total = _grouped(output, problem.groups)
        for tap, window in _taps(problem, part.rows):
            total += _contract(kernels[(..., *tap)], padded[(..., *window)])
        return output

    def _add_input_gradient(self, part: "_Part", g: Array, w: Array, out: Array) -> None:
        problem = self.problem
        rows = part.padded_rows(problem)
        sizes = [max(axis.padded, axis.before + axis.input) for axis in problem.axes[1:]]
        canvas = np.zeros((len(g), problem.in_channels, rows.stop - rows.start, *sizes), problem.dtype)
        total = _grouped(canvas, problem.groups)
        gradient = _grouped(g, problem.groups)
        kernels = w.reshape(problem.groups, -1, *w.shape[1:]).swapaxes(1, 2)
        for tap, window in _taps(problem, part.rows):
            total[(..., *window)] += _contract(kernels[(..., *tap)], gradient)
        folded = _unpad(problem, canvas)
        sources = _sources(problem.axes[0], problem.border, rows)
        inside = np.flatnonzero(sources >= 0)
        if problem.border == "constant":  # the sources follow each other
            if inside.size:
                low, high = inside[0], inside[-1] + 1
                out[:, :, sources[low] : sources[low] + high - low] += folded[:, :, low:high]
        else:
            np.add.at(np.moveaxis(out, 2, 0), sources[inside], np.moveaxis(folded, 2, 0)[inside])

    def _add_weight_gradient(self, part: "_Part", x: Array, g: Array, out: Array) -> None:
        problem = self.problem
        padded = _grouped(pad(problem, x, 0.0, part.padded_rows(problem)), problem.groups)
        gradient = _grouped(g, problem.groups)
        flat = np.ascontiguousarray(gradient.reshape(*gradient.shape[:3], -1))
        total = out.reshape(problem.groups, -1, *out.shape[1:])
        for tap, window in _taps(problem, part.rows):
            patch = padded[(..., *window)]
            patch = np.ascontiguousarray(patch.reshape(*patch.shape[:3], -1))
            total[(..., *tap)] += np.matmul(flat, patch.swapaxes(2, 3)).sum(axis=0)
        if not np.may_share_memory(total, out):  # NumPy had to copy what it was to reshape
            out[...] = total.reshape(out.shape)


class _Part(NamedTuple):
    """Some pictures, and a band of output rows: of positions along the first spatial axis."""

    start: int
    pictures: int
    first_row: int
    rows: int

    def of(self, array: Array) -> Array:
        """These pictures of an array (N, ...)."""
        return array[self.start : self.start + self.pictures]

    def of_rows(self, array: Array) -> Array:
        """The band of these pictures of an array (N, K, rows, ...)."""
        return self.of(array)[:, :, self.first_row : self.first_row + self.rows]

    def padded_rows(self, problem: Problem) -> slice:
        """Padded input rows that the band's windows span."""
        axis = problem.axes[0]
        start = self.first_row * axis.stride
        return slice(start, start + (self.rows - 1) * axis.stride + axis.extent)


def _parts(problem: Problem) -> Iterator[_Part]:
    """Whole pictures, as many as the workspace bound allows; bands of a picture where it does not allow one."""
    total = problem.axes[0].output
    bytes_of_all = max(_bytes_per_picture(problem, total), 1)
    pictures, rows = max(WORKSPACE_TARGET // bytes_of_all, 1), total
    if bytes_of_all > WORKSPACE_TARGET:
        one = _bytes_per_picture(problem, 1)
        another = max(_bytes_per_picture(problem, 2) - one, 1)
        rows = min(max((WORKSPACE_TARGET - one) // another + 1, 1), total)
    for start in range(0, problem.batch, pictures):
        for first in range(0, total, rows):
            yield _Part(start, min(pictures, problem.batch - start), first, min(rows, total - first))


def _sources(axis: Axis, border: str, rows: slice = slice(0, None)) -> NDArray[np.intp]:
    """Which input element each padded position of an axis (or of `rows` of it) shows; -1 for the constant."""
    stop = axis.before + axis.input + max(axis.after, 0) if rows.stop is None else rows.stop
    return border_sources(axis.input, axis.before - rows.start, stop - axis.before - axis.input, border)


def pad(problem: Problem, x: Array, fill: float, rows: slice = slice(0, None)) -> Array:
    """`rows` of the padded `x` (N, C, ...), padding drawn in; a view of `x` itself where there is none."""
    for number, (axis, part) in enumerate(
        zip(problem.axes, (rows, *[slice(0, None)] * (problem.spatial - 1)), strict=True), start=2
    ):
        if axis.before == 0 and axis.after <= 0:
            x = x[(slice(None),) * number + (part,)]
            continue
        sources = _sources(axis, problem.border, part)
        if axis.input == 0:
            x = np.full((*x.shape[:number], len(sources), *x.shape[number + 1 :]), fill, x.dtype)
            continue
        x = np.take(x, sources, axis=number)
        if problem.border == "constant":
            x[(slice(None),) * number + (sources < 0,)] = fill
    return x


def _unpad(problem: Problem, canvas: Array) -> Array:
    """The transpose of `pad` for all spatial axes but the first: padding gives what it received to what it shows."""
    for number, axis in enumerate(problem.axes[1:], start=3):
        inner = (slice(None),) * number + (slice(axis.before, axis.before + axis.input),)
        folded = canvas[inner]
        if problem.border != "constant" and (axis.before or axis.after > 0):
            sources = _sources(axis, problem.border)
            outside = np.r_[0 : axis.before, axis.before + axis.input : len(sources)]
            target = np.moveaxis(folded, number, 0)
            np.add.at(target, sources[outside], np.moveaxis(canvas, number, 0)[outside])
        canvas = folded
    return canvas


def _taps(problem: Problem, rows: int) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Every kernel tap with the slices of padded input that it meets, one element per output position of `rows`."""
    outputs = (rows, *(axis.output for axis in problem.axes[1:]))
    for tap in np.ndindex(*(axis.kernel for axis in problem.axes)):
        yield (
            tap,
            tuple(
                slice(offset * axis.dilation, offset * axis.dilation + (count - 1) * axis.stride + 1, axis.stride)
                for offset, axis, count in zip(tap, problem.axes, outputs, strict=True)
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


def _bytes_per_picture(problem: Problem, rows: int) -> int:
    """Of temporary arrays for a band of `rows`: padded input (twice while it is padded), a tap's slice, products."""
    axis, *others = problem.axes
    padded_rows = max((rows - 1) * axis.stride + axis.extent, 0)
    padded = problem.in_channels * padded_rows * math.prod(max(other.padded, other.input) for other in others)
    outputs = rows * math.prod(other.output for other in others)
    return problem.itemsize * (2 * padded + (problem.in_channels + 2 * problem.out_channels) * outputs)
