"""Compiled functions of `weight_grad`: packing both operands, the three forms of tiles, adding up partial sums."""

from functools import lru_cache
from typing import NamedTuple

from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, Vector, loaded_transposed, module_source, transposed
from ..emit.target import Target
from ..kernels import Compiled, compiled
from .packing import BLOCK_FIELDS, pack_block

__all__ = ["FIELDS", "Tile", "compute_function", "reduce_function"]

FIELDS = Fields(
    (
        *BLOCK_FIELDS,
        "x",
        "x_picture",  # steps in bytes
        "x_group",
        "g",
        "g_picture",
        "g_kernel",
        "g_depth",
        "g_row",
        "g_column",
        "g_rows_follow",  # 1 where the rows of G follow each other without a gap
        "out",
        "sums",
        "scratch",
        "scratch_bytes",  # per worker
        "packed_g",  # where G is packed in it
        "entry_table",  # byte offset of every entry of a share in the block
        "pixel_table",  # byte offset in the block (and element in the packed G) of every pixel, or vector of pixels
        "tail_table",
        "batch",
        "groups",
        "shares",
        "share_channels",
        "all_channels",  # per group
        "all_kernels",  # of all groups
        "taps",
        "entries",  # per share
        "tiles",  # of entries
        "panels",
        "kernels",  # per group
        "area",  # elements of a block of sums
        "partials",
        "units",
        "pictures",  # per unit
        "picture_block",  # elements of X's block per picture
        "depths",
        "depth_stride",
        "bands",
        "rows_per_band",
        "out_rows",
        "out_columns",
        "row_stride",
        "row_rest",
        "g_pitch",  # elements from row to row of the packed G, form "pixels"
        "g_plane",  # from picture to picture
        "x_pixels",  # of a picture, and where they lie in its block, form "groups"
        "x_places",
    )
)


class Tile(NamedTuple):
    """Sums held in registers: entries x kernels. See the module's text for the forms."""

    form: str
    entries: int
    kernels: int

    @property
    def by_pixels(self) -> bool:
        """Whether the lanes are pixels, so that they are added up in the end."""
        return self.form == "pixels"


@lru_cache(maxsize=256)
def compute_function(target: Target, element: str, tile: Tile, phases: int, tail: int) -> Compiled:
    """The task function of a tile's form; `tail` are the columns past the last whole vector of a row."""
    if tile.form == "groups":
        pack = _pack_groups("pack_block", target, element)
    else:
        pack = pack_block("pack_block", target, FIELDS, element, element, phases=phases)
    if tile.by_pixels:
        pack_g = _pack_rows("pack_g", target, element)
        sums = _tile_of_pixels("tile", target, element, tile, tail)
    else:
        pack_g = _pack_pixels("pack_g", target, element, tile.kernels)
        sums = _tile_of_kernels("tile", target, element, tile)
    task = _task(target, element, tile, pack, pack_g, sums)
    return compiled(module_source([pack, pack_g, sums, task]), target, "task")


def _task(target: Target, element: str, tile: Tile, pack: Function, pack_g: Function, sums: Function) -> Function:
    """Task: the units of a partial sum, for one group and one share of its channels."""
    f = Function("task", target, ["fields", "task", "worker"])
    fields = f.integer("fields")
    lanes = target.lanes(ITEMSIZES[element])
    task, worker = f.integer("task"), f.integer("worker")
    shares, groups, partials, units = FIELDS.integers(f, "shares", "groups", "partials", "units")
    kernels, panels, tiles, area = FIELDS.integers(f, "kernels", "panels", "tiles", "area")
    share, rest = task % shares, task // shares
    group, partial = rest % groups, rest // groups
    all_channels, share_channels = FIELDS.integers(f, "all_channels", "share_channels")
    # The last share ends with the last channel, so it may compute some again that the one before it has.
    channel = (share * share_channels).minimum(all_channels - share_channels)
    block = FIELDS.pointer(f, "scratch", element).at_bytes(worker * FIELDS.integer(f, "scratch_bytes"))
    packed_g = block.at_bytes(FIELDS.integer(f, "packed_g"))
    total = FIELDS.pointer(f, "sums", element).at(task * area)
    x = FIELDS.pointer(f, "x", "i8").at(group * FIELDS.integer(f, "x_group"))
    x = x.at(channel * FIELDS.integer(f, "x_channel"))
    g_kernel = FIELDS.integer(f, "g_kernel")
    g = FIELDS.pointer(f, "g", element).at_bytes(group * kernels * g_kernel)
    entry_room = area // (panels * (tile.kernels * (lanes if tile.by_pixels else 1)))
    entry_table = FIELDS.pointer(f, "entry_table", "i64")
    bands, depths, per_band, out_rows = FIELDS.integers(f, "bands", "depths", "rows_per_band", "out_rows")
    pictures, batch, picture_block = FIELDS.integers(f, "pictures", "batch", "picture_block")
    x_picture, g_picture, g_depth, g_row = FIELDS.integers(f, "x_picture", "g_picture", "g_depth", "g_row")
    depth_stride, row_stride, row_rest = FIELDS.integers(f, "depth_stride", "row_stride", "row_rest")
    g_plane = FIELDS.integer(f, "g_plane")

    all_kernels = FIELDS.integer(f, "all_kernels")
    for i in f.loop(0, area, lanes):
        total.at(i).store(f.zero(element, lanes))
    if tile.form == "groups":  # the padding, which no picture covers
        for i in f.loop(0, pictures * picture_block, lanes):
            block.at(i).store(f.zero(element, lanes))
    for unit in f.loop(partial * units // partials, (partial + 1) * units // partials):
        band, rest = unit % bands, unit // bands
        depth, first = rest % depths, rest // depths * pictures
        count = (batch - first).minimum(pictures)
        row = band * per_band
        rows = (out_rows - row).minimum(per_band)
        for picture in f.loop(count):
            source = x.at((first + picture) * x_picture)
            to = block.at(picture * picture_block)
            if tile.form == "groups":
                f.run(pack, fields, source, to, (all_kernels - group * kernels).minimum(lanes))
            else:
                f.run(pack, fields, source, to, depth * depth_stride, row * row_stride, rows * row_stride + row_rest)
        origin = g.at_bytes(first * g_picture + depth * g_depth + row * g_row)
        for panel in f.loop(panels):
            first_kernel = panel * tile.kernels
            valid = (kernels - first_kernel).minimum(tile.kernels)
            valid = valid.minimum(all_kernels - group * kernels - first_kernel)
            for picture in f.loop(count):
                source = origin.at_bytes(picture * g_picture + first_kernel * g_kernel)
                f.run(pack_g, fields, source, packed_g.at(picture * g_plane * tile.kernels), rows, valid)
            start = total.at(panel * entry_room * (tile.kernels * (lanes if tile.by_pixels else 1)))
            for number in f.loop(tiles):
                entry = number * tile.entries
                step = lanes if tile.by_pixels else tile.kernels
                entries = entry_table.at(entry)
                f.run(sums, fields, block, entries, packed_g, start.at(entry * step), count, rows, entry_room)
    return f


def _tile_of_kernels(name: str, target: Target, element: str, tile: Tile) -> Function:
    """Entries x vectors of kernels, over all pixels of the unit; then added to the sums in memory."""
    arguments = ["fields", "block", "entries", "g", "sums", "pictures", "rows", "entry_room"]
    f = Function(name, target, arguments, internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    vectors = tile.kernels // lanes
    block, g, total = (f.pointer(part, element) for part in ("block", "g", "sums"))
    entries = f.pointer("entries", "i64")
    pictures, pixels = f.integer("pictures"), f.integer("rows") * FIELDS.integer(f, "out_columns")
    picture_block, g_plane = FIELDS.integers(f, "picture_block", "g_plane")
    table = FIELDS.pointer(f, "pixel_table", "i64")
    keys = [(e, v) for e in range(tile.entries) for v in range(vectors)]
    sums = Registers({key: f.zero(element, lanes) for key in keys})
    for picture in f.loop(0, pictures, carry=[sums]):
        here = block.at(picture * picture_block)
        starts = [here.at_bytes(entries.at(e).load_int()) for e in range(tile.entries)]
        panel = g.at(picture * g_plane * tile.kernels)

        def step(pixel: Int, starts: list[Pointer] = starts, panel: Pointer = panel) -> None:
            offset = table.at(pixel).load_int()
            row = [panel.at(pixel * tile.kernels + v * lanes).load(lanes) for v in range(vectors)]
            for e in range(tile.entries):
                place = starts[e].at_bytes(offset)
                x = place.load(lanes) if tile.form == "groups" else place.broadcast(lanes)
                for v in range(vectors):
                    sums[e, v] = x.times_plus(row[v], sums[e, v])

        whole = pixels // 4 * 4
        for pixel in f.loop(0, whole, 4, carry=[sums]):
            for i in range(4):
                step(pixel + i)
        for pixel in f.loop(whole, pixels, carry=[sums]):
            step(pixel)
    for e, v in keys:
        at = total.at(e * tile.kernels + v * lanes)
        at.store(at.load(lanes) + sums[e, v])
    return f


def _tile_of_pixels(name: str, target: Target, element: str, tile: Tile, tail: int) -> Function:
    """Entries x kernels in vectors of pixels. Lanes past a row's end are cleared in X too: there may be a NaN in it."""
    arguments = ["fields", "block", "entries", "g", "sums", "pictures", "rows", "entry_room"]
    f = Function(name, target, arguments, internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    block, g, total = (f.pointer(part, element) for part in ("block", "g", "sums"))
    entries = f.pointer("entries", "i64")
    pictures, rows, room = f.integer("pictures"), f.integer("rows"), f.integer("entry_room")
    picture_block, g_plane, columns = FIELDS.integers(f, "picture_block", "g_plane", "out_columns")
    vectors, tails = FIELDS.pointer(f, "pixel_table", "i64"), FIELDS.pointer(f, "tail_table", "i64")
    keys = [(e, k) for e in range(tile.entries) for k in range(tile.kernels)]
    sums = Registers({key: f.zero(element, lanes) for key in keys})
    kept = [*range(tail), *range(lanes + tail, 2 * lanes)]
    for picture in f.loop(0, pictures, carry=[sums]):
        here = block.at(picture * picture_block)
        starts = [here.at_bytes(entries.at(e).load_int()) for e in range(tile.entries)]
        planes = [g.at((picture * tile.kernels + k) * g_plane) for k in range(tile.kernels)]

        def step(
            table: Pointer, number: Int, cut: bool, starts: list[Pointer] = starts, planes: list[Pointer] = planes
        ) -> None:
            x_offset, g_offset = table.at(number * 2).load_int(), table.at(number * 2 + 1).load_int()
            row = [plane.at_bytes(g_offset).load(lanes) for plane in planes]
            for e in range(tile.entries):
                x = starts[e].at_bytes(x_offset).load(lanes)
                if cut:
                    x = x.shuffled(f.zero(element, lanes), kept)
                for k in range(tile.kernels):
                    sums[e, k] = x.times_plus(row[k], sums[e, k])

        for number in f.loop(0, rows * (columns // lanes), carry=[sums]):
            step(vectors, number, False)
        if tail:
            for number in f.loop(0, rows, carry=[sums]):
                step(tails, number, True)
    for e, k in keys:
        at = total.at((room * k + e) * lanes)
        at.store(at.load(lanes) + sums[e, k])
    return f


def _pack_groups(name: str, target: Target, element: str) -> Function:
    """A vector of channels of one picture as [pixel][channel], at its places in a block whose padding is zero."""
    f = Function(name, target, ["fields", "source", "to", "valid"], internal=True)
    itemsize = ITEMSIZES[element]
    lanes = target.lanes(itemsize)
    source, to, valid = f.pointer("source", element), f.pointer("to", element), f.integer("valid")
    pixels, x_channel, x_column = FIELDS.integers(f, "x_pixels", "x_channel", "x_column")
    places = FIELDS.pointer(f, "x_places", "i64")
    with f.either(x_column.equals(itemsize) & (pixels >= lanes)) as (dense, other):
        with dense:
            channels = [source.at_bytes((valid - 1).minimum(k) * x_channel) for k in range(lanes)]
            for tile in f.loop(0, pixels, lanes):
                pixel = tile.minimum(pixels - lanes)
                for i, column in enumerate(loaded_transposed([channel.at(pixel) for channel in channels])):
                    to.at_bytes(places.at(pixel + i).load_int()).store(column)
        with other, f.either(x_channel.equals(itemsize) & valid.equals(lanes)) as (last, rest):
            with last:
                for pixel in f.loop(pixels):
                    vector = source.at_bytes(pixel * x_column).load(lanes)
                    to.at_bytes(places.at(pixel).load_int()).store(vector)
            with rest:
                for pixel in f.loop(pixels):
                    place = to.at_bytes(places.at(pixel).load_int())
                    for k in f.loop(lanes):
                        channel = (valid - 1).minimum(k) * x_channel
                        place.at(k).store(source.at_bytes(pixel * x_column + channel).load())
    return f


def _pack_pixels(name: str, target: Target, element: str, width: int) -> Function:
    """A panel of G as [pixel][kernel]. Past the last kernel the last one is repeated: nobody looks at its sums."""
    f = Function(name, target, ["fields", "source", "to", "rows", "valid"], internal=True)
    itemsize = ITEMSIZES[element]
    lanes = target.lanes(itemsize)
    source, to = f.pointer("source", element), f.pointer("to", element)
    rows, valid = f.integer("rows"), f.integer("valid")
    columns, g_kernel, g_row, g_column = FIELDS.integers(f, "out_columns", "g_kernel", "g_row", "g_column")
    follow = FIELDS.integer(f, "g_rows_follow").equals(1)
    runs, length = follow.integer(1, rows), follow.integer(rows * columns, columns)
    for run in f.loop(runs):
        origin, out = source.at_bytes(run * g_row), to.at(run * length * width)
        with f.either(g_column.equals(itemsize) & (length >= lanes)) as (dense, other):
            with dense:
                for v in range(width // lanes):
                    kernels = [origin.at_bytes((valid - 1).minimum(v * lanes + k) * g_kernel) for k in range(lanes)]
                    for tile in f.loop(0, length, lanes):
                        pixel = tile.minimum(length - lanes)
                        for i, column in enumerate(loaded_transposed([kernel.at(pixel) for kernel in kernels])):
                            out.at((pixel + i) * width + v * lanes).store(column)
            with other, f.either(g_kernel.equals(itemsize) & valid.equals(width)) as (last, rest):
                with last:
                    for pixel in f.loop(length):
                        for v in range(width // lanes):
                            vector = origin.at_bytes(pixel * g_column).at(v * lanes).load(lanes)
                            out.at(pixel * width + v * lanes).store(vector)
                with rest:
                    for pixel in f.loop(length):
                        for k in f.loop(width):
                            kernel = (valid - 1).minimum(k) * g_kernel
                            out.at(pixel * width + k).store(origin.at_bytes(pixel * g_column + kernel).load())
    return f


def _pack_rows(name: str, target: Target, element: str) -> Function:
    """Some kernels of G as [kernel][row][column], rows filled up with zeros to whole vectors."""
    f = Function(name, target, ["fields", "source", "to", "rows", "valid"], internal=True)
    itemsize = ITEMSIZES[element]
    lanes = target.lanes(itemsize)
    source, to = f.pointer("source", element), f.pointer("to", element)
    rows, valid = f.integer("rows"), f.integer("valid")
    columns, g_kernel, g_row, g_column = FIELDS.integers(f, "out_columns", "g_kernel", "g_row", "g_column")
    pitch, plane = FIELDS.integers(f, "g_pitch", "g_plane")
    whole = columns // lanes * lanes
    for k in f.loop(valid):
        for row in f.loop(rows):
            origin, out = source.at_bytes(k * g_kernel + row * g_row), to.at(k * plane + row * pitch)
            with f.when(pitch > whole):
                out.at(whole).store(f.zero(element, lanes))
            with f.either(g_column.equals(itemsize)) as (dense, strided):
                with dense:
                    for i in f.loop(0, whole, lanes):
                        out.at(i).store(origin.at(i).load(lanes))
                    for i in f.loop(whole, columns):
                        out.at(i).store(origin.at(i).load())
                with strided:
                    for i in f.loop(columns):
                        out.at(i).store(origin.at_bytes(i * g_column).load())
    return f


@lru_cache(maxsize=64)
def reduce_function(target: Target, element: str, tile: Tile) -> Compiled:
    """Task: one panel of kernels of one share of channels, partial sums added up and turned to [kernel][entry]."""
    f = Function("reduce", target, ["fields", "task", "worker"])
    lanes = target.lanes(ITEMSIZES[element])
    task = f.integer("task")
    panels, shares, groups, kernels = FIELDS.integers(f, "panels", "shares", "groups", "kernels")
    area, partials, entries, taps = FIELDS.integers(f, "area", "partials", "entries", "taps")
    all_channels, share_channels = FIELDS.integers(f, "all_channels", "share_channels")
    panel, block = task % panels, task // panels
    share, group = block % shares, block // shares
    across = area // panels  # elements of a panel's sums
    between = groups * shares * area  # and from one partial sum to the next
    total = FIELDS.pointer(f, "sums", element).at(block * area + panel * across)
    length = all_channels * taps
    channel = (share * share_channels).minimum(all_channels - share_channels)
    first = panel * tile.kernels
    out = FIELDS.pointer(f, "out", element).at((group * kernels + first) * length + channel * taps)
    valid = (kernels - first).minimum(tile.kernels)
    valid = valid.minimum(FIELDS.integer(f, "all_kernels") - group * kernels - first)
    buffer = f.buffer(element, lanes)

    def added(places: list[Pointer]) -> list[Vector]:
        """The vectors here in all partial sums."""
        sums = Registers({i: place.load(lanes) for i, place in enumerate(places)})
        for partial in f.loop(1, partials, carry=[sums]):
            for i, place in enumerate(places):
                sums[i] = sums[i] + place.at(partial * between).load(lanes)
        return [sums[i] for i in range(len(places))]

    def put(vector: Vector, kernel: Int, entry: Int) -> None:
        """The sums of some neighbouring entries, to where the kernel's weights lie."""
        to = out.at(kernel * length + entry)
        with f.either(entry + lanes <= entries) as (all_of_them, some):
            with all_of_them:
                to.store(vector)
            with some:
                buffer.store(vector)
                for i in f.loop(entries - entry):
                    to.at(i).store(buffer.at(i).load())

    for entry in f.loop(0, entries, lanes):
        if tile.by_pixels:
            for kernel in f.loop(valid):
                start = total.at(kernel * (across // tile.kernels) + entry * lanes)
                rows = transposed(added([start.at(i * lanes) for i in range(lanes)]))
                while len(rows) > 1:
                    rows = [low + high for low, high in zip(rows[::2], rows[1::2], strict=True)]
                put(rows[0], kernel, entry)
            continue
        for v in range(tile.kernels // lanes):
            rows = added([total.at((entry + i) * tile.kernels + v * lanes) for i in range(lanes)])
            for k, column in enumerate(transposed(rows)):
                with f.when(valid > v * lanes + k):
                    put(column, f.number(v * lanes + k), entry)
    return compiled(module_source([f]), target, "reduce")
