"""What a run found: a Markdown table for readers and a JSON file for later comparison."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .machine import Machine, as_dict
from .peers import ENTRANTS
from .roofline import Roofline
from .rows import Outcome, geometric_mean


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number that is no ratio to a peer, with its target."""

    suite: str
    name: str
    value: float
    unit: str
    target: float | None = None
    note: str = ""


@dataclass(slots=True)
class Run:
    """Everything that one number of threads gave."""

    threads: int
    roofline: Roofline
    outcomes: list[Outcome] = field(default_factory=list)

    def suites(self) -> dict[str, list[Outcome]]:
        """Outcomes by suite, in the order in which they were measured."""
        found: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            found.setdefault(outcome.suite, []).append(outcome)
        return found


@dataclass(slots=True)
class Report:
    """One run of the benchmark."""

    machine: Machine
    date: str
    command: str
    runs: list[Run] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def markdown(self) -> str:
        """The whole report."""
        lines = ["# Benchmark results", "", f"Taken {self.date} with `{self.command}` on", "", *self.machine.lines()]
        lines += [f"- {run.roofline}" for run in self.runs]
        loads = [row.foreign_load for run in self.runs for row in run.outcomes if row.foreign_load is not None]
        if loads:
            mean, most = sum(loads) / len(loads), max(loads)
            lines.append(f"- other processes used {mean:.0%} of the processors, {most:.0%} during the worst row")
        lines += ["", *GUIDE]
        if any(run.outcomes for run in self.runs):
            lines += ["", "## Suites", "", *summary(self.runs)]
        for run in self.runs:
            title = "1 thread" if run.threads == 1 else f"{run.threads} threads"
            for suite, outcomes in run.suites().items():
                lines += ["", f"## {suite}, {title}", "", *table(outcomes)]
        if self.figures:
            lines += ["", "## Latency and memory", "", *figure_table(self.figures)]
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        """The report with every number."""
        document = {
            "machine": as_dict(self.machine),
            "date": self.date,
            "command": self.command,
            "runs": [
                {
                    "threads": run.threads,
                    "roofline": asdict(run.roofline),
                    "rows": [asdict(row) for row in run.outcomes],
                }
                for run in self.runs
            ],
            "figures": [asdict(figure) for figure in self.figures],
        }
        return json.dumps(document, indent=1) + "\n"

    def write(self, stem: Path) -> list[Path]:
        """Write both files and return their paths."""
        paths = [stem.with_suffix(".md"), stem.with_suffix(".json")]
        for path, text in zip(paths, (self.markdown(), self.json()), strict=True):
            path.write_text(text, encoding="utf-8")
        return paths


GUIDE = [
    "Times are medians; ratios above 1 mean that starconv is faster. *call* is `sc.conv2d` (or `sc.grad`,",
    "`sc.correlate`) against the fastest function of x and w; *plan* has its weights in place and meets every peer.",
    "Whoever has two layouts of memory, channels first and channels last, counts with the better one.",
    "*roofline* is the least time that the definition's arithmetic and traffic can take here, over our best time.",
]


def summary(runs: Sequence[Run]) -> list[str]:
    """A row per suite and number of threads: geometric means of the ratios and the worst row."""
    lines = [
        "| suite | threads | rows | call ÷ best, mean | worst | plan ÷ best, mean | worst |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for run in runs:
        for suite, outcomes in run.suites().items():
            cells = [suite, str(run.threads), str(len(outcomes))]
            for prepared in (False, True):
                ratios = [ratio for row in outcomes if (ratio := row.ratio(prepared=prepared)) is not None]
                cells += [ratio_text(geometric_mean(ratios)), ratio_text(min(ratios, default=None))]
            lines.append(_line(cells))
    return lines


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """One suite: everyone who computed at least one of its rows, our ratios, our speed and its part of the roofline."""
    present = [entrant.name for entrant in ENTRANTS if any(entrant.name in row.entries for row in outcomes)]
    heads = ["problem", *present, "call ÷ best", "plan ÷ best", "GFLOP/s", "roofline"]
    lines = [_line(heads), "|---|" + "--:|" * (len(heads) - 1)]
    for row in outcomes:
        note = f" ({row.note})" if row.note and row.note not in row.name else ""
        times = [time_text(row.entries[name].seconds) if name in row.entries else "" for name in present]
        own = row.fastest_own
        speed = f"{2e-9 * row.multiply_adds / own:.0f}" if own else ""
        part = f"{row.floor / own:.0%}" if own else ""
        ratios = [ratio_text(row.ratio(prepared=prepared)) for prepared in (False, True)]
        wrong = f" **differs: {', '.join(row.wrong)}**" if row.wrong else ""
        mark = " †" if row.disturbed else ""
        lines.append(_line([f"{row.name}{note}{wrong}{mark}", *times, *ratios, speed, part]))
    if any(row.disturbed for row in outcomes):
        lines += ["", "† other processes used the machine; such rows are not to be quoted."]
    return lines


def lines_of(outcome: Outcome) -> list[str]:
    """One row for the terminal: our ratios, everyone's time, and who computed something else."""
    own = outcome.fastest_own
    ratios = [
        f"{way} {ratio_text(ratio)}x"
        for way, prepared in (("call", False), ("plan", True))
        if (ratio := outcome.ratio(prepared=prepared)) is not None
    ]
    if own:
        ratios.append(f"{2e-9 * outcome.multiply_adds / own:.3g} GFLOP/s, {outcome.floor / own:.0%} of the roofline")
    if outcome.disturbed:
        ratios.append(f"(others used {outcome.foreign_load:.0%} of the machine: do not quote)")
    times = [f"{name} {time_text(entry.seconds)}" for name, entry in outcome.entries.items()]
    lines = ["  ".join([outcome.name, *ratios]), "    " + ", ".join(times)]
    return lines + [f"    {name}: {outcome.reasons[name]}" for name in outcome.wrong]


def figure_table(figures: Iterable[Figure]) -> list[str]:
    """Figures with their targets."""
    figures = list(figures)
    if not figures:
        return []
    lines = ["| what | measured | target |", "|---|--:|--:|"]
    for figure in figures:
        target = "" if figure.target is None else f"{figure.target:g} {figure.unit}"
        note = f" ({figure.note})" if figure.note else ""
        lines.append(_line([f"{figure.name}{note}", f"{figure.value:.3g} {figure.unit}", target]))
    return lines


def time_text(seconds: float) -> str:
    """Three digits in µs, ms or s."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{_digits(seconds / size)} {unit}"
    return f"{_digits(seconds * 1e6)} µs"


def ratio_text(ratio: float | None) -> str:
    """Two decimals, or nothing."""
    return "" if ratio is None else f"{ratio:.2f}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
