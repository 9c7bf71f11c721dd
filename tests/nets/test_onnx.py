"""ONNX files: what is read from them, what is written, and how damaged and hostile ones are refused."""

import re
import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import reference

import starconv as sc
from starconv import nets, nn
from starconv.data.files import FileContentError
from starconv.nets import Network, UnsupportedOperatorError
from starconv.nets.layer_names import layer_names
from starconv.nets.onnx import read_graph

RNG = np.random.default_rng(0)
W = RNG.standard_normal((4, 3, 3, 3)).astype("f")


def model(nodes=None, inputs=None, outputs=None, weights=None, opset=21, **options):
    nodes = nodes or [
        helper.make_node("Conv", ["x", "first.weight"], ["h"], "/first/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["y"], "/act/Relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, "height", "width"])],
        weights if weights is not None else [numpy_helper.from_array(W, "first.weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **options)


@pytest.fixture
def written(tmp_path):
    def write(proto):
        path = tmp_path / "model.onnx"
        path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
        return path

    return write


def test_a_file_becomes_a_network_that_is_called_like_a_function(written):
    network = nets.load(written(model()))
    x = RNG.standard_normal((2, 3, 5, 6)).astype("f")
    expected = np.maximum(sc.conv2d(x, W, padding=1), 0)
    np.testing.assert_allclose(network(x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network(x=x), expected, rtol=1e-5, atol=1e-6)
    assert list(network.layers) == ["first", "act"]
    assert str(network.inputs[0]) == "x: float32 (batch, 3, height, width)"
    np.testing.assert_array_equal(network.layers["first"].kernels, W)


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 12, 13, 15, 17, 18, 21, 22])
def test_every_opset(written, opset):
    axes = {"axes": [2, 3], "keepdims": 0}
    nodes = [
        helper.make_node("Conv", ["x", "first.weight"], ["h"], auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("MaxPool", ["h"], ["p"], kernel_shape=[2, 2]),
        helper.make_node("Clip", ["p"], ["c"], min=0.0, max=6.0)
        if opset < 11
        else helper.make_node("Clip", ["p", "low", "high"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["m"], **axes)
        if opset < 18
        else helper.make_node("ReduceMean", ["c", "axes"], ["m"], keepdims=0),
        helper.make_node("Softmax", ["m"], ["y"]),
    ]
    weights = [numpy_helper.from_array(W, "first.weight")]
    if opset >= 11:
        weights += [numpy_helper.from_array(np.array(v, "f"), n) for n, v in (("low", 0), ("high", 6))]
    if opset >= 18:
        weights.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])]
    proto = model(nodes, outputs=outputs, weights=weights, opset=opset)
    x = RNG.standard_normal((2, 3, 8, 9)).astype("f")
    found = nets.load(written(proto))(x)
    np.testing.assert_allclose(found, reference(proto, {"x": x})[0], rtol=1e-4, atol=1e-5)


def test_names_are_those_a_reader_of_the_original_looks_for(written):
    nodes = [
        helper.make_node("Conv", ["x", "onnx::Conv_1"], ["a"], "/layer1/layer1.0/conv1/Conv"),
        helper.make_node("Relu", ["a"], ["b"], "/layer1/layer1.0/relu/Relu"),
        helper.make_node("Relu", ["b"], ["c"], "/layer1/layer1.0/relu/Relu_1"),
        helper.make_node("Add", ["c", "b"], ["d"], "/layer1/layer1.0/Add"),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Relu", ["e"], ["y"]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4, None, None])]
    network = nets.load(written(model(nodes, outputs=outputs, weights=[numpy_helper.from_array(W, "onnx::Conv_1")])))
    expected = ["layer1.0.conv1", "layer1.0.relu", "layer1.0.relu_2", "layer1.0.Add", "relu", "relu_2"]
    assert list(network.layers) == expected


def placed(kind, inputs, outputs, place, exporter):
    """A node as torch's exporters write it for the module `place`."""
    path = [".".join(place.split(".")[: depth + 1]) for depth in range(place.count(".") + 1)] if place else []
    if exporter == "older":
        return helper.make_node(kind, inputs, outputs, "/".join(["", *path, kind]))
    made = helper.make_node(kind, inputs, outputs, f"node_{outputs[0]}")
    entry = made.metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", str(["", *path, outputs[0]])
    return made


@pytest.mark.parametrize("exporter", ["older", "newer"])
def test_layers_of_a_sequential_have_its_numbers(written, exporter):
    nodes = [
        placed("Conv", ["x", "0.weight"], ["conv2d"], "1", exporter),  # with the batch norm after it
        placed("Relu", ["conv2d"], ["relu"], "2", exporter),
        placed("Conv", ["relu", "3.0.weight"], ["conv2d_1"], "3.0", exporter),
        placed("Tanh", ["conv2d_1"], ["tanh"], "3", exporter),  # what the module around 3.0 does itself
        placed("Relu", ["tanh"], ["relu_1"], "4.act", exporter),
        placed("Add", ["relu_1", "one"], ["add"], "4", exporter),
        placed("Relu", ["add"], ["relu_2"], "4.act", exporter),  # a module that is called twice
        placed("Flatten", ["relu_2"], ["view"], "5", exporter),
        placed("MatMul", ["view", "val_0"], ["val_1"], "6", exporter),
        placed("Add", ["val_1", "one"], ["linear"], "6", exporter),
        placed("Neg", ["linear"], ["y"], "", exporter),
    ]
    weights = {"0.weight": W, "3.0.weight": np.ones((4, 4, 1, 1), "f"), "one": np.ones(1, "f"), "val_0": np.eye(4)}
    tensors = [numpy_helper.from_array(array.astype("f"), name) for name, array in weights.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 3, 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])]
    network = nets.load(written(model(nodes, inputs, outputs, tensors)))
    expected = ["0", "2", "3.0", "3.Tanh", "4.act", "4.Add", "4.act_2", "5", "6", "6.Add", "Neg"]
    assert list(network.layers) == expected
    x = RNG.standard_normal((1, 3, 3, 3)).astype("f")
    np.testing.assert_allclose(network.run(x, upto="0"), sc.conv2d(x, W), rtol=1e-5, atol=1e-5)


def test_a_long_name_takes_no_more_memory_than_it_has():
    nodes = [
        helper.make_node("Relu", ["x"], ["y"], f"/{'a.' * 50_000}b/Relu"),
        placed("Relu", ["y"], ["z"], "a", "older"),
    ]
    tracemalloc.start()
    try:
        first, second = layer_names(nodes, {})
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()
    assert (len(first), second) == (100_001, "a.Relu")


def test_a_layer_keeps_the_name_of_its_weights(written):
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "1"),  # a converter that numbers its nodes
        helper.make_node("Conv", ["a", "1.weight"], ["b"], "2"),
        helper.make_node("Conv", ["b", "onnx::Conv_7"], ["y"], "3"),
    ]
    weights = [numpy_helper.from_array(np.ones((3, 3, 1, 1), "f"), name) for name in ("1.weight", "onnx::Conv_7")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, "height", "width"])]
    network = nets.load(written(model(nodes, outputs=outputs, weights=weights)))
    assert {name: layer.op for name, layer in network.layers.items()} == {"1_2": "Relu", "1": "Conv", "3": "Conv"}


def test_constants_in_nodes_and_initializers_that_are_inputs_too(written):
    nodes = [
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.float32(1))),
        helper.make_node("Add", ["x", "one"], ["h"]),
        helper.make_node("Mul", ["h", "two"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [2]), ("two", [1]))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])]
    weights = [numpy_helper.from_array(np.array([2], "f"), "two")]
    network = nets.load(written(model(nodes, inputs, outputs, weights)))
    assert [value.name for value in network.inputs] == ["x"]
    np.testing.assert_array_equal(network(np.array([1, 2], "f")), [4, 6])


@pytest.mark.parametrize("kind", ["float16", "float64", "int32", "int64", "int8", "uint8", "bool", "uint16", "uint64"])
@pytest.mark.parametrize("raw", [True, False])
def test_weights_of_every_type_raw_or_listed(written, kind, raw):
    array = RNG.integers(0, 2 if kind == "bool" else 9, (2, 3)).astype(kind)
    number = helper.np_dtype_to_tensor_dtype(array.dtype)
    if raw:
        tensor = numpy_helper.from_array(array, "w")
    else:
        tensor = helper.make_tensor("w", number, array.shape, array.ravel().tolist())
    assert tensor.HasField("raw_data") == raw
    nodes = [helper.make_node("Identity", ["w"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", number, [2, 3])]
    found = nets.load(written(model(nodes, outputs=outputs, weights=[tensor])))(np.zeros((1, 3, 1, 1), "f"))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == kind


def said(value, *left_out):
    """A value of a graph of which a file says less."""
    if "type" in left_out:
        value.ClearField("type")
    elif "shape" in left_out:
        value.type.tensor_type.ClearField("shape")
    return value


@pytest.mark.parametrize("left_out", ["shape", "type"])
def test_outputs_of_which_the_file_does_not_say_all(written, left_out, tmp_path):
    # The output of a node, a second one that is told in full, an input, a small weight and a large one.
    nodes = [
        helper.make_node("Conv", ["x", "first.weight"], ["h"]),
        helper.make_node("Shape", ["h"], ["sizes"]),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    large = RNG.standard_normal((20, 30))
    kinds = {"sizes": TensorProto.INT64, "x": 1, "small": TensorProto.INT8, "large": TensorProto.DOUBLE}
    outputs = [said(helper.make_tensor_value_info(name, kind, [1]), left_out) for name, kind in kinds.items()]
    outputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, "height", "width"]))
    weights = {"first.weight": W, "small": np.array([3], "i1"), "large": large}
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    path = written(model(nodes, outputs=outputs, weights=tensors))
    x = RNG.standard_normal((1, 3, 5, 6)).astype("f")
    for _ in range(2):  # the second time the package does not check it any more
        network = nets.load(path)
        told = ["sizes: int64 (?)", "x: float32 (?)", "small: int8 (?)", "large: float64 (?)"]
        assert [str(value) for value in network.outputs] == [*told, "y: float32 (1, 4, height, width)"]
        sizes, same, small, found, y = network(x)
        np.testing.assert_array_equal(sizes, [1, 4, 3, 4])
        np.testing.assert_array_equal(same, x)
        np.testing.assert_array_equal(small, [3])
        np.testing.assert_array_equal(found, large)
        np.testing.assert_array_equal(y, np.maximum(sc.conv2d(x, W), 0))
    network.to_onnx(tmp_path / "again.onnx")
    np.testing.assert_array_equal(nets.load(tmp_path / "again.onnx")(x)[4], y)


def test_an_input_without_a_shape(written, tmp_path):
    proto = model(inputs=[said(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]), "shape")])
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    said(proto.graph.output[0], "shape")
    network = nets.load(written(proto))
    assert str(network.inputs[0]) == "x: float32 (?)"
    x = RNG.standard_normal((2, 3, 5, 6)).astype("f")
    assert network(x).shape == (2, 4, 5, 6)
    network.to_onnx(tmp_path / "again.onnx")
    again = nets.load(tmp_path / "again.onnx")
    assert again.inputs == network.inputs
    np.testing.assert_array_equal(again(x), network(x))


@pytest.mark.parametrize("opset", [7, 8, 9, 13])
def test_batch_norms_of_older_opsets_that_leave_outputs_out(written, opset):
    weights = [numpy_helper.from_array(RNG.random(3).astype("f") + 0.5, name) for name in ("s", "b", "m", "v")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, "height", "width"])]

    def norm(*further, used=()):
        nodes = [helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["h", *further], "norm")]
        nodes.append(helper.make_node("Sum", ["h", *used], ["y"]))
        return written(model(nodes, outputs=outputs, weights=weights, opset=opset))

    x = RNG.standard_normal((2, 3, 5, 6)).astype("f")
    usual, left_out = nets.load(norm()), nets.load(norm("", "", "", ""))
    np.testing.assert_array_equal(left_out(x), usual(x))
    np.testing.assert_array_equal(left_out.interpreted(x), usual.interpreted(x))
    # Named, they ask for training mode, the statistics of the batch: used or not, for onnxruntime too.
    message = r"exported for inference; BatchNormalization 'norm' is in training mode, for it gives 'mean', 'var'"
    for used in ((), ("mean",)):
        with pytest.raises(FileContentError, match=message):
            nets.load(norm("mean", "var", "saved_mean", "saved_var", used=used))


def test_all_missing_operators_are_named_in_one_message(written):
    nodes = [
        helper.make_node("LSTM", ["x", "x", "x"], ["h"]),
        helper.make_node("FusedConv", ["x", "x"], ["a"], domain="com.microsoft"),
        helper.make_node("If", ["h"], ["b"]),
        helper.make_node("LSTM", ["x", "x", "x"], ["y"]),
    ]
    with pytest.raises(UnsupportedOperatorError, match=r"If, LSTM \(2 times\), com.microsoft.FusedConv") as caught:
        nets.load(written(model(nodes)))
    assert caught.value.operators == {"LSTM": 2, "com.microsoft.FusedConv": 1, "If": 1}


# Weights in further files


def external(folder, location, length=None, offset=None):
    tensor = numpy_helper.from_array(W, "first.weight")
    (folder / "weights.bin").write_bytes(b"-" * 16 + tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset, "length": length}
    for key, value in entries.items():
        if value is not None:
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
    return tensor


def test_weights_in_a_file_beside_the_model(written, tmp_path):
    network = nets.load(written(model(weights=[external(tmp_path, "weights.bin", W.nbytes, 16)])))
    np.testing.assert_array_equal(network.layers["first"].kernels, W)


@pytest.mark.parametrize(
    ("location", "length", "offset", "message"),
    [
        ("../weights.bin", None, 16, "outside"),
        ("/etc/passwd", None, 0, "same folder"),
        ("link", None, 16, "outside"),
        ("", None, 16, "same folder"),
        ("missing.bin", None, 16, "not there"),
        (".", None, 16, "not there"),
        ("weights.bin", W.nbytes, 17, "it has"),
        ("weights.bin", W.nbytes, -1, "it has"),
        ("weights.bin", 2**62, 0, "it has"),
        ("weights.bin", "many", 0, "in numbers"),
        ("weights.bin", None, 2**70, "it has"),
    ],
)
def test_weights_elsewhere_are_not_read(written, tmp_path, location, length, offset, message):
    (tmp_path / "link").symlink_to("/etc/passwd")
    tensor = external(tmp_path, location, length, offset)
    with pytest.raises(FileContentError, match=message):
        nets.load(written(model(weights=[tensor])))


def test_one_file_is_not_read_as_many_weights(written, tmp_path):
    tensors = [external(tmp_path, "weights.bin", W.nbytes, 16) for _ in range(2)]
    tensors[1].name = "another"
    with pytest.raises(FileContentError, match="share nothing"):
        nets.load(written(model(weights=tensors)))


# Damaged and hostile files


def broken(change):
    proto = model()
    change(proto)
    return proto


def node(proto, *given, **attributes):
    proto.graph.node.append(helper.make_node(*given, **attributes))


def dims(proto, *sizes):
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend(sizes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.ClearField("graph"), "no network"),
        (lambda p: p.ClearField("opset_import"), "from 7 to"),
        (lambda p: setattr(p.opset_import[0], "version", 6), "from 7 to"),
        (lambda p: setattr(p.opset_import[0], "version", 999), "from 7 to"),
        (lambda p: node(p, "Relu", ["y"], ["y"]), "valid ONNX model|given once"),
        (lambda p: node(p, "Relu", ["nothing"], ["z"]), "valid ONNX model|before their use"),
        (lambda p: p.graph.node[0].input.__setitem__(0, "y"), "valid ONNX model|before their use"),  # a cycle
        (lambda p: p.graph.initializer.append(p.graph.initializer[0]), "a name of their own"),
        (lambda p: dims(p, 2**40, 2**40), "bytes for weight 'first.weight'"),
        (lambda p: dims(p, 0, 2**62, 2**62), "bytes for weight|of a shape that can be"),
        (lambda p: dims(p, -1, 108), "sizes >= 0"),
        (lambda p: dims(p, *[1] * 100), "sizes >= 0"),
        (lambda p: dims(p, 4, 3, 3, 4), "576 bytes for weight .*, not 432"),
        (lambda p: setattr(p.graph.initializer[0], "data_type", TensorProto.BFLOAT16), "type BFLOAT16"),
        (lambda p: setattr(p.graph.initializer[0], "data_type", 99), "type 99"),
        (lambda p: setattr(p.graph.input[0].type.tensor_type, "elem_type", 8), "arrays of numbers"),
        (lambda p: p.graph.input[0].ClearField("type"), "valid ONNX model"),
        (lambda p: p.graph.output[0].type.tensor_type.ClearField("elem_type"), "valid ONNX model"),
        (lambda p: p.graph.output.add(name="z"), "outputs with a type, or one that follows from the nodes; z"),
        (lambda p: p.graph.output.append(helper.make_tensor_value_info("z", 1, [1])), "that something gives|valid"),
        (lambda p: p.graph.node[0].attribute.append(helper.make_attribute("nonsense", 3)), "nonsense"),
        (lambda p: setattr(p.graph.node[0].attribute[0], "type", 5), "valid ONNX model"),
        (lambda p: p.graph.sparse_initializer.add(), "sparse"),
    ],
)  # fmt: skip
def test_damaged_models_are_refused_with_a_reason(written, change, message):
    with pytest.raises(FileContentError, match=message) as caught:
        nets.load(written(broken(change)))
    assert "model.onnx" in str(caught.value)


def test_what_was_found_right_is_not_checked_again(written, monkeypatch, tmp_path):
    monkeypatch.setenv("STARCONV_CACHE_DIR", str(tmp_path / "cache"))
    checked = []
    check = onnx.checker.check_model
    monkeypatch.setattr(onnx.checker, "check_model", lambda proto: (checked.append(proto), check(proto)))
    weights = [numpy_helper.from_array(RNG.standard_normal((200, 3, 3, 3)).astype("f"), "first.weight")]
    right, wrong = model(weights=weights), model(weights=weights)
    wrong.graph.node[0].attribute.append(helper.make_attribute("nonsense", 3))
    for expected in (1, 1):
        assert nets.load(written(right)).graph.constants["first.weight"].shape == (200, 3, 3, 3)
        assert len(checked) == expected
    for expected in (2, 3):
        with pytest.raises(FileContentError, match="nonsense"):
            nets.load(written(wrong))
        assert len(checked) == expected


def test_other_files_are_refused(written, tmp_path):
    whole = model().SerializeToString()
    for data, message in (
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "cannot be decoded|no network"),
        (b"\n" * 1000, "cannot be decoded"),
        (whole[: len(whole) // 2], "cannot be decoded"),
        (whole[:-1], "cannot be decoded"),
    ):
        with pytest.raises(FileContentError, match=message):
            nets.load(written(data))
    with pytest.raises(FileNotFoundError):
        nets.load(tmp_path / "missing.onnx")
    with pytest.raises(IsADirectoryError):
        nets.load(tmp_path)
    with pytest.raises(sc.ArgumentTypeError, match="path = 3"):
        nets.load(3)


def test_a_small_file_does_not_get_large_values(written):
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["big"], value=numpy_helper.from_array(np.array([1], "f"))),
        helper.make_node("Add", ["big", "x"], ["y"]),
    ]
    weights = [numpy_helper.from_array(np.array([2**20, 2**20]), "s")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None, None, None])]
    network = nets.load(written(model(nodes, outputs=outputs, weights=weights)))
    with pytest.raises(nets.NodeError, match=r"ConstantOfShape.*4,398,046,511,104 bytes.*largest"):
        network(np.zeros((1, 3, 1, 1), "f"))
    tight = nets.load(written(model()), largest=1000)
    with pytest.raises(nets.NodeError, match="more than the 1,000"):
        tight(np.zeros((1, 3, 30, 30), "f"))


# Writing


def test_what_is_written_is_valid_and_means_the_same(written, tmp_path):
    network = nets.load(written(model()))
    path = tmp_path / "again.onnx"
    network.to_onnx(path)
    onnx.checker.check_model(str(path), full_check=True)
    again = nets.load(path)
    x = RNG.standard_normal((1, 3, 5, 5)).astype("f")
    np.testing.assert_array_equal(again.interpreted(x), network.interpreted(x))
    assert list(again.layers) == list(network.layers)
    assert again.inputs == network.inputs


def layers():
    rng = np.random.default_rng(3)
    return {
        "residual": (
            nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1, seed=rng),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Residual(nn.Conv2d(4, 4, 3, padding=1, seed=rng)),
                nn.Residual(nn.Conv2d(4, 6, 1, stride=2, seed=rng), nn.Conv2d(4, 6, 1, stride=2, bias=False, seed=rng)),
                nn.Dropout(0.5),
                nn.MaxPool2d(3, 2, 1, ceil_mode=True),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(6, 5, seed=rng),
            ),
            (3, 9, 11),
        ),
        "pools": (
            nn.Sequential(
                nn.AvgPool2d(2, 2, 1, count_include_pad=False),
                nn.AvgPool2d(3, 1, 1, ceil_mode=True),
                nn.AdaptiveAvgPool2d((2, 3)),
                nn.MaxPool2d(2, 1),
            ),
            (2, 6, 10),
        ),
        "transposed": (
            nn.Sequential(
                nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, seed=rng),
                nn.ConvTranspose2d(6, 2, 2, 1, dilation=3, output_padding=2, seed=rng),
            ),
            (4, 5, 6),
        ),
        "borders": (
            nn.Sequential(
                *[
                    nn.Conv2d(2, 2, 3, padding=((1, 0), (2, 1)), padding_mode=mode, seed=rng)
                    for mode in ("zeros", "reflect", "replicate", "circular")
                ],
                nn.Conv2d(2, 2, 3, padding="same", seed=rng),
            ),
            (2, 8, 8),
        ),
        "one axis": (
            nn.Sequential(
                nn.Conv1d(2, 3, 5, groups=1, seed=rng), nn.ReLU(), nn.Flatten(), nn.Linear(9, 2, bias=False, seed=rng)
            ),
            (2, 7),
        ),
        "three axes": (
            nn.Sequential(nn.Conv3d(1, 2, 2, seed=rng), nn.ConvTranspose3d(2, 1, 2, seed=rng)),
            (1, 3, 4, 5),
        ),
        "float64": (nn.Sequential(nn.Conv2d(1, 2, 3, dtype="float64", seed=rng)), (1, 5, 5)),
        "dense on rows": (nn.Sequential(nn.Linear(6, 4, seed=rng), nn.Flatten(0, 1)), (5, 6)),
        "alone": (nn.ReLU(), (3,)),
        "nothing": (nn.Sequential(), (3,)),
    }


@pytest.mark.parametrize("name", layers())
def test_layers_as_networks_and_files(name, tmp_path):
    module, size = layers()[name]
    for buffer in ("running_mean", "running_var"):  # other than 0 and 1
        for _, inner in module.modules():
            if buffer in inner.own_buffers:
                inner.own_buffers[buffer] = RNG.random(inner.num_features).astype("f") + 0.5
    module.eval()
    dtype = "float64" if name == "float64" else "float32"
    x = RNG.standard_normal((2, *size)).astype(dtype)
    expected = module(x)
    network = nets.from_nn(module, size)
    for found in (network(x), network.interpreted(x)):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    path = tmp_path / "layers.onnx"
    nets.export(module, path, size)
    onnx.checker.check_model(str(path), full_check=True)
    loaded = nets.load(path)
    np.testing.assert_allclose(loaded(x), expected, rtol=1e-4, atol=1e-5)
    assert loaded.outputs[0].shape == ("N", *expected.shape[1:])
    if name not in ("pools", "transposed"):  # the package's evaluator has another ceil_mode, and no groups with bias
        (theirs,) = reference(onnx.load(path), {"x": x})
        np.testing.assert_allclose(theirs, expected, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_exported_says_so(tmp_path):
    path = tmp_path / "model.onnx"
    for module, size, message in (
        (nn.Conv2d(1, 1, 3), None, "input_size = None"),
        (nn.Conv2d(1, 1, 3), (1, 2, 2), "kernel_size"),
        (nn.Sequential(nn.AvgPool2d(2, divisor_override=3)), (1, 4, 4), "divisor_override"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(2)), (1, 5, 5), "divide"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="symmetric"), (1, 5, 5), "symmetric"),
        (nn.BatchNorm2d(1, track_running_stats=False), (1, 5, 5), "running statistics"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1, dtype="float64")), (1, 5, 5), "one dtype"),
    ):
        with pytest.raises(sc.ArgumentValueError, match=message):
            nets.export(module, path, size)
    with pytest.raises(sc.ArgumentTypeError, match="module"):
        nets.export("resnet", path, (1, 5, 5))
    assert not list(tmp_path.iterdir())


def test_an_older_file_stays_when_writing_fails(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")
    graph = nets.Builder("wrong")
    x = graph.input("x", np.float32, (1, 3, 4, 4))
    network = Network(graph.graph(graph.add("Conv", x, name="lonely")))
    with pytest.raises(sc.ArgumentValueError, match="network that ONNX can hold"):
        network.to_onnx(path)
    assert path.read_bytes() == b"older"
    assert len(list(tmp_path.iterdir())) == 1


def test_reading_gives_the_graph_alone(written):
    graph = read_graph(written(model()))
    assert [node.op for node in graph.nodes] == ["Conv", "Relu"]
    assert re.match(r"x: float32 \(batch, 3", str(graph.inputs[0]))
