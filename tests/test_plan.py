"""What a plan refuses, and what it leaves alone."""

from dataclasses import replace

import numpy as np
import pytest

import starconv as sc
from starconv.engine.emit.target import named_target
from starconv.engine.planner import HALVED, make_plan

PROBLEM = "conv2d x=1x4x6x6 w=8x4x3x3"


@pytest.fixture
def operands():
    return np.ones((1, 4, 6, 6), "float32"), np.ones((8, 4, 3, 3), "float32")


def test_out_must_be_able_to_hold_the_result(operands):
    layer = sc.plan(PROBLEM).prepare(operands[1])
    out = np.zeros((1, 8, 4, 4), "float32")
    out.flags.writeable = False
    for wrong in (
        out,
        np.zeros((1, 8, 4, 4), "int32"),
        np.zeros((1, 8, 4, 4), "float64"),
        np.zeros((1, 8, 4, 5), "float32"),
    ):
        with pytest.raises(sc.ArgumentValueError, match=r"^out = array of shape"):
            layer(operands[0], out=wrong)
    assert not out.any()


@pytest.mark.parametrize(
    "text",
    [
        "conv2d x=1x8x256x256 w=8x8x3x3 padding=1",
        "conv2d x=1x64x128x128 w=64x64x1x1 channels_last",
        "conv2d x=4x32x56x56 w=32x1x3x3 padding=1 groups=32",
        "input_grad2d x=1x8x256x256 w=8x8x3x3 padding=1",
    ],
)
def test_out_may_lie_over_an_operand(text):
    """As it may for functions: tasks write results while others still read their rows of the input."""
    plan, generator = sc.plan(text), np.random.default_rng(0)
    first, second = (generator.integers(-3, 4, shape).astype("float32") for shape in plan.shapes[:2])
    answer = plan(first, second)
    for call in (plan, lambda x, w, out: plan.prepare(w)(x, out=out)):
        memory = np.zeros(first.size + 64, "float32")
        x, out = memory[64:].reshape(first.shape), memory[:-64].reshape(first.shape)
        x[...] = first
        np.testing.assert_array_equal(call(x, second, out=out), answer)
    room = np.zeros(answer.size, "float32")
    weights = room[: second.size].reshape(second.shape)
    weights[...] = second
    np.testing.assert_array_equal(plan(first, weights, out=room.reshape(answer.shape)), answer)


def test_complex_operands_are_refused(operands):
    plan = sc.plan(PROBLEM)
    for wrong in ((operands[0] * 1j, operands[1]), (operands[0], operands[1] * 1j)):
        with pytest.raises(sc.ArgumentTypeError, match="real numbers"):
            plan(*wrong)


def test_dtypes_that_would_lose_numbers_are_refused(operands):
    """What NumPy calls a safe cast is made; the rest changes numbers, and needs a word."""
    x, w = operands
    plan = sc.plan(PROBLEM)
    bias = sc.plan(f"{PROBLEM} bias")
    answer = plan(x, w)
    for wrong, argument in (
        (lambda: plan(x.astype("float64"), w), "first operand"),
        (lambda: plan(x.astype("int32"), w), "first operand"),
        (lambda: plan.prepare(w.astype("float64")), "second operand"),
        (lambda: bias(x, w, np.zeros(bias.shapes.result[1])), "bias"),
        (lambda: plan.prepare(w)(x.astype(">f8")), "first operand"),
    ):
        with pytest.raises(sc.ArgumentTypeError, match=rf"^{argument} = .* read as float32 with casting 'safe'"):
            wrong()
    np.testing.assert_array_equal(plan(x.astype("float64"), w.astype("float64"), casting="unsafe"), answer)
    np.testing.assert_array_equal(plan(x.astype("float64"), w, casting="same_kind"), answer)
    np.testing.assert_array_equal(plan(x.astype(">f4"), w), answer)
    whole = sc.plan("conv1d x=1x1x3 w=1x1x2 dtype=int64")
    for fraction in (np.full((1, 1, 3), 1.5), np.ones((1, 1, 3), "float32")):
        with pytest.raises(sc.ArgumentTypeError, match="first operand"):
            whole(fraction, np.ones((1, 1, 2), int))
    assert whole(np.ones((1, 1, 3), "uint8"), np.ones((1, 1, 2), bool)).tolist() == [[[2, 2]]]
    with pytest.raises(sc.ArgumentValueError, match="casting = 'loose': expected 'no', 'equiv', 'safe'"):
        plan(x.astype("float64"), w, casting="loose")


def test_prepared_weights_are_a_copy(operands):
    x, w = operands
    for algorithm in (row.name for row in sc.plan(PROBLEM).candidates if row.refusal is None):
        w = operands[1].copy()
        layer = sc.plan(PROBLEM, algorithm=algorithm).prepare(w)
        before = layer(x)
        w[:] = 0
        np.testing.assert_array_equal(layer(x), before, err_msg=algorithm)


def test_explain_names_the_choice_and_every_refusal():
    plan = sc.plan("conv2d x=1x64x56x56 w=64x64x3x3 padding=1 precision=strict")
    text = plan.explain()
    assert f"chosen: {plan.algorithm}" in text
    for row in plan.candidates:
        assert row.name in text
        assert row.refusal is None or row.refusal in text
    assert "error at most" in text


@pytest.mark.parametrize(
    ("text", "passes", "vector_bytes"),
    [
        ("conv2d x=1x144x56x56 w=24x144x1x1 channels_last", 2, 32),  # 3 vectors of 8, or 2 of 16 with 8 lanes empty
        ("conv2d x=1x144x56x56 w=24x144x1x1 channels_last", 1, 64),
        ("conv2d x=1x144x56x56 w=32x144x1x1 channels_last", 2, 64),
        ("conv2d x=64x1x28x28 w=8x1x5x5", 2, 32),  # 24 columns
        ("conv2d x=64x1x29x32 w=8x1x5x5 padding=2", 2, 64),
        ("conv2d x=4x32x56x56 w=8x32x3x3 padding=1", 2, 32),
    ],
)
def test_vectors_are_halved_where_that_leaves_fewer_lanes_empty(text, passes, vector_bytes):
    target = replace(named_target("avx512"), passes=passes, cores=2)
    candidates = {row.name: row for row in make_plan(text, target=target, algorithm="numpy").candidates}
    first = min((row for row in candidates.values() if row.refusal is None), key=lambda row: row.seconds)
    assert first.name in ("planes", "product", "stencil", "winograd")
    assert first.target.vector_bytes == vector_bytes
    explained = make_plan(text, target=target, algorithm=first.name).explain()
    assert ("half vectors" in explained.splitlines()[2]) == first.halved == (vector_bytes < target.vector_bytes)
    if vector_bytes == 32:
        assert first.seconds == HALVED * first.row.cost(first.problem, target.halved())
        assert first.seconds < first.row.cost(first.problem, target)
