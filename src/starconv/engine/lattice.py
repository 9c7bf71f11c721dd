"""The geometry as kernels see it: always three axes, only the input elements that are read, and no padding left.

A kernel works on a *packed block*: the input elements that some output rows read, copied side by side with the
padding drawn in. Of an axis with stride s and dilation d only every gcd(s, d)-th padded element is ever read (every
s-th where the kernel has one tap), so the rest is not packed, and strides and dilations shrink by the same factor. A
1x1 kernel with stride 2 so becomes one with stride 1.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..geometry import Axis, border_sources
from ..problem import Problem

__all__ = ["Lattice", "grid_offsets", "lattices", "offset_table", "spatial_steps"]


class Lattice(NamedTuple):
    """One axis of the packed block.

    Attributes:
        taps: kernel size.
        outputs: output size.
        stride, dilation: in packed elements.
        step: input elements from one packed element to the next.
        size: packed elements that all outputs together read.
    """

    axis: Axis
    taps: int
    outputs: int
    stride: int
    dilation: int
    step: int

    @classmethod
    def of(cls, axis: Axis) -> "Lattice":
        """The packed form of `axis`."""
        step = gcd(axis.stride, axis.dilation) if axis.kernel > 1 else axis.stride
        dilation = axis.dilation // step if axis.kernel > 1 else 1
        return cls(axis, axis.kernel, axis.output, axis.stride // step, dilation, step)

    def span(self, outputs: int) -> int:
        """Packed elements that `outputs` neighbouring outputs read."""
        return (outputs - 1) * self.stride + (self.taps - 1) * self.dilation + 1 if outputs else 0

    @property
    def size(self) -> int:
        """Packed elements that all outputs together read."""
        return self.span(self.outputs)

    def sources(self, border: str) -> NDArray[np.intp]:
        """The input element that each packed element shows, or -1 for constant padding."""
        everything = border_sources(self.axis.input, self.axis.before, max(self.axis.after, 0), border)
        return everything[:: self.step][: self.size]

    def offsets(self, border: str, step: int, length: int | None = None) -> NDArray[np.int64]:
        """Bytes to the element that each packed element shows, in an array of this `step`; see `offset_table`.

        Offsets may be negative, with negative steps: -1 itself is none where elements are larger than a byte.
        """
        return offset_table(self.sources(border), step, length)

    def offsets_from_lowest(self, border: str, step: int, length: int | None = None) -> tuple[NDArray[np.int64], int]:
        """The same from the lowest of them on, so that none but padding is negative; and the lowest."""
        sources = self.sources(border)
        lowest = min(int(sources.max(initial=0)) * step, 0)
        return offset_table(sources, step, length, lowest), lowest

    def offsets_of_taps(self, border: str, step: int) -> NDArray[np.int64]:
        """Bytes to what each output reads, [output][tap]; -1 for constant padding."""
        read = np.arange(self.outputs)[:, np.newaxis] * self.stride + np.arange(self.taps) * self.dilation
        table: NDArray[np.int64] = self.offsets(border, step)[read]
        return table

    def inside(self) -> tuple[int, int]:
        """The packed elements [first, last) that are input elements, one after the other: no padding."""
        first = min(-(-self.axis.before // self.step), self.size)
        last = min((self.axis.before + self.axis.input - 1) // self.step + 1, self.size)
        return first, max(last, first)


@lru_cache(maxsize=1024)
def lattices(problem: Problem) -> tuple[Lattice, Lattice, Lattice]:
    """The problem's axes as (depth, rows, columns); missing ones have one element."""
    axes = (Axis(1, 1),) * (3 - problem.spatial) + problem.axes
    depth, rows, columns = (Lattice.of(axis) for axis in axes)
    return depth, rows, columns


def offset_table(sources: NDArray[np.intp], step: int, length: int | None = None, lowest: int = 0) -> NDArray[np.int64]:
    """Bytes from `lowest` to each of the `sources`; -1 for those that are, and up to `length` for what follows them.

    >>> offset_table(np.array([-1, 0, 1]), 4, 5).tolist()
    [-1, 0, 4, -1, -1]
    """
    table = np.full(len(sources) if length is None else length, -1, np.int64)
    table[: len(sources)] = np.where(sources >= 0, sources * step - lowest, -1)
    return table


def grid_offsets(counts: Sequence[int], steps: Sequence[int]) -> NDArray[np.int64]:
    """Bytes to the elements of a grid, row by row: along each axis so many, each a step behind its neighbour.

    >>> grid_offsets((2, 3), (100, 4)).tolist()
    [0, 4, 8, 100, 104, 108]
    """
    offsets = np.zeros(1, np.int64)
    for count, step in zip(counts, steps, strict=True):
        offsets = (offsets[:, np.newaxis] + np.arange(count, dtype=np.int64) * step).ravel()
    return offsets


def spatial_steps(array: NDArray[Any]) -> tuple[int, int, int]:
    """Bytes between the depths, rows and columns of an array (N, C, ...); 0 for axes that it does not have."""
    depth, row, column = (0,) * (5 - array.ndim) + array.strides[2:]
    return depth, row, column
