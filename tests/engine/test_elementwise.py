"""Elementwise kernels against NumPy: every operation, on arrays of all kinds, to the last bit where that is defined."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from guarded import guarded, guarded_empty
from strategies import VIEWS, targets

import starconv as sc
from starconv.engine import elementwise
from starconv.engine.elementwise import OPERATIONS, apply, jobs, run

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.skipif(targets() == [None], reason="no compiled code on this machine")

DTYPES = ("float32", "float64")
NUMBERS = {
    "clip": (-0.5, 1.5),
    "affine": (1.5, -2.0),
    "leaky_relu": (0.01,),
    "hard_sigmoid": (0.2, 0.5),
    "batch_mean": (7.0,),
    "batch_scale": (7.0, 1e-5),
    "batch_shares": (7.0,),
    "track": (0.9, 0.1, 1.125),
    "descend": (0.1, 0.9, 0.75, 1e-2),
    "descend_nesterov": (0.1, 0.9, 1.0, 1e-2),
}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def descend(w: Array, v: Array, g: Array, n: tuple[float, ...], *, nesterov: bool = False) -> tuple[Array, Array]:
    g = g + n[3] * w
    v = n[1] * v + n[2] * g
    return w - n[0] * (g + n[1] * v if nesterov else v), v


MEANINGS: dict[str, Callable[..., Any]] = {
    "copy": lambda x: x,
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "add_relu": lambda x, y: np.maximum(x + y, 0),
    "relu": lambda x: np.maximum(x, 0),
    "clip": lambda x: np.clip(x, *NUMBERS["clip"]),
    "affine": lambda x: 1.5 * x - 2.0,
    "leaky_relu": lambda x: np.where(x < 0, 0.01 * x, x),
    "prelu": lambda x, slope: np.where(x < 0, slope * x, x),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "exp": np.exp,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "tanh": np.tanh,
    "scale_shift": lambda x, scale, shift: x * scale + shift,
    "normalize": lambda x, mean, factor, bias: (x - mean) * factor + bias,
    "normalize_relu": lambda x, mean, factor, bias: np.maximum((x - mean) * factor + bias, 0),
    "batch_mean": lambda total: total / 7,
    "batch_scale": lambda squares, weight: (
        squares / 7,
        1 / np.sqrt(squares / 7 + 1e-5),
        weight / np.sqrt(squares / 7 + 1e-5),
    ),
    "batch_shares": lambda total, along, scale, factor: (-factor * scale * along / 7, -factor * total / 7),
    "track": lambda running, new: 0.9 * running + 0.1 * 1.125 * new,
    "relu_gradient": lambda grad, output: np.where(output > 0, grad, 0),
    "normalize_gradient": lambda grad, x, mean, a, b, c: a * grad + b * (x - mean) + c,
    "descend": lambda w, v, g: descend(w, v, g, NUMBERS["descend"]),
    "descend_nesterov": lambda w, v, g: descend(w, v, g, NUMBERS["descend_nesterov"], nesterov=True),
}
EXACT = ("copy", "add", "subtract", "multiply", "divide", "maximum", "minimum", "add_relu", "relu", "relu_gradient")


def draw(seed: int, shape: tuple[int, ...], dtype: str, count: int) -> list[Array]:
    generator = np.random.default_rng(seed)
    return [np.asarray(2 * generator.standard_normal(shape), dtype) for _ in range(count)]


def check(name: str, inputs: list[Array], outputs: list[Array]) -> None:
    """What the compiled code wrote is what the formula says of these inputs."""
    with np.errstate(all="ignore"):
        answers = MEANINGS[name](*(array.astype(np.float64) for array in inputs))
        answers = answers if isinstance(answers, tuple) else (answers,)
        for answer, output in zip(answers, outputs, strict=True):
            expected = np.broadcast_to(answer, output.shape).astype(output.dtype)
            if name in EXACT:
                np.testing.assert_array_equal(output, expected, err_msg=name)
            else:
                limits = np.finfo(output.dtype)
                np.testing.assert_allclose(output, expected, 16 * limits.eps, 16 * limits.eps, err_msg=name)


def call(name: str, inputs: list[Array], outputs: list[Array]) -> None:
    assert run(name, inputs, outputs, NUMBERS.get(name, ())), f"{name} was declined"


def test_every_operation_has_a_meaning() -> None:
    assert MEANINGS.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name: str, dtype: str) -> None:
    rule = OPERATIONS[name]
    for seed, shape in enumerate([(2, 5, 7, 9), (1,), (), (0, 3), (17,), (3, 1, 130)]):
        inputs = draw(seed, shape, dtype, rule.inputs)
        outputs = [np.full(shape, np.nan, dtype) for _ in range(rule.outputs)]
        call(name, inputs, outputs)
        check(name, inputs, outputs)


@pytest.mark.parametrize("name", [name for name, rule in OPERATIONS.items() if rule.inputs <= 2 and rule.outputs == 1])
def test_special_values(name: str) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 89.0, -104.0, 3.0, 1e-30], "float32")
    count = OPERATIONS[name].inputs
    inputs = [values] if count == 1 else [np.repeat(values, len(values)), np.tile(values, len(values))]
    out = np.empty_like(inputs[0])
    call(name, inputs, [out])
    check(name, inputs, [out])
    if name != "relu_gradient":
        assert np.isnan(out[np.isnan(inputs[0])]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponentials_are_accurate(dtype: str) -> None:
    """Errors of few units in the last place over the whole range; the wide type knows better by many bits."""
    generator = np.random.default_rng(3)
    x = np.concatenate([generator.standard_normal(20000) * scale for scale in (1e-4, 1, 10, 40)]).astype(dtype)
    wide = x.astype(np.longdouble)
    if np.finfo(np.longdouble).eps >= np.finfo(dtype).eps / 8:
        pytest.skip("no wider type here")
    answers = {"exp": np.exp(wide), "sigmoid": 1 / (1 + np.exp(-wide)), "tanh": np.tanh(wide)}
    for name, most in (("exp", 1.0), ("sigmoid", 3.0), ("tanh", 3.5)):
        result = apply(name, x)
        answer = answers[name]
        normal = (np.abs(answer) > 4 * np.finfo(dtype).tiny) & (np.abs(answer) < np.finfo(dtype).max)
        units = np.abs(result - answer)[normal] / np.spacing(np.abs(answer[normal]).astype(dtype))
        assert units.max() <= most, f"{name}: {units.max()}"


@pytest.mark.parametrize("name", ["add", "tanh", "descend", "normalize"])
def test_arrays_of_any_strides(name: str) -> None:
    rule = OPERATIONS[name]
    inputs = draw(1, (3, 5, 7, 11), "float32", rule.inputs)
    plain = [np.empty_like(inputs[0]) for _ in range(rule.outputs)]
    call(name, inputs, plain)
    for view in VIEWS.values():
        if view.__name__ == "misaligned":
            assert jobs(name, [view(array) for array in inputs], plain, NUMBERS.get(name, ())) is None
            continue
        outputs = [view(np.zeros_like(inputs[0])) for _ in range(rule.outputs)]
        if view.__name__ == "read_only":
            outputs = [np.zeros_like(inputs[0]) for _ in range(rule.outputs)]
        call(name, [view(array) for array in inputs], outputs)
        for output, expected in zip(outputs, plain, strict=True):
            np.testing.assert_array_equal(output, expected, err_msg=view.__name__)
        call(name, inputs, outputs)  # operands that lie in another way than the results
        for output, expected in zip(outputs, plain, strict=True):
            np.testing.assert_array_equal(output, expected, err_msg=view.__name__)


@pytest.mark.parametrize("last", [False, True])
def test_a_number_per_channel(last: bool) -> None:
    for channels in (1, 3, 16, 37):
        (x,) = draw(channels, (2, channels, 6, 9), "float32", 1)
        x = VIEWS["channels_last"](x) if last else x
        mean, factor, bias = draw(9, (channels, 1, 1), "float32", 3)
        result = apply("normalize", x, mean, factor, bias)
        assert result.strides == x.strides
        check("normalize", [x, mean, factor, bias], [result])


def test_the_output_may_be_an_input() -> None:
    x, y = draw(4, (5, 1000), "float32", 2)
    expected = x + y
    call("add", [x, y], [x])
    np.testing.assert_array_equal(x, expected)
    w, v, g = draw(5, (3, 33), "float64", 3)
    answers = descend(w, v, g, NUMBERS["descend"])
    call("descend", [w, v, g], [w, v])
    for array, answer in zip((w, v), answers, strict=True):
        np.testing.assert_allclose(array, answer, 1e-14, 1e-14)


@pytest.mark.parametrize("name", OPERATIONS)
def test_nothing_beside_the_arrays_is_touched(name: str) -> None:
    rule = OPERATIONS[name]
    for end in (True, False):
        for size in (1, 15, 33, 1000):
            inputs = [guarded(array, end=end, read_only=True) for array in draw(size, (size,), "float32", rule.inputs)]
            outputs = [guarded_empty((size,), end=end) for _ in range(rule.outputs)]
            call(name, inputs, outputs)
            check(name, inputs, outputs)


def test_threads_change_no_bit() -> None:
    for shape in ((100_001,), (37, 41, 61), (3, 70_000)):
        (x,) = draw(2, shape, "float32", 1)
        results = []
        for threads in (1, 3):
            sc.set_num_threads(threads)
            results.append(apply("tanh", x))
        np.testing.assert_array_equal(*results)


def test_what_compiled_code_declines() -> None:
    integers = np.arange(6)
    assert apply("add", integers, integers) is None
    assert apply("add", np.zeros(3, "float32"), np.zeros(3)) is None
    assert apply("relu", np.zeros(3, ">f4")) is None
    x = np.zeros((2,) * 9)[::2, :, ::2, :, ::2, :, ::2].swapaxes(0, 3)
    assert apply("relu", x) is not None, "axes of size 1 are no loops"
    many = np.zeros((4,) * 6)[:3, :3, :3, :3, :3, :3]
    assert elementwise.jobs("relu", [many], [many.copy()]) is None


def test_every_target() -> None:
    x, y = draw(6, (5, 77), "float32", 2)
    for target in targets():
        for name in ("add", "tanh", "exp", "leaky_relu"):
            inputs = [x, y][: OPERATIONS[name].inputs]
            out = np.empty_like(x)
            for job in jobs(name, inputs, [out], NUMBERS.get(name, ()), target=target):
                job.run()
            check(name, inputs, [out])
