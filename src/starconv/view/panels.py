"""What the figures beside the sliding window share: pictures on one colour scale, frames round cells, colour bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentTypeError, ArgumentValueError
from .canvas import SMALLEST_NUMBER, Canvas, Grid, number_size
from .canvas import numbers as write_numbers
from .theme import Theme, data_limits, fraction_free, matplotlib, text_width

__all__ = ["Scale", "Sheet", "named", "number", "numbers", "picked", "place_of", "scale_of", "tile_size"]

Array = NDArray[Any]
Box = tuple[float, float, float, float]

CELL_LIMIT = 48
"""Rows or columns up to which a picture is drawn as cells with lines between them, in vectors."""
MISSING = "#D58FD0"
"""Cells that hold no number (NaN): on neither colour scale, and grey is taken by pictures."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How values become colours: from `low` to `high`; `signed` has zero in the middle, between two hues."""

    low: float
    high: float
    signed: bool

    def colours(self, values: ArrayLike, theme: Theme) -> NDArray[np.float64]:
        """RGB of `values`, NaN in :data:`MISSING`."""
        array = np.asarray(values, np.float64)
        missing = np.isnan(array)
        fractions = (np.clip(np.where(missing, self.low, array), self.low, self.high) - self.low) / (
            self.high - self.low
        )
        painted = np.asarray((theme.signed if self.signed else theme.grey)(fractions), np.float64)[..., :3]
        painted[missing] = matplotlib("colors").to_rgb(MISSING)
        return painted


def scale_of(*arrays: ArrayLike, signed: bool | None = None) -> Scale:
    """One scale for all `arrays`, by their finite values: centred at zero if any is negative, else from black at 0."""
    limits = [data_limits(array) for array in arrays if np.isfinite(array).any()] or [(0.0, 1.0)]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    if low < 0 if signed is None else signed:
        reach = max(abs(low), abs(high)) or 1.0
        return Scale(-reach, reach, signed=True)
    low = min(low, 0.0) if low <= high / 2 or low == high else low
    return Scale(low, high if high > low else low + 1.0, signed=False)


def number(value: float, digits: int = 4) -> str:
    """`value` in running text, with up to `digits` significant digits and a true minus sign.

    >>> number(-2.0), number(0.123456), number(float("nan"))
    ('−2', '0.1235', 'nan')
    """
    value = float(value)
    whole = value.is_integer() and abs(value) < 1e6
    return (str(int(value)) if whole else f"{value:.{digits}g}").replace("-", "−").replace("inf", "∞")


def numbers(values: ArrayLike) -> list[list[str]]:
    """A table of numbers in one style: integers, or all with the same one or two decimals, or a few significant digits.

    >>> numbers([[1, -0.5], [0.25, 2]])
    [['1.00', '−0.50'], ['0.25', '2.00']]
    """
    array = np.atleast_2d(np.asarray(values))
    finite = array[np.isfinite(array)].astype(np.float64)
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    if fraction_free(array):
        return [[number(value, 6) for value in row] for row in array]
    if not 0.1 <= largest < 1000:
        return [[number(value, 2) for value in row] for row in array]
    decimals = 1 if largest >= 100 or np.allclose(finite, np.round(finite, 1), rtol=0, atol=1e-9) else 2
    return [
        [
            f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−") if math.isfinite(value) else number(value)
            for value in row
        ]
        for row in array.astype(np.float64)
    ]


def tile_size(size: Sequence[int], side: float, longest: float) -> tuple[float, float]:
    """(width, height) in inches of a picture of `size` (H, W) or (W,): `side` if square, at most `longest` in all.

    A picture that is much wider than high gets more width, up to `longest`, so that its cells stay visible.
    """
    rows, columns = (1, size[0]) if len(size) == 1 else (size[-2], size[-1])
    stretch = math.sqrt(columns / rows)
    width, height = side * stretch, side / stretch
    shrink = min(1.0, longest / max(width, height))
    return width * shrink, height * shrink


def named(name: str, shape: Sequence[int], *channels: int) -> str:
    """``X`` where there is one channel, else ``X[1]``."""
    return name + "".join(f"[{channel}]" for channel, count in zip(channels, shape, strict=False) if count > 1)


def picked(argument: str, wanted: object, count: int, limit: int) -> tuple[int, ...]:
    """The channels that `wanted` names, by default the first `limit` of `count`."""
    if wanted is None:
        return tuple(range(min(count, limit)))
    try:
        chosen = tuple(int(entry.__index__()) for entry in (wanted if np.ndim(wanted) else [wanted]))  # type: ignore[attr-defined,arg-type]
    except (TypeError, AttributeError):
        raise ArgumentTypeError(argument, wanted, "a channel number, or several such as [0, 3]") from None
    if not chosen or min(chosen) < 0 or max(chosen) >= count or len(set(chosen)) != len(chosen):
        raise ArgumentValueError(argument, wanted, f"different channel numbers from 0 to {count - 1}")
    return chosen


def place_of(argument: str, at: object, shape: Sequence[int]) -> tuple[int, ...]:
    """The element that `at` names in an array of `shape`, its channel (0) left out or not; by default the middle."""
    if at is None:
        return (0, *(size // 2 for size in shape[1:]))
    expected = f"{len(shape) - 1} integers inside {tuple(shape[1:])}, or {len(shape)} inside {tuple(shape)}"
    try:
        place = tuple(int(entry.__index__()) for entry in (at if np.ndim(at) else [at]))  # type: ignore[attr-defined,arg-type]
    except (TypeError, AttributeError):
        raise ArgumentTypeError(argument, at, expected) from None
    if len(place) == len(shape) - 1:
        place = (0, *place)
    if len(place) != len(shape) or not all(0 <= entry < size for entry, size in zip(place, shape, strict=True)):
        raise ArgumentValueError(argument, at, expected)
    return place


class Sheet(Canvas):
    """A canvas with a headline, on which pictures are drawn to one scale."""

    def __init__(self, theme: Theme | str, width: float, height: float, title: str, subtitle: str = "") -> None:
        super().__init__(theme, width, height)
        self.text(0.35, 0.36, title, size=self.theme.title_size, weight="bold", across="left", width=width - 1.0)
        self.text(0.35, 0.68, subtitle, size=10.5, colour=self.theme.muted, across="left", width=width - 1.0)

    def label(self, x: float, y: float, text: str, **options: Any) -> Any:
        """Text of second rank."""
        return self.text(x, y, text, **{"size": self.theme.small_size, "colour": self.theme.muted, **options})

    def picture(
        self,
        box: Box,
        values: ArrayLike,
        scale: Scale | None = None,
        *,
        name: str = "",
        colours: ArrayLike | None = None,
        texts: Sequence[Sequence[str]] | None = None,
        hatched: ArrayLike | None = None,
        silent: ArrayLike | None = None,
        font_size: float | None = None,
    ) -> Grid:
        """Draw (H, W) `values` as large as `box` allows, in its middle: coloured cells, with numbers where they fit.

        `colours` (H, W, 3) replaces the scale's, `texts` the numbers; `hatched` cells are padding, `silent` ones
        have no number. `name` is written above. `font_size` is that of the numbers, if not as large as they fit.
        """
        array = np.atleast_2d(np.asarray(values))
        rows, columns = array.shape[:2]
        cell = min(box[2] / columns, box[3] / rows)
        left, top = box[0] + (box[2] - columns * cell) / 2, box[1] + (box[3] - rows * cell) / 2
        ramp = scale or (scale_of(array) if colours is None else None)

        def paint(values: Array) -> Array:
            assert ramp is not None
            return ramp.colours(values, self.theme)

        cells = max(rows, columns) <= CELL_LIMIT and cell >= 0.04
        options: dict[str, Any] = {"left": left, "top": top, "cell": cell, "hatched": hatched}
        if cells:
            painted = paint(array) if colours is None else np.asarray(colours, np.float64)
            options["colours"] = painted
            fine = {"edge": self.theme.muted if cell > 0.12 else self.theme.faint, "edge_width": min(0.8, 6 * cell)}
            drawn = self.grid(
                array[..., :1].reshape(rows, columns) if array.ndim > 2 else array, mode="empty", **options, **fine
            )
            if texts is None and array.ndim == 2:
                texts = numbers(array)
            if silent is not None and texts is not None:
                shown = ~np.asarray(silent, bool)
                texts = [
                    [w if on else "" for w, on in zip(*line, strict=True)] for line in zip(texts, shown, strict=True)
                ]
            if texts:
                self._numbers(drawn, texts, painted, hatched, font_size)
        else:
            # Of millions of values, only the means that can be seen are given colours.
            given = array if colours is None else np.zeros((rows, columns))
            drawn = self.grid(given, mode="pixels", colours=paint if colours is None else colours, **options)
            self.outline((left, top, columns * cell, rows * cell), colour=self.theme.muted, width=0.8)
        if name:
            wide = text_width(name, 10.5)
            middle = left + columns * cell / 2
            short = wide <= columns * cell
            self.text(
                left if short else middle,
                top - 0.14,
                name,
                size=10.5,
                across="left" if short else "center",
                width=max(box[2], columns * cell) + 0.2,
            )
        return drawn

    def frame(
        self,
        grid: Grid,
        rows: Sequence[int],
        columns: Sequence[int],
        colour: str,
        *,
        width: float = 2.5,
        style: str = "-",
    ) -> Box:
        """Outline the rectangle from the first to the last of `rows` and `columns`; also beyond the grid. The box."""
        top, left = min(rows), min(columns)
        box = grid.box(top, left, max(rows) - top + 1, max(columns) - left + 1)
        self.outline(box, colour=colour, width=width, style=style, zorder=3)
        return box

    def frame_cells(self, grid: Grid, cells: Sequence[Sequence[int]], colour: str, **options: Any) -> Box:
        """:func:`frame` with the cells per axis, of one axis or of two."""
        rows, columns = ((0,), *cells)[-2:]
        return self.frame(grid, rows, columns, colour, **options)

    def polygon(self, points: Sequence[tuple[float, float]], fill: str, edge: str, zorder: float = 2.0) -> None:
        """A filled polygon."""
        shape = matplotlib("patches").Polygon(
            points, closed=True, facecolor=fill, edgecolor=edge, linewidth=1.0, joinstyle="round", zorder=zorder
        )
        self.axes.add_patch(shape)

    def band(self, box: Box, colours: Array) -> None:
        """(H, W, 3) `colours` stretched over `box`: a vector beside a matrix, a ramp of colours."""
        left, top, width, height = box
        extent = (left, left + width, top + height, top)
        self.axes.imshow(colours, extent=extent, aspect="auto", interpolation="nearest", zorder=2)

    def colour_bar(self, left: float, top: float, width: float, scale: Scale, name: str = "") -> None:
        """The scale's colours from low to high, the numbers at the ends (and zero) below, and a name before it."""
        ramp = scale.colours(np.linspace(scale.low, scale.high, 256)[None], self.theme)
        self.band((left, top, width, 0.12), ramp)
        marks = [(scale.low, 0.0), (scale.high, 1.0)]
        if scale.signed:
            marks.insert(1, (0.0, 0.5))
        for value, share in marks:
            self.label(left + share * width, top + 0.25, number(value, 3))
        if name:
            self.label(left - 0.25, top + 0.06, name, across="right")

    def _numbers(
        self,
        grid: Grid,
        texts: Sequence[Sequence[str]],
        painted: Array,
        hatched: ArrayLike | None,
        font_size: float | None,
    ) -> None:
        size = font_size or number_size([word for row in texts for word in row], grid.cell, self.theme)
        if size < SMALLEST_NUMBER:
            return
        padding = np.zeros(painted.shape[:2], bool) if hatched is None else np.asarray(hatched)
        placed: dict[str, list[tuple[float, float, str]]] = {}
        for row, line in enumerate(texts):
            for column, word in enumerate(line):
                ink = self.theme.muted if padding[row, column] else _ink_on(painted[row, column])
                if word:
                    placed.setdefault(ink, []).append((*grid.centre(row, column), word))
        for ink, words in placed.items():
            write_numbers(self.axes, words, size, ink, 2.5)


def _ink_on(colour: Array) -> str:
    """Black or white, whichever reads more easily on `colour` (WCAG 2.1 relative luminance; they tie at 0.179)."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return "#111111" if float(linear[:3] @ [0.2126, 0.7152, 0.0722]) > 0.179 else "#ffffff"
