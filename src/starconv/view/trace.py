"""The steps of a convolution as data: which elements each window reads, their products, their sum.

Every figure draws a :class:`Trace`. Its sizes and positions come from :mod:`starconv.geometry`, its results from the
public functions (``conv2d``, ``conv_transpose2d``, ...); no figure has a geometry or an arithmetic of its own.

A transposed convolution has two pictures, and both are here. *Gathering*: the input is stretched (stride - 1 zeros
between its elements), padded, and an ordinary kernel, turned over, slides over it with stride 1; these are the
:class:`Step` s, so that everything that draws a convolution draws a transposed one too. *Stamping*: every input element
puts the whole kernel, scaled by its value, onto the output; these are the :class:`Stamp` s.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import functional
from ..arguments import as_array, border_of
from ..errors import ArgumentValueError
from ..geometry import Axis, Padding, PerAxis, border_sources, convolution_axes, stretched_axis, transposed_axes
from ..problem import Problem

__all__ = ["Cell", "Part", "Stamp", "Step", "Trace", "flat", "laid_out"]

Array = NDArray[Any]
Number = int | float

_FORWARD = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


class Cell(IntEnum):
    """What one cell of the drawn input is. Where axes disagree the largest counts: a corner of padding is padding."""

    INPUT = 0
    REPEATED = 1
    """Padding that shows an input element again (reflect, replicate, circular, symmetric)."""
    BETWEEN = 2
    """A zero between two elements of a transposed convolution's input."""
    PADDING = 3
    """Padding that holds zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One input channel's share of an output element: a patch, the kernel over it, their products and the sum.

    The four arrays have the kernel's spatial shape.
    """

    channel: int
    patch: Array
    kernel: Array
    products: Array
    cells: Array
    """:class:`Cell` of every element of the patch."""
    sum: Number


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One output element and everything that it is made of."""

    index: int
    output: tuple[int, ...]
    """(output channel, i, j): where the result goes."""
    reads: tuple[tuple[int, ...], ...]
    """Per axis, the input position that each tap reads; outside ``[0, axis.input)`` is padding."""
    window: tuple[tuple[int, ...], ...]
    """The same as indices into ``Trace.canvas``, never negative."""
    parts: tuple[Part, ...]
    """One per input channel of the output channel's group."""
    bias: Number | None
    total: Number
    """The output element, as the library computed it."""

    @property
    def corner(self) -> tuple[int, ...]:
        """First canvas index of the window, per axis."""
        return tuple(indices[0] for indices in self.window)

    @property
    def extent(self) -> tuple[int, ...]:
        """Canvas cells from the first tap to the last, per axis."""
        return tuple(indices[-1] - indices[0] + 1 for indices in self.window)


@dataclass(frozen=True, slots=True, eq=False)
class Stamp:
    """One input element of a transposed convolution, and the scaled kernels that it adds to the output."""

    index: int
    input: tuple[int, ...]
    """(input channel, i, j)."""
    value: Number
    targets: tuple[tuple[int, ...], ...]
    """Per axis, the output position that each tap is added to; outside the output it is cut off."""
    window: tuple[tuple[int, ...], ...]
    """The same as indices into ``Trace.stamped``, never negative."""
    channels: tuple[int, ...]
    """Output channels that receive it."""
    kernels: Array
    """(len(channels), kh, kw), as the caller gave them."""
    products: Array
    """value * kernels."""
    inside: Array
    """Boolean (kh, kw): which taps are not cut off."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A convolution of one picture, taken apart.

    Make one with :meth:`of`. Arrays keep integers as int64 and turn everything else into float64. 1-D, 2-D and 3-D.

    Attributes:
        problem: the convolution; its operation is "input_grad" for a transposed one, with X and O in exchanged roles.
        x: input (C, ...).
        w: kernels as given: (K, C / groups, ...), transposed (C, K / groups, ...).
        b: bias (K,) or None.
        kernels: (K, C / groups, ...) as they lie over a patch; turned over for a transposed convolution.
        axes: geometry of the window's walk over the canvas.
        sources: per axis and canvas index, the input index shown there, or -1.
        canvas: (C, ...), the input with its padding, and with the zeros between for a transposed convolution.
        output: (K, ...), the library's result.

    >>> trace = Trace.of([[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[1, 0], [0, -1]], stride=2, padding=1)
    >>> trace.output[0].tolist()
    [[-1, -3], [-7, -4]]
    >>> step = trace.step(1)
    >>> step.output, step.reads, step.total
    ((0, 0, 1), ((-1, 0), (1, 2)), -3)
    >>> step.parts[0].products.tolist()
    [[0, 0], [0, -3]]
    """

    problem: Problem
    x: Array
    w: Array
    b: Array | None
    kernels: Array
    axes: tuple[Axis, ...]
    sources: tuple[NDArray[np.intp], ...]
    canvas: Array
    output: Array

    @classmethod
    def of(
        cls,
        x: ArrayLike,
        w: ArrayLike,
        b: ArrayLike | None = None,
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        *,
        padding_mode: str = "zeros",
        transposed: bool = False,
        output_padding: PerAxis = 0,
    ) -> "Trace":
        """Trace ``conv(x, w, b, ...)``, or with `transposed` ``conv_transpose(x, w, b, ...)``.

        Args:
            x: one picture (C, ...), (1, C, ...) or, with one channel, without C.
            w: kernels as in ``conv2d`` (transposed: as in ``conv_transpose2d``), or a bare kernel (kh, kw) or (k,).
            b, stride, padding, dilation, groups, padding_mode, output_padding: as in ``conv2d``, ``conv_transpose2d``.

        Raises:
            ArgumentValueError, ArgumentTypeError: as the convolution itself.
        """
        kernels = _numbers("w", w)
        spatial = kernels.ndim - 2 if kernels.ndim >= 3 else kernels.ndim
        if not 1 <= spatial <= 3:
            expected = "(K, C / groups, ...) with 1 to 3 spatial axes, or a bare 1-D or 2-D kernel"
            raise ArgumentValueError("w", kernels, expected)
        if kernels.ndim < 3:
            kernels = kernels[np.newaxis, np.newaxis]
        picture = _numbers("x", x)
        if picture.ndim == spatial + 2 and len(picture) == 1:
            picture = picture[0]
        elif picture.ndim == spatial:
            picture = picture[np.newaxis]
        if picture.ndim != spatial + 1:
            raise ArgumentValueError("x", picture, f"(C, ...) with {spatial} spatial axes", kernel_shape=kernels.shape)
        bias = None if b is None else _numbers("b", b)
        if transposed:
            if padding_mode != "zeros":
                raise ArgumentValueError("padding_mode", padding_mode, "'zeros' for a transposed convolution")
            function = _TRANSPOSED[spatial]
            output = function(
                picture, kernels, bias, stride, padding, output_padding, groups, dilation, precision="strict"
            )
            axes = transposed_axes(picture.shape[1:], kernels.shape[2:], stride, padding, output_padding, dilation)
            problem = Problem(
                "input_grad", 1, len(output), len(picture), axes, groups, str(output.dtype), bias=bias is not None
            )
            walk = tuple(stretched_axis(axis) for axis in axes)
            sources = tuple(map(_stretched_sources, axes, walk))
            return cls(
                problem,
                picture,
                kernels,
                bias,
                _turned_over(kernels, groups),
                walk,
                sources,
                laid_out(picture, sources),
                output,
            )
        if output_padding != 0:
            raise ArgumentValueError("output_padding", output_padding, "0 unless transposed=True")
        output = _FORWARD[spatial](
            picture, kernels, bias, stride, padding, dilation, groups, padding_mode=padding_mode, precision="strict"
        )
        border = border_of(padding_mode)
        axes = convolution_axes(picture.shape[1:], kernels.shape[2:], stride, padding, dilation)
        problem = Problem(
            "conv", 1, len(picture), len(output), axes, groups, str(output.dtype), border, bias=bias is not None
        )
        sources = tuple(border_sources(axis.input, axis.before, axis.after, border) for axis in axes)
        return cls(problem, picture, kernels, bias, kernels, axes, sources, laid_out(picture, sources), output)

    @property
    def transposed(self) -> bool:
        """Whether this is a transposed convolution."""
        return self.problem.operation == "input_grad"

    @property
    def spatial(self) -> int:
        """Number of spatial axes."""
        return len(self.axes)

    @property
    def origin(self) -> tuple[int, ...]:
        """Canvas index of input element 0, per axis."""
        return tuple(max(axis.before, 0) for axis in self.axes)

    @cached_property
    def cells(self) -> Array:
        """:class:`Cell` of every canvas position, in the canvas's spatial shape."""
        kinds: Array = np.array(Cell.INPUT)
        for axis, sources, origin in zip(self.axes, self.sources, self.origin, strict=True):
            position = np.arange(len(sources)) - origin
            inside = (position >= 0) & (position < axis.input)
            known = np.where(inside, Cell.INPUT, Cell.REPEATED)
            unknown = np.where(inside, Cell.BETWEEN, Cell.PADDING)
            kinds = np.maximum(kinds[..., np.newaxis], np.where(sources >= 0, known, unknown))
        return kinds

    def __len__(self) -> int:
        """Number of steps: output elements."""
        return int(self.output.size)

    def step(self, index: int | tuple[int, ...]) -> Step:
        """The step of one output element, by number (channels outermost, then row by row) or by (channel, i, j)."""
        place = tuple(int(i) for i in np.unravel_index(index, self.output.shape)) if isinstance(index, int) else index
        number = int(np.ravel_multi_index(place, self.output.shape))
        channel, *position = place
        reads = tuple(tuple(axis.reads(at)) for axis, at in zip(self.axes, position, strict=True))
        window = tuple(tuple(at + first for at in along) for along, first in zip(reads, self.origin, strict=True))
        cells = self.cells[np.ix_(*window)]
        members = self.kernels.shape[1]
        first = channel // (len(self.output) // self.problem.groups) * members
        parts = []
        for offset in range(members):
            patch, kernel = self.canvas[first + offset][np.ix_(*window)], self.kernels[channel, offset]
            products = patch * kernel
            parts.append(Part(first + offset, patch, kernel, products, cells, products.sum().item()))
        bias = None if self.b is None else self.b[channel].item()
        return Step(number, place, reads, window, tuple(parts), bias, self.output[place].item())

    def steps(self) -> Iterator[Step]:
        """All steps in order."""
        return map(self.step, range(len(self)))

    def stamp(self, index: int) -> Stamp:
        """The stamp of one input element of a transposed convolution, by number: channels outermost, row by row."""
        if not self.transposed:
            raise ArgumentValueError("trace", self.problem, "a transposed convolution, whose elements stamp")
        place = tuple(int(i) for i in np.unravel_index(index, self.x.shape))
        axes, (channel, *position) = self.problem.axes, place
        targets = tuple(tuple(axis.reads(at)) for axis, at in zip(axes, position, strict=True))
        window = tuple(tuple(at + axis.before for at in along) for axis, along in zip(axes, targets, strict=True))
        inside = np.ones((), bool)
        for axis, along in zip(axes, targets, strict=True):
            inside = inside[..., np.newaxis] & np.array([0 <= at < axis.input for at in along])
        members = self.w.shape[1]
        first = channel // (len(self.x) // self.problem.groups) * members
        value, channels = self.x[place], tuple(range(first, first + members))
        kernels = self.w[channel]
        return Stamp(index, place, value.item(), targets, window, channels, kernels, value * kernels, inside)

    def stamps(self) -> Iterator[Stamp]:
        """All stamps in order."""
        return map(self.stamp, range(self.x.size))

    @property
    def stamped_shape(self) -> tuple[int, ...]:
        """Shape of :meth:`stamped`: output channels, then per axis the output with the margin that is cut off."""
        margins = (axis.before + axis.input + max(axis.after, 0) for axis in self.problem.axes)
        return (len(self.output), *margins)

    def stamped(self, count: int) -> Array:
        """The sum of the first `count` stamps, without bias, with the margin that is cut off in the end."""
        total = np.zeros(self.stamped_shape, self.output.dtype)
        for index in range(count):
            stamp = self.stamp(index)
            total[np.ix_(stamp.channels, *stamp.window)] += stamp.products
        return total

    def describe(self) -> str:
        """The convolution in one line: ``3×3 kernel, stride 2, padding 1: 5×5 → 3×3``."""
        axes = self.problem.axes
        taps = _times(axis.kernel for axis in axes)
        words = [f"{taps} kernel" if len(axes) > 1 else f"kernel of {taps}", *["transposed"] * self.transposed]
        if any(axis.stride != 1 for axis in axes):
            words.append("stride " + _shared([axis.stride for axis in axes]))
        if any(axis.before or axis.after for axis in axes):
            words.append("padding " + _paddings(axes))
        if any(axis.dilation != 1 for axis in axes):
            words.append("dilation " + _shared([axis.dilation for axis in axes]))
        if self.transposed and any(axis.output_padding for axis in axes):
            words.append("output padding " + _shared([axis.output_padding for axis in axes]))
        if self.problem.groups != 1:
            words.append(f"{self.problem.groups} groups")
        if self.problem.border != "constant":
            words.append({"edge": "replicate", "wrap": "circular"}.get(self.problem.border, self.problem.border))
        return ", ".join(words) + f": {size_text(self.x.shape)} → {size_text(self.output.shape)}"


def flat(trace: Trace) -> Trace:
    """`trace`, unless it has three spatial axes, which cannot be drawn side by side with what they become."""
    if trace.spatial > 2:
        raise ArgumentValueError("x", trace.x, "one or two spatial axes; a volume cannot be drawn flat")
    return trace


def size_text(shape: tuple[int, ...]) -> str:
    """``(C, H, W)`` as ``C×H×W``, a single channel left out.

    >>> size_text((1, 5, 7)), size_text((3, 5, 7)), size_text((1, 5))
    ('5×7', '3×5×7', '5')
    """
    return _times(shape[1:] if shape[0] == 1 else shape)


def _times(sizes: Any) -> str:
    return "×".join(map(str, sizes))


def _shared(values: list[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else _times(values)


def _paddings(axes: tuple[Axis, ...]) -> str:
    """``1``; ``1×2`` per axis; ``0:1 × 2:2`` where the sides differ."""
    if all(axis.before == axis.after for axis in axes):
        return _shared([axis.before for axis in axes])
    pairs = [f"{axis.before}:{axis.after}" for axis in axes]
    return pairs[0] if len(set(pairs)) == 1 else " × ".join(pairs)


def _numbers(argument: str, value: ArrayLike) -> Array:
    array = as_array(argument, value)
    return array.astype(np.int64 if array.dtype.kind in "biu" else np.float64)


def _turned_over(w: Array, groups: int) -> Array:
    """(C, K / groups, ...) as the kernels (K, C / groups, ...) of the gathering convolution."""
    members = w.reshape(groups, len(w) // groups, *w.shape[1:]).swapaxes(1, 2)
    kernels = members.reshape(-1, *members.shape[2:])
    return np.flip(kernels, axis=tuple(range(2, kernels.ndim)))


def _stretched_sources(axis: Axis, walk: Axis) -> NDArray[np.intp]:
    """Per canvas index, the element that stands there; those between are where no whole stride ends."""
    position = np.arange(-max(walk.before, 0), walk.input + max(walk.after, 0), dtype=np.intp)
    inside = (position >= 0) & (position < walk.input) & (position % axis.stride == 0)
    return np.where(inside, position // axis.stride, -1)


def laid_out(x: Array, sources: tuple[NDArray[np.intp], ...]) -> Array:
    """`x` as its canvas: the elements that `sources` name, zero where it says -1."""
    for number, along in enumerate(sources, start=1):
        if np.array_equal(along, np.arange(x.shape[number])):
            continue  # nothing round it, nothing between
        shown = (along >= 0).reshape(-1, *[1] * (x.ndim - number - 1))
        x = np.where(shown, np.take(x, along, axis=number), 0) if x.shape[number] else np.zeros_like(x, shape=())
    return x
