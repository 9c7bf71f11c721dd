"""Running a graph node by node, and checking what a caller hands in: the reference that programs are tested against."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arguments import Array
from ..errors import ArgumentTypeError, ArgumentValueError, StarconvError
from .graph import Graph, Node, Value
from .operators import LARGEST, SUPPORTED, most_memory, run_node

__all__ = [
    "UnsupportedOperatorError",
    "check_shape",
    "checked_inputs",
    "interpret",
    "refuse_unsupported",
    "sizes_depend_on_data",
]


class UnsupportedOperatorError(StarconvError, NotImplementedError):
    """A network with operators that starconv has not; all of them are named.

    Attributes:
        operators: their names, each with how often the network uses it.
    """

    def __init__(self, network: str, operators: Mapping[str, int]) -> None:
        self.network, self.operators = network, dict(operators)
        listed = ", ".join(f"{op} ({count} times)" if count > 1 else op for op, count in sorted(operators.items()))
        super().__init__(f"{network}: starconv has not all of its operators; missing are {listed}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.network, self.operators)


def refuse_unsupported(network: str, operators: Iterable[str]) -> None:
    """Raise one error that names everything that is missing, if anything is."""
    missing: dict[str, int] = {}
    for op in operators:
        if op not in SUPPORTED:
            missing[op] = missing.get(op, 0) + 1
    if missing:
        raise UnsupportedOperatorError(network, missing)


def checked_inputs(graph: Graph, arrays: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Array]:
    """What a caller handed in, by the names of the graph's inputs.

    Raises:
        ArgumentTypeError: another number of arrays, a name that is none, an array of another dtype.
        ArgumentValueError: an array of another shape, or two arrays that differ in a size that has one name.
    """
    names = [value.name for value in graph.inputs]
    if len(arrays) > len(names):
        raise ArgumentTypeError("arrays", f"{len(arrays)} by position", _expected(graph))
    given = dict(zip(names, arrays, strict=False))
    for name, array in named.items():
        if name not in names or name in given:
            raise ArgumentTypeError(name, array, _expected(graph) + (", each once" if name in given else ""))
        given[name] = array
    missing = [name for name in names if name not in given]
    if missing:
        raise ArgumentTypeError("arrays", f"nothing for {', '.join(missing)}", _expected(graph))
    sizes: dict[str, int] = {}
    return {value.name: _checked(value, given[value.name], sizes) for value in graph.inputs}


def _expected(graph: Graph) -> str:
    """What a caller should hand in, for errors: it takes longer to say than to check."""
    return "the inputs " + "; ".join(map(str, graph.inputs)) if graph.inputs else "no inputs"


def _checked(value: Value, given: Any, sizes: dict[str, int]) -> Array:
    if isinstance(given, np.ndarray):
        array = given
    else:
        try:
            array = np.asarray(given)
            # Lists have no dtype of their own; whole numbers and fractions fit a network of floats.
            if np.can_cast(array.dtype, value.dtype, "same_kind") or (array.dtype.kind in "iu" and array.size == 0):
                array = array.astype(value.dtype)
        except ValueError as error:
            raise ArgumentValueError(value.name, given, f"{value} ({error})") from None
    if array.dtype != value.dtype:
        raise ArgumentTypeError(value.name, array, f"{value}; array.astype({value.dtype.name!r}) makes one")
    check_shape(value, array.shape, sizes, value.name, array)
    return array


def check_shape(value: Value, shape: Sequence[int | None], sizes: dict[str, int], argument: str, shown: object) -> None:
    """Raise unless `value` takes such a shape, in which None is a size that is not known.

    Args:
        value: an input of a network.
        shape: what is given.
        sizes: what inputs before it say of sizes with a name; what this one says is added.
        argument, shown: the name and the value in an error.
    """
    if value.shape is None:
        return
    if len(shape) != len(value.shape):
        raise ArgumentValueError(argument, shown, f"{value}, {len(value.shape)} axes")
    for length, size in zip(shape, value.shape, strict=True):
        if length is None:
            continue
        known = sizes.setdefault(size, length) if isinstance(size, str) else size
        if known is not None and length != known:
            said = f"; {size} is {known} elsewhere" if isinstance(size, str) else ""
            raise ArgumentValueError(argument, shown, f"{value}{said}")


def interpret(
    graph: Graph,
    inputs: Mapping[str, Array],
    wanted: Sequence[str],
    *,
    largest: int = LARGEST,
    memory: int | None = None,
    observe: Callable[[Node, list[Array], float], None] | None = None,
) -> list[Array]:
    """The values `wanted`, computed node by node; a value is let go after its last use.

    Args:
        graph: the network.
        inputs: all of its inputs by name, checked.
        wanted: names of values.
        largest: bytes that one value may take.
        memory: bytes that all values may take at the same time, `inputs` and results included and each counted whole,
            as if none were a view of another; :func:`~starconv.nets.operators.most_memory` without it.
        observe: told of every node, its outputs and the seconds that it took.

    Raises:
        NodeError: a node that cannot work with what came in, or whose result would be too much.
        ArgumentValueError: results that are too much.
    """
    memory = most_memory() if memory is None else memory
    nodes = graph.upto(wanted)
    uses: dict[str, int] = dict.fromkeys(wanted, 1)
    for node in nodes:
        for name in node.inputs:
            uses[name] = uses.get(name, 0) + 1
    values: dict[str, Array] = dict(inputs)
    taken = sum(array.nbytes for array in inputs.values())  # by inputs all the while: the caller has them
    sizes: dict[str, int] = {}  # of the values that nodes gave and that are still needed

    def use(name: str) -> Array | None:
        if not name:
            return None
        found = graph.constants.get(name)
        if found is None:
            found = values[name]
            uses[name] -= 1
            if not uses[name]:
                del values[name]
        return found

    for node in nodes:
        given = [use(name) for name in node.inputs]
        start = time.perf_counter()
        outputs = run_node(node, given, graph.opset, largest=largest, left=memory - taken)
        seconds = time.perf_counter() - start
        if observe is not None:
            observe(node, outputs, seconds)
        del given
        for name, output in zip(node.outputs, outputs, strict=True):
            if uses.get(name):
                values[name], sizes[name] = output, output.nbytes
                taken += output.nbytes
        taken -= sum(sizes.pop(name) for name in {*node.inputs} if name in sizes and name not in values)
    others = [*inputs.values(), *graph.constants.values()]
    results = []
    for name in wanted:
        result = graph.constants.get(name, values.get(name))
        assert result is not None
        if _is_shared(result, others):
            taken += result.nbytes
            if taken > memory:
                expected = f"results that take at most {memory:,} bytes with all that is there (argument memory)"
                raise ArgumentValueError("outputs", len(wanted), expected)
            result = result.copy()
        results.append(result)
    return results


_SIZES = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "MaxUnpool": (2,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""Inputs, by their places, whose numbers decide the shape of the result; of all reductions it is the second."""


def sizes_depend_on_data(graph: Graph) -> bool:
    """Whether a shape inside is decided by more than the shapes of the inputs, so that it differs from call to call."""
    known = set(graph.constants)
    for node in graph.nodes:
        if node.op in ("Shape", "Size") or all(name in known for name in node.inputs if name):
            known.update(node.outputs)
            continue
        places = (1,) if node.op.startswith("Reduce") else _SIZES.get(node.op, ())
        deciding = [node.inputs[place] for place in places if place < len(node.inputs)]
        if node.op in ("NonZero", "Compress") or any(name and name not in known for name in deciding):
            return True
    return False


def _is_shared(result: Array, others: Sequence[Array]) -> bool:
    """Whether `result` shares memory with `others`, the caller's arrays and the network's weights, or with itself."""
    return not result.flags.writeable or any(np.may_share_memory(result, array) for array in others)
