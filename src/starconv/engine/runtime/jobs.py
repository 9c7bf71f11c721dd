"""Jobs for compiled code, written down before they run: a list of them runs with one call from Python.

A layer called by itself costs some microseconds of Python for finding its kernel and filling in addresses. In a
network whose values always lie at the same places all that is done once: what is left per layer is opening the pool's
gate, some tenths of a microsecond.

    program = JobList([*first.jobs(...), *second.jobs(...)])
    program.run()                                              # as often as one likes, from one thread at a time
"""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

from starconv.engine.runtime import memory, threads

__all__ = ["Job", "JobList", "run_jobs"]


class Job(NamedTuple):
    """A task function of compiled code with all that it needs, ready to run.

    Attributes:
        function: address of ``void task(ptr block, i64 task, i64 worker)``.
        block: the fields that it reads, an array of 64-bit integers that belongs to this job.
        tasks, threads: how many tasks, and how many threads may share them.
        arrays: the fields that say where operands and results lie, so that others can be put in their place.
        scratch: bytes of scratch memory for all threads together, whose contents nobody needs before or after, but
            for jobs of one solution, which come right after each other: those find what the one before left.
        scratch_places: (field, bytes from the scratch memory's start) of the fields that get its address.
        keeps: whatever must live as long: modules, tables, weights.
    """

    function: int
    block: "ctypes.Array[ctypes.c_int64]"
    tasks: int
    threads: int
    arrays: tuple[int, ...] = ()
    scratch: int = 0
    scratch_places: tuple[tuple[int, int], ...] = ()
    keeps: tuple[Any, ...] = ()

    def use_scratch(self, address: int) -> None:
        """Let the job work in the scratch memory at `address`."""
        for slot, offset in self.scratch_places:
            self.block[slot] = address + offset

    def run(self) -> None:
        """Run it by itself, in scratch memory borrowed for the time."""
        run_jobs([self])


def run_jobs(jobs: Sequence[Job]) -> None:
    """Run some jobs once, one after the other, in scratch memory borrowed for the time."""
    with memory.scratch(max((job.scratch for job in jobs), default=0)) as scratch:
        for job in jobs:
            job.use_scratch(scratch.address)
            threads.run(job.function, ctypes.addressof(job.block), job.tasks, job.threads)


class JobList:
    """Jobs that run one after the other, in the same scratch memory; each sees what those before it have written.

    Not for two threads at a time: they would share the scratch memory. Nothing here looks at what jobs read and write.
    """

    def __init__(self, jobs: Sequence[Job], scratch: memory.Scratch | None = None) -> None:
        """`scratch` has room for every job's; if None, the list has its own."""
        self.jobs = tuple(jobs)
        size = max((job.scratch for job in self.jobs), default=0)
        self._scratch = memory.scratch(size) if scratch is None else scratch
        assert self._scratch.size >= size
        self._table = (ctypes.c_int64 * (4 * len(self.jobs)))()
        for number, job in enumerate(self.jobs):
            job.use_scratch(self._scratch.address)
            entry = job.function, ctypes.addressof(job.block), job.tasks, job.threads
            self._table[4 * number : 4 * number + 4] = list(entry)
        self._address = ctypes.addressof(self._table)
        self._threads = max((min(job.threads, job.tasks) for job in self.jobs), default=1)

    def run(self) -> None:
        """All jobs, with one call."""
        threads.run_list(self._address, len(self.jobs), self._threads)

    def run_some(self, first: int, last: int) -> None:
        """Only the jobs first, ..., last - 1: for timing them."""
        threads.run_list(self._address + 32 * first, last - first, self._threads)

    def __len__(self) -> int:
        return len(self.jobs)
