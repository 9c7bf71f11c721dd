"""Long rows, such as a waveform's, cut into stretches that fit a cache and share themselves among threads: no kernel.

Maths: outputs do not depend on each other, so a row's outputs may be computed some at a time, each stretch from the
inputs that it reads; neighbours read the same few inputs at their seam.

How it runs: three parts. The head and the tail have the row's padding. The stretches between them are equally long and
have none, so they are the pictures of one problem: views of x and of the result with a step of one stretch, nothing is
copied. Other algorithms pack whole rows, per thread; a row of 10 million samples would be 40 MB, and a single task.

Limits: problems with one row of output; not a border of "wrap", where one end of the row is padding of the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ...problem import Problem
from ..emit.target import Target
from ..runtime.jobs import Job
from .blocks import Cut, cut_of
from .finish import lies_like
from .refusals import refuses_target

NAME = "stretches"
WIDENS = True

Array = NDArray[Any]


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only convolutions with one long row of output."""
    if target is None:
        return refuses_target(target)
    if cut_of(problem, target) is None:
        return "it takes one long row of output, which is more than fits into the second-level cache"
    return None


def parts(problem: Problem, target: Target | None) -> tuple[Problem, ...]:
    """The head, if there is padding before the row; the stretches of one picture; the tail."""
    assert target is not None
    cut = cut_of(problem, target)
    assert cut is not None
    axis = problem.axes[-1]

    def part(batch: int, outputs: int, before: int, after: int | None) -> Problem:
        if after is None:
            size, after = (outputs - 1) * axis.stride + axis.extent - before, 0
        else:
            size = axis.input - _first_input(problem, axis.output - outputs)
        last = replace(axis, input=size, before=before, after=after)
        return replace(problem, batch=batch, axes=(*problem.axes[:-1], last))

    tail = axis.output - cut.head - cut.count * cut.length
    ends = [part(problem.batch, cut.head, axis.before, None)] if cut.head else []
    return (*ends, part(cut.count, cut.length, 0, None), part(problem.batch, tail, 0, axis.after))


def _first_input(problem: Problem, output: int) -> int:
    """The first input that output `output` of a row reads."""
    axis = problem.axes[-1]
    return output * axis.stride - axis.before


def cost(problem: Problem, target: Target | None, parts: Sequence[float]) -> float:
    """Seconds: the parts', the middle one's once per picture, and some views."""
    *head, middle, tail = parts
    return sum(head) + problem.batch * (middle + 5e-6) + tail


def workspace(problem: Problem, target: Target | None, parts: Sequence[int]) -> int:
    """Bytes: the parts' (each has its own panels of weights)."""
    return sum(parts)


def error_bound(problem: Problem, parts: Sequence[float]) -> float:
    """Every element of the result is one of one part."""
    return max(parts)


def build(problem: Problem, target: Target | None, parts: Sequence[Any]) -> "Stretches":
    """The solution of `problem`, from those of its parts."""
    assert target is not None
    cut = cut_of(problem, target)
    assert cut is not None
    return Stretches(problem, cut, parts)


class Stretches:
    """Runs one problem; see the module's text."""

    def __init__(self, problem: Problem, cut: Cut, parts: Sequence[Any]) -> None:
        self.problem, self.cut, self.solutions = problem, cut, tuple(parts)

    def prepare(self, second: Array, bias: Array | None, fill: float, once: bool = False) -> list[Any]:
        """The kernels in the form of every part."""
        return [solution.prepare(second, bias, fill, once) for solution in self.solutions]

    def run(self, first: Array, prepared: list[Any], out: Array, residual: Array | None = None) -> None:
        """Compute into `out`, head, stretches, tail."""
        if residual is not None and not lies_like(residual, out):
            residual = residual.copy()  # a part must not overwrite what another adds
        for solution, x, weights, result, added in self._parts(first, prepared, out, residual):
            solution.run(x, weights, result, *added)

    def in_place(self, first: Array, out: Array) -> tuple[bool, bool]:
        """Whether all of its parts read the one and write the other where they lie, not through a copy."""
        parts = self._parts(first, [None] * len(self.solutions), out, None)
        said = [solution.in_place(x, o) for solution, x, _, o, _ in parts if hasattr(solution, "in_place")]
        return all(reads for reads, _ in said), all(writes for _, writes in said)

    def jobs(self, first: Array, prepared: list[Any], out: Array, residual: Array | None = None) -> list[Job] | None:
        """What `run` does with these very arrays, written down; None where one of the parts would have to copy."""
        if residual is not None and not lies_like(residual, out):
            return None
        jobs: list[Job] = []
        for solution, x, weights, result, added in self._parts(first, prepared, out, residual):
            written = solution.jobs(x, weights, result, *added) if hasattr(solution, "jobs") else None
            if written is None:
                return None
            jobs += written
        return jobs

    def _parts(
        self, first: Array, prepared: list[Any], out: Array, residual: Array | None
    ) -> Iterator[tuple[Any, Array, Any, Array, tuple[Array, ...]]]:
        """Solution, input, weights, output, and what is added."""
        cut, problem = self.cut, self.problem
        axis = problem.axes[-1]

        def added(*index: Any) -> tuple[Array, ...]:
            return () if residual is None else (residual[index],)

        if cut.head:
            stop = (cut.head - 1) * axis.stride + axis.extent - axis.before
            head = added(..., slice(cut.head))
            yield self.solutions[0], first[..., :stop], prepared[0], out[..., : cut.head], head
        size = (cut.length - 1) * axis.stride + axis.extent
        start = _first_input(problem, cut.head)
        for picture in range(problem.batch):
            x = _stretched(first[picture, ..., start:], cut.count, size, cut.length * axis.stride)
            results = [
                _stretched(array, cut.count, cut.length, cut.length)
                for array in (out[picture, ..., cut.head :], *added(picture, ..., slice(cut.head, None)))
            ]
            yield self.solutions[-2], x, prepared[-2], results[0], tuple(results[1:])
        last = cut.head + cut.count * cut.length
        rest = first[..., _first_input(problem, last) :]
        yield self.solutions[-1], rest, prepared[-1], out[..., last:], added(..., slice(last, None))


def _stretched(array: Array, count: int, size: int, step: int) -> Array:
    """(C, ..., W) as `count` pictures of `size` columns, which begin `step` columns apart."""
    assert (count - 1) * step + size <= array.shape[-1]
    strides = (step * array.strides[-1], *array.strides)
    return as_strided(array, (count, *array.shape[:-1], size), strides, writeable=array.flags.writeable)
