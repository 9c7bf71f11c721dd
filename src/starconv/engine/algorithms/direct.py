"""Direct convolution of many channels: an outer product of pixels and kernels per tap, for every geometry.

Maths: the definition, as a chain of fused multiply-adds in the order channel, depth, row, column; then the bias, then
ReLU. The order is fixed, so the result does not depend on threads, bands or the layout of the data.

How it runs: a task packs the rows of input that a band of output rows reads (see `packing`), small enough for the
second-level cache. Then, for every panel of kernels, tile after tile of 6 pixels x 2 vectors of kernels (AVX2: 16
registers = 12 sums + 2 weights + 2 pixels; with 32 registers 6 x 4) runs through all taps of all channels:

    per tap: 6 broadcast loads + 2 weight loads + 12 multiply-adds, so 6 cycles of arithmetic on two fma units
             cover 8 loads on two load units

Limits: float32 and float64; fewer than a vector of kernels per group wastes lanes, and with few channels the packing
and storing weigh more than the arithmetic.
"""

import math
from functools import lru_cache

import numpy as np

from ...problem import Problem
from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, Vector, module_source, transposed
from ..emit.target import Target
from ..lattice import lattices
from .packed import BLOCK, ELEMENTS, Array, Block, PackedSolution, Panels, place
from .packing import pack_block

NAME = "direct"

PIXELS = 6

FIELDS = Fields(
    (
        *BLOCK,
        "panels",
        "bias",
        "floor",  # what results are raised to: 0 for ReLU, else minus infinity
        "kernels",  # kernels per group
        "taps",
        "tap_table",  # byte offset of every tap in the block
        "pixel_table",  # byte offset of every output pixel of a band in the block
        "packed_channel",  # bytes between channels in the block
    )
)


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only forward convolutions in floating point, with compiled code."""
    if target is None:
        return "no compiled code on this machine"
    if problem.operation != "conv":
        return "it computes convolutions, not their gradients"
    if problem.dtype not in ELEMENTS:
        return f"it sums in float32 or float64, not {problem.dtype}"
    if math.prod(problem.output_shape) == 0 or math.prod(problem.input_shape) == 0:
        return "there is nothing to compute"
    return None


def width(problem: Problem, target: Target) -> int:
    """Kernels in a panel: as many vectors as the registers hold sums for, fewer where the group has fewer kernels."""
    lanes = target.lanes(problem.itemsize)
    most = 4 if target.registers >= 32 and target.has_fma and target.vector_bytes == 64 else 2
    vectors = -(-(problem.out_channels // problem.groups) // lanes)
    return lanes * min(most, vectors if vectors < most else most)


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: arithmetic with its wasted lanes, plus packing and storing at a fraction of an element per cycle."""
    assert target is not None
    lanes = target.lanes(problem.itemsize)
    panel = width(problem, target)
    kernels = problem.out_channels // problem.groups
    padded = -(-kernels // panel) * panel
    taps = math.prod(problem.weight_shape[1:])
    pixels = math.prod(problem.output_shape) // problem.out_channels
    tiles = pixels * problem.groups * padded / (PIXELS * panel)
    # 12 sums on two units take 6 cycles a tap (a tile one vector wide waits for its loads instead, 4), and storing a tile some 60.
    cycles = tiles * (taps * (PIXELS * max(panel // lanes, 1.4) / 2) + 60)
    cycles += math.prod(problem.input_shape) * 0.5 + math.prod(problem.weight_shape) * 0.3
    return 3e-6 + cycles / 3e9 / min(target.cores, 2)


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: one packed block per thread, and the panels of weights."""
    assert target is not None
    panels = Panels(problem, target, width(problem, target))
    return panels.bytes + target.cores * Block.of(problem, target, panels.blocks, target.cores).bytes


def build(problem: Problem, target: Target | None) -> PackedSolution:
    """The solution of `problem`."""
    assert target is not None
    panels = Panels(problem, target, width(problem, target))
    element, last = ELEMENTS[problem.dtype], problem.channels_last

    def source(of_x: str) -> str:
        return _module(target, element, panels.width, of_x, last)

    def own(block: Block) -> tuple[dict[str, int | float], tuple[Array, ...]]:
        return _own_fields(problem, panels, block)

    return PackedSolution(problem, target, FIELDS, panels, source, own)


def _own_fields(problem: Problem, panels: Panels, block: Block) -> tuple[dict[str, int | float], tuple[Array, ...]]:
    """Where taps and pixels lie in the block, as byte offsets."""
    depth, rows, columns = lattices(problem)
    column_step = block.channels if problem.channels_last else 1
    row_step = columns.size * column_step
    depth_step = block.packed_rows * row_step

    def offsets(counts: tuple[int, int, int], steps: tuple[int, int, int]) -> Array:
        d, r, c = (np.arange(count) * step for count, step in zip(counts, steps, strict=True))
        flat = (d[:, np.newaxis, np.newaxis] + r[:, np.newaxis] + c).ravel()
        return (flat * problem.itemsize).astype(np.int64)

    # The block holds the depths of one output depth side by side, so its taps are one depth apart.
    taps = offsets((depth.taps, rows.taps, columns.taps), (depth_step, rows.dilation * row_step, columns.dilation * column_step))
    pixels = offsets((1, block.rows, columns.outputs), (0, rows.stride * row_step, columns.stride * column_step))
    pixels = np.concatenate([pixels, np.repeat(pixels[-1:], PIXELS)])
    values: dict[str, int | float] = {
        "floor": 0.0 if problem.activation == "relu" else -math.inf,
        "kernels": panels.kernels,
        "taps": len(taps),
        "tap_table": taps.ctypes.data,
        "pixel_table": pixels.ctypes.data,
        "packed_channel": (1 if problem.channels_last else depth.taps * depth_step) * problem.itemsize,
    }
    return values, (taps, pixels)


@lru_cache(maxsize=256)
def _module(target: Target, element: str, panel: int, source: str, last: bool) -> str:
    """The module's IR. It depends on no size: all of them are fields."""
    pack = pack_block("pack_block", target, FIELDS, source, element, last=last)
    vectors = panel // target.lanes(ITEMSIZES[element])
    tile = _tile("tile", target, element, vectors)
    return module_source([pack, tile, _task(target, element, panel, pack, tile)])


def _task(target: Target, element: str, panel: int, pack: Function, tile: Function) -> Function:
    """Task: pack the rows of a band, then every tile of its pixels with every panel of its share."""
    f = Function("task", target, ["fields", "task", "worker"])
    where = place(f, FIELDS, element)
    block = where.block
    f.run(pack, f.integer("fields"), where.source, block, where.depth_start, where.row_start, where.packed_rows)

    blocks, kernels, channels, taps = FIELDS.integers(f, "blocks", "kernels", "channels", "taps")
    panels = FIELDS.pointer(f, "panels", element)
    bias = FIELDS.pointer(f, "bias", element)
    columns, out_channel, out_column = FIELDS.integers(f, "out_columns", "out_channel", "out_column")
    pixels = where.rows * columns
    for number in f.loop(where.first_block, where.last_block):
        first = number * panel
        chosen = panels.at((where.group * blocks + number) * channels * taps * panel)
        offset = bias.at((where.group * blocks + number) * panel)
        valid = (kernels - first).minimum(panel)
        out = where.out.at_bytes((where.group * kernels + first) * out_channel)
        for pixel in f.loop(0, pixels, PIXELS):
            f.run(tile, f.integer("fields"), block, chosen, offset, out, pixel, (pixels - pixel).minimum(PIXELS), valid)
    return f


def _tile(name: str, target: Target, element: str, vectors: int) -> Function:
    """6 pixels x `vectors` vectors of kernels, through all taps of all channels, then bias, floor and store."""
    f = Function(name, target, ["fields", "block", "panel", "bias", "out", "pixel", "count", "valid"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    itemsize = ITEMSIZES[element]
    panel_width = vectors * lanes
    block, panel, bias = (f.pointer(part, element) for part in ("block", "panel", "bias"))
    out, pixel, count, valid = f.pointer("out", element), f.integer("pixel"), f.integer("count"), f.integer("valid")
    channels, taps, packed_channel = FIELDS.integers(f, "channels", "taps", "packed_channel")
    tap_table, pixel_table = FIELDS.pointer(f, "tap_table", "i64"), FIELDS.pointer(f, "pixel_table", "i64")
    # Pixels past the band's last repeat the last one: the table ends with copies of its last entry.
    pixels = [pixel_table.at(pixel + i).load_int() for i in range(PIXELS)]

    sums = Registers({(i, v): f.zero(element, lanes) for i in range(PIXELS) for v in range(vectors)})
    for channel in f.loop(channels, carry=[sums]):
        plane = block.at_bytes(channel * packed_channel)
        weights = panel.at(channel * taps * panel_width)
        for tap in f.loop(taps, carry=[sums]):
            origin = plane.at_bytes(tap_table.at(tap).load_int())
            row = [weights.at(tap * panel_width + v * lanes).load(lanes) for v in range(vectors)]
            for i in range(PIXELS):
                x = origin.at_bytes(pixels[i]).broadcast(lanes)
                for v in range(vectors):
                    sums[i, v] = x.times_plus(row[v], sums[i, v])

    floor = FIELDS.real(f, "floor", element).broadcast(lanes)
    results = {}
    for v in range(vectors):
        b = bias.at(v * lanes).load(lanes)
        for i in range(PIXELS):
            results[i, v] = (sums[i, v] + b).raised_to(floor)
    _store_tile(f, results, vectors, out, pixel, count, valid, lanes, element, itemsize)
    return f


def _store_tile(
    f: Function,
    results: dict[tuple[int, int], Vector],
    vectors: int,
    out: Pointer,
    pixel: Int,
    count: Int,
    valid: Int,
    lanes: int,
    element: str,
    itemsize: int,
) -> None:
    """Whole tiles go straight to a dense `out`; the others through a buffer, element by element."""
    out_channel, out_column = FIELDS.integers(f, "out_channel", "out_column")
    whole = count.equals(PIXELS) & valid.equals(vectors * lanes)
    with f.either(whole & out_column.equals(itemsize)) as (channels_first, other):
        with channels_first:
            start = out.at(pixel)
            for v in range(vectors):
                for group in range(0, PIXELS, lanes):
                    rows = [results[min(group + i, PIXELS - 1), v] for i in range(lanes)]
                    for k, column in enumerate(transposed(rows)):
                        _store_part(start.at(group).at_bytes(out_channel * (v * lanes + k)), column, min(PIXELS - group, lanes))
        with other, f.either(whole & out_channel.equals(itemsize)) as (channels_last, rest):
            with channels_last:
                for i in range(PIXELS):
                    start = out.at_bytes((pixel + i) * out_column)
                    for v in range(vectors):
                        start.at(v * lanes).store(results[i, v])
            with rest:
                buffer = f.buffer(element, PIXELS * vectors * lanes)
                for i in range(PIXELS):
                    for v in range(vectors):
                        buffer.at((i * vectors + v) * lanes).store(results[i, v])
                for i in f.loop(count):
                    for k in f.loop(valid):
                        value = buffer.at(i * (vectors * lanes) + k).load()
                        out.at_bytes((pixel + i) * out_column + k * out_channel).store(value)


def _store_part(to: Pointer, vector: Vector, count: int) -> None:
    """The first `count` lanes, in pieces that are powers of two."""
    done = 0
    while done < count:
        piece = 1 << ((count - done).bit_length() - 1)
        part = vector if piece == vector.lanes else vector.shuffled(vector, range(done, done + piece))
        to.at(done).store(part if piece > 1 else vector.lane(done))
        done += piece

