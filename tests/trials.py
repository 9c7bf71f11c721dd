"""Random problems by the thousand, every array between guard pages, in a process of its own: ``python trials.py ...``.

One trial draws a problem (of three, one is a gradient's), operands of any dtype and any strides, and an ``out``; runs
every algorithm on every target of this machine, or some of them; and asks that

* the NumPy path says the same, to the last bit for whole numbers;
* nothing outside x, w, b, out and the scratch memory is read or written: one byte too far and the process dies;
* neither scratch memory that was never written (it starts as NaN) nor the gaps of a strided `out` play a part;
* the bits do not depend on the number of threads; and those of `direct` are those of `stencil`.

The process names its trial in a file before it starts it, so that whoever started the process knows what it died of.
"""

import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from guarded import guarded
from strategies import GROUP_CHANNELS, Array, only_reorders, targets

from starconv import Problem, plan, set_num_threads
from starconv.engine import algorithms
from starconv.engine.algorithms import SPECIALS, TABLE, packed, panels
from starconv.engine.plan import Plan
from starconv.engine.runtime import jit, memory
from starconv.geometry import BORDERS, Axis

SAME_CHAIN = ("direct", "stencil", "channelwise", "planes", "product")
"""Rows that sum in the order channel, depth, row, column, and so agree in every bit."""


class TooManyModules(Exception):
    """The trials' budget of compilations, some 50 ms each, is used up; trials with known modules go on."""


def run_trials(seed: int, count: int, modules: int, seconds: float) -> str:
    """Run `count` trials in a process of its own, and give its report; raises AssertionError where one fails."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder, "trial")
        note.write_text("none")
        command = [sys.executable, "-W", "error", __file__, *map(str, (seed, count, modules, seconds, note))]
        # No object from an earlier run: what is tried must not depend on what was tried before.
        environment = os.environ | {"STARCONV_CACHE_DIR": "off"}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=seconds + 60
        )
        assert done.returncode == 0, f"exit {done.returncode} in {note.read_text()}\n{done.stderr}"
        return done.stdout


class GuardedScratch:
    """Scratch memory of exactly the size asked for, full of NaN, between guard pages."""

    at_end = True
    held = False

    def __init__(self, size: int) -> None:
        self.size = size
        self.array = guarded(np.full(size, 0xFF, np.uint8), end=self.at_end)
        self.address = int(self.array.ctypes.data)

    def __enter__(self) -> "GuardedScratch":
        return self

    def __exit__(self, *reason: object) -> None:
        pass


def guarded_aligned_empty(shape: int | tuple[int, ...], dtype: Any = np.float32) -> Array:
    """For panels of weights: see GuardedScratch."""
    return guarded(np.full(shape, -1 if np.dtype(dtype).kind == "i" else np.nan, dtype), end=GuardedScratch.at_end)


def laid_out(generator: np.random.Generator, array: Array, *, fill: int = 0xA5) -> tuple[Array, Array]:
    """`array` with its axes in any order in memory, some of them backwards or with gaps; and the memory as bytes."""
    order = np.arange(array.ndim)
    kind = generator.integers(5)
    if kind == 1:
        order = np.roll(order, -1)
        order = np.array([0, *range(2, array.ndim), 1]) if array.ndim > 1 else order
    elif kind == 2:
        order = generator.permutation(array.ndim)
    steps = generator.choice([1, 1, 2, 3], array.ndim) if kind == 3 else np.ones(array.ndim, int)
    backwards = generator.integers(2, size=array.ndim) if generator.integers(3) == 0 else np.zeros(array.ndim, int)
    sizes = [(array.shape[axis] - 1) * int(steps[axis]) + 1 for axis in order]
    room = np.full(int(np.prod(sizes)) * array.itemsize, fill, np.uint8).view(array.dtype).reshape(sizes)
    room = guarded(room, end=bool(generator.integers(2)))
    view = room[tuple(slice(None, None, int(steps[axis])) for axis in order)].transpose(np.argsort(order))
    view = view[tuple(slice(None, None, -1) if back else slice(None) for back in backwards)]
    view[...] = array
    return view, room


def like(array: Array) -> Array:
    """An array of the same strides, flush against a guard page at that end where `array` ends in memory."""
    order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    steps = [abs(array.strides[axis]) for axis in order]
    sizes = [array.shape[axis] for axis in order]
    span = sum((size - 1) * step for size, step in zip(sizes, steps, strict=True)) + array.itemsize
    room = guarded(np.full(span, 0xA5, np.uint8), end=GuardedScratch.at_end)
    view = np.lib.stride_tricks.as_strided(room[: array.itemsize].view(array.dtype), sizes, steps)
    view = view.transpose(np.argsort(order))
    return view[tuple(slice(None, None, -1 if step < 0 else 1) for step in array.strides)]


@dataclass(frozen=True)
class Family:
    """What code depends on. Trials are drawn from some of them, so that one compilation serves many."""

    operation: str
    steps: tuple[tuple[int, int, int], ...]  # (kernel, stride, dilation) per axis
    kernels: int
    groups: int
    dtype: str
    narrow: str
    channels_last: bool
    activation: str
    residual: bool
    separable: bool  # kernels and weights as the rows want them that the weights decide about


def pick(generator: np.random.Generator, *values: Any) -> Any:
    """One of `values`."""
    return values[generator.integers(len(values))]


OPERATIONS = ("conv", "input_grad", "conv", "weight_grad", "conv", "conv")
"""Of families, in turn: a third are gradients."""


def random_family(generator: np.random.Generator, operation: str) -> Family:
    """Kernels of any shape, of any number and for any type of x."""
    draw = partial(pick, generator)
    spatial = draw(1, 2, 2, 2, 3)
    steps = [(draw(1, 2, 3, 3, 3, 4, 5, 7), draw(1, 1, 1, 2, 3), draw(1, 1, 1, 2, 3)) for _ in range(spatial)]
    if spatial < 3 and generator.random() < 0.1:
        steps[-1] = (draw(9, 13, 16), *steps[-1][1:])
    dtype = draw("float32", "float32", "float64")
    narrow = draw(dtype, dtype, dtype, "int8", "uint8", "int16", "uint16", "int32")
    groups = draw(1, 1, 1, 2, 3, 8, 17)
    last, activation, residual = draw(False, False, True), draw("none", "relu", "relu6"), draw(False, False, True)
    kernels = draw(*GROUP_CHANNELS)
    if separable := operation == "conv" and generator.random() < 0.1:
        steps, last, kernels = [(draw(4, 5, 7, 9), 1, 1) for _ in range(2)], False, min(kernels, 3)
    if operation == "weight_grad":
        activation, residual = "none", False
    return Family(operation, tuple(steps), kernels, groups, dtype, narrow, last, activation, residual, separable)


def random_problem(generator: np.random.Generator, family: Family) -> Problem:
    """A small problem of `family`: any sizes, paddings, borders and channels."""
    draw = partial(pick, generator)
    while True:
        axes = []
        for kernel, stride, dilation in family.steps:
            before, after = (draw(0, 0, 1, 2, 3, 6) for _ in range(2))
            smallest = max(dilation * (kernel - 1) + 1 - before - after, 1)
            size = smallest + int(generator.integers({1: 200, 2: 40, 3: 8}[len(family.steps)]))
            axes.append(Axis(size, kernel, stride, before, after, dilation))
        channels = 1 if family.separable else draw(*GROUP_CHANNELS)
        if math.prod(axis.output * axis.kernel for axis in axes) * family.groups * channels * family.kernels <= 4e5:
            break
    return Problem(
        family.operation,
        draw(1, 1, 2, 3),
        channels * family.groups,
        family.kernels * family.groups,
        tuple(axes),
        family.groups,
        dtype=family.dtype,
        border=draw("constant", "constant", *BORDERS),
        channels_last=family.channels_last,
        bias=draw(False, True) and family.operation != "weight_grad",
        residual=family.residual,
        activation=family.activation,
        precision=draw("float32", "float32" if family.separable else "strict"),
    )


def compiled_plans(generator: np.random.Generator, problem: Problem, rows: Sequence[Any]) -> Iterator[tuple[str, Plan]]:
    """Plans of every compiled one of `rows` that takes `problem`, each for one target of this machine."""
    known = targets()
    target = known[generator.integers(len(known))]
    for row in rows:
        if target is not None and row.NAME != "numpy" and row.refuses(problem, target) is None:
            yield target.name, plan(problem, algorithm=row.NAME, target=target)


def trial(generator: np.random.Generator, family: Family, note: int) -> list[str]:
    """One problem, see the module's text; gives the algorithms that ran."""
    problem = random_problem(generator, family)
    integers = family.narrow != family.dtype or bool(generator.integers(2))

    def draw(shape: tuple[int, ...], dtype: str) -> Array:
        if integers:
            return generator.integers(0 if dtype.startswith("u") else -4, 5, shape).astype(dtype)
        return generator.standard_normal(shape).astype(dtype)

    first_shape, second_shape = problem.operand_shapes
    x, _ = laid_out(generator, draw(first_shape, family.narrow))
    weights = draw(second_shape, problem.dtype)
    if family.separable:
        weights = weights[:, :, :, :1] * weights[:, :, :1]
    w, _ = laid_out(generator, weights)
    b = guarded(draw(problem.result_shape[1:2], problem.dtype)) if problem.bias else None
    added = guarded(draw(problem.result_shape, problem.dtype)) if problem.residual else None
    filled = problem.border == "constant" and problem.operation == "conv"
    fill = float(generator.integers(3)) if filled else 0.0
    threads = int(generator.integers(2, 6))
    GuardedScratch.at_end = bool(generator.integers(2))
    text = f"{problem} | x {x.dtype} strides {x.strides}, w strides {w.strides}, fill {fill}, {threads} threads"
    answer: Array | None = None
    chain: bytes | None = None
    ran = []
    for target, chosen in compiled_plans(generator, problem, (*TABLE, *SPECIALS) if family.separable else TABLE):
        out, room = laid_out(generator, np.zeros(problem.result_shape, problem.dtype))
        before = room.view(np.uint8).copy()
        residual, rest = added, {}
        if added is not None:
            # Where the result goes, like the result, or lying in another way.
            where = generator.integers(3)
            residual = out if where == 0 else like(out) if where == 1 else laid_out(generator, added)[0]
            residual[...] = added
            rest = {"residual": residual}
        special = "" if chosen.special is None else f"{chosen.special.candidate.name} or "
        what = f"{special}{chosen.algorithm} for {target}: {text}, out strides {out.strides}"
        os.pwrite(note, what.encode().ljust(1000), 0)
        set_num_threads(1)
        try:
            prepared = chosen.prepare(w, b, fill=fill)
            result = prepared(x, out=out, casting="unsafe", **rest).copy()
        except TooManyModules:
            continue
        ran.append(chosen.algorithm)
        if answer is None:
            answer = plan(problem, algorithm="numpy")(x, w, b, fill=fill, residual=added, casting="unsafe")
        if integers and only_reorders(chosen):
            assert np.array_equal(result, answer), f"{what}: wrong by {np.abs(result - answer).max()}"
        else:
            assert np.abs(result - answer).max() <= 1e-3 * max(np.abs(answer).max(), 1), what
        out[...] = 0
        assert np.array_equal(room.view(np.uint8), before), f"{what}: written beside out"
        set_num_threads(threads)
        try:
            again = chosen(x, w, b, fill=fill, residual=added, casting="unsafe")
        except TooManyModules:  # a single call may read its weights in place, by another module
            continue
        assert again.tobytes() == result.tobytes(), f"{what}: other bits with {threads} threads"
        if prepared.algorithm in SAME_CHAIN:
            chain = result.tobytes() if chain is None else chain
            assert result.tobytes() == chain, f"{what}: other bits than {SAME_CHAIN[0]}"
    return ran


def main(seed: int, count: int, modules: int, seconds: float, note: str) -> None:
    """Run the trials and print how many were run."""
    memory.scratch = GuardedScratch  # type: ignore[assignment, misc]
    memory.aligned_empty = guarded_aligned_empty
    packed.HELD_SCRATCH = -1
    panels._SERIAL_BYTES = -1  # all panels in aligned memory, and by several threads
    for module in vars(algorithms).values():  # small problems by several threads too
        if hasattr(module, "SERIAL_PRODUCTS"):
            module.SERIAL_PRODUCTS = 4
    compile_object, compiled = jit.compile_object, 0

    def counted(*arguments: str) -> bytes:
        nonlocal compiled
        if compiled >= modules:
            raise TooManyModules
        compiled += 1
        return compile_object(*arguments)

    jit.compile_object = counted
    generator, start = np.random.default_rng(seed), time.monotonic()
    families = [random_family(generator, OPERATIONS[number % 6]) for number in range(max(modules // 8, 1))]
    file = os.open(note, os.O_RDWR)
    done, plans = 0, Counter[str]()
    while done < count and time.monotonic() - start < seconds:
        ran = trial(generator, pick(generator, *families), file)
        done += bool(ran)
        plans.update(ran)
    by_row = ", ".join(f"{name} {times}" for name, times in plans.most_common())
    print(f"{done} problems, {plans.total()} plans ({by_row}), {compiled} modules in {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
