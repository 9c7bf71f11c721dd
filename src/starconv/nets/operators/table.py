"""What an operator's function is given besides arrays, how it is found by name, and how it refuses."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StarconvError
from ..graph import Node

__all__ = ["DTYPES", "TABLE", "Array", "Call", "NodeError", "Operator", "Refusal", "operator"]

Array = NDArray[Any]

DTYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(name)
    for number, name in {
        1: "float32",
        2: "uint8",
        3: "int8",
        4: "uint16",
        5: "int16",
        6: "int32",
        7: "int64",
        9: "bool",
        10: "float16",
        11: "float64",
        12: "uint32",
        13: "uint64",
    }.items()
}
"""The types that networks may have, by ONNX's numbers (TensorProto.DataType)."""


class NodeError(StarconvError, ValueError):
    """A layer that cannot do what it is asked to: its operator, its name, what came in, and the reason."""

    def __init__(self, op: str, name: str, came_in: str, reason: str) -> None:
        self.op, self.name, self.came_in, self.reason = op, name, came_in, reason
        super().__init__(f"{op} {name!r} with inputs {came_in or 'none'}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.op, self.name, self.came_in, self.reason)


class Refusal(Exception):
    """The reason alone, raised where node and inputs are not at hand; `run_node` makes it a :class:`NodeError`."""


class Call:
    """One run of a node: its attributes with their types checked, and a guard for large results.

    `left` is what other values leave of the memory for all of them, or None where nobody counts.
    """

    def __init__(self, node: Node, opset: int, largest: int, left: int | None = None) -> None:
        self.node, self.opset, self.largest, self.left = node, opset, largest, left

    def has(self, name: str) -> bool:
        """Whether the attribute is set."""
        return name in self.node.attributes

    def integer(self, name: str, default: int | None = None) -> int:
        """An attribute that is an integer."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise Refusal(f"attribute {name} = {value!r} should be an integer")
        return int(value)

    def number(self, name: str, default: float | None = None) -> float:
        """An attribute that is a number."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise Refusal(f"attribute {name} = {value!r} should be a number")
        return float(value)

    def word(self, name: str, default: str, known: Sequence[str]) -> str:
        """An attribute that is one of the `known` words."""
        value = self._get(name, default)
        if value not in known:
            raise Refusal(f"attribute {name} = {value!r} should be one of {', '.join(known)}")
        return str(value)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An attribute that is a list of integers, or None where it is not set."""
        value = self.node.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, (tuple, list)) or not all(isinstance(entry, (int, np.integer)) for entry in value):
            raise Refusal(f"attribute {name} = {value!r} should be a list of integers")
        return tuple(int(entry) for entry in value)

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """An attribute that is a list of numbers, or None where it is not set."""
        value = self.node.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, (tuple, list)) or not all(isinstance(entry, (int, float)) for entry in value):
            raise Refusal(f"attribute {name} = {value!r} should be a list of numbers")
        return tuple(float(entry) for entry in value)

    def listed(self, name: str, given: Array | None) -> tuple[int, ...] | None:
        """A list of integers that older opsets have as an attribute and newer ones as an input; None for neither."""
        return integers_of(given, name) if given is not None else self.integers(name)

    def room(self, shape: Sequence[int], dtype: Any) -> tuple[int, ...]:
        """`shape`, if a result of that shape is not larger than a value may be."""
        sizes = tuple(int(size) for size in shape)
        if any(size < 0 for size in sizes):
            raise Refusal(f"a result of shape {sizes} cannot be")
        needed = math.prod(sizes) * np.dtype(dtype).itemsize
        if needed > self.largest:
            raise Refusal(
                f"a result of shape {sizes} takes {needed:,} bytes, more than the {self.largest:,} that are allowed "
                "(argument largest)"
            )
        self.fits(needed, f"a result of shape {sizes}")
        return sizes

    def fits(self, needed: int, what: str) -> None:
        """Refuse what takes `needed` bytes, if that is more than other values leave."""
        if self.left is not None and needed > self.left:
            raise Refusal(
                f"{what} takes {needed:,} bytes, more than the {max(self.left, 0):,} that are left beside other values "
                "(argument memory)"
            )

    def _get(self, name: str, default: object) -> object:
        value = self.node.attributes.get(name, default)
        if value is None:
            raise Refusal(f"attribute {name} is missing")
        return value


@dataclass(frozen=True)
class Operator:
    """One row of the table.

    Attributes:
        run: ``run(call, *inputs)``, an array or a tuple of arrays.
        needed: inputs that must be there.
        most: inputs that can be there; None for any number.
        kinds: what the first input may be made of, by ``numpy.dtype.kind``.
        alike: all inputs have the same dtype.
    """

    run: Callable[..., Any]
    needed: int
    most: int | None
    kinds: str
    alike: bool


TABLE: dict[str, Operator] = {}
"""All operators by ONNX's names. The files beside this one fill it."""


def operator(
    *names: str, kinds: str = "biuf", alike: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function ``run(call, *inputs)`` into the table; which inputs it needs is read from its parameters."""

    def enter(run: Callable[..., Any]) -> Callable[..., Any]:
        parameters = list(inspect.signature(run).parameters.values())[1:]
        needed = sum(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in parameters)
        most = None if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(parameters)
        for name in names:
            TABLE[name] = Operator(run, needed, most, kinds, alike)
        return run

    return enter


def integers_of(given: Array, name: str) -> tuple[int, ...]:
    """A short list of integers that came as an input."""
    if given.dtype.kind not in "iu" or given.ndim > 1 or given.size > 64:
        raise Refusal(f"{name} should be a list of at most 64 integers, not {given.dtype} {given.shape}")
    return tuple(int(entry) for entry in given.reshape(-1))


def axis_of(axis: int, ndim: int, name: str = "axis") -> int:
    """`axis` counted from the front."""
    if not -ndim <= axis < ndim:
        raise Refusal(f"{name} {axis} should be from {-ndim} to {ndim - 1}")
    return axis % ndim


def axes_of(axes: Sequence[int], ndim: int) -> tuple[int, ...]:
    """`axes` counted from the front, each once."""
    found = tuple(axis_of(axis, ndim, "axes:") for axis in axes)
    if len(set(found)) != len(found):
        raise Refusal(f"axes {tuple(axes)} should each be there once")
    return found


def mean_of(x: Array, axes: tuple[int, ...], keepdims: bool = True) -> Any:
    """numpy.mean, which warns of the mean of nothing; here that is NaN without a word."""
    if 0 in (x.shape[axis] for axis in axes):
        return np.full(x.sum(axis=axes, keepdims=keepdims).shape, np.nan, np.result_type(x.dtype, np.float16))
    return x.mean(axis=axes, keepdims=keepdims)
