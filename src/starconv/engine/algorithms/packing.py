"""Copying into the form that kernels read: blocks of input with the padding drawn in, and panels of weights.

Packing costs one load and one store per element, against K / lanes multiply-adds that a layer with K kernels does with
it: 64 kernels on 8 lanes and 9 taps make 72, so packing is about 3 % of such a layer, and it rids the inner loops
of borders, strides and dtypes. Where a layer does too little with an element, its algorithm must not pack.
"""

from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Vector, transposed
from ..emit.target import Target

__all__ = ["BLOCK_FIELDS", "pack_block", "pack_panels"]

BLOCK_FIELDS = (
    "depth_table",  # per packed depth: byte offset of its source in x, or -1
    "row_table",
    "column_table",
    "left",  # packed columns before the first, and before the last of those that lie inside the input
    "right",
    "columns",  # packed columns in a row of the block
    "taps_depth",  # packed depths in a block
    "block_rows",  # packed rows for which the block has room
    "depth_dilation",
    "channels",  # channels in the block
    "x_channel",  # bytes between channels of x
    "x_column",  # bytes between packed columns of x
    "fill",  # what constant padding holds
)


def pack_block(name: str, target: Target, fields: Fields, source: str, element: str, *, last: bool) -> Function:
    """A function that packs (source, block, first depth, first row, rows): all channels of some rows.

    The block is [channel][depth][row][column], or with `last` [depth][row][column][channel]. `source` is the element
    type of x ("float", "i8", "u8", ...), `element` that of the block.
    """
    f = Function(name, target, ["fields", "source", "block", "depth", "row", "rows"], internal=True)
    signed = not source.startswith("u")
    source = "i" + source[1:] if source.startswith("u") else source
    x, block = f.pointer("source", "i8"), f.pointer("block", element)
    depth, row, rows = f.integer("depth"), f.integer("row"), f.integer("rows")
    depths, spread, columns = fields.integers(f, "taps_depth", "depth_dilation", "columns")
    room = fields.integer(f, "block_rows")
    channels, x_channel, x_column = fields.integers(f, "channels", "x_channel", "x_column")
    left, right = fields.integers(f, "left", "right")
    depth_table, row_table = fields.pointer(f, "depth_table", "i64"), fields.pointer(f, "row_table", "i64")
    column_table = fields.pointer(f, "column_table", "i64")
    fill = fields.real(f, "fill", element)
    lanes = target.lanes(ITEMSIZES[element])
    itemsize = ITEMSIZES[source]

    def value(pointer: Pointer, count: int = 1) -> Vector:
        return pointer.viewed(source).load(count).converted(element, signed=signed)

    def copy_run(origin: Pointer, target_run: Pointer, count: Int) -> None:
        """`count` elements that lie one after the other; the last vector overlaps the one before it."""
        with f.either(count >= lanes) as (long, short):
            with long:
                for i in f.loop(0, count - (lanes - 1), lanes):
                    target_run.at(i).store(value(origin.at_bytes(i * itemsize), lanes))
                end = count - lanes
                target_run.at(end).store(value(origin.at_bytes(end * itemsize), lanes))
            with short:
                for i in f.loop(count):
                    target_run.at(i).store(value(origin.at_bytes(i * itemsize)))

    def fill_run(target_run: Pointer, count: Int) -> None:
        for i in f.loop(count):
            target_run.at(i).store(fill)

    def pick(origin: Pointer, offset: Int, target_run: Pointer) -> None:
        """One column by the table, from the input or filled."""
        with f.either(offset >= 0) as (inside, outside):
            with inside:
                target_run.store(value(origin.at_bytes(offset)))
            with outside:
                target_run.store(fill)

    def each_row(channel: Int | None) -> None:
        for d in f.loop(depths):
            depth_offset = depth_table.at(depth + d * spread).load_int()
            for r in f.loop(rows):
                row_offset = row_table.at(row + r).load_int()
                run = columns * (1 if channel is not None else channels)
                start = (d * room + r) * run
                if channel is not None:
                    start = start + channel * depths * room * run
                to = block.at(start)
                origin = x.at(depth_offset + row_offset)
                if channel is not None:
                    origin = origin.at(channel * x_channel)
                with f.either((depth_offset >= 0) & (row_offset >= 0)) as (inside, outside):
                    with outside:
                        fill_run(to, run)
                    with inside:
                        if channel is None:
                            copy_pixels(origin, to)
                        else:
                            copy_columns(origin, to)

    def copy_columns(origin: Pointer, to: Pointer) -> None:
        for c in f.loop(left):
            pick(origin, column_table.at(c).load_int(), to.at(c))
        with f.when(right > left):
            middle = origin.at_bytes(column_table.at(left).load_int())
            with f.either(x_column.equals(itemsize)) as (dense, strided):
                with dense:
                    copy_run(middle, to.at(left), right - left)
                with strided:
                    for c in f.loop(right - left):
                        to.at(left + c).store(value(middle.at_bytes(c * x_column)))
        for c in f.loop(right, columns):
            pick(origin, column_table.at(c).load_int(), to.at(c))

    def copy_pixels(origin: Pointer, to: Pointer) -> None:
        for c in f.loop(columns):
            offset = column_table.at(c).load_int()
            pixel = to.at(c * channels)
            with f.either(offset >= 0) as (inside, outside):
                with inside, f.either(x_channel.equals(itemsize)) as (dense, strided):
                    with dense:
                        copy_run(origin.at_bytes(offset), pixel, channels)
                    with strided:
                        for channel in f.loop(channels):
                            pixel.at(channel).store(value(origin.at_bytes(offset + channel * x_channel)))
                with outside:
                    fill_run(pixel, channels)

    if last:
        each_row(None)
    else:
        for channel in f.loop(channels):
            each_row(channel)
    return f


PANEL_FIELDS = Fields(
    (
        "weights",
        "panels",
        "kernels",  # kernels per group
        "blocks",  # panels per group
        "length",  # weights of one kernel: channels * taps
        "channels",
        "depths",
        "rows",
        "columns",
        "group_step",  # steps of the weight array in bytes, one per axis
        "kernel_step",
        "channel_step",
        "depth_step",
        "row_step",
        "column_step",
        "dense",  # 1 where a kernel's weights lie one after the other
    )
)


def pack_panels(target: Target, element: str, width: int) -> Function:
    """The task function that packs panel `task`: `width` kernels side by side, [channel][tap][kernel], padded with zeros."""
    f = Function("pack_panels", target, ["fields", "task", "worker"])
    field = PANEL_FIELDS
    task = f.integer("task")
    kernels, blocks, length, channels = field.integers(f, "kernels", "blocks", "length", "channels")
    depths, rows, columns = field.integers(f, "depths", "rows", "columns")
    steps = {name: field.integer(f, f"{name}_step") for name in ("group", "kernel", "channel", "depth", "row", "column")}
    lanes = target.lanes(ITEMSIZES[element])
    group, block = task // blocks, task % blocks
    first = block * width
    weights = field.pointer(f, "weights", element).at_bytes(group * steps["group"] + first * steps["kernel"])
    panel = field.pointer(f, "panels", element).at(task * length * width)
    valid = (kernels - first).minimum(width)

    fast = valid.equals(width) & field.integer(f, "dense").equals(1)
    with f.either(fast) as (quick, general):
        with quick:
            for start in range(0, width, lanes):
                _transpose_run(f, weights.at_bytes(steps["kernel"] * start), panel.at(start), steps["kernel"], length, width, lanes)
        with general:
            for c in f.loop(channels):
                for d in f.loop(depths):
                    for r in f.loop(rows):
                        for q in f.loop(columns):
                            to = panel.at((((c * depths + d) * rows + r) * columns + q) * width)
                            origin = weights.at_bytes(
                                c * steps["channel"] + d * steps["depth"] + r * steps["row"] + q * steps["column"]
                            )
                            for k in f.loop(width):
                                with f.either(k < valid) as (there, beyond):
                                    with there:
                                        to.at(k).store(origin.at_bytes(k * steps["kernel"]).load())
                                    with beyond:
                                        to.at(k).store(f.zero(element, 1))
    return f


def _transpose_run(
    f: Function, weights: Pointer, panel: Pointer, kernel_step: Int, length: Int, width: int, lanes: int
) -> None:
    """`lanes` kernels of `length` weights, each in one run, to [weight][kernel] at a distance of `width`."""
    whole = length // lanes * lanes
    for i in f.loop(0, whole, lanes):
        square = [weights.at_bytes(kernel_step * k).at(i).load(lanes) for k in range(lanes)]
        for j, column in enumerate(transposed(square)):
            panel.at((i + j) * width).store(column)
    for i in f.loop(whole, length):
        for k in range(lanes):
            panel.at(i * width + k).store(weights.at_bytes(kernel_step * k).at(i).load())
