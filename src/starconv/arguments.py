"""What callers may hand in, made uniform: array-likes, dtypes, layouts, padding modes, `out`. Wrong ones raise here."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ArgumentTypeError, ArgumentValueError, choices

Array = NDArray[Any]

PADDING_MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
}
"""torch.nn's padding_mode words, and one more, by the names that ``numpy.pad`` gives the same borders."""

_SPATIAL_LETTERS = {1: "W", 2: "HW", 3: "DHW"}


def as_array(argument: str, value: ArrayLike) -> Array:
    """`value` as an array of numbers that starconv can sum, without a copy where it is one already."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ArgumentValueError(argument, value, f"an array of numbers ({error})") from None
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8 or array.dtype == np.uint64:
        expected = "an array of float16, float32, float64, bool or integers up to int64"
        raise ArgumentTypeError(argument, value if array.ndim == 0 else array, expected)
    return array


def sum_dtype(*arrays: Array) -> tuple[str, np.dtype[np.generic]]:
    """The dtype in which sums are formed, and the one of the result, by NumPy's promotion of the operands.

    Integers and bools sum in int64 and stay int64, as ``numpy.sum`` does, so that they are exact; float16 sums in
    float32.
    """
    promoted = np.result_type(*arrays)
    if promoted.kind in "biu":
        return "int64", np.dtype(np.int64)
    if promoted.itemsize == 2:
        return "float32", np.dtype(np.float16)
    return promoted.newbyteorder("=").name, promoted.newbyteorder("=")


def peak(array: Array) -> int:
    """No smaller than any absolute value in an array of integers or bools; narrow types are not looked into for it."""
    if array.dtype.kind == "b":
        return 1
    if array.dtype.itemsize <= 2:
        return -int(np.iinfo(array.dtype).min) or int(np.iinfo(array.dtype).max)
    return max(-int(array.min(initial=0)), int(array.max(initial=0)))


def heaviest(kernels: Array) -> float:
    """The largest sum of absolute values that one of `kernels` (K, ...) has."""
    return float(np.abs(kernels.astype(np.float64)).reshape(len(kernels), -1).sum(axis=1).max())


def exact_float(largest: float) -> str | None:
    """The float type that holds all integers up to `largest`, None where there is none.

    Integers that are summed in it are exact in any order, and compiled, which sums in int64 are not.
    """
    largest *= 1.001  # a little more than the rounding with which it was worked out
    return "float32" if largest < 2**24 else "float64" if largest < 2**53 else None


def border_of(padding_mode: str) -> str:
    """The border's name of a padding_mode."""
    if not isinstance(padding_mode, str):
        raise ArgumentTypeError("padding_mode", padding_mode, choices(PADDING_MODES))
    if padding_mode not in PADDING_MODES:
        raise ArgumentValueError("padding_mode", padding_mode, choices(PADDING_MODES))
    return PADDING_MODES[padding_mode]


def is_channels_last(layout: str | None, spatial: int) -> bool:
    """Whether `layout` (as "NHWC", or without N) has the channels at the end; None means channels first."""
    letters = _SPATIAL_LETTERS[spatial]
    known = {None: False, f"NC{letters}": False, f"N{letters}C": True}
    if spatial != 2:
        known |= {"NCHW": False, "NHWC": True}  # the 2-D names serve for the other axes as well
    expected = choices([f"NC{letters}", f"N{letters}C"])
    if layout is not None and not isinstance(layout, str):
        raise ArgumentTypeError("layout", layout, expected)
    if layout not in known:
        raise ArgumentValueError("layout", layout, expected)
    return known[layout]


def channels_last_in_memory(x: Array) -> bool:
    """Whether (N, C, ...) `x` lies in memory with its channels next to each other, as a transposed NHWC array does."""
    if x.ndim < 3 or x.shape[1] < 2:
        return False
    spatial = [abs(step) for step, size in zip(x.strides[2:], x.shape[2:], strict=True) if size > 1]
    return x.strides[1] == x.itemsize and bool(spatial) and min(spatial) >= x.shape[1] * x.itemsize


def checked_out(out: object, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """`out` if it can take a result of `shape` and `dtype`."""
    expected = f"a writable array of shape {shape} and dtype {dtype}"
    if not isinstance(out, np.ndarray):
        raise ArgumentTypeError("out", out, expected)
    if out.shape != shape or out.dtype != dtype or not out.flags.writeable:
        raise ArgumentValueError("out", out, expected if out.flags.writeable else expected + "; this one is read-only")
    return out


def checked_count(argument: str, value: object, minimum: int = 1) -> int:
    """`value` as an int of at least `minimum`."""
    expected = f"an integer >= {minimum}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(argument, value, expected)
    if value < minimum:
        raise ArgumentValueError(argument, value, expected)
    return int(value)


def checked_number(argument: str, value: object, low: float = 0.0, high: float = float("inf")) -> float:
    """`value` as a float from `low` to `high`; infinity and NaN are none."""
    expected = f"a number >= {low:g}" if high == float("inf") else f"a number from {low:g} to {high:g}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ArgumentTypeError(argument, value, expected)
    number = float(value)
    if not low <= number <= high or number == float("inf"):
        raise ArgumentValueError(argument, value, expected)
    return number


Seed: TypeAlias = "int | np.random.Generator | None"
"""An integer (the same weights every time), a generator (shared by several layers), or None (others every time).

In quotes, because NumPy imports its generators, 2 MB, when they are first asked for.
"""


def generator_of(seed: Seed) -> "np.random.Generator":
    """The generator that `seed` stands for."""
    if seed is not None and (
        isinstance(seed, bool) or not isinstance(seed, (int, np.integer, np.random.Generator, np.random.SeedSequence))
    ):
        raise ArgumentTypeError("seed", seed, "an integer >= 0, a numpy.random.Generator or None")
    return np.random.default_rng(seed)
