"""A Problem and its string are the same thing."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from strategies import problems

from starconv import ArgumentTypeError, ArgumentValueError, Problem, plan
from starconv.problem import OPERATIONS, SMOOTH_ACTIVATIONS


@given(problems(smooth=True))
def test_string_round_trip(problem: Problem) -> None:
    text = str(problem)
    assert Problem.parse(text) == problem
    assert str(Problem.parse(text)) == text
    words = text.split()
    assert Problem.parse(" ".join([words[0], *reversed(words[1:])])) == problem, (
        "the order of the words does not matter"
    )


@given(problems(smooth=True))
def test_hash_and_pickle(problem: Problem) -> None:
    copy = pickle.loads(pickle.dumps(problem))
    assert copy == problem
    assert hash(copy) == hash(problem)
    assert plan(copy) is plan(problem), "equal problems share a plan"


@given(problems(smooth=True))
def test_shapes_and_counts(problem: Problem) -> None:
    x, w, o = problem.input_shape, problem.weight_shape, problem.output_shape
    assert problem.operand_shapes == {"conv": (x, w), "input_grad": (o, w), "weight_grad": (x, o)}[problem.operation]
    assert problem.result_shape == {"conv": o, "input_grad": x, "weight_grad": w}[problem.operation]
    assert problem.multiply_adds == np.prod(o) * np.prod(w[1:])
    assert problem.bytes_moved == (np.prod(x) + np.prod(w) + np.prod(o)) * np.dtype(problem.dtype).itemsize
    if not problem.bias and problem.activation == "none":
        for operation in OPERATIONS:
            assert problem.with_operation(operation).multiply_adds == problem.multiply_adds


def test_the_string_is_what_a_reader_would_write() -> None:
    text = (
        "conv3d x=2x4x5x6x7 w=8x2x1x2x3 stride=1x2x1 padding=0:0x1:0x2:2 dilation=1x1x2 groups=2 "
        "border=reflect dtype=float64 precision=strict channels_last bias relu"
    )
    problem = Problem.parse(text)
    assert str(problem) == text
    assert problem.output_shape == (2, 8, 5, 3, 7)
    assert str(replace(problem, dtype="float32", bias=False)) == text.replace(" dtype=float64", "").replace(" bias", "")


def test_a_transposed_convolution_with_more_output_padding_than_stride() -> None:
    problem = Problem.parse("input_grad1d x=1x1x7 w=1x1x3 padding=0:-1 dilation=2")
    assert (problem.output_shape, problem.result_shape) == ((1, 1, 2), (1, 1, 7))
    assert str(problem) == "input_grad1d x=1x1x7 w=1x1x3 padding=0:-1 dilation=2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "problem = '': expected an operation first"),
        ("conv4d x=1x1x2 w=1x1x1", "expected an operation first: conv2d, input_grad2d or weight_grad2d"),
        ("conv2d", "expected a shape x="),
        ("conv2d x=1x1x5x5", "expected a shape w="),
        ("conv2d x=1x1x5 w=1x1x3x3", "x = '1x1x5': expected 4 sizes for conv2d"),
        ("conv2d x=1x1x5x5 w=1x1x3x3 spin=2", "not 'spin=2'"),
        ("conv2d x=1x1x5x5 w=1x1x3x3 stride", "not 'stride'"),
        ("conv2d x=1x1x5x5 w=1x1x3x3 bias=1", "not 'bias=1'"),
        ("conv2d x=1x1x5x5 w=1x1x3x3 bias=", "not 'bias='"),
        ("conv2d x=1x1x5x5 w=1x1x3x3 relu relu", "at most once"),
        ("conv2d x=1x1x5xa w=1x1x3x3", "x = 'a': expected an integer"),
        ("conv2d x=1x1x5x5 w=1x1x3x3 stride=0", "stride = (0,): expected an integer >= 1"),
        ("conv2d x=1x1x5x5 w=1x1x3x3 stride=1x1x1", "stride = (1, 1, 1): expected an integer >= 1 or 2 of them"),
        ("conv2d x=1x1x5x5 w=1x1x3x3 padding=1:2:3", "padding = '1:2:3': expected"),
        ("conv2d x=1x1x5x5 w=1x1x3x3 padding=0:-1", "padding = ((0, -1), (0, -1)): expected an integer >= 0"),
        ("input_grad2d x=1x1x5x5 w=1x1x3x3 padding=-1:0", "expected an integer >= 0"),
        ("input_grad2d x=1x1x5x5 w=1x1x3x3 padding=0:-3", "at least one output element along every axis"),
        ("conv2d x=-1x1x5x5 w=1x1x3x3", "batch = -1: expected a number of pictures, 0 or more"),
        ("conv2d x=1x1x5x5 w=1x1x7x3", "= 7 does not fit into 5 + 0 + 0 = 5"),
        ("conv2d x=1x3x5x5 w=4x2x3x3", "w = (4, 2, 3, 3): expected C / groups = 3 input channels / 1 groups = 3"),
        ("conv2d x=1x3x5x5 w=4x1x3x3 groups=2", "groups = 2: expected a divisor of 3 input channels and of 4 output"),
        ("conv2d x=1x3x5x5 w=4x3x3x3 groups=0", "groups = 0"),
        ("conv2d x=1x1x5x5 w=1x1x3x3 border=circular", "border = 'circular': expected 'constant', 'edge', 'reflect'"),
        ("conv2d x=1x1x5x5 w=1x1x3x3 dtype=float16", "dtype = 'float16': expected 'float32', 'float64' or 'int64'"),
        ("conv2d x=1x1x5x5 w=1x1x3x3 precision=half", "precision = 'half': expected 'float32' or 'strict'"),
        ("weight_grad2d x=1x1x5x5 w=1x1x3x3 bias", "expected conv or input_grad, to which bias can be applied"),
        ("weight_grad2d x=1x1x5x5 w=1x1x3x3 relu", "expected conv or input_grad, to which relu can be applied"),
    ],
)
def test_parse_errors(text: str, message: str) -> None:
    with pytest.raises(ArgumentValueError) as caught:
        Problem.parse(text)
    assert message in str(caught.value)


def test_parse_wants_a_string() -> None:
    with pytest.raises(ArgumentTypeError, match="problem = 3: expected a string like"):
        Problem.parse(3)  # type: ignore[arg-type]


def test_errors_survive_pickling() -> None:
    with pytest.raises(ArgumentValueError) as caught:
        Problem.parse("conv2d x=1x3x5x5 w=4x2x3x3")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert (type(copy), copy.argument, copy.shapes) == (ArgumentValueError, "w", caught.value.shapes)


def test_whole_numbers_have_no_smooth_activation() -> None:
    for name in SMOOTH_ACTIVATIONS:
        with pytest.raises(ArgumentValueError, match="whole numbers"):
            Problem.parse(f"conv1d x=1x1x5 w=1x1x3 dtype=int64 {name}")
