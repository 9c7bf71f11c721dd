"""A tape for layers: it knows their parameters, where these lie, and what happens between two steps."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arguments import Array
from ..engine.steps import Value, WriteError
from ..engine.tape import Tape
from .module import Back, Module
from .optim import SGD
from .parameter import Parameter, frozen_copy

__all__ = ["Home", "Recorder"]

LINE = 64
"""Bytes of a cache line: no two parameters share one."""


class Home:
    """One block each for the weights, velocities and gradients of all parameters, and one for running statistics.

    So one step of compiled code moves all parameters. What somebody has replaced since is taken in by `settle`.
    """

    def __init__(self, network: Module, optimizer: SGD) -> None:
        self.network, self.optimizer = network, optimizer
        parameters = network.parameters()
        if {id(one) for one in parameters} != {id(one) for one in optimizer.parameters}:
            raise WriteError("the optimizer has not the parameters of the network, or not all of them")
        kinds = {parameter.value.dtype for parameter in parameters}
        if len(kinds) != 1:
            raise WriteError(f"parameters of {len(kinds)} dtypes")
        (self.dtype,) = kinds
        self.weights, self.velocities, self.gradients = (self._block(optimizer.parameters) for _ in range(3))
        views = (self._views(block) for block in (self.weights, self.velocities, self.gradients))
        self._weight, self._velocity, self._gradient = views
        self._values: dict[int, Value] = {}
        self._buffers: dict[tuple[Module, str], tuple[Array, Array | None]] = {}

    def _block(self, parameters: list[Parameter]) -> Array:
        return np.zeros(sum(self._room(parameter) for parameter in parameters), self.dtype)

    def _room(self, parameter: Parameter) -> int:
        line = LINE // self.dtype.itemsize
        return -(-parameter.value.size // line) * line

    def _views(self, block: Array) -> dict[int, Array]:
        """By the parameter's identity."""
        views, start = {}, 0
        for parameter in self.optimizer.parameters:
            value = parameter.value
            views[id(parameter)] = block[start : start + value.size].reshape(value.shape)
            start += self._room(parameter)
        return views

    def weight(self, parameter: Parameter) -> Array:
        """Where its value lies."""
        return self._weight[id(parameter)]

    def gradient(self, parameter: Parameter) -> Array:
        """Where its gradient is written."""
        return self._gradient[id(parameter)]

    def buffer(self, module: Module, name: str) -> Array:
        """Where a running statistic lies."""
        key = module, name
        if key not in self._buffers:
            self._buffers[key] = np.zeros(module.own_buffers[name].shape, self.dtype), None
        return self._buffers[key][0]

    def settle(self) -> None:
        """Take in all that is not here: at first everything, later what was assigned or moved by others."""
        for number, parameter in enumerate(self.optimizer.parameters):
            parameter.settle(self._weight[id(parameter)])
            if self.optimizer.momentum:
                self.optimizer.settle(number, self._velocity[id(parameter)])
        for (module, name), (live, handed_out) in self._buffers.items():
            if module.own_buffers[name] is not handed_out:
                live[...] = module.own_buffers[name]

    def publish_buffers(self) -> None:
        """Hand out the running statistics as they are now."""
        for (module, name), (live, _) in self._buffers.items():
            module.own_buffers[name] = handed_out = frozen_copy(live, module.own_buffers[name].dtype)
            self._buffers[module, name] = live, handed_out

    def publish_weights(self) -> None:
        """What was handed out of the weights is out of date."""
        for parameter in self.optimizer.parameters:
            parameter.has_moved()


class Recorder(Tape):
    """What layers write themselves on.

    Attributes:
        draws: values that are drawn anew before each step, and how.
        counts: the counters that go up with each step.
    """

    def __init__(self, home: Home) -> None:
        super().__init__(home.dtype)
        self.home = home
        self.draws: list[tuple[Value, Callable[[], Array]]] = []
        self.counts: list[tuple[Module, str]] = []
        self._known: dict[tuple[Any, ...], Value] = {}

    def recorded(self, layer: Module, x: Value) -> tuple[Value, Back]:
        """What `layer` writes for `x`."""
        if not layer.training:
            raise WriteError(f"{type(layer).__name__} is in eval mode")
        kinds = type(layer).__mro__
        says, does = (next(n for n, kind in enumerate(kinds) if name in vars(kind)) for name in ("record", "forward"))
        if does < says:
            raise WriteError(f"{type(layer).__name__} has a forward of its own and does not say how it is written down")
        return layer.record(self, x)

    def parameter(self, layer: Module, name: str) -> Value | None:
        """A parameter's value; None if the layer has none of that name."""
        found = layer.own_parameters.get(name)
        return None if found is None else self._once((found, "weight"), lambda: self.home.weight(found))

    def gradient(self, layer: Module, name: str) -> Value:
        """Where its gradient belongs."""
        parameter = layer.own_parameters[name]
        return self._once((parameter, "gradient"), lambda: self.home.gradient(parameter))

    def bias_gradient(self, layer: Module, grad: Value) -> None:
        """Every output channel has its bias in all of its elements; nothing for layers without."""
        if "bias" in layer.own_parameters:
            bias = self.gradient(layer, "bias")
            self.sums("plain", [grad], [], self.view(bias, lambda array: array[np.newaxis], (1, *bias.shape)))

    def buffer(self, layer: Module, name: str) -> Value:
        """A running statistic."""
        return self._once((layer, name), lambda: self.home.buffer(layer, name))

    def constant(self, array: Array) -> Value:
        """An array that stays as it is."""
        return self.lasting(array.astype(self.dtype))

    def drawn(self, value: Value, draw: Callable[[], Array]) -> None:
        """Fill `value` with what `draw` gives before each step."""
        self.draws.append((value, draw))

    def counted(self, layer: Module, name: str) -> None:
        """Let a counter go up with each step."""
        self.counts.append((layer, name))

    def wants_axes(self, x: Value, axes: int) -> None:
        """Raise unless `x` has so many axes and something in it."""
        if len(x.shape) != axes or not math.prod(x.shape):
            raise WriteError(f"an input of shape {x.shape} where {axes} axes with something in them are expected")

    def error(self, what: str) -> WriteError:
        """What to raise where a layer cannot be written down."""
        return WriteError(what)

    def _once(self, key: tuple[Any, ...], find: Callable[[], Array]) -> Value:
        if key not in self._known:
            self._known[key] = self.lasting(find())
        return self._known[key]
