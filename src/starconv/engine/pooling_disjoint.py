"""Gradients of maxima whose windows share no element: every element of the input asks the one window that it is in.

So nothing is added up, every element is written once, and in vectors: along the channels of channels-last arrays; or
along the columns for windows of 2 columns with stride 2, where both halves of a pair see the same winner.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Axis
from .descriptor import Fields, address_of
from .emit.ir import Function, Int, Pointer, Vector, module_source
from .emit.source import emitted
from .emit.target import Target
from .kernels import ELEMENTS, Compiled, compiled

__all__ = ["FIELDS", "form"]

Array = NDArray[Any]

FIELDS = Fields(
    (
        "x",  # the input's gradient, which is written
        "out",  # that of the output
        "winner",
        *(f"{array}_{axis}" for array in ("x", "out") for axis in ("batch", "channel", "depth", "row", "column")),
        *(f"{axis}_windows" for axis in ("depth", "row", "column")),  # per input element: its output or -1, and the tap
        "taps_rows",
        "taps_columns",
        "channels",
        "depths",
        "rows",
        "columns",
        "pairs",  # output columns
        "planes",  # pictures (x channels) x depths
        "rows_per_task",
        "row_parts",
    )
)

TASK_ELEMENTS = 16384


@lru_cache(maxsize=1024)
def form(
    axes: tuple[Axis, ...],
    shape: tuple[int, ...],
    x_steps: tuple[int, ...],
    out_steps: tuple[int, ...],
    dtype: np.dtype[Any],
    target: Target,
) -> tuple[Compiled, Any, int, tuple[Array, ...]] | None:
    """The kernel for these arrays with its fields but for addresses, its tasks, and its tables; None if it has none."""
    if any(axis.stride < axis.extent for axis in axes):
        return None
    itemsize, columns, channels = dtype.itemsize, axes[-1], shape[1]
    last = channels > 1 and x_steps[1] == out_steps[1] == itemsize
    # Both columns of every pair must exist: the last window may hang over.
    pairs = (columns.kernel, columns.stride, columns.before) == (2, 2, 0) and 2 * columns.output <= columns.input
    if not last and (not pairs or columns.output < 2 or not x_steps[-1] == out_steps[-1] == itemsize):
        return None
    missing = 3 - len(axes)
    whole = (Axis(1, 1),) * missing + axes
    tables = tuple(_windows(axis) for axis in whole)
    planes = shape[0] * whole[0].input * (1 if last else channels)
    per_row = whole[2].input * (channels if last else 1)
    rows = max(min(TASK_ELEMENTS // max(per_row, 1), whole[1].input), 1)
    names = ("depth", "row", "column")
    values: dict[str, int | float] = {
        **{f"{name}_windows": address_of(table) for name, table in zip(names, tables, strict=True)},
        **{f"x_{name}": step for name, step in zip(names, (0,) * missing + x_steps[2:], strict=True)},
        **{f"out_{name}": step for name, step in zip(names, (0,) * missing + out_steps[2:], strict=True)},
        **dict(zip(("x_batch", "x_channel", "out_batch", "out_channel"), x_steps[:2] + out_steps[:2], strict=True)),
        **dict(zip(("depths", "rows", "columns"), (axis.input for axis in whole), strict=True)),
        "taps_rows": whole[1].kernel,
        "taps_columns": whole[2].kernel,
        "channels": channels,
        "pairs": columns.output,
        "planes": planes,
        "rows_per_task": rows,
        "row_parts": -(-whole[1].input // rows),
    }
    widest = channels if last else 2 * columns.output
    lanes = min(target.lanes(itemsize), 1 << (widest.bit_length() - 1))
    function = compiled(_module(target, ELEMENTS[dtype.name], last, lanes), target, "task")
    tasks = planes * int(values["row_parts"]) if per_row else 0
    return function, FIELDS.block(values), tasks, tables


def _windows(axis: Axis) -> Array:
    """(input, 2): the output whose window has the element, or -1, and as which tap."""
    table = np.full((axis.input, 2), -1, np.int64)
    for output in range(axis.output):
        for tap, place in enumerate(axis.reads(output)):
            if 0 <= place < axis.input:
                table[place] = output, tap
    return table


@emitted("task")
def _module(target: Target, element: str, last: bool, lanes: int) -> str:
    """Task: some rows of the input's gradient, of one depth of one picture (and channel)."""
    f = Function("task", target, ["fields", "task", "worker"])
    row_parts, per_task, rows, depths = FIELDS.integers(f, "row_parts", "rows_per_task", "rows", "depths")
    first_row, plane = f.integer("task") % row_parts * per_task, f.integer("task") // row_parts
    depth, picture = plane % depths, plane // depths
    into, onto = f.number(0), f.number(0)
    if not last:
        channels = FIELDS.integer(f, "channels")
        channel, picture = picture % channels, picture // channels
        into, onto = channel * FIELDS.integer(f, "x_channel"), channel * FIELDS.integer(f, "out_channel")
    x_batch, x_depth, x_row = FIELDS.integers(f, "x_batch", "x_depth", "x_row")
    out_batch, out_depth, out_row = FIELDS.integers(f, "out_batch", "out_depth", "out_row")
    taps_rows, taps_columns = FIELDS.integers(f, "taps_rows", "taps_columns")
    to_plane = FIELDS.pointer(f, "x", element).at_bytes(picture * x_batch + into + depth * x_depth)
    depth_window = _window(f, "depth", depth)
    for row in f.loop(first_row, (first_row + per_task).minimum(rows)):
        to, window = to_plane.at_bytes(row * x_row), _window(f, "row", row)
        start = picture * out_batch + onto + depth_window[0] * out_depth + window[0] * out_row
        tap = (depth_window[1] * taps_rows + window[1]) * taps_columns
        seen = (depth_window[0] >= 0) & (window[0] >= 0)
        if last:
            _channels(f, element, lanes, to, start, tap, seen)
            continue
        with f.either(seen) as (inside, outside):
            with inside:
                _pairs(f, element, lanes, to, start, tap)
            with outside:
                for column in f.loop(FIELDS.integer(f, "columns")):
                    to.at(column).store(f.zero(element, 1))
    return module_source([f])


def _window(f: Function, axis: str, place: Int) -> tuple[Int, Int]:
    entry = FIELDS.pointer(f, f"{axis}_windows", "i64").at(place * 2)
    return entry.load_int(), entry.at(1).load_int()


def _channels(f: Function, element: str, lanes: int, to: Pointer, start: Int, tap: Int, seen: Any) -> None:
    """A row of pixels, all channels of one after the other; the last vector is moved back."""
    channels, x_column, out_column = FIELDS.integers(f, "channels", "x_column", "out_column")
    for column in f.loop(FIELDS.integer(f, "columns")):
        output, own = _window(f, "column", column)
        pixel, place, number = to.at_bytes(column * x_column), start + output * out_column, _real(tap + own, element)
        with f.either(seen & (output >= 0)) as (inside, outside):
            with inside:
                for first in f.loop(0, channels, lanes):
                    channel = first.minimum(channels - lanes)
                    winner, gradient = (
                        _at(f, name, element, place).at(channel).load(lanes) for name in ("winner", "out")
                    )
                    pixel.at(channel).store(winner.where("oeq", number.broadcast(lanes), gradient, _none(gradient)))
            with outside:
                for first in f.loop(0, channels, lanes):
                    pixel.at(first.minimum(channels - lanes)).store(f.zero(element, lanes))


def _pairs(f: Function, element: str, lanes: int, to: Pointer, start: Int, tap: Int) -> None:
    """A row of pairs of columns; the last vector of pairs is moved back, and what is left of the row has no window."""
    pairs, columns = FIELDS.integers(f, "pairs", "columns")
    half = lanes // 2
    first, second = (_real(tap + place, element).broadcast(lanes) for place in (0, 1))
    numbers = first.shuffled(second, [i if i % 2 == 0 else lanes + i for i in range(lanes)])
    twice = [i // 2 for i in range(lanes)]
    for begin in f.loop(0, pairs, half):
        pair = begin.minimum(pairs - half)
        winner, gradient = (_at(f, name, element, start).at(pair).load(half) for name in ("winner", "out"))
        if half == 1:
            winner, gradient = winner.broadcast(lanes), gradient.broadcast(lanes)
        else:
            winner, gradient = winner.shuffled(winner, twice), gradient.shuffled(gradient, twice)
        to.at(pair * 2).store(winner.where("oeq", numbers, gradient, _none(gradient)))
    for column in f.loop(pairs * 2, columns):
        to.at(column).store(f.zero(element, 1))


def _at(f: Function, name: str, element: str, place: Int) -> Pointer:
    return FIELDS.pointer(f, name, element).at_bytes(place)


def _none(like: Vector) -> Vector:
    return like.function.zero(like.element, like.lanes)


def _real(number: Int, element: str) -> Vector:
    f = number.function
    return Vector(f, f.emit(f"sitofp i64 {number.text} to {element}"), element, 1)
