"""Mutated model files in a process of their own: ``python tests/model_fuzz.py SEED COUNT CASE LIMITS``.

Each is loaded and, where that works, run. Whatever happens must be a result or an error of starconv's, with at most 5
seconds of processor time and, for loading, at most twice the file and the declared weights in memory. Prints a line of
JSON; what was being tried when the process dies is in the file that is named on the command line. With the LIMITS
"default" a value may take what it may by default, with "tight" 16 MiB; all together MEMORY.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from architectures import ARCHITECTURES
from fuzzing import check_message, limited, small, survive
from onnx import TensorProto, helper, numpy_helper

SLACK = 2**22
"""Bytes that loading may take besides: up to 2.2 million were seen, which allocators took ahead or libraries kept."""
MEMORY = 2**27
"""Bytes that all values of a network may take."""
EXTREMES = [
    -(2**63),
    -(2**31),
    -1000,
    -2,
    -1,
    0,
    1,
    2,
    3,
    5,
    7,
    64,
    1000,
    2**16,
    2**31 - 1,
    2**31,
    2**40,
    2**62,
    2**63 - 1,
]


def mixture():
    """A model of a few kilobytes with many operators."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []

    def weight(array):
        weights.append(numpy_helper.from_array(np.asarray(array), f"w{len(weights)}"))
        return weights[-1].name

    def add(op, *inputs, outputs=1, **attributes):
        names = [f"v{len(nodes)}{'' if not i else f'_{i}'}" for i in range(outputs)]
        nodes.append(helper.make_node(op, list(inputs), names, f"n{len(nodes)}", **attributes))
        return names if outputs > 1 else names[0]

    def kernels(*shape):
        return weight(rng.standard_normal(shape).astype("f"))

    x = add("Conv", "x", kernels(4, 3, 3, 3), kernels(4), pads=[1, 1, 1, 1])
    x = add("BatchNormalization", x, *(weight(rng.random(4).astype("f") + 0.5) for _ in range(4)))
    x = add("Relu", x)
    x = add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = add("Conv", x, kernels(4, 1, 3, 3), group=4, auto_pad="SAME_UPPER")
    a, b = add("Split", x, outputs=2, axis=1, num_outputs=2)
    x = add("Concat", add("Sigmoid", a), add("Pad", b, weight([0, 0, 0, 0, 0, 0, 0, 0])), axis=1)
    x = add("Resize", x, "", weight(np.array([1, 1, 2, 2], "f")), mode="linear")
    x = add("ConvTranspose", x, kernels(4, 2, 2, 2), strides=[2, 2])
    x = add("Slice", x, weight([0, 1]), weight([9, 9]), weight([2, 3]), weight([1, 2]))
    shape = add("Shape", x)
    batch = add("Gather", shape, weight(0))
    x = add("Reshape", x, add("Concat", add("Unsqueeze", batch, weight([0])), weight([-1]), axis=0))
    x = add("Tile", x, weight([1, 2]))
    x = add("Transpose", add("Clip", x, weight(np.float32(-1)), weight(np.float32(1))), perm=[0, 1])
    x = add("Add", x, add("ConstantOfShape", weight([1]), value=numpy_helper.from_array(np.array([0.5], "f"))))
    x = add("ReduceMean", x, weight([1]), keepdims=1)
    x = add("MatMul", x, kernels(1, 4))
    x = add("Expand", x, weight([2, 4]))
    x = add("Softmax", x)
    graph = helper.make_graph(
        nodes,
        "mixture",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["batch", 4])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def mutated(model, rng):
    """The bytes of a model that differs in a few bytes, or in a few of its parts."""
    if rng.random() < 0.45:
        return bytes(damaged(bytearray(model.SerializeToString()), rng))
    copy = type(model)()
    copy.CopyFrom(model)
    for _ in range(rng.integers(1, 4)):
        rng.choice(CHANGES)(copy, rng)
    data = copy.SerializeToString()
    return bytes(damaged(bytearray(data), rng)) if rng.random() < 0.1 else data


def damaged(data, rng):
    kind = rng.integers(5)
    if kind == 0:
        return data[: rng.integers(len(data))]
    if kind == 1:  # bytes of the structure, most of which is where the weights are not
        for _ in range(rng.integers(1, 8)):
            data[rng.integers(len(data))] = rng.integers(256)
    elif kind == 2:
        first = rng.integers(len(data))
        del data[first : first + rng.integers(1, 64)]
    elif kind == 3:
        first, target = rng.integers(len(data), size=2)
        data[target:target] = data[first : first + rng.integers(1, 256)]
    else:
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return data


def picked(items, rng):
    return items[int(rng.integers(len(items)))] if len(items) else None


def change_attribute(model, rng):
    node = picked(model.graph.node, rng)
    attribute = picked(node.attribute, rng)
    if attribute is None:
        return
    extreme = int(rng.choice(EXTREMES))
    if attribute.type == attribute.INTS and attribute.ints and rng.random() < 0.8:
        attribute.ints[int(rng.integers(len(attribute.ints)))] = extreme
    elif attribute.type == attribute.INTS:
        attribute.ints.append(extreme)
    elif attribute.type == attribute.INT:
        attribute.i = extreme
    elif attribute.type == attribute.STRING:
        attribute.s = rng.bytes(5)
    elif attribute.type == attribute.FLOAT:
        attribute.f = float(rng.choice([0, -1, np.inf, np.nan, 1e30]))


def change_weight(model, rng):
    """Another number in a list of integers: sizes, places, axes."""
    lists = [w for w in model.graph.initializer if w.data_type == TensorProto.INT64 and not w.data_location]
    tensor = picked(lists, rng)
    if tensor is None:
        return
    array = np.frombuffer(tensor.raw_data[: len(tensor.raw_data) // 8 * 8], np.int64).copy()
    if array.size:
        array[int(rng.integers(array.size))] = int(rng.choice(EXTREMES))
        tensor.raw_data = array.tobytes()


def change_dims(model, rng):
    tensor = picked(model.graph.initializer, rng)
    if tensor is None or not tensor.dims:
        return
    if rng.random() < 0.5:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = int(rng.choice(EXTREMES))
    else:  # another shape of as many numbers
        sizes = sorted(tensor.dims, key=lambda _: rng.random())
        del tensor.dims[:]
        tensor.dims.extend(sizes)


def change_input(model, rng):
    node = picked(model.graph.node, rng)
    if not node.input:
        return
    names = [name for other in model.graph.node for name in [*other.input, *other.output]]
    node.input[int(rng.integers(len(node.input)))] = picked([*names, "", "nobody"], rng)


def change_operator(model, rng):
    picked(model.graph.node, rng).op_type = picked([n.op_type for n in model.graph.node] + ["LSTM", "Loop", ""], rng)


def change_type(model, rng):
    tensor = picked(model.graph.initializer, rng)
    if tensor is not None:
        tensor.data_type = int(rng.integers(0, 24))


def drop(model, rng):
    part = picked([model.graph.node, model.graph.initializer, model.graph.input, model.graph.output], rng)
    if len(part):
        del part[int(rng.integers(len(part)))]


def repeat(model, rng):
    part = picked([model.graph.node, model.graph.initializer, model.graph.input, model.graph.output], rng)
    if len(part):
        part.append(picked(part, rng))


def change_size(model, rng):
    value = picked([*model.graph.input, *model.graph.output], rng)
    size = None if value is None else picked(value.type.tensor_type.shape.dim, rng)
    if size is not None:
        size.dim_value = int(rng.choice(EXTREMES))


def change_version(model, rng):
    model.opset_import[0].version = int(rng.integers(-1, 30))


def move_weights_out(model, rng):
    tensor = picked(model.graph.initializer, rng)
    if tensor is not None:
        tensor.data_location = TensorProto.EXTERNAL
        for key in ("location", "offset", "length"):
            entry = tensor.external_data.add()
            entry.key = key
            entry.value = str(picked(["model.onnx", "../model.onnx", "/etc/passwd", "0", "-1", str(2**62), "x"], rng))


CHANGES = [
    change_attribute,
    change_attribute,
    change_attribute,
    change_weight,
    change_weight,
    change_dims,
    change_input,
    change_operator,
    change_type,
    drop,
    repeat,
    change_size,
    change_version,
    move_weights_out,
]


def attempt(path, data, rng, limits):
    """What happens to one file: "refused", "failed" (a layer said why) or "ran"."""
    from starconv import StarconvError, nets

    path.write_bytes(data)
    try:
        with small(2 * len(data) + SLACK):
            network = nets.load(path, memory=MEMORY, **({} if limits == "default" else {"largest": 2**24}))
    except StarconvError as error:
        check_message(str(error), path.name)
        return "refused"
    inputs = []
    for value in network.inputs:
        shape = [size if isinstance(size, int) else 2 for size in value.shape or (2, 3, 8, 8)]
        if np.prod(shape, dtype=float) > 2**20:
            return "refused"  # by the size that it asks for
        inputs.append(rng.standard_normal(shape).astype(value.dtype))
    with limited(3 * MEMORY):  # a call's values, a compiled program's, and what an operator needs beside its result
        try:
            expected = network.interpreted(*inputs)
        except StarconvError as error:
            check_message(str(error), " with inputs ")
            return "failed"
        network(*inputs)  # interpreted, because of `largest`, and compiled
        found = network(*inputs)
    pairs = zip(*(y if isinstance(y, tuple) else (y,) for y in (found, expected)), strict=True)
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        finite = np.isfinite(theirs) & (abs(theirs) < 1e30) if theirs.dtype.kind == "f" else np.ones(theirs.shape, bool)
        scale = abs(theirs[finite].astype(float)).max(initial=1e-3)
        assert (abs(ours.astype(float) - theirs.astype(float))[finite] <= 1e-3 * scale).all(), (
            "compiled is not interpreted"
        )
    return "ran"


def warm_up(path, models):
    """Let libraries load and keep what they do once, with the first file and with the first errors of each kind."""
    from starconv import StarconvError, nets

    rng = np.random.default_rng(1000)
    for data in [model.SerializeToString() for model in models] + [mutated(models[0], rng) for _ in range(100)]:
        path.write_bytes(data)
        with contextlib.suppress(StarconvError):
            network = nets.load(path, largest=2**20)
            network(
                *(np.ones([size if isinstance(size, int) else 2 for size in v.shape], v.dtype) for v in network.inputs)
            )


def main(seed, count, keep, limits):
    import starconv

    starconv.set_num_threads(1)
    rng = np.random.default_rng(seed)
    models = [mixture()] * 3 + [ARCHITECTURES[name](1 / 32, 32) for name in ("unet", "squeezenet")]
    with tempfile.TemporaryDirectory() as folder:
        # Verdicts on thousands of files are of no use to anybody, and looking through them takes memory.
        os.environ["STARCONV_CACHE_DIR"] = folder
        path = Path(folder) / "model.onnx"
        warm_up(path, models)
        files = (mutated(picked(models, rng), rng) for _ in range(count))
        survive(lambda data: attempt(path, data, rng, limits), files, keep, seed)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
