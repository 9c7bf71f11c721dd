"""Separable kernels, as gaussian, box and sobel are: a column of weights, then a row of weights, in one pass.

Maths: where K[p, q] = u[p] v[q], which the planner cannot know from shapes, so a plan asks when it is given weights,

    O[i, j] = sum_q v[q] (sum_p u[p] X[i + p, j + q])

takes kh + kw multiply-adds instead of kh kw: 62 instead of 961 for 31x31, about what moving the picture takes.

How it runs: a task is a strip of a band of output rows. Four rows at a time, the column of weights goes over the input,
read in place by a table of row addresses, in which borders are other rows or a row of padding. The rows of sums stay
in the first-level cache (4 x 1054 floats, 17 KB), the strip's input in the second. The border's columns are copied from
the columns that they show. Then the row of weights goes over these four rows:

    4 rows x 2 vectors: 2 loads + 4 broadcasts for 8 multiply-adds down, 8 loads + 1 broadcast for 8 across

Limits: 2-D, stride 1, one input channel per kernel, channels first; kernels of 4x4 and up. Weights may differ from u v
by 8 units of rounding each, of themselves: this is where a kernel counts as separable. Whole numbers stay exact.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...geometry import border_sources
from ...problem import Problem
from ..descriptor import Fields, address_of
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, Vector, module_source
from ..emit.target import Target
from ..kernels import ELEMENTS, Compiled, compiled
from ..runtime import threads
from ..runtime.jobs import Job
from .finish import FINISH_FIELDS, Finish, Finisher, finish_values, lies_like
from .tiles import refuses_forward

NAME = "lowrank"
CONDITION = "where the kernels are separable"
REPEATS = 1

Array = NDArray[Any]

ROWS = 4
VECTORS = 2
SECONDS_PER_KERNEL = 40e-6
"""To find its factors. Where one kernel is not separable, the rest are not looked at."""
STRIP = 1024
"""Output columns of a task: four rows of them stay in the first-level cache."""
TOLERANCE = 8
"""Units of rounding by which a weight may differ from its product: kernels come rounded, as do their sums."""

FIELDS = Fields(
    (
        "x",
        "out",
        "scratch",
        "weights",  # per kernel: its column, then its row
        "bias",
        "row_table",  # per padded row, the input row that it shows, or -1
        "column_table",
        "fill",
        *FINISH_FIELDS,
        "x_batch",  # bytes
        "x_channel",
        "x_row",
        "out_batch",
        "out_channel",
        "out_row",
        "kernels",
        "per_channel",  # kernels that read the same input channel
        "taps_rows",
        "taps_columns",
        "in_columns",
        "before",  # columns of padding before the first
        "out_rows",
        "out_columns",
        "bands",
        "rows_per_band",
        "strips",
        "strip_columns",
        "pitch",
        "scratch_bytes",
    )
)


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not, whatever the weights."""
    refusal = refuses_forward(problem, target)
    if refusal is not None:
        return refusal
    if problem.precision == "strict":
        return "it sums in another way than the definition, which precision strict forbids"
    if problem.spatial != 2 or any(axis.stride != 1 or axis.dilation != 1 for axis in problem.axes):
        return "it takes two axes without strides or dilations"
    if problem.in_channels != problem.groups:
        return "it takes one input channel per kernel"
    if problem.channels_last and problem.in_channels > 1:
        return "it runs along rows of pixels (channels first)"
    if min(axis.kernel for axis in problem.axes) < ROWS:
        return f"smaller kernels than {ROWS}x{ROWS} gain nothing"
    return None


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: a look at the weights; both passes, the second with a load per multiply-add, or the memory's time."""
    assert target is not None
    rows, columns = problem.axes
    per_output = 1.4 * rows.kernel + 1.95 * columns.kernel + 4
    cycles = math.prod(problem.output_shape) * per_output / (2 * target.lanes(problem.itemsize)) * target.passes
    looking = 10e-6 + problem.out_channels * SECONDS_PER_KERNEL
    moving = target.moving(problem.bytes_moved)
    return looking + max(cycles / 3e9 / min(target.cores, 2), moving)


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: four rows of a strip, a row of padding and the addresses of rows, per thread."""
    assert target is not None
    return target.cores * _Sizes.of(problem, target).scratch_bytes


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|: weights that are nearly products, a sum of kh terms, one of kw, and the bias."""
    roundings = sum(axis.kernel for axis in problem.axes) + 1 + problem.bias + 2 * TOLERANCE
    return 1.001 * roundings * float(np.finfo(problem.dtype).eps) / 2


def build(problem: Problem, target: Target | None) -> "Separable":
    """The solution of `problem`; its `prepare` gives None for kernels that are not separable."""
    assert target is not None
    return Separable(problem, target)


def factors(kernel: Array) -> tuple[Array, Array] | None:
    """The column u and the row v of a separable `kernel`, else None. Of whole numbers they are whole numbers.

    >>> factors(np.array([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0]]))
    (array([1., 2.]), array([1., 2., 1.]))
    >>> factors(np.eye(3)) is None
    True
    """
    wide = kernel.astype(np.float64)
    if not np.isfinite(wide).all():
        return None
    p, q = divmod(int(np.abs(wide).argmax()), wide.shape[1])
    column, row = wide[:, q], wide[p]
    if wide[p, q] == 0:
        return np.zeros_like(kernel[:, 0]), np.zeros_like(kernel[0])
    if np.abs(column[:, None] * row - wide * row[q]).max() > 1e-5 * row[q] ** 2:  # most kernels: a quick no
        return None
    divisor = row[q]
    if abs(divisor) < 2**24 and (wide == np.rint(wide)).all():
        divisor = float(np.gcd.reduce(row.astype(np.int64))) * math.copysign(1, divisor)
    u, v = (column * (divisor / row[q])).astype(kernel.dtype), (row / divisor).astype(kernel.dtype)
    product = u[:, None].astype(np.float64) * v
    if (np.abs(product - wide) > TOLERANCE * np.finfo(kernel.dtype).eps * np.abs(wide)).any():
        return None
    return u, v


class _Sizes(NamedTuple):
    """How the output is cut into tasks: by its shape only."""

    rows_per_band: int
    bands: int
    strip_columns: int
    strips: int
    pitch: int
    scratch_bytes: int

    @classmethod
    def of(cls, problem: Problem, target: Target) -> "_Sizes":
        rows, columns = problem.axes
        planes = problem.batch * problem.out_channels
        strips = max(round(columns.output / STRIP), 1)
        strip = -(-columns.output // strips)
        strips = -(-columns.output // strip)
        # A band reads kh - 1 rows beside its own again: tall bands, but some tasks for threads to share.
        most = max(rows.output // max(2 * rows.kernel, 16), 1)
        bands = min(max(-(-16 // (planes * strips)), rows.output // max(8 * rows.kernel, 128)), most)
        per_band = -(-rows.output // bands)
        per_band = min(-(-per_band // ROWS) * ROWS, rows.output)
        pitch = -(-(strip + columns.kernel - 1) // 16) * 16 + 16
        size = (ROWS + 1) * pitch * problem.itemsize + (rows.kernel + ROWS) * 8
        return cls(per_band, -(-rows.output // per_band), strip, strips, pitch, -(-size // 64) * 64)


class Separable:
    """Runs one problem; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        self.problem, self.target = problem, target
        self.sizes = _Sizes.of(problem, target)
        self._dtype = np.dtype(problem.dtype)
        rows, columns = problem.axes
        self._row_table, self._column_table = (
            border_sources(axis.input, axis.before, max(axis.after, 0), problem.border).astype(np.int64)
            for axis in (rows, columns)
        )
        # A tile may reach past the last row: the rows that it reads there show in no result.
        self._row_table = np.concatenate([self._row_table, np.repeat(self._row_table[-1:], ROWS)])

    def prepare(
        self, second: Array, bias: Array | None, fill: float, once: bool = False
    ) -> tuple[Array, Array, float] | None:
        """The columns and rows of the kernels, the bias, and what padding holds; None where one is not separable."""
        weights = np.empty((len(second), sum(second.shape[2:])), self._dtype)
        for kernel, place in zip(second.astype(self._dtype, copy=False)[:, 0], weights, strict=True):
            found = factors(kernel)
            if found is None:
                return None
            place[:] = np.concatenate(found)
        added = np.zeros(len(second), self._dtype) if bias is None else np.array(bias, self._dtype)
        return weights, added, float(fill)

    def run(
        self, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None = None
    ) -> None:
        """Compute into `out`, from an input whose rows can be read in place, else from a copy."""
        if not self._takes(out) or (residual is not None and not lies_like(residual, out)):
            result = np.empty(self.problem.output_shape, self._dtype)
            self.run(first, prepared, result, None if residual is None else np.array(residual, self._dtype, order="C"))
            out[...] = result
            return
        if not self._takes(first):
            first = np.ascontiguousarray(first, self._dtype)
        self._job(first, prepared, out, residual).run()

    def jobs(
        self, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None = None
    ) -> list[Job] | None:
        """What `run` does with these very arrays, written down; None where it would have to copy one of them."""
        if not self._takes(first) or not self._takes(out) or (residual is not None and not lies_like(residual, out)):
            return None
        return [self._job(first, prepared, out, residual)]

    def in_place(self, first: Array, out: Array) -> tuple[bool, bool]:
        """Whether it reads the one and writes the other where they lie, not through a copy."""
        return self._takes(first), self._takes(out)

    def _takes(self, array: Array) -> bool:
        """Whether the rows of `array` can be read and written in place."""
        return array.dtype == self._dtype and array.flags.aligned and array.strides[-1] == self._dtype.itemsize

    def _job(self, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None) -> Job:
        problem, sizes = self.problem, self.sizes
        weights, bias, fill = prepared
        rows, columns = problem.axes
        tasks = problem.batch * problem.out_channels * sizes.bands * sizes.strips
        workers = min(threads.get_num_threads(), tasks)
        block = FIELDS.block(
            {
                "x": address_of(first),
                "out": address_of(out),
                "weights": address_of(weights),
                "bias": address_of(bias),
                "row_table": address_of(self._row_table),
                "column_table": address_of(self._column_table),
                "fill": fill,
                **finish_values(problem),
                "residual": 0 if residual is None else address_of(residual),
                **dict(zip(("x_batch", "x_channel", "x_row"), first.strides, strict=False)),
                **dict(zip(("out_batch", "out_channel", "out_row"), out.strides, strict=False)),
                "kernels": problem.out_channels,
                "per_channel": problem.out_channels // problem.groups,
                "taps_rows": rows.kernel,
                "taps_columns": columns.kernel,
                "in_columns": columns.input,
                "before": columns.before,
                "out_rows": rows.output,
                "out_columns": columns.output,
                "bands": sizes.bands,
                "rows_per_band": sizes.rows_per_band,
                "strips": sizes.strips,
                "strip_columns": sizes.strip_columns,
                "pitch": sizes.pitch,
                "scratch_bytes": sizes.scratch_bytes,
            }
        )
        function, index = _function(self.target, problem.dtype, Finish.of(problem, floor=True)), FIELDS.index
        return Job(
            function.address,
            block,
            tasks,
            workers,
            arrays=(index["x"], index["out"], *(() if residual is None else (index["residual"],))),
            scratch=sizes.scratch_bytes * workers,
            scratch_places=((index["scratch"], 0),),
            keeps=(function, weights, bias, self),
        )


@lru_cache(maxsize=64)
def _function(target: Target, dtype: str, finish: Finish) -> Compiled:
    return compiled(_module(target, ELEMENTS[dtype], finish), target, "task")


@lru_cache(maxsize=64)
def _module(target: Target, element: str, finish: Finish) -> str:
    """The module's IR. It depends on no size: all of them are fields."""
    lanes = target.lanes(ITEMSIZES[element])
    down = [_down(f"down_{n}", target, element, n, vectors) for n, vectors in ((lanes, VECTORS), (1, 1))]
    across = [_across(f"across_{n}", target, element, n, vectors, finish) for n, vectors in ((lanes, VECTORS), (1, 1))]
    return module_source([*down, *across, _task(target, element, lanes, down, across)])


def _task(target: Target, element: str, lanes: int, down: list[Function], across: list[Function]) -> Function:
    """Task: ((picture, kernel), band), strip. Four rows at a time: down, the border's columns, across."""
    f = Function("task", target, ["fields", "task", "worker"])
    fields, task = f.integer("fields"), f.integer("task")
    strips, bands, kernels, per_channel = FIELDS.integers(f, "strips", "bands", "kernels", "per_channel")
    strip, task = task % strips, task // strips
    band, task = task % bands, task // bands
    kernel, picture = task % kernels, task // kernels
    taps_rows, taps_columns, pitch = FIELDS.integers(f, "taps_rows", "taps_columns", "pitch")
    in_columns, out_columns, before = FIELDS.integers(f, "in_columns", "out_columns", "before")
    strip_columns, per_band = FIELDS.integers(f, "strip_columns", "rows_per_band")
    x_batch, x_channel, x_row = FIELDS.integers(f, "x_batch", "x_channel", "x_row")
    out_batch, out_channel, out_row = FIELDS.integers(f, "out_batch", "out_channel", "out_row")

    first_row, first = band * per_band, strip * strip_columns
    rows = (FIELDS.integer(f, "out_rows") - first_row).minimum(per_band)
    columns = (out_columns - first).minimum(strip_columns)
    # The input columns [low, high) of the strip, and where the first lies among those that it reads.
    low = (first - before).maximum(0)
    high = (first + columns + taps_columns - 1 - before).minimum(in_columns)
    inner, start = (high - low).maximum(0), (low + before - first).minimum(columns + taps_columns - 1)
    x = FIELDS.pointer(f, "x", element).at_bytes(picture * x_batch + (kernel // per_channel) * x_channel).at(low)
    out = FIELDS.pointer(f, "out", element).at_bytes(picture * out_batch + kernel * out_channel + first_row * out_row)
    column_weights = FIELDS.pointer(f, "weights", element).at(kernel * (taps_rows + taps_columns))
    row_table = FIELDS.pointer(f, "row_table", "i64").at(first_row)
    column_table = FIELDS.pointer(f, "column_table", "i64").at(first)

    scratch = FIELDS.pointer(f, "scratch", element).at_bytes(f.integer("worker") * FIELDS.integer(f, "scratch_bytes"))
    padding, sums, sources = scratch, scratch.at(pitch), scratch.at(pitch * (ROWS + 1)).viewed("i64")
    fill = FIELDS.real(f, "fill", element)
    for c in f.loop(0, pitch, lanes):  # a pitch is whole vectors
        padding.at(c).store(fill.broadcast(lanes))
    filled = Registers({0: f.zero(element, 1)})
    for p in f.loop(taps_rows, carry=[filled]):
        filled[0] = fill.times_plus(column_weights.at(p).load(), filled[0])
    beyond = filled[0]

    for tile in f.loop(0, rows, ROWS):
        row = tile.minimum((rows - ROWS).maximum(0))
        for j in f.loop(taps_rows + (ROWS - 1)):
            source = row_table.at(row + j).load_int()
            address = (source >= 0).pointer(x.at_bytes(source * x_row), padding)
            f.line(f"store ptr {address.text}, ptr {sources.at(j).text}, align 8")
        inside = sums.at(start)
        wide = lanes * VECTORS
        with f.either(inner >= wide) as (long, short):
            with long:
                f.run(down[0], fields, sources, column_weights, inside, 0, inner)
            with short:
                f.run(down[1], fields, sources, column_weights, inside, 0, inner)
        for begin, end in ((f.number(0), start), (start + inner, columns + taps_columns - 1)):
            for c in f.loop(begin, end):
                _border_column(
                    f, fields, column_table.at(c).load_int(), low, high, beyond, sums.at(c), inside, sources,
                    column_weights, down[1], pitch,
                )  # fmt: skip
        count = (rows - row).minimum(ROWS)
        target_row = out.at_bytes(row * out_row).at(first)
        arguments = (fields, sums, column_weights.at(taps_rows), target_row, columns, tile - row, count, kernel)
        with f.either(columns >= wide) as (long, short):
            with long:
                f.run(across[0], *arguments)
            with short:
                f.run(across[1], *arguments)
    return f


def _border_column(
    f: Function,
    fields: Int,
    source: Int,
    low: Int,
    high: Int,
    beyond: Vector,
    to: Pointer,
    inside: Pointer,
    sources: Pointer,
    weights: Pointer,
    down: Function,
    pitch: Int,
) -> None:
    """A column of padding: the sum over constants, a copy of the column that it shows, or that column's own sum."""
    with f.either(source >= 0) as (shown, constant):
        with constant:
            for r in range(ROWS):
                to.at(pitch * r).store(beyond)
        with shown, f.either((source >= low) & (source < high)) as (near, far):
            with near:
                for r in range(ROWS):
                    to.at(pitch * r).store(inside.at(source - low + pitch * r).load())
            with far:
                f.run(down, fields, sources, weights, to, source - low, 1)


def _down(name: str, target: Target, element: str, lanes: int, vectors: int) -> Function:
    """Four rows of sums over the column of weights, `count` columns from `offset` on: the last tile moved back."""
    f = Function(name, target, ["fields", "sources", "weights", "to", "offset", "count"], internal=True)
    sources, weights, to = f.pointer("sources", "i64"), f.pointer("weights", element), f.pointer("to", element)
    offset, count = f.integer("offset"), f.integer("count")
    taps, pitch = FIELDS.integers(f, "taps_rows", "pitch")
    wide = lanes * vectors
    for tile in f.loop(0, count, wide):
        column = tile.minimum(count - wide)
        keys = [(r, v) for r in range(ROWS) for v in range(vectors)]
        sums = Registers({key: f.zero(element, lanes) for key in keys})

        def meet(j: Int, readers: range, column: Int = column, sums: Registers = sums) -> None:
            """Input row j with the output rows `readers`, of which row r reads it with weight j - r."""
            source = f.address(sources.at(j).load_int(), element).at(offset + column)
            x = [source.at(v * lanes).load(lanes) for v in range(vectors)]
            for r in readers:
                w = weights.at(j - r).broadcast(lanes)
                for v in range(vectors):
                    sums[r, v] = x[v].times_plus(w, sums[r, v])

        for i in range(ROWS - 1):
            meet(f.number(i), range(i + 1))
        for j in f.loop(ROWS - 1, taps, carry=[sums]):
            meet(j, range(ROWS))
        for i in range(ROWS - 1):
            meet(taps + i, range(i + 1, ROWS))
        for r, v in keys:
            to.at(column + pitch * r + v * lanes).store(sums[r, v])
    return f


def _across(name: str, target: Target, element: str, lanes: int, vectors: int, finish: Finish) -> Function:
    """Results of four rows from their sums: over the row of weights, then bias and finish.

    The last tile is moved back, as the four rows may be. What is computed again (`known` rows) is stored again, except
    where a residual is added: that may be where the results go.
    """
    arguments = ["fields", "sums", "weights", "out", "columns", "known", "rows", "kernel"]
    f = Function(name, target, arguments, internal=True)
    sums, weights, out = (f.pointer(part, element) for part in ("sums", "weights", "out"))
    columns, known, rows = f.integer("columns"), f.integer("known"), f.integer("rows")
    taps, pitch, out_row = FIELDS.integers(f, "taps_columns", "pitch", "out_row")
    bias = FIELDS.pointer(f, "bias", element).at(f.integer("kernel")).broadcast(lanes)
    finisher = Finisher(f, FIELDS, element, finish)
    wide = lanes * vectors
    buffer = f.buffer(element, wide)
    for tile in f.loop(0, columns, wide):
        column = tile.minimum(columns - wide)
        keys = [(r, v) for r in range(ROWS) for v in range(vectors)]
        totals = Registers({key: f.zero(element, lanes) for key in keys})
        for q in f.loop(taps, carry=[totals]):
            w = weights.at(q).broadcast(lanes)
            for r, v in keys:
                x = sums.at(column + q + pitch * r + v * lanes).load(lanes)
                totals[r, v] = x.times_plus(w, totals[r, v])
        for r in range(ROWS):
            to = out.at_bytes(out_row * r).at(column)
            results = [finisher.early(totals[r, v] + bias) for v in range(vectors)]
            if not finish.residual:
                with f.when(rows > r):
                    for v in range(vectors):
                        finisher.store(to.at(v * lanes), results[v])
                continue
            with f.when((rows > r) & (known <= r)), f.either(column.equals(tile)) as (straight, piecewise):
                with straight:
                    for v in range(vectors):
                        finisher.store(to.at(v * lanes), results[v])
                with piecewise:
                    for v in range(vectors):
                        buffer.at(v * lanes).store(results[v])
                    for c in f.loop(tile - column, wide):
                        finisher.store(to.at(c), buffer.at(c).load())
    return f
