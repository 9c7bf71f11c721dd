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
            message += (
                " (" + ", ".join(f"{name.replace('_', ' ')} {_brief(shape)}" for name, shape in shapes.items()) + ")"
            )
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        # Another process gets the error as it was: unpickling would call __init__ with the message alone.
        return _restore, (type(self), self.args, self.__dict__)


class ArgumentValueError(_ArgumentError, ValueError):
    """An argument of the right kind with a value that cannot work."""


class ArgumentTypeError(_ArgumentError, TypeError):
    """An argument of the wrong kind."""


def _restore(kind: type[_ArgumentError], args: tuple[object, ...], state: dict[str, object]) -> _ArgumentError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def _brief(value: object, limit: int = 80) -> str:
    """`value` as a reader wants to see it in one line: tuples as they are, arrays by shape and dtype."""
    shape = getattr(value, "shape", None)
    dtype = getattr(value, "dtype", None)  # which a dtype has not, though it has a shape
    if shape is not None and dtype is not None and not isinstance(value, type):
        return f"array of shape {tuple(shape)} and dtype {dtype}"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def choices(names: Iterable[str]) -> str:
    """``'a', 'b' or 'c'``: how an error lists what it would have taken."""
    *most, last = [repr(name) for name in names]
    return f"{', '.join(most)} or {last}" if most else last
