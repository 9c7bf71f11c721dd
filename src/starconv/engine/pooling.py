"""Maxima and means of windows of (N, C, ...) arrays, and their gradients, by compiled code.

A window reads what of its taps lies inside the input. Maxima: a NaN is the largest, of equals the first counts, and a
window that lies outside altogether gives minus infinity, as in PyTorch. Means: the sum in the order of the taps,
divided by the number of elements that `geometry.window_counts` says.

How it runs: vectors along the channels of channels-last arrays; else along the columns, where they have stride 1 or 2.
Any other strides, of arrays or windows, are taken element by element. `jobs` writes a call down, `run` makes it; both
decline what compiled code cannot do.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..geometry import Axis
from ..geometry import window_counts as counts
from . import elementwise, pooling_disjoint
from .algorithms.finish import lies_like
from .descriptor import address_of
from .emit.target import Target, host_target
from .kernels import ELEMENTS, Compiled, compiled
from .lattice import grid_offsets
from .pooling_kernels import FIELDS, Kernel, gradient_module, module
from .runtime import threads
from .runtime.jobs import Job

__all__ = ["Counts", "counts", "gradient", "gradient_jobs", "jobs", "run"]

Array = NDArray[Any]
Counts = tuple[tuple[int, ...], ...]

SERIAL_ELEMENTS = 8192
"""Outputs times taps, fewer of which are done before another thread has joined."""
TASK_ELEMENTS = 32768
"""Outputs times taps of a task: some microseconds."""
WRITTEN_OUT = 7
"""Taps of a row that are written out one after the other, at most."""


def jobs(
    x: Array,
    axes: tuple[Axis, ...],
    out: Array,
    *,
    divisors: Counts | None = None,
    winner: Array | None = None,
    target: Target | None = None,
) -> list[Job] | None:
    """The pooling of `x` (N, C, ...) into `out`, written down; None where compiled code cannot do it.

    Args:
        x: float32 or float64, of any strides.
        axes: the windows, one geometry per spatial axis, 1 to 3 of them.
        out: (N, C, ...) of the axes' output sizes, x's dtype.
        divisors: per axis and output a number; their product is what sums are divided by. None for maxima.
        winner: for maxima, where the number of the tap is written, in row-major order; lies in memory like `out`.
        target: the processor to generate code for, this one unless told otherwise.
    """
    target = host_target() if target is None else target
    if target is None or not _fits(x, out) or (winner is not None and not lies_like(winner, out)):
        return None
    form = _form(
        axes, x.shape, x.strides, out.strides, x.dtype, divisors, winner is not None, threads.get_num_threads(), target
    )
    return _written(form, x, out, winner)


def run(
    x: Array, axes: tuple[Axis, ...], out: Array, *, divisors: Counts | None = None, winner: Array | None = None
) -> bool:
    """Compute now; False, with nothing done, where compiled code cannot. The arguments are those of `jobs`."""
    written = jobs(x, axes, out, divisors=divisors, winner=winner)
    for job in written or ():
        job.run()
    return written is not None


def gradient(
    grad: Array,
    axes: tuple[Axis, ...],
    result: Array,
    *,
    divisors: Counts | None = None,
    winner: Array | None = None,
) -> bool:
    """Write the input's gradient to `result`, given that of the outputs; False where compiled code cannot.

    A maximum's goes to the tap that `winner` names, a mean's in equal shares to all taps inside the input.
    """
    written = gradient_jobs(grad, axes, result, divisors=divisors, winner=winner)
    for job in written or ():
        job.run()
    return written is not None


def gradient_jobs(
    grad: Array,
    axes: tuple[Axis, ...],
    result: Array,
    *,
    divisors: Counts | None = None,
    winner: Array | None = None,
) -> list[Job] | None:
    """What `gradient` does, written down; None where compiled code cannot."""
    target = host_target()
    if target is None or not _fits(result, grad) or (winner is not None and not lies_like(winner, grad)):
        return None
    steps = axes, result.shape, result.strides, grad.strides, grad.dtype
    alone = None if winner is None else pooling_disjoint.form(*steps, target)
    if alone is not None and winner is not None:
        function, block, tasks, tables = alone
        own = pooling_disjoint.FIELDS.copy(block)
        for slot, array in enumerate((result, grad, winner)):
            own[slot] = address_of(array)
        limit = threads.get_num_threads() if result.size >= SERIAL_ELEMENTS else 1
        keeps = (function, tables, result, grad, winner)
        return [Job(function.address, own, tasks, max(min(limit, tasks), 1), (0, 1, 2), keeps=keeps)] if tasks else []
    nothing = elementwise.jobs("copy", [np.zeros((1,) * result.ndim, result.dtype)], [result])
    if nothing is None:
        return None
    form = _gradient_form(*steps, divisors, threads.get_num_threads(), target)
    return [*nothing, *_written(form, result, grad, winner)]


def _fits(x: Array, out: Array) -> bool:
    native = x.dtype.name in ELEMENTS and x.dtype.isnative and out.dtype == x.dtype
    return native and x.flags.aligned and out.flags.aligned


def _written(form: "_Form", x: Array, out: Array, winner: Array | None) -> list[Job]:
    block = FIELDS.copy(form.block)
    index = FIELDS.index
    block[index["x"]], block[index["out"]] = address_of(x), address_of(out)
    slots = [index["x"], index["out"]]
    if winner is not None:
        block[index["winner"]] = address_of(winner)
        slots.append(index["winner"])
    if not form.tasks:
        return []
    keeps = (form, x, out, winner)
    return [Job(form.function.address, block, form.tasks, form.threads, tuple(slots), keeps=keeps)]


# -- kernels and their fields -------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """A kernel with all fields but addresses; the tables that the fields point to."""

    function: Compiled
    block: Any
    tasks: int
    threads: int
    tables: tuple[Array, ...]


@lru_cache(maxsize=1024)
def _form(
    axes: tuple[Axis, ...],
    shape: tuple[int, ...],
    x_steps: tuple[int, ...],
    out_steps: tuple[int, ...],
    dtype: np.dtype[Any],
    divisors: Counts | None,
    winners: bool,
    limit: int,
    target: Target,
) -> _Form:
    itemsize, columns, widest = dtype.itemsize, axes[-1], target.lanes(dtype.itemsize)
    channels = shape[1]
    dense = channels > 1 and x_steps[1] == out_steps[1] == itemsize
    left, right = _inside(columns)
    lanes, stride, last = 1, 1, False
    if dense:
        lanes, last = _power(min(widest, channels)), True
    elif x_steps[-1] == out_steps[-1] == itemsize and columns.stride in (1, 2):
        lanes, stride = _power(min(widest, max(right - left, 1))), columns.stride
    taps = columns.kernel if columns.kernel <= WRITTEN_OUT and lanes > 1 and not last else 0
    kernel = Kernel(ELEMENTS[dtype.name], divisors is not None, winners, last, lanes, stride, taps)
    values, tables = _geometry(axes, shape, x_steps, out_steps, dtype, divisors)
    values |= {"left": left, "right": right}
    tasks = _cut(values, axes, shape, last=last, lanes=lanes, limit=limit)
    function = compiled(module(target, kernel), target, "task")
    workers = min(limit, tasks) if _work(axes, shape) >= SERIAL_ELEMENTS else 1
    return _Form(function, FIELDS.block(values), tasks, max(workers, 1), tables)


@lru_cache(maxsize=1024)
def _gradient_form(
    axes: tuple[Axis, ...],
    shape: tuple[int, ...],
    x_steps: tuple[int, ...],
    out_steps: tuple[int, ...],
    dtype: np.dtype[Any],
    divisors: Counts | None,
    limit: int,
    target: Target,
) -> _Form:
    values, tables = _geometry(axes, shape, x_steps, out_steps, dtype, divisors)
    # Windows of one picture and channel may overlap, so these are what tasks are made of: whole planes.
    depths, rows = values["depths"], values["rows"]
    work = _work(axes, shape)
    channels = max(min(TASK_ELEMENTS * max(shape[0] * shape[1], 1) // max(work, 1), shape[1]), 1)
    lanes = 0
    if shape[1] > 1 and x_steps[1] == out_steps[1] == dtype.itemsize:
        lanes = min(target.lanes(dtype.itemsize), _power(shape[1]))
        channels = min(-(-channels // lanes) * lanes, shape[1])
    parts = -(-shape[1] // channels) if shape[1] else 0
    values |= {
        "planes": shape[0] * int(depths),
        "planes_per_task": depths,
        "rows_per_task": rows,
        "row_parts": 1,
        "channels_per_task": channels,
        "channel_parts": max(parts, 1),
    }
    tasks = shape[0] * parts if work else 0
    function = compiled(gradient_module(target, ELEMENTS[dtype.name], divisors is not None, lanes), target, "task")
    workers = min(limit, tasks) if work >= SERIAL_ELEMENTS else 1
    return _Form(function, FIELDS.block(values), tasks, max(workers, 1), tables)


def _work(axes: tuple[Axis, ...], shape: tuple[int, ...]) -> int:
    """Outputs times taps."""
    return shape[0] * shape[1] * math.prod(axis.output * axis.kernel for axis in axes)


def _power(count: int) -> int:
    """The largest power of two up to `count`."""
    return 1 << (count.bit_length() - 1)


def _inside(axis: Axis) -> tuple[int, int]:
    """The outputs [left, right) whose windows lie inside the input."""
    left = min(-(-axis.before // axis.stride), axis.output)
    right = (axis.input + axis.before - axis.extent) // axis.stride + 1
    return left, min(max(right, left), axis.output)


def _geometry(
    axes: tuple[Axis, ...],
    shape: tuple[int, ...],
    x_steps: tuple[int, ...],
    out_steps: tuple[int, ...],
    dtype: np.dtype[Any],
    divisors: Counts | None,
) -> tuple[dict[str, int | float], tuple[Array, ...]]:
    """The fields that tell where everything lies."""
    missing = 3 - len(axes)
    whole = (Axis(1, 1),) * missing + axes
    steps = (0,) * missing + x_steps[2:]
    values: dict[str, int | float] = {
        "x_batch": x_steps[0],
        "x_channel": x_steps[1],
        "out_batch": out_steps[0],
        "out_channel": out_steps[1],
        **dict(zip(("out_depth", "out_row", "out_column"), (0,) * missing + out_steps[2:], strict=True)),
        **dict(zip(("depths", "rows", "columns"), (axis.output for axis in whole), strict=True)),
        "channels": shape[1],
        "taps_rows": whole[1].kernel,
        "taps_columns": whole[2].kernel,
        "taps": math.prod(axis.kernel for axis in whole),
    }
    tables: list[Array] = []
    for number, (name, axis, step) in enumerate(zip(("depth", "row", "column"), whole, steps, strict=True)):
        starts = np.arange(axis.output) * axis.stride - axis.before
        first = np.maximum(-(starts // axis.dilation), 0)
        last = np.clip((axis.input - 1 - starts) // axis.dilation + 1, 0, axis.kernel)
        table = np.stack([np.minimum(first, last), last, starts * step], axis=1).astype(np.int64)
        given = None if divisors is None or number < missing else divisors[number - missing]
        shares = np.ones(axis.output, dtype) if given is None else np.array(given, dtype)
        tables += [table, shares]
        values |= {
            f"{name}_table": address_of(table),
            f"{name}_tap": step * axis.dilation,
            f"{name}_divisors": address_of(shares),
        }
    taps = [axis.dilation * step for axis, step in zip(whole, steps, strict=True)]
    offsets = grid_offsets([axis.kernel for axis in whole], taps)
    tables.append(offsets)
    return values | {"tap_offsets": address_of(offsets)}, tuple(tables)


def _cut(
    values: dict[str, int | float],
    axes: tuple[Axis, ...],
    shape: tuple[int, ...],
    *,
    last: bool,
    lanes: int,
    limit: int,
) -> int:
    """Add to `values` how outputs are cut into tasks of about TASK_ELEMENTS; gives the number of tasks."""
    depths, rows, columns = (int(values[name]) for name in ("depths", "rows", "columns"))
    planes = shape[0] * depths * (1 if last else shape[1])
    taps = int(values["taps"])
    per_row = columns * taps * (shape[1] if last else 1)
    rows_per_task = max(min(TASK_ELEMENTS // max(per_row, 1), rows), 1)
    together = max(min(TASK_ELEMENTS // max(per_row * rows, 1), planes), 1) if rows_per_task == rows else 1
    row_parts = -(-rows // rows_per_task)
    channels, parts = shape[1], 1
    if last and planes * row_parts < 4 * limit:
        # Few outputs with many taps, as of a mean over everything: the channels are shared.
        parts = max(min(-(-per_row // TASK_ELEMENTS), shape[1] // (4 * lanes)), 1)
        channels = -(-shape[1] // parts // lanes) * lanes
        parts = -(-shape[1] // channels)
    values |= {
        "planes": planes,
        "planes_per_task": together,
        "rows_per_task": rows_per_task,
        "row_parts": row_parts,
        "channels_per_task": channels,
        "channel_parts": parts,
    }
    return -(-planes // together) * row_parts * parts if _work(axes, shape) else 0
