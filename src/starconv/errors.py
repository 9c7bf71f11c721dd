"""What a wrong call raises: the argument, its value, what was expected, and the shapes involved.

Two classes, so that code written for NumPy or PyTorch keeps its ``except ValueError`` and ``except TypeError``,
and code written for starconv can catch :class:`StarconvError`.
"""

from collections.abc import Iterable

__all__ = ["ArgumentTypeError", "ArgumentValueError", "StarconvError"]


class StarconvError(Exception):
    """Base of every error that starconv raises on purpose."""


class _ArgumentError(StarconvError):
    def __init__(self, argument: str, value: object, expected: str, **shapes: object) -> None:
        self.argument = argument
        self.value = value
        self.expected = expected
        self.shapes = shapes
        message = f"{argument} = {_brief(value)}: expected {expected}"
        if shapes:
            message += " (" + ", ".join(f"{name.replace('_', ' ')} {_brief(shape)}" for name, shape in shapes.items()) + ")"
        super().__init__(message)


class ArgumentValueError(_ArgumentError, ValueError):
    """An argument of the right kind with a value that cannot work."""


class ArgumentTypeError(_ArgumentError, TypeError):
    """An argument of the wrong kind."""


def _brief(value: object, limit: int = 80) -> str:
    """`value` as a reader wants to see it in one line: tuples as they are, arrays by shape and dtype."""
    shape = getattr(value, "shape", None)
    if shape is not None and not isinstance(value, type):
        return f"array of shape {tuple(shape)} and dtype {getattr(value, 'dtype', '?')}"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def choices(names: Iterable[str]) -> str:
    """``'a', 'b' or 'c'``: how an error lists what it would have taken."""
    *most, last = [repr(name) for name in names]
    return f"{', '.join(most)} or {last}" if most else last
