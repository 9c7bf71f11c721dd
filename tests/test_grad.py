"""sc.grad against the definition, against its adjoint identity, and against the convolution's differences."""

import numpy as np
import pytest
from hypothesis import given
from strategies import VIEWS, expected, operands, problems, seeds
from test_functional import CONVOLUTIONS, arguments

import starconv as sc

INPUT = {1: sc.grad.conv1d_input, 2: sc.grad.conv2d_input, 3: sc.grad.conv3d_input}
WEIGHT = {1: sc.grad.conv1d_weight, 2: sc.grad.conv2d_weight, 3: sc.grad.conv3d_weight}
DEFINED = problems(operations=["weight_grad"], borders=["constant"])


@given(DEFINED, seeds)
def test_gradients_are_the_definitions(problem: sc.Problem, seed: int) -> None:
    given = operands(problem, seed)
    x, g = given.first, given.second
    w = np.random.default_rng(seed).integers(-4, 5, problem.weight_shape).astype(problem.dtype)
    options = arguments(problem)
    weight = WEIGHT[problem.spatial](x, problem.weight_shape, g, **options)
    np.testing.assert_array_equal(weight, expected(problem, given))
    assert weight.dtype == problem.dtype

    back = INPUT[problem.spatial](problem.input_shape, w, g, **options)
    forward = CONVOLUTIONS[problem.spatial](x, w, **options)
    assert back.shape == x.shape
    assert back.dtype == problem.dtype
    # <X ⋆ K, G> = <X, input gradient> = <K, weight gradient>
    inner = np.vdot(forward, g)
    assert np.vdot(x, back) == inner
    assert np.vdot(w, weight) == inner


@given(DEFINED, seeds)
def test_gradients_are_unit_differences(problem: sc.Problem, seed: int) -> None:
    """The convolution is linear in each operand, so one element more changes <O, G> by that element's gradient."""
    given = operands(problem, seed)
    generator = np.random.default_rng(seed)
    x, g = given.first, given.second
    w = generator.integers(-4, 5, problem.weight_shape).astype(problem.dtype)
    options = arguments(problem)
    gradients = (
        INPUT[problem.spatial](problem.input_shape, w, g, **options),
        WEIGHT[problem.spatial](x, problem.weight_shape, g, **options),
    )
    at_rest = np.vdot(CONVOLUTIONS[problem.spatial](x, w, **options), g)
    for which, gradient in enumerate(gradients):
        if gradient.size:
            place = np.unravel_index(generator.integers(gradient.size), gradient.shape)
            moved = [x.copy(), w.copy()]
            moved[which][place] += 1
            assert np.vdot(CONVOLUTIONS[problem.spatial](*moved, **options), g) - at_rest == gradient[place]


@given(DEFINED, seeds)
def test_any_view(problem: sc.Problem, seed: int) -> None:
    given = operands(problem, seed)
    answer = expected(problem, given)
    for name, view in VIEWS.items():
        result = WEIGHT[problem.spatial](
            view(given.first), problem.weight_shape, view(given.second), **arguments(problem)
        )
        np.testing.assert_array_equal(result, answer, err_msg=name)


@pytest.mark.parametrize("height", [7, 8])
def test_the_input_size_decides_what_a_stride_left_over(height: int) -> None:
    gradient = sc.grad.conv2d_input((1, 1, height, 7), np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), stride=2)
    assert gradient.shape == (1, 1, height, 7)
    assert gradient[0, 0, 7:].sum() == 0, "no window read the last row"


def test_padding_by_name() -> None:
    x, w = np.arange(10.0).reshape(1, 1, 10), np.array([[[1.0, 2, 3, 4]]])
    for padding in ("same", "full", "valid"):
        g = np.ones_like(sc.conv1d(x, w, padding=padding))
        assert (
            np.vdot(sc.grad.conv1d_input(x.shape, w, g, padding=padding), x) == sc.conv1d(x, w, padding=padding).sum()
        )


@given(DEFINED, seeds)
def test_the_bias_gradient_is_the_sum(problem: sc.Problem, seed: int) -> None:
    """The bias is added to every output, so <O, G> changes with it by the sum of G over pictures and positions."""
    g = np.random.default_rng(seed).integers(-9, 9, problem.output_shape).astype(problem.dtype)
    answer = g.sum(axis=(0, *range(2, g.ndim)))
    for view in (g, np.asfortranarray(g), g[::-1].copy()[::-1]):
        result = sc.grad.conv_bias(view)
        assert result.dtype == g.dtype
        np.testing.assert_array_equal(result, answer)


def test_the_bias_gradient_of_many_numbers() -> None:
    """A chain of float32 additions would be off by thousands of roundings here."""
    g = np.full((4, 2, 512, 512), 0.1, np.float32)
    assert sc.grad.conv_bias(g) == pytest.approx([g[0, 0, 0, 0].astype(float) * 4 * 512 * 512] * 2, rel=1e-7)


def test_the_bias_gradient_needs_channels() -> None:
    with pytest.raises(ValueError, match=r"grad_output.*\(N, K, ...\)"):
        sc.grad.conv_bias(np.ones((3, 3)))


def test_strict_gradients_are_plain_sums():
    """Whole numbers in floats come back exact, which an algorithm of fewer operations would not promise."""
    random = np.random.default_rng(0)
    w = random.integers(-4, 5, (64, 24, 3, 3)).astype("float32")
    g = random.integers(-4, 5, (2, 64, 30, 31)).astype("float32")
    size = (2, 24, 28, 29)
    found = sc.grad.conv2d_input(size, w, g, padding=2, precision="strict")
    expected = sc.grad.conv2d_input(size, w.astype("int64"), g.astype("int64"), padding=2)
    np.testing.assert_array_equal(found, expected)


def test_repeated_calls_are_remembered_by_all_that_decides_them():
    """Other sizes, steps, layouts and dtypes after each other, twice: every answer is its own."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 3, 3, 3)).astype("float32")
    cases = []
    for size in ((2, 3, 9, 9), (2, 3, 10, 9)):  # both give outputs of the same shape with stride 2
        for dtype in ("float32", "float64"):
            for last in (False, True):
                g = rng.standard_normal((2, 4, 4, 4)).astype(dtype)
                x = rng.standard_normal(size).astype(dtype)
                if last:
                    g, x = (np.moveaxis(np.ascontiguousarray(np.moveaxis(each, 1, -1)), -1, 1) for each in (g, x))
                cases.append((size, g, x))
    for _ in range(2):
        for size, g, x in cases:
            found = sc.grad.conv2d_input(size, w, g, stride=2), sc.grad.conv2d_weight(x, w.shape, g, stride=2)
            # Lists are not remembered.
            fresh = (
                sc.grad.conv2d_input(list(size), w, g, stride=[2, 2]),
                sc.grad.conv2d_weight(x, list(w.shape), g, stride=[2, 2]),
            )
            for one, other in zip(found, fresh, strict=True):
                np.testing.assert_array_equal(one, other)
                assert one.dtype == other.dtype
    with pytest.raises(sc.ArgumentTypeError):
        sc.grad.conv2d_input((2, 3, 9, True), w, cases[0][1], stride=2)
    with pytest.raises(sc.ArgumentValueError, match="grad_output"):
        sc.grad.conv2d_input((2, 3, 12, 12), w, cases[0][1], stride=2)
