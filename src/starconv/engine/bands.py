"""A 1x1 layer and the depthwise layer after it, some rows at a time: what lies between them stays in the cache.

MobileNet-V2 expands 16 channels of 112x112 pixels to 96, 4.8 MB, of which a depthwise layer reads every row and makes
1.2 MB. Written as a whole they go through the last cache or memory, whose lines must come before they can be written.
In bands of 16 rows 0.7 MB are between, in the same place for every band.

The depthwise layer reads rows around its own: those that a band shares with the next one are computed once, and copied
to where the next one begins (2 of 18 rows for 3x3 kernels). All sums are formed as without bands, so the bits are the
same.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..geometry import Axis
from . import elementwise
from .algorithms import depthwise, product
from .emit.target import Target
from .lowering import Lowered
from .operations import Chain, Convolution, Operation
from .plan import PreparedPlan
from .planner import make_plan
from .runtime.jobs import Job

__all__ = ["Bands", "band_layers", "most_between"]

Array = NDArray[Any]


class Rows(NamedTuple):
    """Neighbouring rows, from the first to before the last."""

    first: int
    last: int

    def of(self, picture: Array) -> Array:
        """These rows of (1, C, H, W), a view."""
        return picture[:, :, self.first : self.last]


class Band(NamedTuple):
    """A part of both layers.

    Attributes:
        source: rows of the input that are expanded.
        kept: rows between the layers that the band before has left; they come first, `fresh` is where the others go.
        left: where the band before has left them.
        result: rows of the result.
        expand, filter: both layers for these sizes, with their weights; None where the band before has left all.
    """

    source: Rows
    kept: Rows
    fresh: Rows
    left: Rows
    result: Rows
    expand: PreparedPlan | None
    filter: PreparedPlan


@dataclass(eq=False)
class Bands(Operation):
    """Two layers of one picture, band by band. It writes what lies between, of a band at a time, and the result."""

    layers: tuple[Convolution, Convolution]
    bands: tuple[Band, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of both."""
        return tuple(name for layer in self.layers for name in layer.names)

    @property
    def macs(self) -> int:
        """Products of both definitions."""
        return sum(layer.macs for layer in self.layers)

    def how(self) -> str:
        """By what both are done."""
        return " + ".join(layer.how() for layer in self.layers) + f" in {len(self.bands)} bands"

    def jobs(self, arrays: Mapping[str, Array]) -> list[Job] | None:
        """Those of all bands, one after the other; None where there are none for one of them."""
        found: list[Job] = []
        x, between, out = self._operands(arrays)
        for band in self.bands:
            steps = [
                _copied(band.left.of(between), band.kept.of(between)),
                [] if band.expand is None else band.expand.jobs(band.source.of(x), band.fresh.of(between)),
                band.filter.jobs(between[:, :, : band.fresh.last], band.result.of(out)),
            ]
            for step in steps:
                if step is None:
                    return None
                found += step
        return found

    def run(self, arrays: Mapping[str, Array]) -> None:
        """The same by calls."""
        x, between, out = self._operands(arrays)
        for band in self.bands:
            band.kept.of(between)[...] = band.left.of(between)
            if band.expand is not None:
                band.expand(band.source.of(x), out=band.fresh.of(between))
            band.filter(between[:, :, : band.fresh.last], out=band.result.of(out))

    def _operands(self, arrays: Mapping[str, Array]) -> tuple[Array, Array, Array]:
        return arrays[self.reads[0]], arrays[self.writes[0]], arrays[self.writes[1]]


def _copied(source: Array, to: Array) -> list[Job] | None:
    # Seen as they lie, rows of pixels of channels, they are runs.
    source, to = (np.moveaxis(array, 1, -1) for array in (source, to))
    return elementwise.jobs("copy", [source], [to]) if source.size else []


def most_between(target: Target | None) -> int:
    """Bytes that may lie between two layers before they are computed by bands: what the cores' own caches hold."""
    return 1 << 62 if target is None else target.l2_bytes * min(target.cores, 2)


def band_layers(lowered: Lowered, most: int) -> None:
    """Let pairs of layers with more than `most` bytes between them be computed by bands with at most 3/8 of that."""
    readers = Counter(name for operation in lowered.operations for name in operation.reads)
    readers.update(lowered.outputs)
    operations: list[Operation] = []
    for operation in lowered.operations:
        first = operations[-1] if operations else None
        both = _pair(lowered, first, operation, most, readers)
        if both is None:
            operations.append(operation)
        else:
            operations[-1] = both
            lowered.chains[:] = [_with(chain, both) for chain in lowered.chains]
    lowered.operations[:] = operations


def _pair(
    lowered: Lowered, first: Operation | None, second: Operation, most: int, readers: Mapping[str, int]
) -> Bands | None:
    """Both operations as one, if they are such layers with so much between; what is between is then one band's."""
    if not isinstance(first, Convolution) or not isinstance(second, Convolution):
        return None
    (name,) = first.writes
    between = lowered.infos[name].of_one
    if second.reads != [name] or readers[name] > 1 or between.size <= most:
        return None
    bands = _bands(first, second, most * 3 // 8)
    if bands is None:
        return None
    batch, channels, _, columns = between.shape
    rows = max(band.fresh.last for band in bands)
    lowered.infos[name] = replace(between, shape=(batch, channels, rows, columns))
    does, writes = f"{first.does}, {second.does}", [name, *second.writes]
    return Bands(first.name, does, first.reads, writes, (first, second), bands)


def _with(chain: Chain, bands: Bands) -> Chain:
    """The chain with `bands` in the place of its layers, if they are there."""
    operations = [bands if each is bands.layers[0] else each for each in chain.operations]
    return replace(chain, operations=tuple(each for each in operations if each is not bands.layers[1]))


def _bands(first: Convolution, second: Convolution, room: int) -> tuple[Band, ...] | None:
    """The bands of two layers, `room` bytes each; None where they are not such layers, or not worth it."""
    if first.how() != product.NAME or second.how() != depthwise.NAME or first.residual is not None:
        return None
    expand, filters = first.problem, second.problem
    if expand.batch > 1 or expand.spatial != 2 or filters.border != "constant" or filters.residual:
        return None
    if any(axis.stride > 1 for axis in expand.axes):
        return None
    rows, columns = filters.axes
    row_bytes = expand.out_channels * columns.input * expand.itemsize
    most = room // row_bytes - (rows.extent - rows.stride)  # rows between that are new with a band
    per_band = most // rows.stride
    if per_band > 0:
        per_band = -(-rows.output // -(-rows.output // per_band))  # as even as can be
    if per_band < max(rows.extent - rows.stride, 4) or per_band >= rows.output or rows.extent < rows.stride:
        return None
    bands: list[Band] = []
    end = 0  # of what has been expanded
    for start in range(0, rows.output, per_band):
        stop = min(start + per_band, rows.output)
        top, bottom = start * rows.stride - rows.before, (stop - 1) * rows.stride - rows.before + rows.extent
        begin, last = max(top, 0), min(bottom, rows.input)
        if begin >= last:  # a band that meets nothing but padding
            return None
        axis = Axis(last - begin, rows.kernel, rows.stride, begin - top, bottom - last, rows.dilation)
        kept = end - begin if bands else 0
        fresh = last - begin - kept
        expanding = _prepared(first, (Axis(fresh, 1), expand.axes[1])) if fresh else None
        filtering = _prepared(second, (axis, columns))
        if filtering is None or (fresh and expanding is None):
            return None
        before = bands[-1].fresh.last if bands else 0
        bands.append(
            Band(
                Rows(begin + kept, last),
                Rows(0, kept),
                Rows(kept, last - begin),
                Rows(before - kept, before),
                Rows(start, stop),
                expanding,
                filtering,
            )
        )
        end = last
    return tuple(bands)


def _prepared(layer: Convolution, axes: tuple[Axis, ...]) -> PreparedPlan | None:
    """The layer for other sizes, by the same algorithm and with the same weights."""
    assert layer.prepared is not None
    problem = replace(layer.prepared.plan.problem, axes=axes)
    return layer.prepared.shared_with(make_plan(problem, algorithm=layer.how(), prepared=True))
