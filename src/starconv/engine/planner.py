"""From a Problem to a Plan: asks every algorithm, and takes the cheapest that does not refuse.

The cheapest by prediction, or by measurement where there is one (`wisdom`).
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np

from ..errors import ArgumentValueError, choices
from ..problem import Problem
from .plan import WIDENED, Candidate, Plan, Shapes, Special, is_compound

if TYPE_CHECKING:
    from .algorithms import Algorithm, Compound, Conditional
    from .emit.target import Target
    from .wisdom import Entry, Wisdom

__all__ = [
    "EFFORTS",
    "make_plan",
    "measure",
    "most_workspace",
    "use_wisdom",
    "wisdom",
    "wisdom_key",
    "wisdom_state",
]

EFFORTS = ("estimate", "measure")

MOST_WORKSPACE = 32 << 20
"""Bytes of workspace that a call may take; more where a quarter of its operands and result is more.

Weights that a caller has prepared are the caller's, and not counted.
"""

WORTH = 0.95
"""Of the time of a layer's predicted algorithm, what another may take to replace it: in a network, neighbours and
other processes make more difference than that."""
MOST_SLOWER = 2.0
"""A row that reads its input as it is may take so many times what the best takes with its copy."""


HALVED = 1.12
"""Time that vectors of half the width take where units take whole ones in two passes (Zen 4): as much arithmetic, but
twice the instructions. Measured with all lanes filled: 1.04 to 1.15."""


def make_plan(
    problem: Problem | str,
    *,
    effort: str = "estimate",
    algorithm: str | None = None,
    target: "Target | None" = None,
    prepared: bool = False,
    source: str | None = None,
    room: int | None = None,
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
    `room` is how many bytes of workspace there may be, for parts of a call; otherwise what a call may take.

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
    target = host_target() if target is None else target
    return _plan(problem, algorithm, target, wisdom_state(), prepared, source, room)


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
    room: int | None = None,
) -> Plan:
    from .algorithms import SPECIALS, TABLE

    special = next((row for row in SPECIALS if algorithm == row.NAME), None)
    wanted, algorithm = algorithm, None if special is not None else algorithm
    candidates = [_asked(row, problem, target, state, prepared, source, room) for row in TABLE]
    measured: tuple[tuple[str, float], ...] = ()
    if algorithm is None:
        best, measured = _choice(problem, candidates, target, prepared, room)
        if source is None:
            algorithm = best
        else:
            algorithm = _without_a_copy(problem, candidates, best, measured, target, source, room)
    else:
        best = algorithm
    rows = {row.NAME: (row, candidate) for row, candidate in zip(TABLE, candidates, strict=True)}
    if algorithm not in rows:
        raise ArgumentValueError("algorithm", algorithm, choices([*rows, *(row.NAME for row in SPECIALS)]))
    row, candidate = rows[algorithm]
    if candidate.refusal is not None:
        raise ArgumentValueError("algorithm", algorithm, f"one that takes {problem}; it refuses: {candidate.refusal}")
    arrays = *problem.operand_shapes, problem.result_shape
    most = (math.prod(arrays[0]) + math.prod(arrays[2])) * problem.itemsize + candidate.workspace
    large = most > MOST_WORKSPACE and problem.operation != "weight_grad"
    shapes = Shapes(*arrays, np.dtype(problem.dtype), large)
    if is_compound(row):
        solution = row.build(problem, target, [part.solution for part in candidate.parts])
    else:
        solution = cast("Algorithm", row).build(problem, candidate.target)
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
    problem: Problem, candidates: list[Candidate], target: "Target | None", prepared: bool, room: int | None
) -> tuple[str, tuple[tuple[str, float], ...]]:
    """The algorithm that was measured to be the fastest, with the times; else the one predicted to be, without."""
    from .emit.target import host_target

    learned = wisdom() if target == host_target() else ()
    entry = learned.find(wisdom_key(problem, prepared)) if learned else None
    # What a file says is asked again: a candidate that refuses is not to be taken, whatever was written down.
    if entry is not None and any(row.name == entry.algorithm for row in _eligible(problem, candidates, prepared, room)):
        return entry.algorithm, entry.seconds
    if prepared:
        return _cheapest(candidates), ()
    # The cheapest of the modest ones; others are not asked how modest they are.
    accept = sorted((row for row in candidates if row.refusal is None), key=lambda row: row.seconds)
    return next((row for row in accept if _is_modest(problem, row, room)), accept[0]).name, ()


def _without_a_copy(
    problem: Problem,
    candidates: Sequence[Candidate],
    best: str,
    measured: tuple[tuple[str, float], ...],
    target: "Target | None",
    source: str,
    room: int | None,
) -> str:
    """The fastest row that reads `source` as it is and sums as `best` does; else, or if it is slow, `best`."""
    by_name = {candidate.name: candidate for candidate in candidates}
    first = by_name[best]
    if target is None or first.widens:
        return best
    times = dict(measured) or {row.name: row.seconds for row in candidates}
    copying = math.prod(problem.operand_shapes[0]) * (np.dtype(source).itemsize + problem.itemsize)
    limit = MOST_SLOWER * (times[best] + target.moving(copying))
    readers = [
        row
        for row in candidates
        # Of those with the definition's bound, all that read integers as they are sum in the definition's order.
        if row.widens and times.get(row.name, math.inf) <= limit and row.error_bound == first.error_bound
    ]
    return min(_only_modest(problem, readers, room), key=lambda row: times[row.name], default=first).name


def _cheapest(candidates: Sequence[Candidate]) -> str:
    return min(candidates, key=lambda candidate: candidate.seconds).name


def _eligible(
    problem: Problem, candidates: Sequence[Candidate], prepared: bool, room: int | None = None
) -> list[Candidate]:
    """Who may be chosen by measurement; who takes too much memory for a call may not, but with weights `prepared`.

    With "strict" precision only where the choice changes no bit. Convolutions and their input gradients: all algorithms
    form the same sums in the same order, but for NumPy, which may be chosen if alone. Weight gradients: each has an
    order of its own, so the prediction's choice is the only one.
    """
    from .algorithms import vectorized

    accept = [row for row in candidates if row.refusal is None] if prepared else _modest(problem, candidates, room)
    if problem.precision != "strict" or problem.dtype == "int64":
        return accept
    if problem.operation == "weight_grad":
        return sorted(accept, key=lambda row: row.seconds)[:1]
    return [row for row in accept if row.name != vectorized.NAME] or accept


def _modest(problem: Problem, candidates: Sequence[Candidate], room: int | None) -> list[Candidate]:
    """Who accepts and keeps the promise about a call's memory; all who accept, should none keep it."""
    accept = [row for row in candidates if row.refusal is None]
    return _only_modest(problem, accept, room) or accept


def _only_modest(problem: Problem, candidates: Sequence[Candidate], room: int | None) -> list[Candidate]:
    return [row for row in candidates if _is_modest(problem, row, room)]


def _is_modest(problem: Problem, candidate: Candidate, room: int | None) -> bool:
    return candidate.workspace <= (most_workspace(problem.bytes_moved) if room is None else room)


def most_workspace(moved: int) -> int:
    """Bytes that a call with so many bytes of operands and result may take beside them."""
    return max(MOST_WORKSPACE, moved // 4)


def _asked(
    row: "Algorithm | Compound",
    problem: Problem,
    target: "Target | None",
    state: int,
    prepared: bool = False,
    source: str | None = None,
    room: int | None = None,
) -> Candidate:
    """What a row of the table answers; a compound one, once its parts have been planned."""
    refusal = row.refuses(problem, target)
    if refusal is not None:
        return Candidate(row.NAME, refusal, math.inf)
    parts: tuple[Plan, ...] = ()
    chosen = target
    if is_compound(row):
        own = source if getattr(row, "WIDENS", False) else None
        parts = tuple(_plan(part, None, target, state, prepared, own, room) for part in row.parts(problem, target))
        seconds = row.cost(problem, target, [part.chosen.seconds for part in parts])
    else:
        chosen, seconds = _cheaper_width(cast("Algorithm", row), problem, target)
    if prepared:
        seconds -= getattr(row, "preparation", _nothing)(problem, chosen)
    return Candidate(row.NAME, None, seconds, parts, row, problem, chosen, chosen is not target)


def _cheaper_width(row: "Algorithm", problem: Problem, target: "Target | None") -> "tuple[Target | None, float]":
    """The target, or that with half the width of its vectors where those have fewer empty lanes; and the row's cost."""
    seconds = row.cost(problem, target)
    in_lanes = getattr(row, "in_lanes", None)
    if target is None or target.passes == 1 or in_lanes is None:
        return target, seconds
    half, count = target.halved(), in_lanes(problem)
    if 2 * -(-count // target.lanes(problem.itemsize)) > -(-count // half.lanes(problem.itemsize)):
        narrow = HALVED * row.cost(problem, half)
        if narrow < seconds:
            return half, narrow
    return target, seconds


def _nothing(problem: Problem, target: "Target | None") -> float:
    return 0.0
