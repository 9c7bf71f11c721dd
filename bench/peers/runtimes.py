"""onnxruntime and OpenVINO in float32, both given the same one-layer ONNX model with the kernels as a constant."""

# ruff: noqa: D102  (what the methods mean, Entrant says)
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from starconv.problem import Problem

from ..shapes import Operands
from .entrant import Entrant, hopeless


class _OneLayer(Entrant):
    """What the two runtimes can be asked: a Conv or ConvTranspose node, with Relu."""

    prepared = True

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        if problem.operation == "weight_grad":
            return "no weight gradient"
        if problem.dtype != "float32":
            return "float32 only"
        if problem.border != "constant":
            return "no border but zeros"
        return None


class OnnxRuntime(_OneLayer):
    """An InferenceSession, called through run() or through an I/O binding, whichever is faster."""

    name = "onnxruntime"
    module = "onnxruntime"

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(_model(problem, operands), options, providers=["CPUExecutionProvider"])
        x = np.ascontiguousarray(operands.first)
        out = np.empty(problem.result_shape, "float32")
        binding = session.io_binding()
        given = onnxruntime.OrtValue.ortvalue_from_numpy(x)
        found = onnxruntime.OrtValue.ortvalue_from_numpy(out)
        binding.bind_ortvalue_input("first", given)
        binding.bind_ortvalue_output("result", found)

        def bound() -> Any:
            session.run_with_iobinding(binding)
            return found

        def plain() -> Any:
            return session.run(None, {"first": x})[0]

        return min((bound, plain), key=_quick_time)

    def array(self, result: Any) -> np.ndarray:
        return result if isinstance(result, np.ndarray) else result.numpy()


class OpenVINO(_OneLayer):
    """A compiled model told to stay in float32, one infer request with its tensors in place."""

    name = "openvino"
    module = "openvino"

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        return super().refuses(problem, operands) or hopeless(problem)

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        import openvino

        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        request = core.compile_model(core.read_model(_model(problem, operands)), "CPU", settings).create_infer_request()
        x = np.ascontiguousarray(operands.first)
        out = np.empty(problem.result_shape, "float32")
        request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
        request.set_output_tensor(openvino.Tensor(out, shared_memory=True))

        def call() -> Any:
            request.infer()
            return out

        return call


def _model(problem: Problem, operands: Operands) -> bytes:
    """The row as an ONNX model with one input, "first", and one output, "result"."""
    from onnx import TensorProto, helper, numpy_helper

    axes = problem.axes
    attributes: dict[str, Any] = {
        "kernel_shape": [axis.kernel for axis in axes],
        "strides": [axis.stride for axis in axes],
        "dilations": [axis.dilation for axis in axes],
        "pads": [axis.before for axis in axes] + [axis.after for axis in axes],
        "group": problem.groups,
    }
    transposed = problem.operation == "input_grad"
    if transposed:
        attributes["output_padding"] = [axis.output_padding for axis in axes]
    constants = [numpy_helper.from_array(np.ascontiguousarray(operands.second), "w")]
    if operands.bias is not None:
        constants.append(numpy_helper.from_array(operands.bias, "b"))
    relu = problem.activation == "relu"
    inputs = ["first", *(constant.name for constant in constants)]
    kind, output = "ConvTranspose" if transposed else "Conv", "sums" if relu else "result"
    nodes = [helper.make_node(kind, inputs, [output], **attributes)]
    if relu:
        nodes.append(helper.make_node("Relu", ["sums"], ["result"]))
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("first", problem.operand_shapes[0]), ("result", problem.result_shape))
    ]
    graph = helper.make_graph(nodes, "layer", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def _quick_time(call: Callable[[], Any]) -> float:
    """Seconds of the fastest of a few calls."""
    call()
    seconds = []
    while len(seconds) < 3 or (len(seconds) < 20 and sum(seconds) < 0.02):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
