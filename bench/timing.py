"""Timing in alternating blocks: everyone in turn, rested, warmed up, then timed; medians over several rounds.

The libraries compared keep their idle threads spinning for a while, so whoever runs right after another runs slow.
Before every block we therefore sleep until this process has stopped using the processor, and report what it burnt.
Block by block also evens out drift: everyone meets the machine's slow and fast minutes.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    rounds: int = 5
    calls: int = 5
    """At least so many timed calls per block,"""
    seconds: float = 0.03
    """and at least so long."""
    rest: float = 0.01
    """Least pause before a block, in seconds."""
    patience: float = 0.5
    """Calls slower than this get blocks of one call and two rounds."""


QUICK = Effort(rounds=1, calls=1, seconds=0.0, rest=0.0)


@dataclass(slots=True)
class Timing:
    """One entrant's times on one row."""

    blocks: list[float] = field(default_factory=list)
    """Median seconds per call, one per block."""
    spins: list[float] = field(default_factory=list)
    """Processor seconds that the process's idle threads burnt after a block."""

    @property
    def seconds(self) -> float:
        """Median over blocks."""
        return statistics.median(self.blocks)

    @property
    def spread(self) -> float:
        """Distance of the slowest from the fastest block, as a part of the median."""
        return (max(self.blocks) - min(self.blocks)) / self.seconds


def alternate(calls: Mapping[str, Call], effort: Effort) -> dict[str, Timing]:
    """Times of all `calls`, whose order is turned by one from round to round."""
    names = list(calls)
    timings = {name: Timing() for name in names}
    settle(effort.rest)
    for number in range(effort.rounds):
        turn = number % max(len(names), 1)
        for name in names[turn:] + names[:turn]:
            timing = timings[name]
            if number >= 2 and timing.seconds > effort.patience:
                continue
            timing.blocks.append(_block(calls[name], effort))
            timing.spins.append(settle(effort.rest))
    return timings


def settle(least: float, most: float = 0.5) -> float:
    """Sleep at least `least` seconds, then on until this process uses no processor; the processor seconds it used."""
    end = time.perf_counter() + most
    used = time.process_time()
    time.sleep(least)
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(0.002)
        if time.process_time() - before < 0.0005:
            break
    return time.process_time() - used


def _block(call: Call, effort: Effort) -> float:
    """Median seconds per call of one block, after a warm-up."""
    once = _timed(call, 1)
    if once > effort.patience or not effort.seconds:
        return once
    once = min(once, _timed(call, 1))
    # Reading the clock costs some 0.1 µs: very short calls are timed several at a time.
    together = max(1, int(20e-6 / max(once, 1e-7)))
    samples: list[float] = []
    end = time.perf_counter() + effort.seconds
    while len(samples) < effort.calls or time.perf_counter() < end:
        samples.append(_timed(call, together) / together)
    return statistics.median(samples)


def _timed(call: Call, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start
