"""Synthetic sets to learn from: edges told apart by their orientation, and shapes by their form.

Every picture is drawn from a formula, at any size, and labelled without doubt; the same seed gives the same pictures.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentTypeError, ArgumentValueError
from .digits import Digits, Split

__all__ = ["SHAPES", "edge_classes", "edges", "shapes"]

SHAPES = ("circle", "square", "triangle", "cross")
"""What the labels of :func:`shapes` mean."""


def edges(
    count: int = 2000, *, size: int = 16, classes: int = 4, noise: float = 0.1, seed: int = 0, test: int | None = None
) -> Split:
    """One straight edge per picture; its class is the orientation of the edge.

    Class c of n stands for the angles around 180° c / n, from horizontal (0) counterclockwise, so with four classes:
    horizontal, rising, vertical, falling. Angles vary evenly over the middle two thirds of a class's share, so that no
    edge lies between two classes. Which side is light is random, and so are the contrast (0.3 to 1), the brightness and
    the place: the edge goes through a point in the middle half of the picture.

    Args:
        count: pictures to learn from.
        size: rows and columns, at least 8.
        classes: at least 2.
        noise: standard deviation of the normal noise on every pixel.
        seed: decides everything.
        test: pictures to be asked about; default a quarter of `count`.

    Returns:
        Pictures (N, 1, size, size) float32 from 0 to 1, the classes in equal parts, and labels (N,) int64.

    Raises:
        ArgumentValueError, ArgumentTypeError: naming the argument.

    >>> train, test = edges(8, size=8, noise=0)
    >>> train.images.shape, train.labels.tolist(), len(test.labels)
    ((8, 1, 8, 8), [0, 1, 2, 3, 0, 1, 2, 3], 2)
    >>> horizontal = train.images[0, 0]  # nearly: brightness hardly changes along the middle of a row
    >>> bool(np.ptp(horizontal, axis=1).mean() < np.ptp(horizontal, axis=0).mean())
    True
    """
    classes = _count("classes", classes, 2)

    def draw(rng: np.random.Generator, labels: NDArray[np.int64]) -> NDArray[Any]:
        y, x = _pixels(len(labels), size, rng, reach=0.25)
        angle = np.pi / classes * (labels + rng.uniform(-1 / 3, 1 / 3, len(labels)))
        normal = angle + np.pi / 2 + np.pi * rng.integers(0, 2, len(labels))
        # Rows count downwards, so that counterclockwise is minus the sine.
        distance = _column(np.cos(normal)) * x - _column(np.sin(normal)) * y
        # Pixels that the edge crosses are in between.
        return np.asarray(np.clip(distance + 0.5, 0, 1))

    return _split(draw, count, test, size, classes, noise, seed, contrast=(0.3, 1.0))


def edge_classes(classes: int = 4) -> tuple[str, ...]:
    """What the labels of :func:`edges` mean.

    >>> edge_classes(4)
    ('0°', '45°', '90°', '135°')
    """
    return tuple(f"{180 * number / _count('classes', classes, 2):g}°" for number in range(classes))


def shapes(count: int = 2000, *, size: int = 16, noise: float = 0.1, seed: int = 0, test: int | None = None) -> Split:
    """One shape per picture, light on dark: a circle, a square, a triangle or a cross, :data:`SHAPES`.

    All have the same area on average, so that the amount of light does not give them away. Place, size (a radius of
    0.18 to 0.3 of the picture's side), contrast (0.4 to 1) and brightness are random; the shape lies inside.

    Args, returns and errors are those of :func:`edges`.

    >>> train, test = shapes(8, size=16, noise=0)
    >>> train.images.shape, train.labels.tolist()
    ((8, 1, 16, 16), [0, 1, 2, 3, 0, 1, 2, 3])
    >>> len(np.unique(shapes(4, size=32, noise=0).train.images[1].round(6))) > 2  # borders are smooth
    True
    """

    def draw(rng: np.random.Generator, labels: NDArray[np.int64]) -> NDArray[Any]:
        radius = rng.uniform(0.18, 0.3, len(labels)) * size
        # A triangle reaches farthest from its middle, 1.56 radii: it stays that far from the border.
        y, x = _pixels(len(labels), size, rng, reach=0.5, inside=1.56 * radius)
        y, x = y / _column(radius), x / _column(radius)
        inside = np.stack([shape(y, x) for shape in (_circle, _square, _triangle, _cross)])
        chosen = np.take_along_axis(inside, labels[np.newaxis, :, np.newaxis, np.newaxis], axis=0)[0]
        return np.asarray(np.clip(chosen * _column(radius) + 0.5, 0, 1))

    return _split(draw, count, test, size, len(SHAPES), noise, seed, contrast=(0.4, 1.0))


# How far inside of the shape of area pi a point is, in radii (negative outside), at least near its border.


def _circle(y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(1 - np.hypot(y, x))


def _square(y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(math.sqrt(math.pi) / 2 - np.maximum(np.abs(y), np.abs(x)))


def _triangle(y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """Equilateral, its tip up: area 3 sqrt(3) r² for the inner radius r."""
    inner = math.sqrt(math.pi / (3 * math.sqrt(3)))
    slanted = math.sqrt(3) / 2 * np.abs(x) - y / 2
    return np.asarray(inner - np.maximum(y, slanted))


def _cross(y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """Two bars of length 2a and width 2a/3: area 20 a² / 9."""
    long = math.sqrt(9 * math.pi / 20)
    down, across = np.abs(y), np.abs(x)
    lying, standing = (np.minimum(long - one, long / 3 - other) for one, other in ((across, down), (down, across)))
    return np.asarray(np.maximum(lying, standing))


def _split(
    draw: Any,
    count: int,
    test: int | None,
    size: int,
    classes: int,
    noise: float,
    seed: int,
    contrast: tuple[float, float],
) -> Split:
    count, size, seed = _count("count", count, 1), _count("size", size, 8), _count("seed", seed, 0)
    counts = (count, max(count // 4, 1) if test is None else _count("test", test, 1))
    if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise < math.inf:
        raise ArgumentValueError("noise", noise, "a number >= 0")
    parts = []
    for part, pictures in enumerate(counts):
        rng = np.random.default_rng([seed, part])
        labels = np.arange(pictures, dtype=np.int64) % classes
        light = draw(rng, labels)
        by = rng.uniform(*contrast, pictures)
        dark = rng.uniform(0, 1 - by)
        images = _column(dark) + _column(by) * light + noise * rng.standard_normal(light.shape)
        parts.append(Digits(np.clip(images, 0, 1).astype(np.float32)[:, np.newaxis], labels))
    return Split(*parts)


def _pixels(
    count: int, size: int, rng: np.random.Generator, reach: float, inside: NDArray[Any] | float = 0.0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows (count, size, 1) and columns (count, 1, size) as seen from a random point of each picture.

    The point lies at most `reach` of the side from the middle, and `inside` pixels from the border.
    """
    room = np.maximum(np.minimum(reach * size, size / 2 - inside), 0)
    offsets = size / 2 + rng.uniform(-1, 1, (2, count)) * room
    place = np.arange(size) + 0.5
    y, x = (place - offset[:, np.newaxis] for offset in offsets)
    return y[:, :, np.newaxis], x[:, np.newaxis, :]


def _column(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values)[:, np.newaxis, np.newaxis]


def _count(argument: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(argument, value, f"an integer >= {least}")
    if value < least:
        raise ArgumentValueError(argument, value, f"an integer >= {least}")
    return int(value)
