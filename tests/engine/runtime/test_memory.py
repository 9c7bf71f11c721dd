"""Alignment, and that a block is lent to one borrower at a time, kept up to a bound."""

import os
import threading

import numpy as np
import pytest

from starconv.engine.runtime import memory


@pytest.fixture(autouse=True)
def empty_shelves(monkeypatch):
    monkeypatch.setattr(memory, "_shelves", {})
    monkeypatch.setattr(memory, "_kept", 0)


@pytest.mark.parametrize("shape", [(), 0, 5, (0, 3), (3, 5, 7), (1, 100_000)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "float16", "complex128"])
def test_aligned_empty(shape, dtype):
    array = memory.aligned_empty(shape, dtype)
    assert array.shape == np.empty(shape).shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.ctypes.data % 64 == 0
    array[...] = 1


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 100_000, 2**20, 2**20 + 1])
def test_a_block_is_large_enough_and_aligned(size):
    with memory.scratch(size) as block:
        assert size <= block.array.nbytes <= max(4096, size * 5 // 4)
        assert block.address == block.array.ctypes.data
        assert block.address % 64 == 0


def test_a_block_that_came_back_is_lent_again_but_never_twice_at_a_time():
    with memory.scratch(10_000) as first, memory.scratch(10_000) as second:
        assert first.address != second.address
    with memory.scratch(9_900) as third:
        assert third in (first, second)


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(memory, "KEPT_BYTES", 100_000)
    blocks = [memory.scratch(size) for size in (40_000, 4096, 30_000, 50_000)]
    for block in blocks:
        with block:
            pass
    kept = [block for shelf in memory._shelves.values() for block in shelf]
    assert sum(block.size for block in kept) == memory._kept <= 100_000
    assert blocks[-1] in kept
    assert blocks[0] not in kept
    with memory.scratch(200_000) as large:
        pass
    assert memory._kept <= 100_000
    assert memory.scratch(200_000) is not large


def test_threads_never_share_a_block():
    clashes = []

    def borrow(mark):
        for _ in range(2000):
            with memory.scratch(5000) as block:
                block.array[:8] = mark
                if not (block.array[:8] == mark).all():
                    clashes.append(mark)

    borrowers = [threading.Thread(target=borrow, args=(mark,)) for mark in range(4)]
    for borrower in borrowers:
        borrower.start()
    for borrower in borrowers:
        borrower.join()
    assert clashes == []
    assert memory._kept == sum(block.size for shelf in memory._shelves.values() for block in shelf)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_can_borrow():
    child = os.fork()
    if child == 0:
        with memory.scratch(5000):
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
