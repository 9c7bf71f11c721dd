"""The convolution as its sparse matrix, vec(O) = A vec(X): Toeplitz blocks by kernel entry, and A^T at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentValueError
from ..geometry import Padding, PerAxis
from ..matrix import conv_matrix
from .panels import Sheet, named, numbers, place_of, scale_of
from .save import Still
from .slide import generated
from .theme import Theme, matplotlib
from .trace import Cell, Step, Trace, flat

if TYPE_CHECKING:
    import scipy.sparse

    from .canvas import Grid

__all__ = ["MatrixData", "matrix", "matrix_data"]

Array = NDArray[Any]

LARGEST = 4_000_000
"""Entries, zeros included, of the largest matrix drawn: 2000 x 2000 is more than a page has points."""


@dataclass(frozen=True, eq=False)
class MatrixData:
    """What :func:`matrix` draws.

    Attributes:
        trace: the convolution.
        matrix: A, (K H' W', C H W).
        taps: the same entries with the number of the kernel entry, counted from 1 row by row, in place of its value.
        step: the output element that is followed through the picture.
        row: its row in A.
        result: A vec(X), in the output's shape.
        back: A^T vec(O), in the input's shape: the transposed convolution of O.
    """

    trace: Trace
    matrix: scipy.sparse.csr_array
    taps: scipy.sparse.csr_array
    step: Step
    row: int
    result: Array
    back: Array


@np.errstate(invalid="ignore", over="ignore")  # infinities and NaN are drawn, not warned about
def matrix_data(
    x: ArrayLike,
    w: ArrayLike,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    at: Sequence[int] | None = None,
    seed: int = 0,
) -> MatrixData:
    """The matrix of a convolution and its products, by the library; arguments as :func:`matrix`."""
    x, w = generated(x, w, groups, seed=seed)
    trace = flat(Trace.of(x, w, None, stride, padding, dilation, groups))
    if trace.x.size * trace.output.size > LARGEST or not trace.output.size:
        expected = f"an input whose matrix has 1 to {LARGEST:,} entries, not {trace.output.size:,} x {trace.x.size:,}"
        raise ArgumentValueError("x", trace.x, expected)
    options = (trace.x.shape, stride, padding, dilation, groups)
    entries = conv_matrix(trace.w, *options)
    count = int(np.prod(trace.w.shape[2:]))
    numbered = np.broadcast_to(np.arange(1, count + 1).reshape(trace.w.shape[2:]), trace.w.shape)
    place = place_of("at", at, trace.output.shape)
    return MatrixData(
        trace=trace,
        matrix=entries,
        taps=conv_matrix(numbered, *options),
        step=trace.step(place),
        row=int(np.ravel_multi_index(place, trace.output.shape)),
        result=(entries @ trace.x.ravel()).reshape(trace.output.shape),
        back=(entries.T @ trace.output.ravel()).reshape(trace.x.shape),
    )


def matrix(
    x: ArrayLike,
    w: ArrayLike,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    at: Sequence[int] | None = None,
    seed: int = 0,
    theme: str | Theme = "light",
) -> Still:
    """Draw a convolution as a matrix: every row of A is the kernel, laid where one output element reads the input.

    Args:
        x: input (C, H, W), (C, W), or one channel without C; or a size, as in :func:`starconv.view.slide`.
        w: kernels (K, C / groups, ...), or a bare kernel; or a size.
        stride, padding, dilation, groups: as in :func:`starconv.conv2d`.
        at: (channel, i, j) of the output element to follow, or without the channel; by default the middle.
        seed: of the numbers, where sizes are given.
        theme: "light" or "dark".

    Returns:
        The drawing; ``.data`` is its :class:`MatrixData`.

    Raises:
        ArgumentValueError, ArgumentTypeError: as :func:`starconv.conv_matrix`; also a matrix too large to be drawn.
    """
    return _draw(matrix_data(x, w, stride, padding, dilation, groups, at=at, seed=seed), theme)


def _tap_colours(size: Sequence[int], theme: Theme) -> Array:
    """One colour per kernel entry: the hue says the row, and it fades from the first column to the last."""
    rows, columns = (1, size[0]) if len(size) == 1 else size
    to_rgb = matplotlib("colors").to_rgb
    if rows <= 7:
        hues = np.array([to_rgb(colour) for colour in theme.colour_cycle[:rows]])
    else:
        hues = np.asarray(matplotlib().colormaps["viridis"](np.linspace(0, 1, rows)))[:, :3]
    strength = np.linspace(1.0, 0.4, columns) if columns > 1 else np.ones(1)
    back = np.array(to_rgb(theme.background))
    return hues[:, None] * strength[None, :, None] + back * (1 - strength[None, :, None])


def _draw(data: MatrixData, theme: str | Theme) -> Still:
    trace = data.trace
    outputs, inputs = data.matrix.shape
    # Both matrices stand beside each other; below the first there is room for the pictures that they connect.
    cell = min(9.4 / (inputs + outputs), 6.2 / max(inputs, outputs), 0.32)
    wide, tall = inputs * cell, outputs * cell
    strip = max(cell, 0.12)
    pictures = 1.5
    gap, left, top = 1.15, 0.35 + strip + 0.35, 1.5 + strip
    needed = max(wide, 4 * pictures + 3 * 0.3 - strip)
    second = left + needed + gap
    width = max(second + max(tall, 1.2) + 0.45, 11.4)
    low = top + tall + 0.65
    height = max(low + pictures + 0.25, top + wide + 0.3) + 0.62
    entries, zeros = data.matrix.nnz, 1 - data.matrix.nnz / (outputs * inputs)
    weights = f"{trace.w.size:,} weight{'s' * (trace.w.size > 1)}"
    sheet = Sheet(
        theme,
        width,
        height,
        "A convolution is a matrix: vec(O) = A vec(X), and Aᵀ takes it back",
        f"{outputs}×{inputs}, {zeros:.0%} of it zeros; the other {entries:,} share {weights};  {trace.describe()}",
    )
    look = sheet.theme
    colours = _tap_colours(trace.w.shape[2:], look)
    empty = np.array(matplotlib("colors").to_rgb(look.neutral))
    palette = np.concatenate([empty[None], colours.reshape(-1, 3)])
    painted = palette[data.taps.toarray()]
    x_scale, o_scale, back_scale = scale_of(trace.x), scale_of(trace.output), scale_of(data.back)

    def whole(x: float, name: str, turned: bool) -> Grid:
        ink = painted.swapaxes(0, 1) if turned else painted
        grid = sheet.grid(np.zeros(ink.shape[:2]), left=x, top=top, cell=cell, mode="pixels", colours=ink)
        (across, one), (down, other) = (
            ((trace.output, o_scale), (data.back, back_scale))
            if turned
            else ((trace.x, x_scale), (trace.output, o_scale))
        )
        sheet.band((x, top - strip - 0.06, grid.right - x, strip), one.colours(across.reshape(1, -1), look))
        sheet.band((x - strip - 0.06, top, strip, grid.bottom - top), other.colours(down.reshape(-1, 1), look))
        _blocks(sheet, grid, down.shape, across.shape)
        names = ("vec(X)", "vec(O)") if not turned else ("vec(O)", "Aᵀ vec(O)")
        sheet.text(x, top - strip - 0.2, f"{name}:  {grid.rows}×{grid.columns}", size=11, across="left", weight="bold")
        if grid.right - x > 2.4:
            sheet.label(grid.right, top - strip - 0.2, f"columns: {names[0]}", across="right")
        sheet.label(
            x - strip - 0.16, grid.top + (grid.bottom - grid.top) / 2, f"rows: {names[1]}", rotation=90, across="center"
        )
        return grid

    forward = whole(left, "A", False)
    sheet.frame(forward, (data.row,), range(inputs), look.accent, width=1.8)
    backward = whole(second, "Aᵀ", True)
    sheet.frame(backward, range(inputs), (data.row,), look.accent, width=1.8)

    s, *_ = data.step.output
    part = data.step.parts[0]
    boxes = [(0.35 + number * (pictures + 0.3), low, pictures, pictures) for number in range(4)]
    sheet.picture(
        boxes[0], part.kernel, colours=colours, texts=numbers(part.kernel), name=named("K", trace.w.shape, s, 0)
    )
    hatched = np.atleast_2d(trace.cells == Cell.PADDING)
    shown = sheet.picture(
        boxes[1], trace.canvas[part.channel], x_scale, hatched=hatched, name=named("X", trace.x.shape, part.channel)
    )
    sheet.frame_cells(shown, data.step.window, look.accent)
    output = sheet.picture(boxes[2], trace.output[s], o_scale, name=named("O", trace.output.shape, s) + " = A vec(X)")
    sheet.frame_cells(output, [(at,) for at in data.step.output[1:]], look.accent)
    sheet.picture(boxes[3], data.back[part.channel], back_scale, name="Aᵀ vec(O)")
    note = "Framed: one output element, its row in A, what it reads, and its column in Aᵀ."
    note += "  Colours in A are those of K: hue by row, fading along it."
    sheet.label(0.35, height - 0.25, note, across="left")
    return Still(sheet.figure, f"A convolution as a sparse matrix: {trace.describe()}.", data)


def _blocks(sheet: Sheet, grid: Grid, down: Sequence[int], across: Sequence[int]) -> None:
    """Lines round the Toeplitz blocks, a picture's row wide and high, and thicker ones between channels."""
    look = sheet.theme
    for length, count, vertical in ((down[-1], grid.rows, False), (across[-1], grid.columns, True)):
        channel = int(np.prod(down[1:] if not vertical else across[1:]))
        if length * grid.cell < 0.05 and length != count:
            length = channel
        for at in range(0, count + 1, length):
            strong = at % channel == 0
            points = (
                [(grid.left + at * grid.cell, grid.top), (grid.left + at * grid.cell, grid.bottom)]
                if vertical
                else [(grid.left, grid.top + at * grid.cell), (grid.right, grid.top + at * grid.cell)]
            )
            sheet.line(points, colour=look.muted if strong else look.faint, width=1.4 if strong else 0.8)
