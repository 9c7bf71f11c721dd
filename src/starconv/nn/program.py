"""A training step for batches of one shape, compiled: what the layers have written on a tape, and where it runs."""

from typing import Any

import numpy as np

from ..arguments import Array
from ..engine.emit.target import host_target
from ..engine.runtime.threads import get_num_threads
from ..engine.steps import Step, WriteError
from ..engine.tape import BoundTape
from .parameter import frozen_copy
from .recorder import Home, Recorder

__all__ = ["Home", "Program"]


class Program:
    """The tape of a step for batches of one shape.

    Raises:
        WriteError: where a layer, the optimizer or the pictures cannot be written down.
    """

    def __init__(self, home: Home, shape: tuple[int, ...], dtype: "np.dtype[Any]", last: bool) -> None:
        if host_target() is None:
            raise WriteError("no compiled code on this machine")
        if home.optimizer.maximize or not home.optimizer.begins_at_rest:
            raise WriteError("SGD with maximize or dampening is done parameter by parameter")
        if dtype != home.dtype:
            raise WriteError(f"pictures of {dtype} and parameters of {home.dtype}")
        self.home, self.tape = home, Recorder(home)
        self.x = self.tape.value(shape, last)
        self.outputs, back = self.tape.recorded(home.network, self.x)
        self.gradient = self.tape.like(self.outputs)
        self.tape.pause([self.outputs], [self.gradient])
        back(self.gradient, False)
        self.descent = self._descent()
        self._bound: tuple[int, BoundTape] | None = None
        self.bound()

    def _descent(self) -> Step:
        """All parameters moved at once."""
        weights, velocities, gradients = (
            self.tape.lasting(block) for block in (self.home.weights, self.home.velocities, self.home.gradients)
        )
        optimizer = self.home.optimizer
        name = "descend_nesterov" if optimizer.nesterov else "descend"
        # Without momentum there is no velocity to remember: it is 0 before every step.
        moved = velocities if optimizer.momentum else self.tape.like(velocities)
        before = velocities if optimizer.momentum else self.tape.constant(np.zeros_like(self.home.velocities))
        return self.tape.elementwise(name, [weights, before, gradients], [weights, moved], optimizer.numbers())

    def bound(self) -> BoundTape:
        """The tape bound for as many threads as may take part now."""
        limit = get_num_threads()
        if self._bound is None or self._bound[0] != limit:
            self._bound = limit, self.tape.bound()
        return self._bound[1]

    def forward(self, batch: Array) -> Array:
        """The prediction, a copy."""
        bound, home = self.bound(), self.home
        home.settle()
        bound.arrays[self.x][...] = batch
        for value, draw in self.tape.draws:
            bound.arrays[value][...] = draw()
        bound.run(0)
        home.publish_buffers()
        for module, name in self.tape.counts:
            before = module.own_buffers[name]
            module.own_buffers[name] = frozen_copy(before + 1, before.dtype)
        return bound.arrays[self.outputs].copy()

    def backward(self, gradient: Array) -> None:
        """From the gradient of the prediction to new parameters."""
        assert self._bound is not None
        bound, home = self._bound[1], self.home  # that of `forward`, whose values are there
        home.settle()
        bound.arrays[self.gradient][...] = gradient
        bound.set_numbers(self.descent, home.optimizer.numbers())
        home.publish_weights()  # first: after an interrupt, too, who asks must see where the weights are
        bound.run(1)
