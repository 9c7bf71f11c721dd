"""Kernels of one channel on channels-first data, read where it lies: vectors of neighbouring pixels of one plane.

Maths: the definition with one channel per group, as a chain of fused multiply-adds in the order row, column, as
`direct` and `stencil` have it, so all give the same bits.

How it runs: nothing is packed. What lies beside a row, to its left, its right, above and below, is masked out of the
loads, so padding costs nothing, and a row that is shorter than a vector wastes lanes but no memory. A tile is up to 8
output rows of a vector of columns. It goes through the input rows that it reads, of which every vector is loaded once
per column of the kernel and serves all output rows that it is a tap of; the kernel's weights stay in registers:

    3x3, 7 rows: (7 + 2) x 3 = 27 loads for 63 multiply-adds and 7 stores

The first and last rows of a tile serve few outputs, and loads are then more than multiply-adds. Where planes are tall
and wide enough, columns whose taps are all inside a row are computed by *streams* instead: down some 40 rows, with as
many output rows under way as the kernel has, so that each row but those at the ends serves as many. No load is masked:

    7x7: 7 loads for 49 multiply-adds and a store (in a tile of 8 rows: 98 for 392 and 8)

A task is some planes, or a band of one where there are few. A stream is as high as its band.

With a stride of 2, vectors of every second column are picked from pairs of loads, 4 loads and 3 shuffles per row; or
from a single one, where all that a row reads fits a vector.

Limits: float32 and float64, kernels of one channel, up to two axes, strides of 1 and 2, padding other than constant for
streams only, and masked loads, which of the targets only AVX-512 has.
"""

import math

import numpy as np

from ...geometry import Axis, border_sources
from ...problem import Problem
from ..emit.target import Target
from ..kernels import ELEMENTS, compiled
from ..lattice import spatial_steps
from .blocks import threads_for
from .finish import Finish, finish_values
from .packed import Array, Binding, CompiledSolution
from .panels import KernelRows, readable
from .planes_kernels import FIELDS, Tile, planes_module
from .refusals import refuses_volumes
from .rounding import sum_bound
from .tiles import refuses_forward

NAME = "planes"

MOST_TAPS = 49
"""Of a kernel: all are written out."""
MOST_SUMS = 24
"""Of a stream, on 32 registers."""
WHOLE_BYTES = 64
"""Of AVX-512's vectors; half of them may serve streams."""
TASK_PRODUCTS = 1 << 17
"""Multiply-adds that are worth a task's start: some 5 µs."""


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only kernels of one channel, forward, in floating point, channels first, with AVX-512."""
    refusal = refuses_forward(problem, target) or refuses_volumes(problem)
    if refusal is not None or target is None:
        return refusal
    if problem.groups != problem.in_channels:
        return f"it takes kernels of one channel, not {problem.in_channels // problem.groups}"
    if problem.channels_last and max(problem.in_channels, problem.out_channels) > 1:
        return "it runs along pixels that lie side by side, not channels_last"
    if target.name != "avx512":
        return "it masks what lies beside a row, which takes AVX-512"
    if any(axis.stride > 2 for axis in problem.axes):
        return "it takes strides of 1 and 2"
    if problem.axes[-1].stride > 1 and problem.axes[-1].dilation > 1:
        return "with a stride it takes no dilation"
    if math.prod(axis.kernel for axis in problem.axes) > MOST_TAPS:
        return f"it writes out at most {MOST_TAPS} taps"
    if problem.residual:
        return "it adds no residual"
    if problem.border != "constant" and not tile_of(problem, target).stream:
        return f"it masks borders, and has {problem.border} for larger planes only"
    return None


def tile_of(problem: Problem, target: Target, *, separable: bool = False) -> Tile:
    """As many rows as leave the fewest past the end of a plane, and a stream where there is room for one."""
    down, across = _axes(problem)
    reads = (across.output - 1) * across.stride + across.extent
    narrow = across.stride > 1 and reads <= target.lanes(problem.itemsize)
    most = 8 if down.stride == 1 else 4
    rows = min(range(most, 0, -1), key=lambda rows: -(-down.output // rows) * (rows + 1))
    taps, strides = (down.kernel, across.kernel), (down.stride, across.stride)
    dilations = down.dilation, across.dilation
    tile = Tile(rows, taps, strides, dilations, narrow, stream=0, separable=separable)
    if strides != (1, 1) or down.dilation > 1 or down.kernel == 1 or not _cuts(down):
        return tile
    # Between two additions to a sum are 4 cycles, each of one multiply-add or, on whole units, of two. A row of sums of
    # separable kernels is one chain, of which it takes two side by side.
    least = max(-(-4 * (3 - target.passes) // down.kernel), 1 + separable)
    streams = [tile._replace(stream=vectors) for vectors in range(least, MOST_SUMS // down.kernel + 1)]
    if not streams:
        return tile
    streamed = min(streams, key=lambda tile: _strips(problem, tile, target)[0] * tile.stream)
    # What is copied first costs more than masks: 112 columns, 64 of them inside, took 1.14 times as long, 256 0.94.
    inner = _strips(problem, streamed, target)[1] * streamed.stream * target.lanes(problem.itemsize)
    return streamed if inner >= across.output * 2 / 3 else tile


def _inside(problem: Problem, tile: Tile) -> int:
    """The columns of output up to here have all their taps before the end of a row."""
    across = _axes(problem)[1]
    return min(across.input + across.before - tile.reach, across.output)


def goes_past(problem: Problem, target: Target) -> bool:
    """Whether the result is so large that it is better written to memory than read first and kept in caches."""
    return math.prod(problem.result_shape) * problem.itemsize > target.l3_bytes // 2


def _strips(problem: Problem, tile: Tile, target: Target) -> tuple[int, int]:
    """How many streams lie side by side, and how many of them copy no columns of edges first."""
    across, lanes = _axes(problem)[1], target.lanes(problem.itemsize)
    first, wide = -(-across.before // lanes) * lanes, tile.stream * lanes
    inner = max(_inside(problem, tile) - first, 0) // wide
    edges = -(-first // wide) + max(-(-(across.output - first - inner * wide) // wide), 0)
    return inner + edges, inner


def _cuts(down: Axis) -> range:
    """The numbers of bands in which a plane can be cut so that each is m kernel heights and one row less than another.

    Of k of them all m together are (rows - k (height - 1)) / height, so rows + k is a multiple of the height; and at
    least k.
    """
    height = down.kernel
    return range(-down.output % height or height, down.output // (2 * height - 1) + 1, height)


def _axes(problem: Problem) -> tuple[Axis, Axis]:
    down, across = (Axis(1, 1),) * (2 - problem.spatial) + problem.axes
    return down, across


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: multiply-adds, loads and stores of tiles or streams; or the time of memory, or of the last cache."""
    assert target is not None
    tile, (down, across) = tile_of(problem, target), _axes(problem)
    if tile.stream:
        return 3e-6 + max(streams_seconds(problem, tile, target), target.moving(problem.bytes_moved))
    if target.vector_bytes < WHOLE_BYTES:  # of masked loads there are twice as many: 7x7 with stride 2 33 -> 42 µs
        return math.inf
    cycles = -(-across.output // target.lanes(problem.itemsize)) * _tiles_cycles(tile, down, target)
    arithmetic = problem.batch * problem.out_channels * (cycles + 60) / 3e9 / min(target.cores, 2)
    return 3e-6 + max(arithmetic, target.moving(problem.bytes_moved))


def streams_seconds(problem: Problem, tile: Tile, target: Target) -> float:
    """Of the arithmetic: per vector of columns and row multiply-adds, or loads, of which two weights are one.

    And a store. Nothing but that count slows them down: it is of cycles at 3.5 GHz, where others are at 3.
    """
    down, products = _axes(problem)[0], tile.weights
    loads = tile.taps[1] + (0 if tile.holds else products / 2 / tile.stream)
    row = max(products * target.passes / 2, loads) + 1
    bands = min(_cuts(down), key=lambda bands: bands * _stream_cost(down.output / bands))
    cycles = _strips(problem, tile, target)[0] * tile.stream * (down.output + 2 * bands) * row
    return problem.batch * problem.out_channels * (cycles + 60) / 3.5e9 / min(target.cores, 2)


def _tiles_cycles(tile: Tile, down: Axis, target: Target) -> float:
    """Per vector of columns: multiply-adds, loads and stores of all tiles."""
    products, weights = tile.rows * math.prod(tile.taps), 0 if tile.holds else tile.rows * math.prod(tile.taps)
    loads = tile.input_rows * tile.taps[1] * (1 if tile.strides[1] == 1 else 2 if tile.narrow else 3)
    if target.passes == 1:
        busy = (products + loads + weights) / 2
    elif tile.strides[1] == 1:  # units of half a vector take a multiply-add per cycle, and beside it half a load
        busy = max(products, 2 * loads)
    else:  # and shuffles one by one
        busy = products + loads
    return -(-down.output // tile.rows) * (busy + tile.rows + 25)


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: the weights, where they have to be copied, and a band of the columns at an end of the rows per thread."""
    assert target is not None
    tile, weights = tile_of(problem, target), math.prod(problem.weight_shape) * problem.itemsize
    if not tile.stream:
        return weights

    def blocks(threads: int) -> int:
        _, rows, longer = _bands(problem, tile, threads)
        return threads * _block_bytes(problem, tile, target, rows + (tile.taps[0] if longer else 0))

    # Every number of threads is asked: 3 may cut planes into higher bands than 2, as not all cuts make whole streams.
    return weights + max(map(blocks, range(1, target.cores + 1)))


def _block_bytes(problem: Problem, tile: Tile, target: Target, rows: int) -> int:
    """Of what an edge copies for so many rows of output."""
    return (rows + tile.taps[0] - 1) * tile.packed(target.lanes(problem.itemsize)) * target.vector_bytes


def in_lanes(problem: Problem) -> int:
    """What the lanes of vectors hold: columns of output."""
    return problem.axes[-1].output


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|: a chain of as many fused multiply-adds as there are taps, then the bias."""
    return sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "Planes":
    """The solution of `problem`."""
    assert target is not None
    return Planes(problem, target)


class Planes(CompiledSolution):
    """Runs one problem; see the module's text. Of `separable` kernels it is given columns and rows."""

    def __init__(self, problem: Problem, target: Target, *, separable: bool = False) -> None:
        super().__init__(problem, target, FIELDS, KernelRows(problem, target, 1))
        self._tile = tile_of(problem, target, separable=separable)

    def _readable(self, first: Array) -> Array:
        first = readable(first, self._dtype)
        return first if first.strides[-1] == self._dtype.itemsize or first.shape[-1] == 1 else first.copy()

    def _takes(self, out: Array, residual: Array | None) -> bool:
        aligned = out.dtype == self._dtype and out.flags.aligned
        return aligned and (out.strides[-1] == self._dtype.itemsize or out.shape[-1] == 1)

    def bind(self, x: Array, out: Array, limit: int) -> Binding:
        """All sizes and steps for arrays that lie like these."""
        problem, (down, across) = self.problem, _axes(self.problem)
        tile = self._tile
        bands, band_rows, longer = _bands(problem, tile, limit)
        pieces = problem.batch * problem.out_channels * bands
        together = min(TASK_PRODUCTS * pieces // max(problem.multiply_adds, 1), pieces // (4 * limit))
        per_task = max(together, 1)
        lines = int(all(step % self.target.vector_bytes == 0 for step in out.strides[:-1]))
        fields: dict[str, int | float] = {
            **finish_values(problem),
            "x_batch": x.strides[0],
            "x_channel": x.strides[1],
            "x_row": spatial_steps(x)[1],
            "out_batch": out.strides[0],
            "out_channel": out.strides[1],
            "out_row": spatial_steps(out)[1],
            "kernels": problem.out_channels,
            "per_channel": problem.out_channels // problem.groups,
            "pieces": pieces,
            "per_task": per_task,
            "bands": bands,
            "band_rows": band_rows,
            "longer": longer,
            "inside": _inside(problem, tile),
            "lines": lines,
            "rows": down.input,
            "columns": across.input,
            "out_rows": down.output,
            "out_columns": across.output,
            "rows_before": down.before,
            "columns_before": across.before,
            "columns_after": across.after,
        }
        workers = threads_for(problem, tasks := -(-pieces // per_task), limit)
        tables: dict[str, Array] = {}
        scratch = 0
        if tile.stream:
            highest = band_rows + (tile.taps[0] if longer else 0)
            tables = self._tables(x, tile, highest)
            scratch = _block_bytes(problem, tile, self.target, highest)
            fields |= {"scratch_bytes": scratch, **{name: table.ctypes.data for name, table in tables.items()}}
        past = bool(lines) and goes_past(problem, self.target)
        shared = problem.out_channels > problem.groups
        form = tile, Finish.of(problem), problem.border == "constant", past and tile.stream > 0, shared
        source = planes_module(self.target, ELEMENTS[problem.dtype], *form)
        function = compiled(source, self.target, "task")
        return Binding(function, FIELDS.block(fields), tasks, workers, scratch * workers, (*tables.values(),), [])

    def _tables(self, x: Array, tile: Tile, rows: int) -> dict[str, Array]:
        """Where streams find the rows and columns of padding, and the `rows` of what an edge copies."""
        problem, (down, across) = self.problem, _axes(self.problem)
        sources = border_sources(down.input, down.before, down.after, problem.border)
        columns = border_sources(across.input, across.before, across.after, problem.border)
        pitch = tile.packed(self.target.lanes(problem.itemsize)) * self.target.vector_bytes
        return {
            "row_offsets": np.where(sources < 0, -1, sources * spatial_steps(x)[1]),
            "block_offsets": np.arange(rows + tile.taps[0] - 1) * pitch,
            "column_sources": columns,
        }


def _bands(problem: Problem, tile: Tile, limit: int) -> tuple[int, int, int]:
    """How many bands a plane is cut into for up to `limit` threads, their rows, and how many have a kernel's more.

    Whole tiles, or whole streams: a band of its own costs no more than the rows of input at its ends, which two tasks
    read. For planes enough, tiles need only one band; a stream is best of some 40 rows, of which a few caches hold all.
    """
    planes, down = problem.batch * problem.out_channels, _axes(problem)[0]
    rows, height = down.output, tile.taps[0]
    if tile.stream:
        bands = min(_cuts(down), key=lambda bands: -(-bands * planes // limit) * _stream_cost(rows / bands))
        heights = (rows - bands * (height - 1)) // height  # of kernels, in all bands together
        return bands, heights // bands * height + height - 1, heights % bands
    wanted = min(-(-4 * limit // planes), problem.multiply_adds // (planes * TASK_PRODUCTS))
    tiles = -(-rows // tile.rows)
    band_rows = -(-tiles // max(wanted, 1)) * tile.rows
    return -(-rows // band_rows), band_rows, 0


def _stream_cost(rows: float) -> float:
    """In rows: those at both ends, and what higher streams than 48 rows push out of the caches."""
    return rows + 2 + max(rows - 48, 0) / 8
