"""Compiled functions of `channelwise`: pack some rows with a few channels side by side, sum, turn the results round."""

from functools import lru_cache
from typing import NamedTuple

from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, Vector, loaded_transposed, module_source
from ..emit.source import emitted
from ..emit.target import Target
from ..kernels import Compiled, compiled
from .finish import FINISH_FIELDS, Finish, Finisher

LINE = 64
"""Bytes of a cache line."""

__all__ = ["FIELDS", "FRAME", "PHASE", "Form", "compute_function", "emit_pack"]

FRAME = (
    "fill",  # what padding holds
    "source_row",  # bytes from row to row of what is packed
    "source_column",
    "source_channel",
    "source_rows",  # how many there are
    "source_columns",
    "row_before",  # rows of the frame before the first row of the source; negative where the frame begins behind it
    "frame_rows",
    "pitch",  # bytes from row to row of a block
    "left",  # columns of padding in a row of the frame, of the source, and of padding again
    "middle",
    "right",
    "first_column",  # column of the source that comes first in the middle
    "places",  # byte offsets in the frame of all elements of the source, channels first
)
"""What `emit_pack` reads."""

FIELDS = Fields(
    (
        *FRAME,
        "x",
        "out",
        "panels",  # weights, [tap][channel]
        "bias",
        *FINISH_FIELDS,
        "scratch",
        "scratch_bytes",  # per worker
        "results",  # where results wait in it to be turned round
        "x_batch",  # bytes between pictures of x, ...
        "out_batch",
        "out_channel",
        "out_row",
        "out_column",
        "channels",
        "blocks",  # of channels
        "bands",
        "units",  # a unit is a band of a block of a picture
        "units_per_task",
        "positions",  # rows that all phases have, in the phase that has the most
        "per_band",
        "per_strip",  # of a band: packed, summed and turned round at one time
        "row_stride",  # rows of the frame from one position to the next
        "row_reach",  # and how many a single position reads
        "spread",  # rows and columns of the result from one position to the next
        "column_spread",
        "out_rows",
        "out_columns",
        "phases",
        "phase_count",
        "leaves_out",  # 1 where products with padding add nothing, so that they may be left out
        "ahead",  # bytes from the source of a unit to that of the next one, where memory is asked for it early; else 0
    )
)

PHASE = ("rows", "columns", "first_row", "first_column", "taps", "tap_table", "row_taps")
"""Of every phase: how many rows and columns, where the first ones are, and per tap where it reads and its weight.

And per position of rows which taps meet rows of the source, from one to before another: those before and after meet
rows of padding.
"""


class Form(NamedTuple):
    """What is written out in a kernel; everything else is a field.

    Attributes:
        pixels: pixels of a row whose sums are in registers at one time.
        vectors: vectors of channels in a block.
        stride: columns of the frame from one position to the next.
        source_last, result_last: whether channels lie side by side there.
    """

    pixels: int
    vectors: int
    stride: int
    source_last: bool
    result_last: bool


@lru_cache(maxsize=128)
def compute_function(target: Target, element: str, form: Form, finish: Finish) -> Compiled:
    """Task: some units, one after the other."""
    return compiled(_module(target, element, form, finish), target, "task")


@emitted("task")
def _module(target: Target, element: str, form: Form, finish: Finish) -> str:
    pack = emit_pack("pack", target, element, FIELDS, form.vectors, last=form.source_last)
    tiles = _tiles("tiles", target, element, form, finish)
    functions = [pack, tiles]
    if not form.result_last:
        functions.append(_turn_round("turn_round", target, element, form, finish))
    return module_source([*functions, _task(target, element, form, functions)])


def _task(target: Target, element: str, form: Form, functions: list[Function]) -> Function:
    f = Function("task", target, ["fields", "task", "worker"])
    itemsize = ITEMSIZES[element]
    width = form.vectors * target.lanes(itemsize)
    fields, worker = f.integer("fields"), f.integer("worker")
    per_task, units, blocks, bands = FIELDS.integers(f, "units_per_task", "units", "blocks", "bands")
    per_band, positions, stride, reach = FIELDS.integers(f, "per_band", "positions", "row_stride", "row_reach")
    channels, spread, out_rows, columns = FIELDS.integers(f, "channels", "spread", "out_rows", "out_columns")
    x_batch, x_channel, frame_rows = FIELDS.integers(f, "x_batch", "source_channel", "frame_rows")
    pitch, per_strip = FIELDS.integers(f, "pitch", "per_strip")
    out_batch, out_channel, out_row = FIELDS.integers(f, "out_batch", "out_channel", "out_row")
    block = FIELDS.pointer(f, "scratch", element).at_bytes(worker * FIELDS.integer(f, "scratch_bytes"))
    waiting = block.at_bytes(FIELDS.integer(f, "results"))
    first_unit = f.integer("task") * per_task
    for unit in f.loop(first_unit, (first_unit + per_task).minimum(units)):
        # Channels last, the blocks of a pixel share its cache lines; else a block's bands are neighbours.
        if form.source_last:
            number, rest = unit % blocks, unit // blocks
            band, picture = rest % bands, rest // bands
        else:
            band, rest = unit % bands, unit // bands
            number, picture = rest % blocks, rest // blocks
        # The last block ends with the last channel, so it may compute some again that the one before it has.
        channel = (number * width).minimum(channels - width)
        first = band * per_band
        last = (first + per_band).minimum(positions)
        source = FIELDS.pointer(f, "x", element).at_bytes(picture * x_batch + channel * x_channel)
        weights = FIELDS.pointer(f, "panels", element).at(channel)
        bias = FIELDS.pointer(f, "bias", element).at(channel)
        corner = FIELDS.pointer(f, "out", element).at_bytes(picture * out_batch + channel * out_channel)
        corner = corner.at_bytes(first * spread * out_row)
        after = source.at_bytes(FIELDS.integer(f, "ahead"))
        for strip in f.loop(first, last, per_strip):
            stop, start = (strip + per_strip).minimum(last), strip * stride
            packed = ((strip - 1) * stride + reach).maximum(start)  # rows that the strip before it has read too
            begin = (strip > first).integer(packed, start)
            end = ((stop - 1) * stride + reach).minimum(frame_rows)
            f.run(functions[0], fields, source, block.at_bytes((begin - first * stride) * pitch), begin, end - begin)
            here = block.at_bytes((start - first * stride) * pitch)
            to = corner.at_bytes((strip - first) * spread * out_row)
            next_ = after.at_bytes(start * FIELDS.integer(f, "source_row"))
            if form.result_last:
                f.run(functions[1], fields, here, weights, bias, to, strip, stop, next_, to)
                continue
            f.run(functions[1], fields, here, weights, bias, waiting, strip, stop, next_, to)
            count = ((stop * spread).minimum(out_rows) - strip * spread) * columns
            f.run(functions[2], fields, waiting, to, count)
    return f


def _tiles(name: str, target: Target, element: str, form: Form, finish: Finish) -> Function:
    """All phases of the positions [first, last) of rows: tile after tile of a row's pixels for a vector of channels."""
    arguments = ["fields", "block", "weights", "bias", "out", "first", "last", "after", "corner"]
    f = Function(name, target, arguments, internal=True)
    itemsize = ITEMSIZES[element]
    lanes = target.lanes(itemsize)
    width = form.vectors * lanes
    block, weights, bias, out = (f.pointer(part, element) for part in ("block", "weights", "bias", "out"))
    first, last = f.integer("first"), f.integer("last")
    stride, pitch, spread, across = FIELDS.integers(f, "row_stride", "pitch", "spread", "column_spread")
    if form.result_last:
        out_row, out_column = FIELDS.integers(f, "out_row", "out_column")
    else:
        out_column = f.number(width * itemsize)
        out_row = FIELDS.integer(f, "out_columns") * out_column
    finisher = Finisher(f, FIELDS, element, finish)
    down, step = spread * out_row, across * out_column
    phases, ahead = FIELDS.pointer(f, "phases", "i64"), FIELDS.integer(f, "ahead")
    leaves_out = FIELDS.integer(f, "leaves_out").equals(1)
    for number in f.loop(FIELDS.integer(f, "phase_count")):
        record = [phases.at(number * len(PHASE) + i).load_int() for i in range(len(PHASE))]
        rows, columns, first_row, first_column, taps, address, row_taps = record
        table = f.address(address, "i64")
        place = out.at_bytes(first_row * out_row + first_column * out_column)
        for v in f.loop(form.vectors):
            added = bias.at(v * lanes).load(lanes)
            own = weights.at(v * lanes)
            for row in f.loop((last.minimum(rows) - first).maximum(0)):
                with f.when(number.equals(0) & (ahead > 0)):
                    _fetch_ahead(f, element, form, lanes, v, row)
                met = f.address(row_taps, "i64").at((first + row) * 2)
                first_tap = leaves_out.integer(met.load_int(), 0)
                last_tap = leaves_out.integer(met.at(1).load_int(), taps)
                line = block.at(v * lanes).at_bytes(row * stride * pitch)
                to = place.at(v * lanes).at_bytes(row * down)
                for column in f.loop(0, columns, form.pixels):
                    start = line.at(column * (form.stride * width))
                    sums = Registers({i: f.zero(element, lanes) for i in range(form.pixels)})
                    for tap in f.loop(first_tap, last_tap, carry=[sums]):
                        weight = own.at_bytes(table.at(tap * 2 + 1).load_int()).load(lanes)
                        x = start.at_bytes(table.at(tap * 2).load_int())
                        for i in range(form.pixels):
                            sums[i] = x.at(i * form.stride * width).load(lanes).times_plus(weight, sums[i])
                    results = [finisher.early(sums[i] + added) for i in range(form.pixels)]
                    target_pixel = to.at_bytes(column * step)

                    def store(i: int, value: Vector, target_pixel: Pointer = target_pixel) -> None:
                        here = target_pixel.at_bytes(step * i)
                        if form.result_last:
                            finisher.store(here, value)
                        else:
                            here.store(value)

                    # A tile may reach past the row's end: what it read there is not stored.
                    left = columns - column
                    with f.either(left >= form.pixels) as (whole, part):
                        with whole:
                            for i in range(form.pixels):
                                store(i, results[i])
                        with part:
                            for i in range(form.pixels - 1):
                                with f.when(left > i):
                                    store(i, results[i])
    return f


def _fetch_ahead(f: Function, element: str, form: Form, lanes: int, v: Int, row: Int) -> None:
    """Ask for a row's part of what the next unit reads, and of where this one's results go.

    The processor fetches ahead by itself, but not along 16 planes at once.
    """
    line = LINE // ITEMSIZES[element]
    after, corner = f.pointer("after", element), f.pointer("corner", element)
    stride, spread = FIELDS.integers(f, "row_stride", "spread")
    for last, origin, rows, names in (
        (form.source_last, after, stride, ("source_row", "source_channel", "source_columns")),
        (form.result_last, corner, spread, ("out_row", "out_channel", "out_columns")),
    ):
        if last:
            continue
        step, channel, columns = FIELDS.integers(f, *names)
        begin = origin.at_bytes(row * rows * step + v * lanes * channel)
        for k in range(lanes):
            for column in f.loop(0, rows * columns, line):
                begin.at_bytes(channel * k).at(column).prefetch()


def _turn_round(name: str, target: Target, element: str, form: Form, finish: Finish) -> Function:
    """`count` results that wait as [pixel][channel], to one plane per channel, whose rows follow each other."""
    f = Function(name, target, ["fields", "waiting", "out", "count"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    width = form.vectors * lanes
    waiting, out, count = f.pointer("waiting", element), f.pointer("out", element), f.integer("count")
    out_channel = FIELDS.integer(f, "out_channel")
    finisher = Finisher(f, FIELDS, element, finish)
    whole = count // lanes * lanes
    for v in f.loop(form.vectors):
        source, planes = waiting.at(v * lanes), out.at_bytes(v * lanes * out_channel)
        for pixel in f.loop(0, whole, lanes):
            run = source.at(pixel * width)
            square = loaded_transposed([run.at(i * width) for i in range(lanes)])
            for k, row in enumerate(square):
                finisher.store(planes.at_bytes(out_channel * k).at(pixel), row)
        for pixel in f.loop(whole, count):
            for channel in f.loop(lanes):
                finisher.store(
                    planes.at_bytes(out_channel * channel).at(pixel), source.at(pixel * width + channel).load()
                )
    return f


def emit_pack(name: str, target: Target, element: str, fields: Fields, vectors: int, *, last: bool) -> Function:
    """A function that packs (source, block, first, rows) as [row][column][channel]: rows of the frame, from `first` on.

    The frame is what is read of the source, with its padding. With `last` channels lie side by side in the source;
    else its columns do and its rows follow each other.
    """
    f = Function(name, target, ["fields", "source", "block", "first", "rows"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    width = vectors * lanes
    source, block = f.pointer("source", element), f.pointer("block", element)
    first, rows = f.integer("first"), f.integer("rows")
    before, there, pitch = fields.integers(f, "row_before", "source_rows", "pitch")
    left, middle, right = fields.integers(f, "left", "middle", "right")
    filler = fields.real(f, "fill", element).broadcast(lanes)

    def fill(to: Pointer, count: Int) -> None:
        for i in f.loop(0, count * width, lanes):
            to.at(i).store(filler)

    begin = (before - first).maximum(0).minimum(rows)  # rows of the block that are of the source
    end = (before + there - first).minimum(rows).maximum(begin)
    across = left + middle + right
    for row in f.loop(begin):
        fill(block.at_bytes(row * pitch), across)
    for row in f.loop(end, rows):
        fill(block.at_bytes(row * pitch), across)
    for row in f.loop(begin, end):
        line = block.at_bytes(row * pitch)
        fill(line, left)
        fill(line.at((left + middle) * width), right)
    if last:
        step, column = fields.integers(f, "source_row", "source_column")
        skipped = fields.integer(f, "first_column") * column
        for row in f.loop(begin, end):
            line = block.at_bytes(row * pitch).at(left * width)
            origin = source.at_bytes((row + first - before) * step + skipped)
            for c in f.loop(middle):
                pixel = origin.at_bytes(c * column)
                values = [pixel.at(v * lanes).load(lanes) for v in range(vectors)]
                for v, value in enumerate(values):
                    line.at(c * width + v * lanes).store(value)
        return f
    columns, channel = fields.integers(f, "source_columns", "source_channel")
    places = fields.pointer(f, "places", "i64").at((begin + first - before) * columns)
    begun = source.at((begin + first - before) * columns)
    to = block.at_bytes(0 - first * pitch)
    count = (end - begin) * columns
    for number in f.loop(vectors):
        planes, own = begun.at_bytes(number * lanes * channel), to.at(number * lanes)
        with f.either(count >= lanes) as (many, few):
            with many:
                for tile in f.loop(0, count, lanes):
                    start = tile.minimum(count - lanes)
                    square = loaded_transposed([planes.at_bytes(channel * k).at(start) for k in range(lanes)])
                    for i, vector in enumerate(square):
                        own.at_bytes(places.at(start + i).load_int()).store(vector)
            with few:
                for place in f.loop(count):
                    here = own.at_bytes(places.at(place).load_int())
                    for k in f.loop(lanes):
                        here.at(k).store(planes.at_bytes(channel * k).at(place).load())
    return f
