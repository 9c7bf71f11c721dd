"""Python tasks shared among threads: each once, whoever runs it; errors come out, and nothing waits for ever."""

import os
import threading
from collections.abc import Iterator

import pytest

from starconv import get_num_threads, set_num_threads
from starconv.engine.runtime import pool


@pytest.fixture(params=[1, 2, 7])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = get_num_threads()
    set_num_threads(request.param)
    yield request.param
    set_num_threads(before)


def test_every_task_once(threads: int) -> None:
    for tasks in (0, 1, 2, 5, 1000):
        done: list[int] = []
        pool.run(done.append, tasks)
        assert sorted(done) == list(range(tasks))


def test_as_many_threads_as_asked_for(threads: int) -> None:
    together = threading.Barrier(threads, timeout=20)
    pool.run(lambda task: together.wait() and None, threads)


def test_errors_come_out_and_no_more_tasks_begin(threads: int) -> None:
    begun: list[int] = []

    def fail(task: int) -> None:
        begun.append(task)
        if task == 3:
            raise KeyError(task)

    with pytest.raises(KeyError):
        pool.run(fail, 100_000)
    assert len(begun) < 100_000
    done: list[int] = []
    pool.run(done.append, 10)
    assert len(done) == 10


def test_jobs_within_jobs_and_from_many_threads(threads: int) -> None:
    done: list[int] = []

    def outer(task: int) -> None:
        pool.run(done.append, 20)

    callers = [threading.Thread(target=pool.run, args=(outer, 8)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert len(done) == 4 * 8 * 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_child_has_its_own_helpers(threads: int) -> None:
    pool.run(lambda task: None, 10)
    child = os.fork()
    if child == 0:
        done: list[int] = []
        pool.run(done.append, 50)
        os._exit(0 if len(done) == 50 else 1)
    assert os.waitpid(child, 0)[1] == 0
