"""One row of a table: everyone computes it, the results are compared, then the clock starts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import shapes, timing
from .peers import Entrant
from .roofline import Roofline

TOLERANCE = {"float32": 3e-4, "float64": 1e-9, "int64": 0.0}
"""Largest difference between two results that still count as the same, in parts of their root mean square."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entrant on one row."""

    ours: bool
    prepared: bool
    seconds: float
    spread: float
    """(slowest - fastest block) / median."""
    burnt: float
    """Processor seconds that idle threads used after a block, median: what a library takes from whoever runs next."""
    first: float
    """Seconds from the arrays to the first result: building a session, compiling, the first call."""
    error: float
    """Largest difference from the row's first result, in parts of the root mean square."""


@dataclass(slots=True)
class Outcome:
    """Everyone on one row. `floor` is the roofline's least time."""

    suite: str
    name: str
    note: str
    count: int
    multiply_adds: int
    floor: float
    entries: dict[str, Entry] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """Who failed, or computed something else than the first; those are not timed."""
    foreign_load: float | None = None
    """Part of the processors that other processes used in the rounds that count."""

    @property
    def disturbed(self) -> bool:
        """Whether others used so much of the machine that times say little, least of all those of spinning peers."""
        return (self.foreign_load or 0.0) > timing.QUIET

    def best(self, *, ours: bool, prepared: bool) -> tuple[str, float] | None:
        """Name and seconds of the fastest of us or of the peers; `prepared` admits those with weights in place."""
        times = {
            name: entry.seconds
            for name, entry in self.entries.items()
            if entry.ours == ours and (entry.prepared == prepared if ours else prepared or not entry.prepared)
        }
        return min(times.items(), key=lambda item: item[1]) if times else None

    def ratio(self, *, prepared: bool) -> float | None:
        """The best peer's time in ours: above 1 we are faster. Plans meet all peers, calls those that are called so."""
        own, peer = self.best(ours=True, prepared=prepared), self.best(ours=False, prepared=prepared)
        return peer[1] / own[1] if own and peer else None

    @property
    def fastest_own(self) -> float | None:
        """Our best time, in whichever way of calling."""
        times = [entry.seconds for entry in self.entries.values() if entry.ours]
        return min(times, default=None)


def measure(
    row: shapes.Row, entrants: Sequence[Entrant], threads: int, effort: timing.Effort, roofline: Roofline
) -> Outcome:
    """Everyone's times on `row`."""
    problem = row.problem
    outcome = Outcome(row.suite, row.name, row.note, row.count, problem.multiply_adds, roofline.floor(problem))
    operands = shapes.operands(row)
    calls: dict[str, Callable[[], Any]] = {}
    facts: dict[str, tuple[Entrant, float, float]] = {}
    expected: NDArray[np.generic] | None = None
    # Peers first: the first of them says what is right.
    for entrant in sorted(entrants, key=lambda entrant: entrant.ours):
        reason = entrant.reason(problem, operands)
        if reason is not None:
            outcome.reasons[entrant.name] = reason
            continue
        timing.settle(effort.rest)
        start = time.perf_counter()
        try:
            call = entrant.ready(problem, operands, threads)
            result = call()
        except Exception as error:
            outcome.reasons[entrant.name] = f"{type(error).__name__}: {error}".split("\n")[0]
            outcome.wrong.append(entrant.name)
            continue
        first = time.perf_counter() - start
        array = entrant.array(result)
        if expected is None:
            expected = array.copy()
        error = difference(array, expected)
        if error <= TOLERANCE[problem.dtype]:
            calls[entrant.name], facts[entrant.name] = call, (entrant, first, error)
        else:
            outcome.wrong.append(entrant.name)
            outcome.reasons[entrant.name] = f"differs from {next(iter(facts))} by {error:.2g}"
    ordered = {entrant.name: calls[entrant.name] for entrant in entrants if entrant.name in calls}
    timings, outcome.foreign_load = timing.alternate(ordered, effort)
    for name, result in timings.items():
        entrant, first, error = facts[name]
        outcome.entries[name] = Entry(
            entrant.ours, entrant.prepared, result.seconds, result.spread, result.burnt, first, float(error)
        )
    return outcome


def difference(array: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """Largest difference in parts of the expected root mean square; infinite for other shapes and NaN."""
    if array.shape != expected.shape:
        return float("inf")
    if array.size == 0:
        return 0.0
    largest = float(np.abs(np.subtract(array, expected)).max())
    flat = np.ravel(expected)
    scale = float(np.sqrt(np.vdot(flat, flat) / flat.size)) or 1.0
    return largest / scale if np.isfinite(largest) else float("inf")


def geometric_mean(values: Sequence[float]) -> float | None:
    """The geometric mean, or None of nothing."""
    return exp(sum(map(log, values)) / len(values)) if values else None
