"""Names for the nodes of an ONNX file: those that a reader of the original network would look for.

torch's exporters say which module of the network a node comes from: the older one in the node's name
("/layer1/layer1.0/conv1/Conv"), the newer one beside it.
"""

import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

__all__ = ["layer_names"]

_MODULES = "pkg.torch.onnx.name_scopes"
"""Where torch's newer exporter says it, in a node's metadata: "['', 'layer1', 'layer1.0', 'conv2d_1']"."""
_OWNERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "PRelu", "LayerNormalization"})
"""Operators whose weights are named after the layer that they belong to."""
_SCOPED = (
    "Relu LeakyRelu Clip Sigmoid HardSigmoid HardSwish Tanh Elu Selu Softplus Gelu Mish MaxPool AveragePool "
    "GlobalAveragePool Dropout Softmax Resize Upsample"
)
_MAIN = _OWNERS.union(_SCOPED.split())
"""Operators that are what their module is there for, whatever others it needs (padding, a bias, sizes to come)."""


def layer_names(nodes: Sequence[Any], constants: Collection[str]) -> list[str]:
    """A name of its own for each node.

    That is the name of its weights without ".weight"; else that of its module, where the node is what the module does
    and no other module is inside; else the module's and the node's own, without what torch's exporters add; else its
    operator's. Of several with one name the first that has it from its weights, or else the first, keeps it; the others
    get numbers.
    """
    places = [_place(node) for node in nodes]
    operators: dict[str, set[str]] = {}
    for node, (module, _) in zip(nodes, places, strict=True):
        operators.setdefault(module, set()).add(node.op_type)
    # Sorted, what is inside a module follows it. (All beginnings of a name of 100 KB would take gigabytes.)
    paths = sorted(f"{module}." for module in operators)
    outer = {path[:-1] for path, following in pairwise(paths) if following.startswith(path)}
    wanted = [_of_weights(node, constants) for node in nodes]
    with_weights = [bool(name) for name in wanted]
    for number, (node, (module, own)) in enumerate(zip(nodes, places, strict=True)):
        if wanted[number]:
            continue
        inner = module and module not in outer and re.fullmatch(rf"{re.escape(node.op_type)}(_\d+)?", own)
        if inner and (node.op_type in _MAIN or len(operators[module]) == 1):
            wanted[number] = module
        else:
            wanted[number] = ".".join(filter(None, (module, own))) or node.op_type.lower()
    return _unlike(wanted, with_weights)


def _of_weights(node: Any, constants: Collection[str]) -> str:
    """The name of the layer that a node's weights are named after, or nothing."""
    if node.op_type not in _OWNERS or len(node.input) < 2 or node.input[1] not in constants:
        return ""
    name = re.sub(r"[._](weight|w|scale|gamma|slope|kernel)$", "", node.input[1])
    # torch numbers what it has computed from weights.
    return "" if name == node.input[1] or re.match(r"onnx::|_?val_?\d", name) else name


def _place(node: Any) -> tuple[str, str]:
    """The module that a node comes from ("layer1.0.conv1"), and its own name there; "" and its name if none is told."""
    if node.name.startswith("/"):
        *parts, own = [part for part in node.name.split("/") if part] or [""]
        found: list[str] = []
        for part in parts:
            if found and part.startswith(found[-1] + "."):
                found[-1] = part  # "layer1" and "layer1.0" are one path
            else:
                found.append(part)
        return ".".join(found), own
    told = next((entry.value for entry in node.metadata_props if entry.key == _MODULES), "")
    modules = re.findall(r"'([^']*)'", told)[:-1]  # the last is the operation
    return (modules[-1], node.op_type) if modules else ("", node.name)


def _unlike(wanted: Sequence[str], first: Sequence[bool]) -> list[str]:
    """The names with numbers behind those that were there before; the marked ones come first."""
    taken: dict[str, int] = {}
    names = list(wanted)
    for number in sorted(range(len(wanted)), key=lambda number: not first[number]):
        name = unique = wanted[number]
        while unique in taken:
            taken[name] = taken.get(name, 1) + 1
            unique = f"{name}_{taken[name]}"
        taken[unique] = 1
        names[number] = unique
    return names
