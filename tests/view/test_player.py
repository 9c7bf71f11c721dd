"""The page carries every step's numbers as the library has them, and nothing that it would have to fetch."""

import json
import re

import numpy as np
import pytest

from starconv.errors import ArgumentValueError
from starconv.view import slide
from starconv.view.player import player_data, player_page
from starconv.view.theme import format_number
from starconv.view.trace import Trace


def carried(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def integers(*shape, seed=0):
    return np.random.default_rng(seed).integers(-3, 4, shape)


@pytest.mark.parametrize(
    ("x", "w", "arguments"),
    [
        (integers(7, 7), integers(3, 3), {"stride": 2, "padding": 1}),
        (integers(3, 5, 6), integers(2, 3, 2, 3), {"dilation": (2, 1), "b": [3, -4]}),
        (integers(4, 8), integers(4, 2, 3), {"groups": 2, "padding": ((2, 0),)}),
        (integers(3, 3), integers(3, 3), {"transposed": True, "stride": 2}),
    ],
)
def test_numbers_cells_and_windows_of_every_step(x, w, arguments):
    trace = Trace.of(x, w, **arguments)
    data = carried(player_page(trace, title="t"))
    assert len(data["steps"]) == len(trace)
    cells = [np.array(grid["texts"]) for grid in data["input"]]
    for step, carries in zip(trace.steps(), data["steps"], strict=True):
        for part, (grid, taps, _), row in zip(step.parts, carries["marks"], carries["rows"], strict=True):
            assert cells[grid][taps].tolist() == [format_number(v) for v in part.patch.ravel()]
            assert data["kernels"][row["kernel"]] == [format_number(v) for v in part.kernel.ravel()]
            assert row["products"] == [format_number(v) for v in part.products.ravel()]
        assert carries["say"].endswith(f"= {format_number(step.total, 7)}")
        ((grid, (cell,), _),) = carries["places"]
        assert data["output"][grid]["texts"][cell] == format_number(step.total)


def test_stamps_end_in_the_output():
    trace = Trace.of(integers(3, 4), integers(3, 3), stride=2, padding=1, transposed=True)
    data = player_data(trace, stamps=True)
    assert len(data["steps"]) == 12
    last = np.array(data["steps"][-1]["totals"][0]).reshape(trace.stamped_shape[1:])
    assert last[1:-1, 1:-1].ravel().tolist() == [format_number(v) for v in trace.output.ravel()]


def test_the_page_is_small_and_asks_for_nothing():
    page = slide((7, 7), (3, 3), padding=1).to_html()
    assert len(page.encode()) < 300_000
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", page)


def test_text_from_outside_cannot_leave_its_place():
    page = player_page(Trace.of(integers(3, 3), integers(2, 2)), title="</title><script>alert(1)</script>")
    assert "<script>alert" not in page
    assert page.count("<title>") == 1


def test_many_cells_are_shades_and_too_many_products_are_refused():
    data = player_data(Trace.of(integers(40, 40), integers(3, 3), stride=4))
    assert len(data["input"][0]["shades"]) == 1600
    assert data["output"][0]["shades"] is None
    with pytest.raises(ArgumentValueError, match="a GIF takes any size"):
        player_data(Trace.of(integers(200, 200), integers(3, 3)))


def test_a_picture_too_large_for_a_page_is_refused_there_and_moves_in_a_notebook():
    animation = slide(np.zeros((400, 300)), (3, 3), stride=50, max_frames=2)
    with pytest.raises(ArgumentValueError, match="at most 100,000 elements"):
        animation.to_html()
    assert "data:image/gif" in animation._repr_html_()
