"""Input, kernels and output as boxes in perspective with C, H and W written on; a whole network as a chain of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ArgumentValueError
from .layers import Layer, Skip, Stage, stages
from .panels import Sheet
from .save import Still
from .theme import text_width

if TYPE_CHECKING:
    from .theme import Theme

__all__ = ["ShapesData", "shapes"]

LARGEST = 1.9
"""Inches of the longest side of a box in a chain; less in long ones."""
SMALLEST = 0.10
"""Inches below which no side is drawn, so that 1 x 1 x 1 is still seen."""
SLANT = (0.42, 0.30)
"""Where one inch of depth (channels) goes on paper: to the right and up, an oblique projection."""
KERNELS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class ShapesData:
    """What :func:`shapes` draws: the shapes (C, H, W) that go through, and what the layers do to them."""

    input_shape: tuple[int, ...]
    stages: tuple[Stage, ...]

    @property
    def parameters(self) -> int:
        """Weights and biases of all layers."""
        return sum(stage.parameters for stage in self.stages)


def shapes(
    input_shape: Sequence[int],
    layers: object,
    *,
    theme: str | Theme = "light",
) -> Still:
    """Draw the shapes of a layer, or of a network as a chain, as boxes in perspective.

    Args:
        input_shape: (C, H, W), or (C, W).
        layers: text such as ``"conv 64x7x7 stride=2 padding=3; pool 3x3 stride=2 padding=1; dense 10"``, a
            :class:`~starconv.view.layers.Layer`, or a sequence of them. One convolution is drawn with its kernels.
        theme: "light" or "dark".

    Returns:
        The drawing; ``.data`` is its :class:`ShapesData`.

    Raises:
        ArgumentValueError, ArgumentTypeError: layers that do not fit together, or none.
    """
    shape = tuple(int(size) for size in input_shape)
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ArgumentValueError("input_shape", tuple(input_shape), "(C, H, W) or (C, W), each at least 1")
    data = ShapesData(shape, stages(shape, layers))
    if not data.stages:
        raise ArgumentValueError("layers", layers, "at least one layer, such as 'conv 8x3x3 padding=1'")
    single = data.stages[0].layer
    if len(data.stages) == 1 and isinstance(single, Layer) and single.kind != "pool":
        return _draw_layer(data, single, theme)
    return _draw_chain(data, theme)


@dataclass(frozen=True, slots=True)
class _Box:
    """A box on paper: sides in inches, and the shape that it stands for."""

    shape: tuple[int, ...]
    deep: float
    high: float
    wide: float

    @property
    def width(self) -> float:
        """Inches across, the slanted depth included."""
        return self.wide + self.deep * SLANT[0]

    @property
    def height(self) -> float:
        """Inches down, the slanted depth included."""
        return self.high + self.deep * SLANT[1]


def _box(shape: Sequence[int], unit: float, largest: float = LARGEST) -> _Box:
    """`shape` (C, H, W) as a box: sides grow with the square root, so that 3 and 512 fit on one page."""
    channels, *size = shape
    high, wide = (1, size[0]) if len(size) == 1 else size
    deep, tall, broad = (min(max(math.sqrt(side) * unit, SMALLEST), largest) for side in (channels, high, wide))
    return _Box(tuple(shape), deep, tall, broad)


def _unit(shapes: Sequence[Sequence[int]], largest: float) -> float:
    return largest / math.sqrt(max(max(shape) for shape in shapes))


def _draw_box(
    sheet: Sheet, box: _Box, left: float, middle: float, fill: str, edge: str, *, sizes: bool = True, size: float = 10.0
) -> None:
    """Draw `box` with its left edge at `left` and its middle at `middle`: front face, top and right side."""
    top = middle - box.height / 2 + box.deep * SLANT[1]
    right, bottom = left + box.wide, top + box.high
    dx, dy = box.deep * SLANT[0], -box.deep * SLANT[1]
    sheet.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill, edge)
    sheet.polygon([(left, top), (left + dx, top + dy), (right + dx, top + dy), (right, top)], fill, edge)
    sheet.polygon([(right, top), (right + dx, top + dy), (right + dx, bottom + dy), (right, bottom)], fill, edge)
    if sizes:
        channels, *area = box.shape
        colour = sheet.theme.text
        if len(area) == 2:
            sheet.text(left - 0.06, (top + bottom) / 2, str(area[0]), size=size, across="right", colour=colour)
        sheet.text((left + right) / 2, bottom + 0.13, str(area[-1]), size=size, colour=colour)
        # Beside the slanted upper left edge, where no neighbour's text is.
        sheet.text(
            left + dx / 2 - 0.05,
            top + dy / 2 - 0.09,
            str(channels),
            size=size,
            across="right",
            colour=edge,
            weight="bold",
        )


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _letters(name: str, shape: Sequence[int], layer: Layer | None = None) -> str:
    """What the sizes of `shape` are called: C×H×W, K×C×k×k, ..."""
    if name != "kernels" or layer is None:
        return ("K" if name == "output" else "C") + ("×H×W" if len(shape) == 3 else "×W")
    first, second = "CK" if layer.kind == "transposed" else "KC"
    return "×".join([first, second + ("/groups" if layer.groups > 1 else ""), *"k" * (len(shape) - 2)])


def _draw_layer(data: ShapesData, layer: Layer, theme: str | Theme) -> Still:
    """One layer: the input's box, its kernels' boxes, the output's box."""
    stage = data.stages[0]
    weights = layer.weight_shape(data.input_shape)
    # A transposed layer's kernels lie (C, K / groups, ...): one per input channel.
    count, kernel_shape = weights[0], weights[1:]
    largest = 2.2
    unit = _unit([data.input_shape, stage.output_shape], largest)
    before, kernel, after = (
        _box(shape, unit, largest) for shape in (data.input_shape, kernel_shape, stage.output_shape)
    )
    shown = min(count, KERNELS_SHOWN)
    step = max(kernel.height + 0.38, 0.62)
    dots = 0.3 if count > shown else 0.0
    tall = max(before.height, after.height, shown * step + dots)
    middle = 1.2 + 0.35 + tall / 2
    gap = 0.85
    k_width = max(kernel.width + 0.3, 1.5)
    width = 0.85 + before.width + gap + k_width + gap + after.width + 0.6
    kernels = f"{count} kernel{'s' * (count > 1)}"
    title = f"{_times(data.input_shape)} ⋆ {kernels} {_times(kernel_shape)} → {_times(stage.output_shape)}"
    each = "output channel" if layer.kind != "transposed" else "input channel"
    biases = f"{stage.output_shape[0]} bias{'es' * (stage.output_shape[0] > 1)}"
    subtitle = (
        f"{layer}:  one kernel per {each};  {_times(weights)} weights + {biases} = {stage.parameters:,} parameters"
    )
    width = max(width, 1.1 + text_width(title, 15, "bold"), 1.1 + 1.03 * text_width(subtitle, 10.5))
    sheet = Sheet(theme, width, middle + tall / 2 + 1.3, title, subtitle)
    look = sheet.theme
    x = (width - (before.width + gap + k_width + gap + after.width)) / 2 + 0.15
    left_input, left_kernels = x, x + before.width + gap
    left_output = left_kernels + k_width + gap
    _draw_box(sheet, before, left_input, middle, look.input_fill, look.input)
    start = middle - (shown * step + dots) / 2 + step / 2
    at = left_kernels + (k_width - kernel.width) / 2
    for number in range(shown):
        _draw_box(sheet, kernel, at, start + number * step, look.kernel_fill, look.kernel, sizes=True)
    if dots:
        sheet.label(left_kernels + k_width / 2, start + (shown - 0.5) * step + dots / 2 + 0.06, f"… {count} in all")
    _draw_box(sheet, after, left_output, middle, look.output_fill, look.output)
    sheet.text(left_kernels - gap / 2 + 0.05, middle, "⋆", size=20, colour=look.muted)
    sheet.arrow((left_output - gap * 0.85, middle), (left_output - 0.42, middle))
    base = middle + tall / 2 + 0.52
    for place, wide, name, shape, colour in (
        (left_input, before.width, "input", data.input_shape, look.input),
        (left_kernels, k_width, "kernels", weights, look.kernel),
        (left_output, after.width, "output", stage.output_shape, look.output),
    ):
        sheet.text(place + wide / 2, base, name, weight="bold", colour=colour)
        sheet.label(place + wide / 2, base + 0.24, _letters(name, shape, layer))
    sheet.label(0.35, sheet.height - 0.2, "Sides grow with the square root of their length.", across="left")
    return Still(sheet.figure, f"The shapes of a layer: {title}.", data)


def _draw_chain(data: ShapesData, theme: str | Theme) -> Still:
    """A network: the box of what goes into and out of each layer, with the layer's name on the arrow between them."""
    shapes = [data.input_shape, *(stage.output_shape for stage in data.stages)]
    # Long chains get smaller boxes, so that they stay on a page.
    largest = min(LARGEST, max(0.8, 17 / len(shapes)))
    unit = _unit(shapes, largest)
    boxes = [_box(shape, unit, largest) for shape in shapes]
    notes = ["input", *(_words(stage.layer) for stage in data.stages)]
    slots = []
    for box, note, shape in zip(boxes, notes, shapes, strict=True):
        words = max(text_width(line, 10) for line in (*note.split("\n"), _times(shape)))
        side = text_width(str(shape[1]), 10) if len(shape) == 3 else 0.0
        slots.append(max(box.width + side + 0.55, words + 0.3))
    rows = _rows(slots, 12.6)
    width = max(max(sum(slots[i] for i in row) for row in rows) + 0.7, 7.2)
    lines = max(note.count("\n") for note in notes) + 1
    tall = max(box.height for box in boxes)
    step = tall + 1.05 + 0.19 * lines
    count = f"{len(data.stages)} layer{'s' * (len(data.stages) > 1)}"
    title = f"{_times(data.input_shape)} → {_times(shapes[-1])} through {count}"
    letters = _letters("input", data.input_shape)
    subtitle = f"{data.parameters:,} parameters; every box is {letters}, its sides grow with the square root"
    sheet = Sheet(theme, width, 1.05 + step * len(rows) + 0.1, title, subtitle)
    look = sheet.theme
    for number, row in enumerate(rows):
        x = 0.35 if len(rows) > 1 else (width - sum(slots[i] for i in row)) / 2
        middle = 1.05 + number * step + 0.3 + tall / 2
        for index in row:
            box, slot = boxes[index], slots[index]
            fill, edge = (look.output_fill, look.output) if index else (look.input_fill, look.input)
            side = text_width(str(box.shape[1]), 10) if len(box.shape) == 3 else 0.0
            left = x + (slot - box.width + side + 0.1) / 2
            _draw_box(sheet, box, left, middle, fill, edge)
            if index:
                # From the middle of the gap to what is written left of the box.
                sheet.arrow((left - side - 0.42, middle), (left - side - 0.14, middle))
            sheet.text(x + slot / 2, middle + tall / 2 + 0.36, _times(box.shape), size=10, weight="bold", colour=edge)
            sheet.label(x + slot / 2, middle + tall / 2 + 0.48, notes[index], along="top")
            x += slot
    return Still(sheet.figure, f"The shapes of a network: {title}.", data)


def _rows(slots: Sequence[float], width: float) -> list[list[int]]:
    """The chain broken into lines of at most `width` inches."""
    rows: list[list[int]] = [[]]
    for index, slot in enumerate(slots):
        if rows[-1] and sum(slots[i] for i in rows[-1]) + slot > width:
            rows.append([])
        rows[-1].append(index)
    return rows


def _words(layer: Layer | Skip) -> str:
    """A layer in short lines: its name and sizes, then one option per line."""
    if isinstance(layer, Skip):
        return "\n+\n".join("\n".join(_words(inner) for inner in path) or "input" for path in layer.paths)
    words = str(layer).replace("output_padding", "extra").split()
    head = " ".join(word for word in words if "=" not in word).replace("x", "×")
    head = "pool over all" if head == "pool" else head
    return "\n".join([head, *(word.replace("=", " ").replace("x", "×") for word in words if "=" in word)])
