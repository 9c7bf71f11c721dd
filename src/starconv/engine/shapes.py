"""The shapes of results that need no computing, by operator; of all others one is computed, from ones."""

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import ArgumentValueError, StarconvError
from ..nets.graph import Node
from .operations import Info

__all__ = ["shape_of"]

Rule = Callable[[Node, int, Sequence[Info]], Info | None]


def shape_of(node: Node, opset: int, infos: Sequence[Info]) -> Info | None:
    """The one result of `node` for inputs of these forms; None where there is no rule, or it has an objection.

    Raises:
        ArgumentValueError: shapes that do not broadcast.
    """
    rule = RULES.get(node.op)
    return None if rule is None or not infos or len(node.outputs) != 1 else rule(node, opset, infos)


def _same(node: Node, opset: int, infos: Sequence[Info]) -> Info | None:
    return infos[0]


def _broadcast(node: Node, opset: int, infos: Sequence[Info]) -> Info | None:
    if len({info.dtype for info in infos}) != 1:
        return None
    try:
        return Info(np.broadcast_shapes(*(info.shape for info in infos)), infos[0].dtype)
    except ValueError:
        raise ArgumentValueError("graph", [info.shape for info in infos], "shapes that broadcast") from None


def _pool(node: Node, opset: int, infos: Sequence[Info]) -> Info | None:
    from ..nets.operators import LARGEST
    from ..nets.operators.table import Call, Refusal
    from ..nets.operators.windows import pool_axes

    x = infos[0]
    if len(infos) > 1 or x.dtype.kind != "f":
        return None
    try:
        axes = pool_axes(Call(node, opset, LARGEST), np.broadcast_to(np.zeros((), x.dtype), x.shape))
    except (Refusal, StarconvError):
        return None
    return Info((*x.shape[:2], *(axis.output for axis in axes)), x.dtype)


def _global_pool(node: Node, opset: int, infos: Sequence[Info]) -> Info | None:
    x = infos[0]
    if len(infos) > 1 or len(x.shape) < 3 or 0 in x.shape or x.dtype.kind != "f":
        return None
    return Info((*x.shape[:2], *[1] * (len(x.shape) - 2)), x.dtype)


def _concat(node: Node, opset: int, infos: Sequence[Info]) -> Info | None:
    first, axis = infos[0], node.attributes.get("axis")
    axes = len(first.shape)
    if not isinstance(axis, int) or not -axes <= axis < axes:
        return None
    place = axis % axes
    around = {(info.dtype, info.shape[:place], info.shape[place + 1 :]) for info in infos}
    if len(around) != 1:
        return None
    total = sum(info.shape[place] for info in infos)
    return Info((*first.shape[:place], total, *first.shape[place + 1 :]), first.dtype)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _broadcast),
    **dict.fromkeys(
        ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Softmax", "Elu", "Erf", "Clip", "Exp"),
        _same,
    ),
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool"), _global_pool),
    "Concat": _concat,
}
