"""Whole networks: as data, from files, and run."""

from .graph import Builder, Graph, Node, Value

__all__ = ["Builder", "Graph", "Node", "Value"]
