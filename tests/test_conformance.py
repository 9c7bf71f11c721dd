"""Every algorithm in the table, on every problem it takes, against the definition; new rows are picked up."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import (
    VIEWS,
    Array,
    Operands,
    broadcast,
    declared_bound,
    error_bound,
    error_scale,
    every_algorithm,
    examples,
    expected,
    only_reorders,
    operands,
    outputs,
    problems,
    seeds,
    separable_problems,
)

from starconv import Plan, Problem
from starconv.geometry import border_sources
from starconv.problem import OPERATIONS, SMOOTH_ACTIVATIONS

LAYERS = [
    # first layer, 1x1, 3x3, grouped, depthwise x plain, tail, tail with stride
    *(
        f"{operation}2d x={size} w={kernels}{stride}"
        for operation in OPERATIONS
        for size, kernels in [
            ("1x3x16x16", "16x3x7x7"),
            ("2x3x13x19", "17x3x7x7"),
            ("1x16x8x8", "16x16x1x1"),
            ("2x19x7x9", "21x19x1x1"),
            ("1x16x8x16", "16x16x3x3"),
            ("2x19x7x9", "21x19x3x3"),
            ("1x32x8x8", "32x8x3x3"),
            ("2x18x7x9", "12x9x3x3"),
            ("1x16x8x16", "16x1x3x3"),
            ("2x19x7x19", "19x1x3x3"),
        ]
        for groups in [int(size.split("x")[1]) // int(kernels.split("x")[1])]
        for pad in [int(kernels.split("x")[2]) // 2]
        for stride in [
            f" padding={pad} groups={groups} bias",
            f" padding={pad} groups={groups} relu channels_last",
            f" padding={pad} groups={groups} residual relu6",
            f" padding={pad} groups={groups} bias silu channels_last",
            f" padding={pad} groups={groups} residual hard_swish",
            f" stride=2 padding={pad} groups={groups}",
        ]
        if operation != "weight_grad" or stride.startswith(" stride")
    ),
    "conv1d x=1x1x1000 w=1x1x31 padding=15 border=symmetric",
    "conv1d x=2x8x257 w=16x8x5 stride=4 dilation=3",
    "conv2d x=1x1x33x65 w=1x1x3x3 padding=1 border=symmetric",
    "conv2d x=1x1x33x65 w=1x1x5x5 padding=2 border=edge",
    "conv2d x=3x1x31x31 w=1x1x1x9 padding=0:0x4:4 border=reflect",
    "conv2d x=1x4x5x70 w=5x4x2x2 padding=0:1x1:0 dilation=2 dtype=float64",
    "conv2d x=2x3x12x37 w=6x1x4x7 padding=2:1x3:3 groups=3 bias relu residual border=wrap",
    "conv2d x=1x1x31x70 w=2x1x5x9 padding=4 dtype=float64",
    "conv3d x=1x4x6x7x17 w=5x4x3x3x3 padding=1",
    "input_grad2d x=1x4x17x33 w=8x4x4x4 stride=2 padding=1",
    "weight_grad3d x=2x3x5x6x7 w=4x3x2x3x3 stride=1x2x1 padding=1",
]


def check(chosen: Plan, given: Operands, result: Array, *, exact: bool) -> None:
    """`result` is what the definition says: to the last bit where that is possible, else within the bound."""
    problem = chosen.problem
    answer = expected(problem, given)
    assert result.shape == problem.result_shape
    assert result.dtype == problem.dtype
    if exact and only_reorders(chosen) and problem.activation not in SMOOTH_ACTIVATIONS:
        assert np.abs(answer).max(initial=0) < 2**24, "the test's own numbers are too large to be exact"
        np.testing.assert_array_equal(result, answer, err_msg=chosen.explain())
        return
    bound = error_bound(problem, given)
    if not only_reorders(chosen):
        steep = 1.5 if problem.activation in SMOOTH_ACTIVATIONS else 1.0
        bound = bound.max(initial=0) + steep * declared_bound(chosen) * error_scale(problem, given).max(initial=0)
    excess = np.abs(result - answer) - bound
    assert excess.max(initial=0) <= 0, f"{excess.max()} over the bound\n{chosen.explain()}"


@pytest.mark.parametrize("text", LAYERS)
def test_layers(text: str) -> None:
    problem = Problem.parse(text)
    for integers in (True, False):
        given = operands(problem, 7, integers=integers)
        for chosen in every_algorithm(problem):
            check(chosen, given, chosen(given.first, given.second, given.bias, residual=given.residual), exact=integers)


@examples(1.5)
@given(separable_problems(), seeds, st.booleans())
def test_weights_that_decide(problem: Problem, seed: int, integers: bool) -> None:
    """Rows that take some weights only, with such weights: values, views, dtypes and places of the result."""
    given = operands(problem, seed, integers=integers)
    given = replace(given, second=given.second[..., :1] * given.second[..., :1, :])
    for chosen in every_algorithm(problem):
        if chosen.special is None:
            continue
        prepared = chosen.prepare(given.second, given.bias)
        assert prepared.algorithm == chosen.special.candidate.name
        plain = prepared(given.first, residual=given.residual)
        check(chosen, given, plain, exact=integers)
        for name, view in VIEWS.items():
            residual = None if given.residual is None else view(given.residual)
            result = chosen.prepare(view(given.second), given.bias)(view(given.first), residual=residual)
            assert result.tobytes() == plain.tobytes(), f"{name}\n{chosen.explain()}"
        for name, out, _ in outputs(problem.result_shape, problem.dtype):
            prepared(given.first, out=out, residual=given.residual)
            assert np.array_equal(out, plain), f"{name} out\n{chosen.explain()}"


@examples(5)
@given(problems(residuals=True, smooth=True), seeds, st.sampled_from([0.0, 0.0, 3.0, -2.0]))
@example(Problem.parse("conv2d x=1x1x0x5 w=2x1x2x2 padding=1 bias"), 0, 2.0)
@example(Problem.parse("conv1d x=0x3x5 w=2x3x2"), 0, 0.0)
@example(Problem.parse("weight_grad2d x=0x3x5x5 w=2x3x2x2"), 0, 0.0)
@example(Problem.parse("conv1d x=2x3x1 w=2x3x4 padding=5 border=reflect"), 0, 0.0)
def test_whole_numbers_are_exact(problem: Problem, seed: int, fill: float) -> None:
    given = operands(problem, seed, fill=fill)
    for chosen in every_algorithm(problem):
        first = chosen(given.first, given.second, given.bias, fill=given.fill, residual=given.residual)
        check(chosen, given, first, exact=True)
        again = chosen(given.first, given.second, given.bias, fill=given.fill, residual=given.residual)
        assert first.tobytes() == again.tobytes(), "another result for the same call"


@examples(3)
@given(problems(residuals=True, smooth=True, dtypes=("float32", "float64")), seeds, st.sampled_from([0.0, 0.1]))
def test_fractions_within_the_bound(problem: Problem, seed: int, fill: float) -> None:
    given = operands(problem, seed, integers=False, fill=fill)
    for chosen in every_algorithm(problem):
        prepared = chosen.prepare(given.second, given.bias, fill=given.fill)
        result = prepared(given.first, residual=given.residual)
        check(chosen, given, result, exact=False)
        assert prepared(given.first, residual=given.residual).tobytes() == result.tobytes()
        assert (
            chosen(given.first, given.second, given.bias, fill=given.fill, residual=given.residual).tobytes()
            == result.tobytes()
        )


@examples(1.5)
@given(problems(residuals=True, smooth=True), seeds)
def test_operands_of_any_strides(problem: Problem, seed: int) -> None:
    given = operands(problem, seed)
    for chosen in every_algorithm(problem):
        plain = chosen(given.first, given.second, given.bias, residual=given.residual)
        check(chosen, given, plain, exact=True)
        for name, view in VIEWS.items():
            every = (given.first, given.second, given.bias, given.residual)
            arrays = [None if array is None else view(array) for array in every]
            kept = contents(arrays)
            result = chosen(*arrays[:3], residual=arrays[3])
            np.testing.assert_array_equal(result, plain, err_msg=f"{name} operands\n{chosen.explain()}")
            assert contents(arrays) == kept, f"{name} operands written to"
        repeated = replace(given, first=broadcast(given.first), second=broadcast(given.second))
        check(
            chosen,
            repeated,
            chosen(repeated.first, repeated.second, repeated.bias, residual=given.residual),
            exact=True,
        )


def contents(arrays: Sequence[Array | None]) -> list[bytes | None]:
    return [None if array is None else array.tobytes() for array in arrays]


@examples(1.5)
@given(
    problems(smooth=True),
    seeds,
    st.sampled_from(["int8", "uint8", "int16", "int32", "int64", "float16", "float64", "bool", ">f4"]),
)
def test_operands_of_any_dtype(problem: Problem, seed: int, dtype: str) -> None:
    """Operands need not have the problem's dtype: they are widened, exactly, when they are read."""
    given = operands(problem, seed)
    narrow = replace(
        given,
        first=np.abs(given.first).astype(dtype),
        second=np.abs(given.second).astype(dtype),
        bias=None if given.bias is None else np.abs(given.bias).astype(dtype),
        residual=None if given.residual is None else np.abs(given.residual).astype(dtype),
    )
    for chosen in every_algorithm(problem):
        for first in (narrow.first, np.asfortranarray(narrow.first)):
            result = chosen(first, narrow.second, narrow.bias, residual=narrow.residual, casting="unsafe")
            check(chosen, narrow, result, exact=True)


@examples(1.5)
@given(problems(residuals=True, smooth=True), seeds)
def test_out_of_any_strides(problem: Problem, seed: int) -> None:
    given = operands(problem, seed)
    for chosen in every_algorithm(problem):
        plain = chosen(given.first, given.second, given.bias, residual=given.residual)
        prepared = chosen.prepare(given.second, given.bias)
        for name, out, room in outputs(problem.result_shape, problem.dtype):
            before = room.copy()
            assert prepared(given.first, out=out, residual=given.residual) is out
            assert np.array_equal(out, plain), f"{name} out\n{chosen.explain()}"
            if room is not out:
                out[...] = 0
                inside = np.zeros(room.shape, bool)
                inside[tuple(slice(2, 2 + 2 * size, 2) for size in out.shape)] = True
                np.testing.assert_array_equal(room[~inside], before[~inside], err_msg=f"written beside out: {chosen}")


@examples(1.5)
@given(problems(residuals=True, smooth=True, dtypes=("float32", "float64")), seeds)
def test_same_bits_whatever_the_view(problem: Problem, seed: int) -> None:
    given = operands(problem, seed, integers=False)
    for chosen in every_algorithm(problem):
        if chosen.algorithm == "numpy":  # NumPy's matmul adds up in another order where BLAS cannot take the strides
            continue
        plain = chosen(given.first, given.second, given.bias, residual=given.residual)
        for name, view in VIEWS.items():
            bias, residual = (None if array is None else view(array) for array in (given.bias, given.residual))
            result = chosen(view(given.first), view(given.second), bias, residual=residual)
            assert result.tobytes() == plain.tobytes(), f"{name}\n{chosen.explain()}"


@examples(2.5)
@given(
    problems(residuals=True, smooth=True, dtypes=("float32", "float64")),
    seeds,
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.data(),
)
def test_nan_and_infinity_stay_near(problem: Problem, seed: int, value: float, data: st.DataObject) -> None:
    given = operands(problem, seed)
    if not given.first.size:
        return
    place = tuple(data.draw(st.integers(0, size - 1)) for size in given.first.shape)
    spoiled = replace(given, first=given.first.copy())
    spoiled.first[place] = value
    with np.errstate(invalid="ignore"):
        answer = expected(problem, spoiled)
    touched = np.zeros(problem.result_shape, bool)
    touched[touched_by(problem, place)] = True
    for chosen in every_algorithm(problem):
        with np.errstate(invalid="ignore"):
            result = chosen(spoiled.first, given.second, given.bias, residual=given.residual)
        if only_reorders(chosen):
            np.testing.assert_array_equal(result, answer, err_msg=chosen.explain())
            clean = expected(problem, given)
            np.testing.assert_array_equal(result[~touched], clean[~touched], err_msg=chosen.explain())
        if np.isnan(value) and problem.operation != "weight_grad":
            assert np.isnan(result[touched]).all(), f"a NaN is lost\n{chosen.explain()}"


def touched_by(problem: Problem, place: tuple[int, ...]) -> tuple[object, ...]:
    """Index of the result elements that depend on element `place` of the first operand, by the geometry alone."""
    picture, channel, *position = place
    into = problem.out_channels if problem.operation == "input_grad" else problem.in_channels
    onto = problem.in_channels if problem.operation == "input_grad" else problem.out_channels
    group = channel // (into // problem.groups)
    channels = np.arange(group * onto // problem.groups, (group + 1) * onto // problem.groups)
    reached = []
    for axis, index in zip(problem.axes, position, strict=True):
        sources = border_sources(axis.input, axis.before, axis.after, problem.border)
        shown = [[sources[axis.before + read] for read in axis.reads(output)] for output in range(axis.output)]
        if problem.operation == "input_grad":
            reached.append(sorted({source for source in shown[index] if source >= 0}))
        elif problem.operation == "conv":
            reached.append([output for output, row in enumerate(shown) if index in row])
        else:
            reached.append([tap for tap in range(axis.kernel) if any(row[tap] == index for row in shown)])
    if problem.operation == "weight_grad":
        within = channel % (problem.in_channels // problem.groups)
        return np.ix_(channels, [within], *(np.array(taps, int) for taps in reached))
    return np.ix_([picture], channels, *(np.array(places, int) for places in reached))


@examples(1.5)
@given(
    problems(residuals=True, smooth=True, dtypes=("float32", "float64")).filter(lambda problem: problem.residual), seeds
)
@example(Problem.parse("conv2d x=1x5x9x35 w=7x5x1x1 residual"), 0)
@example(Problem.parse("conv2d x=2x1x23x35 w=3x1x5x5 padding=2 residual relu6"), 0)
@example(Problem.parse("conv2d x=1x16x9x11 w=24x16x3x3 padding=1 bias residual relu"), 0)
@example(Problem.parse("conv1d x=2x3x100 w=4x3x9 stride=3 residual dtype=float64"), 0)
@example(Problem.parse("input_grad2d x=3x4x9x9 w=4x4x3x3 stride=2 bias residual relu"), 0)
def test_a_residual_where_the_result_goes(problem: Problem, seed: int) -> None:
    """Every element is added once, wherever the residual lies: in the result's place, or shifted against it."""
    given = operands(problem, seed, integers=False)
    for chosen in every_algorithm(problem):
        prepared = chosen.prepare(given.second, given.bias)
        plain = prepared(given.first, residual=given.residual)
        for name, out, _ in outputs(problem.result_shape, problem.dtype):
            out[...] = given.residual
            prepared(given.first, out=out, residual=out)
            np.testing.assert_array_equal(out, plain, err_msg=f"{name} residual\n{chosen.explain()}")
        room = np.zeros(given.residual.size + 1, problem.dtype)
        shifted, out = (room[at:][: given.residual.size].reshape(problem.result_shape) for at in (1, 0))
        shifted[...] = given.residual
        prepared(given.first, out=out, residual=shifted)
        np.testing.assert_array_equal(out, plain, err_msg=f"a shifted residual\n{chosen.explain()}")
