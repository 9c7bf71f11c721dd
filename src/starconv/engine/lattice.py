"""The geometry as kernels see it: always three axes, only the input elements that are read, and no padding left.

A kernel works on a *packed block*: the input elements that some output rows read, copied side by side with the
padding drawn in. Of an axis with stride s and dilation d only every gcd(s, d)-th padded element is ever read (every
s-th where the kernel has one tap), so the rest is not packed, and strides and dilations shrink by the same factor. A
1x1 kernel with stride 2 so becomes one with stride 1.
"""

from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..geometry import Axis, border_sources
from ..problem import Problem

__all__ = ["Lattice", "lattices"]


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

    def offsets(self, border: str, step: int) -> NDArray[np.int64]:
        """Bytes to the element that each packed element shows, in an array of this `step`; -1 for constant padding.

        Offsets may be negative, with negative steps: -1 itself is none, being no multiple of an element's size.
        """
        sources = self.sources(border)
        return np.where(sources >= 0, sources * step, -1).astype(np.int64)

    def windows(self) -> NDArray[np.intp]:
        """Which packed elements each output reads, [output][tap]."""
        return np.arange(self.outputs)[:, np.newaxis] * self.stride + np.arange(self.taps) * self.dilation

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
