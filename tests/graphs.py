"""Small networks for the tests of compiled programs, and what they compute node by node."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from starconv.nets.graph import Builder, Graph
from starconv.nets.operators import run_node

Array = NDArray[Any]


def interpreted(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """The outputs of `graph`, each node computed by itself."""
    values: dict[str, Array] = dict(graph.constants)
    values.update(zip((value.name for value in graph.inputs), arrays, strict=True))
    for node in graph.nodes:
        given = [values[name] if name else None for name in node.inputs]
        values.update(zip(node.outputs, run_node(node, given, graph.opset), strict=False))
    return [values[value.name] for value in graph.outputs]


class Writer:
    """Writes a graph with drawn constants, and keeps the shapes of its values."""

    def __init__(self, seed: int = 0) -> None:
        self.builder, self.generator = Builder("test"), np.random.default_rng(seed)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.values: dict[str, Array] = {}
        self.arrays: list[Array] = []
        self.count = 0

    def input(self, *shape: int) -> str:
        name = self.builder.input(f"in{len(self.arrays)}", np.float32, shape)
        self.arrays.append(self.generator.standard_normal(shape).astype(np.float32))
        self.shapes[name], self.values[name] = shape, self.arrays[-1]
        return name

    def constant(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> str:
        self.count += 1
        array = self.generator.standard_normal(shape) * scale + shift
        return self.builder.constant(f"c{self.count}", array.astype(np.float32))

    def array(self, values: Any) -> str:
        self.count += 1
        return self.builder.constant(f"c{self.count}", np.array(values))

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = self.builder.add(op, *inputs, **attributes)
        graph = self.builder.graph(name)
        node = graph.nodes[-1]
        given = [graph.constants[each] if each in graph.constants else self.values[each] for each in node.inputs]
        for output, array in zip(node.outputs, run_node(node, given, graph.opset), strict=True):
            self.shapes[output], self.values[output] = array.shape, array
        return name

    def conv(
        self, x: str, kernels: int, size: int = 3, *, groups: int = 1, bias: bool = False, **attributes: Any
    ) -> str:
        channels = self.shapes[x][1] // groups
        spatial = len(self.shapes[x]) - 2
        scale = (channels * size**spatial) ** -0.5
        weights = self.constant(kernels, channels, *[size] * spatial, scale=scale)
        added = [self.constant(kernels)] if bias else []
        attributes.setdefault("pads", (size // 2,) * 2 * spatial)
        return self.add("Conv", x, weights, *added, group=groups, **attributes)

    def norm(self, x: str) -> str:
        channels = self.shapes[x][1]
        numbers = [self.constant(channels) for _ in range(3)]
        variance = self.array(self.generator.uniform(0.5, 2, channels).astype(np.float32))
        return self.add("BatchNormalization", x, *numbers, variance)

    def graph(self, *outputs: str) -> Graph:
        return self.builder.graph(*outputs)


def residual_network(seed: int = 0, size: int = 33, batch: int = 2) -> tuple[Graph, list[Array]]:
    """Two residual blocks, the second with a stride and a projection; pools, and a classifier."""
    w = Writer(seed)
    x = w.add("Relu", w.norm(w.conv(w.input(batch, 3, size, size), 16, 7, strides=(2, 2))))
    x = w.add("MaxPool", x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    y = w.norm(w.conv(w.add("Relu", w.norm(w.conv(x, 16))), 16))
    x = w.add("Relu", w.add("Add", y, x))
    y = w.norm(w.conv(w.add("Relu", w.norm(w.conv(x, 24, strides=(2, 2)))), 24))
    x = w.add("Relu", w.add("Add", y, w.norm(w.conv(x, 24, 1, strides=(2, 2)))))
    x = w.add("Flatten", w.add("GlobalAveragePool", x))
    return w.graph(w.add("Gemm", x, w.constant(10, 24), w.constant(10), transB=1)), w.arrays


def dense_network(seed: int = 0) -> tuple[Graph, list[Array]]:
    """Every layer sees all before it, as in DenseNet."""
    w = Writer(seed)
    features = [w.conv(w.input(2, 3, 17, 19), 8)]
    for _ in range(3):
        x = w.add("Concat", *features, axis=1) if len(features) > 1 else features[0]
        features.append(w.conv(w.add("Relu", w.norm(x)), 4))
    x = w.add("Concat", *features, axis=1)
    x = w.add("AveragePool", w.conv(x, 12, 1), kernel_shape=(2, 2), strides=(2, 2))
    return w.graph(x), w.arrays


def u_network(seed: int = 0) -> tuple[Graph, list[Array]]:
    """Down, up again by a transposed convolution, and beside what was there before."""
    w = Writer(seed)
    wide = w.add("Relu", w.conv(w.input(1, 3, 20, 24), 8, bias=True))
    low = w.add("MaxPool", wide, kernel_shape=(2, 2), strides=(2, 2))
    low = w.add("Relu", w.conv(low, 16, bias=True))
    up = w.add("ConvTranspose", low, w.constant(16, 8, 2, 2), w.constant(8), strides=(2, 2))
    x = w.add("Concat", wide, up, axis=1)
    return w.graph(w.conv(w.add("Relu", w.conv(x, 8, bias=True)), 2, 1, bias=True)), w.arrays


def mobile_network(seed: int = 0) -> tuple[Graph, list[Array]]:
    """Inverted residuals: pointwise with ReLU6, depthwise with ReLU6, pointwise, and a sum."""
    w = Writer(seed)
    limits = w.array(np.float32(0)), w.array(np.float32(6))
    x = w.add("Clip", w.norm(w.conv(w.input(2, 3, 32, 32), 8, strides=(2, 2))), *limits)
    for stride in (1, 2):
        y = w.add("Clip", w.norm(w.conv(x, 48, 1)), *limits)
        y = w.add("Clip", w.norm(w.conv(y, 48, 3, groups=48, strides=(stride, stride))), *limits)
        y = w.norm(w.conv(y, 8, 1))
        x = w.add("Add", x, y) if stride == 1 else y
    return w.graph(w.add("ReduceMean", x, w.array([2, 3]), keepdims=0)), w.arrays


SLOPE = {"alpha": 1 / 6, "beta": 0.5}


def gated_network(seed: int = 0) -> tuple[Graph, list[Array]]:
    """SiLU and hard swish as exporters write them, of convolutions, of a sum, and of what others read too."""
    w = Writer(seed)
    x = w.norm(w.conv(w.input(2, 3, 17, 19), 24, strides=(2, 2)))
    x = w.add("Mul", x, w.add("Sigmoid", x))
    y = w.conv(x, 24, groups=24, bias=True)
    y = w.add("Mul", w.add("HardSigmoid", y, **SLOPE), y)
    y = w.add("Add", w.norm(w.conv(y, 24, 1)), x)  # a residual before the activation
    y = w.add("Mul", y, w.add("Sigmoid", y))
    z = w.conv(y, 16)
    gate = w.add("Sigmoid", z)
    both = w.add("Add", w.add("Mul", z, gate), z)  # z is read once more
    soft = w.add("Mul", both, w.add("HardSigmoid", both, alpha=0.2, beta=0.5))  # another slope
    kept = w.add("Sigmoid", soft)
    last = w.add("Mul", soft, kept)  # the gate is an output too
    return w.graph(w.add("HardSwish", w.conv(last, 8, 1)), kept), w.arrays


NETWORKS = {
    "gated": gated_network,
    "residual": residual_network,
    "dense": dense_network,
    "u": u_network,
    "mobile": mobile_network,
}


@st.composite
def random_networks(draw: st.DrawFn) -> tuple[Graph, list[Array]]:
    """Pictures through operators in any order, with values that are used several times or not at all."""
    w = Writer(draw(st.integers(0, 1000)))
    shape = draw(st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)))
    values = [w.input(*shape)]
    for _ in range(draw(st.integers(1, 12))):
        x = values[-1] if draw(st.booleans()) else draw(st.sampled_from(values))
        alike = [name for name in values if w.shapes[name] == w.shapes[x]]
        beside = [name for name in values if w.shapes[name][2:] == w.shapes[x][2:] and len(w.shapes[name]) == 4]
        rest = w.shapes[x]
        kind = draw(
            st.sampled_from(
                [
                    *("conv", "conv", "conv", "norm", "relu", "add", "concat", "pool"),
                    *("sigmoid", "gate", "split", "slice", "scale"),
                ]
            )
        )
        if kind == "conv":
            groups = draw(st.sampled_from([1, 1, rest[1]]))
            kernels = draw(st.integers(1, 17)) if groups == 1 else groups
            stride = draw(st.sampled_from([1, 1, 2]))
            size, bias = draw(st.sampled_from([1, 3])), draw(st.booleans())
            values.append(w.conv(x, kernels, size, groups=groups, bias=bias, strides=(stride, stride)))
        elif kind == "norm":
            values.append(w.norm(x))
        elif kind == "relu":
            values.append(w.add("Relu", x))
        elif kind == "sigmoid":
            values.append(w.add("Sigmoid", x))
        elif kind == "gate":
            gate = w.add("Sigmoid", x) if draw(st.booleans()) else w.add("HardSigmoid", x, **SLOPE)
            values += [gate] if draw(st.booleans()) else []
            values.append(w.add("Mul", x, gate))
        elif kind == "add":
            values.append(w.add(draw(st.sampled_from(["Add", "Mul"])), x, draw(st.sampled_from(alike))))
        elif kind == "concat":
            others = draw(st.lists(st.sampled_from(beside), min_size=1, max_size=3))
            values.append(w.add("Concat", x, *others, axis=1))
        elif kind == "pool":
            attributes = {"kernel_shape": (2, 2), "strides": (2, 2), "ceil_mode": 1}
            values.append(w.add(draw(st.sampled_from(["MaxPool", "AveragePool"])), x, **attributes))
        elif kind == "split" and rest[1] > 1:
            name = f"split{w.count}"
            w.add("Split", x, w.array([1, rest[1] - 1]), axis=1, outputs=(name, f"{name}b"))
            values += [name, f"{name}b"]
            w.count += 1
        elif kind == "slice" and rest[2] > 1:
            values.append(w.add("Slice", x, w.array([1]), w.array([rest[2]]), w.array([2])))
        elif kind == "scale":
            values.append(w.add(draw(st.sampled_from(["Add", "Mul"])), x, w.constant(rest[1], 1, 1)))
    outputs = dict.fromkeys([values[-1], *draw(st.lists(st.sampled_from(values), max_size=2))])
    return w.graph(*outputs), w.arrays
