"""Whole networks: compiled and interpreted, looked into, described, and how wrong calls are refused."""

import copy
import pickle
import threading

import numpy as np
import pytest
from architectures import ARCHITECTURES
from onnx_models import reference

import starconv as sc
from starconv import nets, nn
from starconv.nets import Builder, Network, NodeError, Value


@pytest.fixture(scope="module", params=ARCHITECTURES)
def small(request, tmp_path_factory):
    """A small network of each architecture: its model, the network, an input."""
    model = ARCHITECTURES[request.param](1 / 16, 64)
    path = tmp_path_factory.mktemp("nets") / "model.onnx"
    path.write_bytes(model.SerializeToString())
    x = np.random.default_rng(1).random((2, 3, 64, 64), "float32")
    return model, nets.load(path), x


def close(found, expected, tolerance=1e-4):
    found, expected = (list(y) if isinstance(y, tuple | list) else [y] for y in (found, expected))
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert abs(ours - theirs).max() <= tolerance * abs(theirs).max()


def test_known_architectures_agree_with_the_onnx_packages_evaluator(small):
    model, network, x = small
    theirs = reference(model, {"x": x})
    close(network.interpreted(x), theirs)
    close(network(x), theirs)


def test_known_architectures_are_compiled(small):
    _, network, x = small
    program = network.program(x.shape)
    close(list(program(x)), network.interpreted(x))
    network(x)
    assert network._programs[(x.shape,)] is not None


def test_several_shapes_and_batches_one_after_the_other(small):
    _, network, x = small
    whole = network(x)
    for part in (x[:1], x[1:], x[:, :, ::-1].copy()[:, :, ::-1]):
        network(part)
    first = network(x[:1])
    close([y[:1] for y in (whole if isinstance(whole, tuple) else (whole,))], first)
    assert len(network._programs) <= 8


def test_inside_of_a_network(small):
    _, network, x = small
    producers = {name: n.name for n in network.graph.nodes for name in n.outputs}
    names = [name for name, layer in network.layers.items() if layer.op in ("Conv", "Add", "MaxPool")]
    for name in (names[0], names[len(names) // 2], names[-1]):
        value = network.layers[name].node.outputs[0]
        assert producers[value] == name
        maps = network.run(x, upto=name)
        np.testing.assert_array_equal(maps, network.run(x, upto=value))
        one = network.feature_maps(x[0], name)
        assert one.shape == maps.shape[1:]
        close(one, maps[0])
        np.testing.assert_array_equal(network.feature_maps(x[:1], [name])[name], one)
    first = names[0]
    assert network.layers[first].kernels.shape[1:] == (3, *[network.layers[first].kernels.shape[-1]] * 2)
    close(network.run(x), network(x))


def test_summary_and_profile(small):
    _, network, x = small
    summary = network.summary(x.shape)
    assert [row.name for row in summary.rows] == list(network.layers)
    assert summary.parameters == network.parameters
    convolutions = [row for row in summary.rows if row.op == "Conv"]
    for row in convolutions:
        kernels = network.layers[row.name].kernels
        assert row.multiply_adds == np.prod(row.output) * kernels[0].size
    assert network.summary((3, 64, 64)).multiply_adds * 2 == summary.multiply_adds
    assert f"{summary.multiply_adds:,}".replace(",", " ") in str(summary)
    measured = network.profile(x)
    assert measured.seconds > 0
    assert all(row.seconds >= 0 for row in measured.rows)
    assert measured.multiply_adds >= sum(row.multiply_adds for row in convolutions)
    assert sum(row.parameters for row in measured.rows) == sum(row.parameters for row in summary.rows)
    assert "milliseconds" in str(measured)


def test_an_input_may_have_any_name():
    builder = Builder("named")
    network = Network(builder.graph(builder.add("Relu", builder.input("self", np.float32, (1, 2)))))
    np.testing.assert_array_equal(network(**{"self": np.float32([[-1, 1]])}), [[0, 1]])


# Receptive fields


def test_an_input_that_is_called_upto_is_given_by_position():
    builder = Builder("range")
    x, upto = (builder.input(name, np.float32, (2,)) for name in ("x", "upto"))
    network = Network(builder.graph(builder.add("Relu", builder.add("Min", x, upto, name="least"), name="relu")))
    x, most = np.float32([-3, 5]), np.float32([4, 4])
    np.testing.assert_array_equal(network(x, upto=most), [0, 4])
    np.testing.assert_array_equal(network.interpreted(upto=most, x=x), [0, 4])
    np.testing.assert_array_equal(network.run(x, most, upto="least"), [-3, 4])
    np.testing.assert_array_equal(network.run(x, most, upto="upto"), most)  # the value that it is
    with pytest.raises(sc.ArgumentTypeError, match=r"upto = array .* called so too is taken by position"):
        network.run(x, upto=most)


def measured_field(network, layer, shape, at):
    """The input elements that the unit changes with, found by changing each."""
    places = list(np.ndindex(*shape[2:]))
    x = np.repeat(np.random.default_rng(0).random(shape), len(places) + 1, axis=0)
    for number, i in enumerate(places):
        x[(number, slice(None), *i)] += 1
    results = network.run(x, upto=layer)[(slice(None), slice(None), *at)]
    return (results[:-1] != results[-1]).any(axis=1).reshape(shape[2:])


def paths():
    rng = np.random.default_rng(2)
    b = Builder("paths")
    x = b.input("x", np.float64, ("n", 2, 11, 12))

    def conv(x, name, channels=2, **attributes):
        w = b.constant(f"{name}.weight", abs(rng.standard_normal((2, channels, 3, 3))) + 0.1)
        return b.add("Conv", x, w, name=name, **attributes)

    h = conv(x, "first", pads=(1, 1, 1, 1), strides=(2, 1))
    long = conv(conv(h, "a", pads=(1,) * 4), "b", pads=(2, 2, 2, 2), dilations=(2, 2))
    h = b.add("Add", long, h, name="sum")
    pooled = b.add("AveragePool", h, name="pool", kernel_shape=(2, 3), strides=(2, 2), pads=(0, 1, 0, 1))
    w = b.constant("up.weight", abs(rng.standard_normal((2, 2, 3, 2))) + 0.1)
    up = b.add("ConvTranspose", pooled, w, name="up", strides=(2, 2), pads=(0, 0, 1, 0))
    sizes = b.constant("sizes", np.array([12, 12]))
    big = b.add("Resize", up, "", "", sizes, name="big", mode="linear", axes=(2, 3))
    near = b.add("Resize", pooled, "", "", sizes, name="near", mode="nearest", axes=(2, 3))
    joined = b.add("Concat", big, near, name="joined", axis=1)
    last = conv(joined, "last", 4)
    b.add("GlobalAveragePool", last, name="mean")
    return Network(b.graph(last, "mean"))


def test_receptive_fields_cover_what_acts_and_are_tight_for_convolutions():
    network = paths()
    exact = ("first", "a", "b", "sum", "pool")
    for layer in (*exact, "up", "big", "near", "joined", "last"):
        shape = network.run(np.zeros((1, 2, 11, 12)), upto=layer).shape
        for at in ((0, 0), (shape[2] // 2, shape[3] // 2), (shape[2] - 1, shape[3] - 1)):
            acts = measured_field(network, layer, (1, 2, 11, 12), at)
            spans = network.receptive_field(layer, at=at)
            where = np.argwhere(acts)
            for axis, (first, last) in enumerate(spans):
                low, high = where[:, axis].min(), where[:, axis].max()
                assert first <= low
                assert last >= high
                if layer in exact:
                    assert (max(first, 0), min(last, acts.shape[axis] - 1)) == (low, high)
    for first, last in network.receptive_field("mean"):
        assert first <= 0
        assert last >= 10


def test_receptive_field_of_a_known_network(tmp_path):
    """ResNet-18's numbers by hand: 7 stride 2, pool 3 stride 2, then 3 x 3 kernels four inputs apart."""
    (tmp_path / "m.onnx").write_bytes(ARCHITECTURES["resnet18"](1 / 16, 64).SerializeToString())
    network = nets.load(tmp_path / "m.onnx")
    names = [name for name, layer in network.layers.items() if layer.op in ("Conv", "MaxPool")]
    sizes = [
        last - first + 1 for first, last in (network.receptive_field(n, (1, 3, 64, 64), (2, 2))[0] for n in names[:6])
    ]
    assert sizes == [7, 11, 19, 27, 35, 43]


def test_views_take_what_the_inside_gives():
    network = nets.from_nn(nn.Sequential(nn.Conv2d(3, 4, 3, seed=0), nn.ReLU()), (3, 12, 12))
    x = np.random.default_rng(0).random((3, 12, 12), "float32")
    sc.view.filters(network.layers["0"].kernels)
    sc.view.feature_maps(network.feature_maps(x, "1"))
    sc.view.feature_maps(network.feature_maps(x, ["0", "1"]), "0")


# Calls


def two_inputs():
    b = Builder("two")
    x = b.input("picture", np.float32, ("batch", 1, 4, 4))
    y = b.input("mask", np.float32, ("batch", 1, 4, 4))
    total = b.add("Add", x, y, name="sum")
    b.add("Sub", x, y, name="difference")
    return Network(b.graph(total, "difference"))


def test_inputs_by_position_and_by_name_and_outputs_as_a_tuple():
    network = two_inputs()
    x, y = np.random.default_rng(0).random((2, 3, 1, 4, 4), "float32")
    for given, named in (((x, y), {}), ((x,), {"mask": y}), ((), {"mask": y, "picture": x})):
        total, difference = network(*given, **named)
        np.testing.assert_array_equal(total, x + y)
        np.testing.assert_array_equal(difference, x - y)
    total, _ = network(x.tolist(), mask=y)
    np.testing.assert_array_equal(total, x + y)
    views = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 0)), 0, -1)
    np.testing.assert_array_equal(network(views, y[::1])[0], x + y)


def test_wrong_calls_say_what_was_expected():
    network = two_inputs()
    x = np.zeros((3, 1, 4, 4), "float32")
    for given, named, kind, message in (
        (
            (x,),
            {},
            sc.ArgumentTypeError,
            "nothing for mask.: expected the inputs picture: float32 .batch, 1, 4, 4.; mask",
        ),
        ((x, x, x), {}, sc.ArgumentTypeError, "3 by position"),
        ((x,), {"maks": x}, sc.ArgumentTypeError, "maks = array"),
        ((x,), {"picture": x}, sc.ArgumentTypeError, "each once"),
        ((x.astype("f8"), x), {}, sc.ArgumentTypeError, r"picture = .*float64.*astype\('float32'\)"),
        ((x, (x * 255).astype("u1")), {}, sc.ArgumentTypeError, "mask = .*uint8"),
        ((x[0], x), {}, sc.ArgumentValueError, "4 axes"),
        ((x[..., :3], x), {}, sc.ArgumentValueError, "picture = array of shape .3, 1, 4, 3."),
        ((x, x[:2]), {}, sc.ArgumentValueError, "mask .*batch is 3 elsewhere"),
        (([[1], [1, 2]], x), {}, sc.ArgumentValueError, "picture"),
        (("text", x), {}, sc.ArgumentTypeError, "picture"),
    ):
        with pytest.raises(kind, match=message):
            network(*given, **named)
    with pytest.raises(sc.ArgumentValueError, match=r"upto = 'summ'.*'sum'"):
        network.run(x, x, upto="summ")
    with pytest.raises(sc.ArgumentValueError, match="one input"):
        network.feature_maps(x[0], "sum")
    with pytest.raises(sc.ArgumentTypeError, match="graph = "):
        Network("model.onnx")


def test_results_are_the_callers_own():
    b = Builder("views")
    x = b.input("x", np.float32, (4,))
    w = b.constant("w", np.ones(4, "f"))
    b.add("Identity", x, name="same")
    b.add("Reshape", x, b.constant("shape", np.array([2, 2])), name="square")
    b.add("Identity", w, name="weights")
    network = Network(b.graph("same", "square", "weights", "w", "x"))
    given = np.arange(4, dtype="float32")
    for run in (network, network.interpreted):
        for result in run(given):
            result[...] = -1
        np.testing.assert_array_equal(given, np.arange(4))
        np.testing.assert_array_equal(network.graph.constants["w"], 1)


def test_sizes_that_depend_on_the_numbers_are_interpreted():
    b = Builder("data")
    x = b.input("x", np.float32, ("n",))
    many = b.add("Cast", b.add("ReduceSum", x, keepdims=1), to=7)
    b.add("NonZero", x, name="where")
    zeros = b.add("ConstantOfShape", many, name="zeros", value=np.zeros(1, "f"))
    network = Network(b.graph("where", zeros))
    for values in ([1, 0, 2], [0, 0, 1], [3, 3, 3]):
        where, zeros = network(np.array(values, "float32"))
        np.testing.assert_array_equal(where[0], np.flatnonzero(values))
        assert zeros.shape == (sum(values),)
    with pytest.raises(sc.ArgumentValueError, match="shapes of the inputs decide"):
        network.program((3,))


def test_a_layer_that_does_not_fit_is_named():
    b = Builder("wrong")
    x = b.input("x", np.float32, None)
    h = b.add("Conv", x, b.constant("c.weight", np.ones((2, 3, 3, 3), "f")), name="c")
    network = Network(b.graph(b.add("Relu", h, name="act")))
    assert network(np.zeros((1, 3, 5, 5), "f")).shape == (1, 2, 3, 3)
    for shape in ((1, 4, 5, 5), (1, 3, 2, 2), (3, 5, 5), ()):
        with pytest.raises(NodeError, match=r"Conv 'c' with inputs float32"):
            network(np.zeros(shape, "f"))


def test_graphs_are_checked_when_they_are_made():
    x = Value("x", np.dtype("f4"), (1,))
    for nodes, outputs, message in (
        ([nets.Node("Relu", "a", ("y",), ("y",))], ["y"], "uses 'y'"),
        ([nets.Node("Relu", "a", ("x",), ("x",))], ["x"], "gives 'x' again"),
        ([nets.Node("Relu", "a", ("x",), ("y",)), nets.Node("Relu", "a", ("x",), ("z",))], ["y"], "two are 'a'"),
        ([nets.Node("Relu", "a", ("x",), ("y",))], ["z"], "'z' is not"),
    ):
        with pytest.raises(sc.ArgumentValueError, match=message):
            nets.Graph("g", tuple(nodes), {}, (x,), tuple(Value(name, x.dtype, None) for name in outputs))


def test_copies_processes_and_threads(small):
    _, network, x = small
    expected = network(x)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        close(other(x), expected, 1e-6)
    found = {}

    def run(number):
        found[number] = [network(x) for _ in range(3)]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for results in found.values():
        for result in results:
            close(result, expected, 1e-6)
    assert len(found) == 4


def test_repr_says_what_it_is():
    assert repr(two_inputs()) == (
        "Network('two', picture: float32 (batch, 1, 4, 4), mask: float32 (batch, 1, 4, 4) -> "
        "sum: float32 (?), difference: float32 (?), 2 layers, 0 parameters)"
    )
    network = nets.from_nn(nn.Conv2d(1, 2, 3), (1, 5, 5))
    assert repr(network.layers["conv"]).startswith("Layer(conv: Conv, strides=(1, 1)")
    assert network.layers["conv"].bias.shape == (2,)
    with pytest.raises(sc.ArgumentValueError, match="kernels of its own"):
        _ = two_inputs().layers["sum"].kernels


def test_padding_that_the_result_does_not_show_is_bounded_too():
    builder = Builder("padded")
    x = builder.input("x", np.float32, (1, 1, "H"))
    weight = builder.constant("w", np.ones((1, 1, 3), "f"))
    most = 2**31 - 1
    network = Network(builder.graph(builder.add("Conv", x, weight, name="far", strides=(most,), pads=(most, most))))
    with pytest.raises(NodeError, match=r"Conv 'far' .* more than the 2,147,483,648 that are allowed"):
        network(np.ones((1, 1, 4), "f"))


def test_inputs_that_are_only_asked_about_are_bounded():
    builder = Builder("relu")
    network = Network(builder.graph(builder.add("Relu", builder.input("x", np.float32, ("N", "C")), name="relu")))
    for ask in (network.summary, lambda shape: network.receptive_field("relu", shape)):
        with pytest.raises(sc.ArgumentValueError, match=r"input_shape = .* at most 2,147,483,648 bytes"):
            ask((10**6, 10**6))


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda network: network.feature_maps(np.zeros((3, 64, 64), "f"), 3), "layer"),
        (lambda network: network.run(np.zeros((1, 3, 64, 64), "f"), upto=3), "upto"),
        (lambda network: network.summary(3), "input_shape"),
        (lambda network: network.receptive_field("features.0", (3, 64, 64), at=2.5), "at"),
        (lambda network: nets.squeezenet1_1({1: np.zeros(3)}), "weights"),
        (lambda network: nets.squeezenet1_1(classes=0), "classes"),
        (lambda network: nets.resnet18(classes="10"), "classes"),
        (lambda network: nets.load_weights(3), "path"),
        (lambda network: nets.preprocess(np.zeros((40, 40)), size=(8, 8, 8)), "size"),
        (lambda network: nets.preprocess(np.zeros((40, 40)), size="8"), "size"),
        (lambda network: nets.preprocess(np.zeros((40, 40)), size=8, shorter="8"), "shorter"),
    ],
)
def test_arguments_of_another_kind_are_named(call, argument):
    with pytest.raises((sc.ArgumentTypeError, sc.ArgumentValueError), match=rf"^{argument} = "):
        call(nets.squeezenet1_1())
