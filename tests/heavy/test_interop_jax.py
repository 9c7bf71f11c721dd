"""starconv.interop.jax beside jax.lax: results, derivatives in both directions, jit, vmap, dtypes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import problems, seeds
from test_functional import CONVOLUTIONS, MODES, TRANSPOSED, arguments

import starconv as sc

jax: Any = pytest.importorskip("jax")
jnp: Any = pytest.importorskip("jax.numpy")
ours: Any = sc.interop.jax
test_util: Any = pytest.importorskip("jax.test_util")

pytestmark = pytest.mark.heavy
some = settings(settings.get_profile("quick"), max_examples=40)


@pytest.fixture(scope="module", autouse=True)
def _double():
    """float64 exists only with this flag of JAX's."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def whole(shape, seed, dtype="float64"):
    return jnp.asarray(np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype))


@some
@given(problems(operations=["conv"], dtypes=["float32", "float64"]), st.booleans(), seeds)
def test_results_are_starconvs(problem, jitted, seed):
    x, w = whole(problem.input_shape, seed, problem.dtype), whole(problem.weight_shape, seed + 1, problem.dtype)
    b = whole((problem.out_channels,), seed + 2, problem.dtype) if problem.bias else None
    options = arguments(problem) | {"padding_mode": MODES[problem.border]}
    if problem.channels_last:
        options["layout"] = f"N{'DHW'[3 - problem.spatial :]}C"
        x = jnp.moveaxis(x, 1, -1)

    def call(*operands):
        return getattr(ours, f"conv{problem.spatial}d")(*operands, **options)

    result = (jax.jit(call) if jitted else call)(x, w, b)
    answer = CONVOLUTIONS[problem.spatial](
        np.asarray(x), np.asarray(w), None if b is None else np.asarray(b), **options
    )
    assert result.dtype == answer.dtype
    np.testing.assert_array_equal(result, answer)


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("last", [False, True])
def test_transposed_results_are_starconvs(spatial, last):
    x, w, b = whole((2, 4, *[5] * spatial), 0), whole((4, 3, *[3] * spatial), 1), whole((6,), 2)
    options = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
    if last:
        x, options["layout"] = jnp.moveaxis(x, 1, -1), f"N{'DHW'[3 - spatial :]}C"
    result = getattr(ours, f"conv_transpose{spatial}d")(x, w, b, **options)
    np.testing.assert_array_equal(result, TRANSPOSED[spatial](np.asarray(x), np.asarray(w), np.asarray(b), **options))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_and_gradients_are_jaxs(dtype):
    x, w = whole((2, 4, 9, 8), 0, dtype), whole((6, 2, 3, 2), 1, dtype)

    def mine(x, w):
        return ours.conv2d(x, w, stride=(2, 1), padding=((1, 0), (2, 1)), dilation=(1, 2), groups=2)

    def theirs(x, w):
        return jax.lax.conv_general_dilated(x, w, (2, 1), ((1, 0), (2, 1)), rhs_dilation=(1, 2), feature_group_count=2)

    result, pull_back = jax.vjp(mine, x, w)
    answer, their_pull_back = jax.vjp(theirs, x, w)
    assert result.dtype == answer.dtype
    np.testing.assert_array_equal(result, answer)
    seen = whole(result.shape, 2, dtype)
    for one, other in zip(pull_back(seen), their_pull_back(seen), strict=True):
        np.testing.assert_array_equal(one, other)
    directions = whole(x.shape, 3, dtype), whole(w.shape, 4, dtype)
    np.testing.assert_array_equal(jax.jvp(mine, (x, w), directions)[1], jax.jvp(theirs, (x, w), directions)[1])


@pytest.mark.parametrize(("jitted", "layout"), [(False, "NCHW"), (True, "NHWC")])
@pytest.mark.parametrize("mode", list(MODES.values()))
def test_derivatives_of_both_directions_and_two_orders(jitted, layout, mode):
    generator = np.random.default_rng(0)
    shape = (2, 4, 5, 4) if layout == "NCHW" else (2, 5, 4, 4)
    operands = [jnp.asarray(generator.standard_normal(shape)) for shape in (shape, (4, 2, 3, 2), (4,))]

    def call(*operands):
        return ours.conv2d(*operands, stride=(2, 1), padding=1, groups=2, padding_mode=mode, layout=layout)

    test_util.check_grads(jax.jit(call) if jitted else call, operands, order=2)


def test_derivatives_of_a_transposed_convolution():
    generator = np.random.default_rng(0)
    operands = [jnp.asarray(generator.standard_normal(shape)) for shape in ((2, 4, 4, 3), (4, 3, 3, 2), (6,))]

    def call(*operands):
        return ours.conv_transpose2d(*operands, stride=2, padding=1, output_padding=1, groups=2)

    test_util.check_grads(call, operands, order=2)


def test_vmap_over_pictures_kernels_and_gradients():
    x, w = whole((3, 2, 4, 6, 5), 0), whole((3, 5, 4, 2, 2), 1)
    for axes, single in (((0, None), lambda i: (x[i], w[0])), ((None, 0), lambda i: (x[0], w[i])), ((0, 0), None)):
        one = single or (lambda i: (x[i], w[i]))
        operands = [part if axis == 0 else part[0] for part, axis in zip((x, w), axes, strict=True)]
        result = jax.jit(jax.vmap(ours.conv2d, axes))(*operands)
        np.testing.assert_array_equal(result, jnp.stack([ours.conv2d(*one(i)) for i in range(3)]))
    gradients = jax.vmap(jax.grad(lambda w, x: ours.conv2d(x, w).sum()), (None, 0))(w[0], x)
    np.testing.assert_array_equal(gradients[1], jax.grad(lambda w: ours.conv2d(x[1], w).sum())(w[0]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_summed_in_float32(dtype):
    x, w = (whole(shape, 0, "float32").astype(dtype) for shape in [(1, 3, 6, 6), (4, 3, 3, 3)])
    result = ours.conv2d(x, w)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, ours.conv2d(x.astype("float32"), w.astype("float32")).astype(dtype))
    assert jax.grad(lambda w: ours.conv2d(x, w).sum().astype("float32"))(w).dtype == dtype


def test_large_arrays_pass_through_the_callback():
    """One waits for the other: the computation that feeds the callback, and the callback for its operands."""
    x, w = jnp.ones((8, 32, 64, 64), "float32"), jnp.ones((32, 32, 3, 3), "float32")
    step = jax.jit(lambda x: ours.conv2d(ours.conv2d(x * 2, w, padding=1) / 288, w, padding=1) / 576)
    for _ in range(5):
        result = step(x)
    assert float(result[0, 0, 32, 32]) == pytest.approx(1, rel=1e-5)


def test_a_picture_without_batch_axis():
    x, w = whole((3, 6, 5), 0), whole((4, 3, 2, 2), 1)
    np.testing.assert_array_equal(ours.conv2d(x, w), ours.conv2d(x[None], w)[0])
    np.testing.assert_array_equal(
        ours.conv2d(jnp.moveaxis(x, 0, -1), w, layout="NHWC"), jnp.moveaxis(ours.conv2d(x, w), 0, -1)
    )


X, W = np.ones((1, 2, 5, 5), "float32"), np.ones((3, 2, 3, 3), "float32")
WRONG = [
    (sc.ArgumentTypeError, "x", (X.astype(int), W)),
    (sc.ArgumentTypeError, "w", (X, W.astype(complex))),
    (sc.ArgumentValueError, "x", (X[0, 0], W)),
    (sc.ArgumentValueError, "w", (X, W[:, :1])),
    (sc.ArgumentValueError, "b", (X, W, np.ones(2, "float32"))),
    (sc.ArgumentValueError, "stride", (X, W, None, 0)),
]


@pytest.mark.parametrize(("kind", "argument", "operands"), WRONG)
def test_wrong_calls(kind, argument, operands):
    with pytest.raises(kind, match=rf"^{argument} = "):
        ours.conv2d(*operands)
