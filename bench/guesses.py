"""``python -m bench.guesses``: how often the planner's prediction picks the fastest algorithm, or one within 10 %.

For every row of the shape files, the candidates are timed in turns and the one that the cost model takes is compared
with the fastest. Rows with a single candidate are no test of a choice and are counted apart.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from starconv.engine import measure
from starconv.engine.algorithms import TABLE
from starconv.engine.planner import make_plan, use_wisdom
from starconv.engine.wisdom import Wisdom, signature_of

from . import shapes

WITHIN = 1.10
"""A choice is good if it takes at most so many times what the best candidate takes."""
FACTOR, PATIENCE = 8.0, 2.0
"""Candidates predicted to be slower than FACTOR times the best, or PATIENCE seconds, are not timed."""


@dataclass(frozen=True, slots=True)
class Guess:
    """One row: the algorithm chosen by prediction, and (predicted, measured) seconds of everyone timed."""

    suite: str
    problem: str
    chosen: str
    seconds: dict[str, tuple[float, float]]

    @property
    def best(self) -> str:
        """The fastest of those timed."""
        return min(self.seconds, key=lambda name: self.seconds[name][1])

    @property
    def loss(self) -> float:
        """Time of the chosen one in that of the fastest: 1 for a perfect guess."""
        return self.seconds[self.chosen][1] / self.seconds[self.best][1]


def guess(row: shapes.Row, budget: float) -> Guess | None:
    """The row measured, or None where there is nothing to choose."""
    candidates = make_plan(row.problem).candidates
    names = measure.contenders(candidates, FACTOR, PATIENCE)
    if len(names) < 2:
        return None
    timed = measure.times({name: make_plan(row.problem, algorithm=name) for name in names}, budget)
    predicted = {candidate.name: candidate.seconds for candidate in candidates}
    seconds = {name: (predicted[name], timed[name]) for name in names}
    return Guess(row.suite, str(row.problem), names[0], seconds)


def report(guesses: list[Guess], alone: dict[str, int]) -> list[str]:
    """Lines of Markdown: a table of hit rates per file, and the worst misses."""
    lines = ["| file | rows with a choice | within 10 % | of all rows |", "|---|--:|--:|--:|"]
    names = [*dict.fromkeys([*alone, *(entry.suite for entry in guesses)])]
    for name in [*sorted(names), ""]:
        chosen = [entry for entry in guesses if name in ("", entry.suite)]
        single = sum(count for suite, count in alone.items() if name in ("", suite))
        hits = sum(entry.loss <= WITHIN for entry in chosen)
        rate = f"{hits / len(chosen):.0%}" if chosen else ""
        whole = f"{(hits + single) / max(len(chosen) + single, 1):.0%}"
        lines.append(f"| {name or '**all**'} | {len(chosen)} | {hits} {rate} | {whole} |")
    misses = sorted((entry for entry in guesses if entry.loss > WITHIN), key=lambda entry: -entry.loss)
    lines += ["", f"{len(misses)} misses:"]
    for entry in misses:
        (told, took), (best_told, best_took) = entry.seconds[entry.chosen], entry.seconds[entry.best]
        lines.append(
            f"- {entry.loss:.2f} times: {entry.problem}: {entry.chosen} {told * 1e3:.3f} -> {took * 1e3:.3f} ms, "
            f"{entry.best} {best_told * 1e3:.3f} -> {best_took * 1e3:.3f} ms"
        )
    return lines


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Shape files; default all.")] = None,
    rows: Annotated[str, typer.Option(help="Only rows whose problem or note contains this.")] = "",
    budget: Annotated[float, typer.Option(help="Seconds per row.")] = 0.5,
    output: Annotated[Path | None, typer.Option(help="JSON file for every row's predictions and times.")] = None,
) -> None:
    """Score the planner's predictions against measurement. Ctrl-C ends it early, with what there is."""
    # Nothing that was tuned before may help, and nothing that is measured here is kept.
    use_wisdom(Wisdom(signature_of([row.NAME for row in TABLE]), keep=False))
    chosen = shapes.select(names or (), rows)
    guesses: list[Guess] = []
    alone: dict[str, int] = {}
    console = Console(highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with suppress(KeyboardInterrupt), Progress(*columns, console=Console(stderr=True)) as progress:
        for row in progress.track(chosen, description="guesses"):
            found = guess(row, budget)
            if found is None:
                alone[row.suite] = alone.get(row.suite, 0) + 1
            else:
                guesses.append(found)
    console.print("\n".join(report(guesses, alone)), markup=False)
    if output is not None:
        output.write_text(json.dumps([asdict(entry) for entry in guesses], indent=1))


if __name__ == "__main__":
    typer.run(main)
