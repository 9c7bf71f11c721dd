"""`starconv train`, its networks by name, and folders of classes."""

import csv
import re
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import starconv as sc
from starconv import nn
from starconv.cli import app
from starconv.data.digits import digits
from starconv.data.files import FileContentError
from starconv.data.images import write_image
from starconv.nn.folders import class_folders
from starconv.nn.networks import NETWORKS, RECIPES


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["train", *map(str, arguments)], prog_name="starconv")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("channels", "size"), [(1, (8, 8)), (3, (13, 10))])
def test_networks_by_name(name, channels, size):
    network = NETWORKS[name](channels, size, 7, 0)
    x = np.random.default_rng(0).random((2, channels, *size), "float32")
    output = network(x)
    assert output.shape == (2, 7)
    assert network.summary((channels, *size)).rows[-1].output == (7,)
    assert network.backward(output).shape == x.shape
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_every_network_has_a_recipe():
    assert set(RECIPES) == set(NETWORKS)
    said = run("--help").stdout
    for attribute in ("epochs", "batch_size", "lr"):
        words = [f"{getattr(RECIPES[name], attribute):g}" for name in ("compact", "lenet", "resnet20")]
        assert f"{words[0]}, {words[1]} or {words[2]}" in " ".join(said.replace("│", " ").split())


@pytest.mark.parametrize(("name", "least"), [("compact", 0.985), pytest.param("lenet", 0.98, marks=pytest.mark.heavy)])
def test_the_recipes_are_good(name, least):
    recipe, (train, test) = RECIPES[name], digits()
    network = NETWORKS[name](1, (8, 8), 10, 0)
    optimizer = recipe.optimizer(network, recipe.lr)
    schedule = nn.CosineAnnealingLR(optimizer, recipe.epochs)
    nn.fit(network, train, epochs=recipe.epochs, batch_size=recipe.batch_size, optimizer=optimizer, schedule=schedule)
    assert nn.evaluate(network, *test)[1] > least


def test_lenet_keeps_the_size_of_a_signal():
    """He's weights: behind each ReLU the mean square stays near that of the input, which has unit variance."""
    network = NETWORKS["lenet"](3, (16, 16), 10, 0)
    x = np.random.default_rng(0).standard_normal((8, 3, 16, 16), "float32")
    weights = [layer.weight for layer in network if isinstance(layer, (nn.Conv2d, nn.Linear))][:3]
    for weight in weights:
        fan_in = np.prod(weight.shape[1:])
        assert weight.var() == pytest.approx(2 / fan_in, rel=0.1)
        assert np.abs(weight).max() <= np.sqrt(6 / fan_in)
    first = network[1](network[0](x))
    assert np.mean(first**2) == pytest.approx(1, rel=0.2)


def test_digits_end_to_end(tmp_path):
    out = tmp_path / "results"
    said = run("digits", "--epochs", 2, "-o", out).stdout
    right, wrong = float(re.search(r"([\d.]+) % of 359", said)[1]), int(re.search(r"(\d+) wrong", said)[1])
    assert right == pytest.approx(100 * (359 - wrong) / 359, abs=0.01)
    assert right > 94
    rows = list(csv.reader((out / "confusion.csv").read_text().splitlines()))
    matrix = np.array([row[1:] for row in rows[1:]], int)
    assert matrix.sum() == 359
    assert matrix.sum() - np.trace(matrix) == wrong
    for name in ("history.png", "confusion.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    history = list(csv.DictReader((out / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in history] == ["1", "2"]
    network = NETWORKS["compact"](1, (8, 8), 10, None)
    network.load(out / "weights.npz")
    assert 100 * nn.evaluate(network, *digits().test)[1] == pytest.approx(right, abs=0.01)
    assert "25 978 parameters" in (out / "network.txt").read_text()
    again = run("digits", "--epochs", 2, "-o", out, "--resume").stdout
    assert "2 epochs" in again
    assert "lr" not in again
    # Another course of training does not go on from this one.
    assert "was" in run("digits", "--epochs", 3, "-o", out, "--resume", code=2).output


@pytest.mark.parametrize(("name", "classes"), [("edges", "0°"), ("shapes", "circle")])
def test_synthetic_sets(tmp_path, name, classes):
    said = run(name, "--epochs", 3, "-o", tmp_path / "out").stdout
    assert float(re.search(r"([\d.]+) % of 500", said)[1]) > 80
    assert (tmp_path / "out" / "confusion.csv").read_text(encoding="utf-8").splitlines()[1].startswith(classes)


def test_files_of_fashion_mnist(tmp_path):
    generator = np.random.default_rng(0)
    for name, count in (("train", 20), ("t10k", 10)):
        pictures = generator.integers(0, 256, (count, 28, 28), np.uint8)
        header = bytes([0, 0, 8, 3]) + struct.pack(">3I", *pictures.shape)
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(header + pictures.tobytes())
        labels = bytes([0, 0, 8, 1]) + struct.pack(">I", count) + bytes(range(10)) * (count // 10)
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(labels)
    run("fashion", "--files", tmp_path, "--epochs", 1, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "confusion.csv").read_text().splitlines()[-1].startswith("Ankle boot")


def test_without_matplotlib_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    said = run("shapes", "--epochs", 1, "-o", tmp_path / "out").stdout
    assert 'pip install "starconv[view]"' in said
    assert (tmp_path / "out" / "confusion.csv").exists()
    assert not list((tmp_path / "out").glob("*.png"))


def test_killed_and_resumed(bars):
    """SIGKILL in the sixth step, in the second epoch; what is left goes on to the weights of an undisturbed run."""
    options = [str(bars), "--epochs", "2", "--batch-size", "8", "-o"]
    code = (
        "import os, signal, sys\nfrom starconv import nn\nfrom starconv.cli import main\nsteps = iter(range(1, 100))\n"
        "plain = nn.TrainingStep.backward\n"
        "def step(self):\n    plain(self)\n    next(steps) == 6 and os.kill(os.getpid(), signal.SIGKILL)\n"
        f"nn.TrainingStep.backward = step\nsys.argv = ['starconv', 'train', *{options!r}, {str(bars / '.a')!r}]\nmain()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert [path.name for path in sorted((bars / ".a").iterdir())] == ["checkpoint.npz", "network.txt"]
    run(*options, bars / ".a", "--resume")
    run(*options, bars / ".b")
    first, second = (nn.load_state(bars / name / "weights.npz") for name in (".a", ".b"))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


@pytest.fixture
def bars(tmp_path):
    """Pictures with a light row or a light column."""
    generator = np.random.default_rng(0)
    for name in ("column", "row"):
        (tmp_path / name).mkdir()
        for number in range(20):
            picture = generator.integers(0, 60, (8, 9), np.uint8)
            place = (generator.integers(8), slice(None)) if name == "row" else (slice(None), generator.integers(9))
            picture[place] = 255
            write_image(tmp_path / name / f"{number:02}.png", picture)
    return tmp_path


def test_a_folder_of_classes(bars):
    (train, test), classes = class_folders(bars)
    assert classes == ["column", "row"]
    assert train.images.shape == (32, 1, 8, 9)
    assert np.bincount(test.labels).tolist() == [4, 4]
    assert train.images.max() == 1
    assert "100.00 % of 8" in run(bars, "--epochs", 12, "--batch-size", 8, "-o", bars / ".out").stdout
    write_image(bars / "row" / "red.png", np.full((8, 9, 3), (255, 0, 0), np.uint8))
    (train, test), _ = class_folders(bars)
    assert train.images.shape[1] == 3
    np.testing.assert_array_equal(train.images[-1][:, 0, 0], [1, 0, 0])
    write_image(bars / "row" / "large.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(FileContentError, match="9 x 8; it is 9 x 9"):
        class_folders(bars)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "data = 'nothing'"),
        (["digits", "-n", "vgg"], "network = 'vgg': expected one of"),
        (["mnist"], "or fetch=True"),
        (["digits", "--files", "x"], "files = "),
        (["shapes", "--fetch"], "fetch = True"),
        (["fashion", "--files", "nothing"], "folder = 'nothing'"),
    ],
)
def test_wrong_calls(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert message.removesuffix(": expected one of") in " ".join(run(*arguments, code=2).output.split())
    assert not list(tmp_path.iterdir())


def test_folders_without_classes(tmp_path):
    with pytest.raises(FileContentError, match="there are 0"):
        class_folders(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
    with pytest.raises(FileContentError, match="at least two pictures"):
        class_folders(tmp_path)
    with pytest.raises(sc.ArgumentValueError, match="size"):
        NETWORKS["lenet"](1, (3, 3), 2, 0)
