"""Parameters: arrays that training replaces. What is handed out is read-only, so nothing made from it is ever stale."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Array, as_array
from ..errors import ArgumentTypeError, ArgumentValueError

__all__ = ["Parameter", "Weight", "frozen_copy", "layer_dtype"]


def layer_dtype(dtype: object) -> np.dtype[Any]:
    """`dtype` if weights can have it: float32 or float64."""
    expected = "float32 or float64"
    try:
        found = np.dtype(dtype)  # type: ignore[call-overload]
    except TypeError:
        raise ArgumentTypeError("dtype", dtype, expected) from None
    if found not in (np.float32, np.float64):
        raise ArgumentValueError("dtype", dtype, expected)
    return found  # type: ignore[no-any-return]


def frozen_copy(value: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """A read-only view of a copy of `value`. A view, because the owner of memory could make it writable again."""
    return _frozen(np.array(value, dtype=dtype, order="C"))


def _frozen(own: Array) -> Array:
    own.flags.writeable = False
    return own.view()


class Parameter:
    """One array that training changes, and the gradient of the loss with respect to it.

    Attributes:
        value: read-only array; assigning replaces it by a copy of the same shape and dtype.
        grad: sum of the gradients since :meth:`zero_grad`, of the same shape and dtype, or None.

    >>> weight = Parameter([1.0, 2.0])
    >>> weight.value = weight.value * 2
    >>> weight.value
    array([2., 4.], dtype=float32)
    """

    __slots__ = ("_dtype", "_live", "_shape", "_value", "grad")

    def __init__(self, value: ArrayLike, dtype: object = "float32") -> None:
        first = frozen_copy(value, layer_dtype(dtype))
        self._shape, self._dtype = first.shape, first.dtype
        self._value: Array | None = first
        self._live: Array | None = None
        self.grad: Array | None = None

    @property
    def value(self) -> Array:
        """The array, read-only."""
        if self._value is None:
            assert self._live is not None
            self._value = frozen_copy(self._live, self._dtype)
        return self._value

    @value.setter
    def value(self, value: ArrayLike) -> None:
        self.assign(value)

    def assign(self, value: ArrayLike, name: str = "value") -> None:
        """Replace the array by a copy of `value`; `name` is what an error calls it.

        Raises:
            ArgumentValueError, ArgumentTypeError: another shape, or no numbers.
        """
        array = as_array(name, value)
        if array.shape != self._shape:
            raise ArgumentValueError(name, array, f"the parameter's shape {self._shape}")
        self._value, self._live = frozen_copy(array, self._dtype), None

    def take(self, own: Array) -> None:
        """Replace the array by `own`, which the caller gives away: no copy. For optimizers."""
        assert own.shape == self._shape
        self._value, self._live = _frozen(own.astype(self._dtype, copy=False)), None

    def settle(self, live: Array) -> None:
        """Let the value lie in `live` from now on, where compiled steps change it; who reads it gets a copy."""
        if self._live is not live:
            live[...] = self.value
            self._live = live

    def has_moved(self) -> None:
        """What `settle` was given has changed."""
        assert self._live is not None
        self._value = None

    def add_grad(self, gradient: Array) -> None:
        """Add `gradient` to :attr:`grad`; the caller gives it away."""
        if self.grad is None:
            self.grad = gradient.astype(self._dtype, copy=False)
        else:
            self.grad = (self.grad + gradient).astype(self._dtype, copy=False)

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def __repr__(self) -> str:
        return f"Parameter(shape={self._shape}, dtype={self._dtype})"


class Weight:
    """A parameter as an attribute of its layer: reading gives the read-only array, assigning replaces it.

    An attribute that the layer was made without (``bias=False``) is None.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        """The array of `layer`, read-only, or None."""
        if layer is None:
            return self
        parameter = layer.own_parameters.get(self._name)
        return None if parameter is None else parameter.value

    def __set__(self, layer: Any, value: ArrayLike) -> None:
        """Replace the array of `layer`."""
        parameter = layer.own_parameters.get(self._name)
        if parameter is None:
            raise ArgumentValueError(self._name, value, f"nothing: this layer has no {self._name}")
        parameter.assign(value, self._name)
