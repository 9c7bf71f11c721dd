"""`starconv filter`: pictures through a kernel, from files to files."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from ..errors import ArgumentValueError, StarconvError
from .console import describe, error_console, help_text, output_console, shown
from .parsing import padding_value, per_axis_value

if TYPE_CHECKING:
    from ..data.depth import Depth
    from .filtering import Filter

__all__ = ["destinations", "register"]

_EXAMPLES = """[bold]Examples[/bold]

starconv filter photo.jpg -k horizontal-edges --grey --signed --scale 0.4 -o edges.png

starconv filter photo.jpg -k gaussian:3 -o blurred.jpg

starconv filter scan.tif -k "1/4 1/4; 1/4 1/4" --stride 2 --padding valid -o half.tif

starconv filter *.png -k sharpen -o sharpened/

starconv filter *.png -k sobel-x --signed -o "edges/{stem}-x.png"
"""

_FIELDS: dict[str, Callable[[Path, int], str]] = {
    "stem": lambda path, _index: path.stem,
    "suffix": lambda path, _index: path.suffix,
    "name": lambda path, _index: path.name,
    "index": lambda _path, index: str(index),
}
"""What can stand in braces in the pattern of OUT."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("filter", help=help_text(filter_pictures), epilog=_EXAMPLES)(filter_pictures)


def filter_pictures(
    context: typer.Context,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Pictures: PNG, JPEG, TIFF or .npy.")],
    kernel: Annotated[
        str,
        typer.Option(
            "-k",
            "--kernel",
            help='A name (see `starconv kernels`), a matrix "1 0 -1; 2 0 -2; 1 0 -1", or a .npy, .csv or .txt file.',
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "-o",
            "--out",
            help="A file name; a directory; or a pattern with {stem}, {suffix}, {name} or {index}.",
        ),
    ],
    stride: Annotated[
        str, typer.Option("-s", "--stride", help="Keep every n-th pixel: 2, or 2x1 for rows x columns.")
    ] = "1",
    padding: Annotated[
        str,
        typer.Option(
            "-p",
            "--padding",
            help="Pixels added on every side: 1, 1x2, before:after as in 1:2x0:1, or same, valid (none), full.",
        ),
    ] = "same",
    dilation: Annotated[
        str, typer.Option("-d", "--dilation", help="Distance between the pixels the kernel reads.")
    ] = "1",
    border: Annotated[
        str,
        typer.Option(
            help="What the padding shows, by scipy.ndimage's names: reflect (b a|a b c), mirror (c b|a b c), "
            "nearest (a a|a b c), wrap (b c|a b c), constant or zeros (0 0|a b c); grid-mirror, grid-wrap and "
            "grid-constant are other words for reflect, wrap and constant."
        ),
    ] = "reflect",
    grey: Annotated[
        bool, typer.Option("--grey", help="One grey picture (Rec. 709 luma) instead of every channel.")
    ] = False,
    signed: Annotated[
        bool,
        typer.Option(
            "--signed", help="Grey is 0, light is positive, dark is negative; scaled to fit unless --scale is given."
        ),
    ] = False,
    scale: Annotated[
        float | None, typer.Option(help="Multiply the output by this; 1 if not given, with --signed what just fits.")
    ] = None,
    flip: Annotated[
        bool,
        typer.Option("--flip", help="Turn the kernel by 180 degrees first: convolution in the sense of mathematics."),
    ] = False,
    depth: Annotated[
        str | None,
        typer.Option(
            help="Of the output: 8, 16 or float, where white is 255, 65535 or 1. Default: the input's, if OUT holds it."
        ),
    ] = None,
) -> None:
    """Convolve pictures with a kernel, every colour channel by itself.

    As in deep learning the kernel is not flipped: the output is light where the picture looks like the kernel. Without
    --stride and --padding the output has the input's size. Values outside of black and white are clipped, which is
    reported. Alpha is kept. An unreadable picture is reported and the others are still done.
    """
    from ..data.depth import DEPTHS
    from ..data.kernels import parse_kernel
    from .filtering import Filter

    matrix = parse_kernel(kernel)
    if depth is not None and depth not in DEPTHS:
        raise ArgumentValueError("depth", depth, "8, 16 or float")
    recipe = Filter(
        kernel=matrix[::-1, ::-1] if flip else matrix,
        stride=per_axis_value("stride", stride),
        padding=padding_value(padding),
        dilation=per_axis_value("dilation", dilation),
        border=border,
        grey=grey,
        signed=signed,
        scale=scale,
    )
    targets = destinations(images, out)
    lines: list[str] = []
    failed = 0
    errors = error_console()  # one for the bar and the messages, so that these go above the bar and not into it
    try:
        for source, target in _with_progress(list(zip(images, targets, strict=True)), errors):
            try:
                # A directory or a pattern makes its folders, a mistyped path does not.
                lines.append(_filter_file(source, target, recipe, depth, make_folder=target != Path(out)))
            except (StarconvError, OSError, MemoryError) as error:
                if context.find_root().params["debug"]:
                    raise
                failed += 1
                _report(error, source, errors)
    finally:
        # Together at the end, because the progress bar owns the terminal until then.
        for line in lines:
            output_console().print(line, markup=False)
    if failed:
        if len(images) > 1:
            errors.print(f"{failed} of {len(images)} pictures failed, {len(lines)} written", style="red")
        raise typer.Exit(1)


def destinations(images: list[Path], out: str) -> list[Path]:
    """Where each of `images` goes by the text `out`, checked before any work is done.

    A text with braces is a pattern. A text that ends with a separator, names a directory or has no suffix is a
    directory, in which every picture keeps its name. Everything else is a file, for one picture.

    Raises:
        ArgumentValueError, FileContentError: several pictures for one file, a picture that would be overwritten before
            it is read, an unknown field or suffix.
    """
    from ..data.images import format_for

    if "{" in out or "}" in out:
        targets = [_by_pattern(out, image, index) for index, image in enumerate(images, 1)]
    elif out.endswith(("/", os.sep)) or Path(out).is_dir() or not Path(out).suffix:
        if not out:
            raise ArgumentValueError("out", out, "a file, a directory or a pattern")
        targets = [Path(out, image.name) for image in images]
    else:
        format_for(out)
        if len(images) > 1:
            raise ArgumentValueError(
                "out",
                out,
                f"a directory such as results/ or a pattern such as {{stem}}-edges.png, for {len(images)} pictures",
            )
        targets = [Path(out)]
    taken: dict[str, Path] = {}
    sources = {os.path.realpath(image) for image in images}
    for image, target in zip(images, targets, strict=True):
        real = os.path.realpath(target)
        if real in taken:
            raise ArgumentValueError(
                "out", out, f"a file for every picture; {taken[real]} and {image} would both become {target}"
            )
        if real in sources and real != os.path.realpath(image):
            raise ArgumentValueError("out", out, f"names that are no input; {image} would overwrite {target}")
        taken[real] = image
    return targets


def _by_pattern(pattern: str, image: Path, index: int) -> Path:
    from ..data.images import format_for

    def field(match: "re.Match[str]") -> str:
        if match[1] not in _FIELDS:
            fields = ", ".join(f"{{{name}}}" for name in _FIELDS)
            raise ArgumentValueError("out", pattern, f"a pattern with {fields}; found {match[0]}")
        return _FIELDS[match[1]](image, index)

    target = Path(re.sub(r"\{([^{}]*)\}?|\}", field, pattern))
    if not re.search(r"\{(suffix|name)\}$", pattern):  # a suffix of the user's own, not one that comes with the picture
        format_for(target)
    return target


def _with_progress(pairs: list[tuple[Path, Path]], console: Console) -> Iterator[tuple[Path, Path]]:
    """`pairs`, with a progress bar on `console` if there are several and somebody is watching."""
    if len(pairs) < 2 or not console.is_terminal:
        yield from pairs
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    # Standard output is left alone: it may be a file, which rich would otherwise redirect to the terminal.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=len(pairs))
        for source, target in pairs:
            progress.update(task, description=shown(source))
            yield source, target
            progress.advance(task)


def _filter_file(source: Path, target: Path, recipe: "Filter", depth: str | None, *, make_folder: bool) -> str:
    """Read, filter, write one picture; the line that says what was done."""
    from ..data.images import format_for, read_image, write_image

    image = read_image(source)
    known = format_for(target)
    wanted: Depth = image.depth if depth is None else depth  # type: ignore[assignment]  # checked by the command
    notes: list[str] = []
    if wanted not in known.depths and depth is None:
        wanted = "8"
        notes.append(f"{known.name} holds 8 bits")
    filtered = recipe.apply(image, wanted)
    result = filtered.image
    notes += filtered.notes
    if result.alpha is not None and not known.alpha:
        from dataclasses import replace

        result = replace(result, alpha=None)
        notes.append(f"{known.name} holds no alpha")
    if make_folder:
        target.parent.mkdir(parents=True, exist_ok=True)
    write_image(target, result)
    return "; ".join([f"{shown(source)} -> {shown(target)}: {result}", *notes])


def _report(error: Exception, source: Path, console: Console) -> None:
    """One red line; the path goes first where the error does not already begin with it."""
    text = "not enough memory" if isinstance(error, MemoryError) else describe(error)
    if shown(source) not in text:
        text = f"{shown(source)}: {text}"
    console.print(Text(text, style="red"))
