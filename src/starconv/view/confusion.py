"""The confusion matrix of a classifier: what every class was taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import as_array
from ..errors import ArgumentTypeError, ArgumentValueError
from .panels import Sheet
from .save import Still
from .theme import FONT, matplotlib, text_width, theme_of

if TYPE_CHECKING:
    from .theme import Theme

__all__ = ["ConfusionData", "confusion"]


@dataclass(frozen=True, eq=False, slots=True)
class ConfusionData:
    """What :func:`confusion` draws.

    Attributes:
        matrix: counts (classes, classes): a row per class that it is, a column per class that it was taken for.
        classes: their names.
        right, total: how many lie on the diagonal, and in all.
    """

    matrix: NDArray[Any]
    classes: tuple[str, ...]
    right: int
    total: int


def confusion(matrix: ArrayLike, classes: Sequence[str] = (), *, theme: str | Theme = "light") -> Still:
    """Draw a confusion matrix: blue where it is right, orange where one class is taken for another.

    Args:
        matrix: counts (classes, classes), as ``starconv train`` writes them; row: what it is, column: the answer.
        classes: names; default the numbers from 0.
        theme: "light" or "dark".

    Returns:
        The drawing; ``.data`` is its :class:`ConfusionData`.

    Raises:
        ArgumentTypeError, ArgumentValueError: no square matrix of counts, or another number of names.
    """
    counts = as_array("matrix", matrix)
    if counts.dtype.kind not in "iu":
        raise ArgumentTypeError("matrix", counts, "counts, which are integers")
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size or counts.min() < 0:
        raise ArgumentValueError("matrix", counts, "counts >= 0 of shape (classes, classes)")
    names = tuple(map(str, classes)) or tuple(map(str, range(len(counts))))
    if len(names) != len(counts):
        raise ArgumentValueError("classes", classes, f"{len(counts)} names, one per class")
    data = ConfusionData(counts, names, int(np.trace(counts)), int(counts.sum()))
    return _draw(data, theme)


def _draw(data: ConfusionData, theme: str | Theme) -> Still:
    look = theme_of(theme)
    count = len(data.classes)
    cell = min(max(5.2 / count, 0.12), 0.55)
    size = min(look.label_size, 50 * cell)  # points: a line of text is 1.2 times as high, and must fit its row
    longest = min(max(text_width(name, size) for name in data.classes), 1.8)
    upright = longest > 0.9 * cell
    left, top = 0.35 + 0.4 + longest + 0.12, 1.15 + (longest if upright else 0.2) + 0.3
    side = count * cell
    wrong = data.total - data.right
    share = f"{100 * data.right / data.total:.2f} % right, " if data.total else ""
    title = f"{share}{wrong} of {data.total} taken for something else"
    # The left margin is repeated at the right, so that the matrix stands in the middle.
    width = max(2 * left + side, 7.0)
    left = (width - side) / 2
    sheet = Sheet(look, width, top + side + 0.75, title, "Row: what it is.  Column: what it was taken for.")
    # Shares of a row on a root scale: one picture among many shows.
    of_row = np.sqrt(data.matrix / np.maximum(data.matrix.sum(axis=1, keepdims=True), 1))
    diagonal = np.eye(count, dtype=bool)
    neutral, right, other = (matplotlib("colors").to_rgb(end) for end in (look.neutral, look.high, look.low))
    ends = np.where(diagonal[..., np.newaxis], right, other)
    colours = np.asarray(neutral) + of_row[..., np.newaxis] * (ends - neutral)
    texts = [[str(value) if value else "" for value in row] for row in data.matrix.tolist()]
    grid = sheet.picture((left, top, side, side), data.matrix, colours=colours, texts=texts)
    for number, name in enumerate(data.classes):
        x, y = grid.centre(number, number)
        sheet.text(left - 0.12, y, name, size=size, across="right", width=longest + 0.01)
        if not upright:
            sheet.text(x, top - 0.17, name, size=size, width=cell)
            continue
        fitted = size * min(1.0, longest / text_width(name, size))
        options = {"rotation": 90, "ha": "center", "va": "bottom", "family": FONT, "parse_math": False}
        sheet.axes.text(x, top - 0.1, name, size=fitted, color=look.text, **options)
    sheet.label(left + side / 2, top + side + 0.3, "blue: right;  orange: taken for another;  empty: none")
    return Still(sheet.figure, f"Confusion matrix of {count} classes: {title}.", data)
