"""Winograd convolution: 3x3 kernels with a quarter (or 4/9) of the multiplications, 5x5 with 9/25 of them, float32.

3x3 kernels with stride 2 take 9/16 of them.

Maths: outputs are computed in tiles of m x m, from n x n inputs, n = m + r - 1 for kernels of r x r taps. Transforms
along both axes turn the convolution of a tile into n^2 products per pair of channel and kernel instead of r^2 m^2:

    Y = A^T [sum over channels of (G g G^T) * (B^T d B)] A,     for 3x3 36 / 16 / 9 = 1/4 with m = 4, 4/9 with m = 2
                                                                for 5x5 36 / 4 / 25 = 9/25 with m = 2
                                                                with stride 2 81 / 16 / 9 = 9/16 with m = 4

For each of the n^2 positions the sum over channels is a product of matrices, [tiles x channels] [channels x kernels].
Which matrices and points, and what the transforms cost, `winograd_transforms` says. The sum's order is fixed: channels
in their order at every position, then the transform; neither tasks nor threads nor the layout of the data change a bit.

How it runs, for 3x3 and m = 4, C channels and K kernels, in cycles of two 8-lane fma units per tile:

    products            36 C K / 16 = 2.25 C K       6 tiles x 2 vectors of kernels per run, like direct
    packing             13 C    1.6 elements per input of the tile, transposed in registers
    transform of input  18 C    12 transforms x 12 operations on 8 channels, 144 loads and stores
    transform of output 19 K    10 transforms x 12 operations on 8 kernels, bias, 32 short stores

so the rest costs 1/3 of the products at C = K = 64 and 1/12 at 256. A task is a block of tiles: it packs the input 16
channels at a time with borders drawn in, transforms it to V, [position][tile][channel]; computes M, [position]
[tile][kernel]; and transforms that to the output. V and M take 144 (C + K) bytes per tile, and every task reads all
transformed weights U once, 144 C K bytes. More tiles per task save reading U, at 64 / tiles bytes per cycle of
products; fewer keep V and M in the second-level cache, which saves 128 (C + K) / (C K) bytes per cycle. `cut` weighs
both, the threads, and tiles that reach past the end of the picture, which is also how m is chosen.

Limits: U is 4 times (m = 2: 16/9, 5x5: 36/25, with stride 2: 4) as large as the weights. On a small picture that costs
more than the arithmetic saves, so cost says so and direct is taken. A NaN or an infinity spreads over its tile. The
error bound is a multiple of the plain sum's, see `error_bound`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from ...problem import Problem
from ..descriptor import address_of
from ..emit.target import Target
from ..kernels import Compiled, compiled
from ..lattice import lattices
from ..runtime import memory
from .blocks import SERIAL_PRODUCTS, most_scratch, threads_for
from .finish import Finish, finish_values
from .packed import SOURCES, Binding, CompiledSolution
from .panels import Array, Panels
from .refusals import refuses_winograd
from .rounding import sum_bound
from .tiles import kernels_in_lanes, most_vectors
from .winograd_kernels import kernel_module, weight_module
from .winograd_tiles import CHANNELS, FIELDS, WEIGHT_FIELDS, Room, odd_lines
from .winograd_transforms import F2_3, F2_5, F4_2, F4_3, Strided, Tile, span

FEW_PIXELS = 36
"""Outputs per kernel below which large weights are better read as they are."""
MOST_TILES = 128
"""No task has more: the reading of U is down to half a byte per cycle."""
FREQUENCY = 3e9
MOST_SCRATCH = 4 << 20
"""Bytes of V and M per thread, as long as blocks of few tiles allow it."""


def width(problem: Problem, target: Target) -> int:
    """Kernels in a panel: as many vectors as the registers hold sums for."""
    lanes = target.lanes(problem.itemsize)
    return lanes * min(most_vectors(target), -(-(problem.out_channels // problem.groups) // lanes))


@dataclass(frozen=True)
class Row:
    """The rows of the table: m = 4 saves more products, m = 2 needs less than half the memory for its weights."""

    NAME: str
    tile: Tile
    WIDENS = True
    in_lanes = staticmethod(kernels_in_lanes)

    def refuses(self, problem: Problem, target: Target | None) -> str | None:
        """Why not: only what the transforms are made for, where there is something to save."""
        taps = self.tile.taps
        refusal = refuses_winograd("conv", problem, target, (taps,), self.tile.stride)
        if refusal is not None or target is None:
            return refusal
        weights, pixels = math.prod(problem.weight_shape), problem.batch * math.prod(problem.output_shape[2:])
        if weights * problem.itemsize > target.l2_bytes and pixels < FEW_PIXELS:
            size = weights * problem.itemsize * self.tile.numbers**2 // taps**2
            return f"reading transformed weights of {size >> 20} MiB for {pixels} pixels costs more than it saves"
        return None

    def cost(self, problem: Problem, target: Target | None) -> float:
        """Seconds: those of the best cut, and of transforming the weights, which a functional call does each time.

        Not in it: packing them before, which direct does too.
        """
        assert target is not None
        chosen = cut(problem, target, min(target.cores, 2), self.tile)
        return 12e-6 + chosen.cycles / FREQUENCY + self.preparation(problem, target)

    def preparation(self, problem: Problem, target: Target | None) -> float:
        """Seconds of that for transforming the weights."""
        assert target is not None
        return _weight_cycles(problem, target, self.tile) / FREQUENCY

    def workspace(self, problem: Problem, target: Target | None) -> int:
        """Bytes: block, V and M of every thread, and U."""
        assert target is not None
        panels = TransformedPanels(problem, target, self.tile)

        def per_thread(threads: int) -> int:
            return _room(panels, cut(problem, target, threads, self.tile)).scratch_bytes

        return panels.bytes + most_scratch(target, per_thread)

    def repeats(self, problem: Problem, target: Target | None) -> int:
        """Rows of a tile."""
        return self.tile.m

    def error_bound(self, problem: Problem) -> float:
        """16 times that of the plain sum, relative to the largest sum of absolute values in the result.

        Measured: with operands spread over three decades at most 0.7 of the plain sum's bound. Typical errors are far
        smaller: at 256 channels of normally distributed data a root mean square of 1.4e-6 of the result's for m = 4
        (1.6 times direct's) and 0.5e-6 for m = 2 (0.6 times), because a position sums 256 products and direct 2304;
        with stride 2, 0.7e-6 at 64 channels.
        What holds for any data, by the matrices' absolute values, is in the tests: large inputs and weights that the
        definition never multiplies with each other may meet on the way here, so only such data can exceed the bound
        declared.
        """
        return 16 * sum_bound(problem)

    def build(self, problem: Problem, target: Target | None) -> "WinogradSolution":
        """The solution of `problem`."""
        assert target is not None
        return WinogradSolution(problem, target, self.tile)


F4 = Row("winograd", F4_3)
F2 = Row("winograd2", F2_3)
FIVE = Row("winograd5", F2_5)
STRIDED = Row("winograd_strided", Strided(F4_2))


# -- how tiles are cut into tasks ----------------------------------------------------------------------------


class Cut(NamedTuple):
    """A task is a block of tiles, `pictures` x `rows` x `columns`, and one of `splits` shares of the panels."""

    tile: Tile
    tile_rows: int
    tile_columns: int
    pictures: int
    rows: int
    columns: int
    splits: int
    cycles: float

    @property
    def tiles(self) -> int:
        """Of one task."""
        return self.pictures * self.rows * self.columns


@lru_cache(maxsize=4096)
def cut(problem: Problem, target: Target, limit: int, tile: Tile) -> Cut:
    """The blocks of tiles for which the model predicts the fewest cycles on `limit` threads."""
    options = list(_cuts(problem, target, limit, tile))
    modest = [option for option in options if _intermediate(problem, option) <= MOST_SCRATCH]
    return min(modest or options, key=lambda option: option.cycles)


def _intermediate(problem: Problem, shape: Cut) -> int:
    """Bytes of V and M of a task."""
    kernels = problem.out_channels // problem.groups // shape.splits
    return 4 * shape.tile.n**2 * shape.tiles * (problem.in_channels // problem.groups + kernels)


def _cuts(problem: Problem, target: Target, limit: int, tile: Tile) -> Iterator[Cut]:
    """Parts of rows, some rows of a picture or some pictures, as even as can be; the panels of a group in parts."""
    rows, columns = (-(-size // tile.m) for size in problem.output_shape[2:])
    blocks: set[tuple[int, int, int]] = set()
    for tiles in (6, 12, 18, 24, 30, 36, 48, 64, 96, MOST_TILES):
        if tiles < columns:
            # Two rows of half as many columns read less input twice.
            blocks |= {(1, _even(rows, r), _even(columns, tiles // r)) for r in (1, 2, 4)}
        elif tiles < rows * columns:
            blocks.add((1, _even(rows, tiles // columns), columns))
        else:
            blocks.add((_even(problem.batch, tiles // (rows * columns)), rows, columns))
    panels = -(-(problem.out_channels // problem.groups) // width(problem, target))
    workers = limit if problem.multiply_adds >= SERIAL_PRODUCTS else 1
    for p, r, c in blocks:
        tasks = -(-problem.batch // p) * -(-rows // r) * -(-columns // c) * problem.groups
        for splits in {1, *(n for n in (2, 4, workers) if tasks < 4 * workers and n <= min(panels, workers))}:
            per_split = -(-panels // splits)
            cycles = _task_cycles(problem, target, tile, (p, r, c), per_split * width(problem, target))
            rounds = -(-tasks * -(-panels // per_split) // workers)
            yield Cut(tile, rows, columns, p, r, c, splits, rounds * cycles)


def _even(total: int, most: int) -> int:
    """The size of the fewest nearly equal parts of `total` that are at most `most`."""
    return -(-total // -(-total // most))


def _task_cycles(problem: Problem, target: Target, tile: Tile, block: tuple[int, int, int], kernels: int) -> float:
    """Cycles of a task of pictures x rows x columns of tiles. The constants were fitted to measurements on AVX2."""
    positions, lanes = tile.n**2, target.lanes(4)
    channels, all_kernels = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    padded = -(-channels // CHANNELS) * CHANNELS
    pictures, rows, columns = block
    tiles = pictures * rows * columns
    packing = pictures * span(tile, rows) * span(tile, columns) * padded * 4.4 / lanes
    # With 16 lanes, what a transform does besides arithmetic weighs a third more.
    transforms = positions * tiles * (padded * 4.2 + kernels * 4.5) / lanes * target.passes
    transforms *= 4 / 3 if lanes == 16 and target.passes == 1 else 1
    # Starting and storing the sums of a run takes as long as 4 channels.
    products = positions * tiles * (channels + 4) * kernels / lanes / 2 * target.passes
    weights = 4 * tile.numbers**2 * channels  # of a kernel, in U, which is read beside the products
    traffic = weights * kernels / target.read_rate(weights * all_kernels)
    intermediate = 4 * positions * tiles * (channels + kernels)
    if intermediate > target.l2_bytes * 5 // 8:
        traffic += 2 * intermediate / (target.last_rate / 2)
    return packing + transforms + products + traffic + 2000


def _weight_cycles(problem: Problem, target: Target, tile: Tile) -> float:
    """Cycles of making U: stores, which go to memory where U is large, and to new pages where none can be kept."""
    size = 4 * tile.numbers**2 * problem.in_channels * problem.out_channels // problem.groups
    rates = ((target.l3_bytes // 3, 4.0), (memory.KEPT_BYTES, 2.3))
    rate = next((rate for limit, rate in rates if size <= limit), 1.2)
    return size / rate / min(target.cores, 2)


# -- arrays ---------------------------------------------------------------------------------------------------


class TransformedPanels(Panels):
    """U = G g G^T in the order of the products: [group][position][panel][channel][kernel]."""

    fields = WEIGHT_FIELDS

    def __init__(self, problem: Problem, target: Target, tile: Tile) -> None:
        super().__init__(problem, target, width(problem, target))
        self.tile, self.channels = tile, problem.in_channels // problem.groups
        self.position = odd_lines(self.blocks * self.channels * self.width)
        self._size = problem.groups * tile.numbers**2 * self.position
        self.bytes = self._size * problem.itemsize
        self._chunks = -(-self.channels // CHANNELS)
        self._tasks = problem.groups * self.blocks * self._chunks

    @property
    def form(self) -> object:
        """Besides the width, the size of the tiles."""
        return type(self).__name__, self.width, self.tile

    def _form(self, weights: Array) -> tuple[Compiled, Any]:
        """The function that transforms weights of such strides, and its fields but for the addresses."""
        sizes = {**self._sizes(weights), "chunks": self._chunks, "position": self.position}
        return _weight_function(self.target, self.tile, self.width), self.fields.block(sizes)


@lru_cache(maxsize=64)
def _weight_function(target: Target, tile: Tile, panel: int) -> Compiled:
    return compiled(weight_module(target, tile, panel), target, "task")


def _room(panels: TransformedPanels, shape: Cut) -> Room:
    """The room that a task of `shape` needs."""
    kernels = -(-panels.blocks // shape.splits) * panels.width
    return Room.of(shape.tile, shape.rows, shape.columns, shape.pictures, panels.channels, kernels)


class WinogradSolution(CompiledSolution):
    """Runs a problem in tiles; see the module's text."""

    def __init__(self, problem: Problem, target: Target, tile: Tile) -> None:
        self.tile, self.transformed = tile, TransformedPanels(problem, target, tile)
        super().__init__(problem, target, FIELDS, self.transformed)

    def bind(self, x: Array, out: Array, limit: int) -> Binding:
        """Tables of where padded elements come from, and all sizes and steps."""
        problem, panels = self.problem, self.transformed
        shape = cut(problem, self.target, limit, self.tile)
        room = _room(panels, shape)
        _, rows, columns = lattices(problem)
        # What the last tile reads past the end is constant padding too: it must only be finite.
        axes = (rows, x.strides[2], shape.tile_rows), (columns, x.strides[3], shape.tile_columns)
        tables, lowest = zip(
            *(axis.offsets_from_lowest(problem.border, step, span(self.tile, tiles)) for axis, step, tiles in axes),
            strict=True,
        )
        left, right = columns.inside()
        per_split = -(-panels.blocks // shape.splits)
        picture_blocks, row_blocks, column_blocks, splits = (
            -(-total // part)
            for total, part in (
                (problem.batch, shape.pictures),
                (shape.tile_rows, shape.rows),
                (shape.tile_columns, shape.columns),
                (panels.blocks, per_split),
            )
        )
        fields: dict[str, int | float] = {
            "x_base": sum(lowest),
            "x_batch": x.strides[0],
            "x_group": x.strides[1] * panels.channels,
            "x_channel": x.strides[1],
            "x_column": x.strides[3],
            "row_table": address_of(tables[0]),
            "column_table": address_of(tables[1]),
            "left": left,
            "right": right,
            **dict(zip(("out_batch", "out_channel", "out_row", "out_column"), out.strides, strict=True)),
            "out_rows": rows.outputs,
            "out_columns": columns.outputs,
            "weight_position": panels.position,
            **room._asdict(),
            "channels": panels.channels,
            "kernels": panels.kernels,
            "blocks": panels.blocks,
            "pictures": problem.batch,
            "tile_rows": shape.tile_rows,
            "tile_columns": shape.tile_columns,
            "pictures_per_task": shape.pictures,
            "rows_per_task": shape.rows,
            "columns_per_task": shape.columns,
            "picture_blocks": picture_blocks,
            "row_blocks": row_blocks,
            "column_blocks": column_blocks,
            "splits": splits,
            "panels_per_split": per_split,
            **finish_values(problem),
        }
        tasks = problem.groups * picture_blocks * row_blocks * column_blocks * splits
        workers = threads_for(problem, tasks, limit)
        of_x = SOURCES.get(x.dtype, "float")
        source = kernel_module(self.target, self.tile, panels.width, of_x, Finish.of(problem))
        function = compiled(source, self.target, "task")
        return Binding(function, self.fields.block(fields), tasks, workers, room.scratch_bytes * workers, tables, [])
