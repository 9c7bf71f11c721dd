"""Weights from the hub: out of its folder on disk, and what is said where there is neither file nor network."""

import importlib

import numpy as np
import pytest

from starconv.data.files import MissingPackageError
from starconv.nets import hub, resnet
from starconv.nn.storage import save_state


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of the hub's files, and no hub: a port of this machine on which nobody listens."""
    constants = importlib.import_module("huggingface_hub.constants")
    download = importlib.import_module("huggingface_hub.file_download")
    for module in (constants, download):
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path


def test_a_file_that_is_on_disk_needs_no_network(folder):
    network = resnet.resnet18(seed=3)
    repository = folder / "models--timm--resnet18.tv_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_state(network.graph.constants, snapshot / "model.safetensors")
    found = resnet.resnet18("tv_in1k")
    for name, array in network.graph.constants.items():
        assert np.array_equal(found.graph.constants[name], array)


def test_without_file_and_network(folder):
    with pytest.raises(hub.DownloadError) as caught:
        resnet.resnet18("tv_in1k")
    assert "model.safetensors of https://huggingface.co/timm/resnet18.tv_in1k is not on this machine" in str(
        caught.value
    )
    assert "give its path as weights" in str(caught.value)
    assert isinstance(caught.value, OSError)


def test_without_the_package(monkeypatch):
    def nothing(*_):
        raise MissingPackageError("Weights from the hub needs huggingface_hub")

    monkeypatch.setattr(hub, "optional_import", nothing)
    with pytest.raises(MissingPackageError, match="huggingface_hub"):
        resnet.resnet18("tv_in1k")
