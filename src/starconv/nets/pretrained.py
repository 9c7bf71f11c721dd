"""Where the weights of a known network come from: a file, arrays by name, the hub, or chance."""

import os
from collections.abc import Mapping
from pathlib import Path

from numpy.typing import ArrayLike

from ..arguments import Seed
from ..errors import ArgumentTypeError, ArgumentValueError
from .blueprint import Weights
from .hub import fetch, on_disk
from .weights import load_weights

__all__ = ["HUB", "Given", "at_hand", "found_weights"]

Given = str | os.PathLike[str] | Mapping[str, ArrayLike] | None
"""A file, arrays by name, a name of :data:`HUB`, or None for random weights."""

HUB = {
    ("resnet18", "tv_in1k"): "timm/resnet18.tv_in1k",
    ("resnet34", "tv_in1k"): "timm/resnet34.tv_in1k",
    ("resnet50", "tv_in1k"): "timm/resnet50.tv_in1k",
}
"""Repositories of the hub by network and name of the weights: torchvision's first ones, under torchvision's names."""


def at_hand(network: str, weights: str) -> Path | None:
    """The file of `network`'s `weights` of that name, if it was fetched from the hub before; None otherwise.

    >>> at_hand("resnet18", "of somebody") is None
    True
    """
    repository = HUB.get((network, weights))
    return None if repository is None else on_disk(repository, "model.safetensors")


def found_weights(network: str, weights: Given, seed: Seed) -> Weights:
    """The weights that a caller means by `weights` for `network`.

    Raises:
        ArgumentTypeError, ArgumentValueError: neither a file nor a name of weights.
        FileContentError, DownloadError, MissingPackageError: a file that cannot be read, fetched or understood.
    """
    if weights is None or isinstance(weights, Mapping):
        return Weights(weights, seed)
    if not isinstance(weights, (str, os.PathLike)):
        raise ArgumentTypeError("weights", weights, "a file, arrays by name, or None")
    path = Path(weights).expanduser()
    if (network, weights) in HUB and not path.exists():
        path = fetch(HUB[network, str(weights)], "model.safetensors")
    elif isinstance(weights, str) and not path.suffix and not path.exists():
        names = [repr(name) for known, name in HUB if known == network]
        expected = f"a file (.safetensors, .npz, .pth, .pt){' or ' + ', '.join(names) if names else ''}"
        raise ArgumentValueError("weights", weights, f"{expected}; there is no such file")
    return Weights(load_weights(path), seed, path)
