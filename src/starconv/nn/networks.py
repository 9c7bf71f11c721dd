"""Networks by name, for pictures of any size: what `starconv train` offers."""

from collections.abc import Callable

import numpy as np

from .activation import ReLU
from .container import Residual, Sequential
from .conv import Conv2d
from .initial import Seed, generator_of
from .linear import Flatten, Linear
from .module import checked_count
from .norm import BatchNorm2d
from .pool import AdaptiveAvgPool2d, MaxPool2d

__all__ = ["NETWORKS", "compact", "lenet", "resnet20"]


def lenet(channels: int, size: tuple[int, int], classes: int, seed: Seed = None) -> Sequential:
    """Two 5 x 5 convolutions (16 and 32 kernels, padded) with pools, two dense layers; at least 4 x 4 pixels.

    After Y. LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998), with ReLU
    and maxima instead of sigmoids and means.

    >>> lenet(1, (28, 28), 10, seed=0).summary((1, 28, 28)).parameters
    215370
    """
    rng = generator_of(seed)
    height, width = (checked_count("size", side, 4) for side in size)
    return Sequential(
        Conv2d(channels, 16, 5, padding=2, seed=rng),
        ReLU(),
        MaxPool2d(2),
        Conv2d(16, 32, 5, padding=2, seed=rng),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(32 * (height // 4) * (width // 4), 128, seed=rng),
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


NETWORKS: dict[str, Callable[[int, tuple[int, int], int, Seed], Sequential]] = {
    "compact": compact,
    "lenet": lenet,
    "resnet20": resnet20,
}
"""By name; each takes channels, (height, width), classes and a seed."""
