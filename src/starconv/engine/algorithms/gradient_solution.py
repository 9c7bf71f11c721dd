"""What solutions of weight gradients share: a job that makes partial sums, and one that adds them up."""

from typing import Any, NamedTuple

import numpy as np

from ...problem import Problem
from ..descriptor import Fields, address_of
from ..emit.target import Target
from ..kernels import Compiled
from ..remembered import Remembered
from ..runtime.jobs import Job, run_jobs
from ..runtime.threads import get_num_threads
from .blocks import threads_for
from .panels import Array, readable

__all__ = ["GradientBinding", "GradientSolution", "Parts", "Stage", "tasks_wanted", "without_negative_steps"]

TASKS = 16
"""Tasks that a large problem is cut into, whatever the number of threads."""


def tasks_wanted(problem: Problem, products: int = 1 << 17) -> int:
    """How many tasks of at least `products` multiply-adds: a function of the shape alone, so that sums are as well."""
    return max(min(problem.multiply_adds // products, TASKS), 1)


class Parts(NamedTuple):
    """What decides how the two jobs are shared among threads, and how much memory they take."""

    tasks: int
    """Of the first job, or of the one that has the most."""
    reductions: int
    """Tasks of the second."""
    scratch_bytes: int
    """Per thread of the first."""
    sums_bytes: int
    """Of all partial sums, and whatever else all threads share."""


class GradientBinding(NamedTuple):
    """Fields for arrays of certain strides, what they point to, and both functions."""

    fields: Any
    kept: tuple[Any, ...]
    compute: Compiled
    reduce: Compiled


class Stage(NamedTuple):
    """A function, its fields, and its tasks."""

    function: Compiled
    block: Any
    tasks: int


class GradientSolution:
    """Runs one weight gradient. Among the fields of its kernels are x, g, out, scratch and sums."""

    def __init__(self, problem: Problem, target: Target, fields: Fields, parts: Parts) -> None:
        self.problem, self.target, self.fields, self.parts = problem, target, fields, parts
        self._dtype = np.dtype(problem.dtype)
        self._bindings = Remembered[GradientBinding]()

    def bind(self, x: Array, g: Array) -> GradientBinding:
        """Everything for arrays with such strides but their addresses."""
        raise NotImplementedError

    def prepare(self, second: Array, bias: Array | None, fill: float, once: bool = False) -> Array:
        """The output's gradient, as it is where kernels can read it."""
        return self._readable(second)

    def run(self, first: Array, prepared: Array, out: Array, residual: None = None) -> None:
        """Compute into `out`; through a temporary array where it is not dense."""
        if not self._takes(out):
            result = np.empty(self.problem.weight_shape, self._dtype)
            self.run(first, prepared, result)
            out[...] = result
            return
        run_jobs(self._jobs(self._readable_input(first), prepared, out))

    def jobs(self, first: Array, prepared: Array, out: Array, residual: None = None) -> list[Job] | None:
        """What `run` does with these very arrays, written down; None where it would have to copy one of them."""
        if not self._takes(out) or self._readable_input(first) is not first:
            return None
        return self._jobs(first, prepared, out)

    def _readable(self, operand: Array) -> Array:
        """`operand`, or a copy where the kernel cannot read it as it is."""
        return without_negative_steps(operand, self._dtype)

    def _readable_input(self, first: Array) -> Array:
        """The same where more is asked of the input than of the output's gradient."""
        return self._readable(first)

    def _takes(self, out: Array) -> bool:
        return out.dtype == self._dtype and out.flags.aligned and out.flags.c_contiguous

    def _jobs(self, x: Array, g: Array, out: Array) -> list[Job]:
        """Both jobs. They work in the same scratch memory."""
        key, parts = (x.strides, g.strides), self.parts
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bindings.keep(key, self.bind(x, g))
        workers = threads_for(self.problem, parts.tasks, get_num_threads())
        block, index = self.fields.copy(binding.fields), self.fields.index
        block[index["x"]], block[index["g"]], block[index["out"]] = (address_of(array) for array in (x, g, out))
        arrays = (index["x"], index["g"], index["out"])
        own = workers * parts.scratch_bytes
        places = ((index["scratch"], 0), *((index[name], own + offset) for name, offset in self.shared_places()))
        size, keeps = own + parts.sums_bytes, (binding, x, g)
        return [
            Job(
                stage.function.address, stage.block, stage.tasks, min(workers, stage.tasks), arrays, size, places, keeps
            )
            for stage in self.stages(binding, block)
        ]

    def shared_places(self) -> tuple[tuple[str, int], ...]:
        """Fields that point into what all threads share, and how many bytes from its start."""
        return (("sums", 0),)

    def stages(self, binding: GradientBinding, block: Any) -> "list[Stage]":
        """What is done, one after the other; `block` has all fields."""
        counts = (binding.compute, self.parts.tasks), (binding.reduce, self.parts.reductions)
        return [Stage(function, block, tasks) for function, tasks in counts]


def without_negative_steps(array: Array, dtype: "np.dtype[Any]") -> Array:
    """`array` in `dtype`, aligned, with no negative steps."""
    array = readable(array, dtype)
    return array if min(array.strides, default=0) >= 0 else array.copy()
