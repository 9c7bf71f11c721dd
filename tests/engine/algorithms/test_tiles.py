"""Tiles on their way to planes: collected, turned round, and written in whole lines; what is left over one by one."""

import pytest
from row_checks import any_layout_of_the_result, exact_between_guard_pages, same_bits_for_any_number_of_threads

from starconv.engine.algorithms import direct, product
from starconv.engine.algorithms.tiles import collected_pixels
from starconv.engine.emit.target import host_target

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

LAYERS = [
    (direct, "conv2d x=1x5x3x5 w=7x5x3x3"),  # fewer pixels than a vector has lanes, fewer kernels than a panel
    (direct, "conv2d x=2x9x7x7 w=70x9x3x3 padding=1 bias relu"),  # 49 pixels: one group and one more
    (direct, "conv2d x=1x9x13x17 w=96x9x3x3 padding=1 residual relu"),
    (direct, "conv2d x=1x6x29x31 w=24x6x3x3 padding=1 residual bias"),
    (direct, "conv2d x=1x300x9x9 w=33x300x3x3 padding=1 bias"),  # channels in chunks
    (direct, "conv2d x=2x8x11x10 w=40x4x3x3 groups=2 padding=1 residual dtype=float64"),
    (product, "conv2d x=1x17x7x7 w=130x17x1x1 bias"),
    (product, "conv2d x=2x40x13x11 w=50x40x1x1 stride=2 residual relu"),
    (product, "conv2d x=1x33x23x29 w=64x33x1x1 residual"),
    (product, "conv2d x=1x700x8x9 w=17x700x1x1 bias dtype=float64"),
]


@pytest.mark.parametrize(("row", "text"), LAYERS, ids=[text for _, text in LAYERS])
@pytest.mark.parametrize("last", [False, True])
def test_exact_on_whole_numbers_between_guard_pages(row, text: str, last: bool) -> None:
    exact_between_guard_pages(row, text, last)


@pytest.mark.parametrize(("row", "text"), LAYERS, ids=[text for _, text in LAYERS])
def test_any_layout_of_the_result(row, text: str) -> None:
    any_layout_of_the_result(row, text)


@pytest.mark.parametrize(("row", "text"), LAYERS, ids=[text for _, text in LAYERS])
def test_the_same_bits_for_any_number_of_threads(row, text: str) -> None:
    same_bits_for_any_number_of_threads(row, text)


@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
@pytest.mark.parametrize("tile", range(3, 9))
def test_a_group_is_whole_tiles_and_whole_vectors(tile: int, lanes: int) -> None:
    pixels = collected_pixels(tile, lanes)
    assert pixels % tile == pixels % lanes == 0
    assert 24 < pixels <= 112
