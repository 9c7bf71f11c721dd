"""Synthetic pictures, small enough to see every pixel and plain enough to know what a kernel must find."""

import operator
from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentTypeError, ArgumentValueError

__all__ = ["edges_picture", "shapes_picture"]


def edges_picture(size: int | Sequence[int] = 64, *, dark: float = 0.0, light: float = 1.0) -> NDArray[np.float64]:
    """A light band across a dark picture: both kinds of horizontal edge, and no other edge.

    The upper edge is dark above light, which the kernel [[-1,-1,-1],[0,0,0],[1,1,1]] answers with +3(light - dark);
    the lower edge is light above dark, answered with the negative. Everywhere else the answer is 0.

    Args:
        size: height and width, or one number for both; at least 3, for one row of each: dark, light, dark.
        dark: value of the background.
        light: value of the band, the middle third of the rows.

    Returns:
        float64 array (height, width).

    >>> edges_picture(3)
    array([[0., 0., 0.],
           [1., 1., 1.],
           [0., 0., 0.]])
    """
    height, width = _height_width(size)
    picture = np.full((height, width), dark, dtype=np.float64)
    picture[height // 3 : height - height // 3] = light
    return picture


def shapes_picture(size: int | Sequence[int] = 64, *, dark: float = 0.0, light: float = 1.0) -> NDArray[np.float64]:
    """A disc, a square and a triangle, light on dark: edges in every direction, straight and round.

    Args:
        size: height and width, or one number for both; at least 3.
        dark: value of the background.
        light: value of the shapes.

    Returns:
        float64 array (height, width).
    """
    height, width = _height_width(size)
    # Pixel centres in units of the picture, so that the same shapes appear at every size.
    y = ((np.arange(height) + 0.5) / height)[:, None]
    x = ((np.arange(width) + 0.5) / width)[None, :]
    disc = (y - 0.29) ** 2 + (x - 0.29) ** 2 <= 0.2**2
    square = (np.abs(y - 0.29) <= 0.17) & (np.abs(x - 0.72) <= 0.17)
    triangle = (y >= 0.58) & (y <= 0.92) & (np.abs(x - 0.5) <= (y - 0.58) * 0.9)
    return np.where(disc | square | triangle, np.float64(light), np.float64(dark))


def _height_width(size: int | Sequence[int]) -> tuple[int, int]:
    expected = "an integer >= 3, or a height and a width"
    try:
        values = [operator.index(size)] * 2 if isinstance(size, SupportsIndex) else list(map(operator.index, size))
    except TypeError:
        raise ArgumentTypeError("size", size, expected) from None
    if len(values) != 2 or min(values) < 3:
        raise ArgumentValueError("size", size, expected)
    return values[0], values[1]
