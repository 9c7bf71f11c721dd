"""Every task runs exactly once, whoever calls, forks, interrupts or exits; nothing here measures time."""

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from starconv.engine.runtime import jit, scheduler, threads
from starconv.errors import ArgumentTypeError, ArgumentValueError

# count: one more in descriptor[task]; crew: one more in descriptor[worker]; scale: descriptor[task] /= 4
TASKS = """
define void @count(ptr %descriptor, i64 %task, i64 %worker) nounwind {
  %place = getelementptr i64, ptr %descriptor, i64 %task
  %old = atomicrmw add ptr %place, i64 1 monotonic
  ret void
}

define void @crew(ptr %descriptor, i64 %task, i64 %worker) nounwind {
  %place = getelementptr i64, ptr %descriptor, i64 %worker
  %old = atomicrmw add ptr %place, i64 1 monotonic
  ret void
}

define void @scale(ptr %descriptor, i64 %task, i64 %worker) nounwind {
  %place = getelementptr float, ptr %descriptor, i64 %task
  %value = load float, ptr %place
  %quarter = fmul float %value, 0.25
  store float %quarter, ptr %place
  ret void
}
"""

TASK_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


@pytest.fixture(scope="module")
def module():
    reason = jit.available()
    if reason is not None:
        pytest.skip(reason)
    return jit.compile_module(TASKS, features=jit.host().feature_string)


def test_every_task_runs_once_for_any_number_of_tasks_and_threads(module):
    address = module.address("count")
    for team in (1, 2, 3, 5, 8):
        for tasks in (0, 1, 2, 3, 7, 64, 1000):
            counts = np.zeros(tasks + 1, np.int64)
            threads.run(address, counts.ctypes.data, tasks, team)
            assert counts.tolist() == [1] * tasks + [0], (team, tasks)


def test_many_short_jobs_in_a_row(module):
    counts = np.zeros(5, np.int64)
    address, data = module.address("count"), counts.ctypes.data
    for _ in range(20_000):
        threads.run(address, data, 5, 2)
    assert counts.tolist() == [20_000] * 5


def test_jobs_after_the_helpers_have_parked(module):
    counts = np.zeros(5, np.int64)
    for _ in range(50):
        threads.run(module.address("count"), counts.ctypes.data, 5, 3)
        threading.Event().wait(0.002)
    assert counts.tolist() == [50] * 5


def test_worker_numbers_stay_below_the_number_of_threads(module):
    for team in (2, 4, 3, 1):
        crew = np.zeros(9, np.int64)
        threads.run(module.address("crew"), crew.ctypes.data, 5000, team)
        assert crew.sum() == 5000
        assert not crew[team:].any(), team


def test_no_two_tasks_run_under_one_worker_number_at_a_time():
    inside, clashes = [0] * 4, []

    def body(descriptor, task, worker):
        inside[worker] += 1
        if inside[worker] != 1:
            clashes.append((task, worker))
        threading.Event().wait(1e-4)
        inside[worker] -= 1

    task = TASK_TYPE(body)
    for _ in range(10):
        threads.run(ctypes.cast(task, ctypes.c_void_p).value, 0, 12, 4)
    assert clashes == []


def test_helpers_do_take_part():
    """A task that waits for a second thread to arrive can only end if there is one."""
    both = threading.Barrier(2, timeout=30)
    workers = []

    def body(descriptor, task, worker):
        workers.append(worker)
        both.wait()

    task = TASK_TYPE(body)
    threads.run(ctypes.cast(task, ctypes.c_void_p).value, 0, 2, 2)
    assert sorted(workers) == [0, 1]


def test_concurrent_callers_each_get_their_own_job_done(module):
    address, failures = module.address("count"), []

    def call():
        counts = np.zeros(16, np.int64)
        for _ in range(2000):
            threads.run(address, counts.ctypes.data, 16, 3)
        if counts.tolist() != [2000] * 16:
            failures.append(counts)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers)
    assert failures == []


def test_a_job_inside_a_job(module):
    counts = np.zeros(8, np.int64)
    address, data = module.address("count"), counts.ctypes.data
    task = TASK_TYPE(lambda descriptor, task, worker: threads.run(address, data, 8, 2))
    threads.run(ctypes.cast(task, ctypes.c_void_p).value, 0, 6, 2)
    assert counts.tolist() == [6] * 8


@pytest.mark.skipif(jit.host().architecture not in ("x86_64", "aarch64"), reason="no denormal control")
@pytest.mark.parametrize("team", [1, 2])
def test_denormals_are_flushed_inside_and_restored_outside(module, team):
    tiny = np.float32(2.0**-126)  # the smallest normal number: a quarter of it is a denormal
    values = np.full(1000, tiny)
    threads.run(module.address("scale"), values.ctypes.data, 1000, team)
    assert not values.any()
    inputs = np.full(1000, tiny / np.float32(4))
    assert inputs.all()
    threads.run(module.address("scale"), inputs.ctypes.data, 1000, team)
    assert not inputs.any()
    assert (np.full(1000, tiny) * np.float32(0.25)).all()


def test_number_of_threads():
    before = threads.get_num_threads()
    try:
        threads.set_num_threads(np.int64(3))
        assert threads.get_num_threads() == 3
        for wrong in (0, -1, threads.MAX_THREADS + 1):
            with pytest.raises(ArgumentValueError, match="n = "):
                threads.set_num_threads(wrong)
        for wrong in (1.5, "2", None, True):
            with pytest.raises(ArgumentTypeError, match="n = "):
                threads.set_num_threads(wrong)
        assert threads.get_num_threads() == 3
    finally:
        threads.set_num_threads(before)


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64", "riscv64"])
def test_the_scheduler_compiles_for_every_architecture(architecture):
    features = {"riscv64": "+a,+m"}.get(architecture, "")
    text = jit.assembly(scheduler.source(architecture), f"{architecture}-unknown-linux-gnu", features)
    assert "run_shared:" in text
    assert {"x86_64": "ldmxcsr", "aarch64": "fpcr", "riscv64": "amoadd"}[architecture] in text.lower()


# ---- what happens to a whole process -----------------------------------------------------------------------------

PRELUDE = '''
import ctypes, os, signal, sys, threading, time
import numpy as np
from starconv.engine.runtime import jit, threads
module = jit.compile_module({tasks!r}, features=jit.host().feature_string)
count = module.address("count")
def job(team=3, tasks=50):
    counts = np.zeros(tasks, np.int64)
    threads.run(count, counts.ctypes.data, tasks, team)
    assert counts.tolist() == [1] * tasks, counts
def crew_of_two():
    """Two tasks that wait for each other: they end well only where a helper comes."""
    both, crew = threading.Barrier(2, timeout=20), []
    def body(descriptor, task, worker):
        both.wait()
        crew.append(worker)
    task = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(body)
    threads.run(ctypes.cast(task, ctypes.c_void_p).value, 0, 2, 2)
    return sorted(crew)
job()
'''


def run_python(body, timeout=60):
    program = PRELUDE.format(tasks=TASKS) + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@needs_fork
def test_fork_gives_the_child_a_pool_of_its_own():
    run_python("""
        for round in range(20):
            job()
            child = os.fork()
            if child == 0:
                job(); job(2); job(5)
                os._exit(7 if crew_of_two() == [0, 1] else 8)
            job()
            deadline = time.monotonic() + 30
            done, status = os.waitpid(child, os.WNOHANG)
            while done == 0:
                assert time.monotonic() < deadline, "the child hangs"
                time.sleep(0.001)
                done, status = os.waitpid(child, os.WNOHANG)
            assert os.waitstatus_to_exitcode(status) == 7, status
        """)


@needs_fork
def test_fork_while_another_thread_has_the_pool():
    # Python 3.12 warns here, rightly: the test's own caller thread exists. The helpers must be no reason to hang.
    run_python("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        stop = threading.Event()
        def call():
            while not stop.is_set():
                job(3, 2000)
        caller = threading.Thread(target=call)
        caller.start()
        children = []
        for round in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                job(); job(4)
                os._exit(7 if crew_of_two() == [0, 1] else 8)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        stop.set()
        caller.join()
        assert codes == [7] * 20, codes
        """)


@needs_fork
def test_fork_sends_the_helpers_home():
    run_python("""
        before = threading.active_count()
        child = os.fork()
        if child == 0:
            os._exit(threading.active_count())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        assert before == 3 and threading.active_count() == 1
        job()
        assert threading.active_count() == 3
        """)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer")
def test_interrupts_leave_no_helper_inside():
    """A KeyboardInterrupt arrives between two jobs, never inside one: the array is complete each time it is freed."""
    run_python("""
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        interrupts = 0
        while interrupts < 100:
            counts = np.zeros(3000, np.int64)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
                while True:
                    counts[:] = 0
                    threads.run(count, counts.ctypes.data, 3000, 3)
            except KeyboardInterrupt:
                interrupts += 1
            assert counts.max() <= 1
            del counts
        job()
        """)


def test_exit_while_helpers_spin():
    run_python("""
        for _ in range(100):
            job(8)
        """)


def test_exit_while_another_thread_is_in_a_job():
    run_python("""
        def call():
            while True:
                job(3, 100)
        threading.Thread(target=call, daemon=True).start()
        time.sleep(0.01)
        """)


def test_without_more_threads_from_the_system_the_job_is_done_by_fewer():
    run_python("""
        def refuse(self):
            raise RuntimeError("can't start new thread")
        threading.Thread.start = refuse
        job(6)
        job(6)
        """)


def openmp_of_python():
    """A GOMP_parallel: calls function(argument) on as many threads as are asked for, the caller among them."""
    teams = []
    member = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    def parallel(function, argument, team, flags):
        teams.append(team)
        others = [threading.Thread(target=member(function), args=(argument,)) for _ in range(team - 1)]
        for other in others:
            other.start()
        member(function)(argument)
        for other in others:
            other.join()

    return parallel, ctypes.cast(parallel, ctypes.c_void_p).value, teams


def test_jobs_on_the_threads_of_another_library(module):
    keep, address, teams = openmp_of_python()
    for team, tasks in ((2, 1), (2, 2), (2, 1000), (5, 3), (8, 1000)):
        counts, crew = np.zeros(tasks + 1, np.int64), np.zeros(team + 1, np.int64)
        teams.clear()
        with threads.Lender(address, 4):
            threads.run(module.address("count"), counts.ctypes.data, tasks, team)
            threads.run(module.address("crew"), crew.ctypes.data, tasks, team)
        assert counts.tolist() == [1] * tasks + [0]
        assert crew.sum() == tasks
        assert not crew[min(team, 4, tasks) :].any()  # nobody works under a number that scratch memory has no room for
        assert teams == ([] if tasks == 1 else [min(team, 4, tasks)] * 2)
    assert keep


def test_a_lender_of_one_thread_lends_nothing_and_ends_with_its_block(module):
    keep, address, teams = openmp_of_python()
    counts = np.zeros(100, np.int64)
    with threads.Lender(address, 2):
        with threads.Lender(address, 1):
            threads.run(module.address("count"), counts.ctypes.data, 100, 2)
        assert not teams
        threads.run(module.address("count"), counts.ctypes.data, 100, 2)
        assert teams == [2]
        with pytest.raises(ZeroDivisionError), threads.Lender(address, 1):
            raise ZeroDivisionError
        threads.run(module.address("count"), counts.ctypes.data, 100, 2)
    threads.run(module.address("count"), counts.ctypes.data, 100, 2)
    assert teams == [2, 2]
    assert (counts == 4).all()
    assert keep


@needs_fork
def test_in_a_forked_child_nothing_is_lent():
    run_python("""
        refuse = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        parallel = refuse(lambda *_: os._exit(9))
        address = ctypes.cast(parallel, ctypes.c_void_p).value
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            with threads.Lender(address, 2):
                job(4)
                crew = crew_of_two()
            with threads.Lender(address, 1):
                job(4)
            os._exit(7 if crew == [0, 1] else 8)
        status = os.waitpid(child, 0)[1]
        assert os.waitstatus_to_exitcode(status) == 7, status
        """)


def test_lending_is_a_matter_of_one_thread(module):
    keep, address, teams = openmp_of_python()
    counts = np.zeros(100, np.int64)
    with threads.Lender(address, 2):
        other = threading.Thread(target=threads.run, args=(module.address("count"), counts.ctypes.data, 100, 2))
        other.start()
        other.join()
    assert not teams
    assert (counts == 1).all()
    assert keep
