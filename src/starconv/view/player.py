"""The interactive page of a trace: one HTML file that steps, plays and lets its window be dragged, asking for nothing.

All numbers, cells and windows of all steps are written into the page as JSON; its script only draws them.
"""

import html
import importlib.resources
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentValueError
from .slide_draw import reach_of
from .slide_scenes import stamp_text, sum_text
from .theme import THEMES, data_limits, format_number, tidy
from .trace import Cell, Trace, size_text

__all__ = ["player_data", "player_page"]

Array = NDArray[Any]

MOST_PRODUCTS = 100_000
"""Products in all steps together that one page still carries; a megabyte of text."""
MOST_CELLS = 100_000
"""Elements of input and output together; a megabyte and a half."""
MOST_NUMBERS = 900
"""Cells of one grid whose numbers can be read; more are drawn as shades of grey."""


def player_page(trace: Trace, *, title: str, theme: str = "light", stamps: bool = False) -> str:
    """The page as text.

    Raises:
        ArgumentValueError: so many steps and products that the page would become slow.
    """
    files = importlib.resources.files(__package__)
    css = (files / "player.css").read_text("utf-8")
    for name in ("light", "dark"):
        colours = {key: value for key, value in asdict(THEMES[name]).items() if str(value).startswith("#")}
        css = css.replace(f"@{name.upper()}@", " ".join(f"--{key}: {value};" for key, value in colours.items()))
    # In a script element only "<" could end it before its end.
    numbers = json.dumps(player_data(trace, stamps=stamps), ensure_ascii=False, separators=(",", ":"))
    parts = {
        "THEME": theme,
        "TITLE": html.escape(title),
        "DRAG": "over the input or the output" if stamps else "the window over the input",
        "CSS": css,
        "JS": (files / "player.js").read_text("utf-8"),
        "DATA": numbers.replace("<", "\\u003c"),
    }
    page = (files / "player.html").read_text("utf-8")
    for name, text in parts.items():
        page = page.replace(f"@{name}@", text)
    return page


def player_data(trace: Trace, *, stamps: bool = False) -> dict[str, Any]:
    """Everything that the page shows, as it is written into it: numbers as text, cells as row-major indices."""
    products = trace.w.size * (trace.x.size // len(trace.x) if stamps else trace.output.size // len(trace.output))
    if products > MOST_PRODUCTS:
        expected = f"at most {MOST_PRODUCTS:,} products in all steps together for an HTML page; a GIF takes any size"
        raise ArgumentValueError("x", f"{products:,} products", expected, input_shape=trace.x.shape)
    cells = (trace.x.size if stamps else trace.canvas.size) + trace.output.size
    if cells > MOST_CELLS:
        expected = f"input and output of at most {MOST_CELLS:,} elements for an HTML page; a GIF takes any size"
        raise ArgumentValueError("x", f"{cells:,} elements", expected, input_shape=trace.x.shape)
    flat = trace.spatial == 1
    reach = {"input": reach_of(trace.x), "kernel": reach_of(trace.w), "output": reach_of(trace.output)}
    reach["products"] = reach["input"] * reach["kernel"]

    def texts(values: Array, kind: str) -> list[str]:
        return [format_number(value) for value in np.ravel(tidy(values, reach[kind]))]

    def grids(values: Array, padding: Array, kind: str, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
        layers = values[np.newaxis] if flat else values
        name = kind.capitalize()
        size = size_text(sizes) if flat else size_text((1, *sizes[1:]))
        return [
            {
                "name": f"{name}{f' {number}' if len(layers) > 1 else ''} {size}",
                "rows": layer.shape[0],
                "columns": layer.shape[1],
                "texts": texts(layer, kind),
                "padding": np.broadcast_to(padding, layer.shape).ravel().astype(int).tolist(),
                "shades": _shades(layer) if layer.size > MOST_NUMBERS else None,
            }
            for number, layer in enumerate(layers)
        ]

    def mark(channel: int, window: Sequence[Sequence[int]], shape: Sequence[int]) -> list[Any]:
        """[grid, cells of the taps, (row, column, rows, columns) of the window]."""
        grid, along = (0, [[channel], *window]) if flat else (channel, list(window))
        rows, columns = along
        width = shape[-1]
        box = [rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1]
        return [grid, [row * width + column for row in rows for column in columns], box]

    kernel_shape = (1, *trace.w.shape[2:])[-2:]
    kernels = trace.w if stamps else trace.kernels
    members = kernels.shape[1]
    data: dict[str, Any] = {
        "flat": flat,
        "stamps": stamps,
        "kernelShape": kernel_shape,
        "firstShape": (1, 1) if stamps else kernel_shape,
        "names": ["value", "kernel", "stamp"] if stamps else ["patch", "kernel", "products"],
        "kernels": [texts(kernel, "kernel") for channel in kernels for kernel in channel],
    }
    if trace.transposed and not stamps:
        data["names"][1] = "turned kernel"
    steps: list[dict[str, Any]] = []
    if stamps:
        margin = np.ones(trace.stamped_shape[1:], bool)
        axes = trace.problem.axes
        margin[tuple(slice(axis.before, axis.before + axis.input) for axis in axes)] = False
        total = trace.stamped(0)
        for stamp in trace.stamps():
            total[np.ix_(stamp.channels, *stamp.window)] += stamp.products
            rows = [
                {"mark": 0, "kernel": stamp.input[0] * members + n, "products": texts(share, "products"), "sum": None}
                for n, share in enumerate(stamp.products)
            ]
            layers = total[np.newaxis] if flat else total
            stamped = {
                "marks": [mark(stamp.input[0], [[at] for at in stamp.input[1:]], trace.x.shape)],
                "rows": rows,
                "places": [mark(channel, stamp.window, trace.stamped_shape) for channel in stamp.channels],
                "totals": [texts(layer, "output") for layer in layers],
                "say": stamp_text(trace, stamp, reach),
            }
            steps.append(stamped)
        data["input"] = grids(trace.x, np.zeros((), bool), "input", trace.x.shape)
        data["output"] = grids(total, margin, "output", trace.output.shape)
        windows = [axis.reads(0) for axis in axes]
        middles = [
            [(along[0] + along[-1] + 1) / 2 + axis.before + at * axis.stride for at in range(axis.output)]
            for along, axis in zip(windows, axes, strict=True)
        ]
        data["pickInput"], data["pickOutput"] = _cells(trace.x.shape, flat), _windows(middles, flat)
        data["row"] = trace.x.shape[-1]
    else:
        for step in trace.steps():
            channel = step.output[0]
            name = f"output {channel}: " if len(trace.output) > 1 else ""
            steps.append(
                {
                    "marks": [mark(part.channel, step.window, trace.canvas.shape) for part in step.parts],
                    "rows": [
                        {
                            "mark": n,
                            "kernel": channel * members + n,
                            "products": texts(part.products, "products"),
                            "sum": format_number(float(tidy(part.sum, reach["products"])), 7),
                        }
                        for n, part in enumerate(step.parts)
                    ],
                    "places": [mark(channel, [[at] for at in step.output[1:]], trace.output.shape)],
                    "totals": None,
                    "say": " ".join(sum_text(step, reach, name)),
                }
            )
        data["input"] = grids(trace.canvas, trace.cells > Cell.INPUT, "input", trace.x.shape)
        data["output"] = grids(trace.output, np.zeros((), bool), "output", trace.output.shape)
        middles = []
        for axis, origin in zip(trace.axes, trace.origin, strict=True):
            reads = [axis.reads(at) for at in range(axis.output)]
            middles.append([(along[0] + along[-1] + 1) / 2 + origin for along in reads])
        data["pickInput"], data["pickOutput"] = _windows(middles, flat), _cells(trace.output.shape, flat)
        data["row"] = trace.output.shape[-1]
    data["steps"] = steps
    return data


def _windows(middles: list[list[float]], flat: bool) -> dict[str, Any]:
    """Where the windows' middles lie, in cells: dragging takes the nearest, and stays in the channel it was in."""
    return {"rows": [0.0] if flat else middles[0], "columns": middles[-1], "keep": True}


def _cells(shape: tuple[int, ...], flat: bool) -> dict[str, Any]:
    """The same for single cells; with one spatial axis the rows of the grid are the channels."""
    rows, columns = (shape[0], shape[1]) if flat else shape[1:]
    places = [[at + 0.5 for at in range(count)] for count in (rows, columns)]
    return {"rows": places[0], "columns": places[1], "keep": False}


def _shades(values: Array) -> list[int]:
    low, high = data_limits(values)
    scaled = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
    shades: list[int] = (255 * scaled).round().astype(int).ravel().tolist()
    return shades
