"""Networks of layers drawn at random, nested: as a program and layer by layer they give the same bits."""

import random

import numpy as np
import pytest

from starconv import nn
from starconv.engine.emit.target import host_target

pytestmark = [
    pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine"),
    pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value"),  # what diverges does so in both ways
]

Shape = tuple[int, int, int]
CLASSES = 5


class Drawn:
    """Layers drawn from a seed, each for the shape that those before it leave."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.input: Shape = (self.pick(1, 3, 4, 8), self.random.randint(6, 17), self.random.randint(6, 17))
        layers, (channels, height, width) = self.layers(self.input, 0)
        head = {
            "dense": [nn.Flatten(), nn.Linear(channels * height * width, CLASSES, seed=1)],
            "mean": [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES, seed=1)],
            "two dense": [
                nn.Flatten(),
                nn.ReLU(),
                nn.Linear(channels * height * width, 7, seed=2),
                nn.ReLU(),
                nn.ReLU(),
                nn.Linear(7, CLASSES, bias=False, seed=3),
            ],
        }
        self.network = nn.Sequential(*layers, *self.pick(*head.values()))
        momentum = self.pick({"momentum": 0.9}, {}, {"momentum": 0.5, "nesterov": True, "weight_decay": 0.01})
        self.optimizer = nn.SGD(self.network.parameters(), 0.02, **momentum)
        self.last = self.random.random() < 0.4

    def pick(self, *choices):
        return self.random.choice(choices)

    def seed(self) -> int:
        return self.random.randint(0, 99)

    def layers(self, shape: Shape, depth: int) -> tuple[list[nn.Module], Shape]:
        found: list[nn.Module] = []
        kinds = ["convolution", "convolution", "transposed", "norm", "relu", "relu", "pool", "dropout", "nothing"]
        for _ in range(self.random.randint(1, 5)):
            kind = self.pick(*kinds, *(["residual", "sequential"] if depth < 2 else []))
            if kind == "sequential":
                inner, shape = self.layers(shape, depth + 1)
                found.append(nn.Sequential(*inner))
                continue
            layer = getattr(self, kind)(shape)
            if layer is not None:
                found.append(layer)
                shape = layer.output_shape((1, *shape))[1:]
        return found or [nn.ReLU()], shape

    def convolution(self, shape: Shape) -> nn.Module:
        size, mode = self.pick(1, 3, 5), self.pick("zeros", "zeros", "reflect", "circular")
        if size // 2 >= min(shape[1:]):
            mode = "zeros"
        channels, groups = (shape[0], 1) if self.random.random() < 0.75 else (shape[0], shape[0])
        kernels = channels * self.pick(1, 2) if groups > 1 else self.pick(3, 8, 12, 16)
        stride, bias = self.pick(1, 1, 2), self.pick(True, False)
        options = {"groups": groups, "bias": bias, "padding_mode": mode, "seed": self.seed()}
        return nn.Conv2d(channels, kernels, size, stride, size // 2, **options)

    def transposed(self, shape: Shape) -> nn.Module | None:
        if max(shape[1:]) > 14:
            return None
        return nn.ConvTranspose2d(shape[0], self.pick(4, 8), self.pick(2, 3), stride=2, seed=self.seed())

    def norm(self, shape: Shape) -> nn.Module:
        return nn.BatchNorm2d(shape[0], affine=self.pick(True, True, False), track_running_stats=self.pick(True, False))

    def relu(self, shape: Shape) -> nn.Module:
        return nn.ReLU()

    def pool(self, shape: Shape) -> nn.Module | None:
        if min(shape[1:]) < 4:
            return None
        size, stride = self.pick((2, 2), (3, 2), (3, 1), (2, 1))
        return self.pick(nn.MaxPool2d, nn.AvgPool2d)(size, stride, size // 3, ceil_mode=self.pick(True, False))

    def dropout(self, shape: Shape) -> nn.Module:
        return nn.Dropout(0.4, seed=self.seed())

    def nothing(self, shape: Shape) -> nn.Module:
        """A layer whose output is its input."""
        return self.pick(nn.Dropout(0.0), nn.Residual(nn.Dropout(0.0)))

    def residual(self, shape: Shape) -> nn.Module:
        channels = shape[0]
        own, point = nn.Conv2d(channels, channels, 3, padding=1, seed=self.seed()), nn.Conv2d(channels, channels, 1)
        point.weight, point.bias = point.weight * 0 + 0.1, point.bias * 0
        bodies = [
            nn.Sequential(own, nn.BatchNorm2d(channels)),
            nn.Sequential(nn.ReLU(), own, nn.ReLU()),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.ReLU(), own),
            nn.Residual(own),
            nn.ReLU(),
            nn.Dropout(0.5, seed=3),
            nn.Residual(nn.Dropout(0.0)),
        ]
        shortcuts = [None, None, nn.ReLU(), point, nn.Residual(nn.ReLU()), nn.Dropout(0.0)]
        return nn.Residual(self.pick(*bodies), self.pick(*shortcuts))


def trained(seed: int, *, native: bool) -> tuple[nn.TrainingStep, list[float]]:
    drawn, rng = Drawn(seed), np.random.default_rng(seed)
    step = nn.TrainingStep(drawn.network, nn.CrossEntropyLoss(), drawn.optimizer, native=native)
    losses = []
    for size in (3, 3, 2, 3):
        x = rng.standard_normal((size, *drawn.input)).astype("float32")
        if drawn.last:
            x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        losses.append(step(x, rng.integers(0, CLASSES, size)))
    return step, losses


def check(seeds: range) -> None:
    compiled = 0
    for seed in seeds:
        (native, losses), (layers, expected) = trained(seed, native=True), trained(seed, native=False)
        np.testing.assert_array_equal(losses, expected, err_msg=f"seed {seed}\n{native.network}")
        mine, others = native.network.state_dict(), layers.network.state_dict()
        for key, value in mine.items():
            np.testing.assert_array_equal(value, others[key], err_msg=f"seed {seed}, {key}\n{native.network}")
        compiled += native.reason is None
    assert compiled >= 0.9 * len(seeds)


@pytest.mark.parametrize("first", range(0, 60, 15))
def test_the_same_bits(first: int) -> None:
    check(range(first, first + 15))


@pytest.mark.heavy
def test_the_same_bits_of_many() -> None:
    check(range(1000, 1400))
