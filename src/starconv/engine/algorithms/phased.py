"""Input gradients of layers with a stride, and strided transposed convolutions: all phases in one pass over G.

Maths: as in `adjoint`: the positions of a phase are a dense convolution over the output's gradient G, of the phase's
taps in reverse with channels and kernels exchanged. 3x3 kernels with stride 2 have phases of 1, 2, 2 and 4 taps.

How it runs: a task packs the rows of G that a band of positions reads, once for all phases. Then per panel of result
channels, and per chunk of G's channels whose weights stay in the first-level cache, every phase adds its tiles of 6
pixels x 2 vectors, as `direct` has them, to sums that wait as [pixel][channel], every pixel where it belongs among its
neighbours. In the end these are turned round and stored, a row at a time. `adjoint` does the same work with four calls
of `direct`, each of which packs G, and a fifth pass that weaves the phases: 12 % of the arithmetic's time for each
packing where a phase has one tap, and 13 MB more through the memory at 56x56x64 and batch 16.

Limits: float32 and float64, one or two spatial axes, zero padding, a stride, up to 16 taps in a phase.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...geometry import Axis
from ...problem import Problem
from ..descriptor import address_of
from ..emit.target import Target
from ..kernels import ELEMENTS
from ..lattice import offset_table, spatial_steps
from ..runtime.jobs import Job
from ..runtime.memory import ALIGNMENT
from .blocks import SERIAL_PRODUCTS, threads_for
from .finish import Finish, finish_values
from .frames import Frame, FrameSolution, frames
from .packed import Binding
from .panels import Panels
from .phased_kernels import FIELDS, Form, compute_function
from .refusals import refuses_many_phases, refuses_shown_padding, refuses_unless, refuses_volumes
from .rounding import sum_bound
from .tiles import most_vectors

NAME = "phased"

Array = NDArray[Any]

MOST_TAPS = 16
"""Of a phase, which are written out one after the other."""
PIXELS = 6


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only input gradients with a stride, in floating point."""
    if refusal := (
        refuses_unless("input_grad", problem, target)
        or refuses_shown_padding(problem)
        or refuses_volumes(problem)
        or refuses_many_phases(problem)
    ):
        return refusal
    if all(axis.stride == 1 for axis in problem.axes):
        return "it has several phases at a time; without a stride there is one"
    most = max(len(phase.rows) * len(phase.columns) for phase in phases_of(problem))
    if most > MOST_TAPS:
        return f"a phase has {most} taps, more than the {MOST_TAPS} that are written out"
    if not any(phase.rows and phase.columns for phase in phases_of(problem)):
        return "no tap meets any position"
    return None


@dataclass(frozen=True, slots=True)
class Phase:
    """Pixels of the result that meet the same taps.

    Attributes:
        first: row and column of the first.
        count: rows and columns there are.
        rows, columns: the kernel's taps, in the order in which they are summed.
        start: row and column of the frame that the first tap of the first pixel reads.
        step: rows and columns of the frame between taps.
    """

    first: tuple[int, int]
    count: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    start: tuple[int, int]
    step: tuple[int, int]


@lru_cache(maxsize=1024)
def phases_of(problem: Problem) -> tuple[Phase, ...]:
    """All phases, those without taps included."""
    rows, columns = frames(problem)
    found = []
    for down in rows.phases:
        for across in columns.phases:
            pairs = (down.taps, across.taps)
            start = tuple(taps[0][0] if taps else 0 for taps in pairs)
            step = tuple(taps[1][0] - taps[0][0] if len(taps) > 1 else 0 for taps in pairs)
            found.append(
                Phase(
                    (down.first, across.first),
                    (down.count, across.count),
                    tuple(tap for _, tap in down.taps),
                    tuple(tap for _, tap in across.taps),
                    start,  # type: ignore[arg-type]
                    step,  # type: ignore[arg-type]
                )
            )
    return tuple(found)


@lru_cache(maxsize=1024)
def _busy_phases(problem: Problem) -> tuple[Phase, ...]:
    return tuple(phase for phase in phases_of(problem) if phase.rows and phase.columns)


def _width(problem: Problem, target: Target) -> int:
    """Result channels in a panel: two vectors, four where there are twice as many registers."""
    lanes = target.lanes(problem.itemsize)
    return lanes * min(most_vectors(target), -(-(problem.in_channels // problem.groups) // lanes))


def _chunk(problem: Problem, target: Target, taps: int) -> int:
    """Channels of G whose weights for so many taps fill about half of a cache, as `direct.chunk_of` has it."""
    channels = problem.out_channels // problem.groups
    room = target.l1_bytes * 5 // 8 if target.passes == 1 else target.l2_bytes // 2
    held = max(room // (taps * _width(problem, target) * problem.itemsize), 1)
    return -(-channels // -(-channels // held))


class Cut(NamedTuple):
    """How the work falls apart."""

    per_band: int
    bands: int
    splits: int
    blocks: int
    pitch: int
    block_rows: int
    block_bytes: int
    waiting_bytes: int

    @classmethod
    def of(cls, problem: Problem, target: Target, limit: int) -> "Cut":
        """Bands whose rows of G and whose sums fill half of the second-level cache; more, or shares of the panels."""
        rows, columns = frames(problem)
        channels, width = problem.out_channels // problem.groups, _width(problem, target)
        blocks = -(-(problem.in_channels // problem.groups) // width)
        row_bytes = columns.size * channels * problem.itemsize
        sums = rows.spread * columns.results * width * problem.itemsize
        fit = max((target.l2_bytes // 2 - (rows.reach - 1) * row_bytes) // (row_bytes + sums), 1)
        bands = -(-rows.positions // fit)
        others, splits = problem.batch * problem.groups, 1
        if limit > 1 and problem.multiply_adds >= SERIAL_PRODUCTS and others * bands < 4 * limit:
            bands = max(bands, min(-(-4 * limit // others), -(-rows.positions // (4 * rows.reach))))
            splits = min(-(-4 * limit // (others * bands)), blocks)
        per_band = -(-rows.positions // bands)
        bands = -(-rows.positions // per_band)
        block_rows = min(per_band - 1 + rows.reach, rows.size)
        # Planes at a multiple of 1 KiB would share a few sets of the first-level cache.
        if not problem.channels_last and block_rows * columns.size * problem.itemsize % 1024 == 0:
            block_rows += 1
        past = PIXELS * max(columns.size, channels) * problem.itemsize
        block = -(-(block_rows * row_bytes + past) // 64) * 64
        return cls(per_band, bands, splits, blocks, columns.size, block_rows, block, -(-per_band * sums // 64) * 64)


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: the tiles' cycles, those of packing and of storing; or the memory's time."""
    assert target is not None
    cut, lanes = Cut.of(problem, target, target.cores), target.lanes(problem.itemsize)
    vectors = _width(problem, target) // lanes
    channels = problem.out_channels // problem.groups
    per_panel = 0.0
    for phase in _busy_phases(problem):
        tiles = -(-phase.count[0] * phase.count[1] // PIXELS)
        taps = len(phase.rows) * len(phase.columns)
        chunks = -(-channels // _chunk(problem, target, taps))
        per_tile = taps * channels * PIXELS * max(vectors, 1.4) / 2 * 1.05 + chunks * 30
        per_panel += tiles * per_tile * target.passes
    per_panel += math.prod(problem.input_shape[2:]) * vectors * (2.5 if problem.channels_last else 5)
    cycles = problem.batch * problem.groups * cut.blocks * per_panel
    cycles += math.prod(problem.output_shape) * 0.7 * cut.splits + math.prod(problem.weight_shape) * 0.4
    return 6e-6 + max(cycles / 3e9 / min(target.cores, 2), target.moving(problem.bytes_moved))


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: a block and the sums that wait per thread, and the panels of all phases."""
    assert target is not None
    cut = Cut.of(problem, target, target.cores)
    weights = math.prod(problem.weight_shape[1:]) * problem.out_channels // problem.groups // problem.in_channels
    panels = problem.groups * cut.blocks * _width(problem, target) * weights * problem.groups * problem.itemsize
    return target.cores * (cut.block_bytes + cut.waiting_bytes) + panels


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|: one chain of multiply-adds, interrupted by no rounding, then the bias."""
    return sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "Phased":
    """The solution of `problem`."""
    assert target is not None
    return Phased(problem, target)


class Phased(FrameSolution):
    """Runs one input gradient with a stride; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        self.width = _width(problem, target)
        self.phases = _busy_phases(problem)
        self.packers = [Panels(_convolution(problem, phase), target, self.width) for phase in self.phases]
        super().__init__(problem, target, FIELDS, self.packers[0])

    def prepare(self, second: Array, bias: Array | None, fill: float, once: bool = False) -> Any:
        """The panels of every phase, and a table of where they are."""
        packed = [packer.pack(part) for packer, part in zip(self.packers, self._parts(second), strict=True)]
        return self._table(packed), self.packers[0].bias(bias), 0.0, packed

    @property
    def prepare_bytes(self) -> int:
        """Bytes that `prepare_jobs` needs."""
        return sum(packer.room + ALIGNMENT for packer in self.packers)

    def prepare_jobs(self, second: Array, bias: Array | None, room: Array) -> tuple[Any, list[Job]] | None:
        """The same, made in `room` by jobs; None where the weights would have to be copied first."""
        packed, jobs = [], []
        for packer, part in zip(self.packers, self._parts(second), strict=True):
            if not np.may_share_memory(part, second):
                return None
            written = packer.jobs(part, room)
            if written is None:
                return None
            room = room[-(-packer.room // ALIGNMENT) * ALIGNMENT :]
            packed.append(written[0])
            jobs += written[1]
        biases = self.packers[0].bias_jobs(bias)
        return None if biases is None else ((self._table(packed), biases[0], 0.0, packed), [*jobs, *biases[1]])

    def _parts(self, second: Array) -> Iterator[Array]:
        """The kernels of every phase, turned round, with channels and kernels exchanged."""
        problem = self.problem
        kernels, channels = problem.out_channels // problem.groups, problem.in_channels // problem.groups
        taps = (1,) * (2 - problem.spatial) + second.shape[2:]
        turned = second.reshape(problem.groups, kernels, channels, *taps).swapaxes(1, 2)
        turned = turned.reshape(problem.in_channels, kernels, *taps)
        for phase in self.phases:
            yield turned[:, :, _taken(phase.rows)][:, :, :, _taken(phase.columns)]

    @staticmethod
    def _table(packed: list[Array]) -> Array:
        return np.array([address_of(panels) for panels in packed], np.int64)

    def _fill(self, block: Any, first: Array, prepared: Any, out: Array, residual: Array | None) -> None:
        super()._fill(block, first, prepared[:3], out, residual)

    def bind(self, x: Array, out: Array, limit: int) -> Binding:
        """Tables of where packed elements come from and where pixels are, and all sizes and steps."""
        problem, itemsize = self.problem, self.problem.itemsize
        rows, columns = frames(problem)
        cut = Cut.of(problem, self.target, limit)
        last, result_last = x.strides[1] == itemsize, out.strides[1] == itemsize
        channels = problem.out_channels // problem.groups
        (_, *x_steps), (_, out_row, out_column) = spatial_steps(x), spatial_steps(out)
        sources = [_sources(frame, step) for frame, step in zip((rows, columns), x_steps, strict=True)]
        left, middle, _, _ = columns.parts()
        pixel = (channels if last else 1) * itemsize
        pitch = cut.pitch * (channels if last else 1)
        tables, records = self._phase_tables(cut, pitch * itemsize, pixel)
        depth = np.zeros(1, np.int64)
        fields: dict[str, int | float] = {
            **finish_values(problem),
            "depth_table": address_of(depth),
            "row_table": address_of(sources[0]),
            "column_table": address_of(sources[1]),
            "left": left,
            "right": left + middle,
            "columns": columns.size,
            "pitch": pitch,
            "phase_pitch": pitch,
            "taps_depth": 1,
            "block_rows": cut.block_rows,
            "depth_dilation": 1,
            "channels": channels,
            "x_channel": x.strides[1],
            "x_column": x_steps[1],
            "scratch_bytes": cut.block_bytes + cut.waiting_bytes,
            "waiting": cut.block_bytes,
            "x_batch": x.strides[0],
            "x_group": x.strides[1] * channels,
            "out_batch": out.strides[0],
            "out_channel": out.strides[1],
            "out_row": out_row,
            "out_column": out_column,
            "groups": problem.groups,
            "kernels": problem.in_channels // problem.groups,
            "blocks": cut.blocks,
            "splits": cut.splits,
            "bands": cut.bands,
            "per_band": cut.per_band,
            "positions": rows.positions,
            "row_reach": rows.reach,
            "frame_rows": rows.size,
            "spread": rows.spread,
            "out_rows": rows.results,
            "out_columns": columns.results,
            "packed_channel": itemsize if last else cut.block_rows * pitch * itemsize,
            "phases": address_of(records),
        }
        taps = tuple((len(phase.rows), len(phase.columns)) for phase in self.phases)
        vectors = self.width // self.target.lanes(itemsize)
        form = Form(PIXELS, vectors, taps, last, result_last)
        function = compute_function(self.target, ELEMENTS[problem.dtype], form, Finish.of(problem))
        tasks = problem.batch * problem.groups * cut.bands * cut.splits
        workers = threads_for(problem, tasks, limit)
        scratch = (cut.block_bytes + cut.waiting_bytes) * workers
        return Binding(function, FIELDS.block(fields), tasks, workers, scratch, (depth, *sources, *tables, records), [])

    def _phase_tables(self, cut: Cut, pitch: int, pixel: int) -> tuple[list[Array], Array]:
        """Per phase, where the pixels of a whole band read and wait; and the records that point there."""
        rows, columns = frames(self.problem)
        place = self.width * self.problem.itemsize
        tables, records = [], []
        for phase in self.phases:
            down = np.arange(min(cut.per_band, phase.count[0]))[:, np.newaxis]
            across = np.arange(phase.count[1])
            reads = (down + phase.start[0]) * pitch + (across + phase.start[1]) * pixel
            waits = (phase.first[0] + down * rows.spread) * columns.results + phase.first[1] + across * columns.spread
            pairs = np.stack([reads.ravel(), waits.ravel() * place], axis=-1).astype(np.int64)
            tables.append(np.concatenate([pairs, np.repeat(pairs[-1:], PIXELS, axis=0)]))
            steps = phase.step[0] * pitch, phase.step[1] * pixel
            chunk = _chunk(self.problem, self.target, len(phase.rows) * len(phase.columns))
            records.append((*phase.count, chunk, address_of(tables[-1]), *steps))
        return tables, np.array(records, np.int64)


def _convolution(problem: Problem, phase: Phase) -> Problem:
    """A convolution with the weights of a phase, for packing them: its other sizes say nothing."""
    axes = tuple(Axis(len(taps), len(taps)) for taps in (phase.rows, phase.columns))
    return Problem("conv", 1, problem.out_channels, problem.in_channels, axes, problem.groups, dtype=problem.dtype)


def _sources(frame: Frame, step: int) -> Array:
    """Byte offsets of the elements of a frame, -1 for padding."""
    places = np.arange(frame.size) - frame.before
    return offset_table(np.where(places < frame.source, places, -1), step)


def _taken(taps: tuple[int, ...]) -> slice:
    """The slice that takes `taps`, which fall by equal steps."""
    step = taps[1] - taps[0] if len(taps) > 1 else -1
    stop = taps[-1] + step
    return slice(taps[0], stop if stop >= 0 else None, step)
