"""`starconv slide`: the kernel slides over an input, as an animation, an interactive page or a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ArgumentValueError
from .console import help_text, output_console, shown
from .parsing import padding_value, per_axis_value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["input_value", "kernel_value", "register"]

_EXAMPLES = """[bold]Examples[/bold]

starconv slide --input 7x7 --kernel 3x3 --stride 2 --padding 1 -o slide.gif

starconv slide --input 5x9 --kernel 3x2 --padding 1:0x2:1 --dilation 1x2 -o slide.html

starconv slide --input 4x4 --kernel 3x3 --stride 2 --transposed --method stamp --theme dark -o stamps.gif

starconv slide --input photo.png --kernel horizontal-edges --stride 8 -o edges.gif

starconv slide --input 3x6x6 --kernel 2x3x3x3 --bias "1 -2" -o channels.html

starconv slide --input 12 --kernel "1 0 -1" --padding same -o signal.gif
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("slide", help=help_text(slide), epilog=_EXAMPLES)(slide)


def slide(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File to write: .gif, .html, .mp4 (needs ffmpeg), .png, .svg, .pdf.")
    ],
    input: Annotated[
        str,
        typer.Option(
            "-i", "--input", help="Size of a generated input (7x7, 12, 3x6x6 with channels), a picture, or .npy."
        ),
    ] = "7x7",
    kernel: Annotated[
        str,
        typer.Option(
            "-k", "--kernel", help='Size of a generated kernel (3x3, 2x3x3x3), a name, a matrix "1 0 -1; …", or a file.'
        ),
    ] = "3x3",
    stride: Annotated[str, typer.Option("-s", "--stride", help="Step between windows: 2, or 2x1.")] = "1",
    padding: Annotated[
        str,
        typer.Option("-p", "--padding", help="1, 1x2, before:after as in 1:2x0:1, or valid, same, full."),
    ] = "0",
    dilation: Annotated[str, typer.Option("-d", "--dilation", help="Distance between taps: 2, or 2x1.")] = "1",
    groups: Annotated[int, typer.Option("-g", "--groups", help="Groups of channels that do not see each other.")] = 1,
    bias: Annotated[str | None, typer.Option("--bias", help='One number per output channel: "1 -2".')] = None,
    padding_mode: Annotated[
        str, typer.Option("--padding-mode", help="zeros, reflect, replicate, circular or symmetric.")
    ] = "zeros",
    transposed: Annotated[bool, typer.Option("-t", "--transposed", help="The transposed convolution.")] = False,
    output_padding: Annotated[
        str, typer.Option("--output-padding", help="Elements added at the end, of a transposed convolution only.")
    ] = "0",
    method: Annotated[
        str,
        typer.Option("--method", help="How to show a transposed one: gather (stretched input) or stamp."),
    ] = "gather",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Decides generated numbers.")] = 0,
    theme: Annotated[str, typer.Option("--theme", help="light or dark.")] = "light",
    title: Annotated[str | None, typer.Option("--title", help="Instead of kernel, stride, padding and sizes.")] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.02, help="How long a frame is shown.")] = None,
    max_frames: Annotated[
        int, typer.Option("--max-frames", min=1, help="Of more steps, as many are shown at even distances.")
    ] = 120,
    frame: Annotated[
        int | None, typer.Option("--frame", help="Which frame .png, .svg and .pdf show; by default the middle one.")
    ] = None,
) -> None:
    """Show the kernel sliding over an input: patch, products, sum and output, step by step.

    Without your own data, input and kernel are small integers that --seed decides. Pictures are shown in grey.
    """
    from ..view.slide import slide as animate

    animation = animate(
        input_value(input),
        kernel_value(kernel),
        per_axis_value("stride", stride),
        padding_value(padding),
        per_axis_value("dilation", dilation),
        groups,
        bias=None if bias is None else _numbers(bias),
        padding_mode=padding_mode,
        transposed=transposed,
        output_padding=per_axis_value("output_padding", output_padding),
        method=method,  # type: ignore[arg-type]  # slide says what it takes
        seed=seed,
        theme=theme,
        title=title,
        seconds=seconds,
        max_frames=max_frames,
    )
    if frame is not None and not -len(animation) <= frame < len(animation):
        raise ArgumentValueError("frame", frame, f"a number from 0 to {len(animation) - 1}")
    animation.save(output, frame=frame)
    console = output_console()
    console.print(f"{animation.description}", markup=False)
    console.print(f"wrote {shown(output)}", markup=False, style="dim")


def input_value(text: str) -> "int | tuple[int, ...] | NDArray[Any]":
    """An input as one types it: a size, a picture file (in grey, as integers where it has them) or a .npy file.

    >>> input_value("5x7")
    (5, 7)
    """
    if text[:1].isdigit() and "." not in text and "/" not in text:
        size = per_axis_value("input", text)
        return (size,) if isinstance(size, int) else size
    import numpy as np

    path = Path(text).expanduser()
    if path.suffix.lower() == ".npy":
        return _array(path)
    from ..data.images import read_image, to_grey

    image = read_image(path)
    grey = to_grey(image.array)
    return grey if image.depth == "float" else np.rint(grey).astype(np.int64)


def kernel_value(text: str) -> "int | tuple[int, ...] | NDArray[np.float64]":
    """A kernel as one types it: a size, or what :func:`starconv.data.kernels.parse_kernel` takes.

    A matrix of one row is a kernel for one axis; of integers, an array of integers. A .npy file may hold the kernels of
    a layer, (K, C / groups, ...).

    >>> kernel_value("3x3"), kernel_value("1 0 -1").tolist()
    ((3, 3), [1, 0, -1])
    """
    if text.replace("x", "").isdigit():
        size = per_axis_value("kernel", text)
        return size if isinstance(size, tuple) else int(size)
    import numpy as np

    from ..data.kernels import parse_kernel

    if text.lower().endswith(".npy"):
        array = _array(Path(text).expanduser())
        if array.ndim > 2:
            return array
    kernel: Any = parse_kernel(text)
    if np.all(kernel == np.rint(kernel)):
        kernel = kernel.astype(np.int64)
    return kernel[0] if len(kernel) == 1 and ";" not in text else kernel  # type: ignore[no-any-return]


def _array(path: Path) -> "NDArray[Any]":
    """The array in a .npy file."""
    import numpy as np

    from ..data.files import FileContentError

    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FileContentError(path, f"a .npy file with one array of numbers ({error})") from None
    if not isinstance(array, np.ndarray):
        raise FileContentError(path, "one array, not an archive of several")
    return array


def _numbers(text: str) -> list[float]:
    try:
        return [int(word) if word.lstrip("+-").isdigit() else float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise ArgumentValueError("bias", text, 'numbers such as "1 -2"') from None
