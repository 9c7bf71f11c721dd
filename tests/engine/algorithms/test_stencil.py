"""Rows that are read in place: the same bits as packed ones, at every border, and nothing beside the arrays."""

import numpy as np
import pytest
from guarded import guarded
from strategies import expected, operands

from starconv import Problem, plan
from starconv.engine import planner
from starconv.engine.algorithms import stencil
from starconv.engine.emit.target import host_target
from starconv.geometry import BORDERS

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

WIDE = [
    *(f"conv2d x=1x1x60x700 w=1x1x5x3 padding=2:1x1:2 border={border}" for border in BORDERS),
    "conv2d x=2x3x40x650 w=4x3x3x3 padding=1 bias relu",
    "conv2d x=1x2x40x601 w=2x1x7x7 groups=2 dtype=float64",
    "conv2d x=1x1x300x500 w=1x1x3x3 padding=0:2x5:0 dilation=2x1 stride=2x1",
    "conv1d x=2x2x900 w=2x2x9 padding=4",
    "conv3d x=1x2x5x20x640 w=2x2x1x3x3 padding=1",
    "conv2d x=1x1x50x1024 w=1x1x3x3 padding=1",
]


@pytest.mark.parametrize("text", WIDE)
def test_the_same_bits_as_from_packed_rows(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 7, integers=False)
    results = []
    for least in (1, stencil.LEAST_IN_PLACE, 1 << 40):
        monkeypatch.setattr(stencil, "LEAST_IN_PLACE", least)
        planner._plan.cache_clear()
        results.append(plan(problem, algorithm="stencil")(given.first, given.second, given.bias))
    planner._plan.cache_clear()
    assert len({result.tobytes() for result in results}) == 1
    np.testing.assert_allclose(results[0], expected(problem, given), atol=1e-3)


@pytest.mark.parametrize("text", WIDE)
def test_nothing_beside_the_arrays_and_views_of_them(text: str) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 8, integers=False)
    prepared = plan(problem, algorithm="stencil").prepare(given.second, given.bias)
    plain = prepared(given.first)
    for end in (False, True):
        out = guarded(np.empty_like(plain), end=end)
        assert prepared(guarded(given.first, end=end, read_only=True), out=out).tobytes() == plain.tobytes()
    backwards = given.first[:, ::-1].copy()[:, ::-1]
    upwards = np.ascontiguousarray(given.first[..., ::-1, :])[..., ::-1, :] if problem.spatial > 1 else given.first
    spread = np.repeat(given.first, 2, axis=-1)[..., ::2]
    for view in (backwards, upwards, spread):
        np.testing.assert_array_equal(view, given.first)
        assert prepared(view).tobytes() == plain.tobytes()
