"""Cook-Toom transforms from their points, in exact fractions, emitted with few operations.

F(m, r) computes m outputs y[i] = sum_k d[i + k] g[k] of a kernel of r taps from n = m + r - 1 inputs with n products
instead of r m. Read d, g and y as coefficients; the products are values at n points, the last of which is infinity:

    y = A^T ((G g) * (B^T d))

    G[j, k] = p_j^k / N_j  with N_j = prod over other points of (p_j - p_l);  for infinity it picks g[r - 1]
    A^T[i, j] = p_j^i;                                                        for infinity it adds to y[m - 1]
    B^T[j] = coefficients of prod over other points of (x - p_l);             for infinity over all points

(A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", arXiv:1509.09308; B. Barabasz et al.,
"Error analysis and improving the accuracy of Winograd convolution", arXiv:1803.10986.) In two dimensions each of the
three is applied to the columns, then to the rows.

All points here are 0, pairs +p and -p, and infinity. A pair shares its work: with e and o the even and odd part of its
polynomial or sum, one gets e + o, the other e - o. So 1-D transforms cost, in vector operations,

    F(2,3), points 0, +-1, inf:          4 for the input,  4 for the output
    F(4,3), points 0, +-5/8, +-3/2, inf: 12 for the input, 12 for the output
    F(2,5), the same points:             12 for the input,  8 for the output

where the products with the dense matrices would take 21 and 17 for the second. 5/8 and 3/2, their squares and all
coefficients of A^T and B^T are exact in float32 (a^2 b^2 = 225/256); only G rounds.

**Strides.** With stride 2 the taps 0 and 2 of a kernel of 3 meet the even inputs only, as a kernel of 2 taps meets
neighbours, and tap 1 the odd ones:

    y[i] = (d[2i] g[0] + d[2 (i + 1)] g[2]) + d[2i + 1] g[1]

F(m, 2) computes the first part with m + 1 products, the second takes m, all with the same number, so there are
n = 2m + 1 products of m + 2 different numbers per kernel instead of 3m: :class:`Strided`. In two dimensions these are,
with m = 4, 81 / 144 of the definition's. (Such phases: J. Yepez and S.-B. Ko, "Stride 2 1-D, 2-D, and 3-D Winograd for
convolutional neural networks", IEEE Trans. VLSI 28 (2020), 853-863.)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Protocol, TypeVar

__all__ = ["F2_3", "F2_5", "F4_2", "F4_3", "Strided", "Tile", "Transform", "span"]


class Number(Protocol):
    """What transforms compute with: `ir.Vector` in kernels, exact numbers in tests."""

    def __add__(self: "N", other: "N", /) -> "N": ...
    def __sub__(self: "N", other: "N", /) -> "N": ...
    def __mul__(self: "N", other: "N", /) -> "N": ...
    def times_plus(self: "N", factor: "N", addend: "N") -> "N":
        """self * factor + addend."""


class Count(Protocol):
    """A number of tiles: an int, or one that a kernel will know."""

    def __mul__(self: "C", other: int, /) -> "C": ...
    def __add__(self: "C", other: int, /) -> "C": ...


N = TypeVar("N", bound=Number)
C = TypeVar("C", bound=Count)
Constant = Callable[[Fraction], N]
"""How a coefficient becomes a number."""


class Tile(Protocol):
    """What a block of outputs takes per axis."""

    @property
    def m(self) -> int:
        """Outputs."""

    @property
    def n(self) -> int:
        """Products."""

    @property
    def taps(self) -> int:
        """Of the kernel."""

    @property
    def stride(self) -> int:
        """Of the convolution."""

    @property
    def window(self) -> int:
        """Inputs."""

    @property
    def step(self) -> int:
        """Inputs from the first of one tile to the first of the next."""

    @property
    def numbers(self) -> int:
        """Different numbers that kernels become. The last of them is that of all products from its own on."""

    def kernel(self, g: Sequence[N], constant: Constant[N]) -> list[N]:
        """The numbers of a kernel."""

    def input(self, d: Sequence[N], constant: Constant[N]) -> list[N]:
        """What they are multiplied with."""

    def output(self, products: Sequence[N], constant: Constant[N]) -> list[N]:
        """The outputs, from the products."""

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Transform:
    """F(m, taps). `pairs` are the positive points; with their negatives, 0, `single` ones and infinity they are all.

    Polynomials of pairs are mirrored only where there are no single points; else inputs and kernels share nothing.
    """

    m: int
    taps: int
    pairs: tuple[Fraction, ...]
    single: tuple[Fraction, ...] = ()

    stride: ClassVar[int] = 1

    @property
    def n(self) -> int:
        """Points, and so products, per axis."""
        return self.m + self.taps - 1

    @property
    def window(self) -> int:
        """Inputs of a tile."""
        return self.n

    @property
    def step(self) -> int:
        """Inputs from one tile to the next."""
        return self.m

    @property
    def numbers(self) -> int:
        """Different numbers that kernels become: one per product."""
        return self.n

    @property
    def points(self) -> list[Fraction]:
        """The finite points in the order of the products."""
        return [Fraction(0), *(sign * p for p in self.pairs for sign in (1, -1)), *self.single]

    # -- the matrices ----------------------------------------------------------------------------------------

    @property
    def kernel_matrix(self) -> list[list[Fraction]]:
        """G, n x taps."""
        rows = []
        for j, p in enumerate(self.points):
            scale = Fraction(1)
            for other in self.points[:j] + self.points[j + 1 :]:
                scale *= p - other
            rows.append([p**k / scale for k in range(self.taps)])
        return [*rows, [Fraction(0)] * (self.taps - 1) + [Fraction(1)]]

    @property
    def output_matrix(self) -> list[list[Fraction]]:
        """A^T, m x n."""
        return [[*(p**i for p in self.points), Fraction(i == self.m - 1)] for i in range(self.m)]

    @property
    def input_matrix(self) -> list[list[Fraction]]:
        """B^T, n x n."""
        points = self.points
        rows = [_product(points[:j] + points[j + 1 :]) for j in range(len(points))] + [_product(points)]
        return [row + [Fraction(0)] * (self.n - len(row)) for row in rows]

    # -- the same, in few operations -------------------------------------------------------------------------

    def kernel(self, g: Sequence[N], constant: Constant[N]) -> list[N]:
        """G g."""
        matrix = self.kernel_matrix
        if self.single:
            return [_sum(zip(row, g, strict=True), constant) for row in matrix]
        values = [_sum(zip(matrix[0], g, strict=True), constant)]
        for number in range(len(self.pairs)):
            row = matrix[1 + 2 * number]
            even = _sum([(row[k], g[k]) for k in range(0, self.taps, 2)], constant)
            odd = _sum([(row[k] / row[1], g[k]) for k in range(1, self.taps, 2)], constant)
            values += _plus_minus(even, row[1], odd, constant)
        return [*values, g[-1]]

    def input(self, d: Sequence[N], constant: Constant[N]) -> list[N]:
        """B^T d."""
        matrix = self.input_matrix
        if self.single:
            return [_sum(zip(row, d, strict=True), constant) for row in matrix]
        values = [_sum(zip(matrix[0], d, strict=True), constant)]
        for number, p in enumerate(self.pairs):
            row = matrix[1 + 2 * number]
            even = _sum([(row[i], d[i]) for i in range(0, self.n, 2)], constant)
            odd = _sum([(row[i] / p, d[i]) for i in range(1, self.n, 2)], constant)
            values += _plus_minus(even, p, odd, constant)
        return [*values, _sum(zip(matrix[-1], d, strict=True), constant)]

    def output_adjoint(self, y: Sequence[N], constant: Constant[N]) -> list[N]:
        """A y, the transpose of `output`."""
        values = [y[0]]
        for p in self.pairs:
            even = _sum([(p**i, y[i]) for i in range(0, self.m, 2)], constant)
            odd = _sum([(p ** (i - 1), y[i]) for i in range(1, self.m, 2)], constant)
            values += _plus_minus(even, p, odd, constant)
        values += [_sum([(p**i, number) for i, number in enumerate(y)], constant) for p in self.single]
        return [*values, y[-1]]

    def kernel_adjoint(self, products: Sequence[N], constant: Constant[N]) -> list[N]:
        """G^T products, the transpose of `kernel`."""
        columns = zip(*self.kernel_matrix, strict=True)
        return [_sum(zip(column, products, strict=True), constant) for column in columns]

    def output(self, products: Sequence[N], constant: Constant[N]) -> list[N]:
        """A^T products."""
        pairs = [(products[1 + 2 * i], products[2 + 2 * i]) for i in range(len(self.pairs))]
        sums, differences = [a + b for a, b in pairs], [a - b for a, b in pairs]
        results = []
        for i in range(self.m):
            parts = differences if i % 2 else sums
            terms = [(p**i, part) for p, part in zip(self.pairs, parts, strict=True)]
            terms += [(p**i, products[1 + 2 * len(pairs) + j]) for j, p in enumerate(self.single)]
            ends = [(Fraction(1), products[0])] * (i == 0) + [(Fraction(1), products[-1])] * (i == self.m - 1)
            results.append(_sum([*ends, *terms], constant))
        return results


@dataclass(frozen=True)
class Strided:
    """m outputs of a kernel of 3 taps with stride 2; `even` is what taps 0 and 2 take."""

    even: Transform

    taps: ClassVar[int] = 3
    stride: ClassVar[int] = 2

    @property
    def m(self) -> int:
        """Outputs."""
        return self.even.m

    @property
    def n(self) -> int:
        """Products: those of even inputs, then those of odd ones."""
        return self.even.n + self.even.m

    @property
    def window(self) -> int:
        """Inputs."""
        return 2 * self.m + 1

    @property
    def step(self) -> int:
        """Inputs from one tile to the next."""
        return 2 * self.m

    @property
    def numbers(self) -> int:
        """One for all odd inputs."""
        return self.even.n + 1

    def kernel(self, g: Sequence[N], constant: Constant[N]) -> list[N]:
        """Numbers of taps 0 and 2, and tap 1."""
        return [*self.even.kernel([g[0], g[2]], constant), g[1]]

    def input(self, d: Sequence[N], constant: Constant[N]) -> list[N]:
        """Even inputs, transformed, and odd ones as they are."""
        return [*self.even.input(d[0::2], constant), *d[1::2]]

    def output(self, products: Sequence[N], constant: Constant[N]) -> list[N]:
        """Sums of both kinds."""
        even = self.even.output(products[: self.even.n], constant)
        return [a + b for a, b in zip(even, products[self.even.n :], strict=True)]


F2_3 = Transform(2, 3, (Fraction(1),))
F4_3 = Transform(4, 3, (Fraction(5, 8), Fraction(3, 2)))
F2_5 = Transform(2, 5, F4_3.pairs)
F4_2 = Transform(4, 2, (Fraction(1),), (Fraction(1, 2),))


def span(tile: Tile, tiles: C) -> C:
    """Inputs per axis that so many neighbouring tiles read."""
    return tiles * tile.step + (tile.window - tile.step)


def _product(roots: Iterable[Fraction]) -> list[Fraction]:
    """Coefficients of prod (x - root), lowest first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [high - root * low for high, low in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients


def _sum(terms: Iterable[tuple[Fraction, N]], constant: Constant[N]) -> N:
    """Sum of coefficient * number: a term whose coefficient is 1 comes first and needs no product."""
    present = sorted(((c, x) for c, x in terms if c), key=lambda term: (term[0] != 1, abs(term[0]) != 1))
    (first, total), *others = present
    if first != 1:
        total = total * constant(first)
    for coefficient, number in others:
        if coefficient == 1:
            total = total + number
        elif coefficient == -1:
            total = total - number
        else:
            total = number.times_plus(constant(coefficient), total)
    return total


def _plus_minus(even: N, p: Fraction, odd: N, constant: Constant[N]) -> list[N]:
    """[even + p odd, even - p odd]."""
    if p == 1:
        return [even + odd, even - odd]
    return [odd.times_plus(constant(p), even), odd.times_plus(constant(-p), even)]
