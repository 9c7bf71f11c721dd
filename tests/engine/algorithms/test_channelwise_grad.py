"""Weight gradients of depthwise layers: what the definition says, in any layout, next to guard pages."""

import numpy as np
import pytest
from row_checks import (
    any_layout_of_the_result,
    exact_between_guard_pages,
    same_bits_for_any_number_of_threads,
    unread_columns_play_no_part,
)

from starconv import Problem, plan
from starconv.engine.algorithms import channelwise_grad
from starconv.engine.emit.target import Target, host_target

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

PROBLEMS = [
    "weight_grad2d x=3x32x14x14 w=32x1x3x3 padding=1 groups=32",
    "weight_grad2d x=2x37x55x43 w=37x1x5x3 stride=2 padding=1 groups=37",
    "weight_grad2d x=5x48x7x7 w=48x1x3x3 padding=1 groups=48",
    "weight_grad2d x=2x24x9x8 w=24x1x7x7 padding=3 groups=24",
    "weight_grad2d x=1x16x70x130 w=16x1x3x3 stride=2 padding=1:0x0:1 groups=16",
    "weight_grad2d x=2x17x12x11 w=17x1x3x2 stride=3x1 dilation=2x3 padding=2 groups=17 dtype=float64",
    "weight_grad2d x=3x16x3x3 w=16x1x3x3 groups=16",
    "weight_grad1d x=2x24x51 w=24x1x6 stride=4 padding=3 groups=24",
]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("text", PROBLEMS)
def test_exact_on_whole_numbers_between_guard_pages(text: str, last: bool) -> None:
    exact_between_guard_pages(channelwise_grad, text, last)


@pytest.mark.parametrize("text", PROBLEMS)
def test_any_layout_of_the_result(text: str) -> None:
    any_layout_of_the_result(channelwise_grad, text)


@pytest.mark.parametrize("text", PROBLEMS)
def test_the_same_bits_for_any_number_of_threads(text: str) -> None:
    same_bits_for_any_number_of_threads(channelwise_grad, text)


def test_columns_that_no_window_reaches_play_no_part() -> None:
    text = "weight_grad2d x=1x16x10x10 w=16x1x3x3 stride=2 groups=16"
    unread_columns_play_no_part(channelwise_grad, text, 16)


def test_what_is_kept_for_all_calls_does_not_know_one_call_from_another() -> None:
    text = "weight_grad2d x=1x16x10x10 w=16x1x3x3 groups=16"
    problem, target = Problem.parse(text), host_target()
    assert target is not None
    width = channelwise_grad.block_vectors(problem, target) * target.lanes(problem.itemsize)
    before = dict(channelwise_grad._gradient_frame(problem, width))
    plan(text, algorithm="channelwise_grad")(*(np.ones(shape, "float32") for shape in problem.operand_shapes))
    assert channelwise_grad._gradient_frame(problem, width) == before


def test_refusals() -> None:
    target: Target | None = host_target()

    def why(text: str) -> str:
        return channelwise_grad.refuses(Problem.parse(text), target) or ""

    assert "one kernel per channel" in why("weight_grad2d x=1x16x9x9 w=32x1x3x3 groups=16")
    assert "13 columns" in why("weight_grad2d x=1x16x20x20 w=16x1x3x13 groups=16")
    assert "computes weight gradients" in why("conv2d x=1x16x9x9 w=16x1x3x3 groups=16")
    assert channelwise_grad.refuses(Problem.parse("weight_grad2d x=1x16x9x9 w=16x1x3x3 groups=16"), None) is not None
