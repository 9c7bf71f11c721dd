"""Sums over everything but the channel of (N, C, ...) arrays, as batch norm and gradients of biases need them.

How it runs: per task, one sum per channel of a part of the pictures (channels first), or of the pixels (channels last).
How many parts there are is decided by the shape alone, and they are added in their order, so the bits do not depend on
the threads. `jobs` writes that down, `run` does it; both decline arrays whose pixels do not follow each other at one
distance, and other types than floats.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .descriptor import Fields, address_of
from .emit.ir import ITEMSIZES, Function, Pointer, Registers, Vector, module_source
from .emit.target import Target, host_target
from .kernels import ELEMENTS, Compiled, compiled
from .runtime import threads
from .runtime.jobs import Job, run_jobs

__all__ = ["SUMS", "Sum", "jobs", "run"]

Array = NDArray[Any]
Vectors = Sequence[Vector]

PART = 16384
"""Elements of one sum's part: the tasks of a channel, and rounding errors that do not grow with the whole."""
SERIAL_ELEMENTS = 16384
CHAINS = 4
"""Sums of one channel that grow side by side, because an addition takes 4 cycles until the next can follow."""


class Sum(NamedTuple):
    """How many arrays and numbers per channel go in, how many sums come out, and what is summed."""

    arrays: int
    numbers: int
    outputs: int
    terms: Callable[[Vectors, Vectors], Vectors]


def _squares(v: Vectors, n: Vectors) -> Vectors:
    away = v[0] - n[0]
    return (away * away,)


SUMS: dict[str, Sum] = {
    "plain": Sum(1, 0, 1, lambda v, n: (v[0],)),
    "squares": Sum(1, 1, 1, _squares),
    "gradient": Sum(2, 2, 2, lambda v, n: (v[0], v[0] * ((v[1] - n[0]) * n[1]))),
}
"""plain: of x. squares: of (x - mean)². gradient: of the gradient g, and of g (x - mean) scale."""


def run(name: str, arrays: Sequence[Array], numbers: Sequence[Array] = ()) -> Array | None:
    """The sums (outputs, C) of `arrays`, all (N, C, ...), with `numbers`, each (C,); None where this is not for them.

    >>> run("plain", [np.ones((2, 3, 4, 5), "float32")])
    array([[40., 40., 40.]], dtype=float32)
    """
    first = arrays[0]
    if first.ndim < 2:
        return None
    out = np.empty((SUMS[name].outputs, first.shape[1]), first.dtype)
    own = [np.ascontiguousarray(number, first.dtype) for number in numbers]
    written = jobs(name, arrays, own, out)
    if written is None:
        return None
    run_jobs(written)
    return out


def jobs(name: str, arrays: Sequence[Array], numbers: Sequence[Array], out: Array) -> list[Job] | None:
    """The same, written to `out`, as jobs; `numbers` and `out` are dense and of the arrays' type."""
    rule, first, target = SUMS[name], arrays[0], host_target()
    dtype = first.dtype
    if target is None or dtype.name not in ELEMENTS or not dtype.isnative or first.ndim < 2 or not first.size:
        return None
    if any(array.dtype != dtype or array.shape != first.shape or not array.flags.aligned for array in arrays):
        return None
    form = _form(name, first.shape, tuple(array.strides for array in arrays), dtype, target)
    if form is None:
        return None
    block = form.fields.copy(form.block)
    for slot, array in enumerate((*arrays, *numbers), 1):
        block[slot] = address_of(array)
    size = rule.outputs * first.shape[1]
    scratch = form.parts * size * dtype.itemsize
    total = TOTAL_FIELDS.block({"out": address_of(out), "parts": form.parts, "size": size})
    adding = _total_function(ELEMENTS[dtype.name], target)
    limit = threads.get_num_threads() if first.size >= SERIAL_ELEMENTS else 1
    workers = min(limit, form.tasks)
    keeps = (form, arrays, numbers, out)
    return [
        Job(form.function.address, block, form.tasks, workers, (), scratch, ((0, 0),), keeps),
        Job(adding.address, total, 1, 1, (), scratch, ((0, 0),), (adding,)),
    ]


class _Form(NamedTuple):
    function: Compiled
    fields: Fields
    block: Any
    parts: int
    tasks: int


@lru_cache(maxsize=1024)
def _form(
    name: str, shape: tuple[int, ...], steps: tuple[tuple[int, ...], ...], dtype: np.dtype[Any], target: Target
) -> _Form | None:
    pictures, channels, *sizes = shape
    plane, itemsize = math.prod(sizes), dtype.itemsize
    pixels = [step for own in steps if (step := _one_step(sizes, own[2:])) is not None]
    if len(pixels) < len(steps):
        return None
    fields = _fields(len(steps), SUMS[name].numbers)
    values: dict[str, int | float] = {"channels": channels}
    # An axis of one element may have any step.
    if all(step in (itemsize, 0) for step in pixels) and (plane > 1 or channels == 1):
        last, rows = False, plane
        together = max(min(PART // plane, pictures), 1)
        parts = -(-pictures // together)
        values |= {"rows": rows, "pictures": pictures, "per_part": together}
        for number, own in enumerate(steps):
            values |= {f"picture_{number}": own[0], f"channel_{number}": own[1]}
    elif channels == 1 or all(own[1] == itemsize for own in steps):
        rows = pictures * plane
        whole = [_one_step((pictures, plane), (own[0], step)) for own, step in zip(steps, pixels, strict=True)]
        last = True
        together = max(min(PART // channels, rows), 1)
        parts = -(-rows // together)
        values |= {"rows": rows, "per_part": together}
        for number, step in enumerate(whole):
            if step is None:
                return None
            values[f"picture_{number}"] = step
    else:
        return None
    lanes = target.lanes(itemsize)
    if last:
        lanes = min(lanes, 1 << (channels.bit_length() - 1))
    function = _function(name, ELEMENTS[dtype.name], lanes, last, target)
    return _Form(function, fields, fields.block(values), parts, parts * (1 if last else channels))


def _one_step(sizes: Sequence[int], steps: Sequence[int]) -> int | None:
    """The distance between neighbours if it is one and the same for all elements, 0 if there is but one.

    None for elements that are repeated: they have no neighbours.
    """
    found, reach = 0, 1
    for size, step in zip(reversed(sizes), reversed(steps), strict=True):
        if size == 1:
            continue
        if step == 0:
            return None
        if found == 0:
            found = step
        elif step != found * reach:
            return None
        reach *= size
    return found


@lru_cache(maxsize=16)
def _fields(arrays: int, numbers: int) -> Fields:
    return Fields(
        (
            "partial",
            *(f"array_{number}" for number in range(arrays)),
            *(f"number_{number}" for number in range(numbers)),
            *(f"{step}_{number}" for number in range(arrays) for step in ("picture", "channel")),
            "channels",
            "rows",
            "pictures",
            "per_part",
        )
    )


TOTAL_FIELDS = Fields(("partial", "out", "parts", "size"))


@lru_cache(maxsize=4)
def _total_function(element: str, target: Target) -> Compiled:
    return compiled(module_source([_total(element, target)]), target, "task")


def _total(element: str, target: Target) -> Function:
    """Task: the sums of all parts, one after the other."""
    f = Function("task", target, ["fields", "task", "worker"])
    partial, out = (TOTAL_FIELDS.pointer(f, name, element) for name in ("partial", "out"))
    parts, size = TOTAL_FIELDS.integers(f, "parts", "size")
    lanes = target.lanes(ITEMSIZES[element])
    whole = size // lanes * lanes
    for begin, end, wide in ((f.number(0), whole, lanes), (whole, size, 1)):
        for place in f.loop(begin, end, wide):
            total = Registers({0: partial.at(place).load(wide)})
            for part in f.loop(1, parts, carry=[total]):
                total[0] = total[0] + partial.at(part * size + place).load(wide)
            out.at(place).store(total[0])
    return f


@lru_cache(maxsize=64)
def _function(name: str, element: str, lanes: int, last: bool, target: Target) -> Compiled:
    emitted = _along_channels if last else _along_pixels
    return compiled(module_source([emitted(SUMS[name], target, element, lanes)]), target, "task")


def _along_pixels(rule: Sum, target: Target, element: str, lanes: int) -> Function:
    """Task: one channel of some pictures."""
    f = Function("task", target, ["fields", "task", "worker"])
    fields = _fields(rule.arrays, rule.numbers)
    channels, rows, pictures, per_part = fields.integers(f, "channels", "rows", "pictures", "per_part")
    channel, part = f.integer("task") % channels, f.integer("task") // channels
    numbers = [fields.pointer(f, f"number_{i}", element).at(channel).load() for i in range(rule.numbers)]
    wide = [number.broadcast(lanes) for number in numbers]
    keys = [(o, chain) for o in range(rule.outputs) for chain in range(CHAINS)]
    sums = Registers({key: f.zero(element, lanes) for key in keys})
    rest = Registers({o: f.zero(element, 1) for o in range(rule.outputs)})
    whole, vectors = rows // (CHAINS * lanes) * (CHAINS * lanes), rows // lanes * lanes
    first = part * per_part
    for picture in f.loop(first, (first + per_part).minimum(pictures), carry=[sums, rest]):
        planes = [
            fields.pointer(f, f"array_{i}", element).at_bytes(
                picture * fields.integer(f, f"picture_{i}") + channel * fields.integer(f, f"channel_{i}")
            )
            for i in range(rule.arrays)
        ]
        for begin, end, chains in ((f.number(0), whole, CHAINS), (whole, vectors, 1)):
            for pixel in f.loop(begin, end, chains * lanes, carry=[sums]):
                for chain in range(chains):
                    values = [plane.at(pixel + chain * lanes).load(lanes) for plane in planes]
                    for o, term in enumerate(rule.terms(values, wide)):
                        sums[o, chain] = sums[o, chain] + term
        for pixel in f.loop(vectors, rows, carry=[rest]):
            for o, term in enumerate(rule.terms([plane.at(pixel).load() for plane in planes], numbers)):
                rest[o] = rest[o] + term
    for o in range(rule.outputs):
        total = sums[o, 0]
        for chain in range(1, CHAINS):
            total = total + sums[o, chain]
        _place(f, fields, rule, element, o).at(channel).store(_all_lanes(total) + rest[o])
    return f


def _along_channels(rule: Sum, target: Target, element: str, lanes: int) -> Function:
    """Task: all channels of some pixels, a few vectors of channels at a time; the last vector is moved back."""
    f = Function("task", target, ["fields", "task", "worker"])
    fields = _fields(rule.arrays, rule.numbers)
    channels, rows, per_part = fields.integers(f, "channels", "rows", "per_part")
    first = f.integer("task") * per_part
    last = (first + per_part).minimum(rows)
    done = f.number(0)
    for together in (CHAINS, 1):
        wide = together * lanes
        stop = channels // wide * wide if together > 1 else channels
        for start in f.loop(done, stop, wide):
            channel = start if together > 1 else start.minimum(channels - lanes)
            keys = [(o, v) for o in range(rule.outputs) for v in range(together)]
            sums = Registers({key: f.zero(element, lanes) for key in keys})
            numbers = [
                [
                    fields.pointer(f, f"number_{i}", element).at(channel + v * lanes).load(lanes)
                    for i in range(rule.numbers)
                ]
                for v in range(together)
            ]
            for row in f.loop(first, last, carry=[sums]):
                places = [
                    fields.pointer(f, f"array_{i}", element).at_bytes(row * fields.integer(f, f"picture_{i}"))
                    for i in range(rule.arrays)
                ]
                for v in range(together):
                    values = [place.at(channel + v * lanes).load(lanes) for place in places]
                    for o, term in enumerate(rule.terms(values, numbers[v])):
                        sums[o, v] = sums[o, v] + term
            for o, v in keys:
                _place(f, fields, rule, element, o, last=True).at(channel + v * lanes).store(sums[o, v])
        done = f.number(0) + stop
    return f


def _place(f: Function, fields: Fields, rule: Sum, element: str, output: int, *, last: bool = False) -> Pointer:
    """Where a part's sums of all channels lie."""
    channels = fields.integer(f, "channels")
    part = f.integer("task") if last else f.integer("task") // channels
    return fields.pointer(f, "partial", element).at((part * rule.outputs + output) * channels)


def _all_lanes(vector: Vector) -> Vector:
    """The sum of all lanes, by halves."""
    while vector.lanes > 1:
        half = vector.lanes // 2
        low, high = (vector.shuffled(vector, range(start, start + half)) for start in (0, half))
        vector = low + high if half > 1 else vector.lane(0) + vector.lane(1)
    return vector
