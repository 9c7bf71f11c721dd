"""Winograd convolution."""

import ctypes
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ...problem import Problem
from ..descriptor import address_of
from ..emit.target import Target
from ..lattice import lattices
from ..runtime import memory, threads
from .blocks import SERIAL_PRODUCTS, Form
from .packed import SOURCES, PackedSolution, _Binding
from .panels import Array, Compiled, Panels, compiled
from .winograd_kernels import CHANNELS, FIELDS, WEIGHT_FIELDS, kernel_module, weight_module
from .winograd_transforms import TAPS, transform

NAME = "winograd"
ERROR_BOUND = 32.0
LEAST = 8


def refuses(problem: Problem, target: Target | None) -> str | None:
    if target is None:
        return "no compiled code on this machine"
    if problem.operation != "conv":
        return "it computes convolutions, not their gradients"
    if problem.dtype != "float32":
        return f"it is for float32, not {problem.dtype}"
    if problem.precision == "strict":
        return "its sums differ from the definition's, which precision strict asks for"
    if [axis.kernel for axis in problem.axes] != [TAPS] * 2:
        return "only 3x3 kernels"
    if any(axis.stride != 1 or axis.dilation != 1 for axis in problem.axes):
        return "only stride 1 and dilation 1"
    if math.prod(problem.output_shape) == 0 or math.prod(problem.input_shape) == 0:
        return "there is nothing to compute"
    if min(problem.in_channels, problem.out_channels) // problem.groups < LEAST:
        return f"with fewer than {LEAST} channels or kernels per group its transforms cost more than they save"
    return None


def width(problem: Problem, target: Target) -> int:
    lanes = target.lanes(problem.itemsize)
    most = 4 if target.registers >= 32 and target.has_fma and target.vector_bytes == 64 else 2
    return lanes * min(most, -(-(problem.out_channels // problem.groups) // lanes))


@dataclass(frozen=True)
class Cut:
    """How tiles are cut into tasks."""

    m: int
    tile_rows: int
    tile_columns: int
    pictures: int
    rows: int
    columns: int
    splits: int


import os
FORCE = {}

@lru_cache(maxsize=1024)
def cut(problem: Problem, target: Target, limit: int) -> Cut:
    m = FORCE.get("m", 4)
    rows, columns = (-(-axis.output // m) for axis in problem.axes)
    t = FORCE.get("tiles", 28)
    splits = FORCE.get("splits", 1)
    if columns > t:
        return Cut(m, rows, columns, 1, 1, -(-columns // (-(-columns // t))), splits)
    if rows * columns > t:
        r = t // columns
        r = -(-rows // (-(-rows // r)))
        return Cut(m, rows, columns, 1, r, columns, splits)
    p = min(max(t // (rows * columns), 1), problem.batch)
    return Cut(m, rows, columns, p, rows, columns, splits)


def cost(problem: Problem, target: Target | None) -> float:
    return 1.0


def workspace(problem: Problem, target: Target | None) -> int:
    return 0


def build(problem: Problem, target: Target | None) -> "Solution":
    assert target is not None
    return Solution(problem, target, FORCE.get("m", 4))


class TransformedPanels(Panels):
    """Weights U = G g G^T, [group][position][panel][channel][kernel]."""

    def __init__(self, problem: Problem, target: Target, m: int) -> None:
        super().__init__(problem, target, width(problem, target))
        self.m = m
        self.channels = problem.in_channels // problem.groups

    def pack(self, weights: Array) -> Array:
        """U of `weights`."""
        plain = super().pack(weights)
        n = transform(self.m).n
        size = plain.size // TAPS**2 * n * n
        transformed = memory.aligned_empty(size, np.float32)
        position = self.blocks * self.channels * self.width
        values = {
            "panels": address_of(plain),
            "transformed": address_of(transformed),
            "channels": self.channels,
            "blocks": self.blocks,
            "position": position,
        }
        block = WEIGHT_FIELDS.block(values)
        function = weight_function(self.target, self.m, self.width)
        count = self.problem.groups * self.blocks
        threads.run(function.address, ctypes.addressof(block), count, threads.get_num_threads())
        return transformed


@lru_cache(maxsize=64)
def weight_function(target: Target, m: int, panel: int) -> Compiled:
    return compiled(weight_module(target, m, panel), target, "task")


class Solution(PackedSolution):
    def __init__(self, problem: Problem, target: Target, m: int) -> None:
        super().__init__(problem, target, FIELDS, TransformedPanels(problem, target, m), None, None, form=Form())
        self.m = m

    def _bind(self, x: Array, out: Array, limit: int) -> _Binding:
        problem = self.problem
        shape = cut(problem, self.target, limit)
        m, n = shape.m, shape.m + 2
        channels = problem.in_channels // problem.groups
        _, rows, columns = lattices(problem)
        tables, base = [], 0
        for axis, step, tiles in ((rows, x.strides[2], shape.tile_rows), (columns, x.strides[3], shape.tile_columns)):
            sources = axis.sources(problem.border)
            table = np.full(tiles * m + 2, -1, np.int64)
            inside = sources >= 0
            offsets = sources[inside] * step
            low = int(offsets.min(initial=0)) if step < 0 else 0
            table[: len(sources)][inside] = offsets - low
            base += low
            tables.append(table)
        left, right = columns.inside()
        blocks = self.panels.blocks
        panels_per_split = -(-blocks // shape.splits)
        tiles = shape.pictures * shape.rows * shape.columns
        block_bytes = (shape.rows * m + 2) * (shape.columns * m + 2) * CHANNELS * 4
        value_tile = -(-channels // CHANNELS) * CHANNELS + 16
        product_tile = panels_per_split * self.panels.width + 16
        value_position, product_position = (odd_lines(tiles * tile) for tile in (value_tile, product_tile))
        values_at = -(-block_bytes // 64) * 64
        products_at = values_at + n * n * value_position * 4
        scratch_bytes = products_at + n * n * product_position * 4
        pb, rb, cb = (-(-a // b) for a, b in ((problem.batch, shape.pictures), (shape.tile_rows, shape.rows), (shape.tile_columns, shape.columns)))
        fields: dict[str, int | float] = {
            "x_base": base,
            "x_batch": x.strides[0],
            "x_group": x.strides[1] * channels,
            "x_channel": x.strides[1],
            "x_column": x.strides[3],
            "row_table": address_of(tables[0]),
            "column_table": address_of(tables[1]),
            "left": left,
            "right": right,
            "out_batch": out.strides[0],
            "out_channel": out.strides[1],
            "out_row": out.strides[2],
            "out_column": out.strides[3],
            "out_rows": rows.outputs,
            "out_columns": columns.outputs,
            "scratch_bytes": scratch_bytes,
            "values": values_at,
            "products": products_at,
            "value_tile": value_tile,
            "value_position": value_position,
            "product_tile": product_tile,
            "product_position": product_position,
            "channels": channels,
            "kernels": self.panels.kernels,
            "blocks": blocks,
            "pictures": problem.batch,
            "tile_rows": shape.tile_rows,
            "tile_columns": shape.tile_columns,
            "pictures_per_task": shape.pictures,
            "rows_per_task": shape.rows,
            "columns_per_task": shape.columns,
            "picture_blocks": pb,
            "row_blocks": rb,
            "column_blocks": cb,
            "splits": -(-blocks // panels_per_split),
            "panels_per_split": panels_per_split,
        }
        tasks = problem.groups * pb * rb * cb * fields["splits"]
        workers = min(limit, tasks) if problem.multiply_adds >= SERIAL_PRODUCTS else 1
        source = kernel_module(self.target, m, self.panels.width, SOURCES.get(x.dtype) or "float", problem.activation == "relu")
        function = compiled(source, self.target, "task")
        return _Binding(function, self.fields.block(fields), tasks, workers, scratch_bytes * workers, tuple(tables), [])


def odd_lines(elements: int) -> int:
    """At least `elements`, an odd number of cache lines: positions one after the other do not meet in one cache set."""
    return (-(-elements // 16) | 1) * 16
