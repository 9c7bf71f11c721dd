"""Layers, losses, SGD and schedules beside torch.nn and torch.optim: outputs, gradients, ten steps of training."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import seeds

from starconv import nn

pytestmark = pytest.mark.heavy
thorough = settings(settings.get_profile("thorough"), max_examples=100)
theirs: Any = torch.nn


def tensor(array):
    return torch.from_numpy(np.array(array, order="C"))


def give_weights(layer, other):
    """The weights of ours to torch's, whose names are the same."""
    other.load_state_dict({name: tensor(value) for name, value in layer.state_dict().items()})


def both(layer, other, x, seed=0, tolerance=1e-10):
    """Outputs and all gradients of both, compared."""
    give_weights(layer, other)
    xs = tensor(x).requires_grad_()
    answer = other(xs)
    output = layer(x)
    np.testing.assert_allclose(output, answer.detach().numpy(), rtol=tolerance, atol=tolerance)
    grad = np.random.default_rng(seed).standard_normal(output.shape).astype(output.dtype)
    answer.backward(tensor(grad))
    layer.zero_grad()
    np.testing.assert_allclose(layer.backward(grad), xs.grad.numpy(), rtol=tolerance, atol=tolerance)
    for name, parameter in other.named_parameters():
        found = layer.named_parameters()[name].grad
        np.testing.assert_allclose(found, parameter.grad.numpy(), rtol=tolerance, atol=tolerance)
    for name, buffer in other.named_buffers():
        np.testing.assert_allclose(layer.state_dict()[name], buffer.numpy(), rtol=tolerance, atol=tolerance)


@thorough
@given(st.data(), st.sampled_from([1, 2, 3]), st.booleans(), seeds)
def test_convolutions(data, spatial, transposed, seed):
    groups = data.draw(st.sampled_from([1, 2]))

    def sizes(low, high):
        return data.draw(st.integers(low, high) | st.tuples(*[st.integers(low, high)] * spatial))

    stride, dilation = sizes(1, 3), sizes(1, 2)
    arguments = {"kernel_size": sizes(1, 3), "stride": stride, "dilation": dilation, "padding": sizes(0, 1)}
    arguments |= {"groups": groups, "bias": data.draw(st.booleans())}
    if transposed:
        most = max(np.min(stride), np.min(dilation)) - 1
        arguments["output_padding"] = data.draw(st.integers(0, int(most)))
    else:
        arguments["padding_mode"] = data.draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    name = f"Conv{'Transpose' if transposed else ''}{spatial}d"
    layer = getattr(nn, name)(2 * groups, 3 * groups, dtype="float64", seed=seed, **arguments)
    other = getattr(theirs, name)(2 * groups, 3 * groups, dtype=torch.float64, **arguments)
    assert repr(layer) == repr(other)
    assert {key: value.shape for key, value in layer.state_dict().items()} == {
        key: tuple(value.shape) for key, value in other.state_dict().items()
    }
    shape = (
        *data.draw(st.sampled_from([(), (2,)])),
        2 * groups,
        *[data.draw(st.integers(5, 7)) for _ in range(spatial)],
    )
    both(layer, other, np.random.default_rng(seed).standard_normal(shape), seed)


LAYERS = [
    ("Linear", {"in_features": 5, "out_features": 3}, (4, 5)),
    ("Linear", {"in_features": 5, "out_features": 3, "bias": False}, (2, 4, 5)),
    ("ReLU", {}, (2, 3, 4, 4)),
    ("Flatten", {}, (2, 3, 4, 4)),
    ("Dropout", {"p": 0.0}, (2, 3)),
    ("BatchNorm2d", {"num_features": 3}, (4, 3, 5, 5)),
    ("BatchNorm2d", {"num_features": 3, "momentum": None, "eps": 0.1}, (4, 3, 5, 5)),
    ("BatchNorm2d", {"num_features": 3, "bias": False}, (4, 3, 5, 5)),
    ("BatchNorm2d", {"num_features": 3, "affine": False, "track_running_stats": False}, (4, 3, 5, 5)),
    *[("AdaptiveAvgPool2d", {"output_size": size}, (2, 3, 7, 5)) for size in (1, 3, (2, 4), (None, 9))],
    *[
        (
            kind,
            {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil},
            (2, 3, *sizes),
        )
        for kind in ("MaxPool2d", "AvgPool2d")
        for kernel, stride, padding in [(2, None, 0), (3, 2, 1), ((2, 3), (3, 1), (1, 0)), (2, 3, 1), (4, 4, 2)]
        for ceil in (False, True)
        for sizes in [(7, 8), (6, 5)]
    ],
    ("MaxPool2d", {"kernel_size": 2, "dilation": 2, "stride": 1}, (3, 7, 7)),
    ("AvgPool2d", {"kernel_size": 3, "padding": 1, "count_include_pad": False}, (3, 7, 7)),
    ("AvgPool2d", {"kernel_size": 3, "padding": 1, "divisor_override": 4}, (2, 3, 7, 7)),
    (
        "AvgPool2d",
        {"kernel_size": 3, "padding": 1, "ceil_mode": True, "count_include_pad": False, "stride": 2},
        (1, 6, 6),
    ),
]


@pytest.mark.parametrize(("kind", "arguments", "shape"), LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_other_layers(kind, arguments, shape, training):
    typed = {"dtype": "float64"} if kind in ("Linear", "BatchNorm2d") else {}
    layer = getattr(nn, kind)(**arguments, **typed)
    other = getattr(theirs, kind)(**arguments).double()
    assert repr(layer) == repr(other)
    layer.train(training)
    other.train(training)
    both(layer, other, np.random.default_rng(0).standard_normal(shape))


@thorough
@given(
    st.sampled_from([(3, 4), (2, 3, 2), (1, 2, 2, 3)]),
    st.booleans(),
    st.sampled_from(["mean", "sum"]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.booleans(),
    seeds,
)
def test_cross_entropy(shape, numbers, reduction, smoothing, weighted, seed):
    generator = np.random.default_rng(seed)
    weight = generator.uniform(0.5, 2, shape[1]) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing} | ({"ignore_index": 0} if numbers else {})
    loss = nn.CrossEntropyLoss(weight, **options)
    other = theirs.CrossEntropyLoss(None if weight is None else tensor(weight), **options)
    prediction = generator.standard_normal(shape) * 5
    if numbers:
        target = generator.integers(0, shape[1], (shape[0], *shape[2:]))
    else:
        target = np.moveaxis(generator.dirichlet(np.ones(shape[1]), (shape[0], *shape[2:])), -1, 1)
    scores = tensor(prediction).requires_grad_()
    answer = other(scores, tensor(target))
    answer.backward()
    np.testing.assert_allclose(loss(prediction, target), answer.item(), rtol=1e-12)
    np.testing.assert_allclose(loss.backward(), scores.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_squared_error():
    prediction, target = np.random.default_rng(0).standard_normal((2, 4, 5))
    for reduction in ("mean", "sum"):
        loss, other = nn.MSELoss(reduction), theirs.MSELoss(reduction=reduction)
        scores = tensor(prediction).requires_grad_()
        answer = other(scores, tensor(target))
        answer.backward()
        np.testing.assert_allclose(loss(prediction, target), answer.item(), rtol=1e-12)
        np.testing.assert_allclose(loss.backward(), scores.grad.numpy(), rtol=1e-12)


OPTIONS = [
    {"lr": 0.1},
    {"lr": 0.1, "momentum": 0.9},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"lr": 0.01, "maximize": True},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_sgd(options):
    generator = np.random.default_rng(0)
    ours = nn.Parameter(generator.standard_normal(20), "float64")
    other = torch.nn.Parameter(tensor(ours.value.copy()))
    optimizers = nn.SGD([ours], **options), torch.optim.SGD([other], **options)
    for _ in range(10):
        gradient = generator.standard_normal(20)
        ours.grad, other.grad = gradient, tensor(gradient)
        for optimizer in optimizers:
            optimizer.step()
        np.testing.assert_allclose(ours.value, other.detach().numpy(), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("name", "arguments"), [("StepLR", (3, 0.5)), ("CosineAnnealingLR", (8, 0.01))])
def test_schedules(name, arguments):
    other_optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    optimizer = nn.SGD([], lr=0.3)
    schedule = getattr(nn, name)(optimizer, *arguments)
    other = getattr(torch.optim.lr_scheduler, name)(other_optimizer, *arguments)
    for _ in range(12):
        assert optimizer.lr == pytest.approx(other.get_last_lr()[0], rel=1e-9)
        other_optimizer.step()
        other.step()
        schedule.step()


def networks():
    """A small network with everything in it, ours and torch's, with the same weights."""

    def build(module, **options):
        return module.Sequential(
            module.Conv2d(2, 8, 3, padding=1, bias=False, **options),
            module.BatchNorm2d(8),
            module.ReLU(),
            module.MaxPool2d(2),
            module.Conv2d(8, 16, 3, stride=2, padding=1, groups=2, padding_mode="reflect", **options),
            module.ReLU(),
            module.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1, **options),
            module.BatchNorm2d(8),
            module.ReLU(),
            module.AvgPool2d(2),
            module.AdaptiveAvgPool2d((2, 2)),
            module.Flatten(),
            module.Linear(32, 5, **options),
        )

    ours, other = build(nn, seed=np.random.default_rng(0)), build(theirs)
    give_weights(ours, other)
    return ours, other


def test_ten_steps_of_training_follow_torch_within_float32_rounding():
    ours, other = networks()
    generator = np.random.default_rng(1)
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": True}
    optimizer, other_optimizer = nn.SGD(ours.parameters(), **options), torch.optim.SGD(other.parameters(), **options)
    loss, other_loss = nn.CrossEntropyLoss(), theirs.CrossEntropyLoss()
    exact = other.double()  # what both would be without rounding
    exact_state = {name: value.clone() for name, value in exact.state_dict().items()}
    _, single = networks()
    single_optimizer = torch.optim.SGD(single.parameters(), **options)
    for _ in range(10):
        x, y = generator.standard_normal((16, 2, 12, 12)).astype("float32"), generator.integers(0, 5, 16)
        value = loss(ours(x), y)
        ours.zero_grad()
        ours.backward_parameters(loss.backward())
        optimizer.step()
        values = []
        for network, steps, dtype in (
            (exact, other_optimizer, torch.float64),
            (single, single_optimizer, torch.float32),
        ):
            steps.zero_grad()
            answer = other_loss(network(tensor(x).to(dtype)), tensor(y))
            answer.backward()
            steps.step()
            values.append(answer.item())
        assert value == pytest.approx(values[0], rel=1e-5)
    moved = 0.0
    for name, value in exact.state_dict().items():
        size = value.abs().max().item() + 1e-3
        error = np.abs(ours.state_dict()[name] - value.numpy()).max() / size
        torchs_error = np.abs(single.state_dict()[name].numpy() - value.numpy()).max() / size
        assert error < max(1e-5, 5 * torchs_error), name
        moved = max(moved, (value - exact_state[name]).abs().max().item())
    assert moved > 0.05  # it did learn something


def test_state_in_safetensors_is_torchs(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    ours, other = networks()
    ours.save(tmp_path / "weights.safetensors")
    other.load_state_dict(safetensors.load_file(tmp_path / "weights.safetensors"))
    safetensors.save_file(other.state_dict(), tmp_path / "torch.safetensors")
    fresh, _ = networks()
    fresh.load(tmp_path / "torch.safetensors")
    for name, value in ours.state_dict().items():
        np.testing.assert_array_equal(fresh.state_dict()[name], value)
