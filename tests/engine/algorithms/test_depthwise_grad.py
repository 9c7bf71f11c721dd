"""Weight gradients of depthwise layers, channels last: what the definition says, next to guard pages."""

import pytest
from row_checks import (
    any_layout_of_the_result,
    exact_between_guard_pages,
    reads_channels_last_in_place,
    same_bits_for_any_number_of_threads,
    unread_columns_play_no_part,
)

from starconv import Problem
from starconv.engine.algorithms import depthwise_grad
from starconv.engine.algorithms.depthwise_grad import Form, _inner_tiles
from starconv.engine.emit.target import host_target, named_target
from starconv.engine.lattice import lattices

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

PROBLEMS = [
    "weight_grad2d x=3x32x14x14 w=32x1x3x3 padding=1 groups=32 channels_last",
    "weight_grad2d x=2x37x55x43 w=37x1x5x3 stride=2 padding=1 groups=37 channels_last",
    "weight_grad2d x=5x48x7x7 w=48x1x3x3 padding=1 groups=48 channels_last",
    "weight_grad2d x=2x24x9x8 w=24x1x7x7 padding=3 groups=24 channels_last",
    "weight_grad2d x=1x16x70x130 w=16x1x3x3 stride=2 padding=1:0x0:1 groups=16 channels_last",
    "weight_grad2d x=1x160x33x65 w=160x1x3x3 padding=1 groups=160 channels_last",
    "weight_grad2d x=2x17x12x11 w=17x1x3x2 stride=3x1 dilation=2x3 padding=2 groups=17 dtype=float64 channels_last",
    "weight_grad2d x=3x16x3x3 w=16x1x3x3 groups=16 channels_last",
    "weight_grad2d x=1x16x5x4 w=16x1x3x3 padding=9 groups=16 channels_last",
    "weight_grad1d x=2x24x51 w=24x1x6 stride=4 padding=3 groups=24 channels_last",
]


@pytest.mark.parametrize("text", PROBLEMS)
def test_exact_on_whole_numbers_between_guard_pages(text: str) -> None:
    exact_between_guard_pages(depthwise_grad, text, last=True)


@pytest.mark.parametrize("text", PROBLEMS)
def test_reads_both_operands_where_they_lie_and_nothing_beside(text: str) -> None:
    reads_channels_last_in_place(depthwise_grad, text)


@pytest.mark.parametrize("text", PROBLEMS)
def test_any_layout_of_the_result(text: str) -> None:
    any_layout_of_the_result(depthwise_grad, text)


@pytest.mark.parametrize("text", PROBLEMS)
def test_the_same_bits_for_any_number_of_threads(text: str) -> None:
    same_bits_for_any_number_of_threads(depthwise_grad, text)


def test_columns_that_no_window_reaches_play_no_part() -> None:
    text = "weight_grad2d x=1x16x10x10 w=16x1x3x3 stride=2 groups=16 channels_last"
    unread_columns_play_no_part(depthwise_grad, text, 16)


@pytest.mark.parametrize("text", PROBLEMS)
def test_tiles_without_padding_are_all_that_there_are(text: str) -> None:
    problem = Problem.parse(text)
    columns = lattices(problem)[2]
    first, last = columns.inside()
    for name in ("avx512", "avx2", "sse"):
        form = Form.of(problem, named_target(name))
        inner, outer = _inner_tiles(form, columns)
        whole = columns.outputs // form.pixels * form.pixels
        for tile in range(0, whole, form.pixels):
            reads = [tile * form.stride + offset for offset in form.readers(form.pixels)]
            assert (inner <= tile < outer) == (first <= reads[0] and reads[-1] < last)


def test_refusals() -> None:
    target = host_target()

    def why(text: str) -> str:
        return depthwise_grad.refuses(Problem.parse(text), target) or ""

    assert "one kernel per channel" in why("weight_grad2d x=1x16x9x9 w=32x1x3x3 groups=16 channels_last")
    assert "13 columns" in why("weight_grad2d x=1x16x20x20 w=16x1x3x13 groups=16 channels_last")
    assert "side by side" in why("weight_grad2d x=1x16x9x9 w=16x1x3x3 groups=16")
    assert "computes weight gradients" in why("conv2d x=1x16x9x9 w=16x1x3x3 groups=16 channels_last")
    assert depthwise_grad.refuses(Problem.parse(PROBLEMS[0]), None) is not None
