"""Weight gradients of depthwise layers of channels-last data, read where they lie.

Maths: dL/dK[c, p, q] = sum over n, i, j of G[n, c, i, j] X[n, c, i s + p d, j s + q d], for every channel c alone.

How it runs: as in `depthwise`, vectors run over the channels, nothing is packed, and tables say where the input has
every row and column that a kernel meets. The sums of up to 12 taps are in registers. A tile is some neighbouring
pixels of G, which are loaded once, as every vector of X under them is: for 2 x 2 vectors and 3x3 kernels 4 + 3 x 8
loads for 36 multiply-adds. Where a tile meets no padding its columns follow each other, and the tables are not asked. A
unit is some rows of up to 512 bytes of every pixel, small enough for the first-level cache, so lines are read as they
follow each other; per unit and vector, the sums are fetched and put back.

A task is such a run of channels and a range of units, whose sums are a *partial* sum. How many there are is decided by
the shape and the caches alone, and they are added in the order of their numbers, so the result has the same bits for
any number of threads. `channelwise_grad` packs both operands first, which memory has to wait for: 144 channels 56x56
take a third longer.

Limits: as in `channelwise_grad`, channels last.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...problem import Problem
from ..descriptor import Fields, address_of
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, module_source
from ..emit.source import emitted
from ..emit.target import Target
from ..kernels import ELEMENTS, Compiled, compiled
from ..lattice import Lattice, lattices, spatial_steps
from .channel_sums import emit_reduce, partial_sums, refuses_gradient, rows_at_once
from .depthwise import RUN_BYTES
from .gradient_solution import GradientBinding, GradientSolution, Parts
from .panels import Array, readable_last
from .refusals import refuses_channels_first
from .rounding import sum_bound
from .tiles import readers

NAME = "depthwise_grad"

FIELDS = Fields(
    (
        "x",
        "g",
        "out",
        "sums",  # [partial][block][tap][channel]
        "scratch",
        "x_batch",  # bytes between pictures of x, ...
        "g_batch",
        "g_row",
        "g_column",
        "channels",
        "blocks",  # vectors of channels
        "runs",  # of neighbouring blocks, which a task goes through together
        "per_run",
        "partials",
        "units",
        "bands",  # per picture
        "per_band",
        "out_rows",
        "out_columns",
        "row_table",  # per row of g and of taps: where it is in a picture of x, in bytes, or -1
        "column_table",  # per padded column
        "padding_table",  # as many entries that are all -1
        "x_column",  # bytes from one padded column to the next
        "inner",  # columns of g from which on, and up to which, whole tiles meet no padding
        "outer",
    )
)


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only depthwise weight gradients in floating point, channels last."""
    return refuses_gradient(problem, target) or refuses_channels_first(problem)


class Form(NamedTuple):
    """What is written out in a kernel.

    Attributes:
        vectors, pixels: of G that are in registers at one time.
        together: rows of taps whose sums are.
        taps: rows and columns of the kernel.
        stride, dilation: of the columns.
    """

    vectors: int
    pixels: int
    together: int
    taps: tuple[int, int]
    stride: int
    dilation: int

    @classmethod
    def of(cls, problem: Problem, target: Target) -> "Form":
        """Two vectors, which make a line and its neighbour, of two pixels; or what leaves the fewest at a row's end.

        With more pixels LLVM puts vectors on the stack, which takes longer than loading them again: on Zen 4, whose
        stores of whole lines are read back late, 384 channels 14x14 take 400 us with 7 pixels of one vector, 180 with 4
        to 6, and 158 with two of two.
        """
        _, rows, columns = lattices(problem)
        taps = rows.taps, columns.taps
        together = rows_at_once(taps)
        pairs = target.registers >= 32 and problem.in_channels % (2 * target.lanes(problem.itemsize)) == 0
        if pairs and together * columns.taps <= 9:
            return cls(2, 2, together, taps, columns.stride, columns.dilation)

        def loads(pixels: int) -> int:
            # A pixel by itself loads every vector of x again, which takes twice as long.
            whole, alone = divmod(columns.outputs, pixels)
            return whole * (pixels + 1) + 2 * alone

        most = 5 if target.registers >= 32 else 2
        return cls(1, min(range(most, most // 2, -1), key=loads), together, taps, columns.stride, columns.dilation)

    def readers(self, pixels: int) -> dict[int, list[tuple[int, int]]]:
        """Per column that `pixels` neighbouring pixels read, in order, the (pixel, tap) pairs that meet there."""
        return readers(pixels, self.taps[1], self.stride, self.dilation)


class Cut(NamedTuple):
    """How a problem falls into units and tasks: a function of its shape and the processor's caches only."""

    blocks: int
    runs: int
    per_run: int
    per_band: int
    bands: int
    units: int
    partials: int

    @classmethod
    def of(cls, problem: Problem, target: Target) -> "Cut":
        """Units whose rows of X and G fill two thirds of the first-level cache."""
        _, rows, columns = lattices(problem)
        blocks = -(-problem.in_channels // target.lanes(problem.itemsize))
        runs = -(-blocks * target.vector_bytes // RUN_BYTES)
        vectors = Form.of(problem, target).vectors
        per_run = -(-blocks // (runs * vectors)) * vectors
        runs = -(-blocks // per_run)
        x_line, g_line = (count * per_run * target.vector_bytes for count in (columns.size, columns.outputs))
        fit = max((target.l1_bytes * 2 // 3 - rows.taps * x_line) // (rows.stride * x_line + g_line), 1)
        bands = -(-rows.outputs // fit)
        per_band = -(-rows.outputs // bands)
        bands = -(-rows.outputs // per_band)
        units = problem.batch * bands
        return cls(blocks, runs, per_run, per_band, bands, units, partial_sums(problem, runs, units))


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: multiply-adds, and finding and loading what they read; or the time of memory, or of the last cache."""
    assert target is not None
    form, (_, rows, columns) = Form.of(problem, target), lattices(problem)
    taps, alone = rows.taps * columns.taps, columns.outputs % form.pixels
    passes = -(-rows.taps // form.together)
    loads = rows.taps * (form.pixels * columns.stride + columns.taps) * 0.75 + passes * form.pixels
    line = columns.outputs // form.pixels * max(taps * form.pixels / 2, loads) + alone * taps * 1.2
    units = problem.batch * (rows.outputs * (line + 10 * passes) + Cut.of(problem, target).bands * 2 * taps)
    cycles = -(-problem.in_channels // target.lanes(problem.itemsize)) * units * target.passes
    return 6e-6 + max(cycles / 3e9 / min(target.cores, 2), target.moving(problem.bytes_moved))


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: the partial sums."""
    assert target is not None
    return _sums_bytes(problem, target, Cut.of(problem, target))


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||g|, which is formed task by task: fewer roundings per product than one chain has."""
    return sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "DepthwiseGradient":
    """The solution of `problem`."""
    assert target is not None
    return DepthwiseGradient(problem, target)


def _sums_bytes(problem: Problem, target: Target, cut: Cut) -> int:
    return cut.partials * cut.blocks * math.prod(problem.weight_shape[2:]) * target.vector_bytes


class DepthwiseGradient(GradientSolution):
    """Runs one weight gradient; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        self.cut = cut = Cut.of(problem, target)
        parts = Parts(cut.partials * cut.runs, cut.blocks, 0, _sums_bytes(problem, target, cut))
        super().__init__(problem, target, FIELDS, parts)

    def _readable(self, operand: Array) -> Array:
        return readable_last(operand, self._dtype)

    def bind(self, x: Array, g: Array) -> GradientBinding:
        """The tables of where everything lies, and all sizes and steps."""
        problem, cut, target = self.problem, self.cut, self.target
        form, (_, rows, columns) = Form.of(problem, target), lattices(problem)
        (_, x_row, x_column), (_, g_row, g_column) = spatial_steps(x), spatial_steps(g)
        column_table = columns.offsets(problem.border, x_column)
        tables = (rows.offsets_of_taps(problem.border, x_row), column_table, np.full_like(column_table, -1))
        fields = {
            **dict(zip(("row_table", "column_table", "padding_table"), map(address_of, tables), strict=True)),
            "x_batch": x.strides[0],
            "g_batch": g.strides[0],
            "g_row": g_row,
            "g_column": g_column,
            "channels": problem.in_channels,
            "blocks": cut.blocks,
            "runs": cut.runs,
            "per_run": cut.per_run,
            "partials": cut.partials,
            "units": cut.units,
            "bands": cut.bands,
            "per_band": cut.per_band,
            "out_rows": rows.outputs,
            "out_columns": columns.outputs,
            "x_column": columns.step * x_column,
            **dict(zip(("inner", "outer"), _inner_tiles(form, columns), strict=True)),
        }
        element = ELEMENTS[problem.dtype]
        functions = (compute_function(target, element, form), reduce_function(target, element, math.prod(form.taps)))
        return GradientBinding(FIELDS.block(fields), tables, *functions)


def _inner_tiles(form: Form, columns: Lattice) -> tuple[int, int]:
    """The columns of G, whole tiles of them, whose pixels read nothing but columns of X."""
    first, last = columns.inside()
    inner = -(-first // (form.pixels * columns.stride)) * form.pixels
    reach = (form.pixels - 1) * columns.stride + (columns.taps - 1) * columns.dilation
    tiles = max((last - 1 - reach) // columns.stride - inner, -form.pixels) // form.pixels + 1
    return inner, inner + tiles * form.pixels


def compute_function(target: Target, element: str, form: Form) -> Compiled:
    """Task: some units, for a run of channels; their sums are one partial sum."""
    return compiled(_module(target, element, form), target, "task")


def reduce_function(target: Target, element: str, taps: int) -> Compiled:
    """Task: the partial sums of a vector of channels added up, and stored as [channel][tap]."""
    return compiled(_reduce(target, element, taps), target, "reduce")


@emitted("task")
def _module(target: Target, element: str, form: Form) -> str:
    counts = sorted({form.together, form.taps[0] % form.together or form.together})
    passes = {rows: _pass(f"pass_{rows}", target, element, form, rows) for rows in counts}
    return module_source([*passes.values(), _task(target, element, form, passes)])


@emitted("reduce")
def _reduce(target: Target, element: str, taps: int) -> str:
    return module_source([emit_reduce(target, element, FIELDS, 1, taps)])


def _task(target: Target, element: str, form: Form, passes: dict[int, Function]) -> Function:
    f = Function("task", target, ["fields", "task", "worker"])
    fields, task, lanes = f.integer("fields"), f.integer("task"), target.lanes(ITEMSIZES[element])
    area = form.taps[0] * form.taps[1] * lanes
    blocks, runs, per_run, partials = FIELDS.integers(f, "blocks", "runs", "per_run", "partials")
    units, bands, per_band, out_rows = FIELDS.integers(f, "units", "bands", "per_band", "out_rows")
    channels = FIELDS.integer(f, "channels")
    x, g = FIELDS.pointer(f, "x", element), FIELDS.pointer(f, "g", element)
    run, partial = task % runs, task // runs
    first, last = run * per_run, ((run + 1) * per_run).minimum(blocks)
    sums = FIELDS.pointer(f, "sums", element).at(partial * blocks * area)
    padding = f.buffer(element, form.vectors * lanes)
    for v in range(form.vectors):
        padding.at(v * lanes).store(f.zero(element, lanes))
    for i in f.loop(first * area, last * area, lanes):
        sums.at(i).store(f.zero(element, lanes))
    for unit in f.loop(partial * units // partials, (partial + 1) * units // partials):
        band, picture = unit % bands, unit // bands
        begin = band * per_band
        end = (begin + per_band).minimum(out_rows)
        pictures = (
            x.at_bytes(picture * FIELDS.integer(f, "x_batch")),
            g.at_bytes(picture * FIELDS.integer(f, "g_batch")),
        )
        for block in f.loop(first, last, form.vectors):
            channel = (block * lanes).minimum(channels - lanes)  # the last vector ends with the last channel
            own = [each.at(channel) for each in pictures]
            for row in range(0, form.taps[0], form.together):
                together = min(form.together, form.taps[0] - row)
                to = sums.at(block * area + row * form.taps[1] * lanes)
                f.run(passes[together], fields, *own, padding, to, begin, end, f.number(row))
    return f


def _pass(name: str, target: Target, element: str, form: Form, together: int) -> Function:
    """Some rows of taps from `row` on, over some rows of G, for one vector of channels."""
    f = Function(name, target, ["fields", "x", "g", "padding", "sums", "begin", "end", "row"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    x, g, padding, total = (f.pointer(part, element) for part in ("x", "g", "padding", "sums"))
    row_table, column_table = FIELDS.pointer(f, "row_table", "i64"), FIELDS.pointer(f, "column_table", "i64")
    no_column = FIELDS.pointer(f, "padding_table", "i64")
    g_row, g_column, columns = FIELDS.integers(f, "g_row", "g_column", "out_columns")
    area = form.taps[0] * form.taps[1] * lanes
    taps = [(r, q) for r in range(together) for q in range(form.taps[1])]
    places = {
        (v, *tap): total.at(v * area + number * lanes) for v in range(form.vectors) for number, tap in enumerate(taps)
    }
    sums = Registers({key: place.load(lanes) for key, place in places.items()})
    for line in f.loop(f.integer("begin"), f.integer("end"), carry=[sums]):
        offsets = [row_table.at(line * form.taps[0] + f.integer("row") + r).load_int() for r in range(together)]
        lines = [x.at_bytes(offset) for offset in offsets]
        tables = [offset.equals(-1).pointer(no_column, column_table) for offset in offsets]
        gradients = g.at_bytes(line * g_row)
        whole = columns // form.pixels * form.pixels
        inner, outer = FIELDS.integers(f, "inner", "outer")
        for offset in offsets:
            inner = offset.equals(-1).integer(outer, inner)  # a row of padding has no column inside
        for tile in f.loop(0, whole - (outer - inner), form.pixels, carry=[sums]):
            column = (tile < inner).integer(tile, tile + (outer - inner))
            found = _by_tables(form, lines, tables, padding, column)
            _meet(f, form, lanes, form.pixels, gradients.at_bytes(column * g_column), g_column, found, sums)
        for column in f.loop(whole, columns, carry=[sums]):
            found = _by_tables(form, lines, tables, padding, column)
            _meet(f, form, lanes, 1, gradients.at_bytes(column * g_column), g_column, found, sums)
        for column in f.loop(inner, outer, form.pixels, carry=[sums]):
            found = _inside(f, form, lines, column_table, column)
            _meet(f, form, lanes, form.pixels, gradients.at_bytes(column * g_column), g_column, found, sums)
    for key, place in places.items():
        place.store(sums[key])
    return f


Found = Callable[[int, int], Pointer]
"""From the number of a line, and that of a column of the tile, to where X has it."""


def _by_tables(form: Form, lines: list[Pointer], tables: list[Pointer], padding: Pointer, column: Int) -> Found:
    """Wherever it is, in X or in the padding."""

    def found(line: int, offset: int) -> Pointer:
        place = tables[line].at(column * form.stride + offset).load_int()
        return place.equals(-1).pointer(padding, lines[line].at_bytes(place))

    return found


def _inside(f: Function, form: Form, lines: list[Pointer], column_table: Pointer, column: Int) -> Found:
    """In X, where columns follow each other."""
    first, step = column_table.at(column * form.stride).load_int(), FIELDS.integer(f, "x_column")
    places = {offset: first + step * offset for offset in form.readers(form.pixels)}
    return lambda line, offset: lines[line].at_bytes(places[offset])


def _meet(
    f: Function, form: Form, lanes: int, pixels: int, g: Pointer, g_column: Int, found: Found, sums: Registers
) -> None:
    """Some neighbouring pixels of G with all that they meet."""
    vectors = range(form.vectors)
    gradients = [[g.at_bytes(g_column * pixel).at(v * lanes).load(lanes) for v in vectors] for pixel in range(pixels)]
    for line in range(len(sums.values) // (form.vectors * form.taps[1])):
        for offset, pairs in form.readers(pixels).items():
            f.hold_loads()
            place = found(line, offset)
            for v in vectors:
                value = place.at(v * lanes).load(lanes)
                for pixel, tap in pairs:
                    sums[v, line, tap] = value.times_plus(gradients[pixel][v], sums[v, line, tap])
