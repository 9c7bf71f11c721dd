"""Where values lie in one block of memory: those that are never needed at the same time may share a place."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Lifetime", "placed"]

ALIGNMENT = 64
"""Bytes of a cache line: no two values share one, so no two threads write to one for two values."""


class Lifetime(NamedTuple):
    """A value of `size` bytes that is needed from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int

    def meets(self, other: "Lifetime") -> bool:
        """Whether there is a step that needs both."""
        return self.first <= other.last and other.first <= self.last


def placed(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """An offset for each value, multiples of 64 bytes, and the bytes of the whole block.

    The largest value first, each at the lowest offset where none that it meets lies: with the greedy choice by size,
    networks come to within some per cent of what their largest step needs (Pisarchyk and Lee 2020, arXiv:2001.03288).

    >>> placed([Lifetime(100, 0, 1), Lifetime(1000, 1, 2), Lifetime(100, 2, 3)])
    ([1024, 0, 1024], 1152)
    """
    offsets = [0] * len(lifetimes)
    done: list[int] = []
    total = 0
    for number in sorted(range(len(lifetimes)), key=lambda n: (-lifetimes[n].size, lifetimes[n].first, n)):
        value, offset = lifetimes[number], 0
        for begin, end in sorted(
            (offsets[other], offsets[other] + lifetimes[other].size) for other in done if value.meets(lifetimes[other])
        ):
            if begin - offset >= value.size:
                break
            offset = max(offset, -(-end // ALIGNMENT) * ALIGNMENT)
        offsets[number] = offset
        done.append(number)
        total = max(total, offset + -(-value.size // ALIGNMENT) * ALIGNMENT)
    return offsets, total
