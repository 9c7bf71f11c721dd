"""Transforms of our own: tables, tiles of every kind, what is not finite, bits, and guard pages."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
from guarded import guarded
from strategies import VIEWS, declared_bound, error_scale, expected, operands, targets

from starconv import Problem, correlate, get_num_threads, plan, set_num_threads
from starconv.engine import planner
from starconv.engine.algorithms import fft, fft_scipy, fft_tiling, fft_transforms
from starconv.engine.emit.target import Target, host_target, named_target
from starconv.engine.lattice import lattices
from starconv.engine.plan import Plan
from starconv.geometry import BORDERS

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

PROBLEMS = [
    "conv2d x=1x1x60x70 w=1x1x31x31 padding=15",
    "conv2d x=1x1x60x70 w=1x1x31x31",
    *(f"conv2d x=1x1x130x300 w=2x1x9x7 padding=12:3x0:8 border={border}" for border in BORDERS),
    "conv2d x=2x3x60x300 w=4x3x7x5 padding=3x2 bias relu6",
    "conv2d x=1x6x50x41 w=6x1x9x9 padding=20 groups=6 border=reflect dtype=float64 channels_last",
    "conv2d x=2x4x33x90 w=6x2x6x7 stride=2x3 padding=2 dilation=3x2 groups=2 bias",
    "conv2d x=3x40x7x7 w=40x1x13x13 padding=6 groups=40 bias relu",
    "conv2d x=2x5x56x20 w=5x1x31x11 padding=15x5 groups=5 channels_last",
    "conv2d x=1x1x5x200 w=1x1x1x63 padding=0x31 dtype=float64",
    "conv2d x=1x2x4x4 w=12x2x9x9 padding=8",
    "conv1d x=20x2x300 w=3x2x31 stride=2 padding=15 bias border=wrap",
    "conv1d x=3x4x500 w=4x1x101 padding=50 groups=4 channels_last",
    "conv2d x=1x1x300x40 w=1x1x11x11 dilation=2 stride=2 padding=10",
]


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Small tiles only where they hold the kernels, so that small pictures have several; plans do not outlive this."""
    if "land_here" not in request.node.name:
        monkeypatch.setattr(fft_tiling, "MOST_COLUMNS", 128)
    monkeypatch.setattr(fft_tiling, "TASK_CYCLES", 10_000)
    monkeypatch.setattr(fft, "SERIAL_CYCLES", 0)
    for cached in (fft_tiling._tiling, planner._plan):
        cached.cache_clear()
    yield
    for cached in (fft_tiling._tiling, planner._plan):
        cached.cache_clear()


@pytest.mark.parametrize("length", fft_transforms.lengths(512))
@pytest.mark.parametrize("turn", [0.0, 0.25])
def test_passes_end_with_the_values_at_all_roots(length: int, turn: float) -> None:
    """The tables, followed in NumPy: a polynomial's values at the roots of z^n = e^(2 pi i turn), in some order."""
    generator = np.random.default_rng(length)
    numbers = generator.standard_normal(length) + 1j * generator.standard_normal(length)
    values = numbers.copy()
    passes = fft_transforms.passes_of(length, "float64", turn)
    for (radix, q, blocks, _), factors in zip(passes.table, passes.factors, strict=True):
        s = (factors[:, 0] + 1j * factors[:, 1]).reshape(blocks, radix - 1, 1)
        parts = values.reshape(blocks, radix, q)
        parts = np.concatenate([parts[:, :1], parts[:, 1:] * s], axis=1)
        w = np.exp(2j * np.pi * np.outer(np.arange(radix), np.arange(radix)) / radix)
        values = (w @ parts).ravel()
    assert math.prod(passes.table[:, 0].tolist()) == length
    roots = np.exp(2j * np.pi * (np.arange(length) + turn) / length)
    wanted = np.polynomial.polynomial.polyval(roots, numbers)
    np.testing.assert_allclose(np.sort_complex(values.round(6)), np.sort_complex(wanted.round(6)), atol=1e-5)


@pytest.mark.parametrize("text", PROBLEMS)
@pytest.mark.parametrize("fill", [0.0, 0.7])
def test_within_the_stated_bound(text: str, fill: float) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 3, integers=False, fill=fill)
    for target in targets():
        chosen = plan_on(problem, target)
        result = chosen(given.first, given.second, given.bias, fill=fill)
        error = np.abs(result - expected(problem, given)).max() / error_scale(problem, given).max()
        assert error < declared_bound(chosen)
        assert error < 1e-6 if problem.dtype == "float32" else error < 2e-15
        assert declared_bound(chosen) < 1e-3


def plan_on(problem: Problem, target: Target | None) -> Plan:
    return planner.make_plan(problem, algorithm="fft", target=target)


def tiling(text: str, *, zeros: bool, target: Target | None = None) -> fft_tiling.Tiling:
    target = host_target() if target is None else target
    assert target is not None
    found = fft_tiling.Tiling.of(fft._in_two_axes(Problem.parse(text)), target, zeros)
    assert found is not None
    return found


@pytest.mark.parametrize("text", PROBLEMS)
@pytest.mark.parametrize("zeros", [False, True])
def test_tiles_hold_what_their_outputs_read(text: str, zeros: bool) -> None:
    found = tiling(text, zeros=zeros)
    for axis, cut in zip(lattices(found.problem)[1:], (found.rows, found.columns), strict=True):
        assert cut.outputs * (cut.count - 1) < axis.outputs <= cut.outputs * cut.count
        assert cut.first + (cut.outputs - 1) * axis.stride < cut.length
        if cut.lead == 0:
            assert axis.span(cut.outputs) <= cut.length
        else:
            assert cut.count == 1
            assert axis.axis.input + max(axis.axis.before, axis.axis.after) <= cut.length


def test_zeros_around_a_picture_are_shared_by_both_sides() -> None:
    text = "conv2d x=1x256x28x28 w=256x1x29x29 padding=14 groups=256"
    assert tiling(text, zeros=True).points < tiling(text, zeros=False).points
    # Tiles have multiples of two vectors of rows: with 8 lanes 48 suffice, with 16 it takes 64.
    assert tiling(text, zeros=True, target=named_target("avx2")).rows.length < 28 + 28


@pytest.mark.parametrize("text", PROBLEMS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_reaches_what_the_definition_says(text: str, value: float) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 5)
    first = given.first.copy()
    first[(0, 0, *(size // 2 for size in first.shape[2:]))] = value
    spoiled = replace(given, first=first)
    with np.errstate(invalid="ignore", over="ignore"):
        answer = expected(problem, spoiled).astype(problem.dtype)
    result = plan_on(problem, host_target())(first, given.second, given.bias)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(answer))
    np.testing.assert_array_equal(result[np.isinf(answer)], answer[np.isinf(answer)])
    np.testing.assert_allclose(result[np.isfinite(answer)], answer[np.isfinite(answer)], atol=1e-3)


def test_sums_that_overflow_are_those_that_overflow_by_the_definition() -> None:
    problem = Problem.parse("conv2d x=1x1x200x600 w=1x1x9x9")
    given = operands(problem, 5)
    given.first[0, 0, 100, 300] = 1e38
    result = plan_on(problem, host_target())(given.first, given.second)
    with np.errstate(over="ignore"):
        answer = expected(problem, given).astype(np.float32)
    assert np.isinf(answer).sum() > 3
    np.testing.assert_array_equal(np.isinf(result), np.isinf(answer))
    assert not np.isnan(result).any()


def test_a_nan_in_a_kernel_or_in_the_padding() -> None:
    problem = Problem.parse("conv2d x=1x2x40x80 w=2x1x9x9 padding=4 groups=2")
    given = operands(problem, 6)
    second = given.second.copy()
    second[1, 0, 3, 3] = np.nan
    chosen = plan_on(problem, host_target())
    result = chosen(given.first, second)
    assert np.isnan(result[:, 1]).all()
    assert np.isfinite(result[:, 0]).all()
    result = chosen(given.first, given.second, fill=np.nan)
    assert np.isnan(result[:, :, :4]).all()
    assert np.isfinite(result[:, :, 4:-4, 4:-4]).all()


@pytest.mark.parametrize("text", PROBLEMS)
def test_bits_do_not_depend_on_threads_views_or_out(text: str) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 9, integers=False)
    before, chosen, bits = get_num_threads(), plan_on(problem, host_target()), set()
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            for view in VIEWS.values():
                out = np.asfortranarray(np.empty(problem.output_shape, problem.dtype))
                chosen.prepare(view(given.second), given.bias)(view(given.first), out=out)
                bits.add(out.tobytes())
            bits.add(np.asfortranarray(chosen(given.first, given.second, given.bias)).tobytes())
    finally:
        set_num_threads(before)
    assert len(bits) == 1


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "float16"])
def test_narrower_pictures_are_widened_on_the_way(dtype: str) -> None:
    problem = Problem.parse("conv2d x=1x2x50x60 w=2x1x9x9 padding=4 groups=2 border=symmetric")
    given = operands(problem, 2)
    chosen = plan_on(problem, host_target())
    picture = (given.first * 3).astype(dtype)
    narrow = chosen(picture, given.second)
    assert narrow.tobytes() == chosen(picture.astype(np.float32), given.second).tobytes()


@pytest.mark.parametrize("text", PROBLEMS)
def test_nothing_is_read_or_written_beside_the_arrays(text: str) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 4, integers=False)
    chosen = plan_on(problem, host_target())
    plain = chosen(given.first, given.second, given.bias)
    for end in (False, True):
        x, w, out = (guarded(array, end=end) for array in (given.first, given.second, np.empty_like(plain)))
        chosen.prepare(w, given.bias)(x, out=out)
        assert out.tobytes() == plain.tobytes()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("conv2d x=1x1x60x70 w=1x1x31x31 precision=strict", "strict"),
        ("conv2d x=1x1x60x70 w=1x1x4x6", "fewer than 25"),
        ("conv2d x=1x1x60x70 w=1x1x5x5 stride=6", "stride"),
        ("conv2d x=1x1x60x70 w=1x1x5x5 dtype=int64", "int64"),
        ("conv2d x=1x1x60x70 w=1x1x5x5 residual", "residual"),
        ("conv2d x=0x1x60x70 w=1x1x5x5", "nothing"),
        ("conv2d x=1x1x900x900 w=1x1x300x5", "largest tiles"),
        ("conv3d x=1x1x60x7x7 w=1x1x5x5x5", "two axes"),
        ("conv2d x=1x512x60x70 w=512x512x5x5", "MiB"),
        ("input_grad2d x=1x1x60x70 w=1x1x5x5", "gradients"),
    ],
)
def test_refusals_have_reasons(text: str, reason: str) -> None:
    assert reason in str(fft.refuses(Problem.parse(text), host_target()))


def test_long_rows_are_cut_into_stretches_that_land_here() -> None:
    chosen = plan("conv1d x=1x1x5000000 w=1x1x1001")
    assert chosen.algorithm == "stretches"
    assert any(part.algorithm == "fft" for row in chosen.candidates for part in row.parts)


@pytest.mark.parametrize("size", ["31x31", "63x63"])
def test_large_kernels_of_large_pictures_land_here(size: str) -> None:
    chosen = plan(f"conv2d x=1x1x2160x3840 w=1x1x{size}")
    assert chosen.algorithm == "fft"
    assert declared_bound(chosen) < 5e-4
    assert "part: conv2d x=1x1x" in chosen.explain()
    assert plan("conv2d x=1x1x2160x3840 w=1x1x3x3").algorithm != "fft"
    assert plan("conv2d x=1x64x56x56 w=64x64x5x5").algorithm != "fft"


def test_whole_numbers_stay_exact_through_correlate() -> None:
    generator = np.random.default_rng(8)
    picture = generator.integers(0, 256, (700, 700), np.uint8)
    kernel = np.ones((41, 41), np.int64)
    exact = np.pad(picture.astype(np.int64), 20, mode="symmetric")
    exact = np.lib.stride_tricks.sliding_window_view(exact.cumsum(0).cumsum(1), (42, 42))
    result = correlate(picture, kernel, output=np.int64)
    corners = exact[..., -1, -1] - exact[..., 0, -1] - exact[..., -1, 0] + exact[..., 0, 0]
    np.testing.assert_array_equal(result[1:, 1:], corners)


def test_good_lengths_are_scipys() -> None:
    for least in (*range(1, 300), 1001, 65537, 1_000_003):
        assert fft_scipy._good_length(least) == scipy.fft.next_fast_len(least, real=True)
