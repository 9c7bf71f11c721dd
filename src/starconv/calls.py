"""A call on its way: checked, made a Problem, planned, run. Repeated calls are remembered."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arguments import (
    Array,
    as_array,
    border_of,
    channels_last_in_memory,
    checked_out,
    exact_float,
    heaviest,
    is_channels_last,
    peak,
    sum_dtype,
)
from .engine.pieces import PIECE, by_pieces, goes_in_place, sum_of_pieces, wants_pieces
from .engine.plan import Plan, empty_channels_last
from .engine.planner import make_plan, wisdom_state
from .engine.remembered import Remembered
from .engine.runtime.recycling import recycled_empty
from .errors import ArgumentValueError
from .geometry import transposed_axes
from .problem import Problem, as_groups

__all__ = ["Call", "convolve", "planned", "recalled", "run", "transpose", "transposed_problem"]


class Call(NamedTuple):
    """Everything about a call that does not depend on the numbers in its arrays.

    Attributes:
        plan: what computes it.
        dtype: of the result.
        single: the first operand came without its axis N.
        last: it came with its channels last.
        in_pieces: the whole would take large copies in the type of the sums, of an operand or of the result.
        asks_floats: its sums are in int64, and so many that it is worth asking whether floats would be exact.
    """

    plan: Plan
    dtype: np.dtype[Any]
    single: bool
    last: bool
    in_pieces: bool
    asks_floats: bool


def planned(
    problem: Problem,
    dtype: np.dtype[Any],
    first: Array,
    second: Array,
    *,
    single: bool = False,
    last: bool = False,
) -> Call:
    """The call that computes `problem` for operands like these, with a result of `dtype`."""
    plan = make_plan(problem, source=first.dtype.name)
    # What has pictures too: the result, or the gradient of which a weight gradient is made; and what has weights.
    types = (second.dtype, dtype) if problem.operation == "weight_grad" else (dtype, second.dtype)
    in_pieces = wants_pieces(plan, first.dtype, *types, most=PIECE)
    return Call(plan, dtype, single, last, in_pieces, problem.dtype == "int64" and problem.multiply_adds > FEW)


_calls = Remembered[Call](most=1024)
"""Calls seen before, by all that decides them. A repeated call costs microseconds beyond the arithmetic."""
FEW = 10_000
"""Products of integers up to which nothing is compiled for them: NumPy sums them in int64 in 60 to 100 microseconds."""


def _signature(x: object, w: object, b: object, *arguments: object) -> tuple[object, ...] | None:
    """What decides a call, or None where it is not worth remembering: operands or arguments that are not plain.

    Plain, because True and 1.0 equal 1, and a call with them must not pass for one that was checked.
    """
    if type(x) is not np.ndarray or type(w) is not np.ndarray:
        return None
    plain = [
        argument
        if type(argument) is int or type(argument) is str
        else (repr(argument),)  # in a tuple: the text "(1, 1)" is not the pair
        if type(argument) is tuple or type(argument) is list
        else None
        for argument in arguments
    ]
    if None in plain:
        return None
    if b is None:
        return (wisdom_state(), x.shape, x.strides, x.dtype, w.shape, w.dtype, *plain)
    if type(b) is not np.ndarray:
        return None
    return (wisdom_state(), x.shape, x.strides, x.dtype, w.shape, w.dtype, b.shape, b.dtype, *plain)


def recalled(
    first: object, second: object, bias: object, arguments: tuple[object, ...], describe: Callable[[], Call]
) -> Call:
    """The call with such operands and arguments: remembered, or as `describe` checks and plans it."""
    signature = _signature(first, second, bias, *arguments)
    call = _calls.get(signature) if signature is not None else None
    if call is None:
        call = describe()
        if signature is not None:
            _calls.keep(signature, call)  # the planner keeps the plans themselves
    return call


def convolve(
    spatial: int,
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    stride: object,
    padding: object,
    dilation: object,
    groups: int,
    padding_mode: str,
    layout: str,
    precision: str,
    out: Array | None,
) -> Array:
    """The convolution over `spatial` axes; the arguments are those of the public functions."""

    def described() -> Call:
        picture, single, last = _pictures(spatial, x, layout)
        kernels = as_array("w", w)
        bias = _bias(b, len(kernels) if kernels.ndim else 0)
        dtype, result_dtype = sum_dtype(picture, kernels, *(() if bias is None else (bias,)))
        problem = Problem.of_shapes(
            picture.shape,
            kernels.shape,
            stride,
            padding,
            dilation,
            groups,
            dtype=dtype,
            border=border_of(padding_mode),
            channels_last=last or channels_last_in_memory(picture),
            bias=bias is not None,
            precision=precision,
        )
        return planned(problem, result_dtype, picture, kernels, single=single, last=last)

    arguments = "conv", spatial, stride, padding, dilation, groups, padding_mode, layout, precision
    return run(recalled(x, w, b, arguments, described), x, w, b, out)


def transpose(
    spatial: int,
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    stride: object,
    padding: object,
    output_padding: object,
    groups: int,
    dilation: object,
    layout: str,
    precision: str,
    out: Array | None,
) -> Array:
    """The transposed convolution over `spatial` axes; the arguments are those of the public functions."""

    def described() -> Call:
        picture, single, last = _pictures(spatial, x, layout)
        kernels = as_array("w", w)
        dtype, result_dtype = sum_dtype(picture, kernels, *(() if b is None else (as_array("b", b),)))
        problem = transposed_problem(
            picture.shape,
            kernels.shape,
            stride,
            padding,
            output_padding,
            groups,
            dilation,
            shown=kernels,
            dtype=dtype,
            channels_last=last or channels_last_in_memory(picture),
            bias=b is not None,
            precision=precision,
        )
        _bias(b, problem.in_channels)
        return planned(problem, result_dtype, picture, kernels, single=single, last=last)

    arguments = "transpose", spatial, stride, padding, output_padding, groups, dilation, layout, precision
    return run(recalled(x, w, b, arguments, described), x, w, b, out)


def transposed_problem(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: object,
    padding: object,
    output_padding: object,
    groups: int,
    dilation: object,
    *,
    argument: str = "w",
    shown: object = None,
    **options: Any,
) -> Problem:
    """The problem of a transposed convolution of (N, C, ...) with (C, K / groups, ...); `options` are its attributes.

    Raises:
        ArgumentValueError, ArgumentTypeError: naming what does not fit, with the shapes. `argument` is the name of the
            kernels in an error, `shown` their value there: unless it is given, their shape.
    """
    shown = tuple(w_shape) if shown is None else shown
    shapes = {"input_shape": tuple(x_shape), "kernel_shape": tuple(w_shape)}
    if len(w_shape) != len(x_shape) or w_shape[0] != x_shape[1]:
        expected = f"shape (C, K / groups, ...) with C = {x_shape[1]} and {len(x_shape) - 2} kernel sizes"
        raise ArgumentValueError(argument, shown, expected, input_shape=tuple(x_shape))
    count = as_groups(groups)
    if count < 1 or x_shape[1] < 1 or x_shape[1] % count:
        expected = f"a divisor of {x_shape[1]} input channels, both at least 1"
        raise ArgumentValueError("groups", groups, expected, **shapes)
    if w_shape[1] < 1:
        expected = f"at least one output channel, {argument}.shape[1] >= 1"
        raise ArgumentValueError(argument, shown, expected, **shapes)
    return Problem(
        operation="input_grad",
        batch=x_shape[0],
        in_channels=w_shape[1] * count,
        out_channels=x_shape[1],
        axes=transposed_axes(x_shape[2:], w_shape[2:], stride, padding, output_padding, dilation),
        groups=count,
        **options,
    )


def _pictures(spatial: int, x: ArrayLike, layout: str) -> tuple[Array, bool, bool]:
    """`x` as (N, C, ...), whether it came without N, and whether it came with its channels last."""
    array = as_array("x", x)
    last = is_channels_last(layout, spatial)
    if array.ndim not in (spatial + 1, spatial + 2):
        letters = ", ".join(layout or f"NC{'DHW'[3 - spatial :]}")
        raise ArgumentValueError("x", array, f"{spatial + 2} axes ({letters}), or {spatial + 1} without N")
    single = array.ndim == spatial + 1
    if single:
        array = array[np.newaxis]
    return (np.moveaxis(array, -1, 1) if last else array), single, last


def _bias(b: ArrayLike | None, out_channels: int) -> Array | None:
    if b is None:
        return None
    bias = as_array("b", b)
    if bias.shape != (out_channels,):
        raise ArgumentValueError("b", bias, f"shape ({out_channels},), one value per output channel")
    return bias


def run(call: Call, x: ArrayLike, w: ArrayLike, b: ArrayLike | None, out: Array | None) -> Array:
    """The planned result, in the layout and with the axes that the caller's arrays had."""
    first, second, bias = np.asarray(x), np.asarray(w), None if b is None else np.asarray(b)
    _, dtype, single, last, _, asks_floats = call
    if single:
        first = first[np.newaxis]
    if last:
        first = np.moveaxis(first, -1, 1)
    if asks_floats:
        call = _in_floats(call, first, second, bias)
    if out is None:
        result = _computed(call, first, second, bias)
        if result.dtype is not dtype:  # float16 and integers may have their sums in another type
            result = result.astype(dtype, copy=False)
        return _as_the_caller_has_it(result, single, last)
    shape = call.plan.shapes.result
    if last:
        shape = (shape[0], *shape[2:], shape[1])
    given = checked_out(out, shape[1:] if single else shape, dtype)
    target = given[np.newaxis] if single else given
    if last:
        target = np.moveaxis(target, -1, 1)
    # An `out` over an operand must not be written before that is read.
    second = second.copy() if _over(target, second) else second
    bias = bias.copy() if bias is not None and _over(target, bias) else bias
    in_place = _over(target, first)
    if call.in_pieces:
        written = not in_place or goes_in_place(call.plan.problem, first, target, most=PIECE)
    else:
        written = dtype == call.plan.shapes.dtype  # the plan itself sees where they lie
    if written:
        _computed(call, first, second, bias, target)
    else:
        target[...] = _computed(call, first, second, bias)
    return given


def _over(out: Array, operand: Array) -> bool:
    return np.may_share_memory(out, operand)


def _computed(call: Call, first: Array, second: Array, bias: Array | None, out: Array | None = None) -> Array:
    """The result (N, K, ...), in the call's dtype or, if it is not made in pieces, in that of the sums."""
    if call.in_pieces:
        return _in_pieces(call, first, second, bias, out)
    return call.plan(first, second, bias, out=out, casting="unsafe")


def _in_floats(call: Call, first: Array, second: Array, bias: Array | None) -> Call:
    """The call with its sums in floats, if those hold every sum of these integers; else as it is."""
    problem = call.plan.problem
    if problem.operation == "weight_grad":
        largest = float(peak(first)) * float(peak(second)) * math.prod(problem.output_shape) / problem.out_channels
    else:
        kernels = second
        if problem.operation == "input_grad":  # which has a kernel for each channel of each group
            kernels = second.reshape(problem.groups, -1, *problem.weight_shape[1:]).swapaxes(1, 2)
            kernels = kernels.reshape(problem.in_channels, -1)
        largest = float(peak(first)) * heaviest(kernels) + (0 if bias is None else float(peak(bias)))
    dtype = exact_float(largest)
    if dtype is None:
        return call
    # "strict": algorithms that only come close would be wrong by one.
    problem = replace(problem, dtype=dtype, precision="strict")
    return planned(problem, call.dtype, first, second, single=call.single, last=call.last)


def _in_pieces(call: Call, first: Array, second: Array, bias: Array | None, out: Array | None = None) -> Array:
    """The result (N, K, ...) in the call's dtype, whose sums are cast piece by piece."""
    problem = call.plan.problem
    if problem.operation == "weight_grad":
        return sum_of_pieces(problem, first, second, most=PIECE, dtype=call.dtype)
    shape, dtype = call.plan.shapes.result, call.dtype
    in_place = out is not None and _over(out, first)
    if out is None:
        out = empty_channels_last(shape, dtype) if problem.channels_last else recycled_empty(shape, dtype)
    for place, sums in by_pieces(problem, first, second, bias, most=PIECE, in_place=in_place):
        out[place] = sums
    return out


def _as_the_caller_has_it(result: Array, single: bool, last: bool) -> Array:
    if last:
        result = np.moveaxis(result, 1, -1)
    return result[0] if single else result
