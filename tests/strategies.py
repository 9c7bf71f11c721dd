"""Hypothesis strategies for whole problems, operands of every kind for them, and every algorithm that takes them.

Shapes are drawn by hypothesis, so that they shrink; the numbers in the arrays come from a generator seeded by it.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from starconv import Plan, Problem, plan, reference
from starconv.engine.algorithms import SPECIALS
from starconv.engine.algorithms.rounding import sum_bound
from starconv.engine.emit.target import LEVELS, Target, host_target, named_target, runs_here
from starconv.engine.runtime import jit
from starconv.geometry import BORDERS, Axis
from starconv.problem import ACTIVATION_LIMITS, DTYPES, OPERATIONS, SMOOTH_ACTIVATIONS

Array = np.ndarray[Any, np.dtype[Any]]

GROUP_CHANNELS = (1, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33)
"""Per group: one, and the sizes around the vectors and register tiles of native kernels, which divide and do not."""
MAX_WORK = 150_000
"""Multiply-adds of a drawn problem; the reference stays quick and float32 sums of small integers exact."""
MAX_WINDOWS = 600
"""Output positions times groups: the reference takes a Python step for each."""

seeds = st.integers(0, 2**32 - 1)


def examples(factor: float) -> settings:
    """Settings with `factor` times the profile's number of examples, so that every profile scales every test."""
    return settings(max_examples=round(factor * settings.default.max_examples))


@st.composite
def axes(draw: st.DrawFn, *, border: str = "constant", transposed: bool = False, longest: int = 12) -> Axis:
    """One valid axis. `transposed`: also the negative padding that an output padding of a stride or more leads to."""
    kernel = draw(st.integers(1, 4))
    stride = draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 3))
    before, after = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    if transposed and dilation > stride and draw(st.booleans()):
        after -= draw(st.integers(stride, dilation - 1))
    extent = dilation * (kernel - 1) + 1
    smallest = max(extent - before - after, 0 if border == "constant" and after >= 0 and not transposed else 1)
    size = draw(st.integers(smallest, max(longest, smallest + 3)))
    return Axis(size, kernel, stride, before, after, dilation)


@st.composite
def problems(
    draw: st.DrawFn,
    *,
    spatial: Sequence[int] = (1, 2, 3),
    operations: Sequence[str] = OPERATIONS,
    dtypes: Sequence[str] = DTYPES,
    borders: Sequence[str] = BORDERS,
    residuals: bool = False,
    smooth: bool = False,
) -> Problem:
    """A valid problem: strides, a padding per side, dilations, groups, borders, bias, activation, batches of 0 and 1.

    With `residuals` some have a residual, which calls must then be given; with `smooth` some have an activation that is
    not exact on whole numbers.
    """
    operation = draw(st.sampled_from(operations))
    border = draw(st.sampled_from(("constant", *borders)) if "constant" in borders else st.sampled_from(borders))
    count = draw(st.sampled_from(spatial))
    one = axes(border=border, transposed=operation == "input_grad", longest={1: 40, 2: 12, 3: 6}[count])
    geometry = tuple(draw(st.lists(one, min_size=count, max_size=count)))
    windows = math.prod(axis.output for axis in geometry)
    taps = math.prod(axis.kernel for axis in geometry)
    batch = draw(st.sampled_from([1, 1, 1, 2, 2, 3, 0]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 8, 17]))
    if groups * windows > MAX_WINDOWS:
        groups = 1
    work = max(batch, 1) * groups * windows * taps
    per_group = draw(st.sampled_from([c for c in GROUP_CHANNELS if c == 1 or c * work <= MAX_WORK]))
    kernels = draw(st.sampled_from([c for c in GROUP_CHANNELS if c == 1 or c * per_group * work <= MAX_WORK]))
    finish, dtype = operation != "weight_grad", draw(st.sampled_from(dtypes))
    activations = [*ACTIVATION_LIMITS, *(SMOOTH_ACTIVATIONS if smooth and dtype != "int64" else ())]
    return Problem(
        operation,
        batch,
        per_group * groups,
        kernels * groups,
        geometry,
        groups,
        dtype=dtype,
        border=border,
        channels_last=draw(st.booleans()),
        bias=finish and draw(st.booleans()),
        residual=finish and residuals and draw(st.booleans()),
        activation=draw(st.sampled_from(["none", "none", *activations])) if finish else "none",
        precision=draw(st.sampled_from(["float32", "strict"])),
    )


@st.composite
def separable_problems(draw: st.DrawFn) -> Problem:
    """Filters of one channel each, as the rows take them that the weights decide about."""
    sizes, kernels = ([draw(st.integers(low, high)) for _ in range(2)] for low, high in ((9, 40), (4, 9)))
    pads = [draw(st.integers(0, 8)) for _ in range(4)]
    geometry = tuple(
        Axis(size, kernel, 1, before, after)
        for size, kernel, before, after in zip(sizes, kernels, pads[:2], pads[2:], strict=True)
    )
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    return Problem(
        "conv",
        draw(st.integers(1, 2)),
        groups,
        groups * draw(st.integers(1, 2)),
        geometry,
        groups,
        dtype=draw(st.sampled_from(["float32", "float64"])),
        border=draw(st.sampled_from(BORDERS)),
        bias=draw(st.booleans()),
        residual=draw(st.booleans()),
        activation=draw(st.sampled_from(["none", "relu", "relu6", "silu"])),
    )


@dataclass(frozen=True)
class Operands:
    """What one call takes: both operands, the bias, the value of constant padding, and the residual."""

    first: Array
    second: Array
    bias: Array | None
    fill: float = 0.0
    residual: Array | None = None

    def absolute(self) -> "Operands":
        """The absolute values: their result is what rounding errors are measured by."""
        bias, residual = (None if array is None else np.abs(array) for array in (self.bias, self.residual))
        return Operands(np.abs(self.first), np.abs(self.second), bias, abs(self.fill), residual)


def operands(problem: Problem, seed: int, *, integers: bool = True, fill: float = 0.0) -> Operands:
    """Operands of `problem`: whole numbers from -4 to 4, whose sums are exact in any order, or random fractions."""
    generator = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> Array:
        if integers or problem.dtype == "int64":
            return generator.integers(-4, 5, shape).astype(problem.dtype)
        # Magnitudes over three decades, so that a sum in another order differs in its last bits.
        return (generator.standard_normal(shape) * 10.0 ** generator.uniform(-2, 1, shape)).astype(problem.dtype)

    first, second = (draw(shape) for shape in problem.operand_shapes)
    takes_fill = problem.operation == "conv" and problem.border == "constant"
    bias = draw((problem.result_shape[1],)) if problem.bias else None
    residual = draw(problem.result_shape) if problem.residual else None
    return Operands(first, second, bias, fill if takes_fill else 0.0, residual)


def expected(problem: Problem, given: Operands) -> Array:
    """The definition's result, in float64."""
    if problem.operation == "conv":
        finish = {"fill": given.fill, "residual": given.residual}
        return reference.convolution(problem, given.first, given.second, given.bias, **finish)
    if problem.operation == "input_grad":
        return reference.input_gradient(problem, given.first, given.second, given.bias, residual=given.residual)
    return reference.weight_gradient(problem, given.first, given.second)


def error_scale(problem: Problem, given: Operands) -> Array:
    """The sum of all absolute values, of products, bias and residual: what rounding errors are relative to."""
    return expected(replace(problem, activation="none"), given.absolute())


def error_bound(problem: Problem, given: Operands) -> Array:
    """How far a sum in the problem's dtype, in any order, may lie from the definition's float64 one, by element.

    N. Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1, for as many terms as there are; operands
    of ones count them. Denormals may count as zero.
    """
    if problem.dtype == "int64":
        return np.zeros(problem.result_shape)
    limits, wide = np.finfo(problem.dtype), np.finfo(np.float64)
    ones = Operands(*map(np.ones, problem.operand_shapes), bias=None, fill=1.0)
    terms = error_scale(replace(problem, bias=False, residual=False), ones) + 3
    bound = 1.01 * terms * (limits.eps / 2 + wide.eps / 2) * error_scale(problem, given) + terms * limits.tiny
    if problem.activation in SMOOTH_ACTIVATIONS:
        # Nowhere steeper than 1.1 (SiLU) and 1.5 (hard swish), and computed with some roundings of its own.
        return 1.5 * bound + 8 * limits.eps * np.abs(expected(problem, given)) + limits.tiny
    return bound


VIEWS: dict[str, Callable[[Array], Array]] = {}
"""By name: the same values, lying in memory in another way."""


def _view(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    VIEWS[function.__name__] = function
    return function


@_view
def contiguous(array: Array) -> Array:
    return np.ascontiguousarray(array).copy()


@_view
def transposed(array: Array) -> Array:
    return np.asfortranarray(array)


@_view
def channels_last(array: Array) -> Array:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, min(1, array.ndim - 1), -1)), -1, min(1, array.ndim - 1))


@_view
def reversed_steps(array: Array) -> Array:
    back = (slice(None, None, -1),) * array.ndim
    return array[back].copy()[back]


@_view
def sliced(array: Array) -> Array:
    """Every second element of an array whose other elements would spoil any result that reads them."""
    room = _spoiled(tuple(2 * size + 3 for size in array.shape), array.dtype)
    inner = room[tuple(slice(2, 2 + 2 * size, 2) for size in array.shape)]
    inner[...] = array
    return inner


@_view
def read_only(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


@_view
def misaligned(array: Array) -> Array:
    memory = np.empty(array.nbytes + 1, np.uint8)[1:]
    view = memory.view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def broadcast(array: Array) -> Array:
    """Another array, constant along its first axis by a stride of 0. Not in VIEWS, because its values differ."""
    return np.broadcast_to(array[:1], array.shape) if len(array) else array


def outputs(shape: tuple[int, ...], dtype: str) -> Iterator[tuple[str, Array, Array]]:
    """Arrays to write a result to, by name, each with the array around it, in which nothing else may change."""
    for name, view in VIEWS.items():
        if name == "sliced":
            room = _spoiled(tuple(2 * size + 3 for size in shape), np.dtype(dtype))
            yield name, room[tuple(slice(2, 2 + 2 * size, 2) for size in shape)], room
        elif name != "read_only":
            out = view(_spoiled(shape, np.dtype(dtype)))
            yield name, out, out


def _spoiled(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return np.full(shape, np.nan if dtype.kind in "fc" else np.iinfo(dtype).min if dtype.kind in "iu" else 1, dtype)


def _runnable() -> list[Target]:
    """Every kind of processor whose code runs here, the best first; AVX-512 also with vectors of half the width."""
    found = [named_target(name) for name in LEVELS if jit.available() is None and runs_here(name)]
    return [kind for one in found for kind in ([one, one.halved()] if one.name == "avx512" else [one])]


TARGETS = _runnable()


def targets() -> list[Target | None]:
    """The kinds of processor whose code this machine can run; None alone where it can have no compiled code."""
    return [*TARGETS] if host_target() else [None]


def every_algorithm(problem: Problem, *, on: Sequence[Target | None] = ()) -> Iterator[Plan]:
    """A plan for every row of the table that takes `problem`, in the table's order.

    On one target unless told otherwise: the problem itself decides on which, so that all targets have their turn.
    """
    known = targets()
    for target in on or [known[zlib.crc32(str(problem).encode()) % len(known)]]:
        for candidate in plan(problem, target=target).candidates:
            if candidate.refusal is None:
                yield plan(problem, algorithm=candidate.name, target=target)
        for row in SPECIALS:  # which compute where the weights allow it; else the plan's own choice does
            if row.refuses(problem, target) is None:
                yield plan(problem, algorithm=row.NAME, target=target)


def declared_bound(chosen: Plan) -> float:
    """The largest error that the algorithm admits, relative to the sum of the products' absolute values."""
    bound = next(row.error_bound for row in chosen.candidates if row.name == chosen.algorithm)
    return bound if chosen.special is None else max(bound, chosen.special.candidate.error_bound)


def only_reorders(chosen: Plan) -> bool:
    """Whether the algorithm forms the definition's sum, only in another order.

    Then it is exact on small whole numbers, and a NaN stays where the geometry says. Others (Winograd, FFT) admit a
    larger error than a sum can have, and mix the elements of a tile.
    """
    return declared_bound(chosen) <= sum_bound(chosen.problem)
