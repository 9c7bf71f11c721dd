"""From a Problem to a Plan: asks every algorithm, takes the cheapest that does not refuse, and can say why."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentTypeError, ArgumentValueError, choices
from ..problem import Problem
from .algorithms import TABLE, Solution
from .emit.target import host_target

__all__ = ["Candidate", "Plan", "make_plan"]

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the table, asked about one problem."""

    name: str
    refusal: str | None
    seconds: float
    workspace: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A problem, the algorithm chosen for it, and what every other algorithm answered.

    Call it with operands of the problem's shapes; `prepare` the weights once if they stay the same.

    >>> import numpy as np, starconv as sc
    >>> plan = sc.plan("conv2d x=1x1x3x3 w=1x1x2x2")
    >>> plan(np.arange(9.0, dtype="float32").reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2), "float32"))
    array([[[[ 8., 12.],
             [20., 24.]]]], dtype=float32)
    """

    problem: Problem
    algorithm: str
    candidates: tuple[Candidate, ...]
    solution: Solution = field(repr=False, compare=False)

    def __call__(
        self, first: Array, second: Array, bias: Array | None = None, *, out: Array | None = None, fill: float = 0.0
    ) -> Array:
        """The result for two operands: (x, w) of a convolution, (gradient, w) or (x, gradient) of its gradients.

        `fill` is what constant padding holds. The result is written to `out` if given, else to a new array.
        """
        return self.prepare(second, bias, fill=fill)(first, out=out)

    def prepare(self, second: Array, bias: Array | None = None, *, fill: float = 0.0) -> "PreparedPlan":
        """The plan with its second operand and bias in place, copied into the algorithm's own form."""
        problem = self.problem
        checked("second operand", second, problem.operand_shapes[1])
        if (bias is not None) != problem.bias:
            raise ArgumentValueError("bias", bias, "an array" if problem.bias else f"None for the problem {problem}")
        if bias is not None:
            checked("bias", bias, (problem.result_shape[1],))
        return PreparedPlan(self, self.solution.prepare(second, bias, fill))

    def explain(self) -> str:
        """The choice, its predicted cost and workspace, and the reason of every refusal, as lines of text."""
        problem = self.problem
        chosen = next(row for row in self.candidates if row.name == self.algorithm)
        lines = [
            str(problem),
            f"  result {'x'.join(map(str, problem.result_shape))} {problem.dtype}, "
            f"{problem.multiply_adds:,} multiply-adds, at least {problem.bytes_moved:,} bytes moved",
            f"  chosen: {chosen.name}, predicted {_time_text(chosen.seconds)}, workspace {chosen.workspace:,} bytes",
        ]
        for row in self.candidates:
            if row.refusal is not None:
                lines.append(f"  {row.name}: refuses, {row.refusal}")
            elif row.name != self.algorithm:
                lines.append(f"  {row.name}: predicted {_time_text(row.seconds)}, workspace {row.workspace:,} bytes")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.explain()


@dataclass(frozen=True, slots=True)
class PreparedPlan:
    """A plan whose second operand is in place: call it with the first."""

    plan: Plan
    prepared: Any = field(repr=False)

    def __call__(self, first: Array, *, out: Array | None = None) -> Array:
        """The result for `first`, written to `out` if given, else to a new array."""
        problem = self.plan.problem
        checked("first operand", first, problem.operand_shapes[0])
        if out is None:
            out = empty_result(problem)
        else:
            checked("out", out, problem.result_shape)
        self.plan.solution.run(first, self.prepared, out)
        return out


def make_plan(problem: Problem | str, *, algorithm: str | None = None) -> Plan:
    """The plan for `problem`, a :class:`Problem` or its string; with `algorithm`, that row of the table.

    Raises:
        ArgumentValueError: a string that is no problem, an unknown algorithm, or one that refuses (with its reason).
    """
    if not isinstance(problem, Problem):
        problem = Problem.parse(problem)
    return _plan(problem, algorithm)


@lru_cache(maxsize=4096)
def _plan(problem: Problem, algorithm: str | None) -> Plan:
    target = host_target()
    candidates = []
    for row in TABLE:
        refusal = row.refuses(problem, target)
        accepted = refusal is None
        seconds = row.cost(problem, target) if accepted else float("inf")
        candidates.append(Candidate(row.NAME, refusal, seconds, row.workspace(problem, target) if accepted else 0))
    if algorithm is None:
        algorithm = min(candidates, key=lambda candidate: candidate.seconds).name
    rows = {row.NAME: (row, candidate) for row, candidate in zip(TABLE, candidates, strict=True)}
    if algorithm not in rows:
        raise ArgumentValueError("algorithm", algorithm, choices(rows))
    row, candidate = rows[algorithm]
    if candidate.refusal is not None:
        raise ArgumentValueError("algorithm", algorithm, f"one that takes {problem}; it refuses: {candidate.refusal}")
    return Plan(problem, algorithm, tuple(candidates), row.build(problem, target))


def empty_result(problem: Problem) -> Array:
    """An array for the result, channels last in memory where the problem is."""
    shape = problem.result_shape
    if problem.channels_last and problem.operation != "weight_grad":
        return np.moveaxis(np.empty((shape[0], *shape[2:], shape[1]), problem.dtype), -1, 1)
    return np.empty(shape, problem.dtype)


def checked(argument: str, array: object, shape: tuple[int, ...]) -> None:
    """Raise unless `array` is an array of `shape`."""
    if not isinstance(array, np.ndarray):
        raise ArgumentTypeError(argument, array, f"a NumPy array of shape {shape}")
    if array.shape != shape:
        raise ArgumentValueError(argument, array, f"shape {shape}")


def _time_text(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
