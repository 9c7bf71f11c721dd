"""Pairs of layers by bands of rows: the bits are those of whole layers, and what lies between is small."""

from typing import Any

import numpy as np
import pytest
from graphs import Writer, interpreted
from numpy.typing import NDArray

from starconv.engine.bands import Bands
from starconv.engine.emit.target import host_target
from starconv.engine.program import Program, compile_graph
from starconv.nets.graph import Graph
from starconv.nets.network import Network

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

NEVER = 1 << 60
WHOLE = {
    "3x3": {"kernel": 3, "pads": (1, 1, 1, 1)},
    "3x3 stride 2": {"kernel": 3, "pads": (1, 1, 1, 1), "strides": (2, 2)},
    "3x3 stride 2, even": {"kernel": 3, "pads": (0, 0, 1, 1), "strides": (2, 2)},
    "5x5": {"kernel": 5, "pads": (2, 2, 2, 2)},
    "3x3 dilated": {"kernel": 3, "pads": (2, 2, 2, 2), "dilations": (2, 2)},
    "no padding": {"kernel": 3, "pads": (0, 0, 0, 0)},
}


def network(form: str, *, pictures: int = 1, size: tuple[int, int] = (61, 11)) -> tuple[Graph, list[NDArray[Any]]]:
    """A layer, its expansion, a depthwise layer and its projection, with activations."""
    given = dict(WHOLE[form])
    kernel = given.pop("kernel")
    w = Writer(5)
    x = w.conv(w.input(pictures, 3, *size), 16, 3, bias=True)
    x = w.add("Clip", w.norm(w.conv(x, 64, 1)), w.constant(scale=0.0), w.constant(scale=0.0, shift=6.0))
    x = w.add("Relu", w.norm(w.conv(x, 64, kernel, groups=64, **given)))
    return w.graph(w.conv(x, 24, 1, bias=True)), w.arrays


def programs(
    graph: Graph, arrays: list[NDArray[Any]], together: int | None = None, between: int = 100_000
) -> tuple[Program, Program]:
    """One with bands, and one without."""
    shapes = [array.shape for array in arrays]
    by_bands, whole = (
        compile_graph(graph, shapes, layout="last", together=together, between=most) for most in (between, NEVER)
    )
    assert not any(isinstance(operation, Bands) for operation in whole.operations)
    return by_bands, whole


@pytest.mark.parametrize("pads", [(30, 1, 1, 1), (1, 1, 30, 1)])
def test_bands_that_would_meet_padding_only_are_not_made(pads: tuple[int, int, int, int]) -> None:
    w = Writer(5)
    x = w.conv(w.conv(w.input(1, 3, 61, 11), 16, 3), 64, 1)
    graph = w.graph(w.conv(w.conv(x, 64, 3, groups=64, pads=pads), 24, 1))
    by_bands, whole = programs(graph, w.arrays)
    assert not any(isinstance(operation, Bands) for operation in by_bands.operations)
    np.testing.assert_array_equal(by_bands(*w.arrays)[0], whole(*w.arrays)[0])


@pytest.mark.parametrize("form", WHOLE)
def test_the_same_bits_as_whole_layers(form: str) -> None:
    graph, arrays = network(form)
    by_bands, whole = programs(graph, arrays)
    (bands,) = [operation for operation in by_bands.operations if isinstance(operation, Bands)]
    assert len(bands.bands) > 2
    np.testing.assert_array_equal(by_bands(*arrays)[0], whole(*arrays)[0])
    (expected,) = interpreted(graph, arrays)
    np.testing.assert_allclose(by_bands(*arrays)[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    others = [np.flip(array, -2).copy() for array in arrays]
    np.testing.assert_array_equal(by_bands(*others)[0], whole(*others)[0])


def test_calls_give_what_jobs_give() -> None:
    graph, arrays = network("3x3")
    by_bands, _ = programs(graph, arrays)
    (bands,) = [operation for operation in by_bands.operations if isinstance(operation, Bands)]
    x, between, out = (by_bands.lowered.infos[name] for name in (*bands.reads, *bands.writes))
    generator = np.random.default_rng(1)

    def last(shape: tuple[int, ...]) -> NDArray[Any]:
        count, channels, *sizes = shape
        return np.moveaxis(generator.standard_normal((count, *sizes, channels)).astype(np.float32), -1, 1)

    given = {
        name: last(info.shape) for name, info in zip((*bands.reads, *bands.writes), (x, between, out), strict=True)
    }
    jobs = bands.jobs(given)
    assert jobs is not None
    for job in jobs:
        job.run()
    found = given[bands.writes[1]].copy()
    bands.run(given)
    np.testing.assert_array_equal(given[bands.writes[1]], found)


@pytest.mark.parametrize("form", ["3x3", "3x3 stride 2"])
def test_pictures_one_by_one(form: str) -> None:
    graph, arrays = network(form, pictures=3)
    by_bands, whole = programs(graph, arrays, together=0)
    assert any(isinstance(operation, Bands) for operation in by_bands.operations)
    assert all(
        by_bands.chains[operation].pictures == 3 for operation in by_bands.operations if isinstance(operation, Bands)
    )
    np.testing.assert_array_equal(by_bands(*arrays)[0], whole(*arrays)[0])


def test_what_lies_between_is_one_band() -> None:
    graph, arrays = network("3x3", size=(150, 130))
    by_bands, whole = programs(graph, arrays, between=1_000_000)
    # 5 MB between, as many for the result, and 1.2 and 1.9 MB before and after.
    assert whole.bytes > 9_000_000
    assert by_bands.bytes < 7_500_000


def test_values_that_others_read_stay_whole() -> None:
    w = Writer(5)
    x = w.conv(w.input(1, 3, 37, 23), 16, 3)
    expanded = w.conv(x, 64, 1)
    graph = w.graph(w.conv(expanded, 64, 3, groups=64), expanded)
    by_bands, _ = programs(graph, w.arrays)
    assert not any(isinstance(operation, Bands) for operation in by_bands.operations)


def test_both_layers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starconv.engine.program.choose_layout", _last)
    graph, arrays = network("3x3")
    whole = Network(graph).profile(*arrays)
    monkeypatch.setattr("starconv.engine.program.most_between", lambda target: 100_000)
    by_bands = Network(graph).profile(*arrays)
    (row,) = [row for row in by_bands.rows if "bands" in row.op]
    assert row.output == (1, 64, 61, 11)
    for count in ("parameters", "multiply_adds"):
        assert sum(getattr(row, count) for row in by_bands.rows) == sum(getattr(row, count) for row in whole.rows)


def _last(lowered: Any, layout: str | None) -> dict[str, bool]:
    from starconv.engine.layouts import choose_layout

    return choose_layout(lowered, "last")
