"""The public convolutions: every argument against the definition, dtypes, layouts, `out`, and properties."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import VIEWS, Array, axes, expected, operands, problems, seeds

import starconv as sc
from starconv.arguments import PADDING_MODES

CONVOLUTIONS = {1: sc.conv1d, 2: sc.conv2d, 3: sc.conv3d}
TRANSPOSED = {1: sc.conv_transpose1d, 2: sc.conv_transpose2d, 3: sc.conv_transpose3d}
MODES = {border: mode for mode, border in PADDING_MODES.items()}
LAYOUTS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


def arguments(problem: sc.Problem) -> dict[str, Any]:
    """The geometry of a problem as a caller writes it."""
    return {
        "stride": tuple(axis.stride for axis in problem.axes),
        "padding": tuple((axis.before, axis.after) for axis in problem.axes),
        "dilation": tuple(axis.dilation for axis in problem.axes),
        "groups": problem.groups,
    }


def convolutions() -> st.SearchStrategy[sc.Problem]:
    return problems(operations=["conv"]).filter(lambda problem: problem.activation == "none")


@given(convolutions(), seeds)
def test_every_argument(problem: sc.Problem, seed: int) -> None:
    given = operands(problem, seed)
    options = arguments(problem) | {"padding_mode": MODES[problem.border], "precision": problem.precision}
    convolution = CONVOLUTIONS[problem.spatial]
    answer = expected(problem, given)
    result = convolution(given.first, given.second, given.bias, **options)
    np.testing.assert_array_equal(result, answer)
    assert result.dtype == problem.dtype

    last = np.moveaxis(given.first, 1, -1)
    result = convolution(last, given.second, given.bias, layout=LAYOUTS[problem.spatial], **options)
    np.testing.assert_array_equal(result, np.moveaxis(answer, 1, -1))
    assert result.flags.c_contiguous, "channels last in, channels last out"

    if problem.batch:
        np.testing.assert_array_equal(convolution(given.first[0], given.second, given.bias, **options), answer[0])
        single = convolution(last[0], given.second, given.bias, layout=LAYOUTS[problem.spatial], **options)
        np.testing.assert_array_equal(single, np.moveaxis(answer[0], 0, -1))

    out = np.empty(answer.shape[::-1], problem.dtype).T
    assert convolution(given.first, given.second, given.bias, **options, out=out) is out
    np.testing.assert_array_equal(out, answer)


@given(problems(operations=["input_grad"], borders=["constant"]), st.integers(0, 2), seeds)
def test_transposed_with_every_argument(problem: sc.Problem, extra: int, seed: int) -> None:
    """The problem's own output padding is what the caller has to give; a negative end is one more than the padding."""
    assume(problem.activation == "none")
    given = operands(problem, seed)
    cuts = [max(-axis.after, 0) for axis in problem.axes]
    options = arguments(problem) | {
        "padding": [(axis.before, max(axis.after, 0)) for axis in problem.axes],
        "output_padding": [axis.output_padding + cut for axis, cut in zip(problem.axes, cuts, strict=True)],
    }
    # A cut end means that the output padding was too large for the formula's stride; its rule is the dilation then.
    allowed = [max(axis.stride, axis.dilation) for axis in problem.axes]
    assume(all(value < limit for value, limit in zip(options["output_padding"], allowed, strict=True)))
    transposed = TRANSPOSED[problem.spatial]
    answer = expected(problem, given)
    result = transposed(given.first, given.second, given.bias, **options)
    np.testing.assert_array_equal(result, answer)

    last = np.moveaxis(given.first, 1, -1)
    result = transposed(last, given.second, given.bias, layout=LAYOUTS[problem.spatial], **options)
    np.testing.assert_array_equal(result, np.moveaxis(answer, 1, -1))
    if problem.batch:
        np.testing.assert_array_equal(transposed(given.first[0], given.second, given.bias, **options), answer[0])
    out = np.empty(answer.shape, problem.dtype)[..., ::-1]
    assert transposed(given.first, given.second, given.bias, **options, out=out) is out
    np.testing.assert_array_equal(out, answer)


@given(axes(transposed=True), seeds)
def test_transposed_stamps_its_kernel(axis: sc.geometry.Axis, seed: int) -> None:
    """Every input element adds its kernel, scaled, to the output; then the padding is cut off."""
    generator = np.random.default_rng(seed)
    x, w = generator.integers(-4, 5, axis.output), generator.integers(-4, 5, axis.kernel)
    extra = generator.integers(0, max(axis.stride, axis.dilation))
    pad = (axis.before, max(axis.after, 0))
    whole = np.zeros((len(x) - 1) * axis.stride + axis.dilation * (len(w) - 1) + 1 + extra, int)
    for place, value in enumerate(x):
        for tap, weight in enumerate(w):
            whole[place * axis.stride + tap * axis.dilation] += value * weight
    answer = whole[pad[0] : len(whole) - pad[1]]
    assume(len(answer))
    result = sc.conv_transpose1d(
        x[None], w[None, None], stride=axis.stride, padding=[pad], output_padding=int(extra), dilation=axis.dilation
    )
    np.testing.assert_array_equal(result, answer[None])


@given(convolutions(), seeds)
def test_any_view(problem: sc.Problem, seed: int) -> None:
    given = operands(problem, seed)
    answer = expected(problem, given)
    options = arguments(problem) | {"padding_mode": MODES[problem.border]}
    for name, view in VIEWS.items():
        x, w = view(given.first), view(given.second)
        result = CONVOLUTIONS[problem.spatial](x, w, given.bias, **options)
        np.testing.assert_array_equal(result, answer, err_msg=name)
    swapped = given.first.astype(given.first.dtype.newbyteorder())
    result = CONVOLUTIONS[problem.spatial](swapped, given.second, given.bias, **options)
    np.testing.assert_array_equal(result, answer)
    assert result.dtype.isnative


@pytest.mark.parametrize(
    ("x", "w", "result"),
    [
        ("float32", "float32", "float32"),
        ("float64", "float32", "float64"),
        ("float16", "float16", "float16"),
        ("float16", "float32", "float32"),
        ("float32", "int16", "float32"),
        ("float32", "int64", "float64"),
        ("bool", "bool", "int64"),
        ("uint8", "int8", "int64"),
        ("int32", "bool", "int64"),
        ("bool", "float32", "float32"),
    ],
)
def test_dtypes(x: str, w: str, result: str) -> None:
    image, kernel = np.ones((1, 2, 4, 4), x), np.ones((3, 2, 3, 3), w)
    assert sc.conv2d(image, kernel).dtype == result
    assert (sc.conv2d(image, kernel) == 18).all()
    assert sc.conv_transpose2d(sc.conv2d(image, kernel).astype(x), kernel).dtype == result
    assert sc.grad.conv2d_input(image.shape, kernel, np.ones((1, 3, 2, 2), x)).dtype == result
    assert sc.grad.conv2d_weight(image, kernel.shape, np.ones((1, 3, 2, 2), w)).dtype == result


def test_integers_are_exact_beyond_float() -> None:
    big = 2**53 + 1
    assert sc.conv1d([[big, 1]], [[[1, 1]]]).tolist() == [[big + 1]]
    assert sc.conv2d(np.full((1, 16, 16), 255, "uint8"), np.full((1, 1, 16, 16), 255, "uint8")).item() == 255**2 * 256


def test_float16_sums_in_float32() -> None:
    x = np.full((1, 1, 4096), 1.0, "float16")
    assert sc.conv1d(x, x).item() == 4096, "in float16, 2048 + 1 = 2048"


def test_plain_lists() -> None:
    assert sc.conv1d([[1, 2, 3]], [[[1, 1]]], [10]).tolist() == [[13, 15]]


def test_a_channels_last_view_stays_one() -> None:
    x = np.ones((2, 5, 6, 3), "float32").transpose(0, 3, 1, 2)
    result = sc.conv2d(x, np.ones((4, 3, 3, 3), "float32"))
    assert result.shape == (2, 4, 3, 4)
    assert result.transpose(0, 2, 3, 1).flags.c_contiguous


def test_empty_batch_and_empty_axis() -> None:
    w, b = np.ones((2, 3, 3, 3), "float32"), np.array([1, 2], "float32")
    assert sc.conv2d(np.ones((0, 3, 5, 5), "float32"), w, b).shape == (0, 2, 3, 3)
    assert sc.conv_transpose2d(np.ones((0, 2, 5, 5), "float32"), w).shape == (0, 3, 7, 7)
    padding_only = sc.conv2d(np.ones((1, 3, 0, 5), "float32"), w, b, padding=((2, 2), (0, 0)))
    np.testing.assert_array_equal(padding_only, np.broadcast_to(b.reshape(1, 2, 1, 1), (1, 2, 2, 3)))


def test_out_may_lie_over_any_operand() -> None:
    x = np.arange(8.0).reshape(1, 2, 4)
    w = np.arange(4.0).reshape(2, 2, 1) - 1
    b = np.array([1.0, -1.0])
    answer = sc.conv1d(x, w, b)
    same = x.copy()
    assert sc.conv1d(same, w, b, out=same) is same
    np.testing.assert_array_equal(same, answer)
    small = np.ones((1, 2, 1))
    answer = sc.conv1d(small, w, b)
    kernels = w.copy()
    sc.conv1d(small, kernels, b, out=kernels.reshape(4)[:2].reshape(1, 2, 1))
    np.testing.assert_array_equal(kernels.reshape(4)[:2], answer.ravel())
    room = b.copy()
    np.testing.assert_array_equal(sc.conv1d(small, w, room, out=room.reshape(1, 2, 1)), answer)


def test_out_in_float16_and_for_one_picture() -> None:
    x, w = np.ones((2, 5), "float16"), np.ones((3, 2, 2), "float16")
    out = np.empty((3, 4), "float16")
    assert sc.conv1d(x, w, out=out) is out
    assert (out == 4).all()
    out = np.empty((4, 3), "float16")
    assert sc.conv1d(x.T, w, out=out, layout="NWC") is out
    assert (out == 4).all()


# Properties of the map itself.


@given(problems(operations=["conv"], borders=["constant"], dtypes=["int64"]), seeds)
def test_impulse_gives_the_kernel(problem: sc.Problem, seed: int) -> None:
    """One element of 1: the output holds the kernel, read backwards, where the windows meet it."""
    assume(problem.batch and all(axis.input for axis in problem.axes))
    generator = np.random.default_rng(seed)
    place = [int(generator.integers(size)) for size in problem.input_shape]
    x = np.zeros(problem.input_shape, int)
    x[tuple(place)] = 1
    w = operands(problem, seed).second
    answer = np.zeros(problem.output_shape, int)
    group, channel = divmod(place[1], problem.in_channels // problem.groups)
    per_group = problem.out_channels // problem.groups
    for kernel in range(group * per_group, (group + 1) * per_group):
        pairs = [list(axis.read_by(index)) for axis, index in zip(problem.axes, place[2:], strict=True)]
        for choice in np.ndindex(*map(len, pairs)):
            tap, output = zip(*(pairs[axis][number] for axis, number in enumerate(choice)), strict=True)
            answer[(place[0], kernel, *output)] = w[(kernel, channel, *tap)]
    np.testing.assert_array_equal(CONVOLUTIONS[problem.spatial](x, w, **arguments(problem)), answer)


@given(convolutions(), seeds, st.integers(-3, 3), st.integers(-3, 3))
def test_linear_in_both_operands(problem: sc.Problem, seed: int, a: int, b: int) -> None:
    one, two = operands(problem, seed), operands(problem, seed + 1)
    options = arguments(problem) | {"padding_mode": MODES[problem.border]}

    def run(x: Array, w: Array) -> Array:
        return CONVOLUTIONS[problem.spatial](x, w, **options)

    combined = a * one.first + b * two.first
    np.testing.assert_array_equal(
        run(combined, one.second), a * run(one.first, one.second) + b * run(two.first, one.second)
    )
    combined = a * one.second + b * two.second
    np.testing.assert_array_equal(
        run(one.first, combined), a * run(one.first, one.second) + b * run(one.first, two.second)
    )


@given(problems(operations=["conv"]), seeds, st.integers(1, 3))
def test_shift_equivariance(problem: sc.Problem, seed: int, shift: int) -> None:
    """Shift the input by `shift` strides along every axis, and the output shifts by `shift`, where both are defined."""
    assume(all(axis.output > shift and axis.input >= shift * axis.stride for axis in problem.axes))
    given = operands(problem, seed)
    options = arguments(problem) | {"padding": 0}
    room = tuple(slice(axis.stride * shift, None) for axis in problem.axes)
    assume(all(axis.input - axis.stride * shift >= axis.extent for axis in problem.axes))
    whole = CONVOLUTIONS[problem.spatial](given.first, given.second, **options)
    shifted = CONVOLUTIONS[problem.spatial](given.first[(..., *room)], given.second, **options)
    np.testing.assert_array_equal(shifted, whole[(..., *[slice(shift, None)] * problem.spatial)])


@given(problems(operations=["input_grad"], borders=["constant"], dtypes=["int64"]), seeds)
def test_transposed_is_the_adjoint(problem: sc.Problem, seed: int) -> None:
    """<A x, y> = <x, A^T y>, exactly, through the public functions alone."""
    assume(all(axis.after >= 0 for axis in problem.axes))
    y, w = operands(problem, seed).first, operands(problem, seed).second
    x = np.random.default_rng(seed).integers(-4, 5, problem.input_shape)
    options = arguments(problem)
    extra = [axis.output_padding for axis in problem.axes]
    forward = CONVOLUTIONS[problem.spatial](x, w, **options)
    back = TRANSPOSED[problem.spatial](y, w, output_padding=extra, **options)
    assert np.vdot(forward, y) == np.vdot(x, back)
    assert math.prod(back.shape) == x.size
