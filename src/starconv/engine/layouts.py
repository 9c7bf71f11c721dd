"""Where the values of a program lie: which way round pictures are, what is a view of what, and the rest in memory."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .lowering import Lowered
from .operations import ELEMENT_BY_ELEMENT, Convolution, Info, Interpreted, Operation, Product
from .placing import Lifetime, placed

__all__ = ["Place", "Places", "Root", "choose_layout", "place_values"]

Array = NDArray[Any]


# -- the layout of pictures -----------------------------------------------------------------------------------


def choose_layout(lowered: Lowered, layout: str | None) -> dict[str, bool]:
    """For every value whether its channels lie last in memory: throughout, unless nowhere is clearly quicker.

    Clearly, because the predictions favour channels first: MobileNet-V2, SqueezeNet and ResNet-18 were predicted to
    take 1.13, 0.98 and 1.00 times as long that way, and take 1.27, 1.21 and 1.01 times as long. Networks of many
    channels are not even asked: a prediction takes a millisecond per layer.
    """
    if layout is None and _has_many_channels(lowered):
        layout = "last"
    ways = [_layout(lowered, last=last) for last in (False, True) if layout in (None, "last" if last else "first")]
    if len(ways) == 1 or ways[0] == ways[1]:
        return ways[0]
    first, last = ways
    return first if _seconds(lowered, first) < 0.9 * _seconds(lowered, last) else last


def _has_many_channels(lowered: Lowered) -> bool:
    """Whether most of the work is in layers that fill vectors with channels."""
    work = [operation.problem for operation in lowered.operations if isinstance(operation, Convolution)]
    wide = [problem for problem in work if min(problem.in_channels, problem.out_channels) >= MANY_CHANNELS]
    return sum(problem.multiply_adds for problem in wide) > 0.8 * sum(problem.multiply_adds for problem in work)


MANY_CHANNELS = 16


def _layout(lowered: Lowered, *, last: bool) -> dict[str, bool]:
    """What comes in and goes out has its channels first; else convolutions write them as `last` says."""
    way = dict.fromkeys([*lowered.infos, *lowered.constants], False)
    for operation in lowered.operations:
        source = operation.reads[0] if operation.reads else ""
        for name in operation.writes:
            axes = len(lowered.infos[name].shape) if name in lowered.infos else 0
            if axes < 3 or name in lowered.outputs:
                continue
            if isinstance(operation, Convolution):
                way[name] = last and not isinstance(operation, Product)
            elif source in lowered.infos and len(lowered.infos[source].shape) == axes:
                way[name] = way[source]
    return way


def _seconds(lowered: Lowered, way: dict[str, bool]) -> float:
    total = 0.0
    for operation in lowered.operations:
        if isinstance(operation, Convolution):
            total += operation.predicted(last=way[operation.reads[0]], out_last=way[operation.writes[0]])
    return total


# -- places ---------------------------------------------------------------------------------------------------


class Root(NamedTuple):
    """The form of a piece of memory of its own: an array of `info`, whose channels lie last or where they are."""

    info: Info
    last: bool

    def empty(self) -> Array:
        """A new array of this form."""
        shape, dtype = self.info.shape, self.info.dtype
        if self.last:
            return np.moveaxis(np.empty((shape[0], *shape[2:], shape[1]), dtype), -1, 1)
        return np.empty(shape, dtype)

    def bytes_of(self, array: Array) -> Array:
        """The memory of an array of this form, a view."""
        return (np.moveaxis(array, 1, -1) if self.last else array).reshape(-1).view(np.uint8)


class Place(NamedTuple):
    """Where a value lies in a root: bytes from the root's start to its first element, and its steps."""

    root: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    def at(self, block: Array, offset: int) -> Array:
        """The value in a block of bytes in which the root begins at `offset`."""
        return np.ndarray(self.shape, self.dtype, block, offset + self.offset, self.strides)


class Places(NamedTuple):
    """What `place_values` decided.

    Attributes:
        operations: those that are left to do.
        values: the place of every value that is no constant.
        roots: the form of every root.
        offsets: where in the block the roots lie that are in it; `bytes` is its size.
        inputs, results: roots that come with a call, and roots that are new with each call.
        outputs: the names of the values to be handed out.
        call_bytes: of all that a call takes: the block, inputs, results, and constants that were made for it.
    """

    operations: list[Operation]
    values: dict[str, Place]
    roots: dict[str, Root]
    offsets: dict[str, int]
    bytes: int
    inputs: list[str]
    results: list[str]
    outputs: list[str]
    call_bytes: int

    @property
    def outside(self) -> list[str]:
        """Roots that are not in the block."""
        return [*self.inputs, *self.results]


VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split"})
"""Operators whose results may be other views of their input's memory."""


def place_values(lowered: Lowered, last: dict[str, bool]) -> Places:
    """Find views, write what is concatenated in place, and give every other value its place in the block."""
    return _Placing(lowered, last).places()


class _Placing:
    def __init__(self, lowered: Lowered, last: dict[str, bool]) -> None:
        self.lowered, self.last = lowered, last
        inner = {name for chain in lowered.chains for name in chain.inner}
        self.infos = {name: info.of_one if name in inner else info for name, info in lowered.infos.items()}
        self.roots: dict[str, Root] = {}
        self.ghosts: dict[str, Array] = {}  # arrays of the right form, whose contents nobody looks at
        self.inside: dict[str, tuple[str, tuple[slice, ...]]] = {}  # values that are parts of a concatenation
        self.origins: dict[str, str] = {}  # the root of each value
        self.operations: list[Operation] = []
        self.last_use = {name: step for step, each in enumerate(lowered.operations) for name in each.reads}
        self.last_use |= dict.fromkeys(lowered.outputs, len(lowered.operations))

    def places(self) -> Places:
        lowered = self.lowered
        inputs = lowered.inputs
        self._find_parts()
        for name in inputs:
            self._new_root(name)
        for step, operation in enumerate(lowered.operations):
            self._place(operation, step)
        first: dict[str, int] = {}
        end: dict[str, int] = {}
        for step, operation in enumerate(self.operations):
            for name in (*operation.writes, *operation.reads):
                root = self.origins.get(name)
                if root is not None:
                    first.setdefault(root, step)
                    end[root] = step
        for name in lowered.outputs:
            if name in self.origins:
                end[self.origins[name]] = len(self.operations)
        self._keep_through_chains(first, end)
        results: list[str] = []
        for name in lowered.outputs:
            root = self.origins.get(name)
            if root is None or root in inputs or root in results:
                continue
            if self.ghosts[name].size == self.ghosts[root].size:
                results.append(root)
        in_block = [name for name in self.roots if name not in inputs and name not in results and name in first]
        lifetimes = [Lifetime(max(self.roots[name].info.size, 1), first[name], end[name]) for name in in_block]
        offsets, size = placed(lifetimes)
        values = {}
        for name, ghost in self.ghosts.items():
            root = self.origins[name]
            if root in inputs or root in results or root in first:
                offset = _start(ghost) - _start(self.ghosts[root])
                values[name] = Place(root, offset, ghost.shape, ghost.strides, ghost.dtype)
        return Places(
            self.operations,
            values,
            self.roots,
            dict(zip(in_block, offsets, strict=True)),
            size,
            list(inputs),
            results,
            lowered.outputs,
            size + self._bytes_outside(results),
        )

    def _bytes_outside(self, results: list[str]) -> int:
        """What lies beside the block: inputs, the roots of `results`, copies for other results, and new constants."""
        lowered, made = self.lowered, [*self.lowered.inputs, *results]
        total = sum(self.roots[name].info.size for name in made)
        total += sum(
            array.nbytes for name, array in lowered.constants.items() if lowered.graph.constants.get(name) is not array
        )
        fresh: set[str] = set()
        for name in lowered.outputs:
            root = self.origins.get(name, "")
            if root in results and root not in fresh:
                fresh.add(root)
            else:
                total += self.ghosts[name].nbytes if name in self.ghosts else lowered.constants[name].nbytes
        return total

    def _keep_through_chains(self, first: dict[str, int], end: dict[str, int]) -> None:
        """What comes from outside of a chain, or goes there, is needed until its last picture has gone through."""
        for chain in self.lowered.chains:
            steps = [step for step, operation in enumerate(self.operations) if operation in chain.operations]
            for step in steps:
                for name in (*self.operations[step].reads, *self.operations[step].writes):
                    root = self.origins.get(name)
                    if root is not None and root not in chain.inner:
                        first[root], end[root] = min(first[root], steps[0]), max(end[root], steps[-1])

    def _new_root(self, name: str) -> None:
        self.roots[name] = Root(self.infos[name], self.last[name])
        self.ghosts[name] = self.roots[name].empty()
        self.origins[name] = name

    def _ghost_of(self, name: str) -> None:
        """Give a value its ghost: a part of a concatenation's, or one of its own."""
        if name in self.ghosts:
            return
        if name not in self.inside:
            self._new_root(name)
            return
        whole, part = self.inside[name]
        self._ghost_of(whole)
        self.ghosts[name] = self.ghosts[whole][part]
        self.origins[name] = self.origins[whole]

    def _place(self, operation: Operation, step: int) -> None:
        if isinstance(operation, Interpreted) and operation.node.op in VIEWS and self._place_views(operation):
            return
        self._write_over(operation, step)
        for name in operation.writes:
            self._ghost_of(name)
        if isinstance(operation, Interpreted) and operation.node.op == "Concat" and self._is_there(operation):
            return
        self.operations.append(operation)

    def _write_over(self, operation: Operation, step: int) -> None:
        """Let the result take the place of an operand that it is computed from element by element, and that ends here.

        The lines that a store needs are read anyway: a residual in the result's own place is nearly free.
        """
        if isinstance(operation, Convolution):
            operands = [] if operation.residual is None else [operation.residual]
        elif isinstance(operation, Interpreted) and operation.node.op in ELEMENT_BY_ELEMENT:
            operands = operation.reads
        else:
            return
        name = operation.writes[0]
        for operand in operands:
            root = self.origins.get(operand)
            if root is None or name in self.inside or root in self.lowered.inputs:
                continue
            others = [each for each, origin in self.origins.items() if origin == root]
            if any(self.last_use.get(each, -1) > step for each in others) or operation.reads.count(operand) > 1:
                continue
            if any(each != operand and each in operation.reads for each in others):
                continue  # another part of the same memory is read in another order
            if self.infos[operand] == self.infos[name] and self.last[operand] == self.last[name]:
                self.ghosts[name], self.origins[name] = self.ghosts[operand], root
                return

    def _place_views(self, operation: Interpreted) -> bool:
        """Whether the results are views of the input; then nothing is left to do."""
        source = operation.node.inputs[0]
        if source not in self.ghosts or any(name in self.inside for name in operation.writes):
            return False
        ghosts = {**self.lowered.constants, **self.ghosts}
        try:
            results = operation.results(ghosts)
        except ValueError:
            return False
        begin, stop = np.lib.array_utils.byte_bounds(self.ghosts[self.origins[source]])
        views = []
        for name, result in zip(operation.node.outputs, results, strict=False):
            low, high = np.lib.array_utils.byte_bounds(result)
            if name and not (result.size and begin <= low and high <= stop):
                return False
            if name:
                views.append((name, result))
        for name, result in views:
            self.ghosts[name] = result
            self.origins[name] = self.origins[source]
        return True

    # -- concatenation -------------------------------------------------------------------------------------------

    def _find_parts(self) -> None:
        """What is concatenated is written where it belongs; the last concatenation decides, as it is the longest."""
        made = {name: operation for operation in self.lowered.operations for name in operation.writes}
        for operation in reversed(self.lowered.operations):
            if not isinstance(operation, Interpreted) or operation.node.op != "Concat":
                continue
            (whole,) = operation.writes
            if self._part_of_another(operation):
                continue
            for name, part in self._parts(operation):
                maker = made.get(name)
                if maker is None or name in self.inside or name in self.lowered.outputs:
                    continue
                if isinstance(maker, Interpreted) and maker.node.op in VIEWS:
                    continue
                if self.infos[name].shape[0] > self.infos[whole].shape[0]:
                    continue  # the whole is only there for one picture at a time
                if self.last[name] == self.last[whole] and operation.node.inputs.count(name) == 1:
                    self.inside[name] = (whole, part)

    def _parts(self, operation: Interpreted) -> list[tuple[str, tuple[slice, ...]]]:
        """The inputs of a concatenation, and where each lies in the result."""
        axes = len(self.infos[operation.writes[0]].shape)
        axis = int(operation.node.attributes["axis"]) % axes  # type: ignore[arg-type]
        start, parts = 0, []
        for name in operation.node.inputs:
            shape = self.infos[name].shape if name in self.infos else self.lowered.constants[name].shape
            part = (slice(None),) * axis + (slice(start, start + shape[axis]),)
            parts.append((name, part))
            start += shape[axis]
        return parts

    def _part_of_another(self, operation: Interpreted) -> bool:
        """Whether all that is concatenated lies, in this order, in a longer concatenation: then so does the result."""
        (whole,) = operation.writes
        if whole in self.inside or whole in self.lowered.outputs:
            return False
        homes = [self.inside.get(name) for name in operation.node.inputs]
        if not homes or any(home is None or home[0] != homes[0][0] for home in homes):  # type: ignore[index]
            return False
        slices = [home[1][-1] for home in homes if home is not None]
        axes = {len(home[1]) for home in homes if home is not None}
        own = len(self._parts(operation)[0][1])
        if axes != {own} or any(one.stop != other.start for one, other in pairwise(slices)):
            return False
        home = homes[0]
        assert home is not None
        if self.last[whole] != self.last[home[0]]:
            return False
        self.inside[whole] = (home[0], (*home[1][:-1], slice(slices[0].start, slices[-1].stop)))
        return True

    def _is_there(self, operation: Interpreted) -> bool:
        """Whether every part of a concatenation has been written in its place."""
        (whole,) = operation.writes
        for name, part in self._parts(operation):
            there = self.ghosts.get(name)
            place = self.ghosts[whole][part]
            if there is None or _start(there) != _start(place) or there.strides != place.strides:
                return False
        return True


def _start(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
