"""Recycled memory: nobody's numbers change while anything still shows them."""

import gc
import threading

import numpy as np
import pytest

from starconv.engine.runtime import recycling
from starconv.engine.runtime.recycling import SMALLEST, recycled_empty

SHAPE = (SMALLEST // 4, 2)


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recycling, "_shelves", {})
    monkeypatch.setattr(recycling, "_kept", 0)


def test_memory_is_used_again() -> None:
    array = recycled_empty(SHAPE, "float32")
    assert (array.shape, array.dtype, array.flags.c_contiguous) == (SHAPE, np.float32, True)
    place = address(array)
    assert place % 64 == 0
    del array
    gc.collect()
    assert address(recycled_empty(SHAPE, "float32")) == place


@pytest.mark.parametrize(
    "look",
    [
        lambda array: array[3:, ::-1],
        lambda array: array.T.reshape(-1, order="A")[5:],
        lambda array: np.moveaxis(array.view("int32").reshape(2, -1), 0, 1)[1:][2:],
        lambda array: np.asarray(memoryview(array)),
        lambda array: np.lib.stride_tricks.as_strided(array, (3, 3), (8, 4)),
        lambda array: np.frombuffer(array, np.uint8),
        lambda array: np.broadcast_to(array, (2, *SHAPE)),
    ],
)
def test_a_view_keeps_its_memory(look: object) -> None:
    array = recycled_empty(SHAPE, "float32")
    array[...] = np.arange(array.size).reshape(SHAPE)
    view = look(array)
    kept = view.copy()
    place = address(array)
    del array
    gc.collect()
    others = [recycled_empty(SHAPE, "float32") for _ in range(3)]
    for other in others:
        other[...] = -1
    assert place not in map(address, others)
    np.testing.assert_array_equal(view, kept)


def test_small_arrays_are_left_to_the_library() -> None:
    assert recycled_empty((3, 4), "float64").flags.owndata
    assert recycled_empty((0, 7), "float32").shape == (0, 7)
    assert recycled_empty((), "float32").shape == ()


def test_no_more_is_kept_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recycling, "KEPT_BYTES", 3 * SMALLEST)
    arrays = [recycled_empty((SMALLEST,), np.uint8) for _ in range(5)] + [recycled_empty((8 * SMALLEST,), np.uint8)]
    del arrays
    gc.collect()
    assert 0 < recycling._kept <= 3 * SMALLEST
    assert recycling._kept == sum(size * len(shelf) for size, shelf in recycling._shelves.items())


def test_threads_do_not_share_an_array() -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            array = recycled_empty((SMALLEST // 4,), "int32")
            array[...] = number
            if (array != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
