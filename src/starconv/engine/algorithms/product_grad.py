"""Weight gradients of 1x1 kernels of channels-last data, read where they lie.

Maths: dL/dK[s, r] = sum over n, p of G[n, p, s] X[n, p, r], for all pixels p of all pictures: a product of matrices
whose inner dimension are the pixels.

How it runs: per pixel up to 4 vectors of neighbouring channels of X are loaded, 6 kernels' numbers of G are broadcast,
and 24 sums are in registers (12 where there are 16): 10 loads for 24 multiply-adds. A unit is some neighbouring pixels,
few enough for what tiles of the same channels read of X to stay in the first-level cache; after a unit a tile's sums
are added to those in memory. A table says where a unit's pixels lie in both, so nothing is packed, whatever the stride.

A task is a share of the kernels and a range of units, whose sums are a *partial* sum. How many there are is decided by
the shape alone, and partial sums are added in the order of their numbers, so the result has the same bits for any
number of threads. Sums that are small have many partials, large ones many shares.

Limits: float32 and float64, channels last, one group, kernels of one tap without padding, a vector of channels at
least.
"""

import math
from typing import NamedTuple

import numpy as np

from ...problem import Problem
from ..descriptor import Fields, address_of
from ..emit.ir import ITEMSIZES, Function, Registers, module_source
from ..emit.source import emitted
from ..emit.target import Target
from ..kernels import ELEMENTS, compiled
from ..lattice import grid_offsets, lattices, spatial_steps
from .gradient_solution import GradientBinding, GradientSolution, Parts, tasks_wanted
from .panels import Array, readable_last
from .refusals import refuses_channels_first, refuses_few_channels, refuses_taps_or_padding, refuses_unless
from .rounding import sum_bound

NAME = "product_grad"

PARTIAL_BYTES = 1 << 20
"""Of all partial sums together, at most: they are fetched and put back by every unit."""
MOST_SUMS_BYTES = 16 << 20
"""Sums that take more would not leave the promised room."""
MOST_KERNELS = 6
"""Of a tile."""

FIELDS = Fields(
    (
        "x",
        "g",
        "out",
        "sums",  # [partial][share][tile of channels][tile of kernels][kernel][channel]
        "scratch",
        "x_batch",  # bytes of x, and of g, between pictures, their planes, bands of rows and parts of these
        "x_depth",
        "x_band",
        "x_part",
        "g_batch",
        "g_depth",
        "g_band",
        "g_part",
        "places",  # per pixel of a unit: where it lies in x, and in g, in bytes from the first one
        "rows",  # of a plane of g, and its columns
        "columns",
        "band_rows",
        "part_columns",
        "depths",
        "bands",
        "parts",
        "units",
        "channels",
        "kernels",
        "across",  # tiles of channels
        "per_share",  # tiles of kernels
        "shares",
        "partials",
    )
)


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only weight gradients of kernels of one tap, channels last, in one group."""
    refusal = refuses_unless("weight_grad", problem, target) or refuses_taps_or_padding(problem)
    if refusal is not None or target is None:
        return refusal
    if problem.groups > 1:
        return f"it takes one group, not {problem.groups}"
    if refusal := refuses_channels_first(problem) or refuses_few_channels(problem, target):
        return refusal
    if Cut.of(problem, target).sums_bytes > MOST_SUMS_BYTES:
        return "its sums would take more workspace than is promised"
    return None


class Cut(NamedTuple):
    """How a problem falls into tiles, units and tasks: a function of its shape and the processor's caches only."""

    vectors: int
    kernels: int
    across: int
    per_share: int
    shares: int
    partials: int
    band_rows: int
    part_columns: int
    depths: int
    bands: int
    parts: int
    tile_bytes: int
    units: int

    @classmethod
    def of(cls, problem: Problem, target: Target) -> "Cut":
        """Units whose part of X fills half of the first-level cache; partial sums where they are small, else shares.

        A unit is some rows, or a part of one.
        """
        lanes = target.lanes(problem.itemsize)
        depths, rows, columns = (axis.outputs for axis in lattices(problem))
        most = 4 if target.registers >= 32 else 2
        vectors = min(-(-problem.in_channels // lanes), most, problem.in_channels // lanes)
        vectors = min(range(1, vectors + 1), key=lambda n: -(-problem.in_channels // (n * lanes)) * (n + 0.5))
        kernels = min(problem.out_channels, MOST_KERNELS)
        across, down = -(-problem.in_channels // (vectors * lanes)), -(-problem.out_channels // kernels)
        tile_bytes = kernels * vectors * target.vector_bytes
        wanted = tasks_wanted(problem)
        fit = max(target.l1_bytes // 2 // (vectors * target.vector_bytes), 16)
        parts = -(-columns // fit)
        part_columns = -(-columns // parts)
        parts = -(-columns // part_columns)
        bands = -(-rows // (max(fit // columns, 1)))
        band_rows = -(-rows // bands)
        bands = -(-rows // band_rows)
        units = problem.batch * depths * bands * parts
        partials = max(min(wanted, PARTIAL_BYTES // (across * down * tile_bytes), units), 1)
        per_share = -(-down // min(-(-wanted // partials), down))
        shares = -(-down // per_share)
        places = band_rows, part_columns, depths, bands, parts
        return cls(vectors, kernels, across, per_share, shares, partials, *places, tile_bytes, units)

    @property
    def sums_bytes(self) -> int:
        """Of all partial sums."""
        return self.partials * self.shares * self.per_share * self.across * self.tile_bytes


def cost(problem: Problem, target: Target | None) -> float:
    """Seconds: the tiles' multiply-adds, and fetching their sums; or the time in which memory moves both operands."""
    assert target is not None
    cut = Cut.of(problem, target)
    pixels = math.prod(problem.output_shape) // problem.out_channels
    sums = cut.vectors * cut.kernels
    per_pixel = max(sums / 2 * target.passes, (cut.vectors * target.passes + cut.kernels) / 2, 4.0)
    tiles = cut.across * -(-problem.out_channels // cut.kernels)
    cycles = tiles * (pixels * (per_pixel + 1) + cut.units * (2 * sums * target.passes + 20))
    return 6e-6 + max(cycles / 3e9 / min(target.cores, 2), target.moving(problem.bytes_moved))


def workspace(problem: Problem, target: Target | None) -> int:
    """Bytes: the partial sums."""
    assert target is not None
    return Cut.of(problem, target).sums_bytes


def error_bound(problem: Problem) -> float:
    """Relative to the sum of |x||g|, which is formed unit by unit: fewer roundings per product than one chain has."""
    return sum_bound(problem)


def build(problem: Problem, target: Target | None) -> "ProductGradient":
    """The solution of `problem`."""
    assert target is not None
    return ProductGradient(problem, target)


class ProductGradient(GradientSolution):
    """Runs one weight gradient; see the module's text."""

    def __init__(self, problem: Problem, target: Target) -> None:
        self.cut = cut = Cut.of(problem, target)
        super().__init__(
            problem, target, FIELDS, Parts(cut.partials * cut.shares, problem.out_channels, 0, cut.sums_bytes)
        )

    def _readable(self, operand: Array) -> Array:
        return readable_last(operand, self._dtype)

    def bind(self, x: Array, g: Array) -> GradientBinding:
        """The table of where pixels lie, and all sizes and steps."""
        problem, cut = self.problem, self.cut
        axes = lattices(problem)
        x_steps = [step * axis.step for step, axis in zip(spatial_steps(x), axes, strict=True)]
        g_steps = spatial_steps(g)
        unit = cut.band_rows, cut.part_columns
        places = np.stack([grid_offsets(unit, x_steps[1:]), grid_offsets(unit, g_steps[1:])], axis=-1)
        fields = {
            "x_batch": x.strides[0],
            "x_depth": x_steps[0],
            "x_band": x_steps[1] * cut.band_rows,
            "x_part": x_steps[2] * cut.part_columns,
            "g_batch": g.strides[0],
            "g_depth": g_steps[0],
            "g_band": g_steps[1] * cut.band_rows,
            "g_part": g_steps[2] * cut.part_columns,
            "places": address_of(places),
            "rows": axes[1].outputs,
            "columns": axes[2].outputs,
            "band_rows": cut.band_rows,
            "part_columns": cut.part_columns,
            "depths": cut.depths,
            "bands": cut.bands,
            "parts": cut.parts,
            "units": cut.units,
            "channels": problem.in_channels,
            "kernels": problem.out_channels,
            "across": cut.across,
            "per_share": cut.per_share,
            "shares": cut.shares,
            "partials": cut.partials,
        }
        element = ELEMENTS[problem.dtype]
        functions = [
            compiled(write(self.target, element, cut.vectors, cut.kernels), self.target, name)
            for write, name in ((_module, "task"), (_reduce, "reduce"))
        ]
        return GradientBinding(FIELDS.block(fields), (places,), *functions)


@emitted("task")
def _module(target: Target, element: str, vectors: int, kernels: int) -> str:
    tile = _tile("tile", target, element, vectors, kernels)
    return module_source([tile, _task(target, element, vectors, kernels, tile)])


def _task(target: Target, element: str, vectors: int, kernels: int, tile: Function) -> Function:
    """Task: the units of a partial sum, for a share of the kernels."""
    f = Function("task", target, ["fields", "task", "worker"])
    fields, task, lanes = f.integer("fields"), f.integer("task"), target.lanes(ITEMSIZES[element])
    width = vectors * lanes
    area = width * kernels
    x, g = FIELDS.pointer(f, "x", element), FIELDS.pointer(f, "g", element)
    places = FIELDS.pointer(f, "places", "i64")
    rows, columns, units = FIELDS.integers(f, "rows", "columns", "units")
    band_rows, part_columns, depths = FIELDS.integers(f, "band_rows", "part_columns", "depths")
    bands, parts = FIELDS.integers(f, "bands", "parts")
    channels, all_kernels, across, per_share = FIELDS.integers(f, "channels", "kernels", "across", "per_share")
    shares, partials = FIELDS.integers(f, "shares", "partials")
    share, partial = task % shares, task // shares
    total = FIELDS.pointer(f, "sums", element).at(task * across * per_share * area)
    first = share * per_share
    last = (first + per_share).minimum((all_kernels + (kernels - 1)) // kernels)
    for i in f.loop(0, across * per_share * area, lanes):
        total.at(i).store(f.zero(element, lanes))
    for unit in f.loop(partial * units // partials, (partial + 1) * units // partials):
        part, rest = unit % parts, unit // parts
        band, rest = rest % bands, rest // bands
        where = {"batch": rest // depths, "depth": rest % depths, "band": band, "part": part}
        # Of several rows a unit has all columns, so what is left of the last row or band comes first in the table.
        count = (rows - band * band_rows).minimum(band_rows) * (columns - part * part_columns).minimum(part_columns)
        begin_x, begin_g = x, g
        for name, which in where.items():
            begin_x = begin_x.at_bytes(which * FIELDS.integer(f, f"x_{name}"))
            begin_g = begin_g.at_bytes(which * FIELDS.integer(f, f"g_{name}"))
        for number in f.loop(across):
            own = begin_x.at((number * width).minimum(channels - width))  # the last tile ends with the last channel
            for down in f.loop(first, last):
                other = begin_g.at((down * kernels).minimum(all_kernels - kernels))
                sums = total.at((number * per_share + (down - first)) * area)
                f.run(tile, fields, own, other, places, count, sums)
    return f


def _tile(name: str, target: Target, element: str, vectors: int, kernels: int) -> Function:
    """Kernels x vectors of channels, over all pixels of the unit; then added to the sums in memory."""
    f = Function(name, target, ["fields", "x", "g", "places", "count", "sums"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    x, g, total = (f.pointer(part, element) for part in ("x", "g", "sums"))
    places, count = f.pointer("places", "i64"), f.integer("count")
    keys = [(k, v) for k in range(kernels) for v in range(vectors)]
    sums = Registers({key: f.zero(element, lanes) for key in keys})
    for pixel in f.loop(count, carry=[sums]):
        place = places.at(pixel * 2)
        here, there = x.at_bytes(place.load_int()), g.at_bytes(place.at(1).load_int())
        row = [here.at(v * lanes).load(lanes) for v in range(vectors)]
        for k in range(kernels):
            factor = there.at(k).broadcast(lanes)
            for v in range(vectors):
                sums[k, v] = row[v].times_plus(factor, sums[k, v])
    for number, key in enumerate(keys):
        at = total.at(number * lanes)
        at.store(at.load(lanes) + sums[key])
    return f


@emitted("reduce")
def _reduce(target: Target, element: str, vectors: int, kernels: int) -> str:
    """Task: the partial sums of one kernel added up, and stored as a row of channels."""
    f = Function("reduce", target, ["fields", "task", "worker"])
    lanes = target.lanes(ITEMSIZES[element])
    width = vectors * lanes
    area = width * kernels
    channels, all_kernels, across, per_share = FIELDS.integers(f, "channels", "kernels", "across", "per_share")
    shares, partials = FIELDS.integers(f, "shares", "partials")
    kernel = f.integer("task")
    down = kernel // kernels
    share = down // per_share
    row = kernel - (down * kernels).minimum(all_kernels - kernels)
    between = shares * across * per_share * area  # elements from one partial sum to the next
    start = (share * across * per_share + (down - share * per_share)) * area + row * width
    out = FIELDS.pointer(f, "out", element).at(kernel * channels)
    for number in f.loop(across):
        place = FIELDS.pointer(f, "sums", element).at(start + number * per_share * area)
        to = out.at((number * width).minimum(channels - width))
        totals = Registers({v: place.at(v * lanes).load(lanes) for v in range(vectors)})
        for partial in f.loop(1, partials, carry=[totals]):
            for v in range(vectors):
                totals[v] = totals[v] + place.at(partial * between + v * lanes).load(lanes)
        for v in range(vectors):
            to.at(v * lanes).store(totals[v])
    return module_source([f])
