"""The two ways to show a convolution step by step: windows that gather, and (transposed only) elements that stamp.

Numbers are drawn from the steps of a :class:`~starconv.view.trace.Trace`; this file computes none of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .canvas import number_size, numbers
from .slide_draw import Scene, Stack
from .theme import Theme, data_limits, format_number, text_width, tidy
from .trace import Cell, Number, Part, Stamp, Step, Trace, size_text

__all__ = ["GatherScene", "StampScene", "stamp_text", "sum_text"]

Array = NDArray[Any]

MOST_TERMS = 32
"""Products that are still written out one by one."""
LONGEST_LINE = 90
"""Characters of a sum in one line; more make another."""


class GatherScene(Scene):
    """Every frame is one output element: the window over the input, the products, the sum."""

    def __init__(self, trace: Trace, theme: Theme, title: str, numbers: Sequence[int]) -> None:
        super().__init__(trace, theme, title)
        self.numbers = list(numbers)
        self.frames = len(self.numbers)
        shown_input, self.shown_output = self.tidied(trace.canvas, "input"), self.tidied(trace.output, "output")
        members = trace.kernels.shape[1]
        taps = trace.kernels.shape[2:]
        names = ("patch", "turned kernel" if trace.transposed else "kernel", "products")
        self.lay_out((trace.canvas.shape, trace.output.shape), members, taps, taps, names)
        look = theme
        padding = trace.cells > Cell.INPUT
        self.input_pixels = self.as_pixels(self.stacks[0][0], shown_input)
        self.output_pixels = self.as_pixels(self.stacks[1][0], self.shown_output)
        self.input = self.big(
            self.stacks[0],
            shown_input,
            mode="pixels" if self.input_pixels else "numbers",
            fill=look.input_fill,
            hatched=padding,
            limits=self.input_limits,
            colormap=look.signed if self.signed_input else look.grey,
        )
        self.output_options: dict[str, Any] = {"mode": "numbers", "fill": look.output_fill}
        if not self.output_pixels:
            texts = [format_number(v) for v in self.shown_output.flat]
            self.output_options["font_size"] = number_size(texts, self.stacks[1][0].cell, look)
        else:
            signed = bool(trace.output.min(initial=0) < 0)
            self.output_options = {
                "mode": "pixels",
                "limits": data_limits(trace.output, signed=signed),
                "colormap": look.signed if signed else look.grey,
            }
        blank = (
            self.big(self.stacks[1], np.zeros(trace.output.shape), mode="empty", edge=look.faint)
            if not (self.output_pixels)
            else Stack(tuple(self.stacks[1]), self.flat)
        )
        for grid in blank.grids if self.output_pixels else ():
            self.canvas.outline(grid.box(0, 0, grid.rows, grid.columns), colour=look.faint, width=1)
        self.output = blank
        self._headings()
        for start, end in self.arrow_gaps:
            if end[0] - start[0] > 0.15:
                self.canvas.arrow(start, end)

    def _headings(self) -> None:
        trace, look = self.trace, self.theme
        kinds = set(trace.cells.flat) - {Cell.INPUT}
        how = ["stretched"] * (Cell.BETWEEN in kinds) + ["padded"] * bool(kinds - {Cell.BETWEEN})
        for name, stack, colour, shape, extra in (
            ("Input", self.input, look.input, trace.x.shape, ", ".join(["", *how])),
            ("Output", self.output, look.output, trace.output.shape, ""),
        ):
            for number, grid in enumerate(stack.grids):
                each = f" {number}" if len(stack.grids) > 1 else ""
                size = size_text(shape) if self.flat else size_text((1, *shape[1:]))
                text = f"{name}{each}  {size}"
                narrow = grid.columns * grid.cell
                # A heading is set smaller where it is a little too long.
                if number == 0 and text_width(text + extra, look.label_size, "bold") * 0.85 < max(narrow, 1.6):
                    text += extra
                self.heading(grid.left, grid.top, text, colour, max(narrow, 1.25))

    def window_numbers(self, boxes: list[tuple[float, float, float, float]], part: Part) -> list[Any]:
        """The input's numbers once more, above the colour of the window."""
        placed = [
            (x + w / 2, y + h / 2, format_number(value))
            for (x, y, w, h), value, cell in zip(
                boxes, self.tidied(part.patch, "input").flat, part.cells.flat, strict=True
            )
            if cell == Cell.INPUT
        ]
        grid = self.input.grids[0 if self.flat else part.channel]
        return [numbers(self.canvas.axes, placed, grid.font_size, self.theme.text)] if placed else []

    def draw(self, number: int) -> list[Any]:
        """The artists of frame `number`."""
        trace, look = self.trace, self.theme
        step = trace.step(self.numbers[number])
        artists: list[Any] = []
        for part in step.parts:
            boxes = list(self.input.boxes(part.channel, step.window))
            side = self.input.grids[0].cell
            if not self.input_pixels:
                real = [box for box, cell in zip(boxes, part.cells.flat, strict=True) if cell == Cell.INPUT]
                artists += [self.marks(real, look.kernel_fill)] if real else []
                artists += self.window_numbers(boxes, part)
                artists += self.small_numbers(boxes, part.kernel, side)
            if step.extent != part.patch.shape and side >= 0.05:
                artists += [self.canvas.outline(box, width=2, zorder=2) for box in boxes]
            box = self.input.box(part.channel, step.corner, step.extent)
            spread = step.extent != part.patch.shape
            artists.append(
                self.canvas.outline(box, width=1.2 if spread else 3, style=":" if spread else "-", zorder=2.1)
            )
        known = np.arange(trace.output.size).reshape(trace.output.shape) <= step.index
        output = self.big(self.stacks[1], self.shown_output, shown=known, zorder=1.01, **self.output_options)
        self.drawn["output"] = output.grids
        for grid in output.grids:
            artists += grid.artists
        place = output.box(step.output[0], step.output[1:])
        artists.append(self.canvas.outline(place, colour=look.accent, width=3, zorder=2.1))
        rows = [(part.patch, part.kernel, part.products, part.cells > Cell.INPUT) for part in step.parts]
        artists += self.arithmetic(rows, [part.sum for part in step.parts])
        artists += self.sentence(
            sum_text(step, self.reach, f"output {step.output[0]}: " if len(trace.output) > 1 else "")
        )
        return artists


class StampScene(Scene):
    """Every frame is one input element of a transposed convolution: its scaled kernel is added to the output."""

    def __init__(self, trace: Trace, theme: Theme, title: str, numbers: Sequence[int]) -> None:
        super().__init__(trace, theme, title)
        self.numbers = list(numbers)
        self.frames = len(self.numbers)
        shape = trace.stamped_shape
        taps = trace.w.shape[2:]
        first = (1,) * len(taps)
        self.lay_out((trace.x.shape, shape), trace.w.shape[1], taps, first, ("value", "kernel", "stamp"))
        look = theme
        axes = trace.problem.axes
        inside = np.ones((), bool)
        for axis, length in zip(axes, shape[1:], strict=True):
            along = np.arange(length)
            inside = inside[..., np.newaxis] & ((along >= axis.before) & (along < axis.before + axis.input))
        self.margin = ~inside
        self.totals = [trace.stamped(0)]
        for stamp in trace.stamps():
            self.totals.append(self.totals[-1].copy())
            self.totals[-1][np.ix_(stamp.channels, *stamp.window)] += stamp.products
        self.input_pixels = self.as_pixels(self.stacks[0][0], self.tidied(trace.x, "input"))
        self.output_pixels = self.as_pixels(self.stacks[1][0], self.tidied(self.totals[-1], "output"))
        self.input = self.big(
            self.stacks[0],
            self.tidied(trace.x, "input"),
            mode="pixels" if self.input_pixels else "numbers",
            fill=look.input_fill,
            limits=self.input_limits,
            colormap=look.signed if self.signed_input else look.grey,
        )
        self.touched: Array = np.zeros(shape, bool)
        names = [("Input", self.input.grids, look.input, trace.x.shape)]
        names.append(("Output", tuple(self.stacks[1]), look.output, trace.output.shape))
        for name, grids, colour, sizes in names:
            for number, grid in enumerate(grids):
                each = f" {number}" if len(grids) > 1 else ""
                size = size_text(sizes) if self.flat else size_text((1, *sizes[1:]))
                text = f"{name}{each}  {size}"
                if name == "Output" and number == 0 and self.margin.any():
                    text += ", hatched is cut off"
                self.heading(grid.left, grid.top, text, colour, max(grid.columns * grid.cell, 1.25))
        for start, end in self.arrow_gaps:
            if end[0] - start[0] > 0.15:
                self.canvas.arrow(start, end)

    def draw(self, number: int) -> list[Any]:
        """The artists of frame `number`."""
        trace, look = self.trace, self.theme
        stamp = trace.stamp(self.numbers[number])
        artists: list[Any] = []
        place = self.input.box(stamp.input[0], stamp.input[1:])
        artists.append(self.canvas.outline(place, colour=look.accent, width=3, zorder=2.1))
        total = self.totals[stamp.index + 1]
        signed = bool(self.totals[-1].min(initial=0) < 0)
        output = self.big(
            self.stacks[1],
            self.tidied(total, "output"),
            mode="pixels" if self.output_pixels else "numbers",
            fill=look.output_fill,
            hatched=self.margin,
            limits=data_limits(self.totals[-1], signed=signed),
            colormap=look.signed if signed else look.grey,
        )
        self.drawn["output"] = output.grids
        for grid in output.grids:
            artists += grid.artists
        corner = [along[0] for along in stamp.window]
        extent = [along[-1] - along[0] + 1 for along in stamp.window]
        spread = tuple(extent) != trace.w.shape[2:]
        for channel in stamp.channels:
            boxes = list(output.boxes(channel, stamp.window))
            if not self.output_pixels:
                artists.append(self.marks(boxes, look.accent_fill))
            if spread and output.grids[0].cell >= 0.05:
                artists += [self.canvas.outline(box, width=2, zorder=2) for box in boxes]
            box = output.box(channel, corner, extent)
            artists.append(
                self.canvas.outline(box, width=1.2 if spread else 3, style=":" if spread else "-", zorder=2.1)
            )
        cell = np.full((1, 1), stamp.value)
        rows = [
            (cell, kernel, products, np.zeros((1, 1), bool))
            for kernel, products in zip(stamp.kernels, stamp.products, strict=True)
        ]
        artists += self.arithmetic(rows, [])
        artists += self.sentence([stamp_text(trace, stamp, self.reach)])
        return artists


def sum_text(step: Step, reach: dict[str, float] | None = None, name: str = "") -> list[str]:
    """The output element as the sum that it is, in up to three lines, after its `name`.

    `reach` is the largest magnitude of each kind of number, to which fractions are rounded; without it they are not.

    >>> from .trace import Trace
    >>> sum_text(Trace.of([[1, 2], [3, 4]], [[1, -1], [0, 2]]).step(0))
    ['1·1 + 2·(−1) + 3·0 + 4·2 = 7']
    """

    def text(value: Number | float, kind: str, characters: int = 5) -> str:
        return format_number(float(tidy(value, reach[kind]) if reach else value), characters)

    bias = [] if step.bias is None else [f"bias {text(step.bias, 'output')}"]
    result = f" = {text(step.total, 'output', 7)}"
    if len(step.parts) > 1:
        shares = [_bracketed(text(part.sum, "products", 7), first=n == 0) for n, part in enumerate(step.parts)]
        return [name + " + ".join(shares + bias) + result]
    (part,) = step.parts
    if part.kernel.size > MOST_TERMS:
        return [name + " + ".join([f"sum of {part.kernel.size} products", *bias]) + result]
    terms = [
        f"{_bracketed(text(value, 'input'), first=number == 0)}·{_bracketed(text(weight, 'kernel'))}"
        for number, (value, weight) in enumerate(zip(part.patch.flat, part.kernel.flat, strict=True))
    ]
    terms += bias
    lines = min(sum(len(term) + 3 for term in terms) // LONGEST_LINE + 1, 3, len(terms))
    pieces = [" + ".join(some) for some in np.array_split(np.array(terms, dtype=object), lines)]
    pieces = [name + pieces[0], *("+ " + piece for piece in pieces[1:])]
    pieces[-1] += result
    return pieces


def stamp_text(trace: Trace, stamp: Stamp, reach: dict[str, float]) -> str:
    """What one stamp does, in a sentence."""
    value = format_number(float(tidy(stamp.value, reach["input"])))
    place = f"element {stamp.input[1]}" if trace.spatial == 1 else "row " + ", column ".join(map(str, stamp.input[1:]))
    if len(trace.x) > 1:
        place += f" of input {stamp.input[0]}"
    last = trace.b is not None and stamp.index + 1 == trace.x.size
    return f"the {value} at {place} adds {value} times the kernel to the output" + ("; then the bias is added" * last)


def _bracketed(text: str, *, first: bool = False) -> str:
    """A negative number in brackets, except where the sum begins with it."""
    return text if first or not text.startswith("−") else f"({text})"
