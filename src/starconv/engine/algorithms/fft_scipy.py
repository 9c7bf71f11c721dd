"""Large kernels: tiles of the input are Fourier transformed, multiplied by the kernels' spectra, and transformed back.

Maths: over a tile of N elements, correlation with indices taken modulo N is a product of spectra,

    O = irfft(rfft(X) conj(rfft(K))),

and its first N - e + 1 elements wrap around nowhere when the kernel spans e: these are kept, and the next tile begins
behind them (overlap-save). Channels add up before the transform back, strides keep every s-th element, a dilated
kernel is one with zeros in it. The work per output hardly grows with the kernel: in tiles of 256 x 256 a 31x31 kernel
costs two transforms of 1.3 points per output, some 8 ns, against 961 multiply-adds, 20 ns at the peak of AVX2.

How it runs: scipy.fft transforms float32 as float32. A task is a tile of some groups; threads claim tasks (see
`runtime.pool`). What is transformed together is fixed by the shape, so the bits do not depend on the threads.

NaN, infinity and overflow would spread over their whole tile. So a tile whose result has no finite sum is computed
again as the definition says, by whichever algorithm the planner plans for a tile with precision "strict": that is this
row's one part. They reach exactly the results that they reach with `direct`.

Limits: float32 and float64, never "strict": results round by some units of the largest in their tile, not their own.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import Axis
from ...problem import Problem
from ..emit.target import Target
from ..lattice import Lattice, lattices
from ..runtime import pool
from .finish import finish_with_numpy, lies_like
from .refusals import refuses_fourier, refuses_other_than
from .rounding import sum_bound

NAME = "fft_scipy"
WIDENS = True

Array = NDArray[Any]

MOST_BYTES = 64 << 20
"""Of the kernels' spectra, and of what one task holds, at most."""
TASK_BYTES = 1 << 20
"""Small groups are taken together up to this size: their transforms stay in the caches."""
SECONDS_PER_POINT = {"float32": 6.5e-9, "float64": 9e-9}
"""Both transforms, the product and the copies, per element of a tile."""
SECONDS_PER_TASK = 60e-6
ROUNDINGS = 6
"""Error of both transforms, in units of rounding per halving of their length; tested with a wide margin."""


@lru_cache(maxsize=1)
def _scipy_fft() -> Any:
    """scipy.fft, imported when it is first needed: that takes three times as long as all of the engine."""
    import scipy.fft

    return scipy.fft


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: forward convolutions in floating point, with kernels so large that it could pay."""
    refusal = refuses_other_than("conv", problem) or refuses_fourier(problem)
    if refusal is not None:
        return refusal
    tiling = Tiling.of(problem)
    if max(tiling.spectra_bytes, tiling.group_bytes) > MOST_BYTES:
        return f"spectra of so many channels would take more than {MOST_BYTES >> 20} MiB"
    return None


def parts(problem: Problem, target: Target | None) -> tuple[Problem, ...]:
    """One group of one tile by the definition, for tiles with a NaN or an infinity."""
    pairs = zip(Tiling.of(problem).outputs, lattices(problem), strict=True)
    axes = [Axis(axis.span(outputs), axis.taps, axis.stride, dilation=axis.dilation) for outputs, axis in pairs]
    part = replace(
        problem,
        batch=1,
        in_channels=problem.in_channels // problem.groups,
        out_channels=problem.out_channels // problem.groups,
        axes=tuple(axes[3 - problem.spatial :]),
        groups=1,
        border="constant",
        channels_last=False,
        bias=False,
        residual=False,
        activation="none",
        precision="strict",
    )
    return (part,)


def cost(problem: Problem, target: Target | None, parts: Sequence[float]) -> float:
    """Seconds: the transforms of tiles and kernels, by threads, and the interpreter, which they share."""
    return Tiling.of(problem).seconds(2 if target is None else min(target.cores, 2))


def workspace(problem: Problem, target: Target | None, parts: Sequence[int]) -> int:
    """Bytes: the kernels' spectra, and a task's tiles and spectra per thread."""
    tiling = Tiling.of(problem)
    cores = 1 if target is None else target.cores
    return tiling.spectra_bytes + cores * tiling.group_bytes * tiling.groups_per_task + sum(parts)


def error_bound(problem: Problem, parts: Sequence[float]) -> float:
    """Relative to the largest sum of |x||w|: adding up as elsewhere, and the roundings of the transforms.

    A transform of N points is log2 N rounds of butterflies, each of which rounds by some units of what went in.
    N. Higham, "Accuracy and Stability of Numerical Algorithms", section 24.1.
    """
    points = math.prod(Tiling.of(problem).lengths)
    return sum_bound(problem) + ROUNDINGS * math.log2(points) * float(np.finfo(problem.dtype).eps)


def build(problem: Problem, target: Target | None, parts: Sequence[Any]) -> "Fourier":
    """The solution of `problem`, with that of a tile by the definition."""
    return Fourier(problem, *parts)


@dataclass(frozen=True, slots=True)
class Tiling:
    """How the packed input is cut into tiles that are transformed.

    Attributes:
        lengths: elements of a tile along depth, rows and columns.
        outputs: outputs that a tile gives, along each.
        counts: tiles along each.
        groups_per_task: groups whose tiles are one task.
    """

    problem: Problem
    lengths: tuple[int, ...]
    outputs: tuple[int, ...]
    counts: tuple[int, ...]
    groups_per_task: int

    @classmethod
    def of(cls, problem: Problem) -> "Tiling":
        """The quickest of many, by `seconds`."""
        return _tiling(problem)

    @property
    def points(self) -> int:
        """Elements of a tile."""
        return math.prod(self.lengths)

    @property
    def frequencies(self) -> tuple[int, ...]:
        """The shape of a tile's spectrum: half of it, for the other half is its conjugate."""
        return (*self.lengths[:-1], self.lengths[-1] // 2 + 1)

    @property
    def spectra_bytes(self) -> int:
        """Of all kernels' spectra."""
        return math.prod(self.problem.weight_shape[:2]) * math.prod(self.frequencies) * 2 * self.problem.itemsize

    @property
    def group_bytes(self) -> int:
        """What one tile of one group takes: channels and kernels, as elements and as spectra."""
        return _group_bytes(self.problem, self.points)

    @property
    def tasks(self) -> int:
        """Tiles of all pictures, some groups at a time."""
        return self.problem.batch * math.prod(self.counts) * -(-self.problem.groups // self.groups_per_task)

    def seconds(self, cores: int) -> float:
        """What a call takes, weights included."""
        return _seconds(self.problem, cores, self.points, math.prod(self.counts))


@lru_cache(maxsize=1024)
def _tiling(problem: Problem) -> Tiling:
    ways = (_candidates(axis) for axis in lattices(problem))
    best = min(itertools.product(*ways), key=lambda axes: _seconds(problem, 2, *_sizes(axes)))
    lengths, outputs, counts = (tuple(sizes) for sizes in zip(*best, strict=True))
    one = Tiling(problem, lengths, outputs, counts, 1)
    return replace(one, groups_per_task=_groups_per_task(problem, one.points))


def _sizes(axes: tuple[tuple[int, int, int], ...]) -> tuple[int, int]:
    """Elements of a tile, and tiles of a picture."""
    (depth, _, depths), (rows, _, bands), (columns, _, strips) = axes
    return depth * rows * columns, depths * bands * strips


def _groups_per_task(problem: Problem, points: int) -> int:
    return min(max(TASK_BYTES // _group_bytes(problem, points), 1), problem.groups)


def _group_bytes(problem: Problem, points: int) -> int:
    channels = (problem.in_channels + 2 * problem.out_channels) // problem.groups
    return channels * 2 * points * problem.itemsize


def _seconds(problem: Problem, cores: int, points: int, tiles: int) -> float:
    """Transforms of channels and kernels, a product for each pair of them, and the interpreter's share."""
    tiles *= problem.batch
    tasks = tiles * -(-problem.groups // _groups_per_task(problem, points))
    pairs = problem.out_channels * (problem.in_channels // problem.groups)
    each = SECONDS_PER_POINT[problem.dtype]
    if 4 * points * problem.itemsize > TASK_BYTES:
        each *= 2  # transforms beyond the second-level cache, as dear as from memory
    transforms = (problem.in_channels + problem.out_channels) / 2 * tiles + pairs / 2
    seconds = points * (transforms * each + (pairs - problem.groups) * tiles * 1e-9)
    return seconds / max(min(cores, tasks), 1) + tasks * SECONDS_PER_TASK + 100e-6


@lru_cache(maxsize=4096)
def _good_length(least: int) -> int:
    """The least 2^a 3^b 5^c that is not smaller; as scipy.fft.next_fast_len says, for whom plans need not wait.

    >>> _good_length(127), _good_length(1001)
    (128, 1024)
    """
    best = 1 << (least - 1).bit_length()
    for threes, fives in itertools.product(range(least.bit_length()), repeat=2):
        odd = 3**threes * 5**fives
        if odd < best:
            best = min(best, odd << (-(-least // odd) - 1).bit_length())
    return best


def _candidates(axis: Lattice) -> list[tuple[int, int, int]]:
    """Ways to cut an axis, (length, outputs, tiles), from one tile on: only good lengths for transforms."""
    extent = axis.span(1)
    ways: dict[int, tuple[int, int, int]] = {}
    for wanted in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 256, 1024):
        outputs = -(-axis.outputs // wanted)
        length = _good_length(axis.span(outputs))
        outputs = min((length - extent) // axis.stride + 1, axis.outputs)
        ways[length] = length, outputs, -(-axis.outputs // outputs)
        if outputs * axis.stride <= extent // 2:
            break
    return list(ways.values())


class Fourier:
    """Runs one problem; see the module's text."""

    def __init__(self, problem: Problem, definition: Any) -> None:
        self.problem, self.definition = problem, definition
        self.tiling = tiling = Tiling.of(problem)
        self.axes = lattices(problem)
        self._transformed = tuple(i - 3 for i in range(3) if tiling.lengths[i] > 1 or i == 2)
        self._sizes = tuple(tiling.lengths[i] for i in self._transformed)
        self._segments = [
            [_segments(sources, tile * outputs * axis.stride, length) for tile in range(count)]
            for axis, sources, length, outputs, count in zip(
                self.axes,
                [axis.sources(problem.border) for axis in self.axes],  # once: a long row has millions, in many tiles
                tiling.lengths,
                tiling.outputs,
                tiling.counts,
                strict=True,
            )
        ]

    def prepare(self, second: Array, bias: Array | None, fill: float, once: bool = False) -> "Prepared":
        """The conjugate spectra of the kernels (groups, kernels, channels, ...)."""
        problem, tiling = self.problem, self.tiling
        weights = _in_three_axes(second.astype(problem.dtype, copy=True), problem.spatial)
        shape = (problem.groups, -1, *weights.shape[1:2])
        spectra = np.empty((*weights.shape[:2], *tiling.frequencies), np.result_type(problem.dtype, np.complex64))

        def transform(kernel: int) -> None:
            spread = np.zeros((weights.shape[1], *tiling.lengths), problem.dtype)
            _cut(spread, [slice(0, axis.span(1), axis.dilation) for axis in self.axes])[...] = weights[kernel]
            with np.errstate(over="ignore", invalid="ignore"):
                np.conjugate(_scipy_fft().rfftn(spread, axes=self._transformed), out=spectra[kernel])

        pool.run(transform, len(weights))
        offsets = None if bias is None else bias.astype(problem.dtype).reshape(problem.groups, -1, 1, 1, 1)
        return Prepared(
            weights.reshape(*shape, *weights.shape[2:]), spectra.reshape(*shape, *tiling.frequencies), offsets, fill
        )

    def run(self, first: Array, prepared: "Prepared", out: Array, residual: Array | None = None) -> None:
        """Compute into `out`, tile by tile."""
        problem, tiling = self.problem, self.tiling
        x, result = (_in_three_axes(array, problem.spatial) for array in (first, out))
        if residual is not None and not lies_like(residual, out):
            residual = residual.astype(problem.dtype)  # a copy: tiles must not overwrite what others add
        added = None if residual is None else _in_three_axes(residual, problem.spatial)
        tiles = list(itertools.product(*(range(count) for count in tiling.counts)))
        shares = -(-problem.groups // tiling.groups_per_task)

        def task(number: int) -> None:
            number, share = divmod(number, shares)
            picture, tile = divmod(number, len(tiles))
            groups = slice(share * tiling.groups_per_task, min((share + 1) * tiling.groups_per_task, problem.groups))
            with np.errstate(over="ignore", invalid="ignore"):  # of this thread
                sums = self._tile(x[picture], tiles[tile], groups, prepared)
            places = self._places(tiles[tile])
            sums = _cut(sums, [slice(place.stop - place.start) for place in places])
            kernels = problem.out_channels // problem.groups
            channels = slice(groups.start * kernels, groups.stop * kernels)
            sums = sums.reshape(-1, *sums.shape[2:])
            part = None if added is None else _cut(added[picture, channels], places)
            _cut(result[picture, channels], places)[...] = finish_with_numpy(problem, sums, part)

        pool.run(task, tiling.tasks)

    def _places(self, tile: tuple[int, ...]) -> list[slice]:
        """Where the outputs of a tile lie."""
        cut = zip(tile, self.tiling.outputs, self.axes, strict=True)
        return [slice(i * count, min((i + 1) * count, axis.outputs)) for i, count, axis in cut]

    def _tile(self, x: Array, tile: tuple[int, ...], groups: slice, prepared: "Prepared") -> Array:
        """The outputs (groups, kernels, ...) of one tile, with the bias."""
        block = self._block(x, tile, groups, prepared.fill)
        spectra = _scipy_fft().rfftn(block, axes=self._transformed)
        kernels = prepared.spectra[groups]
        sums = spectra[:, None, 0] * kernels[:, :, 0]
        for channel in range(1, spectra.shape[1]):
            sums += spectra[:, None, channel] * kernels[:, :, channel]
        back = _scipy_fft().irfftn(sums, self._sizes, axes=self._transformed, overwrite_x=True)
        pairs = zip(self.tiling.outputs, self.axes, strict=True)
        valid = _cut(back, [slice(0, (count - 1) * axis.stride + 1, axis.stride) for count, axis in pairs])
        finite = np.isfinite(valid.sum(axis=(-3, -2, -1))).all(axis=1)
        for group in np.flatnonzero(~finite):
            self._redo(block[group], groups.start + int(group), prepared, valid[group])
        if prepared.bias is not None:
            valid += prepared.bias[groups]
        return valid

    def _block(self, x: Array, tile: tuple[int, ...], groups: slice, fill: float) -> Array:
        """The input elements (groups, channels, ...) of a tile, with the border drawn in."""
        problem = self.problem
        channels = problem.in_channels // problem.groups
        block = np.empty(((groups.stop - groups.start) * channels, *self.tiling.lengths), problem.dtype)
        x = x[groups.start * channels : groups.stop * channels]
        for segments in itertools.product(*(axis[i] for axis, i in zip(self._segments, tile, strict=True))):
            target = _cut(block, [segment.target for segment in segments])
            sources = [segment.source for segment in segments]
            if any(segment.beyond for segment in segments):
                target[...] = 0.0
            elif any(source is None for source in sources):
                target[...] = fill
            else:
                target[...] = _cut(x, sources)
        return block.reshape(-1, channels, *self.tiling.lengths)

    def _redo(self, block: Array, group: int, prepared: "Prepared", out: Array) -> None:
        """One group of a tile by the definition."""
        kernels = prepared.definition.get(group)
        if kernels is None:
            plain = self._without_missing(prepared.weights[group])
            kernels = prepared.definition[group] = self.definition.prepare(plain, None, 0.0)
        spans = zip(self.axes, self.tiling.outputs, strict=True)
        read = _cut(block, [slice(axis.span(outputs)) for axis, outputs in spans])
        self.definition.run(self._without_missing(read)[None], kernels, self._without_missing(out)[None])

    def _without_missing(self, array: Array) -> Array:
        """`array` (..., depth, rows, columns) with the axes only that the problem has."""
        spatial = self.problem.spatial
        index: tuple[Any, ...] = (..., *(0,) * (3 - spatial), *(slice(None),) * spatial)
        part: Array = array[index]
        return part


@dataclass(frozen=True, slots=True)
class Prepared:
    """Kernels (groups, kernels, channels, ...) as they are and as spectra, the bias, and what padding holds."""

    weights: Array
    spectra: Array
    bias: Array | None
    fill: float
    definition: dict[int, Any] = field(default_factory=dict)
    """Per group, the kernels for tiles with a NaN or an infinity: made when there is one."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of a tile's elements along one axis: they show `source`, or padding; or lie beyond all that is read."""

    target: slice
    source: slice | None
    beyond: bool = False


def _segments(sources: NDArray[np.intp], start: int, length: int) -> list[Segment]:
    """The runs of neighbours that elements start to start + length show, forwards, backwards or all the same."""
    sources = sources[start : start + length]
    steps = np.diff(sources)
    bends = np.append(np.flatnonzero(np.diff(steps)) + 1, len(steps))  # where another step begins
    crossings = np.append(np.flatnonzero(np.diff(sources < 0)), len(steps))  # before padding begins or ends
    segments, first = [], 0
    while first < len(sources):
        step = int(steps[first]) if first < len(steps) else 0
        bend = min(int(np.searchsorted(bends, first, "right")), len(bends) - 1)
        crossing = min(int(np.searchsorted(crossings, first, "left")), len(crossings) - 1)
        last = int(min(bends[bend], crossings[crossing]))
        segments.append(Segment(slice(first, last + 1), _source(int(sources[first]), int(sources[last]), step)))
        first = last + 1
    if len(sources) < length:
        segments.append(Segment(slice(len(sources), length), None, beyond=True))
    return segments


def _source(first: int, last: int, step: int) -> slice | None:
    """The slice from `first` to `last`; one element, to be repeated, for step 0; None for padding."""
    if first < 0:
        return None
    if step >= 0:
        return slice(first, last + 1, max(step, 1))
    return slice(first, last - 1 if last else None, step)


def _in_three_axes(array: Array, spatial: int) -> Array:
    """`array` (N, C, ...) with three spatial axes."""
    index: tuple[Any, ...] = (slice(None), slice(None), *(None,) * (3 - spatial))
    view: Array = array[index]
    return view


def _cut(array: Array, slices: Sequence[Any]) -> Array:
    """The part of `array` that these slices take of its last axes."""
    index: tuple[Any, ...] = (..., *slices)
    part: Array = array[index]
    return part
