"""What correlate and convolve compute: filters of arrays of any dimension, as convolutions of pictures of one channel.

Filtered axes are the picture's, all others the batch. Of more than three filtered axes the first is gone along tap by
tap. Complex numbers are filters of their parts. Nothing of an array's size is made beside the result, but what the
choice of an algorithm needs: all is computed part by part, where the whole would take a copy.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .arguments import Array
from .engine.pieces import PIECE, Piece, alike, by_pieces, goes_in_place, plan_alike, same_place, wants_pieces
from .engine.plan import Plan, PreparedPlan
from .engine.planner import make_plan, wisdom_state
from .geometry import Axis, border_sources
from .problem import Problem

__all__ = ["Geometry", "complex_sums", "plan_for", "real_sums"]

CAST_ELEMENTS = 1 << 17
"""Sums that are cast at a time: on the way they are int64, up to four arrays of 1 MiB."""


class Geometry(NamedTuple):
    """Which axes are filtered, in rising order; taps before the output's position on each; numpy.pad's border."""

    filtered: tuple[int, ...]
    befores: tuple[int, ...]
    border: str


class _Task(NamedTuple):
    """A filter over one to three axes as a problem: pictures of one channel, and a channel of the result per kernel.

    The batch axes of an array cannot always be seen as one, it depends on its strides.

    Attributes:
        plan: for all of it.
        first: the pictures (batch, 1, ...), None where they cannot be seen so.
        second: the kernels (K, 1, ...), in the type of the sums.
        result: where the result goes as (batch, K, ...), None likewise.
        fill: what lies beyond the edge.
    """

    plan: Plan
    first: Array | None
    second: Array
    result: Array | None
    fill: float

    @classmethod
    def of(cls, picture: Array, kernels: Array, cval: float, geometry: Geometry, dtype: str, results: Array) -> "_Task":
        plan = plan_for(picture, kernels, geometry, dtype)
        batch, _, *sizes = plan.shapes.first
        first = _seen(_last(picture, geometry), (batch, 1, *sizes))
        result = _seen(_last(results, geometry, 1), (len(kernels), batch, *sizes))
        second = kernels.astype(dtype, copy=False)[:, np.newaxis]
        fill = cval if geometry.border == "constant" else 0.0
        return cls(plan, first, second, None if result is None else result.swapaxes(0, 1), fill)

    def asked(self) -> PreparedPlan:
        """The plan for these kernels, to be asked who computes them."""
        return self.plan.who_computes(self.second, fill=self.fill)


def real_sums(
    picture: Array,
    kernels: Array,
    cval: float,
    geometry: Geometry,
    dtype: str,
    results: Array,
    whole: PreparedPlan | None = None,
) -> None:
    """Write to `results` (K, ...), one picture per kernel, the sums in `dtype`, cast to its type.

    With `whole` this is a part of what that computes, and has its bits.
    """
    if picture.size == 0:
        return
    if not geometry.filtered:
        _scaled(picture, kernels, dtype, results)
        return
    if len(geometry.filtered) > 3:
        for part, rows in _rows(picture, kernels, geometry, dtype, results):
            _store(results[part], rows.sums(picture, kernels, cval, geometry, dtype))
        return
    task = _Task.of(picture, kernels, cval, geometry, dtype, results)
    plan = task.plan if whole is None else plan_alike(whole, task.plan.problem) or task.plan
    first, result = task.first, task.result
    unseen = first is None or result is None
    if unseen and whole is None and _by_batches(task, picture, kernels, cval, geometry, dtype, results):
        return
    if first is None:
        first = _last(picture, geometry).reshape(plan.shapes.first)
    in_pieces = whole is None and wants_pieces(plan, picture.dtype, results.dtype, dtype, most=PIECE)
    if result is not None and in_pieces:
        over = np.may_share_memory(first, results)
        if over and not goes_in_place(plan.problem, first, result, most=PIECE):
            first, over = first.copy(), False
        for place, sums in by_pieces(plan.problem, first, task.second, None, most=PIECE, fill=task.fill, in_place=over):
            result[place] = _cast(sums, results.dtype)
        return
    # "unsafe": wide integers whose sums are small are read as floats that hold them all.
    if result is not None and results.dtype == dtype:
        plan(first, task.second, out=result, fill=task.fill, casting="unsafe")
        return
    made = plan(first, task.second, fill=task.fill, casting="unsafe").swapaxes(0, 1)
    moved = _last(results, geometry, 1)
    _store(moved, made.reshape(moved.shape))


def complex_sums(picture: Array, kernels: Array, cval: complex, geometry: Geometry, dtype: str, results: Array) -> None:
    """The same of complex numbers: up to four filters of their parts, with sums in `dtype`."""
    if picture.size == 0:
        return
    both = picture.dtype.kind == kernels.dtype.kind == "c"
    filters = [(picture.real, kernels.real, cval.real)]
    if both:
        filters.append((picture.imag, kernels.imag, cval.imag))
    if picture.dtype.kind == "c":
        filters.append((picture.imag, kernels.real, cval.imag))
    if kernels.dtype.kind == "c":
        filters.append((picture.real, kernels.imag, cval.real))

    def store(into: Array, sums: Sequence[Array]) -> None:
        # Not real + 1j * imaginary, in which an infinity would spoil the other part.
        into.real[...] = sums[0] - sums[1] if both else sums[0]
        into.imag[...] = sums[2] + sums[3] if both else sums[1]

    if len(geometry.filtered) > 3:
        for part, rows in _rows(picture, kernels.real, geometry, dtype, results):
            store(results[part], [rows.sums(*operands, geometry, dtype) for operands in filters])
        return
    large = results.size * np.dtype(dtype).itemsize > PIECE and geometry.filtered
    tasks = [_Task.of(*operands, geometry, dtype, results) for operands in filters] if large else []
    streams = [stream for stream in map(_pieces_of, tasks) if stream is not None]
    if streams and len(streams) == len(tasks):
        for pieces in zip(*streams, strict=True):
            result = tasks[0].result
            assert result is not None
            store(result[pieces[0][0]], [sums for _, sums in pieces])
        return
    made = [np.empty(results.shape, dtype) for _ in filters]
    for operands, sums in zip(filters, made, strict=True):
        real_sums(*operands, geometry, dtype, sums)
    store(results, made)


def _pieces_of(task: _Task) -> Iterator[Piece] | None:
    """What a part of complex numbers adds to the result, piece by piece; None where the whole has other bits.

    The result is complex, so it must not be written before all have read what lies beneath.
    """
    if task.first is None or task.result is None:
        return None
    into = task.result.real
    if not same_place(task.first, into) and same_place(task.first, task.result.imag):
        into = task.result.imag
    return alike(task.asked(), task.first, task.second, out=into, most=PIECE // 2, fill=task.fill)


def _by_batches(
    task: _Task, picture: Array, kernels: Array, cval: float, geometry: Geometry, dtype: str, results: Array
) -> bool:
    """Compute some of the pictures at a time, where a large array's cannot be seen as one axis; or give False.

    Of an array (A, B, C) that is filtered along B these are A C rows, and (A, C, B) would be a copy of it.
    """
    size = max(picture.size, results.size) * np.dtype(dtype).itemsize
    if size <= PIECE or not _apart(picture, results):
        return False
    whole = task.asked()
    if plan_alike(whole, replace(task.plan.problem, batch=1)) is None:
        return False
    others = [axis for axis in range(picture.ndim) if axis not in geometry.filtered]
    longest = max(others, key=lambda axis: picture.shape[axis])
    for part in _along(longest, picture.shape[longest], size):
        real_sums(picture[part], kernels, cval, geometry, dtype, results[:, *part], whole)
    return True


class _Rows(NamedTuple):
    """Rows `first` to `last` of the first of more than three filtered axes: sums, over its taps, of other filters."""

    first: int
    last: int
    whole: PreparedPlan | None

    def sums(self, picture: Array, kernels: Array, cval: float, geometry: Geometry, dtype: str) -> Array:
        """Of one picture per kernel."""
        axis, inner = geometry.filtered[0], Geometry(geometry.filtered[1:], geometry.befores[1:], geometry.border)
        size, taps, before = picture.shape[axis], kernels.shape[1], geometry.befores[0]
        sources = border_sources(size, before, taps - 1 - before, geometry.border)
        shape = *picture.shape[:axis], self.last - self.first, *picture.shape[axis + 1 :]
        total, part = np.zeros((len(kernels), *shape), dtype), np.empty((len(kernels), *shape), dtype)
        for tap in range(taps):
            reads = sources[self.first + tap : self.last + tap]
            along: tuple[Any, ...] = (slice(None),) * axis
            shifted = picture[*along, reads].astype(dtype, copy=False)  # np.take would copy all of a view
            shifted[*along, reads < 0] = cval
            if len(inner.filtered) > 3:
                total += _Rows(0, shape[inner.filtered[0]], self.whole).sums(
                    shifted, kernels[:, tap], cval, inner, dtype
                )
            else:
                real_sums(shifted, kernels[:, tap], cval, inner, dtype, part, self.whole)
                total += part
        return total


def _rows(
    picture: Array, kernels: Array, geometry: Geometry, dtype: str, results: Array
) -> Iterator[tuple[tuple[slice, ...], _Rows]]:
    """Where some rows lie in the result, and these; all of them where parts would have other bits.

    Rows that are still to be read must not be written over: then all, too.
    """
    axis = geometry.filtered[0]
    inner = Geometry(geometry.filtered[-3:], geometry.befores[-3:], geometry.border)
    taps = kernels.astype(dtype, copy=False).reshape(len(kernels), -1, *kernels.shape[-3:])[:, :1]
    plan = plan_for(picture, taps[:, 0], inner, dtype)
    asked = plan.who_computes(taps)
    length, size = picture.shape[axis], results.size * np.dtype(dtype).itemsize
    whole = None if plan_alike(asked, replace(plan.problem, batch=1)) is None else asked
    if whole is None or np.may_share_memory(picture, results):
        size = 0
    for part in _along(axis, length, size):
        yield (slice(None), *part), _Rows(part[-1].start, part[-1].stop, whole)


def _along(axis: int, length: int, size: int) -> Iterator[tuple[slice, ...]]:
    """Where parts lie, of PIECE bytes each, of an array that is `length` long on this axis and has `size` bytes."""
    count = max(length * PIECE // size, 1) if size else length
    for start in range(0, length, count):
        yield (slice(None),) * axis + (slice(start, min(start + count, length)),)


def _apart(picture: Array, results: Array) -> bool:
    """Whether a part of the result may be written when the same part of the picture has been read."""
    return not np.may_share_memory(picture, results) or (len(results) == 1 and same_place(picture, results[0]))


def _scaled(picture: Array, kernels: Array, dtype: str, results: Array) -> None:
    """Without filtered axes: kernels of a number each."""
    if not _apart(picture, results):
        picture = picture.copy()
    for number, kernel in enumerate(kernels.astype(dtype)):
        for into, piece in _blocks(results[number : number + 1], picture[np.newaxis]):
            into[...] = _cast(kernel * piece.astype(dtype), results.dtype)


def _seen(array: Array, shape: tuple[int, ...]) -> Array | None:
    """`array` in this shape, None where that would be a copy."""
    with suppress(ValueError):
        return array.reshape(shape, copy=False)
    return None


def _last(array: Array, geometry: Geometry, extra: int = 0) -> Array:
    """`array` with its filtered axes behind all others; `extra` axes come before the picture's."""
    count = len(geometry.filtered)
    return np.moveaxis(array, [axis + extra for axis in geometry.filtered], range(-count, 0))


def plan_for(picture: Array, kernels: Array, geometry: Geometry, dtype: str) -> Plan:
    """Of all pictures of one to three axes."""
    sizes = tuple(picture.shape[axis] for axis in geometry.filtered)
    # Whole numbers are exact, or cut towards zero: there an algorithm that only comes close would be wrong by one.
    precision = "strict" if picture.dtype.kind in "biu" else "float32"
    shapes = picture.size // math.prod(sizes), len(kernels), sizes, kernels.shape[1:], geometry.befores
    return _plan_of(wisdom_state(), *shapes, dtype, geometry.border, precision, picture.dtype.name)


@lru_cache(maxsize=1024)
def _plan_of(
    state: int,
    batch: int,
    kernels: int,
    sizes: tuple[int, ...],
    taps: tuple[int, ...],
    befores: tuple[int, ...],
    dtype: str,
    border: str,
    precision: str,
    source: str,
) -> Plan:
    axes = tuple(
        Axis(size, count, before=before, after=count - 1 - before)
        for size, count, before in zip(sizes, taps, befores, strict=True)
    )
    problem = Problem("conv", batch, 1, kernels, axes, dtype=dtype, border=border, precision=precision)
    return make_plan(problem, source=source)


def _store(results: Array, sums: Array) -> None:
    for into, piece in _blocks(results, sums):
        into[...] = _cast(piece, results.dtype)


def _blocks(result: Array, sums: Array) -> Iterator[tuple[Array, Array]]:
    """Views of the same part of both, of at most CAST_ELEMENTS elements, that together are all of them."""
    if result.size <= CAST_ELEMENTS:
        yield result, sums
    elif len(result) == 1:
        yield from _blocks(result[0], sums[0])
    else:
        step = max(CAST_ELEMENTS * len(result) // result.size, 1)
        for first in range(0, len(result), step):
            yield from _blocks(result[first : first + step], sums[first : first + step])


def _cast(sums: Array, dtype: np.dtype[np.generic]) -> Array:
    """`sums` in `dtype`: towards zero and modulo the range for integers, as a C cast and so scipy does it."""
    if dtype.kind in "iu" and sums.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            if dtype == np.uint64 and (upper := sums >= 2.0**63).any():
                return np.where(upper, sums.astype(dtype), sums.astype(np.int64).astype(dtype))
            return sums.astype(np.int64).astype(dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # too large a sum is infinite, as in C
        return (sums.astype(np.int64) != 0) if dtype.kind == "b" else sums.astype(dtype, copy=False)
