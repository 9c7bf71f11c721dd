"""What is to be computed, frozen: a Problem and the one readable string it round-trips through.

The string is the test id, the wisdom key, the benchmark row and the argument of ``starconv explain``::

    conv2d x=1x3x224x224 w=64x3x7x7 stride=2 padding=3 bias residual relu

`x` and `w` are always the shapes of the *convolution* O = X ⋆ K. The operation says which of the three is sought:
``conv`` the output O, ``input_grad`` the input X (this is the transposed convolution), ``weight_grad`` the kernels K.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .errors import ArgumentTypeError, ArgumentValueError, choices
from .geometry import BORDERS, Axis, convolution_axes

__all__ = [
    "ACTIVATIONS",
    "ACTIVATION_LIMITS",
    "DTYPES",
    "OPERATIONS",
    "PRECISIONS",
    "SMOOTH_ACTIVATIONS",
    "Problem",
]

OPERATIONS = ("conv", "input_grad", "weight_grad")
DTYPES = ("float32", "float64", "int64")
"""The types in which sums are formed. Narrower input is widened: float16 to float32, integers to int64."""
PRECISIONS = ("float32", "strict")
ACTIVATION_LIMITS = {"none": (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0)}
"""What results are clipped to. NaN stays NaN."""
SMOOTH_ACTIVATIONS = ("silu", "hard_swish")
"""x / (1 + e^-x), and x min(max(x / 6 + 1/2, 0), 1), of floating-point numbers."""
ACTIVATIONS = (*ACTIVATION_LIMITS, *SMOOTH_ACTIVATIONS)
"""What kernels apply on the way to memory."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One convolution with its geometry, and which part of it is sought.

    Attributes:
        operation: "conv" (X, K -> O), "input_grad" (O, K -> X) or "weight_grad" (X, O -> K).
        batch: number of pictures N.
        in_channels: channels C of X. `groups` divides it.
        out_channels: channels K of O. `groups` divides it.
        axes: the geometry, one :class:`~starconv.geometry.Axis` per spatial axis, 1 to 3 of them.
        groups: kernels of one group see the channels of that group only.
        dtype: "float32", "float64" or "int64": of the operands and of the sums.
        border: what padding holds, by ``numpy.pad``'s names; "constant" is zero unless the call gives a value.
        channels_last: X and O lie in memory as (N, ..., channels).
        bias: a value per channel is added to the result.
        residual: an array of the result's shape is added, after the bias and before the activation.
        activation: "none", "relu", "relu6", "silu" or "hard_swish", applied last.
        precision: "float32" allows algorithms with a declared larger error bound, "strict" only the definition's sum.
        input_shape: of X, (N, C, ...).
        weight_shape: of K, (K, C / groups, ...).
        output_shape: of O, (N, K, ...).

    The shapes follow from the rest. A plan asks for them some hundred times, so they are worked out once.

    >>> problem = Problem.parse("conv2d x=1x3x224x224 w=64x3x7x7 stride=2 padding=3")
    >>> problem.output_shape
    (1, 64, 112, 112)
    >>> str(problem)
    'conv2d x=1x3x224x224 w=64x3x7x7 stride=2 padding=3'
    """

    operation: str
    batch: int
    in_channels: int
    out_channels: int
    axes: tuple[Axis, ...]
    groups: int = 1
    dtype: str = "float32"
    border: str = "constant"
    channels_last: bool = False
    bias: bool = False
    residual: bool = False
    activation: str = "none"
    precision: str = "float32"
    input_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)
    weight_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)
    output_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for argument, value, allowed in (
            ("operation", self.operation, OPERATIONS),
            ("dtype", self.dtype, DTYPES),
            ("border", self.border, BORDERS),
            ("activation", self.activation, ACTIVATIONS),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in allowed:
                raise ArgumentValueError(argument, value, choices(allowed))
        if self.activation in SMOOTH_ACTIVATIONS and self.dtype == "int64":
            raise ArgumentValueError("activation", self.activation, "one that gives whole numbers, for dtype=int64")
        if not 1 <= len(self.axes) <= 3:
            raise ArgumentValueError("axes", self.axes, "1 to 3 spatial axes")
        if any(min(axis.kernel, axis.stride, axis.dilation) < 1 for axis in self.axes):
            raise ArgumentValueError("axes", self.axes, "sizes and steps of at least 1")
        if any(axis.before < 0 for axis in self.axes):  # algorithms take it for where the input begins
            raise ArgumentValueError("axes", self.axes, "0 or more elements of padding before the first input")
        if any(axis.output < 1 for axis in self.axes):
            raise ArgumentValueError("axes", self.axes, "at least one output element along every axis")
        if self.batch < 0:
            raise ArgumentValueError("batch", self.batch, "a number of pictures, 0 or more")
        shapes = {
            "input_shape": (self.batch, self.in_channels, *(axis.input for axis in self.axes)),
            "weight_shape": (self.out_channels, self.in_channels // self.groups, *(axis.kernel for axis in self.axes)),
            "output_shape": (self.batch, self.out_channels, *(axis.output for axis in self.axes)),
        }
        for name, shape in shapes.items():
            object.__setattr__(self, name, shape)
        if max(map(math.prod, shapes.values())) > 2**60:
            raise ArgumentValueError(
                "axes", self.axes, "arrays of up to 2**60 elements", result_shape=self.result_shape
            )
        if self.operation == "weight_grad" and (self.bias or self.residual or self.activation != "none"):
            finish = "bias" if self.bias else "residual" if self.residual else self.activation
            raise ArgumentValueError(
                "operation", self.operation, f"conv or input_grad, to which {finish} can be applied"
            )

    @classmethod
    def of_shapes(
        cls,
        x_shape: Sequence[int],
        w_shape: Sequence[int],
        stride: object = 1,
        padding: object = 0,
        dilation: object = 1,
        groups: int = 1,
        *,
        operation: str = "conv",
        **options: object,
    ) -> "Problem":
        """The problem with input (N, C, ...) and kernels (K, C / groups, ...), checked to fit together.

        `options` are the remaining attributes by name.

        Raises:
            ArgumentValueError, ArgumentTypeError: naming what does not fit, with both shapes.
        """
        if len(x_shape) not in (3, 4, 5):
            raise ArgumentValueError("x", tuple(x_shape), "a shape (N, C, ...) with 1 to 3 spatial axes")
        check_kernels(x_shape, w_shape, groups)
        axes = convolution_axes(x_shape[2:], w_shape[2:], stride, padding, dilation)
        return cls(operation, x_shape[0], x_shape[1], w_shape[0], axes, int(groups), **options)  # type: ignore[arg-type]

    @property
    def spatial(self) -> int:
        """Number of spatial axes."""
        return len(self.axes)

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Shape of what the operation seeks."""
        if self.operation == "conv":
            return self.output_shape
        return self.input_shape if self.operation == "input_grad" else self.weight_shape

    @property
    def operand_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the two given arrays, in the order in which algorithms take them."""
        return {
            "conv": (self.input_shape, self.weight_shape),
            "input_grad": (self.output_shape, self.weight_shape),
            "weight_grad": (self.input_shape, self.output_shape),
        }[self.operation]

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return np.dtype(self.dtype).itemsize

    @property
    def multiply_adds(self) -> int:
        """Products summed up by the definition, padding included: the same for all three operations."""
        taps = math.prod(self.weight_shape[1:])
        return math.prod(self.output_shape) * taps

    @property
    def bytes_moved(self) -> int:
        """Bytes that must cross memory at least once: the operands and the result."""
        shapes = [self.input_shape, self.weight_shape, self.output_shape]
        if self.residual:
            shapes.append(self.result_shape)
        return self.itemsize * sum(math.prod(shape) for shape in shapes)

    def with_operation(self, operation: str) -> "Problem":
        """The same convolution with another part sought."""
        return replace(self, operation=operation)

    def __str__(self) -> str:
        axes = self.axes
        words = [f"{self.operation}{self.spatial}d", f"x={_join(self.input_shape)}", f"w={_join(self.weight_shape)}"]
        if any(axis.stride != 1 for axis in axes):
            words.append("stride=" + _per_axis_text([str(axis.stride) for axis in axes]))
        if any(axis.before or axis.after for axis in axes):
            same = all(axis.before == axis.after for axis in axes)
            pads = [str(axis.before) if same else f"{axis.before}:{axis.after}" for axis in axes]
            words.append("padding=" + _per_axis_text(pads))
        if any(axis.dilation != 1 for axis in axes):
            words.append("dilation=" + _per_axis_text([str(axis.dilation) for axis in axes]))
        if self.groups != 1:
            words.append(f"groups={self.groups}")
        for name, default in (("border", "constant"), ("dtype", "float32"), ("precision", "float32")):
            if getattr(self, name) != default:
                words.append(f"{name}={getattr(self, name)}")
        if self.channels_last:
            words.append("channels_last")
        if self.bias:
            words.append("bias")
        if self.residual:
            words.append("residual")
        if self.activation != "none":
            words.append(self.activation)
        return " ".join(words)

    @classmethod
    def parse(cls, text: str) -> "Problem":
        """The problem that `text` describes; the inverse of ``str``.

        Raises:
            ArgumentValueError: naming the word that was not understood, or the sizes that do not fit.
        """
        if not isinstance(text, str):
            raise ArgumentTypeError("problem", text, "a string like 'conv2d x=1x3x32x32 w=8x3x3x3 padding=1'")
        words = text.split()
        head = re.fullmatch(rf"({'|'.join(OPERATIONS)})([123])d", words[0]) if words else None
        if head is None:
            raise ArgumentValueError(
                "problem", text, "an operation first: conv2d, input_grad2d or weight_grad2d (or 1d, 3d)"
            )
        fields: dict[str, str] = {}
        for word in words[1:]:
            name, sign, value = word.partition("=")
            if name not in _WORDS or {bool(sign), bool(value)} != {_WORDS[name]} or name in fields:
                raise ArgumentValueError("problem", text, f"each of {', '.join(_WORDS)} at most once; not {word!r}")
            fields[name] = value
        for name in ("x", "w"):
            if name not in fields:
                raise ArgumentValueError("problem", text, f"a shape {name}=... such as x=1x3x32x32 or w=8x3x3x3")
        activations = [name for name in ACTIVATIONS if name in fields]
        if len(activations) > 1:
            raise ArgumentValueError("problem", text, f"one activation, not {' and '.join(activations)}")
        shapes = {name: _numbers(name, fields[name]) for name in ("x", "w")}
        for name, shape in shapes.items():
            if len(shape) != int(head[2]) + 2:
                raise ArgumentValueError(name, fields[name], f"{int(head[2]) + 2} sizes for {words[0]}")
        padding: object = 0
        cuts = [0] * int(head[2])
        if "padding" in fields:
            parts = fields["padding"].split("x")
            pairs = [tuple(_integer_of("padding", end) for end in part.split(":")) for part in parts]
            if any(len(pair) > 2 for pair in pairs):
                raise ArgumentValueError("padding", fields["padding"], "1, 1x2 or before:after per axis as in 0:1x2:2")
            pairs = [pair * 2 if len(pair) == 1 else pair for pair in pairs]
            padding = tuple(pairs * int(head[2]) if len(pairs) == 1 else pairs)
            if head[1] == "input_grad":
                # The output padding of a transposed convolution can be more than its padding takes away.
                cuts = [max(-pair[1], 0) for pair in padding]
                padding = tuple((pair[0], max(pair[1], 0)) for pair in padding)
        numbers = {name: _numbers(name, fields[name]) for name in ("stride", "dilation") if name in fields}
        options: dict[str, object] = {name: fields[name] for name in ("border", "dtype", "precision") if name in fields}
        problem = cls.of_shapes(
            shapes["x"],
            shapes["w"],
            numbers.get("stride", 1),
            padding,
            numbers.get("dilation", 1),
            _integer_of("groups", fields.get("groups", "1")),
            operation=head[1],
            channels_last="channels_last" in fields,
            bias="bias" in fields,
            residual="residual" in fields,
            activation=activations[0] if activations else "none",
            **options,
        )
        if not any(cuts):
            return problem
        axes = tuple(replace(axis, after=axis.after - cut) for axis, cut in zip(problem.axes, cuts, strict=True))
        return replace(problem, axes=axes)


_WORDS = {
    "x": True,
    "w": True,
    "stride": True,
    "padding": True,
    "dilation": True,
    "groups": True,
    "border": True,
    "dtype": True,
    "precision": True,
    "channels_last": False,
    "bias": False,
    "residual": False,
    **{name: False for name in ACTIVATIONS if name != "none"},
}
"""The words of a problem string after the operation; True where a value follows."""


def as_groups(groups: object) -> int:
    """`groups` as an int, whatever its value."""
    if isinstance(groups, (bool, np.bool_)) or not isinstance(groups, (int, np.integer)):
        raise ArgumentTypeError("groups", groups, "an integer >= 1")
    return int(groups)


def check_kernels(x_shape: Sequence[int], w_shape: Sequence[int], groups: object, argument: str = "w") -> None:
    """Raise unless input (N, C, ...) and kernels (K, C / groups, ...) fit together.

    Raises:
        ArgumentValueError, ArgumentTypeError: naming `groups` or `argument`, with both shapes.
    """
    groups = as_groups(groups)
    shapes = {"input_shape": tuple(x_shape), "kernel_shape": tuple(w_shape)}
    if len(w_shape) != len(x_shape):
        raise ArgumentValueError(
            argument, tuple(w_shape), f"{len(x_shape)} axes (K, C / groups, ...), as many as x", **shapes
        )
    if groups < 1 or x_shape[1] % groups or w_shape[0] % groups or w_shape[0] < 1:
        expected = f"a divisor of {x_shape[1]} input channels and of {w_shape[0]} output channels, both at least 1"
        raise ArgumentValueError("groups", groups, expected, **shapes)
    if w_shape[1] != x_shape[1] // groups or w_shape[1] < 1:
        expected = f"C / groups = {x_shape[1]} input channels / {groups} groups = {x_shape[1] // groups}, at least 1"
        raise ArgumentValueError(argument, tuple(w_shape), expected, **shapes)


def _join(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _per_axis_text(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else "x".join(values)


def _integer_of(argument: str, text: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text):
        raise ArgumentValueError(argument, text, "an integer")
    return int(text)


def _numbers(argument: str, text: str) -> tuple[int, ...]:
    return tuple(_integer_of(argument, part) for part in text.split("x"))
