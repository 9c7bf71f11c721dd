"""Planes read where they lie: what the definition says, in bands too, next to guard pages, on any number of threads."""

import numpy as np
import pytest
from row_checks import (
    any_layout_of_the_result,
    exact_between_guard_pages,
    no_more_memory_than_stated,
    same_bits_for_any_number_of_threads,
)
from strategies import expected, operands

from starconv import Problem, plan
from starconv.engine.algorithms import planes
from starconv.engine.emit.target import host_target
from starconv.geometry import Axis

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

PICTURES = [
    "conv2d x=1x1x233x197 w=1x1x3x3 padding=1",
    "conv2d x=1x2x301x160 w=2x1x5x3 padding=2x1 groups=2 bias relu",
    "conv2d x=1x1x401x403 w=1x1x7x7 stride=2 padding=3",
]
"""So few planes that they are cut into bands."""
STREAMS = [
    "conv2d x=1x1x97x130 w=1x1x7x7 padding=3 border=reflect",
    "conv2d x=2x2x64x243 w=2x1x5x2 dilation=1x2 padding=2 groups=2 dtype=float64 border=symmetric bias relu",
    "conv2d x=1x1x50x300 w=1x1x3x3 padding=20 border=wrap",
    "conv2d x=1x1x35x300 w=1x1x2x3 padding=1 border=edge",
    "conv2d x=1x3x61x203 w=3x1x5x7 padding=0:4x9:0 groups=3",
    "conv2d x=2x1x28x28 w=8x1x5x5 relu",
    "conv2d x=1x2x40x96 w=6x1x4x3 padding=1 groups=2 bias",
]
"""Planes so wide that most of their columns have all taps inside the rows, with every border, and several kernels."""
PROBLEMS = [
    *PICTURES,
    *STREAMS,
    "conv2d x=3x19x14x13 w=19x1x3x3 padding=1 groups=19",
    "conv2d x=2x5x9x40 w=5x1x3x4 stride=1x2 padding=2:0x1 groups=5 dtype=float64",
    "conv1d x=2x3x70 w=3x1x5 dilation=3 padding=6 groups=3",
]


@pytest.mark.parametrize("text", PROBLEMS)
def test_exact_on_whole_numbers_between_guard_pages(text: str) -> None:
    exact_between_guard_pages(planes, text, last=False)


@pytest.mark.parametrize("text", PROBLEMS)
def test_any_layout_of_the_result(text: str) -> None:
    any_layout_of_the_result(planes, text)


@pytest.mark.parametrize("text", PROBLEMS)
def test_the_same_bits_for_any_number_of_threads(text: str) -> None:
    same_bits_for_any_number_of_threads(planes, text)


@pytest.mark.parametrize("cores", [2, 4, 6])
@pytest.mark.parametrize("text", [*STREAMS, "conv2d x=2x1x184x200 w=1x1x3x3 padding=1"])
def test_no_more_memory_than_stated(text: str, cores: int) -> None:
    no_more_memory_than_stated(planes, text, cores)


@pytest.mark.parametrize("text", STREAMS)
def test_streams_are_what_is_tested(text: str) -> None:
    problem, target = Problem.parse(text), host_target()
    if target is None or planes.refuses(problem, target) is not None:
        pytest.skip("not on this target")
    narrow = target.halved() if target.passes == 2 else target
    given = [np.empty(shape, problem.dtype) for shape in (problem.input_shape, problem.output_shape)]
    assert max(planes.build(problem, wide).bind(*given, 2).scratch for wide in (target, narrow)) > 0


@pytest.mark.parametrize("rows", range(9, 61, 3))
@pytest.mark.parametrize("kernel", [2, 3, 5, 7])
def test_bands_of_streams_are_all_rows(rows: int, kernel: int) -> None:
    problem, target = Problem.parse(f"conv2d x=1x1x{rows}x200 w=1x1x{kernel}x3 padding=1"), host_target()
    if target is None or planes.refuses(problem, target) is not None:
        pytest.skip("not on this target")
    given = [np.empty(shape, problem.dtype) for shape in (problem.input_shape, problem.output_shape)]
    binding = planes.build(problem, target).bind(*given, 2)
    bands, band_rows, longer = (binding.block[planes.FIELDS.index[name]] for name in ("bands", "band_rows", "longer"))
    if binding.scratch:
        assert bands * band_rows + longer * kernel == problem.output_shape[2]
        assert band_rows % kernel == kernel - 1
        assert longer < bands


@pytest.mark.parametrize("border", ["constant", "reflect"])
@pytest.mark.parametrize("cropped", [1, 5, 17])
def test_no_more_columns_are_written_than_there_are(border: str, cropped: int) -> None:
    axes = Axis(40, 3, before=1, after=-cropped), Axis(300, 5, before=2, after=-cropped)
    problem, target = Problem("conv", 1, 1, 2, axes, border=border), host_target()
    if target is None or planes.refuses(problem, target) is not None:
        pytest.skip("not on this target")
    given = operands(problem, 0)
    room = np.full((1, 2, 42, 340), np.nan, np.float32)
    out = room[:, :, : problem.output_shape[2], : problem.output_shape[3]]
    plan(problem, algorithm="planes", target=target)(given.first, given.second, out=out)
    np.testing.assert_array_equal(out, expected(problem, given))
    out[...] = np.nan
    assert np.isnan(room).all()


@pytest.mark.parametrize("text", PICTURES)
def test_a_single_picture_is_work_for_every_thread(text: str) -> None:
    problem, target = Problem.parse(text), host_target()
    if target is None or planes.refuses(problem, target) is not None:
        pytest.skip("not on this target")
    given = [np.empty(shape, problem.dtype) for shape in (problem.input_shape, problem.output_shape)]
    binding = planes.build(problem, target).bind(*given, 2)
    assert binding.tasks >= 2
    assert binding.threads == 2
