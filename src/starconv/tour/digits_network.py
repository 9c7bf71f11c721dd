"""What the tour trains, once per process: the network on the digits that its sections look into, and two rivals."""

import functools
from typing import NamedTuple

import numpy as np

from .. import bias, nn
from ..data.digits import Split, digits
from ..nn.networks import NETWORKS, RECIPES
from .section import Numbers

__all__ = ["TrainedDigits", "compared", "trained"]


class TrainedDigits(NamedTuple):
    """A network that has learned the digits.

    Attributes:
        network: in eval mode; a Sequential whose first layer is a Conv2d.
        history: a row per epoch.
        first_kernels: the first layer's weights (K, 1, 3, 3) before training.
        data: what it learned from, and the test pictures that it had not seen.
    """

    network: nn.Sequential
    history: nn.History
    first_kernels: Numbers
    data: Split


@functools.cache
def trained() -> TrainedDigits:
    """What ``starconv train digits`` makes, by the same recipe. The same bits every time; a few seconds the first time.

    All callers get the same objects: look, and leave them as they are.
    """
    data, recipe = digits(), RECIPES["compact"]
    network = NETWORKS["compact"](1, (8, 8), 10, 0)
    first = network[0]
    assert isinstance(first, nn.Conv2d)
    first_kernels = np.array(first.weight)
    optimizer = recipe.optimizer(network, recipe.lr)
    schedule = nn.CosineAnnealingLR(optimizer, recipe.epochs)
    history = nn.fit(
        network,
        data.train,
        data.test,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        optimizer=optimizer,
        schedule=schedule,
        progress=False,
    )
    network.eval()
    return TrainedDigits(network, history, first_kernels, data)


@functools.cache
def compared() -> bias.Comparison:
    """``sc.bias.compare((50, 200), steps=100)``: convolution against dense on few of the digits, over three seeds."""
    return bias.compare((50, 200), steps=100)
