"""Batch normalisation."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import Array, checked_count, checked_number
from ..errors import ArgumentValueError
from .compiled import elementwise, laid_out_like, sums
from .module import Back, Module, Shape
from .parameter import Parameter, Weight, frozen_copy, layer_dtype

if TYPE_CHECKING:
    from ..engine.steps import Value
    from .recorder import Recorder

__all__ = ["BatchNorm2d"]


class BatchNorm2d(Module):
    """Every channel of (N, C, H, W) with mean 0 and variance 1, times weight, plus bias.

    In training mean and variance are the batch's, and the running ones move towards them by `momentum` (the variance
    with N - 1 in its denominator); in eval mode the running ones are used.
    Source: S. Ioffe and C. Szegedy, "Batch normalization", arXiv:1502.03167; names and details are torch's.

    Args:
        num_features: channels C.
        eps: added to the variance.
        momentum: share of the new statistics; None for the mean of all batches so far.
        affine: whether there are a weight (at first 1) and a bias (at first 0).
        bias: False for a weight alone.
        track_running_stats: False to use the batch's statistics in eval mode too.
        dtype: of weight, bias and statistics, "float32" or "float64".

    >>> layer = BatchNorm2d(1)
    >>> layer(np.array([-1.0, 1.0]).reshape(2, 1, 1, 1)).ravel().round(3)
    array([-1.,  1.])
    >>> layer.state_dict()["running_var"]
    array([1.1], dtype=float32)
    """

    weight = Weight()
    bias = Weight()

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: object = "float32",
    ) -> None:
        super().__init__()
        self.num_features = checked_count("num_features", num_features)
        self.eps = checked_number("eps", eps)
        self.momentum = None if momentum is None else checked_number("momentum", momentum, 0.0, 1.0)
        self.affine, self.track_running_stats = bool(affine), bool(track_running_stats)
        kind = layer_dtype(dtype)
        if affine:
            self.own_parameters["weight"] = Parameter(np.ones(self.num_features), kind)
        if affine and bias:
            self.own_parameters["bias"] = Parameter(np.zeros(self.num_features), kind)
        if track_running_stats:
            self.own_buffers["running_mean"] = frozen_copy(np.zeros(self.num_features), kind)
            self.own_buffers["running_var"] = frozen_copy(np.ones(self.num_features), kind)
            self.own_buffers["num_batches_tracked"] = frozen_copy(0, np.dtype(np.int64))

    def forward(self, x: Array) -> Array:
        """The normalised `x`."""
        self.output_shape(x.shape)
        batch = self.training or not self.track_running_stats
        if batch:
            mean, variance = self._of_batch(x)
            if self.training and self.track_running_stats:
                self._track(mean, variance, x.size // self.num_features)
        else:
            mean, variance = self.own_buffers["running_mean"], self.own_buffers["running_var"]
        scale = 1 / np.sqrt(variance + variance.dtype.type(self.eps))
        output = self._normalized(x, mean, scale)
        if output is not None:
            self.keep(x, mean, scale, batch)
            return output
        normal = (x - _channels(mean)) * _channels(scale)
        self.keep(normal, None, scale, batch)
        if not self.affine:
            return normal
        output = normal * _channels(self.weight)
        if self.bias is not None:
            output += _channels(self.bias)
        return output

    def _of_batch(self, x: Array) -> tuple[Array, Array]:
        """Mean and variance (with N in its denominator) per channel."""
        count = x.size // self.num_features
        if count < 2 and self.training:
            raise ArgumentValueError("x", x, "more than one value per channel, which a variance needs in training")
        total = sums("plain", [x])
        mean = (_per_channel(x) if total is None else total[0]) / x.dtype.type(count)
        squares = sums("squares", [x], [mean])
        if squares is not None:
            return mean, squares[0] / x.dtype.type(count)
        centred = x - _channels(mean)
        return mean, _per_channel(centred * centred) / x.dtype.type(count)

    def _normalized(self, x: Array, mean: Array, scale: Array) -> Array | None:
        """The result in one pass of compiled code; None where NumPy must do it, as where dtypes differ."""
        kinds = {
            x.dtype,
            mean.dtype,
            scale.dtype,
            *(parameter.value.dtype for parameter in self.own_parameters.values()),
        }
        if len(kinds) > 1:
            return None
        factor = scale * self.weight if self.affine else scale
        bias = np.zeros_like(factor) if self.bias is None else self.bias
        return elementwise("normalize", x, _channels(mean), _channels(factor), _channels(bias))

    def _track(self, mean: Array, variance: Array, count: int) -> None:
        buffers = self.own_buffers
        tracked = buffers["num_batches_tracked"] + 1
        share = 1 / float(tracked) if self.momentum is None else self.momentum
        new = {"running_mean": mean, "running_var": variance * (count / (count - 1))}
        for name, value in new.items():
            buffers[name] = frozen_copy((1 - share) * buffers[name] + share * value, buffers[name].dtype)
        buffers["num_batches_tracked"] = frozen_copy(tracked, tracked.dtype)

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """With the batch's statistics the gradient loses its mean and its part along the normalised x."""
        normal, mean, scale, batch = self.kept()
        if mean is not None:
            if grad.dtype == normal.dtype:
                grad = laid_out_like(grad, normal)
                found = sums("gradient", [grad, normal], [mean, scale])
            else:
                found = None
            if found is None:
                normal, mean = (normal - _channels(mean)) * _channels(scale), None
            else:
                total, along = found
        if mean is None:
            along, total = _per_channel(grad * normal), _per_channel(grad)
        if self.affine:
            self.own_parameters["weight"].add_grad(along)
        if self.bias is not None:
            self.own_parameters["bias"].add_grad(total)
        if not needed:
            return None
        factor = scale * self.weight if self.affine else scale
        if not batch:
            return grad * _channels(factor)
        count = grad.dtype.type(max(grad.size // self.num_features, 1))
        if mean is not None:
            shares = (factor, -factor * scale * (along / count), -factor * (total / count))
            compiled = elementwise("normalize_gradient", grad, normal, _channels(mean), *map(_channels, shares))
            if compiled is not None:
                return compiled
            normal = (normal - _channels(mean)) * _channels(scale)
        result: Array = grad - _channels(total / count)
        result -= normal * _channels(along / count)
        result *= _channels(factor)
        return result

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """The same operations, those on single channels too."""
        self.output_shape(x.shape)
        if self.momentum is None:
            raise tape.error("BatchNorm2d with momentum=None, whose share of new statistics is another at each step")
        channels, count = self.num_features, math.prod(x.shape) // self.num_features
        if count < 2:
            raise tape.error(f"BatchNorm2d with one value per channel, of {x.shape}")
        weight, bias = tape.parameter(self, "weight"), tape.parameter(self, "bias")
        weight = tape.constant(np.ones(channels)) if weight is None else weight
        bias = tape.constant(np.zeros(channels)) if bias is None else bias
        total, squares = tape.value((1, channels)), tape.value((1, channels))
        mean, variance, scale, factor = (tape.value((channels,)) for _ in range(4))

        def row(sums: "Value", number: int) -> "Value":
            return tape.view(sums, lambda array: array[number], (channels,))

        def spread(values: "Value") -> "Value":
            return tape.view(values, _channels, (channels, 1, 1))

        tape.sums("plain", [x], [], total)
        tape.elementwise("batch_mean", [row(total, 0)], [mean], [count])
        tape.sums("squares", [x], [mean], squares)
        tape.elementwise("batch_scale", [row(squares, 0), weight], [variance, scale, factor], [count, self.eps])
        if self.track_running_stats:
            for name, new, stretch in (("running_mean", mean, 1.0), ("running_var", variance, count / (count - 1))):
                running = tape.buffer(self, name)
                tape.elementwise("track", [running, new], [running], [1 - self.momentum, self.momentum, stretch])
            tape.counted(self, "num_batches_tracked")
        output = tape.like(x)
        tape.elementwise("normalize", [x, spread(mean), spread(factor), spread(bias)], [output])

        def back(grad: "Value", needed: bool) -> "Value | None":
            grad = tape.laid_like(grad, x)
            found = tape.value((2, channels))
            tape.sums("gradient", [grad, x], [mean, scale], found)
            for number, name in enumerate(("bias", "weight")):
                if name in self.own_parameters:
                    tape.elementwise("copy", [row(found, number)], [tape.gradient(self, name)])
            if not needed:
                return None
            shares = tape.value((channels,)), tape.value((channels,))
            tape.elementwise("batch_shares", [row(found, 0), row(found, 1), scale, factor], shares, [count])
            result = grad if grad.may_change else tape.like(grad)
            given = [grad, x, spread(mean), spread(factor), *map(spread, shares)]
            tape.elementwise("normalize_gradient", given, [result])
            return result

        return output, back

    def output_shape(self, shape: Shape) -> Shape:
        """The same."""
        if len(shape) != 4 or shape[1] != self.num_features:
            raise ArgumentValueError("x", shape, f"a shape (N, {self.num_features}, H, W)")
        return shape

    def multiply_adds(self, shape: Shape) -> int:
        """One per number."""
        return math.prod(shape)

    def extra_repr(self) -> str:
        """torch's words."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


def _channels(values: Any) -> Array:
    """(C,) so that it broadcasts over (N, C, H, W)."""
    result: Array = values[:, np.newaxis, np.newaxis]
    return result


def _per_channel(x: Array) -> Array:
    """Sums over everything but the channel; over the picture first, which NumPy adds pairwise."""
    result: Array = x.reshape(*x.shape[:2], math.prod(x.shape[2:])).sum(axis=2).sum(axis=0)
    return result
