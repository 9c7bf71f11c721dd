"""Operators that shift and scale by means and variances."""

from typing import Any

import numpy as np

from .table import Array, Call, Refusal, axes_of, axis_of, mean_of, operator


def _per_channel(values: Array, x: Array, name: str) -> Array:
    if x.ndim < 2 or values.shape != (x.shape[1],):
        raise Refusal(f"{name} should have one value per channel, not the shape {values.shape}")
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


@operator("BatchNormalization", kinds="f")
def batch_normalization(call: Call, x: Array, scale: Array, shift: Array, mean: Array, variance: Array) -> Any:
    """(x - mean) / sqrt(variance + epsilon) scale + shift, with statistics that came with the network."""
    if call.integer("training_mode", 0):
        raise Refusal("training mode is not supported, only inference")
    if call.integer("spatial", 1) != 1:
        raise Refusal("statistics per position (spatial = 0) are not supported")
    names = ("scale", "B", "mean", "var")
    scale, shift, mean, variance = (
        _per_channel(values, x, name) for name, values in zip(names, (scale, shift, mean, variance), strict=True)
    )
    factor = scale / np.sqrt(variance + variance.dtype.type(call.number("epsilon", 1e-5)))
    return (x * factor + (shift - mean * factor)).astype(x.dtype, copy=False)


def _normalized(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array, Array]:
    """x with mean 0 and variance 1 along `axes`; the mean and the inverse deviation."""
    wide = x.astype(np.float32, copy=False) if x.dtype == np.float16 else x
    mean = mean_of(wide, axes)
    centred = wide - mean
    inverse = 1 / np.sqrt(mean_of(np.square(centred), axes) + wide.dtype.type(epsilon))
    return centred * inverse, mean, inverse


@operator("InstanceNormalization", kinds="f", alike=True)
def instance_normalization(call: Call, x: Array, scale: Array, shift: Array) -> Array:
    """Every channel of every picture on its own."""
    normal, _, _ = _normalized(x, tuple(range(2, x.ndim)), call.number("epsilon", 1e-5))
    return (normal * _per_channel(scale, x, "scale") + _per_channel(shift, x, "B")).astype(x.dtype, copy=False)


@operator("LayerNormalization", kinds="f")
def layer_normalization(call: Call, x: Array, scale: Array, shift: Array | None = None) -> tuple[Array, Array, Array]:
    """Over all axes from `axis` on."""
    axis = axis_of(call.integer("axis", -1), x.ndim)
    normal, mean, inverse = _normalized(x, tuple(range(axis, x.ndim)), call.number("epsilon", 1e-5))
    np.broadcast_to(scale, x.shape)
    result = normal * scale if shift is None else normal * scale + np.broadcast_to(shift, x.shape)
    return result.astype(x.dtype, copy=False), mean, inverse


@operator("RMSNormalization", kinds="f")
def rms_normalization(call: Call, x: Array, scale: Array) -> Any:
    """x over its root mean square, over all axes from `axis` on."""
    axis = axis_of(call.integer("axis", -1), x.ndim)
    wide = x.astype(np.float32, copy=False) if x.dtype == np.float16 else x
    square = mean_of(np.square(wide), tuple(range(axis, x.ndim)))
    normal = (wide / np.sqrt(square + wide.dtype.type(call.number("epsilon", 1e-5)))).astype(x.dtype, copy=False)
    return (normal * np.broadcast_to(scale, x.shape)).astype(x.dtype, copy=False)


@operator("GroupNormalization", kinds="f", alike=True)
def group_normalization(call: Call, x: Array, scale: Array, shift: Array) -> Array:
    """Channels fall into groups, each on its own; scale and shift per channel, or per group before opset 21."""
    groups = call.integer("num_groups")
    if x.ndim < 2 or groups < 1 or x.shape[1] % groups:
        raise Refusal(f"num_groups = {groups} should divide the number of channels")
    parts = x.reshape(x.shape[0], groups, -1)
    normal = _normalized(parts, (2,), call.number("epsilon", 1e-5))[0].reshape(x.shape)
    if call.opset < 21:
        if scale.shape != (groups,) or shift.shape != (groups,):
            raise Refusal(f"scale and bias should have one value for each of {groups} groups")
        scale, shift = (np.repeat(values, x.shape[1] // groups) for values in (scale, shift))
    return (normal * _per_channel(scale, x, "scale") + _per_channel(shift, x, "bias")).astype(x.dtype, copy=False)


@operator("MeanVarianceNormalization", kinds="f")
def mean_variance_normalization(call: Call, x: Array) -> Any:
    """Mean 0 and variance 1 along `axes`."""
    axes = axes_of(call.integers("axes") or (0, 2, 3), x.ndim)
    centred = x - mean_of(x, axes)
    deviation = np.sqrt(mean_of(np.square(centred), axes))
    return centred / (deviation + x.dtype.type(1e-9))


@operator("LpNormalization", kinds="f")
def lp_normalization(call: Call, x: Array) -> Any:
    """x over its norm along `axis`; zeros stay zeros."""
    axis, p = axis_of(call.integer("axis", -1), x.ndim), call.integer("p", 2)
    if p not in (1, 2):
        raise Refusal(f"p = {p} should be 1 or 2")
    norm = np.abs(x).sum(axis=axis, keepdims=True) if p == 1 else np.sqrt(np.square(x).sum(axis=axis, keepdims=True))
    return x / np.where(norm == 0, 1, norm).astype(x.dtype)
