"""A training step as a program gives the bits that the layers give one by one, and leaves everything as they do."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import starconv as sc
from starconv import nn
from starconv.engine.emit.target import host_target
from starconv.nn import networks

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")


def convolutional(dtype: str = "float32") -> nn.Sequential:
    """Every kind of layer and border, strides, groups and dilation, odd numbers of channels."""
    return nn.Sequential(
        nn.Conv2d(3, 10, 5, stride=2, padding=2, padding_mode="reflect", dtype=dtype, seed=0),
        nn.ReLU(),
        nn.Conv2d(10, 12, 3, groups=2, padding=2, dilation=2, dtype=dtype, seed=1),
        nn.BatchNorm2d(12, affine=False, dtype=dtype),
        nn.AvgPool2d(3, 1, 1),
        nn.Residual(
            nn.Sequential(nn.Conv2d(12, 12, 3, padding=1, dtype=dtype, seed=2), nn.BatchNorm2d(12, dtype=dtype)),
            nn.Sequential(nn.Conv2d(12, 12, 1, bias=False, dtype=dtype, seed=3)),
        ),
        nn.ReLU(),
        nn.Residual(nn.Conv2d(12, 12, 3, groups=12, padding=1, padding_mode="circular", dtype=dtype, seed=4)),
        nn.Dropout(0.3, seed=5),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.BatchNorm2d(12, bias=False, track_running_stats=False, dtype=dtype),
        nn.Flatten(),
        nn.Linear(12 * 4 * 5, 7, dtype=dtype, seed=6),
        nn.ReLU(),
        nn.Linear(7, 5, bias=False, dtype=dtype, seed=7),
    )


def transposed() -> nn.Sequential:
    """There and back again; an output padding that is as large as the stride."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, seed=0),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, seed=1),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 3, padding=2, dilation=2, output_padding=1, groups=2, bias=False, seed=2),
        nn.BatchNorm2d(4),
        nn.ConvTranspose2d(4, 2, 3, padding=1, seed=3),
        nn.Flatten(),
        nn.Linear(2 * 13 * 13, 4, seed=4),
    )


def along_a_line() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(2, 6, 7, padding=3, seed=0), nn.ReLU(), nn.Conv1d(6, 4, 3, stride=2, seed=1), nn.Flatten()
    )


def volumes() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(2, 8, 3, padding=1, seed=0), nn.ReLU(), nn.Conv3d(8, 4, (1, 3, 3), stride=2, seed=1), nn.Flatten()
    )


def small(name: str, size: int) -> nn.Sequential:
    return networks.NETWORKS[name](3, (size, size), 10, 0)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, dict[str, Any]]] = {
    "lenet": (lambda: small("lenet", 12), (3, 12, 12), 10, {"momentum": 0.9}),
    "compact": (lambda: small("compact", 8), (3, 8, 8), 10, {"momentum": 0.9, "weight_decay": 1e-3, "nesterov": True}),
    "resnet20": (lambda: small("resnet20", 16), (3, 16, 16), 10, {"momentum": 0.5}),
    "every layer": (convolutional, (3, 14, 18), 5, {"weight_decay": 0.01}),
    "every layer, float64": (lambda: convolutional("float64"), (3, 14, 18), 5, {"momentum": 0.9}),
    "transposed": (transposed, (3, 12, 12), 4, {"momentum": 0.9}),
    "1 axis": (along_a_line, (2, 40), 76, {"momentum": 0.9}),
    "3 axes": (volumes, (2, 5, 6, 7), 72, {"momentum": 0.9}),
}


def batches(shape: tuple[int, ...], classes: int, *, last: bool = False, sizes: tuple[int, ...] = (6, 6, 4, 6)) -> Any:
    rng = np.random.default_rng(1)
    for size in sizes:
        x = rng.standard_normal((size, *shape)).astype("float32")
        if last:
            x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        yield x, rng.integers(0, classes, size)


def trained(name: str, *, native: bool, last: bool = False) -> tuple[nn.TrainingStep, list[float]]:
    make, shape, classes, options = CASES[name]
    network = make()
    step = nn.TrainingStep(network, nn.CrossEntropyLoss(), nn.SGD(network.parameters(), 0.05, **options), native=native)
    kind = network.parameters()[0].value.dtype
    return step, [step(x.astype(kind, order="K"), y) for x, y in batches(shape, classes, last=last)]


def assert_same_state(one: nn.TrainingStep, other: nn.TrainingStep) -> None:
    for part in ("network", "optimizer"):
        mine, others = (getattr(step, part).state_dict() for step in (one, other))
        assert list(mine) == list(others)
        for key, value in mine.items():
            np.testing.assert_array_equal(value, others[key], err_msg=f"{part} {key}")
            assert value.dtype == others[key].dtype


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_as_layer_by_layer(name: str, last: bool) -> None:
    native, losses = trained(name, native=True, last=last)
    layers, expected = trained(name, native=False, last=last)
    assert native.reason is None
    assert layers.reason == "native=False"
    assert losses == expected
    assert_same_state(native, layers)
    assert native.outputs is not None
    np.testing.assert_array_equal(native.outputs, layers.outputs)


@pytest.mark.parametrize("name", ["lenet", "resnet20"])
def test_the_same_bits_for_any_number_of_threads(name: str) -> None:
    threads = sc.get_num_threads()
    try:
        sc.set_num_threads(1)
        alone, losses = trained(name, native=True)
        sc.set_num_threads(4)
        several, others = trained(name, native=True)
    finally:
        sc.set_num_threads(threads)
    assert losses == others
    assert_same_state(alone, several)


def test_threads_may_change_between_steps() -> None:
    make, shape, classes, options = CASES["lenet"]
    threads, network = sc.get_num_threads(), make()
    step = nn.TrainingStep(network, nn.CrossEntropyLoss(), nn.SGD(network.parameters(), 0.05, **options))
    expected = trained("lenet", native=True)[1]
    try:
        found = []
        for number, (x, y) in enumerate(batches(shape, classes)):
            sc.set_num_threads(1 + number % 3)
            found.append(step.forward(x, y))
            sc.set_num_threads(3 - number % 3)
            step.backward()
    finally:
        sc.set_num_threads(threads)
    assert found == expected


def test_common_networks_are_two_calls() -> None:
    for name in ("lenet", "compact", "resnet20"):
        step, _ = trained(name, native=True)
        assert [program.bound().calls for program in step.programs] == [2, 2], name


def test_weights_assigned_and_states_loaded_between_steps_count() -> None:
    make, shape, classes, _ = CASES["compact"]
    steps = []
    for native in (True, False):
        network = make()
        optimizer = nn.SGD(network.parameters(), 0.05, momentum=0.9)
        step = nn.TrainingStep(network, nn.CrossEntropyLoss(), optimizer, native=native)
        given = list(batches(shape, classes, sizes=(6, 6, 6, 6, 6)))
        step(*given[0])
        before = network.state_dict(), optimizer.state_dict()
        step(*given[1])
        network[0].weight = 2 * network[0].weight
        step(*given[2])
        network.load_state_dict(before[0])
        optimizer.load_state_dict(before[1])
        optimizer.lr = 0.01
        step(*given[3])
        # A step by hand in between.
        loss = nn.CrossEntropyLoss()
        loss(network(given[4][0]), given[4][1])
        network.zero_grad()
        network.backward_parameters(loss.backward())
        optimizer.step()
        step(*given[0])
        steps.append(step)
    assert_same_state(*steps)


def test_what_was_handed_out_stays_as_it_was() -> None:
    make, shape, classes, _ = CASES["compact"]
    network = make()
    optimizer = nn.SGD(network.parameters(), 0.05, momentum=0.9)
    step = nn.TrainingStep(network, nn.CrossEntropyLoss(), optimizer)
    for x, y in batches(shape, classes):
        states = [*network.state_dict().values(), *optimizer.state_dict().values()]
        copies = [state.copy() for state in states]
        step(x, y)
        outputs = step.outputs
        assert outputs is not None
        kept = outputs.copy()
        step(x, y)
        for state, copy in zip([*states, outputs], [*copies, kept], strict=True):
            np.testing.assert_array_equal(state, copy)
        assert not network[0].weight.flags.writeable


def test_forward_alone_moves_no_parameter() -> None:
    make, shape, classes, options = CASES["lenet"]
    network = make()
    step = nn.TrainingStep(network, nn.CrossEntropyLoss(), nn.SGD(network.parameters(), 0.05, **options))
    (x, y), *_ = batches(shape, classes)
    before = network.state_dict()
    assert step.forward(x, y) == step.forward(x, y)
    for key, value in network.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    step.backward()
    with pytest.raises(nn.BackwardError, match="no forward step"):
        step.backward()


def test_weights_assigned_between_forward_and_backward_count() -> None:
    make, shape, classes, options = CASES["lenet"]
    steps = []
    for native in (True, False):
        network = make()
        optimizer = nn.SGD(network.parameters(), 0.05, **options)
        step = nn.TrainingStep(network, nn.CrossEntropyLoss(), optimizer, native=native)
        for x, y in batches(shape, classes):
            step.forward(x, y)
            network[3].weight = 0.5 * network[3].weight
            step.backward()
        steps.append(step)
    assert_same_state(*steps)


def test_a_wrong_call_is_told_as_the_layers_tell_it_and_harms_nothing() -> None:
    make, shape, classes, options = CASES["lenet"]
    network = make()
    step = nn.TrainingStep(network, nn.CrossEntropyLoss(), nn.SGD(network.parameters(), 0.05, **options))
    (x, y), *_ = batches(shape, classes)
    before = network.state_dict()
    with pytest.raises(sc.ArgumentValueError) as told:
        step(x[:, :2], y)
    with pytest.raises(sc.ArgumentValueError) as expected:
        network(x[:, :2])
    assert str(told.value) == str(expected.value)
    with pytest.raises(sc.ArgumentValueError, match="target"):
        step(x, y + classes)
    for key, value in network.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    assert [step(x, y) for x, y in batches(shape, classes)] == trained("lenet", native=True)[1]


class OwnForward(nn.ReLU):
    def forward(self, x: Array) -> Array:
        return super().forward(x) * 2


class Own(nn.Module):
    def forward(self, x: Array) -> Array:
        return 2 * x

    def pull_back(self, grad: Array, needed: bool) -> Array:
        return 2 * grad


REASONS: dict[str, tuple[Callable[[nn.Sequential], nn.Module | None], dict[str, Any]]] = {
    "OwnForward has a forward of its own": (lambda network: nn.Sequential(network, OwnForward()), {}),
    "Own has a forward of its own and does not say": (lambda network: nn.Sequential(network, Own()), {}),
    "eval mode": (lambda network: network[1].eval() and None, {}),
    "momentum=None": (lambda network: nn.Sequential(nn.BatchNorm2d(3, momentum=None), network), {}),
    "windows differ": (lambda network: nn.Sequential(nn.AdaptiveAvgPool2d(3), network), {}),
    "maximize": (lambda network: None, {"maximize": True}),
    "dampening": (lambda network: None, {"momentum": 0.9, "dampening": 0.5}),
    "dtypes": (lambda network: nn.Sequential(nn.BatchNorm2d(3, dtype="float64"), network), {}),
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("reason", REASONS)
def test_what_cannot_be_written_down_goes_layer_by_layer(reason: str) -> None:
    change, options = REASONS[reason]
    losses = []
    for native in (True, False):
        network: nn.Module = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding="same", seed=0),
            nn.BatchNorm2d(4),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 5, seed=1),
        )
        network = change(network) or network
        step = nn.TrainingStep(
            network, nn.CrossEntropyLoss(), nn.SGD(network.parameters(), 0.1, **options), native=native
        )
        losses.append([step(x, y) for x, y in batches((3, 8, 8), 5)])
        assert native is False or reason in str(step.reason)
    assert losses[0] == losses[1]


def test_pictures_of_another_dtype_and_parameters_of_others_go_layer_by_layer() -> None:
    network, other = (nn.Sequential(nn.Flatten(), nn.Linear(12, 3, seed=0)) for _ in range(2))
    step = nn.TrainingStep(network, nn.CrossEntropyLoss(), nn.SGD(network.parameters(), 0.1))
    step(np.ones((2, 3, 2, 2)), [0, 1])
    assert "float64" in str(step.reason)
    step(np.ones((2, 3, 2, 2), "float32"), [0, 1])
    assert step.reason is None
    parts = nn.SGD([*network.parameters(), *other.parameters()], 0.1)
    step = nn.TrainingStep(network, nn.CrossEntropyLoss(), parts)
    step(np.ones((2, 3, 2, 2), "float32"), [0, 1])
    assert "not the parameters of the network" in str(step.reason)


def test_any_loss_will_do() -> None:
    results = []
    for native in (True, False):
        network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, seed=0))
        step = nn.TrainingStep(network, nn.MSELoss(), nn.SGD(network.parameters(), 0.1), native=native)
        x = np.random.default_rng(0).standard_normal((4, 1, 9, 9)).astype("float32")
        results.append([step(x, -x) for _ in range(5)])
    assert results[0] == results[1]
    assert results[0][-1] < results[0][0]


@pytest.mark.parametrize(("argument", "place"), [("network", 0), ("loss", 1), ("optimizer", 2)])
def test_what_is_none_of_them_is_refused(argument: str, place: int) -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    given: list[Any] = [network, nn.MSELoss(), nn.SGD(network.parameters())]
    given[place] = 3
    with pytest.raises(sc.ArgumentTypeError, match=argument):
        nn.TrainingStep(*given)
