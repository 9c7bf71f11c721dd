"""Workspace for kernels: aligned arrays, and scratch blocks that are lent, taken back and lent again.

A fresh block of a megabyte costs a page fault per 4 KiB, more than many a layer computes, so blocks that come
back are kept, up to a bound; what is larger or beyond the bound is freed at once.

    with scratch(plan.workspace_bytes) as block:
        ...                       # block.address, or block.array (bytes); contents undefined
"""

import os
import threading
import weakref
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "ALIGNMENT",
    "KEPT_BYTES",
    "Scratch",
    "aligned_empty",
    "held_scratch",
    "lent_empty",
    "rounded_size",
    "scratch",
    "weights_empty",
]

ALIGNMENT = 64  # a cache line, and the widest vector

# What all threads together keep for later. Beyond the last-level cache of most machines, so a kernel whose
# workspace is larger has other worries than page faults.
KEPT_BYTES = 32 * 1024 * 1024
HELD_BYTES = 32 * 1024 * 1024
"""What holders of small blocks, who call too often to borrow them each time, may have together."""


def aligned_empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[np.generic]:
    """An uninitialised C-contiguous array whose first element is at a multiple of 64 bytes."""
    kind = np.dtype(dtype)
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    length = int(np.prod(sizes, dtype=np.int64)) * kind.itemsize
    room = np.empty(length + ALIGNMENT, np.uint8)
    return np.ndarray(sizes, kind, buffer=room, offset=-room.ctypes.data % ALIGNMENT)


class Scratch:
    """A block of bytes on loan until the ``with`` is left. Each loan is one caller's alone."""

    __slots__ = ("address", "array", "held", "size")

    def __init__(self, size: int, *, held: bool = False) -> None:
        self.size, self.held = size, held
        self.array = aligned_empty(size, np.uint8)
        self.address = int(self.array.ctypes.data)

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _give_back(self)


def scratch(size: int) -> Scratch:
    """Borrow at least `size` bytes, for a ``with``. A loan that is never given back is merely collected as garbage."""
    global _kept
    rounded = rounded_size(size)
    with _lock:
        shelf = _shelves.get(rounded)
        if shelf:
            _kept -= rounded
            return shelf.pop()
    return Scratch(rounded)


def held_scratch(size: int) -> Scratch | None:
    """A block for the caller to hold as long as he likes, or None where all of them together hold HELD_BYTES."""
    global _held
    with _lock:
        if _held + size > HELD_BYTES:
            return None
        _held += size
    block = Scratch(size, held=True)
    weakref.finalize(block.array, _let_go, size).atexit = False
    return block


def _let_go(size: int) -> None:
    global _held
    with _lock:
        _held -= size


def lent_empty(size: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """An uninitialised aligned array of `size` elements on borrowed memory, which goes back when it is collected.

    For what a call makes anew each time, such as packed weights: a fresh block costs a page fault per 4 KiB. Hold the
    array itself: NumPy lets a view of it refer to the borrowed memory directly, so a view keeps nothing on loan.
    """
    kind = np.dtype(dtype)
    loan = scratch(max(size * kind.itemsize, 1))
    array: npt.NDArray[Any] = np.ndarray(size, kind, buffer=loan.array)
    weakref.finalize(array, _give_back, loan).atexit = False
    return array


def weights_empty(size: int, dtype: npt.DTypeLike, *, once: bool) -> npt.NDArray[Any]:
    """An uninitialised aligned array for weights in a kernel's form: lent where they serve `once`, else of its own.

    What is lent has one of few sizes, up to a quarter more, and waits to be lent again: 10 MB of ResNet-18's 200.
    """
    return lent_empty(size, dtype) if once else aligned_empty(size, dtype)


def rounded_size(size: int) -> int:
    """Up to the next of 4 KiB, 5, 6, 7, 8, 10, 12, 14, 16, ...: at most a quarter unused, and few different sizes."""
    if size <= 4096:
        return 4096
    step = 1 << ((size - 1).bit_length() - 3)
    return -(-size // step) * step


def _give_back(block: Scratch) -> None:
    global _kept
    with _lock:
        if block.size > KEPT_BYTES:
            return
        shelf = _shelves.pop(block.size, [])
        shelf.append(block)
        _shelves[block.size] = shelf
        _kept += block.size
        # Room is made by dropping the sizes that came back longest ago.
        while _kept > KEPT_BYTES:
            oldest = next(size for size, blocks in _shelves.items() if blocks)
            _shelves[oldest].pop(0)
            _kept -= oldest


_shelves: dict[int, list[Scratch]] = {}  # by size, the size given back longest ago first
_kept = 0
_held = 0

# A reentrant lock: garbage collection inside may run a finalizer that borrows.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
