"""Transposed convolutional layers: they multiply by A^T where the convolution multiplies by A."""

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import functional
from ..arguments import Array, channels_last_in_memory, sum_dtype
from ..calls import transposed_problem
from ..engine.planner import Plan, make_plan, wisdom_state
from ..errors import ArgumentValueError
from ..geometry import Axis, Padding, PerAxis, per_axis, transposed_axes
from ..problem import Problem
from .conv import ConvBase
from .initial import Seed
from .module import Back, Shape

if TYPE_CHECKING:
    from ..engine.tape import Value
    from .recorder import Recorder

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

_FORWARD: dict[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


class _ConvTranspose(ConvBase):
    """The transposed convolution over `spatial` axes."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: Padding = 0,
        output_padding: PerAxis = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: PerAxis = 1,
        padding_mode: str = "zeros",
        *,
        dtype: object = "float32",
        seed: Seed = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ArgumentValueError("padding_mode", padding_mode, "'zeros', the only one a transposed convolution has")
        self.padding_mode = padding_mode
        self.output_padding = per_axis("output_padding", output_padding, self.spatial, minimum=0)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, dtype, seed)
        # Sizes do not matter for what can be wrong here, as long as something is left of the output.
        self._axes((1000,) * self.spatial)

    def forward(self, x: Array) -> Array:
        """The transposed convolution of `x` (N, C, ...) or (C, ...), plus the bias."""
        picture = self.batched(x)
        self.keep(picture, x.ndim)
        output: Array = _FORWARD[self.spatial](
            picture,
            self.weight,
            self.bias,
            *self._arguments,
        )
        return output if x.ndim == self.spatial + 2 else output[0]

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """The transpose of A^T is A: the input's gradient is the convolution of grad."""
        picture, axes = self.kept()
        gradient = grad if axes == self.spatial + 2 else grad[np.newaxis]
        self.add_bias_grad(gradient)
        shape = picture.shape
        self.own_parameters["weight"].add_grad(self._gradient("weight_grad", shape, gradient, picture))
        if not needed:
            return None
        result = self._gradient("conv", shape, gradient, self.weight)
        return result if axes == self.spatial + 2 else result[0]

    def _gradient(self, operation: str, x_shape: Shape, first: Array, second: Array) -> Array:
        """The result for the convolution that this layer transposes."""
        dtype, result_dtype = sum_dtype(first, second)
        last = channels_last_in_memory(first)
        plan = _plan(operation, x_shape, self.weight.shape, self._arguments, dtype, last, wisdom_state())
        return plan(first, second).astype(result_dtype, copy=False)

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """The same three problems."""
        tape.wants_axes(x, self.spatial + 2)

        def problem(operation: str, first: "Value", bias: bool = False) -> Problem:
            name, last = tape.dtype.name, first.last
            return _problem(operation, x.shape, self.weight.shape, self._arguments, name, last, bias)

        weight, bias = (tape.parameter(self, name) for name in ("weight", "bias"))
        assert weight is not None
        forward = problem("input_grad", x, bias is not None)
        output = tape.convolved(forward, x, weight, bias, tape.value(forward.input_shape, x.last))

        def back(grad: "Value", needed: bool) -> "Value | None":
            tape.bias_gradient(self, grad)
            tape.convolved(problem("weight_grad", grad), grad, x, None, tape.gradient(self, "weight"))
            if not needed:
                return None
            return tape.convolved(problem("conv", grad), grad, weight, None, tape.value(x.shape, grad.last))

        return output, back

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.output_padding, self.groups, self.dilation

    def _axes(self, sizes: Shape) -> tuple[Axis, ...]:
        return transposed_axes(sizes, self.kernel_size, self.stride, self.padding, self.output_padding, self.dilation)

    def window(self, shape: Shape) -> tuple[Axis, ...] | None:
        """With stride 1 a convolution; else which inputs an output element reads depends on its phase of the stride."""
        if any(step != 1 for step in self.stride):
            return None
        return tuple(
            Axis(
                axis.output, axis.kernel, 1, axis.extent - 1 - axis.before, axis.extent - 1 - axis.after, axis.dilation
            )
            for axis in self._axes(shape[2:])
        )

    def output_shape(self, shape: Shape) -> Shape:
        """(N, K, ...) for (N, C, ...)."""
        self.batched(np.broadcast_to(np.float32(0), shape))
        return (shape[0], self.out_channels, *(axis.input for axis in self._axes(shape[2:])))

    def multiply_adds(self, shape: Shape) -> int:
        """Every input element stamps its kernel."""
        return math.prod(shape[2:]) * shape[0] * int(self.weight.size)

    def repr_of_output_padding(self) -> list[str]:
        """As torch has it."""
        return [f"output_padding={self.output_padding}"] if any(self.output_padding) else []


def _problem(
    operation: str,
    x_shape: Shape,
    w_shape: Shape,
    arguments: tuple[Any, ...],
    dtype: str,
    last: bool,
    bias: bool = False,
) -> Problem:
    """The convolution that a layer transposes, with what is sought of it; `x_shape` is the layer's input's."""
    transposed = transposed_problem(x_shape, w_shape, *arguments, dtype=dtype, channels_last=last)
    return replace(transposed, operation=operation, bias=bias)


@lru_cache(maxsize=1024)
def _plan(
    operation: str, x_shape: Shape, w_shape: Shape, arguments: tuple[Any, ...], dtype: str, last: bool, state: int
) -> Plan:
    """The plan for a gradient, kept; `state` is the planner's: plans change with it."""
    return make_plan(_problem(operation, x_shape, w_shape, arguments, dtype, last))


class ConvTranspose1d(_ConvTranspose):
    """:class:`ConvTranspose2d` with one spatial axis: x (N, C, W), weight (C, K / groups, k).

    >>> ConvTranspose1d(4, 1, 3, stride=2)(np.zeros((1, 4, 5))).shape
    (1, 1, 11)
    """

    spatial = 1


class ConvTranspose2d(_ConvTranspose):
    """A transposed convolutional layer, with torch.nn.ConvTranspose2d's arguments and names.

    Args:
        in_channels, out_channels: channels C of the input and K of the output.
        kernel_size, stride, padding, dilation, groups: those of the convolution that this one transposes.
        output_padding: elements added at the end of the output, less than the stride or the dilation.
        bias: whether there is a value per output channel to add.
        padding_mode: "zeros".
        dtype: of weight and bias, "float32" or "float64".
        seed: an int or a numpy.random.Generator for the initial weights; None for others every time.

    Attributes:
        weight: (C, K / groups, kh, kw), read-only; replaced by assignment. At first uniform between
            ±1 / sqrt(K / groups kh kw), which is how torch counts.
        bias: (K,), from the same distribution, or None.

    >>> layer = ConvTranspose2d(8, 3, 2, stride=2, seed=0)
    >>> layer(np.zeros((1, 8, 16, 16), "float32")).shape
    (1, 3, 32, 32)
    """

    spatial = 2


class ConvTranspose3d(_ConvTranspose):
    """:class:`ConvTranspose2d` with three spatial axes: x (N, C, D, H, W), weight (C, K / groups, kd, kh, kw).

    >>> ConvTranspose3d(1, 1, 2)(np.zeros((1, 3, 3, 3))).shape
    (1, 4, 4, 4)
    """

    spatial = 3
