"""The one argument of compiled code: a block of 64-bit fields that kernels and callers know by name."""

import ctypes
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .emit.ir import Function, Int, Pointer, Vector

__all__ = ["Fields", "address_of", "bits_of"]


class Fields:
    """Named 64-bit slots. Compiled code reads them through :meth:`integer` and its like, Python fills them by `block`.

    A task function of a kernel is ``Function(name, target, ["fields", "task", "worker"])``: `fields` is the block's
    address, `task` the number of the task, `worker` that of the thread that runs it (see ``runtime.threads``).
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.index = {name: number for number, name in enumerate(self.names)}
        self._type = ctypes.c_int64 * len(self.names)

    # -- while emitting --------------------------------------------------------------------------------------

    def integer(self, f: Function, name: str) -> Int:
        """The field as an integer."""
        return f.pointer("fields", "i64").at(self.index[name]).load_int()

    def integers(self, f: Function, *names: str) -> list[Int]:
        """Several fields as integers."""
        return [self.integer(f, name) for name in names]

    def pointer(self, f: Function, name: str, element: str) -> Pointer:
        """The field as the address of `element`."""
        return f.address(self.integer(f, name), element)

    def real(self, f: Function, name: str, element: str) -> Vector:
        """The field as a number that `block` was given as a float, in type `element`."""
        return f.pointer("fields", "double").at(self.index[name]).load().converted(element)

    # -- while calling ---------------------------------------------------------------------------------------

    def block(self, values: Mapping[str, int | float]) -> "ctypes.Array[ctypes.c_int64]":
        """A block with these values: a float is stored as a double, what is not named as 0."""
        block = self._type()
        for name, value in values.items():
            block[self.index[name]] = bits_of(value) if isinstance(value, float) else value
        return block

    def copy(self, block: "ctypes.Array[ctypes.c_int64]") -> "ctypes.Array[ctypes.c_int64]":
        """A block of its own with the same values."""
        return self._type.from_buffer_copy(block)


def bits_of(value: float) -> int:
    """The bits of a double as an integer."""
    return int(struct.unpack("q", struct.pack("d", value))[0])


def _address_by_interface(array: NDArray[Any]) -> int:
    """The address of an array's first element, by the array interface: 0.7 µs."""
    return int(array.__array_interface__["data"][0])


def _address_by_layout(array: NDArray[Any]) -> int:
    """The same, read where NumPy's C interface has it, as the first member behind the object's head: 0.2 µs."""
    return _read_address(id(array) + _HEAD).value or 0


_read_address = ctypes.c_void_p.from_address
_HEAD = object.__basicsize__
_probes = [np.empty(3), np.empty((4, 4))[::-1, 1:], np.arange(6)[2:]]
# NumPy keeps this layout for every extension module; should an interpreter differ, the interface serves.
address_of = (
    _address_by_layout
    if all(_address_by_layout(probe) == _address_by_interface(probe) for probe in _probes)
    else _address_by_interface
)
