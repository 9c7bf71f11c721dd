"""Weight gradients of 1x1 kernels, channels last: what the definition says, next to guard pages."""

import re

import pytest
from row_checks import (
    any_layout_of_the_result,
    exact_between_guard_pages,
    reads_channels_last_in_place,
    same_bits_for_any_number_of_threads,
    unread_columns_play_no_part,
)

from starconv import Problem
from starconv.engine.algorithms import product_grad
from starconv.engine.algorithms.product_grad import MOST_SUMS_BYTES, Cut
from starconv.engine.emit.target import host_target, named_target
from starconv.engine.runtime import jit

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

PROBLEMS = [
    "weight_grad2d x=3x64x14x14 w=96x64x1x1 channels_last",
    "weight_grad2d x=2x37x9x13 w=41x37x1x1 stride=2x3 channels_last",
    "weight_grad2d x=5x16x3x3 w=5x16x1x1 channels_last",
    "weight_grad2d x=1x130x8x8 w=1x130x1x1 channels_last",
    "weight_grad2d x=2x40x30x31 w=13x40x1x1 stride=2 dilation=3 channels_last",
    "weight_grad2d x=4x256x7x7 w=200x256x1x1 channels_last",
    "weight_grad2d x=2x23x10x10 w=7x23x1x1 dtype=float64 channels_last",
    "weight_grad2d x=1x64x3x400 w=8x64x1x1 stride=1x2 channels_last",
    "weight_grad1d x=9x24x51 w=18x24x1 stride=4 channels_last",
    "weight_grad1d x=2x32x700 w=9x32x1 channels_last",
    "weight_grad3d x=2x17x4x5x6 w=19x17x1x1x1 stride=1x2x1 channels_last",
]


@pytest.mark.parametrize("text", PROBLEMS)
def test_exact_on_whole_numbers_between_guard_pages(text: str) -> None:
    exact_between_guard_pages(product_grad, text, last=True)


@pytest.mark.parametrize("text", PROBLEMS)
def test_reads_both_operands_where_they_lie_and_nothing_beside(text: str) -> None:
    reads_channels_last_in_place(product_grad, text)


@pytest.mark.parametrize("text", PROBLEMS)
def test_any_layout_of_the_result(text: str) -> None:
    any_layout_of_the_result(product_grad, text)


@pytest.mark.parametrize("text", PROBLEMS)
def test_the_same_bits_for_any_number_of_threads(text: str) -> None:
    same_bits_for_any_number_of_threads(product_grad, text)


def test_columns_that_no_window_reaches_play_no_part() -> None:
    unread_columns_play_no_part(product_grad, "weight_grad2d x=1x16x10x10 w=9x16x1x1 stride=2 channels_last", 25)


@pytest.mark.parametrize("name", ["avx512", "avx2", "sse", "neon"])
def test_all_vectors_of_a_tile_stay_in_registers(name: str) -> None:
    target = named_target(name)
    cut = Cut.of(Problem.parse("weight_grad2d x=1x256x14x14 w=256x256x1x1 channels_last"), target)
    assert cut.vectors * cut.kernels == (24 if target.registers == 32 else 12)
    code = jit.assembly(
        str(product_grad._module(target, "float", cut.vectors, cut.kernels)), target.triple, target.features
    )
    assert not re.search(r"mov[au]p[sd]\t%[xyz]mm\d+, -?\d*\(%rsp\)", code)


@pytest.mark.parametrize(
    "shape", [(3, 64, 14, 96), (1, 2048, 7, 512), (64, 16, 56, 16), (1, 16, 1400, 5), (2, 33, 40, 1000)]
)
def test_every_unit_and_every_kernel_has_a_task(shape: tuple[int, int, int, int]) -> None:
    batch, channels, size, kernels = shape
    problem = Problem.parse(
        f"weight_grad2d x={batch}x{channels}x{size}x{size} w={kernels}x{channels}x1x1 channels_last"
    )
    target = host_target()
    assert target is not None
    cut = Cut.of(problem, target)
    assert cut.bands * cut.band_rows >= size > (cut.bands - 1) * cut.band_rows
    assert cut.parts * cut.part_columns >= size > (cut.parts - 1) * cut.part_columns
    assert cut.parts == 1 or cut.band_rows == 1
    assert cut.shares * cut.per_share * cut.kernels >= kernels > (cut.shares - 1) * cut.per_share * cut.kernels
    assert cut.partials <= cut.units == batch * cut.bands * cut.parts
    assert product_grad.workspace(problem, target) <= MOST_SUMS_BYTES


def test_refusals() -> None:
    target = host_target()

    def why(text: str) -> str:
        return product_grad.refuses(Problem.parse(text), target) or ""

    assert "one group" in why("weight_grad2d x=1x32x9x9 w=32x16x1x1 groups=2 channels_last")
    assert "one tap" in why("weight_grad2d x=1x16x9x9 w=16x16x3x3 channels_last")
    assert "no padding" in why("weight_grad2d x=1x16x9x9 w=16x16x1x1 padding=1 channels_last")
    assert "side by side" in why("weight_grad2d x=1x16x9x9 w=16x16x1x1")
    assert "fill a vector" in why("weight_grad2d x=1x1x9x9 w=16x1x1x1 channels_last")
    assert "workspace" in why("weight_grad2d x=1x4096x2x2 w=4096x4096x1x1 channels_last")
    assert "computes weight gradients" in why("conv2d x=1x16x9x9 w=32x16x1x1 channels_last")
    assert product_grad.refuses(Problem.parse(PROBLEMS[0]), None) is not None
