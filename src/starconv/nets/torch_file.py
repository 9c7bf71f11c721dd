"""Files of torch.save: the zip archive of torch 1.6 and later, and the row of pickles before it. torch is not needed.

Source of both formats: torch/serialization.py (_save and _legacy_save).
"""

import io
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Literal

import numpy as np

from ..arguments import Array
from ..data.files import FileContentError
from .pickled import Refused, StorageKey, read_pickle

__all__ = ["BFLOAT16", "as_float32", "is_torch_archive", "read_archive", "read_legacy"]

BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""The upper half of a float32, which NumPy has no dtype for: kept apart until its file is read."""
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_LARGEST_PICKLE = 2**26
"""Bytes of names and shapes; ResNet-50's are 30 thousand."""
_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Names under which training scripts put the state_dict when they save other things beside it."""


def is_torch_archive(archive: zipfile.ZipFile) -> bool:
    """Whether a zip archive is one of torch.save."""
    return any(name.endswith("/data.pkl") for name in archive.namelist())


def read_archive(path: str | os.PathLike[str], archive: zipfile.ZipFile) -> dict[str, Array]:
    """The tensors by name in an archive of torch.save.

    Raises:
        FileContentError: it is damaged, or holds more than tensors by name.
    """
    left = os.stat(path).st_size
    storages: dict[StorageKey, Array] = {}

    def content(name: str, largest: int) -> bytes:
        nonlocal left
        try:
            entry = archive.getinfo(name)
        except KeyError:
            raise Refused(f"no {name!r} in it") from None
        # torch never compresses, so all that is unpacked together is no larger than the file.
        stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
        if not stored or entry.file_size > min(left, largest):
            raise Refused(f"{name!r}, compressed or larger than the file")
        left -= entry.file_size
        return archive.read(entry)

    def storage(key: StorageKey) -> Array:
        if key not in storages:
            dtype = _dtype(key, order)
            data = content(f"{folder}/data/{key.key}", left)
            if len(data) != key.size * dtype.itemsize:
                raise Refused(f"{len(data)} bytes for {key.size} numbers of {dtype}")
            storages[key] = np.frombuffer(data, dtype)
        return storages[key]

    try:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Refused(f"{len(pickles)} pickles")
        folder = pickles[0].removesuffix("/data.pkl")
        order: Literal["<", ">"] = "<"
        if f"{folder}/byteorder" in archive.namelist():
            order = ">" if content(f"{folder}/byteorder", 16) == b"big" else "<"
        found = read_pickle(io.BytesIO(content(pickles[0], _LARGEST_PICKLE)), storage)
        return _state(found, os.stat(path).st_size)
    except Refused as problem:
        raise FileContentError(path, f"a file of torch.save with tensors by name; found {problem}") from None


def read_legacy(path: str | os.PathLike[str], file: BinaryIO) -> dict[str, Array]:
    """The tensors by name in a file as torch.save wrote it before version 1.6.

    Raises:
        FileContentError: it is damaged, or holds more than tensors by name.
    """
    left = os.stat(path).st_size
    storages: dict[str, tuple[StorageKey, Array]] = {}

    def storage(key: StorageKey) -> Array:
        nonlocal left
        if key.key not in storages:
            # The numbers come after the pickle: room for them now, and they are read into it later.
            dtype = _dtype(key, order)
            left -= key.size * dtype.itemsize
            if left < 0:
                raise Refused(f"a storage of {key.size} numbers, more than the file can hold")
            storages[key.key] = key, np.zeros(key.size, dtype)
        known, array = storages[key.key]
        if known != key:
            raise Refused(f"storage {key.key!r} with two sizes or types")
        return array

    try:
        if read_pickle(file) != _MAGIC or read_pickle(file) != _PROTOCOL:
            raise Refused("another kind of pickle")
        system = read_pickle(file)
        order: Literal["<", ">"] = ">" if isinstance(system, dict) and system.get("little_endian") is False else "<"
        found = read_pickle(file, storage)
        keys = read_pickle(file)
        if type(keys) is not list or any(type(key) is not str for key in keys):
            raise Refused("storages without keys")
        if len(keys) != len(storages) or set(keys) != set(storages):
            raise Refused(f"{len(set(keys))} storages for a pickle with {len(storages)}")
        for key in keys:
            array = storages[key][1]
            head = file.read(8)
            if len(head) < 8 or struct.unpack(f"{order}q", head)[0] != array.size:
                raise Refused(f"storage {key!r} of another size")
            if file.readinto(array.view(np.uint8)) != array.nbytes:  # type: ignore[attr-defined]
                raise Refused(f"storage {key!r}, which ends too early")
        return _state(found, os.stat(path).st_size)
    except Refused as problem:
        raise FileContentError(path, f"a file of torch.save with tensors by name; found {problem}") from None


def _dtype(key: StorageKey, order: Literal["<", ">"]) -> "np.dtype[Any]":
    if key.dtype == "bfloat16":
        return np.dtype([("bfloat16", f"{order}u2")])
    return np.dtype(key.dtype).newbyteorder(order)


def _state(found: Any, size: int) -> dict[str, Array]:
    """The tensors of what a file of `size` bytes holds: its own, or those of the state_dict within."""
    if type(found) is not dict:
        raise Refused(f"a {type(found).__name__}")
    for wrapper in _WRAPPERS:
        if type(found.get(wrapper)) is dict:
            found = found[wrapper]
            break
    tensors = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    if not tensors or any(type(name) is not str for name in tensors):
        raise Refused(f"a dictionary of {len(found)} entries without tensors by name")
    # Conversion copies, and any number of tensors may show the same numbers.
    if sum(array.size for array in tensors.values() if not array.dtype.isnative or array.dtype.names) > size:
        raise Refused("more numbers than the file has room for")
    if all(name.startswith("module.") for name in tensors):  # as torch.nn.DataParallel names them
        tensors = {name.removeprefix("module."): array for name, array in tensors.items()}
    return dict(_converted(tensors))


def _converted(tensors: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    for name, array in tensors.items():
        if array.dtype.names:
            yield name, as_float32(array["bfloat16"])
        elif array.dtype == np.bool_:
            yield name, array.view(np.uint8) != 0
        else:
            yield name, array.astype(array.dtype.newbyteorder("="), copy=False)


def as_float32(bits: Array) -> Array:
    """bfloat16 numbers, given as 16-bit integers, as the float32 numbers that they are exactly."""
    wide: Array = (bits.astype(np.uint32) << 16).view(np.float32)
    assert math.prod(wide.shape) == bits.size
    return wide
