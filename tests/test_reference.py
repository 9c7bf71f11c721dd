"""The definition against a still more literal one, against finite differences, and against its own adjoint."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from hypothesis import given
from scipy.special import expit
from strategies import Array, examples, expected, operands, problems, seeds

from starconv import Problem, reference
from starconv.reference import activated


def padded(problem: Problem, x: Array, fill: float) -> Array:
    """numpy.pad along one axis after the other; a negative end is cut off."""
    for number, axis in enumerate(problem.axes, start=2):
        pads = [(0, 0)] * x.ndim
        pads[number] = (axis.before, max(axis.after, 0))
        options = {"constant_values": fill} if problem.border == "constant" else {}
        x = np.pad(x, pads, mode=problem.border, **options)
        if axis.after < 0:
            x = x[(slice(None),) * number + (slice(0, axis.after),)]
    return x


def products(problem: Problem) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """The formula, one product at a time: the indices of O, of the padded X and of K that belong together."""
    kernels_per_group = problem.out_channels // problem.groups
    channels_per_group = problem.in_channels // problem.groups
    outputs = [range(size) for size in problem.output_shape]
    taps = [range(axis.kernel) for axis in problem.axes]
    for n, s, *position in itertools.product(*outputs):
        for r, *tap in itertools.product(range(channels_per_group), *taps):
            channel = s // kernels_per_group * channels_per_group + r
            read = [i * axis.stride + p * axis.dilation for i, p, axis in zip(position, tap, problem.axes, strict=True)]
            yield (n, s, *position), (n, channel, *read), (s, r, *tap)


def small(problem: Problem) -> bool:
    return problem.multiply_adds <= 20_000


def finished(problem: Problem, result: Array, bias: Array | None, residual: Array | None) -> Array:
    if bias is not None:
        for channel, value in enumerate(bias):
            result[:, channel] += value
    if residual is not None:
        result += residual
    if problem.activation in ("relu", "relu6"):
        result[result < 0] = 0
    if problem.activation == "relu6":
        result[result > 6] = 6
    return result


@examples(1.5)
@given(problems(operations=["conv"], dtypes=["float64"], residuals=True).filter(small), seeds)
def test_convolution_is_the_formula(problem: Problem, seed: int) -> None:
    given = operands(problem, seed, fill=2.0)
    x = padded(problem, given.first, given.fill)
    total = np.zeros(problem.output_shape)
    for o, read, k in products(problem):
        total[o] += x[read] * given.second[k]
    result = expected(problem, given)
    np.testing.assert_array_equal(result, finished(problem, total, given.bias, given.residual))


@examples(1.5)
@given(problems(operations=["input_grad"], dtypes=["float64"], residuals=True).filter(small), seeds)
def test_input_gradient_is_the_formula(problem: Problem, seed: int) -> None:
    """Padding is a copy of input elements: number these, pad the numbers, and every product says whom it feeds."""
    given = operands(problem, seed)
    numbers = np.arange(np.prod(problem.input_shape), dtype=float).reshape(problem.input_shape)
    whom = padded(problem, numbers, -1.0).astype(int)
    total = np.zeros(numbers.size)
    for o, read, k in products(problem):
        if whom[read] >= 0:
            total[whom[read]] += given.first[o] * given.second[k]
    result, total = expected(problem, given), total.reshape(problem.input_shape)
    np.testing.assert_array_equal(result, finished(problem, total, given.bias, given.residual))


@examples(1.5)
@given(problems(operations=["weight_grad"], dtypes=["float64"]).filter(small), seeds)
def test_weight_gradient_is_the_formula(problem: Problem, seed: int) -> None:
    given = operands(problem, seed)
    x = padded(problem, given.first, 0.0)
    total = np.zeros(problem.weight_shape)
    for o, read, k in products(problem):
        total[k] += x[read] * given.second[o]
    np.testing.assert_array_equal(reference.weight_gradient(problem, given.first, given.second), total)


@given(problems(operations=["weight_grad"], dtypes=["float64"]), seeds)
def test_both_gradients_are_adjoint(problem: Problem, seed: int) -> None:
    """<X ⋆ K, G> = <X, input gradient> = <K, weight gradient>, exactly, on whole numbers."""
    given = operands(problem, seed)
    x, g = given.first, given.second
    w = np.random.default_rng(seed).integers(-4, 5, problem.weight_shape)
    forward = reference.convolution(problem.with_operation("conv"), x, w)
    inner = np.vdot(forward, g)
    assert np.vdot(x, reference.input_gradient(problem.with_operation("input_grad"), g, w)) == inner
    assert np.vdot(w, reference.weight_gradient(problem, x, g)) == inner


@examples(0.7)
@given(problems(operations=["conv"], dtypes=["float64"]), seeds)
def test_gradients_are_finite_differences(problem: Problem, seed: int) -> None:
    """Along a random direction; the map is linear in X and in K, so that only rounding separates the two."""
    linear = replace(problem, activation="none", bias=False)
    given = operands(linear, seed, integers=False)
    generator = np.random.default_rng(seed)
    dx, dw, g = (
        generator.standard_normal(s) for s in (problem.input_shape, problem.weight_shape, problem.output_shape)
    )
    step = 0.5

    def loss(x: Array, w: Array) -> float:
        return float(np.vdot(g, reference.convolution(linear, x, w)))

    x, w = given.first, given.second
    scale = np.vdot(np.abs(g), reference.convolution(linear, np.abs(x) + np.abs(dx), np.abs(w) + np.abs(dw))) + 1
    by_input = (loss(x + step * dx, w) - loss(x - step * dx, w)) / (2 * step)
    by_weight = (loss(x, w + step * dw) - loss(x, w - step * dw)) / (2 * step)
    gradient = reference.input_gradient(linear.with_operation("input_grad"), g, w)
    assert abs(by_input - np.vdot(gradient, dx)) <= 1e-12 * scale
    gradient = reference.weight_gradient(linear.with_operation("weight_grad"), x, g)
    assert abs(by_weight - np.vdot(gradient, dw)) <= 1e-12 * scale


def test_smooth_activations_are_their_formulas() -> None:
    x = np.concatenate([np.linspace(-8, 8, 161), [-1e3, 1e3, 0.0]])
    np.testing.assert_allclose(activated("silu", x), x * expit(x), rtol=1e-14)
    hard = np.where(x <= -3, 0, np.where(x >= 3, x, x * (x + 3) / 6))
    np.testing.assert_allclose(activated("hard_swish", x), hard, rtol=1e-14, atol=1e-15)
    np.testing.assert_array_equal(activated("relu6", x), np.clip(x, 0, 6))
