"""The gradients: which input and output elements meet in one kernel entry's gradient, and the pictures of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import grad
from ..arguments import as_array
from ..errors import ArgumentValueError
from ..geometry import Padding, PerAxis
from .panels import Sheet, named, number, place_of, scale_of, tile_size
from .save import Still
from .slide import generated
from .trace import Cell, Trace, flat

if TYPE_CHECKING:
    from .theme import Theme

__all__ = ["GradientData", "gradient", "gradient_data"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class GradientData:
    """What :func:`gradient` draws.

    Attributes:
        trace: the convolution.
        grad_output: dL/dO, (K, H', W').
        tap: the kernel entry that is followed, (s, r, p, q).
        channel: the input channel that it meets.
        cells: per axis, the canvas positions that it meets, one per output element.
        met: the input elements there, in the shape of one output channel.
        products: met * dL/dO[s], element by element.
        weight_gradient: dL/dK in the kernels' shape; its entry `tap` is the sum of the products.
        input_gradient: dL/dX, (C, H, W).
    """

    trace: Trace
    grad_output: Array
    tap: tuple[int, ...]
    channel: int
    cells: tuple[tuple[int, ...], ...]
    met: Array
    products: Array
    weight_gradient: Array
    input_gradient: Array


@np.errstate(invalid="ignore", over="ignore")  # infinities and NaN are drawn, not warned about
def gradient_data(
    x: ArrayLike,
    w: ArrayLike,
    grad_output: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    tap: Sequence[int] | None = None,
    seed: int = 0,
) -> GradientData:
    """The gradients of a convolution, by :mod:`starconv.grad`; arguments as :func:`gradient`."""
    x, w = generated(x, w, groups, seed=seed)
    trace = flat(Trace.of(x, w, None, stride, padding, dilation, groups))
    upstream = np.ones_like(trace.output) if grad_output is None else as_array("grad_output", grad_output)
    if upstream.shape in (trace.output.shape[1:], (1, *trace.output.shape)) and upstream.size == trace.output.size:
        upstream = upstream.reshape(trace.output.shape)
    if upstream.shape != trace.output.shape:
        raise ArgumentValueError("grad_output", upstream, f"the output's shape {trace.output.shape}")
    shape = trace.w.shape
    place = (
        place_of("tap", tap, shape)
        if tap is None or len(tap) > trace.spatial
        else (0, *place_of("tap", tap, shape[1:]))
    )
    if tap is None:
        place = (0, 0, *place[2:])
    s, r, *entry = place
    options = (stride, padding, dilation, groups)
    by_weight: Any = grad.conv1d_weight if trace.spatial == 1 else grad.conv2d_weight
    by_input: Any = grad.conv1d_input if trace.spatial == 1 else grad.conv2d_input
    channel = trace.step((s, *[0] * trace.spatial)).parts[r].channel
    cells = tuple(
        tuple(axis.reads(at)[chosen] + origin for at in range(axis.output))
        for axis, chosen, origin in zip(trace.axes, entry, trace.origin, strict=True)
    )
    met = trace.canvas[channel][np.ix_(*cells)]
    return GradientData(
        trace=trace,
        grad_output=upstream,
        tap=place,
        channel=channel,
        cells=cells,
        met=met,
        products=met * upstream[s],
        weight_gradient=by_weight(trace.x[np.newaxis], shape, upstream[np.newaxis], *options),
        input_gradient=by_input((1, *trace.x.shape), trace.w, upstream[np.newaxis], *options)[0],
    )


def gradient(
    x: ArrayLike,
    w: ArrayLike,
    grad_output: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    tap: Sequence[int] | None = None,
    seed: int = 0,
    theme: str | Theme = "light",
) -> Still:
    """Draw the gradients of a convolution: dL/dK[p, q] is the sum of X[i s + p d, j s + q d] dL/dO[i, j].

    Args:
        x: input (C, H, W), (C, W), or one channel without C; or a size, as in :func:`starconv.view.slide`.
        w: kernels (K, C / groups, ...), or a bare kernel; or a size.
        grad_output: dL/dO, what training sends back, in the output's shape; by default ones, for L = sum of O.
        stride, padding, dilation, groups: as in :func:`starconv.conv2d`.
        tap: the kernel entry to follow, (p, q), (r, p, q) or (s, r, p, q); by default the middle.
        seed: of the numbers, where sizes are given.
        theme: "light" or "dark".

    Returns:
        The drawing; ``.data`` is its :class:`GradientData`.

    Raises:
        ArgumentValueError, ArgumentTypeError: as :func:`starconv.conv2d`; also a tap or a gradient that does not fit.
    """
    return _draw(gradient_data(x, w, grad_output, stride, padding, dilation, groups, tap=tap, seed=seed), theme)


def _draw(data: GradientData, theme: str | Theme) -> Still:
    trace = data.trace
    s, r, *entry = data.tap
    x_width, x_height = tile_size(trace.canvas.shape[1:], 2.2, 3.4)
    o_width, o_height = tile_size(trace.output.shape[1:], 1.75, 3.0)
    k_width, k_height = tile_size(trace.w.shape[2:], 1.4, 2.0)
    sign, tall = 0.5, max(x_height, o_height, k_height, 0.9)
    width = max(0.7 + x_width + 3 * o_width + 3 * sign + 0.2, 9.0)
    top = 1.62
    second = top + tall + 0.95
    low = max(x_height, k_height, 0.9)
    where = ", ".join(map(str, entry))
    kernel_name = named("K", trace.w.shape, s, r)
    entry_name = f"{kernel_name}[{where}]"
    letters = "i, j" if trace.spatial == 2 else "i"
    sheet = Sheet(
        theme,
        width,
        second + low + 0.95,
        f"The gradient of one weight: everything that {entry_name} was multiplied with",
        f"∂L/∂{entry_name} = Σ X[{_position(trace, entry)}] · ∂L/∂O[{letters}];  {trace.describe()}",
    )
    look = sheet.theme
    x_scale, g_scale, p_scale = scale_of(trace.x), scale_of(data.grad_output), scale_of(data.products)
    free = (width - 0.7 - x_width - 3 * o_width) / 3

    def sign_at(x: float, text: str) -> None:
        sheet.text(x, top + tall / 2, text, size=17, colour=look.muted)

    hatched = np.atleast_2d(trace.cells == Cell.PADDING)
    shown = sheet.picture(
        (0.35, top, x_width, tall),
        trace.canvas[data.channel],
        x_scale,
        hatched=hatched,
        name=named("X", trace.x.shape, data.channel),
    )
    rows, columns = ((0,), *data.cells)[-2:]
    _tint(sheet, shown, rows, columns)
    x = 0.35 + x_width + free
    met = sheet.picture((x, top, o_width, tall), data.met, x_scale, name=f"met by {entry_name}")
    sheet.frame(met, range(met.rows), range(met.columns), look.accent, width=2)
    sheet.arrow((x - free * 0.75, top + tall / 2), (x - free * 0.25, top + tall / 2), colour=look.accent)
    x += o_width + free
    sheet.picture(
        (x, top, o_width, tall), data.grad_output[s], g_scale, name="∂L/∂" + named("O", trace.output.shape, s)
    )
    sign_at(x - free / 2, "×")
    x += o_width + free
    sheet.picture((x, top, o_width, tall), data.products, p_scale, name="their products")
    sign_at(x - free / 2, "=")

    value = data.weight_gradient[data.tap]
    k_scale, i_scale = scale_of(data.weight_gradient, signed=True), scale_of(data.input_gradient, signed=True)
    k_left = width - 0.35 - o_width / 2 - k_width / 2
    weights = sheet.picture(
        (k_left, second, k_width, low), data.weight_gradient[s, r], k_scale, name=f"∂L/∂{kernel_name}"
    )
    sheet.frame_cells(weights, [(place,) for place in entry], look.accent)
    middle = width - 0.35 - o_width / 2
    sheet.arrow(
        (middle, top + (tall + min(o_height, tall)) / 2 + 0.1), (middle, weights.top - 0.32), colour=look.accent
    )
    sheet.text(
        middle - 0.15,
        weights.top - 0.52,
        f"Σ = {number(value)}",
        size=12,
        across="right",
        weight="bold",
        colour=look.accent,
    )
    back = sheet.picture(
        (0.35, second, x_width, low),
        data.input_gradient[data.channel],
        i_scale,
        name="∂L/∂" + named("X", trace.x.shape, data.channel),
    )
    words = (
        "∂L/∂X: every output element stamps its\nkernel, times its gradient, on what it read:\n"
        "the transposed convolution of ∂L/∂O.\n\n"
        f"∂L/∂K: all {data.weight_gradient[s, r].size} entries as on top. ∂L/∂O\n"
        "lies over the input as a kernel would:\na convolution once more."
    )
    between = (back.right + weights.left) / 2
    sheet.label(between, (back.top + back.bottom) / 2, words, width=weights.left - back.right - 0.5)
    sheet.colour_bar(back.middle[0] - 0.8, sheet.height - 0.55, 1.6, i_scale)
    sheet.colour_bar(middle - 0.65, sheet.height - 0.55, 1.3, k_scale)
    return Still(sheet.figure, f"The gradients of a convolution: {trace.describe()}.", data)


def _tint(sheet: Sheet, grid: Any, rows: Sequence[int], columns: Sequence[int]) -> None:
    """Outline the cells at `rows` x `columns`: one frame if they touch, one per cell if a stride parts them."""
    look = sheet.theme
    touching = all(len(along) < 2 or along[1] - along[0] == 1 for along in (rows, columns))
    if touching or len(rows) * len(columns) > 400:
        sheet.frame(grid, rows, columns, look.accent, width=2.5)
        return
    for row in rows:
        for column in columns:
            sheet.frame(grid, (row,), (column,), look.accent, width=2)


def _position(trace: Trace, entry: Sequence[int]) -> str:
    """Where the entry reads, as a formula: ``2i + 1 − 1, 2j``."""
    words = []
    for letter, axis, tap in zip("ij", trace.axes, entry, strict=False):
        shift = axis.reads(0)[tap]
        step = letter if axis.stride == 1 else f"{axis.stride}{letter}"
        words.append(step if not shift else f"{step} {'+' if shift > 0 else '−'} {abs(shift)}")
    return ", ".join(words)
