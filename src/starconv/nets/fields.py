"""Which input elements a unit inside a network depends on: spans traced back from the unit, node by node.

A span is the first and the last element along one spatial axis. Sums and concatenations join the spans of their inputs.
Source for convolutions: A. Araujo, W. Norris and J. Sim, "Computing receptive fields of convolutional neural networks",
Distill 2019, doi:10.23915/distill.00021.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import ArgumentValueError
from ..geometry import Axis, per_axis
from .graph import Graph, Node
from .operators import LARGEST
from .operators.table import Call
from .operators.windows import pool_axes, window_arguments

__all__ = ["Span", "input_spans"]

Span = tuple[int, int]
Spans = tuple[Span, ...]
Shapes = Mapping[str, tuple[int, ...]]

_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})


def input_spans(graph: Graph, shapes: Shapes, value: str, at: Sequence[int] | None) -> Spans:
    """What the element at `at` of `value` depends on in the graph's first input, per spatial axis.

    Args:
        graph: the network.
        shapes: of all values between its inputs and `value`.
        value: the name of a value (N, C, ...).
        at: the place along the spatial axes, by default the middle.
    """
    shape, source = shapes[value], graph.inputs[0].name if graph.inputs else ""
    count = len(shapes.get(source, ())) - 2
    if count < 1:
        raise ArgumentValueError("layer", value, "a network with an input (N, C, ...)", shape=shapes.get(source))
    if len(shape) != count + 2:
        # A layer behind the flattening: everything that is left of the input.
        place: Spans = ()
    else:
        middle = [length // 2 for length in shape[2:]]
        chosen = middle if at is None else per_axis("at", at, count, minimum=0)
        if any(entry >= length for entry, length in zip(chosen, shape[2:], strict=True)):
            raise ArgumentValueError("at", tuple(chosen), f"a place inside of {shape[2:]}")
        place = tuple((entry, entry) for entry in chosen)
    reached: dict[str, Spans] = {value: place or _all(shape)}
    for node in reversed(graph.upto([value])):
        for output in node.outputs:
            if output not in reached:
                continue
            for name, spans in _back(node, shapes, shapes[output], reached[output]).items():
                reached[name] = _joined(reached[name], spans) if name in reached else spans
    if source not in reached:
        raise ArgumentValueError("layer", value, f"a layer that depends on {source!r}")
    return reached[source]


def _all(shape: Sequence[int]) -> Spans:
    return tuple((0, length - 1) for length in shape[2:])


def _joined(first: Spans, second: Spans) -> Spans:
    if len(first) != len(second):
        return first if len(first) > len(second) else second
    return tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(first, second, strict=True))


def _back(node: Node, shapes: Shapes, output: tuple[int, ...], spans: Spans) -> dict[str, Spans]:
    """The spans in each input of `node` that `spans` of its output depend on; of all of it where that is not known."""
    names = [name for name in node.inputs if name and name in shapes]
    first = names[0] if names else ""
    shape = shapes.get(first, ())
    # A node of another shape than pictures has no places; it depends on all of its inputs.
    everything = {name: _all(shapes[name]) for name in names}
    if len(output) < 3 or len(spans) != len(output) - 2:
        return everything
    call = Call(node, 21, LARGEST)
    if node.op == "Conv" or node.op in _POOLS:
        if node.op == "Conv":
            kernel = shapes[node.inputs[1]][2:]
            strides, pads, dilations = window_arguments(call, shape[2:], kernel)
            axes = tuple(
                Axis(size, taps, step, *pad, spread)
                for size, taps, step, pad, spread in zip(shape[2:], kernel, strides, pads, dilations, strict=True)
            )
        else:
            axes = pool_axes(call, np.broadcast_to(np.float32(0), shape))
        return {first: tuple(_window(axis, span) for axis, span in zip(axes, spans, strict=True))}
    if node.op == "ConvTranspose":
        return {first: tuple(_stamps(*entry) for entry in _transposed(call, node, shapes, output, spans))}
    if node.op in ("Resize", "Upsample"):
        reach = {"nearest": 0, "linear": 1, "cubic": 2}.get(str(node.attributes.get("mode", "nearest")), 2)
        sizes = zip(spans, shape[2:], output[2:], strict=True)
        return {first: tuple(_scaled(span, before, after, reach) for span, before, after in sizes)}
    local = node.op in _LOCAL or (node.op == "Concat" and call.integer("axis") % len(output) == 1)
    if not local:
        return everything
    # Element by element, with broadcasting: the same place, or the only one there is.
    same: dict[str, Spans] = {}
    for name in names:
        sizes_of = shapes[name]
        if len(sizes_of) == len(output):
            pairs = zip(sizes_of[2:], spans, strict=True)
            same[name] = tuple((0, 0) if length == 1 else span for length, span in pairs)
        else:
            same[name] = everything[name]
    return same


_NAMES = (
    "Relu LeakyRelu PRelu Clip Sigmoid HardSigmoid HardSwish Tanh Elu Celu Selu Softplus Softsign Gelu Mish Swish "
    "ThresholdedRelu Shrink Exp Log Sqrt Abs Neg Floor Ceil Round Sign Reciprocal Erf Sin Cos Not Identity Dropout "
    "Cast Add Sub Mul Div Pow Mod Min Max Sum Mean And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual Where "
    "BatchNormalization LRN"
)
_LOCAL = frozenset(_NAMES.split())
"""Operators that read an element's own place only (and other channels of it)."""


def _window(axis: Axis, span: Span) -> Span:
    return axis.reads(span[0])[0], axis.reads(span[1])[-1]


def _transposed(
    call: Call, node: Node, shapes: Shapes, output: tuple[int, ...], spans: Spans
) -> list[tuple[Span, int, int, int, int]]:
    shape, kernel = shapes[node.inputs[0]][2:], shapes[node.inputs[1]][2:]
    strides, pads, dilations = window_arguments(call, shape, kernel)
    found = []
    for number, span in enumerate(spans):
        extent = dilations[number] * (kernel[number] - 1) + 1
        before = pads[number][0]
        if call.has("output_shape") or str(node.attributes.get("auto_pad", "NOTSET")).startswith("SAME"):
            total = (shape[number] - 1) * strides[number] + extent - output[2 + number]
            before = total // 2 if node.attributes.get("auto_pad") == "SAME_UPPER" else total - total // 2
        found.append((span, extent, strides[number], before, shape[number]))
    return found


def _stamps(span: Span, extent: int, stride: int, before: int, length: int) -> Span:
    """The inputs whose stamps, `extent` long and `stride` apart, reach `span` of the output."""
    first, last = -(-(span[0] + before - extent + 1) // stride), (span[1] + before) // stride
    return max(min(first, length - 1), 0), max(min(last, length - 1), 0)


def _scaled(span: Span, before: int, after: int, reach: int) -> Span:
    """The inputs around the place that `span` shows, `reach` more on both sides; clipped, since nothing is padded."""
    first = int(np.floor(span[0] * before / after)) - reach
    last = int(np.ceil((span[1] + 1) * before / after)) - 1 + reach
    return max(first, 0), min(last, before - 1)
