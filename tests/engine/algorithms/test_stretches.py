"""Long rows: cut so that every output is computed once, from what it reads, whatever lies at the ends."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Operands, expected, operands, seeds, targets

from starconv import Problem, plan
from starconv.engine.algorithms import stretches
from starconv.engine.algorithms.blocks import cut_of
from starconv.engine.emit.target import host_target, named_target
from starconv.geometry import BORDERS, Axis

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

SMALL = 16 << 10
"""Bytes of a second-level cache for which rows of a few thousand elements are long."""


@st.composite
def long_rows(draw: st.DrawFn) -> Problem:
    """One row of output, 1-D or not, with every option."""
    kernel, stride, dilation = draw(st.integers(1, 9)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    before, after = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    long = Axis(draw(st.integers(3000, 6000)), kernel, stride, before, after, dilation)
    others = draw(st.sampled_from([(), (), (Axis(3, 3),), (Axis(1, 3, 1, 1, 1), Axis(2, 2))]))
    groups = draw(st.sampled_from([1, 1, 2]))
    return Problem(
        "conv",
        draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 9)),
        (*others, long),
        groups,
        dtype=draw(st.sampled_from(["float32", "float64"])),
        border=draw(st.sampled_from(BORDERS)),
        channels_last=draw(st.booleans()),
        bias=draw(st.booleans()),
        activation=draw(st.sampled_from(["none", "relu"])),
    )


@settings(max_examples=25)
@given(long_rows(), seeds, st.sampled_from([0.0, 2.0]), st.booleans())
def test_stretches_are_the_convolution(problem: Problem, seed: int, fill: float, backwards: bool) -> None:
    for known in targets():
        assert known is not None
        target = replace(known, l2_bytes=SMALL)
        if stretches.refuses(problem, target) is not None:
            continue
        numbers = operands(problem, seed, fill=fill)
        x = numbers.first[..., ::-1].copy()[..., ::-1] if backwards else numbers.first
        result = plan(problem, algorithm="stretches", target=target)(x, numbers.second, numbers.bias, fill=numbers.fill)
        np.testing.assert_array_equal(result, expected(problem, numbers))


@settings(max_examples=100)
@given(long_rows())
def test_the_parts_make_up_the_row(problem: Problem) -> None:
    target = replace(named_target("avx2"), l2_bytes=SMALL)
    cut = cut_of(problem, target)
    if cut is None:
        return
    *head, middle, tail = stretches.parts(problem, target)
    outputs = [part.output_shape[-1] for part in (*head, middle, tail)]
    assert sum(outputs) + (cut.count - 1) * cut.length == problem.output_shape[-1]
    assert middle.batch == cut.count >= 2
    assert (middle.axes[-1].before, middle.axes[-1].after, tail.axes[-1].before) == (0, 0, 0)
    assert all(cut_of(part, target) is None for part in (*head, middle, tail)), "a part would be cut again"
    if problem.border != "constant":  # what padding shows lies in the same part
        for part in (*head, tail):
            assert part.axes[-1].input > max(part.axes[-1].before, part.axes[-1].after)


def test_the_seams_do_not_show() -> None:
    """The same bits as one row in one piece."""
    problem = Problem.parse("conv1d x=2x3x20000 w=5x3x7 padding=3 stride=2 bias")
    numbers = operands(problem, 4, integers=False)
    small = replace(targets()[0], l2_bytes=SMALL)  # type: ignore[type-var]
    cut = plan(problem, algorithm="stretches", target=small)(numbers.first, numbers.second, numbers.bias)
    whole = plan(problem, algorithm="direct", target=replace(small, l2_bytes=1 << 30))
    assert cut.tobytes() == whole(numbers.first, numbers.second, numbers.bias).tobytes()


def test_an_out_with_gaps() -> None:
    problem = Problem.parse("conv1d x=2x2x9000 w=3x2x3 padding=1")
    numbers: Operands = operands(problem, 4)
    small = replace(targets()[0], l2_bytes=SMALL)  # type: ignore[type-var]
    room = np.full((2, 3, 2 * 9000 + 1), 7, np.float32)
    plan(problem, algorithm="stretches", target=small)(numbers.first, numbers.second, out=room[..., 1::2])
    np.testing.assert_array_equal(room[..., 1::2], expected(problem, numbers))
    assert (room[..., ::2] == 7).all()


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("conv1d x=1x1x10000000 w=1x1x31", True),
        ("conv1d x=1x1x1000 w=1x1x31", False),
        ("conv1d x=1x1x10000000 w=1x1x31 padding=15 border=wrap", False),
        ("conv2d x=1x1x31x1000000 w=1x1x31x31", True),
        ("conv2d x=1x1x32x1000000 w=1x1x31x31", False),
    ],
)
def test_what_is_cut(text: str, taken: bool) -> None:
    chosen = plan(text)
    assert (chosen.algorithm == "stretches") == taken
    if taken:
        assert next(row.workspace for row in chosen.candidates if row.name == "stretches") < 32 << 20
