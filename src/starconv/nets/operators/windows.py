"""Operators over windows: convolutions and pooling. The geometry is `starconv.geometry`'s."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ... import functional
from ...geometry import Axis, convolution_axes, transposed_axes
from .table import Array, Call, Refusal, integers_of, mean_of, operator

__all__ = ["pool_axes", "window_arguments"]

_CONV: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSE: dict[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_AUTO = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def window_arguments(
    call: Call, sizes: Sequence[int], kernel: Sequence[int]
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Strides, (before, after) pads and dilations per axis of a convolution or a pool over `sizes`."""
    count = len(sizes)
    strides = _per_axis(call, "strides", count)
    dilations = _per_axis(call, "dilations", count)
    auto = call.word("auto_pad", "NOTSET", _AUTO)
    if auto in ("NOTSET", "VALID"):
        flat = call.integers("pads") if auto == "NOTSET" else None
        flat = flat or (0,) * (2 * count)
        if len(flat) != 2 * count or min(flat) < 0:
            raise Refusal(f"pads {flat} should be {2 * count} integers >= 0, for {count} axes")
        pads = tuple(zip(flat[:count], flat[count:], strict=True))
    else:
        # As many outputs as ceil(size / stride); what is missing for the last window is padding.
        pads = tuple(
            _shared(max((-(-size // step) - 1) * step + spread * (taps - 1) + 1 - size, 0), auto == "SAME_LOWER")
            for size, taps, step, spread in zip(sizes, kernel, strides, dilations, strict=True)
        )
    return strides, pads, dilations


def _shared(total: int, odd_before: bool) -> tuple[int, int]:
    """`total` on both sides; of an odd number one side has more."""
    less, more = total // 2, total - total // 2
    return (more, less) if odd_before else (less, more)


def _per_axis(call: Call, name: str, count: int) -> tuple[int, ...]:
    values = call.integers(name) or (1,) * count
    if len(values) != count or min(values) < 1:
        raise Refusal(f"{name} {values} should be {count} integers >= 1, one per axis")
    return values


def _spatial(x: Array) -> int:
    if not 3 <= x.ndim <= 5:
        raise Refusal("the input should have 3 to 5 axes: batch, channels and 1 to 3 more")
    return x.ndim - 2


@operator("Conv", kinds="f", alike=True)
def conv(call: Call, x: Array, w: Array, b: Array | None = None) -> Array:
    """The convolution (cross-correlation)."""
    spatial = _spatial(x)
    _kernel_shape_agrees(call, w, x.ndim)
    strides, pads, dilations = window_arguments(call, x.shape[2:], w.shape[2:])
    axes = convolution_axes(x.shape[2:], w.shape[2:], strides, pads, dilations)
    call.room((x.shape[0], x.shape[1], *(axis.padded for axis in axes)), x.dtype)
    call.room((x.shape[0], w.shape[0], *(axis.output for axis in axes)), x.dtype)
    result: Array = _CONV[spatial](x, w, b, strides, pads, dilations, call.integer("group", 1))
    return result


def _kernel_shape_agrees(call: Call, w: Array, ndim: int) -> None:
    if w.ndim != ndim:
        raise Refusal(f"the kernels should have {ndim} axes, as many as the input")
    kernel = call.integers("kernel_shape")
    if kernel is not None and kernel != w.shape[2:]:
        raise Refusal(f"kernel_shape {kernel} should be that of the kernels, {w.shape[2:]}")


@operator("ConvTranspose", kinds="f", alike=True)
def conv_transpose(call: Call, x: Array, w: Array, b: Array | None = None) -> Array:
    """The transposed convolution."""
    spatial = _spatial(x)
    _kernel_shape_agrees(call, w, x.ndim)
    strides, dilations = _per_axis(call, "strides", spatial), _per_axis(call, "dilations", spatial)
    extra = call.integers("output_padding") or (0,) * spatial
    wanted = call.integers("output_shape")
    auto = call.word("auto_pad", "NOTSET", _AUTO)
    if len(extra) != spatial or min(extra) < 0:
        raise Refusal(f"output_padding {extra} should be {spatial} integers >= 0")
    full = [
        (size - 1) * step + spread * (taps - 1) + 1 + more
        for size, taps, step, spread, more in zip(x.shape[2:], w.shape[2:], strides, dilations, extra, strict=True)
    ]
    if wanted is not None or auto.startswith("SAME"):
        sizes = wanted or tuple(size * step for size, step in zip(x.shape[2:], strides, strict=True))
        if len(sizes) != spatial:
            raise Refusal(f"output_shape {sizes} should be {spatial} integers")
        # ONNX's formula gives SAME_UPPER the smaller half before; everything else the larger.
        totals = [whole - size for whole, size in zip(full, sizes, strict=True)]
        pads = tuple(_shared(total, auto != "SAME_UPPER") for total in totals)
    else:
        _, pads, _ = window_arguments(call, x.shape[2:], w.shape[2:])
    group = call.integer("group", 1)
    shape = [whole - before - after for whole, (before, after) in zip(full, pads, strict=True)]
    call.room((x.shape[0], w.shape[1] * max(group, 1), *full), x.dtype)
    call.room((x.shape[0], w.shape[1] * max(group, 1), *shape), x.dtype)
    if group < 1 or x.shape[1] != w.shape[0]:
        raise Refusal(f"the kernels should have {x.shape[1]} for their first size, and group be at least 1")
    plain = all(0 <= more < max(step, spread) for more, step, spread in zip(extra, strides, dilations, strict=True))
    if plain and all(before >= 0 and after >= 0 for before, after in pads):
        transposed_axes(x.shape[2:], w.shape[2:], strides, pads, extra, dilations)
        result: Array = _TRANSPOSE[spatial](x, w, b, strides, pads, extra, group, dilations)
        return result
    # Sizes that the transposed convolution proper does not have: the full one, cut or continued with the bias.
    whole = _TRANSPOSE[spatial](x, w, None, strides, 0, 0, group, dilations)
    result = np.zeros((*whole.shape[:2], *shape), whole.dtype)
    taken: list[slice] = [slice(None), slice(None)]
    put: list[slice] = [slice(None), slice(None)]
    for size, length, (before, _) in zip(shape, whole.shape[2:], pads, strict=True):
        first, last = max(-before, 0), min(size, length - before)
        put.append(slice(first, max(last, first)))
        taken.append(slice(first + before, max(last, first) + before))
    result[tuple(put)] = whole[tuple(taken)]
    return result if b is None else result + b.reshape(-1, *[1] * spatial)


# Pooling

MOST_IN_PADDING = 1 << 12
"""Taps that a pool's kernel may have beyond the size of its input."""


def pool_axes(call: Call, x: Array) -> tuple[Axis, ...]:
    """The windows of a pool over `x`; with ceil_mode also a last one that hangs over the end, if it begins inside."""
    spatial = _spatial(x)
    kernel = call.integers("kernel_shape")
    if kernel is None or len(kernel) != spatial or min(kernel) < 1:
        raise Refusal(f"kernel_shape {kernel} should be {spatial} integers >= 1")
    # A kernel of a few bytes can have any number of taps, of which all but the input's meet padding.
    if math.prod(kernel) > math.prod(x.shape[2:]) + MOST_IN_PADDING:
        raise Refusal(
            f"kernel_shape {kernel} should have at most {MOST_IN_PADDING} taps more than its input has places"
        )
    strides, pads, dilations = window_arguments(call, x.shape[2:], kernel)
    ceil = call.integer("ceil_mode", 0)
    axes = []
    for number, size in enumerate(x.shape[2:]):
        room = [Axis(size, kernel[number], strides[number], *pads[number], dilations[number])]
        call.room((*x.shape[:2], size + sum(pads[number])), x.dtype)
        if ceil and room[0].extent > room[0].padded:  # one window, that hangs over
            missing = room[0].extent - room[0].padded
            axes.append(replace(room[0], after=pads[number][1] + missing))
            continue
        (axis,) = convolution_axes((size,), (kernel[number],), strides[number], [pads[number]], dilations[number])
        if ceil and axis.output_padding and axis.output * axis.stride < axis.input + axis.before:
            axis = replace(axis, after=axis.after + axis.stride - axis.output_padding)
        axes.append(axis)
    call.room((*x.shape[:2], *(axis.padded for axis in axes)), x.dtype)
    return tuple(axes)


def _padded(x: Array, axes: Sequence[Axis], value: Any) -> Array:
    pads = [(0, 0), (0, 0)] + [(axis.before, axis.after) for axis in axes]
    return np.pad(x, pads, constant_values=value) if any(map(any, pads)) else x


def _met(axis: Axis, tap: int) -> slice:
    start = tap * axis.dilation
    return slice(start, start + (axis.output - 1) * axis.stride + 1, axis.stride)


def _along(padded: Array, axes: Sequence[Axis], function: np.ufunc) -> Array:
    """`function` (maximum, add) over every window: along one axis after the other, k + k taps instead of k x k."""
    for number, axis in enumerate(axes, 2):
        views = (padded[(slice(None),) * number + (_met(axis, tap),)] for tap in range(axis.kernel))
        result = next(views).copy()
        for view in views:
            function(result, view, out=result)
        padded = result
    return padded


def _lowest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


@operator("MaxPool", kinds="fiu")
def max_pool(call: Call, x: Array) -> Array | tuple[Array, Array]:
    """The largest number of every window, and where it is."""
    axes = pool_axes(call, x)
    padded = _padded(x, axes, _lowest(x.dtype))
    if len(call.node.outputs) < 2:
        return _along(padded, axes, np.maximum)
    where: Array | None = None
    largest: Array | None = None
    order = range(len(axes)) if not call.integer("storage_order", 0) else reversed(range(len(axes)))
    places = np.full(x.shape[2:], 0, np.int64)
    step = 1
    for axis in reversed(list(order)):
        along = [1] * len(axes)
        along[axis] = -1
        places += np.arange(x.shape[2 + axis]).reshape(along) * step
        step *= x.shape[2 + axis]
    planes = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * len(axes)) * step
    index = _padded(planes + places, axes, -1)
    for tap in _windows(axes):
        candidate, place = padded[(slice(None), slice(None), *tap)], index[(slice(None), slice(None), *tap)]
        if largest is None or where is None:
            largest, where = candidate.copy(), place.copy()
            continue
        # Padding never wins, not even over minus infinity.
        better = ((candidate > largest) | (where < 0)) & (place >= 0)
        np.copyto(largest, candidate, where=better)
        np.copyto(where, place, where=better)
    assert largest is not None
    assert where is not None
    return largest, where


def _windows(axes: Sequence[Axis]) -> Iterator[tuple[slice, ...]]:
    for taps in np.ndindex(*(axis.kernel for axis in axes)):
        yield tuple(_met(axis, tap) for axis, tap in zip(axes, taps, strict=True))


@operator("AveragePool", kinds="f")
def average_pool(call: Call, x: Array) -> Any:
    """The mean of every window; padding counts or not, what hangs over the padding's end never does."""
    axes = pool_axes(call, x)
    total = _along(_padded(x, axes, 0), axes, np.add)
    _, pads, _ = window_arguments(call, x.shape[2:], [axis.kernel for axis in axes])
    count: Any = np.ones(())
    for number, (axis, (before, after)) in enumerate(zip(axes, pads, strict=True)):
        first, last = -axis.before, axis.input
        if call.integer("count_include_pad", 0):
            first, last = -before, axis.input + after
        starts = np.arange(axis.output) * axis.stride - axis.before
        reads = starts[:, None] + np.arange(axis.kernel) * axis.dilation
        inside = ((reads >= max(first, 0 if not call.integer("count_include_pad", 0) else first)) & (reads < last)).sum(
            1
        )
        count = np.multiply.outer(count, inside) if number else inside
    return (total / np.maximum(count, 1)).astype(x.dtype)


@operator("LpPool", kinds="f")
def lp_pool(call: Call, x: Array) -> Array:
    """(Sum of |x|^p)^(1/p) of every window."""
    axes = pool_axes(call, x)
    p = call.integer("p", 2)
    if p < 1:
        raise Refusal(f"p = {p} should be at least 1")
    powers = np.abs(x) ** p
    return (_along(_padded(powers, axes, 0), axes, np.add) ** (1 / p)).astype(x.dtype)


def _everywhere(x: Array) -> tuple[int, ...]:
    if x.ndim < 3:
        raise Refusal("the input should have at least 3 axes: batch, channels and more")
    return tuple(range(2, x.ndim))


@operator("GlobalMaxPool", kinds="f")
def global_max_pool(call: Call, x: Array) -> Any:
    """The largest number of every channel."""
    return x.max(axis=_everywhere(x), keepdims=True)


@operator("GlobalAveragePool", kinds="f")
def global_average_pool(call: Call, x: Array) -> Any:
    """The mean of every channel."""
    return mean_of(x, _everywhere(x))


@operator("GlobalLpPool", kinds="f")
def global_lp_pool(call: Call, x: Array) -> Any:
    """(Sum of |x|^p)^(1/p) of every channel."""
    p = call.integer("p", 2)
    if p < 1:
        raise Refusal(f"p = {p} should be at least 1")
    return ((np.abs(x) ** p).sum(axis=_everywhere(x), keepdims=True) ** (1 / p)).astype(x.dtype)


@operator("MaxUnpool", kinds="f")
def max_unpool(call: Call, x: Array, index: Array, output_shape: Array | None = None) -> Array:
    """Every number at the place where MaxPool found it, else 0."""
    spatial = _spatial(x)
    kernel = call.integers("kernel_shape")
    if kernel is None or len(kernel) != spatial or min(kernel) < 1:
        raise Refusal(f"kernel_shape {kernel} should be {spatial} integers >= 1")
    strides, pads, _ = window_arguments(call, x.shape[2:], kernel)
    shape = (
        *x.shape[:2],
        *(
            (size - 1) * step - before - after + taps
            for size, step, taps, (before, after) in zip(x.shape[2:], strides, kernel, pads, strict=True)
        ),
    )
    if index.shape != x.shape or index.dtype.kind not in "iu":
        raise Refusal("the indices should be integers of the input's shape")
    # Of another output_shape it is not said to which of the two shapes the indices belong.
    if output_shape is not None and integers_of(output_shape, "output_shape") != shape:
        raise Refusal(f"output_shape should be {shape}")
    result = np.zeros(call.room(shape, x.dtype), x.dtype)
    if index.size and not (index.min() >= 0 and index.max() < result.size):
        raise Refusal("the indices should lie within the output")
    result.reshape(-1)[index.reshape(-1)] = x.reshape(-1)
    return result


@operator("LRN", kinds="f")
def local_response(call: Call, x: Array) -> Any:
    """x / (bias + alpha / size times the sum of squares of the neighbouring channels)^beta."""
    if x.ndim < 2:
        raise Refusal("the input should have at least 2 axes: batch and channels")
    size = call.integer("size")
    if size < 1:
        raise Refusal(f"size = {size} should be at least 1")
    before = min((size - 1) // 2, x.shape[1])
    after = min(size - 1 - (size - 1) // 2, x.shape[1])
    pads = [(0, 0), (before + 1, after)] + [(0, 0)] * (x.ndim - 2)
    call.room((x.shape[0], x.shape[1] + before + after + 1, *x.shape[2:]), np.float64)
    # Sums of neighbours as differences of running sums, in float64 so that nothing is lost.
    running = np.pad(x.astype(np.float64) ** 2, pads).cumsum(axis=1)
    squares = running[:, before + after + 1 :] - running[:, : x.shape[1]]
    alpha, beta, bias = call.number("alpha", 1e-4), call.number("beta", 0.75), call.number("bias", 1.0)
    return (x / (bias + alpha / size * squares) ** beta).astype(x.dtype)
