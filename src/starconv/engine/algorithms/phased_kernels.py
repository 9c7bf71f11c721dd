"""Compiled functions of `phased`: pack rows of the gradient, sum phase by phase, put all pixels in their places."""

from itertools import product
from typing import NamedTuple

from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, Vector, loaded_transposed, module_source
from ..emit.source import emitted
from ..emit.target import Target
from ..kernels import Compiled, compiled
from .finish import FINISH_FIELDS, Finish, Finisher
from .packing import BLOCK_FIELDS, pack_block

__all__ = ["FIELDS", "PHASE", "Form", "compute_function"]

FIELDS = Fields(
    (
        *BLOCK_FIELDS,
        "x",
        "out",
        "panels",  # addresses of every phase's panels of weights
        "bias",
        *FINISH_FIELDS,
        "scratch",
        "scratch_bytes",  # per worker
        "waiting",  # where sums wait in it
        "x_batch",  # bytes between pictures of x, groups of its channels, ...
        "x_group",
        "out_batch",
        "out_channel",
        "out_row",
        "out_column",
        "groups",
        "kernels",  # channels of the result per group
        "blocks",  # panels per group
        "splits",  # tasks that share the panels of a group
        "bands",
        "per_band",  # positions of rows, see `frames.Frame`
        "positions",
        "row_reach",
        "frame_rows",
        "spread",
        "out_rows",
        "out_columns",
        "packed_channel",  # bytes from channel to channel of a block
        "phases",
    )
)

PHASE = ("rows", "columns", "chunk", "pixel_table", "row_step", "column_step")
"""Of every phase: how many rows and columns, channels whose weights stay in the first-level cache, where its pixels
read and wait, and the bytes between its taps."""


class Form(NamedTuple):
    """What is written out in a kernel.

    Attributes:
        pixels, vectors: of a tile.
        taps: rows and columns of the taps of every phase that has any.
        source_last, result_last: whether channels lie side by side there.
    """

    pixels: int
    vectors: int
    taps: tuple[tuple[int, int], ...]
    source_last: bool
    result_last: bool


def compute_function(target: Target, element: str, form: Form, finish: Finish) -> Compiled:
    """Task: a band of a group of a picture, and some of its panels."""
    return compiled(_module(target, element, form, finish), target, "task")


@emitted("task")
def _module(target: Target, element: str, form: Form, finish: Finish) -> str:
    pack = pack_block("pack_block", target, FIELDS, element, element, last=form.source_last)
    tiles = {taps: _tiles(target, element, form, taps) for taps in dict.fromkeys(form.taps)}
    put = (_put_last if form.result_last else _put_planes)("put", target, element, form.vectors, finish)
    task = _task(target, element, form, pack, tiles, put)
    return module_source([pack, *tiles.values(), put, task])


def _task(
    target: Target, element: str, form: Form, pack: Function, tiles: dict[tuple[int, int], Function], put: Function
) -> Function:
    f = Function("task", target, ["fields", "task", "worker"])
    fields, task, worker = f.integer("fields"), f.integer("task"), f.integer("worker")
    lanes = target.lanes(ITEMSIZES[element])
    width = form.vectors * lanes
    bands, splits, groups, blocks = FIELDS.integers(f, "bands", "splits", "groups", "blocks")
    split, rest = task % splits, task // splits
    band, rest = rest % bands, rest // bands
    group, picture = rest % groups, rest // groups
    per_band, positions, reach = FIELDS.integers(f, "per_band", "positions", "row_reach")
    spread, out_rows, out_columns = FIELDS.integers(f, "spread", "out_rows", "out_columns")
    channels, kernels = FIELDS.integers(f, "channels", "kernels")
    out_batch, out_channel, out_row = FIELDS.integers(f, "out_batch", "out_channel", "out_row")
    block = FIELDS.pointer(f, "scratch", element).at_bytes(worker * FIELDS.integer(f, "scratch_bytes"))
    waiting = block.at_bytes(FIELDS.integer(f, "waiting"))
    first = band * per_band
    last = (first + per_band).minimum(positions)
    source = FIELDS.pointer(f, "x", "i8").at(
        picture * FIELDS.integer(f, "x_batch") + group * FIELDS.integer(f, "x_group")
    )
    rows = (last - first - 1 + reach).minimum(FIELDS.integer(f, "frame_rows") - first)
    f.run(pack, fields, source, block, 0, first, rows)
    corner = FIELDS.pointer(f, "out", element).at_bytes(picture * out_batch + first * spread * out_row)
    results = (last * spread).minimum(out_rows) - first * spread
    panels, biases = FIELDS.pointer(f, "panels", "i64"), FIELDS.pointer(f, "bias", element)
    phases = FIELDS.pointer(f, "phases", "i64")
    for number in f.loop(split * blocks // splits, (split + 1) * blocks // splits):
        for i in f.loop(0, results * out_columns * width, lanes):
            waiting.at(i).store(f.zero(element, lanes))
        for phase, taps in enumerate(form.taps):
            record = [phases.at(phase * len(PHASE) + i).load_int() for i in range(len(PHASE))]
            phase_rows, phase_columns, chunk, *places = record
            pixels = ((last.minimum(phase_rows) - first).maximum(0)) * phase_columns
            panel = f.address(panels.at(phase).load_int(), element)
            for channel in f.loop(0, channels, chunk):
                entry = (group * blocks + number) * channels + channel
                weights = panel.at(entry * (taps[0] * taps[1] * width))
                count = (channels - channel).minimum(chunk)
                f.run(tiles[taps], fields, block, weights, waiting, pixels, channel, count, *places)
        kernel = number * width
        to = corner.at_bytes((group * kernels + kernel) * out_channel)
        bias = biases.at((group * blocks + number) * width)
        f.run(put, fields, waiting, bias, to, results, (kernels - kernel).minimum(width))
    return f


def _tiles(target: Target, element: str, form: Form, taps: tuple[int, int]) -> Function:
    """All pixels of a phase, a tile at a time, through all its taps of some channels; sums are added to those waiting.

    The table of pixels has pairs, where a pixel reads and where it waits, and a tile of copies of the last at its end:
    a pixel that a tile has twice is computed twice, and stored twice.
    """
    arguments = ["fields", "block", "weights", "waiting", "pixels", "channel", "count"]
    arguments += ["pixel_table", "row_step", "column_step"]
    name = "tiles_" + "_".join(map(str, taps))
    f = Function(name, target, arguments, internal=True)
    lanes, width = target.lanes(ITEMSIZES[element]), form.vectors * target.lanes(ITEMSIZES[element])
    block, weights, waiting = (f.pointer(part, element) for part in ("block", "weights", "waiting"))
    pixels, channel, count = (f.integer(part) for part in ("pixels", "channel", "count"))
    row_step, column_step, step = f.integer("row_step"), f.integer("column_step"), FIELDS.integer(f, "packed_channel")
    table = f.pointer("pixel_table", "i64")
    places = list(product(range(taps[0]), range(taps[1])))
    offsets = [row_step * r + column_step * c for r, c in places]
    keys = [(i, v) for i in range(form.pixels) for v in range(form.vectors)]
    together = max(4 // len(places), 1)  # channels written out, so that the loop costs little
    origin = block.at_bytes(channel * step)
    for pixel in f.loop(0, pixels, form.pixels):
        starts = [table.at((pixel + i) * 2).load_int() for i in range(form.pixels)]
        results = [waiting.at_bytes(table.at((pixel + i) * 2 + 1).load_int()) for i in range(form.pixels)]
        sums = Registers({(i, v): results[i].at(v * lanes).load(lanes) for i, v in keys})

        def add(number: Int, starts: list[Int] = starts, sums: Registers = sums) -> None:
            panel = weights.at(number * (len(places) * width))
            for tap, offset in enumerate(offsets):
                row = [panel.at(tap * width + v * lanes).load(lanes) for v in range(form.vectors)]
                # Seen through, LLVM would keep the addresses of all pixels for all taps in memory: one more load each.
                here = origin.at_bytes(number * step + offset).disguised()
                for i in range(form.pixels):
                    x = here.at_bytes(starts[i]).broadcast(lanes)
                    for v in range(form.vectors):
                        sums[i, v] = x.times_plus(row[v], sums[i, v])

        whole = count // together * together
        for number in f.loop(0, whole, together, carry=[sums]):
            for i in range(together):
                add(number + i)
        if together > 1:
            for number in f.loop(whole, count, carry=[sums]):
                add(number)
        for i, v in keys:
            results[i].at(v * lanes).store(sums[i, v])
    return f


def _put_planes(name: str, target: Target, element: str, vectors: int, finish: Finish) -> Function:
    """Sums that wait as [pixel][channel], to planes whose rows follow each other: bias, finish and store."""
    f = Function(name, target, ["fields", "waiting", "bias", "out", "rows", "valid"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    width = vectors * lanes
    waiting, bias, out = (f.pointer(part, element) for part in ("waiting", "bias", "out"))
    valid, out_channel = f.integer("valid"), FIELDS.integer(f, "out_channel")
    finisher = Finisher(f, FIELDS, element, finish)
    count = f.integer("rows") * FIELDS.integer(f, "out_columns")
    whole = count // lanes * lanes

    def put(to: Pointer, kernel: Int, sums: Vector) -> None:
        finisher.store(to, finisher.early(sums + bias.at(kernel).broadcast(sums.lanes)))

    for v in range(vectors):
        source, planes = waiting.at(v * lanes), out.at_bytes(out_channel * (v * lanes))
        for pixel in f.loop(0, whole, lanes):
            run = source.at(pixel * width)
            square = loaded_transposed([run.at(i * width) for i in range(lanes)])
            with f.either(valid >= (v + 1) * lanes) as (full, part):
                with full:
                    for k, row in enumerate(square):
                        put(planes.at_bytes(out_channel * k).at(pixel), f.number(v * lanes + k), row)
                with part:
                    for k, row in enumerate(square[:-1]):
                        with f.when(valid > v * lanes + k):
                            put(planes.at_bytes(out_channel * k).at(pixel), f.number(v * lanes + k), row)
        for pixel in f.loop(whole, count):
            for kernel in f.loop((valid - v * lanes).minimum(lanes)):
                value = source.at(pixel * width + kernel).load()
                put(planes.at_bytes(out_channel * kernel).at(pixel), kernel + v * lanes, value)
    return f


def _put_last(name: str, target: Target, element: str, vectors: int, finish: Finish) -> Function:
    """The same where channels lie side by side."""
    f = Function(name, target, ["fields", "waiting", "bias", "out", "rows", "valid"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    width = vectors * lanes
    waiting, bias, out = (f.pointer(part, element) for part in ("waiting", "bias", "out"))
    valid = f.integer("valid")
    out_row, out_column, columns = FIELDS.integers(f, "out_row", "out_column", "out_columns")
    finisher = Finisher(f, FIELDS, element, finish)
    for row in f.loop(f.integer("rows")):
        for column in f.loop(columns):
            source = waiting.at((row * columns + column) * width)
            to = out.at_bytes(row * out_row + column * out_column)
            with f.either(valid >= width) as (full, part):
                with full:
                    for v in range(vectors):
                        at = v * lanes
                        finisher.store(to.at(at), finisher.early(source.at(at).load(lanes) + bias.at(at).load(lanes)))
                with part:
                    for k in f.loop(valid):
                        finisher.store(to.at(k), finisher.early(source.at(k).load() + bias.at(k).load()))
    return f
