"""The bias of a convolution: what commutes with shifts and what does not, the dense layer, the comparison."""

import numpy as np
import pytest

import starconv as sc
from starconv import bias, nn

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
    found = bias.compare([100], steps=50, seeds=[0, 1])
    convolution, dense = found.scores
    assert [score.network for score in found.scores] == ["convolution", "dense"]
    assert convolution.parameters == 144 + 32 + 4608 + 64 + 32 * 4 * 10 + 10
    assert dense.parameters == 100 * 64 + 64 + 650
    assert convolution.accuracy > 0.7
    assert convolution.shifted > dense.shifted + 0.1  # what the bias is worth
    assert bias.compare([20], steps=3, seeds=[4, 5]) == bias.compare([20], steps=3, seeds=[4, 5])
    assert str(found).splitlines()[0].split() == ["pictures", "network", "parameters", "accuracy", "shifted", "by", "1"]
    with pytest.raises(sc.ArgumentValueError, match="sizes = 5000"):
        bias.compare([5000])
    with pytest.raises(sc.ArgumentValueError, match="seeds"):
        bias.compare([10], seeds=[])
