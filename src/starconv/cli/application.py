"""The application: the list of commands, the options they share, and how errors reach the user.

A new command is a file with a function ``register(app)`` and one more module in :data:`COMMANDS`. It imports what
takes long (SciPy, Matplotlib, pictures) inside the command, so that ``starconv --help`` stays quick.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import StarconvError
from . import bias, doctor, explain, filter, kernels, networks, size, slide, tour, train, tune, views
from .console import print_error

__all__ = ["COMMANDS", "app", "main"]

COMMANDS = (filter, kernels, size, slide, views, networks, tour, train, bias, explain, tune, doctor)
"""The modules with the commands, in the order in which ``starconv --help`` lists them."""


class Application(TyperGroup):
    """The commands, with errors as one line: exit code 2 for a wrong call, 1 for a file or system that fails."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take ``--debug`` from wherever it stands, since one adds it at the end of the call that failed."""
        own = args[: args.index("--")] if "--" in args else args
        if "--debug" in own[1:]:
            args.remove("--debug")
            args.insert(0, "--debug")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command and turn the errors of a user's call into one line each."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `starconv kernels | head` is no error
            raise
        except (StarconvError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            print_error(error)
            raise typer.Exit(2 if isinstance(error, StarconvError) else 1) from None


app = typer.Typer(
    cls=Application,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"starconv {__version__}")
        raise typer.Exit


@app.callback()
def _starconv(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Convolution you can run, train and see."""


for _module in COMMANDS:
    _module.register(app)


def main() -> None:
    """Run the command line; the entry point of the ``starconv`` script."""
    app(prog_name="starconv")
