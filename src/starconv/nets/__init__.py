"""Whole networks: as data, from files, and run.

>>> from starconv import nets
>>> network = nets.load("model.onnx")  # doctest: +SKIP
>>> network(pictures)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from ..later import found_later
from .classics import mobilenet_v2, squeezenet1_1, vgg16
from .description import Layer, NetworkSummary
from .graph import Builder, Graph, Node, Value
from .hed import hed, hed_input
from .hub import DownloadError
from .interpret import UnsupportedOperatorError
from .models import MODELS, model
from .network import Network
from .onnx import load
from .operators import NodeError
from .preprocess import imagenet_classes, preprocess
from .pretrained import at_hand
from .resnet import resnet18, resnet34, resnet50
from .weights import load_weights

if TYPE_CHECKING:
    from .from_layers import export, from_nn

__all__ = [
    "MODELS",
    "Builder",
    "DownloadError",
    "Graph",
    "Layer",
    "Network",
    "NetworkSummary",
    "Node",
    "NodeError",
    "UnsupportedOperatorError",
    "Value",
    "at_hand",
    "export",
    "from_nn",
    "hed",
    "hed_input",
    "imagenet_classes",
    "load",
    "load_weights",
    "mobilenet_v2",
    "model",
    "preprocess",
    "resnet18",
    "resnet34",
    "resnet50",
    "squeezenet1_1",
    "vgg16",
]

__getattr__ = found_later(__name__, {"export": ".from_layers", "from_nn": ".from_layers"})
"""Imported when they are first asked for: they need all of ``starconv.nn``, which files and networks by name do not."""
