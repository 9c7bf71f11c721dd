"""How far a computed sum may lie from the exact one, for algorithms that form the definition's sum, in any order."""

import math

import numpy as np

from ...geometry import Axis, border_sources
from ...problem import Problem

__all__ = ["sum_bound", "terms"]


def terms(problem: Problem) -> int:
    """Products that are summed up for one element of the result, at most."""
    if problem.operation == "conv":
        return math.prod(problem.weight_shape[1:])
    if problem.operation == "input_grad":
        products = math.prod(problem.weight_shape) // problem.groups // problem.weight_shape[1]
        return products * math.prod(_most_shown(axis, problem.border) for axis in problem.axes)
    return problem.batch * math.prod(axis.output for axis in problem.axes)


def _most_shown(axis: Axis, border: str) -> int:
    """Padded positions that show the same input element, at most; each adds its products to the element's gradient."""
    if border == "constant" or axis.input == 0:
        return 1
    sources = border_sources(axis.input, axis.before, max(axis.after, 0), border)
    return int(np.bincount(sources).max(initial=1))


def sum_bound(problem: Problem) -> float:
    """Largest |computed - exact| relative to the sum of |x||w| (+ |bias| + |residual|): n u / (1 - n u), 0 if exact.

    Each of at most n operations on the way of a product into the result rounds once, by a factor within 1 +- u, where
    u is 2^-24 for float32 and 2^-53 for float64: n fused multiply-adds, or a product and up to n - 1 additions; then
    the bias and the residual. N. Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1. Denormals,
    which count as zero, are not in it: they may change a result by some 2^-126 per term.
    """
    if problem.dtype == "int64":
        return 0.0
    roundings = (terms(problem) + problem.bias + problem.residual) * float(np.finfo(problem.dtype).eps) / 2
    return roundings / (1 - roundings) if roundings < 1 else math.inf
