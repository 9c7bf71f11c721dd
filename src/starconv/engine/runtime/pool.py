"""Tasks written in Python, shared among threads: for work that leaves the interpreter in large pieces (scipy.fft).

Compiled tasks have a pool of their own, `threads`, whose helpers never enter the interpreter.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from .threads import MAX_THREADS, get_num_threads

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["run"]


def run(task: Callable[[int], None], tasks: int) -> None:
    """Call task(0) ... task(tasks - 1), each once, on up to ``get_num_threads()`` threads, this one among them.

    Raises what a task raised; the others that have begun end first, and no more are begun. A caller whose helpers
    are busy elsewhere does all of its tasks itself, so nobody waits for anybody who waits.
    """
    numbers = iter(range(tasks))  # next() of it is one step of the interpreter: no two threads get the same number
    helpers = min(get_num_threads(), tasks) - 1
    if helpers < 1:
        _work(task, numbers)
        return
    futures: list[Future[None]] = []
    executor = _helpers()
    try:
        with suppress(RuntimeError):  # no more threads to be had, or the interpreter is shutting down
            for _ in range(helpers):
                futures.append(executor.submit(_work, task, numbers))
        _work(task, numbers)
    finally:
        for _ in numbers:  # an interrupt may come before the work
            pass
        raised = [future.exception() for future in futures if not future.cancel()]
    for error in raised:
        if error is not None:
            raise error


def _work(task: Callable[[int], None], numbers: Iterator[int]) -> None:
    try:
        for number in numbers:
            task(number)
    finally:
        for _ in numbers:  # after an exception nothing is left to begin, for the others either
            pass


_executor: "ThreadPoolExecutor | None" = None
_lock = threading.Lock()


def _helpers() -> "ThreadPoolExecutor":
    """Threads start when they are first needed, and idle ones wait in the operating system."""
    global _executor
    from concurrent.futures import ThreadPoolExecutor  # takes 4 ms, a tenth of importing the engine

    with _lock:
        if _executor is None:
            _executor = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="starconv-python")
        return _executor


def _forget() -> None:
    """After a fork the child has none of the threads."""
    global _executor, _lock
    _executor, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
