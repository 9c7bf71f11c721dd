"""What layers do besides gradients: parameters, state, files, modes, descriptions, and how they refuse."""

import pickle
import zipfile

import numpy as np
import pytest

import starconv as sc
from starconv import nn
from starconv.data.files import FileContentError


def small_network(seed=0):
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        {
            "first": nn.Conv2d(1, 2, 3, padding=1, seed=rng),
            "norm": nn.BatchNorm2d(2),
            "block": nn.Residual(nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 1, bias=False, seed=rng))),
            "pool": nn.MaxPool2d(2),
            "flat": nn.Flatten(),
            "last": nn.Linear(8, 3, seed=rng),
        }
    )


def same(state, other):
    assert list(state) == list(other)
    for name in state:
        np.testing.assert_array_equal(state[name], other[name])
        assert state[name].dtype == other[name].dtype


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (lambda seed: nn.Conv1d(6, 300, 5, groups=3, seed=seed), 10),
        (lambda seed: nn.Conv2d(6, 300, (2, 3), seed=seed), 36),
        (lambda seed: nn.Conv3d(1, 300, 2, seed=seed), 8),
        (lambda seed: nn.ConvTranspose2d(6, 300, 3, groups=3, seed=seed), 900),
        (lambda seed: nn.Linear(50, 300, seed=seed), 50),
    ],
)
def test_initial_weights_are_uniform_between_torchs_bounds_and_follow_the_seed(layer, fan_in):
    made = layer(7)
    bound = 1 / np.sqrt(fan_in)
    for values in (made.weight, made.bias):
        assert abs(values).max() <= bound
        assert abs(values).max() >= 0.9 * bound
        assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.2)
    same(layer(7).state_dict(), made.state_dict())
    assert (layer(8).weight != made.weight).any()
    assert (layer(None).weight != layer(None).weight).any()
    same(layer(np.random.default_rng(7)).state_dict(), made.state_dict())


def test_weights_are_read_only_and_replaced_by_assignment():
    layer = nn.Conv2d(1, 1, 2, seed=0)
    before = layer.weight
    kept = before.copy()
    with pytest.raises(ValueError, match="read-only"):
        before[...] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        before.flags.writeable = True
    mine = np.ones((1, 1, 2, 2))
    layer.weight = mine
    mine[...] = 5  # a copy was taken
    layer.bias = [0]
    assert layer(np.ones((1, 2, 2), "float32")).item() == 4
    np.testing.assert_array_equal(before, kept)
    assert layer.weight.dtype == np.float32
    with pytest.raises(sc.ArgumentValueError, match=r"weight = array of shape \(2,\).*expected.*\(1, 1, 2, 2\)"):
        layer.weight = [1.0, 2.0]
    with pytest.raises(sc.ArgumentValueError, match="has no bias"):
        nn.Linear(2, 2, bias=False).bias = [1, 2]


def test_state_of_a_network(tmp_path):
    network, other = small_network(0), small_network(1)
    network(np.random.default_rng(0).random((5, 1, 4, 4), "float32"))
    state = network.state_dict()
    assert list(state) == [
        "first.weight",
        "first.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
        "block.body.1.weight",
        "last.weight",
        "last.bias",
    ]
    assert state["norm.num_batches_tracked"] == 1
    assert not any(array.flags.writeable for array in state.values())
    other.load_state_dict(state)
    same(other.state_dict(), state)
    for suffix in (".npz", ".safetensors"):
        if suffix == ".safetensors":
            pytest.importorskip("safetensors")
        path = tmp_path / f"weights{suffix}"
        network.save(path)
        fresh = small_network(2)
        fresh.load(path)
        same(fresh.state_dict(), state)
        assert sorted(tmp_path.glob("*")) == sorted(tmp_path.glob("weights*"))  # nothing else is left behind
    x = np.random.default_rng(1).random((2, 1, 4, 4), "float32")
    np.testing.assert_array_equal(fresh.eval()(x), network.eval()(x))


def test_state_that_does_not_fit_changes_nothing():
    network = small_network()
    state = network.state_dict()
    with pytest.raises(sc.ArgumentValueError, match=r"missing last.bias; without a place other"):
        network.load_state_dict({name: value for name, value in state.items() if name != "last.bias"} | {"other": 1})
    wrong = {name: np.zeros_like(value) for name, value in state.items()} | {"last.bias": np.zeros(4)}
    with pytest.raises(sc.ArgumentValueError, match=r"last.bias = array of shape \(4,\)"):
        network.load_state_dict(wrong)
    same(network.state_dict(), state)
    with pytest.raises(sc.ArgumentTypeError):
        network.load_state_dict([1])


class Evil:
    def __reduce__(self):
        return print, ("this must never run",)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("damage", ["empty", "noise", "cut", "objects", "npy"])
def test_files_that_are_no_weights(tmp_path, suffix, damage, capsys):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"weights{suffix}"
    small_network().save(path)
    content = path.read_bytes()
    if damage == "objects":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("first.weight.npy", pickle.dumps(Evil()))
    elif damage == "npy":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes({"empty": b"", "noise": b"\xff" * 200, "cut": content[: len(content) // 2]}[damage])
    with pytest.raises(FileContentError, match="weights"):
        nn.load_state(path)
    assert capsys.readouterr().out == ""


def test_a_file_cannot_unpack_to_more_than_weights_do(tmp_path, monkeypatch):
    monkeypatch.setattr("starconv.nets.weights._UNPACKED", 10_000)
    np.savez_compressed(tmp_path / "bomb.npz", w=np.zeros(10_000))
    with pytest.raises(FileContentError, match="at most 10000 bytes of numbers; it would unpack to 80"):
        nn.load_state(tmp_path / "bomb.npz")


def test_a_network_without_parameters(tmp_path):
    nn.ReLU().save(tmp_path / "nothing.npz")
    nn.Sequential(nn.ReLU(), nn.Flatten()).load(tmp_path / "nothing.npz")
    assert nn.load_state(tmp_path / "nothing.npz") == {}


def test_files_with_other_names(tmp_path):
    with pytest.raises(sc.ArgumentValueError, match=r"\.npz or \.safetensors"):
        nn.save_state({}, tmp_path / "weights.pt")
    with pytest.raises(FileNotFoundError):
        nn.load_state(tmp_path / "missing.npz")


def test_modes():
    network = small_network()
    x = np.random.default_rng(0).random((8, 1, 4, 4), "float32")
    assert network.training
    trained = network(x)
    assert not network.eval()["block"].training
    state = network.state_dict()
    assert (network(x) != trained).any()
    same(network.state_dict(), state)
    assert network.train()["norm"].training


def test_backward_needs_a_call_of_its_own():
    network = small_network()
    with pytest.raises(nn.BackwardError, match="no call"):
        network.backward(np.zeros((1, 3)))
    output = network(np.zeros((2, 1, 4, 4), "float32"))
    with pytest.raises(sc.ArgumentValueError, match=r"\(2, 3\)"):
        network.backward(np.zeros((1, 3)))
    network.backward(output)
    with pytest.raises(nn.BackwardError):
        network.backward(output)
    with pytest.raises(nn.BackwardError):
        nn.MSELoss().backward()
    layer = nn.ReLU()
    with pytest.raises(sc.ArgumentValueError, match="every layer once"):
        nn.Sequential(layer, layer)


def test_repr():
    assert repr(small_network()) == (
        "Sequential(\n"
        "  (first): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))\n"
        "  (norm): BatchNorm2d(2, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)\n"
        "  (block): Residual(\n"
        "    (body): Sequential(\n"
        "      (0): ReLU()\n"
        "      (1): Conv2d(2, 2, kernel_size=(1, 1), stride=(1, 1), bias=False)\n"
        "    )\n"
        "  )\n"
        "  (pool): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)\n"
        "  (flat): Flatten(start_dim=1, end_dim=-1)\n"
        "  (last): Linear(in_features=8, out_features=3, bias=True)\n"
        ")"
    )


def test_summary():
    summary = small_network().summary((1, 4, 4))
    rows = {row.name: row for row in summary.rows}
    assert rows["first"] == ("first", "Conv2d", (2, 4, 4), 20, 2 * 16 * 9, (3, 3))
    assert rows["block.body.1"].field == (3, 3)
    assert rows["block"][1:] == ("+", (2, 4, 4), 0, 0, (3, 3))
    assert rows["pool"].field == (4, 4)
    assert rows["last"][2:] == ((3,), 27, 24, None)
    assert summary.parameters == sum(parameter.value.size for parameter in small_network().parameters())
    with pytest.raises(sc.ArgumentValueError, match=r"what layer 'last' can take"):
        small_network().summary((1, 5, 7))


def receptive_field_by_gradient(network, shape, place):
    """Which inputs one output depends on, asked of the gradient itself."""
    output = network(np.random.default_rng(0).random((1, *shape)))
    grad = np.zeros(output.shape)
    grad[(0, slice(None), *place)] = 1
    rows, columns = np.nonzero(abs(network.backward(grad)[0]).sum(axis=0))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def test_the_summarys_receptive_field_is_what_gradients_reach():
    rng = np.random.default_rng(1)

    def conv(*arguments, **options):
        layer = nn.Conv2d(*arguments, dtype="float64", seed=rng, **options)
        layer.weight = abs(layer.weight)  # so that nothing cancels
        return layer

    network = nn.Sequential(
        conv(1, 2, 3, dilation=2),
        nn.AvgPool2d((2, 3), stride=2, ceil_mode=True),
        nn.Residual(nn.Sequential(conv(2, 2, (3, 5), padding="same"))),
        nn.ConvTranspose2d(2, 1, 3, dtype="float64", seed=rng),
    )
    assert network.summary((1, 41, 41)).rows[-1].field == receptive_field_by_gradient(network, (1, 41, 41), (10, 10))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(0, 1, 3), "in_channels = 0"),
        (lambda: nn.Conv2d(1.0, 1, 3), "in_channels = 1.0"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups = 2"),
        (lambda: nn.Conv2d(1, 1, (3, 3, 3)), "kernel_size"),
        (lambda: nn.Conv2d(1, 1, 3, padding=-1), "padding = -1"),
        (lambda: nn.Conv2d(1, 1, 3, padding="some"), "padding = 'some'"),
        (lambda: nn.Conv2d(1, 1, 3, padding_mode="wrap"), "padding_mode = 'wrap'"),
        (lambda: nn.Conv2d(1, 1, 3, dtype="int32"), "dtype = 'int32'"),
        (lambda: nn.Conv2d(1, 1, 3, seed="x"), "seed = 'x'"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, padding_mode="reflect"), "padding_mode = 'reflect'"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, output_padding=1), "output_padding"),
        (lambda: nn.MaxPool2d(2, padding=2), "padding = 2"),
        (lambda: nn.MaxPool2d(0), "kernel_size = 0"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), "output_size"),
        (lambda: nn.Dropout(1.5), "p = 1.5"),
        (lambda: nn.Dropout(float("nan")), "p = nan"),
        (lambda: nn.BatchNorm2d(2, momentum=2), "momentum = 2"),
        (lambda: nn.Flatten("a"), "start_dim = 'a'"),
        (lambda: nn.Sequential(3), "layer 0 = 3"),
        (lambda: nn.Sequential({"a.b": nn.ReLU()}), "name = 'a.b'"),
        (lambda: nn.CrossEntropyLoss(reduction="none"), "reduction = 'none'"),
        (lambda: nn.Conv2d(1, 1, 3)(np.zeros((2, 3, 8, 8))), r"x = array of shape \(2, 3, 8, 8\)"),
        (lambda: nn.Linear(3, 1)(np.zeros((2, 4))), r"x = \(2, 4\)"),
        (lambda: nn.BatchNorm2d(3)(np.zeros((2, 4, 1, 1))), r"x = \(2, 4, 1, 1\)"),
        (lambda: nn.BatchNorm2d(1)(np.zeros((1, 1, 1, 1))), "more than one value"),
        (lambda: nn.MaxPool2d(3)(np.zeros((2, 2))), "kernel_size"),
        (lambda: nn.MSELoss()([1.0], [1.0, 2.0]), "target"),
        (lambda: nn.MSELoss()([1], [1]), "prediction"),
        (lambda: nn.CrossEntropyLoss()([[1.0, 2.0]], [2]), "target = 2"),
        (lambda: nn.CrossEntropyLoss()([[1.0, 2.0]], [[0.5, 0.2, 0.3]]), "target"),
        (lambda: nn.CrossEntropyLoss([1.0])([[1.0, 2.0]], [0]), "weight"),
        (lambda: nn.SGD([np.zeros(2)]), "parameters"),
        (lambda: nn.SGD([], lr=-1), "lr = -1"),
        (lambda: nn.SGD([], nesterov=True), "nesterov = True"),
    ],
)
def test_wrong_calls_name_the_argument(make, message):
    with pytest.raises(sc.StarconvError, match=message):
        make()


def test_pools_treat_nan_and_equals_as_torch_does():
    layer = nn.MaxPool2d(2)
    x = np.array([[1.0, 1.0, np.nan, 5.0], [1.0, 1.0, 7.0, 2.0]])
    np.testing.assert_array_equal(layer(x), [[1.0, np.nan]])
    np.testing.assert_array_equal(layer.backward(np.ones((1, 2))), [[1, 0, 1, 0], [0, 0, 0, 0]])


def test_empty_batches():
    network = small_network().eval()
    assert network(np.zeros((0, 1, 4, 4), "float32")).shape == (0, 3)
    assert network.backward(np.zeros((0, 3), "float32")).shape == (0, 1, 4, 4)


def test_extreme_scores_have_a_finite_loss():
    loss = nn.CrossEntropyLoss()
    assert loss(np.array([[1e30, -1e30]], "float32"), [0]) == 0
    np.testing.assert_array_equal(loss.backward(), [[0, 0]])
    assert np.isnan(loss([[0.0, 1.0]], [-100]))  # nothing counts: torch's mean is NaN too


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_relu_after_the_maxima_gives_the_same_bits(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 3, (3, 4, 12, 12)).astype(dtype)  # many equals, and windows without a positive number
    x[0, 0, 0, 0] = np.nan
    first, maxima = nn.ReLU(), nn.MaxPool2d(2)
    network = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    expected = maxima(first(x))
    np.testing.assert_array_equal(network(x), expected)
    grad = rng.standard_normal(expected.shape).astype(dtype)
    np.testing.assert_array_equal(network.backward(grad), first.backward(maxima.backward(grad)))
