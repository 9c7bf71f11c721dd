"""Planes read where they lie: what the definition says, in bands too, next to guard pages, on any number of threads."""

import numpy as np
import pytest
from row_checks import any_layout_of_the_result, exact_between_guard_pages, same_bits_for_any_number_of_threads

from starconv import Problem
from starconv.engine.algorithms import planes
from starconv.engine.emit.target import host_target

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

PICTURES = [
    "conv2d x=1x1x233x197 w=1x1x3x3 padding=1",
    "conv2d x=1x2x301x160 w=2x1x5x3 padding=2x1 groups=2 bias relu",
    "conv2d x=1x1x401x403 w=1x1x7x7 stride=2 padding=3",
]
"""So few planes that they are cut into bands."""
PROBLEMS = [
    *PICTURES,
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


@pytest.mark.parametrize("text", PICTURES)
def test_a_single_picture_is_work_for_every_thread(text: str) -> None:
    problem, target = Problem.parse(text), host_target()
    if target is None or planes.refuses(problem, target) is not None:
        pytest.skip("not on this target")
    given = [np.empty(shape, problem.dtype) for shape in (problem.input_shape, problem.output_shape)]
    binding = planes.build(problem, target).bind(*given, 2)
    assert binding.tasks >= 2
    assert binding.threads == 2
