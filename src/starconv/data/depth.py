"""The depths of pictures: which value is white, and how computed values become pixels again."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import ArgumentTypeError

__all__ = ["DEPTHS", "Depth", "Pixels", "Quantised", "depth_of", "quantise", "white"]

Pixels = NDArray[Any]
"""An array of pixel values: uint8, uint16, float32 or float64."""

Depth = Literal["8", "16", "float"]
DEPTHS: dict[str, np.dtype[Any]] = {"8": np.dtype(np.uint8), "16": np.dtype(np.uint16), "float": np.dtype(np.float32)}
"""The depths a picture can have, by the name that the command line uses; float64 counts as "float"."""


def depth_of(dtype: DTypeLike) -> Depth:
    """The name of the depth of `dtype`.

    Raises:
        ArgumentTypeError: it is not a dtype that pictures have.

    >>> depth_of("uint16")
    '16'
    """
    dtype = np.dtype(dtype)
    if dtype == np.uint8:
        return "8"
    if dtype == np.uint16:
        return "16"
    if dtype in (np.float32, np.float64):
        return "float"
    raise ArgumentTypeError("dtype", str(dtype), "uint8, uint16, float32 or float64, the dtypes of pictures")


def white(dtype: DTypeLike) -> float:
    """The value of white: 255, 65535, or 1.0 in float pictures (which may go beyond it; black is 0 in all of them)."""
    return {"8": 255.0, "16": 65535.0, "float": 1.0}[depth_of(dtype)]


@dataclass(frozen=True, slots=True)
class Quantised:
    """Pixels made of computed values, and how many of them could not be shown as they were."""

    array: Pixels
    below: int = 0
    above: int = 0
    not_numbers: int = 0


def quantise(values: NDArray[np.floating], dtype: DTypeLike) -> Quantised:
    """`values`, in units in which `dtype`'s white is white, as pixels of `dtype`.

    Integers are rounded to the nearest (halves to even) and clipped to black and white; NaN becomes black. What was
    clipped is counted after rounding: -0.2 is black, not clipped to black. Float pictures take every value as it is.

    >>> quantise(np.array([-3.0, -0.2, 7.5, 300.0]), "uint8")
    Quantised(array=array([  0,   0,   8, 255], dtype=uint8), below=1, above=1, not_numbers=0)
    """
    dtype = np.dtype(dtype)
    if depth_of(dtype) == "float":
        with np.errstate(over="ignore"):  # a float64 beyond float32 is infinity there
            return Quantised(values.astype(dtype))
    largest = white(dtype)
    rounded = np.rint(values)
    unknown = np.isnan(rounded)
    below, above = np.count_nonzero(rounded < 0), np.count_nonzero(rounded > largest)
    rounded[unknown] = 0.0
    array = rounded.clip(0.0, largest, out=rounded).astype(dtype)
    return Quantised(array, int(below), int(above), int(np.count_nonzero(unknown)))
