"""What layers have compiled code for, where there is any: every function gives None where NumPy must do it instead."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import Array, channels_last_in_memory
from ..engine.runtime.recycling import recycled_empty
from ..geometry import Axis
from ..problem import Problem

if TYPE_CHECKING:
    from ..engine.plan import Plan

__all__ = [
    "Counts",
    "dense",
    "dense_gradients",
    "dense_problem",
    "descended",
    "elementwise",
    "laid_out_like",
    "pixels",
    "pooled",
    "pooling_gradient",
    "sums",
]

Counts = tuple[tuple[int, ...], ...]


def elementwise(operation: str, *inputs: Array, numbers: Sequence[float] = ()) -> Array | None:
    """`engine.elementwise.run`: the result of an operation, with its channels where the first input has them."""
    if inputs[0].dtype.kind != "f":
        return None
    from ..engine.elementwise import run

    out = empty_like_in_memory(inputs[0], inputs[0].shape)
    return out if run(operation, inputs, [out], numbers) else None


def descended(
    value: Array, velocity: Array, gradient: Array, numbers: tuple[float, ...], *, nesterov: bool
) -> tuple[Array, Array] | None:
    """`engine.elementwise`'s "descend": new weights and velocities, in arrays of their own."""
    if not value.dtype == velocity.dtype == gradient.dtype:
        return None
    from ..engine.elementwise import run

    results = np.empty(value.shape, value.dtype), np.empty(value.shape, value.dtype)
    return (
        results
        if run("descend_nesterov" if nesterov else "descend", (value, velocity, gradient), results, numbers)
        else None
    )


def dense(x: Array, weight: Array, bias: Array | None) -> Array | None:
    """x W^T + b for rows x (N, C) and W (K, C): a convolution with one tap of a row of N pixels with C channels.

    NumPy's matrix product would leave its own threads awake, in the way of those of the layers around it: a step of a
    small network takes a third longer.
    """
    plan = _dense_plan("conv", x, weight.shape, bias is not None) if x.dtype == weight.dtype else None
    return None if plan is None else _rows(plan(_laid_out(x), weight[:, :, np.newaxis, np.newaxis], bias))


def dense_gradients(grad: Array, x: Array, weight: Array, needed: bool) -> tuple[Array, Array | None] | None:
    """grad^T x for the weight and, if `needed`, grad W for the input; grad (N, K), x (N, C), W (K, C)."""
    if not grad.dtype == x.dtype == weight.dtype:
        return None
    plan = _dense_plan("weight_grad", x, weight.shape, False)
    back = _dense_plan("conv", grad, weight.shape[::-1], False)
    if plan is None or back is None:
        return None
    descent = plan(_laid_out(x), _laid_out(grad))[:, :, 0, 0]
    return descent, _rows(back(_laid_out(grad), weight.T[:, :, np.newaxis, np.newaxis])) if needed else None


def _dense_plan(operation: str, x: Array, shape: tuple[int, ...], bias: bool) -> "Plan | None":
    """The plan for rows `x` and weights of `shape`; None where there is no compiled code for it."""
    if x.dtype not in (np.float32, np.float64) or not x.size:
        return None
    from ..engine.emit.target import host_target
    from ..engine.planner import wisdom_state

    if host_target() is None:
        return None
    return _kept_dense_plan(operation, x.shape, shape, x.dtype.name, bias, wisdom_state())


@lru_cache(maxsize=256)
def _kept_dense_plan(
    operation: str, x_shape: tuple[int, ...], shape: tuple[int, ...], dtype: str, bias: bool, state: int
) -> "Plan":
    from ..engine.planner import make_plan

    rows, inputs = x_shape
    return make_plan(dense_problem(operation, rows, inputs, shape[0], dtype, bias))


def dense_problem(operation: str, rows: int, inputs: int, outputs: int, dtype: str, bias: bool) -> Problem:
    """A dense layer (or, as "weight_grad", the gradient of its weight) for so many rows, as a convolution."""
    shapes = (1, inputs, 1, rows), (outputs, inputs, 1, 1)
    return Problem.of_shapes(*shapes, operation=operation, dtype=dtype, bias=bias, channels_last=True)


def pixels(rows: Array) -> Array:
    """(N, C), dense, as (1, C, 1, N): a picture whose channels lie side by side."""
    return rows.T[np.newaxis, :, np.newaxis, :]


def _laid_out(rows: Array) -> Array:
    return pixels(np.ascontiguousarray(rows))


def _rows(picture: Array) -> Array:
    """(1, C, 1, N) as (N, C)."""
    return picture[0, :, 0, :].T


def sums(name: str, arrays: Sequence[Array], numbers: Sequence[Array] = ()) -> Array | None:
    """`engine.sums.run`: sums (outputs, C) over everything but the channel of (N, C, ...) arrays."""
    if arrays[0].dtype.kind != "f":
        return None
    from ..engine.sums import run

    return run(name, arrays, numbers)


def pooled(
    x: Array, axes: tuple[Axis, ...], divisors: Counts | None = None, *, winners: bool = False
) -> tuple[Array, Array | None] | None:
    """Maxima of (..., H, W), or means by `divisors`; and with `winners` the numbers of the taps that had the maxima."""
    if x.dtype.kind != "f" or not 2 <= x.ndim <= 4:
        return None
    from ..engine.pooling import run

    shape = (*x.shape[:-2], *(axis.output for axis in axes))
    out = empty_like_in_memory(x, shape)
    winner = empty_like_in_memory(x, shape) if winners else None
    given, result, numbers = (None if array is None else _in_four_axes(array) for array in (x, out, winner))
    assert given is not None
    assert result is not None
    return (out, winner) if run(given, axes, result, divisors=divisors, winner=numbers) else None


def pooling_gradient(
    grad: Array, axes: tuple[Axis, ...], divisors: Counts | None = None, winner: Array | None = None
) -> Array | None:
    """The gradient of the input, for that of what `pooled` gave."""
    if grad.dtype.kind != "f" or not 2 <= grad.ndim <= 4:
        return None
    from ..engine.pooling import gradient

    result = empty_like_in_memory(grad, (*grad.shape[:-2], *(axis.input for axis in axes)))
    given = _in_four_axes(grad)
    if winner is not None:
        winner = _in_four_axes(winner)
        if winner.strides != given.strides:
            given, copied = np.empty_like(winner), given
            given[...] = copied
    return result if gradient(given, axes, _in_four_axes(result), divisors=divisors, winner=winner) else None


def empty_like_in_memory(array: Array, shape: tuple[int, ...]) -> Array:
    """A new array of `shape` (N, C, ...), with its channels last in memory where `array` has them so."""
    if array.ndim > 2 and channels_last_in_memory(array):
        return np.moveaxis(recycled_empty((shape[0], *shape[2:], shape[1]), array.dtype), -1, 1)
    return recycled_empty(shape, array.dtype)


def laid_out_like(array: Array, other: Array) -> Array:
    """`array`, copied if need be so that its channels are where `other` has them, as kernels of both want it."""
    if array.strides == other.strides:
        return array
    copied = empty_like_in_memory(other, array.shape)
    copied[...] = array
    return copied


def _in_four_axes(array: Array) -> Array:
    return array[(np.newaxis,) * (4 - array.ndim)]
