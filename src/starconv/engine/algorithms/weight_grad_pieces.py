"""A weight gradient whose sums would take too much memory, as several of some groups or some kernels each.

The sums of a piece are as large as its kernels, and there are several partial ones. Pieces read all of X (or of their
groups of it) again, which is little beside the arithmetic: a piece still has hundreds of kernels.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from numpy.typing import NDArray

from ...problem import Problem
from ..runtime.jobs import Job

__all__ = ["InPieces", "Piece", "in_pieces", "pieces"]

Array = NDArray[Any]

Solution = TypeVar("Solution")

Piece = tuple[slice, slice, Problem]
"""Channels of X, channels of G (kernels), and the problem that these are."""


def pieces(problem: Problem, sums_bytes: int, most: int) -> list[Piece]:
    """The fewest pieces of nearly equal size whose share of `sums_bytes` is at most `most`, as far as that goes."""
    wanted = -(-sums_bytes // most)
    channels, kernels = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    together = max(problem.groups // wanted, 1)
    parts = -(-kernels // -(-wanted // problem.groups)) if problem.groups < wanted else kernels
    found = []
    for group in range(0, problem.groups, together):
        groups = min(together, problem.groups - group)
        for kernel in range(0, kernels, parts):
            count = min(parts, kernels - kernel)
            first = group * kernels + kernel
            part = replace(problem, in_channels=groups * channels, out_channels=groups * count, groups=groups)
            found.append(
                (slice(group * channels, (group + groups) * channels), slice(first, first + groups * count), part)
            )
    return found


def in_pieces(cut: list[Piece], solve: Callable[[Problem], Solution]) -> "Solution | InPieces":
    """The solution of all pieces: of the only one, what `solve` gives for it."""
    return solve(cut[0][2]) if len(cut) == 1 else InPieces(cut, solve)


class InPieces:
    """Runs one weight gradient piece by piece; `solve` gives the solution of one."""

    def __init__(self, cut: list[Piece], solve: Callable[[Problem], Any]) -> None:
        solutions = {part: solve(part) for part in {part for _, _, part in cut}}
        self.pieces = [(x, g, solutions[part]) for x, g, part in cut]

    def prepare(self, second: Array, bias: Array | None, fill: float, once: bool = False) -> Array:
        """The output's gradient, as a piece has it."""
        prepared: Array = self.pieces[0][2].prepare(second, bias, fill, once)
        return prepared

    def run(self, first: Array, prepared: Array, out: Array, residual: None = None) -> None:
        """Compute into `out`."""
        for channels, kernels, solution in self.pieces:
            solution.run(first[:, channels], prepared[:, kernels], out[kernels])

    def jobs(self, first: Array, prepared: Array, out: Array, residual: None = None) -> list[Job] | None:
        """Those of all pieces, one after the other."""
        jobs: list[Job] = []
        for channels, kernels, solution in self.pieces:
            written = solution.jobs(first[:, channels], prepared[:, kernels], out[kernels])
            if written is None:
                return None
            jobs += written
        return jobs
