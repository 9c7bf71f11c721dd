"""What `winograd_grad` compiles: sums over tiles at every position, and what becomes of them in the end."""

from functools import lru_cache

from ..descriptor import Fields
from ..emit.ir import Function, Int, Registers, module_source
from ..emit.source import emitted
from ..emit.target import Target
from .panels import Compiled, compiled
from .winograd_tiles import CHANNELS, ELEMENT, Constants, pack, transform_input, transform_tiles
from .winograd_tiles import FIELDS as TILE_FIELDS
from .winograd_transforms import Transform

__all__ = ["ENTRIES", "FIELDS", "compute_function", "reduce_function"]

ENTRIES = 8
"""Channels of a tile of sums, for one vector of kernels: 8 broadcasts and a load for 8 multiply-adds."""

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
        "units",  # runs of tiles that are packed and transformed at one time
    )
)
"""Those of tiles, whose functions find theirs at the same places, and its own."""


@lru_cache(maxsize=64)
def compute_function(target: Target, tile: Transform) -> Compiled:
    """Task: the units of a partial sum of a group."""
    return compiled(_compute_module(target, tile), target, "task")


@emitted("task")
def _compute_module(target: Target, tile: Transform) -> str:
    functions = [
        pack("pack", target, ELEMENT),
        transform_input("transform_input", target, tile),
        transform_tiles("transform_gradient", target, tile, tile.m, tile.output_adjoint, "product"),
        _sums("sums", target),
    ]
    return module_source([*functions, _task(target, tile, *functions)])


def _task(
    target: Target, tile: Transform, packing: Function, values: Function, gradients: Function, sums: Function
) -> Function:
    f = Function("task", target, ["fields", "task", "worker"])
    n, m, lanes = tile.n, tile.m, target.lanes(4)
    fields, g_fields = f.integer("fields"), FIELDS.integer(f, "g_fields")
    partials, units, row_blocks = FIELDS.integers(f, "partials", "units", "row_blocks")
    channels, kernels, tile_rows, columns = FIELDS.integers(f, "channels", "kernels", "tile_rows", "tile_columns")
    per_unit, rows_per_unit, batch = FIELDS.integers(f, "pictures_per_task", "rows_per_task", "pictures")
    value_tile, value_position = FIELDS.integers(f, "value_tile", "value_position")
    product_tile, product_position = FIELDS.integers(f, "product_tile", "product_position")
    x_batch, x_channel, g_batch, g_kernel = FIELDS.integers(f, "x_batch", "x_channel", "g_batch", "g_kernel")
    area = FIELDS.integer(f, "padded_channels") * FIELDS.integer(f, "padded_kernels")
    task = f.integer("task")
    group, partial = task // partials, task % partials
    scratch = FIELDS.pointer(f, "scratch", ELEMENT).at_bytes(f.integer("worker") * FIELDS.integer(f, "scratch_bytes"))
    transformed = scratch.at_bytes(FIELDS.integer(f, "values"))
    spread = scratch.at_bytes(FIELDS.integer(f, "products"))
    x = FIELDS.pointer(f, "x", "i8").at(FIELDS.integer(f, "x_base") + group * FIELDS.integer(f, "x_group"))
    g = FIELDS.pointer(f, "g", "i8").at(group * FIELDS.integer(f, "g_group"))
    total = FIELDS.pointer(f, "sums", ELEMENT).at(task * area * (n * n))
    for i in f.loop(0, area * (n * n), lanes):
        total.at(i).store(f.zero(ELEMENT, lanes))
    for unit in f.loop(partial * units // partials, (partial + 1) * units // partials):
        row = unit % row_blocks * rows_per_unit
        picture = unit // row_blocks * per_unit
        rows = (tile_rows - row).minimum(rows_per_unit)
        pictures = (batch - picture).minimum(per_unit)
        for p in f.loop(pictures):
            first = p * rows * columns
            for c in f.loop(0, channels, CHANNELS):
                source = x.at((picture + p) * x_batch + c * x_channel)
                valid = (channels - c).minimum(CHANNELS)
                extent = (row * m, rows * m + (n - m), 0, columns * m + (n - m))
                f.run(packing, fields, source, scratch, *extent, valid)
                f.run(values, fields, scratch, transformed.at(first * value_tile + c), rows, columns)
            for k in f.loop(0, kernels, CHANNELS):
                source = g.at((picture + p) * g_batch + k * g_kernel)
                valid = (kernels - k).minimum(CHANNELS)
                f.run(packing, g_fields, source, scratch, row * m, rows * m, 0, columns * m, valid)
                f.run(gradients, fields, scratch, spread.at(first * product_tile + k), rows, columns)
        for position in f.loop(n * n):
            here = (transformed.at(position * value_position), spread.at(position * product_position))
            f.run(sums, fields, *here, total.at(position * area), pictures * rows * columns)
    return f


def _sums(name: str, target: Target) -> Function:
    """At one position: the products of all channels with all kernels, summed over the tiles, added to `total`."""
    f = Function(name, target, ["fields", "values", "gradients", "total", "tiles"], internal=True)
    lanes = target.lanes(4)
    values, gradients, total = (f.pointer(part, ELEMENT) for part in ("values", "gradients", "total"))
    channels, kernels, value_tile, product_tile = FIELDS.integers(
        f, "padded_channels", "padded_kernels", "value_tile", "product_tile"
    )
    tiles = f.integer("tiles")
    whole = tiles // 4 * 4
    for k in f.loop(0, kernels, lanes):
        for c in f.loop(0, channels, ENTRIES):
            sums = Registers({e: f.zero(ELEMENT, lanes) for e in range(ENTRIES)})

            def step(tile: Int, c: Int = c, k: Int = k, sums: Registers = sums) -> None:
                row = gradients.at(tile * product_tile + k).load(lanes)
                place = values.at(tile * value_tile + c)
                for e in range(ENTRIES):
                    sums[e] = place.at(e).broadcast(lanes).times_plus(row, sums[e])

            for tile in f.loop(0, whole, 4, carry=[sums]):
                for i in range(4):
                    step(tile + i)
            for tile in f.loop(whole, tiles, carry=[sums]):
                step(tile)
            for e in range(ENTRIES):
                to = total.at((c + e) * kernels + k)
                to.store(to.load(lanes) + sums[e])
    return f


@lru_cache(maxsize=64)
def reduce_function(target: Target, tile: Transform) -> Compiled:
    """Task: one channel of a group: partial sums added in their order, transformed, put where the weights lie."""
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
    added, buffer = f.buffer(ELEMENT, n * n * lanes), f.buffer(ELEMENT, size * n * lanes)
    results = f.buffer(ELEMENT, size * size * lanes)
    constant = Constants(f, lanes)
    for k in f.loop(0, kernels, lanes):
        for position in f.loop(n * n):
            sums = Registers({0: f.zero(ELEMENT, lanes)})
            for partial in f.loop(partials, carry=[sums]):
                sums[0] = sums[0] + own.at((partial * (n * n) + position) * area + k).load(lanes)
            added.at(position * lanes).store(sums[0])
        for number in f.loop(n):
            column = [added.at((number + i * n) * lanes).load(lanes) for i in range(n)]
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
