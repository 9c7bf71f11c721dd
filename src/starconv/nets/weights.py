"""Weights by name from files: .safetensors, torch-saved .pth and .pt, .npz, .h5. No code in a file is ever run.

What a file is decides how it begins, whatever its name.
"""

import math
import os
import re
import struct
import zipfile
import zlib
from typing import Any, BinaryIO

import numpy as np

from ..arguments import Array
from ..data.files import FileContentError, optional_import
from ..errors import ArgumentTypeError
from .torch_file import as_float32, is_torch_archive, read_archive, read_legacy

__all__ = ["load_weights"]

_SAFETENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
    "BOOL": "?",
}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_NPY_HEADER = re.compile(
    r"\{'descr': '([<>|=](?:f[248]|[iu][1248]|b1))', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\), \} *\n"
)
_UNPACKED = 2**28
"""Bytes that any file may unpack to; larger files may to four times their size."""
_KEEP_SIZE = frozenset({2, 3})
"""HDF5's filters that change the order of bytes, or add a sum of them (H5Z_FILTER_SHUFFLE, H5Z_FILTER_FLETCHER32)."""
_DEEPEST = 64
"""Groups within each other in an .h5 file; Keras nests some ten."""
_KINDS = "weights: .safetensors, .npz, .h5, or .pth and .pt of torch.save"


def load_weights(path: str | os.PathLike[str], *, largest: int | None = None) -> dict[str, Array]:
    """The arrays by name that the file `path` holds, in this machine's byte order; bfloat16 becomes float32.

    Of a file of torch.save only tensors by name are read (a state_dict, or one under "state_dict", "model_state_dict"
    or "model"); it is not unpickled. Tensors that share memory in it do so here, and such arrays cannot be written to.

    Args:
        path: the file.
        largest: bytes of all arrays beyond which the file is refused; by default four times those of the file, and at
            least 256 MiB. Weights hardly compress, so that is far from any real file, and near enough for the memory.

    Raises:
        FileContentError: another kind of file, a damaged one, or one that is too large.
        MissingPackageError: no package for .safetensors or .h5.
        OSError: it cannot be read.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentTypeError("path", path, "the path of a file")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        largest = max(_UNPACKED, 4 * size) if largest is None else largest
        start = file.read(16)
        file.seek(0)
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):  # the latter of an empty archive
            return _read_zip(path, file, largest)
        if size > largest:
            raise FileContentError(path, f"at most {largest} bytes of numbers; this file has {size}")
        if start.startswith(_HDF5):
            return _read_hdf5(path, largest)
        if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
            return read_legacy(path, file)
        if len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < size:
            return _read_safetensors(path, file)
    found = f"it begins with {start!r}" if start else "it is empty"
    raise FileContentError(path, f"{_KINDS}; {found}")


def _read_safetensors(path: str | os.PathLike[str], file: BinaryIO) -> dict[str, Array]:
    package = optional_import("safetensors", "safetensors", "A .safetensors file", "nets")
    try:
        entries = package.deserialize(file.read())
    except MemoryError:
        raise
    except Exception as error:  # the package raises a class of its own
        raise FileContentError(path, f"a whole .safetensors file ({error})") from None
    arrays = {}
    for name, entry in entries:
        kind = entry["dtype"]
        if kind not in _SAFETENSORS:
            raise FileContentError(path, f"numbers of {', '.join(_SAFETENSORS)}; {name!r} has {kind}")
        numbers: Array = np.frombuffer(entry["data"], _SAFETENSORS[kind]).reshape(entry["shape"])
        if kind == "BF16":
            numbers = as_float32(numbers)
        arrays[name] = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
    return arrays


def _read_zip(path: str | os.PathLike[str], file: BinaryIO, largest: int) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(file) as archive:
            if is_torch_archive(archive):
                if os.stat(path).st_size > largest:
                    raise FileContentError(path, f"at most {largest} bytes of numbers")
                return read_archive(path, archive)
            return dict(_npz_arrays(path, archive, largest))
    except FileContentError:
        raise
    # What zipfile raises for damaged archives; an OSError when it is sent to a place before the file's beginning.
    except (
        zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, KeyError, OSError,
        OverflowError, struct.error,
    ) as error:  # fmt: skip
        raise FileContentError(path, f"a whole archive of weights ({error or type(error).__name__})") from None


def _npz_arrays(path: str | os.PathLike[str], archive: zipfile.ZipFile, largest: int) -> list[tuple[str, Array]]:
    entries = archive.infolist()
    other = next((entry.filename for entry in entries if not entry.filename.endswith(".npy")), None)
    if other is not None:
        raise FileContentError(path, f"{_KINDS}; this archive holds {other!r}")
    # zipfile makes room for as much as an entry says before it reads.
    packed, size = max((entry.compress_size for entry in entries), default=0), os.stat(path).st_size
    if packed > size:
        raise FileContentError(path, f"entries smaller than the file; one of {packed} bytes is in {size}")
    total = sum(entry.file_size for entry in entries)
    if total > largest:
        raise FileContentError(path, f"at most {largest} bytes of numbers; it would unpack to {total}")
    arrays = []
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        with archive.open(entry) as member:
            arrays.append((name, _npy(path, name, member, entry.file_size)))
    return arrays


def _npy(path: str | os.PathLike[str], name: str, member: Any, size: int) -> Array:
    """One array as NumPy writes it (numpy.lib.format), where the archive says that it fills `size` bytes."""
    start = member.read(10)
    long = start[6:8] == b"\2\0"
    length = struct.unpack("<I", start[8:] + member.read(2))[0] if long else struct.unpack("<H", start[8:])[0]
    header = _NPY_HEADER.fullmatch(member.read(min(length, 4096)).decode("latin-1"))
    if start[:6] != b"\x93NUMPY" or start[6:8] not in (b"\1\0", b"\2\0") or header is None:
        raise FileContentError(path, f"arrays of numbers; {name!r} is none")
    dtype = np.dtype(header[1])
    shape = tuple(int(side) for side in header[3].replace(" ", "").split(",") if side)
    # No more memory than the archive announced, and no more than is really there.
    count = math.prod(shape)
    if count * dtype.itemsize > size or math.prod(side for side in shape if side) > 2**40 or len(shape) > 64:
        raise FileContentError(path, f"arrays of numbers; {name!r} of shape {shape} does not fit into {size} bytes")
    data = member.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize or member.read(1):
        raise FileContentError(path, f"{count} numbers in {name!r}; there are more or fewer")
    array: Array = np.frombuffer(data, dtype).reshape(shape, order="F" if header[2] == "True" else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_hdf5(path: str | os.PathLike[str], largest: int) -> dict[str, Array]:
    h5py = optional_import("h5py", "h5py", "An .h5 file", "nets")
    arrays: dict[str, Array] = {}
    size = os.stat(path).st_size
    left = min(largest, size)
    visited: dict[int, str] = {}  # names of arrays by where they are, and of groups

    def take(name: str, item: Any) -> None:
        nonlocal left
        if item.dtype.kind not in "fiub" or not item.shape:
            return
        left -= item.nbytes
        # Numbers that are elsewhere or nowhere (a fill value) take no room in the file, those here take all they need.
        if left < 0 or item.id.get_storage_size() < item.nbytes or item.external or _unpacks(item, size):
            raise FileContentError(path, f"numbers in the file itself, uncompressed; {name!r} has {item.nbytes} bytes")
        arrays[name] = item[...]

    def visit(group: Any, prefix: str, depth: int) -> None:
        # Not the library's own visit: with groups in groups, ten thousand deep, it takes minutes.
        if depth > _DEEPEST:
            raise FileContentError(path, f"at most {_DEEPEST} groups within each other; {prefix[:40]!r}... has more")
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                continue  # others lead to other files, or to what has a name already
            item = group[key]
            place = h5py.h5o.get_info(item.id).addr
            name = prefix + key
            if place in visited:  # a second name, as tied weights have
                if visited[place] in arrays:
                    arrays[name] = arrays[visited[place]]
                continue
            visited[place] = name
            if isinstance(item, h5py.Group):
                visit(item, f"{name}/", depth + 1)
            elif isinstance(item, h5py.Dataset):
                take(name, item)

    try:
        with h5py.File(path, "r") as file:
            visited[h5py.h5o.get_info(file.id).addr] = ""
            visit(file, "", 0)
    except (FileContentError, MemoryError):
        raise
    except Exception as error:  # the library's errors are OSError, RuntimeError, KeyError, ValueError and TypeError
        raise FileContentError(path, f"a whole .h5 file of weights ({error})") from None
    return arrays


def _unpacks(item: Any, size: int) -> bool:
    """Whether reading a dataset makes more bytes than the file's `size`: compressed, or in pieces larger than that."""
    properties = item.id.get_create_plist()
    filters = {properties.get_filter(number)[0] for number in range(properties.get_nfilters())}
    pieces = math.prod(item.chunks or ()) * item.dtype.itemsize
    return not filters <= _KEEP_SIZE or pieces > size
