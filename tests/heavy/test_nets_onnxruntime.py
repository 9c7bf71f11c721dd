"""Networks beside onnxruntime: known architectures in their real size, operators, and layers written as files."""

import numpy as np
import pytest
from architectures import ARCHITECTURES
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx_models import node_of, one_node
from strategies import examples, seeds

from starconv import nets, nn
from starconv.nets.operators import run_node

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.heavy


def theirs(model, inputs):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def close(found, expected, tolerance=1e-4):
    assert len(found) == len(expected)
    for ours, other in zip(found, expected, strict=True):
        assert ours.shape == other.shape
        assert ours.dtype == other.dtype
        assert abs(ours - other).max(initial=0) <= tolerance * abs(other).max(initial=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_in_their_real_size(name, tmp_path):
    size = 96 if name == "unet" else 224
    model = ARCHITECTURES[name](1, size)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    network = nets.load(path)
    x = np.random.default_rng(1).standard_normal((1, 3, size, size)).astype("f")
    expected = theirs(model, {"x": x})
    program = network.program(x.shape)
    for found in (network(x), network.interpreted(x), program(x)):
        close(found if isinstance(found, tuple) else (found,), expected)
    again = tmp_path / "again.onnx"
    network.to_onnx(again)
    close(theirs(again.read_bytes(), {"x": x}), expected, 1e-5)


def check(op, inputs, opset=18, tolerance=1e-4, outputs=1, **attributes):
    model = one_node(op, inputs, outputs, opset, **attributes)
    found = run_node(node_of(model), list(inputs.values()), opset)
    given = {name: array for name, array in inputs.items() if array is not None}
    close(found, theirs(model, given), tolerance)


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype("f")


@examples(4)
@given(
    st.sampled_from(["nearest", "linear", "cubic"]),
    st.sampled_from(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_resize(mode, coordinates, nearest, by_sizes, antialias, data):
    sizes = [data.draw(st.integers(3, 12)) for _ in range(2)]
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = nearest
    elif antialias:
        attributes |= {"antialias": 1, "exclude_outside": 1}
        assume(coordinates == "half_pixel")
    x = numbers(data.draw(seeds), 1, 2, *sizes)
    if by_sizes:
        wanted = np.array([1, 2, *(data.draw(st.integers(1, 20)) for _ in sizes)], np.int64)
        if mode == "nearest" and coordinates != "asymmetric":
            assume(all(w % s == 0 for w, s in zip(wanted[2:], sizes, strict=True)))  # halves, rounded in float32 there
        check("Resize", {"x": x, "roi": None, "scales": None, "sizes": wanted}, tolerance=2e-3, **attributes)
    else:
        scales = [data.draw(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])) for _ in sizes]
        if coordinates == "align_corners":
            # For a size of 2.5 ONNX's test cases divide by 1.5, onnxruntime by 1.
            assume(all(n * s % 1 == 0 for n, s in zip(sizes, scales, strict=True)))
        check("Resize", {"x": x, "roi": None, "scales": np.array([1, 1, *scales], "f")}, tolerance=2e-3, **attributes)


@examples(4)
@given(st.sampled_from(["MaxPool", "AveragePool"]), st.integers(0, 1), st.integers(0, 1), st.data())
def test_pools(op, ceil, include, data):
    draw = data.draw
    sizes = [draw(st.integers(3, 9)) for _ in range(2)]
    kernel = [draw(st.integers(1, 3)) for _ in sizes]
    attributes = {
        "kernel_shape": kernel,
        "strides": [draw(st.integers(1, 3)) for _ in sizes],
        "pads": [draw(st.integers(0, k - 1)) for k in kernel * 2],
        "ceil_mode": ceil,
    }
    if op == "AveragePool":
        attributes["count_include_pad"] = include
    check(op, {"x": numbers(draw(seeds), 2, 3, *sizes)}, **attributes)


@examples(4)
@given(st.integers(1, 3), st.booleans(), st.data())
def test_transposed_convolutions(spatial, by_shape, data):
    draw = data.draw
    group = draw(st.integers(1, 2))
    sizes = [draw(st.integers(2, 5)) for _ in range(spatial)]
    kernel = [draw(st.integers(1, 3)) for _ in sizes]
    strides = [draw(st.integers(1, 3)) for _ in sizes]
    seed = draw(seeds)
    x, w, b = numbers(seed, 1, 2 * group, *sizes), numbers(seed + 1, 2 * group, 2, *kernel), numbers(seed, 2 * group)
    attributes = {"strides": strides, "group": group}
    if by_shape:
        full = [(n - 1) * s + k for n, s, k in zip(sizes, strides, kernel, strict=True)]
        attributes["output_shape"] = [max(f - draw(st.integers(0, 2)), 1) for f in full]
        if draw(st.booleans()):
            attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
    else:
        attributes["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
        ends = zip(attributes["pads"][:spatial], attributes["pads"][spatial:], strict=True)
        shape = [(n - 1) * s + k - sum(p) for n, s, k, p in zip(sizes, strides, kernel, ends, strict=True)]
        assume(min(shape) > 0)
    check("ConvTranspose", {"x": x, "w": w, "b": b}, **attributes)


def test_layers_written_as_files(tmp_path):
    rng = np.random.default_rng(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect", seed=rng),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Residual(nn.Conv2d(8, 8, 3, padding="same", groups=2, seed=rng)),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.ConvTranspose2d(8, 4, 3, 2, 1, 1, groups=2, seed=rng),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(2, 2, 1, count_include_pad=False, ceil_mode=True),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(4 * 5 * 6, 7, seed=rng),
    )
    x = rng.standard_normal((2, 3, 15, 18)).astype("f")
    module.eval()
    nets.export(module, tmp_path / "layers.onnx", (3, 15, 18))
    expected = module(x)
    close(theirs((tmp_path / "layers.onnx").read_bytes(), {"x": x}), [expected])
    close([nets.load(tmp_path / "layers.onnx")(x)], [expected])
