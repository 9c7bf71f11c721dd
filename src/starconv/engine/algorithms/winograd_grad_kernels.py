"""What `winograd_grad` compiles: tiles transformed, summed up at every position, and what becomes of the sums."""

from functools import lru_cache
from typing import NamedTuple

from ..descriptor import Fields
from ..emit.ir import Function, Int, Registers, module_source
from ..emit.source import emitted
from ..emit.target import Target
from .panels import Compiled, compiled
from .winograd_tiles import CHANNELS, ELEMENT, Constants, pack, transform_input, transform_tiles
from .winograd_tiles import FIELDS as TILE_FIELDS
from .winograd_transforms import Transform

__all__ = ["FIELDS", "SumTile", "products_function", "reduce_function", "sum_tile", "transform_function"]


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
        "tiles",  # transformed X, [group][position][tile][channel], then transformed G
        "g_tiles",  # elements from the one to the other
        "sums",  # [group][position][channel][kernel]
        "padded_channels",
        "padded_kernels",
        "first_unit",  # of the chunk
        "units",
        "first_tile",
        "chunk_tiles",
        "adds",  # whether sums of chunks before are there
    )
)
"""Those of tiles, whose functions find theirs at the same places, and its own."""


@lru_cache(maxsize=64)
def transform_function(target: Target, tile: Transform) -> Compiled:
    """Task: a unit of a group, packed and transformed."""
    return compiled(_transform_module(target, tile), target, "task")


@emitted("task")
def _transform_module(target: Target, tile: Transform) -> str:
    functions = [
        pack("pack", target, ELEMENT),
        transform_input("transform_input", target, tile),
        transform_tiles("transform_gradient", target, tile, tile.m, tile.output_adjoint, "product"),
    ]
    return module_source([*functions, _transform(target, tile, *functions)])


def _transform(target: Target, tile: Transform, packing: Function, values: Function, gradients: Function) -> Function:
    f = Function("task", target, ["fields", "task", "worker"])
    n, m = tile.n, tile.m
    fields, g_fields = f.integer("fields"), FIELDS.integer(f, "g_fields")
    units, row_blocks, first_tile = FIELDS.integers(f, "units", "row_blocks", "first_tile")
    channels, kernels, tile_rows, columns = FIELDS.integers(f, "channels", "kernels", "tile_rows", "tile_columns")
    per_unit, rows_per_unit, batch = FIELDS.integers(f, "pictures_per_task", "rows_per_task", "pictures")
    value_tile, value_position = FIELDS.integers(f, "value_tile", "value_position")
    product_tile, product_position = FIELDS.integers(f, "product_tile", "product_position")
    x_batch, x_channel, g_batch, g_kernel = FIELDS.integers(f, "x_batch", "x_channel", "g_batch", "g_kernel")
    group, unit = f.integer("task") // units, f.integer("task") % units + FIELDS.integer(f, "first_unit")
    scratch = FIELDS.pointer(f, "scratch", ELEMENT).at_bytes(f.integer("worker") * FIELDS.integer(f, "scratch_bytes"))
    tiles = FIELDS.pointer(f, "tiles", ELEMENT)
    transformed = tiles.at(group * value_position * (n * n))
    spread = tiles.at(FIELDS.integer(f, "g_tiles")).at(group * product_position * (n * n))
    x = FIELDS.pointer(f, "x", "i8").at(FIELDS.integer(f, "x_base") + group * FIELDS.integer(f, "x_group"))
    g = FIELDS.pointer(f, "g", "i8").at(group * FIELDS.integer(f, "g_group"))
    row = unit % row_blocks * rows_per_unit
    picture = unit // row_blocks * per_unit
    rows = (tile_rows - row).minimum(rows_per_unit)
    for p in f.loop((batch - picture).minimum(per_unit)):
        first = ((picture + p) * tile_rows + row) * columns - first_tile
        for c in f.loop(0, channels, CHANNELS):
            source = x.at((picture + p) * x_batch + c * x_channel)
            extent = (row * m, rows * m + (n - m), 0, columns * m + (n - m))
            f.run(packing, fields, source, scratch, *extent, (channels - c).minimum(CHANNELS))
            f.run(values, fields, scratch, transformed.at(first * value_tile + c), rows, columns)
        for k in f.loop(0, kernels, CHANNELS):
            source = g.at((picture + p) * g_batch + k * g_kernel)
            valid = (kernels - k).minimum(CHANNELS)
            f.run(packing, g_fields, source, scratch, row * m, rows * m, 0, columns * m, valid)
            f.run(gradients, fields, scratch, spread.at(first * product_tile + k), rows, columns)
    return f


@lru_cache(maxsize=64)
def products_function(target: Target, positions: int) -> Compiled:
    """Task: one position of a group, all tiles of the chunk."""
    return compiled(_products_module(target, positions), target, "task")


@emitted("task")
def _products_module(target: Target, positions: int) -> str:
    """The products of all channels with all kernels, summed over the tiles in their order."""
    f = Function("task", target, ["fields", "task", "worker"])
    form, lanes, task = sum_tile(target), target.lanes(4), f.integer("task")
    value_tile, value_position = FIELDS.integers(f, "value_tile", "value_position")
    product_tile, product_position = FIELDS.integers(f, "product_tile", "product_position")
    channels, kernels, count = FIELDS.integers(f, "padded_channels", "padded_kernels", "chunk_tiles")
    tiles = FIELDS.pointer(f, "tiles", ELEMENT)
    values = tiles.at(task * value_position)
    gradients = tiles.at(FIELDS.integer(f, "g_tiles")).at(task * product_position)
    total = FIELDS.pointer(f, "sums", ELEMENT).at(task * channels * kernels)
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
                with f.either((FIELDS.integer(f, "adds") + first).equals(0)) as (begin, later):
                    with begin:
                        for e, v in keys:
                            to.at(kernels * e + v * lanes).store(sums[e, v])
                    with later:
                        for e, v in keys:
                            place = to.at(kernels * e + v * lanes)
                            place.store(place.load(lanes) + sums[e, v])
    return module_source([f])


@lru_cache(maxsize=64)
def reduce_function(target: Target, tile: Transform) -> Compiled:
    """Task: one channel of a group: its sums transformed, and put where the weights lie."""
    return compiled(_reduce_module(target, tile), target, "task")


@emitted("task")
def _reduce_module(target: Target, tile: Transform) -> str:
    f = Function("task", target, ["fields", "task", "worker"])
    n, size, lanes = tile.n, tile.taps, target.lanes(4)
    channels, kernels = FIELDS.integers(f, "channels", "kernels")
    padded_kernels, task = FIELDS.integer(f, "padded_kernels"), f.integer("task")
    area = FIELDS.integer(f, "padded_channels") * padded_kernels
    group, channel = task // channels, task % channels
    own = FIELDS.pointer(f, "sums", ELEMENT).at(group * area * (n * n) + channel * padded_kernels)
    out = FIELDS.pointer(f, "out", ELEMENT).at((group * kernels * channels + channel) * (size * size))
    buffer, results = f.buffer(ELEMENT, size * n * lanes), f.buffer(ELEMENT, size * size * lanes)
    constant = Constants(f, lanes)
    for k in f.loop(0, kernels, lanes):
        for number in f.loop(n):
            column = [own.at((number + i * n) * area + k).load(lanes) for i in range(n)]
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
