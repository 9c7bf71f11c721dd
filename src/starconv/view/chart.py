"""Charts: numbers over a number, as lines with markers and error bars, in the look of the other figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .panels import Box, Sheet
from .theme import FONT, Theme, matplotlib, text_width

__all__ = ["Line", "chart", "legend", "line_colours"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: its points, and how it looks. NaN leaves a gap.

    Attributes:
        name: for the legend.
        x, y: the points.
        spread: half the length of each point's error bar; NaN draws none, an empty sequence none at all.
        colour: of line and marker. Lines differ by `style` and `marker` too, for eyes and printers without colour.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    style: str = "-"
    marker: str = "o"
    spread: Sequence[float] = ()


def line_colours(theme: Theme) -> tuple[str, ...]:
    """Colours for lines beside each other, all of the theme's contrast."""
    return (theme.kernel, theme.input, theme.accent, theme.output, theme.warn, theme.muted)


def chart(
    sheet: Sheet,
    box: Box,
    lines: Sequence[Line],
    *,
    title: str,
    across: str,
    ticks: Sequence[float] | None = None,
    logarithmic: str = "",
    limits: tuple[float, float] | None = None,
    percent: bool = False,
) -> Any:
    """Draw `lines` in `box` (inches; the frame alone, its labels lie outside: 0.6 left, 0.6 below, 0.35 above).

    Args:
        sheet: to draw on.
        box: left, top, width, height.
        lines: from the lowest to the topmost.
        title: what the y axis shows, written above it.
        across: what the x axis shows.
        ticks: places of the x axis that get a number; default whole numbers at equal distances.
        logarithmic: "x", "y", "xy" or "".
        limits: of the y axis; default those of the data, with some air.
        percent: write y as 98 %.

    Returns:
        The matplotlib axes.
    """
    theme = sheet.theme
    left, top, width, height = box
    size = (left / sheet.width, 1 - (top + height) / sheet.height, width / sheet.width, height / sheet.height)
    axes = sheet.figure.add_axes(size, facecolor="none")
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(theme.muted)
    for number, line in enumerate(lines):
        axes.plot(
            line.x,
            line.y,
            color=line.colour,
            linestyle=line.style,
            marker=line.marker,
            markersize=5 if len(line.x) <= 40 else 0,
            linewidth=1.8,
            zorder=3 + number,
            clip_on=False,
            label=line.name,
        )
        if len(line.spread):
            axes.errorbar(
                line.x,
                line.y,
                yerr=[0.0 if math.isnan(value) else value for value in line.spread],
                fmt="none",
                ecolor=line.colour,
                elinewidth=1.4,
                capsize=4,
                zorder=2.5 + number,
                clip_on=False,
            )
    if "x" in logarithmic:
        axes.set_xscale("log")
    if "y" in logarithmic:
        axes.set_yscale("log")
    _number_axes(axes, lines, ticks, logarithmic, percent)
    if limits is not None:
        axes.set_ylim(*limits)
    axes.grid(True, which="major", color=theme.faint, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=theme.muted, labelsize=theme.small_size, labelfontfamily=FONT, length=3)
    axes.tick_params(which="minor", length=0, labelsize=0)
    sheet.text(left, top - 0.22, title, size=theme.label_size, weight="bold", across="left", width=width)
    sheet.label(left + width / 2, top + height + 0.45, across, width=width)
    return axes


def legend(sheet: Sheet, left: float, top: float, lines: Sequence[Line], width: float) -> None:
    """What each line is, side by side from `left` on, smaller if `width` inches are not enough."""
    size = sheet.theme.small_size + 0.5
    wide = sum(text_width(line.name, size) + 0.85 for line in lines)
    shrink = min(1.0, width / wide)
    for line in lines:
        drawn = matplotlib("lines").Line2D(
            (left, left + 0.5 * shrink),
            (top, top),
            color=line.colour,
            linestyle=line.style,
            linewidth=1.8,
            marker=line.marker,
            markevery=(1, 2),
            markersize=5,
        )
        # The marker in the middle: a point there, and the line through all three.
        drawn.set_data((left, left + 0.25 * shrink, left + 0.5 * shrink), (top, top, top))
        sheet.axes.add_artist(drawn)
        sheet.text(left + 0.58 * shrink, top, line.name, size=size * shrink, across="left")
        left += (text_width(line.name, size) + 0.85) * shrink


def _number_axes(
    axes: Any, lines: Sequence[Line], ticks: Sequence[float] | None, logarithmic: str, percent: bool
) -> None:
    ticker = matplotlib("ticker")
    places = [value for line in lines for value in line.x]
    if ticks is None and len(set(places)) == 1:
        ticks = places[:1]
    if ticks is None:
        axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=8, integer=True))
    else:
        axes.set_xticks(list(ticks), [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(ticker.NullLocator())
    if "x" in logarithmic:
        axes.set_xlim(min(places) / 1.15, max(places) * 1.15)
    else:
        room = 0.03 * (max(places) - min(places)) or 0.5
        axes.set_xlim(min(places) - room, max(places) + room)
    if "y" in logarithmic:
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    elif percent:
        axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    else:
        axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
