"""Networks by name: torchvision's names, numbers of parameters and shapes; weights that do not fit."""

import numpy as np
import pytest

from starconv.data.files import FileContentError
from starconv.errors import ArgumentTypeError, ArgumentValueError
from starconv.nets import classics, resnet
from starconv.nets.blueprint import Weights
from starconv.nets.models import MODELS, model
from starconv.nn.storage import save_state


class Counted(Weights):
    """Weights that take no memory: of VGG-16 there would be half a gigabyte."""

    def take(self, name, shape, draw):
        self.shapes[name] = shape
        return np.broadcast_to(np.float32(0), shape)


def shapes_of(graph_of, *arguments):
    weights = Counted(None)
    weights.shapes = {}
    if graph_of is resnet.resnet_graph:
        graph_of(*arguments, weights)
    else:
        graph_of(weights, *arguments)
    return weights.shapes


@pytest.mark.parametrize(
    ("shapes", "count"),
    # Source of the numbers: the table of models in torchvision's documentation.
    [
        (lambda: shapes_of(resnet.resnet_graph, "resnet18"), 11_689_512),
        (lambda: shapes_of(resnet.resnet_graph, "resnet34"), 21_797_672),
        (lambda: shapes_of(resnet.resnet_graph, "resnet50"), 25_557_032),
        (lambda: shapes_of(classics.vgg16_graph), 138_357_544),
        (lambda: shapes_of(classics.squeezenet1_1_graph), 1_235_496),
        (lambda: shapes_of(classics.mobilenet_v2_graph), 3_504_872),
    ],
)
def test_as_many_parameters_as_torchvision_says(shapes, count):
    trained = {name: shape for name, shape in shapes().items() if "running_" not in name}
    assert sum(int(np.prod(shape)) for shape in trained.values()) == count


def test_the_names_of_resnet18():
    expected = {"conv1.weight": (64, 3, 7, 7), "fc.weight": (1000, 512), "fc.bias": (1000,)}

    def norm(name, channels):
        expected.update({f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")})

    norm("bn1", 64)
    for stage, (before, channels) in enumerate(((64, 64), (64, 128), (128, 256), (256, 512)), 1):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            expected[f"{name}.conv1.weight"] = (channels, channels if block else before, 3, 3)
            expected[f"{name}.conv2.weight"] = (channels, channels, 3, 3)
            norm(f"{name}.bn1", channels)
            norm(f"{name}.bn2", channels)
            if stage > 1 and block == 0:
                expected[f"{name}.downsample.0.weight"] = (channels, before, 1, 1)
                norm(f"{name}.downsample.1", channels)
    assert shapes_of(resnet.resnet_graph, "resnet18") == expected


def test_names_of_the_others():
    assert shapes_of(resnet.resnet_graph, "resnet50")["layer4.2.conv3.weight"] == (2048, 512, 1, 1)
    assert shapes_of(classics.vgg16_graph)["features.28.weight"] == (512, 512, 3, 3)
    assert shapes_of(classics.squeezenet1_1_graph)["features.12.expand3x3.weight"] == (256, 64, 3, 3)
    mobile = shapes_of(classics.mobilenet_v2_graph)
    assert mobile["features.1.conv.0.0.weight"] == (32, 1, 3, 3)
    assert mobile["features.17.conv.1.0.weight"] == (960, 1, 3, 3)
    assert mobile["features.17.conv.3.running_var"] == (320,)


@pytest.fixture(scope="module")
def network():
    return resnet.resnet18(seed=0, classes=5)


def test_shapes_that_resnet18_gives(network):
    x = np.zeros((2, 3, 64, 96), np.float32)
    assert network(x).shape == (2, 5)
    found = network.feature_maps(x[0], ["conv1", "maxpool", "layer1.1.relu_1", "layer2.0.downsample.0", "layer4.1.add"])
    assert [maps.shape for maps in found.values()] == [
        (64, 32, 48),
        (64, 16, 24),
        (64, 16, 24),
        (128, 8, 12),
        (512, 2, 3),
    ]


def test_the_published_multiply_adds(network):
    # K. He et al., table 1, say 1.8e9 of ResNet-18 (with 1000 classes, which are 0.5e6 of them).
    assert 1.81e9 < network.summary((1, 3, 224, 224)).multiply_adds < 1.82e9


def test_random_weights_are_those_of_the_seed(network):
    same, other = resnet.resnet18(seed=0, classes=5), resnet.resnet18(seed=1, classes=5)
    for name, array in network.graph.constants.items():
        assert np.array_equal(array, same.graph.constants[name])
        assert array.dtype == np.float32
    assert not np.array_equal(network.graph.constants["conv1.weight"], other.graph.constants["conv1.weight"])
    # He's variance: 2 / (64 kernels of 7 x 7).
    assert np.isclose(network.graph.constants["conv1.weight"].var(), 2 / (64 * 49), rtol=0.05)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_weights_from_a_file(network, suffix, tmp_path):
    state = {**network.graph.constants, "bn1.num_batches_tracked": np.int64(7)}
    save_state(state, tmp_path / f"w{suffix}")
    loaded = resnet.resnet18(tmp_path / f"w{suffix}")  # the number of classes is that of the file
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 40), np.float32)
    assert np.array_equal(loaded(x), network(x))
    assert np.array_equal(resnet.resnet18(state)(x), network(x))


def test_weights_that_do_not_fit(network, tmp_path):
    state = dict(network.graph.constants)
    del state["bn1.weight"]
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"][:32]
    state["fc.bias"] = np.arange(5)
    state["head.weight"] = np.zeros((2, 3), np.float32)
    with pytest.raises(ArgumentValueError) as caught:
        resnet.resnet18(state, classes=5)
    for words in (
        "missing: bn1.weight (64,)",
        "of another shape or type: layer1.0.conv1.weight (32, 64, 3, 3) in place of (64, 64, 3, 3)",
        "fc.bias of int64 in place of float32",
        "unexpected: head.weight (2, 3)",
    ):
        assert words in str(caught.value)
    save_state({"fc.weight": np.zeros((1, 2), np.float32)}, tmp_path / "w.npz")
    with pytest.raises(FileContentError, match=r"w\.npz: expected the weights of resnet18; missing: conv1.*95 more"):
        resnet.resnet18(tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ("imagenet", ArgumentValueError, "'tv_in1k'; there is no such file"),
        (7, ArgumentTypeError, "a file, arrays by name, or None"),
        ("missing.pth", FileNotFoundError, "missing"),
    ],
)
def test_weights_that_are_none(weights, error, message):
    with pytest.raises(error, match=message):
        resnet.resnet18(weights)


def test_the_smaller_ones_run():
    x = np.random.default_rng(0).standard_normal((1, 3, 65, 64), np.float32)
    for name in ("squeezenet1_1", "mobilenet_v2"):
        scores = model(name, seed=0)(x)
        assert scores.shape == (1, 1000)
        assert np.isfinite(scores).all()
        assert scores.std() > 0


def test_limits_are_no_parameters():
    assert model("mobilenet_v2", seed=0).parameters == 3_504_872


def test_models_by_name():
    assert set(MODELS) >= {"resnet18", "resnet34", "resnet50", "vgg16", "squeezenet1_1", "mobilenet_v2", "hed"}
    with pytest.raises(ArgumentValueError, match="'resnet18', "):
        model("resnet19")
