"""`starconv tour`: the mathematics of convolution on the user's own picture, as one page for the browser."""

from pathlib import Path
from typing import Annotated

import typer

from .console import error_console, output_console, shown

__all__ = ["register"]

_EXAMPLES = """[bold]Examples[/bold]

starconv tour

starconv tour photo.jpg -o photo-tour
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("tour", epilog=_EXAMPLES)(tour)


def tour(
    image: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGE", help="A picture, PNG, JPEG, TIFF or .npy; default the astronaut."),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The directory for the page.")] = Path("tour"),
) -> None:
    """Write a page that goes through convolution on a picture: DIR/index.html, for any browser.

    The page needs no network and no other file. Each of its sections shows the Python lines that made it.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from ..tour import write_tour

    columns = (BarColumn(24), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=error_console(), transient=True) as progress:
        task = progress.add_task("the picture", total=None)
        page = write_tour(
            out,
            image,
            on_section=lambda done, total, title: progress.update(task, completed=done, total=total, description=title),
        )
    console = output_console()
    console.print(f"The tour is in {shown(page)}", markup=False)
    console.print(f"Open it in a browser: {page.resolve().as_uri()}", markup=False)
