"""What a tape is made of: values, and the kinds of steps that read and write them.

A step gives the jobs that it is on certain arrays (`runtime.jobs`), says in how many bytes it works, and may take up
the ReLU of its result.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from ..errors import StarconvError
from ..geometry import Axis
from ..problem import Problem
from . import elementwise, pooling, sums
from .plan import Plan
from .planner import make_plan
from .runtime.jobs import Job

__all__ = [
    "Convolved",
    "Elementwise",
    "Pause",
    "Pooled",
    "PooledGradient",
    "Step",
    "Summed",
    "Value",
    "WriteError",
]

Array = NDArray[Any]
Arrays = Mapping["Value", Array]
Shape = tuple[int, ...]


class WriteError(StarconvError):
    """Something that cannot be written on a tape; the message says what."""


@dataclass(eq=False, slots=True)
class Value:
    """An array that steps read and write.

    Attributes:
        shape: of the array, (N, C, ...) of pictures.
        last: whether channels lie side by side in memory.
        lasting: the caller's array that it is, or None.
        whole, look: for a view: the value that it is a view of, and the function from that one's array to this one's.
        maker: the step that writes it.
        readers: how many steps read it since it was written.
        kept: whether others than the next step want it as it is; see `keep`.
    """

    shape: Shape
    last: bool = False
    lasting: Array | None = field(default=None, repr=False)
    whole: "Value | None" = field(default=None, repr=False)
    look: Callable[[Array], Array] | None = field(default=None, repr=False)
    maker: "Step | None" = field(default=None, repr=False)
    readers: int = 0
    kept: bool = False

    def keep(self) -> None:
        """Let no step change it, or what it is a view of, in place: somebody else will read it."""
        self.root.kept = True

    @property
    def may_change(self) -> bool:
        """Whether a step may write its result over it."""
        return not self.root.kept

    @property
    def root(self) -> "Value":
        """The value whose memory this is."""
        return self if self.whole is None else self.whole.root


class Step:
    """Something that is computed from some values."""

    def __init__(self, reads: Sequence[Value], writes: Sequence[Value]) -> None:
        self.reads, self.writes = tuple(reads), tuple(writes)

    @property
    def room(self) -> int:
        """Bytes that it works in."""
        return 0

    def jobs(self, arrays: Arrays, room: Array) -> list[Job] | None:
        """Its jobs on these arrays; None if it must be `run`."""
        raise NotImplementedError

    def run(self, arrays: Arrays) -> None:
        """Do it now."""
        raise WriteError(f"{type(self).__name__} has no compiled code for arrays that lie so")

    def take_relu(self) -> bool:
        """Compute ReLU of the result from now on, if that can be."""
        return False


class Pause(Step):
    """Where a part of the tape ends."""

    def jobs(self, arrays: Arrays, room: Array) -> list[Job]:
        """None are needed."""
        return []


_WITH_RELU = {"add": "add_relu", "normalize": "normalize_relu"}


class Elementwise(Step):
    """An operation of `engine.elementwise`."""

    def __init__(
        self, operation: str, inputs: Sequence[Value], outputs: Sequence[Value], numbers: Sequence[float]
    ) -> None:
        super().__init__(inputs, outputs)
        self.operation, self.numbers = operation, tuple(numbers)

    def jobs(self, arrays: Arrays, room: Array) -> list[Job] | None:
        """Those of the operation."""
        inputs, outputs = ([arrays[value] for value in values] for values in (self.reads, self.writes))
        return elementwise.jobs(self.operation, inputs, outputs, self.numbers)

    def take_relu(self) -> bool:
        """Where there is such an operation."""
        with_relu = _WITH_RELU.get(self.operation)
        self.operation = with_relu or self.operation
        return with_relu is not None


class Summed(Step):
    """Sums of `engine.sums`."""

    def __init__(self, name: str, arrays: Sequence[Value], numbers: Sequence[Value], out: Value) -> None:
        super().__init__([*arrays, *numbers], [out])
        self.name, self.arrays, self.numbers = name, tuple(arrays), tuple(numbers)

    def jobs(self, arrays: Arrays, room: Array) -> list[Job] | None:
        """Partial sums, and their sum."""
        given, numbers = ([arrays[value] for value in values] for values in (self.arrays, self.numbers))
        return sums.jobs(self.name, given, numbers, arrays[self.writes[0]])


class Pooled(Step):
    """Maxima with their places, or means."""

    def __init__(
        self, x: Value, axes: tuple[Axis, ...], out: Value, divisors: pooling.Counts | None, winner: Value | None
    ) -> None:
        super().__init__([x], [out] if winner is None else [out, winner])
        self.x, self.axes, self.out, self.divisors, self.winner = x, axes, out, divisors, winner

    def jobs(self, arrays: Arrays, room: Array) -> list[Job] | None:
        """Those of the windows."""
        x, out = arrays[self.x], arrays[self.out]
        winner = None if self.winner is None else arrays[self.winner]
        return pooling.jobs(x, self.axes, out, divisors=self.divisors, winner=winner)

    def take_relu(self) -> bool:
        """The maximum of ReLUs is the ReLU of the maximum, to the last bit: what makes the input may take it."""
        alone = self.winner is not None and self.x.readers == 1 and self.x.may_change
        return alone and self.x.maker is not None and self.x.maker.take_relu()


class PooledGradient(Step):
    """The gradient of the input of :class:`Pooled`."""

    def __init__(
        self, grad: Value, axes: tuple[Axis, ...], out: Value, divisors: pooling.Counts | None, winner: Value | None
    ) -> None:
        super().__init__([grad] if winner is None else [grad, winner], [out])
        self.grad, self.axes, self.divisors, self.winner = grad, axes, divisors, winner

    def jobs(self, arrays: Arrays, room: Array) -> list[Job] | None:
        """Those of the windows."""
        winner = None if self.winner is None else arrays[self.winner]
        out = arrays[self.writes[0]]
        return pooling.gradient_jobs(arrays[self.grad], self.axes, out, divisors=self.divisors, winner=winner)


class Convolved(Step):
    """A convolution, or one of its gradients, whose second operand may have changed by the next time."""

    def __init__(self, problem: Problem, first: Value, second: Value, bias: Value | None, out: Value) -> None:
        super().__init__([first, second, *([] if bias is None else [bias])], [out])
        self.problem, self.first, self.second, self.bias, self.out = problem, first, second, bias, out
        self._plan: Plan | None = None

    @property
    def plan(self) -> Plan:
        """That of a call."""
        if self._plan is None:
            self._plan = make_plan(self.problem)
        return self._plan

    @property
    def room(self) -> int:
        """For the second operand in the algorithm's form."""
        return self.plan.prepare_bytes

    def jobs(self, arrays: Arrays, room: Array) -> list[Job] | None:
        """The second operand put in place, then the algorithm's."""
        return self.plan.jobs(*self._operands(arrays), arrays[self.out], room)

    def run(self, arrays: Arrays) -> None:
        """A call."""
        self.plan(*self._operands(arrays), out=arrays[self.out])

    def take_relu(self) -> bool:
        """Convolutions clip what they store."""
        if self.problem.operation != "conv" or self.problem.activation not in ("none", "relu"):
            return False
        self.problem, self._plan = replace(self.problem, activation="relu"), None
        return True

    def _operands(self, arrays: Arrays) -> tuple[Array, Array, Array | None]:
        return arrays[self.first], arrays[self.second], None if self.bias is None else arrays[self.bias]
