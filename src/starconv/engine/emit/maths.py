"""Exponentials of vectors, by polynomials, and what is made of them: errors of a few units in the last place.

NaN stays NaN.

Method (W. Cody and W. Waite, "Software manual for the elementary functions", 1980): with n the whole number nearest to
x / log 2, e^x = 2^n e^r where r = x - n log 2 lies within +-0.3466, and e^r is its Taylor series: the first term left
out is below 0.05 units in the last place of the sum, for float32 r^8 / 8! = 5e-9 and for float64 r^14 / 14! = 4e-18.
log 2 is subtracted in two parts, of which n times the first is exact. Largest errors measured: exp 0.9 units in the
last place, sigmoid 2.4, tanh 2.8.
"""

import math

from .ir import Vector

__all__ = ["exp", "expm1", "hard_sigmoid", "hard_swish", "hyperbolic_tangent", "sigmoid", "silu"]

_FORMS = {  # element: integer of its size, bits of the fraction, bias of the exponent, log 2 in two parts, terms, limit
    "float": ("i32", 23, 127, (0.693359375, -2.12194440054690583e-4), 8, (-104.0, 89.0)),
    "double": ("i64", 52, 1023, (0.693145751953125, 1.42860682030941723e-6), 14, (-746.0, 710.0)),
}


def exp(x: Vector) -> Vector:
    """e^x; results below the normal numbers are 0 inside kernels, where denormals are flushed."""
    low, high = _FORMS[x.element][5]
    x = x.raised_to(_number(x, low)).lowered_to(_number(x, high))
    number, rest = _reduced(x)
    series = _series(rest, 0)
    # In two steps, for n reaches from -150 to 129, and 2^n alone would be no number at either end.
    half, other = _halves(x, number)
    return series * _power_of_two(x, half) * _power_of_two(x, other)


def expm1(x: Vector) -> Vector:
    """e^x - 1 without cancellation near 0, for |x| up to 60."""
    limit = _number(x, 60.0)
    x = x.raised_to(_number(x, -60.0)).lowered_to(limit)
    number, rest = _reduced(x)
    scale = _power_of_two(x, number)
    # 2^n (e^r - 1) + (2^n - 1): for n = 0, all x near 0, the second is 0.
    return scale.times_plus(_series(rest, 1), scale - _number(x, 1.0))


def sigmoid(x: Vector) -> Vector:
    """1 / (1 + e^-x)."""
    one = _number(x, 1.0)
    return one.divided_by(one + exp(_number(x, 0.0) - x))


def silu(x: Vector) -> Vector:
    """x / (1 + e^-x)."""
    return x.divided_by(_number(x, 1.0) + exp(_number(x, 0.0) - x))


def hard_sigmoid(x: Vector, slope: Vector, offset: Vector) -> Vector:
    """slope x + offset between 0 and 1."""
    return x.times_plus(slope, offset).raised_to(_number(x, 0.0)).lowered_to(_number(x, 1.0))


def hard_swish(x: Vector) -> Vector:
    """x times the hard sigmoid with slope 1/6 and offset 1/2."""
    return x * hard_sigmoid(x, _number(x, 1 / 6), _number(x, 0.5))


def hyperbolic_tangent(x: Vector) -> Vector:
    """tanh x = (e^2x - 1) / (e^2x + 1); beyond |x| = 30 it is 1 in either type."""
    twice = expm1(x + x)
    return twice.divided_by(twice + _number(x, 2.0))


def _number(like: Vector, value: float) -> Vector:
    return like.function.constant(value, like.element, like.lanes)


def _reduced(x: Vector) -> tuple[str, Vector]:
    """n, as the name of a vector of integers, and r."""
    f, (integer, bits, _, (high, low), _, _) = x.function, _FORMS[x.element]
    # Added to 1.5 2^bits, the last place of a number is 1: the sum is rounded to a whole number, in its last bits.
    magic = _number(x, 1.5 * 2.0**bits)
    shifted = x.times_plus(_number(x, 1 / math.log(2)), magic)
    number = shifted - magic
    rest = number.times_plus(_number(x, -high), x)
    rest = number.times_plus(_number(x, -low), rest)
    type_ = _integers(integer, x.lanes)
    bits_of_sum, bits_of_magic = (f.emit(f"bitcast {x.type} {value.text} to {type_}") for value in (shifted, magic))
    return f.emit(f"sub {type_} {bits_of_sum}, {bits_of_magic}"), rest


def _series(r: Vector, first: int) -> Vector:
    """sum of r^k / k! from k = `first`, 0 or 1, on."""
    terms = _FORMS[r.element][4]
    total = _number(r, 1 / math.factorial(terms - 1))
    for k in range(terms - 2, first - 1, -1):
        total = total.times_plus(r, _number(r, 1 / math.factorial(k)))
    return total * r if first else total


def _halves(x: Vector, number: str) -> tuple[str, str]:
    f, integer = x.function, _FORMS[x.element][0]
    type_ = _integers(integer, x.lanes)
    half = f.emit(f"ashr {type_} {number}, {_same(integer, x.lanes, 1)}")
    return half, f.emit(f"sub {type_} {number}, {half}")


def _power_of_two(x: Vector, number: str) -> Vector:
    f, (integer, bits, bias, *_) = x.function, _FORMS[x.element]
    type_ = _integers(integer, x.lanes)
    exponent = f.emit(f"add {type_} {number}, {_same(integer, x.lanes, bias)}")
    shifted = f.emit(f"shl {type_} {exponent}, {_same(integer, x.lanes, bits)}")
    return Vector(f, f.emit(f"bitcast {type_} {shifted} to {x.type}"), x.element, x.lanes)


def _integers(integer: str, lanes: int) -> str:
    return integer if lanes == 1 else f"<{lanes} x {integer}>"


def _same(integer: str, lanes: int, value: int) -> str:
    return str(value) if lanes == 1 else "<" + ", ".join([f"{integer} {value}"] * lanes) + ">"
