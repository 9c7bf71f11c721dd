"""starconv's own layers as a graph, and so as an ONNX file: what they compute in eval mode."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn
from ..errors import ArgumentTypeError, ArgumentValueError
from ..geometry import per_axis
from ..nn.conv import ConvBase
from ..nn.module import Module
from .graph import Builder, Graph, Value
from .network import Network

__all__ = ["export", "from_nn", "graph_of"]

_BORDERS = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""ONNX's words for torch.nn's padding modes (wrap is there from opset 19 on)."""


def from_nn(module: Module, input_size: Sequence[int], *, name: str = "network") -> Network:
    """A network of layers of :mod:`starconv.nn` as a :class:`Network` that can be looked into, in eval mode.

    Args:
        module: a Sequential, or any layer.
        input_size: (C, H, W) or what it takes, without N, which is free.
        name: of the network.

    Raises:
        ArgumentTypeError: `module`, or a layer inside it, that is not one of starconv's.
        ArgumentValueError: sizes that do not fit a layer.

    >>> network = from_nn(nn.Sequential(nn.Conv2d(1, 4, 3, seed=0), nn.ReLU()), (1, 8, 8))
    >>> network(np.ones((2, 1, 8, 8), "float32")).shape
    (2, 4, 6, 6)
    """
    return Network(graph_of(module, input_size, name=name))


def export(network: Network | Module, path: str | os.PathLike[str], input_size: Sequence[int] | None = None) -> None:
    """Write a network to `path` as an ONNX file, completely or not at all.

    Args:
        network: a :class:`Network`, or layers of :mod:`starconv.nn`, which are written as they are in eval mode.
        path: the file.
        input_size: (C, H, W), without N, which is free; needed for layers.

    Raises:
        ArgumentTypeError, ArgumentValueError: layers that ONNX cannot hold, or sizes that do not fit them.
        MissingPackageError: the package onnx is not there. OSError: the file cannot be written.
    """
    if isinstance(network, Network):
        if input_size is not None:
            raise ArgumentValueError("input_size", input_size, "None, since the network has its own")
        network.to_onnx(path)
        return
    if input_size is None:
        raise ArgumentValueError("input_size", None, "(C, H, W), the size of one input")
    from_nn(network, input_size).to_onnx(path)


def graph_of(module: Module, input_size: Sequence[int], *, name: str = "network") -> Graph:
    """The graph that :func:`from_nn` runs."""
    if not isinstance(module, Module):
        raise ArgumentTypeError("module", module, "a layer (a starconv.nn.Module)")
    size = per_axis("input_size", tuple(input_size), len(tuple(input_size)), minimum=1)
    dtypes = {parameter.value.dtype for parameter in module.parameters()} or {np.dtype(np.float32)}
    if len(dtypes) > 1:
        raise ArgumentValueError("module", sorted(map(str, dtypes)), "layers of one dtype")
    dtype = dtypes.pop()
    shape = module.output_shape((1, *size))
    writer = _Writer(name, dtype)
    x = writer.builder.input("x", dtype, ("N", *size))
    y = writer.write(module, "", x, (1, *size))
    if y == x:
        y = writer.builder.add("Identity", x, name="output")
    free: tuple[Any, ...] = ("N", *shape[1:])
    return writer.builder.graph(Value(y, dtype, free))


class _Writer:
    """Layers being written one after the other; each method takes the name and the shape of a layer's input."""

    def __init__(self, name: str, dtype: np.dtype[Any]) -> None:
        self.builder, self.dtype = Builder(name), dtype
        self.taken: set[str] = set()

    def write(self, module: Module, name: str, x: str, shape: tuple[int, ...]) -> str:
        """The name of the value that `module` makes of `x`."""
        dot = f"{name}." if name else ""
        match module:
            case nn.Sequential():
                for key, child in module.own_children.items():
                    x, shape = self.write(child, dot + key, x, shape), child.output_shape(shape)
                return x
            case nn.Residual():
                through = self.write(module.body, f"{dot}body", x, shape)
                around = x if module.shortcut is None else self.write(module.shortcut, f"{dot}shortcut", x, shape)
                return self._add("Add", name, through, around)
            case ConvBase():
                return self._convolution(module, name, x, shape)
            case nn.BatchNorm2d():
                return self._batch_norm(module, name, x)
            case nn.MaxPool2d():
                dilations = per_axis("dilation", module.dilation, 2, minimum=1)
                return self._pool("MaxPool", module, name, x, shape, dilations=dilations)
            case nn.AvgPool2d():
                if module.divisor_override is not None:
                    raise ArgumentValueError(f"layer {name}", module, "an average pool without divisor_override")
                counts = {"count_include_pad": int(module.count_include_pad)}
                return self._pool("AveragePool", module, name, x, shape, **counts)
            case nn.AdaptiveAvgPool2d():
                return self._adaptive(module, name, x, shape)
            case nn.Linear():
                return self._linear(module, name, x, shape)
            case nn.ReLU():
                return self._add("Relu", name, x)
            case nn.Dropout():
                return self._add("Dropout", name, x)
            case nn.Flatten():
                start, end = (axis % len(shape) for axis in (module.start_dim, module.end_dim))
                if start == 0 and end > 0:
                    sizes = (-1, *shape[end + 1 :])
                else:
                    sizes = (*([0] * start), -1, *shape[end + 1 :])
                return self._add("Reshape", name, x, self._constant(name, "shape", np.array(sizes, np.int64)))
        raise ArgumentTypeError(f"layer {name or type(module).__name__}", module, "one of starconv.nn's layers")

    def _add(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """A node that is named after its layer; the whole network's own sum or only layer has its operator's name."""
        return self.builder.add(op, *inputs, name=name or op.lower(), **attributes)

    def _constant(self, name: str, part: str, array: Any) -> str:
        return self.builder.constant(f"{name}.{part}" if name else part, array)

    def _weights(self, module: Any, name: str) -> list[str]:
        parts = [("weight", module.weight), ("bias", module.bias)]
        return [self._constant(name, part, array) for part, array in parts if array is not None]

    def _convolution(self, module: Any, name: str, x: str, shape: tuple[int, ...]) -> str:
        axes = module._axes(shape[2:]) if module.transposed else module.window(shape)
        attributes: dict[str, Any] = {"strides": module.stride, "dilations": module.dilation, "group": module.groups}
        before, after = [axis.before for axis in axes], [axis.after for axis in axes]
        if module.transposed:
            attributes["output_padding"] = module.output_padding
            # An output padding of a stride or more was taken off the padding; ONNX counts it by itself.
            pairs = zip(axes, module.output_padding, strict=True)
            after = [axis.after + (extra if extra >= axis.stride else 0) for axis, extra in pairs]
        elif module.padding_mode != "zeros" and any(before + after):
            if module.padding_mode not in _BORDERS:
                raise ArgumentValueError(f"layer {name}", module.padding_mode, "a padding_mode of torch's")
            pads = np.array([0, 0, *before, 0, 0, *after], np.int64)
            mode = _BORDERS[module.padding_mode]
            x = self._add("Pad", f"{name or 'conv'}.pad", x, self._constant(name, "pads", pads), mode=mode)
            before = after = [0] * len(axes)
        attributes |= {"pads": (*before, *after), "kernel_shape": module.kernel_size}
        return self._add(
            "ConvTranspose" if module.transposed else "Conv", name, x, *self._weights(module, name), **attributes
        )

    def _batch_norm(self, module: nn.BatchNorm2d, name: str, x: str) -> str:
        if not module.track_running_stats:
            raise ArgumentValueError(f"layer {name}", module, "a batch norm with running statistics")
        ones, zeros = np.ones(module.num_features, self.dtype), np.zeros(module.num_features, self.dtype)
        weight = ones if module.weight is None else module.weight
        bias = zeros if module.bias is None else module.bias
        buffers = module.own_buffers
        parts = {"weight": weight, "bias": bias, **{part: buffers[part] for part in ("running_mean", "running_var")}}
        constants = [self._constant(name, part, array) for part, array in parts.items()]
        return self._add("BatchNormalization", name, x, *constants, epsilon=module.eps)

    def _pool(self, op: str, module: Any, name: str, x: str, shape: tuple[int, ...], **attributes: Any) -> str:
        axes = module.window(shape)
        before, after = [axis.before for axis in axes], [axis.after for axis in axes]
        # A last window that hangs over the end is padding, which all readers understand alike. Only where padding
        # counts, that at the end does not, or where there is too much of it, it must be said by ceil_mode.
        over = after != before
        ceil = over and (attributes.get("count_include_pad") or any(axis.after >= axis.kernel for axis in axes))
        return self._add(
            op,
            name,
            x,
            kernel_shape=per_axis("kernel_size", module.kernel_size, 2, minimum=1),
            strides=per_axis("stride", module.stride, 2, minimum=1),
            pads=(*before, *(before if ceil else after)),
            ceil_mode=int(bool(ceil)),
            **attributes,
        )

    def _adaptive(self, module: nn.AdaptiveAvgPool2d, name: str, x: str, shape: tuple[int, ...]) -> str:
        before, after = shape[2:], module.output_shape(shape)[2:]
        if after == (1, 1):
            return self._add("GlobalAveragePool", name, x)
        if any(length % size for length, size in zip(before, after, strict=True)):
            raise ArgumentValueError(
                f"layer {name}",
                module,
                f"sizes that divide its input's, {before}; ONNX has no other windows",
            )
        kernel = tuple(length // size for length, size in zip(before, after, strict=True))
        return self._add("AveragePool", name, x, kernel_shape=kernel, strides=kernel)

    def _linear(self, module: nn.Linear, name: str, x: str, shape: tuple[int, ...]) -> str:
        if len(shape) == 2:
            return self._add("Gemm", name, x, *self._weights(module, name), transB=1)
        matrix = self._constant(name, "weight", np.ascontiguousarray(module.weight.T))
        bias = module.bias
        product = self._add("MatMul", name if bias is None else f"{name or 'linear'}.product", x, matrix)
        return product if bias is None else self._add("Add", name, product, self._constant(name, "bias", bias))
