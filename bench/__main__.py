"""``python -m bench``: which rows, whom, with how many threads and how carefully.

make bench                                        everything, and write bench/RESULTS.md and .json
make bench ARGS="resnet18 --batch 16"             one suite at another batch size, printed only
make bench ARGS="--rows 'w=64x64x3x3' --threads 2 --peers torch"
make bench ARGS="latency memory networks training" calls' overhead, first calls, memory; whole networks, steps
make bench ARGS="--check"                         does the harness itself work?
"""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from . import latency, memory, networks, roofline, shapes, timing, training
from .machine import cores, describe
from .peers import ENTRANTS, Entrant
from .report import Figure, Report, Run, figure_table, lines_of, summary
from .rows import measure

PROBES = {
    "latency": latency.measure,
    "memory": memory.measure,
    "networks": networks.measure,
    "training": training.measure,
}
RESULTS = Path(__file__).with_name("RESULTS")
CHECK_LIMIT = 5_000_000
"""Multiply-adds of the largest row that --check runs."""


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help="Shape files, latency, memory, networks, training; default all.")
    ] = None,
    rows: Annotated[str, typer.Option(help="Only rows whose problem or note contains this.")] = "",
    threads: Annotated[list[int] | None, typer.Option(help="Repeat for each; default all cores, then 1.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Pictures instead of the file's number.")] = None,
    peers: Annotated[str, typer.Option(help="Only peers whose name contains one of these, separated by commas.")] = "",
    without: Annotated[str, typer.Option(help="Nobody whose name contains one of these.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="Quiet rounds per row; at most 3 times as many.")] = 5,
    output: Annotated[Path | None, typer.Option(help="Stem of the .md and .json to write.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Every small row once: is the harness in order?")] = False,
) -> None:
    """Measure starconv beside its peers, all in one run, row by row."""
    wanted = names or [*shapes.suites(), *PROBES]
    unknown = set(wanted) - {*shapes.suites(), *PROBES}
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not one of {', '.join([*shapes.suites(), *PROBES])}")
    suites = [name for name in wanted if name in shapes.suites()]
    chosen = shapes.select(suites, rows, batch or ()) if suites else []
    if check:
        chosen = [row for row in chosen if row.problem.multiply_adds <= CHECK_LIMIT]
    if output is None and not check and not any((names, rows, threads, batch, peers, without)):
        output = RESULTS
    effort = timing.QUICK if check else timing.Effort(rounds=rounds, attempts=3 * rounds)
    takers = entrants(peers, without)
    command = "python -m bench " + shlex.join(sys.argv[1:])
    report = Report(describe(), time.strftime("%Y-%m-%d"), command.strip())
    console = Console(highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        for count in threads or dict.fromkeys((cores(), 1)):
            report.runs.append(_run(chosen, takers, count, effort, progress))
        for name in PROBES:
            if name in wanted and not rows:
                report.figures += _probe(name, check, progress)
    console.print(Markdown("\n".join([*summary(report.runs), "", *figure_table(report.figures)])))
    if output is not None:
        console.print("wrote", *(path.name for path in report.write(output)))
    wrong = [f"{row.name}: {name}" for run in report.runs for row in run.outcomes for name in row.wrong]
    if wrong:
        console.print("results differ or calls failed:", *wrong, sep="\n  ", style="red")
        raise typer.Exit(1)


def entrants(peers: str = "", without: str = "") -> list[Entrant]:
    """Ourselves and the peers named by a word of `peers` (all if it is empty), less whom a word of `without` names."""
    wanted, unwanted = ([word.strip() for word in words.split(",") if word.strip()] for words in (peers, without))
    return [
        entrant
        for entrant in ENTRANTS
        if (entrant.ours or not wanted or any(word in entrant.name for word in wanted))
        and not any(word in entrant.name for word in unwanted)
    ]


def _run(rows: list[shapes.Row], takers: list[Entrant], threads: int, effort: timing.Effort, progress: Progress) -> Run:
    run = Run(threads, roofline.measure(threads, 0.05 if effort is timing.QUICK else 0.3))
    task = progress.add_task(f"{threads} threads", total=len(rows))
    for row in rows:
        progress.update(task, description=f"{threads} threads: {row.suite}")
        outcome = measure(row, takers, threads, effort, run.roofline)
        run.outcomes.append(outcome)
        progress.console.print(*lines_of(outcome), sep="\n")
        progress.advance(task)
    return run


def _probe(name: str, check: bool, progress: Progress) -> list[Figure]:
    task = progress.add_task(name, total=1)
    figures = PROBES[name](check)
    progress.advance(task)
    return figures


if __name__ == "__main__":
    typer.run(main)
