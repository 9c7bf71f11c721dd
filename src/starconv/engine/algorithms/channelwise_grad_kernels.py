"""Compiled functions of `channelwise_grad`: pack X and G, multiply them pixel by pixel, add up partial sums."""

from itertools import product
from typing import NamedTuple

from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, Registers, module_source
from ..emit.source import emitted
from ..emit.target import Target
from ..kernels import Compiled, compiled
from .channel_sums import emit_reduce
from .channelwise_kernels import FRAME, emit_pack

__all__ = ["FIELDS", "GRADIENT", "Form", "compute_function", "reduce_function"]

GRADIENT = "g_"
"""What the names of the fields of G's frame begin with."""

FIELDS = Fields(
    (
        *FRAME,
        *(GRADIENT + name for name in FRAME),
        "x",
        "g",
        "out",
        "sums",  # [partial][block][tap][channel]
        "scratch",
        "scratch_bytes",  # per worker
        "packed_g",  # where G is packed in it
        "x_batch",  # bytes between pictures
        "g_batch",
        "channels",
        "blocks",  # of channels
        "partials",
        "units",  # bands of all pictures
        "bands",
        "per_band",
        "out_rows",
        "out_columns",
        "row_stride",  # rows of the frame from one row of G to the next
        "row_reach",  # and how many a single one reads
        "tap_step",  # bytes of the packed frame from one row of taps to the next
    )
)


class _OfGradient(Fields):
    """The same fields under the names that `emit_pack` knows, for packing G."""

    def __init__(self) -> None:
        super().__init__(FIELDS.names)
        self.index = {name: FIELDS.index[GRADIENT + name] for name in FRAME}


class Form(NamedTuple):
    """What is written out in a kernel.

    Attributes:
        vectors: of channels in a block.
        taps: rows and columns of the kernel.
        together: rows of the kernel whose sums are in registers at one time.
        stride, dilation: of the columns.
        x_last, g_last: whether channels lie side by side there.
    """

    vectors: int
    taps: tuple[int, int]
    together: int
    stride: int
    dilation: int
    x_last: bool
    g_last: bool


def compute_function(target: Target, element: str, form: Form) -> Compiled:
    """Task: some units, for a block of channels; their sums are one partial sum."""
    return compiled(_module(target, element, form), target, "task")


@emitted("task")
def _module(target: Target, element: str, form: Form) -> str:
    pack = emit_pack("pack_x", target, element, FIELDS, form.vectors, last=form.x_last)
    pack_g = emit_pack("pack_g", target, element, _OfGradient(), form.vectors, last=form.g_last)
    counts = sorted({form.together, form.taps[0] % form.together or form.together})
    passes = {rows: _pass(f"pass_{rows}", target, element, form, rows) for rows in counts}
    task = _task(target, element, form, pack, pack_g, passes)
    return module_source([pack, pack_g, *passes.values(), task])


def _task(
    target: Target, element: str, form: Form, pack: Function, pack_g: Function, passes: dict[int, Function]
) -> Function:
    f = Function("task", target, ["fields", "task", "worker"])
    fields, task, worker = f.integer("fields"), f.integer("task"), f.integer("worker")
    lanes = target.lanes(ITEMSIZES[element])
    width = form.vectors * lanes
    area = form.taps[0] * form.taps[1] * width
    blocks, partials, units, bands, per_band = FIELDS.integers(f, "blocks", "partials", "units", "bands", "per_band")
    out_rows, stride, reach, step = FIELDS.integers(f, "out_rows", "row_stride", "row_reach", "tap_step")
    frame_rows, x_channel, g_channel = FIELDS.integers(f, "frame_rows", "source_channel", "g_source_channel")
    number, partial = task % blocks, task // blocks
    channel = (number * width).minimum(FIELDS.integer(f, "channels") - width)
    block = FIELDS.pointer(f, "scratch", element).at_bytes(worker * FIELDS.integer(f, "scratch_bytes"))
    gradient = block.at_bytes(FIELDS.integer(f, "packed_g"))
    sums = FIELDS.pointer(f, "sums", element).at(task * area)
    x, g = (FIELDS.pointer(f, name, element) for name in ("x", "g"))
    for i in f.loop(0, area, lanes):
        sums.at(i).store(f.zero(element, lanes))
    for unit in f.loop(partial * units // partials, (partial + 1) * units // partials):
        band, picture = unit % bands, unit // bands
        first = band * per_band
        count = (out_rows - first).minimum(per_band)
        rows = ((count - 1) * stride + reach).minimum(frame_rows - first * stride)
        source = x.at_bytes(picture * FIELDS.integer(f, "x_batch") + channel * x_channel)
        f.run(pack, fields, source, block, first * stride, rows)
        source = g.at_bytes(picture * FIELDS.integer(f, "g_batch") + channel * g_channel)
        f.run(pack_g, fields, source, gradient, first, count)
        for row in range(0, form.taps[0], form.together):
            together = min(form.together, form.taps[0] - row)
            to = sums.at(row * form.taps[1] * width)
            f.run(passes[together], fields, block.at_bytes(step * row), gradient, to, count)
    return f


def _pass(name: str, target: Target, element: str, form: Form, together: int) -> Function:
    """Some rows of taps over all pixels of a unit, for one vector of channels after the other."""
    f = Function(name, target, ["fields", "block", "gradient", "sums", "rows"], internal=True)
    lanes = target.lanes(ITEMSIZES[element])
    width = form.vectors * lanes
    block, gradient, total = (f.pointer(part, element) for part in ("block", "gradient", "sums"))
    columns, pitch, stride, step = FIELDS.integers(f, "out_columns", "pitch", "row_stride", "tap_step")
    keys = list(product(range(together), range(form.taps[1])))
    for v in f.loop(form.vectors):
        sums = Registers({key: f.zero(element, lanes) for key in keys})
        for row in f.loop(0, f.integer("rows"), carry=[sums]):
            line = block.at(v * lanes).at_bytes(row * stride * pitch)
            lines = [line.at_bytes(step * r) for r in range(together)]
            weights = gradient.at(row * columns * width + v * lanes)

            def add(
                column: Int, lines: list[Pointer] = lines, weights: Pointer = weights, sums: Registers = sums
            ) -> None:
                g = weights.at(column * width).load(lanes)
                for r, q in keys:
                    x = lines[r].at(column * (form.stride * width)).at(q * form.dilation * width).load(lanes)
                    sums[r, q] = x.times_plus(g, sums[r, q])

            whole = columns // 2 * 2
            for column in f.loop(0, whole, 2, carry=[sums]):
                add(column)
                add(column + 1)
            for column in f.loop(whole, columns, carry=[sums]):
                add(column)
        for number, key in enumerate(keys):
            at = total.at(number * width + v * lanes)
            at.store(at.load(lanes) + sums[key])
    return f


def reduce_function(target: Target, element: str, vectors: int, taps: int) -> Compiled:
    """Task: the partial sums of a block of channels added up, and stored as [channel][tap]."""
    return compiled(_reduce(target, element, vectors, taps), target, "reduce")


@emitted("reduce")
def _reduce(target: Target, element: str, vectors: int, taps: int) -> str:
    return module_source([emit_reduce(target, element, FIELDS, vectors, taps)])
