"""Operators that work on every element for itself: activations, arithmetic with broadcasting, comparisons."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from .table import DTYPES, Array, Call, Refusal, operator

# One array in


def special() -> Any:
    """scipy.special, which only some networks need: its import takes a tenth of a second and 24 MiB."""
    import scipy.special

    return scipy.special


def _unary(function: Callable[[Array], Any], *names: str, kinds: str = "f") -> None:
    operator(*names, kinds=kinds)(lambda call, x: function(x))


_unary(lambda x: np.maximum(x, x.dtype.type(0)), "Relu", kinds="if")
_unary(lambda x: special().expit(x).astype(x.dtype, copy=False), "Sigmoid")
_unary(np.tanh, "Tanh")
_unary(lambda x: np.logaddexp(x, x.dtype.type(0)), "Softplus")
_unary(lambda x: x / (1 + np.abs(x)), "Softsign")
_unary(lambda x: x * np.tanh(np.logaddexp(x, x.dtype.type(0))), "Mish")
_unary(lambda x: x * np.clip(x / 6 + 0.5, 0, 1), "HardSwish")
_unary(np.exp, "Exp")
_unary(np.log, "Log")
_unary(np.sqrt, "Sqrt")
_unary(np.reciprocal, "Reciprocal")
_unary(lambda x: special().erf(x).astype(x.dtype, copy=False), "Erf")
_unary(np.floor, "Floor")
_unary(np.ceil, "Ceil")
_unary(np.rint, "Round")  # halves to the even number, as ONNX says
_unary(np.abs, "Abs", kinds="iuf")
_unary(np.negative, "Neg", kinds="if")
_unary(np.sign, "Sign", kinds="iuf")
_unary(np.isnan, "IsNaN")
_unary(np.logical_not, "Not", kinds="b")
_unary(lambda x: x, "Identity", kinds="biuf")
for _name in ("Sin", "Cos", "Tan", "Sinh", "Cosh"):
    _unary(getattr(np, _name.lower()), _name)
for _name in ("Asin", "Acos", "Atan", "Asinh", "Acosh", "Atanh"):
    _unary(getattr(np, f"arc{_name[1:].lower()}"), _name)


@operator("LeakyRelu", kinds="f")
def leaky_relu(call: Call, x: Array) -> Array:
    """x, or alpha x below zero."""
    return np.where(x < 0, x * x.dtype.type(call.number("alpha", 0.01)), x)


@operator("PRelu", alike=True, kinds="iuf")
def prelu(call: Call, x: Array, slope: Array) -> Array:
    """x, or slope x below zero; the slope is broadcast towards x."""
    call.room(np.broadcast_shapes(x.shape, slope.shape), x.dtype)
    return np.where(x < 0, x * np.broadcast_to(slope, x.shape), x)


@operator("Elu", kinds="f")
def elu(call: Call, x: Array) -> Array:
    """x, or alpha (e^x - 1) below zero."""
    alpha = x.dtype.type(call.number("alpha", 1.0))
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


@operator("Celu", kinds="f")
def celu(call: Call, x: Array) -> Any:
    """max(0, x) + min(0, alpha (e^(x / alpha) - 1))."""
    alpha = x.dtype.type(call.number("alpha", 1.0))
    return np.maximum(x, 0) + np.minimum(alpha * np.expm1(np.minimum(x, 0) / alpha), 0)


@operator("Selu", kinds="f")
def selu(call: Call, x: Array) -> Any:
    """gamma x, or gamma alpha (e^x - 1) below zero."""
    alpha, gamma = call.number("alpha", 1.67326319217681884765625), call.number("gamma", 1.05070102214813232421875)
    kind = x.dtype.type
    return kind(gamma) * np.where(x < 0, kind(alpha) * np.expm1(np.minimum(x, 0)), x)


@operator("ThresholdedRelu", kinds="f")
def thresholded_relu(call: Call, x: Array) -> Array:
    """x above alpha, else 0."""
    return np.where(x > call.number("alpha", 1.0), x, x.dtype.type(0))


@operator("HardSigmoid", kinds="f")
def hard_sigmoid(call: Call, x: Array) -> Array:
    """alpha x + beta between 0 and 1."""
    return np.clip(x * call.number("alpha", 0.2) + call.number("beta", 0.5), 0, 1).astype(x.dtype, copy=False)


@operator("Shrink", kinds="iuf")
def shrink(call: Call, x: Array) -> Any:
    """x moved towards zero by bias outside of ±lambd, else 0."""
    bias, lambd = call.number("bias", 0.0), call.number("lambd", 0.5)
    return np.where(x > lambd, x - bias, np.where(x < -lambd, x + bias, 0)).astype(x.dtype)


@operator("Swish", kinds="f")
def swish(call: Call, x: Array) -> Any:
    """X / (1 + e^(-alpha x))."""
    return x * special().expit(x * x.dtype.type(call.number("alpha", 1.0))).astype(x.dtype, copy=False)


@operator("Gelu", kinds="f")
def gelu(call: Call, x: Array) -> Any:
    """x times the normal distribution's share below x, or its approximation by tanh."""
    kind = x.dtype.type
    if call.word("approximate", "none", ("none", "tanh")) == "tanh":
        return x * kind(0.5) * (1 + np.tanh(kind(np.sqrt(2 / np.pi)) * (x + kind(0.044715) * x * x * x)))
    return x * kind(0.5) * (1 + special().erf(x * kind(np.sqrt(0.5))).astype(x.dtype, copy=False))


@operator("Clip", kinds="iuf", alike=True)
def clip(call: Call, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """x between two bounds, each of which may be left out; NaN stays NaN."""
    for bound in (low, high):
        if bound is not None and bound.size != 1:
            raise Refusal(f"bounds should be single numbers, not of shape {bound.shape}")
    below = low.reshape(()) if low is not None else x.dtype.type(call.number("min")) if call.has("min") else None
    above = high.reshape(()) if high is not None else x.dtype.type(call.number("max")) if call.has("max") else None
    result = x if below is None else np.maximum(x, below)
    return result if above is None else np.minimum(result, above)


@operator("IsInf", kinds="f")
def is_inf(call: Call, x: Array) -> Array:
    """Infinite, of the signs that count."""
    positive = np.isposinf(x) & bool(call.integer("detect_positive", 1))
    return positive | (np.isneginf(x) & bool(call.integer("detect_negative", 1)))


@operator("Dropout")
def dropout(call: Call, x: Array, ratio: Array | None = None, training: Array | None = None) -> tuple[Array, Array]:
    """Nothing, at inference; the mask lets everything through."""
    if training is not None and training.size == 1 and bool(training.reshape(())) and ratio is not None:
        raise Refusal("training mode is not supported, only inference")
    return x, np.ones(x.shape, bool)


def dtype_of(number: int) -> np.dtype[Any]:
    """The NumPy type of ONNX's number for it."""
    if number not in DTYPES:
        known = ", ".join(f"{key} ({value})" for key, value in DTYPES.items())
        raise Refusal(f"type {number} is not supported, only {known}")
    return DTYPES[number]


@operator("Cast")
def cast(call: Call, x: Array) -> Array:
    """x in another type; C's rules."""
    return x.astype(dtype_of(call.integer("to")))


@operator("CastLike")
def cast_like(call: Call, x: Array, like: Array) -> Array:
    """x in the type of another array."""
    return x.astype(like.dtype)


# Two arrays in, broadcast towards each other


def _binary(function: Callable[[Array, Array], Any], name: str, kinds: str = "iuf") -> None:
    def run(call: Call, a: Array, b: Array) -> Any:
        call.room(np.broadcast_shapes(a.shape, b.shape), a.dtype)
        return function(a, b)

    operator(name, kinds=kinds, alike=True)(run)


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.divide(a, b)
    # Integers as C has them, towards zero; NumPy's // goes down.
    return np.where(b == 0, 0, np.trunc(np.divide(a, b)) if a.itemsize < 8 else _exact_quotient(a, b)).astype(a.dtype)


def _exact_quotient(a: Array, b: Array) -> Any:
    quotient = a // b
    return quotient + ((quotient < 0) & (quotient * b != a))


_binary(np.add, "Add")
_binary(np.subtract, "Sub")
_binary(np.multiply, "Mul")
_binary(_divide, "Div")
_binary(np.equal, "Equal", "biuf")
_binary(np.greater, "Greater")
_binary(np.less, "Less")
_binary(np.greater_equal, "GreaterOrEqual")
_binary(np.less_equal, "LessOrEqual")
_binary(np.logical_and, "And", "b")
_binary(np.logical_or, "Or", "b")
_binary(np.logical_xor, "Xor", "b")
_binary(np.bitwise_and, "BitwiseAnd", "iu")
_binary(np.bitwise_or, "BitwiseOr", "iu")
_binary(np.bitwise_xor, "BitwiseXor", "iu")


@operator("Pow", kinds="if")
def power(call: Call, a: Array, b: Array) -> Any:
    """a to the power of b, which may be of another type; the type of a."""
    call.room(np.broadcast_shapes(a.shape, b.shape), a.dtype)
    if a.dtype.kind == "f":
        return np.power(a, b.astype(a.dtype, copy=False))
    return np.power(a.astype(np.float64), b).astype(a.dtype) if (b < 0).any() or b.dtype.kind == "f" else a**b


@operator("Mod", kinds="iuf", alike=True)
def mod(call: Call, a: Array, b: Array) -> Array:
    """The remainder with the sign of b, or with fmod that of a."""
    call.room(np.broadcast_shapes(a.shape, b.shape), a.dtype)
    return np.fmod(a, b) if call.integer("fmod", 0) else np.mod(a, b)


def _several(function: Callable[[Array, Array], Array], name: str, kinds: str) -> None:
    def run(call: Call, first: Array, *more: Array) -> Array:
        if any(value is None for value in more):
            raise Refusal("none of the inputs can be left out")
        call.room(np.broadcast_shapes(first.shape, *(value.shape for value in more)), first.dtype)
        return reduce(function, more, first)

    operator(name, kinds=kinds, alike=True)(run)


_several(np.minimum, "Min", "iuf")
_several(np.maximum, "Max", "iuf")
_several(np.add, "Sum", "f")


@operator("Mean", kinds="f", alike=True)
def mean(call: Call, first: Array, *more: Array) -> Any:
    """The mean of several arrays."""
    if any(value is None for value in more):
        raise Refusal("none of the inputs can be left out")
    call.room(np.broadcast_shapes(first.shape, *(value.shape for value in more)), first.dtype)
    return reduce(np.add, more, first) / first.dtype.type(1 + len(more))


@operator("Where", kinds="b")
def where(call: Call, condition: Array, a: Array, b: Array) -> Array:
    """a where the condition holds, else b."""
    if a.dtype != b.dtype:
        raise Refusal("both values should have the same type")
    call.room(np.broadcast_shapes(condition.shape, a.shape, b.shape), a.dtype)
    return np.where(condition, a, b)
