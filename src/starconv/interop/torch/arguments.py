"""What callers hand in as torch takes it, checked and made a Problem. Repeated shapes are remembered."""

from functools import lru_cache
from typing import Any

import torch

from ...arguments import border_of
from ...calls import transposed_problem
from ...errors import ArgumentTypeError, ArgumentValueError
from ...problem import Problem, check_kernels

__all__ = ["checked", "convolution", "sums_in", "transposed"]

_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_SUMS: dict[torch.dtype, torch.dtype] = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    **dict.fromkeys(_WHOLE, torch.int64),
}
"""The dtype in which the sums of a tensor's dtype are formed."""


def sums_in(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sums are formed: of float16 and bfloat16 float32, of integers int64."""
    return _SUMS[dtype]


def checked(spatial: int, input: object, weight: object, bias: object) -> None:
    """Raise unless these are tensors that starconv can read, of one dtype.

    Raises:
        ArgumentTypeError: no tensor, a dtype that cannot be summed, or two dtypes.
        ArgumentValueError: on another device than the CPU, not dense, or with another number of axes.
    """
    for name, tensor in (("input", input), ("weight", weight), ("bias", bias)):
        if not isinstance(tensor, torch.Tensor):
            if name == "bias" and tensor is None:
                continue
            raise ArgumentTypeError(name, tensor, "a torch.Tensor")
        if tensor.device.type != "cpu":
            raise ArgumentValueError(name, _Told(tensor), f"a tensor on the CPU; this one is on {tensor.device}")
        if tensor.layout is not torch.strided:
            raise ArgumentValueError(name, _Told(tensor), f"a dense tensor; this one is {tensor.layout}")
        if tensor.dtype not in _SUMS or tensor.is_quantized:
            expected = "a tensor of float16, bfloat16, float32, float64 or integers up to int64"
            raise ArgumentTypeError(name, _Told(tensor), expected)
        assert isinstance(input, torch.Tensor)
        if tensor.dtype != input.dtype:
            raise ArgumentTypeError(name, _Told(tensor), f"the input's dtype {input.dtype}")
    assert isinstance(input, torch.Tensor)
    if input.dim() not in (spatial + 1, spatial + 2):
        raise ArgumentValueError("input", _Told(input), f"{spatial + 2} axes (N, C, ...), or {spatial + 1} without N")


class _Told:
    """A tensor as an error shows it: shape and dtype."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __repr__(self) -> str:
        return f"tensor of shape {tuple(self.tensor.shape)} and dtype {self.tensor.dtype}"


def convolution(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    dtype: str,
    stride: object,
    padding: object,
    dilation: object,
    groups: object,
    padding_mode: str,
    precision: str,
) -> Problem:
    """The problem of a convolution of (N, C, ...) with (K, C / groups, ...), layouts and bias left open."""
    return _remembered(
        False, x_shape, weight_shape, bias_shape, dtype, stride, padding, dilation, groups, padding_mode, precision
    )


def transposed(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    dtype: str,
    stride: object,
    padding: object,
    output_padding: object,
    groups: object,
    dilation: object,
    precision: str,
) -> Problem:
    """The problem of a transposed convolution of (N, C, ...) with (C, K / groups, ...)."""
    return _remembered(
        True, x_shape, weight_shape, bias_shape, dtype, stride, padding, output_padding, groups, dilation, precision
    )


def _remembered(transpose: bool, *arguments: Any) -> Problem:
    """By what plain ints and words say: True and 1.0 equal 1, and must not pass for one that was checked."""
    make = _transposed if transpose else _convolution
    return make(*arguments) if all(map(_is_plain, arguments[3:])) else make.__wrapped__(*arguments)


def _is_plain(argument: object) -> bool:
    kind = type(argument)
    if kind is tuple:
        return all(type(part) is int for part in argument)  # type: ignore[attr-defined]
    return kind is int or kind is str


@lru_cache(maxsize=1024)
def _convolution(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    dtype: str,
    stride: object,
    padding: object,
    dilation: object,
    groups: Any,
    padding_mode: str,
    precision: str,
) -> Problem:
    check_kernels(x_shape, weight_shape, groups, argument="weight")
    border = border_of(padding_mode)
    problem = Problem.of_shapes(
        x_shape,
        weight_shape,
        stride,
        padding,
        dilation,
        groups,
        dtype=dtype,
        border=border,
        precision=precision,
    )
    _check_bias(bias_shape, problem)
    return problem


@lru_cache(maxsize=1024)
def _transposed(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    dtype: str,
    stride: object,
    padding: object,
    output_padding: object,
    groups: Any,
    dilation: object,
    precision: str,
) -> Problem:
    problem = transposed_problem(
        x_shape,
        weight_shape,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        argument="weight",
        dtype=dtype,
        precision=precision,
    )
    _check_bias(bias_shape, problem)
    return problem


def _check_bias(shape: tuple[int, ...] | None, problem: Problem) -> None:
    channels = problem.result_shape[1]
    if shape is not None and tuple(shape) != (channels,):
        raise ArgumentValueError("bias", tuple(shape), f"shape ({channels},), one value per output channel")
