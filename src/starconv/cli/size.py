"""`starconv size`: the output size of a convolution, with the numbers in the formula; receptive fields of chains."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ArgumentValueError
from .console import help_text, output_console
from .parsing import layer, padding_value, per_axis_value

if TYPE_CHECKING:
    from ..geometry import Axis

__all__ = ["register"]

_EXAMPLES = """[bold]Examples[/bold]

starconv size 224 -k 7 -s 2 -p 3

starconv size 224x160 -k 3x5 -p 1:0x2 -d 2

starconv size 112 -k 4 -s 2 -p 1 --transposed

starconv size 224 --layer "conv1: k7 s2 p3" --layer "pool: k3 s2 p1" --layer "k3 p1"
"""

_FORMULA = "floor((H + p_before + p_after - d*(k - 1) - 1) / s) + 1"
_TRANSPOSED_FORMULA = "(H - 1)*s - p_before - p_after + d*(k - 1) + output_padding + 1"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("size", help=help_text(size), epilog=_EXAMPLES)(size)


def size(
    input_size: Annotated[str, typer.Argument(metavar="SIZE", help="Input size: 224, or 224x160 for rows x columns.")],
    kernel: Annotated[str | None, typer.Option("-k", "--kernel", help="Kernel size: 7, or 7x5.")] = None,
    stride: Annotated[str, typer.Option("-s", "--stride", help="Step between windows: 2, or 2x1.")] = "1",
    padding: Annotated[
        str,
        typer.Option("-p", "--padding", help="3, 3x1, before:after as in 1:2x0:1, or valid, same, full."),
    ] = "0",
    dilation: Annotated[str, typer.Option("-d", "--dilation", help="Distance between taps: 2, or 2x1.")] = "1",
    transposed: Annotated[bool, typer.Option("--transposed", help="Size of a transposed convolution.")] = False,
    output_padding: Annotated[
        str, typer.Option("--output-padding", help="Elements added at the end, of a transposed convolution only.")
    ] = "0",
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", help='A layer of a chain, "k7 s2 p3" or "name: k7 s2 p3 d1"; once per layer.'),
    ] = None,
) -> None:
    """Compute the output size of a convolution and show the formula with its numbers.

    With --layer, once per layer, show the sizes and the receptive field through a chain of layers.
    """
    sizes = _as_tuple(per_axis_value("size", input_size))
    if layers:
        if kernel is not None or transposed or (stride, padding, dilation, output_padding) != ("1", "0", "1", "0"):
            raise ArgumentValueError(
                "layer", layers[0], "no other option beside --layer: -k, -s, -p and -d go inside it"
            )
        _show_chain(sizes, layers)
        return
    if kernel is None:
        raise ArgumentValueError("kernel", kernel, "the kernel's size, -k 7 (or a chain of --layer)")
    from ..geometry import convolution_axes, per_axis, transposed_axes

    kernels = per_axis("kernel", per_axis_value("kernel", kernel), len(sizes), minimum=1)
    strides, dilations = per_axis_value("stride", stride), per_axis_value("dilation", dilation)
    pads, extra = padding_value(padding), per_axis_value("output_padding", output_padding)
    if transposed:
        axes = transposed_axes(sizes, kernels, strides, pads, extra, dilations)
        extras = per_axis("output_padding", extra, len(sizes), minimum=0)
        lines = [_transposed_line(axis, extra) for axis, extra in zip(axes, extras, strict=True)]
        results = [axis.input for axis in axes]
    else:
        if extra != 0:
            raise ArgumentValueError("output_padding", output_padding, "0 unless --transposed")
        axes = convolution_axes(sizes, kernels, strides, pads, dilations)
        lines = [_line(axis) for axis in axes]
        results = [axis.output for axis in axes]
    console = output_console()
    console.print(f"output = {_TRANSPOSED_FORMULA if transposed else _FORMULA}", markup=False, style="dim")
    names = _axis_names(len(sizes))
    for name, line in zip(names, lines, strict=True):
        console.print(f"{name:<6} = {line}", markup=False)
    if len(results) > 1:
        console.print(f"output = {_by(results)}", markup=False, style="bold")


def _line(axis: "Axis") -> str:
    inside = f"{axis.input} + {axis.before} + {axis.after} - {axis.dilation}*({axis.kernel} - 1) - 1"
    return f"floor(({inside}) / {axis.stride}) + 1 = {axis.output}"


def _transposed_line(axis: "Axis", extra: int) -> str:
    # The axis carries an output padding of a stride or more as less padding; the formula shows both as given.
    after = axis.after + (extra if extra >= axis.stride else 0)
    return (
        f"({axis.output} - 1)*{axis.stride} - {axis.before} - {after} + {axis.dilation}*({axis.kernel} - 1) "
        f"+ {extra} + 1 = {axis.input}"
    )


def _show_chain(sizes: tuple[int, ...], texts: Sequence[str]) -> None:
    from rich.table import Table

    from ..geometry import convolution_axes, receptive_field

    stack: list[tuple[Axis, ...]] = []
    table = Table("layer", "kernel", "stride", "padding", "dilation", "output", "receptive field", "jump", title=None)
    table.add_row("input", "", "", "", "", _by(sizes), _by([1] * len(sizes)), _by([1] * len(sizes)))
    current = sizes
    fields = []
    for number, text in enumerate(texts, 1):
        given = layer(text, number)
        kernels = _as_tuple(given.kernel) * (len(sizes) if isinstance(given.kernel, int) else 1)
        axes = convolution_axes(current, kernels, given.stride, given.padding, given.dilation)
        stack.append(axes)
        current = tuple(axis.output for axis in axes)
        fields = [receptive_field(layers) for layers in zip(*stack, strict=True)]
        table.add_row(
            given.name,
            _by([axis.kernel for axis in axes]),
            _by([axis.stride for axis in axes]),
            _by([axis.before if axis.before == axis.after else f"{axis.before}:{axis.after}" for axis in axes]),
            _by([axis.dilation for axis in axes]),
            _by(current),
            _by([field.size for field in fields]),
            _by([field.jump for field in fields]),
        )
    console = output_console()
    console.print(table)
    console.print(
        f"One output element sees {_by([field.size for field in fields])} input elements; its neighbour sees the same, "
        f"moved by {_by([field.jump for field in fields])}. The first one starts at "
        f"{', '.join(str(field.start) for field in fields)} (below 0 is padding).",
        markup=False,
    )


def _axis_names(count: int) -> tuple[str, ...]:
    """What the axes of 1-, 2- and 3-D data are called."""
    if count == 1:
        return ("output",)
    return ("depth", "height", "width")[-count:] if count <= 3 else tuple(f"axis {axis}" for axis in range(count))


def _as_tuple(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else value


def _by(values: Sequence[object]) -> str:
    """(7, 5) as ``7x5``, the way one types it."""
    return "x".join(map(str, values))
