"""How `fft` cuts a picture into tiles, and what that costs."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from ...problem import Problem
from ..emit.target import Target
from ..lattice import Lattice, lattices
from .fft_transforms import lengths

__all__ = ["MOST_BYTES", "Cut", "Tiling"]

MOST_BYTES = 64 << 20
"""Of the kernels' spectra, and of what one task holds, at most."""
MOST_ROWS, MOST_COLUMNS, MOST_POINTS = 256, 4096, 1 << 17
"""Of a tile: more of them leave the second-level cache and gain nothing."""
TASK_CYCLES = 60_000
"""Small groups are taken together up to this: starting a task takes some hundred cycles."""
FREQUENCY = 3e9


@dataclass(frozen=True, slots=True)
class Cut:
    """How tiles lie along an axis of packed elements.

    Attributes:
        length: elements of a tile.
        outputs: outputs that a tile gives.
        count: tiles.
        lead: the packed element where the first tile begins. Where one tile does, and the border is zeros, it begins
            with the input itself: what is read before it wraps around to the zeros behind it, which serve both sides.
        stop: the packed element where all tiles end, unless they end before.
        first: where in a tile its first output is.
    """

    length: int
    outputs: int
    count: int
    lead: int
    stop: int
    first: int


def cuts(axis: Lattice, sizes: tuple[int, ...], zeros: bool) -> list[Cut]:
    """Ways to cut an axis into tiles of these sizes; `zeros` if the border is."""
    extent, found = axis.span(1), []
    for length in sizes:
        if length >= extent:
            outputs = min((length - extent) // axis.stride + 1, axis.outputs)
            count = -(-axis.outputs // outputs)
            even = -(-axis.outputs // count)
            found.append(Cut(length, even, count, 0, axis.size, extent - 1))
            if count == 1:
                break
    before, after, size = axis.axis.before, axis.axis.after, axis.axis.input
    if zeros and axis.step == 1 and 0 <= before < extent and 0 <= after < extent:
        needed = max(size + max(before, after), extent)
        stop = min(before + size, axis.size)
        enough = [length for length in sizes if length >= needed]
        found += [Cut(length, axis.outputs, 1, before, stop, extent - 1 - before) for length in enough[:1]]
    return found


class Tiling(NamedTuple):
    """The tiles of a problem on a target; `zeros` where constant padding holds zeros."""

    problem: Problem
    target: Target
    rows: Cut
    columns: Cut

    @classmethod
    def of(cls, problem: Problem, target: Target, zeros: bool) -> "Tiling | None":
        """The quickest of many by `whole`; None for kernels larger than any tile."""
        return _tiling(problem, target, zeros)

    @property
    def lanes(self) -> int:
        """Transforms that run side by side."""
        return self.target.lanes(self.problem.itemsize)

    @property
    def points(self) -> int:
        """Elements of a tile, and of a spectrum."""
        return self.rows.length * self.columns.length

    @property
    def pitch(self) -> int:
        """Elements from row to row: an odd number of cache lines, so that a column does not fall into a few sets."""
        line = 64 // self.problem.itemsize
        return (-(-self.columns.length // line) | 1) * line

    @property
    def single(self) -> bool:
        """Whether a group is one channel and one kernel."""
        return self.problem.in_channels == self.problem.out_channels == self.problem.groups

    @property
    def channels(self) -> int:
        """Per group."""
        return self.problem.in_channels // self.problem.groups

    @property
    def kernels(self) -> int:
        """Per group."""
        return self.problem.out_channels // self.problem.groups

    @property
    def tiles(self) -> int:
        """Of a picture."""
        return self.rows.count * self.columns.count

    @property
    def spectra_bytes(self) -> int:
        """Of all kernels' spectra."""
        return math.prod(self.problem.weight_shape[:2]) * self.points * self.problem.itemsize

    @property
    def places(self) -> tuple[int, int, int]:
        """Bytes from the start of a thread's scratch memory to the buffer, to the channels' spectra, to the end."""
        buffer = self.rows.length * self.pitch * self.problem.itemsize
        values = buffer + self.columns.length * 2 * self.lanes * self.problem.itemsize
        return buffer, values, values + (0 if self.single else self.channels * self.points * self.problem.itemsize)

    @property
    def group_cycles(self) -> float:
        """Of one tile of one group: transforms of its channels and kernels, and a product for each pair of them."""
        lanes, channels, kernels = self.lanes, self.channels, self.kernels
        rounds = math.log2(self.rows.length // 2) + math.log2(self.columns.length)
        each = self.points * (ROUND * rounds + COPIES) / lanes * self.target.passes
        if self.places[-1] + self.points * self.problem.itemsize > self.target.l2_bytes:
            each *= BEYOND  # what a task works in, and a spectrum that it reads, do not fit into the second-level cache
        pairs = 0 if self.single else channels * kernels * self.points * PRODUCT / lanes
        return (channels + kernels) * each + pairs + 500

    @property
    def groups_per_share(self) -> int:
        """Groups whose tiles are one task."""
        return min(max(int(TASK_CYCLES // self.group_cycles), 1), self.problem.groups)

    @property
    def splits(self) -> int:
        """Tasks that share the kernels of a group, where there is too little else for some threads."""
        tasks = self.problem.batch * self.problem.groups * self.tiles
        return min(-(-8 // tasks), self.kernels) if self.channels < self.kernels else 1

    @property
    def tiles_per_run(self) -> int:
        """Tiles side by side that are one task: each fetches the next one's input. At least 32 tasks, if it can be."""
        return min(max(self.problem.batch * self.problem.groups * self.tiles // 32, 1), 8, self.columns.count)

    @property
    def tasks(self) -> int:
        """Runs of tiles of all pictures, some groups at a time."""
        shares = -(-self.problem.groups // self.groups_per_share)
        runs = self.rows.count * -(-self.columns.count // self.tiles_per_run)
        return self.problem.batch * runs * shares * self.splits

    @property
    def cycles(self) -> float:
        """Of a call without the weights."""
        return self.problem.batch * self.problem.groups * self.tiles * self.group_cycles

    @property
    def preparation(self) -> float:
        """Seconds for the kernels' spectra."""
        pairs, columns = math.prod(self.problem.weight_shape[:2]), self.columns.length
        cycles = pairs * (
            self.points * (ROUND * 2 * math.log2(columns) + COPIES) / self.lanes * self.target.passes + 500
        )
        return cycles / FREQUENCY / min(self.target.cores, 2, pairs)

    @property
    def seconds(self) -> float:
        """What a call takes without them: the tiles, reading the spectra for each, or the memory's time."""
        reading = self.spectra_bytes * self.problem.batch * self.tiles / 40e9
        tiles = (self.cycles / FREQUENCY + reading) / min(self.target.cores, 2, self.tasks)
        return 15e-6 + max(tiles, self.problem.bytes_moved / 15e9)

    @property
    def whole(self) -> float:
        """Seconds of a call with weights that were not prepared before."""
        return self.seconds + self.preparation


# Cycles per vector of points: a round of butterflies, everything else, and the product of two spectra.
ROUND, COPIES, PRODUCT, BEYOND = 0.9, 11.0, 5.0, 1.5


@lru_cache(maxsize=1024)
def _tiling(problem: Problem, target: Target, zeros: bool) -> Tiling | None:
    _, rows, columns = lattices(problem)
    lanes, itemsize = target.lanes(problem.itemsize), problem.itemsize
    heights = tuple(2 * half for half in lengths(MOST_ROWS // 2) if half % lanes == 0)
    widths = tuple(width for width in lengths(MOST_COLUMNS) if width % lanes == 0 and width >= 16)
    pairs = math.prod(problem.weight_shape[:2])
    planes = problem.batch * (problem.in_channels + problem.out_channels) / 2

    def about(way: tuple[Cut, Cut]) -> float:
        """What the choice hangs on: points that are transformed, and whether they stay in the second-level cache."""
        down, across = way
        points = down.length * across.length
        each = (
            points * (ROUND * math.log2(points) + COPIES) * (BEYOND if 3 * points * itemsize > target.l2_bytes else 1)
        )
        return each * (planes * down.count * across.count + pairs / 2)

    ways = product(cuts(rows, heights, zeros), cuts(columns, widths, zeros))
    few = sorted((way for way in ways if way[0].length * way[1].length <= MOST_POINTS), key=about)[:3]
    return min((Tiling(problem, target, *way) for way in few), key=lambda tiling: tiling.whole, default=None)
