"""Weights of a single call that are packed where they are used: by a task, chunk by chunk, in its core's own cache.

Packing all of them first writes and reads them once more, half of them from the other core's cache. A product of
1024 -> 256 kernels with 14x14 pixels takes 489 µs with panels at hand; a call took 563-596, and now 529-569.
"""

from typing import Any

import numpy as np

from ..descriptor import Fields
from ..emit.ir import Function, Int, Pointer
from ..runtime.jobs import Job
from .packed import Array, CompiledSolution
from .packing import WEIGHT_LAYOUT, weight_layout

__all__ = ["UNPACKED_FIELDS", "ReadsInPlace", "Unpacked", "packed_chunk"]

UNPACKED_FIELDS = (
    "packed_weights",  # where in the scratch memory the chunk of weights in use is, in bytes from the block
    *WEIGHT_LAYOUT,
)


class ReadsInPlace(CompiledSolution):
    """Works with weights that were not packed before."""

    def _fill(
        self, block: Any, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None
    ) -> None:
        super()._fill(block, first, prepared, out, residual)
        for name, value in weight_layout(prepared[0]).items():
            block[self.fields.index[name]] = value


class Unpacked:
    """Leaves weights where they lie for a single call; otherwise does as `packed`."""

    def __init__(self, packed: CompiledSolution, unpacked: CompiledSolution) -> None:
        self.packed, self.unpacked = packed, unpacked
        self._dtype = np.dtype(packed.problem.dtype)

    @property
    def weight_form(self) -> object | None:
        """As `packed`, whose panels `prepare` makes for more calls than one."""
        return self.packed.weight_form

    def prepare(self, second: Array, bias: Array | None, fill: float, once: bool = False) -> tuple[Array, Array, float]:
        """As `packed`, or `second` itself, which has more than one axis, unlike panels."""
        if once and second.dtype == self._dtype and second.flags.aligned:
            return second, self.packed.panels.bias(bias), float(fill)
        return self.packed.prepare(second, bias, fill)

    @property
    def prepare_bytes(self) -> int:
        """Bytes that `prepare_jobs` needs."""
        return 0

    def prepare_jobs(self, second: Array, bias: Array | None, room: Array) -> tuple[Any, list[Job]] | None:
        """`second` itself, which may change between two runs of the jobs."""
        biases = self.packed.panels.bias_jobs(bias)
        if biases is None or second.dtype != self._dtype or not second.flags.aligned:
            return None
        return (second, biases[0], 0.0), biases[1]

    def in_place(self, first: Array, out: Array) -> tuple[bool, bool]:
        """Whether both read the one and write the other where they lie."""
        return self.packed.in_place(first, out)

    def run(
        self, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None = None
    ) -> None:
        """Compute into `out`."""
        self._solution(prepared).run(first, prepared, out, residual)

    def jobs(
        self, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None = None
    ) -> list[Job] | None:
        """What `run` does, written down."""
        return self._solution(prepared).jobs(first, prepared, out, residual)

    def _solution(self, prepared: tuple[Array, Array, float]) -> CompiledSolution:
        return self.unpacked if prepared[0].ndim > 1 else self.packed


def packed_chunk(
    f: Function,
    fields: Fields,
    part: Function,
    weights: Pointer,
    kernel: Int,
    block: Pointer,
    channels: tuple[Int, Int],
    valid: Int,
) -> Pointer:
    """Where the weights of some `channels` (first, stop) of `valid` kernels from `kernel` on are, packed by `part`."""
    kernel_step, channel_step = fields.integers(f, "kernel_step", "channel_step")
    (first, stop), packed = channels, block.at_bytes(fields.integer(f, "packed_weights"))
    start = weights.at_bytes(kernel * kernel_step).at_bytes(first * channel_step)
    f.run(part, f.integer("fields"), start, packed, stop - first, valid)
    return packed
