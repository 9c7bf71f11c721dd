"""Arrays whose memory is used again: when an array and all its views are gone, another of its size gets the memory.

A fresh array costs a page fault per 4 KiB when it is first written, 0.4 ms per megabyte on a virtual machine, which is
more than convolutions of few channels compute in that time. The C library gives large blocks back to the system as soon
as they are free, so a training step would meet fresh pages in every layer, every time.
"""

import math
import os
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from .memory import ALIGNMENT, rounded_size

__all__ = ["KEPT_BYTES", "recycled_empty"]

SMALLEST = 128 << 10
"""Bytes below which the C library keeps freed memory itself (glibc: M_MMAP_THRESHOLD)."""
KEPT_BYTES = 256 << 20
"""What waits to be used again, at most: the activations of a small network's training step."""


class _Pages(np.ndarray):
    """Owns memory. Being of another type than arrays, it makes NumPy let a view of an array refer to that array.

    Views of plain arrays refer to whoever owns the memory, so the array could be gone while it is still looked at.
    (NumPy, PyArray_SetBaseObject: "stop the collapse if new base would not be of the same type".)
    """


def recycled_empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An uninitialised C-contiguous array; a large one begins at a multiple of 64 bytes and may be on used memory."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size < SMALLEST:
        return np.empty(shape, kind)
    pages = _taken(rounded_size(size))
    offset = -int(pages.ctypes.data) % ALIGNMENT
    array: npt.NDArray[Any] = np.ndarray(shape, kind, buffer=pages, offset=offset)
    weakref.finalize(array, _give_back, pages).atexit = False
    return array


def _taken(size: int) -> _Pages:
    global _kept
    with _lock:
        shelf = _shelves.get(size)
        if shelf:
            _kept -= size
            return shelf.pop()
    return np.ndarray.__new__(_Pages, (size + ALIGNMENT,), np.uint8)


def _give_back(pages: _Pages) -> None:
    global _kept
    size = pages.size - ALIGNMENT
    with _lock:
        if size > KEPT_BYTES:
            return
        shelf = _shelves.pop(size, [])
        shelf.append(pages)
        _shelves[size] = shelf
        _kept += size
        while _kept > KEPT_BYTES:  # the sizes that came back longest ago make room
            oldest = next(size for size, shelf in _shelves.items() if shelf)
            _shelves[oldest].pop(0)
            _kept -= oldest


_shelves: dict[int, list[_Pages]] = {}  # by size, the size given back longest ago first
_kept = 0

# Reentrant: garbage collection inside may run a finalizer.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
