"""Grids: the kernels of a layer, and the channels of a picture on its way through a network, each with its number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import as_array
from ..errors import ArgumentTypeError, ArgumentValueError, choices
from ..geometry import per_axis
from .canvas import SMALLEST_NUMBER, number_size
from .panels import MISSING, Scale, Sheet, numbers, picked, scale_of
from .save import Still
from .theme import matplotlib, theme_of

if TYPE_CHECKING:
    from .theme import Theme

__all__ = ["GridData", "feature_maps", "filters", "shared_scale"]

Array = NDArray[Any]

CHANNELS_SHOWN = 64
PIXELS_PER_INCH = 150
"""Pixels of a tile per inch on paper at most, one and a half times the PNG's. Larger tiles are averaged by blocks."""


@dataclass(frozen=True, eq=False)
class GridData:
    """What :func:`filters` and :func:`feature_maps` draw.

    Attributes:
        name: the layer's name, if one was given.
        tiles: one array (H, W), or (H, W, 3) for a kernel shown in colour, per tile.
        labels: what is written above each tile.
        scales: (low, high) of each tile's colours.
        columns: tiles per line.
        total: how many there are in all, drawn or not.
    """

    name: str
    tiles: tuple[Array, ...]
    labels: tuple[str, ...]
    scales: tuple[Scale, ...]
    columns: int
    total: int


def feature_maps(
    maps: ArrayLike | Mapping[str, ArrayLike],
    layer: str | None = None,
    *,
    channels: Sequence[int] | None = None,
    columns: int | None = None,
    scale: Literal["each", "shared"] = "each",
    theme: str | Theme = "light",
) -> Still:
    """Draw the channels of a picture as a grid: what each kernel of a layer found.

    Args:
        maps: (C, H, W), (1, C, H, W) or (C, W); or a mapping from layer names to such arrays.
        layer: which one of a mapping; not needed if it has only one.
        channels: which to draw, by default the first 64.
        columns: tiles per line, by default what makes the drawing about as wide as high.
        scale: "each" channel on colours of its own range, or one "shared" range, which lets brightness be compared.
        theme: "light" or "dark".

    Returns:
        The drawing; ``.data`` is its :class:`GridData`.

    Raises:
        ArgumentValueError, ArgumentTypeError: no such layer or channel, or an array of another shape.
    """
    name, values = _layer(maps, layer)
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim == 2:
        values = values[:, np.newaxis]
    if values.ndim != 3 or not values.size:
        raise ArgumentValueError("maps", values, "feature maps (C, H, W) or (C, W), none of them empty")
    chosen = picked("channels", channels, len(values), CHANNELS_SHOWN)
    tiles = tuple(values[channel] for channel in chosen)
    data = GridData(name, tiles, tuple(map(str, chosen)), _scales(tiles, scale), _columns(columns, tiles), len(values))
    size = "×".join(map(str, values.shape[1:]))
    title = f"{name + ': ' if name else ''}{len(values)} feature map{'s' * (len(values) > 1)} of {size}"
    return _draw(data, theme, title, "what each output channel found", scale)


def filters(
    w: ArrayLike | Mapping[str, ArrayLike],
    layer: str | None = None,
    *,
    kernels: Sequence[int] | None = None,
    channels: Sequence[int] | None = None,
    columns: int | None = None,
    scale: Literal["each", "shared"] = "shared",
    theme: str | Theme = "light",
) -> Still:
    """Draw the kernels of a layer as a grid.

    Kernels over three channels are shown in colour, as they look at RGB pictures: zero is mid-grey, and red is brighter
    than that where the red channel's weights are positive. All others are shown channel by channel, zero in the middle
    of the colours; every line is one kernel then.

    Args:
        w: (K, C, kh, kw), (K, C, k), or one kernel (kh, kw); or a mapping from layer names to such arrays.
        layer: which one of a mapping; not needed if it has only one.
        kernels: which to draw, by default the first 64, or 8 if every channel is a tile.
        channels: which channels of each, by default the first 8; naming any turns the colour view off.
        columns: tiles per line.
        scale: one "shared" range of colours, or "each" tile on its own.
        theme: "light" or "dark".

    Returns:
        The drawing; ``.data`` is its :class:`GridData`.

    Raises:
        ArgumentValueError, ArgumentTypeError: no such layer, kernel or channel, or an array of another shape.
    """
    name, values = _layer(w, layer, "w")
    if values.ndim in (1, 2):
        values = values[np.newaxis, np.newaxis]
    if values.ndim == 3:
        values = values[:, :, np.newaxis]
    if values.ndim != 4 or not values.size:
        raise ArgumentValueError("w", values, "kernels (K, C, kh, kw), (K, C, k) or one kernel (kh, kw), not empty")
    in_colour = values.shape[1] == 3 and values.shape[2] > 1 and channels is None
    one_each = in_colour or values.shape[1] == 1
    chosen = picked("kernels", kernels, len(values), 64 if one_each else 8)
    if in_colour:
        tiles = tuple(np.moveaxis(values[kernel], 0, -1) for kernel in chosen)
        labels = tuple(map(str, chosen))
    else:
        members = picked("channels", channels, values.shape[1], 8)
        tiles = tuple(values[kernel, member] for kernel in chosen for member in members)
        labels = tuple(str(k) if values.shape[1] == 1 else f"{k}, {c}" for k in chosen for c in members)
        columns = columns or (None if values.shape[1] == 1 else len(members))
    data = GridData(name, tiles, labels, _scales(tiles, scale, signed=True), _columns(columns, tiles), len(values))
    size = "×".join(map(str, values.shape[2:] if values.shape[1] == 1 else values.shape[1:]))
    title = f"{name + ': ' if name else ''}{len(values)} kernel{'s' * (len(values) > 1)} of {size}"
    notes = (
        "red, green and blue channel as colours, zero is mid-grey"
        if in_colour
        else "number of the kernel" + (", channel" * (values.shape[1] > 1))
    )
    return _draw(data, theme, title, notes, scale)


def shared_scale(data: GridData) -> Scale | None:
    """The one colour scale of all tiles, or None if each has its own."""
    return data.scales[0] if len(set(data.scales)) == 1 else None


def _layer(values: object, layer: str | None, argument: str = "maps") -> tuple[str, Array]:
    if not isinstance(values, Mapping):
        if layer is not None and not isinstance(layer, str):
            raise ArgumentTypeError("layer", layer, "a layer's name")
        return layer or "", as_array(argument, values)  # type: ignore[arg-type]
    if not values:
        raise ArgumentValueError(argument, values, "at least one layer")
    if layer is None and len(values) == 1:
        layer = next(iter(values))
    if layer not in values:
        raise ArgumentValueError("layer", layer, choices(values))
    return str(layer), as_array(argument, values[layer])


def _scales(tiles: Sequence[Array], scale: str, signed: bool | None = None) -> tuple[Scale, ...]:
    if scale not in ("each", "shared"):
        raise ArgumentValueError("scale", scale, "'each' or 'shared'")
    if scale == "shared":
        return (scale_of(*tiles, signed=signed),) * len(tiles)
    if signed is None:
        # All on one kind of colours: a channel that happens to be nowhere negative must not look like a photograph.
        signed = any(bool(np.any(tile < 0)) for tile in tiles)
    return tuple(scale_of(tile, signed=signed) for tile in tiles)


def _columns(columns: int | None, tiles: Sequence[Array]) -> int:
    if columns is not None:
        return min(per_axis("columns", columns, 1, minimum=1)[0], len(tiles))
    height, width = tiles[0].shape[:2]
    return min(len(tiles), max(1, math.ceil(math.sqrt(len(tiles) * height / width) - 0.2), math.ceil(len(tiles) / 16)))


def _draw(data: GridData, theme: str | Theme, title: str, notes: str, scale: str) -> Still:
    look = theme_of(theme)
    height, width = data.tiles[0].shape[:2]
    lines = math.ceil(len(data.tiles) / data.columns)
    gap, label = 0.1, 0.22
    # Wide tiles (signals) may be as wide as the page.
    widest = min(2.4 * max(1.0, math.sqrt(width / height)), 9.0)
    across = min(max((9.0 - gap * data.columns) / data.columns, 0.45), widest)
    tall = across * height / width
    if tall > 2.4:
        across, tall = across * 2.4 / tall, 2.4
    one = shared_scale(data)
    total = 0.7 + data.columns * (across + gap) - gap
    shown = "" if len(data.tiles) == data.total or "," in data.labels[0] else f";  {len(data.tiles)} of them shown"
    ranges = (
        "one range of colours for all"
        if one and len(data.tiles) > 1
        else ""
        if one
        else "each tile has its own range of colours"
    )
    if data.scales[0].signed and data.tiles[0].ndim == 2:
        ranges += ", orange below zero and blue above"
    subtitle = ";  ".join(words for words in (notes + shown, ranges) if words)
    in_colour = data.tiles[0].ndim == 3
    head, foot = 1.05, 0.75 if one and not in_colour else 0.3
    sheet = Sheet(theme, max(total, 7.4), head + lines * (tall + label + gap) + foot, title, subtitle)
    start = (sheet.width - total) / 2 + 0.35 if total < 7.4 else 0.35
    texts, font_size = _texts(data, min(across / width, tall / height), look)
    for number, (tile, name, colours) in enumerate(zip(data.tiles, data.labels, data.scales, strict=True)):
        line, place = divmod(number, data.columns)
        left, top = start + place * (across + gap), head + line * (tall + label + gap) + label
        sheet.label(left, top - 0.1, name, across="left", width=across)
        painted = _painted(tile, colours, look, across)
        if max(painted.shape[:2]) <= 12 and tile.ndim == 2:
            sheet.picture((left, top, across, tall), tile, colours, texts=texts[number], font_size=font_size)
            continue
        sheet.axes.imshow(
            painted,
            extent=(left, left + across, top + tall, top),
            interpolation="nearest" if painted.shape[1] < 60 * across else "antialiased",
            aspect="auto",
            zorder=2,
        )
        if painted.shape[0] < 24:
            sheet.outline((left, top, across, tall), colour=look.faint, width=0.8, zorder=2.5)
    if one and not in_colour:
        sheet.colour_bar(sheet.width - 2.5, sheet.height - 0.55, 2.0, one)
    return Still(sheet.figure, f"{title}: {notes}.", data)


def _texts(data: GridData, cell: float, look: Theme) -> tuple[list[list[list[str]]], float]:
    """Every tile's numbers in one style, and their size in points; none at all where those of one cannot be read."""
    rows, columns = data.tiles[0].shape[:2]
    if max(rows, columns) > 12 or data.tiles[0].ndim > 2:
        return [[] for _ in data.tiles], 0.0
    lines = numbers(np.concatenate(data.tiles))
    size = number_size([word for line in lines for word in line], cell, look)
    if size < SMALLEST_NUMBER:
        return [[] for _ in data.tiles], size
    return [lines[first : first + rows] for first in range(0, len(lines), rows)], size


def _painted(tile: Array, scale: Scale, look: Theme, inches: float) -> NDArray[np.uint8]:
    """The tile's colours as 8-bit RGB, at most :data:`PIXELS_PER_INCH`: blocks of pixels are averaged beyond that."""
    step = max(1, math.ceil(tile.shape[1] / (inches * PIXELS_PER_INCH)))
    if step > 1:
        rows, columns = tile.shape[0] // step * step, tile.shape[1] // step * step
        blocks = tile[:rows, :columns].reshape(rows // step, step, columns // step, step, *tile.shape[2:])
        tile = blocks.mean((1, 3), dtype=np.float64)
    if tile.ndim == 3:  # a kernel in colour: zero is mid-grey, the strongest weight full on or off
        fractions = (np.clip(np.nan_to_num(tile), scale.low, scale.high) - scale.low) / (scale.high - scale.low)
        painted = np.where(np.isnan(tile).any(-1, keepdims=True), matplotlib("colors").to_rgb(MISSING), fractions)
    else:
        painted = scale.colours(tile, look)
    return np.asarray(np.rint(painted * 255), np.uint8)
