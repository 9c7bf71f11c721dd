"""Inputs of a network that a command makes itself: their sizes as one types them, and numbers to fill them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ArgumentValueError
from .parsing import per_axis_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..nets.graph import Value
    from ..nets.network import Network

__all__ = ["SIDE", "InputSizes", "input_shapes", "made_inputs"]

SIDE = 224
"""Pixels that networks for ImageNet are shown, along each axis, where they leave it open."""

InputSizes = Annotated[
    list[str] | None,
    typer.Option(
        "-i",
        "--input",
        help="Size of an input, 1x3x224x224, or with its name x=1x3x224x224; once for each input that the network "
        f"leaves open, in its order. By default what the network asks for, else {SIDE}, of a batch one. A size that "
        "several inputs have in common need be given once.",
    ),
]


def input_shapes(network: "Network", texts: Sequence[str] | None) -> list[tuple[int, ...]]:
    """The shapes of all inputs: those that are asked for, else those that suit the network.

    Sizes that have one name are one size (batch, height): what is given for one input holds for the others too. A shape
    may be given without its first axis, that of the batch.

    Raises:
        ArgumentValueError: text that is no shape, for no input, or for one that takes another; an input of which not
            even the number of axes is known, and none is given; one that would not fit into memory.
    """
    from ..nets.interpret import check_shape

    given = _given(network, texts or ())
    sizes: dict[str, int] = {}
    for value in network.inputs:
        if value.name in given:
            text, typed = given[value.name]
            check_shape(value, typed, sizes, "input", text)
    for value in network.inputs:  # a batch of one, also where another input has that size along a later axis
        if value.shape and isinstance(value.shape[0], str):
            sizes.setdefault(value.shape[0], 1)
    shapes = []
    for value in network.inputs:
        shown, wanted = given.get(value.name, (None, None))
        if value.shape is None and wanted is None:
            raise ArgumentValueError("input", shown, f"a size for {value}, such as {value.name}=1x3x224x224")
        shape = tuple(
            size if isinstance(size, int) else sizes.get(size or "", SIDE if axis else 1)
            for axis, size in enumerate(_merged(value, wanted))
        )
        if math.prod(shape) * 8 > network.largest:
            raise ArgumentValueError("input", shape, f"a size of at most {network.largest // 8:,} numbers for {value}")
        shapes.append(shape)
    return shapes


def made_inputs(network: "Network", shapes: Sequence[tuple[int, ...]], seed: int) -> "list[NDArray[Any]]":
    """Arrays of these shapes: normal numbers; zeros, which are places in any table; true, which hides nothing."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal(shape).astype(value.dtype)
        if value.dtype.kind == "f"
        else np.full(shape, value.dtype.kind == "b", value.dtype)
        for value, shape in zip(network.inputs, shapes, strict=True)
    ]


_Typed = tuple[str, tuple[int | None, ...]]
"""What was typed, and the shape that it says; None for a first axis that was left away."""


def _given(network: "Network", texts: Sequence[str]) -> dict[str, _Typed]:
    """What was typed for each input, by the inputs' names."""
    given: dict[str, _Typed] = {}
    values = {value.name: value for value in network.inputs}
    in_order = iter(network.inputs)
    for text in texts:
        name, named, typed = text.rpartition("=")
        value = values.get(name) if named else next(in_order, None)
        if value is None or value.name in given:
            takes = "; ".join(map(str, network.inputs)) or "none"
            raise ArgumentValueError("input", text, f"a size for one of the network's inputs, each once: {takes}")
        sizes = per_axis_value("input", typed)
        shape: tuple[int | None, ...] = (sizes,) if isinstance(sizes, int) else sizes
        if any(size is not None and size < 0 for size in shape):
            raise ArgumentValueError("input", text, "sizes >= 0")
        if value.shape is not None and len(shape) == len(value.shape) - 1:
            shape = (None, *shape)
        given[value.name] = text, shape
    return given


def _merged(value: "Value", typed: tuple[int | None, ...] | None) -> Sequence[int | str | None]:
    """Per axis the size that was typed, else what the network says of it."""
    if value.shape is None or typed is None:
        return value.shape or typed or ()
    return [own if size is None else size for size, own in zip(typed, value.shape, strict=True)]
