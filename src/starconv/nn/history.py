"""What training tells about itself: numbers per epoch, as data."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ArgumentValueError, choices

__all__ = ["Epoch", "History"]


class Epoch(NamedTuple):
    """One epoch; NaN where there was nothing to measure.

    Attributes:
        epoch: number, from 1.
        lr: learning rate.
        loss, accuracy: means over the training pictures, each as it was when it was learned from.
        validation_loss, validation_accuracy: means over the validation pictures after the epoch.
        seconds: time that the epoch's training took.
    """

    epoch: int
    lr: float
    loss: float
    accuracy: float
    validation_loss: float = math.nan
    validation_accuracy: float = math.nan
    seconds: float = math.nan


class History(list[Epoch]):
    """The epochs in their order.

    >>> history = History([Epoch(1, 0.1, 2.3, 0.1), Epoch(2, 0.1, 1.5, 0.6)])
    >>> history.column("loss")
    [2.3, 1.5]
    >>> print(history.csv().splitlines()[0])
    epoch,lr,loss,accuracy,validation_loss,validation_accuracy,seconds
    """

    def column(self, name: str) -> list[float]:
        """One attribute of every epoch."""
        if name not in Epoch._fields:
            raise ArgumentValueError("name", name, choices(Epoch._fields))
        return [getattr(epoch, name) for epoch in self]

    def csv(self) -> str:
        """A line of names, then one per epoch."""
        rows: list[Sequence[object]] = [Epoch._fields, *self]
        return "".join(",".join(map(str, row)) + "\n" for row in rows)
