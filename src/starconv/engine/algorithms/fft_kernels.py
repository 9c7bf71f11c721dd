"""What `fft` compiles: packing a tile, its transforms there and back, storing what is valid, and the kernels' spectra.

A tile is rows x columns of real numbers. Its lower half are the imaginary parts of its upper half (see
`fft_transforms`), so the transform of the columns, on vectors of neighbouring columns, needs no packing of its own:
row r + rows / 2 lies `away` from row r. Then the rows are complex. Some rows, as many as a vector has lanes, are turned
into a buffer, [column][real parts, imaginary parts], transformed, multiplied, transformed back, and turned into their
places again. So a tile passes three times through the second-level cache each way, and all else stays in the first.
"""

from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, module_source
from ..emit.source import emitted
from ..emit.target import Target
from .fft_pieces import FIELDS, WEIGHT_FIELDS, fetch, pack, product, store, turn_back, turn_in
from .fft_transforms import PASS_FIELDS, ahead, back, meet
from .finish import Finish

__all__ = ["forward_module", "weight_module"]


@emitted("task")
def forward_module(target: Target, element: str, source: str, single: bool, finish: Finish) -> str:
    """The IR of `task`; `single` where a group has one channel and one kernel, whose product needs no other memory."""
    lanes = target.lanes(ITEMSIZES[element])
    pack_, fetch_, store_ = pack(target, source, element), fetch(target, element), store(target, element, finish)
    into, out_of = turn_in(target, element), turn_back(target, element)
    forwards, backwards = ahead(target, element), back(target, element)
    middle = meet(target, element) if single else product(target, element)

    f = Function("task", target, ["fields", "task", "worker"])
    fields, task, worker = f.integer("fields"), f.integer("task"), f.integer("worker")
    tile = _Tile(f, FIELDS, element, lanes)
    across, down, shares, splits = FIELDS.integers(f, "tiles_across", "tiles_down", "shares", "splits")
    runs, per_run = FIELDS.integers(f, "runs", "tiles_per_run")
    split, task = task % splits, task // splits
    run, task = task % runs, task // runs
    tile_row, task = task % down, task // down
    share, picture = task % shares, task // shares
    rows_per_tile, columns_per_tile = FIELDS.integers(f, "rows_per_tile", "columns_per_tile")
    out_rows, out_columns, out_row, out_column = FIELDS.integers(f, "out_rows", "out_columns", "out_row", "out_column")
    row_stride, column_stride, column_first = FIELDS.integers(f, "row_stride", "column_stride", "column_first")
    column_lead, column_stop = FIELDS.integers(f, "column_lead", "column_stop")
    channels, kernels, groups, per_share = FIELDS.integers(f, "channels", "kernels", "groups", "groups_per_share")
    x_group, x_channel, out_channel = FIELDS.integers(f, "x_group", "x_channel", "out_channel")
    spectrum, per_split = FIELDS.integers(f, "spectrum", "kernels_per_split")

    first_row = tile_row * rows_per_tile
    count_rows = (out_rows - first_row).minimum(rows_per_tile)
    packed_row = FIELDS.integer(f, "row_lead") + first_row * row_stride
    x = FIELDS.pointer(f, "x", "i8").at(FIELDS.integer(f, "x_base") + picture * FIELDS.integer(f, "x_batch"))
    out = FIELDS.pointer(f, "out", element).at_bytes(picture * FIELDS.integer(f, "out_batch") + first_row * out_row)
    bias, spectra = FIELDS.pointer(f, "bias", element), FIELDS.pointer(f, "spectra", element)
    failed = FIELDS.pointer(f, "failed", "i64")
    start = tile.start(worker)
    buffer = start.at_bytes(FIELDS.integer(f, "buffer"))
    values = start.at_bytes(FIELDS.integer(f, "values"))
    first_tile, last_tile = run * per_run, (run * per_run + per_run).minimum(across)
    first_group, last_group = share * per_share, (share * per_share + per_share).minimum(groups)

    def packed_column(tile_column: Int) -> Int:
        return column_lead + tile_column * columns_per_tile * column_stride

    for group in f.loop(first_group, last_group):
        for tile_column in f.loop(first_tile, last_tile):
            first_column, column = tile_column * columns_per_tile, packed_column(tile_column)
            count_columns = (out_columns - first_column).minimum(columns_per_tile)
            filled = (column_stop - column).minimum(tile.columns)
            wanted = column_first + (count_columns - 1) * column_stride + 1
            flag = failed.at(((picture * groups + group) * down + tile_row) * across + tile_column)
            to, extent = out.at_bytes(first_column * out_column), (count_rows, count_columns, flag)
            origin = x.at(group * x_group)
            inside = tile_column + 1 < last_tile
            after = packed_column(inside.integer(tile_column + 1, first_tile))

            if single:
                following = x.at(inside.integer(group, group + 1).minimum(last_group - 1) * x_group)
                f.run(pack_, fields, origin, start, packed_row, column)
                tile.columns_ahead(forwards[-1], start, filled)
                other, place = spectra.at(group * spectrum), to.at_bytes(group * out_channel)
                for g in f.loop(tile.row_groups):
                    rows = start.at(tile.pitch * lanes * g)
                    f.run(fetch_, fields, following, packed_row, after, place, count_rows, g)
                    f.run(into, rows, buffer, tile.pitch, tile.away, tile.columns)
                    f.run(forwards[-1], *tile.row(buffer), 0, tile.along_passes - 1)
                    last_pass = tile.along + (tile.along_passes - 1) * (PASS_FIELDS * 8)
                    f.run(middle, buffer, other.at(g * tile.band), last_pass)
                    f.run(backwards[-1], *tile.row(buffer), 0, tile.along_passes - 1)
                    f.run(out_of, buffer, rows, tile.pitch, tile.away, tile.columns)
                tile.columns_back(backwards[-1], start, wanted)
                f.run(store_, fields, start, place, bias.at(group), *extent)
                continue
            for channel in f.loop(channels):
                f.run(pack_, fields, origin.at(channel * x_channel), start, packed_row, column)
                tile.columns_ahead(forwards[-1], start, filled)
                value, following = values.at(channel * spectrum), origin.at((channel + 1) * x_channel)
                for g in f.loop(tile.row_groups):
                    here = value.at(g * tile.band)
                    f.run(fetch_, fields, following, packed_row, column, to, 0, g)
                    f.run(into, start.at(tile.pitch * lanes * g), here, tile.pitch, tile.away, tile.columns)
                    f.run(forwards[-1], *tile.row(here), 0, tile.along_passes)
            first = split * per_split
            for k in f.loop(first, (first + per_split).minimum(kernels)):
                kernel = group * kernels + k
                other, place = spectra.at(kernel * channels * spectrum), to.at_bytes(kernel * out_channel)
                for g in f.loop(tile.row_groups):
                    band = g * tile.band
                    f.run(middle, buffer, values.at(band), other.at(band), channels, spectrum, tile.columns)
                    f.run(backwards[-1], *tile.row(buffer), 0, tile.along_passes)
                    f.run(out_of, buffer, start.at(tile.pitch * lanes * g), tile.pitch, tile.away, tile.columns)
                tile.columns_back(backwards[-1], start, wanted)
                f.run(store_, fields, start, place, bias.at(kernel), *extent)
    return module_source([pack_, fetch_, into, out_of, *forwards, *backwards, store_, middle, f])


@emitted("task")
def weight_module(target: Target, element: str) -> str:
    """The IR of `task`: the spectrum of one kernel and channel, in the order in which the tiles' come.

    A correlation with a kernel is a product with the kernel turned round: result i is at i + extent - 1.
    """
    lanes = target.lanes(ITEMSIZES[element])
    into, forwards = turn_in(target, element), ahead(target, element)
    f = Function("task", target, ["fields", "task", "worker"])
    task, worker = f.integer("task"), f.integer("worker")
    tile = _Tile(f, WEIGHT_FIELDS, element, lanes)
    start = tile.start(worker)
    taps_rows, taps_columns = WEIGHT_FIELDS.integers(f, "taps_rows", "taps_columns")
    row_dilation, column_dilation = WEIGHT_FIELDS.integers(f, "row_dilation", "column_dilation")
    weights = WEIGHT_FIELDS.pointer(f, "weights", element).at(task * taps_rows * taps_columns)
    for i in f.loop(0, tile.rows * tile.pitch, lanes):
        start.at(i).store(f.zero(element, lanes))
    for p in f.loop(taps_rows):
        row = start.at((taps_rows - 1 - p) * row_dilation * tile.pitch)
        for q in f.loop(taps_columns):
            row.at((taps_columns - 1 - q) * column_dilation).store(weights.at(p * taps_columns + q).load())
    tile.columns_ahead(forwards[-1], start, WEIGHT_FIELDS.integer(f, "filled_columns"))
    spectrum = WEIGHT_FIELDS.pointer(f, "spectra", element).at(task * WEIGHT_FIELDS.integer(f, "spectrum"))
    scale = WEIGHT_FIELDS.real(f, "scale", element).broadcast(lanes)
    for g in f.loop(tile.row_groups):
        here = spectrum.at(g * tile.band)
        f.run(into, start.at(tile.pitch * lanes * g), here, tile.pitch, tile.away, tile.columns)
        f.run(forwards[-1], *tile.row(here), 0, tile.along_passes)
        for i in f.loop(0, tile.band, lanes):
            here.at(i).store(here.at(i).load(lanes) * scale)
    return module_source([into, *forwards, f])


class _Tile:
    """The sizes of a tile as values of a task function, and its transforms."""

    def __init__(self, f: Function, fields: Fields, element: str, lanes: int) -> None:
        self.f, self.fields, self.element, self.lanes = f, fields, element, lanes
        self.rows, self.columns, self.pitch = fields.integers(f, "rows", "columns", "pitch")
        self.down, self.down_passes, self.along, self.along_passes = fields.integers(
            f, "down", "down_passes", "along", "along_passes"
        )
        self.half = self.rows // 2
        self.step = self.pitch * ITEMSIZES[element]
        self.away = self.half * self.step  # bytes from real parts to imaginary parts
        self.row_groups = self.half // lanes
        self.band = self.columns * (2 * lanes)  # elements of the spectrum of as many rows as there are lanes

    def start(self, worker: Int) -> Pointer:
        """The worker's tile."""
        scratch, size = (
            self.fields.pointer(self.f, "scratch", self.element),
            self.fields.integer(self.f, "scratch_bytes"),
        )
        return scratch.at_bytes(worker * size)

    def row(self, buffer: Pointer) -> tuple[Pointer, int, int, Int]:
        """Arguments for passes along the rows that are in `buffer`."""
        size = self.lanes * ITEMSIZES[self.element]
        return buffer, 2 * size, size, self.along

    def columns_ahead(self, forwards: Function, start: Pointer, count: Int) -> None:
        """Transform the first `count` columns."""
        for c in self.f.loop(0, count, self.lanes):
            self.f.run(forwards, start.at(c), self.step, self.away, self.down, 0, self.down_passes)

    def columns_back(self, backwards: Function, start: Pointer, count: Int) -> None:
        """And back."""
        self.columns_ahead(backwards, start, count)
