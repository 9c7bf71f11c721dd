"""The course of a training: loss and accuracy over the epochs, of training and validation pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ArgumentTypeError, ArgumentValueError
from ..nn.history import Epoch
from .chart import Line, chart, legend
from .panels import Sheet
from .save import Still
from .theme import theme_of

if TYPE_CHECKING:
    from .theme import Theme

__all__ = ["HistoryData", "history"]


@dataclass(frozen=True, slots=True)
class HistoryData:
    """What :func:`history` draws; empty where nothing was measured.

    Attributes:
        epochs: numbers of the epochs.
        loss, accuracy: of the training pictures.
        validation_loss, validation_accuracy: of the others.
    """

    epochs: tuple[int, ...]
    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    validation_loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]


def history(epochs: Sequence[Epoch], *, title: str = "", theme: str | Theme = "light") -> Still:
    """Draw the loss and, where classes were told apart, the accuracy over the epochs.

    The loss has a logarithmic scale if it fell to less than a tenth.

    Args:
        epochs: what :func:`starconv.nn.fit` returned, a :class:`starconv.nn.History`.
        title: the headline; default what the numbers say.
        theme: "light" or "dark".

    Returns:
        The drawing; ``.data`` is its :class:`HistoryData`.

    Raises:
        ArgumentTypeError, ArgumentValueError: not epochs, or none.
    """
    rows = list(epochs) if isinstance(epochs, Sequence) else None
    if rows is None or not all(isinstance(row, Epoch) for row in rows):
        raise ArgumentTypeError("epochs", epochs, "a starconv.nn.History")
    if not rows:
        raise ArgumentValueError("epochs", rows, "at least one epoch")

    def column(name: str) -> tuple[float, ...]:
        values = tuple(float(getattr(row, name)) for row in rows)
        return () if all(map(math.isnan, values)) else values

    names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
    data = HistoryData(tuple(row.epoch for row in rows), *map(column, names))
    return _draw(data, title, theme)


def _draw(data: HistoryData, title: str, theme: str | Theme) -> Still:
    look = theme_of(theme)
    charts = [("Loss", data.loss, data.validation_loss), ("Accuracy", data.accuracy, data.validation_accuracy)]
    charts = [entry for entry in charts if entry[1] or entry[2]]
    count = f"{len(data.epochs)} epoch{'s' * (len(data.epochs) > 1)}"
    last = data.validation_accuracy or data.accuracy
    which = "validation" if data.validation_accuracy else "training"
    said = f"{100 * last[-1]:.2f} % of the {which} pictures right after {count}" if last else f"{count} of training"
    sheet = Sheet(look, 9.6, 4.7, title or said[0].upper() + said[1:], said if title else "")
    wide = (9.6 - 0.95 * len(charts) - 0.35) / len(charts)
    names: list[Line] = []
    for number, (name, training, validation) in enumerate(charts):
        lines = []
        if training:
            lines.append(Line("training pictures", data.epochs, training, look.muted, "--", "s"))
        if validation:
            lines.append(Line("validation pictures", data.epochs, validation, look.accent, "-", "o"))
        known = [value for line in lines for value in line.y if math.isfinite(value)]
        falls = name == "Loss" and min(known) > 0 and max(known) > 10 * min(known)
        highest = None if name == "Loss" else (min(known) - 0.06 * (1.001 - min(known)), 1.0)
        chart(
            sheet,
            (0.95 + number * (wide + 0.95), 1.6, wide, 2.35),
            lines,
            title=f"{name}, logarithmic" if falls else name,
            across="epoch",
            logarithmic="y" if falls else "",
            limits=highest,
            percent=name == "Accuracy",
        )
        names = lines if len(lines) > len(names) else names
    legend(sheet, 0.95, 1.02, names, 8.3)
    return Still(sheet.figure, f"Loss and accuracy over the epochs: {said}.", data)
