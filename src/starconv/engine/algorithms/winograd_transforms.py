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
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, TypeVar

__all__ = ["F2_3", "F2_5", "F4_3", "Transform"]


class Number(Protocol):
    """What transforms compute with: `ir.Vector` in kernels, exact numbers in tests."""

    def __add__(self: "N", other: "N", /) -> "N": ...
    def __sub__(self: "N", other: "N", /) -> "N": ...
    def __mul__(self: "N", other: "N", /) -> "N": ...
    def times_plus(self: "N", factor: "N", addend: "N") -> "N":
        """self * factor + addend."""


N = TypeVar("N", bound=Number)
Constant = Callable[[Fraction], N]
"""How a coefficient becomes a number."""


@dataclass(frozen=True)
class Transform:
    """F(m, taps). `pairs` are the positive points; with their negatives, 0 and infinity they are all."""

    m: int
    taps: int
    pairs: tuple[Fraction, ...]

    @property
    def n(self) -> int:
        """Points, and so products, per axis."""
        return self.m + self.taps - 1

    @property
    def points(self) -> list[Fraction]:
        """The finite points in the order of the products."""
        return [Fraction(0), *(sign * p for p in self.pairs for sign in (1, -1))]

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
            ends = [(Fraction(1), products[0])] * (i == 0) + [(Fraction(1), products[-1])] * (i == self.m - 1)
            results.append(_sum([*ends, *terms], constant))
        return results


F2_3 = Transform(2, 3, (Fraction(1),))
F4_3 = Transform(4, 3, (Fraction(5, 8), Fraction(3, 2)))
F2_5 = Transform(2, 5, F4_3.pairs)


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
