"""The ordered table of algorithms. Adding one is a file of the same shape and a row here.

Every row is a module (or an object) with a NAME and five functions, told apart by what they may know:

* ``refuses(problem, target)``: why it cannot take the problem on this target, or None;
* ``cost(problem, target)``: predicted seconds, from a simple model of the machine;
* ``workspace(problem, target)``: bytes of scratch memory;
* ``error_bound(problem)``: largest error, relative to the sum of the products' absolute values;
* ``build(problem, target)``: a :class:`Solution`, which prepares weights and runs.

Where preparing the weights takes long, ``preparation(problem, target)`` says how much of ``cost`` it is: plans whose
weights are prepared once, for many calls, leave it out.

A row with ``WIDENS = True`` reads small integers as they are and widens them on the way (a compound one, where its
parts do). Others copy the whole of such an input first, so the planner prefers those that do not.

Where ``in_lanes(problem)`` says how many kernels or columns lie in the lanes of its vectors, the planner also asks the
row about vectors of half the width, on processors whose units take whole ones in two passes (``Target.passes``).

``repeats(problem, target)`` is the number of rows after which a result's sums begin anew, where it is not 1 for all
that form the definition's sums and None for all others: a part of the rows that begins there has the bits of the whole.

``target`` is None where no compiled code can be had. Algorithms never choose, and never look at each other.

A row whose problems are made of other problems is a :class:`Compound`. It says which, by ``parts(problem, target)``;
the planner plans them, and the row is told what they cost and given their solutions.

A row that can take a problem with some weights only is a :class:`Conditional`, in SPECIALS. A plan, which is made from
shapes, carries it beside its algorithm where it would be quicker, and asks it first when the weights are there.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from ...problem import Problem
from ..emit.target import Target
from . import (
    adjoint,
    channelwise,
    channelwise_grad,
    depthwise,
    depthwise_grad,
    direct,
    fft,
    fft_scipy,
    lowrank,
    phased,
    planes,
    pointwise,
    product,
    product_grad,
    stencil,
    stretches,
    vectorized,
    weight_grad,
    winograd,
    winograd_grad,
)

__all__ = ["SPECIALS", "TABLE", "Algorithm", "Compound", "Conditional", "Solution"]

Array = NDArray[Any]


class Solution(Protocol):
    """One problem, ready to run as often as one likes, from any thread."""

    def prepare(self, second: Array, bias: Array | None, fill: float, once: bool = False) -> Any:
        """The second operand (for weight_grad the output's gradient) and the bias in the algorithm's own form.

        `once`: for a single call during which they do not change, so they may be read where they lie.
        """

    def run(self, first: Array, prepared: Any, out: Array, residual: Any = None) -> None:
        """Compute into `out`, which has the problem's result shape and dtype and any strides.

        `residual`, given with problems that have one, has the result's shape, any strides and any dtype. It may be
        `out` itself.

        Where a solution cannot read or write arrays that lie as these do, it works on a copy of the whole. One that may
        do that has `in_place(first, out)`, which says whether it would read and write these where they lie.
        """


class Algorithm(Protocol):
    """What a row of the table offers; see the module's text."""

    @property
    def NAME(self) -> str: ...  # noqa: D102

    def refuses(self, problem: Problem, target: Target | None) -> str | None: ...  # noqa: D102
    def cost(self, problem: Problem, target: Target | None) -> float: ...  # noqa: D102
    def workspace(self, problem: Problem, target: Target | None) -> int: ...  # noqa: D102
    def error_bound(self, problem: Problem) -> float: ...  # noqa: D102
    def build(self, problem: Problem, target: Target | None) -> Solution: ...  # noqa: D102


class Conditional(Algorithm, Protocol):
    """A row whose solution's `prepare` gives None for weights that it does not take; `CONDITION` says which it does."""

    CONDITION: str


@runtime_checkable
class Compound(Protocol):
    """A row that leaves the computing to its parts; see the module's text. Parts must not lead back to the row."""

    NAME: str

    def refuses(self, problem: Problem, target: Target | None) -> str | None: ...  # noqa: D102
    def parts(self, problem: Problem, target: Target | None) -> tuple[Problem, ...]: ...  # noqa: D102
    def cost(self, problem: Problem, target: Target | None, parts: Sequence[float]) -> float: ...  # noqa: D102
    def workspace(self, problem: Problem, target: Target | None, parts: Sequence[int]) -> int: ...  # noqa: D102
    def error_bound(self, problem: Problem, parts: Sequence[float]) -> float: ...  # noqa: D102
    def build(self, problem: Problem, target: Target | None, parts: Sequence[Solution]) -> Solution: ...  # noqa: D102


TABLE: tuple[Algorithm | Compound, ...] = (
    direct,
    pointwise,
    product,
    winograd.F4,
    winograd.F2,
    winograd.FIVE,
    winograd.STRIDED,
    stencil,
    depthwise,
    planes,
    channelwise,
    fft,
    fft_scipy,
    stretches,
    phased,
    adjoint,
    product_grad,
    depthwise_grad,
    channelwise_grad,
    winograd_grad,
    weight_grad,
    vectorized,
)
"""In the order in which equal costs are decided. The last row takes everything."""
SPECIALS: tuple[Conditional, ...] = (lowrank,)
"""Rows that the weights decide about."""
