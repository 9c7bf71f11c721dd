"""The networks that are there by name, and how each of them takes a picture."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from ..arguments import Seed
from ..errors import ArgumentValueError, choices
from . import classics, resnet
from .hed import hed
from .network import Network
from .pretrained import Given

__all__ = ["MODELS", "Colours", "Model", "model"]

Colours = Literal["imagenet", "hed", "unit"]
"""How a network wants its numbers: less ImageNet's mean over its deviation, as HED does, or from 0 to 1."""


class Model(NamedTuple):
    """A function that makes the network of weights and a seed, and the colours that it takes."""

    build: Callable[..., Network]
    colours: Colours = "imagenet"


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "resnet18": Model(resnet.resnet18),
        "resnet34": Model(resnet.resnet34),
        "resnet50": Model(resnet.resnet50),
        "vgg16": Model(classics.vgg16),
        "squeezenet1_1": Model(classics.squeezenet1_1),
        "mobilenet_v2": Model(classics.mobilenet_v2),
        "hed": Model(hed, "hed"),
    }
)
"""By name."""


def model(name: str, weights: Given = None, *, seed: Seed = 0) -> Network:
    """The network called `name`, with `weights` (a file, arrays by name, a name on the hub) or random ones.

    Raises:
        ArgumentValueError: there is none of that name. Others as :func:`~starconv.nets.resnet18`.
    """
    if name not in MODELS:
        raise ArgumentValueError("name", name, choices(MODELS))
    return MODELS[name].build(weights, seed=seed)
