"""What `winograd` compiles for tiles: packing, the transforms of input, output and weights, and all names of fields.

Everything here works on vectors of channels (or kernels), so that transforms need no shuffling: where x is
channels-first, a block of it is transposed in registers while it is packed, and results are transposed when they are
stored. Sizes are fields, so one function serves all shapes.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Condition, Function, Int, Pointer, Vector, transposed
from ..emit.target import Target
from .finish import FINISH_FIELDS, Finish, Finisher
from .packing import PANEL_FIELDS, pack_part
from .winograd_transforms import Tile, span

__all__ = [
    "CHANNELS",
    "ELEMENT",
    "FIELDS",
    "WEIGHT_FIELDS",
    "Constants",
    "Room",
    "odd_lines",
    "pack",
    "transform_input",
    "transform_output",
    "transform_tiles",
    "transform_weights",
]

ELEMENT = "float"
CHANNELS = 16
"""Channels that are packed and transformed at a time: a cache line of float32, so that no line is written twice."""
FIELDS = Fields(
    (
        "x",
        "x_base",  # bytes from x to the lowest address that the tables count from
        "x_batch",  # bytes between pictures, groups of channels, channels and columns of x
        "x_group",
        "x_channel",
        "x_column",
        "row_table",  # per row of the padded input: byte offset of its source in x, or -1; reaches past the last tile
        "column_table",
        "left",  # columns before the first, and before the last of those that lie inside the input
        "right",
        "fill",
        "out",
        "out_batch",
        "out_channel",
        "out_row",
        "out_column",
        "out_rows",
        "out_columns",
        "panels",
        "weight_position",  # elements from one position to the next
        "bias",
        "scratch",
        "scratch_bytes",  # per worker
        "values",  # where transformed input and products are in the scratch memory, in bytes
        "products",
        "value_tile",  # elements from one tile to the next, and from one position to the next
        "value_position",
        "product_tile",
        "product_position",
        "channels",  # per group
        "kernels",
        "blocks",  # panels per group
        "pictures",
        "tile_rows",
        "tile_columns",
        "pictures_per_task",
        "rows_per_task",
        "columns_per_task",
        "picture_blocks",
        "row_blocks",
        "column_blocks",
        "splits",  # tasks that divide the panels of a group among them
        "panels_per_split",
        *FINISH_FIELDS,
    )
)

WEIGHT_FIELDS = Fields(
    (
        *PANEL_FIELDS.names,
        "chunks",  # of CHANNELS channels
        "position",  # elements from one position to the next in the transformed weights, which are the panels
    )
)


class Room(NamedTuple):
    """Where block, V and M lie in a thread's scratch memory: steps in elements, places in bytes. Names are fields'."""

    value_tile: int
    value_position: int
    product_tile: int
    product_position: int
    values: int
    products: int
    scratch_bytes: int

    @classmethod
    def of(cls, tile: Tile, rows: int, columns: int, pictures: int, channels: int, kernels: int) -> "Room":
        """For tiles of some pictures. A line more per tile, so those of 1024 channels share no set of the cache."""
        n = tile.n
        steps = [-(-channels // CHANNELS) * CHANNELS + CHANNELS, kernels + CHANNELS]
        positions = [odd_lines(pictures * rows * columns * step) for step in steps]
        values = span(tile, rows) * span(tile, columns) * CHANNELS * ITEMSIZES[ELEMENT]
        products, size = (values + n * n * sum(positions[:count]) * ITEMSIZES[ELEMENT] for count in (1, 2))
        return cls(steps[0], positions[0], steps[1], positions[1], values, products, size)


def odd_lines(elements: int) -> int:
    """Up to an odd number of cache lines: positions at a multiple of many lines would share few sets of the cache."""
    return (-(-elements // CHANNELS) | 1) * CHANNELS


# -- input ---------------------------------------------------------------------------------------------------


def pack(name: str, target: Target, source: str) -> Function:
    """Copy `rows` x `columns` of the padded input to the block, [row][column][16 channels].

    Of fewer than 16 `valid` channels the last one is repeated; products never read the copies.
    """
    f = Function(name, target, ["fields", "x", "block", "row", "rows", "column", "columns", "valid"], internal=True)
    lanes = target.lanes(4)
    x, block = f.pointer("x", "i8"), f.pointer("block", ELEMENT)
    row, rows, column, columns, valid = (f.integer(a) for a in ("row", "rows", "column", "columns", "valid"))
    row_table, column_table = FIELDS.pointer(f, "row_table", "i64"), FIELDS.pointer(f, "column_table", "i64")
    x_channel, x_column = FIELDS.integers(f, "x_channel", "x_column")
    fill = FIELDS.real(f, "fill", ELEMENT).broadcast(lanes)
    signed = not source.startswith("u")
    element = source if signed else "i" + source[1:]
    itemsize = ITEMSIZES[element]
    last = valid - 1
    start = FIELDS.integer(f, "left").maximum(column).minimum(column + columns)
    stop = FIELDS.integer(f, "right").minimum(column + columns).maximum(start)

    def value(at: Pointer, count: int = 1) -> Vector:
        return at.viewed(element).load(count).converted(ELEMENT, signed=signed)

    def scalars(origin: Pointer, to: Pointer) -> None:
        for k in f.loop(CHANNELS):
            to.at(k).store(value(origin.at(last.minimum(k) * x_channel)))

    def filled(to: Pointer) -> None:
        for k in range(0, CHANNELS, lanes):
            to.at(k).store(fill)

    def border(origin: Pointer, to: Pointer, first: Int, end: Int) -> None:
        for c in f.loop(first, end):
            offset, place = column_table.at(c).load_int(), to.at((c - column) * CHANNELS)
            with f.either(offset >= 0) as (inside, outside):
                with inside:
                    scalars(origin.at(offset), place)
                with outside:
                    filled(place)

    def square(origin: Pointer, to: Pointer) -> None:
        """`lanes` columns that lie side by side, of every channel."""
        for k in f.loop(0, CHANNELS, lanes):
            runs = [value(origin.at(last.minimum(k + i) * x_channel), lanes) for i in range(lanes)]
            for i, pixel in enumerate(transposed(runs)):
                to.at(k + i * CHANNELS).store(pixel)

    def pixel(origin: Pointer, to: Pointer) -> None:
        """One column, whose channels lie side by side."""
        for k in range(0, CHANNELS, lanes):
            to.at(k).store(value(origin.at(k * itemsize), lanes))

    for r in f.loop(rows):
        row_offset, to = row_table.at(row + r).load_int(), block.at(r * columns * CHANNELS)
        with f.either(row_offset >= 0) as (inside, outside):
            with outside:
                for c in f.loop(columns):
                    filled(to.at(c * CHANNELS))
            with inside:
                origin = x.at(row_offset)
                border(origin, to, column, start)
                with f.when(stop > start):
                    middle, place = origin.at(column_table.at(start).load_int()), to.at((start - column) * CHANNELS)
                    count = stop - start
                    runs = x_column.equals(itemsize) & (count >= lanes)
                    with f.either(runs) as (channels_first, other):
                        with channels_first:
                            for c in f.loop(0, count, lanes):  # the last vector overlaps the one before it
                                first = (count - lanes).minimum(c)
                                square(middle.at(first * itemsize), place.at(first * CHANNELS))
                        with other, f.either(x_channel.equals(itemsize) & valid.equals(CHANNELS)) as (dense, rest):
                            with dense:
                                for c in f.loop(count):
                                    pixel(middle.at(c * x_column), place.at(c * CHANNELS))
                            with rest:
                                for c in f.loop(count):
                                    scalars(middle.at(c * x_column), place.at(c * CHANNELS))
                border(origin, to, stop, column + columns)
    return f


def transform_input(name: str, target: Target, tile: Tile) -> Function:
    """V = B^T d B for every tile of the block and each of its channels, to [position][tile][channel]."""
    return transform_tiles(name, target, tile, tile.window, tile.input, "value")


def transform_tiles(
    name: str,
    target: Target,
    tile: Tile,
    size: int,
    short: Callable[[Sequence[Vector], Callable[[Fraction], Vector]], list[Vector]],
    field: str,
) -> Function:
    """T d T^T for every tile of the block, of `size` x `size` elements, and each of its channels.

    `short` is the product with T, from `size` numbers to n; `field` the first word of the names of the fields that say
    where results lie, "value" or "product".
    """
    f = Function(name, target, ["fields", "block", "values", "rows", "columns"], internal=True)
    lanes, n, apart = target.lanes(4), tile.n, tile.step
    block, values = f.pointer("block", ELEMENT), f.pointer("values", ELEMENT)
    rows, columns = f.integer("rows"), f.integer("columns")
    step, position = FIELDS.integers(f, f"{field}_tile", f"{field}_position")
    pitch = (columns * apart + (size - apart)) * CHANNELS
    buffer = f.buffer(ELEMENT, size * n * lanes)
    constant = Constants(f, lanes)
    for r in f.loop(rows):
        for c in f.loop(columns):
            corner, to = block.at(r * apart * pitch + c * (apart * CHANNELS)), values.at((r * columns + c) * step)
            for k in f.loop(0, CHANNELS, lanes):
                for number in f.loop(size):
                    column = [corner.at(pitch * i + (k + number * CHANNELS)).load(lanes) for i in range(size)]
                    for i, value in enumerate(short(column, constant)):
                        buffer.at(number * lanes).at(i * size * lanes).store(value)
                for number in f.loop(n):
                    row = [buffer.at(number * (size * lanes)).at(j * lanes).load(lanes) for j in range(size)]
                    place = to.at(k + number * (position * n))
                    for value in short(row, constant):
                        place.store(value)
                        place = place.at(position)
    return f


# -- output --------------------------------------------------------------------------------------------------


def transform_output(name: str, target: Target, tile: Tile, finish: Finish) -> Function:
    """Y = A^T M A + bias of a vector of kernels for rows x columns of tiles, cut off where the picture ends."""
    arguments = ["fields", "products", "out", "bias", "row", "rows", "column", "columns", "valid"]
    f = Function(name, target, arguments, internal=True)
    lanes, n, m = target.lanes(4), tile.n, tile.m
    products, out = f.pointer("products", ELEMENT), f.pointer("out", ELEMENT)
    row, rows, column, columns, valid = (f.integer(a) for a in ("row", "rows", "column", "columns", "valid"))
    product_tile, product_position = FIELDS.integers(f, "product_tile", "product_position")
    out_rows, out_columns, out_row, out_column = FIELDS.integers(f, "out_rows", "out_columns", "out_row", "out_column")
    out_channel = FIELDS.integer(f, "out_channel")
    bias = f.pointer("bias", ELEMENT).load(lanes)
    finisher = Finisher(f, FIELDS, ELEMENT, finish)
    buffer, results = f.buffer(ELEMENT, m * n * lanes), f.buffer(ELEMENT, m * m * lanes)
    constant = Constants(f, lanes)
    whole = valid >= lanes
    channels_first = whole & out_column.equals(ITEMSIZES[ELEMENT])
    channels_last = whole & out_channel.equals(ITEMSIZES[ELEMENT])
    for r in f.loop(rows):
        for c in f.loop(columns):
            place = products.at((r * columns + c) * product_tile)
            # Positions lie row by row; rows first, as they come.
            for number in f.loop(n):
                line, position = [], place.at(number * (product_position * n))
                for _ in range(n):
                    line.append(position.load(lanes))
                    position = position.at(product_position)
                for j, value in enumerate(tile.output(line, constant)):
                    buffer.at(number * (m * lanes)).at(j * lanes).store(value)
            pixels: dict[tuple[int, int], Vector] = {}
            for j in range(m):
                line = [buffer.at((i * m + j) * lanes).load(lanes) for i in range(n)]
                for i, value in enumerate(tile.output(line, constant)):
                    pixels[i, j] = finisher.early(value + bias)
            first_row, first_column = (row + r) * m, (column + c) * m
            to = out.at_bytes(first_row * out_row + first_column * out_column)
            rows_left, columns_left = out_rows - first_row, out_columns - first_column
            inside = (rows_left >= m) & (columns_left >= m)
            with f.either(inside & channels_first) as (yes, no):
                with yes:
                    for i in range(m):
                        row_of_tile = [pixels[i, j] for j in range(m)]
                        _store_channels_first(to.at_bytes(out_row * i), row_of_tile, out_channel, finisher)
                with no, f.either(inside & channels_last) as (yes, no):
                    with yes:
                        for i, j in pixels:
                            finisher.store(to.at_bytes(out_row * i + out_column * j), pixels[i, j])
                    with no:
                        for (i, j), value in pixels.items():
                            results.at((i * m + j) * lanes).store(value)
                        steps = (out_row, out_column, out_channel)
                        limits = (rows_left.minimum(m), columns_left.minimum(m), valid.minimum(lanes))
                        _store_part(f, results, m, lanes, to, steps, limits, channels_last, finisher)
    return f


def _store_channels_first(to: Pointer, pixels: Sequence[Vector], out_channel: Int, finisher: Finisher) -> None:
    """2 or 4 neighbouring pixels of a vector of kernels, to one short run per kernel.

    Kernels are interleaved within groups of four lanes (128 bits), where shuffles are cheap on every target.
    """
    lanes, m = pixels[0].lanes, len(pixels)

    def pick(a: Vector, b: Vector, four: Sequence[int]) -> Vector:
        """Per group of four lanes: those of a (0 to 3) and b (4 to 7) that are named."""
        return a.shuffled(b, [g + (i if i < 4 else lanes + i - 4) for g in range(0, lanes, 4) for i in four])

    low, high = (0, 4, 1, 5), (2, 6, 3, 7)
    if m == 2:
        runs = [
            (pick(pixels[0], pixels[1], half), (0, 1) if number == 0 else (2, 3))
            for number, half in enumerate((low, high))
        ]
        for vector, kernels in runs:
            for g in range(0, lanes, 4):
                for place, kernel in enumerate(kernels):
                    run = vector.shuffled(vector, range(g + 2 * place, g + 2 * place + 2))
                    finisher.store(to.at_bytes(out_channel * (g + kernel)), run)
        return
    for number, half in enumerate((low, high)):
        first, second = pick(pixels[0], pixels[1], half), pick(pixels[2], pixels[3], half)
        for place, four in enumerate(((0, 1, 4, 5), (2, 3, 6, 7))):
            vector = pick(first, second, four)
            for g in range(0, lanes, 4):
                run = vector if lanes == 4 else vector.shuffled(vector, range(g, g + 4))
                finisher.store(to.at_bytes(out_channel * (g + 2 * number + place)), run)


def _store_part(
    f: Function,
    results: Pointer,
    m: int,
    lanes: int,
    to: Pointer,
    steps: tuple[Int, Int, Int],
    limits: tuple[Int, Int, Int],
    channels_last: Condition,
    finisher: Finisher,
) -> None:
    """What of a tile lies inside the picture, from memory: whole vectors or element by element."""
    for i in f.loop(limits[0]):
        for j in f.loop(limits[1]):
            origin, place = results.at((i * m + j) * lanes), to.at_bytes(i * steps[0] + j * steps[1])
            with f.either(channels_last) as (yes, no):
                with yes:
                    finisher.store(place, origin.load(lanes))
                with no:
                    for k in f.loop(limits[2]):
                        finisher.store(place.at_bytes(k * steps[2]), origin.at(k).load())


# -- weights -------------------------------------------------------------------------------------------------


def transform_weights(target: Target, tile: Tile, panel: int) -> list[Function]:
    """Task: U = G g G^T of some channels of a panel of kernels, [position][panel][channel][kernel].

    They are packed first, as [channel][tap][kernel], and are still in the first-level cache then. The function comes
    after what it calls.
    """
    called = pack_part("pack_part", target, WEIGHT_FIELDS, ELEMENT, panel)
    f = Function("task", target, ["fields", "task", "worker"])
    lanes, n, size = target.lanes(4), tile.numbers, tile.taps
    kernels, channels, blocks, chunks = WEIGHT_FIELDS.integers(f, "kernels", "channels", "blocks", "chunks")
    group_step, kernel_step, channel_step = WEIGHT_FIELDS.integers(f, "group_step", "kernel_step", "channel_step")
    position, entry = WEIGHT_FIELDS.integer(f, "position"), f.integer("task") // chunks
    group, number, channel = entry // blocks, entry % blocks, f.integer("task") % chunks * CHANNELS
    first, count = number * panel, (channels - channel).minimum(CHANNELS)
    weights = WEIGHT_FIELDS.pointer(f, "weights", ELEMENT).at_bytes(group * group_step + first * kernel_step)
    origin = f.buffer(ELEMENT, CHANNELS * size * size * panel)
    valid = (kernels - first).minimum(panel)
    f.run(called[-1], f.integer("fields"), weights.at_bytes(channel * channel_step), origin, count, valid)
    to = WEIGHT_FIELDS.pointer(f, "panels", ELEMENT).at(
        group * position * (n * n) + (number * channels + channel) * panel
    )
    buffer = f.buffer(ELEMENT, n * size * lanes)
    constant = Constants(f, lanes)
    for c in f.loop(count):
        for k in f.loop(0, panel, lanes):
            taps = origin.at(c * (size * size * panel) + k)
            for j in range(size):
                column = [taps.at((i * size + j) * panel).load(lanes) for i in range(size)]
                for i, value in enumerate(tile.kernel(column, constant)):
                    buffer.at((i * size + j) * lanes).store(value)
            place = to.at(c * panel + k)
            for i in range(n):
                row = [buffer.at((i * size + j) * lanes).load(lanes) for j in range(size)]
                for value in tile.kernel(row, constant):
                    place.store(value)
                    place = place.at(position)
    return [*called, f]


class Constants:
    """Coefficients as vectors of equal lanes, rounded to float32."""

    def __init__(self, f: Function, lanes: int) -> None:
        self.f, self.lanes = f, lanes

    def __call__(self, value: Fraction) -> Vector:
        """The vector of `value`."""
        return self.f.constant(float(value), ELEMENT, self.lanes)
