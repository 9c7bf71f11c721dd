"""Pooling over windows of pictures (..., H, W), with torch.nn's arguments."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import Array, checked_count
from ..errors import ArgumentTypeError, ArgumentValueError
from ..geometry import Axis, PerAxis, convolution_axes, per_axis, window_counts
from .compiled import Counts, pooled, pooling_gradient
from .module import Back, Module, Shape

if TYPE_CHECKING:
    from ..engine.steps import Value
    from .recorder import Recorder

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"]


class _Pool(Module):
    """The geometry of windows."""

    def __init__(
        self, kernel_size: PerAxis, stride: PerAxis | None, padding: PerAxis, dilation: PerAxis, ceil_mode: bool
    ) -> None:
        super().__init__()
        # Kept as given, because repr shows them so.
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, bool(ceil_mode)
        kernels = per_axis("kernel_size", self.kernel_size, 2, minimum=1)
        per_axis("stride", self.stride, 2, minimum=1)
        per_axis("dilation", self.dilation, 2, minimum=1)
        pads = per_axis("padding", self.padding, 2, minimum=0)
        if any(2 * pad > kernel for pad, kernel in zip(pads, kernels, strict=True)):
            raise ArgumentValueError("padding", padding, "at most half of the kernel size", kernel_size=kernels)

    def window(self, shape: Shape) -> tuple[Axis, ...]:
        """The windows; with ceil_mode also a last one that hangs over the end, if it begins inside."""
        if len(shape) < 2:
            raise ArgumentValueError("x", shape, "a shape (..., H, W)")
        sizes = (self.kernel_size, self.stride, self.padding, self.dilation)
        axes = convolution_axes(shape[-2:], *(per_axis("size", size, 2, minimum=0) for size in sizes))
        return tuple(_with_last(axis) for axis in axes) if self.ceil_mode else axes

    def output_shape(self, shape: Shape) -> Shape:
        """(..., H', W')."""
        return (*shape[:-2], *(axis.output for axis in self.window(shape)))


def _with_last(axis: Axis) -> Axis:
    """`axis` with room for one more window, if elements are left over and it would begin in the input or before it.

    Source: torch.nn.MaxPool2d, "sliding windows that would start in the right padded region are ignored".
    """
    if axis.output_padding and axis.output * axis.stride < axis.input + axis.before:
        return replace(axis, after=axis.after + axis.stride - axis.output_padding)
    return axis


def _padded(x: Array, axes: tuple[Axis, ...], value: Any) -> Array:
    pads = [(0, 0)] * (x.ndim - 2) + [(axis.before, axis.after) for axis in axes]
    return np.pad(x, pads, constant_values=value) if any(map(any, pads)) else x


def _cropped(padded: Array, axes: tuple[Axis, ...]) -> Array:
    rows, columns = (slice(axis.before, axis.before + axis.input) for axis in axes)
    return padded[..., rows, columns]


def _taps(padded: Array, axes: tuple[Axis, ...]) -> Iterator[Array]:
    """Per tap of the window, row by row, the elements that it meets: views of (..., H', W')."""
    rows, columns = axes
    for row in range(rows.kernel):
        for column in range(columns.kernel):
            yield padded[..., _met(rows, row), _met(columns, column)]


def _met(axis: Axis, tap: int) -> slice:
    start = tap * axis.dilation
    return slice(start, start + (axis.output - 1) * axis.stride + 1, axis.stride)


class MaxPool2d(_Pool):
    """The largest number of every window. Its gradient goes to the first of equals, a NaN is the largest, as torch's.

    Args:
        kernel_size, stride, padding, dilation: an int or (vertical, horizontal); stride None is kernel_size.
        ceil_mode: round the output size up where the windows do not divide.

    >>> MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """

    takes_maxima = True

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: PerAxis = 0,
        dilation: PerAxis = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)

    def forward(self, x: Array) -> Array:
        """The maxima; which tap each one is at is kept for the gradient."""
        axes = self.window(x.shape)
        compiled = pooled(x, axes, winners=True)
        if compiled is not None:
            self.keep(compiled[1], axes)
            return compiled[0]
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        taps = _taps(_padded(x, axes, lowest), axes)
        largest = next(taps).copy()
        count = axes[0].kernel * axes[1].kernel
        winner = np.zeros(largest.shape, np.uint8 if count <= 256 else np.int32)
        for number, candidate in enumerate(taps, 1):
            larger = candidate > largest
            larger |= candidate != candidate  # NaN
            np.maximum(largest, candidate, out=largest)
            # Numbers rise, so the last tap that was larger is the largest of them: quicker than masked writing.
            np.maximum(winner, np.multiply(larger, number, dtype=winner.dtype), out=winner)
        self.keep(winner, axes)
        return largest

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """Every element of grad at the place of its maximum."""
        winner, axes = self.kept()
        if not needed:
            return None
        if winner.dtype == grad.dtype:  # those of compiled code are of the numbers' own type
            result = pooling_gradient(grad, axes, winner=winner)
            if result is not None:
                return result
        padded = np.zeros((*grad.shape[:-2], *(axis.padded for axis in axes)), grad.dtype)
        apart = all(axis.stride >= axis.extent for axis in axes)  # no element has two windows
        for number, view in enumerate(_taps(padded, axes)):
            if apart:
                np.copyto(view, grad, where=winner == number)
            else:
                np.add(view, grad, out=view, where=winner == number)
        return _cropped(padded, axes)

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """The same."""
        return _recorded(tape, x, self.window(x.shape))

    def extra_repr(self) -> str:
        """torch's words."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(_Pool):
    """The mean of every window.

    Args:
        kernel_size, stride, padding: an int or (vertical, horizontal); stride None is kernel_size.
        ceil_mode: round the output size up where the windows do not divide.
        count_include_pad: whether padding counts among what is divided by (what hangs over with ceil_mode never does).
        divisor_override: divide by this instead.

    >>> AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: PerAxis = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, 1, ceil_mode)
        self.count_include_pad = bool(count_include_pad)
        self.divisor_override = (
            None if divisor_override is None else checked_count("divisor_override", divisor_override)
        )

    def forward(self, x: Array) -> Array:
        """The means."""
        axes = self.window(x.shape)
        counts = self._counts(axes)
        compiled = pooled(x, axes, counts)
        if compiled is not None:
            self.keep(axes, counts)
            return compiled[0]
        taps = _taps(_padded(x, axes, 0), axes)
        dtype = np.result_type(x, np.float16)
        total = next(taps).astype(dtype)
        for candidate in taps:
            total += candidate
        self.keep(axes, counts)
        total /= _divisor(counts).astype(dtype)
        return total

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """Every element of grad, divided, at all places of its window."""
        axes, counts = self.kept()
        if not needed:
            return None
        result = pooling_gradient(grad, axes, counts)
        if result is not None:
            return result
        share = grad / _divisor(counts).astype(grad.dtype)
        padded = np.zeros((*grad.shape[:-2], *(axis.padded for axis in axes)), share.dtype)
        for view in _taps(padded, axes):
            view += share
        return _cropped(padded, axes)

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """The same."""
        axes = self.window(x.shape)
        return _recorded(tape, x, axes, self._counts(axes))

    def _counts(self, axes: tuple[Axis, ...]) -> Counts:
        """Per axis and output a number; their products are what sums are divided by."""
        if self.divisor_override is not None:
            rows, columns = axes
            return (self.divisor_override,) * rows.output, (1,) * columns.output
        pads = per_axis("padding", self.padding, 2, minimum=0) if self.count_include_pad else (0, 0)
        return window_counts(axes, tuple((pad, pad) for pad in pads))

    def extra_repr(self) -> str:
        """torch's words."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


def _recorded(
    tape: "Recorder", x: "Value", axes: tuple[Axis, ...], counts: Counts | None = None
) -> tuple["Value", Back]:
    """Windows of four axes and their gradient, of maxima or, with `counts`, of means."""
    tape.wants_axes(x, 4)
    output, winner = tape.pooled(x, axes, counts)

    def back(grad: "Value", needed: bool) -> "Value | None":
        return tape.pooled_gradient(grad, axes, counts, winner) if needed else None

    return output, back


def _divisor(counts: Counts) -> Array:
    """(H', W') numbers of elements."""
    rows, columns = (np.array(count) for count in counts)
    return np.outer(rows, columns)


class AdaptiveAvgPool2d(Module):
    """Means of `output_size` windows per axis, from floor(i H / H') to ceil((i + 1) H / H'), which may overlap.

    Args:
        output_size: an int or (H', W'); None keeps that axis.

    >>> AdaptiveAvgPool2d(1)(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[7.5]]]])
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size
        sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
        if len(sizes) != 2:
            raise ArgumentValueError("output_size", output_size, "an integer >= 1 or two of them; None keeps an axis")
        for size in sizes:
            if size is not None:
                checked_count("output_size", size)
        self._sizes = sizes

    def forward(self, x: Array) -> Array:
        """The means: x between two matrices of shares, one per axis."""
        if x.dtype.kind != "f":
            raise ArgumentTypeError("x", x, "floating-point numbers")
        pairs, windows = self._pairs(x.shape), self._windows(x.shape)
        if windows is not None:
            compiled = pooled(x, *windows)
            if compiled is not None:
                self.keep(*windows)
                return compiled[0]
        rows, columns = (_shares(*sizes).astype(x.dtype) for sizes in pairs)
        self.keep(rows, columns)
        output: Array = rows @ x @ columns.T
        return output

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """grad between the transposed matrices."""
        rows, columns = self.kept()
        if not needed:
            return None
        if isinstance(rows, tuple):  # windows and counts of compiled code
            result = pooling_gradient(grad, rows, columns)
            if result is not None:
                return result
            rows, columns = (_shares(axis.input, axis.output).astype(grad.dtype) for axis in rows)
        gradient: Array = rows.T @ grad @ columns
        return gradient

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """The same, where all windows are alike."""
        windows = self._windows(x.shape)
        if windows is None:
            raise tape.error(f"AdaptiveAvgPool2d({self.output_size}) of {x.shape}, whose windows differ in size")
        return _recorded(tape, x, *windows)

    def _windows(self, shape: Shape) -> tuple[tuple[Axis, ...], Counts] | None:
        """The windows and what their sums are divided by; None where they are not all alike."""
        pairs = self._pairs(shape)
        if any(size % out for size, out in pairs):
            return None
        axes = tuple(Axis(size, size // out, size // out) for size, out in pairs)
        return axes, window_counts(axes, ((0, 0), (0, 0)))

    def _pairs(self, shape: Shape) -> list[tuple[int, int]]:
        if len(shape) < 2 or min(shape[-2:]) < 1:
            raise ArgumentValueError("x", shape, "a shape (..., H, W) with at least one element")
        return [(size, size if out is None else out) for size, out in zip(shape[-2:], self._sizes, strict=True)]

    def output_shape(self, shape: Shape) -> Shape:
        """(..., H', W')."""
        return (*shape[:-2], *(out for _, out in self._pairs(shape)))

    def window(self, shape: Shape) -> None:
        """Windows of several sizes; together they read everything."""
        return None

    def extra_repr(self) -> str:
        """torch's words."""
        return f"output_size={self.output_size}"


def _shares(size: int, out: int) -> Array:
    """(out, size): 1 / length of window i at the places that it has."""
    matrix = np.zeros((out, size))
    for i in range(out):
        start, end = i * size // out, -(-(i + 1) * size // out)
        matrix[i, start:end] = 1 / (end - start)
    return matrix
