"""Steps written down before they run: memory that is shared, parts, views, and ReLU by whoever can."""

from itertools import pairwise

import numpy as np
import pytest

from starconv.engine import tape as tapes
from starconv.engine.emit.target import host_target
from starconv.engine.steps import WriteError
from starconv.engine.tape import Tape
from starconv.geometry import Axis
from starconv.problem import Problem

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

FLOAT = np.dtype("float32")


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(FLOAT)


def test_values_that_are_never_needed_together_share_memory():
    tape = Tape(FLOAT)
    values = [tape.value((1000,)) for _ in range(6)]
    for one, other in pairwise(values):
        tape.elementwise("affine", [one], [other], [2.0, 1.0])
    bound = tape.bound()
    assert bound.bytes < 3 * 4096
    bound.arrays[values[0]][...] = np.arange(1000)
    bound.run(0)
    np.testing.assert_array_equal(bound.arrays[values[-1]], np.arange(1000) * 32 + 31)


def test_one_may_look_and_write_in_a_pause():
    tape = Tape(FLOAT)
    x, double, given, total = (tape.value((8, 3)) for _ in range(4))
    tape.elementwise("add", [x, x], [double])
    tape.pause([double], [given])
    tape.elementwise("add", [double, given], [total])
    bound = tape.bound()
    bound.arrays[x][...] = 1
    bound.run(0)
    assert (bound.arrays[double] == 2).all()
    bound.arrays[given][...] = 5
    bound.run(1)
    assert (bound.arrays[total] == 7).all()
    assert bound.calls == 2


def test_lasting_arrays_are_read_where_they_lie_and_views_are_of_their_memory():
    tape, own = Tape(FLOAT), random(4, 6)
    whole = tape.lasting(own)
    turned = tape.view(whole, lambda array: array.T, (6, 4))
    out = tape.value((6, 4))
    step = tape.elementwise("affine", [turned], [out], [2.0, 0.0])
    bound = tape.bound()
    for _ in range(2):
        own += 1
        bound.run(0)
        np.testing.assert_array_equal(bound.arrays[out], 2 * own.T)
    bound.set_numbers(step, [0.0, 3.0])
    bound.run(0)
    assert (bound.arrays[out] == 3).all()


@pytest.mark.parametrize("last", [False, True])
def test_relu_is_computed_by_the_convolution_before_even_through_maxima(last):
    x, w, b = random(2, 8, 9, 9), random(16, 8, 3, 3, seed=1), random(16, seed=2)
    tape = Tape(FLOAT)
    problem = Problem.of_shapes(x.shape, w.shape, padding=1, bias=True, channels_last=last)
    first = tape.value(x.shape, last)
    result = tape.convolved(problem, first, tape.lasting(w), tape.lasting(b), tape.value((2, 16, 9, 9), last))
    pooled, winner = tape.pooled(result, (Axis(9, 3, 3), Axis(9, 3, 3)))
    out = tape.relu(pooled)
    assert out is pooled
    assert len(tape.steps) == 2
    assert tape.steps[0].problem.activation == "relu"
    bound = tape.bound()
    bound.arrays[first][...] = x
    bound.run(0)
    plain = problem_result(problem, x, w, b).reshape(2, 16, 3, 3, 3, 3)
    expected = np.maximum(plain.max(axis=(3, 5)), 0)
    np.testing.assert_allclose(bound.arrays[out], expected, 1e-5, 1e-5)
    assert winner is not None


def problem_result(problem: Problem, x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    from starconv.engine.planner import make_plan

    return make_plan(problem)(x, w, b)


def test_relu_is_a_step_of_its_own_where_the_plain_result_is_read_too():
    tape, w = Tape(FLOAT), random(4, 2, 3, 3)
    x, other = tape.value((1, 2, 5, 5)), tape.value((1, 4, 3, 3))
    result = tape.convolved(Problem.of_shapes(x.shape, w.shape), x, tape.lasting(w), None, tape.value((1, 4, 3, 3)))
    tape.elementwise("copy", [result], [other])
    out = tape.relu(result)
    assert out is not result
    bound = tape.bound()
    bound.arrays[x][...] = random(1, 2, 5, 5, seed=3)
    bound.run(0)
    np.testing.assert_array_equal(bound.arrays[out], np.maximum(bound.arrays[other], 0))


def test_what_has_no_jobs_is_called_from_python_between_two_lists():
    # int8 pictures would be packed, but a large kernel goes by way of Fourier transforms, which write no jobs.
    tape, w = Tape(FLOAT), random(2, 2, 31, 31)
    x, doubled = tape.value((1, 2, 200, 200)), tape.value((1, 2, 200, 200))
    tape.elementwise("add", [x, x], [doubled])
    problem = Problem.of_shapes(x.shape, w.shape, padding=15)
    result = tape.convolved(problem, doubled, tape.lasting(w), None, tape.value((1, 2, 200, 200)))
    out = tape.value(result.shape)
    tape.elementwise("add", [result, result], [out])
    bound = tape.bound()
    given = random(1, 2, 200, 200, seed=4)
    bound.arrays[x][...] = given
    bound.run(0)
    expected = 2 * problem_plan(problem)(2 * given, w)
    np.testing.assert_array_equal(bound.arrays[out], expected)
    assert bound.calls == (3 if problem_plan(problem).jobs(given, w, None, given.copy()) is None else 1)


def problem_plan(problem: Problem):
    from starconv.engine.planner import make_plan

    return make_plan(problem)


def test_a_step_without_compiled_code_is_told_when_it_runs():
    tape = Tape(FLOAT)
    x = tape.lasting(np.zeros((2, 2, 2, 2, 2, 2, 2, 2), FLOAT).transpose(7, 1, 5, 3, 2, 4, 6, 0)[::-1, ::-1])
    out = tape.lasting(np.zeros(x.shape, FLOAT))
    tape.elementwise("relu", [x], [out])
    bound = tape.bound()
    if bound.calls and not isinstance(bound._parts[0][0], tapes.JobList):
        with pytest.raises(WriteError, match="Elementwise"):
            bound.run(0)
