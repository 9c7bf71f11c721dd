"""Depthwise layers of channels-last data, read where they lie: vectors run over the channels, each with its own kernel.

Maths: the definition with one channel per group, as a chain of fused multiply-adds in the order depth, row, column, as
`direct` and `stencil` have it, so all give the same bits.

How it runs: nothing is packed. Tables say where the input has every row and column that a kernel meets, or that there
is padding, which is read from a vector of it: so every border is alike, and no tile reads past a row. A tile is up to
14 neighbouring pixels (7 with 16 registers) of a vector of channels. Per row of the kernel its weights are loaded once,
and every vector of input once, for all pixels that it is a tap of: of 3x3 with stride 1, 3 + 16 loads for 42
multiply-adds. A unit is some rows of up to 512 bytes of every pixel, row by row, so lines are read as they follow each
other.

Limits: float32 and float64, channels last, one kernel per channel, at least a vector of channels.
"""

import math
from typing import NamedTuple

import numpy as np

from ...problem import Problem
from ..descriptor import Fields, address_of
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, Vector, module_source
from ..emit.source import emitted
from ..emit.target import Target
from ..kernels import ELEMENTS, compiled
from ..lattice import lattices, spatial_steps
from .blocks import SERIAL_PRODUCTS, threads_for
from .finish import FINISH_FIELDS, Finish, Finisher, finish_values
from .packed import Array, Binding, CompiledSolution
from .panels import ChannelRows, readable_last
from .refusals import refuses_channels_first, refuses_few_channels, refuses_many_kernels
from .rounding import sum_bound
from .tiles import readers, refuses_forward

NAME = "depthwise"

RUN_BYTES = 512
"""Of every pixel that a unit has at most. A unit's rows of input should be in the first-level cache until the next row
of output has read them too; but processors fetch neighbours, and with 256 bytes what lies further away comes a quarter
slower."""
MOST_COLUMNS = 7
"""Taps in a row whose weights are in registers at one time; of longer rows they are loaded one by one."""
TASK_PRODUCTS = 1 << 17
"""Multiply-adds that are worth a task's start: some 5 µs."""

FIELDS = Fields(
    (
        "x",
        "out",
        "panels",  # weights, [tap][channel]
        "bias",
        "fill",
        "scratch",
        *FINISH_FIELDS,
        "x_batch",  # bytes between pictures of x, ...
        "out_batch",
        "out_depth",
        "out_row",
        "out_column",
        "channels",
        "out_rows",
        "out_columns",
        "blocks",  # units per band
        "block_channels",
        "bands",  # per picture
        "lines",  # output rows of a picture, of all depths
        "per_band",
        "units",
        "per_task",
        "depth_table",  # per output depth and tap: where it is in a picture of x, in bytes, or -1
        "row_table",
        "column_table",  # per padded column
        "padding_table",  # as many entries that are all -1
        "taps_depth",
        "taps_rows",
        "taps_columns",
    )
)


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only depthwise forward convolutions in floating point, channels last."""
    refusal = refuses_forward(problem, target) or refuses_many_kernels(problem) or refuses_channels_first(problem)
    if refusal is not None or target is None:
        return refusal
    if refusal := refuses_few_channels(problem, target):
        return refusal
    if problem.residual and problem.in_channels % target.lanes(problem.itemsize):
        return "its last vector of channels would add the residual twice"
    return None


class Tile(NamedTuple):
    """Pixels whose sums are in registers at one time, and what is written out of the geometry of columns."""

    pixels: int
    taps: int
    stride: int
    dilation: int

    @classmethod
    def of(cls, problem: Problem, target: Target) -> "Tile":
        """As many pixels as leave the fewest past the end of a row."""
        columns = lattices(problem)[2]
        most = 14 if target.registers >= 32 else 7
        sizes = range(most, most // 2, -1)
        pixels = min(sizes, key=lambda size: -(-columns.outputs // size) * (size + 2))
        return cls(pixels, min(columns.taps, MOST_COLUMNS + 1), columns.stride, columns.dilation)


class Cut(NamedTuple):
    """How the work falls apart: a unit is a band of output rows of some vectors of channels."""

    blocks: int
    block_channels: int
    lines: int
    per_band: int
    bands: int
    units: int
    per_task: int

    @classmethod
    def of(cls, problem: Problem, target: Target, limit: int) -> "Cut":
        """Bands whose input fills half of the second-level cache; more, up to 4 tasks per thread."""
        depth, rows, columns = lattices(problem)
        lanes, lines = target.lanes(problem.itemsize), depth.outputs * rows.outputs
        vectors = -(-problem.in_channels // lanes)
        width = -(-vectors // -(-vectors * target.vector_bytes // RUN_BYTES)) * lanes  # as even as can be
        blocks = -(-problem.in_channels // width)
        line_bytes = columns.size * width * problem.itemsize * depth.taps * rows.stride
        fit = max(target.l2_bytes // 2 // line_bytes - rows.taps, 1)
        bands = -(-lines // fit)
        if limit > 1 and problem.multiply_adds >= SERIAL_PRODUCTS:
            bands = min(max(bands, -(-4 * limit // (problem.batch * blocks))), lines)
        per_band = -(-lines // bands)
        bands = -(-lines // per_band)
        units = problem.batch * bands * blocks
        together = min(TASK_PRODUCTS * units // max(problem.multiply_adds, 1), units // (4 * limit))
        return cls(blocks, width, lines, per_band, bands, units, max(together, 1))


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: multiply-adds, and finding and loading what they read; or the time of memory, or of the last cache."""
    assert target is not None
    tile, (depth, rows, columns) = Tile.of(problem, target), lattices(problem)
    lines = problem.batch * depth.outputs * rows.outputs * -(-columns.outputs // tile.pixels)
    products = columns.taps * tile.pixels
    per_row = max(products / 2, (tile.pixels * columns.stride + columns.taps) * 1.2) + 4
    if columns.taps > MOST_COLUMNS:  # every product finds its pixel
        per_row = 1.85 * products
    vectors = -(-problem.in_channels // target.lanes(problem.itemsize))
    cycles = vectors * lines * (depth.taps * rows.taps * per_row + 2 * tile.pixels + 10) * target.passes
    return 3e-6 + max(cycles / 3e9 / min(target.cores, 2), target.moving(problem.bytes_moved))


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: the weights."""
    return math.prod(problem.weight_shape) * problem.itemsize


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|: a chain of as many fused multiply-adds as there are taps, then the bias."""
    return sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "Depthwise":
    """The solution of `problem`."""
    assert target is not None
    return Depthwise(problem, target)


class Depthwise(CompiledSolution):
    """Runs one problem; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        super().__init__(problem, target, FIELDS, ChannelRows(problem, target))  # type: ignore[arg-type]

    def _readable(self, first: Array) -> Array:
        return readable_last(first, self._dtype)

    def _takes(self, out: Array, residual: Array | None) -> bool:
        return super()._takes(out, residual) and out.strides[1] == self._dtype.itemsize

    def _empty(self) -> Array:
        count, channels, *sizes = self.problem.output_shape
        return np.moveaxis(np.empty((count, *sizes, channels), self._dtype), -1, 1)

    def bind(self, x: Array, out: Array, limit: int) -> Binding:
        """The tables of where everything lies, and all sizes and steps."""
        problem, target = self.problem, self.target
        cut, tile = Cut.of(problem, target, limit), Tile.of(problem, target)
        axes = lattices(problem)
        x_steps, out_steps = spatial_steps(x), spatial_steps(out)
        depth_table, row_table = (
            axis.offsets_of_taps(problem.border, step) for axis, step in zip(axes[:2], x_steps[:2], strict=True)
        )
        reach = axes[2].size + tile.pixels * tile.stride  # a tile reaches past the row's end
        columns = axes[2].offsets(problem.border, x_steps[2], reach)
        tables = (depth_table, row_table, columns, np.full_like(columns, -1))
        names = ("depth_table", "row_table", "column_table", "padding_table")
        fields: dict[str, int | float] = {
            **finish_values(problem),
            **{name: address_of(table) for name, table in zip(names, tables, strict=True)},
            "x_batch": x.strides[0],
            "out_batch": out.strides[0],
            **dict(zip(("out_depth", "out_row", "out_column"), out_steps, strict=True)),
            "channels": problem.in_channels,
            "out_rows": axes[1].outputs,
            "out_columns": axes[2].outputs,
            "blocks": cut.blocks,
            "block_channels": cut.block_channels,
            "bands": cut.bands,
            "lines": cut.lines,
            "per_band": cut.per_band,
            "units": cut.units,
            "per_task": cut.per_task,
            **dict(zip(("taps_depth", "taps_rows", "taps_columns"), (axis.taps for axis in axes), strict=True)),
        }
        function = compiled(_module(target, ELEMENTS[problem.dtype], tile, Finish.of(problem)), target, "task")
        tasks = -(-cut.units // cut.per_task)
        workers = threads_for(problem, tasks, limit)
        return Binding(function, FIELDS.block(fields), tasks, workers, 0, tables, [])


@emitted("task")
def _module(target: Target, element: str, tile: Tile, finish: Finish) -> str:
    """The module's IR. Of the geometry only that of a kernel's row is written out: all else are fields."""
    row = _row("row", target, element, tile, finish)
    return module_source([row, _task(target, element, row)])


def _task(target: Target, element: str, row: Function) -> Function:
    """Task: some units, one after the other; of a unit, row by row all vectors of channels."""
    f = Function("task", target, ["fields", "task", "worker"])
    fields, itemsize = f.integer("fields"), ITEMSIZES[element]
    lanes = target.lanes(itemsize)
    blocks, bands, lines, per_band = FIELDS.integers(f, "blocks", "bands", "lines", "per_band")
    units, per_task, channels, out_rows = FIELDS.integers(f, "units", "per_task", "channels", "out_rows")
    block_channels = FIELDS.integer(f, "block_channels")
    taps_depth, taps_rows, out_depth, out_row = FIELDS.integers(f, "taps_depth", "taps_rows", "out_depth", "out_row")
    x, out = FIELDS.pointer(f, "x", element), FIELDS.pointer(f, "out", element)
    weights, bias = FIELDS.pointer(f, "panels", element), FIELDS.pointer(f, "bias", element)
    depth_table, row_table = FIELDS.pointer(f, "depth_table", "i64"), FIELDS.pointer(f, "row_table", "i64")
    padding = f.buffer(element, lanes)
    padding.store(FIELDS.real(f, "fill", element).broadcast(lanes))
    start = f.integer("task") * per_task
    for unit in f.loop(start, (start + per_task).minimum(units)):
        block, rest = unit % blocks, unit // blocks
        band, picture = rest % bands, rest // bands
        first = band * per_band
        source = x.at_bytes(picture * FIELDS.integer(f, "x_batch"))
        corner = out.at_bytes(picture * FIELDS.integer(f, "out_batch"))
        begin = block * block_channels
        end = (begin + block_channels).minimum(channels)
        for line in f.loop(first, (first + per_band).minimum(lines)):
            depth, number = line // out_rows, line % out_rows
            tables = depth_table.at(depth * taps_depth), row_table.at(number * taps_rows)
            to = corner.at_bytes(depth * out_depth + number * out_row)
            for offset in f.loop(begin, end, lanes):
                channel = offset.minimum(channels - lanes)  # the last vector ends with the last channel
                own = (weights.at(channel), bias.at(channel))
                f.run(row, fields, source.at(channel), *own, padding, *tables, to.at(channel))
    return f


def _row(name: str, target: Target, element: str, tile: Tile, finish: Finish) -> Function:
    """One output row of a vector of channels, tile after tile."""
    f = Function(name, target, ["fields", "x", "weights", "bias", "padding", "depths", "rows", "out"], internal=True)
    itemsize = ITEMSIZES[element]
    lanes = target.lanes(itemsize)
    x, weights, padding, out = (f.pointer(part, element) for part in ("x", "weights", "padding", "out"))
    depths, rows = f.pointer("depths", "i64"), f.pointer("rows", "i64")
    column_table, no_column = FIELDS.pointer(f, "column_table", "i64"), FIELDS.pointer(f, "padding_table", "i64")
    taps_depth, taps_rows, taps_columns = FIELDS.integers(f, "taps_depth", "taps_rows", "taps_columns")
    channels, columns, out_column = FIELDS.integers(f, "channels", "out_columns", "out_column")
    finisher = Finisher(f, FIELDS, element, finish)
    added = f.pointer("bias", element).load(lanes)
    pixels = range(tile.pixels)
    for column in f.loop(0, columns, tile.pixels):
        sums = Registers({pixel: f.zero(element, lanes) for pixel in pixels})
        for i in f.loop(taps_depth, carry=[sums]):
            for j in f.loop(taps_rows, carry=[sums]):
                depth, row = depths.at(i).load_int(), rows.at(j).load_int()
                outside = depth.equals(-1) | row.equals(-1)
                places = outside.pointer(no_column, column_table).at(column * tile.stride)
                own = weights.at((i * taps_rows + j) * taps_columns * channels)
                _kernel_row(f, tile, lanes, x.at_bytes(depth + row), padding, places, own, sums)
        results = [finisher.early(sums[pixel] + added) for pixel in pixels]
        to, left = out.at_bytes(column * out_column), columns - column
        # A tile may reach past the row's end: what it summed there is not stored.
        with f.either(left >= tile.pixels) as (whole, part):
            with whole:
                for pixel in pixels:
                    finisher.store(to.at_bytes(out_column * pixel), results[pixel])
            with part:
                for pixel in pixels[:-1]:
                    with f.when(left > pixel):
                        finisher.store(to.at_bytes(out_column * pixel), results[pixel])
    return f


def _kernel_row(
    f: Function,
    tile: Tile,
    lanes: int,
    x: Pointer,
    padding: Pointer,
    places: Pointer,
    weights: Pointer,
    sums: Registers,
) -> None:
    """One row of the kernel with all pixels of a tile; `places` are those of the tile's first column."""
    channels, taps = FIELDS.integers(f, "channels", "taps_columns")

    def met(column: Int | int) -> Vector:
        place = places.at(column).load_int()
        return place.equals(-1).pointer(padding, x.at_bytes(place)).load(lanes)

    if tile.taps > MOST_COLUMNS:
        for q in f.loop(taps, carry=[sums]):
            weight = weights.at(q * channels).load(lanes)
            for pixel in range(tile.pixels):
                sums[pixel] = met(q * tile.dilation + pixel * tile.stride).times_plus(weight, sums[pixel])
        return
    own = [weights.at(channels * tap).load(lanes) for tap in range(tile.taps)]
    for column, pairs in readers(tile.pixels, tile.taps, tile.stride, tile.dilation).items():
        value = met(column)
        for pixel, tap in pairs:
            sums[pixel] = value.times_plus(own[tap], sums[pixel])
