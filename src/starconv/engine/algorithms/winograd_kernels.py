"""What `winograd` compiles for a block of tiles: the task function, and the products, which take most of the time."""

from ..emit.ir import Function, Int, Pointer, Registers, module_source
from ..emit.source import emitted
from ..emit.target import Target
from .finish import Finish
from .winograd_tiles import (
    CHANNELS,
    ELEMENT,
    FIELDS,
    pack,
    transform_input,
    transform_output,
    transform_weights,
)
from .winograd_transforms import Tile, span

__all__ = ["kernel_module", "weight_module"]

TILES = 6
"""Tiles of a product: 6 x 2 vectors of sums, as in direct convolution."""


@emitted("task")
def kernel_module(target: Target, tile: Tile, panel: int, source: str, finish: Finish) -> str:
    """The IR whose "task" computes a block of tiles of x, of element type `source`, with panels of `panel` kernels."""
    packing = pack("pack", target, source)
    values = transform_input("transform_input", target, tile)
    products = _products("products", target, panel // target.lanes(4))
    results = transform_output("transform_output", target, tile, finish)
    return module_source(
        [packing, values, products, results, _task(target, tile, panel, packing, values, products, results)]
    )


@emitted("task")
def weight_module(target: Target, tile: Tile, panel: int) -> str:
    """The IR whose "task" transforms a panel of weights."""
    return module_source(transform_weights(target, tile, panel))


def _task(
    target: Target,
    tile: Tile,
    panel: int,
    packing: Function,
    values: Function,
    products: Function,
    results: Function,
) -> Function:
    """Task: some pictures x rows x columns of tiles, of one group, for a share of its panels."""
    f = Function("task", target, ["fields", "task", "worker"])
    fields, task = f.integer("fields"), f.integer("task")
    n, numbers = tile.n, tile.numbers

    def part(blocks: str, per_task: str, total: str) -> tuple[Int, Int]:
        nonlocal task
        number, task = task % FIELDS.integer(f, blocks), task // FIELDS.integer(f, blocks)
        size = FIELDS.integer(f, per_task)
        return number * size, (FIELDS.integer(f, total) - number * size).minimum(size)

    first_panel, panels = part("splits", "panels_per_split", "blocks")
    column, columns = part("column_blocks", "columns_per_task", "tile_columns")
    row, rows = part("row_blocks", "rows_per_task", "tile_rows")
    picture, pictures = part("picture_blocks", "pictures_per_task", "pictures")
    group = task

    channels, kernels, blocks = FIELDS.integers(f, "channels", "kernels", "blocks")
    x_batch, x_group, x_channel = FIELDS.integers(f, "x_batch", "x_group", "x_channel")
    out_batch, out_channel = FIELDS.integers(f, "out_batch", "out_channel")
    value_tile, value_position = FIELDS.integers(f, "value_tile", "value_position")
    product_tile, product_position = FIELDS.integers(f, "product_tile", "product_position")
    scratch = FIELDS.pointer(f, "scratch", ELEMENT).at_bytes(f.integer("worker") * FIELDS.integer(f, "scratch_bytes"))
    transformed = scratch.at_bytes(FIELDS.integer(f, "values"))
    sums = scratch.at_bytes(FIELDS.integer(f, "products"))
    x = FIELDS.pointer(f, "x", "i8").at(FIELDS.integer(f, "x_base") + group * x_group)
    out = FIELDS.pointer(f, "out", ELEMENT)
    per_picture = rows * columns

    for p in f.loop(pictures):
        for c in f.loop(0, channels, CHANNELS):
            source = x.at((picture + p) * x_batch + c * x_channel)
            valid = (channels - c).minimum(CHANNELS)
            f.run(
                packing,
                fields,
                source,
                scratch,
                row * tile.step,
                span(tile, rows),
                column * tile.step,
                span(tile, columns),
                valid,
            )
            f.run(values, fields, scratch, transformed.at(p * per_picture * value_tile + c), rows, columns)

    panel_size = channels * panel
    weight_position = FIELDS.integer(f, "weight_position")
    weights = FIELDS.pointer(f, "panels", ELEMENT).at(
        group * weight_position * (numbers * numbers) + first_panel * panel_size
    )

    def of_position(position: Int) -> Pointer:
        """The weights of a position: where there are fewer, the last row and the last column of them again."""
        if numbers < n:
            down, across = (position // n).minimum(numbers - 1), (position % n).minimum(numbers - 1)
            position = down * numbers + across
        return weights.at(position * weight_position)

    for position in f.loop(n * n):
        f.run(
            products,
            fields,
            transformed.at(position * value_position),
            of_position(position),
            of_position(position + 1),
            sums.at(position * product_position),
            pictures * per_picture,
            panels,
        )

    lanes = target.lanes(4)
    biases = FIELDS.pointer(f, "bias", ELEMENT).at((group * blocks + first_panel) * panel)
    share = (kernels - first_panel * panel).minimum(panels * panel)
    for k in f.loop(0, share, lanes):
        for p in f.loop(pictures):
            to = out.at_bytes((picture + p) * out_batch + (group * kernels + first_panel * panel + k) * out_channel)
            f.run(
                results,
                fields,
                sums.at(p * per_picture * product_tile + k),
                to,
                biases.at(k),
                row,
                rows,
                column,
                columns,
                share - k,
            )
    return f


# -- products ------------------------------------------------------------------------------------------------


def _products(name: str, target: Target, vectors: int) -> Function:
    """M = V U at one position: `tiles` tiles x all kernels of some panels, summed over channels in their order.

    Tiles go in runs of at most 6, as even as can be: 14 as 5 + 5 + 4, not 6 + 6 + 2, whose two would wait for sums.
    """
    f = Function(
        name, target, ["fields", "values", "weights", "following", "products", "tiles", "panels"], internal=True
    )
    lanes = target.lanes(4)
    width = vectors * lanes
    values, weights, products = (f.pointer(a, ELEMENT) for a in ("values", "weights", "products"))
    following = f.pointer("following", ELEMENT)
    tiles, panels = f.integer("tiles"), f.integer("panels")
    channels, value_tile, product_tile = FIELDS.integers(f, "channels", "value_tile", "product_tile")
    runs = (tiles + (TILES - 1)) // TILES
    shorter = tiles // runs
    longer_runs = tiles % runs
    split = longer_runs * (shorter + 1)
    for number in f.loop(panels):
        panel, to = weights.at(number * channels * width), products.at(number * width)
        after = (number + 1 < panels).pointer(panel.at(channels * width), following)
        for height in range(TILES, 0, -1):
            is_longer, is_shorter = shorter.equals(height - 1), shorter.equals(height)
            first = is_shorter.integer(split, 0)
            stop = is_shorter.integer(tiles, is_longer.integer(split, 0))
            for tile in f.loop(first, stop, height):
                _run_of_tiles(
                    f,
                    values.at(tile * value_tile),
                    value_tile,
                    panel,
                    after,
                    to.at(tile * product_tile),
                    product_tile,
                    channels,
                    height,
                    vectors,
                    lanes,
                )
    return f


def _run_of_tiles(
    f: Function,
    values: Pointer,
    value_tile: Int,
    panel: Pointer,
    after: Pointer,
    to: Pointer,
    product_tile: Int,
    channels: Int,
    height: int,
    vectors: int,
    lanes: int,
) -> None:
    """`height` tiles x `vectors` vectors of kernels: per channel `height` broadcasts and `vectors` loads."""
    keys = [(i, v) for i in range(height) for v in range(vectors)]
    sums = Registers({key: f.zero(ELEMENT, lanes) for key in keys})
    tiles = [values.at(value_tile * i).disguised() for i in range(height)]
    panel, after = panel.disguised(), after.disguised()
    together = 4 if height > TILES // 2 else 1  # the shorter ones are for few tiles: not worth compiling more
    whole = channels // together * together

    def step(channel: Int, count: int) -> None:
        rows = [tile.at(channel) for tile in tiles]
        weights = panel.at(channel * (vectors * lanes))
        upcoming = after.at(channel * (vectors * lanes))
        for line in range(0, count * vectors * lanes, 16):
            upcoming.at(line).prefetch()
        for c in range(count):
            row = [weights.at((c * vectors + v) * lanes).load(lanes) for v in range(vectors)]
            for i in range(height):
                value = rows[i].at(c).broadcast(lanes)
                for v in range(vectors):
                    sums[i, v] = value.times_plus(row[v], sums[i, v])

    for channel in f.loop(0, whole, together, carry=[sums]):
        step(channel, together)
    if together > 1:
        for channel in f.loop(whole, channels, carry=[sums]):
            step(channel, 1)
    for i, v in keys:
        to.at(product_tile * i).at(v * lanes).store(sums[i, v])
