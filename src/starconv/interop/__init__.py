"""starconv inside other libraries: `interop.torch` and `interop.jax`, each imported when it is first asked for.

Neither library is a requirement: who uses one of these modules has the library already.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import jax, torch

__all__ = ["jax", "torch"]


def __getattr__(name: str) -> Any:
    """Import `torch` or `jax` when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f".{name}", __name__)
