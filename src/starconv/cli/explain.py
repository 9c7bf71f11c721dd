"""`starconv explain`: what would compute a convolution, what it would cost, and why not otherwise."""

from typing import Annotated

import typer

from .console import help_text

__all__ = ["register"]

_EXAMPLES = """[bold]Examples[/bold]

starconv explain "conv2d x=1x64x56x56 w=64x64x3x3 padding=1"

starconv explain "conv2d x=1x3x224x224 w=64x3x7x7 stride=2 padding=3 bias relu" --algorithm direct

starconv explain "input_grad2d x=16x64x56x56 w=128x64x3x3 stride=2 padding=1"
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("explain", help=help_text(explain), epilog=_EXAMPLES)(explain)


def explain(
    problem: Annotated[
        str,
        typer.Argument(
            metavar="PROBLEM",
            help="conv2d, input_grad2d or weight_grad2d (or 1d, 3d), the shapes x= and w= of the convolution, and "
            "stride=, padding= (also before:after), dilation=, groups=, border=, dtype=, precision=, channels_last, "
            "bias, relu.",
        ),
    ],
    algorithm: Annotated[
        str | None, typer.Option("--algorithm", "-a", help="Plan with this algorithm instead of the cheapest.")
    ] = None,
) -> None:
    """Show the plan for a convolution: the algorithm, its predicted time and memory, and why others refuse."""
    from ..engine.planner import make_plan

    typer.echo(make_plan(problem, algorithm=algorithm).explain())
