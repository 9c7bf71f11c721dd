"""Weights in the order in which kernels read them, packed by compiled code: every functional call pays for it."""

import ctypes
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...problem import Problem
from ..descriptor import address_of
from ..emit.ir import module_source
from ..emit.source import Source, emitted
from ..emit.target import Target
from ..runtime import jit, memory, threads
from .packing import PANEL_FIELDS, pack_panels, weight_layout

__all__ = ["ELEMENTS", "ChannelRows", "Compiled", "KernelRows", "Panels", "compiled", "readable"]

Array = NDArray[Any]

ELEMENTS = {"float32": "float", "float64": "double"}
"""LLVM's names of the types in which kernels sum."""
_SERIAL_BYTES = 64 << 10
"""Work on less than this many bytes is over before another thread has joined."""


class Panels:
    """Weights as kernels read them: per group, panels of `width` kernels, [channel][tap][kernel], padded with zeros."""

    def __init__(self, problem: Problem, target: Target, width: int) -> None:
        self.problem, self.target, self.width = problem, target, width
        self.kernels = problem.out_channels // problem.groups
        self.blocks = -(-self.kernels // width)
        self.length = math.prod(problem.weight_shape[1:])
        self._size = problem.groups * self.blocks * width * self.length
        self.bytes = self._size * problem.itemsize
        self._dtype = np.dtype(problem.dtype)
        self._no_bias = np.zeros((problem.groups, self.blocks * width), problem.dtype)
        self._forms: dict[tuple[int, ...], Any] = {}
        self._slots = PANEL_FIELDS.index["weights"], PANEL_FIELDS.index["panels"]

    def pack(self, weights: Array, once: bool = False) -> Array:
        """The panels of `weights` (K, C / groups, ...), of any strides; `once` as in :class:`Solution`'s prepare."""
        weights = readable(weights, self._dtype)
        busy = self.bytes > _SERIAL_BYTES
        # Vectors at multiples of their size do not straddle cache lines; for a few it is not worth the search.
        panels = memory.lent_empty(self._size, self._dtype) if busy else np.empty(self._size, self._dtype)
        form = self._forms.get(weights.strides)
        if form is None:
            if len(self._forms) >= 32:
                self._forms.clear()
            form = self._forms[weights.strides] = self._form(weights)
        function, fields = form
        block = PANEL_FIELDS.copy(fields)
        block[self._slots[0]] = address_of(weights)
        block[self._slots[1]] = address_of(panels)
        count = self.problem.groups * self.blocks
        threads.run(function.address, ctypes.addressof(block), count, threads.get_num_threads() if busy else 1)
        return panels

    def _form(self, weights: Array) -> tuple["Compiled", Any]:
        """The function that packs weights of such strides, and its fields but for the addresses."""
        fields = PANEL_FIELDS.block(
            {
                "kernels": self.kernels,
                "blocks": self.blocks,
                "length": self.length,
                "channels": weights.shape[1],
                "group_step": self.kernels * weights.strides[0],
                **weight_layout(weights),
            }
        )
        return _panel_function(self.target, ELEMENTS[self.problem.dtype], self.width), fields

    @property
    def form(self) -> object:
        """What `pack` and `bias` give depends on this, the number of groups and the arrays alone."""
        return type(self).__name__, self.width

    def bias(self, bias: Array | None) -> Array:
        """One value per kernel of every panel; zeros where there is no bias."""
        if bias is None:
            return self._no_bias
        padded = self._no_bias.copy()
        padded[:, : self.kernels] = bias.reshape(self.problem.groups, self.kernels)
        return padded


class KernelRows(Panels):
    """Weights of one tap as they lie in memory, a row of channels per kernel; `width` of them are used together."""

    def __init__(self, problem: Problem, target: Target, width: int) -> None:
        super().__init__(problem, target, width)
        self.bytes = math.prod(problem.weight_shape) * problem.itemsize

    def pack(self, weights: Array, once: bool = False) -> Array:
        """`weights` themselves if they are dense and stay as they are for the call, else a copy."""
        if once and weights.dtype == self._dtype and weights.flags.c_contiguous and weights.flags.aligned:
            return weights
        return weights.astype(self._dtype, order="C")


class ChannelRows:
    """Weights of depthwise layers as [tap][channel], and biases."""

    def __init__(self, problem: Problem) -> None:
        self._dtype = np.dtype(problem.dtype)
        self._no_bias = np.zeros(problem.in_channels, self._dtype)

    @property
    def form(self) -> object:
        """What `pack` and `bias` give depends on this and the arrays alone."""
        return type(self).__name__

    def pack(self, weights: Array, once: bool = False) -> Array:
        """A copy, [tap][channel]."""
        return np.array(weights.reshape(len(weights), -1).T, self._dtype, order="C")

    def bias(self, bias: Array | None) -> Array:
        """One value per channel; zeros where there is no bias."""
        return self._no_bias if bias is None else np.array(bias, self._dtype)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled function: its address, and the module that must live as long."""

    address: int
    module: jit.Module


@lru_cache(maxsize=64)
def _panel_function(target: Target, element: str, width: int) -> Compiled:
    return compiled(_panel_module(target, element, width), target, "pack_panels")


@emitted("pack_panels")
def _panel_module(target: Target, element: str, width: int) -> str:
    return module_source(pack_panels(target, element, width))


@lru_cache(maxsize=512)
def compiled(source: str | Source, target: Target, name: str) -> Compiled:
    """The function `name` of a module's IR."""
    module = jit.compile_module(source, features=target.features)
    return Compiled(module.address(name), module)


def readable(array: Array, dtype: np.dtype[Any], also: dict[np.dtype[Any], str] | None = None) -> Array:
    """`array`, converted unless it has `dtype` (or one of `also`) and lies at an address that suits it."""
    if (array.dtype == dtype or (also is not None and array.dtype in also)) and array.flags.aligned:
        return array
    return array.astype(dtype)
