"""A network as a table: shapes, parameters, multiply-adds and receptive field per layer, all from the geometry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import ArgumentValueError
from ..geometry import ReceptiveField, per_axis
from .container import Residual, Sequential
from .module import Module, Shape

__all__ = ["Row", "Summary", "summarize"]

Field = tuple[ReceptiveField, ...] | None
"""Per axis what one element depends on; None for all of the input."""


class Row(NamedTuple):
    """One layer.

    Attributes:
        name: as in ``state_dict``.
        kind: its class.
        output: the shape of its output for one input, without N.
        parameters: how many numbers training changes.
        multiply_adds: products summed up for one input.
        field: input elements per axis that one of its outputs depends on; None for all of them.
    """

    name: str
    kind: str
    output: Shape
    parameters: int
    multiply_adds: int
    field: tuple[int, ...] | None


@dataclass(frozen=True)
class Summary:
    """The rows, one per layer; ``str`` makes a table of them.

    >>> from starconv import nn
    >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10))
    >>> print(network.summary((1, 8, 8)))
    layer           output  parameters  multiply-adds  receptive field
    0 Conv2d     4 x 6 x 6          40          1 296            3 x 3
    1 MaxPool2d  4 x 3 x 3           0              0            4 x 4
    2 Flatten           36           0              0            4 x 4
    3 Linear            10         370            360              all
    input 1 x 8 x 8        410 parameters, 1 656 multiply-adds
    """

    input: Shape
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Of all layers together."""
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Of all layers together, for one input."""
        return sum(row.multiply_adds for row in self.rows)

    def __str__(self) -> str:
        table = [("layer", "output", "parameters", "multiply-adds", "receptive field")]
        for row in self.rows:
            field = "all" if row.field is None else _times(row.field)
            numbers = (_number(row.parameters), _number(row.multiply_adds))
            table.append((f"{row.name} {row.kind}".strip(), _times(row.output), *numbers, field))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                [cells[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(cells[1:], widths[1:], strict=True))]
            )
            for cells in table
        ]
        totals = f"{_number(self.parameters)} parameters, {_number(self.multiply_adds)} multiply-adds"
        return "\n".join([*lines, f"input {_times(self.input)}        {totals}"])


def summarize(network: Module, input_size: Sequence[int]) -> Summary:
    """The summary of `network` for one input of `input_size`, (C, H, W) or what it takes, without N.

    Raises:
        ArgumentValueError: sizes that do not fit a layer, which is named.
    """
    size = per_axis("input_size", tuple(input_size), len(input_size), minimum=1)
    rows: list[Row] = []
    start: Field = tuple(ReceptiveField() for _ in size[1:])
    _walk("", network, (1, *size), start, rows)
    return Summary(size, tuple(rows))


def _walk(name: str, module: Module, shape: Shape, field: Field, rows: list[Row]) -> tuple[Shape, Field]:
    """Append the rows of `module` for an input of `shape`; the shape and the field of its output."""
    if isinstance(module, Sequential):
        for key, child in module.own_children.items():
            shape, field = _walk(_joined(name, key), child, shape, field, rows)
        return shape, field
    if isinstance(module, Residual):
        output, through = _walk(_joined(name, "body"), module.body, shape, field, rows)
        around = field
        if module.shortcut is not None:
            _, around = _walk(_joined(name, "shortcut"), module.shortcut, shape, field, rows)
        if module.output_shape(shape) != output:
            raise ArgumentValueError("shortcut", output, "the shape of the body")
        field = _both(through, around)
        rows.append(Row(name, "+", output[1:], 0, 0, _sizes(field)))
        return output, field
    try:
        output = module.output_shape(shape)
    except ArgumentValueError as error:
        raise ArgumentValueError(
            "input_size", shape[1:], f"what layer {name or type(module).__name__!r} can take ({error})"
        ) from None
    axes = module.window(shape)
    if axes is None or field is None:
        field = None
    elif len(axes) == len(field):
        field = tuple(part.through(axis) for part, axis in zip(field, axes, strict=True))
    parameters = sum(parameter.value.size for parameter in module.parameters())
    rows.append(Row(name, type(module).__name__, output[1:], parameters, module.multiply_adds(shape), _sizes(field)))
    return output, field


def _both(first: Field, second: Field) -> Field:
    """What the sum of two ways depends on: from the first start to the last end."""
    if first is None or second is None:
        return None
    return tuple(
        ReceptiveField(max(a.start + a.size, b.start + b.size) - min(a.start, b.start), a.jump, min(a.start, b.start))
        for a, b in zip(first, second, strict=True)
    )


def _sizes(field: Field) -> tuple[int, ...] | None:
    return None if field is None else tuple(part.size for part in field)


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _times(sizes: Shape) -> str:
    return " x ".join(map(str, sizes)) or "1"


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")
