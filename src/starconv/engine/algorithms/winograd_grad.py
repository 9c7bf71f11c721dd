"""Weight gradients of 3x3 and 5x5 kernels with 1/4 and 9/25 of the multiplications, float32: Winograd's tiles, summed.

Maths: a tile of outputs, 4 x 4 for 3x3 kernels and 2 x 2 for 5x5, is Y = A^T [U * V] A with U = G g G^T and
V = B^T d B (see `winograd_transforms`), linear in g. Its transpose takes the tile's gradient dY to that of g; what is
summed over tiles is summed at the 36 positions:

    dg = G^T [sum over tiles of (A dY A^T) * (B^T d B)] G,          36 products per tile instead of 9 x 16 or 25 x 4

At each position that is a product of matrices whose inner dimension are the tiles: [channels x tiles] [tiles x
kernels].

How it runs: a unit is a few dozen tiles, of one picture or several. Its rows of X and of G are packed 16 channels at a
time and transformed to [position][tile][channel], which stays in the second-level cache; then 8 channels x 1 vector of
kernels keep their sums in registers over all tiles of the unit and are added to those in memory. A task is a range of
units, a *partial* sum. How many there are is decided by the shape alone, and partial sums are added in the order of
their numbers, so the result has the same bits for any number of threads. Per tile, in vector operations:

    products 36 C K / lanes       packing and transforms about (36 x 6 C + 36 x 5 K) / lanes

so at C = K = 16 it takes half of what `weight_grad` does, at 64 a third.

Limits: the sums take 144 C K bytes per partial; where two are too large, some kernels are computed after the others, as
`weight_grad_pieces` has it. A NaN or an infinity spreads over all weights of a kernel. The error bound is a multiple of
the plain sum's, as for `winograd`.
"""

import ctypes
import math
from dataclasses import asdict, dataclass

import numpy as np

from ...problem import Problem
from ..descriptor import address_of
from ..emit.target import Target
from ..lattice import lattices
from .gradient_solution import GradientBinding, GradientSolution, Parts
from .panels import Array
from .rounding import sum_bound
from .weight_grad_pieces import InPieces, Piece, pieces
from .winograd_grad_kernels import ENTRIES, FIELDS, compute_function, reduce_function
from .winograd_tiles import CHANNELS, Room
from .winograd_tiles import FIELDS as TILE_FIELDS
from .winograd_transforms import F2_5, F4_3, Transform

NAME = "winograd_grad"

TILES = {3: F4_3, 5: F2_5}
"""By the size of the kernel."""
POSITIONS = F4_3.n**2
"""Of both."""
LEAST = 8
"""Channels and kernels per group, as for `winograd`."""
PARTIALS = 16
"""At most, whatever the number of threads; half as many where that is enough for every task to be worth its start."""
PARTIAL_BYTES = 10 << 20
"""Of all partial sums together, at most."""
TASK_PRODUCTS = 1 << 19


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only what the transforms are made for, where its sums are small enough."""
    if target is None:
        return "no compiled code on this machine"
    if problem.operation != "weight_grad":
        return "it computes weight gradients"
    if problem.dtype != "float32":
        return f"its error is known for float32, not {problem.dtype}"
    if problem.precision == "strict":
        return "its rounding errors are larger than the plain sum's, which precision=strict asks for"
    if [axis.kernel for axis in problem.axes] not in ([3, 3], [5, 5]):
        return "its transforms are for 3x3 and 5x5 kernels"
    if any(axis.stride != 1 or axis.dilation != 1 for axis in problem.axes):
        return "neighbouring outputs share products only with stride 1 and dilation 1"
    if math.prod(problem.output_shape) == 0 or math.prod(problem.input_shape) == 0:
        return "there is nothing to compute"
    if min(problem.in_channels, problem.out_channels) // problem.groups < LEAST:
        return f"with fewer than {LEAST} channels or kernels per group its transforms cost more than they save"
    return None


def _tile(problem: Problem) -> Transform:
    return TILES[problem.axes[-1].kernel]


def _pieces(problem: Problem, target: Target) -> list[Piece]:
    return pieces(problem, 2 * problem.groups * Cut.of(problem, target).sums_bytes, PARTIAL_BYTES)


@dataclass(frozen=True, slots=True)
class Cut:
    """How a problem falls into units and tasks: a function of its shape and the processor's caches only."""

    tile_rows: int
    tile_columns: int
    pictures: int
    rows: int
    row_blocks: int
    units: int
    partials: int
    padded_channels: int
    padded_kernels: int

    @classmethod
    def of(cls, problem: Problem, target: Target) -> "Cut":
        """Units whose transformed tiles fill a third of the second-level cache."""
        channels, kernels = (count // problem.groups for count in (problem.in_channels, problem.out_channels))
        rows, columns = (-(-axis.output // _tile(problem).m) for axis in problem.axes)
        fit = max(target.l2_bytes * 3 // 8 // (4 * POSITIONS * (channels + kernels)), 8)
        per_unit = min(max(fit // columns, 1), rows)
        row_blocks = -(-rows // per_unit)
        per_unit = -(-rows // row_blocks)
        pictures = min(max(fit // (rows * columns), 1), problem.batch) if row_blocks == 1 else 1
        units = -(-problem.batch // pictures) * row_blocks
        lanes = target.lanes(4)
        padded_channels, padded_kernels = (-(-n // size) * size for n, size in ((channels, ENTRIES), (kernels, lanes)))
        room = PARTIAL_BYTES // (4 * POSITIONS * padded_channels * padded_kernels * problem.groups)
        wanted = min(problem.multiply_adds // (TASK_PRODUCTS * problem.groups), PARTIALS)
        partials = max(min(wanted, room, units), 1)
        partials -= partials % 2 if partials > 1 else 0  # two threads have as much to do
        return cls(rows, columns, pictures, per_unit, row_blocks, units, partials, padded_channels, padded_kernels)

    @property
    def tiles(self) -> int:
        """Of a unit."""
        return self.pictures * self.rows * self.tile_columns

    @property
    def sums_bytes(self) -> int:
        """Of a partial sum."""
        return 4 * POSITIONS * self.padded_channels * self.padded_kernels


def _room(problem: Problem, cut: Cut) -> Room:
    channels, kernels = (count // problem.groups for count in (problem.in_channels, problem.out_channels))
    padded = -(-kernels // CHANNELS) * CHANNELS  # as many as are packed at a time
    return Room.of(_tile(problem), cut.rows, cut.tile_columns, cut.pictures, channels, padded)


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: packing, transforms and products of all tiles, adding to the sums, and reducing them."""
    assert target is not None
    return sum(_seconds(part, target) for _, _, part in _pieces(problem, target))


def _seconds(problem: Problem, target: Target) -> float:
    cut, lanes = Cut.of(problem, target), target.lanes(4)
    channels, kernels = cut.padded_channels, cut.padded_kernels
    tiles = problem.batch * cut.tile_rows * cut.tile_columns
    each = POSITIONS * (channels * 6.5 + kernels * 5.5 + channels * kernels / 2 * 1.1) / lanes
    each += POSITIONS * channels * kernels / lanes * 2 / cut.tiles
    reducing = cut.partials * cut.sums_bytes / 24 + channels * kernels * 12
    cycles = problem.groups * (tiles * each * target.passes + reducing)
    threads = min(target.cores, 2, problem.groups * cut.partials)
    return 10e-6 + max(cycles / 3e9 / threads, problem.bytes_moved / 12e9)


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: the partial sums, and a unit's tiles per thread."""
    assert target is not None
    largest = 0
    for _, _, part in _pieces(problem, target):
        cut = Cut.of(part, target)
        largest = max(
            largest, part.groups * cut.partials * cut.sums_bytes + target.cores * _room(part, cut).scratch_bytes
        )
    return largest


def error_bound(problem: Problem) -> float:
    """16 times that of the plain sum, as `winograd` declares it."""
    return 16 * sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "WinogradGradient | InPieces":
    """The solution of `problem`."""
    assert target is not None
    cut = _pieces(problem, target)
    if len(cut) == 1:
        return WinogradGradient(problem, target)
    return InPieces(cut, lambda part: WinogradGradient(part, target))


class WinogradGradient(GradientSolution):
    """Runs one weight gradient; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        self.cut = cut = Cut.of(problem, target)
        self.room = _room(problem, cut)
        tasks = problem.groups * cut.partials
        parts = Parts(tasks, problem.in_channels, self.room.scratch_bytes, tasks * cut.sums_bytes)
        super().__init__(problem, target, FIELDS, parts)

    def bind(self, x: Array, g: Array) -> GradientBinding:
        """Tables of where elements of both come from, and all sizes and steps."""
        problem, cut, room = self.problem, self.cut, self.room
        _, rows, columns = lattices(problem)
        channels, kernels = (count // problem.groups for count in (problem.in_channels, problem.out_channels))
        tile, tiles = _tile(problem), (cut.tile_rows, cut.tile_columns)
        x_tables = [
            _table(axis.sources(problem.border), step, count * tile.m + tile.taps - 1)
            for axis, step, count in zip((rows, columns), x.strides[2:], tiles, strict=True)
        ]
        g_tables = [
            _table(np.arange(axis.outputs), step, count * tile.m)
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
            **asdict(room),
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
            "partials": cut.partials,
            "units": cut.units,
        }
        kept = (*x_tables, *g_tables, of_g)
        functions = compute_function(self.target, tile), reduce_function(self.target, tile)
        return GradientBinding(FIELDS.block(fields), kept, *functions)


def _table(sources: Array, step: int, length: int) -> Array:
    """Byte offsets of `length` elements of a padded axis; -1 for padding, and past the end."""
    table = np.full(length, -1, np.int64)
    table[: len(sources)] = np.where(sources >= 0, sources * step, -1)
    return table
