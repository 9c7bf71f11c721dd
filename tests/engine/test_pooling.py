"""Compiled pooling against the definition, tap by tap, for arrays of all kinds; gradients too."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from guarded import guarded, guarded_empty
from hypothesis import given
from hypothesis import strategies as st
from strategies import VIEWS, examples, seeds, targets
from strategies import axes as any_axis

import starconv as sc
from starconv.engine import pooling
from starconv.geometry import Axis, window_counts

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.skipif(targets() == [None], reason="no compiled code on this machine")


def reference(x: Array, windows: tuple[Axis, ...], divisors: pooling.Counts | None) -> tuple[Array, Array]:
    """The results and the number of the tap with the maximum: of equals the first, of NaNs the last."""
    shape = (*x.shape[:2], *(axis.output for axis in windows))
    result, winner = np.full(shape, 0.0 if divisors else -np.inf), np.zeros(shape)
    for position in np.ndindex(*shape[2:]):
        seen = np.zeros(shape[:2], bool)
        for number, tap in enumerate(np.ndindex(*(axis.kernel for axis in windows))):
            place = tuple(axis.reads(o)[t] for axis, o, t in zip(windows, position, tap, strict=True))
            if not all(0 <= p < axis.input for p, axis in zip(place, windows, strict=True)):
                continue
            value = x[(slice(None), slice(None), *place)]
            here = (slice(None), slice(None), *position)
            if divisors:
                result[here] += value
                continue
            larger = (value > result[here]) | np.isnan(value) | ~seen
            result[here], winner[here] = np.where(larger, value, result[here]), np.where(larger, number, winner[here])
            seen[...] = True
        if divisors:
            result[(slice(None), slice(None), *position)] /= math.prod(
                counts[o] for counts, o in zip(divisors, position, strict=True)
            )
    return result, winner


def gradient_reference(grad: Array, windows: tuple[Axis, ...], winner: Array, divisors: pooling.Counts | None) -> Array:
    result = np.zeros((*grad.shape[:2], *(axis.input for axis in windows)))
    for position in np.ndindex(*grad.shape[2:]):
        here = (slice(None), slice(None), *position)
        for number, tap in enumerate(np.ndindex(*(axis.kernel for axis in windows))):
            place = tuple(axis.reads(o)[t] for axis, o, t in zip(windows, position, tap, strict=True))
            if not all(0 <= p < axis.input for p, axis in zip(place, windows, strict=True)):
                continue
            if divisors:
                count = math.prod(counts[o] for counts, o in zip(divisors, position, strict=True))
                result[(slice(None), slice(None), *place)] += grad[here] / count
            else:
                result[(slice(None), slice(None), *place)] += np.where(winner[here] == number, grad[here], 0)
    return result


@st.composite
def windows(draw: st.DrawFn) -> tuple[Axis, ...]:
    count = draw(st.sampled_from([1, 2, 2, 3]))
    one = any_axis(longest={1: 60, 2: 14, 3: 6}[count]).filter(lambda axis: axis.input > 0)
    return tuple(draw(st.lists(one, min_size=count, max_size=count)))


def operand(seed: int, shape: tuple[int, ...], dtype: str) -> Array:
    """Small whole numbers, so that sums are exact and equals are frequent; some NaN and infinity."""
    generator = np.random.default_rng(seed)
    x = generator.integers(-4, 5, shape).astype(dtype)
    if seed % 4 == 0:
        x[generator.random(shape) < 0.05] = np.nan
        x[generator.random(shape) < 0.05] = -np.inf
    return x


@examples(4)
@given(
    windows(),
    seeds,
    st.sampled_from([1, 2, 3, 5, 16, 17, 37]),
    st.integers(0, 2),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(["contiguous", "channels_last", "transposed", "sliced", "reversed_steps"]),
    st.booleans(),
)
def test_pooling(
    axes: tuple[Axis, ...], seed: int, channels: int, batch: int, dtype: str, name: str, average: bool
) -> None:
    view = VIEWS[name]
    x = operand(seed, (batch, channels, *(axis.input for axis in axes)), dtype)
    pads = tuple((axis.before, axis.after) if seed % 2 else (0, 0) for axis in axes)
    divisors = window_counts(axes, pads) if average else None
    if average and not all(map(all, divisors)):  # a window outside: 0 / 0
        return
    with np.errstate(invalid="ignore"):
        answer, winner = reference(x, axes, divisors)
    shape = answer.shape
    out = view(np.full(shape, np.nan, dtype))
    assert pooling.run(view(x), axes, out, divisors=divisors)
    np.testing.assert_array_equal(out, answer.astype(dtype))
    grad = operand(seed + 1 - seed % 4, shape, dtype)
    into = view(np.full(x.shape, np.nan, dtype))
    if average:
        assert pooling.gradient(view(grad), axes, into, divisors=divisors)
        expected = gradient_reference(grad, axes, winner, divisors)
        np.testing.assert_allclose(into, expected, 1e-5, 1e-5)
        return
    again, found = (view(np.full(shape, np.nan, dtype)) for _ in range(2))
    assert pooling.run(view(x), axes, again, winner=found)
    np.testing.assert_array_equal(again, out)
    inside = np.isfinite(answer) | np.isnan(answer)
    np.testing.assert_array_equal(found[inside], winner[inside])
    grad = np.where(inside, grad, 0).astype(dtype)
    assert pooling.gradient(view(grad), axes, into, winner=found)
    np.testing.assert_array_equal(into, gradient_reference(grad, axes, winner, None))


@examples(4)
@given(windows(), seeds, st.sampled_from([1, 3, 16, 21]), st.integers(0, 2), st.booleans(), st.booleans())
def test_gradients_of_disjoint_windows(
    axes: tuple[Axis, ...], seed: int, channels: int, batch: int, last: bool, pairs: bool
) -> None:
    view = VIEWS["channels_last" if last else "contiguous"]
    if pairs:  # those that vectors run along the columns of
        axes = (*axes[:-1], replace(axes[-1], kernel=2, stride=2, before=0, after=seed % 3, dilation=1))
    axes = tuple(replace(axis, stride=max(axis.stride, axis.extent)) for axis in axes)
    if any(axis.output < 1 for axis in axes):
        return
    x = operand(seed - seed % 4 + 1, (batch, channels, *(axis.input for axis in axes)), "float32")
    answer, winner = reference(x, axes, None)
    grad = np.where(np.isfinite(answer), operand(seed - seed % 4 + 2, answer.shape, "float32"), 0).astype("float32")
    into = view(np.full(x.shape, np.nan, "float32"))
    assert pooling.gradient(view(grad), axes, into, winner=view(winner.astype("float32")))
    np.testing.assert_array_equal(into, gradient_reference(grad, axes, winner, None))


COMMON = [
    (Axis(28, 2, 2), Axis(28, 2, 2)),
    (Axis(112, 3, 2, 1, 1), Axis(112, 3, 2, 1, 1)),
    (Axis(35, 3, 1, 1, 1), Axis(35, 3, 1, 1, 1)),
    (Axis(7, 7), Axis(7, 7)),
    (Axis(13, 5, 1, 2, 2), Axis(13, 5, 1, 2, 2)),
    (Axis(4, 2, 2), Axis(5, 2, 2, 0, 1)),  # the last window hangs over
]


@pytest.mark.parametrize("axes", COMMON, ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_nothing_beside_the_arrays_is_touched(axes: tuple[Axis, ...], last: bool) -> None:
    order = (0, 2, 3, 1) if last else (0, 1, 2, 3)
    back = (0, 3, 1, 2) if last else (0, 1, 2, 3)
    for channels in (1, 3, 24):
        x = operand(1, (2, channels, *(axis.input for axis in axes)), "float32")
        shape = np.array((2, channels, *(axis.output for axis in axes)))[list(order)]
        for end in (True, False):
            given = guarded(x.transpose(order), end=end, read_only=True).transpose(back)
            for divisors in (None, window_counts(axes, ((0, 0), (0, 0)))):
                answer, _ = reference(x, axes, divisors)
                out = guarded_empty(tuple(shape), end=end).transpose(back)
                winner = None if divisors else guarded_empty(tuple(shape), end=end).transpose(back)
                assert pooling.run(given, axes, out, divisors=divisors, winner=winner)
                np.testing.assert_array_equal(out, answer.astype("float32"))
                grad = guarded(np.ones(shape, "float32"), end=end, read_only=True).transpose(back)
                into = guarded(np.full_like(x.transpose(order), np.nan), end=end).transpose(back)
                assert pooling.gradient(grad, axes, into, divisors=divisors, winner=winner)
                assert not np.isnan(into).any()


def test_threads_change_no_bit() -> None:
    generator = np.random.default_rng(0)
    for axes in COMMON:
        x = generator.standard_normal((3, 20, *(axis.input for axis in axes))).astype("float32")
        for view in (VIEWS["contiguous"], VIEWS["channels_last"]):
            for divisors in (None, window_counts(axes, ((0, 0), (0, 0)))):
                results = []
                for count in (1, 3):
                    sc.set_num_threads(count)
                    out = view(np.empty((3, 20, *(axis.output for axis in axes)), "float32"))
                    assert pooling.run(view(x), axes, out, divisors=divisors)
                    results.append(out)
                np.testing.assert_array_equal(*results)


def test_every_target() -> None:
    axes = COMMON[1]
    x = operand(2, (1, 5, 112, 112), "float32")
    answer, _ = reference(x, axes, None)
    for target in targets():
        for view in (VIEWS["contiguous"], VIEWS["channels_last"]):
            out = view(np.empty(answer.shape, "float32"))
            for job in pooling.jobs(view(x), axes, out, target=target):
                job.run()
            np.testing.assert_array_equal(out, answer)


def test_what_compiled_code_declines() -> None:
    axes = COMMON[0]
    x, out = np.zeros((1, 1, 28, 28)), np.zeros((1, 1, 14, 14))
    assert pooling.jobs(x.astype(int), axes, out.astype(int)) is None
    assert pooling.jobs(x, axes, out.astype("float32")) is None
    assert pooling.jobs(x, axes, out, winner=VIEWS["sliced"](out)) is None
