"""Sizes, padding and who reads what: the integer geometry of convolutions. The only place with the formula.

One axis of a convolution is an :class:`Axis`; a convolution over 1, 2 or 3 axes has a tuple of them, because the axes
do not influence each other. The convolution, its transpose and its weight gradient share one geometry: they are the
three ways to leave out one of X, O and K in ``O = X ⋆ K``.

Source of the formulas: V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning",
arXiv:1603.07285 (relationships 1-14), extended by a padding per side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Literal, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentTypeError, ArgumentValueError, choices

__all__ = [
    "Axis",
    "Padding",
    "Phase",
    "ReceptiveField",
    "adjoint_phases",
    "border_sources",
    "convolution_axes",
    "output_size",
    "per_axis",
    "receptive_field",
    "stretched_axis",
    "transposed_axes",
    "window_counts",
]

PerAxis = int | Sequence[int]
"""One integer for every axis, or one per axis."""
Padding = int | Sequence[int] | Sequence[tuple[int, int]] | Literal["valid", "same", "full"]
"""An int, one int per axis, a (before, after) pair per axis, or a rule by name."""

LARGEST = 2**31 - 1
"""Of strides, dilations, paddings and kernel sizes, so that products with sizes stay within 64 bits."""
PADDING_RULES = ("valid", "same", "full")
BORDERS = ("constant", "edge", "reflect", "symmetric", "wrap")
"""What lies beyond the edge, by ``numpy.pad``'s names (PyTorch and scipy.ndimage use the same words differently)."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a convolution: `input` elements, padded, met by a kernel of `kernel` taps.

    Output element ``i`` reads padded position ``i * stride + tap * dilation``, that is, input element
    ``i * stride + tap * dilation - before``; outside ``[0, input)`` that is padding.

    >>> axis = Axis(input=5, kernel=3, stride=2, before=1, after=1)
    >>> axis.output
    3
    >>> axis.reads(0)
    [-1, 0, 1]
    >>> list(axis.read_by(1))
    [(2, 0), (0, 1)]
    """

    input: int
    kernel: int
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1

    @property
    def extent(self) -> int:
        """Input elements that one dilated kernel spans: d(k - 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def padded(self) -> int:
        """Input elements with the padding on both sides."""
        return self.input + self.before + self.after

    @property
    def output(self) -> int:
        """Output elements: floor((H + p_before + p_after - (d(k - 1) + 1)) / s) + 1."""
        return (self.padded - self.extent) // self.stride + 1

    @property
    def output_padding(self) -> int:
        """Padded input elements past the last window, which no output reads (what a transposed convolution adds)."""
        return self.padded - self.extent - (self.output - 1) * self.stride

    def reads(self, output: int) -> list[int]:
        """Input positions that output element `output` reads, tap by tap; negative or >= `input` is padding."""
        start = output * self.stride - self.before
        return [start + tap * self.dilation for tap in range(self.kernel)]

    def read_by(self, position: int) -> Iterator[tuple[int, int]]:
        """The (tap, output) pairs in which input position `position` takes part, by rising output."""
        for tap in reversed(range(self.kernel)):
            output, rest = divmod(position + self.before - tap * self.dilation, self.stride)
            if rest == 0 and 0 <= output < self.output:
                yield tap, output


@lru_cache(maxsize=1024)
def window_counts(axes: tuple[Axis, ...], pads: tuple[tuple[int, int], ...]) -> tuple[tuple[int, ...], ...]:
    """Per axis and output, how many elements the mean of a window divides by: the input's, and padding as it counts.

    `pads` are (before, after) per axis: (0, 0) where padding does not count. What hangs over behind the padding, as a
    last window may with ceil_mode, never does.

    >>> window_counts((Axis(5, 3, 2, 1, 1),), ((0, 0),))
    ((2, 3, 2),)
    """
    found = []
    for axis, (before, after) in zip(axes, pads, strict=True):
        starts = range(-axis.before, axis.output * axis.stride - axis.before, axis.stride)
        # Of places start + tap * dilation those from -before to before input + after.
        below = (_taps_below(axis, -before - start) for start in starts)
        whole = (_taps_below(axis, axis.input + after - start) for start in starts)
        found.append(tuple(max(last - first, 0) for first, last in zip(below, whole, strict=True)))
    return tuple(found)


def _taps_below(axis: Axis, offset: int) -> int:
    """Taps that lie before `offset` from the first one."""
    return min(max(-(-offset // axis.dilation), 0), axis.kernel)


def per_axis(argument: str, value: object, axes: int, *, minimum: int) -> tuple[int, ...]:
    """`value` as one int per axis: an int is repeated, a sequence must have `axes` ints, none below `minimum`."""
    largest = 2**62 if argument == "input_size" else LARGEST
    expected = f"an integer >= {minimum} or {axes} of them, one per axis"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if _is_integer(value):
        values = (_integer(value),) * axes
    elif isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_integer, value)):
        values = tuple(map(_integer, value))
        if len(values) == 1:
            values *= axes
    else:
        raise ArgumentTypeError(argument, value, expected)
    if len(values) != axes or min(values) < minimum:
        raise ArgumentValueError(argument, value, expected)
    if max(values) > largest:
        raise ArgumentValueError(argument, value, f"{expected}, none above {largest}")
    return values


def convolution_axes(
    input_size: Sequence[int],
    kernel_size: Sequence[int],
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
) -> tuple[Axis, ...]:
    """The axes of a convolution, checked: every impossible combination raises here and nowhere else.

    Raises:
        ArgumentValueError, ArgumentTypeError: a stride, dilation or kernel size below 1, negative padding, a number of
            values that is not the number of axes, or a kernel larger than the padded input.
    """
    inputs = _sizes(input_size)
    count = len(inputs)
    kernels = per_axis("kernel_size", tuple(kernel_size), count, minimum=1)
    strides = per_axis("stride", stride, count, minimum=1)
    dilations = per_axis("dilation", dilation, count, minimum=1)
    pads = _padding_pairs(padding, inputs, kernels, strides, dilations)
    axes = tuple(
        Axis(size, kernel, step, before, after, spread)
        for size, kernel, step, (before, after), spread in zip(inputs, kernels, strides, pads, dilations, strict=True)
    )
    for axis in axes:
        if axis.extent > axis.padded:
            raise ArgumentValueError(
                "kernel_size",
                kernels,
                f"at most the padded input: dilation * (kernel - 1) + 1 = {axis.extent} does not fit into "
                f"{axis.input} + {axis.before} + {axis.after} = {axis.padded}",
                input_size=inputs,
                padding=pads,
                dilation=dilations,
            )
    return axes


def transposed_axes(
    input_size: Sequence[int],
    kernel_size: Sequence[int],
    stride: object = 1,
    padding: object = 0,
    output_padding: object = 0,
    dilation: object = 1,
) -> tuple[Axis, ...]:
    """The axes of the convolution whose transpose maps `input_size` to the transposed convolution's output.

    The result's ``input`` is the output size (H - 1)s - p_before - p_after + d(k - 1) + output_padding + 1, PyTorch's
    formula; its ``output`` is `input_size`.

    Raises:
        ArgumentValueError, ArgumentTypeError: as :func:`convolution_axes`; also an `output_padding` that is not smaller
            than the stride or the dilation, and an output of less than one element.
    """
    inputs = _sizes(input_size)
    count = len(inputs)
    kernels = per_axis("kernel_size", tuple(kernel_size), count, minimum=1)
    strides = per_axis("stride", stride, count, minimum=1)
    dilations = per_axis("dilation", dilation, count, minimum=1)
    extras = per_axis("output_padding", output_padding, count, minimum=0)
    if padding == "same":
        raise ArgumentValueError(
            "padding", padding, "an integer, one or a (before, after) pair per axis, 'valid' or 'full'"
        )
    pads = _padding_pairs(padding, inputs, kernels, strides, dilations)
    axes = []
    for size, kernel, step, (before, after), extra, spread in zip(
        inputs, kernels, strides, pads, extras, dilations, strict=True
    ):
        if extra >= max(step, spread):
            raise ArgumentValueError(
                "output_padding", extras, "less than the stride or the dilation", stride=strides, dilation=dilations
            )
        if size < 1:
            raise ArgumentValueError("input_size", inputs, "at least one element along every axis")
        output = (size - 1) * step - before - after + spread * (kernel - 1) + extra + 1
        if output < 1:
            raise ArgumentValueError(
                "padding",
                pads,
                f"an output of at least one element: ({size} - 1) * {step} - {before} - {after} + "
                f"{spread} * ({kernel} - 1) + {extra} + 1 = {output}",
                input_size=inputs,
                kernel_size=kernels,
            )
        # An output padding of a stride or more (the dilation is larger) would make room for further windows.
        # They must not count: take the extra elements off the padding instead, below zero if need be.
        axes.append(Axis(output, kernel, step, before, after - extra if extra >= step else after, spread))
    return tuple(axes)


def output_size(
    input_size: PerAxis,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    transposed: bool = False,
    output_padding: PerAxis = 0,
) -> int | tuple[int, ...]:
    """Output size of a convolution, floor((H + 2p - d(k - 1) - 1) / s) + 1 on every axis.

    Args:
        input_size: elements per axis, without batch and channels; an int means one axis.
        kernel_size: taps per axis; an int means the same on every axis.
        stride: step between windows.
        padding: an int, one int per axis, a (before, after) pair per axis, ``"valid"`` (none), ``"same"`` (output size
            ceil(H / stride), an odd element at the end) or ``"full"`` (d(k - 1) on both sides).
        dilation: distance between taps.
        transposed: the size of a transposed convolution instead, (H - 1)s - 2p + d(k - 1) + output_padding + 1.
        output_padding: elements added at the end of a transposed convolution's output.

    Returns:
        An int if `input_size` is one, else a tuple with one int per axis.

    Raises:
        ArgumentValueError, ArgumentTypeError: naming what cannot fit.

    >>> output_size(224, 7, stride=2, padding=3)
    112
    >>> output_size((5, 6), 3, padding=((1, 0), (2, 2)))
    (4, 8)
    >>> output_size(112, 7, stride=2, padding=3, transposed=True, output_padding=1)
    224
    """
    sizes = _sizes((input_size,) if _is_integer(input_size) else input_size)
    kernels = per_axis("kernel_size", kernel_size, len(sizes), minimum=1)
    if transposed:
        axes = transposed_axes(sizes, kernels, stride, padding, output_padding, dilation)
        result = tuple(axis.input for axis in axes)
    else:
        if any(per_axis("output_padding", output_padding, len(sizes), minimum=0)):
            raise ArgumentValueError("output_padding", output_padding, "0 unless transposed=True")
        result = tuple(axis.output for axis in convolution_axes(sizes, kernels, stride, padding, dilation))
    return result[0] if _is_integer(input_size) else result


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """The input elements that one output element of a stack of layers depends on, along one axis.

    Output element ``i`` depends on input elements ``start + i * jump`` to ``start + i * jump + size - 1``.
    """

    size: int = 1
    jump: int = 1
    start: int = 0

    def through(self, axis: Axis) -> "ReceptiveField":
        """The field after one more layer: k taps, d apart, each `jump` input elements from the next."""
        return ReceptiveField(
            size=self.size + (axis.extent - 1) * self.jump,
            jump=self.jump * axis.stride,
            start=self.start - axis.before * self.jump,
        )


def receptive_field(layers: Sequence[Axis]) -> ReceptiveField:
    """Receptive field of a stack of layers along one axis, first layer first.

    Source: A. Araujo, W. Norris and J. Sim, "Computing receptive fields of convolutional neural networks",
    Distill 2019, doi:10.23915/distill.00021.

    Raises:
        ArgumentTypeError: anything but a sequence of :class:`Axis`.

    >>> receptive_field([Axis(224, 7, stride=2, before=3, after=3), Axis(112, 3, stride=2, before=1, after=1)])
    ReceptiveField(size=11, jump=4, start=-5)
    """
    if not isinstance(layers, Sequence) or not all(isinstance(axis, Axis) for axis in layers):
        raise ArgumentTypeError("layers", layers, "a sequence of starconv.Axis, one per layer")
    field = ReceptiveField()
    for axis in layers:
        field = field.through(axis)
    return field


@dataclass(frozen=True, slots=True)
class Phase:
    """Every `step`-th input position of an axis from `first` on, and the convolution over O that is their gradient.

    Attributes:
        first, step: the positions are ``range(first, axis.input, step)``.
        taps: the kernel's taps that ever meet these positions. The convolution takes them in reverse.
        skipped: elements at the start of O that none of these positions needs.
        axis: the convolution over O from `skipped` on, stride 1, one output per position; None where no tap meets one.
    """

    first: int
    step: int
    taps: range
    skipped: int
    axis: Axis | None


def adjoint_phases(axis: Axis) -> tuple[Phase, ...]:
    """The transpose of a convolution along one axis, as dense convolutions with stride 1: one per phase of the stride.

    Position h receives K[t] O[o] wherever o s + t d = h + before. For the positions of one phase, h + before = u
    modulo s, that has solutions for the taps with t d = u modulo s only: none where g = gcd(s, d) does not divide u,
    else every (s / g)-th. From one such tap to the next o falls by d / g, so the phase is a convolution over O with
    dilation d / g and the kernel's taps in reverse. Its padding follows from where its first window begins and its
    last one ends; where that is inside O, there is something to skip instead.

    >>> [(phase.first, list(phase.taps)) for phase in adjoint_phases(Axis(6, kernel=3, stride=2, before=1, after=1))]
    [(0, [1]), (1, [0, 2])]
    >>> adjoint_phases(Axis(5, kernel=3, before=1, after=1))[0].axis
    Axis(input=5, kernel=3, stride=1, before=1, after=1, dilation=1)
    """
    stride, common = axis.stride, gcd(axis.stride, axis.dilation)
    every, spread = stride // common, axis.dilation // common
    phases = []
    for first in range(min(stride, axis.input)):
        start = first + axis.before
        taps = range(0)
        if start % common == 0:
            taps = range(start // common * pow(spread, -1, every) % every, axis.kernel, every)
        skipped, convolution = 0, None
        if taps:
            positions = -(-(axis.input - first) // stride)
            nearest = (start - taps[0] * axis.dilation) // stride  # what the first tap reads at the first position
            before = (len(taps) - 1) * spread - nearest
            after = nearest + positions - axis.output
            skipped, size = max(-before, 0), axis.output + min(before, 0) + min(after, 0)
            if size > 0:
                convolution = Axis(size, len(taps), 1, max(before, 0), max(after, 0), spread)
        phases.append(Phase(first, stride, taps, skipped, convolution))
    return tuple(phases)


def stretched_axis(axis: Axis) -> Axis:
    """The axis along which the turned-over kernel of a transposed convolution walks, one element at a time.

    `axis` is that of the convolution which is transposed, with n = ``axis.output`` elements to start from. Stretched by
    the stride they are s(n - 1) + 1; the first window starts d(k - 1) - p_before elements before them (negative if more
    is cut off than a kernel reaches), and the windows end where they give ``axis.input`` elements.

    Source: Dumoulin and Visin, arXiv:1603.07285, relationship 13, by side and with dilation.
    """
    size = (axis.output - 1) * axis.stride + 1
    before = axis.extent - 1 - axis.before
    after = axis.input - 1 + axis.extent - before - size
    return Axis(size, axis.kernel, 1, before, after, axis.dilation)


def border_sources(length: int, before: int, after: int, border: str) -> NDArray[np.intp]:
    """Which input element each padded position shows, from ``-before`` to ``length + after - 1``; -1 for the constant.

    `border` is one of ``numpy.pad``'s names: "constant", "edge" (a a|a b c|c c), "reflect" (c b|a b c|b a),
    "symmetric" (b a|a b c|c b) and "wrap" (b c|a b c|a b). Padding longer than the input goes on repeating the pattern.

    >>> border_sources(3, 2, 2, "reflect").tolist()
    [2, 1, 0, 1, 2, 1, 0]
    """
    positions = np.arange(-before, length + after, dtype=np.intp)
    if length < 1 and border != "constant" and positions.size:
        raise ArgumentValueError("padding_mode", border, "at least one element to repeat", axis_length=length)
    if border == "constant":
        return np.where((positions >= 0) & (positions < length), positions, -1)
    if border == "edge":
        return positions.clip(0, length - 1)
    if border == "wrap":
        return positions % length
    if border == "symmetric":
        return np.minimum(positions % (2 * length), -(positions + 1) % (2 * length))
    if border == "reflect":
        period = max(2 * (length - 1), 1)
        return np.minimum(positions % period, -positions % period)
    raise ArgumentValueError("border", border, choices(BORDERS))


def _padding_pairs(
    padding: object,
    inputs: tuple[int, ...],
    kernels: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """`padding` in any of its forms as a (before, after) pair per axis."""
    count = len(inputs)
    expected = (
        f"an integer >= 0, {count} of them or {count} (before, after) pairs, one per axis, or {choices(PADDING_RULES)}"
    )
    if isinstance(padding, str):
        extents = [dilation * (kernel - 1) + 1 for kernel, dilation in zip(kernels, dilations, strict=True)]
        if padding == "valid":
            return ((0, 0),) * len(inputs)
        if padding == "full":
            return tuple((extent - 1, extent - 1) for extent in extents)
        if padding == "same":
            totals = [
                max((-(-size // step) - 1) * step + extent - size, 0)
                for size, step, extent in zip(inputs, strides, extents, strict=True)
            ]
            return tuple((total // 2, total - total // 2) for total in totals)
        raise ArgumentValueError("padding", padding, expected)
    if isinstance(padding, np.ndarray):
        padding = padding.tolist()
    values = (padding,) if _is_integer(padding) else padding
    if not isinstance(values, Sequence):
        raise ArgumentTypeError("padding", padding, expected)
    ends = [(value, value) if _is_integer(value) else value for value in values]
    if not all(isinstance(pair, Sequence) and len(pair) == 2 and all(map(_is_integer, pair)) for pair in ends):
        raise ArgumentTypeError("padding", padding, expected)
    pairs = [(_integer(before), _integer(after)) for before, after in ends]
    if len(pairs) == 1 and _is_integer(values[0]):
        pairs *= count
    if len(pairs) != count or any(min(pair) < 0 for pair in pairs):
        raise ArgumentValueError("padding", padding, expected)
    if any(max(pair) > LARGEST for pair in pairs):
        raise ArgumentValueError("padding", padding, f"{expected}, none above {LARGEST}")
    return tuple(pairs)


def _sizes(input_size: object) -> tuple[int, ...]:
    """`input_size` as a tuple of one int per axis, none negative."""
    expected = "one integer >= 0 per axis"
    if isinstance(input_size, np.ndarray):
        input_size = input_size.tolist()
    if isinstance(input_size, str) or not isinstance(input_size, Sequence):
        raise ArgumentTypeError("input_size", input_size, expected)
    if len(input_size) == 0:
        raise ArgumentValueError("input_size", input_size, expected + ", for at least one axis")
    try:
        return per_axis("input_size", input_size, len(input_size), minimum=0)
    except ArgumentValueError:
        raise ArgumentValueError("input_size", input_size, expected) from None


def _is_integer(value: object) -> bool:
    if type(value) is int:
        return True  # the usual case; the question below takes microseconds
    if isinstance(value, (tuple, list, str)):
        return False
    return isinstance(value, SupportsIndex) and not isinstance(value, (bool, np.bool_, np.ndarray))


def _integer(value: object) -> int:
    if type(value) is int:
        return value
    assert isinstance(value, SupportsIndex)
    return value.__index__()
