"""IDX files, in which MNIST and Fashion-MNIST come: reading one, and the four of a data set, from a given place.

Source of the format: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits": two zero bytes, the
type, the number of axes, each size as a big-endian 32-bit integer, then the numbers, big-endian, last axis fastest.
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentValueError
from .digits import Digits, Split
from .files import FileContentError

__all__ = ["LARGEST", "mnist", "read_idx"]

LARGEST = 2**31
"""Bytes that a file may hold unpacked unless the call says otherwise; MNIST has 47 million."""

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 2**20


def read_idx(path: str | os.PathLike[str], *, largest: int = LARGEST) -> NDArray[Any]:
    """The array in an IDX file, plain or gzipped (whatever its name), in this machine's byte order.

    No more memory is taken than the file really fills, whatever its header says.

    Args:
        path: the file.
        largest: bytes of the array beyond which the file is refused.

    Raises:
        FileContentError: no IDX file, one that ends too early or goes on too long, damaged gzip, or too large.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            return _read(path, file, largest)
        try:
            with gzip.open(file) as unpacked:
                return _read(path, unpacked, largest)  # type: ignore[arg-type]  # a GzipFile reads like a file
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FileContentError(path, f"a whole gzip file ({error})") from None


def _read(path: str | os.PathLike[str], file: BinaryIO, largest: int) -> NDArray[Any]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not 1 <= magic[3] <= 8:
        raise FileContentError(
            path, f"an IDX file: two zero bytes, a type, 1 to 8 axes; it begins with {magic.hex(' ')}"
        )
    dtype, axes = np.dtype(_DTYPES[magic[2]]), magic[3]
    header = file.read(4 * axes)
    if len(header) < 4 * axes:
        raise FileContentError(path, f"an IDX file with {axes} sizes; it ends within them")
    shape = struct.unpack(f">{axes}I", header)
    size = math.prod(shape) * dtype.itemsize
    if size > largest:
        raise FileContentError(path, f"at most {largest} bytes of numbers; its header announces shape {shape}")
    # By chunks: memory grows with what is there, not with what the header promises.
    content = bytearray()
    while len(content) <= size and (chunk := file.read(min(_CHUNK, size + 1 - len(content)))):
        content += chunk
    if len(content) != size:
        found = f"only {len(content)}" if len(content) < size else "more"
        raise FileContentError(path, f"{size} bytes of numbers for shape {shape}; there are {found}")
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def mnist(folder: str | os.PathLike[str]) -> Split:
    """MNIST, Fashion-MNIST or another data set of that form from the four files in `folder`.

    They are named train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte,
    with or without .gz (or with a dot for the last hyphen, as some archives unpack them).

    Returns:
        Training and test pictures (N, 1, H, W) float32 from 0 to 1, and labels (N,) int64.

    Raises:
        FileNotFoundError: one of them is missing. FileContentError: one is damaged, or they do not belong together.
    """
    place = Path(folder)
    if not place.is_dir():
        raise ArgumentValueError("folder", os.fspath(folder), "a folder with the four IDX files of MNIST")
    return Split(_part(place, "train"), _part(place, "t10k"))


def _part(folder: Path, name: str) -> Digits:
    pictures, classes = _found(folder, f"{name}-images-idx3-ubyte"), _found(folder, f"{name}-labels-idx1-ubyte")
    images, labels = read_idx(pictures), read_idx(classes)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise FileContentError(pictures, f"pictures (N, H, W) of bytes; found {images.dtype} of shape {images.shape}")
    if labels.shape != images.shape[:1] or labels.dtype != np.uint8:
        expected = f"{len(images)} labels of one byte, one per picture"
        raise FileContentError(classes, f"{expected}; found {labels.dtype} of shape {labels.shape}")
    return Digits(np.divide(images[:, np.newaxis], 255, dtype=np.float32), labels.astype(np.int64))


def _found(folder: Path, name: str) -> Path:
    head, _, tail = name.rpartition("-idx")
    for candidate in (name, f"{name}.gz", f"{head}.idx{tail}", f"{head}.idx{tail}.gz"):
        if (folder / candidate).is_file():
            return folder / candidate
    raise FileNotFoundError(2, "No such file, plain or .gz", str(folder / name))
