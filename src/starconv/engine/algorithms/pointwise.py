"""1x1 kernels: a product of matrices, kernels x channels with channels x pixels, channels first.

Maths: O[s, p] = sum over r of K[s, r] X[r, p] + b[s] for pixels p, as a chain of fused multiply-adds over the channels,
so it gives the bits that `direct` gives.

How it runs: a task packs the pixels of a band, [channel][pixel] (with a stride only those that are read, so the rest
knows of none). A tile is 6 kernels x 2 vectors of pixels: per channel 2 vector loads + 6 broadcast loads for 12
multiply-adds, and its results lie as the output does, where `direct` has to turn them round: 60 cycles of 450 with 64
channels. All kernels meet 2 vectors of pixels before the next 2: those (256 channels: 16 KiB) stay in the first-level
cache while the weights, 24 bytes per 6 cycles, come from the second. More channels go in chunks, between which the
sums wait in memory.

Limits: float32 and float64, kernels of one tap, channels first.
"""

import math

from ...problem import Problem
from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Registers, module_source
from ..emit.source import Source, emitted
from ..emit.target import Target
from ..kernels import ELEMENTS
from ..lattice import lattices
from .blocks import Block, Form, most_scratch
from .finish import FINISH_FIELDS, Finish, Finisher, finish_values
from .packed import BLOCK, Array, PackedSolution, place
from .packing import pack_block
from .panels import KernelRows
from .refusals import refuses_taps
from .rounding import sum_bound
from .tiles import kernels_in_lanes, let_wait, most_vectors, refuses_forward, take_up

NAME = "pointwise"
WIDENS = True
in_lanes = kernels_in_lanes

KERNELS = 6
FEWEST_PIXELS = 2
"""Vectors of pixels in a plane below which lanes are mostly wasted."""

FIELDS = Fields(
    (
        *BLOCK,
        "panels",
        "bias",
        *FINISH_FIELDS,
        "kernels",  # kernels per group
        "plane",  # elements between channels in the block
        "chunk",  # channels whose pixels stay in the first-level cache
        "sums",  # where in the scratch memory sums wait between chunks, in bytes from the block
    )
)
_FORM = Form(spread=True)


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only kernels of one tap, channels first, with enough pixels to fill vectors."""
    refusal = refuses_forward(problem, target) or refuses_taps(problem)
    if refusal is not None or target is None:
        return refusal
    if problem.channels_last:
        return "it runs along pixels that lie side by side, not channels_last"
    pixels = math.prod(axis.output for axis in problem.axes)
    if pixels < FEWEST_PIXELS * target.lanes(problem.itemsize):
        return f"{pixels} pixels do not fill {FEWEST_PIXELS} vectors"
    return None


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: 6 cycles per channel and tile, 30 to store a tile, and packing."""
    assert target is not None
    lanes, vectors = target.lanes(problem.itemsize), most_vectors(target)
    kernels, channels = problem.out_channels // problem.groups, problem.in_channels // problem.groups
    pixels = math.prod(axis.output for axis in problem.axes)
    tiles = problem.batch * problem.groups * -(-kernels // KERNELS) * -(-pixels // (vectors * lanes))
    # Measured with 64 to 2048 channels: a seventh longer than 24 sums on two units take; with 16 registers a tenth
    # longer than 12.
    slower = 1.15 if vectors == 4 else 1.1
    cycles = tiles * (channels * KERNELS * vectors / 2 * slower + 15 * vectors) * target.passes
    splits = Block.of(problem, target, -(-kernels // KERNELS), min(target.cores, 2), _FORM).splits
    packed = problem.batch * problem.in_channels * pixels * splits
    cycles += packed * (0.35 if problem.axes[-1].stride == 1 else 1.5) * target.passes
    moving = target.moving(problem.bytes_moved)
    return 3e-6 + max(cycles / 3e9 / min(target.cores, 2), moving)


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: one packed block and waiting sums per thread, and the weights where they have to be copied."""
    assert target is not None
    panels = KernelRows(problem, target, KERNELS)
    extra = _extra_bytes(problem, target, panels)
    return panels.bytes + most_scratch(
        target, lambda threads: Block.largest(problem, target, threads, _FORM).bytes + extra
    )


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|: a chain of as many fused multiply-adds as there are channels, then the bias."""
    return sum_bound(problem)


def _chunk(problem: Problem, target: Target) -> int:
    """Channels whose pixels of one tile fill about two thirds of the first-level cache, in equal chunks."""
    channels = problem.in_channels // problem.groups
    fit = max(target.l1_bytes * 2 // 3 // (most_vectors(target) * target.vector_bytes), 1)
    return -(-channels // -(-channels // fit))


def _sums_bytes(problem: Problem, target: Target, panels: KernelRows) -> int:
    """Bytes in which the sums of all kernels for one tile of pixels wait; none where one chunk holds all channels."""
    if _chunk(problem, target) == problem.in_channels // problem.groups:
        return 0
    return panels.blocks * KERNELS * most_vectors(target) * target.vector_bytes


def _extra_bytes(problem: Problem, target: Target, panels: KernelRows) -> int:
    """Bytes behind the block: the waiting sums, and a tile that fewer pixels than it has reach past the end with."""
    return _sums_bytes(problem, target, panels) + most_vectors(target) * target.vector_bytes


def build(problem: Problem, target: Target | None) -> PackedSolution:
    """The solution of `problem`."""
    assert target is not None
    panels = KernelRows(problem, target, KERNELS)
    element, chunk = ELEMENTS[problem.dtype], _chunk(problem, target)
    sums = _sums_bytes(problem, target, panels)

    def own(block: Block) -> tuple[dict[str, int | float], tuple[Array, ...]]:
        values: dict[str, int | float] = {
            **finish_values(problem),
            "kernels": panels.kernels,
            "plane": lattices(problem)[0].taps * block.packed_rows * block.pitch,
            "chunk": chunk,
            "sums": block.bytes,
        }
        return values, ()

    def source(of_x: str, _: Block) -> Source:
        return _module(target, element, of_x, sums > 0, Finish.of(problem, floor=True))

    return PackedSolution(
        problem,
        target,
        FIELDS,
        panels,
        source,
        own,
        form=_FORM,
        extra_bytes=_extra_bytes(problem, target, panels),
    )


@emitted("task")
def _module(target: Target, element: str, source: str, chunked: bool, finish: Finish) -> str:
    """The module's IR. It depends on no size: all of them are fields."""
    pack = pack_block("pack_block", target, FIELDS, source, element)
    tile = _tile("tile", target, element, chunked, finish)
    return module_source([pack, tile, _task(target, element, pack, tile, finish)])


def _task(target: Target, element: str, pack: Function, tile: Function, finish: Finish) -> Function:
    """Task: pack a band's pixels; then, two vectors of them at a time, all kernels of its share.

    The last pixels of a band are a tile that is moved back to end with it; where a residual is added, which may be
    where the results go, every pixel is computed once, and the tile reaches past the end instead.
    """
    f = Function("task", target, ["fields", "task", "worker"])
    fields, where = f.integer("fields"), place(f, FIELDS, element)
    wide = most_vectors(target) * target.lanes(ITEMSIZES[element])
    blocks, kernels, channels, chunk = FIELDS.integers(f, "blocks", "kernels", "channels", "chunk")
    columns, out_channel, x_group = FIELDS.integers(f, "out_columns", "out_channel", "x_group")
    panels, biases = FIELDS.pointer(f, "panels", element), FIELDS.pointer(f, "bias", element)
    pixels = where.rows * columns
    for group in f.loop(where.first_group, where.last_group):
        source = where.source.at(group * x_group)
        f.run(pack, fields, source, where.block, where.depth_start, where.row_start, where.packed_rows)
        for tile_pixel in f.loop(0, pixels, wide):
            pixel = tile_pixel if finish.residual else tile_pixel.minimum((pixels - wide).maximum(0))
            count = (pixels - pixel).minimum(wide)
            for channel in f.loop(0, channels, chunk):
                stop = (channel + chunk).minimum(channels)
                for number in f.loop(where.first_block, where.last_block):
                    first, entry = number * KERNELS, group * blocks + number
                    bias = biases.at(entry * KERNELS)
                    weights = panels.at((group * kernels + first) * channels)
                    out = where.out.at_bytes((group * kernels + first) * out_channel)
                    valid = (kernels - first).minimum(KERNELS)
                    f.run(tile, fields, where.block, weights, bias, out, pixel, count, valid, channel, stop, number)
    return f


def _tile(name: str, target: Target, element: str, chunked: bool, finish: Finish) -> Function:
    """6 kernels x some vectors of pixels, through a chunk of channels; after the last one, bias, finish and store."""
    arguments = ["fields", "block", "panel", "bias", "out", "pixel", "count", "valid", "channel", "stop", "number"]
    f = Function(name, target, arguments, internal=True)
    lanes, vectors, itemsize = target.lanes(ITEMSIZES[element]), most_vectors(target), ITEMSIZES[element]
    block, panel, bias, out = (f.pointer(part, element) for part in ("block", "panel", "bias", "out"))
    pixel, count, valid = f.integer("pixel"), f.integer("count"), f.integer("valid")
    start, stop = f.integer("channel"), f.integer("stop")
    channels, plane, out_channel, out_column = FIELDS.integers(f, "channels", "plane", "out_channel", "out_column")
    keys = [(k, v) for k in range(KERNELS) for v in range(vectors)]
    # Of fewer kernels than a tile has, the last is computed several times; its copies are not stored.
    rows = [panel.at((valid - 1).minimum(k) * channels) for k in range(KERNELS)]
    finisher, corner = Finisher(f, FIELDS, element, finish), out.at_bytes(pixel * out_column)
    for k in range(KERNELS):
        finisher.fetch(corner.at_bytes(out_channel * k))
    sums = Registers({key: f.zero(element, lanes) for key in keys})
    waiting = block.at_bytes(FIELDS.integer(f, "sums")).at(f.integer("number") * (len(keys) * lanes))
    if chunked:
        take_up(f, sums, waiting, start)

    here = block.at(pixel)
    together = 4
    whole = start + (stop - start) // together * together
    for first, last, run in ((start, whole, together), (whole, stop, 1)):
        for channel in f.loop(first, last, run, carry=[sums]):
            for i in range(run):
                x = [here.at((channel + i) * plane + v * lanes).load(lanes) for v in range(vectors)]
                for k in range(KERNELS):
                    w = rows[k].at(channel + i).broadcast(lanes)
                    for v in range(vectors):
                        sums[k, v] = x[v].times_plus(w, sums[k, v])

    buffer = f.buffer(element, len(keys) * lanes)
    whole_tile = count.equals(vectors * lanes) & valid.equals(KERNELS) & out_column.equals(itemsize)
    with f.either(stop.equals(channels)) as (done, more):
        with done:
            results = {(k, v): finisher.early(sums[k, v] + bias.at(k).broadcast(lanes)) for k, v in keys}
            with f.either(whole_tile) as (straight, piecewise):
                with straight:
                    for (k, v), value in results.items():
                        finisher.store(corner.at_bytes(out_channel * k).at(v * lanes), value)
                with piecewise:
                    for number, key in enumerate(keys):
                        buffer.at(number * lanes).store(results[key])
                    for kernel in f.loop(valid):
                        for p in f.loop(count):
                            value = buffer.at(kernel * (vectors * lanes) + p).load()
                            finisher.store(corner.at_bytes(kernel * out_channel + p * out_column), value)
        with more:
            if chunked:
                let_wait(sums, waiting)
    return f
