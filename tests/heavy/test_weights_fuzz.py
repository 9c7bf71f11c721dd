"""Many damaged files of weights, and the files of the torch that is installed."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

from starconv.nets.weights import load_weights

pytestmark = pytest.mark.heavy


def _quick_tests():
    """The module of the quick tests, whose mutations these are."""
    path = Path(__file__).parents[1] / "nets" / "test_weights.py"
    spec = importlib.util.spec_from_file_location("quick_weight_tests", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_refused_or_read(seed, tmp_path):
    assert _quick_tests().survive(tmp_path, seed, 2000) > 1000


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_files_of_the_installed_torch(zipped, protocol, tmp_path):
    torch = pytest.importorskip("torch")
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(4, 4).bfloat16())
    state = layers.state_dict()
    state |= {"turned": torch.arange(12.0).reshape(3, 4).T, "none": torch.zeros(0, 3), "flag": torch.tensor(True)}
    forms = (
        state,
        {"state_dict": state, "epoch": 3},
        {f"module.{name}": tensor for name, tensor in state.items()},
        {name: torch.nn.Parameter(tensor) for name, tensor in state.items() if tensor.is_floating_point()},
    )
    for form in forms:
        path = tmp_path / "w.pth"
        with warnings.catch_warnings():  # torch about its own storages
            warnings.simplefilter("ignore")
            torch.save(form, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
        found = load_weights(path)
        assert len(found) in (len(state), len(layers.state_dict()) + 1)
        for name, array in found.items():
            expected = state[name].float().numpy() if state[name].dtype == torch.bfloat16 else state[name].numpy()
            assert array.shape == expected.shape
            assert array.dtype == expected.dtype
            assert np.array_equal(array, expected)
