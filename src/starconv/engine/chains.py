"""Stretches of a network that several pictures go through one by one.

With eight pictures a layer of MobileNet-V2 writes 38 MB, which are in memory, not in a cache, when the next one reads
them: it takes 4.3 of 40 ms, and eight times a single picture's 0.36 ms would be 2.9. So where neighbouring layers move
more than the caches hold, a picture goes through all of them before the next one begins. The memory that they write in
between is then one picture's, too.

Elsewhere the pictures of a batch share the reading of the weights, and what it costs to begin a layer.
"""

from dataclasses import replace
from itertools import groupby

from .emit.target import Target
from .lowering import Lowered
from .operations import ELEMENT_BY_ELEMENT, Chain, Convolution, Interpreted, Operation, Product

__all__ = ["find_chains", "most_moved"]

BY_PICTURE = ELEMENT_BY_ELEMENT | {
    "AveragePool",
    "BatchNormalization",
    "Concat",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "MaxPool",
}
"""Operators that make each picture of the result of the same picture of their inputs."""


def most_moved(target: Target | None) -> int:
    """Bytes that a layer may read and write before its pictures go one by one: a third of the last cache's."""
    return 1 << 62 if target is None else target.l3_bytes // 3


def find_chains(lowered: Lowered, most: int) -> None:
    """Let layers that move more than `most` bytes, next to each other, be done picture by picture."""
    counts = [_pictures(lowered, operation, most) for operation in lowered.operations]
    for pictures, pairs in groupby(zip(counts, lowered.operations, strict=True), key=lambda pair: pair[0]):
        operations = [operation for _, operation in pairs]
        if pictures > 1 and len(operations) > 1:
            lowered.chains.append(_chain(lowered, operations, pictures))


def _chain(lowered: Lowered, operations: list[Operation], pictures: int) -> Chain:
    readers = [operation for operation in lowered.operations if operation not in operations]
    outside = {name for operation in readers for name in operation.reads} | set(lowered.outputs)
    for operation in operations:
        if isinstance(operation, Convolution):
            operation.problem = replace(operation.problem, batch=1)
    inner = frozenset(name for operation in operations for name in operation.writes if name not in outside)
    return Chain(tuple(operations), pictures, inner)


def _pictures(lowered: Lowered, operation: Operation, most: int) -> int:
    """How many pictures go through it one by one; 0 if they should not, or if it may not know what a picture is."""
    if not _is_by_picture(lowered, operation):
        return 0
    values = {name for name in (*operation.reads, *operation.writes) if name not in lowered.constants}
    infos = [lowered.infos[name] for name in values]
    counts = {info.shape[0] if len(info.shape) > 2 else 0 for info in infos}
    return counts.pop() if len(counts) == 1 and sum(info.size for info in infos) > most else 0


def _is_by_picture(lowered: Lowered, operation: Operation) -> bool:
    if isinstance(operation, Convolution):
        return not isinstance(operation, Product)
    if not isinstance(operation, Interpreted) or operation.node.op not in BY_PICTURE or len(operation.writes) != 1:
        return False
    axes = len(lowered.infos[operation.writes[0]].shape)
    if operation.node.op == "Concat" and int(operation.node.attributes["axis"]) % axes == 0:  # type: ignore[arg-type]
        return False
    constants = [lowered.constants[name] for name in operation.reads if name in lowered.constants]
    return all(constant.ndim < axes or len(constant) == 1 for constant in constants)
