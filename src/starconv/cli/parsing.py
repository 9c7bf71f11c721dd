"""Numbers as one types them: per axis 3, 3x5 (rows x columns); padding 1, 1x2, 1:2x0:1, same; channels 0,3,8-11."""

import re
from typing import NamedTuple

from ..errors import ArgumentValueError
from ..geometry import PADDING_RULES, Padding

__all__ = ["Layer", "layer", "number_list", "padding_value", "per_axis_value"]

_SEPARATOR = re.compile(r"[x×]", re.IGNORECASE)
MOST_NUMBERS = 1 << 16
"""In one range of a list."""


def per_axis_value(argument: str, text: str) -> int | tuple[int, ...]:
    """``"3"`` as 3, ``"3x5"`` as (3, 5); whether the numbers make sense is for the geometry to say.

    >>> per_axis_value("stride", "2x1")
    (2, 1)
    """
    try:
        values = tuple(int(part) for part in _SEPARATOR.split(text))
    except ValueError:
        raise ArgumentValueError(argument, text, "an integer, or one per axis such as 3x5") from None
    return values[0] if len(values) == 1 else values


def padding_value(text: str) -> Padding:
    """``"1"``, ``"1x2"``, a rule's name, or (before, after) pairs: ``"1:2x0:1"``.

    >>> padding_value("1:2x0")
    ((1, 2), (0, 0))
    """
    if text in PADDING_RULES:
        return text  # type: ignore[return-value]  # it is one of the three words
    expected = f"{', '.join(PADDING_RULES)}, an integer, one per axis such as 1x2, or before:after such as 1:2x0:1"
    try:
        axes = [tuple(int(side) for side in axis.split(":")) for axis in _SEPARATOR.split(text)]
    except ValueError:
        raise ArgumentValueError("padding", text, expected) from None
    if any(len(axis) > 2 for axis in axes):
        raise ArgumentValueError("padding", text, expected)
    if any(len(axis) == 2 for axis in axes):
        return tuple((axis[0], axis[-1]) for axis in axes)
    return axes[0][0] if len(axes) == 1 else tuple(axis[0] for axis in axes)


def number_list(argument: str, text: str) -> list[int]:
    """Numbers from 0 on and ranges of them, both ends included; whether they exist is for the caller to say.

    >>> number_list("channels", "0,3,8-11")
    [0, 3, 8, 9, 10, 11]
    """
    numbers: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if not 0 <= last - first < MOST_NUMBERS:
            raise ArgumentValueError(argument, text, "numbers and ranges of them, such as 0,3,8-11")
        numbers += range(first, last + 1)
    return numbers


class Layer(NamedTuple):
    """One layer of a chain."""

    name: str
    kernel: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: Padding = 0
    dilation: int | tuple[int, ...] = 1


def layer(text: str, number: int) -> Layer:
    """A layer from ``"k7 s2 p3"`` or, with a name, ``"conv1: k7 s2 p3 d1"``; only k must be there.

    >>> layer("pool: k3 s2", 1)
    Layer(name='pool', kernel=3, stride=2, padding=0, dilation=1)
    """
    expected = 'k, s, p and d with their numbers, such as "k3 s2 p1" or "conv1: k3x5 s2 p1:0 d1"'
    # A name ends with ": " or ":" before k; the colon of p1:2 has a digit after it.
    named = re.fullmatch(r"\s*([^:]*?)\s*:\s*((?![\d\s]).*)", text)
    name, words = (named[1], named[2]) if named else (str(number), text)
    found: dict[str, str] = {}
    for word in words.replace(",", " ").split():
        letter, value = word[0].lower(), word[1:].removeprefix("=")
        if letter not in "kspd" or letter in found or not value:
            raise ArgumentValueError("layer", text, f"{expected}; found {word!r}")
        found[letter] = value
    if "k" not in found:
        raise ArgumentValueError("layer", text, f"{expected}; the kernel size is missing")
    return Layer(
        name or str(number),
        per_axis_value("layer kernel", found["k"]),
        per_axis_value("layer stride", found.get("s", "1")),
        padding_value(found.get("p", "0")),
        per_axis_value("layer dilation", found.get("d", "1")),
    )
