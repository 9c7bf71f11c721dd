"""The few things that figures are drawn with: grids of cells with numbers or pixels, text, outlines, arrows.

A :class:`Canvas` is one matplotlib figure with a single set of axes in inches, (0, 0) at the top left: what is drawn
knows its size on paper, so numbers fit their cells and text is never cut.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .theme import FONT, Theme, data_limits, figure, format_number, matplotlib, text_width, theme_of

__all__ = ["SMALLEST_NUMBER", "Canvas", "Grid", "draw_grid", "number_size", "numbers", "write"]

Array = NDArray[Any]

FINEST = 1 / 200
"""Inches: cells that are smaller are drawn several as one, the mean of them."""
SMALLEST_NUMBER = 5.5
"""Points below which a number in a cell cannot be read: the grid shows pixels instead."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid that has been drawn: where its cells are, in the canvas's inches."""

    left: float
    top: float
    cell: float
    rows: int
    columns: int
    font_size: float
    """Points of its numbers; 0 if it was drawn as pixels."""
    artists: tuple[Any, ...] = ()
    texts: tuple[str, ...] = ()
    """The numbers as written, row by row; empty for pixels."""

    @property
    def right(self) -> float:
        """Right edge."""
        return self.left + self.columns * self.cell

    @property
    def bottom(self) -> float:
        """Bottom edge."""
        return self.top + self.rows * self.cell

    @property
    def middle(self) -> tuple[float, float]:
        """Centre (x, y)."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def box(self, row: float, column: float, rows: float = 1, columns: float = 1) -> tuple[float, float, float, float]:
        """(left, top, width, height) of `rows` x `columns` cells from (row, column)."""
        return self.left + column * self.cell, self.top + row * self.cell, columns * self.cell, rows * self.cell

    def centre(self, row: float, column: float) -> tuple[float, float]:
        """Middle (x, y) of one cell."""
        return self.left + (column + 0.5) * self.cell, self.top + (row + 0.5) * self.cell


class Canvas:
    """A figure with one set of axes in inches, and the few things that figures are made of.

    Every drawing method returns the artists it added, so that animations can redraw only those.

    >>> canvas = Canvas("light", 4, 3)
    >>> grid = canvas.grid([[1, 2], [3, 4]], left=1, top=1, cell=0.5)
    >>> grid.right, grid.bottom
    (2.0, 2.0)
    """

    def __init__(self, theme: Theme | str = "light", width: float = 9.6, height: float = 5.4, dpi: float = 100) -> None:
        self.theme = theme_of(theme)
        self.width, self.height = width, height
        self.figure = figure(self.theme, width, height, dpi)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)

    def grid(self, values: ArrayLike, **options: Any) -> Grid:
        """:func:`draw_grid` on this canvas."""
        return draw_grid(self.axes, values, theme=self.theme, **options)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float | None = None,
        colour: str | None = None,
        across: Literal["left", "center", "right"] = "center",
        along: Literal["top", "center", "bottom", "baseline"] = "center",
        weight: str = "normal",
        width: float | None = None,
        **options: Any,
    ) -> Any:
        """Text at (x, y), made smaller where it is wider than `width` inches or would leave the canvas."""
        size = size or self.theme.label_size
        room = {"left": self.width - x, "right": x, "center": 2 * min(x, self.width - x)}[across] - 0.1
        room = min(room, width or room)
        wide = 1.03 * text_width(text, size, weight)  # Agg sets glyphs on whole pixels, up to this much wider
        if wide > room > 0:
            size *= room / wide
        return self.axes.text(
            x,
            y,
            text,
            size=size,
            color=colour or self.theme.text,
            ha=across,
            va=along,
            weight=weight,
            family=FONT,
            parse_math=False,
            **options,
        )

    def outline(
        self,
        box: tuple[float, float, float, float],
        *,
        colour: str | None = None,
        width: float = 2.5,
        fill: str = "none",
        style: str = "-",
        **options: Any,
    ) -> Any:
        """A rectangle round `box` = (left, top, width, height), such as ``Grid.box`` gives: a window, a cell."""
        patch = matplotlib("patches").Rectangle(
            box[:2],
            box[2],
            box[3],
            facecolor=fill,
            edgecolor=colour or self.theme.kernel,
            linewidth=width,
            linestyle=style,
            joinstyle="miter",
            **options,
        )
        return self.axes.add_artist(patch)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], *, colour: str | None = None) -> Any:
        """A thin arrow from `start` to `end`."""
        patch = matplotlib("patches").FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=12,
            linewidth=1.5,
            color=colour or self.theme.muted,
            shrinkA=0,
            shrinkB=0,
        )
        return self.axes.add_artist(patch)

    def line(
        self, points: Sequence[tuple[float, float]], *, colour: str | None = None, width: float = 1.0, style: str = "-"
    ) -> Any:
        """A line through `points`."""
        made = matplotlib("lines").Line2D(
            *zip(*points, strict=True), color=colour or self.theme.faint, linewidth=width, linestyle=style
        )
        return self.axes.add_artist(made)


def number_size(texts: Sequence[str], cell: float, theme: Theme, fill: float = 0.82) -> float:
    """Points at which every text fits into a cell of `cell` inches; the same for all, at most the theme's."""
    widest = max((text_width(text, 10.0) for text in set(texts) if text), default=0.0)
    by_width = theme.number_size if widest == 0 else 10.0 * fill * cell / widest
    return min(theme.number_size, by_width, 72 * cell * 0.58)


def draw_grid(
    axes: Any,
    values: ArrayLike,
    *,
    theme: Theme | str = "light",
    left: float,
    top: float,
    cell: float,
    mode: Literal["auto", "numbers", "pixels", "empty"] = "auto",
    fill: str | None = None,
    edge: str | None = None,
    colours: ArrayLike | Callable[[Array], Array] | None = None,
    hatched: ArrayLike | None = None,
    shown: ArrayLike | None = None,
    limits: tuple[float, float] | None = None,
    colormap: Any = None,
    characters: int = 5,
    font_size: float | None = None,
    text_colour: str | None = None,
    edge_width: float = 0.8,
    zorder: float = 1.0,
) -> Grid:
    """A grid of square cells with its numbers written in, or as pixels.

    Args:
        axes: axes in inches with y downwards, such as ``Canvas.axes``.
        values: (rows, columns); 1-D becomes one row.
        left, top, cell: where, and the side of a cell, in inches.
        mode: "numbers"; "pixels" (grey or `colormap` between `limits`); "empty" cells; "auto" writes numbers where they
            can be read and draws pixels where they cannot.
        fill: colour of cells with numbers.
        edge: colour of the lines between them.
        colours: (rows, columns, 3 or 4) colours 0 to 1 of each cell, instead of `fill` or `colormap`; or a
            function of the values that gives them, asked for no more cells than can be seen.
        hatched: boolean (rows, columns): padding cells, drawn without fill and hatched.
        shown: boolean (rows, columns): cells that are drawn at all.
        limits: values of the colormap's two ends; by default the data's own, which for a signed map are symmetric.
        colormap: for pixels, by default the theme's grey.
        characters: longest number.
        font_size: of the numbers in points, by default the largest at which all fit.
        text_colour: of the numbers.

    Returns:
        The :class:`Grid` with positions and artists.
    """
    look = theme_of(theme)
    array = np.atleast_2d(np.asarray(values))
    rows, columns = array.shape
    padding = (
        np.zeros(array.shape, bool) if hatched is None else np.broadcast_to(np.asarray(hatched, bool), array.shape)
    )
    visible = np.ones(array.shape, bool) if shown is None else np.broadcast_to(np.asarray(shown, bool), array.shape)
    texts: list[str] = []
    size = font_size or 0.0
    if mode in ("auto", "numbers") and (mode == "numbers" or array.size <= 1024):
        texts = [format_number(v, characters) if on else "" for v, on in zip(array.flat, visible.flat, strict=True)]
        size = font_size or number_size(texts, cell, look)
    if mode == "auto":
        mode = "numbers" if texts and size >= SMALLEST_NUMBER else "pixels"
    grid = Grid(left, top, cell, rows, columns, size if mode == "numbers" else 0.0)
    if mode == "pixels":
        artists = [_pixels(axes, array, grid, look, padding, visible, colours, limits, colormap, zorder)]
        if padding.any():
            artists.append(_hatching(axes, grid, padding, look, zorder + 0.1))
        return Grid(left, top, cell, rows, columns, 0.0, tuple(artists))
    padding = padding & visible
    given = colours(array) if callable(colours) else colours
    artists = [_cells(axes, grid, look, visible & ~padding, fill, edge, given, edge_width, zorder)]
    if padding.any():
        artists.append(_hatching(axes, grid, padding, look, zorder + 0.1))
    if mode != "numbers":
        return Grid(left, top, cell, rows, columns, 0.0, tuple(artists))
    centres = [grid.centre(*place) for place in np.ndindex(rows, columns)]
    for which, colour in ((~padding, text_colour or look.text), (padding, text_colour or look.muted)):
        chosen = [(*at, text) for at, text, on in zip(centres, texts, which.flat, strict=True) if on and text]
        if chosen:
            artists.append(numbers(axes, chosen, size, colour, zorder + 0.3))
    return Grid(left, top, cell, rows, columns, size, tuple(artists), tuple(texts))


def numbers(
    axes: Any, placed: Sequence[tuple[float, float, str]], size: float, colour: str, zorder: float = 1.3
) -> Any:
    """Many short texts (x, y, text), each centred on its place, as one artist: 200 of them are drawn in ms."""
    path = matplotlib("path").Path
    vertices, codes = zip(*(_glyphs(text) for _, _, text in placed), strict=True)
    moved = [outline * (size, -size) + at[:2] for outline, at in zip(vertices, placed, strict=True)]
    together = path(np.concatenate(moved), np.concatenate(codes))
    patch = matplotlib("patches").PathPatch(together, facecolor=colour, edgecolor="none", linewidth=0, zorder=zorder)
    return axes.add_artist(patch)


def write(axes: Any, x: float, y: float, text: str, size: float, colour: str, zorder: float = 1.3) -> Any:
    """One number in the middle of its cell."""
    return numbers(axes, [(x, y, text)], size, colour, zorder)


@functools.lru_cache(maxsize=4096)
def _glyphs(text: str) -> tuple[Array, Array]:
    """Outline of `text` at one point, in inches: centred by its width, and by the height of digits (0.73 em)."""
    font = matplotlib("font_manager").FontProperties(family=FONT)
    made = matplotlib("textpath").TextPath((0, 0), text, size=100, prop=font)
    return (made.vertices - (50 * text_width(text, 1.0) * 72, 36.5)) / 7200, made.codes


def _corners(grid: Grid, which: Array) -> Array:
    row, column = np.nonzero(which)
    left, top = grid.left + column * grid.cell, grid.top + row * grid.cell
    right, bottom = left + grid.cell, top + grid.cell
    return np.stack([np.stack(pair, -1) for pair in ((left, top), (right, top), (right, bottom), (left, bottom))], 1)


def _cells(
    axes: Any,
    grid: Grid,
    look: Theme,
    drawn: Array,
    fill: str | None,
    edge: str | None,
    colours: ArrayLike | None,
    edge_width: float,
    zorder: float,
) -> Any:
    if colours is None:
        faces = fill or look.background
    else:
        every = np.asarray(colours).reshape(grid.rows * grid.columns, -1)
        faces = matplotlib("colors").to_rgba_array(every)[drawn.ravel()]
    collection = matplotlib("collections").PolyCollection(
        _corners(grid, drawn), facecolors=faces, edgecolors=edge or look.muted, linewidths=edge_width, zorder=zorder
    )
    return axes.add_artist(collection)


def _hatching(axes: Any, grid: Grid, padding: Array, look: Theme, zorder: float) -> Any:
    """A diagonal in two corners of every padding cell, which leaves its middle free, and its dashed edge."""
    corners = _corners(grid, padding)
    lower, upper = corners[:, 3], corners[:, 1]
    ends = [np.stack(pair, 1) for pair in ((lower, 0.7 * lower + 0.3 * upper), (0.3 * lower + 0.7 * upper, upper))]
    edges = np.concatenate([corners, corners[:, :1]], 1)
    lines = [*ends[0], *ends[1], *edges] if grid.cell > 0.06 else []
    styles = ["-"] * 2 * len(corners) + [(0, (2, 2))] * len(corners)
    collection = matplotlib("collections").LineCollection(
        lines, colors=look.faint, linewidths=0.7, linestyles=styles, zorder=zorder
    )
    return axes.add_artist(collection)


def _means(array: Array, step: int) -> Array:
    """Means of whole squares of step x step elements."""
    rows, columns = array.shape[0] // step, array.shape[1] // step
    squares = array[: rows * step, : columns * step].reshape(rows, step, columns, step, *array.shape[2:])
    return np.asarray(squares.mean(axis=(1, 3), dtype=np.float64))


def _pixels(
    axes: Any,
    array: Array,
    grid: Grid,
    look: Theme,
    padding: Array,
    visible: Array,
    colours: ArrayLike | Callable[[Array], Array] | None,
    limits: tuple[float, float] | None,
    colormap: Any,
    zorder: float,
) -> Any:
    step = min(max(int(FINEST / grid.cell), 1), grid.rows, grid.columns)
    if step > 1:  # a photograph has thousands of cells per inch, of which nobody would see one
        if limits is None and colours is None:
            limits = data_limits(array[visible & ~padding], signed=(colormap or look.grey) is look.signed)
        array = _means(array, step)
        if colours is not None and not callable(colours):
            colours = _means(np.asarray(colours), step)
        # What is true of the square's middle is drawn as true of all of it.
        middles = tuple(slice(step // 2, step // 2 + count * step, step) for count in array.shape[:2])
        padding, visible = padding[middles], visible[middles]
    if colours is None:
        chosen = colormap or look.grey
        low, high = limits or data_limits(array[visible & ~padding], signed=chosen is look.signed)
        scaled = (array.astype(np.float64) - low) / (high - low) if high > low else np.full(array.shape, 0.5)
        painted = chosen(np.nan_to_num(scaled))
    else:
        given = np.asarray(colours(array) if callable(colours) else colours, np.float64)
        painted = np.concatenate([given[..., :3], np.ones((*given.shape[:2], 1))], -1)
    painted = np.array(painted)
    painted[padding | ~visible] = (*matplotlib("colors").to_rgb(look.background), 1)
    return axes.imshow(
        painted,
        extent=(grid.left, grid.right, grid.bottom, grid.top),
        interpolation="nearest" if grid.cell >= 1 / 100 else "antialiased",
        aspect="auto",
        zorder=zorder,
    )
