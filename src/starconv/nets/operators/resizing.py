"""Pictures made larger and smaller: every output element is a weighted sum of input elements, axis by axis."""

from typing import NamedTuple

import numpy as np

from .table import Array, Call, Refusal, axes_of, integers_of, operator

_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


class _Along(NamedTuple):
    """One axis: its sizes before and after, the scale, and the part of it to take (for tf_crop_and_resize)."""

    axis: int
    before: int
    after: int
    scale: float
    start: float
    end: float


@operator("Upsample")
def upsample(call: Call, x: Array, scales: Array | None = None) -> Array:
    """Resize as it was until opset 9: element o shows input o / scale."""
    factors = call.numbers("scales") if scales is None else tuple(float(scale) for scale in scales.reshape(-1))
    mode = call.word("mode", "nearest", ("nearest", "linear"))
    plans = _by_scales(x, tuple(range(x.ndim)), factors, (0.0,) * (2 * x.ndim), False)
    return _resize(call, x, plans, mode, "asymmetric", "floor")


@operator("Resize")
def resize(
    call: Call, x: Array, roi: Array | None = None, scales: Array | None = None, sizes: Array | None = None
) -> Array:
    """x in another size, by nearest elements, linear or cubic interpolation."""
    mode = call.word("mode", "nearest", ("nearest", "linear", "cubic"))
    if call.opset < 11:
        # Opset 10 had two inputs, and Upsample's meaning.
        factors = None if roi is None else tuple(float(scale) for scale in roi.reshape(-1))
        plans = _by_scales(x, tuple(range(x.ndim)), factors, (0.0,) * (2 * x.ndim), False)
        return _resize(call, x, plans, mode, "asymmetric", "floor")
    coordinates = call.word("coordinate_transformation_mode", "half_pixel", _COORDINATES)
    nearest = call.word("nearest_mode", "round_prefer_floor", _NEAREST)
    listed = call.integers("axes")
    axes = tuple(range(x.ndim)) if listed is None else axes_of(listed, x.ndim)
    crop = coordinates == "tf_crop_and_resize"
    region = (0.0,) * len(axes) + (1.0,) * len(axes)
    if crop:
        if roi is None or roi.size != 2 * len(axes) or roi.dtype.kind != "f":
            raise Refusal(f"roi should be {2 * len(axes)} numbers")
        region = tuple(float(bound) for bound in roi.reshape(-1))
    if sizes is not None and sizes.size:
        wanted = integers_of(sizes, "sizes")
        if len(wanted) != len(axes) or min(wanted) < 1:
            raise Refusal(f"sizes {wanted} should be {len(axes)} integers >= 1")
        ratios = [size / max(x.shape[axis], 1) for size, axis in zip(wanted, axes, strict=True)]
        policy = call.word("keep_aspect_ratio_policy", "stretch", ("stretch", "not_larger", "not_smaller"))
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [ratio] * len(axes)
            wanted = tuple(int(np.floor(ratio * x.shape[axis] + 0.5)) for axis in axes)
        plans = [
            _Along(axis, x.shape[axis], size, ratio, region[number], region[number + len(axes)])
            for number, (axis, size, ratio) in enumerate(zip(axes, wanted, ratios, strict=True))
        ]
    else:
        factors = None if scales is None else tuple(float(scale) for scale in scales.reshape(-1))
        plans = _by_scales(x, axes, factors, region, crop)
    return _resize(call, x, plans, mode, coordinates, nearest)


def _by_scales(
    x: Array, axes: tuple[int, ...], factors: tuple[float, ...] | None, region: tuple[float, ...], crop: bool
) -> list[_Along]:
    if factors is None or len(factors) != len(axes) or not all(0 < factor < 1e9 for factor in factors):
        raise Refusal(f"scales {factors} should be {len(axes)} numbers > 0")
    return [
        _Along(
            axis,
            x.shape[axis],
            # A scale in float32 that is a little short of the whole number must not cost a row.
            int(np.floor(x.shape[axis] * ((end - start) if crop else 1.0) * factor)),
            factor,
            start,
            end,
        )
        for axis, factor, start, end in zip(axes, factors, region[: len(axes)], region[len(axes) :], strict=True)
    ]


def _resize(call: Call, x: Array, plans: list[_Along], mode: str, coordinates: str, nearest: str) -> Array:
    shape = list(x.shape)
    for plan in plans:
        shape[plan.axis] = plan.after
    call.room(shape, x.dtype)
    moved = [
        plan
        for plan in plans
        if plan.before != plan.after or plan.scale != 1 or (plan.start, plan.end) not in ((0, 1), (0, 0))
    ]
    if not x.size:
        if 0 in shape:
            return np.zeros(shape, x.dtype)
        raise Refusal("there is nothing to resize")
    if mode != "nearest" and x.dtype.kind == "b":
        raise Refusal("bool cannot be interpolated")
    antialias = bool(call.integer("antialias", 0)) and mode != "nearest"
    result = x if mode == "nearest" else x.astype(np.result_type(x.dtype, np.float32), copy=False)
    outside: list[tuple[int, Array]] = []
    # The axes that shrink most first: less to do for the others.
    for plan in sorted(moved, key=lambda plan: plan.scale):
        at = _coordinates(plan, coordinates, symmetric=coordinates == "half_pixel_symmetric")
        if coordinates == "tf_crop_and_resize":
            outside.append((plan.axis, (at < 0) | (at > plan.before - 1)))
        if mode == "nearest":
            result = result.take(np.clip(_rounded(at, nearest), 0, plan.before - 1), axis=plan.axis)
            continue
        taps, weights = _taps(call, plan, at, mode, antialias)
        call.room((*result.shape[: plan.axis], plan.after, *result.shape[plan.axis + 1 :]), result.dtype)
        result = _weighted(result, plan.axis, taps, weights)
    if mode != "nearest" and x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        result = np.clip(np.trunc(result) if mode == "linear" else np.rint(result), limits.min, limits.max)
    result = result.astype(x.dtype, copy=False)
    for axis, beyond in outside:
        if beyond.any():
            result = result.copy()
            result[(slice(None),) * axis + (beyond,)] = call.number("extrapolation_value", 0.0)
    return result


def _coordinates(plan: _Along, mode: str, *, symmetric: bool) -> Array:
    """Where in the input each output element lies."""
    o = np.arange(plan.after, dtype=np.float64)
    if mode == "asymmetric":
        return o / plan.scale
    if mode == "align_corners":
        length = plan.before * plan.scale
        return o * (plan.before - 1) / (length - 1) if length != 1 else o * 0
    if mode == "tf_crop_and_resize":
        if plan.after == 1:
            return np.full(1, 0.5 * (plan.start + plan.end) * (plan.before - 1))
        return plan.start * (plan.before - 1) + o * (plan.end - plan.start) * (plan.before - 1) / (plan.after - 1)
    if mode == "tf_half_pixel_for_nn":
        return (o + 0.5) / plan.scale
    if mode == "pytorch_half_pixel" and plan.after == 1:
        return np.full(1, 0.0)
    at = (o + 0.5) / plan.scale - 0.5
    if symmetric:
        # The middle of the output on the middle of the input, where the scale does not divide.
        ratio = plan.after / (plan.scale * plan.before)
        at += plan.before / 2 * (1 - ratio)
    return at


def _rounded(at: Array, nearest: str) -> Array:
    rounded = {
        "floor": np.floor(at),
        "ceil": np.ceil(at),
        "round_prefer_ceil": np.floor(at + 0.5),
        "round_prefer_floor": np.ceil(at - 0.5),
    }[nearest]
    return rounded.astype(np.int64)


def _taps(call: Call, plan: _Along, at: Array, mode: str, antialias: bool) -> tuple[Array, Array]:
    """Which input elements each output element sums up and with which weights, both (outputs, taps)."""
    reach = 1 if mode == "linear" else 2
    # Smaller pictures need wider weights, so that every input element counts.
    spread = max(1.0, 1 / plan.scale) if antialias else 1.0
    count = 2 * int(np.ceil(reach * spread))
    if count > 4 * plan.before + 8:
        raise Refusal(f"a scale of {plan.scale} is too small for {plan.before} elements")
    call.room((plan.after, count), np.float64)
    first = np.floor(at).astype(np.int64) - count // 2 + 1
    taps = first[:, None] + np.arange(count)
    distance = np.abs(taps - at[:, None]) / spread
    if mode == "linear":
        weights = np.maximum(1 - distance, 0)
    else:
        a = call.number("cubic_coeff_a", -0.75)
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((distance - 5) * distance + 8) * distance * a - 4 * a
        weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
    inside = (taps >= 0) & (taps < plan.before)
    if call.integer("exclude_outside", 0):
        weights = np.where(inside, weights, 0)
    total = weights.sum(axis=1, keepdims=True)
    return np.clip(taps, 0, plan.before - 1), weights / np.where(total == 0, 1, total)


def _weighted(x: Array, axis: int, taps: Array, weights: Array) -> Array:
    result: Array | None = None
    for tap in range(taps.shape[1]):
        column = weights[:, tap].astype(x.dtype).reshape(-1, *[1] * (x.ndim - axis - 1))
        term = x.take(taps[:, tap], axis=axis) * column
        result = term if result is None else result + term
    assert result is not None
    return result
