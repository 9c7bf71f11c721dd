"""Dense layers, and what joins pictures to them."""

import math
from typing import TYPE_CHECKING

from ..arguments import Array, Seed, checked_count, generator_of
from ..errors import ArgumentTypeError, ArgumentValueError
from ..geometry import Axis
from .compiled import dense, dense_gradients, dense_problem, pixels, sums
from .initial import kaiming_uniform, uniform_bias
from .module import Back, Module, Shape
from .parameter import Parameter, Weight, layer_dtype

if TYPE_CHECKING:
    from ..engine.steps import Value
    from .recorder import Recorder

__all__ = ["Flatten", "Linear"]


class Linear(Module):
    """A dense layer, y = x W^T + b, with torch.nn.Linear's arguments and names.

    Args:
        in_features, out_features: sizes of the last axis of x and y.
        bias: whether there is a b.
        dtype: of weight and bias, "float32" or "float64".
        seed: an int or a numpy.random.Generator for the initial weights; None for others every time.

    Attributes:
        weight: (out_features, in_features), read-only; replaced by assignment. At first uniform between
            ±1 / sqrt(in_features), as torch's.
        bias: (out_features,), from the same distribution, or None.

    >>> import numpy as np
    >>> layer = Linear(3, 2)
    >>> layer.weight, layer.bias = [[1, 2, 3], [0, 0, 1]], [0, 1]
    >>> layer(np.ones((1, 3), "float32"))
    array([[6., 2.]], dtype=float32)
    """

    weight = Weight()
    bias = Weight()

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: object = "float32",
        seed: Seed = None,
    ) -> None:
        super().__init__()
        self.in_features = checked_count("in_features", in_features)
        self.out_features = checked_count("out_features", out_features)
        shape = (self.out_features, self.in_features)
        kind, rng = layer_dtype(dtype), generator_of(seed)
        self.own_parameters["weight"] = Parameter(kaiming_uniform(shape, rng, kind), kind)
        if bias:
            self.own_parameters["bias"] = Parameter(uniform_bias(self.out_features, shape, rng, kind), kind)

    def forward(self, x: Array) -> Array:
        """(..., out_features) for (..., in_features)."""
        self.output_shape(x.shape)
        self.keep(x)
        computed = dense(x.reshape(-1, self.in_features), self.weight, self.bias)
        if computed is not None:
            return computed.reshape(*x.shape[:-1], self.out_features)
        output: Array = x @ self.weight.T
        return output if self.bias is None else output + self.bias

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """grad W for the input, grad^T x for the weight, the sum over all rows for the bias."""
        (x,) = self.kept()
        rows, inputs = grad.reshape(-1, self.out_features), x.reshape(-1, self.in_features)
        if self.bias is not None:
            total = sums("plain", [rows])
            self.own_parameters["bias"].add_grad(rows.sum(axis=0) if total is None else total[0])
        computed = dense_gradients(rows, inputs, self.weight, needed)
        if computed is None:
            self.own_parameters["weight"].add_grad(rows.T @ inputs)
            return grad @ self.weight if needed else None
        self.own_parameters["weight"].add_grad(computed[0])
        return None if computed[1] is None else computed[1].reshape(*grad.shape[:-1], self.in_features)

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """The same three problems."""
        tape.wants_axes(x, 2)
        inputs, outputs = self.in_features, self.out_features
        name, rows = tape.dtype.name, x.shape[0]
        weight, bias = (tape.parameter(self, name) for name in ("weight", "bias"))
        assert weight is not None
        kernels = tape.view(weight, lambda array: array[:, :, None, None], (outputs, inputs, 1, 1))
        turned = tape.view(weight, lambda array: array.T[:, :, None, None], (inputs, outputs, 1, 1))
        output = tape.value(self.output_shape(x.shape))
        forward = dense_problem("conv", rows, inputs, outputs, name, bias is not None)
        tape.convolved(forward, _pixels(tape, x), kernels, bias, _pixels(tape, output))

        def back(grad: "Value", needed: bool) -> "Value | None":
            tape.bias_gradient(self, grad)
            gradient = tape.gradient(self, "weight")
            into = tape.view(gradient, lambda array: array[:, :, None, None], kernels.shape)
            descent = dense_problem("weight_grad", rows, inputs, outputs, name, False)
            tape.convolved(descent, _pixels(tape, x), _pixels(tape, grad), None, into)
            if not needed:
                return None
            result = tape.value(x.shape)
            backward = dense_problem("conv", rows, outputs, inputs, name, False)
            tape.convolved(backward, _pixels(tape, grad), turned, None, _pixels(tape, result))
            return result

        return output, back

    def output_shape(self, shape: Shape) -> Shape:
        """(..., out_features)."""
        if not shape or shape[-1] != self.in_features:
            raise ArgumentValueError("x", shape, f"a shape (..., {self.in_features})")
        return (*shape[:-1], self.out_features)

    def multiply_adds(self, shape: Shape) -> int:
        """One per weight and row."""
        return math.prod(shape[:-1]) * self.in_features * self.out_features

    def window(self, shape: Shape) -> None:
        """Every output reads every input."""
        return None

    def extra_repr(self) -> str:
        """torch's words."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def _pixels(tape: "Recorder", rows: "Value") -> "Value":
    """Rows (N, C) as a picture (1, C, 1, N), channels last: what `dense_problem` speaks of."""
    return tape.view(rows, pixels, (1, rows.shape[1], 1, rows.shape[0]), last=True)


class Flatten(Module):
    """The axes from `start_dim` to `end_dim` as one; by default a picture's channels and positions.

    >>> import numpy as np
    >>> Flatten()(np.zeros((2, 3, 4, 5))).shape
    (2, 60)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        for argument, value in (("start_dim", start_dim), ("end_dim", end_dim)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ArgumentTypeError(argument, value, "an integer")
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Array) -> Array:
        """`x` reshaped."""
        self.keep(x.shape)
        return x.reshape(self.output_shape(x.shape))

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """grad in the input's shape."""
        (shape,) = self.kept()
        result: Array = grad.reshape(shape)
        return result

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """A view, of a copy if channels lie side by side."""
        given, shape = x.shape, self.output_shape(x.shape)
        dense = tape.value(given)
        if x.last:
            tape.elementwise("copy", [x], [dense])
        else:
            dense = x
        output = tape.view(dense, lambda array: array.reshape(shape), shape)

        def back(grad: "Value", needed: bool) -> "Value | None":
            return tape.view(grad, lambda array: array.reshape(given), given) if needed else None

        return output, back

    def output_shape(self, shape: Shape) -> Shape:
        """Those axes as one."""
        axes = len(shape)
        start, end = (axis + axes if axis < 0 else axis for axis in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < axes:
            raise ArgumentValueError("x", shape, f"a shape with the axes {self.start_dim} to {self.end_dim}, in order")
        return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])

    def window(self, shape: Shape) -> tuple[Axis, ...]:
        """Every number stays as it was."""
        return tuple(Axis(size, 1) for size in shape[2:])

    def extra_repr(self) -> str:
        """torch's words."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
