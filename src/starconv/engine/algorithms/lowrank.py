"""Separable kernels, as gaussian, box and sobel are: a column of weights, then a row of weights, in one pass.

Maths: where K[p, q] = u[p] v[q], which the planner cannot know from shapes, so a plan asks when it is given weights,

    O[i, j] = sum_q v[q] (sum_p u[p] X[i + p, j + q])

takes kh + kw multiply-adds instead of kh kw: 62 instead of 961 for 31x31, about what moving the picture takes.

How it runs: a task is a strip of a band of output rows. Four rows at a time, the column of weights goes over the input,
read in place by a table of row addresses, in which borders are other rows or a row of padding. The rows of sums stay
in the first-level cache (4 x 1054 floats, 17 KB), the strip's input in the second. The border's columns are copied from
the columns that they show. Then the row of weights goes over these four rows:

    4 rows x 2 vectors: 2 loads + 4 broadcasts for 8 multiply-adds down, 8 loads + 1 broadcast for 8 across

Limits: 2-D, stride 1, one input channel per kernel, channels first; kernels of 4x4 and up. Weights may differ from u v
by 8 units of rounding each, of themselves: this is where a kernel counts as separable. Whole numbers stay exact.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...geometry import border_sources
from ...problem import Problem
from ..descriptor import address_of
from ..emit.target import Target
from ..kernels import ELEMENTS
from . import planes
from .finish import Finish, finish_values, lies_like
from .lowrank_kernels import FIELDS, ROWS, compute_function
from .packed import Array, Binding, CompiledSolution
from .panels import KernelRows
from .planes_kernels import Tile
from .tiles import refuses_forward

NAME = "lowrank"
CONDITION = "where the kernels are separable"

SECONDS_PER_KERNEL = 40e-6
"""To find its factors. Where one kernel is not separable, the rest are not looked at."""
MOST_STREAMED = 9
"""Rows and columns of a kernel for `planes`, which writes out all taps: with 11 a compilation takes 190 ms."""
MOST_REMEMBERED = 16 << 10
"""Bytes of a kernel whose factors are remembered: up to 63x63."""
STRIP = 1024
"""Output columns of a task: four rows of them stay in the first-level cache."""
TOLERANCE = 8
"""Units of rounding by which a weight may differ from its product: kernels come rounded, as do their sums."""


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not, whatever the weights."""
    refusal = refuses_forward(problem, target)
    if refusal is not None:
        return refusal
    if problem.precision == "strict":
        return "it sums in another way than the definition, which precision strict forbids"
    if problem.spatial != 2 or any(axis.stride != 1 or axis.dilation != 1 for axis in problem.axes):
        return "it takes two axes without strides or dilations"
    if problem.in_channels != problem.groups:
        return "it takes one input channel per kernel"
    if problem.channels_last and problem.in_channels > 1:
        return "it runs along rows of pixels (channels first)"
    if min(axis.kernel for axis in problem.axes) < ROWS:
        return f"smaller kernels than {ROWS}x{ROWS} gain nothing"
    return None


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: a look at the weights; both passes, the second with a load per multiply-add, or the memory's time."""
    assert target is not None
    looking = 10e-6 + problem.out_channels * SECONDS_PER_KERNEL
    moving = target.moving(problem.bytes_moved)
    tile = _stream(problem, target)
    if tile is not None:
        return looking + max(planes.streams_seconds(problem, tile, target), moving)
    rows, columns = problem.axes
    per_output = 1.4 * rows.kernel + 1.95 * columns.kernel + 4
    cycles = math.prod(problem.output_shape) * per_output / (2 * target.lanes(problem.itemsize)) * target.passes
    return looking + max(cycles / 3e9 / min(target.cores, 2), moving)


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes per thread: four rows of a strip, a row of padding and the addresses of rows; or what streams copy."""
    assert target is not None
    if _stream(problem, target) is not None:
        return planes.workspace(problem, target)
    return target.cores * _Sizes.of(problem, target).scratch_bytes


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||w|: weights that are nearly products, a sum of kh terms, one of kw, and the bias."""
    roundings = sum(axis.kernel for axis in problem.axes) + 1 + problem.bias + 2 * TOLERANCE
    return 1.001 * roundings * float(np.finfo(problem.dtype).eps) / 2


def repeats(problem: Problem, target: Target | None) -> int | None:
    """Of strips every row begins anew; parts of what streams take may be too small for them."""
    assert target is not None
    return 1 if _stream(problem, target) is None else None


def build(problem: Problem, target: Target | None) -> "Separable | SeparableStreams":
    """The solution of `problem`; its `prepare` gives None for kernels that are not separable."""
    assert target is not None
    return Separable(problem, target) if _stream(problem, target) is None else SeparableStreams(problem, target)


def _stream(problem: Problem, target: Target) -> Tile | None:
    """The streams of `planes` for the problem, if they take it and are better.

    They load every vector once per column of the kernel, which is as much as strips take in all; but they go past the
    caches: 7x7 over 4K 3.1 -> 1.7 ms, over 1920x1080 0.44 -> 0.49.
    """
    larger = max(axis.kernel for axis in problem.axes) > MOST_STREAMED
    if target.name != "avx512" or problem.residual or larger or not planes.goes_past(problem, target):
        return None
    tile = planes.tile_of(problem, target, separable=True)
    return tile if tile.stream else None


def factors(kernel: Array) -> tuple[Array, Array] | None:
    """The column u and the row v of a separable `kernel`, else None. Of whole numbers they are whole numbers.

    >>> factors(np.array([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0]]))
    (array([1., 2.]), array([1., 2., 1.]))
    >>> factors(np.eye(3)) is None
    True
    """
    first, right, lower, last = (kernel.item(*corner) for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)))
    if abs(first * last - right * lower) > 1e-4 * (abs(first * last) + abs(right * lower)):  # most kernels: a quick no
        return None
    wide = kernel.astype(np.float64)
    if not np.isfinite(wide).all():
        return None
    p, q = divmod(int(np.abs(wide).argmax()), wide.shape[1])
    column, row = wide[:, q], wide[p]
    if wide[p, q] == 0:
        return np.zeros_like(kernel[:, 0]), np.zeros_like(kernel[0])
    if np.abs(column[:, None] * row - wide * row[q]).max() > 1e-5 * row[q] ** 2:
        return None
    divisor = row[q]
    if abs(divisor) < 2**24 and (wide == np.rint(wide)).all():
        divisor = float(np.gcd.reduce(row.astype(np.int64))) * math.copysign(1, divisor)
    u, v = (column * (divisor / row[q])).astype(kernel.dtype), (row / divisor).astype(kernel.dtype)
    product = u[:, None].astype(np.float64) * v
    if (np.abs(product - wide) > TOLERANCE * np.finfo(kernel.dtype).eps * np.abs(wide)).any():
        return None
    return u, v


@lru_cache(maxsize=64)
def _known_factors(numbers: bytes, shape: tuple[int, ...], dtype: str) -> tuple[Array, Array] | None:
    """Those of a kernel with such numbers: looking takes 17 µs, and filters are used again."""
    return factors(np.frombuffer(numbers, dtype).reshape(shape))


class _Sizes(NamedTuple):
    """How the output is cut into tasks: by its shape only."""

    rows_per_band: int
    bands: int
    strip_columns: int
    strips: int
    pitch: int
    scratch_bytes: int

    @classmethod
    def of(cls, problem: Problem, target: Target) -> "_Sizes":
        rows, columns = problem.axes
        planes = problem.batch * problem.out_channels
        strips = max(round(columns.output / STRIP), 1)
        strip = -(-columns.output // strips)
        strips = -(-columns.output // strip)
        # A band reads kh - 1 rows beside its own again: tall bands, but some tasks for threads to share.
        most = max(rows.output // max(2 * rows.kernel, 16), 1)
        bands = min(max(-(-16 // (planes * strips)), rows.output // max(8 * rows.kernel, 128)), most)
        per_band = -(-rows.output // bands)
        per_band = min(-(-per_band // ROWS) * ROWS, rows.output)
        pitch = -(-(strip + columns.kernel - 1) // 16) * 16 + 16
        size = (ROWS + 1) * pitch * problem.itemsize + (rows.kernel + ROWS) * 8
        return cls(per_band, -(-rows.output // per_band), strip, strips, pitch, -(-size // 64) * 64)


class _Factored(CompiledSolution):
    """Is given the factors of its weights, if they have any."""

    def prepare(  # type: ignore[override]
        self, second: Array, bias: Array | None, fill: float, once: bool = False
    ) -> tuple[Array, Array, float] | None:
        """The columns and rows of the kernels, the bias, and what padding holds; None where one is not separable."""
        weights = np.empty((len(second), sum(second.shape[2:])), self._dtype)
        for kernel, place in zip(second.astype(self._dtype, copy=False)[:, 0], weights, strict=True):
            small = kernel.nbytes <= MOST_REMEMBERED
            found = _known_factors(kernel.tobytes(), kernel.shape, kernel.dtype.str) if small else factors(kernel)
            if found is None:
                return None
            place[:] = np.concatenate(found)
        return weights, self.panels.bias(bias), float(fill)

    @property
    def weight_form(self) -> None:
        """Not known: what `prepare` gives is not what other rows make of weights."""

    def prepare_jobs(self, second: Array, bias: Array | None, room: Array) -> None:
        """None: whether weights have factors is seen when they are there."""


class SeparableStreams(_Factored, planes.Planes):
    """Runs one problem by the streams of `planes`: a row of sums per row of input, then its share of every output."""

    def __init__(self, problem: Problem, target: Target) -> None:
        super().__init__(problem, target, separable=True)


class Separable(_Factored):
    """Runs one problem; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        super().__init__(problem, target, FIELDS, KernelRows(problem, target, 1))

    def _readable(self, first: Array) -> Array:
        """`first`, if its rows can be read in place, else a copy."""
        return first if self._lies_well(first) else np.array(first, self._dtype, order="C")

    def _takes(self, out: Array, residual: Array | None) -> bool:
        return self._lies_well(out) and (residual is None or lies_like(residual, out))

    def _lies_well(self, array: Array) -> bool:
        return array.dtype == self._dtype and array.flags.aligned and array.strides[-1] == self._dtype.itemsize

    def bind(self, x: Array, out: Array, limit: int) -> Binding:
        """All sizes and steps, and tables of the rows and columns that padding shows."""
        problem, sizes = self.problem, _Sizes.of(self.problem, self.target)
        rows, columns = problem.axes
        row_table, column_table = (
            border_sources(axis.input, axis.before, max(axis.after, 0), problem.border).astype(np.int64)
            for axis in (rows, columns)
        )
        # A tile may reach past the last row: the rows that it reads there show in no result.
        row_table = np.concatenate([row_table, np.repeat(row_table[-1:], ROWS)])
        fields: dict[str, int | float] = {
            "row_table": address_of(row_table),
            "column_table": address_of(column_table),
            **finish_values(problem),
            **dict(zip(("x_batch", "x_channel", "x_row"), x.strides, strict=False)),
            **dict(zip(("out_batch", "out_channel", "out_row"), out.strides, strict=False)),
            "kernels": problem.out_channels,
            "per_channel": problem.out_channels // problem.groups,
            "taps_rows": rows.kernel,
            "taps_columns": columns.kernel,
            "in_columns": columns.input,
            "before": columns.before,
            "out_rows": rows.output,
            "out_columns": columns.output,
            "bands": sizes.bands,
            "rows_per_band": sizes.rows_per_band,
            "strips": sizes.strips,
            "strip_columns": sizes.strip_columns,
            "pitch": sizes.pitch,
            "scratch_bytes": sizes.scratch_bytes,
        }
        tasks = problem.batch * problem.out_channels * sizes.bands * sizes.strips
        workers = min(limit, tasks)
        function = compute_function(self.target, ELEMENTS[problem.dtype], Finish.of(problem, floor=True))
        scratch = sizes.scratch_bytes * workers
        return Binding(function, FIELDS.block(fields), tasks, workers, scratch, (row_table, column_table), [])
