"""Timing in alternating blocks: everyone in turn, rested, warmed up, then timed; medians over quiet rounds.

The libraries compared keep their idle threads spinning for a while, so whoever runs right after another runs slow.
Before every block we therefore sleep until this process has stopped using the processor, and report what it burnt.
Block by block also evens out drift: everyone meets the machine's slow and fast minutes.

Another process on the same cores does worse: with both cores shared, torch went from 1.6 to 16 ms, because its threads
wait for each other by spinning. A round during which others used the machine is repeated.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .machine import Load

Call = Callable[[], Any]

QUIET = 0.05
"""Part of all processors' time that others may use in a round that counts."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    rounds: int = 5
    attempts: int = 15
    """Rounds at most, if others keep using the machine; then the quietest count."""
    budget: float = 20.0
    """Seconds per row after which no disturbed round is repeated."""
    calls: int = 5
    """At least so many timed calls per block,"""
    seconds: float = 0.03
    """and at least so long."""
    warm_up: float = 0.02
    """Seconds of calls before the timed ones."""
    rest: float = 0.05
    """Least pause before a block, in seconds."""
    patience: float = 0.5
    """Calls slower than this get blocks of one call, and two of them."""


QUICK = Effort(rounds=1, attempts=1, calls=1, seconds=0.0, warm_up=0.0, rest=0.0)


@dataclass(frozen=True, slots=True)
class Block:
    """One entrant's turn in one round."""

    seconds: float
    """Median per call."""
    burnt: float
    """Processor seconds that the process's idle threads used afterwards."""


@dataclass(slots=True)
class Timing:
    """One entrant's times on one row."""

    blocks: list[Block]

    @property
    def seconds(self) -> float:
        """Median over blocks."""
        return statistics.median(block.seconds for block in self.blocks)

    @property
    def spread(self) -> float:
        """Distance of the slowest from the fastest block, as a part of the median."""
        seconds = [block.seconds for block in self.blocks]
        return (max(seconds) - min(seconds)) / self.seconds

    @property
    def burnt(self) -> float:
        """Median over blocks."""
        return statistics.median(block.burnt for block in self.blocks)


def alternate(calls: Mapping[str, Call], effort: Effort) -> tuple[dict[str, Timing], float | None]:
    """Times of all `calls` in their quietest rounds, and the part of the machine that others used in those.

    The order is turned by one from round to round.
    """
    names = list(calls)
    rounds: list[tuple[float | None, dict[str, Block]]] = []
    slow: dict[str, list[Block]] = {}
    settle(effort.rest)
    end = time.perf_counter() + effort.budget
    for number in range(effort.attempts):
        if number >= effort.rounds and time.perf_counter() > end:
            break
        turn = number % max(len(names), 1)
        load, blocks = Load(), {}
        for name in names[turn:] + names[:turn]:
            if len(slow.get(name, ())) < 2:
                seconds = _block(calls[name], effort)
                blocks[name] = Block(seconds, settle(effort.rest))
                if seconds > effort.patience:
                    slow.setdefault(name, []).append(blocks[name])
        rounds.append((load.others(), blocks))
        if sum((others or 0.0) <= QUIET for others, _ in rounds) >= effort.rounds:
            break
    counted = sorted(rounds, key=lambda entry: entry[0] or 0.0)[: effort.rounds]
    loads = [others for others, _ in counted if others is not None]
    timings = {name: Timing([blocks[name] for _, blocks in counted if name in blocks]) for name in names}
    for name, blocks in slow.items():
        timings[name].blocks = timings[name].blocks or blocks
    return timings, statistics.mean(loads) if loads else None


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
    warm = time.perf_counter() + effort.warm_up
    once = _timed(call, 1)
    if once > effort.patience or not effort.seconds:
        return once
    while time.perf_counter() < warm:
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
