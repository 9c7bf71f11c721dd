"""What every layer, and every network of layers, can do: run, run backward, list, keep and describe its parameters."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from ..arguments import Array, as_array
from ..errors import ArgumentTypeError, ArgumentValueError, StarconvError
from ..geometry import Axis
from .parameter import Parameter, frozen_copy

if TYPE_CHECKING:
    from ..engine.steps import Value
    from .recorder import Recorder
    from .summary import Summary

__all__ = ["BackwardError", "Module"]

Shape = tuple[int, ...]
Back = Callable[["Value", bool], "Value | None"]


class BackwardError(StarconvError, RuntimeError):
    """backward without a forward call whose gradient it could be."""


class Module:
    """Base of layers. ``layer(x)`` runs it, ``layer.backward(grad)`` gives gradients of the last call.

    A layer of your own defines ``forward(x)``, which keeps what it needs with ``self.keep(...)``, and
    ``pull_back(grad, needed)``, which takes it with ``self.kept()``, adds to the gradients of its parameters and
    returns the gradient with respect to x (or None if not `needed`); for :meth:`summary` also ``output_shape``.

    Attributes:
        training: True after :meth:`train` (and at first), False after :meth:`eval`.
        keeps_order: whether it is one function of every number that never falls, as ReLU is.
        takes_maxima: whether it gives maxima of some of its input's numbers.

    >>> import numpy as np
    >>> class Double(Module):
    ...     def forward(self, x):
    ...         return 2 * x
    ...     def pull_back(self, grad, needed):
    ...         return 2 * grad
    >>> layer = Double()
    >>> layer([1.0, 2.0]), layer.backward(np.ones(2))
    (array([2., 4.]), array([2., 2.]))
    """

    keeps_order = False
    takes_maxima = False

    def __init__(self) -> None:
        self.training = True
        self.own_parameters: dict[str, Parameter] = {}
        self.own_buffers: dict[str, Array] = {}
        self.own_children: dict[str, Module] = {}
        self._kept: tuple[Any, ...] | None = None
        self._output_shape: Shape | None = None

    # Running

    def __call__(self, x: ArrayLike) -> Array:
        """The layer's output for `x`."""
        output = self.forward(as_array("x", x))
        self._output_shape = output.shape
        return output

    def backward(self, grad: ArrayLike) -> Array:
        """The gradient with respect to the last call's input, given the one with respect to its output.

        Adds the gradients of the parameters to their ``grad``. Good for one time per call.

        Raises:
            BackwardError: there was no call, or its gradient has been taken.
            ArgumentValueError: `grad` has not the shape of the last output.
        """
        gradient = self._backward(grad, True)
        assert gradient is not None
        return gradient

    def backward_parameters(self, grad: ArrayLike) -> None:
        """:meth:`backward` without the gradient of the input, which training does not need."""
        self._backward(grad, False)

    def _backward(self, grad: ArrayLike, needed: bool) -> Array | None:
        gradient = as_array("grad", grad)
        if self._output_shape is None:
            raise BackwardError(
                f"{type(self).__name__}.backward: there is no call of the layer left to go back through"
            )
        if gradient.shape != self._output_shape:
            raise ArgumentValueError("grad", gradient, f"the shape of the last output, {self._output_shape}")
        self._output_shape = None
        return self.pull_back(gradient, needed)

    def forward(self, x: Array) -> Array:
        """The output for `x`; what a layer defines."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """The gradient with respect to x, or None if it is not `needed`; what a layer defines."""
        raise NotImplementedError(f"{type(self).__name__}.pull_back")

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """Write on `tape` what `forward` does in training; gives the output, and what writes `pull_back`.

        A layer may define it, for :class:`starconv.nn.TrainingStep`; networks with one that does not go layer by layer.

        Raises:
            WriteError: this layer cannot be written down as it is.
        """
        from ..engine.steps import WriteError

        raise WriteError(f"{type(self).__name__} does not say how it is written down")

    def keep(self, *values: Any) -> None:
        """Keep `values` for :meth:`pull_back`, until the next call."""
        self._kept = values

    def kept(self) -> tuple[Any, ...]:
        """What :meth:`keep` kept; once, so that its memory is free as the gradient passes."""
        if self._kept is None:
            raise BackwardError(
                f"{type(self).__name__}.backward: there is no call of the layer left to go back through"
            )
        values, self._kept = self._kept, None
        return values

    # Parameters

    def modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """This module and all inside it, by name ("" for this one), in the order in which they run."""
        yield prefix, self
        for name, child in self.own_children.items():
            yield from child.modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> dict[str, Parameter]:
        """All parameters by name, as in torch: "weight", or "0.weight" inside a Sequential."""
        return {
            f"{prefix}.{name}" if prefix else name: parameter
            for prefix, module in self.modules()
            for name, parameter in module.own_parameters.items()
        }

    def parameters(self) -> list[Parameter]:
        """All parameters, in the order of :meth:`named_parameters`."""
        return list(self.named_parameters().values())

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def train(self, mode: bool = True) -> "Module":
        """Training mode (batch norm uses its batch, dropout drops) or, with False, that of :meth:`eval`."""
        for _, module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> "Module":
        """Inference mode: batch norm uses its running statistics, dropout does nothing."""
        return self.train(False)

    def state_dict(self) -> dict[str, Array]:
        """All parameters and buffers by torch's names, as read-only arrays."""
        state: dict[str, Array] = {}
        for prefix, module in self.modules():
            dot = f"{prefix}." if prefix else ""
            state |= {dot + name: parameter.value for name, parameter in module.own_parameters.items()}
            state |= {dot + name: buffer for name, buffer in module.own_buffers.items()}
        return state

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Replace all parameters and buffers by those of `state`: all of them, or none if something does not fit.

        Raises:
            ArgumentValueError: names that are missing or too many, or an array of another shape.
            ArgumentTypeError: an array that is none.
        """
        if not isinstance(state, Mapping):
            raise ArgumentTypeError("state", state, "a mapping from names to arrays")
        own = self.state_dict()
        missing, extra = [name for name in own if name not in state], [name for name in state if name not in own]
        if missing or extra:
            faults = (["missing " + ", ".join(missing)] if missing else []) + (
                ["without a place " + ", ".join(map(str, extra))] if extra else []
            )
            raise ArgumentValueError("state", sorted(map(str, state)), f"this network's names ({'; '.join(faults)})")
        arrays = {name: as_array(name, state[name]) for name in own}
        for name, array in arrays.items():
            if array.shape != own[name].shape:
                raise ArgumentValueError(name, array, f"the shape {own[name].shape}")
        for prefix, module in self.modules():
            dot = f"{prefix}." if prefix else ""
            for name, parameter in module.own_parameters.items():
                parameter.assign(arrays[dot + name], dot + name)
            for name, buffer in module.own_buffers.items():
                module.own_buffers[name] = frozen_copy(arrays[dot + name], buffer.dtype)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`state_dict` to `path`, .npz or .safetensors; see :func:`starconv.nn.save_state`."""
        from .storage import save_state

        save_state(self.state_dict(), path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace all parameters and buffers by those in `path`; see :func:`starconv.nn.load_state`."""
        from .storage import load_state

        self.load_state_dict(load_state(path))

    # Description

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of the output for an input of `shape` (N, C, ...); what a layer defines."""
        raise NotImplementedError(f"{type(self).__name__}.output_shape")

    def multiply_adds(self, shape: Shape) -> int:
        """Products summed up for an input of `shape`; 0 for layers without a sum of products."""
        return 0

    def window(self, shape: Shape) -> tuple[Axis, ...] | None:
        """Per spatial axis who reads what, for an input of `shape`; None where every output reads everything."""
        return tuple(Axis(size, 1) for size in shape[2:])

    def summary(self, input_size: Sequence[int]) -> "Summary":
        """Shapes, parameters, multiply-adds and receptive field per layer, for one input of (C, H, W) or so."""
        from .summary import summarize

        return summarize(self, input_size)

    def extra_repr(self) -> str:
        """What stands in the parentheses of ``repr``."""
        return ""

    def __repr__(self) -> str:
        name = type(self).__name__
        if not self.own_children:
            return f"{name}({self.extra_repr()})"
        lines = [f"({key}): {child!r}".replace("\n", "\n  ") for key, child in self.own_children.items()]
        return f"{name}(\n  " + "\n  ".join(lines) + "\n)"
