"""What the commands print: results on standard output, errors and progress on standard error."""

from collections.abc import Callable

from rich.console import Console
from rich.text import Text

__all__ = ["describe", "error_console", "help_text", "output_console", "print_error", "shown"]


def output_console() -> Console:
    """Standard output. Lines are not wrapped, so that a file or a pipe gets them whole."""
    return Console(highlight=False, soft_wrap=True)


def error_console() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def describe(error: Exception) -> str:
    """`error` in one line that begins with the argument or path it is about."""
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    else:
        text = str(error) or type(error).__name__
    return shown(" ".join(text.split()))


def print_error(error: Exception) -> None:
    """One red line on standard error."""
    error_console().print(Text(describe(error), style="red"))


def help_text(command: Callable[..., object]) -> str:
    """The docstring of `command` for its help page: paragraphs in one line each, which the terminal then wraps."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.__doc__ or "").split("\n\n"))


def shown(text: object) -> str:
    """`text` (or a path) with bytes that are no text, which file names may have, in a form that can be printed."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")
