"""Compiled functions of `direct`: pack the rows of a band, then sum tile after tile of pixels and kernels."""

from collections.abc import Iterator, Sequence

from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, module_source
from ..emit.source import emitted
from ..emit.target import Target
from .finish import FINISH_FIELDS, Finish, Finisher
from .packed import BLOCK, place
from .packing import pack_block, pack_part
from .tiles import collected_pixels, let_wait, planes_function, store_tile, take_up
from .unpacked import UNPACKED_FIELDS, packed_chunk

__all__ = ["FIELDS", "module", "tiles_function"]

LINE_BYTES = 64
AHEAD_BYTES = 96
"""From a tile that reads input in place to what it asks for, of every channel."""

FIELDS = Fields(
    (
        *BLOCK,
        "panels",
        "bias",
        *FINISH_FIELDS,
        "kernels",  # kernels per group
        "taps",
        "tap_table",  # byte offset of every tap in the block
        "pixel_table",  # byte offset of every output pixel of a band in the block
        "packed_channel",  # bytes between channels in the block
        "chunk",  # channels whose weights are used by all tiles in turn
        "sums",  # where in the scratch memory sums wait between chunks, in bytes from the block
        *UNPACKED_FIELDS,
    )
)


@emitted("task")
def module(
    target: Target,
    element: str,
    tile: int,
    panel: int,
    source: str,
    last: bool,
    chunked: bool,
    run: int,
    finish: Finish,
    unpacked: bool,
) -> str:
    """The module's IR. It depends on no size but the `run` of taps that is written out: all others are fields."""
    pack = pack_block("pack_block", target, FIELDS, source, element, last=last)
    vectors = panel // target.lanes(ITEMSIZES[element])
    put = planes_function("put_planes", target, element, panel, FIELDS, finish)
    tiles = tiles_function("tiles", target, element, tile, vectors, chunked, run, finish, unpacked, put)
    parts = pack_part("pack_part", target, FIELDS, element, panel) if unpacked else []
    return module_source([pack, put, tiles, *parts, _task(target, element, panel, pack, tiles, parts)])


def _task(target: Target, element: str, panel: int, pack: Function, tiles: Function, parts: list[Function]) -> Function:
    """Task: pack the rows of a band; for every panel of its share and chunk of channels, every tile of its pixels.

    With `parts`, the last of which packs a chunk of weights, these have not been packed before.
    """
    f = Function("task", target, ["fields", "task", "worker"])
    fields = f.integer("fields")
    where = place(f, FIELDS, element)
    blocks, kernels, channels, taps = FIELDS.integers(f, "blocks", "kernels", "channels", "taps")
    columns, out_channel, chunk = FIELDS.integers(f, "out_columns", "out_channel", "chunk")
    panels, biases = FIELDS.pointer(f, "panels", element), FIELDS.pointer(f, "bias", element)
    pixels, x_group = where.rows * columns, FIELDS.integer(f, "x_group")
    waiting = where.block.at_bytes(FIELDS.integer(f, "sums"))
    for group in f.loop(where.first_group, where.last_group):
        source = where.source.at(group * x_group)
        f.run(pack, fields, source, where.block, where.depth_start, where.row_start, where.packed_rows)
        for number in f.loop(where.first_block, where.last_block):
            first, entry = number * panel, group * blocks + number
            weights, bias = panels.at(entry * channels * taps * panel), biases.at(entry * panel)
            valid = (kernels - first).minimum(panel)
            out = where.out.at_bytes((group * kernels + first) * out_channel)
            for channel in f.loop(0, channels, chunk):
                stop = (channel + chunk).minimum(channels)
                if parts:
                    kernel = group * kernels + first
                    weights = packed_chunk(f, FIELDS, parts[-1], panels, kernel, where.block, (channel, stop), valid)
                    weights = weights.at(channel * taps * -panel)  # where channel 0 would be
                f.run(tiles, fields, where.block, weights, bias, out, waiting, pixels, valid, channel, stop)
    return f


def tiles_function(
    name: str,
    target: Target,
    element: str,
    tile: int,
    vectors: int,
    chunked: bool,
    run: int,
    finish: Finish,
    unpacked: bool,
    put: Function,
    *,
    in_place: bool = False,
    ahead: bool = False,
) -> Function:
    """All pixels of a band, `tile` at a time x `vectors` vectors of kernels, through all taps of a chunk of channels.

    After the last chunk come bias, finish and store; before that, sums wait in memory. `block` is where the input of
    the band is, packed or not (`in_place`, with one tap): the tables say where its pixels and taps are. With `ahead`,
    what lies beyond a tile is asked for, channel by channel. `put` is a `planes_function`.
    """
    arguments = ["fields", "block", "panel", "bias", "out", "waiting", "pixels", "valid", "channel", "stop"]
    f = Function(name, target, arguments, internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    width = vectors * lanes
    block, panel, bias, out = (f.pointer(part, element) for part in ("block", "panel", "bias", "out"))
    pixels, valid, start, stop = (f.integer(part) for part in ("pixels", "valid", "channel", "stop"))
    channels, taps, packed_channel = FIELDS.integers(f, "channels", "taps", "packed_channel")
    tap_table, pixel_table = FIELDS.pointer(f, "tap_table", "i64"), FIELDS.pointer(f, "pixel_table", "i64")
    finisher = Finisher(f, FIELDS, element, finish)
    out_channel, out_column = FIELDS.integers(f, "out_channel", "out_column")
    waiting_sums = f.pointer("waiting", element)
    together = collected_pixels(tile, lanes)
    collected = f.buffer(element, together * width)
    keys = [(i, v) for i in range(tile) for v in range(vectors)]

    # The weights of the next chunk follow these. Each tile asks for its part of them, so that they are on their way
    # while this chunk computes: 7x7 pixels are 9 tiles, of which otherwise the first waits for 20 KiB.
    line = LINE_BYTES // ITEMSIZES[element]
    size = (stop - start) * taps * width
    upcoming = panel.at(stop * taps * width)
    part = (size * tile // pixels // line + 1) * line

    for pixel in f.loop(0, pixels, tile):
        if not unpacked:
            asked = pixel * part // tile
            for weight in f.loop(asked, (asked + part).minimum(size), line):
                upcoming.at(weight).prefetch()
        # Pixels past the last of a whole band repeat it: the table ends with copies of its last entry. A last band of
        # fewer rows would read the rows behind it: a block has room for them, behind an input there may be nothing.
        numbers = [(pixel + i).minimum(pixels - 1) if in_place else pixel + i for i in range(tile)]
        places = [pixel_table.at(number).load_int() for number in numbers]
        with f.when(out_column.equals(ITEMSIZES[element]) & stop.equals(channels)):
            _fetch_planes(f, finisher, out.at(pixel), pixel % together, valid, tile, together, width)
        if finish.residual:
            with f.when(out_channel.equals(ITEMSIZES[element])):
                _fetch_residual(f, finisher, out.at_bytes(pixel * out_column), tile, width)
        sums = Registers({key: f.zero(element, lanes) for key in keys})
        waiting = waiting_sums.at(pixel * width)
        if chunked:
            take_up(f, sums, waiting, start)

        def meet(origin: Pointer, weights: Pointer, places: Sequence[Int] = places, sums: Registers = sums) -> None:
            """One tap of one channel."""
            row = [weights.at(v * lanes).load(lanes) for v in range(vectors)]
            for i in range(tile):
                x = origin.at_bytes(places[i]).broadcast(lanes)
                for v in range(vectors):
                    sums[i, v] = x.times_plus(row[v], sums[i, v])

        for channel in _several(f, start, stop, max(8 // run, 1) if run < 5 else 1, sums):
            plane = block.at_bytes(channel * packed_channel)
            if in_place:
                # One tap, at the pixel itself: a loop and a table for it would take as many cycles as the sums. LLVM
                # would keep the sums of all eight planes and six places in memory, if it knew what they are.
                here = plane.disguised()
                meet(here, panel.at(channel * width))
                # Many planes are more streams than a processor foresees: 16 pictures 256->64 56x56 would wait for half
                # of their time. A register for the place would be one too many: sums would go to memory.
                if ahead:
                    here.at_bytes(places[tile - 1] + AHEAD_BYTES).prefetch()
                continue
            weights = panel.at(channel * taps * width)
            for first in f.loop(0, taps, run, carry=[sums]):
                for number in range(run):
                    tap = first + number
                    meet(plane.at_bytes(tap_table.at(tap).load_int()), weights.at(tap * width))
        count = (pixels - pixel).minimum(tile)
        with f.either(stop.equals(channels)) as (done, more):
            with done:
                added = [bias.at(v * lanes).load(lanes) for v in range(vectors)]
                results = {(i, v): finisher.early(sums[i, v] + added[v]) for i, v in keys}
                with f.either(out_column.equals(ITEMSIZES[element])) as (planes, other):
                    with planes:
                        row = pixel % together
                        for (i, v), value in results.items():
                            collected.at((row + i) * width + v * lanes).store(value)
                        with f.when((row + tile).equals(together) | (pixel + tile >= pixels)):
                            f.run(put, f.integer("fields"), collected, out.at(pixel - row), row + count, valid)
                    with other:
                        store_tile(
                            f,
                            results,
                            tile,
                            vectors,
                            out,
                            pixel,
                            count,
                            valid,
                            out_channel,
                            out_column,
                            collected,
                            finisher,
                        )
            with more:
                if chunked:
                    let_wait(sums, waiting)
    return f


def _fetch_planes(
    f: Function, finisher: Finisher, out: Pointer, row: Int, kernels: Int, tile: int, together: int, width: int
) -> None:
    """Ask for a tile's share of the lines that `planes_function` will write when all tiles of a group are collected.

    Those are a few lines in each of many planes, a pattern that no processor foresees: 64->256 56x56 waits for them
    a quarter of its time.
    """
    itemsize, out_channel = ITEMSIZES[out.element], FIELDS.integer(f, "out_channel")
    start = out.at(0 - row)
    for k in f.loop(row * width // together, ((row + tile) * width // together).minimum(kernels)):
        for line in range(0, together * itemsize, LINE_BYTES):
            to = start.at_bytes(k * out_channel + line)
            to.prefetch()
            finisher.fetch(to)


def _fetch_residual(f: Function, finisher: Finisher, out: Pointer, tile: int, width: int) -> None:
    """Ask for what will be added to a tile where channels lie side by side."""
    out_column = FIELDS.integer(f, "out_column")
    for i in range(tile):
        for line in range(0, width * ITEMSIZES[out.element], LINE_BYTES):
            finisher.fetch(out.at_bytes(out_column * i + line))


def _several(f: Function, start: Int, stop: Int, together: int, sums: Registers) -> Iterator[Int]:
    """From start to stop, `together` steps written out at a time; what is left over one by one."""
    whole = start + (stop - start) // together * together
    for first in f.loop(start, whole, together, carry=[sums]):
        for i in range(together):
            yield first + i
    if together > 1:
        yield from f.loop(whole, stop, carry=[sums])
