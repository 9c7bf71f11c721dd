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
from starconv.engine import pieces, planner
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


PARTS = [
    "conv2d x=1x16x61x50 w=16x16x3x3 padding=1",  # Winograd's tiles
    "conv2d x=3x16x30x31 w=24x16x3x3 stride=2 padding=1 relu",
    "conv2d x=1x8x40x41 w=16x8x3x3 residual bias border=reflect",
    "conv2d x=1x16x45x40 w=16x16x5x5 padding=2",
    "conv2d x=1x1x90x100 w=1x1x9x9 padding=4 border=symmetric",  # where the kernel is separable, too
    "conv2d x=2x24x33x30 w=24x1x3x3 padding=1 groups=24",
    "conv2d x=2x24x33x30 w=24x1x3x3 padding=1 groups=24 channels_last",
    "conv1d x=1x1x5000 w=1x1x9 padding=4",
    "conv3d x=1x4x12x13x14 w=4x4x3x3x3 padding=1 border=wrap dtype=float64",
    "input_grad2d x=2x16x30x31 w=16x1x3x3 padding=1 groups=16",
    "input_grad2d x=1x8x40x41 w=16x8x4x4 stride=2 padding=1 bias",
]


@pytest.mark.parametrize("text", PARTS)
@pytest.mark.parametrize("most", [3000, 40_000])
def test_parts_have_the_bits_of_the_whole(text: str, most: int):
    """Whatever algorithm computes it, those whose tiles make that impossible decline."""
    problem, rng = Problem.parse(text), np.random.default_rng(7)
    first, second = (rng.standard_normal(shape).astype(problem.dtype) for shape in problem.operand_shapes)
    bias = rng.standard_normal(problem.result_shape[1]).astype(problem.dtype) if problem.bias else None
    residual = rng.standard_normal(problem.result_shape).astype(problem.dtype) if problem.residual else None
    for weights in (second, np.ones_like(second)):
        for candidate in sc.plan(problem).candidates:
            if candidate.refusal is not None:
                continue
            plan = sc.plan(problem, algorithm=candidate.name)
            whole = plan(first, weights, bias, residual=residual)
            out = np.full_like(whole, np.nan)
            asked = plan.who_computes(weights, bias)
            parts = pieces.alike(asked, first, weights, bias, residual, out=out, most=most, fill=0.0)
            if parts is None:
                assert not asked.candidate.plain or candidate.name == "numpy"
                continue
            for place, sums in parts:
                out[place] = sums
            assert np.array_equal(out, whole), candidate.name


@pytest.fixture
def little_room(monkeypatch):
    """As if arrays of some kilobytes were as large as a call may copy."""
    monkeypatch.setattr(planner, "MOST_WORKSPACE", 1)
    monkeypatch.setattr(pieces, "most_workspace", lambda moved: 0)
    monkeypatch.setattr(pieces, "PIECE", 5000)
    monkeypatch.setattr(filter_sums, "PIECE", 5000)
    planner._plan.cache_clear()
    filter_sums._plan_of.cache_clear()
    calls._calls.clear()
    yield
    planner._plan.cache_clear()
    filter_sums._plan_of.cache_clear()
    calls._calls.clear()


def test_results_over_operands(little_room):
    """In every place that a result may have: the numbers of one that lies apart."""
    rng = np.random.default_rng(8)
    for mode, dtype in itertools.product(("zeros", "reflect", "circular"), ("float32", "float16", "float64")):
        x = rng.integers(-4, 5, (2, 8, 47, 30)).astype(dtype)
        w = rng.integers(-2, 3, (8, 8, 3, 3)).astype(dtype)
        expected = sc.conv2d(x, w, padding=1, padding_mode=mode)
        places = [
            x.copy(),
            np.moveaxis(np.empty((2, 47, 30, 8), dtype), -1, 1),
            np.empty((2, 8, 47, 33), dtype)[..., :30],
        ]
        for out in (*places, places[1][:, :, ::-1], places[2][..., ::-1]):
            given = out if out is places[0] else x
            assert np.array_equal(sc.conv2d(given, w, padding=1, padding_mode=mode, out=out), expected)
        memory = np.zeros((2, 8, 50, 30), dtype)
        memory[:, :, 3:] = x
        assert np.array_equal(
            sc.conv2d(memory[:, :, 3:], w, padding=1, padding_mode=mode, out=memory[:, :, :-3]), expected
        )


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_filters_over_operands(little_room, mode):
    rng = np.random.default_rng(9)
    for dtype, axes in itertools.product(
        ("float32", "uint8", "int32", "complex64"), ((0, 1), (1,), (0, 2), (0, 1, 2, 3), ())
    ):
        picture = rng.integers(0, 5, (31, 21, 5, 4)).astype(dtype)
        if dtype == "complex64":
            picture = picture + 1j * rng.integers(0, 5, picture.shape).astype("float32")
        for taps in (rng.integers(0, 3, (3,) * len(axes)), rng.integers(0, 3, (3,) * len(axes)) * (1 + 2j)):
            if taps.dtype.kind == "c" and dtype != "complex64":
                continue
            right = scipy.ndimage.correlate(picture, taps, mode=mode, cval=2, axes=axes)
            for array in (picture, picture[::-1, ::-1].copy()[::-1, ::-1], np.asfortranarray(picture)):
                assert np.array_equal(sc.correlate(array, taps, mode=mode, cval=2, axes=axes), right)
                over = array.copy(order="K")
                assert np.array_equal(sc.correlate(over, taps, over, mode, 2, axes=axes), right)
                turned = picture.copy()[::-1]
                assert np.array_equal(sc.correlate(array, taps, turned, mode, 2, axes=axes), right)
