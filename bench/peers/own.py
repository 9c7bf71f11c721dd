"""starconv's own ways of calling: the function, the filter function and a plan with prepared weights."""

# ruff: noqa: D102  (what the methods mean, Entrant says)
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import starconv as sc
from starconv.problem import Problem

from ..shapes import Operands, channels_last
from .entrant import Entrant, is_filter

PADDING_MODES = {
    "constant": "zeros",
    "edge": "replicate",
    "reflect": "reflect",
    "wrap": "circular",
    "symmetric": "symmetric",
}
NDIMAGE_MODES = {"constant": "constant", "edge": "nearest", "reflect": "mirror", "wrap": "wrap", "symmetric": "reflect"}
PATIENCE = 2.0
"""Seconds. A row whose plan predicts more (on the NumPy path) is left out."""


def set_threads(threads: int) -> None:
    """Tell starconv, if it has a pool of threads to tell."""
    getattr(sc, "set_num_threads", lambda count: None)(threads)


def too_slow(problem: Problem) -> str | None:
    """A reason to leave the row out where the plan itself predicts that it takes too long."""
    plan = sc.plan(problem)
    seconds = next(row.seconds for row in plan.candidates if row.name == plan.algorithm)
    return f"{plan.algorithm} predicts {seconds:.3g} s" if seconds > PATIENCE else None


class Call(Entrant):
    """``starconv.conv2d(x, w, ...)`` or ``starconv.grad.conv2d_input`` and ``conv2d_weight``."""

    name = "starconv call"
    module = "starconv"
    ours = True

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        if problem.operation != "conv" and (
            problem.bias or problem.border != "constant" or problem.activation != "none"
        ):
            return "the gradient functions have no bias, border or activation"
        return too_slow(problem)

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        set_threads(threads)
        axes = problem.axes
        first, second, bias = operands.first, operands.second, operands.bias
        name = f"conv{problem.spatial}d"
        geometry = (
            tuple(axis.stride for axis in axes),
            tuple((axis.before, axis.after) for axis in axes),
            tuple(axis.dilation for axis in axes),
            problem.groups,
        )
        if problem.operation == "input_grad":
            gradient = getattr(sc.grad, name + "_input")
            return lambda: gradient(problem.input_shape, second, first, *geometry)
        if problem.operation == "weight_grad":
            gradient = getattr(sc.grad, name + "_weight")
            return lambda: gradient(first, problem.weight_shape, second, *geometry)
        convolve = getattr(sc, name)
        options = {"padding_mode": PADDING_MODES[problem.border], "precision": problem.precision}
        if problem.activation == "none":
            return lambda: convolve(first, second, bias, *geometry, **options)

        def with_relu() -> Any:
            result = convolve(first, second, bias, *geometry, **options)
            return np.maximum(result, 0, out=result)

        return with_relu


class CallChannelsLast(Call):
    """The same with arrays whose channels lie side by side in memory, as those of torch's channels_last do."""

    name = "starconv call channels_last"

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        return no_channels_last(problem) or super().refuses(problem, operands)

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        return super().ready(problem, laid_last(operands), threads)


class Correlate(Entrant):
    """``starconv.correlate(picture, kernel, output)``, scipy.ndimage's function."""

    name = "starconv correlate"
    module = "starconv"
    ours = True

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        return too_slow(problem) if is_filter(problem) else "no filter of one channel"

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        set_threads(threads)
        picture, kernel = operands.first[0, 0], operands.second[0, 0]
        output = np.empty_like(picture)
        return lambda: sc.correlate(picture, kernel, output, NDIMAGE_MODES[problem.border])

    def array(self, result: Any) -> np.ndarray:
        return result[np.newaxis, np.newaxis]


class Prepared(Entrant):
    """``starconv.plan(problem, prepared=True).prepare(w, b)``, called with x and an array for the result."""

    name = "starconv plan"
    module = "starconv"
    ours = True
    prepared = True

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        return too_slow(problem)

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        set_threads(threads)
        prepared = sc.plan(problem, prepared=True).prepare(operands.second, operands.bias)
        first, out = operands.first, prepared(operands.first)
        return lambda: prepared(first, out=out)


class PreparedChannelsLast(Prepared):
    """The same for arrays whose channels lie side by side."""

    name = "starconv plan channels_last"

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        return no_channels_last(problem) or super().refuses(problem, operands)

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        return super().ready(replace(problem, channels_last=True), laid_last(operands), threads)


def no_channels_last(problem: Problem) -> str | None:
    """Why a row has no second layout, or None."""
    if problem.spatial == 1:
        return "no channels_last for one axis"
    if problem.channels_last:
        return "the row itself has its channels last"
    return "one channel lies the same way in both layouts" if problem.in_channels == 1 else None


def laid_last(operands: Operands) -> Operands:
    """Both operands, (N, C, ...) as before, with their channels last in memory."""
    return replace(operands, first=channels_last(operands.first), second=channels_last(operands.second))
