"""The commands that look into a network: their examples run, and they draw and print what the network gives."""

import re
import shlex

import numpy as np
import pytest

import starconv as sc
from starconv import nets
from starconv.cli import networks
from starconv.cli.inputs import input_shapes, made_inputs
from starconv.cli.networks import _EXAMPLES, CHANNELS_SHOWN
from starconv.data.images import read_image, to_grey, write_image
from starconv.nets.preprocess import fitted
from starconv.nn.storage import save_state
from starconv.view import grids

EXAMPLES = [(command, arguments) for command, lines in _EXAMPLES.items() for arguments in lines]


@pytest.fixture(scope="module")
def small():
    """ResNet-18 for three classes: its weights, and pictures to look at."""
    return nets.resnet18(seed=0, classes=3)


def tiny(channels, classes, size=None):
    """A network of two layers as a graph: a convolution, the means of its channels."""
    builder = nets.Builder("tiny")
    rng = np.random.default_rng(0)
    height, width = ("H", "W") if size is None else size
    x = builder.input("x", np.float32, (1, channels, height, width))
    weights = builder.constant("w", rng.standard_normal((classes, channels, 3, 3), np.float32))
    x = builder.add("Conv", x, weights, name="layer1.0.conv1", kernel_shape=(3, 3))
    x = builder.add("Conv", x, builder.constant("v", np.ones((classes, classes, 1, 1), "f")), name="layer2.0.conv1")
    x = builder.add("GlobalAveragePool", x, name="mean")
    return nets.Network(builder.graph(builder.add("Flatten", x, name="scores")))


def pair(mask=("N", 1, "H", "W")):
    """A network with a picture, a mask of the same size, and the number of a class as inputs."""
    builder = nets.Builder("pair")
    x = builder.input("picture", np.float32, ("N", 3, "H", "W"))
    seen = builder.input("mask", bool, mask)
    number = builder.input("class=", np.int64, (1,))
    weights = builder.constant("conv.weight", np.ones((4, 3, 3, 3), "f"))
    x = builder.add("Conv", x, weights, name="conv", pads=(1, 1, 1, 1))
    x = builder.add("Where", seen, x, builder.constant("nothing", np.float32(0)), name="seen")
    table = builder.constant("table", np.ones((2, 4, 1, 1), "f"))
    x = builder.add("Mul", x, builder.add("Gather", table, number, name="row"), name="scaled")
    return nets.Network(builder.graph(x))


@pytest.fixture
def folder(small, tmp_path, monkeypatch):
    """A folder with what the examples name."""
    monkeypatch.chdir(tmp_path)
    colours = np.random.default_rng(0).integers(0, 256, (60, 72, 3), dtype=np.uint8)
    write_image("photo.jpg", colours)
    write_image("photo.png", colours)
    tiny(3, 12).to_onnx("model.onnx")
    pair().to_onnx("pair.onnx")
    tmp_path.joinpath("names.txt").write_text("\n".join(f"class {number}" for number in range(12)))
    save_state(small.graph.constants, "resnet18.npz")
    return tmp_path


@pytest.mark.parametrize(("command", "arguments"), EXAMPLES)
def test_the_examples_run(command, arguments, run, folder, monkeypatch):
    # The hub, and weights that are too large for a test, are stood in for by a network for three classes.
    arguments = arguments.replace("tv_in1k", "resnet18.npz").replace("resnet18.pth", "resnet18.npz")
    arguments = arguments.replace(" --weights bsds500", "")
    result = run(command, *shlex.split(arguments))
    if "-o" in arguments:
        words = shlex.split(arguments)
        assert f"wrote {words[-1]}" in result.output
        assert (folder / words[-1]).stat().st_size > 1000
    else:
        assert result.stdout.count("\n") >= 3


@pytest.mark.parametrize("command", _EXAMPLES)
def test_the_help_shows_the_examples(command, run):
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", run(command, "--help").output).split())
    for arguments in _EXAMPLES[command]:
        assert f"starconv {command} {arguments}" in text


@pytest.fixture
def drawn(monkeypatch):
    """What a command writes, in place of the file."""
    found = []
    monkeypatch.setattr(networks, "write_figure", lambda drawing, output: found.append(drawing.data))
    return found


def test_maps_draws_what_the_layer_gives(small, run, folder, drawn):
    run("maps", "photo.png", "-m", "resnet18", "-w", "resnet18.npz", "-o", "x.png")
    run(
        "maps", "photo.png", "-m", "resnet18", "-w", "resnet18.npz", "-l", "layer1.0.add", "-c", "63,2-3", "-o", "x.png"
    )
    run("maps", "photo.png", "-m", "resnet18", "-w", "resnet18.npz", "--size", "whole", "--all", "-o", "x.png")
    pixels = read_image("photo.png").array
    usual = small.feature_maps(nets.preprocess(pixels), ["conv1", "layer1.0.add"])
    whole = small.feature_maps(nets.preprocess(pixels, size=None), "conv1")
    assert [data.name for data in drawn] == ["conv1", "layer1.0.add", "conv1"]
    assert len(drawn[0].tiles) == CHANNELS_SHOWN
    assert drawn[0].total == len(drawn[2].tiles) == 64
    for data, maps, channels in zip(
        drawn, (usual["conv1"], usual["layer1.0.add"], whole), (range(16), (63, 2, 3), range(64)), strict=True
    ):
        for tile, channel in zip(data.tiles, channels, strict=True):
            assert np.array_equal(tile, maps[channel])


def test_how_pictures_are_taken(run, folder, drawn):
    pixels = read_image("photo.png").array
    tiny(1, 12).to_onnx("grey.onnx")
    tiny(3, 12, (20, 30)).to_onnx("fixed.onnx")
    run("maps", "photo.png", "-m", "grey.onnx", "--size", "40x50", "-o", "x.png")
    run("maps", "photo.png", "-m", "fixed.onnx", "-o", "x.png")
    run("maps", "photo.png", "-m", "model.onnx", "--colours", "unit", "--size", "32", "-o", "x.png")
    run("maps", "photo.png", "-m", "model.onnx", "--colours", "hed", "--size", "whole", "-o", "x.png")
    grey = fitted(to_grey(pixels) / 255, (40, 50))
    inputs = (
        np.moveaxis(grey, -1, 0)[np.newaxis],
        nets.preprocess(pixels, size=(20, 30)),
        np.moveaxis(fitted(pixels, 32), -1, 0)[np.newaxis] / np.float32(255),
        nets.hed_input(pixels),
    )
    for data, x in zip(drawn, inputs, strict=True):
        network = tiny(x.shape[1], 12)
        expected = network.feature_maps(x.astype(np.float32), "layer1.0.conv1")
        assert np.allclose(data.tiles, expected, atol=1e-5)


def test_filters_draws_the_kernels(small, run, folder, drawn):
    run("filters", "-m", "resnet18", "-w", "resnet18.npz", "-o", "x.png")
    run("filters", "-m", "resnet18", "-w", "resnet18.npz", "-l", "layer1.0.conv1", "-c", "5", "-o", "x.png")
    first, deeper = drawn
    kernels = small.graph.constants["conv1.weight"]
    assert len(first.tiles) == CHANNELS_SHOWN
    assert np.array_equal(first.tiles[3], np.moveaxis(kernels[3], 0, -1))
    assert np.array_equal(deeper.tiles[2], small.graph.constants["layer1.0.conv1.weight"][5, 2])


def test_summary_and_profile(run, folder):
    text = run("summary", "resnet18").stdout
    assert re.search(r"conv1 Conv +1 x 64 x 112 x 112 +9 408 +118 013 952", text)
    assert "11 689 512 parameters" in text
    assert "1 x 12 x 98 x 198" in run("summary", "model.onnx", "-i", "3x100x200").stdout
    profile = run("profile", "model.onnx").stdout
    assert "milliseconds" in profile
    assert all(name in profile for name in ("layer1.0.conv1", "layer2.0.conv1", "mean"))
    slowest = run("profile", "model.onnx", "--top", "2").stdout
    assert re.match(r"the slowest 2 of \d steps, which take [\d.]+ milliseconds\n", slowest)
    times = [float(line.split()[-1]) for line in slowest.splitlines()[2:4]]
    assert times == sorted(times, reverse=True)
    assert len(slowest.splitlines()) == 5


def test_networks_with_several_inputs(run, folder):
    sizes = {}
    for typed in ("", "-i 2x3x20x30", "-i mask=2x1x20x30", "-i 3x20x30 -i 2x1x20x30", "-i mask=1x20x30 -i 2x3x20x30"):
        sizes[typed] = run("summary", "pair.onnx", *typed.split()).stdout.splitlines()[-1].split(":")[0]
    assert sizes.pop("") == "picture 1 x 3 x 224 x 224, mask 1 x 1 x 224 x 224, class= 1"
    # What one input says of the batch, the height and the width holds for the other.
    assert set(sizes.values()) == {"picture 2 x 3 x 20 x 30, mask 2 x 1 x 20 x 30, class= 1"}
    assert "class= 1" in run("summary", "pair.onnx", "-i", "class==1").stdout
    profile = run("profile", "pair.onnx", "-i", "1x3x20x30").stdout
    assert "picture 1 x 3 x 20 x 30, mask 1 x 1 x 20 x 30, class= 1" in profile
    assert "pair.onnx: 1 of 1 layers measured" in run("tune", "pair.onnx", "-i", "1x3x20x30").stdout


def test_inputs_of_a_network_that_says_little_of_them(run, folder):
    pair(mask=None).to_onnx("open.onnx")
    assert "mask 1 x 1" in run("summary", "open.onnx", "-i", "mask=1x1").stdout
    builder = nets.Builder("scalar")
    x = builder.add("Mul", builder.input("x", np.float32, (None, None)), builder.input("by", np.float32, ()), name="y")
    nets.Network(builder.graph(x)).to_onnx("scalar.onnx")
    assert "x 1 x 224, by 1:" in run("summary", "scalar.onnx").stdout


def test_what_inputs_are_made_of(folder):
    network = pair()
    shapes = input_shapes(network, ["1x3x4x5"])
    assert shapes == [(1, 3, 4, 5), (1, 1, 4, 5), (1,)]
    picture, mask, number = made_inputs(network, shapes, seed=3)
    assert (picture.dtype, mask.dtype, number.dtype) == (np.float32, bool, np.int64)
    assert 0.5 < picture.std() < 1.5
    assert mask.all()
    assert number == 0
    again = made_inputs(network, shapes, seed=3)
    assert np.array_equal(picture, again[0])
    assert not np.array_equal(picture, made_inputs(network, shapes, seed=4)[0])


def test_classify(small, run, folder):
    folder.joinpath("three.txt").write_text("cat\ndog\nboat\n")
    arguments = ("classify", "photo.png", "-m", "resnet18", "-w", "resnet18.npz", "--labels", "three.txt")
    lines = run(*arguments).stdout.splitlines()
    scores = small(nets.preprocess(read_image("photo.png").array))[0].astype(float)
    shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    order = np.argsort(-shares)
    assert lines == [f"{100 * shares[n]:6.2f} %  {n:4d}  {('cat', 'dog', 'boat')[n]}" for n in order]
    assert len(run(*arguments, "--top", "1").stdout.splitlines()) == 1


def test_a_thousand_classes_have_imagenets_names(run, folder):
    builder = nets.Builder("panda")
    x = builder.input("x", np.float32, ("N", 3, "H", "W"))
    x = builder.add("Flatten", builder.add("GlobalAveragePool", x, name="mean"), name="flat")
    scores = np.zeros(1000, np.float32)
    scores[388] = 9
    zeros = builder.constant("w", np.zeros((1000, 3), np.float32))
    x = builder.add("Gemm", x, zeros, builder.constant("b", scores), name="fc", transB=1)
    nets.Network(builder.graph(builder.add("Softmax", x, name="shares", axis=-1))).to_onnx("panda.onnx")
    # e^9 / (e^9 + 999) = 89.02 %: shares that sum to one are not taken for scores once more.
    assert run("classify", "photo.png", "-m", "panda.onnx").stdout.startswith(" 89.02 %   388  giant panda\n")


def test_random_weights_are_said_to_be_random(run, folder):
    result = run("filters", "-m", "resnet18", "-o", "x.png")
    assert "resnet18 with random weights (--seed 0)" in result.stderr
    assert "random" not in run("filters", "-m", "resnet18", "-w", "resnet18.npz", "-o", "x.png").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maps", "photo.png", "-m", "resnet19"], "model = 'resnet19': expected a file .onnx, 'resnet18', "),
        (["maps", "photo.png", "-m", "model.onnx", "-w", "resnet18.npz"], "nothing with a file .onnx"),
        (["maps", "photo.png", "-m", "model.onnx", "-l", "layer9"], "layer = 'layer9'"),
        (["maps", "photo.png", "-m", "model.onnx", "-c", "12"], "channels"),
        (["maps", "photo.png", "-m", "model.onnx", "-c", "1", "--all"], "--channels or --all, not both"),
        (["maps", "photo.png", "-m", "model.onnx", "-c", "a"], "numbers and ranges of them"),
        (["maps", "photo.png", "-m", "model.onnx", "--size", "1x2x3"], "240x320 (height x width), or whole"),
        (["maps", "photo.png", "-m", "model.onnx", "--size", "0"], "240x320 (height x width), or whole"),
        (["maps", "photo.png", "-m", "model.onnx", "--colours", "blue"], "'imagenet', 'unit' or 'hed'"),
        (["maps", "photo.png", "-m", "model.onnx", "--scale", "both"], "'each' or 'shared'"),
        (["maps", "photo.png", "-m", "model.onnx", "--theme", "blue"], "theme"),
        (["maps", "photo.png", "-m", "photo.png"], "photo.png"),
        (["filters", "-m", "model.onnx", "-l", "scores"], "a convolution, 'layer1.0.conv1' or 'layer2.0.conv1'"),
        (["filters", "-m", "model.onnx", "-l", "layer9"], "layer = 'layer9'"),
        (["filters", "-m", "resnet18", "-w", "names.txt"], "names.txt: expected weights"),
    ],
)
def test_wrong_drawings(arguments, message, run, folder):
    result = run(*arguments, "-o", "x.png", code=2)
    assert message in " ".join(result.stderr.split())
    assert not (folder / "x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary", "model.onnx", "-i", "axb"], "input = 'axb'"),
        (["summary", "model.onnx", "-i", "1x3x100000x100000"], "input = (1, 3, 100000, 100000)"),
        (["profile", "model.onnx", "-i", "1x3x100000x100000"], "input = (1, 3, 100000, 100000)"),
        (["summary", "model.onnx", "-i", "4x100x100"], "expected x: float32 (1, 3, H, W)"),
        (["summary", "model.onnx", "-i", "3x-4x4"], "input = '3x-4x4': expected sizes >= 0"),
        (["profile", "pair.onnx", "-i", "image=1x3x4x4"], "input = 'image=1x3x4x4': expected a size for one of"),
        (["profile", "pair.onnx", "-i", "mask=1x1x4x4", "-i", "mask=1x1x4x4"], "each once: picture: float32"),
        (["summary", "pair.onnx", *["-i", "1"] * 4], "mask: bool (N, 1, H, W); class=: int64 (1)"),
        (["summary", "pair.onnx", "-i", "1x3x4x4", "-i", "1x1x5x4"], "'1x1x5x4': expected mask: bool"),
        (["tune", "pair.onnx", "-i", "1x3x4x4", "-i", "1x1x5x4"], "(N, 1, H, W); H is 4 elsewhere"),
        (["summary", "pair.onnx", "-i", "1x3x4"], "'1x3x4': expected picture: float32 (N, 3, H, W)"),
        (["profile", "pair.onnx", "-i", "4"], "input = '4': expected picture: float32 (N, 3, H, W), 4 axes"),
        (["profile", "open.onnx"], "input = None: expected a size for mask: bool (?), such as mask=1x3x224x224"),
        (["classify", "photo.png", "-m", "resnet18"], "a network with random weights knows nothing"),
        (["classify", "photo.png", "-m", "hed", "-w", "resnet18.npz"], "the weights of hed; missing: block1.conv1"),
        (["classify", "photo.png", "-m", "model.onnx", "--labels", "photo.png"], "names as UTF-8 text"),
        (["classify", "photo.png", "-m", "model.onnx", "--labels", "model.txt"], "12 names, one a line; found 1"),
        (["classify", "names.txt", "-m", "model.onnx"], "a picture"),
    ],
)
def test_wrong_calls(arguments, message, run, folder):
    folder.joinpath("model.txt").write_text("one")
    pair(mask=None).to_onnx("open.onnx")
    assert message in " ".join(run(*arguments, code=2).stderr.split())


def test_files_that_are_missing(run, folder):
    assert "missing.onnx" in run("summary", "missing.onnx", code=1).stderr
    assert "missing.png" in run("maps", "missing.png", "-m", "model.onnx", "-o", "x.png", code=1).stderr


def test_the_names_in_the_help_are_those_that_there_are(run):
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", run("summary", "--help").output).split())
    for name in nets.MODELS:
        assert name in text


def test_the_public_names():
    assert sc.nets.resnet18 is nets.resnet18
    assert grids.CHANNELS_SHOWN >= CHANNELS_SHOWN
