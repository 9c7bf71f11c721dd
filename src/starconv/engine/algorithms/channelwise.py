"""Depthwise layers and their input gradients, by vectors of channels: every channel has its own kernel.

Maths: the definition with one channel per group, as a chain of fused multiply-adds in the order row, column, which is
that of `direct` and `stencil`, so all give the same bits. The input gradient of stride s is s x s such sums over the
output's gradient, one per *phase* (see `geometry.adjoint_phases`), each of its own taps in reverse: all of them read
the same rows, so these are packed once, and every phase puts its pixels where they belong. Nothing is woven afterwards.

How it runs: a unit is a band of rows of a *block* of channels, as many as make a cache line. The *frame* of a band, the
rows that it reads with their padding, is packed as [row][column][channel], which takes 16 shuffles per 8 pixels of 8
channels where the source is channels first. Then tiles of up to 14 neighbouring pixels: per tap a vector of weights is
loaded for as many multiply-adds as there are pixels, each with a vector of input, so 15 loads for 14 multiply-adds.
Of kernels with many taps, all of them finite, rows that meet nothing but zeros of padding are left out: of 13x13 on
7x7 pixels with 6 of padding 78 of 169 products. Channels-first results wait as [pixel][channel], and are turned round
in the end. So it is indifferent to how short rows are, where vectors of pixels lose: 7 pixels in a row waste nothing.

Limits: float32 and float64, one or two spatial axes, one kernel per channel, at least a vector of channels, and padding
by a constant.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...geometry import Axis, adjoint_phases
from ...problem import Problem
from ..descriptor import address_of
from ..emit.target import Target
from ..kernels import ELEMENTS
from ..lattice import spatial_steps
from .blocks import SERIAL_PRODUCTS, cut_of, threads_for
from .channelwise_kernels import FIELDS, Form, compute_function
from .finish import Finish, finish_values, lies_like
from .packed import Binding, CompiledSolution
from .panels import MANY_TAPS, ChannelRows, is_read, readable
from .refusals import refuses_many_kernels, refuses_many_phases, refuses_unless
from .rounding import sum_bound

NAME = "channelwise"

Array = NDArray[Any]

LINE = 64
"""Bytes of a cache line, which a block of channels fills."""
MANY_BYTES = 12 << 10
"""Of a plane from which on the memory is asked early for what comes next."""


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only depthwise convolutions and their input gradients in floating point."""
    refusal = refuses_depthwise(problem.operation, problem, target)
    if refusal is not None or target is None:
        return refusal
    if problem.operation == "weight_grad":
        return "it computes convolutions and their input gradients"
    if problem.residual and problem.in_channels % _width(problem, target):
        return "its last block of channels would add the residual twice"
    return None


def refuses_depthwise(operation: str, problem: Problem, target: Target | None) -> str | None:
    """What this and the depthwise weight gradients refuse alike."""
    refusal = refuses_unless(operation, problem, target) or refuses_many_kernels(problem)
    if refusal is not None or target is None:
        return refusal
    if problem.in_channels < target.lanes(problem.itemsize):
        return f"it runs along channels, of which {problem.in_channels} do not fill a vector"
    if problem.spatial == 3:
        return "it takes one or two spatial axes"
    if problem.border != "constant":
        return f"it packs no border of {problem.border}"
    if refusal := refuses_many_phases(problem):
        return refusal
    if cut_of(problem, target) is not None:
        return "its row fills the second-level cache, so it is cut into stretches first"
    return None


@dataclass(frozen=True, slots=True)
class PhaseOfAxis:
    """Some positions of the result along one axis: every `spread`-th from `first` on, and what each reads.

    `taps` are pairs: where position 0 reads in the frame, and the number of the kernel's tap.
    """

    first: int
    count: int
    taps: tuple[tuple[int, int], ...]


class Frame(NamedTuple):
    """One axis: the elements that are read, side by side with their padding, and the phases that read them.

    Attributes:
        source: elements there are; element 0 is `before` from the frame's start.
        size: elements in the frame.
        stride: from what a position reads to what the next one does.
        spread: from the result of a position to that of the next one.
    """

    source: int
    before: int
    size: int
    stride: int
    spread: int
    phases: tuple[PhaseOfAxis, ...]

    @classmethod
    def of(cls, axis: Axis, operation: str) -> "Frame":
        """The frame of a convolution's axis, or of its input gradient's."""
        if operation != "input_grad":
            taps = tuple((tap * axis.dilation, tap) for tap in range(axis.kernel))
            size = (axis.output - 1) * axis.stride + axis.extent
            return cls(axis.input, axis.before, size, axis.stride, 1, (PhaseOfAxis(0, axis.output, taps),))
        found = []
        for phase in adjoint_phases(axis):
            taps = ()
            if phase.axis is not None:
                start, spread = phase.skipped - phase.axis.before, phase.axis.dilation
                taps = tuple((start + i * spread, tap) for i, tap in enumerate(reversed(phase.taps)))
            found.append(PhaseOfAxis(phase.first, len(range(phase.first, axis.input, phase.step)), taps))
        lowest = min((tap[0] for phase in found for tap in phase.taps), default=0)
        size = max((tap[0] + phase.count for phase in found for tap in phase.taps), default=lowest + 1) - lowest
        moved = (
            PhaseOfAxis(phase.first, phase.count, tuple((place - lowest, tap) for place, tap in phase.taps))
            for phase in found
        )
        return cls(axis.output, -lowest, size, 1, axis.stride, tuple(moved))

    @property
    def positions(self) -> int:
        """Of the phase that has the most."""
        return max(phase.count for phase in self.phases)

    @property
    def reach(self) -> int:
        """Elements that one position reads, from the first to the last of any phase."""
        return max((tap[0] + 1 for phase in self.phases for tap in phase.taps), default=1)

    @property
    def results(self) -> int:
        """Elements of the result."""
        return sum(phase.count for phase in self.phases)

    def met(self, phase: PhaseOfAxis) -> list[tuple[int, int]]:
        """Per position of `phase`: its first tap that reads an element of the source, and the one after the last."""
        places = [place - self.before for place, _ in phase.taps]
        origins = range(0, -phase.count * self.stride, -self.stride)
        return [(bisect_left(places, origin), bisect_left(places, origin + self.source)) for origin in origins]

    def parts(self) -> tuple[int, int, int, int]:
        """Columns of padding, of the source, and of padding, and the source's first column that is in the frame."""
        first = max(-self.before, 0)
        left = min(max(self.before, 0), self.size)
        middle = max(min(self.source - first, self.size - left), 0)
        return left, middle, self.size - left - middle, first


@lru_cache(maxsize=1024)
def frames(problem: Problem) -> tuple[Frame, Frame]:
    """The frames of rows and columns; of a single row where the problem has one axis."""
    axes = (Axis(1, 1),) * (2 - problem.spatial) + problem.axes
    rows, columns = (Frame.of(axis, problem.operation) for axis in axes)
    return rows, columns


def frame_fields(problem: Problem, x: Array, width: int, pitch: int) -> tuple[dict[str, int], Array]:
    """The fields of `channelwise_kernels.FRAME` for a source `x`, and the table that they point to."""
    rows, columns = frames(problem)
    left, middle, right, first = columns.parts()
    place = np.arange(columns.source) + columns.before
    place[(place < 0) | (place >= columns.size)] = columns.size  # a column that nobody reads
    down = (np.arange(rows.source) + rows.before) * pitch
    places = (down[:, np.newaxis] + place * (width * problem.itemsize)).astype(np.int64)
    values = {
        **source_steps(x),
        "source_rows": rows.source,
        "source_columns": columns.source,
        "row_before": rows.before,
        "frame_rows": rows.size,
        "pitch": pitch,
        "left": left,
        "middle": middle,
        "right": right,
        "first_column": first,
        "places": address_of(places),
    }
    return values, places


def source_steps(x: Array) -> dict[str, int]:
    """The fields of a frame that say how its source lies in memory."""
    _, row, column = spatial_steps(x)
    return {"source_row": row, "source_column": column, "source_channel": x.strides[1]}


def frame_pitch(problem: Problem, width: int) -> int:
    """Bytes of a row of the packed frame: one pixel more where the frame leaves columns of the source out."""
    columns = frames(problem)[1]
    cut = columns.before < 0 or columns.before + columns.source > columns.size
    return (columns.size + cut) * width * problem.itemsize


def packable(x: Array, dtype: "np.dtype[Any]") -> Array:
    """`x`, or a copy of it: with channels side by side, or pixels in rows that follow each other."""
    x = readable(x, dtype)
    if min(x.strides, default=0) >= 0:
        rows_follow = x.ndim < 4 or x.strides[2] == x.shape[3] * x.itemsize
        if x.strides[1] == x.itemsize or (x.strides[-1] == x.itemsize and rows_follow):
            return x
    return x.copy()


def block_vectors(problem: Problem, target: Target) -> int:
    """Vectors of channels in a block: a cache line; channels last up to four, so that memory is read in longer runs.

    Where a residual is added no two blocks may overlap: it may be the result's own memory.
    """
    there = problem.in_channels // target.lanes(problem.itemsize)
    line = max(LINE // target.vector_bytes, 1)
    if not problem.channels_last:
        most = min(line, there)
        return next(count for count in range(most, 0, -1) if not problem.residual or there % count == 0)
    return max((count for count in range(1, 4 * line + 1) if there % count == 0), default=1) if there >= line else there


def _width(problem: Problem, target: Target) -> int:
    return block_vectors(problem, target) * target.lanes(problem.itemsize)


def _waiting_bytes(problem: Problem, width: int) -> int:
    """Of the results of one position of rows, while they wait to be turned round."""
    rows, columns = frames(problem)
    return rows.spread * columns.results * width * problem.itemsize


def _leaves_out(problem: Problem) -> bool:
    """Whether it has so many taps that those in padding are left out, where the weights are found to be finite."""
    return math.prod(problem.weight_shape[2:]) >= MANY_TAPS


@lru_cache(maxsize=1024)
def _pixels(problem: Problem, target: Target) -> int:
    """Pixels in a tile: those with the fewest loads per row."""
    most = 28 if target.registers >= 32 else 14
    count = frames(problem)[1].positions
    return min((most, most * 6 // 7, most // 2, most * 2 // 7), key=lambda size: -(-count // size) * (size + 2))


class Cut(NamedTuple):
    """How the work falls apart: positions of rows per band, and units per task."""

    per_band: int
    per_strip: int
    bands: int
    blocks: int
    units: int
    per_task: int
    block_bytes: int
    result_bytes: int

    @classmethod
    def of(cls, problem: Problem, target: Target, limit: int) -> "Cut":
        """Bands whose frame and results fill a third of the second-level cache; more of them for threads."""
        rows, columns = frames(problem)
        width = _width(problem, target)
        pitch, pixel = frame_pitch(problem, width), width * problem.itemsize
        waiting = 0 if problem.channels_last else _waiting_bytes(problem, width)
        fit = max((target.l2_bytes // 3 - rows.reach * pitch) // (rows.stride * pitch + waiting), 1)
        bands = -(-rows.positions // fit)
        blocks = -(-problem.in_channels // width)
        others = problem.batch * blocks
        if limit > 1 and problem.multiply_adds >= SERIAL_PRODUCTS and others * bands < 4 * limit:
            least = max(4 * rows.reach // rows.stride, 4)  # what bands pack twice should not count
            bands = max(bands, min(-(-4 * limit // others), -(-rows.positions // least)))
        per_band = -(-rows.positions // bands)
        bands = -(-rows.positions // per_band)
        units = others * bands
        # A task is worth its start from some 5 µs on: 40 K multiply-adds by vectors of 8.
        together = max(1, min((1 << 17) * units // max(problem.multiply_adds, 1), units // (4 * limit)))
        if problem.channels_last:  # the blocks of a band share cache lines
            together = max(together, min(blocks, units // (4 * limit)))
        past = _pixels(problem, target) * columns.stride * pixel  # a tile reaches past the last row
        frame = min((per_band - 1) * rows.stride + rows.reach, rows.size)
        block = -(-(frame * pitch + past) // 64) * 64
        strip = min(_strip(problem, target), per_band)
        return cls(per_band, strip, bands, blocks, units, together, block, strip * waiting)


def _strip(problem: Problem, target: Target) -> int:
    """Positions of rows that are packed, summed and turned round together, while they are in the first-level cache.

    Of results that are turned round, vectors of pixels at a time, as many rows as fill vectors best.
    """
    rows, columns = frames(problem)
    width, lanes = _width(problem, target), target.lanes(problem.itemsize)
    pitch = frame_pitch(problem, width)
    waiting = 0 if problem.channels_last else _waiting_bytes(problem, width)
    most = max((target.l1_bytes * 3 // 4 - rows.reach * pitch) // (rows.stride * pitch + waiting), 1)
    if problem.channels_last:
        return most
    pixels = rows.spread * columns.results
    return min(range(most, most // 2, -1), key=lambda count: -(-count * pixels // lanes) / count)


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: a load per multiply-add, packing and turning round; or the time of memory, or of the last cache."""
    assert target is not None
    rows, columns = frames(problem)
    pixels, last = _pixels(problem, target), problem.channels_last
    cycles = 0.0
    for down in rows.phases:
        met = down.count * len(down.taps)
        if _leaves_out(problem):
            met = sum(stop - start for start, stop in rows.met(down))
        for across in columns.phases:
            tiles = -(-across.count // pixels)
            cycles += tiles * met * len(across.taps) * (pixels + 2) / 2
            cycles += tiles * down.count * (pixels * 1.5 + 8)
    cycles += rows.size * columns.size * (1.5 if last else 5)
    cycles += 0 if last else rows.results * columns.results * 3.5
    # A quarter more than the operations take: packing, summing and turning round do not overlap.
    cycles *= 1.25 * problem.batch * -(-problem.in_channels // target.lanes(problem.itemsize)) * target.passes
    busy, moving = cycles / 3e9 / min(target.cores, 2), target.moving(problem.bytes_moved)
    # Rows come from memory while they are packed, not while they are summed: measured, half of the one hides the other.
    return 3e-6 + max(busy, moving) + min(busy, moving) / 2


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: a block and its results per thread, and the weights."""
    assert target is not None
    cut = Cut.of(problem, target, target.cores)
    return target.cores * (cut.block_bytes + cut.result_bytes) + math.prod(problem.weight_shape) * problem.itemsize


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|: a chain of as many fused multiply-adds as there are taps, then the bias."""
    return sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "Channelwise":
    """The solution of `problem`."""
    assert target is not None
    return Channelwise(problem, target)


class FrameSolution(CompiledSolution):
    """Runs a problem on the frames of `frames`, of operands and results that are `packable`."""

    def _readable(self, first: Array) -> Array:
        return packable(first, self._dtype)

    def _takes(self, out: Array, residual: Array | None) -> bool:
        if out.dtype != self._dtype or not is_read(self._readable, out):
            return False
        return residual is None or lies_like(residual, out)


class Channelwise(FrameSolution):
    """Runs one depthwise layer or its input gradient; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        super().__init__(problem, target, FIELDS, ChannelRows(problem, target))  # type: ignore[arg-type]
        self.width = _width(problem, target)
        self.tables = self._phase_tables()
        self.leaves_out = _leaves_out(problem)

    def _phase_tables(self) -> tuple[Array, ...]:
        """Records of all phases, and before them the tables of taps that they point to."""
        problem = self.problem
        rows, columns = frames(problem)
        pitch, pixel = frame_pitch(problem, self.width), self.width * problem.itemsize
        taps_across = problem.axes[-1].kernel
        weight = problem.in_channels * problem.itemsize
        tables, records = [], []
        for down in rows.phases:
            for across in columns.phases:
                pairs = [
                    (r * pitch + c * pixel, (p * taps_across + q) * weight)
                    for r, p in down.taps
                    for c, q in across.taps
                ]
                tables.append(np.array(pairs or [(0, 0)], np.int64))
                tables.append(np.array(rows.met(down), np.int64) * len(across.taps))
                places = address_of(tables[-2]), address_of(tables[-1])
                records.append((down.count, across.count, down.first, across.first, len(pairs), *places))
        return (*tables, np.array(records, np.int64))

    def _fill(
        self, block: Any, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None
    ) -> None:
        super()._fill(block, first, prepared, out, residual)
        weights, _, fill = prepared
        block[FIELDS.index["leaves_out"]] = int(self.leaves_out and not fill and weights[-1] == 0)

    def _ahead(self, x: Array, cut: Cut) -> int:
        """Bytes to the source of the next unit. For planes of less than 56 x 56 asking early took longer."""
        rows, columns = frames(self.problem)
        if rows.results * columns.results * self.problem.itemsize < MANY_BYTES:
            return 0
        return self.width * x.strides[1] if cut.bands == 1 else cut.per_band * rows.stride * x.strides[-2]

    def bind(self, x: Array, out: Array, limit: int) -> Binding:
        """All sizes and steps for arrays that lie like these."""
        problem, itemsize = self.problem, self.problem.itemsize
        rows, columns = frames(problem)
        cut = Cut.of(problem, self.target, limit)
        last, (_, out_row, out_column) = out.strides[1] == itemsize, spatial_steps(out)
        values, places = frame_fields(problem, x, self.width, frame_pitch(problem, self.width))
        block = cut.block_bytes
        waiting = 0 if last else -(-cut.per_strip * _waiting_bytes(problem, self.width) // LINE) * LINE
        fields: dict[str, int | float] = {
            **values,
            **finish_values(problem),
            "scratch_bytes": block + waiting,
            "results": block,
            "x_batch": x.strides[0],
            "out_batch": out.strides[0],
            "out_channel": out.strides[1],
            "out_row": out_row,
            "out_column": out_column,
            "channels": problem.in_channels,
            "blocks": cut.blocks,
            "bands": cut.bands,
            "units": cut.units,
            "units_per_task": cut.per_task,
            "positions": rows.positions,
            "per_band": cut.per_band,
            "per_strip": cut.per_strip,
            "row_stride": rows.stride,
            "row_reach": rows.reach,
            "spread": rows.spread,
            "column_spread": columns.spread,
            "out_rows": rows.results,
            "out_columns": columns.results,
            "phases": address_of(self.tables[-1]),
            "phase_count": len(self.tables[-1]),
            "ahead": self._ahead(x, cut),
        }
        source_last = x.strides[1] == itemsize
        form = Form(
            _pixels(problem, self.target), block_vectors(problem, self.target), columns.stride, source_last, last
        )
        function = compute_function(self.target, ELEMENTS[problem.dtype], form, Finish.of(problem))
        tasks = -(-cut.units // cut.per_task)
        workers = threads_for(problem, tasks, limit)
        scratch = (block + waiting) * workers
        return Binding(function, FIELDS.block(fields), tasks, workers, scratch, (places, *self.tables), [])
