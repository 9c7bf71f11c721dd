"""`starconv tune`: time the algorithms for convolutions and keep which was fastest, for all later plans."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ..errors import ArgumentValueError
from ..problem import OPERATIONS, Problem
from .console import error_console, help_text, output_console, shown

if TYPE_CHECKING:
    from ..engine.planner import Plan
    from ..engine.wisdom import Entry

__all__ = ["register"]

_EXAMPLES = """[bold]Examples[/bold]

starconv tune "conv2d x=1x64x56x56 w=64x64x3x3 padding=1"

starconv tune layers.txt   [dim]one problem per line; what follows # is a note[/dim]

starconv tune layers.txt --again
"""

LIMIT_BYTES = 1 << 20
"""A file larger than this holds no list of problems."""
INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended, 128 + the signal's number."""


class _Tuned(NamedTuple):
    """One line of the table."""

    problem: Problem
    estimate: str
    entry: "Entry | None"
    again: bool


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("tune", help=help_text(tune), epilog=_EXAMPLES)(tune)


def tune(
    problems: Annotated[
        list[str],
        typer.Argument(
            metavar="PROBLEM|FILE...",
            help="Problems as for [bold]starconv explain[/bold], each in quotes, or text files with one per line.",
        ),
    ],
    again: Annotated[bool, typer.Option("--again", help="Also measure problems that were measured before.")] = False,
) -> None:
    """Time the algorithms for convolutions, and let plans take the fastest from now on.

    Times are kept on disk, for this processor and this version. A choice that changes may change the last bits of
    results; with precision=strict it does not. Ctrl-C keeps what was measured.
    """
    wanted = list(dict.fromkeys(problem for text in problems for problem in _problems(text)))
    done: list[_Tuned] = []
    try:
        _measure(wanted, again, done)
    except KeyboardInterrupt:
        _show(done)
        error_console().print(f"interrupted: {len(done)} of {len(wanted)} problems measured and kept", style="yellow")
        raise typer.Exit(INTERRUPTED) from None
    _show(done)


def _problems(text: str) -> Iterator[Problem]:
    """The problem that an argument is, or the problems of the file that it names."""
    operation = re.match(rf"\s*({'|'.join(OPERATIONS)})[123]d\b", text)
    if (operation or "=" in text) and not Path(text).is_file():
        yield Problem.parse(text)
        return
    with Path(text).open("rb") as file:
        data = file.read(LIMIT_BYTES + 1)
    expected = "a text file with one problem per line, such as conv2d x=1x64x56x56 w=64x64x3x3 padding=1"
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ArgumentValueError("problems", text, expected) from None
    if len(data) > LIMIT_BYTES:
        raise ArgumentValueError("problems", text, f"{expected}, of at most {LIMIT_BYTES:,} bytes")
    for number, line in enumerate(lines, start=1):
        written = line.partition("#")[0].strip()
        if written:
            try:
                yield Problem.parse(written)
            except (TypeError, ValueError) as error:
                raise ArgumentValueError("problems", f"{text}:{number}", f"a problem in every line; {error}") from None


def _measure(wanted: list[Problem], again: bool, done: list[_Tuned]) -> None:
    """Measure one problem after the other, under a progress bar; `done` grows as they are ready."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..engine import planner

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=error_console(), transient=True) as progress:
        task = progress.add_task("", total=len(wanted))
        for problem in wanted:
            progress.update(task, description=shown(problem))
            known = planner.wisdom().find(str(problem))
            fresh = again or known is None
            entry = planner.measure(problem) if fresh else known
            done.append(_Tuned(problem, _estimate(planner.make_plan(problem)), entry, fresh))
            progress.advance(task)


def _estimate(plan: "Plan") -> str:
    """The algorithm that would be taken by prediction alone."""
    return min(plan.candidates, key=lambda candidate: candidate.seconds).name


def _show(done: list[_Tuned]) -> None:
    """The table: what prediction takes, what is fastest, and how much that gains; then where it is kept."""
    from rich.table import Table

    from ..engine import planner

    if not done:
        return
    console = output_console()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("problem", "by prediction", "fastest", "time", "gain"):
        table.add_column(title, justify="right" if title in ("time", "gain") else "left", no_wrap=title != "problem")
    for line in done:
        table.add_row(str(line.problem), line.estimate, *_found(line))
    # A file or a pipe has no width: problems stay in one line there.
    console.print(table, soft_wrap=False, width=None if console.is_terminal else 200)
    learned = planner.wisdom()
    path, reason = learned.path()
    if path is None:
        error_console().print(f"nothing is kept: the cache is {reason}", style="yellow")
    else:
        console.print(shown(f"{len(learned)} measured problems in {path}"), markup=False)


def _found(line: _Tuned) -> tuple[str, str, str]:
    """The last columns: the fastest, its time, and how many times as long the prediction's choice takes."""
    from ..engine.planner import time_text

    if line.entry is None:
        return "nothing to compare", "", ""
    times = dict(line.entry.seconds)
    best = times[line.entry.algorithm]
    gain = f"{times[line.estimate] / best:.2f}x" if line.estimate in times else ""
    known = "" if line.again else " (known)"
    return line.entry.algorithm + known, time_text(best), gain
