"""Why compiled algorithms of any kind refuse a problem: what they say in the same words."""

import math

from ...problem import Problem
from ..emit.target import Target
from ..kernels import ELEMENTS

__all__ = ["refuses_taps_or_padding", "refuses_unless"]

COMPUTES = {
    "conv": "it computes convolutions, not their gradients",
    "input_grad": "it computes input gradients",
    "weight_grad": "it computes weight gradients",
}


def refuses_unless(operation: str, problem: Problem, target: Target | None) -> str | None:
    """Why code for `operation` in floating point cannot take the problem, or None."""
    if target is None:
        return "no compiled code on this machine"
    if problem.operation != operation:
        return COMPUTES[operation]
    if problem.dtype not in ELEMENTS:
        return f"it sums in float32 or float64, not {problem.dtype}"
    if math.prod(problem.output_shape) == 0 or math.prod(problem.input_shape) == 0:
        return "there is nothing to compute"
    return None


def refuses_taps_or_padding(problem: Problem) -> str | None:
    """Why a product of pixels and channels cannot take the problem: kernels of several taps, or padding."""
    if any(axis.kernel != 1 for axis in problem.axes):
        return "it takes kernels of one tap"
    if any(axis.before or axis.after > 0 for axis in problem.axes):
        return "it takes no padding"
    return None
