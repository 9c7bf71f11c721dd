"""Weight gradients in pieces: every kernel in exactly one of them, and the definition's values."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import expected, operands, problems

from starconv import Problem
from starconv.engine.algorithms import weight_grad
from starconv.engine.algorithms.weight_grad_pieces import InPieces, pieces
from starconv.engine.emit.target import host_target

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")


@given(problem=problems(operations=["weight_grad"], dtypes=["float32", "float64"]), wanted=st.integers(2, 9))
def test_pieces_give_the_definition(problem: Problem, wanted: int) -> None:
    target = host_target()
    assume(weight_grad.refuses(problem, target) is None)
    cut = pieces(problem, wanted, 1)
    kernels = [kernel for _, part, _ in cut for kernel in range(problem.out_channels)[part]]
    assert kernels == list(range(problem.out_channels))
    numbers = operands(problem, 1)
    solution = InPieces(cut, lambda part: weight_grad.WeightGradient(part, target))
    out = np.empty(problem.result_shape, problem.dtype)
    solution.run(numbers.first, solution.prepare(numbers.second, None, 0.0), out)
    np.testing.assert_array_equal(out, expected(problem, numbers))


@pytest.mark.parametrize(
    "text",
    [
        "weight_grad2d x=1x1024x8x8 w=2048x1024x3x3 padding=1",
        "weight_grad2d x=1x4096x4x4 w=4096x2048x3x3 padding=1 groups=2",
    ],
)
def test_large_gradients_keep_the_promise_about_memory(text: str) -> None:
    problem, target = Problem.parse(text), host_target()
    assert isinstance(weight_grad.build(problem, target), InPieces)
    assert weight_grad.workspace(problem, target) <= 32 << 20
