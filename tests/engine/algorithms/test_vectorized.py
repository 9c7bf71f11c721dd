"""The NumPy path in parts: some pictures at a time, and bands of a picture, give what the whole gives."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import expected, operands, problems

from starconv import Problem
from starconv.engine.algorithms import vectorized
from starconv.engine.planner import make_plan


@given(problem=problems(), bound=st.sampled_from([1, 500, 5000]))
def test_parts_of_any_size_give_the_definition(problem: Problem, bound: int) -> None:
    numbers = operands(problem, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectorized, "WORKSPACE_TARGET", bound)
        solution = vectorized.build(problem, None)
        out = np.empty(problem.result_shape, problem.dtype)
        # Called directly: plans are kept, and this bound is for this test only.
        solution.run(numbers.first, solution.prepare(numbers.second, numbers.bias, numbers.fill), out)
    np.testing.assert_array_equal(out, expected(problem, numbers))


@pytest.mark.parametrize(
    "text",
    [
        "conv2d x=1x1x3000x2000 w=1x1x3x3 padding=1 border=reflect",
        "conv2d x=1x4x1000x1000 w=4x4x3x3 stride=2 padding=1 dtype=int64",
        "conv1d x=1x1x3000000 w=1x1x5 padding=2 dtype=float64",
        "input_grad2d x=1x4x1000x1000 w=4x4x3x3 padding=1",
        "weight_grad2d x=1x4x1000x1000 w=4x4x3x3 padding=1",
    ],
)
def test_one_large_picture_stays_within_the_workspace(text: str) -> None:
    problem = Problem.parse(text)
    plan = make_plan(problem, algorithm="numpy")
    numbers = operands(problem, 1)
    out = np.empty(problem.result_shape, problem.dtype)
    stated = next(row.workspace for row in plan.candidates if row.name == "numpy")
    assert stated <= 20 << 20
    tracemalloc.start()
    try:
        plan(numbers.first, numbers.second, numbers.bias, out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= stated + (1 << 20), f"{peak:,} bytes, {stated:,} stated"
