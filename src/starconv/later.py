"""Names of a package that are imported when they are first asked for: most programs never ask, and none should wait."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["found_later"]


def found_later(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose names `places` are in modules of it: by name, the module (".nets").

    A name that the module has not stands for the module itself.
    """

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(places[name], package)
        found = getattr(module, name, module)
        setattr(sys.modules[package], name, found)
        return found

    return find
