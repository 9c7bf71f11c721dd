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

from ...problem import Problem
from ..emit.source import Source
from ..emit.target import Target
from ..kernels import ELEMENTS
from ..lattice import lattices
from .blocks import Block, Form, most_scratch
from .direct_kernels import FIELDS, module
from .finish import Finish, finish_values
from .packed import Array, PackedSolution, waiting_bytes
from .panels import Panels
from .rounding import sum_bound
from .tiles import kernels_in_lanes, offset_tables, panel_vectors, refuses_forward, tile_pixels
from .unpacked import ReadsInPlace, Unpacked

NAME = "direct"
WIDENS = True
in_lanes = kernels_in_lanes

MOST_PACKED_BYTES = 16 << 20
"""A call that packs more weights than this would come near the 32 MiB of workspace that are promised."""


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
    extra = chunk_bytes(panels, chunk) if in_place else 0

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


class _ReadsInPlace(ReadsInPlace, PackedSolution):
    """Packs its weights chunk by chunk."""


def _solution(problem: Problem, target: Target, panels: Panels, *, unpacked: bool) -> PackedSolution:
    element, last = ELEMENTS[problem.dtype], problem.channels_last
    vectors = panels.width // target.lanes(problem.itemsize)
    channels = problem.in_channels // problem.groups
    chunk = chunk_of(problem, target, panels)

    def source(of_x: str, block: Block) -> Source:
        return module(
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
    extra = chunk_bytes(panels, chunk) if unpacked else 0
    kind = _ReadsInPlace if unpacked else PackedSolution
    return kind(problem, target, FIELDS, panels, source, own, form=_form(problem), sums=pixels, extra_bytes=extra)


def chunk_bytes(panels: Panels, chunk: int) -> int:
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
