"""Weight gradients of depthwise layers, by vectors of channels.

Maths: dL/dK[c, p, q] = sum over n, i, j of G[n, c, i, j] X[n, c, i s + p d, j s + q d], for every channel c alone.

How it runs: a unit is a band of rows of a picture. Its rows of X, with their padding, and of G are packed as
[row][column][channel] for a block of channels, as in `channelwise`. Then every pixel's vector of G is multiplied with
the vectors of X under all taps, up to 12 of which have their sums in registers: 10 loads for the 9 multiply-adds of
3x3 kernels. A task is a block of channels and a range of units, whose sums are a *partial* sum. How many there are is
decided by the shape and the caches alone, and they are added in the order of their numbers, so the result has the same
bits for any number of threads. `weight_grad` does this by vectors of pixels, which short rows fill badly, and which it
gathers element by element where channels lie side by side.

Limits: as in `channelwise`; and kernels of up to 12 columns.
"""

import ctypes
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...problem import Problem
from ..descriptor import address_of
from ..emit.target import Target
from ..runtime import memory, threads
from ..runtime.jobs import Job
from .blocks import SERIAL_PRODUCTS
from .channelwise import block_vectors, frame_fields, frame_pitch, frames, packable, refuses_depthwise
from .channelwise_grad_kernels import FIELDS, GRADIENT, Form, compute_function, reduce_function
from .panels import ELEMENTS, Compiled
from .rounding import sum_bound

NAME = "channelwise_grad"

Array = NDArray[Any]

MOST_SUMS = 12
"""Taps whose sums are in registers at one time."""
TASKS = 16
"""Tasks that a large problem is cut into, whatever the number of threads."""
TASK_PRODUCTS = 1 << 16
"""Multiply-adds that a task should have at least."""


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only depthwise weight gradients in floating point."""
    if problem.operation != "weight_grad":
        return "it computes weight gradients"
    refusal = refuses_depthwise(problem, target)
    if refusal is not None:
        return refusal
    if problem.axes[-1].kernel > MOST_SUMS:
        return f"a kernel of {problem.axes[-1].kernel} columns has more than {MOST_SUMS} sums per row"
    return None


@dataclass(frozen=True, slots=True)
class Cut:
    """How a problem falls into units and tasks: a function of its shape and the processor's caches only."""

    per_band: int
    bands: int
    units: int
    blocks: int
    partials: int
    block_bytes: int
    gradient_bytes: int

    @classmethod
    def of(cls, problem: Problem, target: Target) -> "Cut":
        """Bands whose X and G fill a third of the second-level cache."""
        rows, columns = frames(problem)
        width = block_vectors(problem, target) * target.lanes(problem.itemsize)
        pitch, line = frame_pitch(problem, width), columns.results * width * problem.itemsize
        fit = max((target.l2_bytes // 3 - rows.reach * pitch) // (rows.stride * pitch + line), 1)
        bands = -(-rows.positions // fit)
        per_band = -(-rows.positions // bands)
        bands = -(-rows.positions // per_band)
        blocks, units = -(-problem.in_channels // width), problem.batch * bands
        wanted = max(min(problem.multiply_adds // TASK_PRODUCTS, TASKS), 1)
        partials = max(min(-(-wanted // blocks), units), 1)
        frame = min((per_band - 1) * rows.stride + rows.reach, rows.size)
        sizes = (-(-size // 64) * 64 for size in (frame * pitch, per_band * line))
        return cls(per_band, bands, units, blocks, partials, *sizes)


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: the tiles' cycles, and packing both operands; or the time of memory, or of the last cache."""
    assert target is not None
    rows, columns = frames(problem)
    taps = math.prod(problem.weight_shape[2:])
    passes = -(-_taps(problem)[0] // _rows_at_once(problem))
    packing = 1.5 if problem.channels_last else 4
    cycles = rows.results * columns.results * ((taps + passes) / 2 + packing) + rows.size * columns.size * packing
    cycles *= 1.3 * problem.batch * -(-problem.in_channels // target.lanes(problem.itemsize)) * target.passes
    rate = 60e9 if problem.bytes_moved <= target.l3_bytes // 2 else 20e9
    return 8e-6 + max(cycles / 3e9 / min(target.cores, 2), problem.bytes_moved / rate)


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: the partial sums, and a block of X and one of G per thread."""
    assert target is not None
    cut = Cut.of(problem, target)
    return _sums_bytes(problem, target, cut) + target.cores * (cut.block_bytes + cut.gradient_bytes)


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||g|, which is formed unit by unit: fewer roundings per product than one chain has."""
    return sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "ChannelwiseGradient":
    """The solution of `problem`."""
    assert target is not None
    return ChannelwiseGradient(problem, target)


def _taps(problem: Problem) -> tuple[int, int]:
    """Rows and columns of the kernels."""
    return (problem.axes[-2].kernel if problem.spatial == 2 else 1), problem.axes[-1].kernel


def _rows_at_once(problem: Problem) -> int:
    """Rows of the kernel whose sums are in registers at one time, in passes that are as even as can be."""
    down, across = _taps(problem)
    passes = -(-down // (MOST_SUMS // across))
    return -(-down // passes)


def _sums_bytes(problem: Problem, target: Target, cut: Cut) -> int:
    width = block_vectors(problem, target) * target.lanes(problem.itemsize)
    return cut.partials * cut.blocks * width * math.prod(problem.weight_shape[2:]) * problem.itemsize


@lru_cache(maxsize=1024)
def _gradient_frame(problem: Problem, width: int) -> dict[str, int]:
    """The fields of G's frame that do not depend on its strides: all of it, and nothing else."""
    rows, columns = frames(problem)
    return {
        "source_rows": rows.results,
        "source_columns": columns.results,
        "frame_rows": rows.results,
        "pitch": columns.results * width * problem.itemsize,
        "middle": columns.results,
    }


class ChannelwiseGradient:
    """Runs one weight gradient; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        self.problem, self.target = problem, target
        self.cut = Cut.of(problem, target)
        self._dtype = np.dtype(problem.dtype)
        self._bindings: dict[tuple[object, ...], tuple[Any, tuple[Array, ...], Compiled, Compiled]] = {}

    def prepare(self, second: Array, bias: Array | None, fill: float, once: bool = False) -> Array:
        """The output's gradient, as it is where it can be packed."""
        return packable(second, self._dtype)[0]

    def run(self, first: Array, prepared: Array, out: Array, residual: Array | None = None) -> None:
        """Compute into `out`; through a temporary array where it is not dense."""
        if not self._takes(out):
            result = np.empty(self.problem.weight_shape, self._dtype)
            self.run(first, prepared, result)
            out[...] = result
            return
        jobs = self._jobs(packable(first, self._dtype)[0], prepared, out)
        with memory.scratch(jobs[0].scratch) as scratch:
            for job in jobs:
                job.use_scratch(scratch.address)
                threads.run(job.function, ctypes.addressof(job.block), job.tasks, job.threads)

    def jobs(self, first: Array, prepared: Array, out: Array, residual: Array | None = None) -> list[Job] | None:
        """What `run` does with these very arrays, written down; None where it would have to copy one of them."""
        if not self._takes(out) or packable(first, self._dtype)[0] is not first:
            return None
        return self._jobs(first, prepared, out)

    def _takes(self, out: Array) -> bool:
        return out.dtype == self._dtype and out.flags.aligned and out.flags.c_contiguous

    def _jobs(self, x: Array, g: Array, out: Array) -> list[Job]:
        """Partial sums, and then their sum. Both work in the same scratch memory."""
        problem, cut = self.problem, self.cut
        key = (x.strides, g.strides)
        binding = self._bindings.get(key)
        if binding is None:
            if len(self._bindings) >= 32:
                self._bindings.clear()
            binding = self._bindings[key] = self._bind(x, g)
        fields, _, compute, reduce = binding
        tasks = cut.partials * cut.blocks
        workers = min(threads.get_num_threads(), tasks) if problem.multiply_adds >= SERIAL_PRODUCTS else 1
        block, index = FIELDS.copy(fields), FIELDS.index
        block[index["x"]], block[index["g"]] = address_of(x), address_of(g)
        block[index["out"]] = address_of(out)
        own = workers * (cut.block_bytes + cut.gradient_bytes)
        scratch = own + _sums_bytes(problem, self.target, cut)
        arrays = (index["x"], index["g"], index["out"])
        places = ((index["scratch"], 0), (index["sums"], own))
        return [
            Job(function.address, block, count, min(workers, count), arrays, scratch, places, (binding, self, x, g))
            for function, count in ((compute, tasks), (reduce, cut.blocks))
        ]

    def _bind(self, x: Array, g: Array) -> tuple[Any, tuple[Array, ...], Compiled, Compiled]:
        problem, cut, target = self.problem, self.cut, self.target
        rows, columns = frames(problem)
        vectors = block_vectors(problem, target)
        width = vectors * target.lanes(problem.itemsize)
        frame, places = frame_fields(problem, x, width, frame_pitch(problem, width))
        gradient = _gradient_frame(problem, width)
        pixels = np.arange(rows.results * columns.results, dtype=np.int64) * (width * problem.itemsize)
        gradient |= {
            "source_row": g.strides[-2] if g.ndim == 4 else 0,
            "source_column": g.strides[-1],
            "source_channel": g.strides[1],
            "places": address_of(pixels),
        }
        taps = _taps(problem)
        fields = {
            **frame,
            **{GRADIENT + name: value for name, value in gradient.items()},
            "scratch_bytes": cut.block_bytes + cut.gradient_bytes,
            "packed_g": cut.block_bytes,
            "x_batch": x.strides[0],
            "g_batch": g.strides[0],
            "channels": problem.in_channels,
            "blocks": cut.blocks,
            "partials": cut.partials,
            "units": cut.units,
            "bands": cut.bands,
            "per_band": cut.per_band,
            "out_rows": rows.results,
            "out_columns": columns.results,
            "row_stride": rows.stride,
            "row_reach": rows.reach,
            "tap_step": problem.axes[-2].dilation * frame["pitch"] if problem.spatial == 2 else 0,
        }
        last = x.strides[1] == x.itemsize, g.strides[1] == g.itemsize
        form = Form(vectors, taps, _rows_at_once(problem), columns.stride, problem.axes[-1].dilation, *last)
        element = ELEMENTS[problem.dtype]
        function, reduce = (
            compute_function(target, element, form),
            reduce_function(target, element, vectors, math.prod(taps)),
        )
        return FIELDS.block(fields), (places, pixels), function, reduce
