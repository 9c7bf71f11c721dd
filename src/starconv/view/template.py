"""A kernel is a template: the patches of a picture that match it best and worst, and the response everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import as_array
from ..errors import ArgumentValueError
from ..geometry import Padding, PerAxis, per_axis
from .panels import Sheet, number, scale_of, tile_size
from .save import Still
from .theme import matplotlib
from .trace import Cell, Step, Trace, size_text

if TYPE_CHECKING:
    from .canvas import Grid
    from .theme import Theme

__all__ = ["TemplateData", "template", "template_data"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class TemplateData:
    """What :func:`template` draws: each match is a :class:`~starconv.view.trace.Step`, its total the inner product."""

    trace: Trace
    best: tuple[Step, ...]
    """The highest responses, highest first; none of the windows overlap."""
    worst: tuple[Step, ...]
    """The lowest responses, lowest first."""

    @property
    def response(self) -> Array:
        """The response picture, (H', W')."""
        return np.asarray(self.trace.output[0])


@np.errstate(invalid="ignore", over="ignore")  # infinities and NaN are drawn, not warned about
def template_data(
    picture: ArrayLike,
    kernel: ArrayLike,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    padding_mode: str = "zeros",
    matches: int = 4,
) -> TemplateData:
    """The matches of `kernel` in `picture`, computed by the library; arguments as :func:`template`."""
    image, taps = as_array("picture", picture), as_array("kernel", kernel)
    if image.ndim not in (1, 2) or not image.size:
        raise ArgumentValueError("picture", image, "one channel (H, W); starconv.data.images.to_grey makes it of RGB")
    if taps.ndim != image.ndim:
        raise ArgumentValueError("kernel", taps, f"as many axes as the picture, {image.ndim}", picture=image)
    (count,) = per_axis("matches", matches, 1, minimum=1)
    trace = Trace.of(image, taps, None, stride, padding, dilation, padding_mode=padding_mode)
    return TemplateData(trace, _matches(trace, -trace.output[0], count), _matches(trace, trace.output[0], count))


def template(
    picture: ArrayLike,
    kernel: ArrayLike,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    padding_mode: str = "zeros",
    matches: int = 4,
    theme: str | Theme = "light",
) -> Still:
    """Draw how a kernel matches the patches of a picture: every response is the inner product of the two.

    Args:
        picture: one channel (H, W), or a signal (W,).
        kernel: (kh, kw), or (k,).
        stride, padding, dilation, padding_mode: as in :func:`starconv.conv2d`.
        matches: how many of the best and of the worst patches to show; their windows do not overlap.
        theme: "light" or "dark".

    Returns:
        The drawing; ``.data`` is its :class:`TemplateData`.

    Raises:
        ArgumentValueError, ArgumentTypeError: as :func:`starconv.conv2d`; also a picture with several channels.
    """
    data = template_data(picture, kernel, stride, padding, dilation, padding_mode=padding_mode, matches=matches)
    return _draw(data, theme)


def _matches(trace: Trace, order: Array, count: int) -> tuple[Step, ...]:
    """The steps with the smallest values in `order`, first come first, each window clear of those before it."""
    values = np.asarray(order, np.float64).ravel()
    chosen: list[Step] = []
    finite = values[~np.isnan(values)]
    if not finite.size or finite.min() == finite.max():
        return ()  # nothing stands out
    varied = finite.min() < 0
    blocked = np.zeros(trace.canvas.shape[1:], bool)
    # Small pictures are searched to the end; in large ones the first thousands hold far more than `count` free windows.
    for index in _first(values, 20000):
        # A response of zero matches neither way, and NaN, sorted to the end, is no response.
        if len(chosen) == count or np.isnan(values[index]) or (values[index] == 0 and varied):
            break
        step = trace.step(int(index))
        covered = tuple(slice(along[0], along[-1] + 1) for along in step.window)
        if not blocked[covered].any():
            blocked[covered] = True
            chosen.append(step)
    return tuple(chosen)


def _first(values: Array, count: int) -> Array:
    """``argsort(values, kind="stable")[:count]``, of millions without sorting them all.

    >>> _first(np.array([2.0, 1.0, np.nan, 0.0, 1.0]), 3).tolist()
    [3, 1, 4]
    """
    if len(values) <= count:
        return np.argsort(values, kind="stable")
    limit = np.partition(values, count)[count]
    places = np.flatnonzero(~(values > limit))  # NaN too: where the limit is one, everything
    return places[np.argsort(values[places], kind="stable")[:count]]


def _mark(sheet: Sheet, grid: Grid, cells: Sequence[Sequence[int]], colour: str, style: str) -> None:
    """A frame round `cells`, or a ring where they are too small to be framed."""
    rows, columns = cells
    if grid.cell * len(rows) >= 0.09:
        sheet.frame(grid, rows, columns, colour, width=1.8, style=style)
    else:
        left, top, width, height = grid.box(rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
        ring = matplotlib("patches").Circle((left + width / 2, top + height / 2), 0.06, fill=False, edgecolor=colour)
        ring.set(linewidth=1.6, linestyle=style if style == "-" else (0, (2, 1)), zorder=3)
        sheet.axes.add_patch(ring)


def _draw(data: TemplateData, theme: str | Theme) -> Still:
    trace = data.trace
    flat = trace.spatial == 1
    x_width, x_height = tile_size(trace.canvas.shape[1:], 3.3, 4.4)
    o_width, o_height = tile_size(trace.output.shape[1:], 3.3, 4.4)
    k_width, k_height = tile_size(trace.w.shape[2:], 1.15, 1.5)
    tall = max(x_height, o_height, k_height)
    p_width, p_height = tile_size(trace.w.shape[2:], 0.95, 1.4)
    shown = max(len(data.best), len(data.worst), 1)
    strip = (p_width + 0.32) * shown
    top = 1.35
    width = max(0.35 + x_width + 0.75 + max(k_width, 1.0) + 0.75 + o_width + 0.35, 1.9 + strip + 0.2)
    height = top + tall + 0.75 + 2 * (p_height + 0.62) + 0.55
    taps = "×".join(map(str, trace.w.shape[2:]))
    sheet = Sheet(
        theme,
        width,
        height,
        "A kernel is a template: the response is highest where the patch looks like it",
        f"Every response is the inner product of the kernel and a patch, {taps} products summed;  {trace.describe()}",
    )
    look = sheet.theme
    x_scale, k_scale, o_scale = scale_of(trace.x), scale_of(trace.w, signed=True), scale_of(data.response)
    free = (width - x_width - o_width - max(k_width, 1.0) - 0.7) / 2
    name = f"{'signal' if flat else 'picture'} {size_text(trace.x.shape)}"
    padding = np.atleast_2d(trace.cells == Cell.PADDING)
    image = sheet.picture((0.35, top, x_width, tall), trace.canvas[0], x_scale, name=name, hatched=padding)
    k_left = 0.35 + x_width + free + (max(k_width, 1.0) - k_width) / 2
    kernel = sheet.picture((k_left, top, k_width, tall), trace.w[0, 0], k_scale, name="kernel")
    o_left = width - 0.35 - o_width
    response = sheet.picture(
        (o_left, top, o_width, tall), data.response, o_scale, name=f"response {size_text(trace.output.shape)}"
    )
    sheet.text((image.right + kernel.left) / 2, top + tall / 2, "⋆", size=20, colour=look.muted)
    sheet.text((kernel.right + response.left) / 2, top + tall / 2, "=", size=20, colour=look.muted)
    sheet.colour_bar(o_left + o_width / 2 - 0.9, top + tall + 0.14, 1.8, o_scale)

    line = top + tall + 0.75
    for steps, words, colour, style in (
        (data.best, "best\nmatches", look.high, "-"),
        (data.worst, "worst\nmatches", look.low, "--"),
    ):
        sheet.text(0.35, line + p_height / 2 + 0.15, words, across="left", weight="bold", colour=colour)
        if not steps:
            sheet.label(1.6, line + p_height / 2 + 0.15, "no response stands out", across="left")
        for place, step in enumerate(steps):
            left = 1.5 + place * (p_width + 0.32)
            patch = sheet.picture((left, line + 0.2, p_width, p_height), step.parts[0].patch, x_scale)
            sheet.frame(patch, range(patch.rows), range(patch.columns), colour, width=2, style=style)
            sheet.text(patch.middle[0], patch.top - 0.14, number(step.total), size=10.5, width=p_width + 0.28)
            where = tuple((at,) for at in step.output[1:])
            _mark(sheet, image, ((0,), *step.window)[-2:], colour, style)
            # In cells coloured by the response itself the mark's own colour would not be seen.
            _mark(sheet, response, ((0,), *where)[-2:], look.text if response.cell >= 0.09 else colour, style)
        line += p_height + 0.62
    sheet.label(
        0.35,
        height - 0.25,
        "Marked in the picture and in the response: the best matches with solid lines, the worst with dashed ones.",
        across="left",
    )
    return Still(
        sheet.figure, f"Where a {taps} kernel matches a picture{' (1-D)' if flat else ''} best and worst.", data
    )
