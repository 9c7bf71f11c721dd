"""Weights that a single call reads where they lie give the same bits as packed ones."""

from types import ModuleType

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import expected, operands, problems

from starconv import Problem
from starconv.engine.algorithms import direct, product, unpacked
from starconv.engine.emit.target import host_target

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")


@given(
    problem=problems(operations=["conv"], dtypes=["float32", "float64"]), integers=st.booleans(), turned=st.booleans()
)
def test_direct_reads_weights_in_place_to_the_same_result(problem: Problem, integers: bool, turned: bool) -> None:
    same_result(direct, "_reads_weights_in_place", problem, integers, turned)


@given(
    pixels=st.tuples(*[st.integers(1, 9)] * 2), channels=st.integers(1, 70), kernels=st.integers(1, 90), data=st.data()
)
def test_product_packs_as_it_goes_to_the_same_result(
    pixels: tuple[int, int], channels: int, kernels: int, data: st.DataObject
) -> None:
    groups, batch, stride = (data.draw(st.integers(1, 3)) for _ in range(3))
    last, dtype = data.draw(st.booleans()), data.draw(st.sampled_from(["float32", "float64"]))
    x = f"x={batch}x{channels * groups}x{pixels[0]}x{pixels[1]} w={kernels * groups}x{channels}x1x1"
    text = f"conv2d {x} stride={stride} groups={groups} bias relu dtype={dtype}{' channels_last' * last}"
    same_result(product, "_packs_as_it_goes", Problem.parse(text), data.draw(st.booleans()), data.draw(st.booleans()))


def same_result(row: ModuleType, switch: str, problem: Problem, integers: bool, turned: bool) -> None:
    """Of weights that are packed before or, with the function `switch` saying yes, where they are used."""
    target = host_target()
    assume(row.refuses(problem, target) is None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row, switch, lambda *_: True)
        solution = row.build(problem, target)
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
    assert isinstance(solution, unpacked.Unpacked)
    assert direct.workspace(problem, target) < 4 * 512 * 512 * 9


def test_weights_of_a_1x1_layer_are_packed_by_the_tasks_that_use_them() -> None:
    problem, target = Problem.parse("conv2d x=1x1024x14x14 w=256x1024x1x1"), host_target()
    assert isinstance(product.build(problem, target), unpacked.Unpacked)
