"""Calls piece by piece, where the whole would take a copy of an operand or of the result in another type.

float16 and 32-bit integers are summed in wider types, and sums in floats may be wanted as bytes: copies of the whole
would be as large as the arrays, or eight times that. A *piece* is some pictures, or some rows of one, whose copies stay
in the caches; it is a problem of its own, planned like any other.

The rows that a piece of a convolution reads are padded here, so its problem has no padding along that axis: all pieces
but the last are the same problem, and what lies beyond a border (mirrored, wrapped, ...) is read where it is.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..geometry import Axis, border_sources
from ..problem import Problem
from .plan import WIDENED, Plan, PreparedPlan, empty_channels_last
from .planner import make_plan

__all__ = ["PIECE", "Place", "by_pieces", "sum_of_pieces", "wants_pieces"]

PIECE = 4 << 20
"""Bytes of a piece's first operand and result, in the type of the sums: they stay in the last cache."""
LARGER = 4
"""Times the size that pieces may have where kernels are taller than they would be: what windows of neighbours share, is
read twice. With 2 rows of 15x15 windows at a time, 4096 pixels of 64 channels, a layer took 4.0 s instead of 1.4."""

Array = NDArray[Any]
Place = tuple[slice, slice, slice]
"""Of a part in what is cut: pictures, channels (all of them), rows of the first spatial axis."""


class _Rows(NamedTuple):
    """Rows `first` to `last` of what is cut, the axis of their piece, and the first operand's rows that it reads.

    What is cut is the result or, for a weight gradient, the output's gradient. A row -1 holds the constant.
    """

    first: int
    last: int
    axis: Axis
    reads: NDArray[np.intp]


def wants_pieces(plan: Plan, first: np.dtype[Any], other: np.dtype[Any] | str, *, most: int) -> bool:
    """Whether the whole would copy more than `most` bytes in the type of the sums.

    Args:
        plan: of the whole.
        first: type of the first operand.
        other: type of what else has pictures: the result or, of a weight gradient, the second operand.
        most: bytes, such as PIECE.
    """
    shapes, weight_grad = plan.shapes, plan.problem.operation == "weight_grad"
    copied = 0 if plan.reads(first) else math.prod(shapes.first)
    if other != shapes.dtype:
        copied += math.prod(shapes.second if weight_grad else shapes.result)
    return copied * plan.problem.itemsize > most


def by_pieces(
    problem: Problem,
    first: Array,
    second: Array,
    bias: Array | None,
    store: Callable[[Place, Array], None],
    *,
    most: int,
    fill: float = 0.0,
) -> None:
    """Compute a convolution or an input gradient, and hand each part of it to `store`.

    Args:
        problem: the whole, without residual.
        first, second, bias: its operands, of any real dtypes; they are cast as NumPy's "unsafe" does.
        store: called with a part's place and its sums, an array that is written to again afterwards.
        most: bytes of a piece, such as PIECE.
        fill: what constant padding holds.
    """
    prepared: dict[tuple[Problem, np.dtype[Any]], tuple[PreparedPlan, Array]] = {}
    for place, block, part in _pieces(problem, first, most, fill):
        key = part, block.dtype
        if key not in prepared:
            plan = make_plan(part, source=block.dtype.name)
            make = empty_channels_last if part.channels_last else np.empty
            sums = make(part.result_shape, np.dtype(part.dtype))
            prepared[key] = plan.prepare(second, bias, fill=fill, casting="unsafe"), sums
        compute, sums = prepared[key]
        compute(block, out=sums, casting="unsafe")
        store(place, sums)


def sum_of_pieces(problem: Problem, first: Array, second: Array, *, most: int) -> Array:
    """A weight gradient, summed over pieces of the pictures and of their outputs' gradient in their order."""
    total = np.zeros(problem.result_shape, problem.dtype)
    for place, block, part in _pieces(problem, first, most, 0.0):
        gradient = second[place].astype(total.dtype, copy=False)
        total += make_plan(part, source=block.dtype.name)(block, gradient, casting="unsafe")
    return total


def _pieces(problem: Problem, first: Array, most: int, fill: float) -> Iterator[tuple[Place, Array, Problem]]:
    """Piece by piece: its place in what is cut, what it reads of the first operand, and its problem."""
    pictures, rows = _sizes(problem, most)
    for picture in range(0, problem.batch, pictures):
        taken = slice(picture, min(picture + pictures, problem.batch))
        for span in _spans(problem, rows):
            block = _read(first[taken], span.reads, np.dtype(problem.dtype), fill)
            part = replace(problem, batch=len(block), axes=(span.axis, *problem.axes[1:]))
            yield (taken, slice(None), slice(span.first, span.last)), block, part


def _sizes(problem: Problem, most: int) -> tuple[int, int]:
    """Pictures and rows of a piece: some whole pictures, or some rows of one."""
    picture = problem.itemsize * (math.prod(problem.input_shape[1:]) + math.prod(problem.output_shape[1:]))
    length = _length(problem)
    if picture <= most:
        return most // max(picture, 1), length
    axis = problem.axes[0]
    tall = axis.extent if problem.operation == "input_grad" else -(-axis.extent // axis.stride)
    return 1, max(length * most // picture, min(tall, LARGER * length * most // picture), 1)


def _length(problem: Problem) -> int:
    """Rows of what is cut."""
    axis = problem.axes[0]
    return axis.input if problem.operation == "input_grad" else axis.output


def _spans(problem: Problem, rows: int) -> Iterator[_Rows]:
    """What is cut, `rows` rows at a time."""
    axis, length = problem.axes[0], _length(problem)
    mirrors = problem.operation == "input_grad" and problem.border != "constant"  # whose border is added to other rows
    if rows >= length or mirrors or not axis.input:  # nothing but padding has no rows to be read
        yield _Rows(0, length, axis, np.arange(problem.operand_shapes[0][2]))
        return
    padded = border_sources(axis.input, axis.before, axis.after, problem.border)
    for first in range(0, length, rows):
        last = min(first + rows, length)
        if problem.operation != "input_grad":
            size = (last - first - 1) * axis.stride + axis.extent
            start = first * axis.stride
            yield _Rows(first, last, replace(axis, input=size, before=0, after=0), padded[start : start + size])
        else:
            yield _stamped(axis, first, last)


def _stamped(axis: Axis, first: int, last: int) -> _Rows:
    """Rows of an input gradient: on each the outputs have stamped their kernels that read it.

    Output o reaches from o stride - before over `extent` rows. The piece begins with one that reaches the first row or,
    between two kernels, with the one before it, and goes on to the last one that begins within the piece.
    """
    low = min(-(-(first + axis.before - axis.extent + 1) // axis.stride), (first + axis.before) // axis.stride)
    low = min(max(low, 0), axis.output - 1)
    high = max(min((last - 1 + axis.before) // axis.stride + 1, axis.output), low + 1)
    before = first + axis.before - low * axis.stride
    after = (high - low - 1) * axis.stride + axis.extent - (last - first) - before
    return _Rows(first, last, replace(axis, input=last - first, before=before, after=after), np.arange(low, high))


def _read(pictures: Array, rows: NDArray[np.intp], dtype: np.dtype[Any], fill: float) -> Array:
    """These rows of `pictures`: as they are where that is possible, else copied in `dtype`."""
    if (rows >= 0).all() and (np.diff(rows) == 1).all():
        start = rows[0] if rows.size else 0
        block = pictures[:, :, start : start + rows.size]
        as_it_is = block.dtype == dtype or block.dtype.name in WIDENED
        return block if as_it_is and block.dtype.isnative else block.astype(dtype)
    block = pictures[:, :, rows].astype(dtype)
    block[:, :, rows < 0] = fill
    return block
