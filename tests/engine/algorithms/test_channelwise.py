"""Depthwise layers by vectors of channels: what the definition says, in any layout, next to guard pages."""

from dataclasses import replace

import numpy as np
import pytest
from row_checks import any_layout_of_the_result, exact_between_guard_pages, same_bits_for_any_number_of_threads
from strategies import expected, operands, targets

from starconv import Problem, plan
from starconv.engine.algorithms import channelwise
from starconv.engine.algorithms.frames import Frame
from starconv.engine.emit.target import Target, host_target
from starconv.geometry import Axis

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

PROBLEMS = [
    "conv2d x=2x32x14x14 w=32x1x3x3 padding=1 groups=32 bias relu6",
    "conv2d x=2x37x15x13 w=37x1x5x3 stride=2 padding=1:2x2:0 groups=37 bias relu",
    "conv2d x=3x40x7x7 w=40x1x3x3 padding=1 groups=40 residual",
    "conv2d x=3x16x2x2 w=16x1x3x3 padding=1 groups=16",
    "conv2d x=1x16x40x300 w=16x1x3x3 padding=1 groups=16",
    "conv2d x=2x16x9x9 w=16x1x1x1 stride=2 groups=16",
    "conv2d x=2x19x12x11 w=19x1x3x2 stride=3x1 dilation=2x3 padding=2 groups=19 dtype=float64",
    "conv2d x=2x20x5x4 w=20x1x11x9 padding=6x8 dilation=1x2 groups=20 bias",
    "conv2d x=1x16x3x20 w=16x1x9x3 stride=2x1 padding=9:7x1 groups=16",
    "conv1d x=2x24x50 w=24x1x7 padding=3 groups=24 bias",
    "input_grad2d x=2x32x14x14 w=32x1x3x3 padding=1 groups=32",
    "input_grad2d x=2x32x14x14 w=32x1x3x3 stride=2 padding=1 groups=32 bias relu",
    "input_grad2d x=2x48x28x27 w=48x1x3x3 stride=2 padding=1 groups=48 residual relu6",
    "input_grad2d x=2x20x15x14 w=20x1x3x5 stride=3 dilation=2 padding=1 groups=20 bias",
    "input_grad2d x=1x16x20x21 w=16x1x1x1 stride=3 groups=16 bias",
    "input_grad2d x=1x16x9x9 w=16x1x3x3 stride=1 padding=3 groups=16",
    "input_grad2d x=2x17x12x9 w=17x1x4x4 stride=2 padding=1 groups=17 dtype=float64",
    "input_grad2d x=2x20x12x6 w=20x1x5x4 stride=2 padding=0 dilation=2x1 groups=20",
    "input_grad1d x=2x24x51 w=24x1x6 stride=4 padding=3 groups=24",
]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("text", PROBLEMS)
def test_exact_on_whole_numbers_between_guard_pages(text: str, last: bool) -> None:
    exact_between_guard_pages(channelwise, text, last)


@pytest.mark.parametrize("text", PROBLEMS)
def test_any_layout_of_the_result(text: str) -> None:
    any_layout_of_the_result(channelwise, text)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("operation", ["conv2d", "input_grad2d"])
@pytest.mark.parametrize("channels", [8, 12, 20, 24, 40, 48])
def test_a_residual_in_the_place_of_the_result_is_added_once(channels: int, operation: str, last: bool) -> None:
    problem = Problem.parse(
        f"{operation} x=2x{channels}x9x9 w={channels}x1x3x3 padding=1 groups={channels} residual relu6"
    )
    problem = replace(problem, channels_last=last)
    given = operands(problem, 7)
    for target in targets():
        if target is None or channelwise.refuses(problem, target) is not None:
            continue
        out = np.moveaxis(np.moveaxis(given.residual, 1, -1).copy(), -1, 1) if last else given.residual.copy()
        plan(problem, algorithm="channelwise", target=target)(
            given.first, given.second, given.bias, residual=out, out=out
        )
        np.testing.assert_array_equal(out, expected(problem, given))


@pytest.mark.parametrize("text", ["conv2d x=1x16x4x5 w=16x1x9x7 padding=4x3 groups=16", PROBLEMS[0]])
@pytest.mark.parametrize("number", [np.inf, np.nan])
def test_what_is_not_finite_in_the_weights_meets_the_padding_too(number: float, text: str) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 3)
    given.second[3, 0, 0, 0] = number
    found, other = (
        plan(problem, algorithm=name)(given.first, given.second, given.bias) for name in ("channelwise", "direct")
    )
    np.testing.assert_array_equal(found, other)
    assert np.isnan(found[0, 3, 0]).all() == np.isnan(other[0, 3, 0]).all()


@pytest.mark.parametrize("fill", [0.0, -0.0, 3.0])
def test_padding_of_any_value_is_multiplied_or_adds_nothing(fill: float) -> None:
    problem = Problem.parse("conv2d x=1x16x4x5 w=16x1x9x7 padding=4x3 groups=16")
    given = replace(operands(problem, 3), fill=fill)
    found = plan(problem, algorithm="channelwise")(given.first, given.second, fill=fill)
    np.testing.assert_array_equal(found, expected(problem, given))


@pytest.mark.parametrize("text", PROBLEMS)
def test_the_same_bits_for_any_number_of_threads(text: str) -> None:
    same_bits_for_any_number_of_threads(channelwise, text)


@pytest.mark.parametrize("text", [text for text in PROBLEMS if text.startswith("conv")])
def test_the_same_bits_as_stencil(text: str) -> None:
    problem = Problem.parse(text)
    if channelwise.refuses(problem, host_target()) is not None:
        pytest.skip("not on this target")
    given = operands(problem, 13, integers=False)
    both = [
        plan(problem, algorithm=name)(given.first, given.second, given.bias, residual=given.residual)
        for name in ("channelwise", "stencil")
    ]
    assert both[0].tobytes() == both[1].tobytes()


def test_nan_stays_where_it_is_read() -> None:
    """Phases take no taps but their own: an infinite or missing gradient reaches only the pixels that fed it."""
    problem = Problem.parse("input_grad2d x=1x16x13x13 w=16x1x3x3 stride=2 padding=1 groups=16")
    g = np.ones(problem.output_shape, np.float32)
    g[0, :, 3, 3] = np.nan
    result = plan(problem, algorithm="channelwise")(g, np.ones(problem.weight_shape, np.float32))
    reached = np.zeros((13, 13), bool)
    reached[5:8, 5:8] = True
    assert all((np.isnan(plane) == reached).all() for plane in result[0])


def test_frame_of_a_gradient() -> None:
    frame = Frame.of(Axis(6, kernel=3, stride=2, before=1, after=1), "input_grad")
    assert [(phase.first, phase.count, phase.taps) for phase in frame.phases] == [
        (0, 3, ((0, 1),)),
        (1, 3, ((0, 2), (1, 0))),
    ]
    assert (frame.before, frame.size, frame.stride, frame.spread) == (0, 4, 1, 2)


def test_refusals() -> None:
    target: Target | None = host_target()

    def why(text: str) -> str:
        return channelwise.refuses(Problem.parse(text), target) or ""

    assert "one kernel per channel" in why("conv2d x=1x16x9x9 w=32x1x3x3 groups=16")
    assert "do not fill a vector" in why("conv2d x=1x1x9x9 w=1x1x3x3")
    assert "border of reflect" in why("conv2d x=1x16x9x9 w=16x1x3x3 groups=16 padding=1 border=reflect")
    assert "input gradients" in why("weight_grad2d x=1x16x9x9 w=16x1x3x3 groups=16")
    assert channelwise.refuses(Problem.parse("conv2d x=1x16x9x9 w=16x1x3x3 groups=16"), None) is not None
