"""Operators that sum up, compare or sort along axes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .elementwise import special
from .table import Array, Call, Refusal, axes_of, axis_of, mean_of, operator


def _end(x: Array, sign: int) -> Any:
    """The least (-1) or the greatest (1) number of x's type: the extreme of nothing."""
    if x.dtype.kind == "b":
        return sign > 0
    if x.dtype.kind == "f":
        return x.dtype.type(sign * np.inf)
    return np.iinfo(x.dtype).max if sign > 0 else np.iinfo(x.dtype).min


def _reduction(function: Callable[[Array, tuple[int, ...], bool], Any], name: str, kinds: str = "iuf") -> None:
    def run(call: Call, x: Array, axes: Array | None = None) -> Any:
        listed = call.listed("axes", axes)
        if not listed:
            if call.integer("noop_with_empty_axes", 0):
                return function(x, (), True) if name in _ELEMENTWISE_TOO else x
            listed = tuple(range(x.ndim))
        return np.asarray(function(x, axes_of(listed, x.ndim), bool(call.integer("keepdims", 1)))).astype(
            x.dtype, copy=False
        )

    operator(name, kinds=kinds)(run)


_ELEMENTWISE_TOO = ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
"""With no axes at all these still apply their function to each element."""

_reduction(mean_of, "ReduceMean")
_reduction(lambda x, axes, keep: x.sum(axis=axes, keepdims=keep), "ReduceSum")
_reduction(lambda x, axes, keep: x.max(axis=axes, keepdims=keep, initial=_end(x, -1)), "ReduceMax", "biuf")
_reduction(lambda x, axes, keep: x.min(axis=axes, keepdims=keep, initial=_end(x, 1)), "ReduceMin", "biuf")
_reduction(lambda x, axes, keep: x.prod(axis=axes, keepdims=keep), "ReduceProd")
_reduction(lambda x, axes, keep: np.abs(x).sum(axis=axes, keepdims=keep), "ReduceL1")
_reduction(lambda x, axes, keep: np.sqrt(np.square(x).sum(axis=axes, keepdims=keep)), "ReduceL2")
_reduction(lambda x, axes, keep: np.square(x).sum(axis=axes, keepdims=keep), "ReduceSumSquare")
_reduction(lambda x, axes, keep: np.log(x.sum(axis=axes, keepdims=keep)), "ReduceLogSum", "f")
_reduction(lambda x, axes, keep: special().logsumexp(x, axis=axes, keepdims=keep), "ReduceLogSumExp", "f")


def _position(function: Callable[..., Any], name: str) -> None:
    def run(call: Call, x: Array) -> Array:
        axis = axis_of(call.integer("axis", 0), x.ndim)
        if not x.shape[axis]:
            raise Refusal("there is nothing to choose from")
        if call.integer("select_last_index", 0):
            found = x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis, keepdims=True)
        else:
            found = function(x, axis=axis, keepdims=True)
        found = np.asarray(found, np.int64)
        return found if call.integer("keepdims", 1) else found.squeeze(axis)

    operator(name, kinds="iuf")(run)


_position(np.argmax, "ArgMax")
_position(np.argmin, "ArgMin")


def _soft(function: Callable[[Array, int], Array], name: str) -> None:
    def run(call: Call, x: Array) -> Array:
        if call.opset >= 13:
            return function(x, axis_of(call.integer("axis", -1), x.ndim))
        # Until opset 12 all axes from `axis` on were one.
        axis = call.integer("axis", 1)
        axis = x.ndim if axis == x.ndim else axis_of(axis, x.ndim)
        flat = x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
        return function(flat, 1).reshape(x.shape)

    operator(name, kinds="f")(run)


def _softmax(x: Array, axis: int) -> Any:
    powers = np.exp(x - x.max(axis=axis, keepdims=True)) if x.shape[axis] else x
    return powers / powers.sum(axis=axis, keepdims=True)


def _log_softmax(x: Array, axis: int) -> Any:
    if not x.shape[axis]:
        return x
    less = x - x.max(axis=axis, keepdims=True)
    return less - np.log(np.exp(less).sum(axis=axis, keepdims=True))


def _hardmax(x: Array, axis: int) -> Array:
    if not x.shape[axis]:
        return x
    first = np.expand_dims(x.argmax(axis=axis), axis)
    result = np.zeros_like(x)
    np.put_along_axis(result, first, 1, axis)
    return result


_soft(_softmax, "Softmax")
_soft(_log_softmax, "LogSoftmax")
_soft(_hardmax, "Hardmax")


@operator("CumSum", kinds="iuf")
def cumulative_sum(call: Call, x: Array, axis: Array) -> Array:
    """Running sums, with or without the element itself, from either end."""
    if axis.size != 1 or axis.dtype.kind not in "iu":
        raise Refusal("the axis should be one integer")
    along = axis_of(int(axis.reshape(-1)[0]), x.ndim)
    flipped = np.flip(x, along) if call.integer("reverse", 0) else x
    sums = flipped.cumsum(axis=along, dtype=x.dtype)
    if call.integer("exclusive", 0):
        sums = sums - flipped
    return np.flip(sums, along) if call.integer("reverse", 0) else sums


@operator("TopK", kinds="iuf")
def top_k(call: Call, x: Array, k: Array | None = None) -> tuple[Array, Array]:
    """The k largest or smallest along an axis, in order, and where they are; of equals the first."""
    count = call.integer("k") if k is None else int(k.reshape(-1)[0]) if k.size == 1 else -1
    axis = axis_of(call.integer("axis", -1), x.ndim)
    if not 0 <= count <= x.shape[axis]:
        raise Refusal(f"k = {count} should be from 0 to {x.shape[axis]}")
    if call.integer("largest", 1):
        # The order of the flipped array, flipped back: equals stay in their order.
        order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    order = order.take(np.arange(count), axis=axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int64)


@operator("NonZero")
def non_zero(call: Call, x: Array) -> Array:
    """Where x is not zero: one row per axis."""
    return np.array(np.nonzero(x), np.int64).reshape(x.ndim, -1)
