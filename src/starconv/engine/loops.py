"""Arrays of equal or broadcast shape, seen as few nested loops: axes that follow each other in all of them are one.

    [outer ... outer][row][inner]

`inner` is the axis along which the first array's elements lie closest, which vectors run along.
"""

from functools import lru_cache
from typing import NamedTuple

__all__ = ["OUTER", "Loops", "loops_over"]

OUTER = 3
"""Loops outside of rows; arrays that need more are not for compiled code."""
CHUNK = 16384
"""Elements per task: some microseconds."""


class Loops(NamedTuple):
    """Sizes of the loops, outermost first, and per array its steps in bytes."""

    sizes: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]

    @property
    def elements(self) -> int:
        """Of the largest array."""
        count = 1
        for size in self.sizes:
            count *= size
        return count

    def cut(self) -> dict[str, int]:
        """How the loops fall into tasks of about CHUNK elements: parts of an inner run, rows, or whole outer steps."""
        *outer, rows, inner = self.sizes
        outers = self.elements // max(rows * inner, 1)
        columns = min(inner, CHUNK)
        rows_together = max(min(CHUNK // max(inner, 1), rows), 1)
        together = 1
        if rows_together == rows and columns == inner:
            together = max(min(CHUNK // max(rows * inner, 1), outers), 1)
        return {
            "middle": outer[1],
            "innermost": outer[2],
            "outers": outers,
            "rows": rows,
            "inner": inner,
            "outers_per_task": together,
            "rows_per_task": rows_together,
            "columns_per_task": columns,
            "row_parts": -(-rows // rows_together),
            "column_parts": -(-inner // columns) if inner else 1,
        }


@lru_cache(maxsize=4096)
def loops_over(shape: tuple[int, ...], arrays: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]) -> Loops | None:
    """The loops over `shape`, to which all arrays, (shape, strides), broadcast; None where they would be too many."""
    steps = []
    for own, strides in arrays:
        missing = len(shape) - len(own)
        steps.append((0,) * missing + tuple(s if n > 1 else 0 for n, s in zip(own, strides, strict=True)))
    axes = [axis for axis in range(len(shape)) if shape[axis] != 1]
    # By the first array's steps; among axes that it repeats, and for equal steps, by the others'.
    axes.sort(key=lambda axis: tuple(-abs(own[axis]) for own in steps))
    sizes: list[int] = []
    merged: list[list[int]] = [[] for _ in steps]
    for axis in axes:
        size = shape[axis]
        if sizes and all(done[-1] == own[axis] * size for done, own in zip(merged, steps, strict=True)):
            sizes[-1] *= size
            for done, own in zip(merged, steps, strict=True):
                done[-1] = own[axis]
            continue
        sizes.append(size)
        for done, own in zip(merged, steps, strict=True):
            done.append(own[axis])
    missing = OUTER + 2 - len(sizes)
    if missing < 0:
        return None
    whole = (1,) * missing + tuple(sizes) if sizes else (1,) * (OUTER + 2)
    return Loops(whole, tuple((0,) * (len(whole) - len(done)) + tuple(done) for done in merged))
