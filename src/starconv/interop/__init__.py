"""starconv inside other libraries: `interop.torch`, imported when it is first asked for.

The library is no requirement: who uses such a module has it already.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import torch

__all__ = ["torch"]


def __getattr__(name: str) -> Any:
    """Import `torch` when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f".{name}", __name__)
