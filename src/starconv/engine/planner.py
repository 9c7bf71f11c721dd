"""From a Problem to a Plan: asks every algorithm, takes the cheapest that does not refuse, and can say why.

The cheapest by prediction, or by measurement where there is one (`wisdom`).
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentTypeError, ArgumentValueError, choices
from ..problem import Problem
from .runtime.recycling import recycled_empty

if TYPE_CHECKING:
    from .algorithms import Algorithm, Compound, Conditional, Solution
    from .emit.target import Target
    from .runtime.jobs import Job
    from .wisdom import Entry, Wisdom

__all__ = ["EFFORTS", "Candidate", "Plan", "make_plan", "measure", "use_wisdom", "wisdom", "wisdom_key", "wisdom_state"]

EFFORTS = ("estimate", "measure")

MOST_WORKSPACE = 32 << 20
"""Bytes of workspace that a call may take; more where a quarter of its operands and result is more.

Weights that a caller has prepared are the caller's, and not counted.
"""

WORTH = 0.95
"""Of the time of a layer's predicted algorithm, what another may take to replace it: in a network, neighbours and
other processes make more difference than that."""
WIDENED = ("int8", "uint8", "int16", "uint16")
"""Types of a first operand that rows with WIDENS read as they are, and others copy as a whole."""
MOST_SLOWER = 2.0
"""A row that reads its input as it is may take so many times what the best takes with its copy."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Candidate:
    """One row of the table, asked about one problem. What most choices do without is asked when it is wanted.

    Attributes:
        name: of the row.
        refusal: the reason, or None.
        seconds: predicted.
        parts: plans for the problems of which a compound row makes this one.
    """

    name: str
    refusal: str | None
    seconds: float
    parts: tuple["Plan", ...] = field(default=(), repr=False)
    row: "Algorithm | Compound | None" = field(default=None, repr=False, compare=False)
    problem: Problem | None = field(default=None, repr=False, compare=False)
    target: "Target | None" = field(default=None, repr=False, compare=False)

    @cached_property
    def workspace(self) -> int:
        """Bytes; none of a row that refuses."""
        return 0 if self.refusal is not None else self._ask("workspace", self.problem, self.target)

    @cached_property
    def error_bound(self) -> float:
        """Relative to the sum of the products' absolute values."""
        return math.inf if self.refusal is not None else self._ask("error_bound", self.problem)

    def _ask(self, what: str, *about: object) -> Any:
        if self.row is not None and _is_compound(self.row):
            about = (*about, [getattr(part.chosen, what) for part in self.parts])
        return getattr(self.row, what)(*about)


class Shapes(NamedTuple):
    """The shapes of a problem's operands and result, worked out once."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    result: tuple[int, ...]
    dtype: np.dtype[Any]


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
        return self._prepared(second, bias, fill, casting, once=True)(
            first, out=out, residual=residual, casting=casting
        )

    def prepare(
        self, second: Array, bias: Array | None = None, *, fill: float = 0.0, casting: str = "safe"
    ) -> "PreparedPlan":
        """The plan with its second operand and bias in place, copied into the algorithm's own form."""
        return self._prepared(second, bias, fill, casting, once=False)

    def _prepared(self, second: Array, bias: Array | None, fill: float, casting: str, *, once: bool) -> "PreparedPlan":
        shapes = self.shapes
        checked("second operand", second, shapes.second, shapes.dtype, casting)
        if (bias is not None) != self.problem.bias:
            expected = "an array" if self.problem.bias else f"None for the problem {self.problem}"
            raise ArgumentValueError("bias", bias, expected)
        if bias is not None:
            checked("bias", bias, shapes.result[1:2], shapes.dtype, casting)
        if self.special is not None:
            prepared = self.special.solution.prepare(second, bias, fill, once)
            if prepared is not None:
                return PreparedPlan(self, self.special.candidate.name, self.special.solution, prepared)
        return PreparedPlan(self, self.algorithm, self.solution, self.solution.prepare(second, bias, fill, once))

    def reads(self, dtype: np.dtype[Any]) -> bool:
        """Whether a first operand of `dtype` is read as it is, not copied into the problem's dtype as a whole."""
        return dtype == self.shapes.dtype or (dtype.name in WIDENED and dtype.isnative and _widens(self.chosen))

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
            f"  chosen: {chosen.name}, predicted {time_text(chosen.seconds)}, workspace {chosen.workspace:,} bytes",
            *self._measured_lines(),
            f"  {_error_text(chosen.error_bound, problem)}",
            *(f"  part: {part.problem}, {part.algorithm}" for part in chosen.parts),
        ]
        if self.special is not None:
            row, condition, _ = self.special
            lines.append(
                f"  {condition}: {row.name}, predicted {time_text(row.seconds)}, workspace {row.workspace:,} bytes, "
                + _error_text(row.error_bound, problem)
            )
        for row in self.candidates:
            if row.refusal is not None:
                lines.append(f"  {row.name}: refuses, {row.refusal}")
            elif row.name != self.algorithm:
                lines.append(f"  {row.name}: predicted {time_text(row.seconds)}, workspace {row.workspace:,} bytes")
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
        shapes = self._shapes
        checked("first operand", first, shapes.first, shapes.dtype, casting)
        if (residual is not None) != self._adds:
            expected = f"an array of shape {shapes.result}" if self._adds else f"None for {self.plan.problem}"
            raise ArgumentValueError("residual", residual, expected)
        if out is None:
            out = (
                empty_channels_last(shapes.result, shapes.dtype)
                if self._last
                else recycled_empty(shapes.result, shapes.dtype)
            )
        else:
            checked("out", out, shapes.result, shapes.dtype, "unsafe")
            if out.dtype != shapes.dtype or not out.flags.writeable:
                raise ArgumentValueError("out", out, f"a writable array of dtype {shapes.dtype}")
            first = _away_from(out, first)
        if residual is None:
            self._run(first, self._prepared, out)
        else:
            checked("residual", residual, shapes.result, shapes.dtype, casting)
            self._run(first, self._prepared, out, residual)
        return out

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


def make_plan(
    problem: Problem | str,
    *,
    effort: str = "estimate",
    algorithm: str | None = None,
    target: "Target | None" = None,
    prepared: bool = False,
    source: str | None = None,
) -> Plan:
    """The plan for `problem`, a :class:`Problem` or its string; with `algorithm`, that row of the table.

    With effort "estimate" the choice is what was measured before for this problem on this machine, else the algorithm
    with the least predicted time. With "measure", a problem that was not measured before is: all candidates that may
    be the fastest are timed, which takes some tenths of a second, and the result is kept on disk (see
    ``starconv tune``). Algorithms round differently, so a measurement may change the last bits of results from then
    on, unless the problem's precision is "strict".

    `target` is the processor to generate code for: this one unless told otherwise, as tests of other targets do.
    With `prepared` the choice is for weights that are prepared once for many calls, as a network's are: their
    preparation costs nothing. It is measured apart from that for whole calls: neither decides about the other.
    `source` is the dtype of the first operand, such as "uint8", where it is not the problem's: small integers are then
    read as they are, not copied as a whole, by an algorithm that gives the same bits, unless that takes far longer.

    Raises:
        ArgumentValueError: a string that is no problem, an unknown algorithm or effort, or an algorithm that refuses
            (with its reason).
    """
    if not isinstance(problem, Problem):
        problem = Problem.parse(problem)
    if effort not in EFFORTS:
        raise ArgumentValueError("effort", effort, choices(EFFORTS))
    # The engine is imported with the first plan: `import starconv` stays quick for those who only want sizes.
    from .emit.target import host_target

    if effort == "measure":
        if algorithm is not None or target is not None:
            raise ArgumentValueError("effort", effort, "'estimate' for an algorithm or a target that is given")
        if wisdom().find(wisdom_key(problem, prepared)) is None:
            measure(problem, prepared)
    source = source if source in WIDENED else None  # of all others the choice is the same
    return _plan(problem, algorithm, host_target() if target is None else target, wisdom_state(), prepared, source)


def measure(problem: Problem, prepared: bool = False) -> "Entry | None":
    """Time the candidates for `problem` and remember the fastest; None if there is only one to take.

    With `prepared`, what is timed is calls with weights in place, as a network makes them, else whole calls; and the
    algorithm that is predicted to be the fastest is replaced where that gains a twentieth at least. Not
    measured are those that are predicted to be five times slower than the best, or to take more than a second.
    """
    from . import measure as stopwatch
    from .emit.target import host_target
    from .wisdom import Entry

    target = host_target()
    estimate = _plan(problem, None, target, wisdom_state(), prepared)
    names = stopwatch.contenders(_eligible(problem, estimate.candidates, prepared))
    if prepared:
        names = names[: stopwatch.most_prepared(problem)]
    if len(names) < 2 or problem.batch == 0:
        return None
    plans = {name: _plan(problem, name, target, wisdom_state(), prepared) for name in names}
    times = stopwatch.times(plans, prepared=prepared)
    fastest = min(times, key=lambda name: times[name])
    if prepared and times[fastest] > WORTH * times[names[0]]:
        fastest = names[0]
    entry = Entry(fastest, tuple(times.items()))
    learned = wisdom()
    learned.record(wisdom_key(problem, prepared), entry)
    use_wisdom(learned)
    return entry


def wisdom_key(problem: Problem, prepared: bool = False) -> str:
    """Under what a measurement is kept: the problem's string, and whether calls found their weights prepared."""
    return f"{problem} prepared" if prepared else str(problem)


def wisdom() -> "Wisdom":
    """What was measured on this machine: read from disk when first asked for, then added to by this process only."""
    global _wisdom
    found = _wisdom
    if found is None:
        from .algorithms import TABLE
        from .wisdom import Wisdom, signature_of

        with _lock:
            found = _wisdom = _wisdom or Wisdom.load(signature_of([row.NAME for row in TABLE]))
    return found


def use_wisdom(learned: "Wisdom | None") -> None:
    """Plan with `learned` from now on, or (None) with what the disk holds; plans that were made before are not kept."""
    global _wisdom, _state
    with _lock:
        _wisdom, _state = learned, _state + 1


def wisdom_state() -> int:
    """A number that changes whenever plans may: whoever keeps plans, keeps them under this number too."""
    return _state


_wisdom: "Wisdom | None" = None
_state = 0
_lock = threading.RLock()


@lru_cache(maxsize=4096)
def _plan(
    problem: Problem,
    algorithm: str | None,
    target: "Target | None",
    state: int,
    prepared: bool = False,
    source: str | None = None,
) -> Plan:
    from .algorithms import SPECIALS, TABLE

    special = next((row for row in SPECIALS if algorithm == row.NAME), None)
    wanted, algorithm = algorithm, None if special is not None else algorithm
    candidates = [_asked(row, problem, target, state, prepared, source) for row in TABLE]
    measured: tuple[tuple[str, float], ...] = ()
    if algorithm is None:
        best, measured = _choice(problem, candidates, target, prepared)
        algorithm = best if source is None else _without_a_copy(problem, candidates, best, measured, target, source)
    else:
        best = algorithm
    rows = {row.NAME: (row, candidate) for row, candidate in zip(TABLE, candidates, strict=True)}
    if algorithm not in rows:
        raise ArgumentValueError("algorithm", algorithm, choices([*rows, *(row.NAME for row in SPECIALS)]))
    row, candidate = rows[algorithm]
    if candidate.refusal is not None:
        raise ArgumentValueError("algorithm", algorithm, f"one that takes {problem}; it refuses: {candidate.refusal}")
    shapes = Shapes(*problem.operand_shapes, problem.result_shape, np.dtype(problem.dtype))
    if _is_compound(row):
        solution = row.build(problem, target, [part.solution for part in candidate.parts])
    else:
        solution = cast("Algorithm", row).build(problem, target)
    plan = Plan(problem, algorithm, tuple(candidates), solution, shapes, measured)
    if wanted is None or special is not None:
        # Compared with the best: whether the weights decide must not depend on the type of the input.
        plan = replace(plan, special=_special(problem, target, state, rows[best][1].seconds, special))
    return plan


def _special(
    problem: Problem, target: "Target | None", state: int, seconds: float, wanted: "Conditional | None"
) -> Special | None:
    """The first special row that would be quicker than `seconds`, or the one that is wanted, quicker or not."""
    from .algorithms import SPECIALS

    for row in SPECIALS if wanted is None else (wanted,):
        candidate = _asked(row, problem, target, state)
        if wanted is not None and candidate.refusal is not None:
            raise ArgumentValueError(
                "algorithm", row.NAME, f"one that takes {problem}; it refuses: {candidate.refusal}"
            )
        if wanted is not None or candidate.seconds < seconds:
            return Special(candidate, row.CONDITION, row.build(problem, target))
    return None


def _choice(
    problem: Problem, candidates: list[Candidate], target: "Target | None", prepared: bool
) -> tuple[str, tuple[tuple[str, float], ...]]:
    """The algorithm that was measured to be the fastest, with the times; else the one predicted to be, without."""
    from .emit.target import host_target

    learned = wisdom() if target == host_target() else ()
    entry = learned.find(wisdom_key(problem, prepared)) if learned else None
    # What a file says is asked again: a candidate that refuses is not to be taken, whatever was written down.
    if entry is not None and any(row.name == entry.algorithm for row in _eligible(problem, candidates, prepared)):
        return entry.algorithm, entry.seconds
    if prepared:
        return _cheapest(candidates), ()
    # The cheapest of the modest ones; others are not asked how modest they are.
    accept = sorted((row for row in candidates if row.refusal is None), key=lambda row: row.seconds)
    return next((row for row in accept if _is_modest(problem, row)), accept[0]).name, ()


def _without_a_copy(
    problem: Problem,
    candidates: Sequence[Candidate],
    best: str,
    measured: tuple[tuple[str, float], ...],
    target: "Target | None",
    source: str,
) -> str:
    """The fastest row that reads `source` as it is and sums as `best` does; else, or if it is slow, `best`."""
    by_name = {candidate.name: candidate for candidate in candidates}
    first = by_name[best]
    if target is None or _widens(first):
        return best
    times = dict(measured) or {row.name: row.seconds for row in candidates}
    copying = math.prod(problem.operand_shapes[0]) * (np.dtype(source).itemsize + problem.itemsize)
    limit = MOST_SLOWER * (times[best] + target.moving(copying))
    readers = [
        row
        for row in candidates
        # Of those with the definition's bound, all that read integers as they are sum in the definition's order.
        if _widens(row) and times.get(row.name, math.inf) <= limit and row.error_bound == first.error_bound
    ]
    return min(_only_modest(problem, readers), key=lambda row: times[row.name], default=first).name


def _widens(candidate: Candidate) -> bool:
    """Whether it reads small integers as they are: a row that does, and of which all parts do."""
    reads = candidate.refusal is None and getattr(candidate.row, "WIDENS", False)
    return reads and all(_widens(part.chosen) for part in candidate.parts)


def _cheapest(candidates: Sequence[Candidate]) -> str:
    return min(candidates, key=lambda candidate: candidate.seconds).name


def _eligible(problem: Problem, candidates: Sequence[Candidate], prepared: bool) -> list[Candidate]:
    """Who may be chosen by measurement; who takes too much memory for a call may not, but with weights `prepared`.

    With "strict" precision only where the choice changes no bit. Convolutions and their input gradients: all algorithms
    form the same sums in the same order, but for NumPy, which may be chosen if alone. Weight gradients: each has an
    order of its own, so the prediction's choice is the only one.
    """
    from .algorithms import vectorized

    accept = [row for row in candidates if row.refusal is None] if prepared else _modest(problem, candidates)
    if problem.precision != "strict" or problem.dtype == "int64":
        return accept
    if problem.operation == "weight_grad":
        return sorted(accept, key=lambda row: row.seconds)[:1]
    return [row for row in accept if row.name != vectorized.NAME] or accept


def _modest(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Who accepts and keeps the promise about a call's memory; all who accept, should none keep it."""
    accept = [row for row in candidates if row.refusal is None]
    return _only_modest(problem, accept) or accept


def _only_modest(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    return [row for row in candidates if _is_modest(problem, row)]


def _is_modest(problem: Problem, candidate: Candidate) -> bool:
    return candidate.workspace <= max(MOST_WORKSPACE, problem.bytes_moved // 4)


def _asked(
    row: "Algorithm | Compound",
    problem: Problem,
    target: "Target | None",
    state: int,
    prepared: bool = False,
    source: str | None = None,
) -> Candidate:
    """What a row of the table answers; a compound one, once its parts have been planned."""
    refusal = row.refuses(problem, target)
    if refusal is not None:
        return Candidate(row.NAME, refusal, math.inf)
    parts: tuple[Plan, ...] = ()
    if _is_compound(row):
        own = source if getattr(row, "WIDENS", False) else None
        parts = tuple(_plan(part, None, target, state, prepared, own) for part in row.parts(problem, target))
        seconds = row.cost(problem, target, [part.chosen.seconds for part in parts])
    else:
        seconds = cast("Algorithm", row).cost(problem, target)
    if prepared:
        seconds -= getattr(row, "preparation", _nothing)(problem, target)
    return Candidate(row.NAME, None, seconds, parts, row, problem, target)


def _is_compound(row: "Algorithm | Compound") -> TypeGuard["Compound"]:
    return hasattr(row, "parts")


def _nothing(problem: Problem, target: "Target | None") -> float:
    return 0.0


def _no_jobs(first: Array, prepared: Any, out: Array) -> None:
    """Of solutions that know none."""


def empty_channels_last(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array (N, C, ...) that lies in memory as (N, ..., C)."""
    return np.moveaxis(recycled_empty((shape[0], *shape[2:], shape[1]), dtype), -1, 1)


def _away_from(out: Array, operand: Array) -> Array:
    """`operand`, or a copy of it where `out` may lie over it: results are written while it is still read."""
    arrays = isinstance(out, np.ndarray) and isinstance(operand, np.ndarray)
    return operand.copy() if arrays and np.may_share_memory(out, operand) else operand


def checked(argument: str, array: object, shape: tuple[int, ...], dtype: np.dtype[Any], casting: str) -> None:
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


def _error_text(bound: float, problem: Problem) -> str:
    """A sum's bound holds for each element by itself; a larger one, of a transform, for the largest element's scale."""
    from .algorithms.rounding import sum_bound

    if not bound:
        return "exact"
    which = "the largest sum" if bound > sum_bound(problem) else "the sum"
    return f"error at most {bound:.2g} of {which} of |x||w|"


def time_text(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
