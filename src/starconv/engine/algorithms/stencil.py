"""Few channels: vectors of neighbouring pixels, several output rows and kernels per pass. Depthwise layers too.

Maths: the definition, as a chain of fused multiply-adds in the order channel, depth, row, column, as `direct` has it,
so both give the same bits.

How it runs: a task packs the rows of input that a band of output rows reads (see `packing`); where columns have a
stride s, sorted by column number modulo s, so that neighbouring outputs read neighbouring elements. A tile is some
kernels x some output rows x some vectors of columns, at most 12 sums on 16 registers. It goes through the *input*
rows it reads; a vector of input is loaded once and serves every output row that it is a tap of:

    3x3, 1 kernel x 4 rows x 2 vectors: (4 + 2) x 3 x 2 = 36 vector loads + 36 broadcasts for 72 multiply-adds

Limits: float32 and float64. Rows shorter than a vector waste lanes. With many channels `direct` needs fewer loads.
"""

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...problem import Problem
from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Condition, Function, Int, Pointer, Registers, Vector, module_source
from ..emit.source import Source, emitted
from ..emit.target import Target
from ..kernels import ELEMENTS
from ..lattice import lattices
from .blocks import Block, Form, most_scratch
from .finish import FINISH_FIELDS, Finish, Finisher, finish_values
from .packed import BLOCK, Array, PackedSolution, Place, place
from .packing import fill_block, pack_block
from .panels import Panels
from .rounding import sum_bound
from .tiles import refuses_forward, row_readers

NAME = "stencil"
WIDENS = True

MOST_CHANNELS = 64
UNROLLED_COLUMNS = 8
"""Taps in a row that are written out one after the other; longer rows are a loop."""
PLANE = 5
"""Cycles to go on from one channel to the next."""
LEAST_IN_PLACE = 8
"""Tiles across, below which what is packed at both ends would be most of a row."""
UNROLLED_ROWS = 12
"""Kernel rows above which the rows that all output rows of a tile read alike are a loop."""

FIELDS = Fields(
    (
        *BLOCK,
        "panels",
        "bias",
        *FINISH_FIELDS,
        "kernels",  # kernels per group
        "plane",  # elements between depths in the block
        "reach",  # packed columns that an output reads beside its first
        "least_in_place",  # columns, below which a row is packed as a whole
        "column_offsets",  # elements from a row's start to what tap q reads for output column 0
        "ahead",  # whether to ask for the rows below a tile, which the tiles there read first
    )
)


class Tile(NamedTuple):
    """What a pass computes, kernels x output rows x vectors, and the kernel's shape, which is written out."""

    kernels: int
    rows: int
    vectors: int
    taps_rows: int
    taps_columns: int
    row_stride: int
    row_dilation: int
    dense: bool
    """Whether tap q of a row is read q columns further on: then no table needs to be asked."""

    @property
    def input_rows(self) -> int:
        """Input rows that the tile reads."""
        return (self.rows - 1) * self.row_stride + (self.taps_rows - 1) * self.row_dilation + 1

    def readers(self, input_row: int) -> list[tuple[int, int]]:
        """The (output row, tap) pairs that meet in input row `input_row` of the tile."""
        return row_readers(input_row, self.rows, self.taps_rows, self.row_stride, self.row_dilation)


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only forward convolutions in floating point with few channels per group."""
    refusal = refuses_forward(problem, target)
    if refusal is not None:
        return refusal
    if problem.in_channels // problem.groups > MOST_CHANNELS:
        return f"it takes at most {MOST_CHANNELS} channels per group, not {problem.in_channels // problem.groups}"
    return None


@lru_cache(maxsize=1024)
def tile_of(problem: Problem, target: Target) -> Tile:
    """The tile with the fewest cycles per output, counting what reaches past the ends."""
    _, rows, columns = lattices(problem)
    kernels = problem.out_channels // problem.groups
    budget = 12 if target.registers == 16 else 24
    lanes = target.lanes(problem.itemsize)
    shape = (rows.taps, columns.taps, rows.stride, rows.dilation, columns.stride == columns.dilation == 1)
    most = (min(kernels, 8), min(rows.outputs, 8), min(-(-columns.outputs // lanes), 3))
    return min(_tiles(most, budget, shape), key=lambda tile: _cycles(tile, problem, target))


@lru_cache(maxsize=256)
def _tiles(most: tuple[int, int, int], budget: int, shape: tuple[int, int, int, int, bool]) -> list[Tile]:
    """The tiles of up to `most` kernels, rows and vectors with sums for `budget` registers."""
    sizes = itertools.product(*(range(1, limit + 1) for limit in most))
    return [Tile(k, r, v, *shape) for k, r, v in sizes if k * r * v <= budget]


def _cycles(tile: Tile, problem: Problem, target: Target) -> float:
    """Cycles per group, picture and depth: two multiply-adds or loads a cycle, 4 between two additions to a sum."""
    depth, rows, columns = lattices(problem)
    lanes = target.lanes(problem.itemsize)
    kernels, planes = problem.out_channels // problem.groups, depth.taps * (problem.in_channels // problem.groups)
    # Loads that cross from one line of 64 bytes into the next count twice: of vectors as long as a line all taps but
    # one, of shorter ones as many fewer.
    crossing = 1 + target.vector_bytes / 64 * (1 - 1 / columns.taps)

    def per_tile(vectors: int) -> float:
        sums = tile.kernels * tile.rows * vectors
        # Several kernels and several rows at once make LLVM spill: measured, such tiles take a seventh longer.
        adds = sums * tile.taps_rows * (1.15 if tile.kernels > 1 and tile.rows > 1 else 1)
        loads = tile.input_rows * vectors * crossing + tile.kernels * tile.rows * tile.taps_rows
        chain = 4 * tile.taps_rows
        return (max(adds / 2, loads / 2, chain) * columns.taps + PLANE) * planes + 10 - PLANE + 1.5 * sums

    vectors = -(-columns.outputs // lanes)
    across = vectors // tile.vectors * per_tile(tile.vectors) + vectors % tile.vectors * per_tile(1)
    return across * -(-rows.outputs // tile.rows) * -(-kernels // tile.kernels)


def in_lanes(problem: Problem) -> int:
    """What the lanes of vectors hold: columns of output."""
    return lattices(problem)[2].outputs


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: the tiles' cycles, or the time in which the memory moves input and output."""
    assert target is not None
    tile = tile_of(problem, target)
    depth, _, columns = lattices(problem)
    results = problem.batch * problem.groups * depth.outputs
    planes = depth.taps * (problem.in_channels // problem.groups)
    cycles = results * _cycles(tile, problem, target) * target.passes
    # Measured against `direct`, layers with a stride take longer than counted: 7x7 s2 3->64 loses by 5 % with AVX2, and
    # wins by as much with AVX-512.
    cycles *= 1 if columns.stride == 1 else 1.15 if target.registers == 16 else 1.05
    # So do many channels for one kernel at a time, by half and more: 16->8 5x5 24² 2.9 ms, 16->1 0.7, where `direct`
    # with its 1.8 and 3.3 is predicted well.
    cycles *= 2 if tile.kernels == 1 and planes >= 8 else 1
    packing = math.prod(problem.input_shape) * (0.25 if columns.stride <= 2 else 2)
    packing += problem.batch * problem.groups * (700 if problem.groups > 1 else 300)
    if problem.channels_last and max(problem.in_channels, problem.out_channels) > 1:  # element by element
        packing += math.prod(problem.input_shape) * 4 + math.prod(problem.output_shape) * 6
    per_second = 3e9 * min(target.cores, 2)
    moving = target.moving(problem.bytes_moved)
    return 3e-6 + packing / per_second + max(cycles / per_second, moving)


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: one packed block per thread, and the weights."""
    assert target is not None
    tile = tile_of(problem, target)
    panels = Panels(problem, target, tile.kernels)
    form = _form(problem, target, tile)
    return panels.bytes + most_scratch(target, lambda threads: Block.largest(problem, target, threads, form).bytes)


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|: a chain of as many fused multiply-adds as there are products, then the bias."""
    return sum_bound(problem)


def _form(problem: Problem, target: Target, tile: Tile) -> Form:
    lanes = target.lanes(problem.itemsize)
    return Form(phases=lattices(problem)[2].stride, room_rows=tile.rows, room_columns=lanes)


def build(problem: Problem, target: Target | None) -> PackedSolution:
    """The solution of `problem`."""
    assert target is not None
    tile = tile_of(problem, target)
    panels = Panels(problem, target, tile.kernels)
    element, phases = ELEMENTS[problem.dtype], lattices(problem)[2].stride

    def source(of_x: str, _: Block) -> Source:
        finishes = problem.bias or problem.residual or problem.activation != "none"
        finish = Finish.of(problem, floor=True) if finishes else None
        return _module(target, element, tile, of_x, phases, problem.border == "constant", finish)

    def own(block: Block) -> tuple[dict[str, int | float], tuple[Array, ...]]:
        _, _, columns = lattices(problem)
        taps = np.arange(columns.taps) * columns.dilation
        offsets = (taps % phases * (block.pitch // phases) + taps // phases).astype(np.int64)
        values: dict[str, int | float] = {
            **finish_values(problem),
            "kernels": panels.kernels,
            "plane": block.packed_rows * block.pitch,
            "reach": columns.span(1) - 1,
            "least_in_place": LEAST_IN_PLACE * tile.vectors * target.lanes(problem.itemsize),
            "column_offsets": offsets.ctypes.data,
            # A row is of several pages, at whose ends the processor stops fetching ahead by itself.
            "ahead": int(math.prod(problem.input_shape) * problem.itemsize > 2 * target.l2_bytes),
        }
        return values, (offsets,)

    return PackedSolution(problem, target, FIELDS, panels, source, own, form=_form(problem, target, tile))


@emitted("task")
def _module(
    target: Target, element: str, tile: Tile, source: str, phases: int, constant: bool, finish: Finish | None
) -> str:
    """The module's IR: the kernel's height, width, vertical stride and dilation are written out, sizes are fields."""
    in_place = source == element and phases == 1
    pack = pack_block("pack_block", target, FIELDS, source, element, phases=phases, constant=constant, edges=in_place)
    passes = [
        _pass(f"pass_{vectors}", target, element, tile, vectors, finish)
        for vectors in sorted({tile.vectors, 1}, reverse=True)
    ]
    filled = [fill_block("fill_block", target, FIELDS, element)] if constant else []
    return module_source([*filled, pack, *passes, _task(target, element, tile, filled, pack, passes, in_place)])


def _task(
    target: Target,
    element: str,
    tile: Tile,
    filled: list[Function],
    pack: Function,
    passes: list[Function],
    in_place: bool,
) -> Function:
    """Task: per group, pack the band's rows; then tile after tile, the last ones moved back to end with the band.

    Where all rows of the band lie inside the input, only the ends of the rows are packed, and tiles between them read
    the input where it is.
    """
    f = Function("task", target, ["fields", "task", "worker"])
    fields = f.integer("fields")
    where = place(f, FIELDS, element)
    lanes = target.lanes(ITEMSIZES[element])
    blocks, kernels, channels, x_group = FIELDS.integers(f, "blocks", "kernels", "channels", "x_group")
    depths, columns, out_channel = FIELDS.integers(f, "taps_depth", "out_columns", "out_channel")
    pitch, plane = FIELDS.integers(f, "pitch", "plane")
    panels, biases = FIELDS.pointer(f, "panels", element), FIELDS.pointer(f, "bias", element)
    size = channels * depths * (tile.taps_rows * tile.taps_columns * tile.kernels)
    wide = tile.vectors * lanes
    begin, end, origins = f.number(0), f.number(0), (pitch, plane)
    packed: list[Int] = []
    if in_place:
        begin, end, packed, origins = _inside(f, where, element, tile, wide)
    for fill in filled:
        f.run(fill, fields, where.block)
    for group in f.loop(where.first_group, where.last_group):
        source = where.source.at(group * x_group)
        f.run(pack, fields, source, where.block, where.depth_start, where.row_start, where.packed_rows, *packed)
        for number in f.loop(where.first_block, where.last_block):
            first, entry = number * tile.kernels, group * blocks + number
            weights, bias = panels.at(entry * size), biases.at(entry * tile.kernels)
            valid = (kernels - first).minimum(tile.kernels)
            out = where.out.at_bytes((group * kernels + first) * out_channel)
            for tile_row in f.loop(0, where.rows, tile.rows):
                row = tile_row.minimum((where.rows - tile.rows).maximum(0))
                count = (where.rows - row).minimum(tile.rows)
                rest = (weights, bias, out, row, count, tile_row - row)
                block = (fields, where.block, pitch, plane)
                whole = end + (columns - end) // wide * wide
                if in_place:
                    f.run(passes[0], *block, *rest, 0, begin, valid)
                    rows = _first_row(f, source, where, element)
                    f.run(passes[0], fields, rows, *origins, *rest, begin, end, valid)
                f.run(passes[0], *block, *rest, end, whole, valid)
                f.run(passes[-1], *block, *rest, whole, columns, valid)
    return f


def _inside(
    f: Function, where: Place, element: str, tile: Tile, wide: int
) -> tuple[Int, Int, list[Int], tuple[Int, Int]]:
    """The output columns [begin, end) of a band that are computed in place, if any; and what then must be packed.

    Rows a multiple of 4 KiB apart are packed all the same: the many rows of a tile would share one set of the cache.
    """
    left, right, top, bottom, x_column = FIELDS.integers(f, "left", "right", "top", "bottom", "x_column")
    depths, reach, packed_columns, least = FIELDS.integers(f, "taps_depth", "reach", "columns", "least_in_place")
    x_pitch, x_plane = FIELDS.integers(f, "x_pitch", "x_plane")
    first = (left + (wide - 1)) // wide * wide
    room = (right - reach - first).maximum(0) // wide * wide
    spread = x_pitch % (4096 // ITEMSIZES[element])
    fits = depths.equals(1) & x_column.equals(ITEMSIZES[element]) & (spread > 0) & (room >= least)
    fits = fits & (where.row_start >= top) & (where.row_start + where.packed_rows <= bottom)
    fits = fits & (where.rows >= tile.rows)
    begin = fits.integer(first, 0)
    edge = fits.integer(reach + 3 * wide, packed_columns)
    return begin, begin + fits.integer(room, 0), [edge], (x_pitch, x_plane)


def _first_row(f: Function, source: Pointer, where: Place, element: str) -> Pointer:
    """Where in the input the band's packed column 0 would be."""
    row, left = FIELDS.pointer(f, "row_table", "i64").at(where.row_start), FIELDS.integer(f, "left")
    depth, column = FIELDS.pointer(f, "depth_table", "i64"), FIELDS.pointer(f, "column_table", "i64").at(left)
    offset = row.load_int() + column.load_int() + depth.at(where.depth_start).load_int()
    return source.at(offset - left * ITEMSIZES[element]).viewed(element)


def _pass(name: str, target: Target, element: str, tile: Tile, vectors: int, finish: Finish | None) -> Function:
    """The tiles of some rows from column `first` on; the last one moved back so that it ends with column `stop`.

    What a tile that was moved back computes again (`known` rows, and some columns) is stored again, except where a
    residual is added: that may be where the results go. Without `finish` there is not even a bias.
    """
    arguments = ["fields", "block", "pitch", "plane", "panel", "bias", "out", "row", "count", "known"]
    f = Function(name, target, [*arguments, "first", "stop", "valid"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    block, panel, bias, out = (f.pointer(part, element) for part in ("block", "panel", "bias", "out"))
    row, count, first, stop, valid = (f.integer(part) for part in ("row", "count", "first", "stop", "valid"))
    ahead = FIELDS.integer(f, "ahead")
    known = f.integer("known") if finish is not None and finish.residual else f.number(0)
    channels, depths = FIELDS.integers(f, "channels", "taps_depth")
    plane, pitch = f.integer("plane"), f.integer("pitch")
    offsets = FIELDS.pointer(f, "column_offsets", "i64")
    finisher = Finisher(f, FIELDS, element, finish or Finish(floor=False, ceiling=False, residual=False))
    out_channel, out_row, out_column = FIELDS.integers(f, "out_channel", "out_row", "out_column")
    per_row = tile.taps_columns * tile.kernels
    keys = [(k, r, v) for k in range(tile.kernels) for r in range(tile.rows) for v in range(vectors)]
    buffer = f.buffer(element, len(keys) * lanes)
    last = (stop - vectors * lanes).maximum(0)
    whole_rows = (count - known).equals(tile.rows) & valid.equals(tile.kernels) & out_column.equals(ITEMSIZES[element])

    for tile_column in f.loop(first, stop, vectors * lanes):
        column = tile_column.minimum(last)
        start = block.at(row * tile.row_stride * pitch + column)
        with f.when(ahead > 0):
            for r in range(tile.rows * tile.row_stride):
                for v in range(vectors):
                    start.at(pitch * (tile.input_rows + r)).at(v * lanes).prefetch()
        sums = Registers({key: f.zero(element, lanes) for key in keys})
        for number in f.loop(channels * depths, carry=[sums]):
            weights = panel.at(number * (tile.taps_rows * per_row))
            _slice(f, tile, vectors, lanes, start.at(number * plane), weights, pitch, offsets, sums)
        results = {key: sums[key] for key in keys}
        if finish is not None:
            results = {key: finisher.early(sums[key] + bias.at(key[0]).broadcast(lanes)) for key in keys}
        corner = out.at_bytes(row * out_row + column * out_column)
        begin = tile_column - column if finish is not None and finish.residual else f.number(0)
        whole = whole_rows & ((stop - column - begin) >= vectors * lanes)
        extent = (valid, (known, count), (begin, (stop - column).minimum(vectors * lanes)))
        steps = (out_channel, out_row, out_column)
        _store(f, results, tile, vectors, corner, steps, whole, extent, buffer, finisher)
    return f


def _slice(
    f: Function,
    tile: Tile,
    vectors: int,
    lanes: int,
    origin: Pointer,
    weights: Pointer,
    pitch: Int,
    offsets: Pointer,
    sums: Registers,
) -> None:
    """One channel and depth of a tile: through the input rows that it reads."""
    per_row = tile.taps_columns * tile.kernels

    def meet(input_row: Pointer, weights: Pointer, readers: list[tuple[int, int]]) -> None:
        """One row of input with every output row that reads it; `weights` are those of tap row 0."""
        for q in _columns(f, tile.taps_columns, sums):
            f.hold_loads()
            here = input_row.at(q if tile.dense else offsets.at(q).load_int())
            x = [here.at(v * lanes).load(lanes) for v in range(vectors)]
            for k in range(tile.kernels):
                for r, tap in readers:
                    w = weights.at(q * tile.kernels + (tap * per_row + k)).broadcast(lanes)
                    for v in range(vectors):
                        sums[k, r, v] = x[v].times_plus(w, sums[k, r, v])

    for first, last in _stretches(tile):
        # The next input row needs the same weights again, for other output rows: loading them is cheaper than keeping.
        weights = weights.disguised()
        if last - first == 1:
            meet(origin.at(pitch * first).disguised(), weights, tile.readers(first))
        else:  # rows that every output row reads, each with the tap one further on
            readers = [(r, tap - first) for r, tap in tile.readers(first)]
            for i in f.loop(first, last, carry=[sums]):
                meet(origin.at(pitch * i), weights.at(i * per_row), readers)


def _columns(f: Function, taps: int, sums: Registers) -> Iterator[Int]:
    """The taps of a kernel row: written out where they are few, else a loop over runs of them."""
    run = taps if taps <= UNROLLED_COLUMNS else next(run for run in range(4, 0, -1) if taps % run == 0)
    for first in f.loop(0, taps, run, carry=[sums]):
        for i in range(run):
            yield first + i


def _stretches(tile: Tile) -> list[tuple[int, int]]:
    """The input rows of a tile: one by one, or, of a tall dense kernel, its inner rows as one stretch."""
    total = tile.input_rows
    dense = tile.row_stride == tile.row_dilation == 1
    if not dense or tile.taps_rows <= max(UNROLLED_ROWS, tile.rows):
        return [(i, i + 1) for i in range(total)]
    edge = tile.rows - 1
    head = [(i, i + 1) for i in range(edge)]
    tail = [(i, i + 1) for i in range(total - edge, total)]
    return [*head, (edge, total - edge), *tail]


def _store(
    f: Function,
    results: dict[tuple[int, int, int], Vector],
    tile: Tile,
    vectors: int,
    corner: Pointer,
    steps: tuple[Int, Int, Int],
    whole: Condition,
    extent: tuple[Int, tuple[Int, Int], tuple[Int, Int]],
    buffer: Pointer,
    finisher: Finisher,
) -> None:
    """Whole tiles straight to rows of neighbouring pixels; the others through a buffer, element by element."""
    lanes = results[0, 0, 0].lanes
    out_channel, out_row, out_column = steps
    with f.either(whole) as (straight, piecewise):
        with straight:
            for (kernel, row, v), value in results.items():
                finisher.store(corner.at_bytes(out_channel * kernel + out_row * row).at(v * lanes), value)
        with piecewise:
            for number, value in enumerate(results.values()):
                buffer.at(number * lanes).store(value)
            kernels, rows, across = extent
            for k in f.loop(kernels):
                for r in f.loop(*rows):
                    run = buffer.at((k * tile.rows + r) * (vectors * lanes))
                    for c in f.loop(*across):
                        to = corner.at_bytes(k * out_channel + r * out_row + c * out_column)
                        finisher.store(to, run.at(c).load())
