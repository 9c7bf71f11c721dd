"""Files of the user's: errors that name the path, and writing that is either complete or leaves no trace."""

import contextlib
import importlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from ..errors import StarconvError

__all__ = ["FileContentError", "MissingPackageError", "optional_import", "replaced_when_complete"]


class FileContentError(StarconvError, ValueError):
    """A file that is there and can be opened, but does not hold (or cannot hold) what was expected."""

    def __init__(self, path: str | os.PathLike[str], expected: str) -> None:
        self.path = Path(path)
        self.expected = expected
        super().__init__(f"{os.fspath(path)}: expected {expected}")


class MissingPackageError(StarconvError, ImportError):
    """An optional package that this call needs and that is not installed."""


def optional_import(module: str, package: str, purpose: str, extra: str = "view") -> ModuleType:
    """Import `module`, or say which extra installs it.

    Raises:
        MissingPackageError: naming `purpose`, `package` and the `extra`.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f'{purpose} needs {package}, which is not installed: pip install "starconv[{extra}]"'
        ) from error


@contextlib.contextmanager
def replaced_when_complete(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends well, and disappears when it does not.

    The new file is written beside the old one, because only within one directory is a rename atomic. A symbolic link
    keeps pointing where it did: its target is replaced. An existing file's permissions are kept.

    Raises:
        FileContentError: `path` is a directory, a device or a pipe, which must not be replaced.
        OSError: the directory is missing or cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise FileContentError(path, "a file to write; this is a directory or a device")
    if not target.parent.is_dir():
        raise FileNotFoundError(2, "No such directory", str(target.parent))
    # Not by tempfile, which would make it private; here the user's umask applies as usual. The name is short of its own
    # accord, so that a target whose name has the 255 bytes that file systems allow can still be written.
    temporary = target.with_name(f".starconv-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException as error:  # KeyboardInterrupt must not leave half a picture behind either
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from None  # a name that the user knows
        raise
