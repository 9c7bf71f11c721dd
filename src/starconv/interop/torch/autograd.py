"""The three operations of a convolution as one torch.autograd.Function, whose derivatives are the same three.

With O = X ⋆ K, the number <G, X ⋆ K> is linear in each of G, X and K, and its derivatives with respect to them are the
convolution, the input gradient and the weight gradient. So whichever of X, K, O an operation seeks, given two of them,
its derivative with respect to a given one seeks that one, given the other and the result's gradient. This closes the
circle: backward is made of differentiable operations, and derivatives of any order exist.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from ...engine.plan import Plan
from ...engine.planner import make_plan, wisdom_state
from ...problem import Problem
from .teams import torchs_threads

__all__ = ["apply"]

_GIVEN = {"conv": ("x", "w"), "input_grad": ("o", "w"), "weight_grad": ("x", "o")}
"""What an operation is given, in the order in which plans take it."""
_SOUGHT = {"conv": "o", "input_grad": "x", "weight_grad": "w"}
_SEEKS = {sought: operation for operation, sought in _SOUGHT.items()}
_MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def apply(problem: Problem, first: torch.Tensor, second: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The operation of `problem` on tensors of its shapes and dtype, differentiable with respect to all of them.

    `problem` says nothing of memory: layouts are the tensors', whether there is a bias says `bias`.
    """
    return _Convolution.apply(first, second, bias, problem)


class _Convolution(torch.autograd.Function):
    """(first, second, bias, problem) to the result; see the module's text."""

    # Not with a setup_context of its own: torch then takes 50 µs per call to sort out the arguments.
    @staticmethod
    def forward(
        ctx: Any, first: torch.Tensor, second: torch.Tensor, bias: torch.Tensor | None, problem: Problem
    ) -> torch.Tensor:
        """Compute."""
        ctx.problem = problem
        needs_first, needs_second = ctx.needs_input_grad[:2]
        # What is only needed for the derivative that nobody asks for is not kept alive.
        ctx.save_for_backward(first if needs_second else None, second if needs_first else None)
        ctx.save_for_forward(first, second)
        return _computed(problem, first, second, bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The derivatives that are needed, by the two other operations."""
        problem: Problem = ctx.problem
        first, second = _GIVEN[problem.operation]
        known = dict(zip((first, second), ctx.saved_tensors, strict=True)) | {_SOUGHT[problem.operation]: grad}

        def derivative(sought: str) -> torch.Tensor:
            operation = _SEEKS[sought]
            one, other = _GIVEN[operation]
            return apply(problem.with_operation(operation), known[one], known[other], None)

        needs_first, needs_second, needs_bias, _ = ctx.needs_input_grad
        return (
            derivative(first) if needs_first else None,
            derivative(second) if needs_second else None,
            grad.sum((0, *range(2, grad.dim()))) if needs_bias else None,
            None,
        )

    @staticmethod
    def jvp(
        ctx: Any,
        first_tangent: torch.Tensor | None,
        second_tangent: torch.Tensor | None,
        bias_tangent: torch.Tensor | None,
        _: None,
    ) -> torch.Tensor | None:
        """The directional derivative: linear in each operand."""
        first, second = ctx.saved_tensors
        parts = []
        if first_tangent is not None:
            parts.append(apply(ctx.problem, first_tangent, second, bias_tangent))
        if second_tangent is not None:
            parts.append(apply(ctx.problem, first, second_tangent, None if parts else bias_tangent))
        if not parts and bias_tangent is not None:
            shape = ctx.problem.result_shape
            return bias_tangent.reshape(-1, *[1] * (len(shape) - 2)).expand(shape)
        return sum(parts) if parts else None


def _computed(problem: Problem, first: torch.Tensor, second: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The result in memory of torch's; the operands are read where they lie, whatever their strides."""
    is_weight = problem.operation == "weight_grad"
    last = _channels_last(first) or (is_weight and _channels_last(second))
    plan = _plan(problem, last, bias is not None, wisdom_state())
    shape = plan.shapes.result
    memory_format = _MEMORY_FORMATS[len(shape)] if last and not is_weight else torch.contiguous_format
    result = torch.empty(shape, dtype=first.dtype, memory_format=memory_format)
    operands = _array(first), _array(second), None if bias is None else _array(bias)
    with torchs_threads():
        plan(*operands, out=result.numpy())
    return result


@lru_cache(maxsize=4096)
def _plan(problem: Problem, channels_last: bool, bias: bool, state: int) -> Plan:
    return make_plan(replace(problem, channels_last=channels_last, bias=bias))


def _channels_last(tensor: torch.Tensor) -> bool:
    """Whether `tensor`, a crop of one included, is in torch's channels_last format; which a line (N, C, W) never is."""
    if tensor.dim() not in _MEMORY_FORMATS or tensor.is_contiguous():
        return False
    step, *steps = tensor.stride()[1:]
    channels = tensor.shape[1]
    return step == 1 and channels > 1 and min(steps) >= channels


def _array(tensor: torch.Tensor) -> Any:
    """The memory of `tensor` as a NumPy array."""
    return tensor.detach().resolve_neg().numpy()
