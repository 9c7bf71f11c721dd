"""`starconv kernels`: the named kernels with their matrices."""

from typing import TYPE_CHECKING, Annotated

import typer

from .console import help_text, output_console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.text import Text

__all__ = ["register"]

LARGEST_SHOWN = 11
"""Rows and columns of a kernel that are printed: with numbers of nine characters these fill a wide terminal."""

_EXAMPLES = """[bold]Examples[/bold]

starconv kernels

starconv kernels gaussian:1 sobel-x

starconv kernels "1 0 -1; 2 0 -2; 1 0 -1"
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("kernels", help=help_text(kernels), epilog=_EXAMPLES)(kernels)


def kernels(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="KERNEL", help="Only these: names, matrices or files as `starconv filter -k` takes."),
    ] = None,
) -> None:
    """Show the named kernels with their matrices.

    The output of `starconv filter` is light where the picture looks like the kernel and dark where it looks like the
    opposite. A kernel whose numbers sum to 0 ignores evenly lit areas; with the sum 1 it keeps their brightness.
    """
    from rich.text import Text

    from ..data.kernels import NAMED_KERNELS, named_kernel, parse_kernel

    console = output_console()
    if names:
        for text in names:
            kernel = parse_kernel(text)
            rows, columns = kernel.shape
            console.print(Text.assemble((text, "bold"), f"  {rows} x {columns}, sum {kernel.sum():.6g}"))
            console.print(_matrix(kernel))
        return
    for known in NAMED_KERNELS.values():
        kernel = named_kernel(known.sample)
        shown = f"  (here {known.sample})" if known.parameter else ""
        console.print(Text.assemble((known.usage, "bold"), f"  {known.description}{shown}"))
        console.print(_matrix(kernel))


def _matrix(kernel: "NDArray[np.float64]") -> "Text":
    from rich.text import Text

    from ..data.kernels import format_kernel

    text = Text()
    first = [max(side - LARGEST_SHOWN, 0) // 2 for side in kernel.shape]
    values = kernel[first[0] : first[0] + LARGEST_SHOWN, first[1] : first[1] + LARGEST_SHOWN]
    if values.shape != kernel.shape:
        text.append(f"    the middle {values.shape[0]} x {values.shape[1]}:\n", style="dim")
    words = format_kernel(values)
    width = max(len(word) for row in words for word in row)
    for row, numbers in zip(words, values, strict=True):
        text.append("   ")
        for word, number in zip(row, numbers, strict=True):
            style = "bold" if number > 0 else "blue" if number < 0 else "dim"
            text.append(f" {word:>{width}}", style=style)
        text.append("\n")
    return text
