"""Timing the candidates of a problem: which ones, on what numbers, how often.

What is timed is a whole call, weights prepared and all, because that is what `cost` predicts and a functional call
does. Rounds are interleaved, everyone in turn, so that a machine that slows down does so for everyone; what counts is
the least time, because other processes can only add to it.

For a network's layers it is calls of prepared plans. Between two calls of a layer the other layers' weights go through
the caches, so its own have left them, while its input has just been written and the threads are awake. So it is here:
each candidate has its weights several times over, and takes another copy with each call. With one copy they would stay
in the caches, and how much memory an algorithm's weights take would count for too little.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..problem import Problem
from .plan import Array, Candidate, Plan, empty_channels_last
from .runtime import jit, threads

__all__ = ["contenders", "most_prepared", "times"]

FACTOR = 5.0
"""Candidates that are predicted to be this much slower than the best are not tried."""
PATIENCE = 1.0
"""Seconds. Candidates that are predicted to take longer are not tried."""
BUDGET = 0.3
"""Seconds per problem after which no round is begun, once there were FEWEST of them."""
FEWEST, MOST = 3, 50
"""Rounds."""
HOPELESS = 2.0
"""Who takes so many times the best, and has used up more than an equal share of the budget, is not timed again."""

PREPARED_BYTES = 1 << 30
"""Of weights that are prepared at once, one copy per candidate: a dense layer of VGG-16 has 411 MB of them."""
COPIES_BYTES = 64 << 20
"""Of the copies of one candidate's weights that take turns; fewer where the caches hold less."""
MOST_COPIES = 16


def contenders(candidates: Sequence[Candidate], factor: float = FACTOR, patience: float = PATIENCE) -> list[str]:
    """Names of the candidates worth timing, the one with the best prediction first."""
    best = min(candidate.seconds for candidate in candidates)
    limit = min(best * factor, patience)
    tried = [candidate for candidate in candidates if candidate.refusal is None and candidate.seconds <= limit]
    return [candidate.name for candidate in sorted(tried, key=lambda candidate: candidate.seconds)]


def most_prepared(problem: Problem) -> int:
    """How many candidates may have weights prepared at the same time; two at least, else nothing is compared."""
    return max(2, PREPARED_BYTES // _weight_bytes(problem))


def times(plans: Mapping[str, Plan], budget: float = BUDGET, *, prepared: bool = False) -> dict[str, float]:
    """Least seconds per call of every plan, all of the same problem, on all cores that the process may use.

    With `prepared`, the second operand is put in place before, and the calls find it there.
    """
    problem = next(iter(plans.values())).problem
    copies = _copies(problem) if prepared else 0
    calls = _calls(problem, plans, copies)
    asked = threads.get_num_threads()
    threads.set_num_threads(min(jit.host().cores, threads.MAX_THREADS))
    try:
        least = _least(calls, budget)
        return {name: seconds / max(copies, 1) for name, seconds in least.items()}
    finally:
        threads.set_num_threads(asked)


def _least(calls: dict[str, Callable[[], object]], budget: float) -> dict[str, float]:
    for call in calls.values():  # kernels are compiled, pages of the result come into being
        call()
    end = time.perf_counter() + budget
    least, spent = dict.fromkeys(calls, math.inf), dict.fromkeys(calls, 0.0)
    turn = list(calls)
    for number in range(MOST):
        for name in turn:
            seconds, all_seconds = _timed(calls[name])
            least[name], spent[name] = min(least[name], seconds), spent[name] + all_seconds
        limit = min(least.values()) * HOPELESS
        turn = [name for name in turn if least[name] <= limit or spent[name] * len(calls) <= budget]
        turn = turn[1:] + turn[:1]  # whoever follows a slow one finds the caches emptied: not always the same one
        if number + 1 >= FEWEST and time.perf_counter() > end:
            break
    return least


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call, and of all. Short ones run twice, so that caches are as a caller in a loop has them."""
    start = time.perf_counter()
    call()
    seconds = spent = time.perf_counter() - start
    if seconds < 2e-3:
        start = time.perf_counter()
        call()
        again = time.perf_counter() - start
        seconds, spent = min(seconds, again), spent + again
    return max(seconds, 1e-9), spent


def _weight_bytes(problem: Problem) -> int:
    """Of the second operand; 1 if it is empty."""
    return max(math.prod(problem.operand_shapes[1]) * problem.itemsize, 1)


def _copies(problem: Problem) -> int:
    """How many copies of its weights are more than the caches hold."""
    return min(MOST_COPIES, -(-min(jit.host().l3_bytes, COPIES_BYTES) // _weight_bytes(problem)))


def _calls(problem: Problem, plans: Mapping[str, Plan], copies: int) -> dict[str, Callable[[], object]]:
    """A call of every plan, on the same arrays; or one with each of so many `copies` of its prepared weights."""
    random = np.random.default_rng(0)
    first, second = (_numbers(random, shape, problem) for shape in problem.operand_shapes)
    bias = _numbers(random, problem.result_shape[1:2], problem) if problem.bias else None
    if problem.channels_last:
        first = _channels_last(first)
        second = _channels_last(second) if problem.operation == "weight_grad" else second
    last = problem.channels_last and problem.operation != "weight_grad"
    dtype = np.dtype(problem.dtype)
    out = empty_channels_last(problem.result_shape, dtype) if last else np.empty(problem.result_shape, dtype)

    residual = _numbers(random, problem.result_shape, problem) if problem.residual else None
    if residual is not None and last:
        residual = _channels_last(residual)

    def call_of(plan: Plan) -> Callable[[], object]:
        if copies:
            ready = [plan.prepare(second, bias) for _ in range(copies)]
            return lambda: [one(first, out=out, residual=residual) for one in ready]
        return lambda: plan(first, second, bias, out=out, residual=residual)

    return {name: call_of(plan) for name, plan in plans.items()}


def _numbers(random: np.random.Generator, shape: tuple[int, ...], problem: Problem) -> Array:
    """From -1 to 1, or integers from -8 to 8."""
    if problem.dtype == "int64":
        return random.integers(-8, 9, shape)
    values = random.random(shape, np.dtype(problem.dtype).type)
    values *= 2
    values -= 1
    return values


def _channels_last(array: Array) -> Array:
    """The same values with the channels next to each other in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
