"""A pool of threads that share the tasks of one job inside compiled code.

The caller makes one ctypes call per job and is a worker itself. Helpers that have just worked poll for the
next job (they pick it up in a fraction of a microsecond, without the interpreter), and after about 70 us
without one they park in the operating system: an idle pool costs nothing. How the sharing works is told,
and written, in `scheduler`.

One job has the pool at a time. A second caller, or a job started from within a job, simply computes on its
own thread: no waiting, so no deadlock. A job cannot be interrupted half-way: a signal handler runs when the
call has returned, and then no helper is inside any more.

A caller whose other work is done by the OpenMP threads of another library can have its jobs done by them too, with
`Lender`: two pools of busy threads would take the cores from each other.
"""

import ctypes
import operator
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from starconv.engine.runtime import jit, machine
from starconv.engine.runtime.scheduler import MAX_THREADS, source
from starconv.errors import ArgumentTypeError, ArgumentValueError, StarconvError

__all__ = ["MAX_THREADS", "Lender", "get_num_threads", "run", "run_list", "set_num_threads"]

# Long enough to bridge the Python between two layers called one by one, short enough to be out of the way of
# another library's threads before these have woken up.
_SPIN_SECONDS = 70e-6


def run(task_address: int, descriptor_address: int, tasks: int, threads: int) -> None:
    """Call ``void task(ptr descriptor, i64 task, i64 worker)`` once per task in range(tasks); return when all are done.

    Up to `threads` threads take part, this one included. `worker` is in range(threads), and no two threads have the
    same number at a time, so it may select scratch memory. Inside, denormals count as zero
    (x86, AArch64). The caller keeps everything that the descriptor points to alive during the call.
    """
    if threads > 1 and tasks > 1:
        if (lender := _lent.by) is not None:
            lender.run(task_address, descriptor_address, tasks, threads)
            return
        if threads > _recruited:
            _recruit(threads)
        _run_shared(task_address, descriptor_address, tasks, threads)
    else:
        _run_alone(task_address, descriptor_address, tasks)


def run_list(address: int, count: int, threads: int) -> None:
    """Run `count` jobs one after the other, with one call into compiled code, on up to `threads` threads.

    At `address` are, for each job, four 64-bit numbers: the addresses of its task function and of its descriptor, its
    number of tasks, and of the threads that may take part in it. Otherwise as :func:`run`.
    """
    if threads > _recruited:
        _recruit(threads)
    _run_list(address, count, threads)


class Lender:
    """While entered, the jobs that this thread starts by `run` are shared among the threads of an OpenMP library.

    Args:
        parallel: address of its ``GOMP_parallel``.
        threads: how many threads may take part in a job; with one nothing is lent.
    """

    __slots__ = ("_before", "_parallel", "_run", "_run_alone", "_threads")

    def __init__(self, parallel: int, threads: int) -> None:
        self._parallel, self._threads = parallel, threads
        self._run, self._run_alone = _compiled().run_lent, _compiled().run_alone
        self._before: Lender | None = None

    def run(self, task_address: int, descriptor_address: int, tasks: int, threads: int) -> None:
        """As the function `run`."""
        threads = min(threads, self._threads)
        if threads > 1 and not _forked:
            self._run(self._parallel, task_address, descriptor_address, tasks, threads)
        elif threads > 1:
            if threads > _recruited:
                _recruit(threads)
            _run_shared(task_address, descriptor_address, tasks, threads)
        else:
            self._run_alone(task_address, descriptor_address, tasks)

    def __enter__(self) -> None:
        self._before, _lent.by = _lent.by, self

    def __exit__(self, *_: object) -> None:
        _lent.by = self._before


class _Lent(threading.local):
    """Per thread: whose threads do its jobs, if not our own."""

    by: Lender | None = None


_lent = _Lent()


def get_num_threads() -> int:
    """How many threads a call may use: what was set, else one per usable core (affinity and container limits count)."""
    global _num_threads
    if _num_threads is None:
        _num_threads = min(machine.usable_cores(), MAX_THREADS)
    return _num_threads


def set_num_threads(n: int) -> None:
    """Let calls from now on use up to `n` threads (1 to 256). The results do not depend on it."""
    global _num_threads
    if isinstance(n, bool):
        raise ArgumentTypeError("n", n, "a whole number of threads")
    try:
        count = operator.index(n)
    except TypeError:
        raise ArgumentTypeError("n", n, "a whole number of threads") from None
    if not 1 <= count <= MAX_THREADS:
        raise ArgumentValueError("n", n, f"between 1 and {MAX_THREADS} threads")
    _num_threads = count


_num_threads: int | None = None

# Guards everything below. Reentrant, because a signal handler may fork, or run a job, while we recruit.
_lock = threading.RLock()
_scheduler: "_Scheduler | None" = None
_recruited = 1  # the largest team that was ever asked for and whose helpers were started, caller included
_helpers: list[threading.Thread] = []
# In a forked child OpenMP's threads are gone, and GCC's library waits for them for ever; our own pool begins anew.
_forked = False


class _Scheduler:
    """The compiled functions, ready to call with plain integers, and the operating system's semaphores."""

    def __init__(self) -> None:
        host = jit.host()
        self.module = jit.compile_module(source(host.architecture), features="")
        self.own = self._function("own", 0, ctypes.c_int64)
        self.disown = self._function("disown", 0)
        self.forget = self._function("forget", 0)
        self.work = self._function("work", 1)
        self.set_stop = self._function("set_stop", 1)
        self.run_alone = self._function("run_alone", 3)
        self.run_lent = self._function("run_lent", 5)
        self.run_shared = self._function("run_shared", 4)
        self.run_list = self._function("run_list", 3)
        self._semaphore_room = self._function("semaphore_room", 1, ctypes.c_size_t)
        self._set_semaphore = self._function("set_semaphore", 2)
        self._make_semaphore, functions = _semaphores()
        self._set_up = self._function("set_up", 4)
        self._set_up(*functions, self._polls())

    def _function(self, name: str, arguments: int, result: Any = None) -> Callable[..., Any]:
        # c_void_p takes a plain int, with the cheapest conversion; all arguments are addresses or counts.
        return ctypes.CFUNCTYPE(result, *[ctypes.c_void_p] * arguments)(self.module.address(name))

    def _polls(self) -> int:
        """How many idle rounds fill the time to spin: the length of a pause differs tenfold between processors."""
        calibrate, rounds = self._function("calibrate", 1), 300
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            calibrate(rounds)
            best = min(best, time.perf_counter() - start)
        return max(50, min(int(_SPIN_SECONDS * rounds / max(best, 1e-9)), 1_000_000))

    def prepare(self, index: int) -> None:
        """Give worker `index` a semaphore of its own; it must not be running."""
        self._set_semaphore(index, self._make_semaphore(self._semaphore_room(index)))


def _semaphores() -> tuple[Callable[[int], int], tuple[int, int, int]]:
    """How to make a semaphore in a given room, and the addresses of wait, post and yield.

    The compiled code calls wait(semaphore, -1, 0), post(semaphore, 1, 0) and yield(); what a system's own function
    has no parameter for goes unused in registers. -1 is "for ever" on Windows and macOS.
    """
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32")
        kernel.CreateSemaphoreW.restype = ctypes.c_size_t
        kernel.CreateSemaphoreW.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_void_p]
        library, names = kernel, ("WaitForSingleObject", "ReleaseSemaphore", "SwitchToThread")

        def make(room: int) -> int:
            return int(kernel.CreateSemaphoreW(None, 0, 2**31 - 1, None))
    else:
        library = ctypes.CDLL(None)
        if sys.platform == "darwin":
            library.dispatch_semaphore_create.restype = ctypes.c_size_t
            library.dispatch_semaphore_create.argtypes = [ctypes.c_long]
            names = ("dispatch_semaphore_wait", "dispatch_semaphore_signal", "sched_yield")

            def make(room: int) -> int:
                return int(library.dispatch_semaphore_create(0))
        else:
            library.sem_init.argtypes = [ctypes.c_size_t, ctypes.c_int, ctypes.c_uint]
            names = ("sem_wait", "sem_post", "sched_yield")

            def make(room: int) -> int:
                library.sem_init(room, 0, 0)
                return room

    wait, post, give_way = (_address(library, name) for name in names)
    return make, (wait, post, give_way)


def _address(library: ctypes.CDLL, name: str) -> int:
    address = ctypes.cast(library[name], ctypes.c_void_p).value
    if not address:
        raise StarconvError(f"the system library has no {name}")
    return address


def _compiled() -> _Scheduler:
    """The scheduler, compiled at the first job; from then on `run` calls its functions directly."""
    global _scheduler, _run_alone, _run_list, _run_shared
    with _lock:
        if _scheduler is None:
            _scheduler = _Scheduler()
            _run_alone, _run_shared = _scheduler.run_alone, _scheduler.run_shared
            _run_list = _scheduler.run_list
        return _scheduler


def _run_alone(task_address: int, descriptor_address: int, tasks: int) -> None:
    _compiled().run_alone(task_address, descriptor_address, tasks)


def _run_shared(task_address: int, descriptor_address: int, tasks: int, threads: int) -> None:
    _compiled().run_shared(task_address, descriptor_address, tasks, threads)


def _run_list(address: int, count: int, threads: int) -> None:
    _compiled().run_list(address, count, threads)


def _recruit(threads: int) -> None:
    """Start the helpers that a team of `threads` lacks. If the system has no more threads to give, go on with fewer."""
    global _recruited
    with _lock:
        scheduler = _compiled()
        wanted = min(threads, MAX_THREADS)
        while len(_helpers) + 1 < wanted:
            index = len(_helpers) + 1
            scheduler.prepare(index)
            # Daemon: a parked helper must not keep the process alive. It stays in compiled code, away from the
            # interpreter, until the process ends, and touches no memory that the interpreter frees.
            helper = threading.Thread(target=scheduler.work, args=(index,), name=f"starconv-{index}", daemon=True)
            # In the list first: an interrupt between the two must not make us start a second worker of this number.
            _helpers.append(helper)
            try:
                helper.start()
            except RuntimeError:  # no more threads, or the interpreter is shutting down
                _helpers.pop()
                break
        _recruited = max(_recruited, threads)


def _before_fork() -> None:
    """Send the helpers home, so that the fork is one of a single thread; the next job calls them back.

    A pool that is busy on another thread is left alone: the child starts from nothing in any case.
    """
    global _recruited
    _lock.acquire()
    if _scheduler is None or not _helpers or not _scheduler.own():
        return
    try:
        _scheduler.set_stop(1)
        for helper in _helpers:
            if helper.is_alive():
                helper.join()
        _helpers.clear()
        _recruited = 1
    finally:
        _scheduler.set_stop(0)
        _scheduler.disown()


def _after_fork_in_child() -> None:
    global _forked, _recruited
    _helpers.clear()
    _recruited, _forked = 1, True
    if _scheduler is not None:
        _scheduler.forget()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_lock.release, after_in_child=_after_fork_in_child)
