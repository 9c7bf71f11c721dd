"""The multi-channel procedure: for each output channel a 2-D convolution per input channel, their sum, and the bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..functional import conv1d, conv2d
from ..geometry import Padding, PerAxis
from .panels import Scale, Sheet, number, picked, scale_of, tile_size
from .save import Still
from .slide import generated
from .trace import Trace, flat

if TYPE_CHECKING:
    from .canvas import Grid
    from .theme import Theme

__all__ = ["ChannelSum", "ChannelsData", "channels", "channels_data"]

Array = NDArray[Any]

INPUTS_SHOWN = 4
OUTPUTS_SHOWN = 2


@dataclass(frozen=True, eq=False)
class ChannelSum:
    """How one output channel comes about: column addition."""

    channel: int
    kernels: tuple[Array | None, ...]
    """Per shown input channel, the kernel over it; None where the channel is in another group."""
    partials: tuple[Array | None, ...]
    """X[r] ⋆ K[s][r] per shown input channel."""
    rest: Array | None
    """The sum of the same over the input channels that are not shown; None if there are none."""
    sum: Array
    """The sum over all input channels, without bias."""
    bias: float | int | None
    output: Array


@dataclass(frozen=True, eq=False)
class ChannelsData:
    """What :func:`channels` draws."""

    trace: Trace
    input_channels: tuple[int, ...]
    columns: tuple[ChannelSum, ...]

    @property
    def hidden(self) -> int:
        """Input channels that are not drawn one by one."""
        return len(self.trace.x) - len(self.input_channels)


@np.errstate(invalid="ignore", over="ignore")  # infinities and NaN are drawn, not warned about
def channels_data(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    input_channels: Sequence[int] | None = None,
    output_channels: Sequence[int] | None = None,
    seed: int = 0,
) -> ChannelsData:
    """The parts of a convolution channel by channel, each computed by the library; arguments as :func:`channels`."""
    x, w = generated(x, w, groups, seed=seed)
    trace = flat(Trace.of(x, w, b, stride, padding, dilation, groups, padding_mode=padding_mode))
    convolve: Any = conv1d if trace.spatial == 1 else conv2d
    options = {"stride": stride, "padding": padding, "dilation": dilation, "padding_mode": padding_mode}
    inputs = picked("input_channels", input_channels, len(trace.x), INPUTS_SHOWN)
    outputs = picked("output_channels", output_channels, len(trace.output), OUTPUTS_SHOWN)
    columns = []
    for channel in outputs:
        members = [part.channel for part in trace.step((channel, *[0] * trace.spatial)).parts]
        kernels = {member: trace.w[channel, place] for place, member in enumerate(members)}

        def share(chosen: Sequence[int], channel: int = channel, members: list[int] = members) -> Array:
            places = [members.index(member) for member in chosen]
            result: Array = convolve(
                trace.x[list(chosen)], trace.w[channel : channel + 1, places], precision="strict", **options
            )[0]
            return result

        rest = [member for member in members if member not in inputs]
        columns.append(
            ChannelSum(
                channel=channel,
                kernels=tuple(kernels.get(member) for member in inputs),
                partials=tuple(share([member]) if member in members else None for member in inputs),
                rest=share(rest) if rest else None,
                sum=share(members),
                bias=None if trace.b is None else trace.b[channel].item(),
                output=trace.output[channel],
            )
        )
    return ChannelsData(trace, inputs, tuple(columns))


def channels(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    input_channels: Sequence[int] | None = None,
    output_channels: Sequence[int] | None = None,
    seed: int = 0,
    theme: str | Theme = "light",
) -> Still:
    """Draw how a layer adds up its channels: O[s] = sum over r of X[r] ⋆ K[s][r], + b[s].

    Args:
        x: input (C, H, W), (C, W), or one channel without C; or a size, as in :func:`starconv.view.slide`.
        w: kernels (K, C / groups, ...), or a size.
        b, stride, padding, dilation, groups, padding_mode: as in :func:`starconv.conv2d`.
        input_channels: which to draw one by one, by default the first 4; the sum always runs over all of them.
        output_channels: which to draw, by default the first 2.
        seed: of the numbers, where sizes are given.
        theme: "light" or "dark".

    Returns:
        The picture; ``.data`` is its :class:`ChannelsData`.

    Raises:
        ArgumentValueError, ArgumentTypeError: as :func:`starconv.conv2d`; also a channel that does not exist.
    """
    data = channels_data(
        x,
        w,
        b,
        stride,
        padding,
        dilation,
        groups,
        padding_mode=padding_mode,
        input_channels=input_channels,
        output_channels=output_channels,
        seed=seed,
    )
    return _draw(data, theme)


def _draw(data: ChannelsData, theme: str | Theme) -> Still:
    trace = data.trace
    x_width, x_height = tile_size(trace.x.shape[1:], 1.6, 3.2)
    o_width, o_height = tile_size(trace.output.shape[1:], 1.6, 3.2)
    k_width, k_height = tile_size(trace.w.shape[2:], 1.0, 1.4)
    row = max(x_height, o_height, k_height) + 0.5
    block = 0.55 + k_width + 0.6 + o_width + 0.3
    lines = len(data.input_channels) + (data.hidden > 0) + (trace.b is not None) + 1
    width, head = max(0.7 + x_width + block * len(data.columns), 7.2), 1.5
    left = (width - x_width - block * len(data.columns)) / 2
    formula = "O[s] = Σ X[r] ⋆ K[s][r]" + (" + b[s]" if trace.b is not None else "")
    drawn, outputs = len(data.columns), len(trace.output)
    some = f";  {drawn} of {outputs} output channels" if drawn < outputs else ""
    sheet = Sheet(
        theme,
        width,
        head + row * lines + 0.75,
        "Every output channel sums over the input channels",
        f"{formula};  {trace.describe()}{some}",
    )
    x_scale = scale_of(trace.x[list(data.input_channels)])
    k_scale = scale_of(trace.w, signed=True)
    shares = [
        part for column in data.columns for part in (*column.partials, column.rest, column.sum) if part is not None
    ]
    o_scale = scale_of(*shares, *(column.output for column in data.columns))
    for line, channel in enumerate(data.input_channels):
        sheet.picture(
            (left, head + line * row + 0.3, x_width, row - 0.5), trace.x[channel], x_scale, name=f"X[{channel}]"
        )
    if data.hidden:
        y = head + (len(data.input_channels) + 0.5) * row
        sheet.label(left + x_width / 2, y, f"and {data.hidden} more\ninput channels", width=x_width)
    for place, column in enumerate(data.columns):
        start = left + x_width + place * block
        if place:
            sheet.line([(start + 0.08, head - 0.35), (start + 0.08, sheet.height - 0.75)])
        _draw_column(sheet, data, column, (start + 0.55, k_width, o_width, head, row), (k_scale, o_scale))
    sheet.colour_bar(width - 2.6, sheet.height - 0.52, 2.1, o_scale, "kernels' results")
    return Still(sheet.figure, f"How the channels add up: {trace.describe()}.", data)


def _draw_column(
    sheet: Sheet,
    data: ChannelsData,
    column: ChannelSum,
    places: tuple[float, float, float, float, float],
    scales: tuple[Scale, Scale],
) -> None:
    """One output channel as a column addition: what each input channel gives, a line, and the sum below it."""
    left, k_width, o_width, head, row = places
    k_scale, o_scale = scales
    o_left = left + k_width + 0.6
    s = column.channel
    middle = (left + o_left + o_width) / 2
    sheet.text(middle, head - 0.22, f"output channel {s}", weight="bold", colour=sheet.theme.output)

    def sign(x: float, line: int, text: str) -> None:
        sheet.text(x, head + line * row + 0.3 + (row - 0.5) / 2, text, size=15, colour=sheet.theme.muted)

    def result(line: int, values: Array, name: str) -> Grid:
        return sheet.picture((o_left, head + line * row + 0.3, o_width, row - 0.5), values, o_scale, name=name)

    for line, (r, kernel, partial) in enumerate(zip(data.input_channels, column.kernels, column.partials, strict=True)):
        if kernel is None or partial is None:
            sheet.label(middle, head + (line + 0.55) * row, f"X[{r}] is in another group")
            continue
        sign(left - 0.25, line, "⋆")
        sheet.picture((left, head + line * row + 0.3, k_width, row - 0.5), kernel, k_scale, name=f"K[{s}][{r}]")
        sign(left + k_width + 0.3, line, "=")
        result(line, partial, f"X[{r}] ⋆ K[{s}][{r}]")
    line = len(data.input_channels)
    if data.hidden:
        if column.rest is not None:
            sign(left + k_width + 0.3, line, "+")
            result(line, column.rest, "what they give")
        line += 1
    y = head + line * row - 0.06
    sheet.line([(o_left - 0.4, y), (o_left + o_width + 0.1, y)], colour=sheet.theme.text, width=1.5)
    if column.bias is not None:
        sign(left + k_width + 0.3, line, "Σ")
        result(line, column.sum, "sum")
        line += 1
        sheet.text(
            o_left - 0.18, head + line * row + row / 2, f"+ b[{s}] = {number(column.bias)}", across="right", size=12
        )
    else:
        sign(left + k_width + 0.3, line, "Σ")
    grid = result(line, column.output, f"O[{s}]")
    sheet.frame(grid, range(grid.rows), range(grid.columns), sheet.theme.output)
