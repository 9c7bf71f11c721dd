"""What networks of known architectures are written with: a graph builder whose layers find their weights by name.

The names of weights are torchvision's, those of nodes are the ones that torchvision's feature extraction gives them:
"layer1.0.conv1" has the weights "layer1.0.conv1.weight", and its output is the value "layer1.0.conv1".
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Array, Seed, generator_of
from ..data.files import FileContentError
from ..errors import ArgumentTypeError, ArgumentValueError
from .graph import Builder, Graph, Value

__all__ = ["Blueprint", "Weights"]

_NAMES_SHOWN = 6
_COUNTERS = "num_batches_tracked"
"""How many batches a batch norm has seen: of use in training only."""


class Weights:
    """Arrays by name: those that were given, or random ones; what does not fit is collected and told at the end.

    Args:
        given: arrays by name; None for random ones.
        seed: decides the random ones.
        source: the file that they came from, if any.
    """

    def __init__(
        self, given: Mapping[str, ArrayLike] | None, seed: Seed = 0, source: str | os.PathLike[str] | None = None
    ) -> None:
        if given is not None and any(not isinstance(name, str) for name in given):
            raise ArgumentTypeError("weights", list(given), "arrays by name")
        self.given = given
        self.source = source
        self._generator = generator_of(seed)
        self._missing: list[str] = []
        self._misshapen: list[str] = []
        self._taken: set[str] = set()

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of the given array `name`, if there is one."""
        return None if self.given is None or name not in self.given else np.shape(self.given[name])

    def take(self, name: str, shape: tuple[int, ...], draw: Callable[[np.random.Generator], Array]) -> Array:
        """The array `name` of `shape` as float32: what was given, or else what `draw` makes."""
        self._taken.add(name)
        if self.given is None:
            return np.asarray(draw(self._generator), np.float32)
        if name not in self.given:
            self._missing.append(f"{name} {shape}")
        elif np.shape(self.given[name]) != shape:
            self._misshapen.append(f"{name} {np.shape(self.given[name])} in place of {shape}")
        else:
            array = np.asarray(self.given[name])
            if array.dtype.kind == "f":
                return np.ascontiguousarray(array, np.float32).reshape(shape)
            self._misshapen.append(f"{name} of {array.dtype} in place of float32")
        return np.zeros(shape, np.float32)

    def finish(self, network: str) -> None:
        """Raise if the given arrays were not those of `network`: names missing, unexpected, or of other shapes.

        Raises:
            FileContentError: if they came from a file. ArgumentValueError: otherwise.
        """
        unexpected = [] if self.given is None else [name for name in self.given if name not in self._taken]
        unexpected = [f"{name} {self.shape(name)}" for name in unexpected if not name.endswith(_COUNTERS)]
        problems = [
            f"{what}: {_listed(names)}"
            for what, names in (
                ("missing", self._missing),
                ("of another shape or type", self._misshapen),
                ("unexpected", unexpected),
            )
            if names
        ]
        if problems:
            expected = f"the weights of {network}; {'; '.join(problems)}"
            if self.source is not None:
                raise FileContentError(self.source, expected)
            assert self.given is not None
            raise ArgumentValueError("weights", f"{len(self.given)} arrays by name", expected)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


class Blueprint:
    """A network as it is being written: each method adds a layer to what `x` names and returns its output's name."""

    def __init__(self, name: str, weights: Weights) -> None:
        self.builder = Builder(name)
        self.weights = weights
        self._limits = {"zero": np.zeros((), np.float32), "six": np.full((), 6, np.float32)}

    def constant(self, name: str, shape: tuple[int, ...], draw: Callable[[np.random.Generator], Array]) -> str:
        """A weight."""
        return self.builder.constant(name, self.weights.take(name, shape, draw))

    def conv(
        self,
        x: str,
        name: str,
        channels: tuple[int, int],
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        *,
        groups: int = 1,
        bias: bool = False,
    ) -> str:
        """A square convolution from `channels[0]` to `channels[1]` channels.

        Random weights are normal with variance 2 / (outputs of one input), as torchvision begins its networks. Source:
        K. He et al., "Delving deep into rectifiers", arXiv:1502.01852.
        """
        before, after = channels
        shape = (after, before // groups, kernel, kernel)
        deviation = math.sqrt(2 / (after * kernel * kernel // groups))
        inputs = [x, self.constant(f"{name}.weight", shape, lambda rng: _normal(rng, deviation, shape))]
        if bias:
            inputs.append(self.constant(f"{name}.bias", (after,), lambda _: np.zeros(after)))
        return self.builder.add(
            "Conv",
            *inputs,
            name=name,
            kernel_shape=(kernel, kernel),
            strides=(stride, stride),
            pads=(padding,) * 4,
            dilations=(1, 1),
            group=groups,
        )

    def norm(self, x: str, name: str, channels: int) -> str:
        """Batch norm with what training has found."""
        ones, zeros = (lambda _: np.ones(channels)), (lambda _: np.zeros(channels))
        parts = (("weight", ones), ("bias", zeros), ("running_mean", zeros), ("running_var", ones))
        inputs = [self.constant(f"{name}.{part}", (channels,), draw) for part, draw in parts]
        return self.builder.add("BatchNormalization", x, *inputs, name=name, epsilon=1e-5)

    def linear(self, x: str, name: str, before: int, after: int) -> str:
        """A dense layer; random weights as torch.nn.Linear's, uniform between ±1 / sqrt(before)."""
        bound = 1 / math.sqrt(before)
        weight = self.constant(
            f"{name}.weight", (after, before), lambda rng: rng.uniform(-bound, bound, (after, before))
        )
        bias = self.constant(f"{name}.bias", (after,), lambda rng: rng.uniform(-bound, bound, after))
        return self.builder.add("Gemm", x, weight, bias, name=name, transB=1)

    def relu(self, x: str, name: str) -> str:
        """max(x, 0)."""
        return self.builder.add("Relu", x, name=name)

    def relu6(self, x: str, name: str) -> str:
        """min(max(x, 0), 6)."""
        for limit, array in self._limits.items():
            self.builder.constant(limit, array)
        return self.builder.add("Clip", x, *self._limits, name=name)

    def max_pool(self, x: str, name: str, kernel: int, stride: int, padding: int = 0, *, ceil: bool = False) -> str:
        """The largest of each window; with `ceil`, windows may reach over the end."""
        return self.builder.add(
            "MaxPool",
            x,
            name=name,
            kernel_shape=(kernel, kernel),
            strides=(stride, stride),
            pads=(padding,) * 4,
            ceil_mode=int(ceil),
        )

    def add(self, x: str, y: str, name: str) -> str:
        """The sum of two."""
        return self.builder.add("Add", x, y, name=name)

    def mean(self, x: str, name: str) -> str:
        """The mean of each channel, (N, C, 1, 1)."""
        return self.builder.add("GlobalAveragePool", x, name=name)

    def flatten(self, x: str, name: str) -> str:
        """(N, C, H, W) as (N, C H W)."""
        return self.builder.add("Flatten", x, name=name, axis=1)

    def graph(self, output: str, shape: tuple[int | str, ...]) -> Graph:
        """The finished network, which gives `output` of `shape`; complains about weights that did not fit."""
        self.weights.finish(self.builder.name)
        return self.builder.graph(Value(output, np.dtype(np.float32), shape))


def _normal(rng: np.random.Generator, deviation: float, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape, np.float32) * np.float32(deviation)


def _uniform(rng: np.random.Generator, bound: float, shape: tuple[int, ...]) -> Array:
    return (2 * rng.random(shape, np.float32) - 1) * np.float32(bound)
