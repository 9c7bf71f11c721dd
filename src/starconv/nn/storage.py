"""Weights in files: .npz (NumPy alone) and .safetensors. Neither can run code, and neither is left half written."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Array
from ..data.files import optional_import, replaced_when_complete
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
        FileContentError: the file is damaged, something else, or would unpack to much more than it has
        (:func:`starconv.nets.load_weights`). OSError: it cannot be read.
    """
    _suffix(path)
    from ..nets.weights import load_weights  # here, because networks are made of these layers

    return load_weights(path)


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in (".npz", ".safetensors"):
        raise ArgumentValueError("path", os.fspath(path), "a name that ends with .npz or .safetensors")
    return suffix


def _safetensors() -> ModuleType:
    return optional_import("safetensors.numpy", "safetensors", "A .safetensors file", "nets")
