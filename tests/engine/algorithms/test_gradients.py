"""The native gradients: adjoint to the convolution, exact on whole numbers, and the same for any number of threads."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from row_checks import exact_between_guard_pages
from strategies import axes, expected, operands, problems, seeds

import starconv as sc
from starconv import Problem, plan, reference
from starconv.engine.algorithms import adjoint, weight_grad
from starconv.engine.algorithms.weight_grad import Cut
from starconv.engine.emit.target import host_target
from starconv.geometry import Axis, adjoint_phases
from starconv.problem import DTYPES

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

FLOATS = tuple(dtype for dtype in DTYPES if dtype != "int64")

PROBLEMS = [
    "input_grad2d x=3x5x9x70 w=7x5x3x3 stride=2 padding=1 bias relu",
    "input_grad2d x=2x6x9x11 w=4x3x2x3 stride=3 dilation=2 padding=1 groups=2 bias channels_last",
    "input_grad3d x=2x6x9x11x5 w=4x3x1x1x2 stride=2x3x1 groups=2 bias",
    "input_grad1d x=2x6x90 w=4x6x5 stride=4 padding=3 dilation=2 dtype=float64",
    "input_grad2d x=5x16x40x40 w=16x1x3x3 stride=2 padding=1 groups=16",
    "input_grad2d x=1x3x9x9 w=4x3x1x1 stride=3 bias",
    "input_grad2d x=3x5x8x70 w=7x5x2x2 stride=2 bias relu",
    "input_grad2d x=3x5x8x70 w=7x5x2x2 stride=2 channels_last bias",
    "input_grad2d x=3x8x8x12 w=8x1x2x2 stride=2 groups=8 bias",
    "input_grad2d x=3x8x8x12 w=4x2x2x4 stride=2 groups=4 bias",
    "input_grad2d x=2x3x32x32 w=20x3x8x8 stride=8",
    "weight_grad2d x=5x24x21x21 w=40x24x3x3 padding=1",
    "weight_grad2d x=3x40x9x10 w=20x40x5x5 stride=2 padding=1:0x0:3 channels_last",
    "weight_grad2d x=9x33x7x7 w=33x1x3x3 padding=1 groups=33",
    "weight_grad2d x=9x17x40x40 w=17x1x3x3 stride=2 padding=1 groups=17",
    "weight_grad2d x=4x6x30x41 w=9x2x3x2 padding=1 groups=3 border=reflect",
    "weight_grad3d x=2x3x5x6x17 w=20x3x2x3x3 stride=1x2x1 padding=1",
    "weight_grad1d x=2x6x900 w=4x6x5 stride=4 padding=3 dilation=2 dtype=float64",
    "weight_grad2d x=2x3x61x61 w=24x3x7x7 stride=2 padding=3",
]


@pytest.fixture
def threads() -> Iterator[None]:
    before = sc.get_num_threads()
    yield
    sc.set_num_threads(before)


def native(problem: Problem) -> str:
    return "adjoint" if problem.operation == "input_grad" else "weight_grad"


@pytest.mark.parametrize("text", PROBLEMS)
@pytest.mark.parametrize("last", [False, True])
def test_exact_on_whole_numbers_between_guard_pages(text: str, last: bool) -> None:
    row = adjoint if text.startswith("input_grad") else weight_grad
    exact_between_guard_pages(row, text, last)


@given(axes(transposed=True))
def test_phases_are_who_reads_what(axis: Axis) -> None:
    """Every position has, through its phase, exactly the (tap, output) pairs in which it takes part."""
    seen = []
    for phase in adjoint_phases(axis):
        positions = range(phase.first, axis.input, phase.step)
        assert phase.axis is None or phase.axis.output == len(positions)
        for number, position in enumerate(positions):
            met = []
            if phase.axis is not None:
                reads = phase.axis.reads(number)
                taps = reversed(phase.taps)
                inside = range(phase.axis.input)
                met = [(tap, read + phase.skipped) for tap, read in zip(taps, reads, strict=True) if read in inside]
            assert sorted(met) == sorted(axis.read_by(position))
            seen.append(position)
    assert sorted(seen) == list(range(axis.input))


@settings(max_examples=100)
@given(problems(operations=("input_grad", "weight_grad"), dtypes=FLOATS, borders=("constant",)), seeds)
def test_the_adjoint_identity_is_exact(problem: Problem, seed: int) -> None:
    """<X ⋆ K, G> = <X, dX(K, G)> = <K, dK(X, G)>, to the last bit on whole numbers."""
    problem = replace(problem, bias=False, activation="none")
    forward = problem.with_operation("conv")
    numbers = np.random.default_rng(seed)
    x, w, g = (
        numbers.integers(-4, 5, shape).astype(problem.dtype)
        for shape in (problem.input_shape, problem.weight_shape, problem.output_shape)
    )
    if not (x.size and g.size):
        return
    result = plan(problem, algorithm=native(problem))(*((g, w) if problem.operation == "input_grad" else (x, g)))
    other = x if problem.operation == "input_grad" else w
    if all(axis.after >= 0 for axis in problem.axes):
        output = reference.convolution(forward, x, w)
        assert np.sum(result * other, dtype=np.float64) == np.sum(output * g, dtype=np.float64)
    assert result.shape == problem.result_shape


@pytest.mark.parametrize("text", PROBLEMS)
def test_finite_differences(text: str) -> None:
    """The gradient of L = <X ⋆ K, G> is the change of L per change of one number; L is linear, so any step will do."""
    problem = replace(Problem.parse(text), dtype="float64", bias=False, activation="none")
    given = operands(problem, 3, integers=False)
    gradient = plan(problem, algorithm=native(problem))(given.first, given.second)
    generator = np.random.default_rng(0)
    forward = problem.with_operation("conv")
    wanted = problem.operation
    for _ in range(3):
        place = tuple(int(generator.integers(size)) for size in problem.result_shape)
        unit = np.zeros(problem.result_shape)
        unit[place] = 1.0
        x, w, g = (unit, given.second, given.first) if wanted == "input_grad" else (given.first, unit, given.second)
        change = np.sum(plan(forward)(x, w) * g)
        assert gradient[place] == pytest.approx(change, rel=1e-10, abs=1e-9)


@pytest.mark.parametrize("text", PROBLEMS)
@pytest.mark.usefixtures("threads")
def test_the_same_bits_for_any_number_of_threads(text: str) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 5, integers=False)
    results = []
    for count in (1, 2, 3, 5):
        sc.set_num_threads(count)
        results.append(plan(problem, algorithm=native(problem))(given.first, given.second, given.bias).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("text", PROBLEMS)
def test_whole_numbers(text: str) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 11)
    chosen = plan(problem, algorithm=native(problem))
    np.testing.assert_array_equal(chosen(given.first, given.second, given.bias), expected(problem, given))


def test_a_plan_shows_its_parts() -> None:
    text = plan("input_grad2d x=1x64x56x56 w=128x64x3x3 stride=2 padding=1", algorithm="adjoint").explain()
    assert text.count("part: conv2d") == 4
    assert "w=64x128x2x2" in text


def test_phases_that_read_alike_are_one_part() -> None:
    """A transposed convolution that doubles its picture (2x2, stride 2) is one 1x1 convolution, 4 times the kernels."""
    text = plan("input_grad2d x=1x64x56x56 w=128x64x2x2 stride=2", algorithm="adjoint").explain()
    assert text.count("part:") == 1
    assert "w=256x128x1x1" in text


def test_phases_without_taps_have_no_part() -> None:
    chosen = plan("input_grad2d x=1x64x56x56 w=128x64x1x1 stride=2", algorithm="adjoint")
    assert chosen.explain().count("part:") == 1


@pytest.mark.parametrize("border", ["edge", "reflect", "symmetric", "wrap"])
def test_input_gradients_of_repeated_pixels_are_refused(border: str) -> None:
    with pytest.raises(ValueError, match=f"border of {border}"):
        plan(f"input_grad2d x=1x2x5x5 w=2x2x3x3 padding=1 border={border}", algorithm="adjoint")


@pytest.mark.parametrize("pictures", [1, 4, 5])
def test_many_pictures_take_turns(pictures: int) -> None:
    """More phases than fit into the last cache are computed in turns; the last one overlaps the one before."""
    problem = Problem.parse(f"input_grad2d x={pictures}x64x80x81 w=1x64x1x2 stride=2 dtype=float64")
    given = operands(problem, 1)
    result = plan(problem, algorithm="adjoint")(given.first, given.second)
    answer = np.zeros(problem.result_shape)
    answer[:, :, ::2, 0:80:2] = given.first * given.second[0, :, :, :1]
    answer[:, :, ::2, 1:80:2] = given.first * given.second[0, :, :, 1:]
    np.testing.assert_array_equal(result, answer)


@pytest.mark.parametrize("text", [text for text in PROBLEMS if text.startswith("weight_grad")])
def test_units_and_shares_cover_everything(text: str) -> None:
    target = host_target()
    assert target is not None
    problem = Problem.parse(text)
    cut = Cut.of(problem, target)
    channels = problem.in_channels // problem.groups
    assert (cut.shares - 1) * cut.share_channels < channels <= cut.shares * cut.share_channels
    assert cut.rows * cut.bands >= problem.axes[-2 if problem.spatial > 1 else 0].output or problem.spatial == 1
