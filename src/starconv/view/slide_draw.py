"""How a sliding kernel is laid out on its canvas: the places of its grids, and the pieces that every frame is made of.

Left the input with its padding and the window, in the middle the arithmetic (patch ⊙ kernel = products), right the
output as far as it is known, and below everything written out as one sum. With one spatial axis the three stand one
above the other, and the channels are the rows of one grid.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .canvas import SMALLEST_NUMBER, Canvas, Grid, number_size, numbers
from .theme import Theme, data_limits, format_number, matplotlib, text_width, tidy
from .trace import Trace

__all__ = ["Scene", "Stack", "reach_of"]

Array = NDArray[Any]

MARGIN = 0.3
LARGEST_CELL = 0.52
HEADING = 0.32
"""Height above a grid for what it is."""


@dataclass(frozen=True, eq=False)
class Stack:
    """The grids of one array (C, H, W), one under the other; or of (C, W) as one grid with a row per channel."""

    grids: tuple[Grid, ...]
    flat: bool

    def boxes(self, channel: int, window: Sequence[Sequence[int]]) -> Iterator[tuple[float, float, float, float]]:
        """The cell of every tap of a window."""
        for place in np.ndindex(*(len(along) for along in window)):
            yield self.box(channel, [along[at] for along, at in zip(window, place, strict=True)])

    def box(
        self, channel: int, place: Sequence[int], size: Sequence[int] = (1, 1)
    ) -> tuple[float, float, float, float]:
        """(left, top, width, height) of the cell at `place`, or of `size` cells from there."""
        if self.flat:
            return self.grids[0].box(channel, place[0], 1, size[0])
        return self.grids[channel].box(*place, *size)


class Scene:
    """A trace on a canvas. Subclasses say what one frame is; ``drawn`` holds the grids of the frame drawn last."""

    def __init__(self, trace: Trace, theme: Theme, title: str) -> None:
        self.trace = trace
        # Several channels stand one above the other: a larger sheet, of the same shape, keeps their numbers readable.
        tallest = max(np.prod(shape[:2]) for shape in (trace.canvas.shape, trace.stamped_shape))
        scale = 1.35 if trace.spatial == 2 and max(len(trace.x), len(trace.output)) > 1 and tallest > 12 else 1.0
        self.canvas = Canvas(theme, 9.6 * scale, 5.4 * scale)
        self.theme = theme
        self.drawn: dict[str, Any] = {}
        # Fractions are rounded to three digits of the largest number of their kind, in all frames alike.
        self.reach = {key: reach_of(values) for key, values in (("input", trace.x), ("kernel", trace.w))}
        self.reach["products"] = self.reach["input"] * self.reach["kernel"]
        self.reach["output"] = reach_of(trace.output)
        self.flat = trace.spatial == 1
        self.signed_input = bool(trace.canvas.min(initial=0) < 0)
        self.input_limits = data_limits(trace.x, signed=self.signed_input)
        words, _, sizes = title.partition(": ")
        self.canvas.text(
            MARGIN, 0.33, f"{words}:  {sizes}" if sizes else words, size=theme.title_size, across="left", weight="bold"
        )

    # What a subclass fills in.
    frames: int

    def draw(self, number: int) -> list[Any]:
        """The artists of frame `number`."""
        raise NotImplementedError

    # Layout.

    def lay_out(
        self,
        shapes: tuple[Sequence[int], Sequence[int]],
        rows: int,
        kernel: Sequence[int],
        first: Sequence[int],
        names: tuple[str, str, str],
    ) -> None:
        """Decide where the two big arrays `shapes`, and `rows` rows of arithmetic, stand; draw the latter's frame.

        A row of arithmetic is an array of shape `first`, the kernel and an array of the kernel's shape, called `names`.
        """
        self.kernel, self.first = tuple(kernel), tuple(first)
        self.colours = (self.theme.input, self.theme.kernel, self.theme.accent)
        self._place(shapes, rows, kernel, names)
        self.arithmetic_frame(names)

    def _place(
        self,
        shapes: tuple[Sequence[int], Sequence[int]],
        rows: int,
        kernel: Sequence[int],
        names: tuple[str, str, str],
    ) -> None:
        if self.flat:
            self._lay_out_flat(shapes, rows, kernel)
            return
        top, height = 0.72, self.canvas.height - 1.68
        self.middle_rows = rows
        cell, width = self._middle_size(rows, kernel, height, names)
        room = self.canvas.width - 2 * MARGIN - width - 2 * 0.42
        columns = shapes[0][2] + shapes[1][2]
        tall = min((height - HEADING * shape[0]) / (shape[0] * shape[1]) for shape in shapes)
        side = min(LARGEST_CELL, room / columns, tall)
        if side < 0.11:  # pictures: each side takes half, whatever the other's size
            sides = [
                min(LARGEST_CELL, room / 2 / shape[2], (height - HEADING * shape[0]) / (shape[0] * shape[1]))
                for shape in shapes
            ]
        else:
            sides = [side, side]
        # The headings of several grids need some room of their own; a single one ends before the sheet does.
        widths = [
            max(side * shape[2], 1.35 if shape[0] > 1 else least)
            for side, shape, least in zip(sides, shapes, (0.0, 1.1), strict=True)
        ]
        slack = (self.canvas.width - 2 * MARGIN - sum(widths) - width) / 2
        lefts = (MARGIN + min(slack, 0.5) / 2, self.canvas.width - MARGIN - widths[1] - min(slack, 0.5) / 2)
        between = (lefts[0] + widths[0], lefts[1])
        self.stacks = [
            self._column(shape, left, top, height, side) for shape, left, side in zip(shapes, lefts, sides, strict=True)
        ]
        self.middle = (sum(between) / 2 - width / 2, top, cell, width, height)
        middle_y = top + height / 2 + HEADING / 2
        self.arrow_gaps = [
            ((between[0] + 0.1, middle_y), (self.middle[0] - 0.1, middle_y)),
            ((self.middle[0] + width + 0.1, middle_y), (between[1] - 0.1, middle_y)),
        ]

    def _middle_size(
        self, rows: int, kernel: Sequence[int], height: float, names: tuple[str, str, str]
    ) -> tuple[float, float]:
        """Cell side and width of the arithmetic: patch ⊙ kernel in a row and = products below, or all in a row."""
        kh, kw = kernel
        # A heading may be wider than its grid; no arrow starts before it ends.
        headings = [text_width(name, self.theme.label_size, "bold") for name in names[1:]]
        if rows == 1:
            cell = min(0.46, (3.3 - 0.4) / (2 * kw), (height - 2 * HEADING - 0.1) / (2 * kh))
            beyond = max(max(headings) - kw * cell, 0.0)
            return cell, max((kw + self.first[1]) * cell + 0.4 + 2 * beyond, 2 * kw * cell + 0.4, 1.6)
        cell = min(0.4, (3.9 - 1.2) / (3 * kw), (height - HEADING - 0.12 * rows) / (rows * kh))
        # Beside the products stand their sums, no larger than the largest input times all of the kernel's magnitudes.
        largest = self.reach["input"] * float(np.abs(self.trace.w).sum((-2, -1)).max(initial=0))
        sums = text_width(f"Σ −{format_number(self.tidied(largest, 'products'), 7)}", self.theme.label_size)
        self.tail = max(headings[1] - kw * cell, sums + 0.05, 0.4)
        return cell, 3 * kw * cell + 0.8 + self.tail

    def _column(self, shape: Sequence[int], left: float, top: float, height: float, side: float) -> list[Grid]:
        channels, rows, columns = shape
        each = HEADING + rows * side
        gap = (height - channels * each) / (channels + 1)
        start = top + gap
        return [Grid(left, start + n * (each + gap) + HEADING, side, rows, columns, 0.0) for n in range(channels)]

    def _lay_out_flat(self, shapes: tuple[Sequence[int], Sequence[int]], rows: int, kernel: Sequence[int]) -> None:
        width = self.canvas.width - 2 * MARGIN
        heights = shapes[0][0] + shapes[1][0] + rows
        side = min(
            LARGEST_CELL,
            width / max(shapes[0][1], shapes[1][1]),
            (self.canvas.height - 1.65 - 3 * HEADING - 0.4) / heights,
        )
        cell = min(LARGEST_CELL, side if side > 0.3 else 0.45, (width - 1.6) / (3 * kernel[0]))
        used = 3 * HEADING + (shapes[0][0] + shapes[1][0]) * side + rows * cell
        gap = (self.canvas.height - 1.65 - used) / 2
        top = 0.72
        self.middle_rows = rows
        grids = []
        tops = (top + HEADING, top + 3 * HEADING + shapes[0][0] * side + rows * cell + 2 * gap)
        for shape, y in zip(shapes, tops, strict=True):
            grids.append([Grid((self.canvas.width - shape[1] * side) / 2, y, side, shape[0], shape[1], 0.0)])
        self.stacks = grids
        middle = 3 * kernel[0] * cell + 1.6
        self.middle = ((self.canvas.width - middle) / 2, tops[0] + shapes[0][0] * side + gap, cell, middle, 0.0)
        self.arrow_gaps = []

    # Things that are drawn.

    def heading(self, x: float, y: float, text: str, colour: str, width: float | None = None) -> Any:
        """What a grid is, above it."""
        return self.canvas.text(
            x, y - 0.07, text, colour=colour, across="left", along="bottom", weight="bold", width=width
        )

    def big(self, stack: list[Grid], values: Array, **options: Any) -> Stack:
        """Draw (C, ...) `values` into the places that `lay_out` chose."""
        rows = values[np.newaxis] if self.flat else values
        hatched, shown = options.pop("hatched", None), options.pop("shown", None)
        shown = shown if shown is None else (shown[np.newaxis] if self.flat else shown)
        grids = tuple(
            self.canvas.grid(
                layer,
                left=grid.left,
                top=grid.top,
                cell=grid.cell,
                hatched=None if hatched is None else np.broadcast_to(hatched, layer.shape),
                shown=None if shown is None else shown[number],
                **options,
            )
            for number, (layer, grid) in enumerate(zip(rows, stack, strict=True))
        )
        return Stack(grids, self.flat)

    def tidied(self, values: Array | float, kind: str) -> Any:
        """`values` as they are shown: of one kind ("input", "kernel", "products", "output"), rounded alike."""
        return tidy(values, self.reach[kind])

    def as_pixels(self, grid: Grid, values: Array) -> bool:
        """Whether the numbers of `values` could not be read in cells of this grid's size."""
        if values.size > 1600 or grid.cell < 0.12:
            return True
        return number_size([format_number(v) for v in values.flat], grid.cell, self.theme) < SMALLEST_NUMBER + 1

    def marks(self, boxes: Iterable[tuple[float, float, float, float]], colour: str, zorder: float = 1.15) -> Any:
        """Fill of several cells."""
        corners = [[(x, y), (x + width, y), (x + width, y + height), (x, y + height)] for x, y, width, height in boxes]
        collection = matplotlib("collections").PolyCollection(
            corners, facecolors=colour, edgecolors=self.theme.muted, linewidths=0.8, zorder=zorder
        )
        return self.canvas.axes.add_artist(collection)

    def sentence(self, lines: list[str]) -> list[Any]:
        """The sum written out, at the bottom: up to three lines, as large as they fit."""
        room = self.canvas.width - 2 * MARGIN
        widest = max(text_width(line, 10.0) for line in lines) * 1.03
        size = min(self.theme.label_size + 1, 10.0 * room / widest)
        pitch = size * 1.45 / 72
        top = self.canvas.height - 0.42 - (len(lines) - 1) * pitch / 2
        return [
            self.canvas.text(self.canvas.width / 2, top + n * pitch, line, size=size) for n, line in enumerate(lines)
        ]

    def small_numbers(
        self, boxes: Iterable[tuple[float, float, float, float]], values: Array, side: float
    ) -> list[Any]:
        """The kernel's numbers, small, at the lower right of the window's cells."""
        texts = [format_number(v, 4) for v in self.tidied(values, "kernel").flat]
        if side < 0.34 or max(map(len, texts)) > 3:
            return []
        axes, colour = self.canvas.axes, self.theme.kernel
        size = max(side * 72 * 0.2, 6.0)
        placed = [(x + 0.8 * w, y + 0.84 * h, text) for (x, y, w, h), text in zip(boxes, texts, strict=True)]
        return [numbers(axes, placed, size, colour, 1.4)]

    def spots(self, number: int) -> list[tuple[float, float, int, int]]:
        """Where row `number` of the arithmetic has its three grids: (left, top, rows, columns) of each."""
        x, top, cell, width, height = self.middle
        kh, kw = (self.middle_rows, self.kernel[0]) if self.flat else self.kernel
        fh, fw = (self.middle_rows, self.first[0]) if self.flat else self.first
        span, tall, first = kw * cell, kh * cell, fw * cell
        if self.flat:
            gap, y = 0.5, top + HEADING
            left = x + (width - (2 * span + first + 2 * gap)) / 2
        elif self.middle_rows == 1:
            gap, y = 0.4, top + (height - 2 * HEADING - 2 * tall - 0.1) / 2 + HEADING
            left = x + (width - (span + first + gap)) / 2
        else:
            gap, y = 0.4, top + HEADING + (number + 0.5) * (height - HEADING) / self.middle_rows - tall / 2
            left = x + (width - (2 * span + first + 2 * gap) - self.tail) / 2
        second = left + first + gap
        below = self.middle_rows == 1 and not self.flat
        third = (second, y + tall + HEADING + 0.1) if below else (second + span + gap, y)
        return [(left, y + (kh - fh) * cell / 2, fh, fw), (second, y, kh, kw), (*third, kh, kw)]

    def arithmetic_frame(self, names: tuple[str, str, str]) -> None:
        """What of the arithmetic stays the same in all frames: headings, ⊙ and =."""
        cell = self.middle[2]
        for number in range(1 if self.flat else self.middle_rows):
            spots = self.spots(number)
            for part, (left, top, rows, _) in enumerate(spots):
                if number == 0:
                    # A heading ends before the next one of its line begins.
                    after = spots[part + 1][0] - left - 0.08 if part < 2 and spots[part + 1][0] > left else None
                    self.heading(left, top, names[part], self.colours[part], after)
                if part:
                    middle = top + rows * cell / 2
                    self.canvas.text(left - 0.22, middle, "⊙="[part - 1], size=17, colour=self.theme.muted)

    def arithmetic(self, rows: list[tuple[Array, Array, Array, Array]], sums: list[Any]) -> list[Any]:
        """patch ⊙ kernel = products for every channel; `rows` of (first, kernel, products, hatched)."""
        look, cell = self.theme, self.middle[2]
        artists: list[Any] = []
        fills = (look.input_fill, look.kernel_fill, look.accent_fill)
        keys = ("first", "kernel", "products")
        drawn: dict[str, list[Grid]] = {key: [] for key in keys}
        groups = [[np.concatenate([np.atleast_2d(row[part]) for row in rows]) for part in range(4)]]
        for number, group in enumerate(groups if self.flat else rows):
            spots = self.spots(number)
            for part, key in enumerate(keys):
                grid = self.canvas.grid(
                    self.tidied(group[part], "input" if key == "first" else key),
                    left=spots[part][0],
                    top=spots[part][1],
                    cell=cell,
                    mode="numbers" if cell > 0.16 else "auto",
                    fill=fills[part],
                    hatched=group[3] if part == 0 else None,
                    colormap=look.signed if part or self.signed_input else look.grey,
                )
                drawn[key].append(grid)
                artists += grid.artists
            if len(rows) > 1 and sums and not self.flat:
                total = f"Σ {format_number(float(self.tidied(sums[number], 'products')), 7)}"
                last = drawn["products"][-1]
                artists.append(
                    self.canvas.text(last.right + 0.1, last.middle[1], total, across="left", colour=look.accent)
                )
        self.drawn.update(drawn)
        return artists


def reach_of(values: Array) -> float:
    """Largest finite magnitude."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0))
