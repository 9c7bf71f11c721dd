"""Depthwise layers of channels-last data: every channel has its own kernel, and vectors run over the channels.

Maths: the definition with one channel per group, as a chain of fused multiply-adds in the order depth, row, column, as
`direct` and `stencil` have it, so all give the same bits.

How it runs: a task packs the rows of input that a band of output rows reads, all channels side by side. A tile is 6
pixels x 2 vectors of channels; per tap, 2 vectors of weights serve 12 multiply-adds, each with its own vector of input:
7 loads for 6 multiply-adds, so the loads decide, 7/12 of the peak, and on most machines the memory before them.

Limits: float32 and float64, channels last, one kernel per channel. Channels-first depthwise layers suit `stencil`.
"""

import math
from dataclasses import replace

from ...problem import Problem
from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Registers, module_source
from ..emit.source import Source, emitted
from ..emit.target import Target
from .blocks import Block, Form, most_scratch
from .finish import FINISH_FIELDS, Finish, Finisher, finish_values
from .packed import BLOCK, Array, PackedSolution, place
from .packing import pack_block
from .panels import ELEMENTS, Panels
from .rounding import sum_bound
from .tiles import offset_tables, refuses_forward, store_tile

NAME = "depthwise"

PIXELS = 6
"""In a tile: 12 sums with 2 vectors of channels."""

VECTORS = 2

FIELDS = Fields(
    (
        *BLOCK,
        "panels",
        "bias",
        *FINISH_FIELDS,
        "taps",
        "tap_table",
        "pixel_table",
    )
)
_FORM = Form(last=True)


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only depthwise forward convolutions in floating point, channels last."""
    refusal = refuses_forward(problem, target)
    if refusal is not None:
        return refusal
    if problem.groups != problem.in_channels or problem.groups != problem.out_channels:
        return "it takes one kernel per channel, groups = C = K"
    if not problem.channels_last:
        return "it runs along channels that lie side by side (channels_last)"
    return None


def _as_one_group(problem: Problem) -> Problem:
    """The problem as blocks see it: all channels together."""
    return replace(problem, groups=1)


def _panels(problem: Problem, target: Target) -> Panels:
    """The kernels of neighbouring channels side by side: as those of one group with a single input channel."""
    return Panels(replace(problem, groups=1, in_channels=1), target, VECTORS * target.lanes(problem.itemsize))


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: 7 loads per 6 multiply-adds at two loads a cycle, packing, or the memory's time."""
    assert target is not None
    lanes = target.lanes(problem.itemsize)
    vectors = -(-problem.out_channels // (VECTORS * lanes)) * VECTORS
    pixels = math.prod(problem.output_shape) // problem.out_channels
    taps = math.prod(problem.weight_shape[1:])
    cycles = pixels * vectors * (taps * 7 / 12 + 3) * target.passes + math.prod(problem.input_shape) * 2 / lanes
    return 3e-6 + max(cycles / 3e9 / min(target.cores, 2), problem.bytes_moved / 15e9)


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: one packed block per thread, and the panels of weights."""
    assert target is not None
    panels = _panels(problem, target)
    one = _as_one_group(problem)
    return panels.bytes + most_scratch(target, lambda threads: Block.largest(one, target, threads, _FORM).bytes)


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|: a chain of as many fused multiply-adds as there are taps, then the bias."""
    return sum_bound(problem)


def build(problem: Problem, target: Target | None) -> PackedSolution:
    """The solution of `problem`."""
    assert target is not None
    element = ELEMENTS[problem.dtype]

    def own(block: Block) -> tuple[dict[str, int | float], tuple[Array, ...]]:
        taps, pixels = offset_tables(problem, block)
        values: dict[str, int | float] = {
            **finish_values(problem),
            "taps": len(taps),
            "tap_table": taps.ctypes.data,
            "pixel_table": pixels.ctypes.data,
        }
        return values, (taps, pixels)

    def source(of_x: str, _: Block) -> Source:
        return _module(target, element, of_x, Finish.of(problem, floor=True))

    return PackedSolution(_as_one_group(problem), target, FIELDS, _panels(problem, target), source, own, form=_FORM)


@emitted("task")
def _module(target: Target, element: str, source: str, finish: Finish) -> str:
    """The module's IR. It depends on no size: all of them are fields."""
    pack = pack_block("pack_block", target, FIELDS, source, element, last=True)
    tiles = _tiles("tiles", target, element, finish)
    return module_source([pack, tiles, _task(target, element, pack, tiles)])


def _task(target: Target, element: str, pack: Function, tiles: Function) -> Function:
    """Task: pack the rows of a band; then for every two vectors of channels of its share, every tile of its pixels."""
    f = Function("task", target, ["fields", "task", "worker"])
    fields, where = f.integer("fields"), place(f, FIELDS, element)
    f.run(pack, fields, where.source, where.block, where.depth_start, where.row_start, where.packed_rows)
    channels, taps, columns, out_channel = FIELDS.integers(f, "channels", "taps", "out_columns", "out_channel")
    panels, biases = FIELDS.pointer(f, "panels", element), FIELDS.pointer(f, "bias", element)
    panel = VECTORS * target.lanes(ITEMSIZES[element])
    for number in f.loop(where.first_block, where.last_block):
        first = number * panel
        weights, bias = panels.at(number * taps * panel), biases.at(first)
        out, valid = where.out.at_bytes(first * out_channel), (channels - first).minimum(panel)
        f.run(tiles, fields, where.block.at(first), weights, bias, out, where.rows * columns, valid)
    return f


def _tiles(name: str, target: Target, element: str, finish: Finish) -> Function:
    """All pixels of a band for two vectors of channels, 6 pixels at a time, then bias, finish and store."""
    f = Function(name, target, ["fields", "block", "panel", "bias", "out", "pixels", "valid"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    block, panel, bias, out = (f.pointer(part, element) for part in ("block", "panel", "bias", "out"))
    pixels, valid = f.integer("pixels"), f.integer("valid")
    taps, out_channel, out_column = FIELDS.integers(f, "taps", "out_channel", "out_column")
    tap_table, pixel_table = FIELDS.pointer(f, "tap_table", "i64"), FIELDS.pointer(f, "pixel_table", "i64")
    finisher = Finisher(f, FIELDS, element, finish)
    buffer = f.buffer(element, PIXELS * VECTORS * lanes)
    keys = [(i, v) for i in range(PIXELS) for v in range(VECTORS)]
    for pixel in f.loop(0, pixels, PIXELS):
        places = [pixel_table.at(pixel + i).load_int() for i in range(PIXELS)]
        sums = Registers({key: f.zero(element, lanes) for key in keys})
        for tap in f.loop(taps, carry=[sums]):
            origin = block.at_bytes(tap_table.at(tap).load_int())
            weights = [panel.at((tap * VECTORS + v) * lanes).load(lanes) for v in range(VECTORS)]
            for i, v in keys:
                x = origin.at_bytes(places[i]).at(v * lanes).load(lanes)
                sums[i, v] = x.times_plus(weights[v], sums[i, v])
        added = [bias.at(v * lanes).load(lanes) for v in range(VECTORS)]
        results = {(i, v): finisher.early(sums[i, v] + added[v]) for i, v in keys}
        count = (pixels - pixel).minimum(PIXELS)
        store_tile(f, results, PIXELS, VECTORS, out, pixel, count, valid, out_channel, out_column, buffer, finisher)
    return f
