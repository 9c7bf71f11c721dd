"""Nodes beside convolutions that compiled code can do: activations, sums, pools, and copies of what is no view.

One function per kind: it writes down the jobs of a node, or gives None, and the node is interpreted.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..geometry import Axis
from ..nets.graph import Node
from . import elementwise, pooling
from .runtime.jobs import Job

__all__ = ["Wanted", "native_jobs"]

Array = NDArray[Any]
Written = list[Job] | None


class Wanted(NamedTuple):
    """A node with its arrays.

    Attributes:
        node: what is to be computed.
        given: its inputs, None for what is left out.
        out: where its first output goes; there is no other.
        opset: the version of ONNX's operators that it follows.
        constants: names of inputs whose values are known.
    """

    node: Node
    given: Sequence[Array | None]
    out: Array
    opset: int
    constants: AbstractSet[str]

    @property
    def x(self) -> Array:
        """The first input."""
        assert self.given[0] is not None
        return self.given[0]

    def number(self, name: str, default: float) -> float:
        """An attribute."""
        return float(self.node.attributes.get(name, default))  # type: ignore[arg-type]

    @property
    def rest_is_known(self) -> bool:
        """Whether all inputs but the first are constants, or left out."""
        return all(not name or name in self.constants for name in self.node.inputs[1:])


def native_jobs(wanted: Wanted) -> Written:
    """The jobs that compute it, or None."""
    write = KINDS.get(wanted.node.op)
    return None if write is None else write(wanted)


def _elementwise(operation: str, inputs: int = 1, *attributes: tuple[str, float]) -> Callable[[Wanted], Written]:
    """An operation of `elementwise`, whose numbers are attributes (name, default)."""

    def write(wanted: Wanted) -> Written:
        arrays = [array for array in wanted.given if array is not None]
        if len(arrays) != inputs or len(wanted.given) != inputs:
            return None
        numbers = [wanted.number(*attribute) for attribute in attributes]
        return elementwise.jobs(operation, arrays, [wanted.out], numbers)

    return write


def _swish(wanted: Wanted) -> Written:
    """x / (1 + e^-x); not with another slope."""
    return elementwise.jobs("silu", [wanted.x], [wanted.out]) if wanted.number("alpha", 1.0) == 1 else None


def _clip(wanted: Wanted) -> Written:
    """Between numbers that are known."""
    if not wanted.rest_is_known:
        return None
    limits = []
    for place, (name, default) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
        array = wanted.given[place] if len(wanted.given) > place else None
        limits.append(wanted.number(name, default) if array is None else float(array))
    return elementwise.jobs("clip", [wanted.x], [wanted.out], limits)


def _copy(wanted: Wanted) -> Written:
    """What would be a view, but for where its values lie or are wanted."""
    from ..nets.operators import run_node

    x = wanted.x
    if wanted.node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        try:
            return elementwise.jobs("copy", [x], [wanted.out.reshape(x.shape, copy=False)])
        except ValueError:
            return None
    (view,) = run_node(wanted.node, list(wanted.given), wanted.opset)
    return elementwise.jobs("copy", [view], [wanted.out]) if np.may_share_memory(view, x) else None


def _concat(wanted: Wanted) -> Written:
    """Parts that have not been written where they belong are copied there."""
    out = wanted.out
    axis, start = int(wanted.number("axis", 0)) % out.ndim, 0
    jobs: list[Job] = []
    for array in wanted.given:
        assert array is not None
        part = out[(slice(None),) * axis + (slice(start, start + array.shape[axis]),)]
        start += array.shape[axis]
        if _address(part) == _address(array) and part.strides == array.strides:
            continue
        written = elementwise.jobs("copy", [array], [part])
        if written is None:
            return None
        jobs += written
    return jobs


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _normalization(wanted: Wanted) -> Written:
    """x scale + shift per channel, rounded as the other form is."""
    x, numbers = wanted.x, wanted.given[1:]
    if len(numbers) != 4 or not wanted.rest_is_known or wanted.node.attributes.get("training_mode"):
        return None
    scale, shift, mean, variance = (np.asarray(array, np.float64) for array in numbers)
    factor = scale / np.sqrt(variance + wanted.number("epsilon", 1e-5))
    shape = (-1, *[1] * (x.ndim - 2))
    terms = [values.astype(x.dtype).reshape(shape) for values in (factor, shift - mean * factor)]
    return elementwise.jobs("scale_shift", [x, *terms], [wanted.out])


def _pool(wanted: Wanted) -> Written:
    """MaxPool and AveragePool."""
    from ..nets.operators import LARGEST
    from ..nets.operators.table import Call
    from ..nets.operators.windows import pool_axes, window_arguments

    x = wanted.x
    if not 3 <= x.ndim <= 5:
        return None
    call = Call(wanted.node, wanted.opset, LARGEST)
    axes = pool_axes(call, x)
    divisors = None
    if wanted.node.op == "AveragePool":
        _, pads, _ = window_arguments(call, x.shape[2:], [axis.kernel for axis in axes])
        divisors = pooling.counts(axes, pads if call.integer("count_include_pad", 0) else ((0, 0),) * len(pads))
        if any(0 in each for each in divisors):
            return None
    return pooling.jobs(x, axes, wanted.out, divisors=divisors)


def _global_pool(wanted: Wanted) -> Written:
    """Of whole pictures."""
    x = wanted.x
    if not 3 <= x.ndim <= 5 or 0 in x.shape:
        return None
    axes = tuple(Axis(size, size) for size in x.shape[2:])
    divisors = None if wanted.node.op == "GlobalMaxPool" else pooling.counts(axes, ((0, 0),) * len(axes))
    try:
        whole = wanted.out.reshape((*x.shape[:2], *[1] * len(axes)), copy=False)
    except ValueError:
        return None
    return pooling.jobs(x, axes, whole, divisors=divisors)


def _reduce_mean(wanted: Wanted) -> Written:
    """A mean over all axes but the first two."""
    x = wanted.x
    axes: Any = wanted.given[1] if len(wanted.given) > 1 else wanted.node.attributes.get("axes")
    if axes is None or not wanted.rest_is_known:
        return None
    if sorted(int(axis) % x.ndim for axis in axes) != list(range(2, x.ndim)):
        return None
    return _global_pool(wanted)


KINDS: dict[str, Callable[[Wanted], Written]] = {
    "Add": _elementwise("add", 2),
    "Sub": _elementwise("subtract", 2),
    "Mul": _elementwise("multiply", 2),
    "Div": _elementwise("divide", 2),
    "Max": _elementwise("maximum", 2),
    "Min": _elementwise("minimum", 2),
    "Relu": _elementwise("relu"),
    "LeakyRelu": _elementwise("leaky_relu", 1, ("alpha", 0.01)),
    "HardSigmoid": _elementwise("hard_sigmoid", 1, ("alpha", 0.2), ("beta", 0.5)),
    "HardSwish": _elementwise("hard_swish"),
    "Swish": _swish,
    "Sigmoid": _elementwise("sigmoid"),
    "Tanh": _elementwise("tanh"),
    "Exp": _elementwise("exp"),
    "Clip": _clip,
    "BatchNormalization": _normalization,
    "Concat": _concat,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice"), _copy),
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool"), _global_pool),
    "ReduceMean": _reduce_mean,
}
