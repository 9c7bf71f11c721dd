"""Layers say the same with compiled code and without it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from starconv import nn
from starconv.engine.emit import target
from starconv.nn import compiled

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.skipif(target.host_target() is None, reason="no compiled code on this machine")

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "norm": lambda: nn.BatchNorm2d(24),
    "norm without weights": lambda: nn.BatchNorm2d(24, affine=False),
    "norm without a bias": lambda: nn.BatchNorm2d(24, bias=False),
    "max": lambda: nn.MaxPool2d(2),
    "max, overlapping": lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "max, dilated": lambda: nn.MaxPool2d(2, 1, 0, 2),
    "mean": lambda: nn.AvgPool2d(3, 2, 1),
    "mean without padding": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "mean by another number": lambda: nn.AvgPool2d(2, divisor_override=3),
    "mean over everything": lambda: nn.AdaptiveAvgPool2d(1),
    "mean of parts": lambda: nn.AdaptiveAvgPool2d((3, 5)),
    "convolution": lambda: nn.Conv2d(24, 4, 3, seed=0),
    "way around": lambda: nn.Residual(nn.ReLU()),
}


def without_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_dense_plan", lambda *arguments: None)
    monkeypatch.setattr("starconv.engine.elementwise.run", lambda *arguments: False)
    monkeypatch.setattr("starconv.engine.sums.run", lambda *arguments: None)
    monkeypatch.setattr("starconv.engine.pooling.run", lambda *arguments, **options: False)
    monkeypatch.setattr("starconv.engine.pooling.gradient", lambda *arguments, **options: False)


def results(layer: nn.Module, x: Array, *, training: bool) -> list[Array]:
    """Output, gradients and what the layer remembers after two calls."""
    layer.train(training)
    layer(x * 2)
    output = layer(x)
    generator = np.random.default_rng(1)
    grad = generator.standard_normal(output.shape).astype(output.dtype)
    back = layer.backward(grad)
    gradients = [parameter.grad for parameter in layer.parameters()]
    return [output, back, *gradients, *layer.state_dict().values()]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(monkeypatch: pytest.MonkeyPatch, name: str, training: bool, dtype: str, last: bool) -> None:
    x = np.random.default_rng(0).standard_normal((5, 24, 15, 15)).astype(dtype)
    if last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    found = results(LAYERS[name](), x, training=training)
    without_compiled_code(monkeypatch)
    for mine, plain in zip(found, results(LAYERS[name](), x, training=training), strict=True):
        assert mine.dtype == plain.dtype
        np.testing.assert_allclose(mine, plain, 1e-4, 1e-5 if dtype == "float32" else 1e-6)


@pytest.mark.parametrize("shape", [(15, 15), (24, 15, 15), (0, 24, 15, 15)])
def test_pictures_without_a_batch_and_batches_without_pictures(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")
    names = [name for name in LAYERS if name.startswith(("max", "mean"))]
    found = [results(LAYERS[name](), x, training=True) for name in names]
    without_compiled_code(monkeypatch)
    for name, mine in zip(names, found, strict=True):
        for array, plain in zip(mine, results(LAYERS[name](), x, training=True), strict=True):
            np.testing.assert_allclose(array, plain, 1e-4, 1e-5, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-2},
        {"momentum": 0.5, "dampening": 0.25, "maximize": True},
    ],
)
def test_descent(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    def descend() -> tuple[Array, Array]:
        generator = np.random.default_rng(0)
        weight = nn.Parameter(generator.standard_normal((50, 200)))
        optimizer = nn.SGD([weight], lr=0.1, **options)
        first = weight.value
        kept = first.copy()
        for _ in range(3):
            weight.grad = generator.standard_normal((50, 200)).astype("float32")
            optimizer.step()
        np.testing.assert_array_equal(first, kept, "what was handed out has changed")
        assert not weight.value.flags.writeable
        return weight.value, optimizer.state_dict()["0"]

    found = descend()
    without_compiled_code(monkeypatch)
    for mine, plain in zip(found, descend(), strict=True):
        np.testing.assert_allclose(mine, plain, 1e-5, 1e-6)
