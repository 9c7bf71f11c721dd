"""Weight gradients: every pixel of the output's gradient times the pixels of the input that it was computed from.

Maths: dL/dK[s, r, p, q] = sum over n, i, j of G[n, s, i, j] X[n, r, i s + p d, j s + q d], for all kernels s and all
*entries* (r, p, q) of a kernel: a product of two matrices whose inner dimension are the pixels of all pictures.

How it runs: a *unit* is a few hundred neighbouring pixels, of one picture or, where pictures are small, of several.
Per unit the rows of X that its pixels read are packed (see `packing`), and G panel by panel; then tile after tile of
entries x kernels keeps its sums in registers over all pixels of the unit, and adds them to a block of sums in memory.
There are three forms of tile:

    "kernels"  6 entries x 2 vectors of kernels: per pixel 6 broadcasts of X and 2 loads of G for 12 multiply-adds;
               G is packed [pixel][kernel]
    "pixels"   vectors of neighbouring pixels, for few kernels per group: depthwise 9 entries x 1 kernel, 10 loads for 9
               multiply-adds of 8 pixels each; the lanes are added up in the end
    "groups"   vectors of neighbouring groups, for depthwise layers of small pictures, whose rows are too short for the
               other form: X and G are packed [pixel][group], 10 loads for 9 multiply-adds of 8 groups each

A task is a range of units (a *partial* sum), a group and a share of its channels. How many there are is decided by the
shape alone, and partial sums are added in the order of their numbers, so the result has the same bits for any number
of threads. Where the sums are small, there are more partials; where they are large, more shares of the channels.

Limits: float32 and float64. The pixels of a few outputs only (less than a vector) waste lanes.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...problem import Problem
from ..descriptor import address_of
from ..emit.target import Target
from ..kernels import ELEMENTS
from ..lattice import lattices, spatial_steps
from .gradient_solution import GradientBinding, GradientSolution, Parts, tasks_wanted
from .packing import block_values
from .refusals import refuses_unless
from .rounding import sum_bound
from .weight_grad_kernels import FIELDS, Tile, compute_function, reduce_function
from .weight_grad_pieces import InPieces, Piece, in_pieces, pieces

NAME = "weight_grad"

Array = NDArray[Any]

PARTIAL_BYTES = 8 << 20
"""Of all partial sums together, at most."""

MOST_SUMS_BYTES = 16 << 20
"""A gradient whose sums take more is computed piece by piece: 32 MiB of workspace are promised."""
MOST_ADDRESSES = 11
"""Entries and kernels of a tile of pixels, each of which has an address in one of 16 registers."""
MOST_COLUMNS = 32
"""Output columns from which rows are long enough for vectors of pixels."""


class Cut(NamedTuple):
    """How a problem falls into units and tasks: a function of its shape and the processor's caches only."""

    tile: Tile
    pictures: int
    rows: int
    bands: int
    partials: int
    shares: int
    share_channels: int

    @classmethod
    def of(cls, problem: Problem, target: Target) -> "Cut":
        """Units that stay in the first-level cache, blocks in the second."""
        tile = tile_of(problem, target)
        depth, rows, columns = lattices(problem)
        channels, groups, kernels = problem.in_channels // problem.groups, *_groups(problem, tile)
        # Half of the first-level cache for a panel of G; kernels one by one leave more room.
        panel = tile.kernels * problem.itemsize
        pixels = max(min(target.l1_bytes // 2 // panel, 1024), 64)
        band = min(max(pixels // columns.outputs, 1), rows.outputs)
        if tile.form == "groups":
            band = rows.outputs
        bands = -(-rows.outputs // band)
        band = -(-rows.outputs // bands)
        pictures = 1
        if bands == 1:
            pictures = min(max(pixels // (rows.outputs * columns.outputs), 1), problem.batch)
        row_bytes = (
            depth.taps * _block_rows(problem, tile, band) * _pitch(problem, tile, target) * problem.itemsize * pictures
        )
        fit = max(target.l2_bytes * 3 // 8 // row_bytes, 1)
        units = -(-problem.batch // pictures) * depth.outputs * bands
        shares = -(-channels // fit)
        wanted = tasks_wanted(problem)
        area = math.prod(problem.weight_shape[1:]) * kernels * problem.itemsize
        area *= target.lanes(problem.itemsize) if tile.by_pixels else 1
        most = max(min(PARTIAL_BYTES // (area * groups), units), 1)
        partials = min(-(-wanted // (groups * shares)), most)
        # Shares pack G again, which costs as much as one tile of entries.
        several = max(channels * math.prod(problem.weight_shape[2:]) // (8 * tile.entries), 1)
        shares = max(shares, min(-(-wanted // (groups * partials)), several))
        share_channels = -(-channels // shares)
        return cls(tile, pictures, band, bands, partials, -(-channels // share_channels), share_channels)


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only weight gradients in floating point, with compiled code."""
    return refuses_unless("weight_grad", problem, target)


@lru_cache(maxsize=1024)
def tile_of(problem: Problem, target: Target) -> Tile:
    """The tile with the fewest cycles per pixel."""
    lanes = target.lanes(problem.itemsize)
    channels, kernels = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    entries = channels * math.prod(problem.weight_shape[2:])
    columns = lattices(problem)[2].outputs
    wide = target.registers >= 32
    # More entries than 8 would fit the vector registers, but not their addresses the others: 12 x 2 takes three times
    # as long as 6 x 2. One vector of kernels leaves room for long units, where so many sums keep the processor busy.
    # Fewer where that leaves fewer over: 25 entries of a single channel are 5 x 5.
    sizes = [(e, v) for v in (1, 2) for e in range(8, 3, -1)] if wide else [(e, 2) for e in range(6, 2, -1)]
    candidates = [Tile("kernels", e, v * lanes) for e, v in sizes]
    budget = 26 if wide else 13
    candidates += [
        Tile("pixels", e, k)
        for k in range(1, min(kernels, 4) + 1)
        for e in range(1, min(entries, MOST_ADDRESSES - k) + 1)
        if e * k <= budget
    ]

    if channels == kernels == 1 and problem.groups >= lanes and _small(problem, target):
        tiles = -(-entries // budget)
        return Tile("groups", -(-entries // tiles), lanes)

    def cycles(tile: Tile) -> float:
        vectors = tile.kernels if tile.by_pixels else tile.kernels // lanes
        tiles = -(-entries // tile.entries) * -(-kernels // tile.kernels)
        loads = tile.entries + vectors + 1
        per_tile = max(tile.entries * vectors / 2 * target.passes, loads / 2, 4.0)
        if tile.by_pixels:
            used = columns / (-(-columns // lanes) * lanes) * lanes
            return (tiles * (1.2 * per_tile + 0.5) + kernels) / used
        return tiles * (per_tile + 0.3) + -(-kernels // tile.kernels) * tile.kernels * 0.7

    return min(candidates, key=cycles)


def _cycles(problem: Problem, target: Target) -> float:
    cut = Cut.of(problem, target)
    lanes = target.lanes(problem.itemsize)
    tile = cut.tile
    groups, kernels = _groups(problem, tile)
    entries = cut.share_channels * math.prod(problem.weight_shape[2:])
    vectors = tile.kernels if tile.by_pixels else tile.kernels // lanes
    tiles = -(-entries // tile.entries) * -(-kernels // tile.kernels) * cut.shares * groups
    pixels = math.prod(problem.output_shape) // problem.out_channels
    per_pixel = tiles * max(tile.entries * vectors / 2, (tile.entries + vectors + 1) / 2, 4.0)
    if tile.by_pixels:
        columns = lattices(problem)[2].outputs
        per_pixel *= -(-columns // lanes) / columns
    return pixels * per_pixel * target.passes + math.prod(problem.output_shape) * 0.7 * cut.shares


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: the tiles' cycles, and packing both operands; or the time in which memory moves them."""
    assert target is not None
    # Of channels that lie side by side the block takes them one by one: measured, 96 channels 56x56 4 cycles each.
    alone = problem.channels_last and problem.in_channels > 1 and Cut.of(problem, target).tile.form != "groups"
    cycles = _cycles(problem, target) + math.prod(problem.input_shape) * (4 if alone else 0.7)
    return 8e-6 + max(cycles / 3e9 / min(target.cores, 2), target.moving(problem.bytes_moved))


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: the partial sums, and a block of X and one of G per thread."""
    assert target is not None
    largest = 0
    for _, _, part in _pieces(problem, target):
        sizes = _Sizes(part, target)
        largest = max(largest, sizes.sums_bytes + target.cores * sizes.scratch_bytes)
    return largest


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||g|, which is formed unit by unit: fewer roundings per product than one chain has."""
    return sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "WeightGradient | InPieces":
    """The solution of `problem`."""
    assert target is not None
    return in_pieces(_pieces(problem, target), lambda part: WeightGradient(part, target))


def _pieces(problem: Problem, target: Target) -> list[Piece]:
    return pieces(problem, _Sizes(problem, target).sums_bytes, MOST_SUMS_BYTES)


def _groups(problem: Problem, tile: Tile) -> tuple[int, int]:
    """Groups and kernels per group as tasks see them: in the form "groups", a vector of groups is one with as many."""
    if tile.form == "groups":
        return -(-problem.groups // tile.kernels), tile.kernels
    return problem.groups, problem.out_channels // problem.groups


def _small(problem: Problem, target: Target) -> bool:
    """Whether a picture's X and G, a vector of groups wide, take no more than half of the second-level cache."""
    _, rows, columns = lattices(problem)
    if problem.spatial == 3 or problem.border != "constant" or rows.step > 1 or columns.step > 1:
        return False
    pixels = rows.outputs * columns.outputs + rows.axis.padded * columns.axis.padded
    return columns.outputs <= MOST_COLUMNS and pixels * target.vector_bytes <= target.l2_bytes // 2


def _block_rows(problem: Problem, tile: Tile, band: int) -> int:
    """Rows of X's block for a band of output rows: in the form "groups" all rows, whether they are read or not."""
    rows = lattices(problem)[1]
    return rows.axis.padded if tile.form == "groups" else rows.span(band)


def _phases(problem: Problem, tile: Tile) -> int:
    """Columns of the block are sorted by their number modulo this: by pixels, neighbours must lie side by side."""
    return lattices(problem)[2].stride if tile.by_pixels else 1


def _pitch(problem: Problem, tile: Tile, target: Target) -> int:
    columns = lattices(problem)[2]
    if tile.form == "groups":
        return columns.axis.padded * tile.kernels
    if tile.form == "kernels":
        return columns.size
    lanes, phases = target.lanes(problem.itemsize), _phases(problem, tile)
    return -(-columns.span(-(-columns.outputs // lanes) * lanes) // phases) * phases


class _Sizes:
    """Everything about a problem that does not depend on where its arrays lie."""

    def __init__(self, problem: Problem, target: Target) -> None:
        self.cut = cut = Cut.of(problem, target)
        tile = cut.tile
        lanes, itemsize = target.lanes(problem.itemsize), problem.itemsize
        self.depth, self.rows, self.columns = lattices(problem)
        self.taps = math.prod(problem.weight_shape[2:])
        self.entries = cut.share_channels * self.taps
        self.tiles = -(-self.entries // tile.entries)
        self.groups, self.kernels = _groups(problem, tile)
        self.panels = -(-self.kernels // tile.kernels)
        # The reduction goes through entries in steps of a vector.
        self.entry_room = -(-self.tiles * tile.entries // lanes) * lanes
        self.area = self.panels * tile.kernels * self.entry_room * (lanes if tile.by_pixels else 1)
        self.sums_bytes = cut.partials * self.groups * cut.shares * self.area * itemsize
        self.phases, self.pitch = _phases(problem, tile), _pitch(problem, tile, target)
        self.block_rows = _block_rows(problem, tile, cut.rows)
        self.picture_block = cut.share_channels * self.depth.taps * self.block_rows * self.pitch
        # Vectors of pixels may reach past the last row.
        self.block_bytes = -(-(cut.pictures * self.picture_block + 2 * lanes) * itemsize // 64) * 64
        width = -(-self.columns.outputs // lanes) * lanes if tile.by_pixels else self.columns.outputs
        self.g_pitch = width
        self.g_plane = cut.rows * width
        g_bytes = cut.pictures * self.g_plane * tile.kernels * itemsize
        self.scratch_bytes = self.block_bytes + -(-g_bytes // 64) * 64 + 64


class WeightGradient(GradientSolution):
    """Runs one weight gradient; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        self.sizes = sizes = _Sizes(problem, target)
        blocks = sizes.groups * sizes.cut.shares
        parts = Parts(sizes.cut.partials * blocks, blocks * sizes.panels, sizes.scratch_bytes, sizes.sums_bytes)
        super().__init__(problem, target, FIELDS, parts)
        self._tables = self._offsets()

    def _readable_input(self, first: Array) -> Array:
        x = self._readable(first)
        if self.sizes.cut.tile.form == "groups" and x.ndim == 4 and x.strides[2] != x.shape[3] * x.strides[3]:
            x = x.copy()
        return x

    def bind(self, x: Array, g: Array) -> GradientBinding:
        """Tables of where elements of both come from, and all sizes and steps."""
        problem, sizes, cut = self.problem, self.sizes, self.sizes.cut
        depth, rows, columns = sizes.depth, sizes.rows, sizes.columns
        g_steps = spatial_steps(g)
        # Without negative steps x has the lowest address itself.
        packed, tables, _ = block_values(problem, x, cut.share_channels, sizes.block_rows, sizes.pitch, sizes.phases)
        channels = problem.in_channels // problem.groups
        follow = cut.rows == 1 or g_steps[1] == columns.outputs * g_steps[2]
        values: dict[str, int | float] = {
            **packed,
            "block_elements": sizes.picture_block,
            "x_picture": x.strides[0],
            "x_group": x.strides[1] * (cut.tile.kernels if cut.tile.form == "groups" else channels),
            "g_picture": g.strides[0],
            "g_kernel": g.strides[1],
            "g_depth": g_steps[0],
            "g_row": g_steps[1],
            "g_column": g_steps[2],
            "g_rows_follow": int(follow),
            "scratch_bytes": sizes.scratch_bytes,
            "packed_g": sizes.block_bytes,
            **{name: address_of(table) for name, table in self._tables.items()},
            "batch": problem.batch,
            "groups": sizes.groups,
            "shares": cut.shares,
            "share_channels": cut.share_channels,
            "all_channels": channels,
            "all_kernels": problem.out_channels,
            "taps": sizes.taps,
            "entries": sizes.entries,
            "tiles": sizes.tiles,
            "panels": sizes.panels,
            "kernels": sizes.kernels,
            "area": sizes.area,
            "partials": cut.partials,
            "units": -(-problem.batch // cut.pictures) * depth.outputs * cut.bands,
            "pictures": cut.pictures,
            "picture_block": sizes.picture_block,
            "depths": depth.outputs,
            "depth_stride": depth.stride,
            "bands": cut.bands,
            "rows_per_band": cut.rows,
            "out_rows": rows.outputs,
            "out_columns": columns.outputs,
            "row_stride": rows.stride,
            "row_rest": rows.span(1) - rows.stride,
            "g_pitch": sizes.g_pitch,
            "g_plane": sizes.g_plane,
            "x_pixels": rows.axis.input * columns.axis.input,
        }
        element, tail = ELEMENTS[problem.dtype], 0
        if cut.tile.by_pixels:
            tail = columns.outputs % self.target.lanes(problem.itemsize)
        function = compute_function(self.target, element, cut.tile, sizes.phases, tail)
        reduce = reduce_function(self.target, element, cut.tile)
        return GradientBinding(FIELDS.block(values), tables, function, reduce)

    def _offsets(self) -> dict[str, Array]:
        """Where entries and pixels lie in the block, as byte offsets."""
        problem, sizes, cut = self.problem, self.sizes, self.sizes.cut
        depth, rows, columns = sizes.depth, sizes.rows, sizes.columns
        lanes, itemsize = self.target.lanes(problem.itemsize), problem.itemsize
        place = np.arange(columns.taps) * columns.dilation
        q = place % sizes.phases * (sizes.pitch // sizes.phases) + place // sizes.phases
        r = np.arange(rows.taps) * rows.dilation * sizes.pitch
        d = np.arange(cut.share_channels * depth.taps) * sizes.block_rows * sizes.pitch
        entries = (d[:, np.newaxis, np.newaxis] + r[:, np.newaxis] + q).ravel()
        entries = np.resize(entries, sizes.tiles * cut.tile.entries) * itemsize
        entries[sizes.entries :] = entries[sizes.entries - 1]
        lines = np.arange(cut.rows)[:, np.newaxis] * (rows.stride * sizes.pitch)
        if cut.tile.form == "groups":
            vector = cut.tile.kernels * itemsize
            q = np.arange(columns.taps) * columns.dilation * cut.tile.kernels
            entries = np.resize((r[:, np.newaxis] + q).ravel(), sizes.tiles * cut.tile.entries) * itemsize
            entries[sizes.entries :] = entries[sizes.entries - 1]
            pixels = lines * itemsize + np.arange(columns.outputs) * columns.stride * vector
            across = np.arange(columns.axis.before, columns.axis.before + columns.axis.input) * vector
            down = np.arange(rows.axis.before, rows.axis.before + rows.axis.input) * sizes.pitch * itemsize
            return {
                "entry_table": entries.astype(np.int64),
                "pixel_table": pixels.ravel().astype(np.int64),
                "x_places": (down[:, np.newaxis] + across).ravel().astype(np.int64),
            }
        if not cut.tile.by_pixels:
            pixels = (lines + np.arange(columns.outputs) * columns.stride) * itemsize
            return {"entry_table": entries.astype(np.int64), "pixel_table": pixels.ravel().astype(np.int64)}
        vectors = np.arange(-(-columns.outputs // lanes)) * lanes
        g = np.arange(cut.rows)[:, np.newaxis] * sizes.g_pitch + vectors
        pairs = np.stack([(lines + vectors) * itemsize, g * itemsize], axis=-1)
        whole = columns.outputs // lanes
        return {
            "entry_table": entries.astype(np.int64),
            "pixel_table": np.ascontiguousarray(pairs[:, :whole]).astype(np.int64).ravel(),
            "tail_table": np.ascontiguousarray(pairs[:, whole:]).astype(np.int64).ravel(),
        }
