"""What tiles of pixels x kernels share: where pixels and taps lie in a block, how sums wait, how a tile is stored."""

import math

import numpy as np

from ...problem import Problem
from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, Vector, loaded_transposed
from ..emit.target import Target
from ..lattice import lattices
from .blocks import Block
from .finish import Finish, Finisher
from .packed import MOST_PIXELS, Array
from .refusals import refuses_long_rows, refuses_unless

__all__ = [
    "collected_pixels",
    "kernels_in_lanes",
    "let_wait",
    "most_vectors",
    "offset_tables",
    "panel_vectors",
    "planes_function",
    "readers",
    "refuses_forward",
    "row_readers",
    "store_tile",
    "take_up",
    "tile_pixels",
]


def panel_vectors(kernels: int, lanes: int, target: Target) -> int:
    """Vectors of kernels in a tile: 2 with 16 registers, 4 with 32, or as many as leave fewer lanes empty.

    96 kernels are 6 vectors of 16: two panels of 3, where of two panels of 4 a quarter would be for nothing; and 24 are
    3 vectors of 8.
    """
    there = -(-kernels // lanes)
    order = [vectors for vectors in ((4, 3, 2, 1) if most_vectors(target) == 4 else (2, 3, 1)) if vectors <= there]
    return min(order, key=lambda vectors: -(-there // vectors) * max(vectors, 1.4))


def tile_pixels(count: int, vectors: int, target: Target) -> int:
    """Pixels in a tile of that many vectors of kernels, for a band of `count`.

    6 x 4 or 6 x 3 sums with 32 registers, 6 x 2 or 4 x 3 with 16 (8 x 3 and 12 x 2 would fit 32, but not their
    addresses: sums went to memory, and `product` took a fifth longer), 8 x 1, as units have room for 8 sums in work.
    One less where that leaves fewer past the end of the band, as 49 = 10 x 5 - 1 does. What a tile costs besides
    (weights, storing) is taken for a third of a pixel.
    """
    most = 8 if vectors == 1 else 4 if vectors == 3 and most_vectors(target) < 4 else 6
    return min((most, most - 1), key=lambda pixels: -(-count // pixels) * (pixels + 1 / 3))


def most_vectors(target: Target) -> int:
    """Vectors of kernels in a tile of 6 pixels, or of pixels in one of 6 kernels: 4 with 32 wide registers, else 2."""
    return 4 if target.registers >= 32 and target.has_fma and target.vector_bytes == 64 else 2


def kernels_in_lanes(problem: Problem) -> int:
    """What the lanes of vectors hold where they run along kernels (``in_lanes`` of a row): those of a group."""
    return problem.out_channels // problem.groups


def row_readers(input_row: int, rows: int, taps: int, stride: int, dilation: int) -> list[tuple[int, int]]:
    """The (output row, tap) pairs of `rows` output rows that meet in the input row with that number."""
    pairs = []
    for row in range(rows):
        tap, rest = divmod(input_row - row * stride, dilation)
        if rest == 0 and 0 <= tap < taps:
            pairs.append((row, tap))
    return pairs


def readers(outputs: int, taps: int, stride: int, dilation: int) -> dict[int, list[tuple[int, int]]]:
    """For every input element that `outputs` neighbouring ones read, in order, the (output, tap) pairs that meet there.

    >>> readers(2, 2, stride=1, dilation=1)
    {0: [(0, 0)], 1: [(0, 1), (1, 0)], 2: [(1, 1)]}
    """
    elements = sorted({output * stride + tap * dilation for output in range(outputs) for tap in range(taps)})
    return {element: row_readers(element, outputs, taps, stride, dilation) for element in elements}


def refuses_forward(problem: Problem, target: Target | None) -> str | None:
    """Why a compiled forward algorithm cannot take the problem, or None."""
    refusal = refuses_unless("conv", problem, target)
    if refusal is not None or target is None:
        return refusal
    return refuses_long_rows(problem, target)


def offset_tables(problem: Problem, block: Block) -> tuple[Array, Array]:
    """The byte offsets of all taps, and of all output pixels of a band, in a packed block.

    The table of pixels ends with a tile's worth of copies of its last entry, so that a tile may reach past the end.
    """
    depth, rows, columns = lattices(problem)
    column_step = block.channels if problem.channels_last else 1
    row_step = block.pitch
    depth_step = block.packed_rows * row_step

    def offsets(counts: tuple[int, int, int], steps: tuple[int, int, int]) -> Array:
        d, r, c = (np.arange(count) * step for count, step in zip(counts, steps, strict=True))
        flat = (d[:, np.newaxis, np.newaxis] + r[:, np.newaxis] + c).ravel()
        return (flat * problem.itemsize).astype(np.int64)

    # The block holds the depths of one output depth side by side, so its taps are one depth apart.
    taps = offsets(
        (depth.taps, rows.taps, columns.taps), (depth_step, rows.dilation * row_step, columns.dilation * column_step)
    )
    pixels = offsets((1, block.rows, columns.outputs), (0, rows.stride * row_step, columns.stride * column_step))
    pixels = np.concatenate([pixels, np.repeat(pixels[-1:], MOST_PIXELS)])
    return taps, pixels


def take_up(f: Function, sums: Registers, waiting: Pointer, channel: Int) -> None:
    """Go on with the sums that wait in memory; at the first channel, 0, with those that `sums` has."""
    with f.when(channel.equals(0)):
        let_wait(sums, waiting)
    for number, (key, value) in enumerate(sums.values.items()):
        sums[key] = waiting.at(number * value.lanes).load(value.lanes)


def let_wait(sums: Registers, waiting: Pointer) -> None:
    """Put all sums, vectors of one width, side by side into memory until the next chunk."""
    for number, value in enumerate(sums.values.values()):
        waiting.at(number * value.lanes).store(value)


def collected_pixels(tile: int, lanes: int) -> int:
    """Pixels that are collected before `planes_function` writes them: whole tiles, and whole lines of a plane."""
    least = math.lcm(tile, lanes)
    return least * max(48 // least, 1)


def planes_function(name: str, target: Target, element: str, width: int, fields: Fields, finish: Finish) -> Function:
    """Writes finished sums of `count` pixels x `width` kernels to planes, of which `valid` kernels exist.

    A tile has 6 neighbouring pixels of 64 kernels. Writing those to 64 planes would go through 64 lines three times,
    and where planes are a multiple of 4 KiB apart, none is still in the first-level cache when it is needed again:
    3x3 3->64 224x224 spent four fifths of its time so. Several tiles together have whole lines for every plane.

    Where a residual is added nothing may be written twice: it may be where the results go.
    """
    f = Function(name, target, ["fields", "collected", "out", "count", "valid"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    collected, out = f.pointer("collected", element), f.pointer("out", element)
    count, valid, out_channel = f.integer("count"), f.integer("valid"), fields.integer(f, "out_channel")
    finisher = Finisher(f, fields, element, finish)
    square = f.buffer(element, lanes * lanes)
    whole = count // lanes * lanes
    done = whole if finish.residual else (count >= lanes).integer(count, 0)
    for kernel in f.loop(0, valid, lanes):
        planes, present = out.at_bytes(kernel * out_channel), (valid - kernel).minimum(lanes)
        for pixel in f.loop(0, done, lanes):
            first = pixel.minimum(count - lanes)
            runs = [collected.at((first + i) * width + kernel) for i in range(lanes)]
            rows = loaded_transposed(runs)
            with f.either(present.equals(lanes)) as (all_present, some):
                with all_present:
                    for number, row in enumerate(rows):
                        finisher.store(planes.at_bytes(out_channel * number).at(first), row)
                with some:
                    for number, row in enumerate(rows):
                        square.at(number * lanes).store(row)
                    for k in f.loop(present):
                        finisher.store(planes.at_bytes(out_channel * k).at(first), square.at(k * lanes).load(lanes))
        for k in f.loop(present):
            for pixel in f.loop(done, count):
                value = collected.at(pixel * width + kernel + k).load()
                finisher.store(planes.at_bytes(out_channel * k).at(pixel), value)
    return f


def store_tile(
    f: Function,
    results: dict[tuple[int, int], Vector],
    pixels: int,
    vectors: int,
    out: Pointer,
    pixel: Int,
    count: Int,
    valid: Int,
    out_channel: Int,
    out_column: Int,
    buffer: Pointer,
    finisher: Finisher,
) -> None:
    """Whole tiles, of `pixels` x `vectors`, go straight to where channels lie side by side; others through a buffer."""
    lanes, itemsize = results[0, 0].lanes, ITEMSIZES[results[0, 0].element]
    whole = count.equals(pixels) & valid.equals(vectors * lanes)
    with f.either(whole & out_channel.equals(itemsize)) as (channels_last, rest):
        with channels_last:
            for i in range(pixels):
                start = out.at_bytes((pixel + i) * out_column)
                for v in range(vectors):
                    finisher.store(start.at(v * lanes), results[i, v])
        with rest:
            for i in range(pixels):
                for v in range(vectors):
                    buffer.at((i * vectors + v) * lanes).store(results[i, v])
            vectored = out_channel.equals(itemsize).integer(valid // lanes * lanes, 0)
            for p in f.loop(count):
                row, to = buffer.at(p * (vectors * lanes)), out.at_bytes((pixel + p) * out_column)
                for k in f.loop(0, vectored, lanes):
                    finisher.store(to.at(k), row.at(k).load(lanes))
                for k in f.loop(vectored, valid):
                    finisher.store(to.at_bytes(k * out_channel), row.at(k).load())
