"""A network that is called like a function and can be looked into."""

import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Array
from ..engine.planner import wisdom_state
from ..errors import ArgumentTypeError, ArgumentValueError, StarconvError
from .description import Layer, NetworkSummary, Row, layers_of, multiply_adds, trained
from .fields import Span, input_spans
from .graph import Graph, Node, Value
from .interpret import checked_inputs, interpret, refuse_unsupported, sizes_depend_on_data
from .operators import LARGEST, most_memory

if TYPE_CHECKING:
    from ..engine.program import Program

__all__ = ["UNSUITABLE", "Network"]

_MOST_PROGRAMS = 8
"""Compiled programs kept, each for other shapes of the inputs. Each has memory of its own."""
UNSUITABLE = (StarconvError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, NotImplementedError)
"""What keeps a graph from being compiled: something in it does not fit. The interpreter then says what, or runs it."""


class Network:
    """A network: called with arrays, by position or by name, it gives an array, or a tuple of several.

    Args:
        graph: what it computes.
        largest: bytes that one value inside may take; more is refused, because a small file can ask for any size.
        memory: bytes that all values may take at the same time, with inputs, results and scratch memory, without the
            weights; by default four times `largest` and at least 8 GiB, but no more than half of what the machine has
            or the process's control group allows.

    Attributes:
        graph: what it computes.
        layers: its layers by name, in the order in which they run.

    Raises:
        UnsupportedOperatorError: `graph` has operators that starconv has not; all are named.

    >>> from starconv.nets import Builder
    >>> builder = Builder("edges")
    >>> x = builder.input("x", np.float32, ("batch", 1, "height", "width"))
    >>> x = builder.add("Conv", x, builder.constant("edges.weight", np.ones((2, 1, 3, 3), "f")), name="edges")
    >>> network = Network(builder.graph(builder.add("Relu", x, name="relu")))
    >>> network
    Network('edges', x: float32 (batch, 1, height, width) -> relu: float32 (?), 2 layers, 18 parameters)
    >>> network(np.ones((1, 1, 5, 5), "float32")).shape
    (1, 2, 3, 3)
    >>> network.feature_maps(np.ones((1, 4, 4), "float32"), "edges").shape
    (2, 2, 2)
    """

    def __init__(self, graph: Graph, *, largest: int = LARGEST, memory: int | None = None) -> None:
        if not isinstance(graph, Graph):
            raise ArgumentTypeError("graph", graph, "a starconv.nets.Graph")
        for argument, limit in (("largest", largest), ("memory", 1 if memory is None else memory)):
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
                raise ArgumentTypeError(argument, limit, "an integer >= 1, in bytes")
        refuse_unsupported(graph.name, (node.op for node in graph.nodes))
        self.graph = graph
        self.largest = largest
        self.memory = most_memory(largest) if memory is None else memory
        self.layers: Mapping[str, Layer] = MappingProxyType(layers_of(graph))
        self._fixed = not sizes_depend_on_data(graph)
        self._programs: OrderedDict[tuple[tuple[int, ...], ...], Program | None] = OrderedDict()
        self._wisdom = wisdom_state()
        self._lock = Lock()

    @property
    def inputs(self) -> tuple[Value, ...]:
        """What it takes."""
        return self.graph.inputs

    @property
    def outputs(self) -> tuple[Value, ...]:
        """What it gives."""
        return self.graph.outputs

    @property
    def parameters(self) -> int:
        """Numbers in the arrays of floats that came with it, without running statistics; shared ones count once."""
        constants = self.graph.constants
        names = {name for node in self.graph.nodes for name in trained(node, constants)}
        return sum(constants[name].size for name in names)

    def __call__(self, /, *arrays: ArrayLike, **named: ArrayLike) -> Any:
        """The outputs for these inputs: an array, or a tuple where the network has several.

        Raises:
            ArgumentTypeError: too few or too many inputs, wrong names, an array of another dtype.
            ArgumentValueError: an array of another shape.
            NodeError: a layer that cannot work with what came in, or whose result is too large, which is named.

        The first call for inputs of other shapes compiles the network for them, which takes as long as some calls.
        """
        inputs = checked_inputs(self.graph, arrays, named)
        shapes = tuple(array.shape for array in inputs.values())
        if self.largest < LARGEST and shapes not in self._programs:
            # The compiler keeps to the operators' own limit. A tighter one is kept by interpreting the first call.
            values = self._values(inputs, _names(self.graph.outputs))
            self._compiled(shapes)
            return _one_or_all(values)
        program = self._compiled(shapes)
        if program is None:
            return _one_or_all(self._values(inputs, _names(self.graph.outputs)))
        return _one_or_all(list(program(*inputs.values())))

    def interpreted(self, /, *arrays: ArrayLike, **named: ArrayLike) -> Any:
        """The same, node by node as :func:`~starconv.nets.operators.run_node` defines each: slower, for comparison."""
        return _one_or_all(self._values(checked_inputs(self.graph, arrays, named), _names(self.graph.outputs)))

    def program(self, *input_shapes: Sequence[int]) -> "Program":
        """The network compiled for inputs of these shapes, as calls use it.

        Raises:
            ArgumentValueError: sizes inside that depend on the numbers in the inputs; such a network is interpreted.
                Others, where something in it does not fit.
        """
        from ..engine.program import compile_graph

        if not self._fixed:
            raise ArgumentValueError("network", self.graph.name, "sizes that the shapes of the inputs decide alone")
        with np.errstate(all="ignore"):  # what a network makes of infinities is its own business
            return compile_graph(self.graph, [tuple(shape) for shape in input_shapes], memory=self.memory)

    def run(self, /, *arrays: ArrayLike, upto: str | None = None, **named: ArrayLike) -> Any:
        """What layer `upto` gives (the whole network's outputs without it); later layers do not run.

        Args:
            arrays, named: the inputs, as in a call; one that is called "upto" itself by position.
            upto: a layer's name, else that of a value.

        Raises:
            ArgumentValueError: there is no such layer. Others as in a call.
        """
        if upto is None:
            return self(*arrays, **named)
        if not isinstance(upto, str) and "upto" in _names(self.graph.inputs):
            expected = "a layer's name; the input that is called so too is taken by position here, or in a call"
            raise ArgumentTypeError("upto", upto, expected)
        return _one_or_all(self._values(checked_inputs(self.graph, arrays, named), self._wanted(upto, "upto")))

    def feature_maps(self, picture: ArrayLike, layer: str | Sequence[str]) -> Any:
        """What `layer` finds in one picture, channel by channel; ``sc.view.feature_maps`` draws it.

        Args:
            picture: (C, H, W) or (1, C, H, W), prepared as the network wants it.
            layer: a layer's name, or several of them.

        Returns:
            (K, H', W'), or for several layers a dict by name.

        Raises:
            ArgumentValueError: no such layer, or more than one picture. Others as in a call.
        """
        if len(self.graph.inputs) != 1:
            raise ArgumentValueError("picture", picture, f"a network with one input; this one has {len(self.inputs)}")
        array = np.asarray(picture)
        if array.dtype == np.float64 and not isinstance(picture, np.ndarray):
            array = array.astype(self.graph.inputs[0].dtype)
        shape = self.graph.inputs[0].shape
        if array.ndim == (4 if shape is None else len(shape)) - 1:
            array = array[np.newaxis]
        if not array.ndim or len(array) != 1:
            raise ArgumentValueError("picture", picture, "one picture, (C, H, W) or (1, C, H, W)")
        if not isinstance(layer, (str, Sequence)):
            raise ArgumentTypeError("layer", layer, "a layer's name, or several")
        names = [layer] if isinstance(layer, str) else list(layer)
        wanted = [self._wanted(name)[0] for name in names]
        values = self._values(checked_inputs(self.graph, [array], {}), wanted)
        maps = {name: value[0] if value.ndim > 1 else value for name, value in zip(names, values, strict=True)}
        return maps[layer] if isinstance(layer, str) else maps

    def receptive_field(
        self, layer: str, input_shape: Sequence[int] | None = None, at: Sequence[int] | None = None
    ) -> tuple[Span, ...]:
        """The input elements that one unit of `layer` depends on: per spatial axis the first and the last one.

        Where they lie outside of the input, they are padding.

        Args:
            layer: a layer's name.
            input_shape: (N, C, H, W) or what the network takes; not needed where the network fixes it.
            at: the unit's place (i, j), by default in the middle.

        Raises:
            ArgumentValueError: no such layer, one without spatial axes, a place outside of it.
        """
        (wanted, *_) = self._wanted(layer)
        shapes = self._shapes(self._zeros(input_shape), [wanted])
        return input_spans(self.graph, shapes, wanted, at)

    def summary(self, *input_shapes: Sequence[int]) -> NetworkSummary:
        """Shapes, parameters and multiply-adds per layer, for inputs of these shapes.

        A shape is not needed where the network fixes it; a free batch size is 1 without one.

        Raises:
            ArgumentValueError: sizes that the network does not fix are missing, or do not fit.

        >>> from starconv import nets, nn
        >>> print(nets.from_nn(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), (1, 8, 8)).summary())
        layer          output  parameters  multiply-adds
        0 Conv  1 x 4 x 6 x 6          40          1 296
        1 Relu  1 x 4 x 6 x 6           0              0
        x 1 x 1 x 8 x 8: 40 parameters, 1 296 multiply-adds
        """
        return self._summary(self._zeros(*input_shapes), timed=False)

    def profile(self, /, *arrays: ArrayLike, **named: ArrayLike) -> NetworkSummary:
        """The seconds that each step of a call takes, the least of several calls.

        A step is what the compiled network does at once, as "Conv + Add + Relu (direct)"; of a network that is
        interpreted, a layer.
        """
        inputs = checked_inputs(self.graph, arrays, named)
        program = self._compiled(tuple(array.shape for array in inputs.values()))
        if program is None:
            self._values(inputs, _names(self.graph.outputs))  # plans are made and kernels compiled the first time
            return self._summary(inputs, timed=True)
        rows = [
            Row(
                timing.name,
                f"{timing.does} ({timing.by})",
                program.lowered.infos[operation.writes[-1]].shape,
                sum(self.layers[name].parameters for name in operation.names if name in self.layers),
                timing.multiply_adds,
                timing.seconds,
            )
            for operation, timing in zip(program.operations, program.profile(*inputs.values()), strict=True)
        ]
        given = tuple((name, array.shape) for name, array in inputs.items())
        return NetworkSummary(self.graph.name, given, tuple(rows), self.parameters)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network to `path` as an ONNX file, completely or not at all.

        Raises:
            MissingPackageError: the package onnx is not there. OSError: the file cannot be written.
        """
        from .onnx import save

        save(self.graph, path)

    def __reduce__(self) -> tuple[object, ...]:
        # Programs stay behind: they are addresses of this process. So does a limit that is this machine's.
        return _restored, (self.graph, self.largest, None if self.memory == most_memory(self.largest) else self.memory)

    def __repr__(self) -> str:
        ends = [", ".join(map(str, values)) for values in (self.graph.inputs, self.graph.outputs)]
        return (
            f"{type(self).__name__}({self.graph.name!r}, {ends[0]} -> {ends[1]}, "
            f"{len(self.layers)} layers, {self.parameters} parameters)"
        )

    # Inside

    def _compiled(self, shapes: tuple[tuple[int, ...], ...]) -> "Program | None":
        """The program for inputs of `shapes`, made the first time; None where there can be none."""
        programs = self._programs
        with self._lock:
            if self._wisdom != wisdom_state():  # this process measured something: what it plans now may be quicker
                self._wisdom = wisdom_state()
                programs.clear()
            if shapes not in programs:
                try:
                    programs[shapes] = self.program(*shapes) if self._fixed else None
                except UNSUITABLE:
                    programs[shapes] = None
                # Each keeps its memory, and all of them together no more than one may take.
                while len(programs) > _MOST_PROGRAMS or (
                    len(programs) > 1 and sum(kept.bytes for kept in programs.values() if kept) > self.memory
                ):
                    programs.popitem(last=False)
            programs.move_to_end(shapes)
            return programs[shapes]

    def _values(self, inputs: Mapping[str, Array], wanted: Sequence[str]) -> list[Array]:
        return interpret(self.graph, inputs, wanted, largest=self.largest, memory=self.memory)

    def _wanted(self, name: str, argument: str = "layer") -> list[str]:
        """The values that a name stands for: a layer's outputs, or one value."""
        if not isinstance(name, str):
            raise ArgumentTypeError(argument, name, "a layer's name")
        if name in self.layers:
            return [output for output in self.layers[name].node.outputs if output]
        known = {value.name for value in self.graph.inputs} | self.graph.producers().keys()
        if name in known:
            return [name]
        raise ArgumentValueError(argument, name, f"one of the layers {_likely(name, list(self.layers))}")

    def _zeros(self, *input_shapes: Sequence[int] | None) -> dict[str, Array]:
        """Inputs of these shapes, of those that the graph fixes where there is none."""
        given = [shape for shape in input_shapes if shape is not None]
        if len(given) > len(self.graph.inputs):
            raise ArgumentValueError("input_shapes", given, f"at most {len(self.graph.inputs)}, one per input")
        arrays: list[Array] = []
        left = self.memory
        for number, value in enumerate(self.graph.inputs):
            if number < len(given):
                if not isinstance(given[number], Sequence):
                    raise ArgumentTypeError("input_shape", given[number], "a shape such as (1, 3, 224, 224)")
                shape: tuple[Any, ...] = tuple(given[number])
                if value.shape is not None and len(shape) == len(value.shape) - 1:
                    shape = (1, *shape)
            elif value.shape is None or any(not isinstance(size, int) for size in value.shape[1:]):
                raise ArgumentValueError("input_shape", None, f"a shape for {value}, which is not fixed")
            else:
                shape = tuple(size if isinstance(size, int) else 1 for size in value.shape)
            if not all(isinstance(size, (int, np.integer)) and size >= 0 for size in shape):
                raise ArgumentValueError("input_shape", shape, "integers >= 0")
            size = math.prod(map(int, shape)) * value.dtype.itemsize
            if size > self.largest or size > left:
                told = f"{self.largest:,} bytes, which is what a value may take"
                if size <= self.largest:
                    told = f"{left:,} bytes, which is what other inputs leave of {self.memory:,} (argument memory)"
                raise ArgumentValueError("input_shape", shape, f"an input of at most {told}")
            left -= size
            arrays.append(np.zeros(shape, value.dtype))
        return checked_inputs(self.graph, arrays, {})

    def _shapes(self, inputs: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The shapes of all values that `wanted` depend on."""
        shapes = {name: array.shape for name, array in {**self.graph.constants, **inputs}.items()}

        def observe(node: Node, outputs: list[Array], seconds: float) -> None:
            shapes.update((name, output.shape) for name, output in zip(node.outputs, outputs, strict=True))

        interpret(self.graph, inputs, wanted, largest=self.largest, memory=self.memory, observe=observe)
        return shapes

    def _summary(self, inputs: Mapping[str, Array], *, timed: bool) -> NetworkSummary:
        shapes = {name: array.shape for name, array in {**self.graph.constants, **inputs}.items()}
        rows: list[Row] = []
        counted: set[str] = set()

        def observe(node: Node, outputs: list[Array], seconds: float) -> None:
            shapes.update((name, output.shape) for name, output in zip(node.outputs, outputs, strict=True))
            # Weights that two layers share are counted where they are first used.
            own = [name for name in trained(node, self.graph.constants) if name not in counted]
            counted.update(own)
            rows.append(
                Row(
                    node.name,
                    node.op,
                    outputs[0].shape,
                    sum(self.graph.constants[name].size for name in own),
                    multiply_adds(node, [shapes.get(name, ()) for name in node.inputs], outputs[0].shape),
                    seconds if timed else None,
                )
            )

        wanted = _names(self.graph.outputs)
        interpret(self.graph, inputs, wanted, largest=self.largest, memory=self.memory, observe=observe)
        given = tuple((name, array.shape) for name, array in inputs.items())
        return NetworkSummary(self.graph.name, given, tuple(rows), sum(row.parameters for row in rows))


def _restored(graph: Graph, largest: int, memory: int | None) -> Network:
    return Network(graph, largest=largest, memory=memory)


def _names(values: Sequence[Value]) -> list[str]:
    return [value.name for value in values]


def _one_or_all(values: list[Array]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def _likely(name: str, known: list[str]) -> str:
    """The names that are most like `name`, or the first ones."""
    from difflib import get_close_matches

    shown = get_close_matches(name, known, n=8, cutoff=0.4) or known[:8]
    return ", ".join(repr(entry) for entry in shown) + (", ..." if len(known) > len(shown) else "")
