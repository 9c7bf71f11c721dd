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

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...problem import Problem
from ..descriptor import address_of
from ..emit.target import Target
from ..kernels import ELEMENTS
from .channel_sums import partial_sums, refuses_gradient, rows_at_once
from .channelwise_grad_kernels import FIELDS, GRADIENT, Form, compute_function, reduce_function
from .frames import block_vectors, frame_fields, frame_pitch, frames, packable, source_steps
from .gradient_solution import GradientBinding, GradientSolution, Parts
from .rounding import sum_bound

NAME = "channelwise_grad"

Array = NDArray[Any]

refuses = refuses_gradient


class Cut(NamedTuple):
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
        partials = partial_sums(problem, blocks, units)
        frame = min((per_band - 1) * rows.stride + rows.reach, rows.size)
        sizes = (-(-size // 64) * 64 for size in (frame * pitch, per_band * line))
        return cls(per_band, bands, units, blocks, partials, *sizes)


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: the tiles' cycles, and packing both operands; or the time of memory, or of the last cache."""
    assert target is not None
    rows, columns = frames(problem)
    taps = math.prod(problem.weight_shape[2:])
    passes = -(-_taps(problem)[0] // rows_at_once(_taps(problem)))
    packing = 1.5 if problem.channels_last else 4
    cycles = rows.results * columns.results * ((taps + passes) / 2 + packing) + rows.size * columns.size * packing
    cycles *= 1.3 * problem.batch * -(-problem.in_channels // target.lanes(problem.itemsize)) * target.passes
    return 8e-6 + max(cycles / 3e9 / min(target.cores, 2), target.moving(problem.bytes_moved))


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


class ChannelwiseGradient(GradientSolution):
    """Runs one weight gradient; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        self.cut = cut = Cut.of(problem, target)
        own, sums = cut.block_bytes + cut.gradient_bytes, _sums_bytes(problem, target, cut)
        super().__init__(problem, target, FIELDS, Parts(cut.partials * cut.blocks, cut.blocks, own, sums))

    def _readable(self, operand: Array) -> Array:
        return packable(operand, self._dtype)

    def bind(self, x: Array, g: Array) -> GradientBinding:
        """Tables of where packed elements go, and all sizes and steps."""
        problem, cut, target = self.problem, self.cut, self.target
        rows, columns = frames(problem)
        vectors = block_vectors(problem, target)
        width = vectors * target.lanes(problem.itemsize)
        frame, places = frame_fields(problem, x, width, frame_pitch(problem, width))
        pixels = np.arange(rows.results * columns.results, dtype=np.int64) * (width * problem.itemsize)
        gradient = {**_gradient_frame(problem, width), **source_steps(g), "places": address_of(pixels)}
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
        form = Form(vectors, taps, rows_at_once(_taps(problem)), columns.stride, problem.axes[-1].dilation, *last)
        element = ELEMENTS[problem.dtype]
        function, reduce = (
            compute_function(target, element, form),
            reduce_function(target, element, vectors, math.prod(taps)),
        )
        return GradientBinding(FIELDS.block(fields), (places, pixels), function, reduce)
