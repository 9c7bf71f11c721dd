"""Functions of numbers at the same place of several arrays: activations, sums, updates. Any strides, broadcasting.

One kernel serves all sizes and steps: loops as `loops` finds them, and within an inner run every array lies densely, or
repeats one number, or (then elements are taken one by one) has steps of any size. `jobs` writes a call down, `run`
makes it. Both decline what compiled code cannot do: dtypes other than float32 and float64, or too many axes.

An output may be the very same memory as an input.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .descriptor import Fields, address_of, bits_of
from .emit import maths
from .emit.ir import ITEMSIZES, Function, Int, Pointer, Vector, module_source
from .emit.source import emitted
from .emit.target import Target, host_target
from .kernels import ELEMENTS, Compiled, compiled
from .loops import OUTER, loops_over
from .runtime import threads
from .runtime.jobs import Job

__all__ = ["OPERATIONS", "Operation", "apply", "jobs", "run", "set_numbers"]

Array = NDArray[Any]
Vectors = Sequence[Vector]

SERIAL_ELEMENTS = 16384
"""Fewer are done before another thread has joined."""
UNROLLED = 2


class Operation(NamedTuple):
    """How many arrays go in and come out, how many numbers are the same for all elements, and the formula."""

    inputs: int
    compute: Callable[[Vectors, Vectors], Vectors]
    numbers: int = 0
    outputs: int = 1


def _clip(x: Vector, low: Vector, high: Vector) -> Vector:
    return x.raised_to(low).lowered_to(high)


def _number(like: Vector, value: float) -> Vector:
    return like.function.constant(value, like.element, like.lanes)


def _leaky(x: Vector, slope: Vector) -> Vector:
    return x.where("olt", _number(x, 0.0), x * slope, x)


def _relu(x: Vector) -> Vector:
    return x.raised_to(_number(x, 0.0))


def _normal(x: Vector, mean: Vector, factor: Vector, bias: Vector) -> Vector:
    return (x - mean).times_plus(factor, bias)


def _descent(v: Vectors, n: Vectors, *, nesterov: bool) -> Vectors:
    """One step of nn.SGD."""
    weight, velocity, gradient = v
    rate, momentum, fresh, decay = n
    gradient = weight.times_plus(decay, gradient)
    velocity = gradient.times_plus(fresh, velocity * momentum)
    return weight - rate * (velocity.times_plus(momentum, gradient) if nesterov else velocity), velocity


def _batch_scale(v: Vectors, n: Vectors) -> Vectors:
    """From sums of squares: the variance, one over its root, and that times the weight; nn.BatchNorm2d's roundings."""
    squares, weight = v
    count, eps = n
    variance = squares.divided_by(count)
    scale = _number(variance, 1.0).divided_by((variance + eps).square_root())
    return variance, scale, scale * weight


def _batch_shares(v: Vectors, n: Vectors) -> Vectors:
    """What normalize_gradient multiplies by and adds, in nn.BatchNorm2d's order."""
    total, along, scale, factor = v
    return (-factor * scale * along.divided_by(n[0]), -factor * total.divided_by(n[0]))


OPERATIONS: dict[str, Operation] = {
    "copy": Operation(1, lambda v, n: (v[0],)),
    "add": Operation(2, lambda v, n: (v[0] + v[1],)),
    "subtract": Operation(2, lambda v, n: (v[0] - v[1],)),
    "multiply": Operation(2, lambda v, n: (v[0] * v[1],)),
    "divide": Operation(2, lambda v, n: (v[0].divided_by(v[1]),)),
    "maximum": Operation(2, lambda v, n: (v[1].where("uno", v[1], v[1], v[0].raised_to(v[1])),)),
    "minimum": Operation(2, lambda v, n: (v[1].where("uno", v[1], v[1], v[0].lowered_to(v[1])),)),
    "add_relu": Operation(2, lambda v, n: (_relu(v[0] + v[1]),)),
    "relu": Operation(1, lambda v, n: (_relu(v[0]),)),
    "clip": Operation(1, lambda v, n: (_clip(v[0], *n),), numbers=2),
    "affine": Operation(1, lambda v, n: (v[0].times_plus(n[0], n[1]),), numbers=2),
    "leaky_relu": Operation(1, lambda v, n: (_leaky(v[0], n[0]),), numbers=1),
    "prelu": Operation(2, lambda v, n: (_leaky(v[0], v[1]),)),
    "hard_sigmoid": Operation(1, lambda v, n: (maths.hard_sigmoid(v[0], *n),), numbers=2),
    "hard_swish": Operation(1, lambda v, n: (maths.hard_swish(v[0]),)),
    "exp": Operation(1, lambda v, n: (maths.exp(v[0]),)),
    "sigmoid": Operation(1, lambda v, n: (maths.sigmoid(v[0]),)),
    "silu": Operation(1, lambda v, n: (maths.silu(v[0]),)),
    "tanh": Operation(1, lambda v, n: (maths.hyperbolic_tangent(v[0]),)),
    "scale_shift": Operation(3, lambda v, n: (v[0].times_plus(v[1], v[2]),)),
    "normalize": Operation(4, lambda v, n: (_normal(*v),)),
    "normalize_relu": Operation(4, lambda v, n: (_relu(_normal(*v)),)),
    "batch_mean": Operation(1, lambda v, n: (v[0].divided_by(n[0]),), numbers=1),
    "batch_scale": Operation(2, _batch_scale, numbers=2, outputs=3),
    "batch_shares": Operation(4, _batch_shares, numbers=1, outputs=2),
    "track": Operation(2, lambda v, n: (n[0] * v[0] + n[1] * (v[1] * n[2]),), numbers=3),
    "relu_gradient": Operation(2, lambda v, n: (v[1].where("ogt", _number(v[1], 0.0), v[0], _number(v[0], 0.0)),)),
    "normalize_gradient": Operation(6, lambda v, n: (v[0].times_plus(v[3], (v[1] - v[2]).times_plus(v[4], v[5])),)),
    "descend": Operation(3, lambda v, n: _descent(v, n, nesterov=False), numbers=4, outputs=2),
    "descend_nesterov": Operation(3, lambda v, n: _descent(v, n, nesterov=True), numbers=4, outputs=2),
}
"""By name.

clip(x; low, high), affine(x; a, b) = a x + b, leaky_relu(x; slope), prelu(x, slope), hard_sigmoid(x; slope, offset),
scale_shift(x, scale, shift), normalize(x, mean, factor, bias) = (x - mean) factor + bias (normalize_relu: then ReLU),
batch_mean(sums; count), batch_scale(sums of squares, weight; count, eps) = variance, 1 / sqrt(variance + eps), that
times weight, batch_shares(sums of g, sums along x, scale, factor; count) = b and c of normalize_gradient,
track(running, new; a, b, c) = a running + b (new c),
relu_gradient(gradient, output), normalize_gradient(gradient, x, mean, a, b, c) = a gradient + b (x - mean) + c,
descend and descend_nesterov(w, v, g; rate, momentum, 1 - dampening, decay): one step of nn.SGD, new w and v.
A NaN stays a NaN everywhere, and relu_gradient is 0 where the output is one.
"""


def jobs(
    operation: str,
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    numbers: Sequence[float] = (),
    *,
    target: Target | None = None,
) -> list[Job] | None:
    """The call, written down; None where compiled code cannot make it.

    Args:
        operation: a name in OPERATIONS.
        inputs: arrays that broadcast to the shape of the outputs.
        outputs: arrays of one shape.
        numbers: what the operation takes besides.
        target: the processor to generate code for, this one unless told otherwise.
    """
    found = _found(operation, inputs, outputs, numbers, target)
    if found is None:
        return None
    form, block, workers = found
    if not form.tasks:
        return []
    arrays = (*outputs, *inputs)
    return [Job(form.function.address, block, form.tasks, workers, tuple(range(len(arrays))), keeps=(form, arrays))]


def set_numbers(job: Job, operation: str, numbers: Sequence[float]) -> None:
    """Other numbers for a job of `operation`, from its next run on."""
    rule = OPERATIONS[operation]
    assert len(numbers) == rule.numbers
    for slot, number in enumerate(numbers, rule.inputs + rule.outputs):
        job.block[slot] = bits_of(number)


def run(operation: str, inputs: Sequence[Array], outputs: Sequence[Array], numbers: Sequence[float] = ()) -> bool:
    """Compute now; False, with nothing done, where compiled code cannot."""
    found = _found(operation, inputs, outputs, numbers, None)
    if found is None:
        return False
    form, block, workers = found
    if form.tasks:
        threads.run(form.function.address, ctypes.addressof(block), form.tasks, workers)
    return True


def apply(operation: str, *inputs: Array, numbers: Sequence[float] = ()) -> Array | None:
    """The result in a new array that lies like the first input; None where compiled code cannot compute it.

    >>> apply("clip", np.array([-1.0, 0.5, 7.0]), numbers=(0, 6))
    array([0. , 0.5, 6. ])
    """
    out = np.empty_like(inputs[0])
    return out if run(operation, inputs, [out], numbers) else None


def _found(
    operation: str, inputs: Sequence[Array], outputs: Sequence[Array], numbers: Sequence[float], target: Target | None
) -> tuple["_Form", Any, int] | None:
    """The kernel, its fields filled in, and how many threads; None where compiled code cannot."""
    target = host_target() if target is None else target
    rule = OPERATIONS[operation]
    assert (len(inputs), len(outputs), len(numbers)) == (rule.inputs, rule.outputs, rule.numbers)
    arrays = (*outputs, *inputs)
    dtype = outputs[0].dtype
    if target is None or dtype not in _ELEMENTS:
        return None
    lying = []
    for array in arrays:
        if not isinstance(array, np.ndarray) or array.dtype != dtype or not array.flags.aligned:
            return None
        lying.append((array.shape, array.strides))
    form = _form(operation, outputs[0].shape, tuple(lying), dtype, target)
    if form is None:
        return None
    block = form.fields.copy(form.block)
    for slot, array in enumerate(arrays):
        block[slot] = address_of(array)
    for slot, number in enumerate(numbers, len(arrays)):
        block[slot] = bits_of(number)
    limit = threads.get_num_threads() if form.elements >= SERIAL_ELEMENTS else 1
    return form, block, max(min(limit, form.tasks), 1)


_ELEMENTS = {np.dtype(name): element for name, element in ELEMENTS.items()}
"""By dtype: its name is put together anew each time it is asked for, which takes microseconds."""


# -- kernels --------------------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """A kernel with the sizes and steps of some arrays."""

    function: Compiled
    fields: Fields
    block: Any
    tasks: int
    elements: int


@lru_cache(maxsize=4096)
def _form(
    operation: str,
    shape: tuple[int, ...],
    arrays: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...],
    dtype: np.dtype[Any],
    target: Target,
) -> _Form | None:
    loops = loops_over(shape, arrays)
    if loops is None:
        return None
    itemsize, outputs = dtype.itemsize, OPERATIONS[operation].outputs
    inner = [steps[-1] for steps in loops.steps]
    dense = all(step == itemsize or (step == 0 and number >= outputs) for number, step in enumerate(inner))
    # Where the inner run is one element, its step does not matter.
    repeats = tuple(step == 0 for step in inner) if dense and loops.sizes[-1] > 1 else None
    fields = _fields(len(arrays), OPERATIONS[operation].numbers)
    cut = loops.cut()
    values: dict[str, int | float] = dict(cut)
    for number, steps in enumerate(loops.steps):
        values |= {f"{name}_{number}": step for name, step in zip(_STEPS, steps, strict=True)}
    tasks = -(-cut["outers"] // cut["outers_per_task"]) * cut["row_parts"] * cut["column_parts"]
    function = _function(operation, _ELEMENTS[dtype], repeats, target)
    return _Form(function, fields, fields.block(values), tasks if loops.elements else 0, loops.elements)


_STEPS = (*(f"outer{number}" for number in range(OUTER)), "row", "inner")
_CUT = (
    "middle",
    "innermost",
    "outers",
    "rows",
    "inner",
    "outers_per_task",
    "rows_per_task",
    "columns_per_task",
    "row_parts",
    "column_parts",
)


@lru_cache(maxsize=64)
def _fields(arrays: int, numbers: int) -> Fields:
    """Addresses first, then numbers, then steps and sizes."""
    return Fields(
        (
            *(f"array_{number}" for number in range(arrays)),
            *(f"number_{number}" for number in range(numbers)),
            *(f"{name}_{number}" for number in range(arrays) for name in _STEPS),
            *_CUT,
        )
    )


@lru_cache(maxsize=512)
def _function(operation: str, element: str, repeats: tuple[bool, ...] | None, target: Target) -> Compiled:
    return compiled(_module(operation, element, repeats, target), target, "task")


@emitted("task")
def _module(operation: str, element: str, repeats: tuple[bool, ...] | None, target: Target) -> str:
    return module_source([_task(operation, element, repeats, target)])


def _task(operation: str, element: str, repeats: tuple[bool, ...] | None, target: Target) -> Function:
    """Task: (outer steps, rows, columns), a part of each; `repeats` says which arrays have one number per inner run.

    None for arrays of any steps, which are taken element by element.
    """
    rule = OPERATIONS[operation]
    count = rule.inputs + rule.outputs
    fields = _fields(count, rule.numbers)
    f = Function("task", target, ["fields", "task", "worker"])
    lanes = target.lanes(ITEMSIZES[element])
    size = dict(zip(_CUT, fields.integers(f, *_CUT), strict=True))
    task = f.integer("task")
    column, task = (task % size["column_parts"]) * size["columns_per_task"], task // size["column_parts"]
    first_row, task = (task % size["row_parts"]) * size["rows_per_task"], task // size["row_parts"]
    first_outer = task * size["outers_per_task"]
    numbers = [fields.real(f, f"number_{number}", element) for number in range(rule.numbers)]
    columns = (size["inner"] - column).minimum(size["columns_per_task"])
    last_row = (first_row + size["rows_per_task"]).minimum(size["rows"])
    last_outer = (first_outer + size["outers_per_task"]).minimum(size["outers"])

    def at_outer(number: int, outer: Int) -> Pointer:
        steps = fields.integers(f, *(f"{name}_{number}" for name in _STEPS))
        places = (outer // size["innermost"] // size["middle"], outer // size["innermost"] % size["middle"])
        offset = places[0] * steps[0] + places[1] * steps[1] + outer % size["innermost"] * steps[2]
        return fields.pointer(f, f"array_{number}", element).at_bytes(offset + column * steps[4])

    for outer in f.loop(first_outer, last_outer):
        origins = [at_outer(number, outer) for number in range(count)]
        for row in f.loop(first_row, last_row):
            places = [
                origin.at_bytes(row * fields.integer(f, f"row_{number}")) for number, origin in enumerate(origins)
            ]
            if repeats is None:
                inner = [fields.integer(f, f"inner_{number}") for number in range(count)]
                for i in f.loop(columns):
                    here = [place.at_bytes(i * step) for place, step in zip(places, inner, strict=True)]
                    _elements(rule, here, [None] * count, numbers, 1)
                continue
            same = [place.load() if repeated else None for place, repeated in zip(places, repeats, strict=True)]
            done: Int = f.number(0)
            for together in (lanes * UNROLLED, lanes, 1):
                stop = done + (columns - done) // together * together
                for i in f.loop(done, stop, together):
                    for part in range(0, together, lanes):
                        here = [place.at(i + part) for place in places]
                        _elements(rule, here, same, numbers, min(lanes, together))
                done = stop
    return f


def _elements(
    rule: Operation, places: Sequence[Pointer], same: Sequence[Vector | None], numbers: Vectors, lanes: int
) -> None:
    """`lanes` neighbouring elements."""
    inputs = [
        place.load(lanes) if value is None else value.broadcast(lanes)
        for place, value in zip(places[rule.outputs :], same[rule.outputs :], strict=True)
    ]
    results = rule.compute(inputs, [number.broadcast(lanes) for number in numbers])
    for place, result in zip(places, results, strict=False):
        place.store(result)
