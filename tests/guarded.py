"""Arrays flush against memory that nobody may touch: one byte too far and the process dies, instead of passing.

    x = guarded(array)                    # a copy that ends where an unreadable page begins
    x = guarded(array, end=False)         # a copy that begins where an unreadable page ends
    x = guarded(array, read_only=True)    # writing to it, through NumPy or a pointer, is refused

A kernel that reads or writes outside is killed by a segmentation fault, and pytest with it; its last lines then say
which test it was. Run the kernel in a subprocess where that is to be reported as a failure.
"""

import ctypes
import mmap
import sys

import numpy as np

PAGE = mmap.PAGESIZE
_NOBODY, _READ = (0, 1) if sys.platform != "win32" else (0x01, 0x02)


def guarded(array: np.ndarray, *, end: bool = True, read_only: bool = False) -> np.ndarray:
    """A C-contiguous copy of `array` between two unreadable pages, flush against the one behind it (or before it)."""
    array = np.asarray(array)
    if array.dtype.hasobject:
        raise TypeError(f"dtype {array.dtype}: expected plain numbers; a copy of references would not own them")
    if array.dtype.itemsize == 0:
        raise TypeError(f"dtype {array.dtype}: expected elements that occupy memory")
    # An empty array also gets a page: its address must be valid to hold, and one element past it must not be.
    pages = max(1, -(-array.nbytes // PAGE))
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    first = PAGE + (pages * PAGE - array.nbytes if end else 0)
    # The mapping lives as long as any view of the result: NumPy holds the buffer as the base.
    copy = np.ndarray(array.shape, array.dtype, buffer=memory, offset=first)
    copy[...] = array
    start = np.frombuffer(memory, np.uint8).ctypes.data
    _protect(start, PAGE, _NOBODY)
    _protect(start + (pages + 1) * PAGE, PAGE, _NOBODY)
    if read_only:
        _protect(start + PAGE, pages * PAGE, _READ)
        copy.flags.writeable = False
    return copy


def guarded_empty(shape: int | tuple[int, ...], dtype: object = np.float32, *, end: bool = True) -> np.ndarray:
    """For outputs: like :func:`guarded`, filled with a pattern (bytes 0xA5) that shows what was never written."""
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    return guarded(np.full(count * kind.itemsize, 0xA5, np.uint8).view(kind).reshape(shape), end=end)


def _protect(address: int, length: int, protection: int) -> None:
    if sys.platform == "win32":
        previous = ctypes.c_ulong()
        change = ctypes.WinDLL("kernel32", use_last_error=True).VirtualProtect
        change.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_ulong, ctypes.c_void_p]
        succeeded = change(address, length, protection, ctypes.byref(previous)) != 0
    else:
        change = ctypes.CDLL(None, use_errno=True).mprotect
        change.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        succeeded = change(address, length, protection) == 0
    if not succeeded:
        raise OSError("the system does not let pages be protected")
