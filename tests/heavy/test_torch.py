"""torch.nn.functional and torch.nn.grad with all their arguments, 1 to 3 axes; on whole numbers equality is exact."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import Array, axes, error_bound, operands, problems, seeds
from test_functional import CONVOLUTIONS, MODES, TRANSPOSED, arguments
from test_grad import INPUT, WEIGHT

import starconv as sc

pytestmark = pytest.mark.heavy
thorough = settings.get_profile("thorough")
functional: Any = torch.nn.functional

DTYPES = ["float32", "float64", "int64"]
TORCH_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def like(tensors: torch.Tensor, spatial: int) -> torch.Tensor:
    """The same numbers, channels last in memory, in torch's own way of laying them out."""
    if spatial == 1:
        return tensors.transpose(1, 2).contiguous().transpose(1, 2)
    return tensors.to(memory_format=torch.channels_last if spatial == 2 else torch.channels_last_3d)


def torchs_padding(problem: sc.Problem, x: torch.Tensor) -> torch.Tensor:
    """torch.nn.functional.pad before a convolution without padding: what torch.nn.Conv does for its padding_mode."""
    pads = [side for axis in reversed(problem.axes) for side in (axis.before, axis.after)]
    return functional.pad(x, pads, mode=TORCH_MODES[problem.border])


def torch_conv(problem: sc.Problem, x: torch.Tensor, w: Array, b: Array | None) -> Array:
    options = arguments(problem) | {"padding": 0}
    convolution = getattr(functional, f"conv{problem.spatial}d")
    bias = None if b is None else tensor(b)
    return convolution(torchs_padding(problem, x), tensor(w), bias, **options).numpy()


def fits_torchs_pad(problem: sc.Problem) -> bool:
    """torch pads at most once around; starconv and numpy.pad go on."""
    room = {"reflect": -1, "wrap": 0}.get(problem.border)
    return room is None or all(max(axis.before, axis.after) <= axis.input + room for axis in problem.axes)


def plain(problem: sc.Problem) -> bool:
    return problem.activation == "none" and problem.batch > 0 and all(axis.input > 0 for axis in problem.axes)


@thorough
@given(problems(operations=["conv"], dtypes=DTYPES, borders=tuple(TORCH_MODES)).filter(plain), seeds)
def test_conv(problem: sc.Problem, seed: int) -> None:
    assume(fits_torchs_pad(problem))
    assume(problem.dtype != "int64" or problem.border in ("constant", "wrap"))  # torch pads no other integers
    given = operands(problem, seed)
    options = arguments(problem) | {"padding_mode": MODES[problem.border]}
    answer = torch_conv(problem, tensor(given.first), given.second, given.bias)
    convolution = CONVOLUTIONS[problem.spatial]
    result = convolution(given.first, given.second, given.bias, **options)
    np.testing.assert_array_equal(result, answer)
    assert result.dtype == answer.dtype

    last = like(tensor(given.first), problem.spatial)
    np.testing.assert_array_equal(convolution(last.numpy(), given.second, given.bias, **options), answer)
    np.testing.assert_array_equal(convolution(given.first[0], given.second, given.bias, **options), answer[0])


@thorough
@given(problems(operations=["conv"], dtypes=["float32", "float64"], borders=["constant"]).filter(plain), seeds)
def test_conv_on_fractions(problem: sc.Problem, seed: int) -> None:
    given = operands(problem, seed, integers=False)
    result = CONVOLUTIONS[problem.spatial](given.first, given.second, given.bias, **arguments(problem))
    wide = [None if array is None else array.astype("float64") for array in (given.second, given.bias)]
    answer = torch_conv(problem, tensor(given.first.astype("float64")), *wide)
    assert (np.abs(result - answer) <= 2 * error_bound(problem, given)).all()


@thorough
@given(st.data(), st.sampled_from([1, 2, 3]), seeds)
def test_padding_as_torch_takes_it(data: st.DataObject, spatial: int, seed: int) -> None:
    """An int, one per axis, "valid" and "same" (which torch has for stride 1), the odd element at the end."""
    found = [data.draw(axes(longest=6)) for _ in range(spatial)]
    padding = data.draw(st.sampled_from(["same", "valid", 2, tuple(axis.before for axis in found)]))
    stride = 1 if padding == "same" else tuple(axis.stride for axis in found)
    dilation = tuple(axis.dilation for axis in found)
    generator = np.random.default_rng(seed)
    x = generator.integers(-4, 5, (2, 2, *(axis.input + axis.extent for axis in found))).astype("float32")
    w = generator.integers(-4, 5, (3, 2, *(axis.kernel for axis in found))).astype("float32")
    torchs = getattr(functional, f"conv{spatial}d")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel lengths")  # torch says that it copies
        answer = torchs(tensor(x), tensor(w), stride=stride, padding=padding, dilation=dilation).numpy()
    result = CONVOLUTIONS[spatial](x, w, stride=stride, padding=padding, dilation=dilation)
    np.testing.assert_array_equal(result, answer)


@thorough
@given(st.data(), st.sampled_from([1, 2, 3]), st.sampled_from([1, 1, 2, 3]), st.sampled_from(DTYPES), seeds)
def test_conv_transpose(data: st.DataObject, spatial: int, groups: int, dtype: str, seed: int) -> None:
    found = [data.draw(axes(longest={1: 20, 2: 8, 3: 4}[spatial])) for _ in range(spatial)]
    options = {
        "stride": tuple(axis.stride for axis in found),
        "padding": tuple(axis.before for axis in found),
        "output_padding": tuple(data.draw(st.integers(0, max(axis.stride, axis.dilation) - 1)) for axis in found),
        "groups": groups,
        "dilation": tuple(axis.dilation for axis in found),
    }
    sizes = tuple(max(axis.input, 1) for axis in found)
    kernels = tuple(axis.kernel for axis in found)
    rest = {name: options[name] for name in ("stride", "padding", "dilation")}
    try:
        sc.output_size(sizes, kernels, transposed=True, output_padding=options["output_padding"], **rest)
    except sc.ArgumentValueError:
        assume(False)
    generator = np.random.default_rng(seed)
    channels, per_group = data.draw(st.integers(1, 9)) * groups, data.draw(st.integers(1, 9))
    x = generator.integers(-4, 5, (data.draw(st.integers(1, 2)), channels, *sizes)).astype(dtype)
    w = generator.integers(-4, 5, (channels, per_group, *kernels)).astype(dtype)
    b = generator.integers(-4, 5, per_group * groups).astype(dtype) if data.draw(st.booleans()) else None
    torchs = getattr(functional, f"conv_transpose{spatial}d")
    answer = torchs(tensor(x), tensor(w), None if b is None else tensor(b), **options).numpy()
    result = TRANSPOSED[spatial](x, w, b, **options)
    np.testing.assert_array_equal(result, answer)
    assert result.dtype == answer.dtype
    np.testing.assert_array_equal(TRANSPOSED[spatial](like(tensor(x), spatial).numpy(), w, b, **options), answer)
    np.testing.assert_array_equal(TRANSPOSED[spatial](x[0], w, b, **options), answer[0])


@st.composite
def symmetric_problems(draw: st.DrawFn) -> sc.Problem:
    """torch.nn.grad takes one padding for both sides."""
    problem = draw(problems(operations=["weight_grad"], dtypes=["float32", "float64"], borders=["constant"]))
    sides = tuple(replace(axis, after=axis.before) for axis in problem.axes)
    assume(all(axis.extent <= axis.padded and axis.input for axis in sides))
    assume(problem.batch)
    return replace(problem, axes=sides)


@thorough
@given(symmetric_problems(), seeds)
def test_grad(problem: sc.Problem, seed: int) -> None:
    given = operands(problem, seed)
    x, g = given.first, given.second
    w = np.random.default_rng(seed).integers(-4, 5, problem.weight_shape).astype(problem.dtype)
    ours = arguments(problem)
    theirs = ours | {"padding": tuple(axis.before for axis in problem.axes)}
    torchs = getattr(torch.nn.grad, f"conv{problem.spatial}d_input")
    answer = torchs(problem.input_shape, tensor(w), tensor(g), **theirs).numpy()
    np.testing.assert_array_equal(INPUT[problem.spatial](problem.input_shape, w, g, **ours), answer)
    np.testing.assert_array_equal(INPUT[problem.spatial](torch.Size(problem.input_shape), w, g, **theirs), answer)
    torchs = getattr(torch.nn.grad, f"conv{problem.spatial}d_weight")
    answer = torchs(tensor(x), problem.weight_shape, tensor(g), **theirs).numpy()
    result = WEIGHT[problem.spatial](like(tensor(x), problem.spatial).numpy(), problem.weight_shape, g, **theirs)
    np.testing.assert_array_equal(result, answer)


@thorough
@given(problems(operations=["conv"], dtypes=["float64"], borders=tuple(TORCH_MODES)).filter(plain), seeds)
def test_autograd_through_every_border(problem: sc.Problem, seed: int) -> None:
    """Plans of the gradients know all borders; torch differentiates through its padding."""
    assume(fits_torchs_pad(problem) and not problem.bias)
    given = operands(problem, seed)
    x = tensor(given.first).requires_grad_()
    w = tensor(given.second).requires_grad_()
    convolution = getattr(functional, f"conv{problem.spatial}d")
    output = convolution(torchs_padding(problem, x), w, **(arguments(problem) | {"padding": 0}))
    g = np.random.default_rng(seed).integers(-4, 5, output.shape).astype("float64")
    output.backward(tensor(g))
    assert x.grad is not None
    assert w.grad is not None
    result = sc.plan(problem.with_operation("input_grad"))(g, given.second)
    np.testing.assert_array_equal(result, x.grad.numpy())
    result = sc.plan(problem.with_operation("weight_grad"))(given.first, g)
    np.testing.assert_array_equal(result, w.grad.numpy())


@pytest.mark.parametrize("dtype", ["float16", "uint8", "int8", "int32", "float32"])
def test_narrow_types(dtype: str) -> None:
    """torch's integers wrap in their own type; ours do not. float16 agrees to its own rounding."""
    generator = np.random.default_rng(0)
    x, w = (generator.integers(0, 3, shape).astype(dtype) for shape in [(1, 2, 6, 7), (3, 2, 2, 2)])
    answer = functional.conv2d(tensor(x), tensor(w)).numpy()
    np.testing.assert_array_equal(sc.conv2d(x, w), answer)
