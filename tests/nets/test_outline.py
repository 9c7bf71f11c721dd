"""ONNX files without their weights: together with them they are the model, and what is unusual is left whole."""

import io

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from starconv.nets.outline import SMALL, outline

RNG = np.random.default_rng(0)
SIZES = (1, SMALL // 4, SMALL // 4 + 1, 3000, 2)  # numbers of four bytes


def model():
    """Large weights and small ones, in a graph with everything around them."""
    weights = [numpy_helper.from_array(RNG.standard_normal(size).astype("f"), f"w{size}") for size in SIZES]
    listed = helper.make_tensor("listed", TensorProto.FLOAT, [2000], RNG.standard_normal(2000))
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"], "name" * 100)], "small", [value], [value], [*weights, listed]
    )
    return helper.make_model(graph, producer_name="tests", doc_string="words " * 2000)


def outlined(data):
    return outline(io.BufferedReader(io.BytesIO(data)), len(data))


def whole(found, data):
    """The model that an outline and its file are together."""
    proto = onnx.ModelProto.FromString(found.message)
    for number, (first, length) in found.weights.items():
        assert not proto.graph.initializer[number].HasField("raw_data")
        proto.graph.initializer[number].raw_data = data[first : first + length]
    return proto


def field(number, body):
    length, head = len(body), bytearray([number << 3 | 2])
    while length >= 128:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes(head) + bytes([length]) + body


def test_outline_and_weights_are_the_model():
    proto = model()
    data = proto.SerializeToString()
    found = outlined(data)
    assert [SIZES[number] for number in found.weights] == [size for size in SIZES if 4 * size > SMALL]
    assert len(found.message) < len(data) - 4 * 3000
    assert whole(found, data) == proto


@pytest.mark.parametrize("order", [(1, 2, 8, 9), (9, 1, 2, 8), (8, 9, 2, 1)])
def test_weights_may_come_before_what_describes_them(order):
    raw = RNG.bytes(4 * 700)
    parts = {1: b"\x08\xbc\x05", 2: b"\x10\x01", 8: field(8, b"w"), 9: field(9, raw)}
    data = field(7, field(5, b"".join(parts[number] for number in order)))
    found = outlined(data)
    assert list(found.weights) == [0]
    (tensor,) = whole(found, data).graph.initializer
    assert (list(tensor.dims), tensor.data_type, tensor.name, tensor.raw_data) == ([700], 1, "w", raw)


@pytest.mark.parametrize(
    "data",
    [
        field(7, field(5, field(9, bytes(2000)) + field(9, bytes(3000)))),  # the last one counts
        field(7, field(5, field(9, bytes(2000)))) + field(7, field(5, field(9, bytes(2000)))),  # one after the other
        field(7, field(5, field(9, bytes(2000)) + b"\x0b\x0c")),  # a group
        field(7, field(5, b"\x4d" + bytes(4) + bytes(2000))),
        b"\xff" * 3000,
        b"",
    ],
)
def test_the_unusual_is_left_whole(data):
    assert outlined(data) == (data, {})


def test_no_damage_is_more_than_the_decoder_can_tell():
    data = model().SerializeToString()
    rng = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(data[: rng.integers(len(data)) if rng.random() < 0.3 else len(data)])
        for place in rng.integers(0, max(len(damaged), 1), 3):
            damaged[place : place + 1] = rng.bytes(1)
        found = outlined(bytes(damaged))
        assert len(found.message) <= len(damaged)
        assert all(first + length <= len(damaged) for first, length in found.weights.values())
        try:
            expected = onnx.ModelProto.FromString(bytes(damaged))
        except Exception:
            with pytest.raises(Exception, match=r"parsing|decod"):
                whole(found, bytes(damaged))
        else:
            assert whole(found, bytes(damaged)).SerializeToString(True) == expected.SerializeToString(True)
