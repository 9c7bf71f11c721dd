"""Frames: the rows and columns that results read, side by side with their padding, and the phases that read them.

A convolution has one phase, an input gradient as many as its stride has steps, all of which read the same frame: it is
packed once. Kernels pack some of its rows at a time, of a block of channels or of all.
"""

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
from ..lattice import spatial_steps
from .finish import lies_like
from .packed import CompiledSolution
from .panels import is_read, readable

__all__ = [
    "LINE",
    "Frame",
    "FrameSolution",
    "PhaseOfAxis",
    "block_vectors",
    "frame_fields",
    "frame_pitch",
    "frames",
    "packable",
    "source_steps",
]

Array = NDArray[Any]

LINE = 64
"""Bytes of a cache line, which a block of channels fills."""


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


class FrameSolution(CompiledSolution):
    """Runs a problem on the frames of `frames`, of operands and results that are `packable`."""

    def _readable(self, first: Array) -> Array:
        return packable(first, self._dtype)

    def _takes(self, out: Array, residual: Array | None) -> bool:
        if out.dtype != self._dtype or not is_read(self._readable, out):
            return False
        return residual is None or lies_like(residual, out)
