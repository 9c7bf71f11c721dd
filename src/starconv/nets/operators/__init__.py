"""What the nodes of a graph mean: ONNX's operators, in NumPy and starconv's own functions.

`run_node` is the meaning that compiled programs are tested against, and what they fall back to. Source of all
formulas: ONNX Operator Schemas, https://onnx.ai/onnx/operators, versions 7 and newer.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ...engine.runtime.machine import usable_memory
from ...errors import StarconvError
from ..graph import Node
from . import elementwise, moving, normalization, products, reductions, resizing, windows
from .table import DTYPES, TABLE, Array, Call, NodeError, Refusal

__all__ = ["DTYPES", "LARGEST", "SUPPORTED", "NodeError", "most_memory", "run_node"]

SUPPORTED = frozenset(TABLE)
"""Names of the operators that are there."""
LARGEST = 2**31
"""Bytes that one value may take unless the caller says otherwise: a file of a few bytes can ask for any size."""


@lru_cache(maxsize=16)
def most_memory(largest: int = LARGEST) -> int:
    """Bytes that all values of a network may take at the same time unless the caller says otherwise.

    Four times what one value may take, 8 GiB unless the caller lets it take more: a layer needs its input, its result
    and a residual, and what waits beside them for later layers is smaller, as in a U-Net, whose levels together are 4/3
    of the first. But not more than half of the memory of the machine or of the process's control group: the rest is for
    weights, which are there as they came and as kernels read them, and for what an operator needs besides its result.
    """
    bound = 4 * max(largest, LARGEST)
    there = usable_memory()
    return bound if there is None else min(bound, there // 2)


assert all((elementwise, moving, normalization, products, reductions, resizing, windows))  # they fill the table


def run_node(
    node: Node, inputs: Sequence[Array | None], opset: int, *, largest: int = LARGEST, left: int | None = None
) -> list[Array]:
    """The outputs of `node` for `inputs`, None standing for those that are left out.

    Args:
        node: which operator, with which attributes.
        inputs: as many as `node.inputs`.
        opset: the version of ONNX's operators that the node follows.
        largest: bytes that one output may take.
        left: bytes that all outputs together may take, if there is a limit.

    Raises:
        NodeError: an operator that is not there, or inputs and attributes that it cannot work with.

    >>> run_node(Node("Relu", "relu", ("x",), ("y",)), [np.array([-1.0, 2.0])], 21)
    [array([0., 2.])]
    """
    row = TABLE.get(node.op)
    try:
        if row is None:
            raise Refusal("there is no such operator in starconv")
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        if row.most is not None and len(given) > row.most:
            raise Refusal(f"at most {row.most} inputs are known")
        if len(given) < row.needed or any(value is None for value in given[: row.needed]):
            raise Refusal(f"at least {row.needed} inputs are needed")
        there = [value for value in given if value is not None]
        if there and there[0].dtype.kind not in row.kinds:
            raise Refusal(f"{there[0].dtype} is not a type that it takes")
        if row.alike and any(value.dtype != there[0].dtype for value in there):
            raise Refusal("all inputs should have the same type")
        call = Call(node, opset, largest, left)
        with np.errstate(all="ignore"):
            results = row.run(call, *given)
        outputs = [np.asarray(result) for result in (results if isinstance(results, tuple) else (results,))]
        if len(outputs) < len(node.outputs):
            raise Refusal(f"{len(node.outputs)} outputs are asked for, it has {len(outputs)}")
        # What is no larger than the inputs, operators do not ask for.
        call.fits(sum(output.nbytes for output in outputs[: len(node.outputs)]), "its result")
        return outputs[: len(node.outputs)]
    except (Refusal, StarconvError, ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError) as error:
        reason = str(error)
    except MemoryError as error:
        reason = f"not enough memory ({error})"
    came_in = ", ".join("nothing" if value is None else f"{value.dtype} {value.shape}" for value in inputs)
    raise NodeError(node.op, node.name, came_in, reason)
