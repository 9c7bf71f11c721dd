"""Weights that a single call reads where they lie give the same bits as packed ones."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import expected, operands, problems

from starconv import Problem
from starconv.engine.algorithms import direct
from starconv.engine.emit.target import host_target

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")


@given(
    problem=problems(operations=["conv"], dtypes=["float32", "float64"]), integers=st.booleans(), turned=st.booleans()
)
def test_weights_are_read_in_place_to_the_same_result(problem: Problem, integers: bool, turned: bool) -> None:
    target = host_target()
    assume(direct.refuses(problem, target) is None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "_reads_weights_in_place", lambda *_: True)
        solution = direct.build(problem, target)
    numbers = operands(problem, 1, integers=integers)
    weights = numbers.second
    if turned:  # as those of an input gradient are: axes exchanged and reversed
        weights = np.flip(np.flip(weights.swapaxes(0, 1)).copy()).swapaxes(0, 1)
    results = []
    for once in (True, False):
        prepared = solution.prepare(weights, numbers.bias, numbers.fill, once)
        assert (prepared[0] is weights) == once
        results.append(np.empty(problem.result_shape, problem.dtype))
        solution.run(numbers.first, prepared, results[-1], numbers.residual)
    np.testing.assert_array_equal(*results)
    if integers:
        np.testing.assert_array_equal(results[0], expected(problem, numbers))


def test_large_weights_are_not_copied_for_a_call() -> None:
    problem = Problem.parse("conv2d x=1x512x7x7 w=512x512x3x3 padding=1")
    target = host_target()
    solution = direct.build(problem, target)
    assert isinstance(solution, direct.Unpacked)
    assert direct.workspace(problem, target) < 4 * 512 * 512 * 9
