"""What is remembered of calls that were seen, so that one of the same kind need not be prepared again."""

from typing import TypeVar

__all__ = ["MOST", "Remembered"]

MOST = 32
"""A caller whose strides never repeat gains nothing from remembering them."""

Value = TypeVar("Value")


class Remembered(dict[tuple[object, ...], Value]):
    """By all that decides a call: what was found for it. Full, with `most` of them, it begins anew.

    >>> known = Remembered[str]()
    >>> known.get((4, 16)) or known.keep((4, 16), "bound")
    'bound'
    """

    def __init__(self, most: int = MOST) -> None:
        super().__init__()
        self.most = most

    def keep(self, key: tuple[object, ...], value: Value) -> Value:
        """`value`, from now on found under `key`."""
        if len(self) >= self.most:
            self.clear()
        self[key] = value
        return value
