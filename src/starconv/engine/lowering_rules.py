"""How nodes become operations: a rule for each operator, which adds one, or lets the one before it do the node too.

* BatchNormalization after a convolution scales its kernels, and so does a product with one constant per channel;
* an Add of constants becomes its bias, an Add of another value its residual, and Relu, Clip(0, 6) or HardSwish its
  activation; so does a value's product with its own Sigmoid (SiLU) or HardSigmoid;
* Gemm and MatMul with a constant matrix are pointwise convolutions, whose pixels are the rows of the other matrix.

A node is taken up only if nobody else uses the value before it. A rule is a function of the walk
(`lowering.Lowering`), the node, and the names of its inputs; it says whether it took the node.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import transposed_axes
from ..nets.graph import Node
from ..problem import ACTIVATIONS, Problem
from .operations import Convolution, Info, Interpreted, Product

if TYPE_CHECKING:
    from .lowering import Lowering

__all__ = ["TAKE_UP"]

Array = NDArray[Any]
Rule = Callable[["Lowering", Node, Sequence[str]], bool]


def _windows(
    lowering: "Lowering", node: Node, sizes: Sequence[int], kernel: Sequence[int]
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...]] | None:
    """Strides, pads and dilations, as the operators read the attributes; None where these are no good."""
    from ..nets.operators import LARGEST
    from ..nets.operators.table import Call, Refusal
    from ..nets.operators.windows import window_arguments

    try:
        return window_arguments(Call(node, lowering.graph.opset, LARGEST), sizes, kernel)
    except Refusal:
        return None


def _convolution(lowering: "Lowering", node: Node, inputs: Sequence[str]) -> bool:
    """Conv and ConvTranspose with constant kernels of floats."""
    x, weights = lowering.info(inputs[0]), lowering.constant(inputs, 1)
    bias = lowering.constant(inputs, 2)
    if weights is None or (len(inputs) > 2 and inputs[2] and bias is None) or inputs[0] in lowering.constants:
        return False
    spatial = len(x.shape) - 2
    if x.dtype != weights.dtype or x.dtype.name not in ("float32", "float64") or not 1 <= spatial <= 3:
        return False
    if weights.ndim != spatial + 2 or 0 in x.shape:
        return False
    groups = int(node.attributes.get("group", 1))  # type: ignore[arg-type]
    kernel, transposed = weights.shape[2:], node.op == "ConvTranspose"
    if transposed and ("output_shape" in node.attributes or node.attributes.get("auto_pad", "NOTSET") != "NOTSET"):
        return False
    windows = _windows(lowering, node, x.shape[2:], kernel)
    if windows is None:
        return False
    strides, pads, dilations = windows
    if transposed:
        given: Any = node.attributes.get("output_padding", (0,) * spatial)
        extra = tuple(int(more) for more in given)
        if any(more >= max(step, spread) for more, step, spread in zip(extra, strides, dilations, strict=True)):
            return False
        axes = transposed_axes(x.shape[2:], kernel, strides, pads, extra, dilations)
        channels = weights.shape[1] * groups
        problem = Problem(
            "input_grad", x.shape[0], channels, x.shape[1], axes, groups, dtype=x.dtype.name, bias=bias is not None
        )
    else:
        problem = Problem.of_shapes(
            x.shape, weights.shape, strides, pads, dilations, groups, dtype=x.dtype.name, bias=bias is not None
        )
    # As the operators do: a few bytes can ask for any padding, of which a large stride leaves nothing in the result.
    padded = (x.shape[0], problem.in_channels, *(axis.padded for axis in problem.axes))
    if math.prod(padded) * x.dtype.itemsize > lowering.largest:
        return False
    operation = Convolution(node.name, node.op, [inputs[0]], [node.outputs[0]], problem, weights, bias)
    return lowering.add(operation, Info(problem.result_shape, x.dtype))


def _gemm(lowering: "Lowering", node: Node, inputs: Sequence[str]) -> bool:
    """Gemm with a constant matrix and a constant row to add."""
    matrix, added = lowering.constant(inputs, 1), lowering.constant(inputs, 2)
    alpha, beta = (float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))  # type: ignore[arg-type]
    if matrix is None or node.attributes.get("transA", 0) or (len(inputs) > 2 and inputs[2] and added is None):
        return False
    if not node.attributes.get("transB", 0):
        matrix = matrix.T
    if alpha != 1:
        matrix = matrix * matrix.dtype.type(alpha)
    bias = None
    if added is not None:
        if added.ndim > 1 and added.shape[:-1] != (1,) * (added.ndim - 1):
            return False
        bias = np.broadcast_to(added.reshape(-1), (len(matrix),)) * added.dtype.type(beta)
    return _product(lowering, node, inputs[0], matrix, bias)


def _matmul(lowering: "Lowering", node: Node, inputs: Sequence[str]) -> bool:
    """MatMul with a constant matrix on the right."""
    matrix = lowering.constant(inputs, 1)
    if matrix is None or matrix.ndim != 2 or len(lowering.info(inputs[0]).shape) < 2:
        return False
    return _product(lowering, node, inputs[0], matrix.T, None)


def _product(lowering: "Lowering", node: Node, x: str, weights: Array, bias: Array | None) -> bool:
    info = lowering.info(x)
    if info.dtype != weights.dtype or info.dtype.name not in ("float32", "float64"):
        return False
    rows = int(np.prod(info.shape[:-1]))
    if not rows or 0 in weights.shape or info.shape[-1] != weights.shape[1]:
        return False
    operation = Product.of(node.name, node.op, x, node.outputs[0], rows, weights)
    operation.bias = bias
    return lowering.add(operation, Info((*info.shape[:-1], len(weights)), info.dtype))


# -- what a convolution takes up ------------------------------------------------------------------------------


def _per_channel(operation: Convolution, constant: Array, shape: tuple[int, ...]) -> Array | None:
    """`constant` as one value per channel of a result of `shape`, or None."""
    axis = len(shape) - 1 if isinstance(operation, Product) else 1
    if constant.ndim > len(shape):
        return None
    sizes = (1,) * (len(shape) - constant.ndim) + constant.shape
    if any(size != 1 for place, size in enumerate(sizes) if place != axis) or sizes[axis] not in (1, shape[axis]):
        return None
    return np.broadcast_to(constant.reshape(-1), (shape[axis],))


def _scale(operation: Convolution, factor: Array) -> None:
    """Multiply each channel of the result: its kernels, later, and its bias."""
    factor = factor.astype(np.float64)
    operation.factor = factor if operation.factor is None else operation.factor * factor
    if operation.bias is not None:
        operation.bias = operation.bias.astype(np.float64) * factor


def _shift(operation: Convolution, term: Array) -> None:
    term = term.astype(np.float64)
    operation.bias = term if operation.bias is None else operation.bias + term


def _batch_norm(lowering: "Lowering", node: Node, inputs: Sequence[str]) -> bool:
    """Scale and shift per channel, in float64 until the weights are prepared."""
    operation = lowering.open(inputs[0])
    numbers = [lowering.constant(inputs, index) for index in range(1, 5)]
    if operation is None or isinstance(operation, Product) or any(number is None for number in numbers):
        return False
    if node.attributes.get("training_mode", 0) or len(node.outputs) > 1:
        return False
    scale, shift, mean, variance = (np.asarray(number, np.float64) for number in numbers)
    factor = scale / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))  # type: ignore[arg-type]
    _shift(operation, -mean)
    _scale(operation, factor)
    _shift(operation, shift)
    return lowering.extend(operation, node)


def _gated(lowering: "Lowering", node: Node, inputs: Sequence[str]) -> bool:
    """A value times its own (hard) sigmoid: the activation of the convolution that makes it, or one step, not two."""
    for x, gate in (inputs, inputs[::-1]):
        maker = lowering.makers.get(gate)
        if not isinstance(maker, Interpreted) or maker.node.inputs != (x,) or lowering.uses[gate] != 1:
            continue
        if maker.node.op == "Sigmoid":
            activation = "silu"
        elif maker.node.op == "HardSigmoid" and _is_of_hard_swish(maker.node):
            activation = "hard_swish"
        else:
            continue
        lowering.result.operations.remove(maker)
        before = lowering.makers.get(x)
        if isinstance(before, Convolution) and lowering.uses[x] == 2 and before.problem.activation == "none":
            before.problem = replace(before.problem, activation=activation)
            before.does += f" + {maker.node.op}"
            return lowering.extend(before, node)
        op = {"silu": "Swish", "hard_swish": "HardSwish"}[activation]
        one = Node(op, node.name, (x,), node.outputs)
        return lowering.add(Interpreted.of(one, lowering.graph.opset, (x,), node.outputs, ()), lowering.info(x))
    return False


def _is_of_hard_swish(node: Node) -> bool:
    """Whether a HardSigmoid has the slope 1/6 and the offset 1/2."""
    slope, offset = (float(node.attributes.get(name, 0.0)) for name in ("alpha", "beta"))  # type: ignore[arg-type]
    return abs(slope - 1 / 6) < 1e-6 and abs(offset - 0.5) < 1e-6


def _mul(lowering: "Lowering", node: Node, inputs: Sequence[str]) -> bool:
    """A product of a convolution's result with constants, or of a value with its sigmoid."""
    return _taken_up(lowering, node, inputs, _scale) or _gated(lowering, node, inputs)


def _add(lowering: "Lowering", node: Node, inputs: Sequence[str]) -> bool:
    """A sum of a convolution's result with constants or with another value of the same shape."""
    return _taken_up(lowering, node, inputs, _shift) or _add_residual(lowering, node, inputs)


def _taken_up(
    lowering: "Lowering", node: Node, inputs: Sequence[str], change: Callable[[Convolution, Array], None]
) -> bool:
    """Whether there is a convolution whose result meets a constant: it is changed by that, channel by channel."""
    for place in (0, 1):
        operation, constant = lowering.open(inputs[place]), lowering.constant(inputs, 1 - place)
        if operation is None or constant is None:
            continue
        values = _per_channel(operation, constant, lowering.info(inputs[place]).shape)
        if values is not None and values.dtype == operation.weights.dtype:
            change(operation, values)
            return lowering.extend(operation, node)
    return False


def _add_residual(lowering: "Lowering", node: Node, inputs: Sequence[str]) -> bool:
    """The convolution that comes last takes the other value as its residual; by then that is computed."""
    first, second = inputs
    if first == second or lowering.info(first) != lowering.info(second):
        return False
    if first in lowering.constants or second in lowering.constants:
        return False
    order = lowering.result.operations
    found = [
        (operation, other) for name, other in ((first, second), (second, first)) if (operation := lowering.open(name))
    ]
    if not found:
        return False
    operation, other = max(found, key=lambda pair: order.index(pair[0]))
    order.remove(operation)  # to the end, where the other value exists
    order.append(operation)
    operation.residual = other
    operation.reads.append(other)
    operation.problem = replace(operation.problem, residual=True)
    return lowering.extend(operation, node)


def _activation(name: str) -> Rule:
    def take_up(lowering: "Lowering", node: Node, inputs: Sequence[str]) -> bool:
        maker = lowering.makers.get(inputs[0])
        if not isinstance(maker, Convolution) or lowering.uses[inputs[0]] != 1 or name not in ACTIVATIONS:
            return False
        if maker.problem.activation != "none":
            return False
        maker.problem = replace(maker.problem, activation=name)
        return lowering.extend(maker, node)

    return take_up


def _clip(lowering: "Lowering", node: Node, inputs: Sequence[str]) -> bool:
    """Clip between 0 and 6, as ReLU6 is exported, or from 0 upwards."""
    limits = []
    for place, name in ((1, "min"), (2, "max")):
        if len(inputs) > place and inputs[place]:
            constant = lowering.constant(inputs, place)
            if constant is None:
                return False
            limits.append(float(constant))
        else:
            given = node.attributes.get(name)
            limits.append(None if given is None else float(given))  # type: ignore[arg-type]
    known = {(0.0, 6.0): "relu6", (0.0, None): "relu", (0.0, np.inf): "relu"}.get((limits[0], limits[1]))
    return known is not None and _activation(known)(lowering, node, inputs)


TAKE_UP: dict[str, Rule] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "Mul": _mul,
    "Add": _add,
    "Relu": _activation("relu"),
    "Clip": _clip,
    "HardSwish": _activation("hard_swish"),
}
"""How each operator is made into an operation, or taken up by one; False where it is to be interpreted."""
