"""What a compiled network is made of: operations that read and write named arrays, natively where they can.

`lowering` makes them of a graph's nodes, `layouts` decides where their arrays lie, `program` runs them. An operation is
asked for `jobs` on the arrays of its names; where that is None (nothing compiled takes such arrays), `run` computes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StarconvError
from ..geometry import Axis
from ..nets.graph import Node
from ..problem import Problem
from .natives import Wanted, native_jobs
from .plan import Plan, PreparedPlan
from .planner import make_plan
from .runtime.jobs import Job

__all__ = ["ELEMENT_BY_ELEMENT", "Chain", "Convolution", "Info", "Interpreted", "Operation", "Product"]

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Info:
    """Shape and dtype of a value."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def of_one(self) -> "Info":
        """That of a single picture."""
        return replace(self, shape=(1, *self.shape[1:]))


@dataclass(eq=False)
class Operation:
    """Something to be done.

    Attributes:
        name: of the node that it stands for; of the first, where it stands for several.
        does: their operators, "Conv + Add + Relu".
        reads, writes: names of values.
        others: names of the other nodes that it stands for.
    """

    name: str
    does: str
    reads: list[str]
    writes: list[str]
    others: list[str] = field(default_factory=list, kw_only=True)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all layers that it stands for."""
        return (self.name, *self.others)

    @property
    def macs(self) -> int:
        """Products of the definition, for the pictures that it does at once."""
        return 0

    def jobs(self, arrays: Arrays) -> list[Job] | None:
        """The jobs that do it on these very arrays, or None where there are none."""
        return None

    def run(self, arrays: Arrays) -> None:
        """Do it now."""
        raise NotImplementedError

    def how(self) -> str:
        """By what it is done, for people."""
        return "python"


@dataclass(frozen=True, eq=False)
class Chain:
    """Operations next to each other that one picture goes through before the next one begins.

    Attributes:
        operations: those; the problems of the convolutions are a single picture's.
        pictures: how many there are.
        inner: values that nobody else reads, of which there is never more than one picture's.
    """

    operations: tuple[Operation, ...]
    pictures: int
    inner: frozenset[str]


ELEMENT_BY_ELEMENT = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Clip", "Relu", "LeakyRelu", "Sigmoid", "Tanh"}
ELEMENT_BY_ELEMENT |= {"HardSigmoid", "HardSwish", "Swish"}
"""Operators whose result may lie where an operand of the same form lies."""


@dataclass(eq=False)
class Interpreted(Operation):
    """A node as it is: computed by compiled code where that can, else by NumPy and starconv's functions."""

    node: Node
    opset: int
    constants: frozenset[str]

    @classmethod
    def of(
        cls, node: Node, opset: int, inputs: Sequence[str], outputs: Sequence[str], constants: Iterable[str]
    ) -> "Interpreted":
        """The operation for a node whose values may have other names here; of its inputs, `constants` are known."""
        node = replace(node, inputs=tuple(inputs), outputs=tuple(outputs))
        reads, writes = ([name for name in names if name] for names in (inputs, outputs))
        return cls(node.name, node.op, reads, writes, node, opset, frozenset(constants))

    def jobs(self, arrays: Arrays) -> list[Job] | None:
        """Those of a compiled kernel, for the operators that have one."""
        outputs = [name for name in self.node.outputs if name in arrays]
        if outputs != [self.node.outputs[0]]:
            return None
        given = [arrays[name] if name else None for name in self.node.inputs]
        return native_jobs(Wanted(self.node, given, arrays[outputs[0]], self.opset, self.constants))

    def how(self) -> str:
        """In what words."""
        return "kernel"

    def results(self, arrays: Arrays) -> list[Array]:
        """What the node computes."""
        from ..nets.operators import run_node

        given = [arrays[name] if name else None for name in self.node.inputs]
        return run_node(self.node, given, self.opset)

    def run(self, arrays: Arrays) -> None:
        """Compute, and copy to where the results belong."""
        for name, result in zip(self.node.outputs, self.results(arrays), strict=False):
            if not name:
                continue
            out = arrays[name]
            if result.shape != out.shape:
                raise StarconvError(
                    f"{self.does} {self.name!r} gave {name!r} the shape {result.shape}, and {out.shape} when compiled"
                )
            out[...] = result


@dataclass(eq=False)
class Convolution(Operation):
    """A convolution or a transposed one, with what follows it: bias, residual, activation.

    Attributes:
        problem: which, but for the layout.
        weights, bias: constants; (K, C / groups, ...) and (K,).
        factor: by which the kernels are to be multiplied, (K,).
        residual: the name of what is added, or None.
    """

    problem: Problem
    weights: Array
    bias: Array | None = None
    factor: Array | None = None
    residual: str | None = None
    prepared: PreparedPlan | None = field(default=None, repr=False)

    @property
    def macs(self) -> int:
        """Products of the definition."""
        return self.problem.multiply_adds

    def laid_out(self, *, last: bool) -> Problem:
        """The problem for an input that lies in memory with its channels first or last."""
        return replace(self.problem, channels_last=last, bias=self.bias is not None)

    def plan(self, *, last: bool, out_last: bool) -> Plan:
        """How to compute it from and to arrays that lie so."""
        problem = self.laid_out(last=last)
        plan = make_plan(problem, prepared=True)
        algorithm = _that_writes(plan, plan.algorithm, turned=last != out_last)
        return plan if algorithm == plan.algorithm else make_plan(problem, algorithm=algorithm, prepared=True)

    def predicted(self, *, last: bool, out_last: bool) -> float:
        """Seconds, by prediction alone: what was measured for one layout says nothing about another.

        So tuning does not change the layout, and what was tuned stays what is computed.
        """
        plan = make_plan(self.laid_out(last=last), prepared=True)
        algorithm = _that_writes(plan, plan.predicted.name, turned=last != out_last)
        return next(row.seconds for row in plan.candidates if row.name == algorithm)

    def prepare(self, plan: Plan, before: "Convolution | None" = None, room: Array | None = None) -> None:
        """Put the weights in place, once; where `before`, the layer for other sizes, has them in this form, its own.

        Weights that are to be multiplied first are written to `room`, bytes that are free again afterwards, if given.
        """
        if before is not None and before.prepared is not None and self._has_weights_of(before):
            self.prepared = before.prepared.shared_with(plan)
            if self.prepared is not None:
                return
        weights = self.weights if self.factor is None else self._multiplied(self.factor, room)
        self.prepared = plan.prepare(weights, None if self.bias is None else self.bias.astype(weights.dtype))

    def _multiplied(self, factor: Array, room: Array | None) -> Array:
        """The weights times a factor for each kernel, in `room` or an array of their own."""
        weights, problem = self.weights, self.problem
        factor = factor.astype(weights.dtype)
        if problem.operation == "conv":
            groups, shaped = weights, factor.reshape(-1, *[1] * (weights.ndim - 1))
        else:  # (C, K / groups, ...): the kernels of a group lie along the second axis
            groups = weights.reshape(problem.groups, -1, *weights.shape[1:])
            shaped = factor.reshape(problem.groups, 1, weights.shape[1], *[1] * (weights.ndim - 2))
        out = None if room is None else room[: weights.nbytes].view(weights.dtype).reshape(groups.shape)
        return np.multiply(groups, shaped, out=out).reshape(weights.shape)

    def _has_weights_of(self, other: "Convolution") -> bool:
        """Whether the weights are the very same, and what is multiplied and added too."""
        same = [(self.bias, other.bias), (self.factor, other.factor)]
        if any((own is None) != (others is None) for own, others in same):
            return False
        if any(own is not None and others is not None and not np.array_equal(own, others) for own, others in same):
            return False
        own, others = self.weights.__array_interface__, other.weights.__array_interface__
        return all(own[key] == others[key] for key in ("data", "shape", "strides", "typestr"))

    def _operands(self, arrays: Arrays) -> tuple[Array, Array, Array | None]:
        residual = None if self.residual is None else arrays[self.residual]
        return arrays[self.reads[0]], arrays[self.writes[0]], residual

    def jobs(self, arrays: Arrays) -> list[Job] | None:
        """Those of the algorithm that was planned."""
        assert self.prepared is not None
        return self.prepared.jobs(*self._operands(arrays))

    def run(self, arrays: Arrays) -> None:
        """The same by a call."""
        assert self.prepared is not None
        first, out, residual = self._operands(arrays)
        self.prepared(first, out=out, residual=residual)

    def how(self) -> str:
        """The algorithm."""
        return "" if self.prepared is None else self.prepared.algorithm


WRITE_BOTH = frozenset({"direct", "winograd", "winograd2", "winograd5", "winograd_strided"})
"""Algorithms that store their tiles as quickly where the result lies in another way than the input."""


def _that_writes(plan: Plan, algorithm: str, *, turned: bool) -> str:
    """`algorithm`; or "direct", if the result is `turned`, lies in another way than the input, and that is slow."""
    direct = next(row for row in plan.candidates if row.name == "direct")
    return "direct" if turned and algorithm not in WRITE_BOTH and direct.refusal is None else algorithm


@dataclass(eq=False)
class Product(Convolution):
    """Rows of a matrix times a constant matrix: a pointwise convolution along the rows, channels last."""

    @classmethod
    def of(cls, name: str, does: str, x: str, out: str, rows: int, weights: Array) -> "Product":
        """Values (..., C) times the transpose of `weights` (K, C), `rows` of them."""
        kernels, channels = weights.shape
        problem = Problem("conv", 1, channels, kernels, (Axis(rows, 1),), dtype=weights.dtype.name)
        return cls(name, does, [x], [out], problem, weights[:, :, np.newaxis])

    def _operands(self, arrays: Arrays) -> tuple[Array, Array, Array | None]:
        first, out, residual = super()._operands(arrays)
        return _as_pixels(first), _as_pixels(out), None if residual is None else _as_pixels(residual)

    def plan(self, *, last: bool, out_last: bool) -> Plan:
        """Rows lie one after the other, so channels side by side, whatever the layout of pictures is."""
        return super().plan(last=True, out_last=True)

    def predicted(self, *, last: bool, out_last: bool) -> float:
        """Of that one plan."""
        return super().predicted(last=True, out_last=True)


def _as_pixels(matrix: Array) -> Array:
    """(..., C), rows one after the other, as one picture (1, C, rows): a view."""
    return matrix.reshape(-1, matrix.shape[-1], copy=False).T[np.newaxis]
