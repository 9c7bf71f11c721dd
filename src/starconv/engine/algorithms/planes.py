"""Depthwise layers of channels-first data, read where they lie: vectors of neighbouring pixels of one plane.

Maths: the definition with one channel per group, as a chain of fused multiply-adds in the order row, column, as
`direct` and `stencil` have it, so all give the same bits.

How it runs: nothing is packed. What lies beside a row, to its left, its right, above and below, is masked out of the
loads, so padding costs nothing, and a row that is shorter than a vector wastes lanes but no memory. A tile is up to 8
output rows of a vector of columns. It goes through the input rows that it reads, of which every vector is loaded once
per column of the kernel and serves all output rows that it is a tap of; the kernel's weights stay in registers:

    3x3, 7 rows: (7 + 2) x 3 = 27 loads for 63 multiply-adds and 7 stores

A task is some planes, or a band of one where there are few.

With a stride of 2, vectors of every second column are picked from pairs of loads, 4 loads and 3 shuffles per row; or
from a single one, where all that a row reads fits a vector.

Limits: float32 and float64, one kernel per channel, up to two axes, constant padding, strides of 1 and 2, and masked
loads, which of the targets only AVX-512 has.
"""

import math
from typing import NamedTuple

from ...geometry import Axis
from ...problem import Problem
from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Mask, Pointer, Registers, Vector, module_source
from ..emit.source import emitted
from ..emit.target import Target
from ..kernels import ELEMENTS, compiled
from ..lattice import spatial_steps
from .blocks import threads_for
from .finish import FINISH_FIELDS, Finish, Finisher, finish_values
from .packed import Array, Binding, CompiledSolution
from .panels import KernelRows, readable
from .refusals import refuses_many_kernels
from .rounding import sum_bound
from .tiles import refuses_forward, row_readers

NAME = "planes"

MOST_TAPS = 49
"""Of a kernel: all are written out."""
HELD_TAPS = 9
"""Up to so many weights are in registers throughout; more are loaded again for every input row."""
TASK_PRODUCTS = 1 << 17
"""Multiply-adds that are worth a task's start: some 5 µs."""

FIELDS = Fields(
    (
        "x",
        "out",
        "panels",  # weights, [kernel][tap]
        "bias",
        "fill",
        "scratch",
        *FINISH_FIELDS,
        "x_batch",  # bytes between pictures of x, ...
        "x_channel",
        "x_row",
        "out_batch",
        "out_channel",
        "out_row",
        "channels",
        "pieces",  # bands of all planes of all pictures
        "per_task",
        "bands",  # of a plane
        "band_rows",  # of output, in all bands but the last
        "rows",  # of x
        "columns",
        "out_rows",
        "out_columns",
        "rows_before",  # of padding
        "columns_before",
    )
)


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only depthwise forward convolutions in floating point, channels first, with AVX-512."""
    refusal = refuses_forward(problem, target) or refuses_many_kernels(problem)
    if refusal is not None or target is None:
        return refusal
    if problem.channels_last and problem.in_channels > 1:
        return "it runs along pixels that lie side by side, not channels_last"
    if target.name != "avx512":
        return "it masks what lies beside a row, which takes AVX-512"
    if problem.spatial == 3:
        return "it takes one or two spatial axes"
    if problem.border != "constant":
        return f"it masks borders, and has none of {problem.border}"
    if any(axis.stride > 2 for axis in problem.axes):
        return "it takes strides of 1 and 2"
    if problem.axes[-1].stride > 1 and problem.axes[-1].dilation > 1:
        return "with a stride it takes no dilation"
    if math.prod(axis.kernel for axis in problem.axes) > MOST_TAPS:
        return f"it writes out at most {MOST_TAPS} taps"
    if problem.residual:
        return "it adds no residual"
    return None


class Tile(NamedTuple):
    """Output rows whose sums are in registers at one time, and the geometry that is written out."""

    rows: int
    taps: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    narrow: bool
    """Whether the columns that a row of output reads fit one vector. (A load of no lane at all takes 16 cycles.)"""

    @classmethod
    def of(cls, problem: Problem, target: Target) -> "Tile":
        """As many rows as leave the fewest past the end of a plane."""
        down, across = _axes(problem)
        reads = (across.output - 1) * across.stride + across.extent
        narrow = across.stride > 1 and reads <= target.lanes(problem.itemsize)
        most = 8 if down.stride == 1 else 4
        rows = min(range(most, 0, -1), key=lambda rows: -(-down.output // rows) * (rows + 1))
        return cls(
            rows,
            (down.kernel, across.kernel),
            (down.stride, across.stride),
            (down.dilation, across.dilation),
            narrow,
        )

    @property
    def input_rows(self) -> int:
        """Input rows that a tile reads or steps over."""
        return (self.rows - 1) * self.strides[0] + (self.taps[0] - 1) * self.dilations[0] + 1

    def readers(self, input_row: int) -> list[tuple[int, int]]:
        """The (output row, tap) pairs that meet in input row `input_row` of the tile."""
        return row_readers(input_row, self.rows, self.taps[0], self.strides[0], self.dilations[0])


def _axes(problem: Problem) -> tuple[Axis, Axis]:
    down, across = (Axis(1, 1),) * (2 - problem.spatial) + problem.axes
    return down, across


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: multiply-adds, loads and stores of all tiles; or the time of memory, or of the last cache."""
    assert target is not None
    tile, (down, across) = Tile.of(problem, target), _axes(problem)
    lanes = target.lanes(problem.itemsize)
    loads = tile.input_rows * tile.taps[1] * (1 if across.stride == 1 else 2 if tile.narrow else 3)
    # Units of half a vector take a multiply-add per cycle, and what that reads of the weights beside it.
    loads += 0 if _holds(tile) or target.passes == 2 else tile.rows * math.prod(tile.taps)
    per_tile = (tile.rows * math.prod(tile.taps) + loads) * target.passes / 2 + tile.rows + 25
    tiles = -(-down.output // tile.rows) * -(-across.output // lanes)
    cycles = problem.batch * problem.in_channels * (tiles * per_tile + 60)
    return 3e-6 + max(cycles / 3e9 / min(target.cores, 2), target.moving(problem.bytes_moved))


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: the weights, where they have to be copied."""
    return math.prod(problem.weight_shape) * problem.itemsize


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|: a chain of as many fused multiply-adds as there are taps, then the bias."""
    return sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "Planes":
    """The solution of `problem`."""
    assert target is not None
    return Planes(problem, target)


class Planes(CompiledSolution):
    """Runs one problem; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        super().__init__(problem, target, FIELDS, KernelRows(problem, target, 1))

    def _readable(self, first: Array) -> Array:
        first = readable(first, self._dtype)
        return first if first.strides[-1] == self._dtype.itemsize or first.shape[-1] == 1 else first.copy()

    def _takes(self, out: Array, residual: Array | None) -> bool:
        aligned = out.dtype == self._dtype and out.flags.aligned
        return aligned and (out.strides[-1] == self._dtype.itemsize or out.shape[-1] == 1)

    def bind(self, x: Array, out: Array, limit: int) -> Binding:
        """All sizes and steps for arrays that lie like these."""
        problem, (down, across) = self.problem, _axes(self.problem)
        tile = Tile.of(problem, self.target)
        band_rows = _band_rows(problem, tile, limit)
        bands = -(-down.output // band_rows)
        pieces = problem.batch * problem.in_channels * bands
        together = min(TASK_PRODUCTS * pieces // max(problem.multiply_adds, 1), pieces // (4 * limit))
        per_task = max(together, 1)
        fields: dict[str, int | float] = {
            **finish_values(problem),
            "x_batch": x.strides[0],
            "x_channel": x.strides[1],
            "x_row": spatial_steps(x)[1],
            "out_batch": out.strides[0],
            "out_channel": out.strides[1],
            "out_row": spatial_steps(out)[1],
            "channels": problem.in_channels,
            "pieces": pieces,
            "per_task": per_task,
            "bands": bands,
            "band_rows": band_rows,
            "rows": down.input,
            "columns": across.input,
            "out_rows": down.output,
            "out_columns": across.output,
            "rows_before": down.before,
            "columns_before": across.before,
        }
        source = _module(self.target, ELEMENTS[problem.dtype], tile, Finish.of(problem))
        tasks = -(-pieces // per_task)
        workers = threads_for(problem, tasks, limit)
        return Binding(compiled(source, self.target, "task"), FIELDS.block(fields), tasks, workers, 0, (), [])


def _band_rows(problem: Problem, tile: Tile, limit: int) -> int:
    """Output rows of a task where planes are so few that they are cut into bands, for up to `limit` threads.

    Whole tiles: a band of its own costs no more than the rows of input at its ends, which two tasks read.
    """
    planes, rows = problem.batch * problem.in_channels, _axes(problem)[0].output
    wanted = min(-(-4 * limit // planes), problem.multiply_adds // (planes * TASK_PRODUCTS))
    tiles = -(-rows // tile.rows)
    return -(-tiles // max(wanted, 1)) * tile.rows


@emitted("task")
def _module(target: Target, element: str, tile: Tile, finish: Finish) -> str:
    """The module's IR: the kernel's geometry is written out, all sizes are fields."""
    plane = _plane("plane", target, element, tile, finish)
    return module_source([plane, _task(target, element, tile, plane)])


def _task(target: Target, element: str, tile: Tile, plane: Function) -> Function:
    """Task: some planes, or bands of planes, one after the other."""
    f = Function("task", target, ["fields", "task", "worker"])
    pieces, per_task, channels = FIELDS.integers(f, "pieces", "per_task", "channels")
    bands, band_rows, out_rows = FIELDS.integers(f, "bands", "band_rows", "out_rows")
    x_batch, x_channel, out_batch, out_channel = FIELDS.integers(f, "x_batch", "x_channel", "out_batch", "out_channel")
    x, out = FIELDS.pointer(f, "x", element), FIELDS.pointer(f, "out", element)
    weights, bias = FIELDS.pointer(f, "panels", element), FIELDS.pointer(f, "bias", element)
    start = f.integer("task") * per_task
    for piece in f.loop(start, (start + per_task).minimum(pieces)):
        number, top = piece // bands, piece % bands * band_rows
        picture, channel = number // channels, number % channels
        source = x.at_bytes(picture * x_batch + channel * x_channel)
        to = out.at_bytes(picture * out_batch + channel * out_channel)
        own = weights.at(channel * math.prod(tile.taps))
        bottom = (top + band_rows).minimum(out_rows)
        f.run(plane, f.integer("fields"), source, own, bias.at(channel), to, top, bottom)
    return f


def _plane(name: str, target: Target, element: str, tile: Tile, finish: Finish) -> Function:
    """The rows from `first_row` up to `last_row` of an output plane: tile after tile."""
    f = Function(name, target, ["fields", "x", "weights", "bias", "out", "first_row", "last_row"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    x, weights, out = (f.pointer(part, element) for part in ("x", "weights", "out"))
    x_row, out_row, rows, columns = FIELDS.integers(f, "x_row", "out_row", "rows", "columns")
    out_columns, above, left = FIELDS.integers(f, "out_columns", "rows_before", "columns_before")
    first_row, last_row = f.integer("first_row"), f.integer("last_row")
    filler = FIELDS.real(f, "fill", element).broadcast(lanes)
    added = f.pointer("bias", element).broadcast(lanes)
    finisher = Finisher(f, FIELDS, element, finish)
    held = [weights.at(t).broadcast(lanes) for t in range(math.prod(tile.taps))] if _holds(tile) else []
    for top in f.loop(first_row, last_row, tile.rows):
        for column in f.loop(0, out_columns, lanes):
            first = column * tile.strides[1] - left  # input column of the kernel's first tap in lane 0
            windows = _windows(f, tile, first, columns, lanes)
            sums = Registers({row: f.zero(element, lanes) for row in range(tile.rows)})
            here = weights
            for input_row in range(tile.input_rows):
                readers = tile.readers(input_row)
                if not readers:
                    continue
                row = top * tile.strides[0] - above + input_row
                there = (row >= 0) & (row < rows)
                here = here.disguised()
                vectors = _vectors(
                    tile, x.at_bytes(row * x_row), {o: (c, m.where(there)) for o, (c, m) in windows.items()}, filler
                )
                for tap, value in enumerate(vectors):
                    for output, tap_row in readers:
                        number = tap_row * tile.taps[1] + tap
                        weight = held[number] if held else here.at(number).broadcast(lanes)
                        sums[output] = value.times_plus(weight, sums[output])
            there_columns = f.lanes_between(0, out_columns - column, lanes)
            for output in range(tile.rows):
                to = out.at_bytes((top + output) * out_row).at(column)
                result = finisher.early(sums[output] + added)
                to.store_where(there_columns.where(top + output < last_row), result)
    return f


def _holds(tile: Tile) -> bool:
    return math.prod(tile.taps) <= HELD_TAPS


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
