"""What `winograd_grad` compiles: tiles transformed, summed up at every position, and what becomes of the sums."""

from functools import lru_cache
from typing import NamedTuple

from ..descriptor import Fields
from ..emit.ir import Function, Int, Pointer, Registers, module_source
from ..emit.source import emitted
from ..emit.target import Target
from ..kernels import Compiled, compiled
from .winograd_tiles import CHANNELS, ELEMENT, Constants, pack, transform_input, transform_tiles
from .winograd_tiles import FIELDS as TILE_FIELDS
from .winograd_transforms import Transform

__all__ = [
    "FIELDS",
    "SumTile",
    "apart_function",
    "products_function",
    "reduce_function",
    "sum_tile",
    "transform_function",
]


class SumTile(NamedTuple):
    """Channels and vectors of kernels whose sums are in registers together."""

    channels: int
    vectors: int


CHAIN = 64
"""Tiles that are added up in registers before what they give is added to the rest: errors grow with a chain's length.

Adding takes 24 loads and stores where 64 tiles take 384 cycles.
"""


def sum_tile(target: Target) -> SumTile:
    """With 32 registers, 8 broadcasts and a load for 8 multiply-adds; with 16, 6 and 2 for 12: else loads decided."""
    return SumTile(8, 1) if target.registers >= 32 else SumTile(6, 2)


FIELDS = Fields(
    (
        *TILE_FIELDS.names,
        "g",
        "g_batch",  # bytes between pictures, and groups of kernels
        "g_group",
        "g_kernel",
        "g_fields",  # a block of fields that says how G lies, for packing
        "sums",  # [group][partial][position][channel][kernel]
        "padded_channels",
        "padded_kernels",
        "partials",
        "tiles",  # for all: transformed X, [group][position][tile][channel], then transformed G
        "g_tiles",  # elements from the one to the other
        "first_unit",  # of the chunk
        "units",  # of the chunk; of all, where tasks compute chunk after chunk
        "first_tile",
        "chunk_tiles",  # as for units
        "adds",  # whether sums of chunks before are there
        "chunk",  # units
        "chunks",
    )
)
"""Those of tiles, whose functions find theirs at the same places, and its own."""


class _Inner:
    """The functions that tasks are made of."""

    def __init__(self, target: Target, tile: Transform) -> None:
        self.pack = pack("pack", target, ELEMENT)
        self.values = transform_input("transform_input", target, tile)
        self.gradients = transform_tiles("transform_gradient", target, tile, tile.m, tile.output_adjoint, "product")
        self.unit = _unit("unit", target, tile, self)
        self.sums = _sums("sums", target)

    @property
    def of_units(self) -> list[Function]:
        """Those that pack and transform."""
        return [self.pack, self.values, self.gradients, self.unit]


@lru_cache(maxsize=64)
def transform_function(target: Target, tile: Transform) -> Compiled:
    """Task: a unit of a group, packed and transformed for all."""
    return compiled(_transform_module(target, tile), target, "task")


@emitted("task")
def _transform_module(target: Target, tile: Transform) -> str:
    f, inner = Function("task", target, ["fields", "task", "worker"]), _Inner(target, tile)
    units, positions = FIELDS.integer(f, "units"), tile.n**2
    group, unit = f.integer("task") // units, f.integer("task") % units + FIELDS.integer(f, "first_unit")
    tiles = FIELDS.pointer(f, "tiles", ELEMENT)
    values = tiles.at(group * FIELDS.integer(f, "value_position") * positions)
    gradients = tiles.at(FIELDS.integer(f, "g_tiles") + group * FIELDS.integer(f, "product_position") * positions)
    scratch = _own_scratch(f)
    f.run(inner.unit, f.integer("fields"), group, unit, FIELDS.integer(f, "first_tile"), scratch, values, gradients)
    return module_source([*inner.of_units, f])


@lru_cache(maxsize=64)
def products_function(target: Target) -> Compiled:
    """Task: one position of a group, all tiles of the chunk."""
    return compiled(_products_module(target), target, "task")


@emitted("task")
def _products_module(target: Target) -> str:
    f, sums = Function("task", target, ["fields", "task", "worker"]), _sums("sums", target)
    task = f.integer("task")
    area = FIELDS.integer(f, "padded_channels") * FIELDS.integer(f, "padded_kernels")
    tiles = FIELDS.pointer(f, "tiles", ELEMENT)
    values = tiles.at(task * FIELDS.integer(f, "value_position"))
    gradients = tiles.at(FIELDS.integer(f, "g_tiles") + task * FIELDS.integer(f, "product_position"))
    total = FIELDS.pointer(f, "sums", ELEMENT).at(task * area)
    count, adds = FIELDS.integers(f, "chunk_tiles", "adds")
    f.run(sums, f.integer("fields"), values, gradients, total, count, adds)
    return module_source([sums, f])


@lru_cache(maxsize=64)
def apart_function(target: Target, tile: Transform) -> Compiled:
    """Task: the chunks of a partial sum of a group, one after the other in the thread's own scratch memory."""
    return compiled(_apart_module(target, tile), target, "task")


@emitted("task")
def _apart_module(target: Target, tile: Transform) -> str:
    f, inner = Function("task", target, ["fields", "task", "worker"]), _Inner(target, tile)
    fields, task, positions = f.integer("fields"), f.integer("task"), tile.n**2
    partials, chunks, chunk, units = FIELDS.integers(f, "partials", "chunks", "chunk", "units")
    group, partial = task // partials, task % partials
    area = FIELDS.integer(f, "padded_channels") * FIELDS.integer(f, "padded_kernels")
    scratch = _own_scratch(f)
    values = scratch.at_bytes(FIELDS.integer(f, "values"))
    gradients = scratch.at_bytes(FIELDS.integer(f, "products"))
    total = FIELDS.pointer(f, "sums", ELEMENT).at(task * area * positions)
    begin = partial * chunks // partials
    for number in f.loop(begin, (partial + 1) * chunks // partials):
        first, last = number * chunk, (number * chunk + chunk).minimum(units)
        first_tile = _first_tile(f, first)
        for unit in f.loop(first, last):
            f.run(inner.unit, fields, group, unit, first_tile, scratch, values, gradients)
        # The last unit may have fewer pictures, or rows, than others.
        count = _first_tile(f, last).minimum(FIELDS.integer(f, "chunk_tiles")) - first_tile
        for position in f.loop(positions):
            here = (
                values.at(position * FIELDS.integer(f, "value_position")),
                gradients.at(position * FIELDS.integer(f, "product_position")),
            )
            f.run(inner.sums, fields, *here, total.at(position * area), count, number - begin)
    return module_source([*inner.of_units, inner.sums, f])


def _own_scratch(f: Function) -> Pointer:
    """Where this thread packs."""
    offset = f.integer("worker") * FIELDS.integer(f, "scratch_bytes")
    return FIELDS.pointer(f, "scratch", ELEMENT).at_bytes(offset)


def _first_tile(f: Function, unit: Int) -> Int:
    """The number of a unit's first tile."""
    row_blocks, per_unit, rows_per_unit = FIELDS.integers(f, "row_blocks", "pictures_per_task", "rows_per_task")
    tile_rows, columns = FIELDS.integers(f, "tile_rows", "tile_columns")
    return (unit // row_blocks * per_unit * tile_rows + unit % row_blocks * rows_per_unit) * columns


def _unit(name: str, target: Target, tile: Transform, inner: _Inner) -> Function:
    """A unit of a group, packed and transformed; values and gradients are where tile `first_tile` goes."""
    arguments = ["fields", "group", "unit", "first_tile", "scratch", "values", "gradients"]
    f = Function(name, target, arguments, internal=True)
    n, m = tile.n, tile.m
    fields, g_fields = f.integer("fields"), FIELDS.integer(f, "g_fields")
    group, unit, first_tile = (f.integer(name) for name in ("group", "unit", "first_tile"))
    scratch, values, gradients = (f.pointer(name, ELEMENT) for name in ("scratch", "values", "gradients"))
    channels, kernels, tile_rows, columns = FIELDS.integers(f, "channels", "kernels", "tile_rows", "tile_columns")
    row_blocks, per_unit, rows_per_unit = FIELDS.integers(f, "row_blocks", "pictures_per_task", "rows_per_task")
    value_tile, product_tile = FIELDS.integers(f, "value_tile", "product_tile")
    x_batch, x_channel, g_batch, g_kernel = FIELDS.integers(f, "x_batch", "x_channel", "g_batch", "g_kernel")
    x = FIELDS.pointer(f, "x", "i8").at(FIELDS.integer(f, "x_base") + group * FIELDS.integer(f, "x_group"))
    g = FIELDS.pointer(f, "g", "i8").at(group * FIELDS.integer(f, "g_group"))
    row = unit % row_blocks * rows_per_unit
    picture = unit // row_blocks * per_unit
    rows = (tile_rows - row).minimum(rows_per_unit)
    for p in f.loop((FIELDS.integer(f, "pictures") - picture).minimum(per_unit)):
        first = ((picture + p) * tile_rows + row) * columns - first_tile
        for c in f.loop(0, channels, CHANNELS):
            source = x.at((picture + p) * x_batch + c * x_channel)
            extent = (row * m, rows * m + (n - m), 0, columns * m + (n - m))
            f.run(inner.pack, fields, source, scratch, *extent, (channels - c).minimum(CHANNELS))
            f.run(inner.values, fields, scratch, values.at(first * value_tile + c), rows, columns)
        for k in f.loop(0, kernels, CHANNELS):
            source = g.at((picture + p) * g_batch + k * g_kernel)
            valid = (kernels - k).minimum(CHANNELS)
            f.run(inner.pack, g_fields, source, scratch, row * m, rows * m, 0, columns * m, valid)
            f.run(inner.gradients, fields, scratch, gradients.at(first * product_tile + k), rows, columns)
    return f


def _sums(name: str, target: Target) -> Function:
    """At one position: all channels times all kernels, summed over `count` tiles, and added to `total` if `adds`."""
    f = Function(name, target, ["fields", "values", "gradients", "total", "count", "adds"], internal=True)
    form, lanes, count = sum_tile(target), target.lanes(4), f.integer("count")
    values, gradients, total = (f.pointer(name, ELEMENT) for name in ("values", "gradients", "total"))
    value_tile, product_tile = FIELDS.integers(f, "value_tile", "product_tile")
    channels, kernels = FIELDS.integers(f, "padded_channels", "padded_kernels")
    keys = [(e, v) for e in range(form.channels) for v in range(form.vectors)]
    for k in f.loop(0, kernels, form.vectors * lanes):
        for c in f.loop(0, channels, form.channels):
            to = total.at(c * kernels + k)
            for first in f.loop(0, count, CHAIN):
                last = (first + CHAIN).minimum(count)
                sums = Registers({key: f.zero(ELEMENT, lanes) for key in keys})

                def step(tile: Int, c: Int = c, k: Int = k, sums: Registers = sums) -> None:
                    rows = [gradients.at(tile * product_tile + k + v * lanes).load(lanes) for v in range(form.vectors)]
                    place = values.at(tile * value_tile + c)
                    for e in range(form.channels):
                        value = place.at(e).broadcast(lanes)
                        for v, row in enumerate(rows):
                            sums[e, v] = value.times_plus(row, sums[e, v])

                whole = first + (last - first) // 4 * 4
                for tile in f.loop(first, whole, 4, carry=[sums]):
                    for i in range(4):
                        step(tile + i)
                for tile in f.loop(whole, last, carry=[sums]):
                    step(tile)
                with f.either((f.integer("adds") + first).equals(0)) as (begin, later):
                    with begin:
                        for e, v in keys:
                            to.at(kernels * e + v * lanes).store(sums[e, v])
                    with later:
                        for e, v in keys:
                            place = to.at(kernels * e + v * lanes)
                            place.store(place.load(lanes) + sums[e, v])
    return f


@lru_cache(maxsize=64)
def reduce_function(target: Target, tile: Transform) -> Compiled:
    """Task: one channel of a group: its partial sums added in their order, transformed, put where the weights lie."""
    return compiled(_reduce_module(target, tile), target, "task")


@emitted("task")
def _reduce_module(target: Target, tile: Transform) -> str:
    f = Function("task", target, ["fields", "task", "worker"])
    n, size, lanes = tile.n, tile.taps, target.lanes(4)
    channels, kernels, partials = FIELDS.integers(f, "channels", "kernels", "partials")
    padded_kernels, task = FIELDS.integer(f, "padded_kernels"), f.integer("task")
    area = FIELDS.integer(f, "padded_channels") * padded_kernels
    group, channel = task // channels, task % channels
    own = FIELDS.pointer(f, "sums", ELEMENT).at(group * partials * area * (n * n) + channel * padded_kernels)
    out = FIELDS.pointer(f, "out", ELEMENT).at((group * kernels * channels + channel) * (size * size))
    buffer, results = f.buffer(ELEMENT, size * n * lanes), f.buffer(ELEMENT, size * size * lanes)
    constant = Constants(f, lanes)
    for k in f.loop(0, kernels, lanes):
        for number in f.loop(n):
            places = [own.at((number + i * n) * area + k) for i in range(n)]
            added = Registers({i: place.load(lanes) for i, place in enumerate(places)})
            for partial in f.loop(1, partials, carry=[added]):
                for i, place in enumerate(places):
                    added[i] = added[i] + place.at(partial * area * (n * n)).load(lanes)
            column = [added[i] for i in range(n)]
            for i, value in enumerate(tile.kernel_adjoint(column, constant)):
                buffer.at(number * lanes).at(i * n * lanes).store(value)
        for number in f.loop(size):
            row = [buffer.at((number * n + j) * lanes).load(lanes) for j in range(n)]
            for j, value in enumerate(tile.kernel_adjoint(row, constant)):
                results.at((number * size + j) * lanes).store(value)
        for kernel in f.loop((kernels - k).minimum(lanes)):
            to = out.at((k + kernel) * channels * (size * size))
            for tap in range(size * size):
                to.at(tap).store(results.at(tap * lanes).at(kernel).load())
    return module_source([f])
