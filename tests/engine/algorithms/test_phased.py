"""Input gradients with a stride: what the definition says, in any layout, next to guard pages."""

import numpy as np
import pytest
from row_checks import any_layout_of_the_result, exact_between_guard_pages, same_bits_for_any_number_of_threads

import starconv as sc
from starconv import Problem, plan
from starconv.engine.algorithms import phased
from starconv.engine.emit.target import Target, host_target

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

PROBLEMS = [
    "input_grad2d x=2x20x28x27 w=24x20x3x3 stride=2 padding=1 bias relu",
    "input_grad2d x=1x40x14x14 w=300x40x3x3 stride=2 padding=1 residual relu6",
    "input_grad2d x=2x16x12x13 w=12x16x1x1 stride=2 bias",
    "input_grad2d x=1x9x16x16 w=8x9x4x4 stride=2 padding=1",
    "input_grad2d x=1x12x16x20 w=8x6x2x2 stride=2 groups=2 bias",
    "input_grad2d x=2x3x31x33 w=16x3x7x7 stride=2 padding=3",
    "input_grad2d x=1x10x15x14 w=24x5x3x5 stride=3 dilation=2 padding=1 groups=2 dtype=float64",
    "input_grad2d x=1x8x20x21 w=5x8x3x2 stride=1x3 padding=2",
    "input_grad2d x=1x17x90x40 w=33x17x3x3 stride=2 padding=0:1x1:0",
    "input_grad1d x=2x24x51 w=20x24x6 stride=4 padding=3 bias",
]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("text", PROBLEMS)
def test_exact_on_whole_numbers_between_guard_pages(text: str, last: bool) -> None:
    exact_between_guard_pages(phased, text, last)


@pytest.mark.parametrize("text", PROBLEMS)
def test_any_layout_of_the_result(text: str) -> None:
    any_layout_of_the_result(phased, text)


@pytest.mark.parametrize("text", PROBLEMS)
def test_the_same_bits_for_any_number_of_threads(text: str) -> None:
    same_bits_for_any_number_of_threads(phased, text)


def test_nan_stays_where_it_is_read() -> None:
    """Phases take no taps but their own: an infinite or missing gradient reaches only the pixels that fed it."""
    problem = Problem.parse("input_grad2d x=1x16x13x13 w=5x16x3x3 stride=2 padding=1")
    g = np.ones(problem.output_shape, np.float32)
    g[0, :, 3, 3] = np.nan
    result = plan(problem, algorithm="phased")(g, np.ones(problem.weight_shape, np.float32))
    reached = np.zeros((13, 13), bool)
    reached[5:8, 5:8] = True
    assert all((np.isnan(plane) == reached).all() for plane in result[0])


def test_refusals() -> None:
    target: Target | None = host_target()

    def why(text: str) -> str:
        return phased.refuses(Problem.parse(text), target) or ""

    assert "several phases" in why("input_grad2d x=1x16x9x9 w=32x16x3x3 padding=1")
    assert "16 that are written out" in why("input_grad2d x=1x16x19x19 w=32x16x9x9 stride=2")
    assert "spatial axes" in why("input_grad3d x=1x2x9x9x9 w=3x2x3x3x3 stride=2")
    assert "computes input gradients" in why("conv2d x=1x16x9x9 w=16x16x3x3 stride=2")
    assert phased.refuses(Problem.parse("input_grad2d x=1x16x9x9 w=16x16x3x3 stride=2"), None) is not None


@pytest.mark.parametrize("channels", [1, 16])
def test_a_stride_with_a_million_phases_is_not_gone_through_phase_by_phase(channels: int) -> None:
    x, w = np.ones((1, channels, 2), np.float32), np.ones((channels, 1, 3), np.float32)
    found = sc.conv_transpose1d(x, w, stride=1 << 20, groups=channels)
    assert found.shape == (1, channels, (1 << 20) + 3)
    assert np.flatnonzero(found[0, -1]).tolist() == [0, 1, 2, 1 << 20, (1 << 20) + 1, (1 << 20) + 2]
    few = plan(f"input_grad1d x=1x{channels}x{(1 << 20) + 3} w={channels}x1x3 stride={1 << 20} groups={channels}")
    refusals = {row.name: row.refusal for row in few.candidates}
    assert all("phases" in str(refusals[name]) for name in ("phased", "adjoint"))
