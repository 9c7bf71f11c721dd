"""Kernels by name, from text and from files.

The names, each with what it finds or does, are in :data:`NAMED_KERNELS`. A kernel is applied as deep learning does it,
by cross-correlation: it is not turned over, and the output is bright where the picture looks like the kernel.
"""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentTypeError, ArgumentValueError
from .files import FileContentError

__all__ = ["NAMED_KERNELS", "NamedKernel", "format_kernel", "named_kernel", "parse_kernel"]

Kernel = NDArray[np.float64]

LARGEST_SIDE = 1001
"""Taps per axis of the largest kernel accepted: a million taps, beyond which a typing error is the likelier reason."""
GAUSSIAN_TRUNCATE = 4.0
"""Standard deviations after which a gaussian ends, scipy.ndimage.gaussian_filter's default."""
LARGEST_TEXT = 64 * 1024 * 1024
"""Bytes of the largest text file read as a kernel: more than a million taps of 25 digits and a minus sign."""


@dataclass(frozen=True, slots=True)
class NamedKernel:
    """One named kernel: what it does in a line, and how it is made from its parameter (if it has one)."""

    name: str
    description: str
    make: Callable[[str], Kernel]
    parameter: str | None = None
    example: str | None = None

    @property
    def usage(self) -> str:
        """The name as it is typed: ``box:N``."""
        return f"{self.name}:{self.parameter}" if self.parameter else self.name

    @property
    def sample(self) -> str:
        """Text that makes one such kernel: the name, with an example of its parameter."""
        return f"{self.name}:{self.example}" if self.parameter else self.name


def _box(text: str) -> Kernel:
    expected = f"box:N with an integer N from 1 to {LARGEST_SIDE}, for example box:5"
    try:
        side = int(text)
    except ValueError:
        raise ArgumentValueError("kernel", f"box:{text}", expected) from None
    if not 1 <= side <= LARGEST_SIDE:
        raise ArgumentValueError("kernel", f"box:{text}", expected)
    return np.full((side, side), 1 / side**2)


def _gaussian(text: str) -> Kernel:
    largest = (LARGEST_SIDE // 2) / GAUSSIAN_TRUNCATE
    expected = f"gaussian:SIGMA in pixels with 0 < SIGMA <= {largest:g}, for example gaussian:1.5"
    try:
        sigma = float(text)
    except ValueError:
        raise ArgumentValueError("kernel", f"gaussian:{text}", expected) from None
    if not 0 < sigma <= largest:  # also refuses NaN
        raise ArgumentValueError("kernel", f"gaussian:{text}", expected)
    radius = int(GAUSSIAN_TRUNCATE * sigma + 0.5)
    # (x / sigma)^2 and not x^2 / sigma^2: sigma^2 may be too small for a float64 where sigma is not.
    with np.errstate(over="ignore"):
        bell = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    bell /= bell.sum()
    return np.outer(bell, bell)


def _fixed(rows: list[list[float]]) -> Callable[[str], Kernel]:
    return lambda _parameter: np.array(rows, dtype=np.float64)


_HORIZONTAL_EDGES: list[list[float]] = [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]
_SOBEL_X: list[list[float]] = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]

NAMED_KERNELS: dict[str, NamedKernel] = {
    kernel.name: kernel
    for kernel in (
        NamedKernel(
            "horizontal-edges",
            "horizontal edges: dark above light gives a light line, light above dark a dark one",
            _fixed(_HORIZONTAL_EDGES),
        ),
        NamedKernel(
            "vertical-edges",
            "vertical edges: dark left of light gives a light line, light left of dark a dark one",
            _fixed([list(column) for column in zip(*_HORIZONTAL_EDGES, strict=True)]),
        ),
        NamedKernel("sobel-x", "brightness change from left to right, smoothed along y", _fixed(_SOBEL_X)),
        NamedKernel(
            "sobel-y",
            "brightness change from top to bottom, smoothed along x",
            _fixed([list(column) for column in zip(*_SOBEL_X, strict=True)]),
        ),
        NamedKernel(
            "laplacian",
            "second derivative: spots and fine lines darker than what is around them",
            _fixed([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        ),
        NamedKernel(
            "sharpen",
            "the picture minus its laplacian: fine detail twice as strong",
            _fixed([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        ),
        NamedKernel(
            "emboss",
            "the picture as a relief lit from the upper left",
            _fixed([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]),
        ),
        NamedKernel("box", "mean of N x N pixels", _box, "N", "3"),
        NamedKernel(
            "gaussian",
            f"blur with a gaussian of SIGMA pixels, cut off at {GAUSSIAN_TRUNCATE:g} SIGMA, with sum 1",
            _gaussian,
            "SIGMA",
            "0.6",
        ),
        NamedKernel("identity", "the picture itself", _fixed([[0, 0, 0], [0, 1, 0], [0, 0, 0]])),
    )
}


def named_kernel(text: str) -> Kernel:
    """The named kernel `text`, a name from :data:`NAMED_KERNELS` with its parameter after a colon if it has one.

    Returns:
        A new float64 array (kernel height, kernel width).

    Raises:
        ArgumentValueError: no such name (with the nearest one), a parameter that is missing, bad or one too many.

    >>> named_kernel("horizontal-edges")
    array([[-1., -1., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  1.,  1.]])
    >>> named_kernel("box:3").shape
    (3, 3)
    """
    if not isinstance(text, str):
        raise ArgumentTypeError("kernel", text, "a str: the name of a kernel")
    name, colon, parameter = text.strip().partition(":")
    name = name.strip().lower().replace("_", "-")
    kernel = NAMED_KERNELS.get(name)
    if kernel is None:
        near = difflib.get_close_matches(name, NAMED_KERNELS, n=1)
        hint = f"; did you mean {NAMED_KERNELS[near[0]].usage!r}?" if near else ""
        names = ", ".join(kernel.usage for kernel in NAMED_KERNELS.values())
        raise ArgumentValueError(
            "kernel",
            text,
            f'one of {names}, a matrix like "1 0 -1; 2 0 -2; 1 0 -1", or a .npy, .csv or .txt file{hint}',
        )
    if kernel.parameter is None and colon:
        raise ArgumentValueError("kernel", text, f"{kernel.name} without a parameter")
    if kernel.parameter is not None and not parameter.strip():
        raise ArgumentValueError("kernel", text, f"{kernel.usage}, for example {kernel.sample}")
    return kernel.make(parameter.strip())


def parse_kernel(text: str) -> Kernel:
    """A kernel from what a user types: a name, a matrix, or the path of a file.

    - a name: see :func:`named_kernel`;
    - a matrix: rows end with ``;`` or a line, numbers are separated by spaces or commas and may be fractions:
      ``"1 0 -1; 2 0 -2; 1 0 -1"``, ``"1/9, 1/9, 1/9"``;
    - a file: ``.npy`` (one 2-D real array), ``.csv`` (one row per line; commas, semicolons or tabs between numbers) or
      ``.txt`` (the matrix as above, where lines end rows too); ``#`` begins a comment in both.

    Returns:
        A new float64 array (kernel height, kernel width), every value finite.

    Raises:
        ArgumentValueError: not a kernel: no such name, rows of different lengths, empty, not a number, not finite.
        FileContentError: the same, found in a file. OSError: the file cannot be read.

    >>> parse_kernel("1 0 -1; 1/2, 0, -1/2")
    array([[ 1. ,  0. , -1. ],
           [ 0.5,  0. , -0.5]])
    """
    if not isinstance(text, str):
        raise ArgumentTypeError("kernel", text, 'a str: a name, a matrix like "1 0 -1; 2 0 -2", or a path')
    stripped = text.strip()
    suffix = Path(stripped).suffix.lower()
    if suffix in _READERS:
        path = Path(stripped).expanduser()
        try:
            return _checked(_READERS[suffix](path))
        except _NotAKernel as problem:
            raise FileContentError(path, f"a kernel: {problem}") from None
    if (
        not stripped
        or ";" in stripped
        or stripped[0] in "+-−.,0123456789"
        or stripped.lower().startswith(("nan", "inf"))
    ):
        try:
            return _checked(_matrix(_rows(stripped.splitlines())))
        except _NotAKernel as problem:
            raise ArgumentValueError("kernel", text, str(problem)) from None
    if os.sep in stripped:
        raise ArgumentValueError("kernel", text, "a kernel file that ends with .npy, .csv or .txt")
    return named_kernel(stripped)


def format_kernel(kernel: NDArray[np.floating]) -> list[list[str]]:
    """The numbers of `kernel` as short text: integers without a point, unit fractions such as 1/9 as fractions.

    >>> format_kernel(named_kernel("box:2"))
    [['1/4', '1/4'], ['1/4', '1/4']]
    """
    return [[_short(float(value)) for value in row] for row in kernel]


def _short(value: float) -> str:
    if value.is_integer() and abs(value) < 1e6:
        return str(int(value))
    inverse = round(1 / value)
    # Only where it is the same float64: nothing is shown as 1/9 that is not.
    if 1 < abs(inverse) <= 100 and 1 / inverse == value:
        return f"{'-' if inverse < 0 else ''}1/{abs(inverse)}"
    return f"{value:.4g}"


class _NotAKernel(Exception):
    """What a kernel must be and this one is not; becomes an error that names the argument or the file."""


def _checked(values: NDArray[np.generic]) -> Kernel:
    if values.ndim != 2:
        raise _NotAKernel(f"two axes (rows, columns), found shape {values.shape}")
    if values.dtype.kind not in "biuf":
        raise _NotAKernel(f"real numbers, found dtype {values.dtype}")
    if values.size == 0:
        raise _NotAKernel(f"at least one number, found shape {values.shape}")
    if max(values.shape) > LARGEST_SIDE:
        raise _NotAKernel(f"at most {LARGEST_SIDE} rows and columns, found shape {values.shape}")
    kernel = np.array(values, dtype=np.float64)
    if not np.isfinite(kernel).all():
        row, column = np.argwhere(~np.isfinite(kernel))[0]
        raise _NotAKernel(f"finite numbers, found {kernel[row, column]} in row {row + 1}, column {column + 1}")
    return kernel


def _matrix(rows: list[str]) -> Kernel:
    numbers = [_row(row, index) for index, row in enumerate(rows, 1)]
    if not any(numbers):
        raise _NotAKernel("at least one number")
    lengths = [len(row) for row in numbers]
    if len(set(lengths)) > 1:
        found = ", ".join(map(str, lengths[:8])) + (", …" if len(lengths) > 8 else "")
        raise _NotAKernel(f"as many numbers in every row, found rows of {found}")
    return np.array(numbers, dtype=np.float64)


def _rows(lines: list[str]) -> list[str]:
    """The rows of `lines`, each of which may hold several, separated or ended by semicolons."""
    return [row for line in lines for row in line.strip().removesuffix(";").split(";")]


def _row(text: str, row: int) -> list[float]:
    # "1,2" "1 2" and "1, 2" separate alike, but "1,,2" has a gap, which is more likely a mistake than a style.
    fields = [part.strip() for part in text.split(",")] if "," in text else [text.strip()]
    if len(fields) > 1 and "" in fields:
        raise _NotAKernel(f"a number between every two commas, found {text.strip()!r} in row {row}")
    return [_number(word, row) for field in fields for word in field.split()]


def _number(text: str, row: int) -> float:
    # The minus sign of typeset text (U+2212) is what a matrix copied from a web page has.
    numerator, slash, denominator = text.replace("−", "-").partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise _NotAKernel(f"numbers such as 1, -0.5 or 1/9, found {text!r} in row {row}") from None


def _read_npy(path: Path) -> NDArray[np.generic]:
    try:
        # Mapped, so that a file that cannot be a kernel is refused by its shape before it fills the memory.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _NotAKernel(f"a .npy file with one array of numbers ({error})") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise _NotAKernel("a .npy file with one array, found an archive of several (.npz)")
    return array


def _read_lines(path: Path) -> list[str]:
    if path.stat().st_size > LARGEST_TEXT:
        raise _NotAKernel(f"at most {LARGEST_TEXT} bytes, found {path.stat().st_size}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise _NotAKernel("text in UTF-8") from None
    return [line for line in (line.partition("#")[0].strip() for line in lines) if line]


def _read_txt(path: Path) -> NDArray[np.generic]:
    return _matrix(_rows(_read_lines(path)))


def _read_csv(path: Path) -> NDArray[np.generic]:
    return _matrix([line.replace(";", ",").replace("\t", ",").removesuffix(",") for line in _read_lines(path)])


_READERS: dict[str, Callable[[Path], NDArray[np.generic]]] = {".npy": _read_npy, ".csv": _read_csv, ".txt": _read_txt}
