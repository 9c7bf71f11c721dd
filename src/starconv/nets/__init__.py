"""Whole networks: as data, from files, and run.

>>> from starconv import nets
>>> network = nets.load("model.onnx")  # doctest: +SKIP
>>> network(pictures)  # doctest: +SKIP
"""

from .description import Layer, NetworkSummary
from .from_layers import export, from_nn
from .graph import Builder, Graph, Node, Value
from .interpret import UnsupportedOperatorError
from .network import Network
from .onnx import load
from .operators import NodeError

__all__ = [
    "Builder",
    "Graph",
    "Layer",
    "Network",
    "NetworkSummary",
    "Node",
    "NodeError",
    "UnsupportedOperatorError",
    "Value",
    "export",
    "from_nn",
    "load",
]
