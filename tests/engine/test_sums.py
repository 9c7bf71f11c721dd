"""Sums per channel against NumPy, for arrays of all kinds."""

from typing import Any

import numpy as np
import pytest
from guarded import guarded
from strategies import VIEWS, targets

import starconv as sc
from starconv.engine import sums

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.skipif(targets() == [None], reason="no compiled code on this machine")

SHAPES = [
    (2, 3, 5, 7),
    (64, 16, 28, 28),
    (3, 37, 9, 11),
    (1, 1, 4, 4),
    (5, 1, 1, 1),
    (7, 10),
    (4, 64, 1, 1),
    (2, 5, 100_000),
    (2, 130, 3, 3, 3),
]


def operands(shape: tuple[int, ...], dtype: str = "float32") -> tuple[Array, Array, Array, Array]:
    generator = np.random.default_rng(0)
    x, grad = (generator.integers(-4, 5, shape).astype(dtype) for _ in range(2))
    mean, scale = (generator.integers(-2, 3, shape[1]).astype(dtype) for _ in range(2))
    return x, grad, mean, scale


def expected(name: str, x: Array, grad: Array, mean: Array, scale: Array) -> Array:
    axes = (0, *range(2, x.ndim))
    spread = (slice(None), *[np.newaxis] * (x.ndim - 2))
    away = x.astype(np.float64) - mean[spread]
    terms = {"plain": [x], "squares": [away**2], "gradient": [grad, grad * away * scale[spread]]}[name]
    return np.array([term.sum(axis=axes, dtype=np.float64) for term in terms])


def call(name: str, x: Array, grad: Array, mean: Array, scale: Array) -> Array | None:
    given = {"plain": ([x], []), "squares": ([x], [mean]), "gradient": ([grad, x], [mean, scale])}[name]
    return sums.run(name, *given)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sums.SUMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_of_whole_numbers_are_exact(shape: tuple[int, ...], name: str, dtype: str) -> None:
    given = operands(shape, dtype)
    answer = expected(name, *given)
    for view in ("contiguous", "channels_last"):
        x, grad = (VIEWS[view](array) for array in given[:2])
        result = call(name, x, grad, *given[2:])
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, answer, err_msg=view)


def test_operands_that_lie_in_different_ways() -> None:
    given = operands((2, 24, 5, 6))
    mixed = call("gradient", given[0], VIEWS["channels_last"](given[1]), *given[2:])
    assert mixed is None or np.array_equal(mixed, expected("gradient", *given))
    for name in ("transposed", "sliced", "reversed_steps", "misaligned"):
        x = VIEWS[name](given[0])
        result = sums.run("plain", [x])
        assert result is None or np.array_equal(result, expected("plain", *given)), name
    assert sums.run("plain", [given[0].astype(int)]) is None
    assert sums.run("plain", [np.zeros((0, 3, 4, 4), "float32")]) is None


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 3, 4, 1), (2, 3, 1, 5), (1, 3, 4, 5), (2, 1, 4, 1), (1, 1, 4, 5)])
def test_operands_that_repeat_elements(shape: tuple[int, ...]) -> None:
    """As gradients of sums and means are: there is nothing behind their elements."""
    x = np.broadcast_to(guarded(operands(shape)[0], read_only=True), (2, shape[1], 4, 5))
    result = sums.run("plain", [x])
    assert result is None or np.array_equal(result[0], x.sum((0, 2, 3)))


def test_nothing_beside_the_arrays_is_touched() -> None:
    for shape in ((2, 3, 5, 7), (3, 37, 9, 11)):
        for end in (True, False):
            x, grad, mean, scale = (guarded(array, end=end, read_only=True) for array in operands(shape))
            for name in sums.SUMS:
                np.testing.assert_array_equal(call(name, x, grad, mean, scale), expected(name, x, grad, mean, scale))
            last = (guarded(np.moveaxis(array, 1, -1), end=end, read_only=True) for array in (x, grad))
            x, grad = (np.moveaxis(array, -1, 1) for array in last)
            for name in sums.SUMS:
                np.testing.assert_array_equal(call(name, x, grad, mean, scale), expected(name, x, grad, mean, scale))


def test_threads_change_no_bit_and_errors_stay_small() -> None:
    generator = np.random.default_rng(1)
    x = generator.standard_normal((32, 16, 32, 32)).astype("float32") + 100
    mean = np.full(16, 100, "float32")
    for view in ("contiguous", "channels_last"):
        results = []
        for count in (1, 3):
            sc.set_num_threads(count)
            results.append(sums.run("squares", [VIEWS[view](x)], [mean]))
        np.testing.assert_array_equal(*results)
        np.testing.assert_allclose(results[0], expected("squares", x, x, mean, mean), 1e-5)
