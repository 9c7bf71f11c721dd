"""A network as data: nodes that compute values from values, by ONNX's names and meanings. Nothing here computes.

`onnx.py` reads such a graph from a file and writes it to one, `from_nn.py` makes one of starconv's own layers,
`network.py` runs it, `engine/program.py` compiles it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentValueError

__all__ = ["Attribute", "Builder", "Graph", "Node", "Value"]

Array = NDArray[Any]
Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Array
Shape = tuple[int | str | None, ...]

OPSET = 21
"""The version of ONNX's operators that graphs of our own making follow."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    Attributes:
        op: ONNX's name of the operator: "Conv", "Relu", "MaxPool", ...
        name: the node's own, unique in its graph.
        inputs: names of values; "" for an optional input that is left out.
        outputs: names of values; "" for an output that nobody wants.
        attributes: ONNX's attributes by name, those that are set.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Value:
    """What is known of an input or an output: its name, dtype and shape.

    A size is an int, the name of a size that is free ("batch"; the same name is the same size), or None where nothing
    is known. `shape` is None where not even the number of axes is known.
    """

    name: str
    dtype: np.dtype[Any]
    shape: Shape | None

    def __str__(self) -> str:
        sizes = "?" if self.shape is None else ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype} ({sizes})"


@dataclass(frozen=True, eq=False)
class Graph:
    """A network.

    Every name is given to one value only, by `inputs`, by `constants` or by one node, and a node comes after those
    whose values it uses; this is checked when a graph is made.

    Attributes:
        name: of the network.
        nodes: in an order in which they can be run.
        constants: weights and other arrays that come with the network, by name.
        inputs: what a caller hands in, in order, without the constants.
        outputs: what a caller gets, in order.
        opset: the version of ONNX's operators that the nodes follow.

    Raises:
        ArgumentValueError: a name that is given twice, or used before it is given.
    """

    name: str
    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    opset: int = OPSET

    def __post_init__(self) -> None:
        known: set[str] = set()
        names: set[str] = set()

        def give(name: str, by: str) -> None:
            if name in known:
                raise ArgumentValueError("graph", self.name, f"one source of each value; {by} gives {name!r} again")
            known.add(name)

        for value in self.inputs:
            give(value.name, "an input")
        for name in self.constants:
            give(name, "a constant")
        for node in self.nodes:
            if node.name in names:
                raise ArgumentValueError("graph", self.name, f"a name of its own for each node; two are {node.name!r}")
            names.add(node.name)
            for name in node.inputs:
                if name and name not in known:
                    raise ArgumentValueError(
                        "graph", self.name, f"values before their use; {node.op} {node.name!r} uses {name!r}"
                    )
            for name in node.outputs:
                if name:
                    give(name, f"{node.op} {node.name!r}")
        for value in self.outputs:
            if value.name not in known:
                raise ArgumentValueError("graph", self.name, f"outputs that something gives; {value.name!r} is not")

    def producers(self) -> dict[str, Node]:
        """The node that gives each value, by the value's name."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that use each value, by the value's name; a node that uses it twice is there twice."""
        users: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                if name:
                    users.setdefault(name, []).append(node)
        return users

    def upto(self, names: Sequence[str]) -> tuple[Node, ...]:
        """The nodes that the values `names` depend on, in order."""
        wanted = set(names)
        needed = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.outputs) - {""}:
                needed.append(node)
                wanted.update(node.inputs)
        return tuple(reversed(needed))


class Builder:
    """Writes a graph node by node.

    >>> builder = Builder("edges")
    >>> x = builder.input("x", np.float32, ("batch", 1, "height", "width"))
    >>> x = builder.add("Conv", x, builder.constant("edges.weight", np.ones((2, 1, 3, 3), "f")), name="edges")
    >>> graph = builder.graph(builder.add("Relu", x, name="relu"))
    >>> [node.op for node in graph.nodes], graph.outputs[0].name
    (['Conv', 'Relu'], 'relu')
    """

    def __init__(self, name: str, opset: int = OPSET) -> None:
        self.name, self.opset = name, opset
        self._nodes: list[Node] = []
        self._constants: dict[str, Array] = {}
        self._inputs: list[Value] = []

    def input(self, name: str, dtype: Any, shape: Shape | None) -> str:
        """Declare an input; its name."""
        self._inputs.append(Value(name, np.dtype(dtype), shape))
        return name

    def constant(self, name: str, array: Array) -> str:
        """Add a constant; its name. The same name again must be the same array, which is kept once."""
        if self._constants.setdefault(name, array) is not array:
            raise ArgumentValueError("name", name, "one array under each name")
        return name

    def add(
        self, op: str, *inputs: str, name: str | None = None, outputs: Sequence[str] = (), **attributes: Attribute
    ) -> str:
        """Add a node; the name of its first output, which is the node's own name unless `outputs` says otherwise."""
        name = name or f"{op.lower()}_{len(self._nodes)}"
        results = tuple(outputs) or (name,)
        self._nodes.append(Node(op, name, inputs, results, attributes))
        return results[0]

    def graph(self, *outputs: str | Value) -> Graph:
        """The graph that gives `outputs`; those given by name alone are float32 of any shape."""
        values = tuple(Value(out, np.dtype(np.float32), None) if isinstance(out, str) else out for out in outputs)
        return Graph(self.name, tuple(self._nodes), self._constants, tuple(self._inputs), values, self.opset)
