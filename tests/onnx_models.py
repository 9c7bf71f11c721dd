"""Small ONNX models made with the onnx package, so that what reads them does not also write them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OPSET = 21


def kind_of(array):
    return helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)


def one_node(op, inputs, outputs=1, opset=OPSET, **attributes):
    """A model of one node; `inputs` are arrays by name, None for those that are left out."""
    given = {name: array for name, array in inputs.items() if array is not None}
    node = helper.make_node(
        op, [name if name in given else "" for name in inputs], [f"y{i}" for i in range(outputs)], **attributes
    )
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, kind_of(array), array.shape) for name, array in given.items()],
        [helper.make_empty_tensor_value_info(f"y{i}") for i in range(outputs)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node_of(model, number=0):
    """A model's node as starconv has it."""
    from starconv.nets import Node

    node = model.graph.node[number]
    attributes = {a.name: plain(helper.get_attribute_value(a)) for a in node.attribute}
    return Node(node.op_type, node.name or "node", tuple(node.input), tuple(node.output), attributes)


def plain(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return tuple(value) if not isinstance(value, (int, float)) else value


def reference(model, inputs):
    """What the onnx package's own evaluator, NumPy too but written by others, makes of `inputs`."""
    return ReferenceEvaluator(model).run(None, {n: a for n, a in inputs.items() if a is not None})
