"""Fourier transforms that run on vectors of side-by-side sequences: butterflies, passes, and the tables they read.

Maths: a sequence of n numbers is a polynomial in z, and a product modulo z^n - c is a convolution that wraps around
with the factor c. Where n = r q and c = s^r, a_0 + a_1 z^q + ... + a_(r-1) z^((r-1) q) leaves modulo z^q - s w^j

    b_j = sum_k w^(jk) s^k a_k,   j = 0, ..., r - 1,   w = e^(2 pi i / r),

which is one butterfly per coefficient. Passes of it end with n numbers, the values at the roots of z^n = c, in an order
that nobody needs to know: products are formed number by number, and passes backwards undo the passes. All coefficients
of a block have the same factors s^k. D. Bernstein, "Multidigit multiplication for mathematicians", 2001, sections 2-5.

A *real* sequence x of 2 n numbers, modulo z^(2n) + 1 = (z^n - i)(z^n + i), is the complex sequence x_k + i x_(k+n)
modulo z^n - i: half as long, with nothing to split or to repair. The wrap-around has a minus sign, and no valid output
reads it. Section 6 there ("right-angle convolution").

A radix-4 butterfly of 8 lanes is 12 multiplications, most of them fused, and 16 additions on 8 loads, 6 broadcasts and
8 stores. It fits into 16 registers and takes 11 cycles on a Zen 3, where the stores alone take 8.
"""

import cmath
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..emit.ir import ITEMSIZES, Function, Pointer, Vector
from ..emit.target import Target

__all__ = ["PASS_FIELDS", "Complex", "Passes", "ahead", "back", "lengths", "meet", "passes_of"]

PASS_FIELDS = 4
"""Numbers per pass in its table: radix, q, blocks, address of the factors."""
LAST = 4
"""Radix of the last pass, which `meet` does."""


class Passes(NamedTuple):
    """The passes of one length: the table that compiled code reads, and the factors that it points to."""

    table: NDArray[np.int64]
    factors: tuple[NDArray[np.floating], ...]

    @property
    def number(self) -> int:
        """How many passes."""
        return len(self.table)


@lru_cache(maxsize=16)
def lengths(most: int) -> tuple[int, ...]:
    """Lengths that passes are made for: powers of two, and 3, 5 and 15 times as many, from 4 on.

    >>> lengths(64)
    (4, 8, 12, 16, 20, 24, 32, 40, 48, 60, 64)
    """
    return tuple(n for n in range(4, most + 1, 4) if _radices(n))


def _radices(length: int) -> list[int]:
    """Radices from the first pass to the last; none where there are no passes for this length."""
    radices = []
    while length % 4 == 0:
        radices.append(4)
        length //= 4
    for radix in (2, 3, 5):
        if length % radix == 0:
            radices.append(radix)
            length //= radix
    return radices[::-1] if length == 1 and LAST in radices else []


@lru_cache(maxsize=256)
def passes_of(length: int, dtype: str, turn: float) -> Passes:
    """Passes for `length` numbers modulo z^length - e^(2 pi i turn): turn 0 for complex, 1/4 for halved real ones."""
    rows, tables, turns, q = [], [], [turn], length
    for radix in _radices(length):
        q //= radix
        roots = [cmath.exp(2j * math.pi * k * block / radix) for block in turns for k in range(1, radix)]
        factors = np.array([[root.real, root.imag] for root in roots], dtype)
        rows.append((radix, q, len(turns), factors.ctypes.data))
        tables.append(factors)
        turns = [(block + j) / radix for block in turns for j in range(radix)]
    return Passes(np.array(rows, np.int64), tuple(tables))


class Complex(NamedTuple):
    """A vector of complex numbers."""

    re: Vector
    im: Vector

    def __add__(self, other: "Complex") -> "Complex":  # type: ignore[override]
        return Complex(self.re + other.re, self.im + other.im)

    def __sub__(self, other: "Complex") -> "Complex":
        return Complex(self.re - other.re, self.im - other.im)

    def times(self, other: "Complex") -> "Complex":
        """self other."""
        return Complex(
            self.re.times_plus(other.re, -(self.im * other.im)), self.re.times_plus(other.im, self.im * other.re)
        )

    def times_conjugate(self, other: "Complex") -> "Complex":
        """Self times the conjugate of `other`."""
        return Complex(
            self.re.times_plus(other.re, self.im * other.im), self.im.times_plus(other.re, -(self.re * other.im))
        )


def _plus_turned(a: Complex, b: Complex) -> Complex:
    """a + i b."""
    return Complex(a.re - b.im, a.im + b.re)


def _minus_turned(a: Complex, b: Complex) -> Complex:
    """a - i b."""
    return Complex(a.re + b.im, a.im - b.re)


def _spread(values: Sequence[Complex], forward: bool) -> list[Complex]:
    """The sums over k of w^(jk) values[k] for 2 to 5 values, with the conjugate of w backwards."""
    plus, minus = (_plus_turned, _minus_turned) if forward else (_minus_turned, _plus_turned)
    if len(values) == 2:
        a, b = values
        return [a + b, a - b]
    if len(values) == 3:
        a, b, c = values
        total, apart = b + c, b - c
        middle, aside = _plus_scaled(a, total, -0.5), _scaled(apart, math.sqrt(0.75))
        return [a + total, plus(middle, aside), minus(middle, aside)]
    if len(values) == 4:
        a, b, c, d = values
        even, odd, even_apart, odd_apart = a + c, b + d, a - c, b - d
        return [even + odd, plus(even_apart, odd_apart), even - odd, minus(even_apart, odd_apart)]
    a, b, c, d, e = values
    outer, inner, outer_apart, inner_apart = b + e, c + d, b - e, c - d
    one, two = (math.tau * k / 5 for k in (1, 2))
    found = [a + outer + inner]
    for number, (near, far, sign) in enumerate(((one, two, 1), (two, one, -1))):
        middle = _plus_scaled(_plus_scaled(a, outer, math.cos(near)), inner, math.cos(far))
        aside = _plus_scaled(_scaled(outer_apart, math.sin(near)), inner_apart, sign * math.sin(far))
        found[1 + number : 1 + number] = [plus(middle, aside), minus(middle, aside)]
    return found


def _scaled(a: Complex, factor: float) -> Complex:
    return Complex(a.re * _like(a.re, factor), a.im * _like(a.im, factor))


def _plus_scaled(a: Complex, b: Complex, factor: float) -> Complex:
    """a + factor b."""
    return Complex(b.re.times_plus(_like(b.re, factor), a.re), b.im.times_plus(_like(b.im, factor), a.im))


def _like(vector: Vector, value: float) -> Vector:
    return vector.function.constant(value, vector.element, vector.lanes)


def _butterfly_ahead(values: Sequence[Complex], factors: Sequence[Complex]) -> list[Complex]:
    return _spread([values[0], *(a.times(s) for a, s in zip(values[1:], factors, strict=True))], forward=True)


def _butterfly_back(values: Sequence[Complex], factors: Sequence[Complex]) -> list[Complex]:
    first, *others = _spread(values, forward=False)
    return [first, *(a.times_conjugate(s) for a, s in zip(others, factors, strict=True))]


def _factors(at: Pointer, radix: int, lanes: int) -> list[Complex]:
    return [Complex(at.at(2 * k).broadcast(lanes), at.at(2 * k + 1).broadcast(lanes)) for k in range(radix - 1)]


def _pass(name: str, target: Target, element: str, radix: int, butterfly: Callable[..., list[Complex]]) -> Function:
    """One pass over a sequence in place; `step` bytes between its numbers, `away` from real to imaginary parts."""
    f = Function(name, target, ["base", "step", "away", "q", "blocks", "factors"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    base, factors = f.pointer("base", element), f.pointer("factors", element)
    step, away, q, blocks = (f.integer(part) for part in ("step", "away", "q", "blocks"))
    span = q * step
    starts = [span * k for k in range(radix)]
    total = span * radix
    for block in f.loop(blocks):
        s = _factors(factors.at(block * (2 * (radix - 1))), radix, lanes)
        start = base.at_bytes(block * total)
        for offset in f.loop(0, span, step):
            at = [start.at_bytes(offset + k) for k in starts]
            values = [Complex(p.load(lanes), p.at_bytes(away).load(lanes)) for p in at]
            for p, value in zip(at, butterfly(values, s), strict=True):
                p.store(value.re)
                p.at_bytes(away).store(value.im)
    return f


RADICES = (2, 3, 4, 5)


def ahead(target: Target, element: str) -> list[Function]:
    """The function `ahead`, (base, step, away, table, first, last): passes first to last; and what it needs."""
    return _passes("ahead", target, element, _butterfly_ahead)


def back(target: Target, element: str) -> list[Function]:
    """The function `back`, which undoes what `ahead` did, but for a factor of the length."""
    return _passes("back", target, element, _butterfly_back)


def _passes(name: str, target: Target, element: str, butterfly: Callable[..., list[Complex]]) -> list[Function]:
    each = {radix: _pass(f"{name}_{radix}", target, element, radix, butterfly) for radix in RADICES}
    f = Function(name, target, ["base", "step", "away", "table", "first", "last"], internal=True)
    base, step, away, table = (f.integer(part) for part in ("base", "step", "away", "table"))
    first, last = f.integer("first"), f.integer("last")
    for number in f.loop(last - first):
        row = first + number if name == "ahead" else last - 1 - number
        entry = f.address(table, "i64").at(row * PASS_FIELDS)
        radix, q, blocks, factors = (entry.at(i).load_int() for i in range(PASS_FIELDS))
        for r, function in each.items():
            with f.when(radix.equals(r)):
                f.run(function, base, step, away, q, blocks, factors)
    return [*each.values(), f]


def meet(target: Target, element: str) -> Function:
    """The last pass ahead, the product with a spectrum, and the first pass back, in registers: (base, spectrum, table).

    `base` and `spectrum` hold a vector of real parts and one of imaginary parts per number.
    """
    f = Function("meet", target, ["base", "spectrum", "last"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    base, spectrum = f.pointer("base", element), f.pointer("spectrum", element)
    entry = f.pointer("last", "i64")
    blocks, factors = entry.at(2).load_int(), f.address(entry.at(3).load_int(), element)
    size = 2 * lanes
    for block in f.loop(blocks):
        s = _factors(factors.at(block * (2 * (LAST - 1))), LAST, lanes)
        at, other = base.at(block * (LAST * size)), spectrum.at(block * (LAST * size))
        values = _butterfly_ahead([pair(at.at(k * size), lanes) for k in range(LAST)], s)
        values = [value.times(pair(other.at(k * size), lanes)) for k, value in enumerate(values)]
        for k, value in enumerate(_butterfly_back(values, s)):
            at.at(k * size).store(value.re)
            at.at(k * size + lanes).store(value.im)
    return f


def pair(at: Pointer, lanes: int) -> Complex:
    """A vector of real parts and, behind it, one of imaginary parts."""
    return Complex(at.load(lanes), at.at(lanes).load(lanes))
