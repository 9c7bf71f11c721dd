"""Direct convolution of many channels: an outer product of pixels and kernels per tap, for every geometry.

Maths: the definition, as a chain of fused multiply-adds in the order channel, depth, row, column; then the bias, a
residual and the activation. The order is fixed, so the result does not depend on threads, bands or the layout of the
data.

How it runs: a task packs the rows of input that a band of output rows reads (see `packing`), small enough for the
second-level cache. Then, for every panel of kernels, tile after tile of 6 pixels x 2 vectors of kernels (AVX2: 16
registers = 12 sums + 2 weights + 2 pixels; with 32 registers 6 x 4) runs through all taps of all channels:

    per tap: 6 broadcast loads + 2 weight loads + 12 multiply-adds, so 6 cycles of arithmetic on two fma units
             cover 8 loads on two load units

Where channels lie side by side a tile's results are stored as they are. Where pixels do, those of several tiles are
collected until there are whole cache lines for every plane, and turned round on the way there.

A panel of 64 channels and 9 taps is 36 KiB, more than the first-level cache, and every tile would fetch it from the
second again. So channels go in chunks whose weights fill half of the first level; between chunks the sums of all tiles
wait in memory, which costs 24 loads and stores per tile and chunk, against some 1500 multiply-adds.

Limits: float32 and float64; fewer than a vector of kernels per group wastes lanes, and with few channels the packing
and storing weigh more than the arithmetic.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...problem import Problem
from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, module_source
from ..emit.source import Source, emitted
from ..emit.target import Target
from ..kernels import ELEMENTS
from ..lattice import lattices
from ..runtime.jobs import Job
from .blocks import Block, Form, most_scratch
from .finish import FINISH_FIELDS, Finish, Finisher, finish_values
from .packed import BLOCK, Array, PackedSolution, place, waiting_bytes
from .packing import WEIGHT_LAYOUT, pack_block, pack_part, weight_layout
from .panels import Panels
from .rounding import sum_bound
from .tiles import (
    collected_pixels,
    kernels_in_lanes,
    let_wait,
    offset_tables,
    panel_vectors,
    planes_function,
    refuses_forward,
    store_tile,
    take_up,
    tile_pixels,
)

NAME = "direct"
WIDENS = True
in_lanes = kernels_in_lanes

LINE_BYTES = 64
AHEAD_BYTES = 96
"""From a tile that reads input in place to what it asks for, of every channel."""
MOST_PACKED_BYTES = 16 << 20
"""A call that packs more weights than this would come near the 32 MiB of workspace that are promised."""

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
        "packed_weights",  # likewise, the chunk of weights in use where they were not packed before
        *WEIGHT_LAYOUT,  # of such weights
    )
)


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only forward convolutions in floating point, with compiled code."""
    return refuses_forward(problem, target)


def width(problem: Problem, target: Target) -> int:
    """Kernels in a panel: as many vectors as the registers hold sums for, fewer where the group has fewer kernels."""
    lanes = target.lanes(problem.itemsize)
    return lanes * panel_vectors(problem.out_channels // problem.groups, lanes, target)


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: arithmetic with its wasted lanes, plus packing and storing at a fraction of an element per cycle."""
    assert target is not None
    lanes = target.lanes(problem.itemsize)
    panel = width(problem, target)
    kernels = problem.out_channels // problem.groups
    padded = -(-kernels // panel) * panel
    taps = math.prod(problem.weight_shape[1:])
    block = Block.of(problem, target, padded // panel, min(target.cores, 2), _form(problem))
    depth, _, columns = lattices(problem)
    pixels = tile_pixels(block.rows * columns.outputs, panel // lanes, target)
    per_band = -(-block.rows * columns.outputs // pixels)
    tiles = problem.batch * depth.outputs * block.bands * per_band * problem.groups * (padded // panel)
    # 12 sums on two units take 6 cycles a tap (6 wait for their loads instead, 4; on units of half a vector 7). A
    # vector of kernels takes 50 to be turned round and stored.
    vectors = panel // lanes
    least = 1.4 if target.passes == 1 else 1.15
    storing = (30 if problem.channels_last else 50) * vectors
    cycles = tiles * (taps * (pixels * max(vectors, least) / 2) + storing) * target.passes
    cycles += math.prod(problem.input_shape) * block.splits * 0.5 * target.passes
    weights = padded * problem.groups * taps * problem.itemsize
    cycles += problem.batch * depth.outputs * block.bands * weights / target.read_rate(weights)
    cycles *= block.unevenness(padded // panel, min(target.cores, 2))
    moving = target.moving(problem.bytes_moved)
    return 3e-6 + max(cycles / 3e9 / min(target.cores, 2), moving) + preparation(problem, target)


def preparation(problem: Problem, target: Target | None) -> float:
    """Seconds of that for packing the weights."""
    assert target is not None
    panels = Panels(problem, target, width(problem, target))
    return packing_seconds(problem, target, written=not _reads_weights_in_place(problem, target, panels))


def packing_seconds(problem: Problem, target: Target, *, written: bool = True) -> float:
    """Seconds for packing weights; those that are `written` past the second-level cache are moved three times.

    They are read, and their panels fetched to be written: 2048->512 7x7 takes 0.3 ms for 4 MiB, and 0.4 for the layer.
    """
    size = math.prod(problem.weight_shape)
    seconds, moved = size * 0.3 / 3e9 / min(target.cores, 2), size * problem.itemsize
    return max(seconds, target.moving(3 * moved)) if written and moved > target.l2_bytes else seconds


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: a packed block and the sums that wait beside it per thread, and the panels of weights, or a chunk each."""
    assert target is not None
    panels = Panels(problem, target, width(problem, target))
    chunk = chunk_of(problem, target, panels)
    in_place = _reads_weights_in_place(problem, target, panels)
    extra = _chunk_bytes(panels, chunk) if in_place else 0

    def per_thread(threads: int) -> int:
        block = Block.largest(problem, target, threads, _form(problem))
        waiting = waiting_bytes(problem, block, panels.width, _waiting_pixels(problem, chunk))
        return block.bytes + -(-(waiting + extra) // 64) * 64

    return (0 if in_place else panels.bytes) + most_scratch(target, per_thread)


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|: a chain of as many fused multiply-adds as there are products, then the bias."""
    return sum_bound(problem)


def _form(problem: Problem) -> Form:
    return Form(last=problem.channels_last)


def build(problem: Problem, target: Target | None) -> "PackedSolution | Unpacked":
    """The solution of `problem`."""
    assert target is not None
    panels = Panels(problem, target, width(problem, target))
    packed = _solution(problem, target, panels, unpacked=False)
    if not _reads_weights_in_place(problem, target, panels):
        return packed
    return Unpacked(packed, _solution(problem, target, panels, unpacked=True))


def _reads_weights_in_place(problem: Problem, target: Target, panels: Panels) -> bool:
    """Whether a single call should pack its weights chunk by chunk, in the first-level cache, when it gets there.

    Packing all of them first writes and reads them once more: 512 x 512 3x3 kernels take half as long again as
    computing 7x7 pixels. But every task packs for itself, so beyond a few tasks per panel it is better done once,
    unless the copy would break the promise about memory.
    """
    block = Block.of(problem, target, panels.blocks, target.cores, _form(problem))
    tasks = problem.batch * lattices(problem)[0].outputs * block.bands
    return panels.bytes > MOST_PACKED_BYTES or (tasks <= 2 and panels.bytes > target.l2_bytes)


class ReadsInPlace(PackedSolution):
    """Works with weights that were not packed before."""

    def _fill(
        self, block: Any, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None
    ) -> None:
        super()._fill(block, first, prepared, out, residual)
        for name, value in weight_layout(prepared[0]).items():
            block[self.fields.index[name]] = value


class Unpacked:
    """Leaves weights where they lie for a single call; otherwise does as `packed`."""

    def __init__(self, packed: PackedSolution, unpacked: PackedSolution) -> None:
        self.packed, self.unpacked = packed, unpacked
        self._dtype = np.dtype(packed.problem.dtype)

    def prepare(self, second: Array, bias: Array | None, fill: float, once: bool = False) -> tuple[Array, Array, float]:
        """As `packed`, or `second` itself, which has more than one axis, unlike panels."""
        if once and second.dtype == self._dtype and second.flags.aligned:
            return second, self.packed.panels.bias(bias), float(fill)
        return self.packed.prepare(second, bias, fill)

    @property
    def prepare_bytes(self) -> int:
        """Bytes that `prepare_jobs` needs."""
        return 0

    def prepare_jobs(self, second: Array, bias: Array | None, room: Array) -> tuple[Any, list[Job]] | None:
        """`second` itself, which may change between two runs of the jobs."""
        biases = self.packed.panels.bias_jobs(bias)
        if biases is None or second.dtype != self._dtype or not second.flags.aligned:
            return None
        return (second, biases[0], 0.0), biases[1]

    def run(
        self, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None = None
    ) -> None:
        """Compute into `out`."""
        self._solution(prepared).run(first, prepared, out, residual)

    def jobs(
        self, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None = None
    ) -> list[Job] | None:
        """What `run` does, written down."""
        return self._solution(prepared).jobs(first, prepared, out, residual)

    def _solution(self, prepared: tuple[Array, Array, float]) -> PackedSolution:
        return self.unpacked if prepared[0].ndim > 1 else self.packed


def _solution(problem: Problem, target: Target, panels: Panels, *, unpacked: bool) -> PackedSolution:
    element, last = ELEMENTS[problem.dtype], problem.channels_last
    vectors = panels.width // target.lanes(problem.itemsize)
    channels = problem.in_channels // problem.groups
    chunk = chunk_of(problem, target, panels)

    def source(of_x: str, block: Block) -> Source:
        return _module(
            target,
            element,
            tile_pixels(block.rows * lattices(problem)[2].outputs, vectors, target),
            panels.width,
            of_x,
            last,
            chunk < channels,
            _run_of_taps(math.prod(problem.weight_shape[2:])),
            Finish.of(problem, floor=True),
            unpacked,
        )

    def own(block: Block) -> tuple[dict[str, int | float], tuple[Array, ...]]:
        return _own_fields(problem, panels, block, chunk)

    pixels = _waiting_pixels(problem, chunk)
    extra = _chunk_bytes(panels, chunk) if unpacked else 0
    kind = ReadsInPlace if unpacked else PackedSolution
    return kind(problem, target, FIELDS, panels, source, own, form=_form(problem), sums=pixels, extra_bytes=extra)


def _chunk_bytes(panels: Panels, chunk: int) -> int:
    """Bytes of the weights of `chunk` channels of a panel."""
    return panels.bytes // (panels.problem.in_channels * panels.blocks) * chunk


def _waiting_pixels(problem: Problem, chunk: int) -> int:
    """Output pixels per row whose sums wait between chunks; none where one chunk holds all channels."""
    return 0 if chunk == problem.in_channels // problem.groups else lattices(problem)[2].outputs


def chunk_of(problem: Problem, target: Target, panels: Panels) -> int:
    """Channels whose weights fill about half of the first-level cache; all of them if they are not many more.

    Of the second where units take a vector in two halves: with 24 cycles for 256 bytes of weights it is near enough,
    and sums that need not wait between chunks are worth 2 to 7 %.
    """
    channels = problem.in_channels // problem.groups
    room = target.l1_bytes * 5 // 8 if target.passes == 1 else target.l2_bytes // 2
    fit = room // (panels.length // channels * panels.width * problem.itemsize)
    chunks = -(-channels // max(fit, 1))
    return -(-channels // chunks)


def _run_of_taps(taps: int) -> int:
    """Taps written out one after the other: 9 of 9, 7 of 49, 5 of 25. A loop less around 9 taps saves 4 %."""
    return next(run for run in range(10, 0, -1) if taps % run == 0)


def _own_fields(
    problem: Problem, panels: Panels, block: Block, chunk: int
) -> tuple[dict[str, int | float], tuple[Array, ...]]:
    """Where taps and pixels lie in the block, as byte offsets."""
    taps, pixels = offset_tables(problem, block)
    plane = lattices(problem)[0].taps * block.packed_rows * block.pitch
    values: dict[str, int | float] = {
        **finish_values(problem),
        "kernels": panels.kernels,
        "taps": len(taps),
        "tap_table": taps.ctypes.data,
        "pixel_table": pixels.ctypes.data,
        "chunk": chunk,
        "sums": block.bytes,
        "packed_weights": block.bytes + waiting_bytes(problem, block, panels.width, _waiting_pixels(problem, chunk)),
        "packed_channel": (1 if problem.channels_last else plane) * problem.itemsize,
    }
    return values, (taps, pixels)


@emitted("task")
def _module(
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
    part = pack_part("pack_part", target, FIELDS, element, panel) if unpacked else None
    parts = [pack, put, tiles] if part is None else [pack, put, tiles, part]
    return module_source([*parts, _task(target, element, panel, pack, tiles, part)])


def _task(target: Target, element: str, panel: int, pack: Function, tiles: Function, part: Function | None) -> Function:
    """Task: pack the rows of a band; for every panel of its share and chunk of channels, every tile of its pixels.

    With `part`, which packs a chunk of weights, these have not been packed before.
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
            if part is not None:
                kernel_step, channel_step = FIELDS.integers(f, "kernel_step", "channel_step")
                unpacked = panels.at_bytes((group * kernels + first) * kernel_step)
                packed = where.block.at_bytes(FIELDS.integer(f, "packed_weights"))
            out = where.out.at_bytes((group * kernels + first) * out_channel)
            for channel in f.loop(0, channels, chunk):
                stop = (channel + chunk).minimum(channels)
                if part is not None:
                    f.run(part, fields, unpacked.at_bytes(channel * channel_step), packed, stop - channel, valid)
                    weights = packed.at(channel * taps * -panel)  # where channel 0 would be
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
