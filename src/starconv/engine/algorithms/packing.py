"""Copying into the form that kernels read: blocks of input with the padding drawn in, and panels of weights.

Packing costs one load and one store per element, against K / lanes multiply-adds that a layer with K kernels does with
it: 64 kernels on 8 lanes and 9 taps make 72, so packing is about 3 % of such a layer, and it rids the inner loops
of borders, strides and dtypes. Where a layer does too little with an element, its algorithm must not pack.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...problem import Problem
from ..descriptor import Fields, address_of
from ..emit.ir import ITEMSIZES, Function, Int, IntLike, Pointer, Vector, loaded_transposed
from ..emit.target import Target
from ..lattice import lattices, spatial_steps

__all__ = [
    "BLOCK_FIELDS",
    "PANEL_FIELDS",
    "ROW_FIELDS",
    "WEIGHT_LAYOUT",
    "block_values",
    "fill_block",
    "pack_block",
    "pack_panels",
    "pack_part",
    "turn_kernels",
    "weight_layout",
]

BLOCK_FIELDS = (
    "depth_table",  # per packed depth: byte offset of its source in x, or -1
    "row_table",
    "column_table",
    "left",  # packed columns before the first, and before the last of those that lie inside the input
    "right",
    "columns",  # packed columns in a row
    "pitch",  # columns from one row of the block to the next
    "phase_pitch",  # columns from one phase of a row to the next
    "taps_depth",  # packed depths in a block
    "block_rows",  # packed rows for which the block has room
    "depth_dilation",
    "channels",  # channels in the block
    "x_channel",  # bytes between channels of x
    "x_column",  # bytes between packed columns of x
    "fill",  # what constant padding holds
    "block_elements",  # of a whole block
)


def block_values(
    problem: Problem, x: NDArray[Any], channels: int, rows: int, pitch: int, phases: int
) -> tuple[dict[str, int], tuple[NDArray[np.int64], ...], int]:
    """What BLOCK_FIELDS but the last two hold for inputs that lie like `x`, and blocks of such sizes.

    Also the tables that they point to, and the bytes from x to the lowest address, from which the tables count.
    """
    axes = depth, _, across = lattices(problem)
    steps = spatial_steps(x)
    pairs = zip(axes, steps, strict=True)
    tables, lowest = zip(*(axis.offsets_from_lowest(problem.border, step) for axis, step in pairs), strict=True)
    left, right = across.inside()
    values = {
        **dict(zip(("depth_table", "row_table", "column_table"), map(address_of, tables), strict=True)),
        "left": left,
        "right": right,
        "columns": across.size,
        "pitch": pitch,
        "phase_pitch": pitch // phases,
        "taps_depth": depth.taps,
        "block_rows": rows,
        "depth_dilation": depth.dilation,
        "channels": channels,
        "x_channel": x.strides[1],
        "x_column": steps[2] * across.step,
    }
    return values, tables, sum(lowest)


def pack_block(
    name: str,
    target: Target,
    fields: Fields,
    source: str,
    element: str,
    *,
    last: bool = False,
    phases: int = 1,
    constant: bool = False,
    edges: bool = False,
) -> Function:
    """A function that packs (source, block, first depth, first row, rows): all channels of some rows.

    With `constant`, padding is left as it is: a task fills its block once (`fill_block`), and packs one group after the
    other into it.

    The block is [channel][depth][row][column], or with `last` [depth][row][column][channel]. With `phases` s, a row
    holds first its columns 0, s, 2s, ..., then 1, s + 1, ...: what a kernel with stride s reads is then side by side.
    `source` is the element type of x ("float", "i8", "u8", ...), `element` that of the block. With `edges` there is one
    more argument: how many of the columns inside the input are packed at both ends, for a kernel that reads those
    between them in place.
    """
    arguments = ["fields", "source", "block", "depth", "row", "rows", *(["edge"] if edges else [])]
    f = Function(name, target, arguments, internal=True)
    x, block = f.pointer("source", "i8"), f.pointer("block", element)
    depth, row, rows = f.integer("depth"), f.integer("row"), f.integer("rows")
    depths, spread, room = fields.integers(f, "taps_depth", "depth_dilation", "block_rows")
    channels, x_channel, pitch = fields.integers(f, "channels", "x_channel", "pitch")
    depth_table, row_table = fields.pointer(f, "depth_table", "i64"), fields.pointer(f, "row_table", "i64")
    copy = _Copy(f, target, fields, source, element, phases, constant)
    copy.edge = f.integer("edge") if edges else None
    for channel in f.loop(1 if last else channels):
        for d in f.loop(depths):
            depth_offset = depth_table.at(depth + d * spread).load_int()
            for r in f.loop(rows):
                row_offset = row_table.at(row + r).load_int()
                to = block.at(((channel * depths + d) * room + r) * pitch).disguised()
                origin = x.at(depth_offset + row_offset + channel * x_channel).disguised()
                with f.either((depth_offset >= 0) & (row_offset >= 0)) as (inside, outside):
                    with outside:
                        if not constant:
                            copy.fill(to, pitch)
                    with inside:
                        if last:
                            copy.pixels(origin, to)
                        else:
                            copy.columns(origin, to)
    return f


def fill_block(name: str, target: Target, fields: Fields, element: str) -> Function:
    """A function that fills a whole (block) with what constant padding holds."""
    f = Function(name, target, ["fields", "block"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    block, count = f.pointer("block", element), fields.integer(f, "block_elements")
    filler = fields.real(f, "fill", element)
    for i in f.loop(0, count - (lanes - 1), lanes):  # blocks are whole cache lines
        block.at(i).store(filler.broadcast(lanes))
    return f


class _Copy:
    """Copies one row of the input into one row of the block, widening the elements."""

    def __init__(
        self, f: Function, target: Target, fields: Fields, source: str, element: str, phases: int, constant: bool
    ) -> None:
        self.f, self.element, self.phases, self.constant = f, element, phases, constant
        self.signed = not source.startswith("u")
        self.source = source if self.signed else "i" + source[1:]
        self.itemsize = ITEMSIZES[self.source]
        self.lanes = target.lanes(ITEMSIZES[element])
        self.table = fields.pointer(f, "column_table", "i64")
        self.count, self.left, self.right = fields.integers(f, "columns", "left", "right")
        self.channels, self.x_channel, self.x_column = fields.integers(f, "channels", "x_channel", "x_column")
        self.phase_pitch = fields.integer(f, "phase_pitch")
        self.filler = fields.real(f, "fill", element)
        self.edge: Int | None = None

    def columns(self, origin: Pointer, to: Pointer) -> None:
        """A row of one channel: the table says where the border's columns come from, the middle is one run."""
        f, left, right = self.f, self.left, self.right
        for c in f.loop(left) if not self.constant else ():
            self._pick(origin, c, self._slot(to, c))
        with f.when(right > left):
            middle = origin.at_bytes(self.table.at(left).load_int())
            with f.either(self.x_column.equals(self.itemsize)) as (dense, strided):
                with dense:
                    if self.edge is not None:
                        count = (right - left).minimum(self.edge)
                        self._run(middle, to.at(left), count)
                        with f.when(right - left > count):
                            first = (right - left - count).maximum(count)
                            end = right - left - first
                            self._run(middle.at_bytes(first * self.itemsize), to.at(left + first), end)
                    elif self.phases == 1:
                        self._run(middle, to.at(left), right - left)
                    elif self.phases == 2:
                        self._run_in_two_phases(middle, to, right - left)
                    else:
                        self._one_by_one(middle, to, f.number(0), right - left)
                with strided:
                    if self.phases == 1:
                        self._run_of_every_second(middle, to.at(left), right - left)
                    else:
                        self._one_by_one(middle, to, f.number(0), right - left)
        for c in f.loop(right, self.count) if not self.constant else ():
            self._pick(origin, c, self._slot(to, c))

    def pixels(self, origin: Pointer, to: Pointer) -> None:
        """A row of all channels, pixel by pixel."""
        f, channels = self.f, self.channels
        for c in f.loop(self.count):
            offset = self.table.at(c).load_int()
            pixel = to.at(c * channels)
            with f.either(offset >= 0) as (inside, outside):
                with inside, f.either(self.x_channel.equals(self.itemsize)) as (dense, strided):
                    with dense:
                        self._run(origin.at_bytes(offset), pixel, channels)
                    with strided:
                        for channel in f.loop(channels):
                            pixel.at(channel).store(self._value(origin.at_bytes(offset + channel * self.x_channel)))
                with outside:
                    if not self.constant:
                        self.fill(pixel, channels)

    def fill(self, to: Pointer, count: Int) -> None:
        """`count` elements of constant padding."""
        for i in self.f.loop(count):
            to.at(i).store(self.filler)

    def _value(self, pointer: Pointer, count: int = 1) -> Vector:
        return pointer.viewed(self.source).load(count).converted(self.element, signed=self.signed)

    def _slot(self, to: Pointer, column: Int) -> Pointer:
        """Where packed column `column` lies in its row."""
        if self.phases == 1:
            return to.at(column)
        return to.at((column % self.phases) * self.phase_pitch + column // self.phases)

    def _pick(self, origin: Pointer, column: Int, to: Pointer) -> None:
        """One column by the table, from the input or filled."""
        offset = self.table.at(column).load_int()
        with self.f.either(offset >= 0) as (inside, outside):
            with inside:
                to.store(self._value(origin.at_bytes(offset)))
            with outside:
                to.store(self.filler)

    def _run(self, origin: Pointer, to: Pointer, count: Int) -> None:
        """`count` elements that lie one after the other; the last vector overlaps the one before it."""
        f, lanes = self.f, self.lanes
        with f.either(count >= lanes) as (long, short):
            with long:
                for i in f.loop(0, count - (lanes - 1), lanes):
                    to.at(i).store(self._value(origin.at_bytes(i * self.itemsize), lanes))
                end = count - lanes
                to.at(end).store(self._value(origin.at_bytes(end * self.itemsize), lanes))
            with short:
                for i in f.loop(count):
                    to.at(i).store(self._value(origin.at_bytes(i * self.itemsize)))

    def _run_in_two_phases(self, origin: Pointer, to: Pointer, count: Int) -> None:
        """The same, even and odd columns apart: two vectors are loaded, shuffled and stored at a time."""
        f, lanes = self.f, self.lanes
        first, second = (self._slot(to, self.left + i) for i in range(2))
        whole = count // (2 * lanes) * (2 * lanes)
        for i in f.loop(0, whole, 2 * lanes):
            low, high = (self._value(origin.at_bytes((i + part) * self.itemsize), lanes) for part in (0, lanes))
            first.at(i // 2).store(low.shuffled(high, range(0, 2 * lanes, 2)))
            second.at(i // 2).store(low.shuffled(high, range(1, 2 * lanes, 2)))
        self._one_by_one(origin, to, whole, count)

    def _run_of_every_second(self, origin: Pointer, to: Pointer, count: Int) -> None:
        """`count` elements at some distance; at a distance of two, as a 1x1 kernel of stride 2 reads them, in vectors.

        A vector's worth takes two vectors of the input, of which the last element is one too many: not at the end.
        """
        f, lanes = self.f, self.lanes
        with f.either(self.x_column.equals(2 * self.itemsize)) as (second, other):
            with second:
                whole = (count - 1) // lanes * lanes
                for i in f.loop(0, whole, lanes):
                    start = origin.at_bytes(i * (2 * self.itemsize))
                    low, high = (self._value(start.at_bytes(part * self.itemsize), lanes) for part in (0, lanes))
                    to.at(i).store(low.shuffled(high, range(0, 2 * lanes, 2)))
                for i in f.loop(whole, count):
                    to.at(i).store(self._value(origin.at_bytes(i * self.x_column)))
            with other:
                for i in f.loop(count):
                    to.at(i).store(self._value(origin.at_bytes(i * self.x_column)))

    def _one_by_one(self, middle: Pointer, to: Pointer, first: Int, stop: Int) -> None:
        for c in self.f.loop(first, stop):
            self._slot(to, self.left + c).store(self._value(middle.at_bytes(c * self.x_column)))


WEIGHT_LAYOUT = (
    "kernel_step",  # steps of the weight array in bytes, one per axis
    "channel_step",
    "depth_step",
    "row_step",
    "column_step",
    "weight_depths",  # sizes of a kernel
    "weight_rows",
    "weight_columns",
    "dense",  # 1 where a kernel's weights lie one after the other
)
"""Fields of a kernel that packs weights."""

PANEL_FIELDS = Fields(
    (
        "weights",
        "panels",
        "kernels",  # kernels per group
        "blocks",  # panels per group
        "length",  # weights of one kernel: channels * taps
        "channels",
        "group_step",
        *WEIGHT_LAYOUT,
    )
)


def weight_layout(weights: NDArray[Any]) -> dict[str, int]:
    """The values of WEIGHT_LAYOUT for an array (K, C / groups, ...)."""
    flat = 5 - weights.ndim
    steps = (*weights.strides[:2], *[0] * flat, *weights.strides[2:])
    sizes = (*[1] * flat, *weights.shape[2:])
    return dict(zip(WEIGHT_LAYOUT, (*steps, *sizes, int(weights[0].flags.c_contiguous)), strict=True))


def pack_panels(target: Target, element: str, width: int) -> list[Function]:
    """The task function "pack_panels" for panel `task`, as :func:`pack_part` has it, after what it calls."""
    *called, part = pack_part("pack_part", target, PANEL_FIELDS, element, width)
    f = Function("pack_panels", target, ["fields", "task", "worker"])
    fields, task = f.integer("fields"), f.integer("task")
    kernels, blocks, length, channels = PANEL_FIELDS.integers(f, "kernels", "blocks", "length", "channels")
    group_step, kernel_step = PANEL_FIELDS.integers(f, "group_step", "kernel_step")
    first = task % blocks * width
    weights = PANEL_FIELDS.pointer(f, "weights", element).at_bytes(task // blocks * group_step + first * kernel_step)
    panel = PANEL_FIELDS.pointer(f, "panels", element).at(task * length * width)
    f.run(part, fields, weights, panel, channels, (kernels - first).minimum(width))
    return [*called, part, f]


def pack_part(name: str, target: Target, fields: Fields, element: str, width: int) -> list[Function]:
    """Put the weights of `valid` of `width` kernels side by side, [channel][tap][kernel], padded with zeros.

    Of `channels` channels from `weights` on; how these lie is said by WEIGHT_LAYOUT among the `fields`. The function
    comes after what it calls.
    """
    f = Function(name, target, ["fields", "weights", "panel", "channels", "valid"], internal=True)
    itemsize = ITEMSIZES[element]
    lanes = target.lanes(itemsize)
    square = _turned_square(target, element)
    weights, panel = f.pointer("weights", element), f.pointer("panel", element)
    channels, valid = f.integer("channels"), f.integer("valid")
    kernel_step, channel_step, *tap_steps, depths, rows, columns, dense = fields.integers(f, *WEIGHT_LAYOUT)
    taps = depths * rows * columns

    def each_tap(put: Callable[[IntLike, Int], None]) -> None:
        """`put` what is so many bytes from a channel's first weight to the tap of this number."""
        for d in f.loop(depths):
            for r in f.loop(rows):
                for q in f.loop(columns):
                    put(d * tap_steps[0] + r * tap_steps[1] + q * tap_steps[2], (d * rows + r) * columns + q)

    def by_channels(start: Int) -> None:
        """Channels lie side by side: squares of them, the last moved back to end with the last channel."""

        def put(place: IntLike, tap: Int) -> None:
            for channel in f.loop(0, channels, lanes):
                first = channel.minimum(channels - lanes)
                origin = weights.at_bytes(kernel_step * start + place).at(first)
                f.run(square, origin, kernel_step, panel.at((first * taps + tap) * width + start), taps * width)

        each_tap(put)

    def each_weight(start: IntLike, put: Callable[[Pointer, Pointer], None]) -> None:
        """`put` what is at a place in kernel `start` to where it goes."""

        def put_channels(place: IntLike, tap: Int) -> None:
            for c in f.loop(channels):
                origin = weights.at_bytes(c * channel_step + place + kernel_step * start)
                put(panel.at((c * taps + tap) * width + start), origin)

        each_tap(put_channels)

    def one_by_one(start: IntLike, count: int) -> None:
        def put(to: Pointer, origin: Pointer) -> None:
            for k in f.loop(count):
                with f.either(k + start < valid) as (there, beyond):
                    with there:
                        to.at(k).store(origin.at_bytes(k * kernel_step).load())
                    with beyond:
                        to.at(k).store(f.zero(element, 1))

        each_weight(start, put)

    whole = width // lanes * lanes
    for start in f.loop(0, whole, lanes):
        full = valid >= start + lanes
        with f.either(full & dense.equals(1)) as (quick, other):
            with quick:
                origin = weights.at_bytes(kernel_step * start)
                _turn_run(f, square, origin, panel.at(start), kernel_step, channels * taps, width, lanes)
            with other, f.either(full & kernel_step.equals(itemsize)) as (beside, strided):
                with beside:  # as those of a transposed matrix
                    each_weight(start, lambda to, origin: to.store(origin.load(lanes)))
                with strided, f.either(full & channel_step.equals(itemsize) & (channels >= lanes)) as (last, general):
                    with last:  # as torch's channels_last
                        by_channels(start)
                    with general:
                        one_by_one(start, lanes)
    if whole < width:
        one_by_one(whole, width - whole)
    return [square, f]


ROW_FIELDS = Fields(("weights", "rows", "kernels", "length", "kernel_step"))


def turn_kernels(target: Target, element: str) -> list[Function]:
    """The task function "turn_kernels": a vector of kernels, each in one run, to [weight][kernel] of all kernels.

    The last vector ends with the last kernel, so there must be one at least.
    """
    f = Function("turn_kernels", target, ["fields", "task", "worker"])
    f.integer("fields")
    lanes = target.lanes(ITEMSIZES[element])
    square = _turned_square(target, element)
    kernels, length, kernel_step = ROW_FIELDS.integers(f, "kernels", "length", "kernel_step")
    first = (f.integer("task") * lanes).minimum(kernels - lanes)
    weights = ROW_FIELDS.pointer(f, "weights", element).at_bytes(first * kernel_step)
    rows = ROW_FIELDS.pointer(f, "rows", element).at(first)
    _turn_run(f, square, weights, rows, kernel_step, length, kernels, lanes)
    return [square, f]


def _turned_square(target: Target, element: str) -> Function:
    """A vector of neighbouring weights of as many kernels, to a vector of kernels for each weight, `step` apart.

    Called, not written out: turning 16 x 16 numbers round takes LLVM 15 ms.
    """
    f = Function("turn_square", target, ["weights", "kernel_step", "to", "step"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    weights, to = f.pointer("weights", element), f.pointer("to", element)
    for i, column in enumerate(
        loaded_transposed([weights.at_bytes(f.integer("kernel_step") * k) for k in range(lanes)])
    ):
        to.at(f.integer("step") * i).store(column)
    return f


def _turn_run(
    f: Function,
    square: Function,
    weights: Pointer,
    panel: Pointer,
    kernel_step: Int,
    length: Int,
    width: IntLike,
    lanes: int,
) -> None:
    """`lanes` kernels of `length` weights, each in one run, to [weight][kernel] at a distance of `width`.

    Squares but the first and the last begin with a line: of kernels a multiple of 4 KiB apart all lines share a set of
    the first-level cache, and what straddles two is fetched twice. 4 MiB of 2048 channels took 123 µs, now 73-80.
    """
    with f.either(length >= lanes) as (squares, few):
        with squares:
            itemsize = ITEMSIZES[weights.element]
            ahead = lanes - weights.past(lanes * itemsize) // itemsize
            for i in f.loop(ahead - lanes, length, lanes):
                start = i.maximum(0).minimum(length - lanes)
                f.run(square, weights.at(start), kernel_step, panel.at(start * width), width)
        with few:
            for i in f.loop(length):
                for k in f.loop(lanes):
                    panel.at(i * width + k).store(weights.at_bytes(kernel_step * k).at(i).load())
