"""Convolutional layers, with torch.nn's arguments, names and initial distribution."""

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import functional
from ..arguments import Array, Seed, border_of, channels_last_in_memory, checked_count, generator_of, sum_dtype
from ..calls import transposed_problem
from ..engine.plan import Plan
from ..engine.planner import make_plan, wisdom_state
from ..errors import ArgumentValueError
from ..geometry import Axis, Padding, PerAxis, convolution_axes, per_axis
from ..problem import Problem
from .compiled import sums
from .initial import kaiming_uniform, uniform_bias
from .module import Back, Module, Shape
from .parameter import Parameter, Weight, layer_dtype

if TYPE_CHECKING:
    from ..engine.steps import Value
    from .recorder import Recorder

__all__ = ["Conv1d", "Conv2d", "Conv3d"]


class ConvBase(Module):
    """What convolutions and their transposes share: all but arguments and sizes.

    Attributes:
        transposed: whether it multiplies by A^T where a convolution multiplies by A.
        functions: what computes it, by the number of spatial axes.
    """

    weight = Weight()
    bias = Weight()
    spatial = 0
    transposed = False
    padding_mode = "zeros"
    functions: ClassVar[dict[int, Any]] = {}

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis,
        padding: Padding,
        dilation: PerAxis,
        groups: int,
        bias: bool,
        dtype: object,
        seed: Seed,
    ) -> None:
        super().__init__()
        axes = self.spatial
        self.in_channels = checked_count("in_channels", in_channels)
        self.out_channels = checked_count("out_channels", out_channels)
        self.kernel_size = per_axis("kernel_size", kernel_size, axes, minimum=1)
        self.stride = per_axis("stride", stride, axes, minimum=1)
        self.dilation = per_axis("dilation", dilation, axes, minimum=1)
        self.groups = checked_count("groups", groups)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            expected = f"a divisor of {self.in_channels} input channels and of {self.out_channels} output channels"
            raise ArgumentValueError("groups", groups, expected)
        # Its windows fit once into an input of their own extent, so nothing but the padding can be wrong here.
        extents = [d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        convolution_axes(extents, self.kernel_size, self.stride, padding, self.dilation)
        self.padding: Any = padding if isinstance(padding, str) else _per_axis_padding(padding, axes)
        first, second = self.in_channels, self.out_channels
        if not self.transposed:
            first, second = second, first
        shape = (first, second // self.groups, *self.kernel_size)
        kind, rng = layer_dtype(dtype), generator_of(seed)
        self.own_parameters["weight"] = Parameter(kaiming_uniform(shape, rng, kind), kind)
        if bias:
            self.own_parameters["bias"] = Parameter(uniform_bias(self.out_channels, shape, rng, kind), kind)

    def batched(self, x: Array) -> Array:
        """`x` as (N, C, ...); a picture (C, ...) gets its N = 1."""
        if x.ndim not in (self.spatial + 1, self.spatial + 2) or x.shape[-self.spatial - 1] != self.in_channels:
            expected = f"shape (N, {self.in_channels}, ...) or ({self.in_channels}, ...) with {self.spatial} sizes"
            raise ArgumentValueError("x", x, expected)
        return x[np.newaxis] if x.ndim == self.spatial + 1 else x

    def forward(self, x: Array) -> Array:
        """The layer's convolution, or transposed one, of `x` (N, C, ...) or (C, ...), plus the bias."""
        picture = self.batched(x)
        self.keep(picture, x.ndim)
        function, options = self.functions[self.spatial], {} if self.transposed else {"padding_mode": self.padding_mode}
        output: Array = function(picture, self.weight, self.bias, *self.arguments, **options)
        return output if x.ndim == self.spatial + 2 else output[0]

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """A^T grad for the input (A grad, for it is A^T's transpose); for the weight both correlated."""
        picture, axes = self.kept()
        gradient = grad if axes == self.spatial + 2 else grad[np.newaxis]
        weight = self.weight
        self.add_bias_grad(gradient)
        pair = (gradient, picture) if self.transposed else (picture, gradient)
        self.own_parameters["weight"].add_grad(self._gradient("weight_grad", picture.shape, *pair))
        if not needed:
            return None
        result = self._gradient(self._back, picture.shape, gradient, weight)
        return result if axes == self.spatial + 2 else result[0]

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """The same three problems."""
        tape.wants_axes(x, self.spatial + 2)

        def problem(operation: str, first: "Value", bias: bool = False) -> Problem:
            return self._problem(operation, x.shape, tape.dtype.name, first.last, bias)

        weight, bias = (tape.parameter(self, name) for name in ("weight", "bias"))
        assert weight is not None
        forward = problem("input_grad" if self.transposed else "conv", x, bias is not None)
        output = tape.convolved(forward, x, weight, bias, tape.value(forward.result_shape, x.last))

        def back(grad: "Value", needed: bool) -> "Value | None":
            tape.bias_gradient(self, grad)
            pair = (grad, x) if self.transposed else (x, grad)
            tape.convolved(problem("weight_grad", pair[0]), *pair, None, tape.gradient(self, "weight"))
            if not needed:
                return None
            return tape.convolved(problem(self._back, grad), grad, weight, None, tape.value(x.shape, grad.last))

        return output, back

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the layer's function takes besides x, w and b."""
        raise NotImplementedError(f"{type(self).__name__}.arguments")

    @property
    def _back(self) -> str:
        """The gradient of a convolution's input is its transpose, that of a transposed one's a convolution."""
        return "conv" if self.transposed else "input_grad"

    def _problem(self, operation: str, x_shape: Shape, dtype: str, last: bool, bias: bool = False) -> Problem:
        border = border_of(self.padding_mode)
        return _problem(
            self.transposed, operation, x_shape, self.weight.shape, self.arguments, border, dtype, last, bias
        )

    def _gradient(self, operation: str, x_shape: Shape, first: Array, second: Array) -> Array:
        """One of the two gradients. starconv.grad's functions know zeros only; plans know every border."""
        dtype, result_dtype = sum_dtype(first, second)
        about = self.weight.shape, self.arguments, border_of(self.padding_mode), dtype, channels_last_in_memory(first)
        plan = _plan(wisdom_state(), self.transposed, operation, x_shape, *about)
        return plan(first, second).astype(result_dtype, copy=False)

    def add_bias_grad(self, gradient: Array) -> None:
        """Every output channel has its bias in all of its elements."""
        if "bias" in self.own_parameters:
            kind = self.own_parameters["bias"].value.dtype
            found = sums("plain", [gradient]) if gradient.dtype == kind else None
            total = gradient.sum(axis=(0, *range(2, gradient.ndim)), dtype=kind) if found is None else found[0]
            self.own_parameters["bias"].add_grad(total)

    def extra_repr(self) -> str:
        """torch's words: what differs from the default after the sizes."""
        words = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if self.padding != (0,) * self.spatial:
            words.append(f"padding={self.padding}")
        if self.dilation != (1,) * self.spatial:
            words.append(f"dilation={self.dilation}")
        words += self.repr_of_output_padding()
        if self.groups != 1:
            words.append(f"groups={self.groups}")
        if self.bias is None:
            words.append("bias=False")
        return ", ".join(words)

    def repr_of_output_padding(self) -> list[str]:
        """What a transposed convolution has to say in between."""
        return []


def _problem(
    transposed: bool,
    operation: str,
    x_shape: Shape,
    w_shape: Shape,
    arguments: tuple[Any, ...],
    border: str,
    dtype: str,
    last: bool,
    bias: bool = False,
) -> Problem:
    """What is sought of the convolution that a layer with such an input is, or transposes."""
    if transposed:
        problem = transposed_problem(x_shape, w_shape, *arguments, dtype=dtype, channels_last=last)
        return replace(problem, operation=operation, bias=bias)
    return Problem.of_shapes(
        x_shape,
        w_shape,
        *arguments,
        operation=operation,
        border=border,
        dtype=dtype,
        channels_last=last,
        bias=bias,
    )


@lru_cache(maxsize=1024)
def _plan(state: int, *about: Any) -> Plan:
    """The plan for `_problem`, kept, for it takes 0.1 ms to make; `state` is the planner's: plans change with it."""
    return make_plan(_problem(*about))


def _per_axis_padding(padding: Any, axes: int) -> tuple[Any, ...]:
    """`padding`, checked before, as torch keeps it: one int per axis; pairs stay pairs."""
    if np.ndim(padding) == 2:
        return tuple((int(before), int(after)) for before, after in padding)
    return per_axis("padding", padding, axes, minimum=0)


class _Conv(ConvBase):
    """The convolution over `spatial` axes."""

    functions: ClassVar[dict[int, Any]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: object = "float32",
        seed: Seed = None,
    ) -> None:
        border_of(padding_mode)
        self.padding_mode = padding_mode
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, dtype, seed)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """As conv2d takes them."""
        return self.stride, self.padding, self.dilation, self.groups

    def window(self, shape: Shape) -> tuple[Axis, ...]:
        """The geometry of this layer for an input of `shape`."""
        return convolution_axes(shape[2:], self.kernel_size, self.stride, self.padding, self.dilation)

    def output_shape(self, shape: Shape) -> Shape:
        """(N, K, ...) for (N, C, ...)."""
        return self._described(shape).output_shape

    def multiply_adds(self, shape: Shape) -> int:
        """One per output element, tap and channel of the group."""
        return self._described(shape).multiply_adds

    def _described(self, shape: Shape) -> Problem:
        return Problem.of_shapes(shape, self.weight.shape, *self.arguments)

    def extra_repr(self) -> str:
        """torch's words."""
        mode = "" if self.padding_mode == "zeros" else f", padding_mode={self.padding_mode}"
        return super().extra_repr() + mode


class Conv1d(_Conv):
    """:class:`Conv2d` with one spatial axis: x (N, C, W), weight (K, C / groups, k).

    >>> Conv1d(1, 4, 3)
    Conv1d(1, 4, kernel_size=(3,), stride=(1,))
    """

    spatial = 1


class Conv2d(_Conv):
    """A convolutional layer: O[s] = sum_r X[r] ⋆ K[s][r] + b[s], torch.nn.Conv2d's arguments and names.

    Args:
        in_channels, out_channels: channels C of the input and K of the output.
        kernel_size, stride, dilation: an int or (vertical, horizontal).
        padding: an int, one per axis, a (before, after) pair per axis, "valid", "same" or "full".
        groups: channels and kernels fall into groups that do not see each other.
        bias: whether there is a value per output channel to add.
        padding_mode: "zeros", "reflect", "replicate", "circular" or "symmetric".
        dtype: of weight and bias, "float32" or "float64".
        seed: an int or a numpy.random.Generator for the initial weights; None for others every time.

    Attributes:
        weight: (K, C / groups, kh, kw), read-only; replaced by assignment. At first uniform between
            ±1 / sqrt(C / groups kh kw), as torch's (kaiming_uniform with a = sqrt(5)).
        bias: (K,), from the same distribution, or None.

    Raises:
        ArgumentValueError, ArgumentTypeError: naming the argument, its value and what was expected.

    >>> layer = Conv2d(3, 8, 3, stride=2, padding=1, seed=0)
    >>> layer
    Conv2d(3, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    >>> layer(np.zeros((4, 3, 32, 32), "float32")).shape
    (4, 8, 16, 16)
    >>> layer.backward(np.ones((4, 8, 16, 16), "float32")).shape
    (4, 3, 32, 32)
    >>> layer.named_parameters()["bias"].grad[0]
    np.float32(1024.0)
    """

    spatial = 2


class Conv3d(_Conv):
    """:class:`Conv2d` with three spatial axes: x (N, C, D, H, W), weight (K, C / groups, kd, kh, kw).

    >>> Conv3d(1, 2, (1, 3, 3))(np.zeros((1, 5, 6, 7))).shape
    (2, 5, 4, 5)
    """

    spatial = 3
