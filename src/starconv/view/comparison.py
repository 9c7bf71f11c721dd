"""Convolution against dense: accuracy over the number of pictures learned from, as they are and shifted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..errors import ArgumentTypeError
from .chart import Line, chart, legend, line_colours
from .panels import Sheet
from .save import Still
from .theme import theme_of

if TYPE_CHECKING:
    from ..bias import Comparison
    from .theme import Theme

__all__ = ["bias_comparison"]

MARKERS = ("o", "s", "^", "D", "v", "P")
STYLES = ("-", "--", "-.", ":")
LEGEND_COLUMNS = 3


def bias_comparison(comparison: Comparison, *, theme: str | Theme = "light") -> Still:
    """Draw what :func:`starconv.bias.compare` measured: means over the seeds, with standard deviations as bars.

    Args:
        comparison: what it returned.
        theme: "light" or "dark".

    Returns:
        The drawing; ``.data`` is the comparison.

    Raises:
        ArgumentTypeError: something else.
    """
    from ..bias import Comparison

    if not isinstance(comparison, Comparison):
        raise ArgumentTypeError("comparison", comparison, "what starconv.bias.compare returns")
    look = theme_of(theme)
    names = list(dict.fromkeys(score.network for score in comparison.scores))
    sizes = sorted({score.pictures for score in comparison.scores})
    colours = line_colours(look)
    parts: list[list[Line]] = [[], []]
    for number, name in enumerate(names):
        scores = sorted((score for score in comparison.scores if score.network == name), key=lambda one: one.pictures)
        label = f"{name}, {scores[0].parameters} parameters"
        looks = (colours[number % len(colours)], STYLES[number % len(STYLES)], MARKERS[number % len(MARKERS)])
        places = [score.pictures for score in scores]
        parts[0].append(
            Line(label, places, [one.accuracy for one in scores], *looks, [one.accuracy_spread for one in scores])
        )
        parts[1].append(
            Line(label, places, [one.shifted for one in scores], *looks, [one.shifted_spread for one in scores])
        )
    pixels = f"{comparison.shift} pixel{'s' * (comparison.shift > 1)}"
    seeds = len(comparison.seeds)
    note = f"mean of {seeds} seeds, bars: standard deviation;  " if seeds > 1 else "one seed;  "
    more = 0.26 * ((len(names) - 1) // LEGEND_COLUMNS)
    sheet = Sheet(
        look,
        9.6,
        4.9 + more,
        "What can be learned from few pictures",
        f"{note}{comparison.budget}, each network at the learning rate that suits it",
    )
    ends = [
        (value - spread, value + spread)
        for lines in parts
        for line in lines
        for value, spread in zip(line.y, (0.0 if math.isnan(one) else one for one in line.spread), strict=True)
    ]
    low, high = min(one for one, _ in ends), max(max(two for _, two in ends), 1.0)
    wide = (9.6 - 2 * 0.95 - 0.35) / 2
    titles = ("Test pictures as they are", f"Shifted by {pixels}")
    for number, (lines, title) in enumerate(zip(parts, titles, strict=True)):
        chart(
            sheet,
            (0.95 + number * (wide + 0.95), 1.75 + more, wide, 2.4),
            lines,
            title=f"{title}: right answers",
            across="pictures to learn from",
            ticks=sizes,
            logarithmic="x" if len(sizes) > 1 else "",
            limits=(low - 0.04 * (high - low), high + 0.01 * (high - low)),
            percent=True,
        )
    for first in range(0, len(names), LEGEND_COLUMNS):
        top = 1.12 + 0.26 * (first // LEGEND_COLUMNS)
        legend(sheet, 0.95, top, parts[0][first : first + LEGEND_COLUMNS], 8.3)
    said = "; ".join(
        f"{one.network} from {one.pictures}: {100 * one.accuracy:.1f} %, shifted {100 * one.shifted:.1f} %"
        for one in comparison.scores
    )
    return Still(sheet.figure, f"Accuracy over the number of pictures learned from. {said}.", comparison)
