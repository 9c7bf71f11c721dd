"""Calls piece by piece: the same numbers as in one piece, for every type, border, stride and layout."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import expected, operands, problems

import starconv as sc
from starconv import calls, filter_sums
from starconv.engine import pieces
from starconv.problem import Problem

DTYPES = ["float16", "int32", "int8", "bool", ">f4"]
HUGE = 1 << 60


@pytest.fixture
def cut(monkeypatch):
    """Sets how large a piece is, for calls and filters."""

    def set_size(size):
        monkeypatch.setattr(calls, "PIECE", size)
        monkeypatch.setattr(filter_sums, "PIECE", size)
        calls._calls.clear()

    yield set_size
    calls._calls.clear()


def test_convolutions(cut):
    rng = np.random.default_rng(0)
    geometry = [(1, 1, 1, 1), (2, 1, 1, 1), (3, 0, 2, 1), (2, 4, 2, 2), (1, "same", 1, 4)]
    for dtype, mode, arguments in itertools.product(DTYPES, ("zeros", "reflect", "circular"), geometry):
        groups = arguments[-1]
        x = rng.integers(0, 5, (3, 4, 37, 23)).astype(dtype)
        w = rng.integers(-3, 3, (8, 4 // groups, 3, 3)).astype("f8" if dtype == ">f4" else dtype)
        b = rng.integers(-3, 3, 8).astype(w.dtype)
        cut(HUGE)
        whole = sc.conv2d(x, w, b, *arguments, padding_mode=mode)
        for size in (400, 40_000, 300_000):
            cut(size)
            found = sc.conv2d(x, w, b, *arguments, padding_mode=mode)
            assert found.dtype == whole.dtype
            assert np.array_equal(found, whole), (dtype, mode, arguments, size)
        last = sc.conv2d(np.moveaxis(x, 1, -1), w, b, *arguments, padding_mode=mode, layout="NHWC")
        assert np.array_equal(np.moveaxis(last, -1, 1), whole)
        out = np.empty_like(whole)
        assert sc.conv2d(x, w, b, *arguments, padding_mode=mode, out=out) is out
        assert np.array_equal(out, whole)


@pytest.mark.parametrize("dtype", ["float16", "int32"])
def test_transposed_convolutions_and_gradients(cut, dtype):
    rng = np.random.default_rng(1)
    geometry = [(1, 1, 0, 1), (2, 0, 1, 1), (3, 1, 2, 1), (4, 0, 3, 1), (5, 2, 0, 2), (3, 0, 0, 2)]
    for kernel, (stride, padding, more, dilation) in itertools.product(((3, 3), (1, 1), (2, 5)), geometry):
        x = rng.integers(0, 5, (3, 4, 17, 11)).astype(dtype)
        w = rng.integers(-3, 3, (4, 2, *kernel)).astype(dtype)
        sizes = sc.output_size((40, 31), kernel, stride, padding, dilation)
        gradient = rng.integers(-3, 3, (3, 4, *sizes)).astype(dtype)
        picture = rng.integers(0, 3, (3, 4, 40, 31)).astype(dtype)
        bias = np.arange(4).astype(dtype)

        arguments = stride, padding, dilation, 2
        every = (
            partial(sc.conv_transpose2d, x, w, bias, stride, padding, more, 2, dilation),
            partial(sc.grad.conv2d_input, picture.shape, w, gradient, *arguments),
            partial(sc.grad.conv2d_weight, picture, w.shape, gradient, *arguments),
        )
        cut(HUGE)
        whole = [call() for call in every]
        for size in (400, 20_000):
            cut(size)
            for call, once in zip(every, whole, strict=True):
                found = call()
                assert found.dtype == once.dtype
                assert np.array_equal(found, once), (kernel, stride, padding, more, dilation, size)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.bool_, np.float32])
def test_filters(cut, dtype, mode):
    rng = np.random.default_rng(2)
    picture = rng.integers(0, 100, (41, 29)).astype(dtype)
    volume = rng.integers(0, 100, (3, 41, 5, 29)).astype(dtype)
    taps = rng.integers(-2, 3, (5, 4))
    cut(1000)
    for output in (None, np.int8, np.float32, np.float64):
        found = sc.correlate(picture, taps, output, mode, cval=2, origin=(1, -1))
        assert np.array_equal(
            found, scipy.ndimage.correlate(picture, taps, output=output, mode=mode, cval=2, origin=(1, -1))
        )
        found = sc.correlate(volume, taps, output, mode, axes=(1, 3))
        assert np.array_equal(found, scipy.ndimage.correlate(volume, taps, output=output, mode=mode, axes=(1, 3)))


@settings(max_examples=150, deadline=None)
@given(problems(), st.sampled_from([1, 300, 3000]), st.integers(0, 9))
def test_every_problem(problem: Problem, most: int, seed: int):
    """Exactly what the definition gives, whatever is cut from it."""
    if problem.residual or problem.batch == 0:
        return
    numbers = operands(problem, seed, fill=2.0)
    if problem.operation == "weight_grad":
        assert np.array_equal(
            pieces.sum_of_pieces(problem, numbers.first, numbers.second, most=most), expected(problem, numbers)
        )
        return
    result = np.full(problem.result_shape, 77, problem.dtype)
    given = numbers.first, numbers.second, numbers.bias
    for place, sums in pieces.by_pieces(problem, *given, most=most, fill=numbers.fill):
        assert (result[place] == 77).all()
        result[place] = sums
    assert np.array_equal(result, expected(problem, numbers))


def test_integers_are_exact_beyond_floats(cut):
    """Sums up to 2**24 in float32, up to 2**53 in float64, beyond in int64, all of them right, and modulo 2**64."""
    rng = np.random.default_rng(3)
    for bits in (7, 15, 24, 31, 40, 52, 62):
        x = rng.integers(-(2**bits), 2**bits, (2, 3, 31, 30))
        w = rng.integers(-7, 8, (4, 3, 3, 3))
        planes = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
        with np.errstate(over="ignore"):
            forward = np.einsum("ncijpq,kcpq->nkij", planes, w)
            gradient = rng.integers(-3, 4, forward.shape)
            weights = np.einsum("ncijpq,nkij->kcpq", planes, gradient)
        assert np.array_equal(sc.conv2d(x, w), forward)
        assert np.array_equal(sc.grad.conv2d_weight(x, w.shape, gradient), weights)
    least = np.full((1, 1, 120, 120), np.iinfo(np.int64).min)
    assert np.array_equal(sc.conv2d(least, np.ones((1, 1, 1, 2), int)), np.zeros((1, 1, 120, 119)))


def test_pictures_without_rows(cut):
    """Windows that meet nothing but padding: sums of zeros, and the bias."""
    x, w = np.ones((3, 4, 0, 20), "float16"), np.ones((5, 4, 2, 3), "float16")
    gradient = np.ones((3, 5, 6, 20), "float16")
    for size in (1, 1000):
        cut(size)
        found = sc.conv2d(x, w, np.arange(5, dtype="float16"), padding=((3, 4), (1, 1)))
        assert np.array_equal(found, np.broadcast_to(np.arange(5)[:, None, None], (3, 5, 6, 20)))
        assert not sc.grad.conv2d_weight(x, w.shape, gradient, padding=((3, 4), (1, 1))).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_kernel_that_lies_in_the_result(cut, dtype):
    picture = np.random.default_rng(4).integers(0, 9, (61, 60)).astype("float16")
    cut(4000)
    for first in (0, 19, 38, 57):
        output = np.zeros(picture.shape, dtype)
        taps = output[first : first + 3, -3:]
        taps[...] = np.arange(9).reshape(3, 3)
        expected = scipy.ndimage.correlate(picture.astype(dtype), taps.copy())
        assert np.array_equal(sc.correlate(picture, taps, output), expected)


@pytest.mark.parametrize("operation", ["conv", "weight_grad", "input_grad"])
@pytest.mark.parametrize("stride", [1, 3])
def test_tall_kernels_read_few_rows_twice(operation, stride):
    """No more than there are once more, with pieces that would have fewer rows than the kernel."""
    problem = Problem.of_shapes((1, 4, 400, 100), (4, 4, 31, 3), stride, (15, 1), 1, 1)
    problem = replace(problem, operation=operation)
    one_row = problem.itemsize * 4 * 100
    size = pieces._best_size(problem, 16 * one_row)
    spans = list(pieces._spans(problem, size.rows))
    rows = np.arange(max(problem.operand_shapes[0][2], 1))
    read = sum(len(rows[span.reads] if isinstance(span.reads, slice) else span.reads) for span in spans)
    assert size.pictures == 1
    assert len(spans) > 3
    axis = problem.axes[0]
    assert read <= 2 * (axis.output if operation == "input_grad" else axis.padded) + axis.extent
