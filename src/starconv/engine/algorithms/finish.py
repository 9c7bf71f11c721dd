"""What happens to a sum on its way to memory: a residual is added, and the activation computed.

A residual lies in memory like the result, so kernels find it at one distance from every place they store to. It may be
the result's own memory: then a kernel must store every element once only, for it reads there what it has not written.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...problem import ACTIVATION_LIMITS, SMOOTH_ACTIVATIONS, Problem
from ..descriptor import Fields
from ..emit import maths
from ..emit.ir import Function, Pointer, Vector

__all__ = ["FINISH_FIELDS", "Finish", "Finisher", "finish_values", "finish_with_numpy", "lies_like"]

Array = NDArray[Any]

FINISH_FIELDS = (
    "floor",  # what results are raised to: 0 for ReLU, else minus infinity
    "ceiling",  # what they are lowered to, in kernels that were compiled with one
    "residual",  # address of what is added before that, likewise
)


class Finish(NamedTuple):
    """What a kernel is compiled with, so that none pays for what it does not do."""

    floor: bool
    ceiling: bool
    residual: bool
    smooth: str = ""
    """A smooth activation's name."""

    @classmethod
    def of(cls, problem: Problem, *, floor: bool = False) -> "Finish":
        """What `problem` needs; with `floor` a floor in any case, so that one kernel serves with ReLU and without."""
        low, high = _limits(problem)
        smooth = problem.activation if problem.activation in SMOOTH_ACTIVATIONS else ""
        return cls((floor and not smooth) or low > -math.inf, high < math.inf, problem.residual, smooth)


def finish_values(problem: Problem) -> dict[str, int | float]:
    """The fields that do not depend on a call."""
    low, high = _limits(problem)
    return {"floor": low, "ceiling": high}


def _limits(problem: Problem) -> tuple[float, float]:
    return ACTIVATION_LIMITS.get(problem.activation, (-math.inf, math.inf))


class Finisher:
    """Emits it. A kernel gives `early` the sums with their bias, and then has every element stored by `store`."""

    def __init__(self, f: Function, fields: Fields, element: str, finish: Finish) -> None:
        self.finish = finish
        self.floor = fields.real(f, "floor", element) if finish.floor else None
        self.ceiling = fields.real(f, "ceiling", element) if finish.ceiling else None
        self.away = fields.integer(f, "residual") - fields.integer(f, "out") if finish.residual else None

    def early(self, value: Vector) -> Vector:
        """`value` as far as it can be finished before its place is known."""
        return value if self.away is not None else self._activated(value)

    def fetch(self, to: Pointer) -> None:
        """Ask for the residual of a place early: tiles jump from line to line, which no processor foresees."""
        if self.away is not None:
            to.at_bytes(self.away).prefetch()

    def store(self, to: Pointer, value: Vector) -> None:
        """Write what `early` gave."""
        if self.away is not None:
            value = self._activated(value + to.at_bytes(self.away).load(value.lanes))
        to.store(value)

    def _activated(self, value: Vector) -> Vector:
        if self.finish.smooth:
            return _SMOOTH[self.finish.smooth](value)
        if self.floor is not None:
            value = value.raised_to(self.floor.broadcast(value.lanes))
        if self.ceiling is not None:
            value = value.lowered_to(self.ceiling.broadcast(value.lanes))
        return value


_SMOOTH = {"silu": maths.silu, "hard_swish": maths.hard_swish}


def finish_with_numpy(problem: Problem, sums: Array, residual: Array | None) -> Array:
    """The same for whole arrays, in place."""
    if residual is not None:
        sums += residual.astype(sums.dtype, copy=False)
    if problem.activation in SMOOTH_ACTIVATIONS:
        from ...reference import activated

        sums[...] = activated(problem.activation, sums)
        return sums
    low, high = _limits(problem)
    if low > -math.inf:
        np.maximum(sums, sums.dtype.type(low), out=sums)
    if high < math.inf:
        np.minimum(sums, sums.dtype.type(high), out=sums)
    return sums


def lies_like(residual: Array, out: Array) -> bool:
    """Whether compiled code finds `residual` at one distance from `out`, and no element beneath another's place."""
    if residual.dtype != out.dtype or not residual.flags.aligned:
        return False
    steps = zip(out.shape, residual.strides, out.strides, strict=True)
    if any(size > 1 and own != other for size, own, other in steps):
        return False
    same = residual.__array_interface__["data"][0] == out.__array_interface__["data"][0]
    return same or not np.may_share_memory(residual, out)
