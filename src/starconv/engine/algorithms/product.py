"""1x1 kernels: a product of matrices, pixels x channels with channels x kernels, whose input is read where it lies.

Maths: O[p, s] = sum over r of X[p, r] K[s, r] + b[s] for pixels p, as a chain of fused multiply-adds over the channels,
so it gives the bits that `direct` gives.

How it runs: the tiles are `direct`'s, 6 pixels x 2 vectors of kernels. A table has the place of every pixel of a band,
and a field the distance of channels, so nothing is packed, whether channels come first or last. That makes tasks cheap
to cut, into bands of rows and shares of the kernels: 14x14 pixels on two threads are best cut by kernels, and 7x7 too,
112x112 by rows.

Limits: float32 and float64, kernels of one tap without padding.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...problem import Problem
from ..descriptor import Fields, address_of
from ..emit.ir import ITEMSIZES, Function, module_source
from ..emit.source import emitted
from ..emit.target import Target
from ..kernels import ELEMENTS, compiled
from ..lattice import grid_offsets, lattices, spatial_steps
from . import direct, direct_kernels
from .blocks import SERIAL_PRODUCTS, threads_for
from .finish import Finish, finish_values
from .packed import MOST_PIXELS, Array, Binding, CompiledSolution, place
from .packing import pack_part
from .panels import Panels, readable
from .refusals import refuses_taps_or_padding
from .rounding import sum_bound
from .tiles import kernels_in_lanes, planes_function, refuses_forward, tile_pixels
from .unpacked import ReadsInPlace, Unpacked, packed_chunk

NAME = "product"
in_lanes = kernels_in_lanes

FIELDS = Fields((*direct_kernels.FIELDS.names, "x_row"))  # bytes from one row that is read to the next
PAGE_BYTES = 4096
LEAST_UNPACKED = 64 << 10
"""Bytes of weights that are worth it."""
TASK_CYCLES = 1500
"""What a task costs beside its tiles: being claimed, and the first tile's weights."""
PANEL_RATE = 96.0
"""Bytes per cycle at which a task's weights come to the first-level cache beside its arithmetic."""


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only kernels of one tap without padding."""
    refusal = refuses_forward(problem, target) or refuses_taps_or_padding(problem)
    if refusal is not None:
        return refusal
    if lattices(problem)[0].outputs > 1:
        return "it takes pictures, not volumes"
    return None


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: the cycles of the best cut, but not less than the memory takes to bring input, weights and output."""
    assert target is not None
    cycles = cut_of(problem, target, min(target.cores, 2)).cycles
    moving = target.moving(problem.bytes_moved)
    return 3e-6 + max(cycles / 3e9, moving) + preparation(problem, target)


def preparation(problem: Problem, target: Target | None) -> float:
    """Seconds of that for packing the weights."""
    assert target is not None
    return direct.packing_seconds(problem, target)


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: the panels of weights, or per thread a chunk of one, and the sums that wait."""
    assert target is not None
    panels = Panels(problem, target, direct.width(problem, target))
    packed = panels.bytes
    if _packs_as_it_goes(problem, target, packed):
        packed = max(packed, target.cores * direct.chunk_bytes(panels, direct.chunk_of(problem, target, panels)))
    if not _chunked(problem, target, panels):
        return packed
    # Every number of threads is asked: fewer may have more sums that wait, in bands that are much higher.
    counts = range(1, target.cores + 1)
    return packed + max(count * _waiting(problem, target, panels, cut_of(problem, target, count)) for count in counts)


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|: a chain of as many fused multiply-adds as there are channels, then the bias."""
    return sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "ProductSolution | Unpacked":
    """The solution of `problem`."""
    assert target is not None
    packed = ProductSolution(problem, target)
    if not _packs_as_it_goes(problem, target, packed.panels.bytes):
        return packed
    return Unpacked(packed, _ReadsInPlace(problem, target, unpacked=True))


def _packs_as_it_goes(problem: Problem, target: Target, size: int) -> bool:
    """Whether in a single call each task should pack its weights, which take up `size` bytes.

    Up to two bands pack the same panels, so every core does at most as much as if there were one.
    """
    cut = cut_of(problem, target, min(target.cores, 2))
    return size > LEAST_UNPACKED and cut.bands * problem.batch <= 2


class Cut(NamedTuple):
    """Bands of rows and shares of the panels.

    `fetching` is what a thread waits for its pixels and weights beside the `cycles` that it computes: it tells cuts
    apart, not algorithms, which all have to fetch.
    """

    rows: int
    bands: int
    panels: int
    splits: int
    cycles: float
    fetching: float


@lru_cache(maxsize=4096)
def cut_of(problem: Problem, target: Target, threads: int) -> Cut:
    """The cut whose last task is predicted to end first.

    Where channels lie side by side, rather in bands than by panels: measured, two threads that write neighbouring lines
    hinder each other a little.
    """
    shared = 1.02 if problem.channels_last else 1

    def until_last(cut: Cut) -> float:
        return cut.cycles * (shared if cut.splits > 1 else 1) + cut.fetching

    return min(_cuts(problem, target, threads), key=until_last)


def _cuts(problem: Problem, target: Target, threads: int) -> Iterator[Cut]:
    """Up to 8 tasks per thread, as even as can be."""
    width, lanes = direct.width(problem, target), target.lanes(problem.itemsize)
    blocks = -(-(problem.out_channels // problem.groups) // width)
    channels = problem.in_channels // problem.groups
    _, rows, columns = lattices(problem)
    workers = threads if problem.multiply_adds >= SERIAL_PRODUCTS else 1
    most = 8 * workers
    vectors = width // lanes
    # 12 sums on two units take 6 cycles per channel, and a seventh more where rows are skipped and that is too short to
    # find a channel's page, of which the first-level cache knows 64 to 96: with 24 sums it is not, unless what is asked
    # for ahead, of which half will not be read, comes from memory.
    plane = math.prod(axis.input for axis in problem.axes) * problem.itemsize
    skips = any(axis.stride > 1 for axis in problem.axes) and not problem.channels_last and plane >= PAGE_BYTES
    far = math.prod(problem.input_shape) * problem.itemsize > target.l3_bytes // 2
    page = 1.15 if skips and (vectors < 4 or far) else 1
    # Storing takes 5 per pixel, or per vector that is turned round.
    storing = 5 if problem.channels_last else 5 * vectors
    pixel = (channels * max(vectors, 1.4) / 2 * page + storing) * target.passes
    # A band is read by every panel in turn: from the second-level cache, if it fits, with the columns that are skipped.
    row_bytes = columns.outputs * problem.axes[-1].stride * channels * problem.itemsize
    fit = max(target.l2_bytes // 2 // row_bytes, 1)
    fewest = min(-(-rows.outputs // fit), rows.outputs)
    counts = {min(n, rows.outputs) for n in (*range(1, most + 1), fewest, 2 * fewest) if n >= fewest}
    for bands in sorted({-(-rows.outputs // -(-rows.outputs // n)) for n in counts}):
        per_band = -(-rows.outputs // bands)
        for splits in sorted({-(-blocks // -(-blocks // n)) for n in range(1, min(blocks, most) + 1)}):
            panels = -(-blocks // splits)
            tasks = problem.batch * problem.groups * bands * splits
            count = per_band * columns.outputs
            tile = tile_pixels(count, vectors, target)
            each = -(-count // tile) * tile * panels * pixel + TASK_CYCLES
            rounds = -(-tasks // workers)
            # Threads do not go on at one speed: small tasks even out what a large one would let the others wait for.
            cycles = rounds * each + (0.15 * each if workers > 1 else 0)
            fetching = _fetching(problem, target, bands, splits, rounds)
            fetching += rounds * channels * panels * width * problem.itemsize / PANEL_RATE
            yield Cut(per_band, bands, panels, splits, cycles, fetching)


def _fetching(problem: Problem, target: Target, bands: int, splits: int, tasks: int) -> float:
    """Cycles in which a thread fetches the pixels and weights of its `tasks` neighbouring tasks for the first time.

    The pixels come from other caches, the weights of a network from memory: 960->160 7x7 takes 97 us in 4 bands, for
    which every thread reads all weights, and 76 in 5 shares of the panels.
    """
    pictures = problem.batch * problem.groups
    pixels = math.prod(axis.output for axis in problem.axes) * problem.batch * problem.in_channels
    weights = problem.in_channels * problem.out_channels // problem.groups
    of_pixels = min(-(-tasks // splits) / (pictures * bands), 1.0)
    of_weights = min(tasks / splits, 1.0)
    rates = target.last_rate, target.memory_rate
    return (pixels * of_pixels / rates[0] + weights * of_weights / rates[1]) * problem.itemsize


def _chunked(problem: Problem, target: Target, panels: Panels) -> bool:
    """Whether a panel's weights are so many that channels come in chunks."""
    return direct.chunk_of(problem, target, panels) < problem.in_channels // problem.groups


def _waiting(problem: Problem, target: Target, panels: Panels, cut: Cut) -> int:
    """Bytes per thread in which sums wait between chunks of channels; none where one chunk holds all."""
    if not _chunked(problem, target, panels):
        return 0
    pixels = cut.rows * lattices(problem)[2].outputs + MOST_PIXELS
    return -(-pixels * panels.width * problem.itemsize // 64) * 64


class ProductSolution(CompiledSolution):
    """Runs one problem; see the module's text. `unpacked` weights are packed by its tasks."""

    def __init__(self, problem: Problem, target: Target, *, unpacked: bool = False) -> None:
        super().__init__(problem, target, FIELDS, Panels(problem, target, direct.width(problem, target)))
        self._unpacked = unpacked

    def _readable(self, first: Array) -> Array:
        return readable(first, self._dtype)

    def bind(self, x: Array, out: Array, limit: int) -> Binding:
        """A table of where pixels lie, and all sizes and steps."""
        problem, panels = self.problem, self.panels
        cut = cut_of(problem, self.target, limit)
        _, rows, columns = lattices(problem)
        _, x_row, x_column = spatial_steps(x)
        _, out_row, out_column = spatial_steps(out)
        x_row, x_column = x_row * rows.step, x_column * columns.step
        pixels = grid_offsets((cut.rows, columns.outputs), (x_row, x_column))
        pixels = np.concatenate([pixels, np.repeat(pixels[-1:], MOST_PIXELS)])
        taps = np.zeros(1, np.int64)
        channels = problem.in_channels // problem.groups
        chunk = direct.chunk_of(problem, self.target, panels)
        waiting = _waiting(problem, self.target, panels, cut)
        scratch = waiting + (direct.chunk_bytes(panels, chunk) if self._unpacked else 0)
        values: dict[str, int | float] = {
            **finish_values(problem),
            "x_batch": x.strides[0],
            "x_group": x.strides[1] * channels,
            "x_row": x_row,
            "scratch_bytes": scratch,
            "packed_weights": waiting,
            "out_batch": out.strides[0],
            "out_channel": out.strides[1],
            "out_row": out_row,
            "out_column": out_column,
            "groups": problem.groups,
            "shares": problem.groups,
            "groups_per_task": 1,
            "depths": 1,
            "bands": cut.bands,
            "splits": cut.splits,
            "panels_per_split": cut.panels,
            "blocks": panels.blocks,
            "rows_per_band": cut.rows,
            "out_rows": rows.outputs,
            "out_columns": columns.outputs,
            "row_stride": 1,
            "channels": channels,
            "kernels": panels.kernels,
            "taps": 1,
            "tap_table": address_of(taps),
            "pixel_table": address_of(pixels),
            "packed_channel": x.strides[1],
            "chunk": chunk,
        }
        tasks = problem.batch * problem.groups * cut.bands * cut.splits
        workers = threads_for(problem, tasks, limit)
        finish = Finish.of(problem, floor=True)
        tile = tile_pixels(cut.rows * columns.outputs, panels.width // self.target.lanes(problem.itemsize), self.target)
        beside = x.strides[-1] < x.strides[1]  # pixels of a channel lie side by side
        form = tile, panels.width, chunk < channels, beside, finish, self._unpacked
        function = compiled(_module(self.target, ELEMENTS[problem.dtype], *form), self.target, "task")
        return Binding(function, self.fields.block(values), tasks, workers, scratch * workers, (pixels, taps), [])


class _ReadsInPlace(ReadsInPlace, ProductSolution):
    """Packs its weights chunk by chunk."""


@emitted("task")
def _module(
    target: Target,
    element: str,
    tile: int,
    panel: int,
    chunked: bool,
    ahead: bool,
    finish: Finish,
    unpacked: bool,
) -> str:
    """The module's IR. It depends on no size: all of them are fields."""
    vectors = panel // target.lanes(ITEMSIZES[element])
    put = planes_function("put_planes", target, element, panel, FIELDS, finish)
    tiles = direct_kernels.tiles_function(
        "tiles", target, element, tile, vectors, chunked, 1, finish, unpacked, put, in_place=True, ahead=ahead
    )
    parts = pack_part("pack_part", target, FIELDS, element, panel) if unpacked else []
    return module_source([put, tiles, *parts, _task(target, element, panel, tiles, parts)])


def _task(target: Target, element: str, panel: int, tiles: Function, parts: list[Function]) -> Function:
    """Task: for every panel of its share and chunk of channels, every tile of the band's pixels, where they lie.

    With `parts`, the last of which packs a chunk of weights, these have not been packed before.
    """
    f = Function("task", target, ["fields", "task", "worker"])
    fields, where = f.integer("fields"), place(f, FIELDS, element)
    blocks, kernels, channels = FIELDS.integers(f, "blocks", "kernels", "channels")
    columns, out_channel, chunk = FIELDS.integers(f, "out_columns", "out_channel", "chunk")
    panels, biases = FIELDS.pointer(f, "panels", element), FIELDS.pointer(f, "bias", element)
    pixels, group = where.rows * columns, where.first_group
    source = where.source.at(group * FIELDS.integer(f, "x_group") + where.row_start * FIELDS.integer(f, "x_row"))
    for number in f.loop(where.first_block, where.last_block):
        first, entry = number * panel, group * blocks + number
        weights, bias = panels.at(entry * channels * panel), biases.at(entry * panel)
        valid = (kernels - first).minimum(panel)
        out = where.out.at_bytes((group * kernels + first) * out_channel)
        for channel in f.loop(0, channels, chunk):
            stop = (channel + chunk).minimum(channels)
            block = source.viewed(element)
            if parts:
                kernel = group * kernels + first
                weights = packed_chunk(f, FIELDS, parts[-1], panels, kernel, where.block, (channel, stop), valid)
                weights = weights.at(channel * -panel)  # where channel 0 would be
            f.run(tiles, fields, block, weights, bias, out, where.block, pixels, valid, channel, stop)
    return f
