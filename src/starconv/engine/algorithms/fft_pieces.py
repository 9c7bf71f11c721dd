"""The pieces of a task of `fft`: packing a tile, turning rows into columns, products, storing; all names of fields."""

from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, Vector, transposed
from ..emit.target import Target
from .fft_transforms import pair
from .finish import FINISH_FIELDS, Finish, Finisher

__all__ = ["FIELDS", "WEIGHT_FIELDS", "fetch", "pack", "product", "store", "turn_back", "turn_in"]

LINE = 64
"""Bytes."""

_TILE = (
    "rows",  # of a tile, columns, and elements from a row to the next
    "columns",
    "pitch",
    "down",  # table of the passes down the columns, and how many they are
    "down_passes",
    "along",
    "along_passes",
    "scratch",
    "scratch_bytes",  # per worker
    "buffer",  # where in it the rows in work are, in bytes
    "spectra",  # where the kernels' spectra are
    "spectrum",  # elements of one
)
FIELDS = Fields(
    (
        *_TILE,
        "values",  # where in the scratch memory the spectra of the channels are, in bytes
        "x",
        "x_base",  # bytes from x to the lowest address that the tables count from
        "x_batch",  # bytes between pictures, groups of channels, channels and columns of x
        "x_group",
        "x_channel",
        "x_column",
        "row_table",  # per packed row: byte offset of its source in x, or -1
        "column_table",
        "left",  # packed columns before the first, and before the last of those that lie inside the input
        "right",
        "row_lead",  # the packed row where the first tile begins; the packed row where all end, if not before
        "row_stop",
        "column_lead",
        "column_stop",
        "fill",
        "out",
        "out_batch",
        "out_channel",
        "out_row",
        "out_column",
        "out_rows",
        "out_columns",
        "row_first",  # where in a tile its first output is, and how far apart they are
        "row_stride",
        "column_first",
        "column_stride",
        "rows_per_tile",  # outputs
        "columns_per_tile",
        "tiles_down",
        "tiles_across",
        "runs",  # tasks that divide the tiles that lie across
        "tiles_per_run",
        "bias",
        *FINISH_FIELDS,
        "failed",  # per picture, group and tile: is made 1 where a result is not finite
        "channels",  # per group
        "kernels",
        "groups",
        "shares",  # tasks that divide the groups among them
        "groups_per_share",
        "splits",  # tasks that divide the kernels of a group among them
        "kernels_per_split",
    )
)
WEIGHT_FIELDS = Fields(
    (
        *_TILE,
        "weights",
        "taps_rows",
        "taps_columns",
        "row_dilation",
        "column_dilation",
        "filled_columns",  # columns of the tile that a kernel reaches
        "scale",
    )
)


def turn_in(target: Target, element: str) -> Function:
    """As many rows of a tile as there are lanes, their real and their imaginary parts, side by side to `buffer`."""
    f = Function("turn_in", target, ["rows", "buffer", "pitch", "away", "columns"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    rows, buffer = f.pointer("rows", element), f.pointer("buffer", element)
    pitch, away, columns = (f.integer(part) for part in ("pitch", "away", "columns"))
    for c in f.loop(0, columns, lanes):
        for part, origin in enumerate((rows, rows.at_bytes(away))):
            square = [origin.at(pitch * i + c).load(lanes) for i in range(lanes)]
            for j, column in enumerate(transposed(square)):
                buffer.at(c * (2 * lanes) + (2 * j + part) * lanes).store(column)
    return f


def turn_back(target: Target, element: str) -> Function:
    """The opposite."""
    f = Function("turn_back", target, ["buffer", "rows", "pitch", "away", "columns"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    rows, buffer = f.pointer("rows", element), f.pointer("buffer", element)
    pitch, away, columns = (f.integer(part) for part in ("pitch", "away", "columns"))
    for c in f.loop(0, columns, lanes):
        for part, origin in enumerate((rows, rows.at_bytes(away))):
            square = [buffer.at(c * (2 * lanes) + (2 * j + part) * lanes).load(lanes) for j in range(lanes)]
            for i, row in enumerate(transposed(square)):
                origin.at(pitch * i + c).store(row)
    return f


def product(target: Target, element: str) -> Function:
    """The sum over channels of values times spectra, `spectrum` elements from one channel to the next."""
    arguments = ["buffer", "values", "spectra", "channels", "spectrum", "columns"]
    f = Function("product", target, arguments, internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    buffer, values, spectra = (f.pointer(part, element) for part in ("buffer", "values", "spectra"))
    channels, spectrum, columns = (f.integer(part) for part in ("channels", "spectrum", "columns"))
    size, at_once = 2 * lanes, 4
    for c in f.loop(0, columns, at_once):
        sums = Registers({(j, part): f.zero(element, lanes) for j in range(at_once) for part in range(2)})
        for channel in f.loop(channels, carry=[sums]):
            place = channel * spectrum + c * size
            for j in range(at_once):
                a, b = (pair(each.at(place + j * size), lanes) for each in (values, spectra))
                sums[j, 0] = a.re.times_plus(b.re, sums[j, 0])
                sums[j, 1] = a.re.times_plus(b.im, sums[j, 1])
                sums[j, 0] = (-a.im).times_plus(b.im, sums[j, 0])
                sums[j, 1] = a.im.times_plus(b.re, sums[j, 1])
        for j in range(at_once):
            for part in range(2):
                buffer.at(c * size + (j * size + part * lanes)).store(sums[j, part])
    return f


def pack(target: Target, source: str, element: str) -> Function:
    """Copy the packed rows and columns from (row, column) on into a tile: borders by the tables, zeros behind all."""
    f = Function("pack", target, ["fields", "source", "tile", "row", "column"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    x, tile = f.pointer("source", "i8"), f.pointer("tile", element)
    row, column = f.integer("row"), f.integer("column")
    rows, columns, pitch = FIELDS.integers(f, "rows", "columns", "pitch")
    row_stop, column_stop, x_column = FIELDS.integers(f, "row_stop", "column_stop", "x_column")
    row_table, column_table = FIELDS.pointer(f, "row_table", "i64"), FIELDS.pointer(f, "column_table", "i64")
    fill = FIELDS.real(f, "fill", element)
    signed = not source.startswith("u")
    kind = source if signed else "i" + source[1:]
    itemsize = ITEMSIZES[kind]
    end = (column_stop - column).minimum(columns) + column
    start = FIELDS.integer(f, "left").maximum(column).minimum(end)
    stop = FIELDS.integer(f, "right").minimum(end).maximum(start)
    count = stop - start

    def value(at: Pointer, lanes: int = 1) -> Vector:
        return at.viewed(kind).load(lanes).converted(element, signed=signed)

    def border(origin: Pointer, to: Pointer, first: Int, last: Int) -> None:
        for c in f.loop(first, last):
            offset, place = column_table.at(c).load_int(), to.at(c - column)
            with f.either(offset >= 0) as (inside, outside):
                with inside:
                    place.store(value(origin.at(offset)))
                with outside:
                    place.store(fill)

    for r in f.loop(rows):
        to = tile.at(r * pitch)
        there = row + r < row_stop
        used = there.integer(end - column, 0)
        for c in f.loop(used // lanes * lanes, columns, lanes):
            to.at(c).store(f.zero(element, lanes))
        with f.when(there):
            offset = row_table.at(row + r).load_int()
            with f.either(offset >= 0) as (inside, outside):
                with outside:
                    for c in f.loop(end - column):
                        to.at(c).store(fill)
                with inside:
                    origin = x.at(offset)
                    border(origin, to, column, start)
                    with f.when(count > 0):
                        middle, place = origin.at(column_table.at(start).load_int()), to.at(start - column)
                        with f.either(x_column.equals(itemsize) & (count >= lanes)) as (dense, other):
                            with dense:
                                for c in f.loop(0, count, lanes):  # the last vector overlaps the one before it
                                    first = (count - lanes).minimum(c)
                                    place.at(first).store(value(middle.at(first * itemsize), lanes))
                            with other:
                                for c in f.loop(count):
                                    place.at(c).store(value(middle.at(c * x_column)))
                    border(origin, to, stop, end)
    return f


def fetch(target: Target, element: str) -> Function:
    """Ask for what comes next, some rows at a time: of the next tile's input, and of the memory for this one's outputs.

    Rows lie so far apart that the processor does not foresee them. Addresses may be wrong at borders: that is harmless.
    """
    f = Function("fetch", target, ["fields", "source", "row", "column", "out", "count", "part"], internal=True)
    x, out = f.pointer("source", "i8"), f.pointer("out", "i8")
    row, column, count, part = (f.integer(each) for each in ("row", "column", "count", "part"))
    columns, row_stop, x_column = FIELDS.integers(f, "columns", "row_stop", "x_column")
    row_table, column_table = FIELDS.pointer(f, "row_table", "i64"), FIELDS.pointer(f, "column_table", "i64")
    left, right, out_row = FIELDS.integers(f, "left", "right", "out_row")
    rows = 2 * target.lanes(ITEMSIZES[element])
    begin = column.maximum(left).minimum((right - 1).maximum(0))
    start = x.at(column_table.at(begin).load_int())
    length = (columns * x_column).maximum(0).minimum(4096)
    width = FIELDS.integer(f, "columns_per_tile") * ITEMSIZES[element]
    for r in f.loop(part * rows, (part * rows + rows).minimum(row_stop - row)):
        origin = start.at(row_table.at(row + r).load_int())
        for c in f.loop(0, length, LINE):
            origin.at(c).prefetch()
    for r in f.loop(part * rows, (part * rows + rows).minimum(count)):
        for c in f.loop(0, width, LINE):
            out.at(r * out_row + c).prefetch()
    return f


def store(target: Target, element: str, finish: Finish) -> Function:
    """The outputs of a tile with bias and activation; `flag` is made 1 where one of them is not finite."""
    f = Function("store", target, ["fields", "tile", "out", "bias", "rows", "columns", "flag"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    tile, out = f.pointer("tile", element), f.pointer("out", element)
    added, finisher = f.pointer("bias", element).load(), Finisher(f, FIELDS, element, finish)
    rows, columns, flag = f.integer("rows"), f.integer("columns"), f.pointer("flag", "i64")
    pitch, out_row, out_column = FIELDS.integers(f, "pitch", "out_row", "out_column")
    row_first, row_stride = FIELDS.integers(f, "row_first", "row_stride")
    column_first, column_stride = FIELDS.integers(f, "column_first", "column_stride")
    found = f.buffer(element, lanes)  # 0 times every result: zeros, unless one of them is not finite
    found.store(f.zero(element, lanes))
    whole = columns // lanes * lanes
    dense = out_column.equals(ITEMSIZES[element]) & column_stride.equals(1)

    def put(to: Pointer, value: Vector) -> None:
        finisher.store(to, finisher.early(value + added.broadcast(value.lanes)))

    for r in f.loop(rows):
        origin, to = tile.at((row_first + r * row_stride) * pitch + column_first), out.at_bytes(r * out_row)
        with f.when(dense):
            check = Registers({0: found.load(lanes)})
            for c in f.loop(0, whole, lanes, carry=[check]):
                value = origin.at(c).load(lanes)
                check[0] = value.times_plus(f.zero(element, lanes), check[0])
                put(to.at(c), value)
            found.store(check[0])
        for c in f.loop(dense.integer(whole, 0), columns):
            value = origin.at(c * column_stride).load()
            found.store(value.times_plus(f.zero(element, 1), found.load()))
            put(to.at_bytes(c * out_column), value)
    for i in range(lanes * ITEMSIZES[element] // 8):
        word = found.viewed("i64").at(i).load_int()
        with f.when((word < 0) | (word > 0)):
            flag.store(Vector(f, "1", "i64", 1))
    return f
