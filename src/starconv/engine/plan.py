"""A problem with the algorithm chosen for it: what may be called with operands, and can say why it was chosen.

Plans are made in :mod:`.planner`.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentTypeError, ArgumentValueError, choices
from ..problem import Problem
from .runtime.recycling import recycled_empty

if TYPE_CHECKING:
    from .algorithms import Algorithm, Compound, Solution
    from .emit.target import Target
    from .runtime.jobs import Job

__all__ = [
    "WIDENED",
    "Candidate",
    "Plan",
    "PreparedPlan",
    "Shapes",
    "Special",
    "empty_channels_last",
    "is_compound",
    "time_text",
]

WIDENED = ("int8", "uint8", "int16", "uint16")
"""Types of a first operand that rows with WIDENS read as they are, and others copy as a whole."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Candidate:
    """One row of the table, asked about one problem. What most choices do without is asked when it is wanted.

    Attributes:
        name: of the row.
        refusal: the reason, or None.
        seconds: predicted.
        parts: plans for the problems of which a compound row makes this one.
        halved: it would use vectors of half the processor's width, which leave fewer lanes empty.
    """

    name: str
    refusal: str | None
    seconds: float
    parts: tuple["Plan", ...] = field(default=(), repr=False)
    row: "Algorithm | Compound | None" = field(default=None, repr=False, compare=False)
    problem: Problem | None = field(default=None, repr=False, compare=False)
    target: "Target | None" = field(default=None, repr=False, compare=False)
    halved: bool = False

    @cached_property
    def workspace(self) -> int:
        """Bytes; none of a row that refuses."""
        return 0 if self.refusal is not None else self._ask("workspace", self.problem, self.target)

    @cached_property
    def error_bound(self) -> float:
        """Relative to the sum of the products' absolute values."""
        return math.inf if self.refusal is not None else self._ask("error_bound", self.problem)

    @cached_property
    def plain(self) -> bool:
        """Whether it forms the definition's sums: those that do have its error bound, others another."""
        from .algorithms.rounding import sum_bound

        return self.problem is not None and self.error_bound == sum_bound(self.problem)

    @property
    def repeats(self) -> int | None:
        """Rows after which its sums begin anew: parts of a result that begin there have the bits of the whole.

        One of those that form the definition's sums, unless the row says otherwise; None of those that never do.
        """
        own = None if self.error_bound == 0 else getattr(self.row, "repeats", None)
        return own(self.problem, self.target) if own is not None else 1 if self.plain else None

    @property
    def widens(self) -> bool:
        """Whether it reads small integers as they are: a row that does, and of which all parts do."""
        reads = self.refusal is None and getattr(self.row, "WIDENS", False)
        return reads and all(part.chosen.widens for part in self.parts)

    def _ask(self, what: str, *about: object) -> Any:
        if self.row is not None and is_compound(self.row):
            about = (*about, [getattr(part.chosen, what) for part in self.parts])
        return getattr(self.row, what)(*about)


def is_compound(row: "Algorithm | Compound") -> TypeGuard["Compound"]:
    """Whether `row` leaves the computing to parts."""
    return hasattr(row, "parts")


class Shapes(NamedTuple):
    """The shapes of a problem's operands and result, worked out once."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    result: tuple[int, ...]
    dtype: np.dtype[Any]
    large: bool
    """A copy of the first or of the result may be more than a call may take, unless it is made part by part."""


class Special(NamedTuple):
    """A row that takes a problem with some weights only, and is asked first when they are there."""

    candidate: Candidate
    condition: str
    solution: "Solution"


@dataclass(frozen=True, slots=True)
class Plan:
    """A problem, the algorithm chosen for it, and what every other algorithm answered.

    Call it with operands of the problem's shapes; `prepare` the weights once if they stay the same. Operands are read
    in the problem's dtype, and refused (ArgumentTypeError) where that could change their numbers: what NumPy calls a
    safe cast, as from uint8 or float16 to float32, is made on the way; others, as from float64 to float32, with
    ``casting="unsafe"`` only.

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
    measured: tuple[tuple[str, float], ...] = field(default=(), compare=False)
    """(name, seconds) of the candidates that were timed, where that decided the choice."""
    special: Special | None = field(default=None, repr=False, compare=False)
    """What computes instead where the weights allow it."""

    def __call__(
        self,
        first: Array,
        second: Array,
        bias: Array | None = None,
        *,
        out: Array | None = None,
        residual: Array | None = None,
        fill: float = 0.0,
        casting: str = "safe",
    ) -> Array:
        """The result for two operands: (x, w) of a convolution, (gradient, w) or (x, gradient) of its gradients.

        `fill` is what constant padding holds, `residual` what is added before the activation (with problems that have
        one). The result is written to `out` if given, else to a new array; `out` may be `residual` itself, or lie over
        other operands. `casting` is NumPy's word for which dtypes are taken, from "no" to "unsafe".
        """
        if out is not None:  # some algorithms read weights where they lie
            second = _away_from(out, second)
            bias = bias if bias is None else _away_from(out, bias)
        if self.shapes.large:
            from .pieces import PIECE, alike, takes_too_much

            self._check(second, bias, casting)
            asked = self.who_computes(second, bias, fill)
            out = asked.accepted(first, out, residual, casting)
            if takes_too_much(asked, first, second, out):
                pieces = alike(asked, first, second, bias, residual, out=out, most=PIECE, fill=fill)
                if pieces is not None:
                    for place, sums in pieces:
                        out[place] = sums
                    return out
        prepared = self._prepared(second, bias, fill, casting, once=True)
        return prepared(first, out=out, residual=residual, casting=casting)

    def prepare(
        self, second: Array, bias: Array | None = None, *, fill: float = 0.0, casting: str = "safe"
    ) -> "PreparedPlan":
        """The plan with its second operand and bias in place, copied into the algorithm's own form."""
        return self._prepared(second, bias, fill, casting, once=False)

    def who_computes(self, second: Array, bias: Array | None = None, fill: float = 0.0) -> "PreparedPlan":
        """What `prepare` gives for such weights, but without them: not to be called, but asked."""
        special = self.special
        if special is not None and special.solution.prepare(second, bias, fill, True) is not None:
            return PreparedPlan(self, special.candidate.name, special.solution, None)
        return PreparedPlan(self, self.algorithm, self.solution, None)

    def _check(self, second: Array, bias: Array | None, casting: str) -> None:
        """Raise unless both are the problem's."""
        shapes = self.shapes
        _checked("second operand", second, shapes.second, shapes.dtype, casting)
        if (bias is not None) != self.problem.bias:
            expected = "an array" if self.problem.bias else f"None for the problem {self.problem}"
            raise ArgumentValueError("bias", bias, expected)
        if bias is not None:
            _checked("bias", bias, shapes.result[1:2], shapes.dtype, casting)

    def _prepared(self, second: Array, bias: Array | None, fill: float, casting: str, *, once: bool) -> "PreparedPlan":
        self._check(second, bias, casting)
        if self.special is not None:
            prepared = self.special.solution.prepare(second, bias, fill, once)
            if prepared is not None:
                return PreparedPlan(self, self.special.candidate.name, self.special.solution, prepared)
        return PreparedPlan(self, self.algorithm, self.solution, self.solution.prepare(second, bias, fill, once))

    def reads(self, dtype: np.dtype[Any]) -> bool:
        """Whether a first operand of `dtype` is read as it is, not copied into the problem's dtype as a whole."""
        return dtype == self.shapes.dtype or (dtype.name in WIDENED and dtype.isnative and self.chosen.widens)

    @property
    def prepare_bytes(self) -> int:
        """Bytes in which the jobs of `jobs` put the second operand into the algorithm's own form."""
        return getattr(self.solution, "prepare_bytes", 0)

    def jobs(
        self, first: Array, second: Array, bias: Array | None, out: Array, room: Array | None = None
    ) -> "list[Job] | None":
        """What a call with these very arrays does, whatever they hold when the jobs run; None where that is not known.

        Unlike those of :class:`PreparedPlan`, these jobs put the second operand in place each time they run, in `room`.
        The arrays must have the right shapes, and stay where they are as long as the jobs may run.
        """
        if self.problem.operation == "weight_grad":
            prepared, jobs = self.solution.prepare(second, None, 0.0, True), []
            if prepared is not second:
                return None
        else:
            written = getattr(self.solution, "prepare_jobs", None)
            found = None if written is None else written(second, bias, room)
            if found is None:
                return None
            prepared, jobs = found
        run = getattr(self.solution, "jobs", _no_jobs)(first, prepared, out)
        return None if run is None else [*jobs, *run]

    @property
    def predicted(self) -> Candidate:
        """Who is predicted to be the fastest, whatever was measured."""
        return min(self.candidates, key=lambda candidate: candidate.seconds)

    @property
    def chosen(self) -> Candidate:
        """What the algorithm answered."""
        return next(row for row in self.candidates if row.name == self.algorithm)

    def explain(self) -> str:
        """The choice, its predicted cost and workspace, and the reason of every refusal, as lines of text."""
        problem, chosen = self.problem, self.chosen
        lines = [
            str(problem),
            f"  result {'x'.join(map(str, problem.result_shape))} {problem.dtype}, "
            f"{problem.multiply_adds:,} multiply-adds, at least {problem.bytes_moved:,} bytes moved",
            f"  chosen: {chosen.name}, {_costs_text(chosen)}",
            *self._measured_lines(),
            f"  {_error_text(chosen.error_bound, problem)}",
            *(f"  part: {part.problem}, {part.algorithm}" for part in chosen.parts),
        ]
        if self.special is not None:
            row, condition, _ = self.special
            lines.append(f"  {condition}: {row.name}, {_costs_text(row)}, {_error_text(row.error_bound, problem)}")
        for row in self.candidates:
            if row.refusal is not None:
                lines.append(f"  {row.name}: refuses, {row.refusal}")
            elif row.name != self.algorithm:
                lines.append(f"  {row.name}: {_costs_text(row)}")
        return "\n".join(lines)

    def _measured_lines(self) -> list[str]:
        """What was measured, the fastest first; nothing where the prediction decided."""
        times = sorted(self.measured, key=lambda timed: timed[1])
        told = ", ".join(f"{name} {time_text(seconds)}" for name, seconds in times)
        return [f"  measured: {told}"] if told else []

    def __str__(self) -> str:
        return self.explain()


class PreparedPlan:
    """A plan whose second operand is in place: call it with the first."""

    __slots__ = ("_adds", "_last", "_prepared", "_run", "_shapes", "_solution", "algorithm", "plan")

    def __init__(self, plan: Plan, algorithm: str, solution: "Solution", prepared: Any) -> None:
        self.plan, self.algorithm = plan, algorithm
        self._prepared, self._run, self._shapes = prepared, solution.run, plan.shapes
        self._solution = solution
        self._adds = plan.problem.residual
        self._last = plan.problem.channels_last and plan.problem.operation != "weight_grad"

    def __call__(
        self, first: Array, *, out: Array | None = None, residual: Array | None = None, casting: str = "safe"
    ) -> Array:
        """The result for `first` (and `residual`), written to `out` if given, else to a new array."""
        given, out = out, self.accepted(first, out, residual, casting)
        if given is not None:
            first = _away_from(out, first)
        if residual is None:
            self._run(first, self._prepared, out)
        else:
            self._run(first, self._prepared, out, residual)
        return out

    def accepted(self, first: Array, out: Array | None, residual: Array | None, casting: str) -> Array:
        """`out`, or a new array for the result. Raises unless all of them fit."""
        shapes = self._shapes
        _checked("first operand", first, shapes.first, shapes.dtype, casting)
        if (residual is not None) != self._adds:
            expected = f"an array of shape {shapes.result}" if self._adds else f"None for {self.plan.problem}"
            raise ArgumentValueError("residual", residual, expected)
        if residual is not None:
            _checked("residual", residual, shapes.result, shapes.dtype, casting)
        if out is None:
            make = empty_channels_last if self._last else recycled_empty
            return make(shapes.result, shapes.dtype)
        _checked("out", out, shapes.result, shapes.dtype, "unsafe")
        if out.dtype != shapes.dtype or not out.flags.writeable:
            raise ArgumentValueError("out", out, f"a writable array of dtype {shapes.dtype}")
        return out

    @property
    def candidate(self) -> Candidate:
        """What the algorithm answered."""
        special = self.plan.special
        return self.plan.chosen if special is None or special.candidate.name != self.algorithm else special.candidate

    def in_place(self, first: Array, out: Array) -> tuple[bool, bool]:
        """Whether it reads `first` where it lies, and writes to `out` there; through a copy of the whole, otherwise."""
        asked = getattr(self._solution, "in_place", None)
        return (True, True) if asked is None else asked(first, out)

    def shared_with(self, plan: Plan) -> "PreparedPlan | None":
        """These weights and this bias in place for `plan`, of the same layer for pictures of another size.

        None where its algorithm wants them in another form.
        """
        form = getattr(self._solution, "weight_form", None)
        if form is None or self.plan.special is not None or plan.special is not None:
            return None
        if getattr(plan.solution, "weight_form", None) != form:
            return None
        return PreparedPlan(plan, plan.algorithm, plan.solution, self._prepared)

    def jobs(self, first: Array, out: Array, residual: Array | None = None) -> "list[Job] | None":
        """What a call with these very arrays does, as jobs; None where it is not, or not only, done by compiled code.

        The arrays must have the right shapes, and stay where they are as long as the jobs may run.
        """
        written = getattr(self._solution, "jobs", None)
        return None if written is None else written(first, self._prepared, out, residual)

    def __repr__(self) -> str:
        return f"PreparedPlan({self.plan.problem}, {self.algorithm})"


def _no_jobs(first: Array, prepared: Any, out: Array) -> None:
    """Of solutions that know none."""


def empty_channels_last(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array (N, C, ...) that lies in memory as (N, ..., C)."""
    return np.moveaxis(recycled_empty((shape[0], *shape[2:], shape[1]), dtype), -1, 1)


def _away_from(out: Array, operand: Array) -> Array:
    """`operand`, or a copy of it where `out` may lie over it: results are written while it is still read."""
    arrays = isinstance(out, np.ndarray) and isinstance(operand, np.ndarray)
    return operand.copy() if arrays and np.may_share_memory(out, operand) else operand


def _checked(argument: str, array: object, shape: tuple[int, ...], dtype: np.dtype[Any], casting: str) -> None:
    """Raise unless `array` is an array of `shape` of real numbers that `casting` lets be read in `dtype`."""
    if not isinstance(array, np.ndarray):
        raise ArgumentTypeError(argument, array, f"a NumPy array of shape {shape}")
    if array.shape != shape:
        raise ArgumentValueError(argument, array, f"shape {shape}")
    if array.dtype is dtype:
        return
    if array.dtype.kind not in "fiub":
        raise ArgumentTypeError(argument, array, "an array of real numbers")
    if not _can_cast(array.dtype, dtype, casting):
        raise ArgumentTypeError(
            argument, array, f"a dtype that can be read as {dtype} with casting {casting!r}; convert it yourself"
        )


@lru_cache
def _can_cast(given: np.dtype[Any], dtype: np.dtype[Any], casting: str) -> bool:
    try:
        return np.can_cast(given, dtype, casting)  # type: ignore[arg-type]
    except ValueError:
        expected = choices(("no", "equiv", "safe", "same_kind", "unsafe"))
        raise ArgumentValueError("casting", casting, expected) from None


def _costs_text(row: Candidate) -> str:
    """What a row would take; and if it has vectors of half the processor's width, that."""
    halved = ", half vectors" if row.halved else ""
    return f"predicted {time_text(row.seconds)}, workspace {row.workspace:,} bytes{halved}"


def _error_text(bound: float, problem: Problem) -> str:
    """A sum's bound holds for each element by itself; a larger one, of a transform, for the largest element's scale."""
    from .algorithms.rounding import sum_bound

    if not bound:
        return "exact"
    which = "the largest sum" if bound > sum_bound(problem) else "the sum"
    return f"error at most {bound:.2g} of {which} of |x||w|"


def time_text(seconds: float) -> str:
    """Three digits, in s, ms or µs."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
