"""Puts the phases of a strided result together: several dense arrays become one whose pixels alternate between them.

Each phase is a *source* that knows where it lies and how far apart its pixels are, so a constant is a source with some
steps of zero. The result is written once, from front to back; NumPy's strided assignments would go over every cache
line of it once per phase, on one thread, element by element.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..descriptor import Fields, address_of
from ..emit.ir import ITEMSIZES, Function, Int, Pointer, module_source
from ..emit.source import emitted
from ..emit.target import Target
from ..kernels import ELEMENTS, Compiled, compiled
from ..runtime import threads
from ..runtime.jobs import Job

__all__ = ["weave"]

Array = NDArray[Any]

SOURCE = ("address", "in_room", "picture", "channel", "depth", "row", "column")
"""Of every source: where it begins (with `in_room` 1, in bytes from the room's address), and its steps in bytes."""

FIELDS = Fields(
    (
        "sources",
        "room",  # an address
        "out",
        "out_picture",  # bytes
        "out_channel",
        "out_depth",
        "out_row",
        "out_column",
        "channels",
        "depths",
        "rows",
        "columns",
        "depth_phases",
        "row_phases",
        "column_phases",
    )
)

_SERIAL_BYTES = 64 << 10
"""Fewer bytes are written before another thread has joined."""


def weave(
    sources: list[Array],
    phases: tuple[int, int, int],
    out: Array,
    target: Target,
    *,
    last: bool,
    room: Array | None = None,
) -> Job | None:
    """The job that writes ``out[:, :, d, r, c]`` from source (d, r, c) modulo `phases`, element divided by them.

    `sources` are (N, C, D, R, C') arrays in the order of their phases, whose columns (with `last`, channels) lie side
    by side. None where those of `out` (N, C, D, R, C') do not. Sources in `room` are looked for at the same places of
    what the job has as its array of that name when it runs.
    """
    picture, channel, depth, row, column = out.strides
    if (channel if last else column) != out.itemsize or not out.flags.aligned or out.dtype != sources[0].dtype:
        return None
    start, size = (0, 0) if room is None else (address_of(room), room.nbytes)
    inside = [start <= address_of(source) < start + size for source in sources]
    records = [
        (address_of(source) - start * there, there, *source.strides)
        for source, there in zip(sources, inside, strict=True)
    ]
    table = np.array(records, np.int64)
    pictures, channels, depths, rows, columns = out.shape
    block = FIELDS.block(
        {
            "sources": address_of(table),
            "room": start,
            "out": address_of(out),
            "out_picture": picture,
            "out_channel": channel,
            "out_depth": depth,
            "out_row": row,
            "out_column": column,
            "channels": channels,
            "depths": depths,
            "rows": rows,
            "columns": columns,
            "depth_phases": phases[0],
            "row_phases": phases[1],
            "column_phases": phases[2],
        }
    )
    function = _function(target, ELEMENTS[out.dtype.name], last, 0 if last else min(phases[2], 3))
    tasks = pictures * (depths * rows if last else channels)
    limit = threads.get_num_threads() if out.nbytes > _SERIAL_BYTES else 1
    arrays = tuple(FIELDS.index[name] for name in (("out",) if room is None else ("out", "room")))
    keeps = (function, table, [source for source, there in zip(sources, inside, strict=True) if not there], out)
    return Job(function.address, block, tasks, min(limit, tasks), arrays, keeps=keeps)


@lru_cache(maxsize=32)
def _function(target: Target, element: str, last: bool, column_phases: int) -> Compiled:
    return compiled(_module(target, element, last, column_phases), target, "task")


@emitted("task")
def _module(target: Target, element: str, last: bool, column_phases: int) -> str:
    return module_source([_pixels(target, element) if last else _planes(target, element, column_phases)])


class _Sources:
    """The table of sources, while emitting."""

    def __init__(self, f: Function, element: str) -> None:
        self.f, self.element = f, element
        self.table = FIELDS.pointer(f, "sources", "i64")
        self.depth_phases, self.row_phases, self.column_phases = FIELDS.integers(
            f, "depth_phases", "row_phases", "column_phases"
        )

    def of(self, picture: Int, channel: Int, depth: Int, row_phase: Int, phase: Int) -> tuple[Pointer, Int, Int]:
        """Where the source of these phases has its first row, and its steps from row to row and column to column."""
        number = (depth % self.depth_phases * self.row_phases + row_phase) * self.column_phases + phase
        record = [self.table.at(number * len(SOURCE) + i).load_int() for i in range(len(SOURCE))]
        address, in_room, *steps, row, column = record
        address = address + in_room * FIELDS.integer(self.f, "room")
        for place, step in zip((picture, channel, depth // self.depth_phases), steps, strict=True):
            address = address + place * step
        return self.f.address(address, self.element), row, column


def _planes(target: Target, element: str, column_phases: int) -> Function:
    """Task: one channel of one picture, row by row; two sources are interleaved in registers."""
    f = Function("task", target, ["fields", "task", "worker"])
    lanes = target.lanes(ITEMSIZES[element])
    task, channels = f.integer("task"), FIELDS.integer(f, "channels")
    depths, rows, columns, phases = FIELDS.integers(f, "depths", "rows", "columns", "column_phases")
    steps = FIELDS.integers(f, "out_picture", "out_channel", "out_depth", "out_row")
    sources = _Sources(f, element)
    picture, channel = task // channels, task % channels
    plane = FIELDS.pointer(f, "out", element).at_bytes(picture * steps[0] + channel * steps[1])
    for depth in f.loop(depths):
        for row_phase in f.loop(sources.row_phases):
            first = plane.at_bytes(depth * steps[2] + row_phase * steps[3])
            count = (rows - row_phase + sources.row_phases - 1) // sources.row_phases
            if column_phases <= 2:
                numbers = [f.number(phase) for phase in range(column_phases)]
                parts = [sources.of(picture, channel, depth, row_phase, number) for number in numbers]
                for row in f.loop(count):
                    to = first.at_bytes(row * (steps[3] * sources.row_phases))
                    _interleave(f, [part.at_bytes(row * step) for part, step, _ in parts], to, columns, lanes)
                continue
            for phase in f.loop(phases):
                source, step, _ = sources.of(picture, channel, depth, row_phase, phase)
                for row in f.loop(count):
                    to = first.at_bytes(row * (steps[3] * sources.row_phases)).at(phase)
                    for i in f.loop((columns - phase + phases - 1) // phases):
                        to.at(i * phases).store(source.at_bytes(row * step).at(i).load())
    return f


def _interleave(f: Function, parts: list[Pointer], to: Pointer, columns: Int, lanes: int) -> None:
    """One row from one or two sources, the last vector moved back so that it ends with the row."""
    several = len(parts)
    each = columns // several

    def run(width: int) -> None:
        for place in f.loop(0, each, width):
            i = place.minimum(each - width)
            vectors = [part.at(i).load(width) for part in parts]
            if several == 2 and width > 1:
                both = [lane for j in range(width) for lane in (j, j + width)]
                vectors = [vectors[0].shuffled(vectors[1], half) for half in (both[:width], both[width:])]
            for part, vector in enumerate(vectors):
                to.at(i * several + part * width).store(vector)

    with f.either(each >= lanes) as (long, short):
        with long:
            run(lanes)
        with short:
            if lanes >= 8:
                with f.either(each >= lanes // 2) as (half, less):
                    with half:
                        run(lanes // 2)
                    with less:
                        run(1)
            else:
                run(1)
    if several == 2:
        with f.when((columns % 2).equals(1)):
            to.at(columns - 1).store(parts[0].at(each).load())


def _pixels(target: Target, element: str) -> Function:
    """Task: one row of one picture, all channels of a pixel after those of the one before."""
    f = Function("task", target, ["fields", "task", "worker"])
    lanes = target.lanes(ITEMSIZES[element])
    task, channels = f.integer("task"), FIELDS.integer(f, "channels")
    depths, rows, columns, phases = FIELDS.integers(f, "depths", "rows", "columns", "column_phases")
    out_picture, out_depth, out_row = FIELDS.integers(f, "out_picture", "out_depth", "out_row")
    out_column = FIELDS.integer(f, "out_column")
    sources = _Sources(f, element)
    row, task = task % rows, task // rows
    depth, picture = task % depths, task // depths
    origin = FIELDS.pointer(f, "out", element).at_bytes(picture * out_picture + depth * out_depth + row * out_row)
    whole = channels // lanes * lanes
    for phase in f.loop(phases):
        first, row_step, step = sources.of(picture, f.number(0), depth, row % sources.row_phases, phase)
        source = first.at_bytes(row // sources.row_phases * row_step)
        for i in f.loop((columns - phase + phases - 1) // phases):
            pixel, to = source.at_bytes(i * step), origin.at_bytes((phase + i * phases) * out_column)
            for channel in f.loop(0, whole, lanes):
                to.at(channel).store(pixel.at(channel).load(lanes))
            for channel in f.loop(whole, channels):
                to.at(channel).store(pixel.at(channel).load())
    return f
