"""What a benchmark asks of everyone who takes part: a reason to refuse, or a call without arguments."""

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starconv.problem import Problem

from ..shapes import Operands


class Entrant:
    """A library, or a way of calling it.

    Attributes:
        name: column of the tables.
        module: what must be importable.
        ours: whether this is starconv.
        prepared: the weights are in place before the clock starts. Otherwise every call brings them along, as a
            function of x and w does; only such peers are compared with starconv's functional calls.
    """

    name: str
    module: str
    ours = False
    prepared = False

    def reason(self, problem: Problem, operands: Operands) -> str | None:
        """Why this entrant leaves the row out, or None."""
        if find_spec(self.module) is None:
            return f"{self.module} is not installed"
        if problem.residual or problem.activation not in ("none", "relu"):
            return "layers are compared without a residual, and with ReLU at most"
        return self.refuses(problem, operands)

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        """Why this entrant cannot compute the row, or None."""
        raise NotImplementedError

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        """The call to be timed, with everything done that a user does once."""
        raise NotImplementedError

    def array(self, result: Any) -> NDArray[np.generic]:
        """What the call returned, as a NumPy array."""
        return np.asarray(result)


def symmetric_padding(problem: Problem) -> list[int] | None:
    """One padding per axis, or None where an axis has two."""
    pads = [(axis.before, axis.after) for axis in problem.axes]
    return [before for before, _ in pads] if all(before == after >= 0 for before, after in pads) else None


def hopeless(problem: Problem) -> str | None:
    """A reason to spare the reader minutes: layer libraries go tap by tap through large kernels of one channel.

    A 31x31 kernel over 512x512 pixels, 0.25e9 products, takes torch and OpenVINO a second on two AVX2 cores.
    """
    taps = math.prod(axis.kernel for axis in problem.axes)
    slow = taps > 225 and problem.in_channels == problem.groups and problem.multiply_adds > 1e9
    return "tens of seconds a call: nothing for large kernels of one channel" if slow else None


def is_filter(problem: Problem) -> bool:
    """Whether this is the work of an image filter: one channel, and the kernel's centre over every element."""
    return (
        problem.operation == "conv"
        and (problem.batch, problem.in_channels, problem.out_channels) == (1, 1, 1)
        and not problem.bias
        and problem.activation == "none"
        and all(axis.stride == axis.dilation == 1 for axis in problem.axes)
        and all(axis.before == axis.kernel // 2 and axis.output == axis.input for axis in problem.axes)
    )
