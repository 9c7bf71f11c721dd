"""From a Problem to a Plan: asks every algorithm, takes the cheapest that does not refuse, and can say why."""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentTypeError, ArgumentValueError, choices
from ..problem import Problem

if TYPE_CHECKING:
    from .algorithms import Algorithm, Compound, Solution
    from .emit.target import Target

__all__ = ["Candidate", "Plan", "make_plan"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the table, asked about one problem."""

    name: str
    refusal: str | None
    seconds: float
    workspace: int
    error_bound: float
    parts: tuple["Plan", ...] = field(default=(), repr=False)


class Shapes(NamedTuple):
    """The shapes of a problem's operands and result, worked out once."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    result: tuple[int, ...]
    dtype: np.dtype[Any]


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
    solution: "Solution" = field(repr=False, compare=False)
    shapes: "Shapes" = field(repr=False, compare=False)

    def __call__(
        self, first: Array, second: Array, bias: Array | None = None, *, out: Array | None = None, fill: float = 0.0
    ) -> Array:
        """The result for two operands: (x, w) of a convolution, (gradient, w) or (x, gradient) of its gradients.

        `fill` is what constant padding holds. The result is written to `out` if given, else to a new array.
        """
        return self.prepare(second, bias, fill=fill)(first, out=out)

    def prepare(self, second: Array, bias: Array | None = None, *, fill: float = 0.0) -> "PreparedPlan":
        """The plan with its second operand and bias in place, copied into the algorithm's own form."""
        shapes = self.shapes
        checked("second operand", second, shapes.second)
        if (bias is not None) != self.problem.bias:
            expected = "an array" if self.problem.bias else f"None for the problem {self.problem}"
            raise ArgumentValueError("bias", bias, expected)
        if bias is not None:
            checked("bias", bias, shapes.result[1:2])
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
            f"  {_error_text(chosen.error_bound)}",
            *(f"  part: {part.problem}, {part.algorithm}" for part in chosen.parts),
        ]
        for row in self.candidates:
            if row.refusal is not None:
                lines.append(f"  {row.name}: refuses, {row.refusal}")
            elif row.name != self.algorithm:
                lines.append(f"  {row.name}: predicted {_time_text(row.seconds)}, workspace {row.workspace:,} bytes")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.explain()


class PreparedPlan:
    """A plan whose second operand is in place: call it with the first."""

    __slots__ = ("_last", "_prepared", "_run", "_shapes", "plan")

    def __init__(self, plan: Plan, prepared: Any) -> None:
        self.plan = plan
        self._prepared, self._run, self._shapes = prepared, plan.solution.run, plan.shapes
        self._last = plan.problem.channels_last and plan.problem.operation != "weight_grad"

    def __call__(self, first: Array, *, out: Array | None = None) -> Array:
        """The result for `first`, written to `out` if given, else to a new array."""
        shapes = self._shapes
        checked("first operand", first, shapes.first)
        if out is None:
            out = (
                empty_channels_last(shapes.result, shapes.dtype)
                if self._last
                else np.empty(shapes.result, shapes.dtype)
            )
        else:
            checked("out", out, shapes.result)
            if out.dtype != shapes.dtype or not out.flags.writeable:
                raise ArgumentValueError("out", out, f"a writable array of dtype {shapes.dtype}")
        self._run(first, self._prepared, out)
        return out

    def __repr__(self) -> str:
        return f"PreparedPlan({self.plan.problem}, {self.plan.algorithm})"


def make_plan(problem: Problem | str, *, algorithm: str | None = None, target: "Target | None" = None) -> Plan:
    """The plan for `problem`, a :class:`Problem` or its string; with `algorithm`, that row of the table.

    `target` is the processor to generate code for: this one unless told otherwise, as tests of other targets do.

    Raises:
        ArgumentValueError: a string that is no problem, an unknown algorithm, or one that refuses (with its reason).
    """
    if not isinstance(problem, Problem):
        problem = Problem.parse(problem)
    # The engine is imported with the first plan: `import starconv` stays quick for those who only want sizes.
    from .emit.target import host_target

    return _plan(problem, algorithm, host_target() if target is None else target)


@lru_cache(maxsize=4096)
def _plan(problem: Problem, algorithm: str | None, target: "Target | None") -> Plan:
    from .algorithms import TABLE, is_compound

    candidates = [_asked(row, problem, target) for row in TABLE]
    if algorithm is None:
        algorithm = min(candidates, key=lambda candidate: candidate.seconds).name
    rows = {row.NAME: (row, candidate) for row, candidate in zip(TABLE, candidates, strict=True)}
    if algorithm not in rows:
        raise ArgumentValueError("algorithm", algorithm, choices(rows))
    row, candidate = rows[algorithm]
    if candidate.refusal is not None:
        raise ArgumentValueError("algorithm", algorithm, f"one that takes {problem}; it refuses: {candidate.refusal}")
    shapes = Shapes(*problem.operand_shapes, problem.result_shape, np.dtype(problem.dtype))
    if is_compound(row):
        solution = row.build(problem, target, [part.solution for part in candidate.parts])
    else:
        solution = cast("Algorithm", row).build(problem, target)
    return Plan(problem, algorithm, tuple(candidates), solution, shapes)


def _asked(row: "Algorithm | Compound", problem: Problem, target: "Target | None") -> Candidate:
    """What a row of the table answers; a compound one, once its parts have been planned."""
    from .algorithms import is_compound

    refusal = row.refuses(problem, target)
    if refusal is not None:
        return Candidate(row.NAME, refusal, math.inf, 0, math.inf)
    if not is_compound(row):
        plain = cast("Algorithm", row)
        told = plain.cost(problem, target), plain.workspace(problem, target), plain.error_bound(problem)
        return Candidate(row.NAME, None, *told)
    parts = tuple(_plan(part, None, target) for part in row.parts(problem, target))
    chosen = [next(asked for asked in part.candidates if asked.name == part.algorithm) for part in parts]
    return Candidate(
        row.NAME,
        None,
        row.cost(problem, target, [part.seconds for part in chosen]),
        row.workspace(problem, target, [part.workspace for part in chosen]),
        row.error_bound(problem, [part.error_bound for part in chosen]),
        parts,
    )


def empty_channels_last(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array (N, C, ...) that lies in memory as (N, ..., C)."""
    return np.moveaxis(np.empty((shape[0], *shape[2:], shape[1]), dtype), -1, 1)


def checked(argument: str, array: object, shape: tuple[int, ...]) -> None:
    """Raise unless `array` is an array of `shape` of real numbers."""
    if not isinstance(array, np.ndarray):
        raise ArgumentTypeError(argument, array, f"a NumPy array of shape {shape}")
    if array.shape != shape:
        raise ArgumentValueError(argument, array, f"shape {shape}")
    if array.dtype.kind not in "fiub":
        raise ArgumentTypeError(argument, array, "an array of real numbers")


def _error_text(bound: float) -> str:
    return f"error at most {bound:.2g} of the sum of |x||w|" if bound else "exact"


def _time_text(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
