"""What `pooling` compiles: maxima and means of windows, along channels or along columns, and their gradients.

Every axis has a table with a row per output: the taps [first, last) that lie inside the input, and where tap 0 lies, in
bytes from the input's start. So kernels know no padding: what is outside is left out.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from .descriptor import Fields
from .emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, Vector, module_source
from .emit.source import emitted
from .emit.target import Target

__all__ = ["FIELDS", "Kernel", "gradient_module", "module"]

FIELDS = Fields(
    (
        "x",
        "out",
        "winner",  # per output the number of the tap with the maximum; lies like out
        *(f"{array}_{axis}" for array in ("x", "out") for axis in ("batch", "channel")),
        *(f"out_{axis}" for axis in ("depth", "row", "column")),
        *(f"{axis}_{part}" for axis in ("depth", "row", "column") for part in ("table", "tap", "divisors")),
        "taps_rows",
        "taps_columns",
        "taps",  # of all axes together
        "tap_offsets",  # per tap, bytes from tap 0
        "channels",
        "depths",
        "rows",
        "columns",
        "left",  # output columns [left, right) read no padding
        "right",
        "planes",  # pictures x channels x depths, or pictures x depths where vectors run along the channels
        "planes_per_task",
        "rows_per_task",
        "row_parts",
        "channels_per_task",
        "channel_parts",
    )
)


class Kernel(NamedTuple):
    """What a kernel is compiled for.

    Attributes:
        average: means instead of maxima.
        winners: which tap has the maximum is written down.
        last: vectors run along the channels instead of along the columns.
        lanes: of a vector, 1 where elements do not lie side by side.
        stride: of the columns, where vectors run along them.
        taps: taps of a row that are written out, or 0 for a loop.
    """

    element: str
    average: bool
    winners: bool
    last: bool
    lanes: int
    stride: int
    taps: int


class _Reach(NamedTuple):
    """The taps [first, last) of an output along one axis, bytes to tap 0 and from tap to tap, and the divisor."""

    first: Int
    last: Int
    start: Int
    step: Int
    divisor: Vector | None


@emitted("task")
def module(target: Target, kernel: Kernel) -> str:
    """The IR of the pooling whose function is called "task"."""
    return module_source([_last(target, kernel) if kernel.last else _first(target, kernel)])


def _reach(f: Function, kernel: Kernel, axis: str, output: Int) -> _Reach:
    row = FIELDS.pointer(f, f"{axis}_table", "i64").at(output * 3)
    divisor = FIELDS.pointer(f, f"{axis}_divisors", kernel.element).at(output).load() if kernel.average else None
    first, last, start = (row.at(i).load_int() for i in range(3))
    return _Reach(first, last, start, FIELDS.integer(f, f"{axis}_tap"), divisor)


# -- along the channels ----------------------------------------------------------------------------------------

TOGETHER = 4
"""Vectors of channels that go through a window together."""


def _last(target: Target, kernel: Kernel) -> Function:
    """Task: some rows of some planes, and a share of the channels. The last vector of a share is moved back."""
    f = Function("task", target, ["fields", "task", "worker"])
    lanes, itemsize = kernel.lanes, ITEMSIZES[kernel.element]
    task = f.integer("task")
    parts, per_task, channels = FIELDS.integers(f, "channel_parts", "channels_per_task", "channels")
    first_channel, task = task % parts * per_task, task // parts
    last_channel = (first_channel + per_task).minimum(channels)
    for depth, row, x, out in _rows(f, kernel, task, with_channels=False):
        reach = [_reach(f, kernel, "depth", depth), _reach(f, kernel, "row", row)]
        for column in f.loop(FIELDS.integer(f, "columns")):
            reaches = [*reach, _reach(f, kernel, "column", column)]
            corner = x.at_bytes(reaches[0].start + reaches[1].start + reaches[2].start)
            to = out + column * FIELDS.integer(f, "out_column")
            done = first_channel
            for together in (TOGETHER, 1):
                wide = together * lanes
                # Of single vectors the last one ends with the share, over channels that were done already.
                stop = done + (last_channel - done) // wide * wide if together > 1 else last_channel
                for start in f.loop(done, stop, wide):
                    channel = start if together > 1 else start.minimum(last_channel - lanes)
                    here = corner.at_bytes(channel * itemsize)
                    places = [here.at(v * lanes) for v in range(together)]
                    targets = [(to + channel * itemsize) + v * lanes * itemsize for v in range(together)]
                    _window(f, kernel, places, targets, reaches, lanes)
                done = stop
    return f


# -- along the columns -----------------------------------------------------------------------------------------


def _first(target: Target, kernel: Kernel) -> Function:
    """Task: some rows of some planes; a row's ends, which read padding, element by element, the rest in vectors."""
    f = Function("task", target, ["fields", "task", "worker"])
    columns, left, right = FIELDS.integers(f, "columns", "left", "right")
    out_column = FIELDS.integer(f, "out_column")
    for depth, row, x, out in _rows(f, kernel, f.integer("task"), with_channels=True):
        reach = [_reach(f, kernel, "depth", depth), _reach(f, kernel, "row", row)]
        line = x.at_bytes(reach[0].start + reach[1].start)
        ends = [(f.number(0), left), (right, columns)] if kernel.lanes > 1 else [(f.number(0), columns)]
        for begin, end in ends:
            for column in f.loop(begin, end):
                across = _reach(f, kernel, "column", column)
                place = line.at_bytes(across.start)
                _window(f, kernel, [place], [out + column * out_column], [*reach, across], 1)
        if kernel.lanes > 1:
            for tile in f.loop(left, right, kernel.lanes):
                column = tile.minimum(right - kernel.lanes)
                across = _reach(f, kernel, "column", column)
                place = line.at_bytes(across.start)
                to = out + column * out_column
                _window(f, kernel, [place], [to], [*reach, across], kernel.lanes, column=column)
    return f


def _rows(f: Function, kernel: Kernel, task: Int, *, with_channels: bool) -> Iterator[tuple[Int, Int, Pointer, Int]]:
    """Every row of a task: depth and row of the output, the input's plane, and bytes from out's start to the row."""
    row_parts, rows_per_task, rows, depths = FIELDS.integers(f, "row_parts", "rows_per_task", "rows", "depths")
    first_row, part = task % row_parts * rows_per_task, task // row_parts
    last_row = (first_row + rows_per_task).minimum(rows)
    first, together = part * FIELDS.integer(f, "planes_per_task"), FIELDS.integer(f, "planes_per_task")
    for plane in f.loop(first, (first + together).minimum(FIELDS.integer(f, "planes"))):
        depth, picture = plane % depths, plane // depths
        into, onto = f.number(0), f.number(0)
        if with_channels:
            channels = FIELDS.integer(f, "channels")
            channel, picture = picture % channels, picture // channels
            into, onto = channel * FIELDS.integer(f, "x_channel"), channel * FIELDS.integer(f, "out_channel")
        x = FIELDS.pointer(f, "x", kernel.element).at_bytes(picture * FIELDS.integer(f, "x_batch") + into)
        out = picture * FIELDS.integer(f, "out_batch") + onto + depth * FIELDS.integer(f, "out_depth")
        for row in f.loop(first_row, last_row):
            yield depth, row, x, out + row * FIELDS.integer(f, "out_row")


# -- windows ---------------------------------------------------------------------------------------------------


def _window(
    f: Function,
    kernel: Kernel,
    places: Sequence[Pointer],
    targets: Sequence[Int],
    reaches: Sequence[_Reach],
    lanes: int,
    *,
    column: Int | None = None,
) -> None:
    """The results of a window at some places, in vectors of `lanes`, to `targets`, bytes from the start of out.

    `column`: the first of `lanes` neighbouring columns whose windows lie inside the input.
    """
    element, (depth, row, across) = kernel.element, reaches
    taps_rows, taps_columns = FIELDS.integers(f, "taps_rows", "taps_columns")
    start = f.zero(element, lanes) if kernel.average else f.constant(-float("inf"), element, lanes)
    values = Registers(dict.fromkeys(range(len(places)), start))
    carried = [values]
    winners = Registers({})
    if kernel.winners:
        first = (depth.first * taps_rows + row.first) * taps_columns + (across.first if column is None else 0)
        winners = Registers({v: _real(first, element).broadcast(lanes) for v in range(len(places))})
        carried.append(winners)

    def meet(offset: Int, number: Int) -> None:
        for v, place in enumerate(places):
            here = place.at_bytes(offset)
            value = _spread_load(here, lanes, kernel.stride) if column is not None else here.load(lanes)
            if kernel.average:
                values[v] = values[v] + value
                continue
            # A NaN is larger than everything, and nothing is larger than it.
            greater = f.emit(f"fcmp ogt {value.type} {value.text}, {values[v].text}")
            missing = f.emit(f"fcmp uno {value.type} {value.text}, {value.text}")
            mask = "i1" if lanes == 1 else f"<{lanes} x i1>"
            either = f.emit(f"or {mask} {greater}, {missing}")
            values[v] = _chosen(f, mask, either, value, values[v])
            if kernel.winners:
                tap = _real(number, element).broadcast(lanes)
                winners[v] = _chosen(f, mask, either, tap, winners[v])

    for d in f.loop(depth.first, depth.last, carry=carried):
        for r in f.loop(row.first, row.last, carry=carried):
            offset, number = d * depth.step + r * row.step, (d * taps_rows + r) * taps_columns
            if column is not None and kernel.taps:
                for known in range(kernel.taps):
                    meet(offset + across.step * known, number + known)
                continue
            begin, end = (f.number(0), taps_columns) if column is not None else (across.first, across.last)
            for q in f.loop(begin, end, carry=carried):
                meet(offset + q * across.step, number + q)
    if kernel.average:
        if column is None:
            divisor = _divisor(reaches).broadcast(lanes)
        else:
            divisor = _divisor(reaches[:2]).broadcast(lanes)
            divisor = divisor * FIELDS.pointer(f, "column_divisors", element).at(column).load(lanes)
        for v in range(len(places)):
            values[v] = values[v].divided_by(divisor)
    for v, target in enumerate(targets):
        FIELDS.pointer(f, "out", element).at_bytes(target).store(values[v])
        if kernel.winners:
            FIELDS.pointer(f, "winner", element).at_bytes(target).store(winners[v])


def _chosen(f: Function, mask: str, condition: str, yes: Vector, no: Vector) -> Vector:
    text = f.emit(f"select {mask} {condition}, {yes.type} {yes.text}, {no.type} {no.text}")
    return Vector(f, text, yes.element, yes.lanes)


def _real(number: Int, element: str) -> Vector:
    f = number.function
    return Vector(f, f.emit(f"sitofp i64 {number.text} to {element}"), element, 1)


def _spread_load(place: Pointer, lanes: int, stride: int) -> Vector:
    """`lanes` elements that lie `stride` apart, 1 or 2; nothing behind the last one is read."""
    if stride == 1:
        return place.load(lanes)
    low, high = place.load(lanes), place.at(lanes - 1).load(lanes)
    half = lanes // 2
    return low.shuffled(high, [*(2 * i for i in range(half)), *(lanes + 2 * i + 1 for i in range(half))])


# -- gradients -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def gradient_module(target: Target, element: str, average: bool, lanes: int) -> str:
    """The IR that adds the outputs' gradients (field "out") to where they came from in the input's ("x").

    In vectors of `lanes` channels, where these lie side by side; 0 where they do not: then element by element.
    """
    kernel = Kernel(element, average, not average, False, 1, 1, 0)
    f = Function("task", target, ["fields", "task", "worker"])
    task = f.integer("task")
    parts, per_task, channels = FIELDS.integers(f, "channel_parts", "channels_per_task", "channels")
    first_channel, task = task % parts * per_task, task // parts
    last_channel = (first_channel + per_task).minimum(channels)
    x_channel, out_channel = FIELDS.integers(f, "x_channel", "out_channel")
    for depth, row, x, out in _rows(f, kernel, task, with_channels=False):
        reach = [_reach(f, kernel, "depth", depth), _reach(f, kernel, "row", row)]
        if lanes:
            line = x.at_bytes(reach[0].start + reach[1].start)
            for column in f.loop(FIELDS.integer(f, "columns")):
                reaches = [*reach, _reach(f, kernel, "column", column)]
                place, corner = out + column * FIELDS.integer(f, "out_column"), line.at_bytes(reaches[2].start)
                whole = first_channel + (last_channel - first_channel) // lanes * lanes
                for begin, end, width in ((first_channel, whole, lanes), (whole, last_channel, 1)):
                    for channel in f.loop(begin, end, width):
                        step = channel * ITEMSIZES[element]
                        _give(f, kernel, place + step, corner.at_bytes(step), reaches, width)
            continue
        # Planes one by one where the channels' planes lie apart: this loop is outside, and columns inside.
        for channel in f.loop(first_channel, last_channel):
            line = x.at_bytes(reach[0].start + reach[1].start + channel * x_channel)
            for column in f.loop(FIELDS.integer(f, "columns")):
                reaches = [*reach, _reach(f, kernel, "column", column)]
                place = out + column * FIELDS.integer(f, "out_column") + channel * out_channel
                corner = line.at_bytes(reaches[2].start)
                if average:
                    _give_to_all(f, element, place, corner, reaches)
                    continue
                # A window outside the input has a winner too, in whose place there is nothing.
                inside = [reach.last > reach.first for reach in reaches]
                with f.when(inside[0] & inside[1] & inside[2]):
                    _give_to_winner(f, element, place, corner)
    return module_source([f])


def _give(f: Function, kernel: Kernel, place: Int, corner: Pointer, reaches: Sequence[_Reach], lanes: int) -> None:
    """Every tap inside the input gets its share of `lanes` channels, or what it has won."""
    element, (depth, row, across) = kernel.element, reaches
    gradient = FIELDS.pointer(f, "out", element).at_bytes(place).load(lanes)
    winner = gradient
    if kernel.average:
        gradient = gradient.divided_by(_divisor(reaches).broadcast(lanes))
    else:
        winner = FIELDS.pointer(f, "winner", element).at_bytes(place).load(lanes)
    taps_rows, taps_columns = FIELDS.integers(f, "taps_rows", "taps_columns")
    for d in f.loop(depth.first, depth.last):
        for r in f.loop(row.first, row.last):
            for q in f.loop(across.first, across.last):
                to = corner.at_bytes(d * depth.step + r * row.step + q * across.step)
                share = gradient
                if not kernel.average:
                    tap = _real((d * taps_rows + r) * taps_columns + q, element).broadcast(lanes)
                    share = winner.where("oeq", tap, gradient, f.zero(element, lanes))
                to.store(to.load(lanes) + share)


def _give_to_all(f: Function, element: str, place: Int, corner: Pointer, reaches: Sequence[_Reach]) -> None:
    """Every tap inside the input gets its share."""
    share = FIELDS.pointer(f, "out", element).at_bytes(place).load().divided_by(_divisor(reaches))
    depth, row, across = reaches
    for d in f.loop(depth.first, depth.last):
        for r in f.loop(row.first, row.last):
            for q in f.loop(across.first, across.last):
                to = corner.at_bytes(d * depth.step + r * row.step + q * across.step)
                to.store(to.load() + share)


def _give_to_winner(f: Function, element: str, place: Int, corner: Pointer) -> None:
    winner = FIELDS.pointer(f, "winner", element).at_bytes(place).load()
    tap = Int(f, f.emit(f"fptosi {element} {winner.text} to i64"))
    to = corner.at_bytes(FIELDS.pointer(f, "tap_offsets", "i64").at(tap).load_int())
    to.store(to.load() + FIELDS.pointer(f, "out", element).at_bytes(place).load())


def _divisor(reaches: Sequence[_Reach]) -> Vector:
    """The product of the axes' divisors."""
    first, *others = (reach.divisor for reach in reaches)
    assert first is not None
    for other in others:
        assert other is not None
        first = first * other
    return first
