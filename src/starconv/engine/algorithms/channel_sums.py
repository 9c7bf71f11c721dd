"""What both weight gradients of depthwise layers share: what they refuse, how sums are cut, and adding them up."""

from ...problem import Problem
from ..descriptor import Fields
from ..emit.ir import ITEMSIZES, Function, Registers, Vector
from ..emit.target import Target
from .gradient_solution import tasks_wanted
from .refusals import refuses_depthwise

__all__ = ["MOST_SUMS", "emit_reduce", "partial_sums", "refuses_gradient", "rows_at_once"]

MOST_SUMS = 12
"""Taps whose sums are in registers at one time."""
TASK_PRODUCTS = 1 << 16
"""Multiply-adds that a task should have at least."""


def refuses_gradient(problem: Problem, target: Target | None) -> str | None:
    """Why not: only depthwise weight gradients in floating point."""
    refusal = refuses_depthwise("weight_grad", problem, target)
    if refusal is not None:
        return refusal
    if problem.axes[-1].kernel > MOST_SUMS:
        return f"a kernel of {problem.axes[-1].kernel} columns has more than {MOST_SUMS} sums per row"
    return None


def rows_at_once(taps: tuple[int, int]) -> int:
    """Rows of a kernel whose sums are in registers at one time, in passes that are as even as can be."""
    down, across = taps
    passes = -(-down // (MOST_SUMS // across))
    return -(-down // passes)


def partial_sums(problem: Problem, blocks: int, units: int) -> int:
    """How many each of `blocks` blocks of channels has: of a range of the `units` each, decided by the shape alone."""
    return max(min(-(-tasks_wanted(problem, TASK_PRODUCTS) // blocks), units), 1)


def emit_reduce(target: Target, element: str, fields: Fields, vectors: int, taps: int) -> Function:
    """The task function "reduce"; among the `fields` are blocks (of so many vectors), partials, channels, sums, out."""
    f = Function("reduce", target, ["fields", "task", "worker"])
    lanes = target.lanes(ITEMSIZES[element])
    width = vectors * lanes
    number, blocks, partials = f.integer("task"), *fields.integers(f, "blocks", "partials")
    channel = (number * width).minimum(fields.integer(f, "channels") - width)
    sums, out = fields.pointer(f, "sums", element), fields.pointer(f, "out", element).at(channel * taps)
    buffer = f.buffer(element, lanes)
    for tap in f.loop(taps):
        for v in f.loop(vectors):
            place = sums.at((number * taps + tap) * width + v * lanes)
            total: Registers = Registers({0: place.load(lanes)})
            for partial in f.loop(1, partials, carry=[total]):
                other: Vector = place.at(partial * blocks * (taps * width)).load(lanes)
                total[0] = total[0] + other
            buffer.store(total[0])
            for k in f.loop(lanes):
                out.at((v * lanes + k) * taps + tap).store(buffer.at(k).load())
    return f
