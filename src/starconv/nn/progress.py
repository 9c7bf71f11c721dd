"""The progress of training on the terminal: a bar with loss, accuracy, pictures per second and time left."""

import math
import sys
from types import TracebackType
from typing import Any

from .history import Epoch

__all__ = ["TrainingProgress"]


class TrainingProgress:
    """A context around training. Nothing is printed unless `show`, which by default is whether somebody watches."""

    def __init__(self, show: bool | None, epochs: int, pictures: int, done: int) -> None:
        self._bar: Any = None
        if sys.stderr.isatty() if show is None else show:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(24), TimeRemainingColumn())
            console = Console(stderr=True, highlight=False)
            # Standard output is left alone: it may be a file.
            self._bar = Progress(*columns, console=console, redirect_stdout=False)
            self._task = self._bar.add_task("", total=epochs * pictures, completed=done)
        self._epochs = epochs

    def __enter__(self) -> "TrainingProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, epoch: int, pictures: int, loss: float, accuracy: float, per_second: float) -> None:
        """`pictures` more have been learned from."""
        if self._bar is not None:
            words = f"epoch {epoch}/{self._epochs}  loss {loss:.4f}{_percent(accuracy)}  {per_second:,.0f} images/s"
            self._bar.update(self._task, advance=pictures, description=words)

    def epoch(self, row: Epoch) -> None:
        """An epoch is over: one line that stays."""
        if self._bar is not None:
            words = f"epoch {row.epoch}  loss {row.loss:.4f}{_percent(row.accuracy)}"
            if not math.isnan(row.validation_loss):
                words += f"  validation loss {row.validation_loss:.4f}{_percent(row.validation_accuracy)}"
            self._bar.console.print(f"{words}  {row.seconds:.1f} s")


def _percent(accuracy: float) -> str:
    return "" if math.isnan(accuracy) else f"  accuracy {100 * accuracy:.2f} %"
