"""Receptive fields: which input elements one output element depends on, by the geometry and as measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import functional, grad
from ..arguments import as_array
from ..errors import ArgumentTypeError, ArgumentValueError
from ..geometry import Axis
from ..geometry import receptive_field as field_along
from .layers import Layer, Skip, Stage, as_layers, stages
from .panels import Scale, Sheet, number, place_of, scale_of, tile_size
from .save import Still

if TYPE_CHECKING:
    from .theme import Theme

__all__ = ["FieldData", "FieldStep", "receptive_field", "receptive_field_data"]

Array = NDArray[Any]
Span = tuple[int, int]
"""First and last position along one axis."""
Sets = tuple[frozenset[int], ...]
"""Per axis, the positions read; together all of their combinations."""


@dataclass(frozen=True, slots=True)
class FieldStep:
    """How far one element after this layer sees, per axis."""

    name: str
    output_shape: tuple[int, ...]
    size: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class FieldData:
    """What :func:`receptive_field` draws.

    Attributes:
        picture: (H, W) or (W,), shown in the background, or None.
        at: the output element, without its channel.
        span: per axis, first and last input position of the theoretical field; outside the input is padding. None for a
            callable, of which only the measured field is known.
        theory: boolean, the input elements that the geometry says are read; None for a callable.
        measured: how strongly each input element acts on the output element, of the input's size: the gradient of an
            impulse with all weights equal, or the change that a perturbation made.
        steps: the field after each layer.
    """

    picture: Array | None
    at: tuple[int, ...]
    span: tuple[Span, ...] | None
    theory: NDArray[np.bool_] | None
    measured: Array
    steps: tuple[FieldStep, ...]

    @property
    def measured_span(self) -> tuple[Span, ...] | None:
        """Per axis, first and last position that acts on the output element; None if none does."""
        found = np.nonzero(self.measured)
        return tuple((int(along.min()), int(along.max())) for along in found) if found[0].size else None

    @property
    def agrees(self) -> bool | None:
        """Whether exactly those elements act that the geometry names."""
        return None if self.theory is None else bool(np.array_equal(self.theory, self.measured != 0))


def receptive_field(
    layers: object,
    picture: ArrayLike | int | Sequence[int],
    at: Sequence[int] | None = None,
    *,
    theme: str | Theme = "light",
) -> Still:
    """Draw the receptive field of one output element on a picture: by the geometry, and measured.

    Args:
        layers: the stack, as text such as ``"conv 64x7x7 stride=2 padding=3; pool 3x3 stride=2 padding=1"`` (see
            :mod:`starconv.view.layers`; skips and transposed layers too), or any callable from (1, C, H, W) to
            (1, K, H', W'), whose field is measured by changing one row and one column of the picture after the other.
        picture: (H, W), (C, H, W) or a signal (W,) to draw on; or only its size, an int or a tuple (H, W).
        at: (i, j) of the output element, by default the middle.
        theme: "light" or "dark".

    Returns:
        The drawing; ``.data`` is its :class:`FieldData`.

    Raises:
        ArgumentValueError, ArgumentTypeError: layers that do not fit the picture, or an element outside the output.
    """
    return _draw(receptive_field_data(layers, picture, at), theme)


def receptive_field_data(
    layers: object, picture: ArrayLike | int | Sequence[int], at: Sequence[int] | None = None
) -> FieldData:
    """The field of one output element; arguments as :func:`receptive_field`."""
    shown, size = _size(picture)
    if callable(layers):
        return _measured_by_change(layers, shown, picture, size, at)
    stack = as_layers(layers)
    if not stack:
        raise ArgumentValueError("layers", layers, "at least one layer, such as 'conv 8x3x3'")
    chain = stages((1, *size), [_one_channel(layer) for layer in stack])
    place = place_of("at", at, chain[-1].output_shape)[1:]
    theory = np.zeros(size, bool)
    for positions in _reads([tuple(frozenset((entry,)) for entry in place)], chain):
        theory[np.ix_(*(sorted(along) for along in positions))] = True
    impulse = np.zeros((1, 1, *chain[-1].output_shape[1:]))
    impulse[(0, 0, *place)] = 1.0
    steps = []
    for number_of_layers, stage in enumerate(chain, start=1):
        middle = tuple(entry // 2 for entry in stage.output_shape[1:])
        spans = _spans(middle, chain[:number_of_layers])
        sizes = tuple(last - first + 1 for first, last in spans)
        steps.append(FieldStep(_short(stage.layer), stage.output_shape, sizes))
    return FieldData(shown, place, _spans(place, chain), theory, _backward(impulse, chain)[0, 0], tuple(steps))


def _one_channel(layer: Layer | Skip) -> Layer | Skip:
    """The layer with one channel: who reads whom in space does not depend on how many there are."""
    if isinstance(layer, Skip):
        return Skip(tuple(tuple(_one_channel(inner) for inner in path) for path in layer.paths))
    return replace(layer, out_channels=layer.out_channels and 1, groups=1)


def _short(layer: Layer | Skip) -> str:
    """The layer in a line that fits a table: of a skip only the kinds of layers on its paths."""
    if isinstance(layer, Layer):
        return str(layer)
    kinds = (", ".join(inner.kind if isinstance(inner, Layer) else "skip" for inner in path) for path in layer.paths)
    return "skip: " + " + ".join(words or "input" for words in kinds)


def _size(picture: Any) -> tuple[Array | None, tuple[int, ...]]:
    """The picture to draw, if there is one, and its size without channels."""
    if isinstance(picture, (int, np.integer)) or (
        isinstance(picture, tuple) and all(isinstance(n, int) for n in picture)
    ):
        size = (int(picture),) * 2 if isinstance(picture, (int, np.integer)) else tuple(picture)
        if len(size) not in (1, 2) or min(size) < 1:
            raise ArgumentValueError("picture", picture, "a size (H, W) or (W,), each at least 1, or a picture")
        return None, size
    array = as_array("picture", picture)
    if array.ndim not in (1, 2, 3) or not array.size:
        raise ArgumentValueError("picture", array, "(H, W), (C, H, W) or a signal (W,), not empty")
    shown = array.astype(np.float64).mean(0) if array.ndim == 3 else array
    return shown, shown.shape


def _reads(boxes: Iterable[Sets], chain: Sequence[Stage]) -> list[Sets]:
    """The input positions that the output positions `boxes` read through `chain`, back to front."""
    found = list(boxes)
    for stage in reversed(chain):
        if isinstance(stage.layer, Skip):
            found = [box for path in stage.layer.paths for box in _reads(found, stages(stage.input_shape, path))]
            # Most paths see no more than a longer one does: only what no other box contains goes on.
            distinct = list(dict.fromkeys(found))
            found = [box for box in distinct if not any(box != other and _within(box, other) for other in distinct)]
            continue
        axes = stage.layer.axes(stage.input_shape[1:])
        found = [
            tuple(_read_along(axis, along, stage.layer.kind) for axis, along in zip(axes, box, strict=True))
            for box in found
        ]
    return found


def _within(box: Sets, other: Sets) -> bool:
    return all(along <= beside for along, beside in zip(box, other, strict=True))


def _read_along(axis: Axis, positions: frozenset[int], kind: str) -> frozenset[int]:
    if kind == "transposed":  # the axis is that of the convolution it transposes: its output is this layer's input
        return frozenset(output for position in positions for _, output in axis.read_by(position))
    return frozenset(at for position in positions for at in axis.reads(position) if 0 <= at < axis.input)


def _spans(place: Sequence[int], chain: Sequence[Stage]) -> tuple[Span, ...]:
    """First and last input position per axis, with the padding that no clipping takes away."""
    if all(isinstance(stage.layer, Layer) and stage.layer.kind != "transposed" for stage in chain):
        along = zip(*(stage.layer.axes(stage.input_shape[1:]) for stage in chain), strict=True)  # type: ignore[union-attr]
        fields = [field_along(axes) for axes in along]
        starts = [field.start + entry * field.jump for field, entry in zip(fields, place, strict=True)]
        return tuple((start, start + field.size - 1) for start, field in zip(starts, fields, strict=True))
    boxes = _reads([tuple(frozenset((entry,)) for entry in place)], chain)
    boxes = [box for box in boxes if all(box)]
    if not boxes:
        return ((0, -1),) * len(place)
    return tuple(
        (min(min(box[axis]) for box in boxes), max(max(box[axis]) for box in boxes)) for axis in range(len(place))
    )


def _backward(gradient: Array, chain: Sequence[Stage]) -> Array:
    """The gradient of the output's impulse with respect to the input, every weight of a layer being 1 / taps."""
    for stage in reversed(chain):
        layer, size = stage.layer, stage.input_shape[1:]
        if isinstance(layer, Skip):
            paths = [stages(stage.input_shape, path) for path in layer.paths]
            gradient = sum((_backward(gradient, path) for path in paths), np.zeros((1, 1, *size)))
            continue
        axes = layer.axes(size)
        taps = tuple(axis.kernel for axis in axes)
        weights = np.full((1, 1, *taps), 1.0 / np.prod(taps))
        options = (
            [axis.stride for axis in axes],
            [(axis.before, max(axis.after, 0)) for axis in axes],
            [axis.dilation for axis in axes],
        )
        flat = len(size) == 1
        if layer.kind == "transposed":
            forward: Any = functional.conv1d if flat else functional.conv2d
            back = forward(gradient, weights, None, *options)
            gradient = back[(..., *(slice(0, entry) for entry in size))]
        else:
            by_input: Any = grad.conv1d_input if flat else grad.conv2d_input
            gradient = by_input((1, 1, *size), weights, gradient, *options)
    return gradient


def _measured_by_change(
    function: Callable[[Array], Any], shown: Array | None, picture: Any, size: tuple[int, ...], at: Sequence[int] | None
) -> FieldData:
    """Change one row, then one column after the other, and see whether the output element changes."""
    base = np.zeros((1, *size)) if shown is None else np.asarray(picture, np.float64)
    base = np.asarray(base if base.ndim == len(size) + 1 else base[np.newaxis])[np.newaxis]
    first = np.asarray(function(base))
    if first.ndim != base.ndim:
        raise ArgumentTypeError("layers", function, f"a function from {base.shape} to an array with {base.ndim} axes")
    place = place_of("at", at, first.shape[1:])[1:]
    finite = base[np.isfinite(base)]
    step = float(np.ptp(finite)) if finite.size and np.ptp(finite) > 0 else 1.0
    element: Any = (0, slice(None), *place)
    acts = []
    for axis, length in enumerate(size):
        along = np.zeros(length)
        for position in range(length):
            change = [slice(None)] * base.ndim
            change[axis + 2] = slice(position, position + 1)
            # Up and down, since a rectifier may let through only one of them.
            for amount in (step, -step):
                changed = base.copy()
                changed[tuple(change)] += amount
                difference = np.asarray(function(changed))[element] - first[element]
                along[position] = max(along[position], float(np.abs(difference).max()))
        acts.append(along)
    measured = acts[0] if len(acts) == 1 else np.sqrt(np.outer(*acts))
    name = getattr(function, "__name__", type(function).__name__)
    seen = tuple(int(along.astype(bool).sum()) for along in acts)
    return FieldData(shown, place, None, None, measured, (FieldStep(name, first.shape[1:], seen),))


def _draw(data: FieldData, theme: str | Theme) -> Still:
    size = data.measured.shape
    width_in, height_in = tile_size(size, 4.4, 6.4)
    span, seen = data.span, data.measured_span
    # The field may reach beyond the picture into padding; leave room for what is seen of it.
    rows, columns = (1, size[0]) if len(size) == 1 else size
    cell = min(width_in / columns, height_in / rows)
    table = 4.3
    around = ((0, rows - 1), *(span or ()))[-2:] if span and len(size) == 1 else span
    over = (
        [0.0] * 4
        if around is None
        else [
            max(-around[0][0], 0) * cell,
            max(around[0][1] - rows + 1, 0) * cell,
            max(-around[1][0], 0) * cell,
            max(around[1][1] - columns + 1, 0) * cell,
        ]
    )
    over = [min(side, 1.2) for side in over]
    top, left = 1.45 + over[0], 0.35 + over[2]
    listed = min(len(data.steps), 18)
    height = max(top + rows * cell + over[1] + 1.15, 1.45 + 0.26 * (listed + 1) + 1.3)
    width = left + columns * cell + over[3] + 0.45 + table + 0.3
    sizes = "×".join(str(last - first + 1) for first, last in span or seen or ())
    where = ", ".join(map(str, data.at))
    title = f"Receptive field: output element ({where}) sees {sizes or 'no'} input elements"
    sheet = Sheet(theme, width, height, title, _verdict(data))
    look = sheet.theme
    grey = np.full((rows, columns), 0.5) if data.picture is None else np.atleast_2d(data.picture)
    scale = Scale(0.0, 1.0, False) if data.picture is None else scale_of(grey, signed=False)
    strength = np.atleast_2d(data.measured) / (data.measured.max() or 1.0)
    painted = (
        0.25 + 0.5 * scale.colours(grey, look)
        if data.picture is not None
        else np.full((rows, columns, 3), _level(look))
    )
    tint = np.array([0.835, 0.369, 0.0])  # Okabe and Ito's vermilion: far from every grey, in both themes
    share = np.where(strength > 0, 0.22 + 0.78 * np.sqrt(strength), 0.0)[..., None]
    grid = sheet.picture(
        (left, top, columns * cell, rows * cell),
        np.zeros((rows, columns)),
        colours=painted * (1 - share) + tint * share,
        texts=[],
    )
    if around is not None and around[0][1] >= around[0][0]:
        box = grid.box(around[0][0], around[1][0], around[0][1] - around[0][0] + 1, around[1][1] - around[1][0] + 1)
        x0, y0 = max(box[0], 0.12), max(box[1], 1.0)
        x1, y1 = min(box[0] + box[2], width - table - 0.35), min(box[1] + box[3], height - 0.75)
        sheet.outline((x0, y0, x1 - x0, y1 - y0), colour=look.input, width=2.5, style=(0, (4, 1.5)), zorder=4)  # type: ignore[arg-type]
    x = width - table - 0.1
    below = _table(sheet, data, x, listed) + 0.55
    if seen is not None:
        _enlarged(sheet, painted * (1 - share) + tint * share, seen, (x, below, table - 0.1, height - 1.1 - below))
    y = height - 0.5
    sheet.band(
        (0.35, y - 0.06, 0.9, 0.12),
        (np.linspace(0, 1, 64)[None, :, None] * tint + (1 - np.linspace(0, 1, 64)[None, :, None]) * _level(look)),
    )
    sheet.label(1.35, y, "how strongly an input element acts on it (measured)", across="left")
    if around is not None:
        sheet.line([(0.35, y + 0.26), (1.25, y + 0.26)], colour=look.input, width=2.5, style=(0, (4, 1.5)))  # type: ignore[arg-type]
        sheet.label(1.35, y + 0.26, "where it can reach by the geometry; outside the picture is padding", across="left")
    return Still(sheet.figure, title + ".", data)


def _level(look: Theme) -> float:
    return 0.82 if look.name == "light" else 0.28


def _verdict(data: FieldData) -> str:
    if data.agrees is None:
        return "measured by changing one row and one column of the input after the other"
    acting, expected = int((data.measured != 0).sum()), int(np.asarray(data.theory).sum())
    if data.agrees:
        return f"geometry and measurement agree on all {acting:,} input elements; weights all equal"
    return f"the geometry names {expected:,} input elements, {acting:,} were measured (weaker ones vanish in rounding)"


def _enlarged(sheet: Sheet, painted: Array, seen: tuple[Span, ...], box: tuple[float, float, float, float]) -> None:
    """The field alone, as large as `box` allows, where it is a small part of the picture."""
    rows, columns = ((0, 0), *seen)[-2:]
    shown = painted[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1]
    if box[3] < 1.0 or shown.size * 3 > painted.size:
        return
    side = min(box[3] - 0.15, 2.6)
    sheet.picture((box[0], box[1], side, side), shown[..., 0], colours=shown, texts=[], name="the field, enlarged")


def _table(sheet: Sheet, data: FieldData, x: float, listed: int) -> float:
    """The field after each layer: name, output, how far one element sees; where the table ends."""
    look = sheet.theme
    y = 1.42
    for offset, words, across in ((0.0, "after", "left"), (3.35, "output", "right"), (4.2, "sees", "right")):
        sheet.text(x + offset, y, words, size=10.5, weight="bold", across=across)  # type: ignore[arg-type]
    steps = data.steps
    hidden = len(steps) - listed
    for number_of_line, step in enumerate((*steps[: listed // 2], *steps[listed // 2 + hidden :]) if hidden else steps):
        y += 0.26
        last = number_of_line == listed - 1
        if hidden and number_of_line == listed // 2:
            sheet.label(x + 4.2, y, f"{hidden} layers left out", across="right")
            y += 0.26
        size = "×".join(map(str, step.output_shape[1:]))
        sheet.text(x, y, step.name, size=10, across="left", width=2.45, colour=look.text if last else look.muted)
        sheet.text(x + 3.35, y, size, size=10, across="right", colour=look.muted)
        sheet.text(
            x + 4.2,
            y,
            "×".join(map(str, step.size)),
            size=10,
            across="right",
            weight="bold" if last else "normal",
            colour=look.warn if last else look.muted,
        )
    if data.picture is not None and data.measured.max() > 0:
        covered = (data.measured != 0).mean()
        sheet.label(x + 4.2, y + 0.32, f"{number(100 * float(covered), 3)} % of the picture", across="right")
        y += 0.32
    return y
