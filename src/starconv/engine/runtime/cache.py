"""Compiled objects on disk: private to the user, checked before use, bounded, and never needed.

A file holds one object under the key of everything it was made from. Whatever is wrong (no directory, no
space, a damaged or foreign file), the answer is "not cached" and the caller compiles; nothing here raises.
What is loaded will be executed, so a file counts only if this user owns it, nobody else may write to it,
it is no link, its header names the very key that was asked for, and its payload has the stated digest.
"""

import contextlib
import hashlib
import os
import stat
import struct
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "LIMIT_BYTES",
    "Status",
    "key",
    "load",
    "read_private",
    "status",
    "store",
    "usable_directory",
    "write_private",
]

LIMIT_BYTES = 64 * 1024 * 1024

# Change the last digits when the meaning of the file changes: old files are then simply not found.
_MAGIC = b"starconv object 2\n"
_HEADER = struct.Struct(f"<{len(_MAGIC)}s32sQ32s")  # magic, key, payload length, SHA-256 of the payload
_SUFFIX = ".object"


class Status(NamedTuple):
    """Where the cache is (or would be), how full it is, and why it is not used, if it is not."""

    directory: Path | None
    reason: str | None
    files: int = 0
    bytes: int = 0


def key(*parts: str) -> bytes:
    """The digest of everything that decides the machine code. Lengths go in too, so no two lists collide."""
    digest = hashlib.sha256(_MAGIC)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()


def load(name: bytes) -> bytes | None:
    """The object stored under the key `name`, or None where there is none that can be trusted."""
    directory, reason = _directory()
    if directory is None or reason is not None:
        return None
    path = _path(directory, name)
    try:
        data = read_private(path)
    except OSError:
        return None
    if data is None or len(data) < _HEADER.size:
        return None
    magic, stored_name, length, digest = _HEADER.unpack_from(data)
    payload = data[_HEADER.size :]
    if magic != _MAGIC or stored_name != name or length != len(payload):
        return None
    if hashlib.sha256(payload).digest() != digest:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the age by which `_shrink` chooses
    return payload


def store(name: bytes, payload: bytes) -> None:
    """Keep `payload` under `name`: written aside and moved into place, so that nobody ever sees half a file."""
    directory, reason = _directory()
    if directory is None or reason is not None or _HEADER.size + len(payload) > LIMIT_BYTES:
        return
    header = _HEADER.pack(_MAGIC, name, len(payload), hashlib.sha256(payload).digest())
    try:
        write_private(_path(directory, name), header + payload)
        # Looking through a full directory takes 50 ms, more than compiling: only after every 64th part of the limit.
        global _unweighed
        _unweighed += _HEADER.size + len(payload)
        if _unweighed >= LIMIT_BYTES // 64:
            _unweighed = 0
            _shrink(directory)
    except OSError:
        return


_unweighed = 1 << 62  # bytes stored since the directory was last looked through; never yet, so the first store does


def usable_directory() -> tuple[Path | None, str | None]:
    """The directory, for other files of the same user beside the objects, or None and the reason why not."""
    directory, reason = _directory()
    return (None, reason) if reason is not None else (directory, None)


def read_private(path: Path, limit: int = LIMIT_BYTES) -> bytes | None:
    """The bytes of `path` if it is to be trusted and has no more than `limit`.

    The checks are made on the opened file, which cannot be swapped.
    """
    # O_NONBLOCK: opening a pipe that somebody left under this name must not wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    with os.fdopen(handle, "rb") as file:
        info = os.fstat(handle)
        if _distrust(info, stat.S_ISREG, "file") is not None or info.st_size > limit:
            return None
        return file.read()


def write_private(path: Path, data: bytes) -> None:
    """Replace `path`, in the directory of the cache, in one step: a reader finds the old file or the new one whole."""
    import tempfile  # takes 4 ms, a tenth of importing the engine, and is not needed where all is there

    handle, temporary = tempfile.mkstemp(suffix=".part", dir=path.parent)  # created with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def status() -> Status:
    """What ``starconv doctor`` shows."""
    directory, reason = _directory()
    if directory is None or reason is not None:
        return Status(directory, reason)
    sizes = [size for _, size, _ in _entries(directory)]
    return Status(directory, None, len(sizes), sum(sizes))


def _path(directory: Path, name: bytes) -> Path:
    return directory / (name.hex() + _SUFFIX)


def _default_directory() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return Path(base, "starconv", "cache") if base else Path.home() / "AppData/Local/starconv/cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/starconv"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is invalid and is to be ignored.
    return Path(base, "starconv") if os.path.isabs(base) else Path.home() / ".cache/starconv"


def _directory() -> tuple[Path | None, str | None]:
    """The directory, made if need be, and the reason not to use it. ``STARCONV_CACHE_DIR`` moves it; "off" says no."""
    asked = os.environ.get("STARCONV_CACHE_DIR", "")
    if asked.lower() == "off":
        return None, "switched off by STARCONV_CACHE_DIR=off"
    try:
        directory = Path(asked).absolute() if asked else _default_directory()
    except (OSError, RuntimeError) as error:  # no home directory
        return None, f"no place for it: {error}"
    try:
        if not directory.exists():
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=0o700, exist_ok=True)
        return directory, _distrust(directory.lstat(), stat.S_ISDIR, "directory")
    except OSError as error:
        return directory, f"cannot be used: {error.strerror or error}"


def _distrust(info: os.stat_result, is_kind: object, kind: str) -> str | None:
    """Why a file or directory may not be believed: not of its kind (a link is not), not ours, or open to others."""
    if not (callable(is_kind) and is_kind(info.st_mode)):
        return f"not a plain {kind}"
    if os.name != "posix":  # no owner and no mode bits to look at; the user's profile is private by its place
        return None
    if info.st_uid != os.geteuid():
        return f"{kind} belongs to user {info.st_uid}, this process runs as user {os.geteuid()}"
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{kind} may be written to by others (mode {stat.S_IMODE(info.st_mode):04o})"
    return None


def _entries(directory: Path) -> list[tuple[int, int, str]]:
    """(time of last use, size, path) of every file of ours, parts that a killed process left included."""
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith((_SUFFIX, ".part")):
                    with contextlib.suppress(OSError):
                        info = entry.stat(follow_symlinks=False)
                        found.append((info.st_mtime_ns, info.st_size, entry.path))
    except OSError:
        return []
    return found


def _shrink(directory: Path) -> None:
    """Remove the files used longest ago until a quarter of the limit is free, so that it is not done every time."""
    entries = sorted(_entries(directory))
    total = sum(size for _, size, _ in entries)
    if total <= LIMIT_BYTES:
        return
    for _, size, path in entries:
        if total <= LIMIT_BYTES * 3 // 4:
            return
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size
