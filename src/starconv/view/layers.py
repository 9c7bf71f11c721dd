"""A stack of layers described in words: the sizes that come in and go out, layer by layer, from the one geometry.

A layer is a line of text, much like a problem string::

    conv 64x7x7 stride=2 padding=3      64 kernels of 7 x 7 over all channels
    pool 3x3 stride=2 padding=1         every channel on its own; without a stride it is the kernel's size
    transposed 32x2x2 stride=2          the transposed convolution, 32 output channels
    dense 10                            a convolution with kernels as large as its input
    k7 s2 p3                            a window of any kind, as `starconv size --layer` writes it
    skip(conv 64x3x3 padding=1; conv 64x3x3 padding=1 | conv 64x1x1)    two paths, added; an empty one is the input
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ArgumentTypeError, ArgumentValueError, choices
from ..geometry import Axis, Padding, PerAxis, convolution_axes, transposed_axes
from ..problem import check_kernels

__all__ = ["KINDS", "Layer", "Skip", "Stage", "as_layers", "stages"]

KINDS = ("conv", "pool", "transposed", "dense")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, described.

    Attributes:
        kind: "conv", "pool", "transposed" or "dense".
        out_channels: channels that go out; None for as many as come in (pooling).
        kernel: taps, an int or one per axis; None for the size of the input (dense, and pooling over everything).
        stride, padding, dilation, output_padding, groups: as in :func:`starconv.conv2d` and its transpose.

    >>> Layer.parse("conv 64x7x7 stride=2 padding=3").output_shape((3, 224, 224))
    (64, 112, 112)
    """

    kind: str = "conv"
    out_channels: int | None = None
    kernel: PerAxis | None = None
    stride: PerAxis = 1
    padding: Padding = 0
    dilation: PerAxis = 1
    output_padding: PerAxis = 0
    groups: int = 1
    text: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ArgumentValueError("kind", self.kind, choices(KINDS))
        if self.kind != "pool" and (not isinstance(self.out_channels, int) or self.out_channels < 1):
            raise ArgumentValueError("out_channels", self.out_channels, f"an integer >= 1 for a {self.kind} layer")
        if self.kernel is None and self.kind in ("conv", "transposed"):
            raise ArgumentValueError("kernel", None, f"the kernel size of a {self.kind} layer")

    def axes(self, input_size: Sequence[int]) -> tuple[Axis, ...]:
        """The geometry over an input of `input_size` (H, W); of a transposed layer, of what it transposes."""
        kernel = tuple(input_size) if self.kernel is None else self.kernel
        kernels = (kernel,) * len(input_size) if isinstance(kernel, int) else tuple(kernel)
        if len(kernels) == 1:
            kernels *= len(input_size)
        if self.kind == "transposed":
            return transposed_axes(input_size, kernels, self.stride, self.padding, self.output_padding, self.dilation)
        return convolution_axes(input_size, kernels, self.stride, self.padding, self.dilation)

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """(K, H', W') that goes out when `input_shape` (C, H, W) comes in."""
        axes = self.axes(input_shape[1:])
        weights = self.weight_shape(input_shape)
        if weights:
            convolved = (1, weights[0] if self.kind == "transposed" else input_shape[0], *input_shape[1:])
            if self.kind == "transposed":
                convolved = (1, weights[1] * self.groups, *(axis.input for axis in axes))
            check_kernels(convolved, weights, self.groups)
        size = tuple(axis.input if self.kind == "transposed" else axis.output for axis in axes)
        return (input_shape[0] if self.out_channels is None else self.out_channels, *size)

    def weight_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the kernels, as the layer's function takes them; () for pooling, which has none."""
        if self.out_channels is None:
            return ()
        taps = tuple(axis.kernel for axis in self.axes(input_shape[1:]))
        first, second = self.out_channels, input_shape[0]
        if self.kind == "transposed":
            first, second = second, first
        return (first, second // self.groups, *taps)

    @classmethod
    def parse(cls, text: str) -> "Layer":
        """The layer that `text` describes; a name may stand before a colon."""
        named = re.fullmatch(r"\s*[^:]*:\s+(.*)", text)
        words = [_SHORT.sub(_long, word) for word in (named[1] if named else text).split()]
        if words and words[0].startswith("kernel="):
            options = dict(_option(text, word) for word in words)
            return cls("pool", None, text=text, **options)  # type: ignore[arg-type]
        if not words or words[0] not in KINDS:
            raise ArgumentValueError("layer", text, f"{choices(KINDS)} first, or skip(... | ...)")
        kind, options = words[0], dict(_option(text, word) for word in words[1:] if "=" in word)
        sizes = [word for word in words[1:] if "=" not in word]
        if "kernel" in options:
            sizes = ["x".join([*sizes, _text(options.pop("kernel"))])]
        if len(sizes) > 1 or (not sizes and kind != "pool"):
            raise ArgumentValueError("layer", text, f"one size, as in {_EXAMPLES[kind]!r}")
        numbers = _numbers(text, sizes[0]) if sizes else ()
        if kind == "pool":
            channels, kernel = None, numbers or None
        else:
            channels, kernel = numbers[0], numbers[1:] or None
        if (kind == "dense") != (kernel is None) and kind != "pool":
            raise ArgumentValueError("layer", text, f"a size as in {_EXAMPLES[kind]!r}")
        if kind == "pool" and kernel:
            options.setdefault("stride", kernel)
        return cls(kind, channels, kernel, text=text, **options)  # type: ignore[arg-type]

    def __str__(self) -> str:
        if self.text:
            return self.text
        sizes = [] if self.out_channels is None else [str(self.out_channels)]
        if self.kernel is not None:
            sizes.append(_text(self.kernel))
        words = [self.kind, "x".join(sizes)]
        for name in ("stride", "padding", "dilation", "output_padding", "groups"):
            value = getattr(self, name)
            if value not in (0, 1) or (name == "padding" and value == 1):
                words.append(f"{name}={_text(value)}")
        return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True)
class Skip:
    """Paths that start at the same input and are added at their end; an empty path is the input itself."""

    paths: tuple[tuple["Layer | Skip", ...], ...]

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """The one shape that every path gives."""
        shapes = {_last_shape(input_shape, path) for path in self.paths}
        if len(shapes) != 1:
            raise ArgumentValueError("layers", str(self), "paths that end in the same shape", found=sorted(shapes))
        return shapes.pop()

    def __str__(self) -> str:
        return "skip(" + " | ".join("; ".join(map(str, path)) for path in self.paths) + ")"


@dataclass(frozen=True, slots=True)
class Stage:
    """One layer of a stack with what comes in and what goes out, both (C, H, W)."""

    layer: Layer | Skip
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """Weights and biases of the layer, one bias per output channel."""
        if isinstance(self.layer, Skip):
            return sum(stage.parameters for path in self.layer.paths for stage in stages(self.input_shape, path))
        weights = self.layer.weight_shape(self.input_shape)
        return math.prod(weights) + self.output_shape[0] if weights else 0


def as_layers(layers: object) -> tuple[Layer | Skip, ...]:
    """`layers` as a stack: one or several of :class:`Layer`, :class:`Skip` and text (``;`` separates layers)."""
    if isinstance(layers, (Layer, Skip)):
        return (layers,)
    if isinstance(layers, str):
        return tuple(_parse(part) for part in _split(layers, ";") if part.strip())
    if not isinstance(layers, Sequence):
        raise ArgumentTypeError("layers", layers, "layers: text such as 'conv 8x3x3; pool 2', Layer or Skip")
    return tuple(layer for entry in layers for layer in as_layers(entry))


def stages(input_shape: Sequence[int], layers: object) -> tuple[Stage, ...]:
    """Every layer with the shape that comes in and the shape that goes out, first layer first.

    >>> [stage.output_shape for stage in stages((3, 32, 32), "conv 8x5x5; pool 2; dense 10")]
    [(8, 28, 28), (8, 14, 14), (10, 1, 1)]
    """
    shape, found = tuple(input_shape), []
    for layer in as_layers(layers):
        found.append(Stage(layer, shape, layer.output_shape(shape)))
        shape = found[-1].output_shape
    return tuple(found)


_EXAMPLES = {
    "conv": "conv 64x3x3 stride=2 padding=1",
    "pool": "pool 2x2",
    "transposed": "transposed 32x2x2 stride=2",
    "dense": "dense 10",
}


_SHORT = re.compile(r"^([kspdg])=?(?=\d|same|full|valid)")


def _long(match: re.Match[str]) -> str:
    return {"k": "kernel", "s": "stride", "p": "padding", "d": "dilation", "g": "groups"}[match[1]] + "="


def _last_shape(input_shape: Sequence[int], path: Sequence[Layer | Skip]) -> tuple[int, ...]:
    return stages(input_shape, path)[-1].output_shape if path else tuple(input_shape)


def _parse(text: str) -> Layer | Skip:
    text = text.strip()
    if text.startswith("skip"):
        inner = text[4:].strip()
        if not (inner.startswith("(") and inner.endswith(")")):
            raise ArgumentValueError("layer", text, "skip(layers | layers), for example skip(conv 8x3x3 padding=1 |)")
        paths = _split(inner[1:-1], "|")
        if len(paths) == 1:
            paths.append("")  # skip(layers) adds the input itself, the residual block of ResNet
        return Skip(tuple(as_layers(path) for path in paths))
    return Layer.parse(text)


def _split(text: str, separator: str) -> list[str]:
    """The parts of `text` between separators that stand outside of all brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    if depth:
        raise ArgumentValueError("layers", text, "as many closing brackets as opening ones")
    return parts


def _option(text: str, word: str) -> tuple[str, object]:
    name, _, value = word.partition("=")
    if name == "padding":
        if value in ("valid", "same", "full"):
            return name, value
        pairs = [_integers(text, part, ":") for part in value.split("x")]
        if all(len(pair) == 1 for pair in pairs):
            return name, pairs[0][0] if len(pairs) == 1 else tuple(pair[0] for pair in pairs)
        return name, tuple(pair * 2 if len(pair) == 1 else pair for pair in pairs)
    if name == "groups":
        return name, _numbers(text, value)[0]
    if name in ("kernel", "stride", "dilation", "output_padding"):
        numbers = _numbers(text, value)
        return name, numbers[0] if len(numbers) == 1 else numbers
    raise ArgumentValueError("layer", text, f"stride, padding, dilation, output_padding or groups; not {word!r}")


def _numbers(text: str, value: str) -> tuple[int, ...]:
    return _integers(text, value, "x")


def _integers(text: str, value: str, separator: str) -> tuple[int, ...]:
    parts = value.split(separator)
    if not all(re.fullmatch(r"\d{1,9}", part) for part in parts):
        raise ArgumentValueError("layer", text, f"integers such as 3 or 3{separator}3; not {value!r}")
    return tuple(map(int, parts))


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "x".join(":".join(map(str, part)) if isinstance(part, (list, tuple)) else str(part) for part in value)
    return str(value)
