"""Stochastic gradient descent, torch.optim.SGD's formula, and schedules of its learning rate."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Array, as_array, checked_count, checked_number
from ..errors import ArgumentTypeError, ArgumentValueError
from .compiled import descended
from .parameter import Parameter

__all__ = ["SGD", "CosineAnnealingLR", "Schedule", "StepLR"]


class SGD:
    """Gradient descent with momentum: torch.optim.SGD's formula.

    Per step, with gradient g and parameter w::

        g = g + weight_decay w
        v = g                                   at the first step, then
        v = momentum v + (1 - dampening) g
        w = w - lr (g + momentum v if nesterov else v)

    Args:
        parameters: those of a network, ``network.parameters()``.
        lr: learning rate; may be assigned at any time.
        momentum, dampening, weight_decay, nesterov: as above. nesterov needs a momentum and no dampening.
        maximize: climb instead.

    >>> weight = Parameter([1.0])
    >>> optimizer = SGD([weight], lr=0.5)
    >>> weight.add_grad(weight.value * 2)  # the gradient of w²
    >>> optimizer.step()
    >>> weight.value
    array([0.], dtype=float32)
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        self.parameters = list(parameters)
        for parameter in self.parameters:
            if not isinstance(parameter, Parameter):
                raise ArgumentTypeError("parameters", parameter, "starconv.nn.Parameter objects")
        if len({id(parameter) for parameter in self.parameters}) < len(self.parameters):
            raise ArgumentValueError("parameters", self.parameters, "every parameter once")
        self.lr = checked_number("lr", lr)
        self.momentum = checked_number("momentum", momentum)
        self.dampening = checked_number("dampening", dampening, -math.inf)
        self.weight_decay = checked_number("weight_decay", weight_decay)
        self.nesterov, self.maximize = bool(nesterov), bool(maximize)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ArgumentValueError("nesterov", nesterov, "False, or a momentum above 0 and a dampening of 0")
        self._velocity: list[Array | None] = [None] * len(self.parameters)

    def step(self) -> None:
        """Replace every parameter that has a gradient."""
        rate = float(self.lr)  # a NumPy float64 would make float32 weights wide
        for number, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            gradient = -parameter.grad if self.maximize else parameter.grad
            before = self._velocity[number]
            if before is not None or self.begins_at_rest:
                at_rest = np.zeros_like(parameter.value) if before is None else before
                moved = self._moved(parameter.value, at_rest, gradient)
                if moved is not None:
                    value, velocity = moved
                    self._velocity[number] = velocity if self.momentum else None
                    parameter.take(value)
                    continue
            if self.weight_decay:
                gradient = gradient + self.weight_decay * parameter.value
            if self.momentum:
                if before is None:
                    velocity = gradient.copy()
                else:
                    velocity = self.momentum * before
                    velocity += (1 - self.dampening) * gradient
                self._velocity[number] = velocity
                gradient = gradient + self.momentum * velocity if self.nesterov else velocity
            parameter.take(parameter.value - rate * gradient)

    @property
    def begins_at_rest(self) -> bool:
        """Whether the first step is as if there had been a velocity of 0, so that it is like all others."""
        return self.momentum == 0 or self.dampening == 0

    def numbers(self) -> tuple[float, float, float, float]:
        """What `engine.elementwise`'s "descend" takes besides weights, velocities and gradients."""
        fresh = 1 - self.dampening if self.momentum else 1.0
        return float(self.lr), self.momentum, fresh, self.weight_decay

    def settle(self, number: int, live: Array) -> None:
        """Let the velocity of parameter `number` lie in `live` from now on, where compiled steps change it."""
        before = self._velocity[number]
        if before is not live:
            live[...] = 0 if before is None else before
            self._velocity[number] = live

    def _moved(self, value: Array, velocity: Array, gradient: Array) -> tuple[Array, Array] | None:
        """New value and velocity in one pass of compiled code; None where there is none."""
        return descended(value, velocity, gradient, self.numbers(), nesterov=self.nesterov)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.zero_grad()

    def state_dict(self) -> dict[str, Array]:
        """The velocities by the number of their parameter; what was never moved has none."""
        return {str(number): velocity.copy() for number, velocity in enumerate(self._velocity) if velocity is not None}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Go on with the velocities of `state`."""
        loaded: list[Array | None] = [None] * len(self.parameters)
        for name, value in state.items():
            if not name.isdecimal() or int(name) >= len(self.parameters):
                raise ArgumentValueError("state", name, f"numbers of parameters, below {len(self.parameters)}")
            array, own = as_array(name, value), self.parameters[int(name)].value
            if array.shape != own.shape:
                raise ArgumentValueError(name, array, f"the shape {own.shape}")
            loaded[int(name)] = array.astype(own.dtype)
        self._velocity = loaded

    def settings(self) -> dict[str, Any]:
        """What the formula has besides the parameters and the learning rate, which a schedule changes."""
        names = ("momentum", "dampening", "weight_decay", "nesterov", "maximize")
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.settings().items() if value)
        return f"SGD(lr={self.lr}{', ' + options if options else ''})"


class Schedule:
    """Base of schedules: the learning rate of every epoch. Call :meth:`step` after each of them, as in torch.

    A schedule of your own defines ``rate(epoch)``. Since that knows no past, training can go on at any epoch.
    """

    def __init__(self, optimizer: SGD) -> None:
        if not isinstance(optimizer, SGD):
            raise ArgumentTypeError("optimizer", optimizer, "a starconv.nn.SGD")
        self.optimizer = optimizer
        self.base_lr = optimizer.lr
        self.epoch = 0

    def rate(self, epoch: int) -> float:
        """The learning rate of `epoch`, counted from 0."""
        raise NotImplementedError(f"{type(self).__name__}.rate")

    def step(self) -> None:
        """Go to the next epoch."""
        self.go_to(self.epoch + 1)

    def go_to(self, epoch: int) -> None:
        """Go to `epoch`."""
        self.epoch = checked_count("epoch", epoch, 0)
        self.optimizer.lr = self.rate(self.epoch)


class StepLR(Schedule):
    """The learning rate times gamma after every `step_size` epochs.

    >>> schedule = StepLR(SGD([], lr=1.0), step_size=2, gamma=0.5)
    >>> [schedule.rate(epoch) for epoch in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer: SGD, step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer)
        self.step_size = checked_count("step_size", step_size)
        self.gamma = checked_number("gamma", gamma)

    def rate(self, epoch: int) -> float:
        """lr gamma^floor(epoch / step_size)."""
        return float(self.base_lr * self.gamma ** (epoch // self.step_size))


class CosineAnnealingLR(Schedule):
    """The learning rate along half a cosine from its value at first to `eta_min` after `T_max` epochs (then back).

    Source: I. Loshchilov and F. Hutter, "SGDR", arXiv:1608.03983, without restarts.

    >>> schedule = CosineAnnealingLR(SGD([], lr=1.0), T_max=4)
    >>> [round(schedule.rate(epoch), 3) for epoch in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(self, optimizer: SGD, T_max: int, eta_min: float = 0.0) -> None:
        super().__init__(optimizer)
        self.T_max = checked_count("T_max", T_max)
        self.eta_min = checked_number("eta_min", eta_min)

    def rate(self, epoch: int) -> float:
        """eta_min + (lr - eta_min)(1 + cos(pi epoch / T_max)) / 2."""
        return self.eta_min + (self.base_lr - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2
