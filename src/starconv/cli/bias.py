"""`starconv bias`: what sharing weights is worth, a convolutional network against a dense one."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ArgumentValueError
from .console import error_console, help_text, output_console, shown

__all__ = ["register"]

_EXAMPLES = """[bold]Examples[/bold]

starconv bias -o bias.png

starconv bias shapes --sizes 100,400,1600 --shift 2 --seeds 5
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("bias", help=help_text(bias), epilog=_EXAMPLES)(bias)


def bias(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="digits, edges, shapes, or a folder with a folder of pictures per class."),
    ] = "digits",
    sizes: Annotated[str, typer.Option(help="Numbers of pictures to learn from.")] = "50,200,1000",
    seeds: Annotated[int, typer.Option(min=1, help="How many trainings each; error bars need two.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Of training, for every number of pictures.")] = 200,
    epochs: Annotated[
        int | None, typer.Option("--epochs", "-e", min=1, help="Instead of steps: passes through the pictures.")
    ] = None,
    shift: Annotated[int, typer.Option(min=1, help="Pixels by which test pictures are shifted.")] = 1,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Figure to write: .png, .svg, .pdf or .html.")
    ] = None,
    theme: Annotated[str, typer.Option("--theme", help="light or dark.")] = "light",
) -> None:
    """Compare what a convolutional and a dense network learn from the same few pictures.

    Both get the same pictures, steps and batches, and each the learning rate, of three, that tells pictures held back
    from its training best. They are tested on pictures that neither has seen, as they are and shifted in eight
    directions. The same call gives the same table.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from ..bias import compare
    from ..view.save import STILL_SUFFIXES
    from ..view.theme import theme_of
    from .train import learning_data

    try:
        numbers = [int(part) for part in sizes.replace(",", " ").split()]
    except ValueError:
        raise ArgumentValueError("sizes", sizes, "numbers such as 50,200,1000") from None
    theme_of(theme)  # wrong names are told before the work, not after it
    if out is not None and out.suffix.lower() not in STILL_SUFFIXES:
        raise ArgumentValueError("output", str(out), "a name that ends with .png, .svg, .pdf or .html")
    split, _ = learning_data(data)
    columns = (BarColumn(24), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=error_console(), transient=True) as progress:
        task = progress.add_task("", total=None)
        found = compare(
            numbers,
            data=split,
            shift=shift,
            steps=steps,
            epochs=epochs,
            seeds=range(seeds),
            on_training=lambda done, total, words: progress.update(
                task, completed=done, total=total, description=words
            ),
        )
    console = output_console()
    console.print(str(found), markup=False)
    console.print(f"{found.budget}; mean ± standard deviation of {seeds} seeds; rate: chosen from 0.02, 0.05 and 0.1")
    if out is not None:
        found.figure(theme=theme).save(out)
        console.print(f"The figure is in {shown(out)}", markup=False)
