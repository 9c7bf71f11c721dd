"""Compiled functions, by the text of their module: what every kernel is called through."""

from functools import lru_cache
from typing import NamedTuple

from .emit.source import Source
from .emit.target import Target
from .runtime import jit

__all__ = ["ELEMENTS", "Compiled", "compiled"]

ELEMENTS = {"float32": "float", "float64": "double"}
"""LLVM's names of the types in which kernels sum."""


class Compiled(NamedTuple):
    """A compiled function: its address, and the module that must live as long."""

    address: int
    module: jit.Module


@lru_cache(maxsize=512)
def compiled(source: str | Source, target: Target, name: str) -> Compiled:
    """The function `name` of a module's IR."""
    module = jit.compile_module(source, features=target.features)
    return Compiled(module.address(name), module)
