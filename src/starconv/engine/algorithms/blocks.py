"""How large packed blocks are, and so how the output of a problem is cut into tasks."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from ...problem import Problem
from ..emit.target import Target
from ..lattice import lattices

__all__ = ["SERIAL_PRODUCTS", "Block", "Cut", "Form", "cut_of", "most_scratch", "threads_for"]

SERIAL_PRODUCTS = 1 << 18
"""Multiply-adds below which one thread is at least as fast as two: 2.6 µs of arithmetic at 100 per ns."""
TASK_CYCLES = 1000
"""What it costs to start a task."""


def threads_for(problem: Problem, tasks: int, limit: int) -> int:
    """How many threads of at most `limit` share so many tasks, which are all of the problem."""
    return min(limit, tasks) if problem.multiply_adds >= SERIAL_PRODUCTS else 1


class Form(NamedTuple):
    """How an algorithm wants its packed blocks.

    Attributes:
        last: [depth][row][column][channel] instead of [channel][depth][row][column].
        phases: columns are sorted by their number modulo this, see `packing.pack_block`.
        room_rows, room_columns: output rows and columns per tile; a block has room for a tile past the end.
        spread: planes do not follow each other at a multiple of 1 KiB, where all channels of a pixel would share a few
            sets of the first-level cache.
    """

    last: bool = False
    phases: int = 1
    room_rows: int = 1
    room_columns: int = 1
    spread: bool = False


class Block(NamedTuple):
    """How large the packed blocks of a problem are, and so how its output is cut into tasks."""

    problem: Problem
    channels: int
    rows: int
    packed_rows: int
    pitch: int
    phases: int
    bytes: int
    bands: int
    splits: int
    shares: int

    @classmethod
    def of(cls, problem: Problem, target: Target, panels: int, threads: int, form: Form) -> "Block":
        """Bands that fill about a third of the second-level cache; more, or shares of the panels, for threads."""
        fewest, most = _bands(problem, target, threads, form)
        options = [
            (bands, splits)
            for bands in range(fewest, most + 1)
            for splits in range(1, _most_splits(problem, target, panels, threads, bands) + 1)
        ]
        bands, splits = options[0]
        if len(options) > 1:
            bands, splits = min(options, key=lambda option: _cycles(problem, target, panels, threads, form, *option))
        return cls._of(problem, target, threads, form, bands, splits)

    def unevenness(self, panels: int, threads: int) -> float:
        """How much longer it takes until the last task has ended than if every thread had the same to do."""
        share = -(-panels // self.splits)
        parts = -(-panels // share)
        others = self.problem.batch * lattices(self.problem)[0].outputs * self.problem.groups
        tasks = others * self.bands * parts
        return -(-tasks // threads) * threads / tasks * share * parts / panels

    @classmethod
    def largest(cls, problem: Problem, target: Target, threads: int, form: Form) -> "Block":
        """One that is at least as large as that for as many threads, or for more."""
        return cls._of(problem, target, threads, form, _bands(problem, target, threads, form)[0], 1)

    @classmethod
    def _of(cls, problem: Problem, target: Target, threads: int, form: Form, bands: int, splits: int) -> "Block":
        depth, rows, _ = lattices(problem)
        channels = problem.in_channels // problem.groups
        others = problem.batch * depth.outputs
        # A task should be worth its start, some 300 ns: take several small groups together.
        products = problem.multiply_adds // max(others * problem.groups * bands * splits, 1)
        together = max(
            min(SERIAL_PRODUCTS // 4 // max(products, 1), problem.groups * others * bands // (4 * threads)), 1
        )
        shares = -(-problem.groups // together)
        per_band = _rows_per_band(problem, form, bands)
        bands = -(-rows.outputs // per_band)
        pitch = _pitch(problem, form)
        packed_rows = rows.span(-(-per_band // form.room_rows) * form.room_rows)
        if form.spread and packed_rows * pitch * problem.itemsize % 1024 == 0:
            packed_rows += 1
        size = (1 if form.last else channels) * depth.taps * packed_rows * pitch * problem.itemsize
        return cls(
            problem,
            channels,
            per_band,
            packed_rows,
            pitch,
            form.phases,
            -(-size // 64) * 64 + 64,
            bands,
            splits,
            shares,
        )


def _pitch(problem: Problem, form: Form) -> int:
    """Elements from one packed row to the next."""
    columns = lattices(problem)[2]
    wide = columns.span(-(-columns.outputs // form.room_columns) * form.room_columns)
    channels = problem.in_channels // problem.groups
    return -(-wide // form.phases) * form.phases * (channels if form.last else 1)


def _rows_per_band(problem: Problem, form: Form, bands: int) -> int:
    """Output rows, whole tiles of them, in the largest of about `bands` bands."""
    outputs = lattices(problem)[1].outputs
    per_band = -(-outputs // bands)
    return min(-(-per_band // form.room_rows) * form.room_rows, outputs)


def _weight_bytes(problem: Problem) -> int:
    """Of one group."""
    return math.prod(problem.weight_shape[1:]) * problem.out_channels // problem.groups * problem.itemsize


def _bands(problem: Problem, target: Target, threads: int, form: Form) -> tuple[int, int]:
    """The least and the largest number of bands to look at; both grow with the threads."""
    depth, rows, _ = lattices(problem)
    channels = problem.in_channels // problem.groups
    row_bytes = (1 if form.last else channels) * depth.taps * _pitch(problem, form) * problem.itemsize
    fit = max((target.l2_bytes * 3 // 8 // row_bytes - rows.span(1)) // rows.stride + 1, form.room_rows)
    fewest = -(-rows.outputs // min(fit, rows.outputs))
    if threads == 1 or problem.multiply_adds < SERIAL_PRODUCTS or _weight_bytes(problem) > target.l2_bytes // 2:
        return fewest, fewest  # every band reads all weights again
    # Up to 4 tasks per thread, so that the last to end is not long. A band packs its halo again.
    wanted = -(-4 * threads // (problem.batch * depth.outputs * problem.groups))
    affordable = max(rows.outputs // max(2 * (rows.span(1) - rows.stride), 4, form.room_rows), 1)
    most = max(fewest, min(wanted, affordable))
    return max(fewest, -(-most // 2)), most


def _most_splits(problem: Problem, target: Target, panels: int, threads: int, bands: int) -> int:
    """Shares of the panels to look at, each of which packs everything again but reads fewer weights."""
    tasks = problem.batch * lattices(problem)[0].outputs * problem.groups * bands
    if threads == 1 or problem.multiply_adds < SERIAL_PRODUCTS:
        return 1
    # Packing again should stay under some 4 % of the arithmetic.
    arithmetic = problem.multiply_adds / (2 * target.lanes(problem.itemsize)) * target.passes
    affordable = int(0.04 * arithmetic / (0.5 * math.prod(problem.input_shape)))
    splits = max(min(-(-4 * threads // tasks), affordable), -(-threads // tasks), 1)
    return min(splits, panels)


def _cycles(problem: Problem, target: Target, panels: int, threads: int, form: Form, bands: int, splits: int) -> float:
    """When the last task ends: packing and arithmetic of as many rounds as the tasks take."""
    depth, rows, columns = lattices(problem)
    per_band, share = _rows_per_band(problem, form, bands), -(-panels // splits)
    others = problem.batch * depth.outputs * problem.groups
    tasks = others * -(-rows.outputs // per_band) * -(-panels // share)
    row = problem.multiply_adds / (2 * target.lanes(problem.itemsize)) / (others * rows.outputs)
    packing = 0.5 * (problem.in_channels // problem.groups) * depth.taps * columns.size
    each = (per_band * row * share / panels + rows.span(per_band) * packing) * target.passes + TASK_CYCLES
    # Threads do not go on at one speed: small tasks even out what a large one would let the others wait for.
    return (-(-tasks // threads) + 0.15) * each


def most_scratch(target: Target, per_thread: Callable[[int], int]) -> int:
    """Bytes that all threads of a call borrow, however many they are; each takes `per_thread`(how many they are).

    With fewer threads blocks are larger, so the most may be needed with fewer than there are cores. Asked are powers of
    two only: from t / 2 + 1 to t threads, each takes at most what it takes among t / 2 + 1.
    """
    most, count = 0, target.cores
    while count:
        most = max(most, count * per_thread(count // 2 + 1))
        count //= 2
    return most


@dataclass(frozen=True, slots=True)
class Cut:
    """How the outputs of a long row fall apart: `head`, then `count` stretches of `length`, and what is left."""

    head: int
    length: int
    count: int


@lru_cache(maxsize=4096)
def cut_of(problem: Problem, target: Target) -> Cut | None:
    """The cut of a convolution whose result has one row, if that row fills the second-level cache; else None.

    A stretch fills about a third of it. Head and tail read all padding, and everything that borders repeat.
    """
    if problem.operation != "conv" or problem.border == "wrap" or problem.dtype not in ("float32", "float64"):
        return None
    if any(axis.output != 1 for axis in problem.axes[:-1]) or not problem.batch:
        return None
    axis, columns = problem.axes[-1], lattices(problem)[2]
    others = problem.in_channels // problem.groups * math.prod(axis.kernel for axis in problem.axes[:-1])
    room = target.l2_bytes // (others * problem.itemsize)
    if columns.size <= room:
        return None
    length = max(room * 3 // 8 // columns.stride, 4 * -(-axis.extent // axis.stride))
    length = -(-length // 96) * 96  # whole tiles of 6 pixels and of 3 vectors
    head = 2 * -(-axis.before // axis.stride) + 1 if axis.before else 0
    rest = 2 * -(-max(axis.after, 0) // axis.stride) + 1
    inner = (axis.input + axis.before - axis.extent) // axis.stride + 1  # outputs that read no padding behind the row
    count = (inner - rest - head) // length
    return Cut(head, length, count) if count >= 2 else None
