"""Translation equivariance: shift, then convolve, against convolve, then shift; the border's part; a dense layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentTypeError, ArgumentValueError
from ..geometry import Padding, PerAxis, per_axis
from .panels import Scale, Sheet, number, scale_of, tile_size
from .save import Still
from .slide import generated
from .trace import Trace, flat, laid_out

if TYPE_CHECKING:
    from .canvas import Grid
    from .theme import Theme

__all__ = ["EquivarianceData", "LayerShift", "equivariance", "equivariance_data"]

Array = NDArray[Any]
Map = Callable[[Array], Any]

DENSE_LIMIT = 4_000_000
"""Weights up to which the dense layer of the same sizes is made; beyond, the convolution's connections get weights."""


@dataclass(frozen=True, eq=False)
class LayerShift:
    """One layer applied before and after a shift.

    Attributes:
        name: what it is.
        weights: how many it has; None for a callable.
        shift_first: layer(shift X), one channel of it.
        layer_first: shift(layer X), the same channel; NaN where nothing was shifted in.
        difference: the former minus the latter.
        inside: boolean, the elements that no border or padding can reach.
        error_inside: largest difference among them, relative to the layer's largest output.
        error: the same for all elements.
    """

    name: str
    weights: int | None
    shift_first: Array
    layer_first: Array
    difference: Array
    inside: NDArray[np.bool_]
    error_inside: float
    error: float


@dataclass(frozen=True, eq=False)
class EquivarianceData:
    """What :func:`equivariance` draws.

    Attributes:
        x, shifted: the input (C, H, W) before and after the shift; what comes in from outside is 0.
        shift: by how many input elements, per axis; negative is up and left.
        output_shift: by how many output elements that is.
        exact: whether the stride divides the shift.
        layers: the convolution (or the callable), and the layer without shared weights.
    """

    x: Array
    shifted: Array
    shift: tuple[int, ...]
    output_shift: tuple[int, ...]
    exact: bool
    layers: tuple[LayerShift, ...]


@np.errstate(invalid="ignore", over="ignore")  # infinities and NaN are drawn, not warned about
def equivariance_data(
    x: ArrayLike,
    layer: ArrayLike | Map,
    shift: PerAxis = 2,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    margin: int | None = None,
    seed: int = 0,
) -> EquivarianceData:
    """Apply a layer before and after a shift; arguments as :func:`equivariance`."""
    if callable(layer):  # an array is not
        function: Map = layer
        picture = np.asarray(x)
        picture = picture[np.newaxis] if picture.ndim == 2 else picture
        if picture.ndim != 3 or not picture.size:
            raise ArgumentValueError("x", picture, "one picture, (H, W) or (C, H, W)")
        steps = per_axis("stride", stride, 2, minimum=1)
        offsets = _offsets(shift, picture)
        (border,) = per_axis("margin", 0 if margin is None else margin, 1, minimum=0)
        name = getattr(layer, "__name__", type(layer).__name__)
        moved = tuple(offset // step for offset, step in zip(offsets, steps, strict=True))

        def apply(values: Array) -> Array:
            result = np.asarray(function(values[np.newaxis]))
            if result.ndim != 4 or not result.size:
                raise ArgumentTypeError("layer", layer, f"a function from {values[np.newaxis].shape} to (1, K, H', W')")
            return np.asarray(result[0], np.float64)

        outputs = apply(picture).shape[1:]
        inside = [_kept(size, by, border) for size, by in zip(outputs, moved, strict=True)]
        layers = (_compare(name, None, apply, picture, offsets, moved, inside),)
        return _data(picture, offsets, moved, steps, layers)
    x, layer = generated(x, layer, groups, seed=seed)
    trace = flat(Trace.of(x, layer, None, stride, padding, dilation, groups, padding_mode=padding_mode))
    offsets = _offsets(shift, trace.x)
    steps = tuple(axis.stride for axis in trace.axes)
    moved = tuple(offset // step for offset, step in zip(offsets, steps, strict=True))

    def convolve(values: Array) -> Array:
        return Trace.of(values, trace.w, None, stride, padding, dilation, groups, padding_mode=padding_mode).output

    # Only elements whose windows lie in the picture before the shift and after it cannot meet a border.
    inside = []
    for axis, offset, by in zip(trace.axes, offsets, moved, strict=True):
        within = [
            all(0 <= at < axis.input and 0 <= at - offset < axis.input for at in axis.reads(place))
            for place in range(axis.output)
        ]
        inside.append(np.array(within, bool) & _kept(axis.output, by, 0))
    size = "×".join(map(str, trace.w.shape[2:]))
    name = f"convolution, {size} kernel" if trace.spatial == 2 else f"convolution, kernel of {size}"
    shared = _compare(name, trace.w.size, convolve, trace.x, offsets, moved, inside)
    other = _unshared(trace, seed)
    return _data(trace.x, offsets, moved, steps, (shared, _compare(*other, trace.x, offsets, moved, inside)))


def equivariance(
    x: ArrayLike,
    layer: ArrayLike | Map,
    shift: PerAxis = 2,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    margin: int | None = None,
    seed: int = 0,
    theme: str | Theme = "light",
) -> Still:
    """Draw whether a layer commutes with shifts: shift, then layer, against layer, then shift.

    Beside a convolution stands the layer of the same sizes without shared weights: a dense one with random weights, or
    where that would have over four million weights, one with the convolution's connections and a weight for each.

    Args:
        x: input (C, H, W), (C, W), or one channel without C.
        layer: kernels (K, C / groups, ...) or a bare kernel; or any callable from (1, C, H, W) to (1, K, H', W').
        shift: input elements, an int or one per axis; negative is up and left.
        stride, padding, dilation, groups, padding_mode: of the convolution; of a callable only `stride` is used, the
            input elements from one output element to the next.
        margin: of a callable, how many output elements from its border the layer's border reaches.
        seed: of the random weights.
        theme: "light" or "dark".

    Returns:
        The drawing; ``.data`` is its :class:`EquivarianceData`.

    Raises:
        ArgumentValueError, ArgumentTypeError: as :func:`starconv.conv2d`; also a shift out of the picture.
    """
    data = equivariance_data(
        x, layer, shift, stride, padding, dilation, groups, padding_mode=padding_mode, margin=margin, seed=seed
    )
    return _draw(data, theme)


def _data(x: Array, offsets: Any, moved: Any, steps: Sequence[int], layers: tuple[LayerShift, ...]) -> EquivarianceData:
    exact = all(offset % step == 0 for offset, step in zip(offsets, steps, strict=True))
    return EquivarianceData(x, _shift(x, offsets, 0), offsets, moved, exact, layers)


def _offsets(shift: object, x: Array) -> tuple[int, ...]:
    offsets = per_axis("shift", shift, x.ndim - 1, minimum=-(10**9))
    if any(abs(offset) >= size for offset, size in zip(offsets, x.shape[1:], strict=True)):
        raise ArgumentValueError("shift", shift, f"less than the picture's size {x.shape[1:]}")
    return offsets


def _shift(values: Array, offsets: Sequence[int], fill: float) -> Array:
    """`values` (C, ...) moved by `offsets`, with `fill` where nothing comes from."""
    moved = np.full(values.shape, fill, np.result_type(values, np.float64) if np.isnan(fill) else values.dtype)
    to = tuple(slice(max(by, 0), size + min(by, 0)) for by, size in zip(offsets, values.shape[1:], strict=True))
    came = tuple(slice(max(-by, 0), size + min(-by, 0)) for by, size in zip(offsets, values.shape[1:], strict=True))
    if all(abs(by) < size for by, size in zip(offsets, values.shape[1:], strict=True)):
        moved[(slice(None), *to)] = values[(slice(None), *came)]
    return moved


def _kept(size: int, by: int, border: int) -> NDArray[np.bool_]:
    """Along one axis, the elements that are `border` from the edge before a shift and after it."""
    place = np.arange(size)
    return (place >= border) & (place < size - border) & (place - by >= border) & (place - by < size - border)


def _unshared(trace: Trace, seed: int) -> tuple[str, int, Map]:
    """A layer of the convolution's sizes with independent weights, as large on average: name, weights, the layer."""
    spread = float(np.nanstd(trace.w)) or 1.0
    if trace.x.size * trace.output.size <= DENSE_LIMIT:
        # As many more terms as there are in a sum, so much smaller each: the outputs keep their size.
        share = np.sqrt(np.prod(trace.w.shape[1:]) / trace.x.size)
        matrix = np.random.default_rng(seed).normal(0, spread * share, (trace.output.size, trace.x.size))

        def dense(values: Array) -> Array:
            return (matrix @ values.ravel().astype(np.float64)).reshape(trace.output.shape)

        return "dense layer", matrix.size, dense

    members = trace.w.shape[1]
    first = trace.step(0).window

    def unshared(values: Array) -> Array:
        # A weight for every tap of every window would be larger than all pictures: they are drawn anew each time.
        generator = np.random.default_rng(seed)
        canvas = laid_out(values.astype(np.float64), trace.sources)
        result = np.zeros(trace.output.shape)
        for channel, total in enumerate(result):
            begin = channel // (len(result) // trace.problem.groups) * members
            for source in canvas[begin : begin + members]:
                for starts in itertools.product(*first):
                    window = tuple(
                        slice(start, start + (count - 1) * axis.stride + 1, axis.stride)
                        for start, count, axis in zip(starts, total.shape, trace.axes, strict=True)
                    )
                    total += generator.normal(0, spread, total.shape) * source[window]
        return result

    reached = [
        sum(sources[start + place * axis.stride] >= 0 for start in starts for place in range(axis.output))
        for sources, starts, axis in zip(trace.sources, first, trace.axes, strict=True)
    ]
    return "same connections, weights not shared", len(trace.output) * members * math.prod(map(int, reached)), unshared


def _compare(
    name: str, weights: int | None, apply: Map, x: Array, offsets: Any, moved: Any, inside: Sequence[Array]
) -> LayerShift:
    first = np.asarray(apply(_shift(x, offsets, 0)), np.float64)
    plain = np.asarray(apply(x), np.float64)
    second = _shift(plain, moved, np.nan)
    difference = first - second
    largest = float(np.nanmax(np.abs(plain), initial=0.0)) or 1.0
    mask = np.zeros(plain.shape[1:], bool)
    mask[np.ix_(*inside)] = True
    known = np.abs(difference[np.isfinite(difference)])
    within = np.abs(difference[:, mask])
    return LayerShift(
        name,
        weights,
        first[0],
        second[0],
        difference[0],
        mask,
        float(np.nanmax(within, initial=0.0)) / largest,
        float(known.max(initial=0.0)) / largest,
    )


def _draw(data: EquivarianceData, theme: str | Theme) -> Still:
    wide, high = tile_size(data.x.shape[1:], 1.95, 3.2)
    o_wide, o_high = tile_size(data.layers[0].difference.shape, 1.95, 3.2)
    tall = max(high, o_high)
    top, row, gap = 1.75, tall + 1.15, 0.55
    lines = len(data.layers)
    width = max(0.7 + wide + 3 * o_wide + 3 * gap + 0.35, 9.6)
    by = ", ".join(str(offset).replace("-", "−") for offset in data.shift)
    by_output = ", ".join(str(offset).replace("-", "−") for offset in data.output_shift)
    title = "Shift the input and the output shifts along: that is equivariance"
    note = f"input shifted by ({by}), output by ({by_output})"
    note += "" if data.exact else "; the stride does not divide the shift, so no output shift fits"
    sheet = Sheet(theme, width, top + max(lines, 2) * row + 0.4, title, note)
    look = sheet.theme
    x_scale = scale_of(data.x)
    # The two inputs stand above each other on the left, the layers to their right.
    for line, (values, name) in enumerate(((data.x, "X"), (data.shifted, "shift X"))):
        sheet.picture((0.35, top + line * row, wide, tall), values[0], x_scale, name=name)
    middle = 0.35 + wide / 2
    sheet.arrow((middle, top + (tall + high) / 2 + 0.08), (middle, top + row + (tall - high) / 2 - 0.3))
    free = (width - 0.7 - wide - 3 * o_wide) / 3
    for line, layer in enumerate(data.layers):
        y = top + line * row
        start = 0.35 + wide + free
        scale = scale_of(layer.shift_first, layer.layer_first)
        reach = max(abs(scale.low), abs(scale.high))
        weights = "" if layer.weights is None else f", {layer.weights:,} weight{'s' * (layer.weights != 1)}"
        place = y + (tall - o_high) / 2
        sheet.text(start, place - 0.42, f"{layer.name}{weights}", size=11.5, weight="bold", across="left")
        names = ("layer(shift X)", "shift(layer X)", "difference")
        for number_of_picture, (values, name) in enumerate(
            zip((layer.shift_first, layer.layer_first, layer.difference), names, strict=True)
        ):
            x = start + number_of_picture * (o_wide + free)
            colours = scale if name != "difference" else Scale(-reach, reach, True)
            grid = _known(sheet, (x, y, o_wide, tall), values, colours, name)
            if number_of_picture:
                sheet.text(x - free / 2, y + tall / 2, "−="[number_of_picture - 1], size=17, colour=look.muted)
        rows, columns = np.nonzero(np.atleast_2d(layer.inside))
        if rows.size and line == 0:
            sheet.frame(
                grid, (int(rows.min()), int(rows.max())), (int(columns.min()), int(columns.max())), look.output, width=2
            )
        verdict = f"largest difference {_percent(layer.error_inside)} inside, {_percent(layer.error)} anywhere"
        sheet.text(width - 0.35, place + o_high + 0.2, verdict, size=10.5, across="right", colour=look.muted)
    legend = "Hatched: shifted in from outside, unknown.  Frame: inside it no border is felt."
    legend += "  Differences in per cent of the largest output."
    sheet.label(0.35, sheet.height - 0.25, legend, across="left")
    errors = "; ".join(f"{layer.name}: {_percent(layer.error_inside)}" for layer in data.layers)
    return Still(sheet.figure, f"Equivariance to a shift by ({by}), largest difference inside: {errors}.", data)


def _known(sheet: Sheet, box: tuple[float, float, float, float], values: Array, scale: Scale, name: str) -> Grid:
    """A picture whose unknown elements (NaN) are hatched and without a number."""
    array = np.atleast_2d(values)
    unknown = np.isnan(array)
    filled = np.where(unknown, 0.0, array)
    return sheet.picture(box, filled, scale, name=name, hatched=unknown if unknown.any() else None, silent=unknown)


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{100 * share:.0f} %" if share >= 0.1 else f"{number(100 * share, 2)} %"
