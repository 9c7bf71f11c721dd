"""A network compiled for inputs of fixed shapes: one call into compiled code per stretch of layers, no memory made.

`lowering` makes operations of the graph's nodes. Here it is decided where their values lie:

* the layout of pictures, channels first or last, for all of them alike: whichever the planner predicts to be faster;
* values that are views of others (Reshape, Flatten, Transpose, Slice, Split) take no step and no memory, and what is
  to be concatenated is written side by side at once, where that is possible;
* all other values share one block of memory, in which those that are never needed together may share a place;
* several pictures go one by one through layers that move more than the caches hold (`chains`), and some pairs of
  layers band by band (`bands`).

A *context* is that block with the jobs of all operations, their addresses filled in. A call takes a context that is not
in use (or makes one), writes the addresses of its inputs and results into the jobs that read and write these, and runs.
So calls from several threads do not disturb each other.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentTypeError, ArgumentValueError
from ..nets.graph import Graph
from .bands import band_layers, most_between
from .chains import find_chains, most_moved
from .descriptor import address_of
from .emit.target import host_target
from .layouts import Place, Places, choose_layout, place_values
from .lowering import LARGEST, Lowered, lower
from .operations import Chain, Convolution, Operation
from .plan import Plan
from .runtime import memory, threads
from .runtime.jobs import Job, JobList

__all__ = ["Program", "Timing", "compile_graph"]

Array = NDArray[Any]


class Timing(NamedTuple):
    """One step of a program: the nodes' first name, their operators, by what they are done, seconds, multiply-adds."""

    name: str
    does: str
    by: str
    seconds: float
    multiply_adds: int


def compile_graph(
    graph: Graph,
    shapes: Sequence[Sequence[int]],
    *,
    layout: str | None = None,
    largest: int = LARGEST,
    memory: int | None = None,
    together: int | None = None,
    between: int | None = None,
) -> "Program":
    """A program that computes `graph` for inputs of `shapes`, in the order of the graph's inputs.

    `layout` ("first" or "last") says where the channels of pictures lie in between, if it is not to be chosen,
    `largest` how many bytes one value may take, `memory` how many all that a call needs (values, inputs, results and
    scratch memory) if there is a limit, `together` how many a layer may move before its pictures go one by one,
    and `between` how many may lie between two layers before they are computed band by band.

    Raises:
        ArgumentValueError: shapes that do not fit the graph, or a call that needs more memory.
        NodeError: a node that cannot work with what comes in, or would give a larger value.
    """
    if len(shapes) != len(graph.inputs):
        raise ArgumentValueError("shapes", shapes, f"{len(graph.inputs)} shapes, one per input of {graph.name}")
    for value, shape in zip(graph.inputs, shapes, strict=True):
        fits = value.shape is None or len(shape) == len(value.shape)
        if fits and value.shape is not None:
            fits = all(not isinstance(own, int) or own == size for own, size in zip(value.shape, shape, strict=True))
        if not fits:
            raise ArgumentValueError("shapes", shapes, f"a shape for {value}")
    lowered = lower(graph, [tuple(int(size) for size in shape) for shape in shapes], largest, memory)
    find_chains(lowered, most_moved(host_target()) if together is None else together)
    last = choose_layout(lowered, layout)
    before = _prepared.setdefault(graph, {})
    layers = [operation for operation in lowered.operations if isinstance(operation, Convolution)]
    plans = [layer.plan(last=last[layer.reads[0]], out_last=last[layer.writes[0]]) for layer in layers]
    _prepare(sorted(zip(layers, plans, strict=True), key=lambda pair: -pair[0].weights.size), before)
    band_layers(lowered, most_between(host_target()) if between is None else between)
    program = Program(lowered, place_values(lowered, last))
    if memory is not None:
        # Nothing of it is there before the call: pages that nobody has written to are only promised.
        needed = program.places.call_bytes
        if needed <= memory:
            needed += program.ready().extra_bytes
        if needed > memory:
            raise ArgumentValueError("memory", memory, f"at least {needed:,} bytes for a call of {graph.name}")
    return program


def _prepare(layers: Sequence[tuple[Convolution, Plan]], before: dict[str, Convolution]) -> None:
    """Put the weights of `layers` in place, the largest first.

    What preparing takes besides its result is small in the end then, when all results are there. Weights that are to be
    multiplied are written to a room that serves layer after layer, until a smaller one is to be had: blocks of their
    own, freed one by one, stay with the C library, which was 20 MB of ResNet-18's 214.
    """
    room = None
    for layer, plan in layers:
        size = layer.weights.nbytes  # may rise, from float32 to float64
        if layer.factor is not None and (room is None or not size <= room.size < 2 * size):
            room = np.empty(size, np.uint8)
        layer.prepare(plan, before.setdefault(layer.name, layer), room)


_prepared: "WeakKeyDictionary[Graph, dict[str, Convolution]]" = WeakKeyDictionary()
"""The layers of a graph, by name, as its first program has them: those for other sizes share what they can."""


class Program:
    """A compiled network; see the module's text. Call it with arrays of the shapes that it was compiled for.

    Attributes:
        operations: what it does, in order.
        bytes: of the memory that one call at a time needs, without its inputs and results.
    """

    def __init__(self, lowered: Lowered, places: Places) -> None:
        self.lowered, self.places = lowered, places
        self.operations: tuple[Operation, ...] = tuple(places.operations)
        self.bytes = places.bytes
        self.chains: dict[Operation, Chain] = {
            operation: chain for chain in lowered.chains for operation in chain.operations
        }
        self._spare: dict[int, list[_Context]] = {}

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """The graph's outputs, new arrays, for its inputs.

        Raises:
            ArgumentTypeError, ArgumentValueError: a number of arrays, a dtype or a shape that it was not compiled for.
        """
        given = self._checked(arrays)
        spare = self._spare.setdefault(threads.get_num_threads(), [])
        # list.pop and append are atomic: no two threads get the same context, and nobody waits.
        try:
            context = spare.pop()
        except IndexError:
            context = _Context(self)
        try:
            return context.run(given)
        finally:
            if len(spare) < MOST_SPARE:
                spare.append(context)

    def ready(self) -> "_Context":
        """The context of the next call, made now."""
        context = _Context(self)
        self._spare.setdefault(threads.get_num_threads(), []).append(context)
        return context

    def profile(self, *arrays: Array, repeats: int = 10) -> list[Timing]:
        """The least time of `repeats` for each step of a call with `arrays`, in order."""
        given = self._checked(arrays)
        context = _Context(self)
        context.run(given)
        return context.profile(given, repeats)

    def multiply_adds(self, operation: Operation) -> int:
        """Products of the definition, for all pictures."""
        chain = self.chains.get(operation)
        return operation.macs * (1 if chain is None else chain.pictures)

    def _checked(self, arrays: Sequence[Array]) -> list[Array]:
        inputs = self.lowered.graph.inputs
        if len(arrays) != len(inputs):
            raise ArgumentValueError("arrays", len(arrays), f"{len(inputs)} arrays, one per input")
        given = []
        for value, array in zip(inputs, arrays, strict=True):
            info = self.lowered.infos[value.name]
            if not isinstance(array, np.ndarray) or array.dtype != info.dtype:
                raise ArgumentTypeError(value.name, array, f"an array of {info.dtype}")
            if array.shape != info.shape:
                raise ArgumentValueError(value.name, array, f"shape {info.shape}, for which this was compiled")
            given.append(array if array.flags.c_contiguous and array.flags.aligned else array.copy(order="C"))
        return given

    def __repr__(self) -> str:
        return f"<Program {self.lowered.graph.name}: {len(self.operations)} steps, {self.bytes:,} bytes>"


MOST_SPARE = 4
"""Contexts kept for later calls, as many as have been in use at a time; each holds the program's memory."""


class _Patch(NamedTuple):
    """A field of a job that holds an address inside an input or a result."""

    block: Any
    slot: int
    offset: int


class _Step(NamedTuple):
    """An operation, the `number`-th of its program, on all pictures or on one; `jobs` are None where it must be run."""

    operation: Operation
    number: int
    picture: int | None
    jobs: list[Job] | None

    def run(self, arrays: Mapping[str, Array], constants: Mapping[str, Array]) -> None:
        """Do it now."""
        self.operation.run(_of_picture(self.operation, self.picture, arrays, constants))


def _of_picture(
    operation: Operation, picture: int | None, arrays: Mapping[str, Array], constants: Mapping[str, Array]
) -> Mapping[str, Array]:
    """`arrays` as an operation sees them that works on one picture: of those that hold several only that one."""
    if picture is None:
        return arrays
    several = [
        name for name in (*operation.reads, *operation.writes) if name not in constants and len(arrays[name]) > 1
    ]
    return {**arrays, **{name: arrays[name][picture : picture + 1] for name in several}}


class _Context:
    """Memory and jobs for one call at a time."""

    def __init__(self, program: Program) -> None:
        self.places = places = program.places
        self.program = program
        self.arena = memory.aligned_empty(max(places.bytes, 1), np.uint8)
        # Inputs and results come with each call. Until then something of the same form stands for each.
        self.outside = {name: places.roots[name].empty() for name in places.outside}
        self.arrays: dict[str, Array] = dict(program.lowered.constants)
        for name, place in places.values.items():
            self.arrays[name] = self._array(place)
        self.patches: dict[str, list[_Patch]] = {name: [] for name in self.outside}
        self.moving = [name for name, place in places.values.items() if place.root in self.outside]
        self.steps = list(self._steps())
        self.scratch = memory.Scratch(
            max((job.scratch for step in self.steps for job in step.jobs or ()), default=0) or 1
        )
        self.stretches: list[JobList | _Step] = []
        waiting: list[Job] = []
        for step in self.steps:
            if step.jobs is not None:
                waiting += step.jobs
                continue
            self._flush(waiting)
            self.stretches.append(step)
        self._flush(waiting)
        for step in self.steps:
            for job in step.jobs or ():
                self._find_patches(job)
        self._detach()

    @property
    def extra_bytes(self) -> int:
        """What a call takes beside values: scratch memory, or the results of a step in Python until they are copied."""
        infos = self.program.lowered.infos
        in_python = [step.operation for step in self.steps if step.jobs is None]
        copied = (sum(infos[name].size for name in operation.writes if name in infos) for operation in in_python)
        return max(self.scratch.size, *copied, 0)

    def _steps(self) -> Iterator[_Step]:
        """In the order in which they are done."""
        program, constants = self.program, self.program.lowered.constants
        numbered = enumerate(program.operations)
        for chain, pairs in groupby(numbered, key=lambda pair: program.chains.get(pair[1])):
            operations = list(pairs)
            for picture in (None,) if chain is None else range(chain.pictures):
                for number, operation in operations:
                    jobs = operation.jobs(_of_picture(operation, picture, self.arrays, constants))
                    yield _Step(operation, number, picture, jobs)

    def _flush(self, waiting: list[Job]) -> None:
        if waiting:
            self.stretches.append(JobList(waiting, self.scratch))
            waiting.clear()

    def _array(self, place: Place) -> Array:
        root = self.outside.get(place.root)
        if root is not None:
            return place.at(self.places.roots[place.root].bytes_of(root), 0)
        return place.at(self.arena, self.places.offsets[place.root])

    def _find_patches(self, job: Job) -> None:
        for slot in job.arrays:
            for name, array in self.outside.items():
                first = address_of(array)
                if first <= job.block[slot] < first + max(array.nbytes, 1):
                    self.patches[name].append(_Patch(job.block, slot, job.block[slot] - first))

    def _attach(self, given: Sequence[Array]) -> None:
        """Let inputs and new arrays for the results take their places."""
        places = self.places
        for name, array in zip(places.inputs, given, strict=True):
            self.outside[name] = array
        for name in places.results:
            self.outside[name] = places.roots[name].empty()
        for name, patches in self.patches.items():
            address = address_of(self.outside[name])
            for patch in patches:
                patch.block[patch.slot] = address + patch.offset
        for name in self.moving:
            self.arrays[name] = self._array(places.values[name])

    def _detach(self) -> None:
        """Let go of the caller's arrays: they may be large, and this may not be used again for long."""
        self.outside.clear()
        for name in self.moving:
            del self.arrays[name]

    def _results(self) -> tuple[Array, ...]:
        arrays, places = self.arrays, self.places
        fresh: set[str] = set()
        results = []
        for name in places.outputs:
            root = places.values[name].root if name in places.values else ""
            if root in places.results and root not in fresh:
                fresh.add(root)
                results.append(arrays[name])
            else:
                results.append(np.array(arrays[name], order="C"))
        return tuple(results)

    def run(self, given: Sequence[Array]) -> tuple[Array, ...]:
        """One call."""
        self._attach(given)
        try:
            for stretch in self.stretches:
                if isinstance(stretch, JobList):
                    stretch.run()
                else:
                    stretch.run(self.arrays, self.program.lowered.constants)
            return self._results()
        finally:
            self._detach()

    def profile(self, given: Sequence[Array], repeats: int) -> list[Timing]:
        """Operation by operation, timed; of those that are done for one picture at a time, all pictures together."""
        program = self.program
        least = [float("inf")] * len(program.operations)
        native = [False] * len(least)
        for _ in range(repeats):
            seconds = [0.0] * len(least)
            self._attach(given)
            stretches = iter(self.stretches)
            current: JobList | _Step | None = None
            done = 0
            for step in self.steps:
                if step.jobs is None:
                    current = next(stretches)
                    start = time.perf_counter()
                    step.run(self.arrays, program.lowered.constants)
                else:
                    native[step.number] = True
                    if not isinstance(current, JobList) or done == len(current):
                        current, done = next(stretches) if step.jobs else current, 0
                    start = time.perf_counter()
                    if step.jobs:
                        assert isinstance(current, JobList)
                        current.run_some(done, done + len(step.jobs))
                        done += len(step.jobs)
                seconds[step.number] += time.perf_counter() - start
            self._detach()
            least = [min(pair) for pair in zip(least, seconds, strict=True)]
        return [
            Timing(
                operation.name,
                operation.does,
                operation.how() if native[number] else "python",
                least[number],
                program.multiply_adds(operation),
            )
            for number, operation in enumerate(program.operations)
        ]
