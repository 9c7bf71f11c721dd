"""What algorithms that work on packed blocks share: cutting the output into bands, binding arrays, calling kernels.

A task is a picture, a group, an output depth, a band of output rows and a share of the group's panels. It packs the
rows of input that its band reads into its thread's scratch memory and computes from there. Nothing of this changes a
sum, so neither the bands nor the threads do.
"""

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...problem import Problem
from ..descriptor import Fields, address_of, bits_of
from ..emit.ir import Function, Int, Pointer
from ..emit.source import Source
from ..emit.target import Target
from ..kernels import ELEMENTS, Compiled, compiled
from ..lattice import lattices, spatial_steps
from ..remembered import Remembered
from ..runtime import memory, threads
from ..runtime.jobs import Job
from .blocks import Block, Form, threads_for
from .finish import lies_like
from .packing import BLOCK_FIELDS, block_values
from .panels import Panels, is_read, readable

__all__ = ["BLOCK", "Binding", "CompiledSolution", "PackedSolution", "Place", "place"]

Array = NDArray[Any]

SOURCES = {
    np.dtype(name): element
    for name, element in zip(("int8", "uint8", "int16", "uint16"), ("i8", "u8", "i16", "u16"), strict=True)
}
"""Types of x that are widened while packing; what is neither one of them nor the problem's own is converted before."""

BLOCK = (
    *BLOCK_FIELDS,
    "x",
    "x_base",  # bytes from x to the lowest address that the tables count from
    "out",
    "scratch",
    "scratch_bytes",  # per worker
    "x_batch",  # bytes between pictures of x, groups of channels of x, pictures of out, ...
    "x_group",
    "out_batch",
    "out_channel",
    "out_depth",
    "out_row",
    "out_column",
    "groups",
    "shares",  # tasks that divide the groups among them
    "groups_per_task",
    "depths",  # output depths
    "depth_stride",  # packed depths from one output depth to the next
    "bands",
    "splits",
    "panels_per_split",
    "blocks",  # panels per group
    "rows_per_band",
    "out_rows",
    "out_columns",
    "row_stride",
    "row_rest",  # packed rows = rows * row_stride + row_rest
    "top",  # packed rows before the first, and before the last of those that lie inside the input
    "bottom",
    "x_pitch",  # elements of x from one packed row to the next, and from channel to channel
    "x_plane",
)


class Place(NamedTuple):
    """Where a task works, as values of the task function. Source and out of the first group."""

    first_group: Int
    last_group: Int
    source: Pointer
    block: Pointer
    out: Pointer
    depth_start: Int
    row_start: Int
    rows: Int
    packed_rows: Int
    first_block: Int
    last_block: Int


def place(f: Function, fields: Fields, element: str) -> Place:
    """Take the task number apart: ((((picture, some groups), depth), band), share of the panels)."""
    shares, depths, bands, splits = fields.integers(f, "shares", "depths", "bands", "splits")
    task, worker = f.integer("task"), f.integer("worker")
    split, task = task % splits, task // splits
    band, task = task % bands, task // bands
    depth, task = task % depths, task // depths
    share_of_groups, picture = task % shares, task // shares
    per_task = fields.integer(f, "groups_per_task")
    first_group = share_of_groups * per_task
    per_band, out_rows, row_stride, row_rest = fields.integers(f, "rows_per_band", "out_rows", "row_stride", "row_rest")
    first_row = band * per_band
    rows = (out_rows - first_row).minimum(per_band)
    out = fields.pointer(f, "out", element).at_bytes(
        picture * fields.integer(f, "out_batch")
        + depth * fields.integer(f, "out_depth")
        + first_row * fields.integer(f, "out_row")
    )
    source = fields.pointer(f, "x", "i8").at(picture * fields.integer(f, "x_batch") + fields.integer(f, "x_base"))
    share, blocks = fields.integers(f, "panels_per_split", "blocks")
    return Place(
        first_group=first_group,
        last_group=(first_group + per_task).minimum(fields.integer(f, "groups")),
        source=source,
        block=fields.pointer(f, "scratch", element).at_bytes(worker * fields.integer(f, "scratch_bytes")),
        out=out,
        depth_start=depth * fields.integer(f, "depth_stride"),
        row_start=first_row * row_stride,
        rows=rows,
        packed_rows=rows * row_stride + row_rest,
        first_block=split * share,
        last_block=((split + 1) * share).minimum(blocks),
    )


MOST_PIXELS = 16
"""No tile has more pixels; tables and waiting sums have room for one tile past the end."""


class Binding(NamedTuple):
    """A kernel with all fields filled in but a call's addresses. `spare` are blocks and scratch memory not in use."""

    function: Compiled
    block: Any
    tasks: int
    threads: int
    scratch: int
    tables: tuple[Array, ...]
    spare: list[tuple[Any, int, memory.Scratch]]


HELD_SCRATCH = 256 << 10
"""A binding holds scratch memory up to this size, as long as there is some to hold; else it borrows, in 2 µs a call."""


class CompiledSolution:
    """Runs a problem with a kernel of one task function, on arrays of whatever strides.

    Args:
        problem, target: what and for what.
        fields: the kernel's fields, among them x, out, panels, bias, fill and scratch.
        panels: how it wants its weights.
    """

    def __init__(self, problem: Problem, target: Target, fields: Fields, panels: Panels) -> None:
        self.problem, self.target, self.fields, self.panels = problem, target, fields, panels
        self._dtype = np.dtype(problem.dtype)
        self._slots = [fields.index[name] for name in ("x", "out", "panels", "bias", "fill")]
        self._bindings = Remembered[Binding]()

    @property
    def weight_form(self) -> object | None:
        """What `prepare` gives depends on this and the weights alone; None where that is not known."""
        return getattr(self.panels, "form", None) if self.problem.operation == "conv" else None

    def bind(self, x: Array, out: Array, limit: int) -> Binding:
        """The kernel for arrays with such strides and types, on at most `limit` threads."""
        raise NotImplementedError

    def prepare(self, second: Array, bias: Array | None, fill: float, once: bool = False) -> tuple[Array, Array, float]:
        """Panels of weights, the padded bias, and what constant padding holds."""
        return self.panels.pack(second, once), self.panels.bias(bias), float(fill)

    @property
    def prepare_bytes(self) -> int:
        """Bytes that `prepare_jobs` needs."""
        return self.panels.room

    def prepare_jobs(self, second: Array, bias: Array | None, room: Array) -> tuple[Any, list[Job]] | None:
        """What `prepare` gives, made in `room` by jobs, of whatever both arrays hold when these run.

        None where it is not, or not only, made by compiled code. Borders are zero.
        """
        panels = self.panels.jobs(second, room)
        biases = None if panels is None else self.panels.bias_jobs(bias)
        if panels is None or biases is None:
            return None
        return (panels[0], biases[0], 0.0), [*panels[1], *biases[1]]

    def run(
        self, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None = None
    ) -> None:
        """Compute into `out`; through a temporary array where the kernel cannot write to it in place."""
        if not self._takes(out, residual):
            result, added = self._empty(), None if residual is None else self._empty()
            if added is not None:
                added[...] = residual
            self.run(first, prepared, result, added)
            out[...] = result
            return
        first = self._readable(first)
        binding = self._binding(first, out)
        # list.pop and append are atomic: two threads never get the same block, and nobody waits.
        try:
            block, address, scratch = binding.spare.pop()
        except IndexError:
            block, address, scratch = self._workspace(binding)
        self._fill(block, first, prepared, out, residual)
        threads.run(binding.function.address, address, binding.tasks, binding.threads)
        if scratch.held:
            binding.spare.append((block, address, scratch))
        else:
            scratch.__exit__(None, None, None)

    def jobs(
        self, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None = None
    ) -> list[Job] | None:
        """What `run` does with these very arrays, written down; None where it would have to copy one of them."""
        if not self._takes(out, residual) or not is_read(self._readable, first):
            return None
        binding = self._binding(first, out)
        block = self.fields.copy(binding.block)
        self._fill(block, first, prepared, out, residual)
        index = self.fields.index
        keeps = (binding, prepared)
        places = ((index["scratch"], 0),)
        arrays = (index["x"], index["out"], *(() if residual is None else (index["residual"],)))
        return [
            Job(binding.function.address, block, binding.tasks, binding.threads, arrays, binding.scratch, places, keeps)
        ]

    def in_place(self, first: Array, out: Array) -> tuple[bool, bool]:
        """Whether it reads the one and writes the other where they lie, not through a copy."""
        return is_read(self._readable, first), self._takes(out, None)

    def _empty(self) -> Array:
        """An array for the result that the kernel can write to."""
        return np.empty(self.problem.result_shape, self._dtype)

    def _readable(self, first: Array) -> Array:
        """`first`, or a copy where the kernel cannot read it as it is."""
        return readable(first, self._dtype, SOURCES)

    def _takes(self, out: Array, residual: Array | None) -> bool:
        if out.dtype != self._dtype or not out.flags.aligned or not _rows_follow(out):
            return False
        return residual is None or lies_like(residual, out)

    def _binding(self, first: Array, out: Array) -> Binding:
        limit = threads.get_num_threads()
        key = (first.strides, first.dtype, out.strides, limit)
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bindings.keep(key, self.bind(first, out, limit))
        return binding

    def _fill(
        self, block: Any, first: Array, prepared: tuple[Array, Array, float], out: Array, residual: Array | None
    ) -> None:
        panels, bias, fill = prepared
        x_slot, out_slot, panels_slot, bias_slot, fill_slot = self._slots
        block[x_slot] = address_of(first)
        block[out_slot] = address_of(out)
        block[panels_slot] = address_of(panels)
        block[bias_slot] = address_of(bias)
        block[fill_slot] = bits_of(fill) if fill else 0
        if residual is not None:
            block[self.fields.index["residual"]] = address_of(residual)

    def _workspace(self, binding: Binding) -> tuple[Any, int, memory.Scratch]:
        block = self.fields.copy(binding.block)
        scratch = memory.held_scratch(binding.scratch) if binding.scratch <= HELD_SCRATCH else None
        scratch = memory.scratch(binding.scratch) if scratch is None else scratch
        block[self.fields.index["scratch"]] = scratch.address
        return block, ctypes.addressof(block), scratch


class PackedSolution(CompiledSolution):
    """Works on packed blocks; see the module's text.

    Args:
        problem, target: what and for what.
        fields: the kernel's fields: those of `BLOCK` and its own.
        panels: how it wants its weights.
        source: from the element type of x, and a block, to the IR of the module, whose task function is called "task".
        own: the kernel's own fields for a block, and the arrays that they point to.
        form: how it wants its blocks.
        extra_bytes: scratch memory behind the block for the kernel's own use.
        sums: output pixels per row for which sums wait in scratch memory behind the block, or 0.
    """

    def __init__(
        self,
        problem: Problem,
        target: Target,
        fields: Fields,
        panels: Panels,
        source: Callable[[str, Block], Source],
        own: Callable[["Block"], tuple[dict[str, int | float], tuple[Array, ...]]],
        *,
        form: "Form",
        sums: int = 0,
        extra_bytes: int = 0,
    ) -> None:
        super().__init__(problem, target, fields, panels)
        self.form = form
        self._source, self._own, self._sums, self._extra_bytes = source, own, sums, extra_bytes

    def bind(self, x: Array, out: Array, limit: int) -> Binding:
        """Tables of where packed elements come from, and all sizes and steps."""
        problem = self.problem
        shape = Block.of(problem, self.target, self.panels.blocks, limit, self.form)
        depth, rows, columns = lattices(problem)
        packed, tables, lowest = block_values(problem, x, shape.channels, shape.packed_rows, shape.pitch, shape.phases)
        own, kept = self._own(shape)
        waiting = waiting_bytes(problem, shape, self.panels.width, self._sums)
        scratch_bytes = shape.bytes + -(-(waiting + self._extra_bytes) // 64) * 64
        values: dict[str, int | float] = {
            **packed,
            "x_base": lowest,
            "x_batch": x.strides[0],
            "x_group": x.strides[1] * shape.channels,
            "block_elements": shape.bytes // problem.itemsize,
            "scratch_bytes": scratch_bytes,
            "out_batch": out.strides[0],
            "out_channel": out.strides[1],
            **dict(zip(("out_depth", "out_row", "out_column"), spatial_steps(out), strict=True)),
            "groups": problem.groups,
            "shares": shape.shares,
            "groups_per_task": -(-problem.groups // shape.shares),
            "depths": depth.outputs,
            "depth_stride": depth.stride,
            "bands": shape.bands,
            "splits": shape.splits,
            "panels_per_split": -(-self.panels.blocks // shape.splits),
            "blocks": self.panels.blocks,
            "rows_per_band": shape.rows,
            "out_rows": rows.outputs,
            "out_columns": columns.outputs,
            "row_stride": rows.stride,
            "row_rest": rows.span(1) - rows.stride,
            **dict(zip(("top", "bottom"), rows.inside(), strict=True)),
            "x_pitch": spatial_steps(x)[1] * rows.step // x.itemsize,
            "x_plane": x.strides[1] // x.itemsize,
            **own,
        }
        tasks = problem.batch * shape.shares * depth.outputs * shape.bands * shape.splits
        workers = threads_for(problem, tasks, limit)
        function = compiled(self._source(SOURCES.get(x.dtype) or ELEMENTS[problem.dtype], shape), self.target, "task")
        return Binding(
            function, self.fields.block(values), tasks, workers, scratch_bytes * workers, (*tables, *kept), []
        )


def waiting_bytes(problem: Problem, block: Block, width: int, sums: int) -> int:
    """Bytes in which the sums of `sums` pixels of every row of a band wait, for the `width` kernels of a panel."""
    return (sums * block.rows + MOST_PIXELS if sums else 0) * width * problem.itemsize


def _rows_follow(out: Array) -> bool:
    """Whether the pixels of a row and the rows of a plane follow each other at one distance."""
    return out.ndim < 4 or out.strides[-2] == out.shape[-1] * out.strides[-1] or out.shape[-2] == 1
