"""Linking without a linker: an object of our own as one block of bytes that runs wherever it is put.

Kernels call nobody and refer to their constants by distance, so that with all sections of an object side by side every
distance is known when it is compiled. What is kept on disk then needs no linking, which takes LLVM a third of a
millisecond per object, and no LLVM, which takes 30 to import: it is copied to memory and made executable.

That holds for ELF on x86-64. What else an object may have (an address, a name from elsewhere, other formats) is refused
here and left to LLVM's own linker.
"""

import ctypes
import functools
import mmap
import os
import struct
from dataclasses import dataclass
from typing import Any

__all__ = ["Loaded", "image_of", "load"]

_MAGIC = b"starconv image 1"
_PAGE = 4096

# Of the ELF format (System V ABI, generic and AMD64): headers, and the numbers that may occur.
_ELF = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian
_FILE = struct.Struct("<16xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")
_RELOCATABLE, _X86_64 = 1, 62
_DATA, _SYMBOLS, _RELOCATIONS, _ZEROS = 1, 2, 4, 8  # kinds of sections; what describes stacks to unwind is none of them
_WRITABLE, _IN_MEMORY = 1, 2  # flags of sections
_DISTANCES = {2, 4}  # R_X86_64_PC32 and R_X86_64_PLT32: to something, from where it is written, in 32 bits

_HEAD = struct.Struct("<16sQQ")  # magic, bytes to execute and read, bytes to write
_ADDRESS = struct.Struct("<Q")


class _OtherError(Exception):
    """An object that is not of the simple kind."""


@dataclass(frozen=True, slots=True)
class _Section:
    kind: int
    flags: int
    start: int
    size: int
    link: int
    info: int
    alignment: int


def image_of(code: bytes, names: list[str]) -> bytes | None:
    """The block for the object `code`, with the places of the functions `names`; None where it takes a linker."""
    if os.name != "posix":
        return None
    try:
        return _image(code, names)
    except (_OtherError, struct.error, LookupError, ValueError):
        return None


def _image(code: bytes, names: list[str]) -> bytes:
    if not code.startswith(_ELF):
        raise _OtherError
    kind, machine, _, _, _, first, _, _, _, _, _, count, _ = _FILE.unpack_from(code)
    if (kind, machine) != (_RELOCATABLE, _X86_64):
        raise _OtherError
    sections = [_section(code, first + number * _SECTION.size) for number in range(count)]
    places, fixed, size = _placed(sections)
    block = bytearray(fixed)
    for number, place in places.items():
        section = sections[number]
        if section.kind == _DATA:
            if section.flags & _WRITABLE and any(code[section.start : section.start + section.size]):
                raise _OtherError
            if not section.flags & _WRITABLE:
                block[place : place + section.size] = code[section.start : section.start + section.size]
    (table,) = (section for section in sections if section.kind == _SYMBOLS)
    symbols = [_SYMBOL.unpack_from(code, start) for start in range(table.start, table.start + table.size, _SYMBOL.size)]
    for section in sections:
        if section.kind == _RELOCATIONS and section.info in places:
            for start in range(section.start, section.start + section.size, _RELOCATION.size):
                offset, how, which, addend = _RELOCATION.unpack_from(code, start)
                _, _, _, home, value, _ = symbols[which]
                if how not in _DISTANCES:
                    raise _OtherError
                at = places[section.info] + offset
                struct.pack_into("<i", block, at, places[home] + value + addend - at)
    texts = sections[table.link].start
    found = {_text(code, texts + symbol[0]): places[symbol[3]] + symbol[4] for symbol in symbols if symbol[3] in places}
    entries = b"".join(_ADDRESS.pack(found[name]) for name in names)
    return _HEAD.pack(_MAGIC, fixed, size - fixed) + entries + block.rstrip(b"\0")  # memory is zero anyway


def _section(code: bytes, start: int) -> _Section:
    _, kind, flags, _, place, size, link, info, alignment, _ = _SECTION.unpack_from(code, start)
    return _Section(kind, flags, place, size, link, info, max(alignment, 1))


def _placed(sections: list[_Section]) -> tuple[dict[int, int], int, int]:
    """Where the sections go, by number: those that stay as they are, then, on pages of their own, the writable ones.

    And where the first ones end, and all of them.
    """
    places: dict[int, int] = {}
    ends = []
    end = 0
    for writable in (0, _WRITABLE):
        for number, section in enumerate(sections):
            if section.flags & _IN_MEMORY and section.flags & _WRITABLE == writable and section.size:
                if section.kind not in (_DATA, _ZEROS):
                    continue
                end = -(-end // section.alignment) * section.alignment
                places[number] = end
                end += section.size
        end = -(-end // _PAGE) * _PAGE
        ends.append(end)
    return places, ends[0], ends[1]


def _text(code: bytes, start: int) -> str:
    return code[start : code.index(b"\0", start)].decode()


class Loaded:
    """A block in memory. It stays until it is closed, whoever else lets go of it."""

    def __init__(self, addresses: dict[str, int], start: int, size: int) -> None:
        self.addresses, self._start, self._size = addresses, start, size

    def close(self) -> None:
        """Unmap it."""
        _library().munmap(self._start, self._size)


def load(image: bytes, names: list[str]) -> Loaded | None:
    """The block in memory, executable, with the addresses of its functions, `names`; None for what is no such block.

    Raises:
        OSError: there is no memory, or this host lets none be executed.
    """
    if not image.startswith(_MAGIC):
        return None
    _, fixed, zeros = _HEAD.unpack_from(image)
    places = [_ADDRESS.unpack_from(image, _HEAD.size + number * _ADDRESS.size)[0] for number in range(len(names))]
    block = image[_HEAD.size + len(names) * _ADDRESS.size :]
    library, size = _library(), fixed + zeros
    start = library.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if start == ctypes.c_void_p(-1).value:
        raise _error()
    ctypes.memmove(start, block, len(block))
    if library.mprotect(start, fixed, mmap.PROT_READ | mmap.PROT_EXEC):
        error = _error()
        library.munmap(start, size)
        raise error
    return Loaded({name: start + place for name, place in zip(names, places, strict=True)}, start, size)


def _error() -> OSError:
    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@functools.cache
def _library() -> Any:
    """The C library's calls for memory."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library
