"""What solutions remember of the calls that they have seen, so that one of the same kind need not be prepared again."""

from typing import TypeVar

__all__ = ["MOST", "Remembered"]

MOST = 32
"""A caller whose strides never repeat gains nothing from remembering them."""

Value = TypeVar("Value")


class Remembered(dict[tuple[object, ...], Value]):
    """By the strides of a call's arrays, and what else decides it: what was bound for them. Full, it begins anew.

    >>> known = Remembered[str]()
    >>> known.get((4, 16)) or known.keep((4, 16), "bound")
    'bound'
    """

    def keep(self, key: tuple[object, ...], value: Value) -> Value:
        """`value`, from now on found under `key`."""
        if len(self) >= MOST:
            self.clear()
        self[key] = value
        return value
