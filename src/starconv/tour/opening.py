"""The first section: the user's picture, as the arrays `grey` and `rgb` that all other sections use."""

import os
from pathlib import Path

import numpy as np

from ..data.files import FileContentError
from ..data.images import Image, read_image
from .draw import brightness
from .html import figure, paragraphs, picture, row, shape
from .section import Names, Section

__all__ = ["LARGEST_SIDE", "SMALLEST_SIDE", "opening"]

SMALLEST_SIDE = 5
"""Pixels: the first example is 5 x 5 pixels of the picture."""
LARGEST_SIDE = 640
"""Pixels per side beyond which the tour goes on a smaller copy: more would not fit beside each other on a page."""

_ASTRONAUT = """\
import numpy as np
import starconv as sc
from starconv.data.images import astronaut, to_grey

picture = astronaut() / 255                     # 0 is black, 1 is white
"""


def opening(path: str | os.PathLike[str] | None = None) -> Section:
    """The section for the picture in the file `path`, or for the astronaut.

    Raises:
        OSError: the file cannot be read.
        FileContentError: it is not a picture, too small, or has values that are not numbers.
    """
    if path is None:
        return Section("picture", "The picture", _ASTRONAUT + _channels(3), lambda names: _show(names, None, None, 1))
    image = read_image(path)
    _check(Path(path), image)
    factor = _factor(image.array.shape[:2])
    code = _reading(path, image, factor) + _channels(image.channels)
    return Section("picture", "The picture", code, lambda names: _show(names, path, image, factor))


def _check(path: Path, image: Image) -> None:
    height, width = image.array.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise FileContentError(
            path,
            f"a picture of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels for the tour; it is {width} x {height}",
        )
    if not np.isfinite(image.array).all():
        raise FileContentError(path, "finite pixel values; some are infinite or not a number")


def _factor(size: tuple[int, ...]) -> int:
    """How many pixels per axis become one; the shorter side keeps what the tour needs."""
    return max(1, min(-(-max(size) // LARGEST_SIDE), min(size) // SMALLEST_SIDE))


def _reading(path: str | os.PathLike[str], image: Image, factor: int) -> str:
    lines = [
        "import numpy as np",
        "import starconv as sc",
        "from starconv.data.images import read_image, to_grey",
        "",
        f"picture = read_image({os.fspath(path)!r}).array",
    ]
    if factor > 1:
        lines += [
            f"# Smaller: the mean of {factor} x {factor} pixels, a convolution with stride {factor} in disguise.",
            f"f = {factor}",
            "h, w = picture.shape[0] // f, picture.shape[1] // f",
            "blocks = picture[: h * f, : w * f].reshape(h, f, w, f, *picture.shape[2:])",
            "picture = blocks.mean(axis=(1, 3))",
        ]
    low, high = float(image.array.min()), float(image.array.max())
    if image.depth == "float" and (low < 0 or high > 1):
        lines += [
            "# Its values are not between 0 and 1: make the smallest black and the largest white.",
            "picture = picture.astype(np.float64)",
            "picture = (picture - picture.min()) / max(np.ptp(picture), 1e-300)",
        ]
    else:
        lines += [f"picture = picture / {image.white:g}                     # 0 is black, 1 is white"]
    return "\n".join(lines) + "\n"


def _channels(channels: int) -> str:
    if channels == 1:
        return (
            "grey = to_grey(picture).astype(np.float64)      # (H, W)\nrgb = np.stack([grey, grey, grey])             "
            " # (3, H, W): red, green and blue are the same\n"
        )
    return (
        "grey = to_grey(picture).astype(np.float64)      # (H, W)\nrgb = np.moveaxis(picture, -1, 0)               # "
        "(3, H, W): channels first\n"
    )


def _show(names: Names, path: str | os.PathLike[str] | None, image: Image | None, factor: int) -> str:
    grey, rgb = names["grey"], names["rgb"]
    height, width = grey.shape
    notes = []
    if path is None:
        notes.append(
            "The picture shows the astronaut Eileen Collins (NASA, public domain; it comes with scikit-image). "
            "<code>starconv tour photo.jpg</code> makes the same page about a picture of yours."
        )
    elif image is not None:
        notes.append(f"The picture is {image} as its file has it.")
        if factor > 1:
            notes.append(
                f"It is large, so the page works on a copy in which each pixel is the mean of {factor} × {factor}: "
                f"{width} × {height}."
            )
        if image.alpha is not None:
            notes.append("Its alpha channel is left aside.")
        if image.channels == 1:
            notes.append("It is grey, so its red, green and blue channels below are all the same.")
    text = paragraphs(
        "To a computer a picture is an array of numbers. In grey it is a matrix <var>X</var> with one brightness per "
        f"pixel, here {shape(grey)} numbers between 0 (black) and 1 (white). In colour there are three such matrices, "
        f"<em>channels</em> for red, green and blue: {shape(rgb)}. Row 0 is at the top, as in a matrix.",
        " ".join(notes),
    )
    pictures = row(
        picture(brightness(np.moveaxis(rgb, 0, -1)), f"<code>rgb</code> {shape(rgb)}", alt="The picture in colour"),
        picture(brightness(grey), f"<code>grey</code> {shape(grey)}", alt="The picture in grey"),
        kind="pictures",
    )
    return text + figure(
        pictures,
        "The picture of this page. Grey is the brightness 0.2126 R + 0.7152 G + 0.0722 B (ITU-R BT.709).",
    )
