"""Many damaged files of weights, and the files of the torch that is installed."""

import sys
import warnings

import numpy as np
import pytest
from fuzzing import started

from starconv.nets.weights import load_weights

pytestmark = pytest.mark.heavy


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and read as Linux has it")
@pytest.mark.parametrize("kind", ["pth", "npz", "safetensors", "h5"])
@pytest.mark.parametrize("seed", range(1, 3))
def test_damaged_files_are_refused_or_read(seed, kind, tmp_path):
    seen = started("weight_fuzz.py", seed, 3000, tmp_path, kind)
    assert seen["refused"] > 1000
    assert seen["read"] > 100


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
