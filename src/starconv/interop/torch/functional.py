"""torch.nn.functional's convolutions, computed by starconv: the same arguments, autograd of any order.

Tensors are read where they lie and results are written to memory of torch's: nothing is copied but what an algorithm
packs. The result has torch's memory format: channels_last for an input that is. Sums of float16 and bfloat16 are formed
in float32; integers come out as torch has them, with sums modulo their own size. Under ``torch.autocast`` operands of
different precision are computed in the wider one, as autocast does for the operations that it keeps in float32.
"""

from typing import Any

import torch

from ...geometry import PerAxis
from .arguments import checked, convolution, sums_in, transposed
from .autograd import apply

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]

Padding = PerAxis | str
"""An int, one per axis, "valid" or "same"."""


def conv1d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    precision: str = "float32",
) -> torch.Tensor:
    """``torch.nn.functional.conv1d``; see :func:`conv2d`."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups, padding_mode, precision)


def conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    precision: str = "float32",
) -> torch.Tensor:
    """``torch.nn.functional.conv2d``, with gradients of any order.

    Args:
        input: (N, C, H, W), or (C, H, W) for one picture; on the CPU, any strides.
        weight: kernels (K, C / groups, kh, kw), of the input's dtype.
        bias: (K,), of the input's dtype.
        stride, dilation: an int or (vertical, horizontal).
        padding: an int, one per axis, "valid" or "same".
        groups: channels and kernels fall into this many groups.
        padding_mode: "zeros", "reflect", "replicate" or "circular", as for ``torch.nn.Conv2d``, or "symmetric".
        precision: "strict" forms the plain sum only, as in :func:`starconv.conv2d`.

    Returns:
        (N, K, H', W') of the input's dtype and memory format.

    Raises:
        ArgumentTypeError: no tensors, two dtypes, or one that cannot be summed (complex, bool, quantized).
        ArgumentValueError: tensors that are not on the CPU, not dense, or do not fit together.

    >>> import torch
    >>> conv2d(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 2, 2), torch.tensor([0.5]))
    tensor([[[[8.5000, 8.5000],
              [8.5000, 8.5000]]]])
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups, padding_mode, precision)


def conv3d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    precision: str = "float32",
) -> torch.Tensor:
    """``torch.nn.functional.conv3d``; see :func:`conv2d`."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups, padding_mode, precision)


def conv_transpose1d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    *,
    precision: str = "float32",
) -> torch.Tensor:
    """``torch.nn.functional.conv_transpose1d``; see :func:`conv_transpose2d`."""
    return _transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation, precision)


def conv_transpose2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    *,
    precision: str = "float32",
) -> torch.Tensor:
    """``torch.nn.functional.conv_transpose2d``, with gradients of any order.

    Args:
        input: (N, C, H, W), or (C, H, W) for one picture; on the CPU, any strides.
        weight: (C, K / groups, kh, kw), of the input's dtype.
        bias: (K,), of the input's dtype.
        stride, padding, groups, dilation: those of the convolution that is transposed.
        output_padding: elements added at the end, less than the stride or the dilation.
        precision: as in :func:`conv2d`.

    Returns:
        (N, K, H', W') with H' = (H - 1)s - 2p + d(k - 1) + output_padding + 1; dtype and memory format of the input.

    Raises:
        ArgumentTypeError, ArgumentValueError: as :func:`conv2d`.

    >>> import torch
    >>> conv_transpose2d(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), stride=2, output_padding=1).shape
    torch.Size([1, 1, 5, 5])
    """
    return _transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation, precision)


def conv_transpose3d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    *,
    precision: str = "float32",
) -> torch.Tensor:
    """``torch.nn.functional.conv_transpose3d``; see :func:`conv_transpose2d`."""
    return _transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation, precision)


def _conv(
    spatial: int,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *arguments: Any,
) -> torch.Tensor:
    return _called(convolution, spatial, input, weight, bias, arguments)


def _transpose(
    spatial: int,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *arguments: Any,
) -> torch.Tensor:
    return _called(transposed, spatial, input, weight, bias, arguments)


def _called(
    problem_of: Any,
    spatial: int,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    arguments: tuple[Any, ...],
) -> torch.Tensor:
    """The result for tensors as callers have them: without N, in a dtype that is not the one of the sums."""
    if torch.is_autocast_enabled("cpu"):
        input, weight, bias = _of_one_precision(input, weight, bias)
    checked(spatial, input, weight, bias)
    dtype = input.dtype
    wide = sums_in(dtype)
    if dtype != wide:
        input, weight, bias = input.to(wide), weight.to(wide), None if bias is None else bias.to(wide)
    single = input.dim() == spatial + 1
    if single:
        input = input.unsqueeze(0)
    problem = problem_of(
        input.shape, weight.shape, None if bias is None else bias.shape, str(wide).removeprefix("torch."), *arguments
    )
    result = apply(problem, input, weight, bias)
    if single:
        result = result.squeeze(0)
    return result if dtype == wide else result.to(dtype)


def _of_one_precision(*tensors: Any) -> list[Any]:
    """The tensors among `tensors` in the widest of their floating-point dtypes."""
    floating = [tensor for tensor in tensors if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()]
    dtype = torch.float16
    for tensor in floating:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return [tensor.to(dtype) if any(tensor is one for one in floating) else tensor for tensor in tensors]
