"""The bias of a convolution: what commutes with shifts and what does not, the dense layer, the comparison."""

import numpy as np
import pytest
from typer.testing import CliRunner

import starconv as sc
from starconv import bias, nn
from starconv.cli import app
from starconv.data.digits import Digits, Split, digits

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 12, 14))
W = RNG.standard_normal((4, 3, 3, 3))


def test_a_convolution_commutes_with_shifts():
    assert bias.equivariance_error(lambda x: sc.conv2d(x, W, padding=1), X, (2, -3), margin=1) < 1e-14
    assert bias.equivariance_error(lambda x: sc.conv2d(x, W, padding=1), X, (2, -3)) > 0.01  # the border is felt
    circular = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", dtype="float64", seed=0)
    assert bias.equivariance_error(circular, X, (5, -3), border="circular") < 1e-14


def test_strides_commute_with_their_multiples():
    def strided(x):
        return sc.conv2d(x, W, stride=2, padding=1, padding_mode="circular")

    assert bias.equivariance_error(strided, X, (4, -2), stride=2, border="circular") < 1e-14
    with pytest.raises(sc.ArgumentValueError, match="multiples of the stride"):
        bias.equivariance_error(strided, X, 3, stride=2)


def test_what_depends_on_the_place_does_not_commute():
    dense = nn.Linear(14, 14, dtype="float64", seed=0)
    assert bias.equivariance_error(dense, X, (0, 2)) > 0.1
    assert bias.equivariance_error(dense, X, (2, 0)) == 0  # it works on every row alike
    assert bias.equivariance_error(lambda x: 0 * x, X, 1) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": [1.0]}, "x = "),
        ({"shift": 20}, "something of the output"),
        ({"border": "x"}, "border = 'x'"),
        ({"margin": -1}, "margin = -1"),
        ({"f": np.sum}, "f = "),
    ],
)
def test_wrong_questions(arguments, message):
    with pytest.raises(sc.StarconvError, match=message):
        bias.equivariance_error(**{"f": lambda x: x, "x": X, "shift": 1} | arguments)


LAYERS = [
    nn.Conv1d(3, 4, 3, padding=((1, 0),), dtype="float64", seed=0),
    nn.Conv2d(4, 6, (2, 3), 2, 1, groups=2, dtype="float64", seed=0),
    nn.Conv2d(2, 3, 3, padding="same", bias=False, padding_mode="reflect", dtype="float64", seed=0),
    nn.Conv3d(1, 2, 2, dilation=2, dtype="float64", seed=0),
    nn.ConvTranspose2d(2, 3, 3, stride=2, dtype="float64", seed=0),
    nn.AvgPool2d(2),
    nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 1, 2, dtype="float64", seed=0)),
    nn.BatchNorm2d(2, dtype="float64").eval(),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_as_dense_computes_the_same(layer):
    channels = getattr(layer, "in_channels", 2)
    spatial = getattr(layer, "spatial", 2)
    size = (channels, *(4, 5, 6)[:spatial])
    dense = bias.as_dense(layer, size)
    x = np.random.default_rng(1).standard_normal((3, *size))
    tolerance = 1e-12 if layer.parameters() else 1e-6
    np.testing.assert_allclose(dense(x.reshape(3, -1)), layer(x).reshape(3, -1), rtol=tolerance, atol=tolerance)


def test_only_affine_layers_are_dense_layers():
    for layer in (nn.ReLU(), nn.MaxPool2d(2), nn.Sequential(nn.Conv2d(2, 2, 1, seed=0), nn.ReLU())):
        with pytest.raises(sc.ArgumentValueError, match="an affine layer"):
            bias.as_dense(layer, (2, 4, 4))
    with pytest.raises(sc.ArgumentValueError, match="at most 100000000 weights"):
        bias.as_dense(nn.Conv2d(3, 64, 3, seed=0), (3, 224, 224))
    with pytest.raises(sc.ArgumentTypeError):
        bias.as_dense(np.sum, (2, 4, 4))


def test_compare_measures_what_it_says():
    told = []
    found = bias.compare([100], steps=50, seeds=[0, 1], on_training=lambda *what: told.append(what))
    # Of each network three trials of rates, then two seeds; at last, that all is done.
    assert [done for done, _, _ in told] == list(range(11))
    assert {total for _, total, _ in told} == {10}
    assert told[0][2] == "100 pictures, convolution, rate 0.02"
    convolution, dense = found.scores
    assert [score.network for score in found.scores] == ["convolution", "dense"]
    assert convolution.parameters == 144 + 32 + 4608 + 64 + 32 * 4 * 10 + 10
    assert dense.parameters == 100 * 64 + 64 + 650
    assert convolution.accuracy > 0.7
    assert convolution.shifted > dense.shifted + 0.1  # what the bias is worth
    assert bias.compare([20], steps=3, seeds=[4, 5]) == bias.compare([20], steps=3, seeds=[4, 5])
    head = ["pictures", "network", "parameters", "rate", "accuracy", "shifted", "by", "1"]
    assert str(found).splitlines()[0].split() == head
    with pytest.raises(sc.ArgumentValueError, match="sizes = 5000"):
        bias.compare([5000])
    with pytest.raises(sc.ArgumentValueError, match="seeds"):
        bias.compare([10], seeds=[])


def test_the_rate_is_chosen_without_test_pictures():
    """A network that is the better the nearer its rate is to 0.05 gets that; test pictures of noise change nothing."""
    train, test = digits()
    noise = np.random.default_rng(0).random(test.images.shape, "float32")
    options = {"sizes": [40], "steps": 20, "seeds": [0], "lr": (1e-6, 0.05)}
    plain = bias.compare(data=Split(train, test), **options)
    disturbed = bias.compare(data=Split(train, Digits(noise, test.labels)), **options)
    assert [score.lr for score in plain.scores] == [score.lr for score in disturbed.scores] == [0.05, 0.05]
    assert plain.scores[0].accuracy > disturbed.scores[0].accuracy + 0.2


def test_a_rate_that_is_too_large_is_not_chosen():
    with np.errstate(all="ignore"):
        found = bias.compare([40], steps=20, seeds=[0], lr=(1e6, 0.05), networks={"dense": bias.NETWORKS["dense"]})
    assert found.scores[0].lr == 0.05


def test_epochs_instead_of_steps():
    found = bias.compare([1, 30], epochs=2, lr=0.05, seeds=[1], networks={"dense": bias.NETWORKS["dense"]})
    assert found.budget == "2 epochs of 32 pictures each"
    assert "nan" not in str(found)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figure_shows_the_scores(theme):
    found = bias.compare([20, 60], steps=3, seeds=[0, 1], lr=0.05)
    drawn = found.figure(theme=theme)
    assert drawn.data is found
    for axes, (mean, spread) in ((1, ("accuracy", "accuracy_spread")), (2, ("shifted", "shifted_spread"))):
        containers = drawn.figure.axes[axes].containers
        lines = [line for line in drawn.figure.axes[axes].get_lines() if line.get_label()[0] != "_"]
        for name, line, container in zip(("convolution", "dense"), lines, containers, strict=True):
            scores = [score for score in found.scores if score.network == name]
            assert line.get_label() == f"{name}, {scores[0].parameters} parameters"
            np.testing.assert_array_equal(line.get_xdata(), [20, 60])
            np.testing.assert_array_equal(line.get_ydata(), [getattr(score, mean) for score in scores])
            for segment, score in zip(container[2][0].get_segments(), scores, strict=True):
                np.testing.assert_allclose(np.ptp(segment[:, 1]) / 2, getattr(score, spread), atol=1e-12)
    with pytest.raises(sc.ArgumentTypeError, match="comparison"):
        sc.view.bias_comparison(found.scores)


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, ["bias", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result

    options = ["--sizes", "20,40", "--seeds", 2, "--steps", 4]
    first = run(*options, "-o", tmp_path / "bias.png").stdout
    assert first.splitlines()[:5] == run("digits", *options).stdout.splitlines()[:5]
    assert first.splitlines()[:5] == str(bias.compare([20, 40], seeds=[0, 1], steps=4)).splitlines()
    assert (tmp_path / "bias.png").read_bytes().startswith(b"\x89PNG")
    assert "2 epochs" in run("shapes", "--sizes", 20, "--seeds", 1, "--epochs", 2, "--shift", 2).stdout
    for wrong, message in (
        (["--sizes", "many"], "sizes = 'many'"),
        (["--sizes", "5000"], "sizes = 5000"),
        (["--theme", "grey"], "theme = 'grey'"),
        (["-o", tmp_path / "bias.txt"], "ends with"),
        (["nothing"], "data = 'nothing'"),
    ):
        assert message in " ".join(run(*wrong, code=2).output.split())
