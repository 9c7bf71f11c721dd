"""Inputs of small integers are read as they are, by an algorithm with the same bits, where that is not far slower."""

import numpy as np
import pytest

import starconv as sc
from starconv import Plan, calls, filter_sums
from starconv.engine import planner
from starconv.engine.algorithms import TABLE
from starconv.engine.emit.target import host_target, named_target
from starconv.engine.wisdom import Entry, Wisdom, signature_of

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

PICTURE = "conv2d x=1x1x4000x4000 w=1x1x3x3"


@pytest.mark.parametrize(
    ("text", "copying", "reading"),
    [
        (PICTURE, "planes", "stencil"),
        ("conv2d x=1x1x1000x1000 w=1x1x3x3 stride=2 dtype=float64", "planes", "stencil"),
        ("conv2d x=8x40x112x112 w=40x1x3x3 groups=40", "planes", "stencil"),
        ("conv2d x=8x64x112x112 w=64x64x1x1 channels_last", "product", "direct"),
        ("conv2d x=8x64x112x112 w=64x64x3x3 padding=1", "winograd", "winograd"),  # reads them itself
        ("conv2d x=8x40x112x112 w=40x1x3x3 groups=40 channels_last", "depthwise", "depthwise"),  # others: far slower
        ("input_grad2d x=8x40x112x112 w=40x1x3x3 groups=40", "planes", "planes"),
    ],
)
def test_which_algorithm_is_chosen(text: str, copying: str, reading: str) -> None:
    target = named_target("avx512")
    if text.startswith("input_grad"):
        copying = reading = sc.plan(text, target=target).algorithm
    assert sc.plan(text, target=target).algorithm == copying
    for source in ("int8", "uint8", "int16", "uint16"):
        assert sc.plan(text, target=target, source=source).algorithm == reading
    for source in ("float32", "float16", "int32", "bool", None):  # read as they are, or copied by all
        assert sc.plan(text, target=target, source=source).algorithm == copying
    assert sc.plan(text, target=target, source="uint8", algorithm=copying).algorithm == copying


def test_parts_of_a_plan_read_them_too() -> None:
    plan = sc.plan("conv1d x=1x1x10000000 w=1x1x3", target=named_target("avx512"), source="int16")
    rows = {row.NAME: row for row in TABLE}
    assert plan.algorithm == "stretches"
    assert all(rows[part.algorithm].WIDENS for part in plan.chosen.parts)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "conv2d x=1x1x61x83 w=1x1x3x3",
        "conv2d x=1x1x61x83 w=1x1x3x3 dtype=float64 stride=2",
        "conv2d x=2x7x30x41 w=7x1x5x5 padding=2 groups=7 bias relu",
        "conv2d x=2x16x30x41 w=24x16x1x1 channels_last",
        "conv2d x=1x16x30x41 w=24x16x1x1 bias",
        "conv1d x=1x1x300000 w=1x1x9 padding=4",
    ],
)
@pytest.mark.parametrize("source", ["int8", "uint8", "int16", "uint16"])
def test_the_bits_are_those_of_floats(text: str, source: str) -> None:
    floats, integers = sc.plan(text), sc.plan(text, source=source)
    generator = np.random.default_rng(0)
    limits = np.iinfo(source)
    x = generator.integers(limits.min, limits.max, floats.shapes.first, endpoint=True).astype(source)
    w = generator.standard_normal(floats.shapes.second).astype(floats.shapes.dtype)
    b = generator.standard_normal(floats.shapes.result[1]).astype(floats.shapes.dtype) if floats.problem.bias else None
    assert integers(x, w, b).tobytes() == floats(x.astype(floats.shapes.dtype), w, b).tobytes()


def test_calls_and_filters_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = []

    def asked(problem: sc.Problem, *, source: str | None = None) -> Plan:
        sources.append(source)
        return planner.make_plan(problem, source=source)

    monkeypatch.setattr(calls, "make_plan", asked)
    monkeypatch.setattr(filter_sums, "make_plan", asked)
    picture, kernel = np.arange(35, dtype="uint8").reshape(5, 7), np.ones((3, 2), "float32")
    for x in (picture, picture.astype("float32"), picture):  # a call is remembered with the type of its input
        np.testing.assert_array_equal(
            sc.conv2d(x[None], kernel[None, None])[0],
            sc.correlate(x, kernel, origin=(0, -1), output="float32")[1:-1, :-1],
        )
    assert sources == ["uint8", "uint8", "float32", "float32"]


def test_measurements_decide_among_those_that_were_measured() -> None:
    """Reading beside copying: what was timed with floats, and the time of a copy."""
    if sc.plan(PICTURE).algorithm != "planes":
        pytest.skip("not on this target")
    signature = signature_of([row.NAME for row in TABLE])
    try:
        for times, chosen in (
            ((("planes", 5e-3), ("stencil", 6e-3)), "stencil"),
            ((("planes", 5e-3), ("stencil", 9e-1)), "planes"),
            ((("planes", 5e-3), ("numpy", 6e-3)), "planes"),
        ):
            planner.use_wisdom(Wisdom(signature, {PICTURE: Entry("planes", times)}, keep=False))
            assert sc.plan(PICTURE).algorithm == "planes"
            assert sc.plan(PICTURE, source="uint8").algorithm == chosen
    finally:
        planner.use_wisdom(Wisdom(signature, keep=False))
