"""The definition, on 5 x 5 pixels, with every product written out."""

import json
from functools import partial
from typing import TypedDict

import numpy as np

from ...geometry import convolution_axes
from ..draw import brightness, signed
from ..html import digits, figure, grid, paragraphs, row, shape, sign, table
from ..mathml import formula, inline, name, op, sub, summation, words
from ..mathml import row as terms
from ..section import Names, Numbers, Section

CODE = """\
K = np.array([[-1, -1, -1],
              [ 0,  0,  0],
              [ 1,  1,  1]])

# 5 x 5 pixels around the strongest change from dark to light, top to bottom.
response = sc.conv2d(grey[np.newaxis], K[np.newaxis, np.newaxis])[0]
place = np.unravel_index(response.argmax(), response.shape)
top, left = np.clip(np.subtract(place, 1), 0, np.subtract(grey.shape, 5))
X = np.rint(9 * grey[top : top + 5, left : left + 5]).astype(int)

O = sc.conv2d(X[np.newaxis], K[np.newaxis, np.newaxis])[0]

# The definition, word for word.
products = np.zeros((3, 3, 3, 3), dtype=int)
for i, j, p, q in np.ndindex(products.shape):
    products[i, j, p, q] = X[i + p, j + q] * K[p, q]
assert np.array_equal(products.sum(axis=(2, 3)), O)
"""


class Step(TypedDict):
    """What the page shows for one output, all as text: nothing is left to compute in the browser."""

    title: str
    output: str
    inputs: list[str]
    taps: list[str]
    terms: list[str]
    products: list[str]
    sum: str


def show(names: Names) -> str:
    """The three matrices, the step through all outputs, and all of them as a list."""
    x, k, o, products = names["X"], names["K"], names["O"], names["products"]
    definition = formula(
        sub(name("O"), name("i"), name("j")),
        op("="),
        summation(words("p = 0"), terms(sub(name("k"), name("h")), words("− 1"))),
        summation(words("q = 0"), terms(sub(name("k"), name("w")), words("− 1"))),
        sub(name("X"), words("i + p"), words("j + q")),
        sub(name("K"), name("p"), name("q")),
    )
    axes = convolution_axes(x.shape, k.shape)
    steps = _steps(x, k, o, products)
    limit = float(max(abs(o).max(), 1))
    stage = row(
        grid(x, f"<var>X</var> {shape(x)}", palette=lambda v: brightness(np.asarray(v, float) / 9), id="step-x"),
        "⋆",
        grid(k, f"<var>K</var> {shape(k)}", palette=partial(signed, limit=1), text=sign, id="step-k"),
        "=",
        grid(o, f"<var>O</var> {shape(o)}", palette=partial(signed, limit=limit), text=sign, id="step-o"),
        kind="equation",
    )
    controls = (
        '<div class="controls" id="step-controls" hidden>'
        '<button type="button" id="step-back" aria-label="Previous output">←</button>'
        '<span id="step-title" aria-live="polite"></span>'
        '<button type="button" id="step-on" aria-label="Next output">→</button></div>'
        '<div class="products" id="step-products"></div>'
    )
    data = json.dumps({"columns": o.shape[1], "steps": steps}, ensure_ascii=False).replace("<", "\\u003c")
    every = table(
        ("output", "its nine products X·K, row by row", "sum"),
        ((step["title"], " + ".join(step["terms"]), step["sum"]) for step in steps),
        kind="products-table",
    )
    top, left = int(names["top"]), int(names["left"])
    height, width = (axis.output for axis in axes)
    return (
        paragraphs(
            "A convolution slides a small matrix, the <em>kernel</em> <var>K</var>, over the input <var>X</var>. At "
            "every position it multiplies each number of the kernel with the number of the input that lies under it, "
            "and adds the products up. With a kernel of "
            f"{inline(sub(name('k'), name('h')), op('×'), sub(name('k'), name('w')))} numbers:"
        )
        + definition
        + paragraphs(
            "Mathematics calls this a <em>cross-correlation</em>, written <var>X</var> ⋆ <var>K</var>, and keeps the "
            "word “convolution” for the same sum with the kernel turned by 180°. A kernel that is learnt does not "
            "care which way round it is written, so deep learning says convolution to both, and so does this page.",
            f"Below are 5 × 5 pixels of the picture, from row {top} and column {left}, with their brightness from 0 "
            f"to 9. The kernel fits into them at {height} × {width} = {height * width} positions, so that the output "
            f"has {height} × {width} numbers. Step through them and follow the sum.",
        )
        + figure(
            f'<div class="stepper" id="stepper" role="group" tabindex="0" aria-label="Step through the outputs">'
            f'{stage}{controls}</div><script type="application/json" id="step-data">{data}</script>'
            f"<details><summary>All {height * width} outputs with all their products</summary>{every}</details>",
            "The definition at work. Click a number of <var>O</var>, or use the arrow keys.",
        )
    )


def _steps(x: Numbers, k: Numbers, o: Numbers, products: Numbers) -> list[Step]:
    down, across = convolution_axes(x.shape, k.shape)
    steps: list[Step] = []
    for i in range(down.output):
        for j in range(across.output):
            rows, columns = down.reads(i), across.reads(j)
            steps.append(
                {
                    "title": f"O[{i}, {j}]",
                    "output": f"{i},{j}",
                    "inputs": [f"{row},{column}" for row in rows for column in columns],
                    "taps": [f"{p},{q}" for p in range(down.kernel) for q in range(across.kernel)],
                    "terms": [
                        f"{digits(x[row, column])}·{_factor(k[p, q])}"
                        for p, row in enumerate(rows)
                        for q, column in enumerate(columns)
                    ],
                    "products": [sign(product) for product in products[i, j].ravel()],
                    "sum": sign(o[i, j]),
                }
            )
    return steps


def _factor(value: float) -> str:
    return f"({sign(value)})" if value < 0 else sign(value)


SECTION = Section("definition", "The definition", CODE, show)
