"""Weight gradients of 3x3 and 5x5 kernels with 1/4 and 9/25 of the multiplications, float32: Winograd's tiles, summed.

Maths: a tile of outputs, 4 x 4 for 3x3 kernels and 2 x 2 for 5x5, is Y = A^T [U * V] A with U = G g G^T and
V = B^T d B (see `winograd_transforms`), linear in g. Its transpose takes the tile's gradient dY to that of g; what is
summed over tiles is summed at the 36 positions:

    dg = G^T [sum over tiles of (A dY A^T) * (B^T d B)] G,          36 products per tile instead of 9 x 16 or 25 x 4

At each position that is a product of matrices whose inner dimension are the tiles: [channels x tiles] [tiles x
kernels].

How it runs: X and G are packed 16 channels at a time and transformed to [position][tile][channel], unit by unit of a
few dozen tiles; then 6 channels x 2 vectors of kernels (8 x 1 with 32 registers) keep their sums in registers over all
tiles of a *chunk*. There are two ways, and the size of the sums decides:

    apart      few sums: a task is a range of chunks, whose tiles stay in the second-level cache, with a partial sum
    together   many sums: a chunk's units are the tasks of one job, its positions those of the next. Tiles go through
               the third-level cache, but sums are written once per chunk and there is one of each; 16 partial sums of
               64 x 64 kernels would take 9.4 MB

How many chunks and partial sums there are is decided by the shape alone, and they are added in their order, so the
result has the same bits for any number of threads. Per tile, in vector operations:

    products 36 C K / lanes       packing and transforms about (36 x 6 C + 36 x 5 K) / lanes

so at C = K = 16 it takes half of what `weight_grad` does, at 64 a third.

Limits: the sums take 144 C K bytes; where that is too much, some kernels are computed after the others, as
`weight_grad_pieces` has it. A NaN or an infinity spreads over all weights of a kernel. The error bound is a multiple of
the plain sum's, as for `winograd`.
"""

import ctypes
from typing import Any, NamedTuple

import numpy as np

from ...problem import Problem
from ..descriptor import address_of
from ..emit.target import Target
from ..lattice import lattices, offset_table
from .gradient_solution import GradientBinding, GradientSolution, Parts, Stage, tasks_wanted
from .panels import Array
from .refusals import refuses_winograd
from .rounding import sum_bound
from .weight_grad_pieces import InPieces, Piece, in_pieces, pieces
from .winograd_grad_kernels import (
    FIELDS,
    apart_function,
    products_function,
    reduce_function,
    sum_tile,
    transform_function,
)
from .winograd_tiles import CHANNELS, odd_lines
from .winograd_tiles import FIELDS as TILE_FIELDS
from .winograd_transforms import F2_5, F4_3, Transform, span

NAME = "winograd_grad"

TILES = {3: F4_3, 5: F2_5}
"""By the size of the kernel."""
POSITIONS = F4_3.n**2
"""Of both."""
SUMS_BYTES = 20 << 20
"""At most: 32 MiB of workspace are promised."""
TASK_PRODUCTS = 1 << 19
"""Multiply-adds per task, at least, of the definition: of them a task does a quarter or so, and its transforms."""
UNIT_TILES = 24
"""Of a unit, about: enough for a task to be worth its start, and for the threads to end together."""


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only what the transforms are made for, where its sums are small enough."""
    return refuses_winograd("weight_grad", problem, target, tuple(TILES))


def _tile(problem: Problem) -> Transform:
    return TILES[problem.axes[-1].kernel]


def _pieces(problem: Problem, target: Target) -> list[Piece]:
    return pieces(problem, problem.groups * Cut.of(problem, target).sums_bytes, SUMS_BYTES)


class Cut(NamedTuple):
    """How a problem falls into units and chunks: a function of its shape and the processor's caches only."""

    tile_rows: int
    tile_columns: int
    pictures: int
    rows: int
    row_blocks: int
    units: int
    chunk: int
    partials: int
    value_tile: int
    product_tile: int
    padded_channels: int
    padded_kernels: int
    apart: bool

    @classmethod
    def of(cls, problem: Problem, target: Target) -> "Cut":
        """Chunks whose tiles fit into the second-level cache: apart all of them, together those of one position."""
        channels, kernels = (count // problem.groups for count in (problem.in_channels, problem.out_channels))
        rows, columns = (-(-axis.output // _tile(problem).m) for axis in problem.axes)
        per_unit = min(max(UNIT_TILES // columns, 1), rows)
        row_blocks = -(-rows // per_unit)
        per_unit = -(-rows // row_blocks)
        pictures = min(max(UNIT_TILES // (rows * columns), 1), problem.batch) if row_blocks == 1 else 1
        units = -(-problem.batch // pictures) * row_blocks
        form, lanes = sum_tile(target), target.lanes(4)
        sizes = (channels, form.channels), (kernels, form.vectors * lanes)
        wide, high = (-(-count // size) * size for count, size in sizes)
        apart = 4 * POSITIONS * wide * high <= target.l2_bytes // 4
        # A line more per tile, so that those of 1024 channels share no set of the cache.
        value_tile, product_tile = (-(-count // CHANNELS) * CHANNELS + CHANNELS for count in (channels, kernels))
        room = target.l2_bytes * 3 // 8 // POSITIONS if apart else target.l2_bytes // 4
        fit = max(room // (4 * (value_tile + product_tile)), 8) // (pictures * per_unit * columns)
        chunks = -(-units // max(fit, 1))
        chunk = -(-units // chunks)
        partials = 1
        if apart:
            partials = min(tasks_wanted(problem, TASK_PRODUCTS * problem.groups), chunks)
            partials -= partials % 2 if partials > 1 else 0  # two threads have as much to do
        return cls(
            tile_rows=rows,
            tile_columns=columns,
            pictures=pictures,
            rows=per_unit,
            row_blocks=row_blocks,
            units=units,
            chunk=chunk,
            partials=partials,
            value_tile=value_tile,
            product_tile=product_tile,
            padded_channels=wide,
            padded_kernels=high,
            apart=apart,
        )

    @property
    def tiles(self) -> int:
        """Of a chunk, at most."""
        return self.chunk * self.pictures * self.rows * self.tile_columns

    @property
    def sums_bytes(self) -> int:
        """Of a group, all partial ones."""
        return 4 * POSITIONS * self.padded_channels * self.padded_kernels * self.partials

    @property
    def value_position(self) -> int:
        """Elements from one position to the next, of transformed X."""
        return odd_lines(self.tiles * self.value_tile)

    @property
    def product_position(self) -> int:
        """The same, of transformed G."""
        return odd_lines(self.tiles * self.product_tile)

    @property
    def tiles_bytes(self) -> int:
        """Of a group's transformed tiles of a chunk."""
        return 4 * POSITIONS * (self.value_position + self.product_position)

    def block_bytes(self, tile: Transform) -> int:
        """Of what is packed at a time."""
        rows, columns = (span(tile, count) for count in (self.rows, self.tile_columns))
        return 4 * rows * columns * CHANNELS

    def own_bytes(self, tile: Transform) -> int:
        """Of a thread's scratch memory."""
        return self.block_bytes(tile) + (self.tiles_bytes if self.apart else 0)

    def shared_bytes(self, groups: int) -> int:
        """Of what all threads share."""
        return groups * (self.sums_bytes + (0 if self.apart else self.tiles_bytes))

    def first_tile(self, unit: int) -> int:
        """The number of a unit's first tile."""
        return (unit // self.row_blocks * self.pictures * self.tile_rows + unit % self.row_blocks * self.rows) * (
            self.tile_columns
        )


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: packing, transforms and products of all tiles, and what goes through the third-level cache."""
    assert target is not None
    return sum(_seconds(part, target) for _, _, part in _pieces(problem, target))


def _seconds(problem: Problem, target: Target) -> float:
    cut, lanes, form = Cut.of(problem, target), target.lanes(4), sum_tile(target)
    channels, kernels = cut.padded_channels, cut.padded_kernels
    tiles = problem.batch * cut.tile_rows * cut.tile_columns
    # Two multiply-adds per cycle, or two loads.
    product = max(form.channels * form.vectors, form.channels + form.vectors) / 2
    products = channels * kernels / (form.channels * form.vectors * lanes) * product * 1.05
    # With 16 lanes, what a transform does besides arithmetic weighs half as much again.
    transforms = POSITIONS * (channels * 6.5 + kernels * 5.5) / lanes
    transforms *= 1.5 if lanes == 16 and target.passes == 1 else 1
    # Fewer channels than fill a vector: measured, 64 pictures of 8 channels take 0.30 ms where 0.18 are counted.
    transforms *= 2 if problem.in_channels // problem.groups < lanes else 1
    each = transforms + POSITIONS * products
    through = 0.0 if cut.apart else POSITIONS * 4 * (cut.value_tile + cut.product_tile) * 2 / 32
    chunks = -(-cut.units // cut.chunk)
    # Many sums go out of the cache and come back: measured, at 36 GB/s.
    rate = 32 if problem.groups * cut.sums_bytes <= target.l3_bytes // 4 else 6
    summing = (2 * chunks / cut.partials + 1) * cut.sums_bytes / rate + channels * kernels * 12
    cycles = problem.groups * (tiles * (each * target.passes + through) + summing)
    jobs = 1 if cut.apart else 2 * chunks
    return (10 + jobs) * 1e-6 + max(cycles / 3e9 / min(target.cores, 2), target.moving(problem.bytes_moved))


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: the sums, a chunk's tiles, and what each thread packs."""
    assert target is not None
    largest = 0
    for _, _, part in _pieces(problem, target):
        cut = Cut.of(part, target)
        largest = max(largest, cut.shared_bytes(part.groups) + target.cores * cut.own_bytes(_tile(part)))
    return largest


def error_bound(problem: Problem) -> float:
    """16 times that of the plain sum, as `winograd` declares it."""
    return 16 * sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "WinogradGradient | InPieces":
    """The solution of `problem`."""
    assert target is not None
    return in_pieces(_pieces(problem, target), lambda part: WinogradGradient(part, target))


class WinogradGradient(GradientSolution):
    """Runs one weight gradient; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        self.cut = cut = Cut.of(problem, target)
        tasks = problem.groups * (cut.partials if cut.apart else max(POSITIONS, cut.chunk))
        own, shared = cut.own_bytes(_tile(problem)), cut.shared_bytes(problem.groups)
        super().__init__(problem, target, FIELDS, Parts(tasks, problem.in_channels, own, shared))

    def shared_places(self) -> tuple[tuple[str, int], ...]:
        """Sums, then tiles."""
        return ("sums", 0), ("tiles", self.problem.groups * self.cut.sums_bytes)

    def stages(self, binding: GradientBinding, block: Any) -> list[Stage]:
        """Every chunk transformed and summed up, then the sums transformed back."""
        cut, groups, stages = self.cut, self.problem.groups, []
        if cut.apart:
            return super().stages(binding, block)
        products = products_function(self.target)
        for first in range(0, cut.units, cut.chunk):
            own, units = self.fields.copy(block), min(cut.chunk, cut.units - first)
            stop = min(cut.first_tile(first + units), self.problem.batch * cut.tile_rows * cut.tile_columns)
            values = {
                "first_unit": first,
                "units": units,
                "first_tile": cut.first_tile(first),
                "chunk_tiles": stop - cut.first_tile(first),
                "adds": int(first > 0),
            }
            for name, value in values.items():
                own[self.fields.index[name]] = value
            stages += [Stage(binding.compute, own, groups * units), Stage(products, own, groups * POSITIONS)]
        return [*stages, Stage(binding.reduce, block, self.parts.reductions)]

    def bind(self, x: Array, g: Array) -> GradientBinding:
        """Tables of where elements of both come from, and all sizes and steps."""
        problem, cut = self.problem, self.cut
        _, rows, columns = lattices(problem)
        channels, kernels = (count // problem.groups for count in (problem.in_channels, problem.out_channels))
        tile, tiles = _tile(problem), (cut.tile_rows, cut.tile_columns)
        x_tables = [
            axis.offsets(problem.border, step, span(tile, count))
            for axis, step, count in zip((rows, columns), x.strides[2:], tiles, strict=True)
        ]
        g_tables = [
            offset_table(np.arange(axis.outputs), step, count * tile.m)
            for axis, step, count in zip((rows, columns), g.strides[2:], tiles, strict=True)
        ]
        left, right = columns.inside()
        of_g = TILE_FIELDS.block(
            {
                "x_channel": g.strides[1],
                "x_column": g.strides[3],
                "row_table": address_of(g_tables[0]),
                "column_table": address_of(g_tables[1]),
                "right": columns.outputs,
            }
        )
        fields: dict[str, int | float] = {
            "x_batch": x.strides[0],
            "x_group": x.strides[1] * channels,
            "x_channel": x.strides[1],
            "x_column": x.strides[3],
            "row_table": address_of(x_tables[0]),
            "column_table": address_of(x_tables[1]),
            "left": left,
            "right": right,
            "scratch_bytes": self.parts.scratch_bytes,
            "values": cut.block_bytes(tile),
            "products": cut.block_bytes(tile) + 4 * POSITIONS * cut.value_position,
            "chunk": cut.chunk,
            "chunks": -(-cut.units // cut.chunk),
            "units": cut.units,
            "chunk_tiles": problem.batch * cut.tile_rows * cut.tile_columns,
            "partials": cut.partials,
            "value_tile": cut.value_tile,
            "value_position": cut.value_position,
            "product_tile": cut.product_tile,
            "product_position": cut.product_position,
            "g_tiles": problem.groups * POSITIONS * cut.value_position,
            "channels": channels,
            "kernels": kernels,
            "pictures": problem.batch,
            "tile_rows": cut.tile_rows,
            "tile_columns": cut.tile_columns,
            "pictures_per_task": cut.pictures,
            "rows_per_task": cut.rows,
            "row_blocks": cut.row_blocks,
            "g_batch": g.strides[0],
            "g_group": g.strides[1] * kernels,
            "g_kernel": g.strides[1],
            "g_fields": ctypes.addressof(of_g),
            "padded_channels": cut.padded_channels,
            "padded_kernels": cut.padded_kernels,
        }
        kept = (*x_tables, *g_tables, of_g)
        compute = apart_function if cut.apart else transform_function
        functions = compute(self.target, tile), reduce_function(self.target, tile)
        return GradientBinding(FIELDS.block(fields), kept, *functions)
