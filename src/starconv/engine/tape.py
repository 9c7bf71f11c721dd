"""Steps on values, written down before they run: memory is planned ahead, and one call runs them all.

Whoever writes a tape says what is computed from what; where values lie is decided once all is written:

    tape = Tape(np.dtype("float32"))
    x, total = tape.value((32, 16, 8, 8)), tape.value((1, 16))
    tape.sums("plain", [x], [], total)
    bound = tape.bound()                      # memory, and the jobs on it
    bound.arrays[x][...] = picture
    bound.run(0)
    bound.arrays[total]

Values of the tape share one block of memory, in which those that are never needed together may share a place. *Lasting*
values are arrays of the caller. `pause` cuts the tape into parts that are run one by one, so that someone may look at
some values, and write others, in between.

A step is a list of jobs (`runtime.jobs`); a convolution whose algorithm cannot be written down is called from Python
between two lists. ReLU is computed by the step before it where that can (`relu`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..geometry import Axis
from ..problem import Problem
from . import elementwise, pooling
from .placing import ALIGNMENT, Lifetime, placed
from .runtime import memory
from .runtime.jobs import Job, JobList
from .steps import Array, Convolved, Elementwise, Pause, Pooled, PooledGradient, Shape, Step, Summed, Value

__all__ = ["BoundTape", "Tape"]


class Tape:
    """What is to be done, in order; see the module's text."""

    def __init__(self, dtype: "np.dtype[Any]") -> None:
        self.dtype = dtype
        self.steps: list[Step] = []

    # Values

    def value(self, shape: Shape, last: bool = False) -> Value:
        """One in the tape's own memory."""
        return Value(tuple(shape), last)

    def lasting(self, array: Array) -> Value:
        """An array of the caller, which stays where it is."""
        return Value(array.shape, lasting=array)

    def view(self, value: Value, look: Callable[[Array], Array], shape: Shape, last: bool = False) -> Value:
        """Another view of `value`: `look` makes it of the array."""
        return Value(tuple(shape), last, whole=value, look=look, maker=value.maker)

    def like(self, value: Value) -> Value:
        """One of the same form."""
        return self.value(value.shape, value.last)

    def laid_like(self, value: Value, other: Value) -> Value:
        """`value`, or a copy whose channels lie where those of `other` do."""
        if value.last == other.last:
            return value
        copied = self.value(value.shape, other.last)
        self.elementwise("copy", [value], [copied])
        return copied

    # Steps

    def add(self, step: Step) -> None:
        """One more step."""
        self.steps.append(step)
        for value in step.reads:
            while True:
                value.readers += 1
                if value.whole is None:
                    break
                value = value.whole
        for value in step.writes:
            value.maker = value.root.maker = step
            value.readers = value.root.readers = 0

    def pause(self, looked_at: Sequence[Value], written: Sequence[Value]) -> None:
        """The end of a part, after which the caller may look at some values and writes others."""
        self.add(Pause(looked_at, written))

    def elementwise(
        self, operation: str, inputs: Sequence[Value], outputs: Sequence[Value], numbers: Sequence[float] = ()
    ) -> Step:
        """An operation of `engine.elementwise`. An output may be an input."""
        step = Elementwise(operation, inputs, outputs, numbers)
        self.add(step)
        return step

    def sums(self, name: str, arrays: Sequence[Value], numbers: Sequence[Value], out: Value) -> None:
        """Sums of `engine.sums`, to `out` (outputs, C)."""
        self.add(Summed(name, arrays, numbers, out))

    def convolved(self, problem: Problem, first: Value, second: Value, bias: Value | None, out: Value) -> Value:
        """The result of `problem`, in `out`."""
        self.add(Convolved(problem, first, second, bias, out))
        return out

    def pooled(
        self, x: Value, axes: tuple[Axis, ...], divisors: pooling.Counts | None = None
    ) -> tuple[Value, Value | None]:
        """Means by `divisors`; or maxima, and the taps that they are at."""
        out = self.value((*x.shape[:-2], *(axis.output for axis in axes)), x.last)
        winner = self.like(out) if divisors is None else None
        self.add(Pooled(x, axes, out, divisors, winner))
        return out, winner

    def pooled_gradient(
        self,
        grad: Value,
        axes: tuple[Axis, ...],
        divisors: pooling.Counts | None = None,
        winner: Value | None = None,
    ) -> Value:
        """The gradient of what was pooled."""
        out = self.value((*grad.shape[:-2], *(axis.input for axis in axes)), grad.last)
        grad = grad if winner is None else self.laid_like(grad, winner)
        self.add(PooledGradient(grad, axes, out, divisors, winner))
        return out

    def relu(self, x: Value) -> Value:
        """ReLU of `x`: by the step that makes x if nobody has read it, or by one of its own."""
        if x.whole is None and x.readers == 0 and x.may_change and x.maker is not None and x.maker.take_relu():
            return x
        out = self.like(x)
        self.elementwise("relu", [x], [out])
        return out

    def bound(self) -> "BoundTape":
        """Memory for all values, and the jobs on it, for as many threads as may take part now.

        Raises:
            WriteError: a step without compiled code.
        """
        return BoundTape(self)


class BoundTape:
    """A tape's memory and jobs, for one caller at a time.

    Attributes:
        arrays: of every value that steps read or write.
        bytes: of the block of memory.
    """

    def __init__(self, tape: Tape) -> None:
        self.dtype, steps = tape.dtype, tape.steps
        places, rooms, self.bytes = _places(tape)
        self._block = memory.aligned_empty(max(self.bytes, 1), np.uint8)
        self.arrays: dict[Value, Array] = {}
        for root, offset in places.items():
            size = math.prod(root.shape) * self.dtype.itemsize
            self.arrays[root] = _shaped(self._block[offset : offset + size].view(self.dtype), root)
        for step in steps:
            for value in (*step.reads, *step.writes):
                self._array(value)
        self._jobs: dict[Step, list[Job]] = {}
        parts: list[list[list[Job] | Step]] = [[]]
        for step, offset in zip(steps, rooms, strict=True):
            if isinstance(step, Pause):
                parts.append([])
                continue
            jobs = step.jobs(self.arrays, self._block[offset : offset + step.room])
            if jobs is None:
                parts[-1].append(step)
                continue
            self._jobs[step] = jobs
            if not parts[-1] or isinstance(parts[-1][-1], Step):
                parts[-1].append([])
            parts[-1][-1] += jobs  # type: ignore[operator]
        every = [job for jobs in self._jobs.values() for job in jobs]
        scratch = memory.Scratch(max((job.scratch for job in every), default=0) or 1)
        self._parts = [[JobList(one, scratch) if isinstance(one, list) else one for one in part] for part in parts]

    def run(self, part: int) -> None:
        """One part of the tape, from a pause to the next."""
        for stretch in self._parts[part]:
            if isinstance(stretch, JobList):
                stretch.run()
            else:
                stretch.run(self.arrays)

    def set_numbers(self, step: Step, numbers: Sequence[float]) -> None:
        """Other numbers for an elementwise step."""
        for job in self._jobs[step]:
            elementwise.set_numbers(job, step.operation, numbers)  # type: ignore[attr-defined]

    @property
    def calls(self) -> int:
        """How many calls from Python all parts take together."""
        return sum(map(len, self._parts))

    def _array(self, value: Value) -> Array:
        found = self.arrays.get(value)
        if found is None:
            if value.whole is not None:
                assert value.look is not None
                found = value.look(self._array(value.whole))
            else:
                assert value.lasting is not None
                found = value.lasting
            self.arrays[value] = found
        return found


def _places(tape: Tape) -> tuple[dict[Value, int], list[int], int]:
    """Where the values lie that need memory, and the rooms of all steps; and the bytes of the whole block."""
    first: dict[Value, int] = {}
    end: dict[Value, int] = {}
    for number, step in enumerate(tape.steps):
        for value in (*step.reads, *step.writes):
            if value.root.lasting is None:
                # What no step writes is there from the beginning.
                first.setdefault(value.root, number if value.root.maker is not None else 0)
                end[value.root] = number
    size = tape.dtype.itemsize
    lifetimes = [Lifetime(max(math.prod(value.shape) * size, 1), first[value], end[value]) for value in first]
    lifetimes += [Lifetime(step.room + ALIGNMENT, number, number) for number, step in enumerate(tape.steps)]
    offsets, whole = placed(lifetimes)
    return dict(zip(first, offsets[: len(first)], strict=True)), offsets[len(first) :], whole


def _shaped(flat: Array, value: Value) -> Array:
    if not value.last:
        return flat.reshape(value.shape)
    pictures, channels, *sizes = value.shape
    return np.moveaxis(flat.reshape(pictures, *sizes, channels), -1, 1)
