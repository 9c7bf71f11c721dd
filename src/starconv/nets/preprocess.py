"""Pictures as networks trained on ImageNet take them: scaled, cut, and normalised, as torchvision and Pillow do it."""

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import Array
from ..data.depth import white
from ..errors import ArgumentTypeError, ArgumentValueError
from ..geometry import per_axis

__all__ = [
    "MEAN",
    "STANDARD_DEVIATION",
    "as_pixels",
    "crop",
    "fitted",
    "imagenet_classes",
    "normalise",
    "preprocess",
    "resize",
]

MEAN = (0.485, 0.456, 0.406)
"""Of red, green and blue over ImageNet's pictures, from 0 to 1. Source: torchvision's transforms/_presets.py."""
STANDARD_DEVIATION = (0.229, 0.224, 0.225)
MOST_PIXELS = 10**8
"""Of a picture that is scaled: 2.4 GB in the arithmetic of three colours."""
_BITS = 22
"""Binary places of Pillow's weights for 8-bit pictures: 32 bits less 8 for the value and 2 to spare."""


def preprocess(
    picture: ArrayLike, *, size: int | tuple[int, int] | None = 224, shorter: int | None = None
) -> NDArray[np.float32]:
    """`picture` as the input of a network: torchvision's Resize, CenterCrop, ToTensor and Normalize.

    Args:
        picture: (H, W) or (H, W, 3) of uint8, uint16 or floats from 0 to 1; grey becomes three equal channels.
        size: what is cut out of its middle once it is scaled; None takes the picture as it is.
        shorter: what its shorter side is scaled to before; by default 8/7 of `size`, 256 for 224.

    Returns:
        (1, 3, height, width) float32.

    Raises:
        ArgumentTypeError, ArgumentValueError: no picture, or one that is smaller than what is to be cut out.

    8-bit pictures are rounded to 8 bits after each axis that is scaled, as torchvision's are; others are not rounded.
    """
    return normalise(fitted(picture, size, shorter))


def fitted(picture: ArrayLike, size: int | tuple[int, int] | None = 224, shorter: int | None = None) -> Array:
    """The first half of :func:`preprocess`: `picture` scaled and cut, (H, W, C) of uint8, or float32 from 0 to 1."""
    pixels = as_pixels(picture)
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.float32) / np.float32(white(pixels.dtype))
    if size is None:
        return pixels
    height, width = per_axis("size", size, 2, minimum=1)
    sides = (height, width)
    if shorter is not None:
        (shorter,) = per_axis("shorter", shorter, 1, minimum=1)
    return crop(resize(pixels, _scaled(pixels.shape, sides, shorter)), sides)


def as_pixels(picture: ArrayLike) -> Array:
    """`picture` (H, W) or (H, W, 3) as (H, W, 1) or (H, W, 3) of uint8, uint16 or floats.

    Raises:
        ArgumentTypeError, ArgumentValueError: it is none.
    """
    pixels = np.asarray(picture)
    if pixels.dtype.kind not in "uf" or pixels.dtype.itemsize > 8:
        raise ArgumentTypeError("picture", pixels, "uint8, uint16 or floats from 0 to 1")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)) or not pixels.size:
        raise ArgumentValueError("picture", pixels, "a picture (H, W) or (H, W, 3)")
    return pixels.reshape(*pixels.shape[:2], -1)


def _scaled(shape: tuple[int, ...], size: tuple[int, int], shorter: int | None) -> tuple[int, int]:
    """What a picture of `shape` is scaled to before `size` is cut out of it; its sides keep their ratio.

    Source: _compute_resized_output_size of torchvision's transforms/functional.py.
    """
    height, width = shape[:2]
    if shorter is not None:
        by_height = height <= width
        side = shorter
    else:  # the side of which less is left over decides
        by_height = height * size[1] <= width * size[0]
        side = round(size[0 if by_height else 1] * 8 / 7)
    if side < 1:
        raise ArgumentValueError("shorter" if shorter is not None else "size", side, "at least 1 pixel")
    scaled = (side, int(side * width / height)) if by_height else (int(side * height / width), side)
    if scaled[0] * scaled[1] > MOST_PIXELS:
        expected = f"one for which the picture is scaled to at most {MOST_PIXELS} pixels, not {scaled[0]} x {scaled[1]}"
        raise ArgumentValueError("size" if shorter is None else "shorter", side if shorter else size, expected)
    return scaled


def resize(pixels: Array, size: tuple[int, int]) -> Array:
    """Scale (H, W, C) to `size` with the triangle filter, which is widened where the picture becomes smaller.

    That is what Pillow calls BILINEAR: a weighted mean of all pixels under a triangle of two output pixels' width,
    first along rows, then along columns. 8-bit pictures are rounded after both as Pillow rounds them. (Where Pillow 13
    takes columns first because that is quicker, some of its bytes differ by 1.)

    Source: A. Murray et al., Pillow, src/libImaging/Resample.c.
    """
    for axis in (1, 0):
        if pixels.shape[axis] != size[axis]:
            pixels = _resize_axis(pixels, axis, size[axis])
    return pixels


def _resize_axis(pixels: Array, axis: int, length: int) -> Array:
    weights = _triangles(pixels.shape[axis], length)
    lines = np.moveaxis(pixels, axis, 0)
    flat = lines.reshape(len(lines), -1)
    if pixels.dtype == np.uint8:
        # Pillow's arithmetic: weights of 22 binary places, and half of the last one added before they are cut off.
        exact = weights.copy()
        exact.data = np.floor(weights.data * (1 << _BITS) + 0.5).astype(np.int64)
        sums = exact.astype(np.int64) @ flat.astype(np.int64)
        scaled = np.clip((sums + (1 << (_BITS - 1))) >> _BITS, 0, 255).astype(np.uint8)
    else:
        scaled = (weights @ flat.astype(np.float64)).astype(pixels.dtype)
    return np.ascontiguousarray(np.moveaxis(scaled.reshape(length, *lines.shape[1:]), 0, axis))


def _triangles(before: int, after: int) -> Any:
    """The matrix (after, before) whose rows are the triangles' weights, each with the sum 1."""
    import scipy.sparse  # here, because it takes as long to import as the rest of this package

    scale = before / after
    support = max(scale, 1.0)
    starts, counts, values = [0], [], []
    for place in range(after):
        centre = (place + 0.5) * scale
        first, last = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), before)
        reach = np.abs((np.arange(first, last) - centre + 0.5) / support)
        row = np.maximum(1 - reach, 0)
        values.append(row / row.sum())
        counts.append(np.arange(first, last))
        starts.append(starts[-1] + len(row))
    return scipy.sparse.csr_array((np.concatenate(values), np.concatenate(counts), starts), (after, before))


def crop(pixels: Array, size: tuple[int, int]) -> Array:
    """The middle of (H, W, C). Source: center_crop of torchvision's transforms/functional.py."""
    height, width = size
    if not (1 <= height <= pixels.shape[0] and 1 <= width <= pixels.shape[1]):
        raise ArgumentValueError("size", size, "no more than the picture has", picture=pixels.shape[:2])
    top, left = (round((pixels.shape[axis] - size[axis]) / 2) for axis in (0, 1))  # a half to the even number
    return pixels[top : top + height, left : left + width]


def normalise(pixels: Array) -> NDArray[np.float32]:
    """(H, W) or (H, W, C) as (1, 3, H, W): from 0 to 1, minus the mean, over the standard deviation, per colour."""
    values = pixels.astype(np.float32)
    if pixels.dtype == np.uint8:
        values /= np.float32(255)
    values = np.broadcast_to(np.atleast_3d(values), (*pixels.shape[:2], 3))
    mean, deviation = np.array(MEAN, np.float32), np.array(STANDARD_DEVIATION, np.float32)
    values = (values - mean) / deviation
    return np.ascontiguousarray(np.moveaxis(values, -1, 0)[np.newaxis], np.float32)


@cache
def imagenet_classes() -> tuple[str, ...]:
    """An English name for each of ImageNet's 1000 classes; where they are from is told in imagenet_source.txt.

    >>> imagenet_classes()[388], len(imagenet_classes())
    ('giant panda', 1000)
    """
    return tuple(files(__package__).joinpath("imagenet.txt").read_text(encoding="utf-8").splitlines())
