"""Calls piece by piece, where the whole would take a copy of an operand or of the result.

float16 and 32-bit integers are summed in wider types, and sums in floats may be wanted as bytes: copies of the whole
would be as large as the arrays, or eight times that. Nor can every kernel read and write arrays of any strides in
place, or write over what it reads. A *piece* is some pictures, or some rows of one, whose copies stay in the caches; it
is a problem of its own, planned like any other. Of weights that are large themselves, a piece has some kernels.

The rows that a piece of a convolution reads are padded here, so its problem has no padding along that axis: all pieces
but the last are the same problem, and what lies beyond a border (mirrored, wrapped, ...) is read where it is.

Where it is the arrays' places that make a call go by pieces, it has the bits of the whole (`alike`): pieces
form the definition's sums too, or take the whole's algorithm and begin where its tiles do.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentValueError
from ..geometry import Axis, border_sources
from ..problem import Problem
from .plan import WIDENED, Plan, PreparedPlan
from .planner import MOST_WORKSPACE, make_plan, most_workspace
from .runtime.recycling import recycled_empty

__all__ = [
    "PIECE",
    "Piece",
    "Place",
    "alike",
    "by_pieces",
    "goes_in_place",
    "plan_alike",
    "same_place",
    "sum_of_pieces",
    "takes_too_much",
    "wants_pieces",
]

PIECE = 4 << 20
"""Bytes of a piece's first operand and result, in the type of the sums: they stay in the last cache."""
LARGER = (2, 4)
"""Times the size that pieces may have where kernels are tall: what windows of neighbours share, is read twice."""
TALL = 4
"""Kernels are where the rows of a piece are fewer than so many times theirs."""
WORTH = 0.95
"""Of the predicted time, what larger pieces may take to be chosen."""
LEAST_ROOM = 4 << 20
"""Bytes of workspace with which a piece can do something."""
FEW_WEIGHTS = 1 << 20
"""Bytes of weights that are kept in place for every kind of piece; of more, those of one kind."""

Array = NDArray[Any]
Place = tuple[slice, slice, slice]
"""Of a part in what is cut: pictures, channels (all of them, where weights are not large), rows of the first axis."""
Piece = tuple[Place, Array]
"""A part's place, and its sums: an array that is written to again afterwards."""


class _Rows(NamedTuple):
    """Rows `first` to `last` of what is cut, the axis of their piece, and the first operand's rows that it reads.

    What is cut is the result or, for a weight gradient, the output's gradient. A row -1 holds the constant.
    """

    first: int
    last: int
    axis: Axis
    reads: slice | NDArray[np.intp]


class _Size(NamedTuple):
    """Of a piece: some whole pictures, or some rows of one."""

    pictures: int
    rows: int


def wants_pieces(
    plan: Plan, first: np.dtype[Any], other: np.dtype[Any] | str, weights: np.dtype[Any] | str, *, most: int
) -> bool:
    """Whether the whole would copy more than `most` bytes in the type of the sums, or large weights.

    Args:
        plan: of the whole.
        first: type of the first operand.
        other: type of what else has pictures: the result or, of a weight gradient, the second operand.
        weights: type of the weights or, of a weight gradient, the result.
        most: bytes, such as PIECE.
    """
    shapes, weight_grad = plan.shapes, plan.problem.operation == "weight_grad"
    copied = 0 if plan.reads(first) else math.prod(shapes.first)
    if other != shapes.dtype:
        copied += math.prod(shapes.second if weight_grad else shapes.result)
    return copied * plan.problem.itemsize > most or (weights != shapes.dtype and _shares(plan.problem, most) > 1)


def by_pieces(
    problem: Problem,
    first: Array,
    second: Array,
    bias: Array | None,
    *,
    most: int,
    fill: float = 0.0,
    in_place: bool = False,
) -> Iterator[Piece]:
    """A convolution or an input gradient, one part of it after the other.

    Args:
        problem: the whole, without residual.
        first, second, bias: its operands, of any real dtypes; they are cast as NumPy's "unsafe" does.
        most: bytes of a piece, such as PIECE.
        fill: what constant padding holds.
        in_place: pieces will be written over the first operand, as `goes_in_place` allows.
    """
    pieces = _computed(problem, _best_size(problem, most), first, second, bias, _free, most=most, fill=fill)
    return _late(pieces) if in_place else pieces


def alike(
    prepared: PreparedPlan,
    first: Array,
    second: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    *,
    out: Array,
    most: int,
    fill: float,
) -> Iterator[Piece] | None:
    """What `prepared` would compute, with the same bits, part by part; None where pieces would have other bits.

    They are to be written to `out`, which may lie over the first operand or the residual: None where it must not.
    """
    problem, step = prepared.plan.problem, prepared.candidate.repeats
    if step is None or problem.operation == "weight_grad":
        return None
    size, over = _size(problem, most, step), np.may_share_memory(first, out)
    if over and not _goes_in_place(problem, size, first, out, most):
        return None
    if residual is not None and np.may_share_memory(residual, out) and (over or not same_place(residual, out)):
        return None
    plans = {part: plan_alike(prepared, part) for _, _, part in _parts(problem, size, most)}
    if None in plans.values():
        return None

    def planned(part: Problem, source: str, room: int | None) -> Plan:
        plan = plans[part]
        assert plan is not None
        return plan

    pieces = _computed(problem, size, first, second, bias, planned, residual, most=most, fill=fill)
    return _late(pieces) if over else pieces


def takes_too_much(prepared: PreparedPlan, first: Array, second: Array, out: Array) -> bool:
    """Whether arrays that are copied as a whole leave the algorithm less than its workspace of what a call may take.

    They are where it cannot read or write them as they lie, for their strides, their types or what they lie over.
    """
    over = np.may_share_memory(first, out)
    reads, writes = prepared.in_place(first, out)
    copied = (0 if reads else first.size) + (0 if writes and not over else out.size)
    if not copied:
        return False
    used = copied * out.itemsize + prepared.candidate.workspace
    return used > most_workspace(first.nbytes + second.nbytes + out.nbytes)


def goes_in_place(problem: Problem, first: Array, out: Array, *, most: int) -> bool:
    """Whether pieces of so many bytes may be written over the first operand, where `out` lies.

    A piece is written when the next one has been computed. So it must have as many rows as a window reaches back; and
    nothing may wrap around, from the last rows to the first.
    """
    return _goes_in_place(problem, _best_size(problem, most), first, out, most)


def _goes_in_place(problem: Problem, size: _Size, first: Array, out: Array, most: int) -> bool:
    axis = problem.axes[0]
    reach = 0 if size.rows >= _length(problem) else max(axis.before, axis.after)
    near = size.rows >= reach and (problem.border != "wrap" or not reach)
    return problem.operation == "conv" and near and _shares(problem, most) == 1 and same_place(first, out)


def same_place(one: Array, other: Array) -> bool:
    """Whether two arrays are the same elements, or of other types and each over the other's."""
    if one.shape != other.shape or one.__array_interface__["data"][0] != other.__array_interface__["data"][0]:
        return False
    steps = zip(one.shape, one.strides, other.strides, strict=True)
    return all(step == another for size, step, another in steps if size > 1)


def _late(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Every piece after the next has been computed."""
    waiting: Piece | None = None
    for place, sums in pieces:
        if waiting is not None:
            yield waiting
        if waiting is None or waiting[1].shape != sums.shape:
            waiting = place, sums.copy()
        else:
            waiting = place, waiting[1]
            waiting[1][...] = sums
    if waiting is not None:
        yield waiting


def _free(part: Problem, source: str, room: int | None) -> Plan:
    """The best plan of a piece."""
    return make_plan(part, source=source, room=room)


def plan_alike(whole: PreparedPlan, part: Problem) -> Plan | None:
    """A plan for a piece with the bits of the whole, None where there is none."""
    if whole.candidate.plain:
        plan = make_plan(replace(part, precision="strict"), room=_room(part))
        return plan if plan.chosen.repeats else None
    try:
        return make_plan(part, algorithm=whole.algorithm)
    except ArgumentValueError:  # what takes the whole need not take its last rows
        return None


def sum_of_pieces(
    problem: Problem, first: Array, second: Array, *, most: int, dtype: np.dtype[Any] | None = None
) -> Array:
    """A weight gradient in `dtype`, summed over pieces of the pictures and their outputs' gradient in their order."""
    result = np.zeros(problem.result_shape, problem.dtype if dtype is None else dtype)
    total, kernels = np.zeros(0), slice(None)
    for place, reads, part in _parts(problem, _best_size(problem, most), most):
        if total.size == 0 or place[1] != kernels:
            kernels, total = place[1], np.zeros(part.result_shape, problem.dtype)
        block = _read(first[place[0]], reads, total.dtype, 0.0)
        gradient = second[place].astype(total.dtype, copy=False)
        total += make_plan(part, source=block.dtype.name, room=_room(part))(block, gradient, casting="unsafe")
        del block, gradient  # before there are others
        if place[0].stop == problem.batch and place[2].stop == _length(problem):
            result[kernels] = total
    return result


def _computed(
    problem: Problem,
    size: _Size,
    first: Array,
    second: Array,
    bias: Array | None,
    planned: Callable[[Problem, str, int | None], Plan],
    residual: Array | None = None,
    *,
    most: int,
    fill: float,
) -> Iterator[Piece]:
    """Piece by piece: read, and computed by what is `planned` for it."""
    prepared: dict[tuple[Problem, str, int], PreparedPlan] = {}
    memory = np.empty(0, problem.dtype)  # of all sums
    for place, reads, part in _parts(problem, size, most):
        block = _read(first[place[0]], reads, np.dtype(problem.dtype), fill)
        key = part, block.dtype.name, place[1].start or 0
        if key not in prepared:
            if math.prod(part.weight_shape) * problem.itemsize > FEW_WEIGHTS:
                prepared.clear()
            plan = planned(part, block.dtype.name, _room(part))
            weights = second[place[1]] if problem.operation == "conv" else second[:, place[1]]
            own = None if bias is None else bias[place[1]]
            prepared[key] = plan.prepare(weights, own, fill=fill, casting="unsafe")
        if memory.size < math.prod(part.result_shape):
            memory = recycled_empty((math.prod(part.result_shape),), problem.dtype)
        sums = _in(memory, part)
        added = None if residual is None else residual[place]
        prepared[key](block, out=sums, residual=added, casting="unsafe")
        del block  # before there is another
        yield place, sums


def _in(memory: Array, part: Problem) -> Array:
    """An array for the result of a piece, at the beginning of `memory`."""
    count, channels, *sizes = part.result_shape
    flat = memory[: math.prod(part.result_shape)]
    if part.channels_last:
        return np.moveaxis(flat.reshape(count, *sizes, channels), -1, 1)
    return flat.reshape(part.result_shape)


def _parts(problem: Problem, size: _Size, most: int) -> Iterator[tuple[Place, slice | NDArray[np.intp], Problem]]:
    """Piece by piece: its place in what is cut, the rows that it reads of the first operand, and its problem."""
    channels = problem.in_channels if problem.operation == "input_grad" else problem.out_channels
    share = -(-channels // _shares(problem, most))
    for start in range(0, channels, share):
        own = slice(None) if share == channels else slice(start, min(start + share, channels))
        count = channels if share == channels else own.stop - start
        narrow = {"in_channels" if problem.operation == "input_grad" else "out_channels": count}
        for picture in range(0, problem.batch, size.pictures):
            taken = slice(picture, min(picture + size.pictures, problem.batch))
            for span in _spans(problem, size.rows):
                axes = (span.axis, *problem.axes[1:])
                part = replace(problem, batch=taken.stop - picture, axes=axes, **narrow)  # type: ignore[arg-type]
                yield (taken, own, slice(span.first, span.last)), span.reads, part


def _shares(problem: Problem, most: int) -> int:
    """Into how many parts the kernels fall, whose weights take a few `most` bytes in the type of the sums."""
    if problem.groups > 1:  # whose kernels have few channels
        return 1
    channels = problem.in_channels if problem.operation == "input_grad" else problem.out_channels
    return min(-(-math.prod(problem.weight_shape) * problem.itemsize // (2 * most)), channels)


def _room(part: Problem) -> int | None:
    """Bytes that are left for the workspace of a piece: its operands and sums are copies, its weights two.

    None where they are as good as none, because it could not be cut.
    """
    left = MOST_WORKSPACE - part.bytes_moved - math.prod(part.weight_shape) * part.itemsize
    return left if left >= LEAST_ROOM else None


def _best_size(problem: Problem, most: int) -> _Size:
    """The size of pieces with as many rows as kernels have, or more, if all of them are predicted to take less time.

    They are larger than `most` only where kernels are tall: with 2 rows of 15x15 windows at a time, 4096 pixels of 64
    channels, a layer took 4.0 s, and with 8 rows 1.4.
    """
    size, axis = _size(problem, most), problem.axes[0]
    tall = axis.extent if problem.operation == "input_grad" else -(-axis.extent // axis.stride)
    if size.rows >= min(TALL * tall, _length(problem)) or not problem.batch:
        return size
    sizes = [size, *(_size(problem, factor * most) for factor in LARGER)]
    least = next((number for number, size in enumerate(sizes) if size.rows >= tall), len(sizes) - 1)
    size, best = sizes[least], _seconds(problem, sizes[least], most)
    for larger in sizes[least + 1 :]:
        seconds = _seconds(problem, larger, most)
        if seconds < WORTH * best:  # or what stays in the caches is worth more
            size, best = larger, seconds
    return size


def _seconds(problem: Problem, size: _Size, most: int) -> float:
    """Predicted for all pieces of such a size, as many as there are like the second one; infinite without the room."""
    *_, part = (part for _, _, part in itertools.islice(_parts(problem, size, most), 2))
    room = _room(part)
    chosen = make_plan(part, room=room).chosen
    count = math.ceil(problem.batch / size.pictures) * math.ceil(_length(problem) / size.rows) * _shares(problem, most)
    return count * chosen.seconds if room is not None and chosen.workspace <= room else math.inf


def _size(problem: Problem, most: int, step: int = 1) -> _Size:
    """Of pieces of about `most` bytes, that begin at rows which are a multiple of `step`."""
    picture = problem.itemsize * (math.prod(problem.input_shape[1:]) + math.prod(problem.output_shape[1:]))
    length = _length(problem)
    if picture <= most:
        return _Size(most // max(picture, 1), length)
    return _Size(1, max(length * most // picture // step, 1) * step)


def _length(problem: Problem) -> int:
    """Rows of what is cut."""
    axis = problem.axes[0]
    return axis.input if problem.operation == "input_grad" else axis.output


def _spans(problem: Problem, rows: int) -> Iterator[_Rows]:
    """What is cut, `rows` rows at a time."""
    axis, length = problem.axes[0], _length(problem)
    mirrors = problem.operation == "input_grad" and problem.border != "constant"  # whose border is added to other rows
    if rows >= length or mirrors or not axis.input:  # nothing but padding has no rows to be read
        yield _Rows(0, length, axis, slice(0, problem.operand_shapes[0][2]))
        return
    for first in range(0, length, rows):
        last = min(first + rows, length)
        if problem.operation == "input_grad":
            yield _stamped(axis, first, last)
            continue
        size = (last - first - 1) * axis.stride + axis.extent
        start = first * axis.stride - axis.before
        reads: slice | NDArray[np.intp] = slice(start, start + size)
        if start < 0 or start + size > axis.input:
            reads = border_sources(axis.input, -start, start + size - axis.input, problem.border)
        yield _Rows(first, last, replace(axis, input=size, before=0, after=0), reads)


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
    return _Rows(first, last, replace(axis, input=last - first, before=before, after=after), slice(low, high))


def _read(pictures: Array, rows: slice | NDArray[np.intp], dtype: np.dtype[Any], fill: float) -> Array:
    """These rows of `pictures`: as they are where that is possible, else copied in `dtype`."""
    if isinstance(rows, slice):
        block = pictures[:, :, rows]
        as_it_is = block.dtype == dtype or block.dtype.name in WIDENED
        return block if as_it_is and block.dtype.isnative else block.astype(dtype)
    block = pictures[:, :, rows].astype(dtype, copy=False)
    block[:, :, rows < 0] = fill
    return block
