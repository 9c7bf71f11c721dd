"""Commands that draw one figure to a file: channels, shapes, template, matrix, gradient, field, equivariance."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ArgumentValueError
from .console import help_text, output_console, shown
from .parsing import number_list, padding_value, per_axis_value
from .slide import input_value, kernel_value

if TYPE_CHECKING:
    from ..view.save import Still

__all__ = ["register", "write_figure"]

Output = Annotated[Path, typer.Option("-o", "--output", help="File to write: .png, .svg, .pdf or .html.")]
Input = Annotated[
    str,
    typer.Option("-i", "--input", help="Size of a generated input (7x7, 12, 3x6x6 with channels), a picture, or .npy."),
]
Kernel = Annotated[
    str,
    typer.Option(
        "-k", "--kernel", help='Size of a generated kernel (3x3, 2x3x3x3), a name, a matrix "1 0 -1; …", or a file.'
    ),
]
Stride = Annotated[str, typer.Option("-s", "--stride", help="Step between windows: 2, or 2x1.")]
Padding = Annotated[
    str, typer.Option("-p", "--padding", help="1, 1x2, before:after as in 1:2x0:1, or valid, same, full.")
]
Dilation = Annotated[str, typer.Option("-d", "--dilation", help="Distance between taps: 2, or 2x1.")]
Groups = Annotated[int, typer.Option("-g", "--groups", help="Groups of channels that do not see each other.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Decides generated numbers.")]
ThemeName = Annotated[str, typer.Option("--theme", help="light or dark.")]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "-l",
        "--layer",
        help='A layer, once per layer: "conv 64x3x3 stride=2 padding=1", "pool 2x2", "transposed 8x2x2 stride=2", '
        '"dense 10", "k3 s2 p1", or "skip(conv 8x3x3 padding=1 | conv 8x1x1)".',
    ),
]
At = Annotated[str | None, typer.Option("--at", help="The output element to follow: 3x4; by default the middle.")]

_EXAMPLES: dict[str, tuple[str, ...]] = {
    "channels": (
        "--input 3x6x6 --kernel 2x3x3x3 --padding 1 -o channels.png",
        "--input photo.jpg --kernel 4x3x5x5 --theme dark -o photo-channels.png",
        "--input 8x6x6 --kernel 16x8x3x3 --inputs 0,3 --outputs 5,12-13 -o some.svg",
    ),
    "shapes": (
        "--input 3x224x224 --kernel 64x3x7x7 --stride 2 --padding 3 -o layer.svg",
        '--input 1x28x28 -l "conv 6x5x5 padding=2" -l "pool 2x2" -l "conv 16x5x5" -l "dense 10" -o network.svg',
    ),
    "template": (
        "--input photo.png --kernel horizontal-edges -o edges.png",
        '--input 12x12 --kernel "1 0 -1; 2 0 -2; 1 0 -1" --matches 3 -o template.svg',
    ),
    "matrix": (
        "--input 7x7 --kernel 3x3 -o matrix.png",
        '--input 9 --kernel "1 2 -1" --dilation 2 --at 3 -o toeplitz.svg',
    ),
    "gradient": (
        "--input 6x6 --kernel 3x3 --tap 0x1 -o gradient.png",
        "--input 2x6x6 --kernel 4x2x3x3 --stride 2 --tap 1x0x2x2 -o strided.svg",
    ),
    "field": (
        '--input photo.png -l "conv 64x7x7 stride=2 padding=3" -l "pool 3x3 stride=2 padding=1" -o field.png',
        "--input 32x32 --kernel 3x3 --dilation 4 --padding 4 --at 0x0 -o corner.svg",
        '--input 64x64 -l "k3 s2 p1" -l "skip(conv 8x3x3 padding=1; conv 8x3x3 padding=1)" -o skip.png',
    ),
    "equivariance": (
        "--input 16x16 --kernel horizontal-edges --padding 1 --shift 3x2 -o shift.png",
        "--input photo.png --kernel sobel-x --stride 2 --shift 3 -o stride.png",
    ),
}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (channels, shapes, template, matrix, gradient, field, equivariance):
        name = command.__name__
        examples = "\n\n".join(f"starconv {name} {arguments}" for arguments in _EXAMPLES[name])
        app.command(name, help=help_text(command), epilog=f"[bold]Examples[/bold]\n\n{examples}")(command)


def channels(
    output: Output,
    input: Input = "3x6x6",
    kernel: Kernel = "2x3x3x3",
    stride: Stride = "1",
    padding: Padding = "0",
    dilation: Dilation = "1",
    groups: Groups = 1,
    bias: Annotated[str | None, typer.Option("--bias", help='One number per output channel: "1 -2".')] = None,
    inputs: Annotated[
        str | None, typer.Option("--inputs", help="Input channels to draw one by one: 0,3 or 0-5; the first 4.")
    ] = None,
    outputs: Annotated[
        str | None, typer.Option("--outputs", help="Output channels to draw: 5,12-13; the first 2.")
    ] = None,
    seed: Seed = 0,
    theme: ThemeName = "light",
) -> None:
    """Draw how a layer adds up its channels: a convolution per input channel, their sum, the bias.

    Pictures in colour have three channels here.
    """
    from ..view.channels import channels as draw
    from .slide import _numbers

    options = _geometry(stride, padding, dilation)
    biases = None if bias is None else _numbers(bias)
    drawing = draw(
        _colour_input(input),
        kernel_value(kernel),
        biases,
        *options,
        groups,
        input_channels=None if inputs is None else number_list("inputs", inputs),
        output_channels=None if outputs is None else number_list("outputs", outputs),
        seed=seed,
        theme=theme,
    )
    write_figure(drawing, output)


def shapes(
    output: Output,
    input: Annotated[str, typer.Option("-i", "--input", help="Size 3x224x224 with channels, a picture, or .npy.")],
    layers: Layers = None,
    kernel: Annotated[
        str | None, typer.Option("-k", "--kernel", help="Instead of --layer: kernels 64x3x7x7, or their file.")
    ] = None,
    stride: Stride = "1",
    padding: Padding = "0",
    dilation: Dilation = "1",
    groups: Groups = 1,
    theme: ThemeName = "light",
) -> None:
    """Draw input, kernels and output as boxes with their sizes; of several layers, the chain of boxes."""
    from ..view.layers import Layer
    from ..view.shapes import shapes as draw

    size = _shape(_colour_input(input))
    if len(size) < 2 or (len(size) == 2 and min(size) > 4):
        size = (1, *size)  # a picture or signal without channels
    stack: Any = _layers(layers, kernel)
    if kernel is not None:
        taps = _shape(kernel_value(kernel))
        if len(taps) < len(size) + 1:
            taps = (1, size[0] // max(groups, 1), *(taps * (len(size) - 1) if len(taps) == 1 else taps))
        if taps[1] * groups != size[0]:
            expected = f"kernels (K, {size[0] // max(groups, 1)}, ...) for {size[0]} input channels"
            raise ArgumentValueError("kernel", taps, expected, input_shape=size)
        steps, pads, spread = _geometry(stride, padding, dilation)
        stack = Layer("conv", taps[0], taps[2:], steps, pads, spread, groups=groups)
    write_figure(draw(size, stack, theme=theme), output)


def template(
    output: Output,
    input: Input = "12x12",
    kernel: Kernel = "horizontal-edges",
    stride: Stride = "1",
    padding: Padding = "0",
    dilation: Dilation = "1",
    matches: Annotated[int, typer.Option("--matches", min=1, help="How many of the best and the worst to show.")] = 4,
    seed: Seed = 0,
    theme: ThemeName = "light",
) -> None:
    """Draw which patches of a picture match the kernel best and worst, and the response everywhere."""
    from ..view.slide import generated
    from ..view.template import template as draw

    x, taps = generated(input_value(input), kernel_value(kernel), seed=seed)
    write_figure(draw(x, taps, *_geometry(stride, padding, dilation), matches=matches, theme=theme), output)


def matrix(
    output: Output,
    input: Input = "7x7",
    kernel: Kernel = "3x3",
    stride: Stride = "1",
    padding: Padding = "0",
    dilation: Dilation = "1",
    groups: Groups = 1,
    at: At = None,
    seed: Seed = 0,
    theme: ThemeName = "light",
) -> None:
    """Draw a convolution as its sparse matrix, linked to the picture, and the transposed matrix at work."""
    from ..view.matrix import matrix as draw

    options = (*_geometry(stride, padding, dilation), groups)
    write_figure(
        draw(input_value(input), kernel_value(kernel), *options, at=_place("at", at), seed=seed, theme=theme), output
    )


def gradient(
    output: Output,
    input: Input = "6x6",
    kernel: Kernel = "3x3",
    stride: Stride = "1",
    padding: Padding = "0",
    dilation: Dilation = "1",
    groups: Groups = 1,
    tap: Annotated[
        str | None, typer.Option("--tap", help="The kernel entry to follow: 0x1, or 1x0x2x2 with its channels.")
    ] = None,
    seed: Seed = 0,
    theme: ThemeName = "light",
) -> None:
    """Draw which elements meet in the gradient of one kernel entry, and the gradients of kernel and input.

    What comes back from the loss is 1 for every output element.
    """
    from ..view.gradient import gradient as draw

    options = (None, *_geometry(stride, padding, dilation), groups)
    write_figure(
        draw(input_value(input), kernel_value(kernel), *options, tap=_place("tap", tap), seed=seed, theme=theme), output
    )


def field(
    output: Output,
    input: Input = "32x32",
    layers: Layers = None,
    kernel: Annotated[
        str | None, typer.Option("-k", "--kernel", help="Instead of --layer: the size of one kernel, 3x3.")
    ] = None,
    stride: Stride = "1",
    padding: Padding = "0",
    dilation: Dilation = "1",
    at: At = None,
    theme: ThemeName = "light",
) -> None:
    """Draw the receptive field of one output element through a stack of layers: by the geometry, and measured."""
    from ..view.field import receptive_field as draw
    from ..view.layers import Layer

    stack: Any = _layers(layers, kernel)
    if kernel is not None:
        size = _shape(kernel_value(kernel))
        steps, pads, spread = _geometry(stride, padding, dilation)
        stack = Layer("conv", 1, size[-2:], steps, pads, spread)
    x = input_value(input)
    if isinstance(x, tuple):
        x = x[-2:]
    write_figure(draw(stack, x, _place("at", at), theme=theme), output)


def equivariance(
    output: Output,
    input: Input = "16x16",
    kernel: Kernel = "3x3",
    stride: Stride = "1",
    padding: Padding = "0",
    dilation: Dilation = "1",
    shift: Annotated[str, typer.Option("--shift", help="Input elements down and to the right: 2, or 3x2.")] = "2",
    seed: Seed = 0,
    theme: ThemeName = "light",
) -> None:
    """Draw shift, then convolve, against convolve, then shift; beside it a layer without shared weights."""
    from ..view.equivariance import equivariance as draw

    by = per_axis_value("shift", shift)
    options = (by, *_geometry(stride, padding, dilation))
    write_figure(draw(input_value(input), kernel_value(kernel), *options, seed=seed, theme=theme), output)


def _geometry(stride: str, padding: str, dilation: str) -> tuple[Any, Any, Any]:
    return per_axis_value("stride", stride), padding_value(padding), per_axis_value("dilation", dilation)


def _layers(layers: Any, kernel: str | None) -> Any:
    """What --layer says, where --kernel does not say it."""
    if kernel is not None and layers:
        raise ArgumentValueError("layer", layers[0], "--kernel or --layer, not both")
    if kernel is None and not layers:
        raise ArgumentValueError("layer", layers, 'a layer, such as --layer "conv 64x7x7 stride=2 padding=3"')
    return layers


def _place(argument: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    value = per_axis_value(argument, text)
    return value if isinstance(value, tuple) else (value,)


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of an array, or the size itself."""
    if isinstance(value, int):
        return (value,)
    return value if isinstance(value, tuple) else tuple(value.shape)


def _colour_input(text: str) -> Any:
    """As :func:`input_value`, but a picture in colour keeps its three channels, (3, H, W)."""
    suffix = Path(text).suffix.lower()
    if suffix in ("", ".npy"):
        return input_value(text)
    import numpy as np

    from ..data.images import read_image

    pixels = read_image(Path(text).expanduser()).array
    return np.moveaxis(np.atleast_3d(pixels), -1, 0)


def write_figure(drawing: "Still", output: Path) -> None:
    """Write a figure to the file and say what it shows and where it is."""
    drawing.save(output)
    console = output_console()
    console.print(drawing.description, markup=False)
    console.print(f"wrote {shown(output)}", markup=False, style="dim")
