"""Compiled functions of `lowrank`: four rows at a time, down the input, then across what that gave."""

from functools import lru_cache

from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, Vector, module_source
from ..emit.target import Target
from ..kernels import Compiled, compiled
from .finish import FINISH_FIELDS, Finish, Finisher

__all__ = ["FIELDS", "ROWS", "compute_function", "module"]

ROWS = 4
VECTORS = 2

FIELDS = Fields(
    (
        "x",
        "out",
        "scratch",
        "panels",  # weights, per kernel: its column, then its row
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


@lru_cache(maxsize=64)
def compute_function(target: Target, element: str, finish: Finish) -> Compiled:
    """Task: a strip of a band of one kernel's output."""
    return compiled(module(target, element, finish), target, "task")


@lru_cache(maxsize=64)
def module(target: Target, element: str, finish: Finish) -> str:
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
    column_weights = FIELDS.pointer(f, "panels", element).at(kernel * (taps_rows + taps_columns))
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
