"""Large kernels: tiles of the input are Fourier transformed, multiplied by the kernels' spectra, and transformed back.

Maths: over a tile, correlation with wrap-around is a product of spectra. The outputs of a tile that wrap around nowhere
are kept, and the next tile begins behind them (overlap-save). Channels add up before the transform back, strides keep
every s-th output, a dilated kernel is one with zeros in it. How the transforms run, `fft_transforms` says; how a task
does, `fft_kernels`; how tiles are chosen, `fft_tiling`.

The work per output hardly grows with the kernel. A tile of 128 x 128 has 16 Ki points and 13 rounds of butterflies,
there and back. A round takes 8 lanes of complex numbers 1.2 cycles, turning rows into columns and the copies another 1
per point: some 50,000 cycles, which for a 31x31 kernel give 98 x 98 outputs at 5 cycles each. Directly these are
961 multiply-adds, 60 cycles at the peak of AVX2.

NaN, infinity and overflow would spread over their whole tile. So a tile with a result that is not finite is computed
again as the definition says, by whichever algorithm the planner plans for a tile with precision "strict": that is this
row's one part. They reach exactly the results that they reach with `direct`.

Pictures with one axis are the rows of one with two: its kernels have one row, and nothing needs to be copied for that.

Limits: one or two axes; float32 and float64, never "strict": results round by some units of the largest in their tile,
not their own.
"""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import Axis
from ...problem import Problem
from ..descriptor import address_of
from ..emit.target import Target
from ..kernels import ELEMENTS, Compiled, compiled
from ..lattice import lattices
from ..remembered import Remembered
from ..runtime import memory, threads
from .fft_kernels import forward_module, weight_module
from .fft_pieces import FIELDS, WEIGHT_FIELDS
from .fft_tiling import MOST_BYTES, Tiling
from .fft_transforms import passes_of
from .finish import Finish, finish_values
from .packed import SOURCES
from .panels import readable
from .refusals import refuses_fourier, refuses_unless
from .rounding import sum_bound

NAME = "fft"
WIDENS = True

Array = NDArray[Any]

ROUNDINGS = 6
"""Error of both transforms, in units of rounding per halving of their length; tested with a wide margin."""
SERIAL_CYCLES = 100_000
"""Less is over before another thread has joined."""


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: forward convolutions of pictures in floating point, with kernels so large that it could pay."""
    refusal = refuses_unless("conv", problem, target)
    if refusal is not None or target is None:
        return refusal
    if problem.spatial > 2:
        return "its tiles have two axes"
    if refusal := refuses_fourier(problem):
        return refusal
    if problem.residual:
        return "it computes some tiles twice, which a residual in the result's place forbids"
    tilings = [Tiling.of(_in_two_axes(problem), target, zeros) for zeros in (False, True)]
    if any(tiling is None for tiling in tilings):
        return "its largest tiles are not larger than the kernel"
    if any(max(tiling.spectra_bytes, tiling.places[-1]) > MOST_BYTES for tiling in tilings if tiling):
        return f"spectra of so many channels would take more than {MOST_BYTES >> 20} MiB"
    return None


def parts(problem: Problem, target: Target | None) -> tuple[Problem, ...]:
    """One group of one tile by the definition, for tiles with a NaN or an infinity."""
    assert target is not None
    problem = _in_two_axes(problem)
    return tuple(_part(problem, _tiling(problem, target, zeros)) for zeros in (False, True))


def _part(problem: Problem, tiling: Tiling) -> Problem:
    pairs = zip((tiling.rows, tiling.columns), lattices(problem)[1:], strict=True)
    return replace(
        problem,
        batch=1,
        in_channels=tiling.channels,
        out_channels=tiling.kernels,
        axes=tuple(Axis(axis.span(cut.outputs), axis.taps, axis.stride, dilation=axis.dilation) for cut, axis in pairs),
        groups=1,
        border="constant",
        channels_last=False,
        precision="strict",
    )


def cost(problem: Problem, target: Target | None, parts: Sequence[float]) -> float:
    """Seconds: the transforms of tiles and kernels, or the memory's time."""
    assert target is not None
    return _tiling(problem, target, zeros=True).whole


def preparation(problem: Problem, target: Target | None) -> float:
    """Seconds of that for the kernels."""
    assert target is not None
    return _tiling(problem, target, zeros=True).preparation


def workspace(problem: Problem, target: Target | None, parts: Sequence[int]) -> int:
    """Bytes: the kernels' spectra, and a task's tiles and spectra per thread."""
    assert target is not None
    tilings = [_tiling(problem, target, zeros) for zeros in (False, True)]
    return max(tiling.spectra_bytes + (target.cores + 1) * tiling.places[-1] for tiling in tilings) + sum(parts)


def error_bound(problem: Problem, parts: Sequence[float]) -> float:
    """Relative to the largest sum of |x||w|: adding up as elsewhere, and the roundings of the transforms.

    A transform of N points is log2 N rounds of butterflies, each of which rounds by some units of what went in.
    N. Higham, "Accuracy and Stability of Numerical Algorithms", section 24.1. The largest tile has 2^17 points.
    """
    return sum_bound(problem) + ROUNDINGS * 17 * float(np.finfo(problem.dtype).eps)


def build(problem: Problem, target: Target | None, parts: Sequence[Any]) -> "Fourier":
    """The solution of `problem`, with that of a tile by the definition."""
    assert target is not None
    return Fourier(problem, target, *parts)


def _in_two_axes(problem: Problem) -> Problem:
    """The problem itself, or, of one with one axis, the one whose rows are its pictures; see `_rows`."""
    if problem.spatial == 2:
        return problem
    return replace(problem, batch=1, axes=(Axis(problem.batch, 1), *problem.axes), channels_last=False)


def _rows(array: Array) -> Array:
    """Pictures with one axis, (N, C, W), as the rows of one picture, (1, C, N, W)."""
    return np.moveaxis(array, 0, 1)[np.newaxis] if array.ndim == 3 else array


def _tiling(problem: Problem, target: Target, zeros: bool) -> Tiling:
    tiling = Tiling.of(_in_two_axes(problem), target, zeros and problem.border == "constant")
    assert tiling is not None
    return tiling


@dataclass(frozen=True, slots=True)
class Prepared:
    """Kernels as they are, (K, C / groups, rows, columns), and as spectra, the bias, and what padding holds."""

    tiled: "Tiled"
    weights: Array
    spectra: Array
    bias: Array | None
    added: Array
    fill: float
    definition: dict[int, Any] = field(default_factory=dict)
    """Per group, the kernels for tiles with a NaN or an infinity: made when there is one."""


class Fourier:
    """Runs one problem; see the module's text. The tiles depend on whether padding, if any, is zeros."""

    def __init__(self, problem: Problem, target: Target, general: Any, zeros: Any) -> None:
        self._general = Tiled(_tiling(problem, target, zeros=False), general)
        self._zeros = Tiled(_tiling(problem, target, zeros=True), zeros)

    def prepare(self, second: Array, bias: Array | None, fill: float, once: bool = False) -> Prepared:
        """The spectra of the kernels."""
        weights = second[:, :, np.newaxis] if second.ndim == 3 else second
        return (self._zeros if fill == 0 else self._general).prepare(weights, bias, fill)

    def run(self, first: Array, prepared: Prepared, out: Array, residual: None = None) -> None:
        """Compute into `out`, tile by tile."""
        prepared.tiled.run(_rows(first), prepared, _rows(out))


class Tiled:
    """Runs one problem with tiles of one kind."""

    def __init__(self, tiling: Tiling, definition: Any) -> None:
        self.tiling, self.definition, self.problem = tiling, definition, tiling.problem
        self._dtype = np.dtype(self.problem.dtype)
        self.axes = lattices(self.problem)[1:]
        self._passes = (
            passes_of(tiling.rows.length // 2, self.problem.dtype, 0.25),
            passes_of(tiling.columns.length, self.problem.dtype, 0.0),
        )
        self._bindings = Remembered[tuple[Compiled, Any, tuple[Array, ...]]]()

    def _tile_values(self) -> dict[str, int | float]:
        tiling, (down, along) = self.tiling, self._passes
        return {
            "rows": tiling.rows.length,
            "columns": tiling.columns.length,
            "pitch": tiling.pitch,
            "down": address_of(down.table),
            "down_passes": down.number,
            "along": address_of(along.table),
            "along_passes": along.number,
            "scratch_bytes": tiling.places[-1],
            "buffer": tiling.places[0],
            "spectrum": tiling.points,
        }

    def prepare(self, second: Array, bias: Array | None, fill: float) -> Prepared:
        """The spectra of the kernels (K, C / groups, ...), which are scaled so that transforms back need not."""
        problem, tiling, target = self.problem, self.tiling, self.tiling.target
        weights = np.array(second, self._dtype, order="C")
        count = math.prod(weights.shape[:2])
        spectra = memory.lent_empty(count * tiling.points, self._dtype)
        workers = min(threads.get_num_threads(), count)
        rows, columns = self.axes
        with memory.scratch(tiling.places[1] * workers) as scratch:
            block = WEIGHT_FIELDS.block(
                {
                    **self._tile_values(),
                    "scratch": scratch.address,
                    "scratch_bytes": tiling.places[1],
                    "spectra": address_of(spectra),
                    "weights": address_of(weights),
                    "taps_rows": rows.taps,
                    "taps_columns": columns.taps,
                    "row_dilation": rows.dilation,
                    "column_dilation": columns.dilation,
                    "filled_columns": columns.span(1),
                    "scale": 2.0 / tiling.points,  # rows / 2 complex numbers down, `columns` along
                }
            )
            function = _weight_function(target, ELEMENTS[problem.dtype])
            threads.run(function.address, ctypes.addressof(block), count, workers)
        added = np.zeros(len(weights), self._dtype) if bias is None else np.array(bias, self._dtype)
        return Prepared(self, weights, spectra, bias, added, float(fill))

    def run(self, first: Array, prepared: Prepared, out: Array, residual: None = None) -> None:
        """Compute into `out`; tiles with something that is not finite once more, by the definition."""
        problem, tiling = self.problem, self.tiling
        if out.dtype != self._dtype or not out.flags.aligned:
            result = np.empty(problem.output_shape, self._dtype)
            self.run(first, prepared, result)
            out[...] = result
            return
        first = readable(first, self._dtype, SOURCES)
        key = first.strides, first.dtype, out.strides
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bindings.keep(key, self._bind(first, out))
        function, values, _ = binding
        failed = np.zeros((problem.batch, problem.groups, tiling.rows.count, tiling.columns.count), np.int64)
        workers = min(threads.get_num_threads(), tiling.tasks)
        if tiling.cycles < SERIAL_CYCLES:
            workers = 1
        with memory.scratch(tiling.places[-1] * workers) as scratch:
            block = FIELDS.copy(values)
            for name, value in (
                ("x", address_of(first)),
                ("out", address_of(out)),
                ("spectra", address_of(prepared.spectra)),
                ("bias", address_of(prepared.added)),
                ("failed", address_of(failed)),
                ("scratch", scratch.address),
            ):
                block[FIELDS.index[name]] = value
            block[FIELDS.index["fill"]] = FIELDS.block({"fill": prepared.fill})[FIELDS.index["fill"]]
            threads.run(function.address, ctypes.addressof(block), tiling.tasks, workers)
        if failed.any():
            for place in np.argwhere(failed):
                self._redo(first, prepared, out, *(int(i) for i in place))

    def _bind(self, x: Array, out: Array) -> tuple[Compiled, Any, tuple[Array, ...]]:
        """The kernel for arrays with such strides and types: tables of where packed elements come from, all sizes."""
        problem, tiling = self.problem, self.tiling
        rows, columns = self.axes
        pairs = zip(self.axes, x.strides[2:], strict=True)
        tables, lowest = zip(*(axis.offsets_from_lowest(problem.border, step) for axis, step in pairs), strict=True)
        left, right = columns.inside()
        values: dict[str, int | float] = {
            **self._tile_values(),
            "values": tiling.places[1],
            "x_base": sum(lowest),
            "x_batch": x.strides[0],
            "x_group": x.strides[1] * tiling.channels,
            "x_channel": x.strides[1],
            "x_column": x.strides[3] * columns.step,
            "row_table": address_of(tables[0]),
            "column_table": address_of(tables[1]),
            "left": left,
            "right": right,
            "row_lead": tiling.rows.lead,
            "row_stop": tiling.rows.stop,
            "column_lead": tiling.columns.lead,
            "column_stop": tiling.columns.stop,
            **dict(zip(("out_batch", "out_channel", "out_row", "out_column"), out.strides, strict=True)),
            "out_rows": rows.outputs,
            "out_columns": columns.outputs,
            "row_first": tiling.rows.first,
            "row_stride": rows.stride,
            "column_first": tiling.columns.first,
            "column_stride": columns.stride,
            "rows_per_tile": tiling.rows.outputs,
            "columns_per_tile": tiling.columns.outputs,
            "tiles_down": tiling.rows.count,
            "tiles_across": tiling.columns.count,
            "runs": -(-tiling.columns.count // tiling.tiles_per_run),
            "tiles_per_run": tiling.tiles_per_run,
            **finish_values(problem),
            "channels": tiling.channels,
            "kernels": tiling.kernels,
            "groups": problem.groups,
            "shares": -(-problem.groups // tiling.groups_per_share),
            "groups_per_share": tiling.groups_per_share,
            "splits": tiling.splits,
            "kernels_per_split": -(-tiling.kernels // tiling.splits),
        }
        source = SOURCES.get(x.dtype) or ELEMENTS[problem.dtype]
        function = _function(tiling.target, ELEMENTS[problem.dtype], source, tiling.single, Finish.of(problem))
        return function, FIELDS.block(values), tables

    def _redo(self, x: Array, prepared: Prepared, out: Array, picture: int, group: int, *tile: int) -> None:
        """One group of a tile by the definition."""
        tiling, problem = self.tiling, self.problem
        channels = slice(group * tiling.channels, (group + 1) * tiling.channels)
        kernels = slice(group * tiling.kernels, (group + 1) * tiling.kernels)
        known = prepared.definition.get(group)
        if known is None:
            bias = None if prepared.bias is None else prepared.added[kernels]
            known = prepared.definition[group] = self.definition.prepare(prepared.weights[kernels], bias, 0.0)
        block, places = x[picture, channels].astype(self._dtype, copy=False), []
        for number, axis, cut in zip(tile, self.axes, (tiling.rows, tiling.columns), strict=True):
            sources = np.full(axis.span(cut.outputs), -1)
            read = axis.sources(problem.border)[number * cut.outputs * axis.stride :][: len(sources)]
            sources[: len(read)] = read
            block = np.moveaxis(block[:, np.maximum(sources, 0)], 1, -1)
            block[..., sources < 0] = prepared.fill
            places.append(slice(number * cut.outputs, min((number + 1) * cut.outputs, axis.outputs)))
        result = np.empty((1, tiling.kernels, tiling.rows.outputs, tiling.columns.outputs), self._dtype)
        self.definition.run(block[np.newaxis], known, result)
        place = out[picture, kernels, places[0], places[1]]
        place[...] = result[0, :, : place.shape[1], : place.shape[2]]


@lru_cache(maxsize=64)
def _function(target: Target, element: str, source: str, single: bool, finish: Finish) -> Compiled:
    return compiled(forward_module(target, element, source, single, finish), target, "task")


@lru_cache(maxsize=16)
def _weight_function(target: Target, element: str) -> Compiled:
    return compiled(weight_module(target, element), target, "task")
