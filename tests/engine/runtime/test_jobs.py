"""Lists of jobs: each runs whole, in order, whoever else has the pool; with scratch memory that all of them share."""

import ctypes
import threading

import numpy as np
import pytest

from starconv.engine.descriptor import address_of
from starconv.engine.runtime import jit, memory, threads
from starconv.engine.runtime.jobs import Job, JobList

# add: data[task] += amount, data and amount being fields; rotate: to[task] = from[(task + 1) % size], so that a job
# that began before the one before it had ended would read what is not there yet; mark: scratch[worker] = task
TASKS = """
define void @add(ptr %block, i64 %task, i64 %worker) nounwind {
  %data = load ptr, ptr %block
  %amount.slot = getelementptr i64, ptr %block, i64 1
  %amount = load i64, ptr %amount.slot
  %place = getelementptr i64, ptr %data, i64 %task
  %old = atomicrmw add ptr %place, i64 %amount monotonic
  ret void
}

define void @rotate(ptr %block, i64 %task, i64 %worker) nounwind {
  %from = load ptr, ptr %block
  %to.slot = getelementptr i64, ptr %block, i64 1
  %to = load ptr, ptr %to.slot
  %size.slot = getelementptr i64, ptr %block, i64 2
  %size = load i64, ptr %size.slot
  %next = add i64 %task, 1
  %wrapped = urem i64 %next, %size
  %source = getelementptr i64, ptr %from, i64 %wrapped
  %value = load i64, ptr %source
  %place = getelementptr i64, ptr %to, i64 %task
  store i64 %value, ptr %place
  ret void
}

define void @mark(ptr %block, i64 %task, i64 %worker) nounwind {
  %scratch = load ptr, ptr %block
  %place = getelementptr i64, ptr %scratch, i64 %worker
  store i64 %task, ptr %place
  ret void
}
"""


@pytest.fixture(scope="module")
def module():
    reason = jit.available()
    if reason is not None:
        pytest.skip(reason)
    return jit.compile_module(TASKS, features=jit.host().feature_string)


def job(module, name, fields, tasks, team, **more):
    block = (ctypes.c_int64 * len(fields))(*fields)
    return Job(module.address(name), block, tasks, team, keeps=(module,), **more)


def rotations(module, team, count=500, size=13):
    """Jobs that rotate numbers between two arrays, so that each must see all that the one before it wrote."""
    arrays = [np.arange(size, dtype=np.int64), np.zeros(size, np.int64)]
    jobs = [
        job(module, "rotate", (address_of(arrays[i % 2]), address_of(arrays[1 - i % 2]), size), size, team)
        for i in range(count)
    ]
    return arrays, jobs, np.roll(np.arange(size), -count)


@pytest.mark.parametrize("team", [1, 2, 5])
def test_jobs_run_one_after_the_other(module, team):
    arrays, jobs, expected = rotations(module, team)
    JobList(jobs).run()
    assert arrays[0].tolist() == expected.tolist()


def test_every_task_runs_once_for_any_numbers_of_tasks_and_threads_in_one_list(module):
    counts = np.zeros((40, 100), np.int64)
    sizes = [(row * 7) % 23 * (row % 3) for row in range(40)]
    jobs = [job(module, "add", (address_of(counts[row]), 1), size, 1 + row % 4) for row, size in enumerate(sizes)]
    program = JobList(jobs)
    for _ in range(30):
        program.run()
    for row, size in zip(counts, sizes, strict=True):
        assert row.tolist() == [30] * size + [0] * (100 - size)


def test_a_part_of_the_list(module):
    counts = np.zeros(10, np.int64)
    program = JobList([job(module, "add", (address_of(counts[i:]), 1), 1, 2) for i in range(10)])
    program.run_some(3, 7)
    assert counts.tolist() == [0] * 3 + [1] * 4 + [0] * 3
    assert len(program) == 10


def test_an_empty_list_and_a_job_without_tasks(module):
    JobList([]).run()
    counts = np.zeros(1, np.int64)
    JobList([job(module, "add", (address_of(counts), 1), 0, 2)]).run()
    assert counts.tolist() == [0]


def test_scratch_memory_is_shared_and_as_large_as_the_largest_wants(module):
    jobs = [
        job(module, "mark", (0,), 1, 1, scratch=size, scratch_places=((0, offset),))
        for size, offset in ((16, 8), (64, 0))
    ]
    with memory.scratch(64) as scratch:
        JobList(jobs, scratch)
        assert [each.block[0] for each in jobs] == [scratch.address + 8, scratch.address]
    JobList(jobs).run()
    assert jobs[0].block[0] - 8 == jobs[1].block[0]


def test_a_job_alone_borrows_its_scratch_memory(module):
    alone = job(module, "mark", (0,), 3, 1, scratch=64, scratch_places=((0, 0),))
    alone.run()
    assert alone.block[0]


def test_lists_on_several_threads_at_a_time(module):
    """One of them has the pool, the others go on alone; all end with the right numbers."""
    made = [rotations(module, 3) for _ in range(4)]
    lists = [JobList(jobs) for _, jobs, _ in made]

    def work(program):
        for _ in range(10):
            program.run()

    workers = [threading.Thread(target=work, args=(program,)) for program in lists]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for arrays, _, _ in made:
        assert arrays[0].tolist() == np.roll(np.arange(13), -5000).tolist()


def test_a_list_within_a_job_runs_alone(module):
    """A task that runs a list: the pool is taken, and nobody waits for it."""
    counts = np.zeros(8, np.int64)
    inner = JobList([job(module, "add", (address_of(counts), 1), 8, 2)])
    done = []

    def body(block, task, worker):
        if not done:
            done.append(task)
            inner.run()

    task = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(body)
    outer = Job(ctypes.cast(task, ctypes.c_void_p).value, (ctypes.c_int64 * 1)(), 4, 2)
    JobList([outer]).run()
    assert counts.tolist() == [1] * 8
    threads.run(module.address("add"), ctypes.addressof(inner.jobs[0].block), 8, 2)
    assert counts.tolist() == [2] * 8
