"""Compiled functions of `planes`: tiles whose loads are masked, and streams of rows."""

import math
from typing import NamedTuple

from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Mask, Pointer, Registers, Vector, module_source
from ..emit.source import emitted
from ..emit.target import Target
from .finish import FINISH_FIELDS, Finish, Finisher
from .tiles import row_readers

__all__ = ["FIELDS", "Tile", "planes_module"]

HELD_TAPS = 9
"""Up to so many weights are in registers throughout; more are loaded again for every input row."""
HELD_FACTORS = 30
"""The same of separable kernels, with all else that is in registers."""
AHEAD = 4
"""Vectors to the right of what a stream reads and writes that it asks for: some 40 rows of 49 cycles each before."""

FIELDS = Fields(
    (
        "x",
        "out",
        "panels",  # weights, [kernel][tap]
        "bias",
        "fill",
        "scratch",
        "scratch_bytes",  # per worker
        *FINISH_FIELDS,
        "x_batch",  # bytes between pictures of x, ...
        "x_channel",
        "x_row",
        "out_batch",
        "out_channel",
        "out_row",
        "kernels",
        "per_channel",  # kernels that read the same channel
        "pieces",  # bands of all planes of all pictures
        "per_task",
        "bands",  # of a plane
        "band_rows",  # of output, in all bands but the last; ...
        "longer",  # so many bands at the beginning have as many rows more as the kernel
        "inside",  # columns of output up to here have all their taps before the end of a row
        "lines",  # 1 if all rows of output begin like the first one, in a vector's width; else 0
        "rows",  # of x
        "columns",
        "out_rows",
        "out_columns",
        "rows_before",  # of padding
        "columns_before",
        "columns_after",
        # Tables for streams:
        "row_offsets",  # bytes from x's first row to each of them, padding included; -1 for rows of filler
        "block_offsets",  # bytes from row to row of what an edge copies
        "column_sources",  # which column each of padding shows
    )
)


class Tile(NamedTuple):
    """Output rows whose sums are in registers at one time, and the geometry that is written out."""

    rows: int
    taps: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    narrow: bool
    """Whether the columns that a row of output reads fit one vector. (A load of no lane at all takes 16 cycles.)"""
    stream: int
    """Vectors across a stream; 0 where there is none."""
    separable: bool = False
    """Whether a kernel is given as a column and a row, whose product it is (`lowrank`); of streams only."""

    @property
    def weights(self) -> int:
        """Numbers that a kernel is given by."""
        return sum(self.taps) if self.separable else math.prod(self.taps)

    @property
    def input_rows(self) -> int:
        """Input rows that a tile reads or steps over."""
        return (self.rows - 1) * self.strides[0] + (self.taps[0] - 1) * self.dilations[0] + 1

    @property
    def reach(self) -> int:
        """Columns that an output reads beside its first."""
        return (self.taps[1] - 1) * self.dilations[1]

    def packed(self, lanes: int) -> int:
        """Vectors across what a stream reads."""
        return self.stream + -(-self.reach // lanes)

    @property
    def holds(self) -> bool:
        """Whether the weights are in registers throughout."""
        beside = self.taps[0] * self.stream + 2 * self.stream  # sums of a separable kernel, and what they are made of
        return self.weights + beside <= HELD_FACTORS if self.separable else self.weights <= HELD_TAPS

    def readers(self, input_row: int) -> list[tuple[int, int]]:
        """The (output row, tap) pairs that meet in input row `input_row` of the tile."""
        return row_readers(input_row, self.rows, self.taps[0], self.strides[0], self.dilations[0])


@emitted("task")
def planes_module(
    target: Target, element: str, tile: Tile, finish: Finish, constant: bool, past: bool, shared: bool
) -> str:
    """The module's IR: the kernel's geometry is written out, all sizes are fields.

    `constant` is what padding is. With `past`, what streams compute goes past the caches; rows are whole lines then.
    `shared` channels have several kernels: small planes would pay for a division.
    """
    if not tile.stream:
        tiles = _tiles("tiles", target, element, tile, finish)
        return module_source([tiles, _task(target, element, tile, (tiles,), shared, past)])
    stream = _stream("stream", target, element, tile, finish, past=False)
    edge = _edge("edge", target, element, tile, stream, constant)
    inner = _stream("stream_past", target, element, tile, finish, past=True) if past else stream
    task = _task(target, element, tile, (edge, inner), shared, past)
    return module_source([stream, edge, *([inner] if past else []), task])


def _task(
    target: Target, element: str, tile: Tile, functions: tuple[Function, ...], shared: bool, past: bool
) -> Function:
    """Task: some planes, or bands of planes, one after the other.

    Of `functions` there is the one for tiles, or those for the edges of streams and for all between them.
    """
    f = Function("task", target, ["fields", "task", "worker"])
    pieces, per_task, kernels, per_channel = FIELDS.integers(f, "pieces", "per_task", "kernels", "per_channel")
    bands, band_rows, longer = FIELDS.integers(f, "bands", "band_rows", "longer")
    x_batch, x_channel, out_batch, out_channel = FIELDS.integers(f, "x_batch", "x_channel", "out_batch", "out_channel")
    out_rows, out_columns, inside = FIELDS.integers(f, "out_rows", "out_columns", "inside")
    x, out = FIELDS.pointer(f, "x", element), FIELDS.pointer(f, "out", element)
    weights, bias = FIELDS.pointer(f, "panels", element), FIELDS.pointer(f, "bias", element)
    itemsize, lanes = ITEMSIZES[element], target.lanes(ITEMSIZES[element])
    block = FIELDS.pointer(f, "scratch", element).at_bytes(f.integer("worker") * FIELDS.integer(f, "scratch_bytes"))
    start = f.integer("task") * per_task
    for piece in f.loop(start, (start + per_task).minimum(pieces)):
        number, band = piece // bands, piece % bands
        picture, kernel = number // kernels, number % kernels
        channel = kernel // per_channel if shared else kernel
        source = x.at_bytes(picture * x_batch + channel * x_channel)
        to = out.at_bytes(picture * out_batch + kernel * out_channel)
        own = weights.at(kernel * tile.weights)
        top, bottom = ((band + i) * band_rows + (band + i).minimum(longer) * tile.taps[0] for i in (0, 1))
        plane = f.integer("fields"), own, bias.at(kernel), to, top, bottom.minimum(out_rows)
        if not tile.stream:
            f.run(functions[0], *plane, source)
            continue
        edge, stream = functions
        left, row_offsets = FIELDS.integer(f, "columns_before"), FIELDS.pointer(f, "row_offsets", "i64")
        wide = tile.stream * lanes
        # Streams begin with a line of the result: its stores do not straddle two.
        shift = to.past(lanes * itemsize) // itemsize * FIELDS.integer(f, "lines")
        inner = (left + shift + (lanes - 1)) // lanes * lanes - shift
        outer = inner + (inside - inner).maximum(0) // wide * wide
        for column in f.loop(0, inner, wide):
            f.run(edge, *plane, source, block, column.minimum(out_columns - wide))
        f.run(stream, *plane, source.at(inner - left), row_offsets, inner, outer)
        for column in f.loop(outer, out_columns, wide):
            f.run(edge, *plane, source, block, column.minimum(out_columns - wide))
    if past:
        f.fence()
    return f


def _tiles(name: str, target: Target, element: str, tile: Tile, finish: Finish) -> Function:
    """The rows from `first_row` up to `last_row` of a plane: tile after tile."""
    f = Function(name, target, [*_PLANE, "x"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    parts, finisher = _parts(f, element, lanes), Finisher(f, FIELDS, element, finish)
    x = f.pointer("x", element)
    rows, columns, above, left = FIELDS.integers(f, "rows", "columns", "rows_before", "columns_before")
    x_row, out_row, out_columns = FIELDS.integers(f, "x_row", "out_row", "out_columns")
    last_row = f.integer("last_row")
    held = _held(tile, parts.weights, lanes)
    for top in f.loop(f.integer("first_row"), last_row, tile.rows):
        for column in f.loop(0, out_columns, lanes):
            first = column * tile.strides[1] - left  # input column of the kernel's first tap in lane 0
            windows = _windows(f, tile, first, columns, lanes)
            sums = Registers({row: f.zero(element, lanes) for row in range(tile.rows)})
            here = parts.weights
            for input_row in range(tile.input_rows):
                readers = tile.readers(input_row)
                if not readers:
                    continue
                row = top * tile.strides[0] - above + input_row
                there = (row >= 0) & (row < rows)
                here = here.disguised()
                masked = {o: (c, m.where(there)) for o, (c, m) in windows.items()}
                vectors = _vectors(tile, x.at_bytes(row * x_row), masked, parts.filler)
                for tap, value in enumerate(vectors):
                    for output, tap_row in readers:
                        number = tap_row * tile.taps[1] + tap
                        weight = held[number] if held else here.at(number).broadcast(lanes)
                        sums[output] = value.times_plus(weight, sums[output])
            there_columns = f.lanes_between(0, out_columns - column, lanes)
            for output in range(tile.rows):
                to = parts.out.at_bytes((top + output) * out_row).at(column)
                result = finisher.early(sums[output] + parts.bias)
                to.store_where(there_columns.where(top + output < last_row), result)
    return f


def _stream(name: str, target: Target, element: str, tile: Tile, finish: Finish, *, past: bool) -> Function:
    """The same for the columns from `first` to `last`, all of whose taps are columns of the input.

    `x` is where the column of the first one's first tap begins, and row_offsets[i] in bytes from there to the first row
    that output row i reads, -1 for one that holds the filler. There are m kernel heights of rows, m > 0, and one row
    less than another.
    """
    f = Function(name, target, [*_PLANE, "x", "row_offsets", "first", "last"], internal=True)
    lanes, (height, width) = target.lanes(ITEMSIZES[element]), tile.taps
    x, row_offsets = f.pointer("x", element), f.pointer("row_offsets", "i64")
    first, last, first_row, last_row = (f.integer(part) for part in ("first", "last", "first_row", "last_row"))
    parts, finisher = _parts(f, element, lanes), Finisher(f, FIELDS, element, finish)
    held = _held(tile, parts.weights, lanes)
    out_row, across = FIELDS.integer(f, "out_row"), range(tile.stream)
    outside = f.buffer(element, tile.packed(lanes) * lanes)
    for v in range(tile.packed(lanes)):
        outside.at(v * lanes).store(parts.filler)

    def step(sums: Registers, column: Int, begins: Int, slot: int, taps: range) -> None:
        """The input row that output row `begins` reads first meets these rows of taps, of it and outputs above it."""
        offset = row_offsets.at(begins).load_int()
        inside = x.at_bytes(offset).at(column - first)
        here = offset.equals(-1).pointer(outside, inside)
        for v in across:
            inside.at((AHEAD + v) * lanes).prefetch()
        weights = parts.weights.disguised(begins)

        def weight(number: int) -> Vector:
            return held[number] if held else weights.at(number).broadcast(lanes)

        def add(tap: int, values: list[Vector], factor: Vector, first: bool) -> None:
            for v in across:
                key = (slot - tap) % height, v
                sums[key] = values[v].times_plus(factor, f.zero(element, lanes) if first else sums[key])

        rows = [f.zero(element, lanes) for _ in across]
        for q in range(width):
            f.hold_loads()
            values = [here.at(v * lanes + q * tile.dilations[1]).load(lanes) for v in across]
            if tile.separable:
                rows = [value.times_plus(weight(height + q), row) for value, row in zip(values, rows, strict=True)]
                continue
            for tap in taps:
                add(tap, values, weight(tap * width + q), tap == q == 0)
        if tile.separable:
            for tap in taps:
                add(tap, rows, weight(tap), tap == 0)
        if taps[-1] == height - 1:  # an output row has met its last tap
            to = parts.out.at_bytes((begins - (height - 1)) * out_row).at(column)
            for v in across:
                if not past:
                    to.at((AHEAD + v) * lanes).prefetch()
                result = finisher.early(sums[(slot + 1) % height, v] + parts.bias)
                to.at(v * lanes).store(result, streaming=past)

    for column in f.loop(first, last, tile.stream * lanes):
        sums = Registers({(slot, v): f.zero(element, lanes) for slot in range(height) for v in across})
        for slot in range(height - 1):
            step(sums, column, first_row + slot, slot, range(slot + 1))
        for begins in f.loop(first_row + (height - 1), last_row, height, carry=[sums]):
            for i in range(height):
                step(sums, column, begins + i, height - 1 + i, range(height))
        for i in range(height - 1):
            step(sums, column, last_row + i, height - 1 + i, range(i + 1, height))
    return f


def _edge(name: str, target: Target, element: str, tile: Tile, stream: Function, constant: bool) -> Function:
    """A stream's width of columns from `column` on, of whose taps some lie beside the rows: all are copied first."""
    f = Function(name, target, [*_PLANE, "x", "block", "column"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    x, block, column = f.pointer("x", element), f.pointer("block", element), f.integer("column")
    first_row, last_row = f.integer("first_row"), f.integer("last_row")
    columns, left, right = FIELDS.integers(f, "columns", "columns_before", "columns_after")
    row_offsets, block_offsets, column_sources = (
        FIELDS.pointer(f, table, "i64") for table in ("row_offsets", "block_offsets", "column_sources")
    )
    filler = FIELDS.real(f, "fill", element).broadcast(lanes)
    packed = tile.packed(lanes)
    starts = [column - left + v * lanes for v in range(packed)]
    masks = [f.lanes_between(0 - start, columns - start, lanes) for start in starts]
    for row in f.loop(first_row, last_row + (tile.taps[0] - 1)):
        offset = row_offsets.at(row).load_int()
        source = x.at_bytes(offset)
        to = block.at_bytes(block_offsets.at(row - first_row).load_int())
        for v, (start, mask) in enumerate(zip(starts, masks, strict=True)):
            there = mask.where((offset < -1) | (offset > -1)) if constant else mask
            to.at(v * lanes).store(source.at(start).load_where(there, filler))
        if not constant:  # what lies beside the row is somewhere in it
            padded = left + columns
            end = (column + packed * lanes).minimum(padded + right)
            for before, after in ((column, left.minimum(end)), (padded.maximum(column), end)):
                for place in f.loop(before, after):
                    to.at(place - column).store(source.at(column_sources.at(place).load_int()).load())
    plane = f.integer("fields"), f.pointer("weights", element), f.pointer("bias", element), f.pointer("out", element)
    rows = first_row, last_row
    f.run(stream, *plane, *rows, block, block_offsets.at(0 - first_row), column, column + tile.stream * lanes)
    return f


_PLANE = ["fields", "weights", "bias", "out", "first_row", "last_row"]
"""Arguments of a function for some rows of a plane."""


class _Parts(NamedTuple):
    """What is multiplied, where it goes, what is added to it, and what is where nothing is."""

    weights: Pointer
    out: Pointer
    bias: Vector
    filler: Vector


def _parts(f: Function, element: str, lanes: int) -> _Parts:
    weights, out, bias = (f.pointer(part, element) for part in ("weights", "out", "bias"))
    filler = FIELDS.real(f, "fill", element).broadcast(lanes)
    return _Parts(weights, out, bias.broadcast(lanes), filler)


def _held(tile: Tile, weights: Pointer, lanes: int) -> list[Vector]:
    """All weights, if they have room in registers."""
    return [weights.at(tap).broadcast(lanes) for tap in range(tile.weights)] if tile.holds else []


def _windows(f: Function, tile: Tile, first: Int, columns: Int, lanes: int) -> dict[int, tuple[Int, Mask]]:
    """Per run of columns that a tile loads, by its distance from the first: where it begins, and which lanes exist."""
    if tile.strides[1] == 1:
        distances = [tap * tile.dilations[1] for tap in range(tile.taps[1])]
    elif tile.narrow:
        distances = [0]
    else:  # two runs side by side hold the columns of two neighbouring taps
        distances = [start + half for start in range(0, tile.taps[1], 2) for half in (0, lanes)]
    return {d: (first + d, f.lanes_between(0 - first - d, columns - first - d, lanes)) for d in distances}


def _vectors(tile: Tile, row: Pointer, windows: dict[int, tuple[Int, Mask]], filler: Vector) -> list[Vector]:
    """Per column of the kernel what it meets in a row of input."""
    loaded = {d: row.at(column).load_where(mask, filler) for d, (column, mask) in windows.items()}
    if tile.strides[1] == 1:
        return list(loaded.values())
    lanes = filler.lanes
    if tile.narrow:
        return [
            loaded[0].shuffled(filler, [min(tap + 2 * i, lanes) for i in range(lanes)]) for tap in range(tile.taps[1])
        ]
    pairs = [(loaded[start], loaded[start + lanes]) for start in range(0, tile.taps[1], 2)]
    return [
        pairs[tap // 2][0].shuffled(pairs[tap // 2][1], range(tap % 2, 2 * lanes, 2)) for tap in range(tile.taps[1])
    ]
