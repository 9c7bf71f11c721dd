"""Why rows of any kind refuse a problem: what they say in the same words. Each gives the reason, or None."""

import math

from ...problem import Problem
from ..emit.target import Target
from ..kernels import ELEMENTS
from .blocks import cut_of

__all__ = [
    "refuses_channels_first",
    "refuses_depthwise",
    "refuses_few_channels",
    "refuses_fourier",
    "refuses_long_rows",
    "refuses_many_kernels",
    "refuses_many_phases",
    "refuses_other_than",
    "refuses_shown_padding",
    "refuses_taps",
    "refuses_taps_or_padding",
    "refuses_target",
    "refuses_unless",
    "refuses_volumes",
    "refuses_winograd",
]

COMPUTES = {
    "conv": "it computes convolutions, not their gradients",
    "input_grad": "it computes input gradients",
    "weight_grad": "it computes weight gradients",
}
LEAST_CHANNELS = 8
"""Or kernels, per group: with 8 of each Winograd's transforms cost twice what the products do."""
MOST_PHASES = 1 << 14
"""Of an input gradient, which are gone through one by one when it is planned: 128 x 128, or half a second."""
FEWEST_TAPS = 25
"""Kernels of fewer are quicker without a Fourier transform, whatever their shape."""


def refuses_unless(operation: str, problem: Problem, target: Target | None) -> str | None:
    """Of compiled code for `operation` in floating point."""
    return refuses_target(target) or refuses_other_than(operation, problem)


def refuses_target(target: Target | None) -> str | None:
    """Of compiled code for any problem."""
    return "no compiled code on this machine" if target is None else None


def refuses_other_than(operation: str, problem: Problem) -> str | None:
    """Of any code for `operation` in floating point."""
    if problem.operation != operation:
        return COMPUTES[operation]
    if problem.dtype not in ELEMENTS:
        return f"it sums in float32 or float64, not {problem.dtype}"
    if math.prod(problem.output_shape) == 0 or math.prod(problem.input_shape) == 0:
        return "there is nothing to compute"
    return None


def refuses_long_rows(problem: Problem, target: Target) -> str | None:
    """Of code that packs whole rows, for what `stretches` takes."""
    if cut_of(problem, target) is not None:
        return "its row fills the second-level cache, so it is cut into stretches first"
    return None


def refuses_taps(problem: Problem) -> str | None:
    """Of a product of pixels and channels: kernels of several taps."""
    return "it takes kernels of one tap" if any(axis.kernel != 1 for axis in problem.axes) else None


def refuses_taps_or_padding(problem: Problem) -> str | None:
    """Of a product of pixels that are read where they lie."""
    padded = any(axis.before or axis.after > 0 for axis in problem.axes)
    return refuses_taps(problem) or ("it takes no padding" if padded else None)


def refuses_volumes(problem: Problem) -> str | None:
    """Of code for rows of pixels, or rows of rows."""
    return "it takes one or two spatial axes" if problem.spatial == 3 else None


def refuses_few_channels(problem: Problem, target: Target) -> str | None:
    """Of vectors of channels."""
    few = problem.in_channels < target.lanes(problem.itemsize)
    return f"{problem.in_channels} channels do not fill a vector" if few else None


def refuses_many_kernels(problem: Problem) -> str | None:
    """Of a depthwise layer."""
    one = problem.groups == problem.in_channels == problem.out_channels
    return None if one else "it takes one kernel per channel, groups = C = K"


def refuses_channels_first(problem: Problem) -> str | None:
    """Of vectors of channels that are loaded where they lie."""
    return None if problem.channels_last else "it runs along channels that lie side by side (channels_last)"


def refuses_depthwise(operation: str, problem: Problem, target: Target | None) -> str | None:
    """Of a depthwise layer whose rows are packed for vectors of channels, or of its gradients."""
    refusal = refuses_unless(operation, problem, target) or refuses_many_kernels(problem)
    if refusal is not None or target is None:
        return refusal
    if problem.border != "constant":
        return f"it packs no border of {problem.border}"
    return (
        refuses_few_channels(problem, target)
        or refuses_volumes(problem)
        or refuses_many_phases(problem)
        or refuses_long_rows(problem, target)
    )


def refuses_shown_padding(problem: Problem) -> str | None:
    """Of an input gradient that leaves padding alone."""
    if problem.border != "constant":
        return f"with a border of {problem.border}, padding passes its gradient on to the pixels it shows"
    return None


def refuses_many_phases(problem: Problem) -> str | None:
    """Of an input gradient whose phases are gone through one by one."""
    count = math.prod(min(axis.stride, axis.input) for axis in problem.axes)
    if problem.operation == "input_grad" and count > MOST_PHASES:
        return f"a stride with {count} phases, more than the {MOST_PHASES} that are gone through"
    return None


def refuses_winograd(
    operation: str, problem: Problem, target: Target | None, taps: tuple[int, ...], stride: int = 1
) -> str | None:
    """Of Winograd's transforms for square kernels of so many `taps` per axis, and for one stride."""
    if refusal := refuses_unless(operation, problem, target):
        return refusal
    if problem.dtype != "float32":
        return f"its error is known for float32, not {problem.dtype}"
    if problem.precision == "strict":
        return "its rounding errors are larger than the plain sum's, which precision=strict asks for"
    if [axis.kernel for axis in problem.axes] not in [[count, count] for count in taps]:
        return f"its transforms are for {' and '.join(f'{count}x{count}' for count in taps)} kernels"
    if any(axis.stride != stride or axis.dilation != 1 for axis in problem.axes):
        return f"neighbouring outputs share products only with stride {stride} and dilation 1"
    if min(problem.in_channels, problem.out_channels) // problem.groups < LEAST_CHANNELS:
        return f"with fewer than {LEAST_CHANNELS} channels or kernels per group its transforms cost more than they save"
    return None


def refuses_fourier(problem: Problem) -> str | None:
    """Of Fourier transforms: what they must not take, and where they never pay."""
    if problem.precision == "strict":
        return "its errors are relative to the largest results of a tile, which precision strict forbids"
    taps = math.prod(problem.weight_shape[2:])
    if taps < FEWEST_TAPS:
        return f"{taps} taps are fewer than {FEWEST_TAPS}, which are always quicker directly"
    if any(axis.stride > axis.extent for axis in problem.axes):
        return "most of what it computes would be skipped by the stride"
    return None
