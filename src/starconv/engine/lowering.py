"""From the nodes of a graph to the operations of a program: what is constant is computed, what can go together does.

One walk over the nodes in their order. What is known of a node's inputs (weights, shapes) is computed now. Other nodes
become operations, or are taken up by the one before them, where there is a rule for that (`lowering_rules`); else they
are interpreted.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentValueError
from ..nets.graph import Graph, Node
from .lowering_rules import TAKE_UP
from .operations import Chain, Convolution, Info, Interpreted, Operation
from .shapes import shape_of

__all__ = ["LARGEST", "Lowered", "Lowering", "lower"]

Array = NDArray[Any]


class Lowered:
    """Operations in the order in which they run, and what is known of their values."""

    def __init__(self, graph: Graph, infos: dict[str, Info]) -> None:
        self.graph, self.infos = graph, infos
        self.constants: dict[str, Array] = dict(graph.constants)
        self.operations: list[Operation] = []
        self.chains: list[Chain] = []
        self.inputs = [value.name for value in graph.inputs]
        self.outputs = [value.name for value in graph.outputs]
        """Names of values as the operations call them."""


LARGEST = 2**31
"""Bytes that one value may take unless the caller says otherwise."""


def lower(
    graph: Graph, shapes: Sequence[tuple[int, ...]], largest: int = LARGEST, memory: int | None = None
) -> Lowered:
    """The operations of `graph` for inputs of `shapes`, with values of at most `largest` bytes.

    What is computed on the way may take `memory` bytes, if that is given, and no more than weights may become: eight
    times their bytes (uint8 to float64), and 256 MiB for what begins small. Whoever is refused is interpreted.

    Raises:
        ArgumentValueError: shapes that do not fit the graph's inputs or, on the way, an operator.
        NodeError: a node that cannot work with what comes in, or would give too much.
    """
    infos = {}
    for value, shape in zip(graph.inputs, shapes, strict=True):
        infos[value.name] = Info(tuple(shape), value.dtype)
    return Lowering(Lowered(graph, infos), largest, memory).lowered()


class Lowering:
    """The walk, and what rules see of it: constants, uses and makers of values."""

    def __init__(self, result: Lowered, largest: int, memory: int | None) -> None:
        self.result, self.graph, self.largest, self.memory = result, result.graph, largest, memory
        self.infos, self.constants = result.infos, result.constants
        self.made = 0  # bytes of constants that were computed
        self.most_made = 8 * sum(array.nbytes for array in result.constants.values()) + 2**28
        if memory is not None:
            self.most_made = min(self.most_made, memory)
        self.names: dict[str, str] = {}  # values that are other values
        self.makers: dict[str, Operation] = {}
        self.nodes = self.graph.upto([value.name for value in self.graph.outputs])
        self.uses = Counter(name for node in self.nodes for name in node.inputs if name)
        self.uses.update(value.name for value in self.graph.outputs)

    def lowered(self) -> Lowered:
        """All nodes, in their order."""
        for node in self.nodes:
            self._lower(node)
        result = self.result
        result.outputs = [self._name(value.name) for value in self.graph.outputs]
        used = {name for operation in result.operations for name in operation.reads} | set(result.outputs)
        result.constants = {name: array for name, array in self.constants.items() if name in used}
        return result

    def _name(self, name: str) -> str:
        return self.names.get(name, name)

    def _lower(self, node: Node) -> None:
        inputs = [self._name(name) for name in node.inputs]
        if node.op in ("Identity", "Dropout") and (len(node.outputs) < 2 or not self.uses[node.outputs[1]]):
            self._same(node.outputs[0], inputs[0])
        elif all(name in self.constants for name in inputs if name) and node.op not in RANDOM:
            self._fold(node, inputs)
        elif node.op == "Shape":
            array = np.broadcast_to(np.zeros((), self.infos[inputs[0]].dtype), self.infos[inputs[0]].shape)
            self._keep(node, self._run(node, [array], self.most_made - self.made))
        elif not self._taken_up(node, inputs):
            known = [name for name in inputs if name in self.constants]
            operation = Interpreted.of(node, self.graph.opset, inputs, node.outputs, known)
            for name, info in zip(node.outputs, self._guess(operation), strict=False):
                if name:
                    self.infos[name] = info
            self.add(operation)

    def _taken_up(self, node: Node, inputs: Sequence[str]) -> bool:
        """Whether an operation computes `node`; not if its sizes do not fit, which is for the interpreter to tell."""
        rule = TAKE_UP.get(node.op)
        try:
            return rule is not None and rule(self, node, inputs)
        except ArgumentValueError:
            return False

    def _fold(self, node: Node, inputs: Sequence[str]) -> None:
        given = [self.constants[name] if name else None for name in inputs]
        self._keep(node, self._run(node, given, self.most_made - self.made))

    def _run(self, node: Node, given: Sequence[Array | None], left: int | None) -> list[Array]:
        from ..nets.operators import run_node

        return run_node(node, list(given), self.graph.opset, largest=self.largest, left=left)

    def _keep(self, node: Node, results: Sequence[Array]) -> None:
        for name, array in zip(node.outputs, results, strict=False):
            if name:
                self.constants[name] = np.asarray(array)
                self.made += self.constants[name].nbytes

    def _same(self, name: str, as_name: str) -> None:
        """Let `name` be another name of `as_name`."""
        self.names[name] = as_name
        self.uses[as_name] += self.uses[name] - 1

    def _guess(self, operation: Interpreted) -> list[Info]:
        """Shapes and dtypes of an operator's results: by rule, else by computing it once, from ones."""
        node = operation.node
        if all(node.inputs):
            info = shape_of(node, operation.opset, [self.info(name) for name in node.inputs])
            if info is not None and info.size <= self.largest:
                return [info]
        arrays = {name: self.constants.get(name) for name in operation.reads}
        ones = sum(self.infos[name].size for name, array in arrays.items() if array is None)
        if self.memory is not None and ones > self.memory:
            expected = f"at least {ones:,} bytes, which the inputs of {node.op} {node.name!r} take"
            raise ArgumentValueError("memory", self.memory, expected)
        given = {
            name: np.ones(self.infos[name].shape, self.infos[name].dtype) if array is None else array
            for name, array in arrays.items()
        }
        with np.errstate(all="ignore"):
            left = None if self.memory is None else self.memory - ones
            results = self._run(node, [given[name] if name else None for name in node.inputs], left)
            return [Info(np.shape(array), np.asarray(array).dtype) for array in results]

    # -- for the rules ---------------------------------------------------------------------------------

    def info(self, name: str) -> Info:
        """Of a value, constant or not."""
        if name in self.constants:
            return Info(self.constants[name].shape, self.constants[name].dtype)
        return self.infos[name]

    def constant(self, inputs: Sequence[str], index: int) -> Array | None:
        """The constant at a place among `inputs`, or None."""
        return self.constants.get(inputs[index]) if index < len(inputs) else None

    def add(self, operation: Operation, info: Info | None = None) -> bool:
        """Put `operation` at the end; `info` of its result, where that is not known yet. False if that is too large."""
        if info is not None and info.size > self.largest:
            return False
        self.result.operations.append(operation)
        for name in operation.writes:
            self.makers[name] = operation
            if info is not None:
                self.infos[name] = info
        return True

    def open(self, name: str) -> Convolution | None:
        """The convolution whose sums `name` are, if nobody else uses them, and nothing comes after the sums yet."""
        maker = self.makers.get(name)
        if not isinstance(maker, Convolution) or self.uses[name] != 1 or maker.residual is not None:
            return None
        return maker if maker.problem.activation == "none" else None

    def extend(self, operation: Operation, node: Node) -> bool:
        """Let `operation` do `node` too, whose result it now gives."""
        (before,) = operation.writes
        name = node.outputs[0]
        operation.writes[0] = name
        operation.does += f" + {node.op}"
        operation.others.append(node.name)
        self.infos[name] = self.infos.pop(before)
        self.makers[name] = self.makers.pop(before)
        return True


RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
