"""Modules of IR that have a name before they have a text, so that one whose object is on disk need not be written.

Writing the text of a kernel takes 5 to 30 ms, as long as loading ten of them. The text is decided by the function that
writes it and by its arguments, so these are the name; what is on disk is kept under it and the digest of all the
engine's source files.

    @emitted("task")
    def module(target: Target, element: str) -> str:
        ...
        return module_source([...])

    compile_module(module(target, "float"), ...)        # writes the text only where it must
"""

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

__all__ = ["Source", "emitted"]


class Source:
    """A module of IR, not yet written.

    Attributes:
        name: what decides the text: the function, its arguments, and the constants of its file.
        functions: those that the text defines for others to call.
    """

    __slots__ = ("_arguments", "_write", "functions", "name")

    def __init__(self, write: Callable[..., str], arguments: tuple[Any, ...], functions: tuple[str, ...]) -> None:
        self._write, self._arguments, self.functions = write, arguments, functions
        # The constants are in it for those who try out others.
        known = vars(sys.modules[write.__module__])
        constants = {name: known[name] for name in sorted(known) if name.isupper() and isinstance(known[name], PLAIN)}
        self.name = f"{write.__module__}.{write.__qualname__}{arguments!r} with {constants!r}"

    @property
    def text(self) -> str:
        """The IR."""
        return self._write(*self._arguments)

    def __str__(self) -> str:
        return self.text


PLAIN = (bool, int, float, str)


def emitted(*functions: str) -> Callable[[Callable[..., str]], Callable[..., Source]]:
    """Let a function that writes IR give a :class:`Source`. Its arguments are plain values, given by position."""

    def decorated(write: Callable[..., str]) -> Callable[..., Source]:
        @lru_cache(maxsize=256)
        def source(*arguments: Any) -> Source:
            return Source(write, arguments, functions)

        source.__doc__ = write.__doc__
        return source

    return decorated
