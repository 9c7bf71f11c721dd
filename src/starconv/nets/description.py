"""What a network consists of: its layers by name, and a table of shapes, parameters and multiply-adds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..arguments import Array
from ..errors import ArgumentValueError
from .graph import Graph, Node

__all__ = ["Layer", "NetworkSummary", "Row", "layers_of", "multiply_adds", "trained"]

_TRAINED = {"BatchNormalization": 3, "Clip": 1, "Pad": 1, "Resize": 1, "Upsample": 1}
"""How many of an operator's inputs training may change, where the rest are statistics, limits or sizes."""
_KERNELS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, eq=False)
class Layer:
    """One node of a network with the arrays that came with it.

    Attributes:
        name: as in ``network.layers``.
        op: ONNX's name of its operator.
        inputs, outputs: names of values.
        attributes: ONNX's attributes.
        constants: its weights and the like, by the names of values.
    """

    node: Node
    constants: Mapping[str, Array]

    @property
    def name(self) -> str:
        """As in ``network.layers``."""
        return self.node.name

    @property
    def op(self) -> str:
        """ONNX's name of the operator."""
        return self.node.op

    @property
    def kernels(self) -> Array:
        """Its kernels, (K, C / groups, kh, kw), of a transposed convolution (C, K / groups, kh, kw), or its matrix.

        ``sc.view.filters`` draws those of a convolution.

        Raises:
            ArgumentValueError: the layer has none, or computes them.
        """
        place = next((name for name in self.node.inputs[1:2] if name in self.constants), None)
        if self.op not in _KERNELS or place is None:
            raise ArgumentValueError("layer", self.name, f"one with kernels of its own; this is {self.op}")
        return self.constants[place]

    @property
    def bias(self) -> Array | None:
        """What is added to every output channel, or None."""
        if self.op not in _KERNELS or len(self.node.inputs) < 3:
            return None
        return self.constants.get(self.node.inputs[2])

    @property
    def parameters(self) -> int:
        """Numbers in its arrays of floats, without a batch norm's running statistics, which are not trained."""
        return sum(self.constants[name].size for name in trained(self.node, self.constants))

    def __repr__(self) -> str:
        words = [f"{self.name}: {self.op}"]
        words += [f"{name}={_short(value)}" for name, value in self.node.attributes.items()]
        words += [f"{name} {array.shape}" for name, array in self.constants.items() if array.ndim]
        return f"Layer({', '.join(words)})"


def _short(value: object) -> str:
    return f"array {value.shape}" if isinstance(value, np.ndarray) else str(value)


def trained(node: Node, constants: Mapping[str, Array]) -> list[str]:
    """The names of the constants of a node that training changes, each once."""
    names = node.inputs[: _TRAINED.get(node.op)]
    return [name for name in dict.fromkeys(names) if name in constants and constants[name].dtype.kind == "f"]


def layers_of(graph: Graph) -> dict[str, Layer]:
    """All layers by name, in the order in which they run."""
    return {
        node.name: Layer(node, {name: graph.constants[name] for name in node.inputs if name in graph.constants})
        for node in graph.nodes
    }


class Row(NamedTuple):
    """One layer: its name, operator, the shape of its first output, parameters, multiply-adds, seconds if measured."""

    name: str
    op: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    seconds: float | None = None


@dataclass(frozen=True)
class NetworkSummary:
    """The rows, one per layer; ``str`` makes a table of them."""

    name: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    rows: tuple[Row, ...]
    parameters: int

    @property
    def multiply_adds(self) -> int:
        """Of all layers together, for these inputs."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def seconds(self) -> float | None:
        """Of all layers together, if they were measured."""
        return (
            sum(row.seconds or 0.0 for row in self.rows) if any(row.seconds is not None for row in self.rows) else None
        )

    def __str__(self) -> str:
        timed = self.seconds is not None
        table = [("layer", "output", "parameters", "multiply-adds", *(["milliseconds"] if timed else []))]
        for row in self.rows:
            cells = (f"{row.name} {row.op}", _times(row.output), _number(row.parameters), _number(row.multiply_adds))
            table.append((*cells, *([f"{1e3 * (row.seconds or 0):.3f}"] if timed else [])))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join([cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))])
            for cells in table
        ]
        sizes = ", ".join(f"{name} {_times(shape)}" for name, shape in self.inputs)
        total = f"{_number(self.parameters)} parameters, {_number(self.multiply_adds)} multiply-adds"
        if timed:
            total += f", {1e3 * (self.seconds or 0):.2f} milliseconds"
        return "\n".join([*lines, f"{sizes}: {total}"])


def multiply_adds(node: Node, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    """Products summed up by a node, from the shapes of its inputs and of its first output; 0 without such sums."""
    if node.op == "Conv":
        return math.prod(output) * math.prod(inputs[1][1:])
    if node.op == "ConvTranspose":
        return math.prod(inputs[0]) * math.prod(inputs[1][1:])
    if node.op == "Gemm":
        inner = inputs[0][0] if node.attributes.get("transA") else inputs[0][1]
        return math.prod(output) * inner
    if node.op == "MatMul":
        return math.prod(output) * (inputs[0][-1] if inputs[0] else 1)
    return 0


def _times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes)) or "1"


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")
