"""`starconv tune`: time the algorithms for convolutions and keep which was fastest, for all later plans.

The convolutions are given one by one, or as the layers of a network. Those are timed as a network calls them, with
weights that are prepared once, so what is kept for them is kept apart from what is kept for single calls.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ..errors import ArgumentValueError, StarconvError, choices
from ..problem import OPERATIONS, Problem
from .console import describe, error_console, help_text, output_console, shown
from .inputs import InputSizes, input_shapes
from .networks import named_network

if TYPE_CHECKING:
    from ..engine.wisdom import Entry

__all__ = ["register"]

_EXAMPLES = """[bold]Examples[/bold]

starconv tune "conv2d x=1x64x56x56 w=64x64x3x3 padding=1"

starconv tune layers.txt   [dim]one problem per line; what follows # is a note[/dim]

starconv tune layers.txt --again

starconv tune resnet18   [dim]its layers, for pictures of 224 x 224[/dim]

starconv tune model.onnx --input 8x3x160x160
"""

LIMIT_BYTES = 1 << 20
"""A file larger than this holds no list of problems."""
INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended, 128 + the signal's number."""


class _Wanted(NamedTuple):
    """A problem, and whether it is timed with weights in place, as a network's layer."""

    problem: Problem
    prepared: bool = False


class _Network(NamedTuple):
    """The convolutions that a model is compiled to, layer by layer."""

    name: str
    layers: tuple[_Wanted, ...]


class _Tuned(NamedTuple):
    """One line of the table."""

    wanted: _Wanted
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
            metavar="MODEL|PROBLEM|FILE...",
            help="Networks as for [bold]starconv summary[/bold], a file .onnx or a name; problems as for "
            "[bold]starconv explain[/bold], each in quotes; or text files with one problem per line.",
        ),
    ],
    input: InputSizes = None,
    again: Annotated[bool, typer.Option("--again", help="Also measure problems that were measured before.")] = False,
) -> None:
    """Time the algorithms for convolutions, and let plans take the fastest from now on.

    Of a network, every layer is timed as the network calls it, with weights in place; it is tuned for the size of
    input that it is compiled for here, and for networks that are loaded from now on.

    Times are kept on disk, for this processor and this version. A choice that changes may change the last bits of
    results; with precision=strict it does not. Ctrl-C keeps what was measured.
    """
    given = [_given(text, input) for text in problems]
    networks = [one for one in given if isinstance(one, _Network)]
    if input and not networks:
        raise ArgumentValueError("input", " ".join(input), "nothing without a network: a problem says its sizes")
    wanted = list(dict.fromkeys(one for part in given for one in (part.layers if isinstance(part, _Network) else part)))
    done: list[_Tuned] = []
    try:
        _measure(wanted, again, done)
    except KeyboardInterrupt:
        _show(done, networks)
        error_console().print(f"interrupted: {len(done)} of {len(wanted)} problems measured and kept", style="yellow")
        raise typer.Exit(INTERRUPTED) from None
    _show(done, networks)


def _given(text: str, sizes: Sequence[str] | None) -> "_Network | list[_Wanted]":
    """What an argument names: the problem that it is, the layers of a network, or the problems of a file."""
    from ..nets.models import MODELS

    is_file = Path(text).is_file()
    operation = re.match(rf"\s*({'|'.join(OPERATIONS)})[123]d\b", text)
    if (operation or "=" in text) and not is_file:
        return [_Wanted(Problem.parse(text))]
    if Path(text).suffix.lower() == ".onnx" or (text in MODELS and not is_file):
        return _network(text, sizes)
    if not is_file and Path(text).name == text and not Path(text).suffix:
        expected = f"a problem, a text file of problems, a file .onnx, {choices(MODELS)}"
        raise ArgumentValueError("problems", text, expected)
    return [_Wanted(problem) for problem in _problems(text)]


def _network(model: str, sizes: Sequence[str] | None) -> _Network:
    """The layers of a network as it is compiled for inputs of these `sizes`; its weights do not matter."""
    from ..engine.operations import Convolution
    from ..nets.network import UNSUITABLE

    network = named_network(model, None, 0, tell=False)
    shapes = input_shapes(network, sizes)
    try:
        program = network.program(*shapes)
    except StarconvError:
        raise
    except UNSUITABLE as error:
        expected = f"a network that can be compiled for inputs of shapes {shapes}; {describe(error)}"
        raise ArgumentValueError("model", model, expected) from None
    plans = [one.prepared.plan for one in program.operations if isinstance(one, Convolution) and one.prepared]
    if not plans:
        raise ArgumentValueError("model", model, "a network with convolutions or dense layers")
    return _Network(model, tuple(_Wanted(plan.problem, prepared=True) for plan in plans))


def _problems(text: str) -> Iterator[Problem]:
    """The problems of a file."""
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


def _measure(wanted: Sequence[_Wanted], again: bool, done: list[_Tuned]) -> None:
    """Measure one problem after the other, under a progress bar; `done` grows as they are ready."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..engine import planner

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=error_console(), transient=True) as progress:
        task = progress.add_task("", total=len(wanted))
        for one in wanted:
            progress.update(task, description=shown(one.problem))
            known = planner.wisdom().find(planner.wisdom_key(*one))
            fresh = again or known is None
            entry = planner.measure(*one) if fresh else known
            estimate = planner.make_plan(one.problem, prepared=one.prepared).predicted
            done.append(_Tuned(one, estimate.name, entry, fresh))
            progress.advance(task)


def _show(done: list[_Tuned], networks: Sequence[_Network]) -> None:
    """The table: what prediction takes, what is fastest, and how much that gains; then where it is kept.

    For each network also how many of its layers were measured.
    """
    from rich.table import Table

    from ..engine import planner

    if not done:
        return
    console = output_console()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("problem", "by prediction", "fastest", "time", "gain"):
        table.add_column(title, justify="right" if title in ("time", "gain") else "left", no_wrap=title != "problem")
    for line in done:
        table.add_row(str(line.wanted.problem), line.estimate, *_found(line))
    # A file or a pipe has no width: problems stay in one line there.
    console.print(table, soft_wrap=False, width=None if console.is_terminal else 200)
    for network in networks:
        console.print(shown(_told(network, done)), markup=False)
    learned = planner.wisdom()
    path, reason = learned.path()
    if path is None:
        error_console().print(f"nothing is kept: the cache is {reason}", style="yellow")
    else:
        console.print(shown(f"{len(learned)} measured problems in {path}"), markup=False)


def _told(network: _Network, done: Sequence[_Tuned]) -> str:
    """How many of a network's layers were measured, now or before; layers of the same problem are measured once."""
    lines = {line.wanted: line for line in done}
    own = [lines[layer] for layer in network.layers if layer in lines]
    measured = [line for line in own if line.entry is not None]
    different = len({line.wanted for line in measured})
    known = len({line.wanted for line in measured if not line.again})
    told = f"{network.name}: {len(measured)} of {len(network.layers)} layers measured, {different} different ones"
    alone = len(own) - len(measured)
    return told + (f", {known} before" if known else "") + (f"; {alone} with nothing to compare" if alone else "")


def _found(line: _Tuned) -> tuple[str, str, str]:
    """The last columns: the fastest, its time, and how many times as long the prediction's choice takes."""
    from ..engine.plan import time_text

    if line.entry is None:
        return "nothing to compare", "", ""
    times = dict(line.entry.seconds)
    best = times[line.entry.algorithm]
    gain = f"{times[line.estimate] / best:.2f}x" if line.estimate in times else ""
    known = "" if line.again else " (known)"
    return line.entry.algorithm + known, time_text(best), gain
