"""Networks by name, for pictures of any size, and how each of them is best trained: what `starconv train` offers."""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from ..arguments import Seed, checked_count, generator_of
from .activation import ReLU
from .container import Residual, Sequential
from .conv import Conv2d
from .linear import Flatten, Linear
from .norm import BatchNorm2d
from .optim import SGD
from .pool import AdaptiveAvgPool2d, MaxPool2d

__all__ = ["NETWORKS", "RECIPES", "Recipe", "compact", "lenet", "resnet20"]


Layer = TypeVar("Layer", Conv2d, Linear)


def lenet(channels: int, size: tuple[int, int], classes: int, seed: Seed = None) -> Sequential:
    """Two 5 x 5 convolutions (16 and 32 kernels, padded) with pools, two dense layers; at least 4 x 4 pixels.

    After Y. LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998), with ReLU
    and maxima instead of sigmoids and means. Without batch norm, the size of the first weights matters: they are
    He's for ReLU, so that a signal keeps its size on its way through the layers. torch.nn's, 1/sqrt(6) of that, make it
    (1/sqrt(6))^3 = 1/15 of its size before the last layer, and most of a short training passes with making up for that.

    >>> lenet(1, (28, 28), 10, seed=0).summary((1, 28, 28)).parameters
    215370
    """
    rng = generator_of(seed)
    height, width = (checked_count("size", side, 4) for side in size)
    return Sequential(
        _for_relu(Conv2d(channels, 16, 5, padding=2, seed=rng)),
        ReLU(),
        MaxPool2d(2),
        _for_relu(Conv2d(16, 32, 5, padding=2, seed=rng)),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        _for_relu(Linear(32 * (height // 4) * (width // 4), 128, seed=rng)),
        ReLU(),
        Linear(128, classes, seed=rng),
    )


def compact(channels: int, size: tuple[int, int], classes: int, seed: Seed = None) -> Sequential:
    """Three 3 x 3 convolutions with batch norm (16, 32 and 64 kernels), two pools; at least 4 x 4 pixels.

    >>> compact(1, (8, 8), 10, seed=0).summary((1, 8, 8)).parameters
    25978
    """
    rng = generator_of(seed)
    height, width = (checked_count("size", side, 4) for side in size)
    return Sequential(
        *_normalised(channels, 16, rng),
        *_normalised(16, 32, rng),
        MaxPool2d(2),
        *_normalised(32, 64, rng),
        MaxPool2d(2),
        Flatten(),
        Linear(64 * (height // 4) * (width // 4), classes, seed=rng),
    )


def resnet20(channels: int, size: tuple[int, int], classes: int, seed: Seed = None) -> Sequential:
    """A residual network of 20 layers for small pictures: three blocks each of 16, 32 and 64 kernels.

    Source: K. He et al., "Deep residual learning for image recognition", arXiv:1512.03385, section 4.2, with a 1 x 1
    convolution where the number of channels changes (their option B).

    >>> resnet20(3, (32, 32), 10, seed=0).summary((3, 32, 32)).parameters
    272474
    """
    rng = generator_of(seed)
    blocks = [*_normalised(channels, 16, rng)]
    before = 16
    for stage, kernels in enumerate((16, 32, 64)):
        for block in range(3):
            stride = 2 if stage and not block else 1
            body = Sequential(*_normalised(before, kernels, rng, stride), *_normalised(kernels, kernels, rng)[:2])
            shortcut = None
            if before != kernels:
                shortcut = Sequential(
                    Conv2d(before, kernels, 1, stride=stride, bias=False, seed=rng), BatchNorm2d(kernels)
                )
            blocks += [Residual(body, shortcut), ReLU()]
            before = kernels
    return Sequential(*blocks, AdaptiveAvgPool2d(1), Flatten(), Linear(64, classes, seed=rng))


def _normalised(
    before: int, kernels: int, rng: np.random.Generator, stride: int = 1
) -> tuple[Conv2d, BatchNorm2d, ReLU]:
    """A padded 3 x 3 convolution, whose bias batch norm would take away again, batch norm, ReLU."""
    convolution = Conv2d(before, kernels, 3, stride=stride, padding=1, bias=False, seed=rng)
    return convolution, BatchNorm2d(kernels), ReLU()


def _for_relu(layer: Layer) -> Layer:
    """`layer` with its weights uniform between ±sqrt(6 / fan_in) instead of ±sqrt(1 / fan_in), and its bias zero.

    Source: K. He et al., "Delving deep into rectifiers", arXiv:1502.01852, equation 10: variance 2 / fan_in.
    """
    layer.weight = math.sqrt(6) * layer.weight
    layer.bias = np.zeros_like(layer.bias)
    return layer


NETWORKS: dict[str, Callable[[int, tuple[int, int], int, Seed], Sequential]] = {
    "compact": compact,
    "lenet": lenet,
    "resnet20": resnet20,
}
"""By name; each takes channels, (height, width), classes and a seed."""


class Recipe(NamedTuple):
    """How a network is trained unless the call says otherwise.

    Attributes:
        epochs: how often every picture is learned from.
        batch_size: pictures per step.
        lr: learning rate at first; it falls along a cosine.
    """

    epochs: int
    batch_size: int
    lr: float

    @staticmethod
    def optimizer(network: Sequential, lr: float) -> SGD:
        """Of all recipes: Nesterov's momentum, and a little weight decay."""
        return SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, nesterov=True)


# Found on the digits over several seeds (bench/NOTES.md). Without batch norm lenet needs more steps and a smaller rate:
# at 0.1 the first steps can drive all units of a layer below zero, from where ReLU lets no gradient through.
RECIPES: dict[str, Recipe] = {
    "compact": Recipe(epochs=10, batch_size=32, lr=0.05),
    "lenet": Recipe(epochs=12, batch_size=32, lr=0.03),
    "resnet20": Recipe(epochs=8, batch_size=64, lr=0.05),
}
"""By the names in :data:`NETWORKS`."""
