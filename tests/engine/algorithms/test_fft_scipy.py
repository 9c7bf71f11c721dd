"""Overlap-save with scipy.fft: tiles of every kind of axis, what is not finite, the same bits for any threads."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from strategies import VIEWS, error_scale, expected, operands

from starconv import Problem, get_num_threads, plan, set_num_threads
from starconv.engine.algorithms import fft_scipy
from starconv.engine.emit.target import host_target
from starconv.engine.lattice import lattices
from starconv.geometry import BORDERS

PROBLEMS = [
    "conv2d x=1x1x60x70 w=1x1x31x31 padding=15",
    *(f"conv2d x=1x1x130x300 w=2x1x9x7 padding=12:3x0:8 border={border}" for border in BORDERS),
    "conv2d x=2x3x60x300 w=4x3x7x5 padding=3x2 bias relu",
    "conv2d x=1x6x50x41 w=6x1x9x9 padding=20 groups=6 border=reflect dtype=float64 channels_last",
    "conv2d x=2x4x33x90 w=6x2x6x7 stride=2x3 padding=2 dilation=3x2 groups=2 bias",
    "conv1d x=2x4x3000 w=6x2x31 stride=2 padding=15 dilation=3 groups=2 border=wrap",
    "conv1d x=1x1x5 w=1x1x25 padding=40 border=symmetric",
    "conv3d x=1x2x9x10x31 w=3x2x4x3x3 stride=1x2x3 padding=3 dilation=1x3x1 border=edge",
]


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make long transforms look expensive, so that small pictures have several tiles too."""
    monkeypatch.setattr(fft_scipy, "TASK_BYTES", 1 << 15)
    monkeypatch.setattr(fft_scipy, "SECONDS_PER_TASK", 1e-6)
    fft_scipy._tiling.cache_clear()
    yield
    fft_scipy._tiling.cache_clear()


def solution(problem: Problem) -> fft_scipy.Fourier:
    """One of its own: plans are kept, with the tiles that they were made with."""
    parts = [plan(part).solution for part in fft_scipy.parts(problem, host_target())]
    return fft_scipy.build(problem, host_target(), parts)


def run(problem: Problem, first: np.ndarray, second: np.ndarray, bias: np.ndarray | None, fill: float) -> np.ndarray:
    chosen, out = solution(problem), np.full(problem.output_shape, 7, problem.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        chosen.run(first, chosen.prepare(second, bias, fill), out)
    return out


@pytest.mark.parametrize("text", PROBLEMS)
def test_within_the_stated_bound(text: str) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 3, integers=False, fill=0.7)
    result = run(problem, given.first, given.second, given.bias, given.fill)
    error = np.abs(result - expected(problem, given)).max() / error_scale(problem, given).max()
    bound = fft_scipy.error_bound(problem, [])
    assert error < bound
    assert error < 5e-7 if problem.dtype == "float32" else error < 1e-15
    assert bound < 1e-4


def test_pictures_are_cut_into_tiles() -> None:
    counts = [fft_scipy.Tiling.of(Problem.parse(text)).counts for text in PROBLEMS]
    assert sum(max(count) > 1 for count in counts) >= 6
    for text in PROBLEMS:
        problem = Problem.parse(text)
        tiling = fft_scipy.Tiling.of(problem)
        for axis, length, outputs, count in zip(
            lattices(problem), tiling.lengths, tiling.outputs, tiling.counts, strict=True
        ):
            assert axis.span(outputs) <= length
            assert outputs * (count - 1) < axis.outputs <= outputs * count


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
    result = run(problem, first, given.second, given.bias, 0.0)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(answer))
    np.testing.assert_array_equal(result[np.isinf(answer)], answer[np.isinf(answer)])
    np.testing.assert_allclose(result[np.isfinite(answer)], answer[np.isfinite(answer)], atol=1e-3)


def test_sums_that_overflow_are_those_that_overflow_by_the_definition() -> None:
    problem = Problem.parse("conv2d x=1x1x200x600 w=1x1x9x9")
    given = operands(problem, 5)
    given.first[0, 0, 100, 300] = 1e38
    result = run(problem, given.first, given.second, None, 0.0)
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
    result = run(problem, given.first, second, None, 0.0)
    assert np.isnan(result[:, 1]).all()
    assert np.isfinite(result[:, 0]).all()
    result = run(problem, given.first, given.second, None, np.nan)
    assert np.isnan(result[:, :, :4]).all()
    assert np.isfinite(result[:, :, 4:-4, 4:-4]).all()


@pytest.mark.parametrize("text", PROBLEMS)
def test_bits_do_not_depend_on_threads_views_or_out(text: str) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 9, integers=False)
    before, chosen, bits = get_num_threads(), solution(problem), set()
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            for view in VIEWS.values():
                out = np.asfortranarray(np.empty(problem.output_shape, problem.dtype))
                chosen.run(view(given.first), chosen.prepare(view(given.second), given.bias, 0.0), out)
                bits.add(out.tobytes())
    finally:
        set_num_threads(before)
    assert len(bits) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("conv2d x=1x1x60x70 w=1x1x31x31 precision=strict", "strict"),
        ("conv2d x=1x1x60x70 w=1x1x4x6", "fewer than 25"),
        ("conv2d x=1x1x60x70 w=1x1x5x5 stride=6", "stride"),
        ("conv2d x=1x1x60x70 w=1x1x5x5 dtype=int64", "int64"),
        ("conv2d x=0x1x60x70 w=1x1x5x5", "nothing"),
        ("conv2d x=1x512x60x70 w=512x512x5x5", "MiB"),
        ("input_grad2d x=1x1x60x70 w=1x1x5x5", "gradients"),
    ],
)
def test_refusals_have_reasons(text: str, reason: str) -> None:
    assert reason in str(fft_scipy.refuses(Problem.parse(text), host_target()))
