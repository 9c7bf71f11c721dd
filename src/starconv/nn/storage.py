"""Weights in files: .npz (NumPy alone) and .safetensors. Neither can run code, and neither is left half written."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Array
from ..data.files import FileContentError, optional_import, replaced_when_complete
from ..errors import ArgumentValueError

__all__ = ["load_state", "save_state"]


def save_state(state: Mapping[str, ArrayLike], path: str | os.PathLike[str]) -> None:
    """Write arrays by name to `path`, in the format of its suffix: .npz or .safetensors.

    Raises:
        ArgumentValueError: another suffix. MissingPackageError: .safetensors without that package.
        OSError: the file cannot be written; an older one is still there then.
    """
    arrays = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in state.items()}
    suffix = _suffix(path)
    with replaced_when_complete(path) as file:
        if suffix == ".npz":
            np.savez(file, allow_pickle=False, **arrays)
        else:
            file.write(_safetensors().save(arrays))


def load_state(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays by name that are in `path`, .npz or .safetensors. No code in the file is run (nothing is unpickled).

    Raises:
        ArgumentValueError: another suffix. MissingPackageError: .safetensors without that package.
        FileContentError: the file is damaged or something else. OSError: it cannot be read.
    """
    suffix = _suffix(path)
    if suffix == ".npz":
        return _load_npz(path)
    data = Path(path).read_bytes()
    safetensors = _safetensors()
    try:
        return dict(safetensors.load(data))
    except Exception as error:  # the package raises a class of its own, and others for types that NumPy has not
        raise FileContentError(path, f"a .safetensors file of weights ({error})") from None


def _load_npz(path: str | os.PathLike[str]) -> dict[str, Array]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if isinstance(archive, np.ndarray):
                raise FileContentError(path, "a .npz archive of weights; this is one array (.npy)")
            arrays = {name: archive[name] for name in archive.files}
            if not all(
                isinstance(array, np.ndarray) for array in arrays.values()
            ):  # NumPy gives what it does not know as bytes
                raise FileContentError(path, "a .npz archive of weights; there is something else in it")
            return arrays
    except (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, TypeError) as error:
        if isinstance(error, FileContentError):
            raise
        raise FileContentError(path, f"a .npz archive of weights ({error or type(error).__name__})") from None


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in (".npz", ".safetensors"):
        raise ArgumentValueError("path", os.fspath(path), "a name that ends with .npz or .safetensors")
    return suffix


def _safetensors() -> ModuleType:
    return optional_import("safetensors.numpy", "safetensors", "A .safetensors file", "nets")
