"""PyTorch: its functions on NCHW and on channels-last tensors, and its one function for all gradients."""

# ruff: noqa: D102  (what the methods mean, Entrant says)
from collections.abc import Callable
from typing import Any

import numpy as np

from starconv.problem import Problem

from ..shapes import Operands
from .entrant import Entrant, hopeless, symmetric_padding

BORDERS = {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}


class Torch(Entrant):
    """``torch.nn.functional.conv2d`` and ``aten::convolution_backward``, which autograd calls for gradients."""

    name = "torch"
    module = "torch"

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        if problem.border not in ("constant", *BORDERS):
            return f"no border {problem.border}"
        if problem.operation != "conv" and (symmetric_padding(problem) is None or problem.border != "constant"):
            return "gradients with one zero padding per axis only"
        return hopeless(problem)

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        import torch

        torch.set_num_threads(threads)
        arrays = (operands.first, operands.second)
        first, second = (self.layout(torch.from_numpy(np.ascontiguousarray(array))) for array in arrays)
        if problem.operation == "conv":
            bias = None if operands.bias is None else torch.from_numpy(operands.bias)
            return _forward(problem, first, second, bias)
        return _backward(problem, first, second, self.layout(torch.zeros(problem.input_shape, dtype=first.dtype)))

    def layout(self, tensor: Any) -> Any:
        """The tensor in the memory order of this column."""
        return tensor

    def array(self, result: Any) -> np.ndarray:
        return result.numpy()


class TorchChannelsLast(Torch):
    """The same with input and kernels already in channels-last memory, as torch's own guide to fast CPU code has it."""

    name = "torch channels_last"

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        return "no channels_last for one axis" if problem.spatial == 1 else super().refuses(problem, operands)

    def layout(self, tensor: Any) -> Any:
        import torch

        return tensor.contiguous(memory_format=torch.channels_last if tensor.ndim == 4 else torch.channels_last_3d)


def _forward(problem: Problem, x: Any, w: Any, bias: Any) -> Callable[[], Any]:
    import torch
    from torch.nn import functional

    convolve = getattr(functional, f"conv{problem.spatial}d")
    stride = [axis.stride for axis in problem.axes]
    dilation = [axis.dilation for axis in problem.axes]
    relu = problem.activation == "relu"
    padding = symmetric_padding(problem) if problem.border == "constant" else None
    # torch.nn.functional.pad counts axes from the last one.
    around = [end for axis in reversed(problem.axes) for end in (axis.before, axis.after)]
    mode = BORDERS.get(problem.border, "constant")

    @torch.inference_mode()
    def call() -> Any:
        picture = functional.pad(x, around, mode) if padding is None else x
        result = convolve(picture, w, bias, stride, padding or 0, dilation, problem.groups)
        return torch.relu_(result) if relu else result

    return call


def _backward(problem: Problem, first: Any, second: Any, spare: Any) -> Callable[[], Any]:
    """`spare` stands in for the input where only its shape counts."""
    import torch

    by_input = problem.operation == "input_grad"
    gradient, x, w = (first, spare, second) if by_input else (second, first, torch.zeros(problem.weight_shape))
    if not by_input:
        w = w.to(x.dtype)
    arguments = (
        None,
        [axis.stride for axis in problem.axes],
        symmetric_padding(problem),
        [axis.dilation for axis in problem.axes],
        False,
        [0] * problem.spatial,
        problem.groups,
        [by_input, not by_input, False],
    )
    backward = torch.ops.aten.convolution_backward
    wanted = 0 if by_input else 1

    @torch.inference_mode()
    def call() -> Any:
        return backward(gradient, x, w, *arguments)[wanted]

    return call
