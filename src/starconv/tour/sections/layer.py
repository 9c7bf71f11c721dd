"""A convolutional layer with three input channels, step by step, with its shapes."""

from functools import partial

import numpy as np

from ...data.kernels import format_kernel
from ..draw import brightness, scale_limit, signed
from ..html import Mark, digits, figure, grid, legend, paragraphs, picture, row, shape
from ..mathml import formula, name, op, sub, summation
from ..section import Names, Section

CODE = """\
mean = np.full((3, 3), 1 / 9)
weights = np.array([[mean, -mean / 2, -mean / 2],   # red, less green, blue
                    [K / 3, K / 3, K / 3]])         # edges in all colours
bias = np.array([-0.1, 0.2])

layer = sc.conv2d(rgb, weights, bias, padding=1)    # the layer, in one call

# The same for s = 0: one 2-D convolution per input channel ...
steps = [sc.conv2d(rgb[[r]], weights[:1, [r]], padding=1)[0]
         for r in range(3)]
total = steps[0] + steps[1] + steps[2]              # ... summed ...
output = total + bias[0]                            # ... and the bias added.
difference = np.abs(output - layer[0]).max()
assert difference < 1e-12

at = np.unravel_index(output.argmax(), output.shape)    # one pixel to follow
"""
CHANNELS = ("red", "green", "blue")


def show(names: Names) -> str:
    """The formula, the shapes as boxes, the steps for output channel 0, and the second channel."""
    rgb, weights, layer = names["rgb"], names["weights"], names["layer"]
    steps, total, output, bias = names["steps"], names["total"], names["output"], names["bias"]
    limit = scale_limit(np.stack([*steps, total]), 99.9)
    at = int(names["at"][0]), int(names["at"][1])
    ring = Mark(at, 1)
    kernel_palette = partial(signed, limit=float(np.abs(weights[0]).max()))
    columns = []
    for number, channel in enumerate(CHANNELS):
        columns.append(
            '<div class="step">'
            + picture(brightness(rgb[number]), f"<var>X</var>[{number}] {channel}", alt=f"The {channel} channel")
            + '<span class="operator">⋆</span>'
            + grid(
                weights[0, number],
                f"<var>K</var>[0][{number}]",
                palette=kernel_palette,
                kind="small",
                text=_fraction,
            )
            + '<span class="operator">=</span>'
            + picture(
                signed(steps[number], limit),
                f"{digits(steps[number][at])} at ◯",
                alt=f"Channel {channel} convolved",
                marks=[ring],
            )
            + "</div>"
        )
    sums = " + ".join(f"({digits(step[at], 3)})" if step[at] < 0 else digits(step[at], 3) for step in steps)
    ends = row(
        picture(
            signed(total, limit),
            f"sum of the steps {shape(total)}",
            alt="The sum of the three",
            marks=[ring],
            footer=legend(limit),
        ),
        picture(
            signed(output, limit),
            f"<var>O</var>[0] = sum + ({digits(bias[0])}) {shape(output)}",
            alt="The first output channel",
            marks=[ring],
            footer=legend(limit),
        ),
        picture(
            signed(layer[1], edge_limit := scale_limit(layer[1])),
            f"<var>O</var>[1] {shape(layer[1])}",
            alt="The second output channel",
            footer=legend(edge_limit),
        ),
        kind="pictures",
    )
    s, r = name("s"), name("r")
    return (
        paragraphs(
            "A layer of a network has several input channels and makes several output channels. For each output "
            "channel <var>s</var> it has one kernel <em>per input channel</em> <var>r</var>, and one number "
            "<var>b</var>, the <em>bias</em>:"
        )
        + formula(
            sub(name("O"), s),
            op("="),
            summation(r),
            sub(name("X"), r),
            op("⋆"),
            sub(name("K"), s, r),
            op("+"),
            sub(name("b"), s),
        )
        + figure(
            _boxes(rgb.shape, weights.shape, layer.shape),
            f"The shapes. Input {shape(rgb)}, kernels {shape(weights)}, bias {shape(bias)}, output {shape(layer)}: "
            f"with {' · '.join(map(str, weights.shape))} + {bias.size} = {weights.size + bias.size} parameters, "
            "however large the picture is.",
        )
        + paragraphs(
            "The first output channel of this layer is made to find what is redder than it is green or blue: it adds "
            "the red around a pixel and subtracts half the green and half the blue. Step by step, that is three "
            "convolutions of one channel each, a sum, and the bias:"
        )
        + figure(
            f'<div class="steps">{"".join(columns)}</div>',
            "One two-dimensional convolution per input channel.",
        )
        + figure(
            ends,
            "The sum, the bias added, and (with the same input) the second output channel, which finds horizontal "
            f"edges. At the marked pixel, {at}: {sums} + ({digits(bias[0], 3)}) = {digits(output[at], 3)}.",
        )
        + paragraphs(
            f"The layer in one call and the steps by hand differ by at most {digits(names['difference'])}, no more "
            "than the rounding of the sums."
        )
    )


def _fraction(value: float) -> str:
    return format_kernel(np.array([[value]]))[0][0].replace("-", "−")


def _boxes(given: tuple[int, ...], kernels: tuple[int, ...], made: tuple[int, ...]) -> str:
    """Input, kernels and output as stacks of sheets, labelled with their sizes."""
    parts = [_stack(20, 60, 120, given[0], "x"), _label(80, 232, f"{given[0]} × {given[1]} × {given[2]}", "input X")]
    for s in range(kernels[0]):
        y = 50 + 84 * s
        parts += [_stack(265, y, 34, kernels[1], f"o{s}"), f'<text x="336" y="{y + 24}">K[{s}]</text>']
        parts.append(f'<path class="arrow" d="M 178 {112 + 8 * s} C 215 {112 + 8 * s}, 215 {y + 22}, 255 {y + 22}"/>')
        parts.append(f'<path class="arrow" d="M 372 {y + 22} C 410 {y + 22}, 410 {112 + 8 * s}, 440 {112 + 8 * s}"/>')
        parts.append(f'<text class="quiet" x="400" y="{y + (-2 if s == 0 else 52)}">+ b[{s}]</text>')
    size = f"{kernels[0]} kernels of {' × '.join(map(str, kernels[1:]))}"
    parts += [_label(316, 232, size, "kernels K, bias b")]
    parts += [_stack(455, 60, 120, made[0], "o"), _label(520, 232, " × ".join(map(str, made)), "output O")]
    return (
        '<svg class="diagram boxes" viewBox="0 0 620 262" style="max-width:46rem" role="img" '
        f'aria-label="The shapes of a layer: {given[0]} channels in, {made[0]} out">{"".join(parts)}</svg>'
    )


def _stack(x: float, y: float, size: float, count: int, kind: str) -> str:
    sheets = []
    gap = 14 if size > 60 else 8
    for sheet in reversed(range(count)):
        colour = f"{kind}{sheet}" if len(kind) == 1 else kind
        offset = gap * sheet
        sheets.append(
            f'<rect class="{colour}" x="{x + offset}" y="{y + offset * 0.7:g}" width="{size}" height="{size}" rx="3"/>'
        )
    return "".join(sheets)


def _label(x: float, y: float, sizes: str, what: str) -> str:
    return f'<text x="{x}" y="{y}">{what}</text><text class="quiet" x="{x}" y="{y + 20}">{sizes}</text>'


SECTION = Section("layer", "A layer, step by step", CODE, show)
