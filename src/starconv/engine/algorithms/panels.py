"""Weights in the order in which kernels read them, packed by compiled code: every functional call pays for it."""

import ctypes
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...problem import Problem
from .. import elementwise
from ..descriptor import address_of
from ..emit.ir import module_source
from ..emit.source import emitted
from ..emit.target import Target
from ..kernels import ELEMENTS, Compiled, compiled
from ..remembered import Remembered
from ..runtime import memory, threads
from ..runtime.jobs import Job
from .packing import PANEL_FIELDS, ROW_FIELDS, pack_panels, turn_kernels, weight_layout

__all__ = ["ChannelRows", "KernelRows", "Panels", "copied", "readable", "readable_last"]

Array = NDArray[Any]

_SERIAL_BYTES = 64 << 10
"""Work on less than this many bytes is over before another thread has joined."""


class Panels:
    """Weights as kernels read them: per group, panels of `width` kernels, [channel][tap][kernel], padded with zeros."""

    fields = PANEL_FIELDS

    def __init__(self, problem: Problem, target: Target, width: int) -> None:
        self.problem, self.target, self.width = problem, target, width
        self.kernels = problem.out_channels // problem.groups
        self.blocks = -(-self.kernels // width)
        self.length = math.prod(problem.weight_shape[1:])
        self._size = problem.groups * self.blocks * width * self.length
        self.bytes = self._size * problem.itemsize
        self._dtype = np.dtype(problem.dtype)
        self._no_bias = np.zeros((problem.groups, self.blocks * width), problem.dtype)
        self._tasks = problem.groups * self.blocks
        self._forms = Remembered[tuple[Compiled, Any]]()
        self._slots = self.fields.index["weights"], self.fields.index["panels"]

    def pack(self, weights: Array, once: bool = False) -> Array:
        """The panels of `weights` (K, C / groups, ...), of any strides; `once` as in :class:`Solution`'s prepare."""
        weights = readable(weights, self._dtype)
        busy = self.bytes > _SERIAL_BYTES
        # Vectors at multiples of their size do not straddle cache lines; for a few it is not worth the search.
        panels = memory.weights_empty(self._size, self._dtype, once=once) if busy else np.empty(self._size, self._dtype)
        function, block, count, workers = self._call(weights, panels)
        threads.run(function.address, ctypes.addressof(block), count, workers)
        return panels

    @property
    def room(self) -> int:
        """Bytes that `jobs` needs to put panels into."""
        return self.bytes

    def jobs(self, weights: Array, room: Array) -> tuple[Array, list[Job]] | None:
        """The panels of whatever `weights` hold when the jobs run, made in `room` (bytes at a cache line).

        None where the weights would have to be copied first.
        """
        if readable(weights, self._dtype) is not weights:
            return None
        panels = room[: self._size * self._dtype.itemsize].view(self._dtype)
        function, block, count, workers = self._call(weights, panels)
        keeps = (function, weights, panels)
        return panels, [Job(function.address, block, count, min(workers, count), self._slots, keeps=keeps)]

    def bias_jobs(self, bias: Array | None) -> tuple[Array, list[Job]] | None:
        """The same for `bias`."""
        if bias is None or self.kernels == self.blocks * self.width:
            return (self._no_bias if bias is None else bias), []
        padded = self._no_bias.copy()
        return copied(bias.reshape(self.problem.groups, self.kernels), padded[:, : self.kernels], padded)

    def _call(self, weights: Array, panels: Array) -> tuple[Compiled, Any, int, int]:
        """The function that packs `weights` into `panels`, its fields, how many tasks it has, and threads."""
        form = self._forms.get(weights.strides)
        if form is None:
            form = self._forms.keep(weights.strides, self._form(weights))
        function, fields = form
        block = self.fields.copy(fields)
        block[self._slots[0]] = address_of(weights)
        block[self._slots[1]] = address_of(panels)
        return function, block, self._tasks, threads.get_num_threads() if self.bytes > _SERIAL_BYTES else 1

    def _form(self, weights: Array) -> tuple[Compiled, Any]:
        """The function that packs weights of such strides, and its fields but for the addresses."""
        function = _panel_function(self.target, ELEMENTS[self.problem.dtype], self.width)
        return function, self.fields.block(self._sizes(weights))

    def _sizes(self, weights: Array) -> dict[str, int]:
        return {
            "kernels": self.kernels,
            "blocks": self.blocks,
            "length": self.length,
            "channels": weights.shape[1],
            "group_step": self.kernels * weights.strides[0],
            **weight_layout(weights),
        }

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

    def jobs(self, weights: Array, room: Array) -> tuple[Array, list[Job]] | None:
        """`weights` themselves, if they are dense, and nothing to do; else as those of :class:`Panels`."""
        if readable(weights, self._dtype) is not weights:
            return None
        if weights.flags.c_contiguous:
            return weights, []
        packed = room[: self.bytes].view(self._dtype).reshape(weights.shape)
        return copied(weights, packed, packed)


MANY_TAPS = 16
"""Of a depthwise kernel, from which on it pays to know that all weights are finite."""


class ChannelRows:
    """Weights of depthwise layers as [tap][channel], and biases.

    One more number at the end is 0 where all weights are known to be finite, else NaN: then products with the zeros of
    padding may be left out.
    """

    def __init__(self, problem: Problem, target: Target) -> None:
        self.target, self._element = target, ELEMENTS[problem.dtype]
        self._dtype = np.dtype(problem.dtype)
        self._no_bias = np.zeros(problem.in_channels, self._dtype)

    @property
    def form(self) -> object:
        """What `pack` and `bias` give depends on this and the arrays alone."""
        return type(self).__name__

    @property
    def room(self) -> int:
        """None that the caller must have."""
        return 0

    def pack(self, weights: Array, once: bool = False) -> Array:
        """A copy, [tap][channel]."""
        rows = readable(weights, self._dtype).reshape(len(weights), -1)
        packed = self._empty(rows)
        job = self._turning(rows, packed)
        if job is None:
            packed[:-1].reshape(rows.shape[::-1])[...] = rows.T
        else:
            threads.run(job.function, ctypes.addressof(job.block), job.tasks, job.threads)
        if rows.shape[1] >= MANY_TAPS:
            with np.errstate(all="ignore"):
                packed[-1] = 0 * np.add.reduce(rows, axis=None)
        return packed

    def jobs(self, weights: Array, room: Array) -> tuple[Array, list[Job]] | None:
        """As those of :class:`Panels`; the copy is small, and has memory of its own."""
        rows = weights.reshape(len(weights), -1)
        if weights.dtype != self._dtype or not np.may_share_memory(rows, weights):
            return None
        packed = self._empty(rows)
        job = self._turning(rows, packed)
        if job is None:
            return copied(rows.T, packed[:-1].reshape(rows.shape[::-1]), packed)
        return packed, [job]

    def _empty(self, rows: Array) -> Array:
        """Room for [tap][channel] of `rows`, channels of taps, and the number at the end."""
        size = rows.size + 1
        packed = memory.lent_empty(size, self._dtype) if rows.nbytes > _SERIAL_BYTES else np.empty(size, self._dtype)
        packed[-1] = np.nan
        return packed

    def _turning(self, rows: Array, packed: Array) -> Job | None:
        """What turns `rows` round by compiled code; None where a channel's taps do not lie side by side."""
        lanes = self.target.lanes(rows.itemsize)
        if rows.strides[1] != rows.itemsize or not rows.flags.aligned or len(rows) < lanes:
            return None
        function = _turning_function(self.target, self._element)
        sizes = {"kernels": len(rows), "length": rows.shape[1], "kernel_step": rows.strides[0]}
        block = ROW_FIELDS.block({"weights": address_of(rows), "rows": address_of(packed), **sizes})
        tasks = -(-len(rows) // lanes)
        workers = min(threads.get_num_threads(), tasks) if rows.nbytes > _SERIAL_BYTES else 1
        slots = ROW_FIELDS.index["weights"], ROW_FIELDS.index["rows"]
        return Job(function.address, block, tasks, workers, slots, keeps=(function, rows, packed))

    def bias_jobs(self, bias: Array | None) -> tuple[Array, list[Job]] | None:
        """The bias as it is."""
        return (self._no_bias if bias is None else bias), []

    def bias(self, bias: Array | None) -> Array:
        """One value per channel; zeros where there is no bias."""
        return self._no_bias if bias is None else np.array(bias, self._dtype)


def copied(source: Array, to: Array, whole: Array) -> tuple[Array, list[Job]] | None:
    """`whole`, and the jobs that copy `source` to its part `to`; None where NumPy must do that."""
    written = elementwise.jobs("copy", [source], [to])
    return None if written is None else (whole, written)


@lru_cache(maxsize=64)
def _panel_function(target: Target, element: str, width: int) -> Compiled:
    return compiled(_panel_module(target, element, width), target, "pack_panels")


@lru_cache(maxsize=16)
def _turning_function(target: Target, element: str) -> Compiled:
    return compiled(_turning_module(target, element), target, "turn_kernels")


@emitted("turn_kernels")
def _turning_module(target: Target, element: str) -> str:
    return module_source(turn_kernels(target, element))


@emitted("pack_panels")
def _panel_module(target: Target, element: str, width: int) -> str:
    return module_source(pack_panels(target, element, width))


def readable(array: Array, dtype: np.dtype[Any], also: dict[np.dtype[Any], str] | None = None) -> Array:
    """`array`, converted unless it has `dtype` (or one of `also`) and lies at an address that suits it."""
    if (array.dtype == dtype or (also is not None and array.dtype in also)) and array.flags.aligned:
        return array
    return array.astype(dtype)


def is_read(readable: Callable[[Array], Array], array: Array) -> bool:
    """Whether `readable` gives `array` itself, not a copy: asked with none of its pictures, which takes no time."""
    none = array[:0]
    return array.flags.aligned and readable(none) is none


def readable_last(array: Array, dtype: np.dtype[Any]) -> Array:
    """The same for kernels that read (N, C, ...) with channels side by side in memory: else a copy where they are."""
    array = readable(array, dtype)
    if array.strides[1] == dtype.itemsize:
        return array
    return np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1)
