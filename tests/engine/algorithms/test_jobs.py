"""What an algorithm writes down as jobs is what its `run` does, to the bit, in scratch memory of any contents."""

import numpy as np
import pytest
from strategies import operands

from starconv.engine.algorithms import TABLE, adjoint
from starconv.engine.emit.target import host_target
from starconv.engine.planner import make_plan
from starconv.engine.runtime import memory
from starconv.engine.runtime.jobs import JobList
from starconv.problem import Problem

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

PROBLEMS = [
    "conv2d x=2x16x13x9 w=24x16x3x3 padding=1 bias relu",
    "conv2d x=2x16x13x9 w=24x16x3x3 padding=1 bias channels_last residual",
    "conv2d x=1x16x9x9 w=24x16x1x1 bias",
    "conv2d x=2x16x9x9 w=24x16x1x1 stride=2 bias relu6 channels_last",
    "conv2d x=2x16x9x11 w=24x16x3x3 stride=2 padding=1 bias relu",
    "conv2d x=1x24x9x9 w=24x1x3x3 groups=24 padding=1 channels_last residual relu",
    "conv2d x=1x1x33x70 w=1x1x5x5 padding=2",
    "conv1d x=1x1x400000 w=1x1x31 padding=15",
    "conv3d x=1x4x6x7x17 w=5x4x3x3x3 padding=1",
    "input_grad2d x=2x8x9x9 w=6x8x3x3 padding=1 bias",
    "input_grad2d x=2x8x9x9 w=6x8x4x4 stride=2 padding=1",
    "input_grad2d x=5x6x14x16 w=9x6x2x2 stride=2 bias",
    "input_grad2d x=3x6x15x16 w=9x6x2x2 stride=3x2 bias relu channels_last",
    "input_grad3d x=2x3x6x7x8 w=4x3x2x3x3 stride=2 padding=0x1x1",
    "weight_grad2d x=2x8x9x9 w=6x8x3x3 padding=1",
]
COMPILED = {
    "direct",
    "pointwise",
    "product",
    "winograd",
    "winograd2",
    "winograd_strided",
    "stencil",
    "depthwise",
    "weight_grad",
    "winograd_grad",
    "adjoint",
}


@pytest.mark.parametrize("text", PROBLEMS)
def test_jobs_do_what_run_does(text):
    problem, written = Problem.parse(text), set()
    given = operands(problem, 0, integers=False)
    for row in TABLE:
        if row.refuses(problem, host_target()) is not None:
            continue
        prepared = make_plan(problem, algorithm=row.NAME).prepare(given.second, given.bias)
        first, residual = given.first, None
        out = np.empty(problem.result_shape, problem.dtype)
        if problem.channels_last:
            first, out = (np.moveaxis(np.moveaxis(each, 1, -1).copy(), -1, 1) for each in (first, out))
        if problem.residual:
            residual = np.empty_like(out)
            residual[...] = np.random.default_rng(1).standard_normal(out.shape)
        jobs = prepared.jobs(first, out, residual)
        assert jobs is not None or row.NAME not in COMPILED
        if jobs is None:
            continue
        written.add(row.NAME)
        expected = prepared(first, residual=residual)
        with memory.scratch(max(job.scratch for job in jobs)) as scratch:
            scratch.array[:] = 255  # NaN in every float
            program = JobList(jobs, scratch)
            for _ in range(2):
                out[...] = np.nan
                program.run()
                np.testing.assert_array_equal(out, expected)
    assert written


WEIGHTS_THAT_CHANGE = [
    "conv2d x=2x16x13x9 w=24x16x3x3 padding=1 bias relu",
    "conv2d x=1x16x13x9 w=21x16x3x3 padding=1 bias channels_last",
    "conv2d x=1x32x9x9 w=42x16x3x3 groups=2 padding=1 bias",
    "conv2d x=1x8x12x12 w=16x8x5x5 padding=2 bias",
    "conv2d x=1x16x9x9 w=21x16x1x1 bias",
    "conv2d x=2x16x9x9 w=24x16x1x1 stride=2 channels_last",
    "conv2d x=2x16x9x11 w=24x16x3x3 stride=2 padding=1",
    "conv2d x=1x24x9x9 w=24x1x3x3 groups=24 padding=1 channels_last",
    "conv2d x=1x24x19x19 w=24x1x3x3 groups=24 padding=1 bias",
    "conv2d x=3x1x33x70 w=9x1x5x5 padding=2",
    "conv3d x=1x4x6x7x17 w=5x4x3x3x3 padding=1",
    "conv2d x=1x512x7x7 w=512x512x3x3 padding=1",
    "input_grad2d x=2x8x9x9 w=6x8x3x3 padding=1",
    "input_grad2d x=2x16x9x9 w=32x16x3x3 padding=1 channels_last",
    "input_grad2d x=2x8x9x9 w=6x8x4x4 stride=2 padding=1",
    "input_grad2d x=2x16x9x9 w=24x16x3x3 stride=2 padding=1 channels_last",
    "input_grad2d x=5x6x14x16 w=9x6x2x2 stride=2",  # phases that read alike
    "input_grad2d x=5x6x15x16 w=9x6x2x2 stride=3x2",  # a phase that no tap meets
    "input_grad2d x=2x6x15x16 w=9x6x5x3 stride=2 padding=2x1 bias",
    "input_grad3d x=2x3x6x7x8 w=4x3x2x3x3 stride=2 padding=0x1x1 channels_last",
    "input_grad1d x=2x4x33 w=6x4x4 stride=3 padding=1",
    "weight_grad2d x=2x8x9x9 w=6x8x3x3 padding=1",
    "weight_grad2d x=2x512x7x7 w=512x512x3x3 padding=1",
    "weight_grad2d x=2x24x9x9 w=24x1x3x3 groups=24 padding=1",
]
PREPARE_WITH_JOBS = COMPILED | {"winograd5", "phased", "planes", "adjoint"}


@pytest.mark.parametrize("text", WEIGHTS_THAT_CHANGE)
def test_jobs_that_read_weights_anew_do_what_a_call_does(text):
    problem, written = Problem.parse(text), set()
    for row in TABLE:
        if row.refuses(problem, host_target()) is not None:
            continue
        plan, given = make_plan(problem, algorithm=row.NAME), operands(problem, 3, integers=False)
        first, second, out = given.first, given.second, np.empty(problem.result_shape, problem.dtype)
        if problem.channels_last:
            first = np.moveaxis(np.moveaxis(first, 1, -1).copy(), -1, 1)
            if problem.operation != "weight_grad":
                out = np.moveaxis(np.moveaxis(out, 1, -1).copy(), -1, 1)
        room = memory.aligned_empty(plan.prepare_bytes + 64, np.uint8)
        jobs = plan.jobs(first, second, given.bias, out, room)
        assert jobs is not None or row.NAME not in PREPARE_WITH_JOBS, row.NAME
        if jobs is None:
            continue
        written.add(row.NAME)
        with memory.scratch(max(job.scratch for job in jobs)) as scratch:
            program = JobList(jobs, scratch)
            for seed in (4, 5):
                other = operands(problem, seed, integers=False)
                first[...], second[...], room[:], scratch.array[:] = other.first, other.second, 255, 255
                if given.bias is not None:
                    given.bias[...] = other.bias
                out[...] = np.nan
                program.run()
                expected = make_plan(problem, algorithm=row.NAME)(first, second, given.bias)
                np.testing.assert_array_equal(out, expected, err_msg=row.NAME)
        assert (room[plan.prepare_bytes :] == 255).all()
    assert written


def test_weights_that_would_be_copied_are_not_written_down():
    problem = "conv2d x=1x16x9x9 w=24x16x3x3"
    given = operands(Problem.parse(problem), 0)
    out, room = np.empty((1, 24, 7, 7), np.float32), memory.aligned_empty(1 << 20, np.uint8)
    for name in ("direct", "winograd"):
        plan = make_plan(problem, algorithm=name)
        assert plan.jobs(given.first, given.second.astype(np.float64), None, out, room) is None
        assert plan.jobs(given.first, given.second, None, out, room) is not None


@pytest.mark.parametrize(
    "text",
    [
        "conv2d x=1x16x9x9 w=16x16x3x3 padding=1 bias",
        "conv2d x=1x16x9x9 w=16x16x1x1 bias",
        "conv2d x=1x16x9x9 w=16x16x1x1 bias channels_last",
        "conv2d x=1x16x9x9 w=16x1x3x3 groups=16 bias channels_last",
        "conv2d x=1x16x9x9 w=16x1x1x1 groups=16 bias",
        "conv2d x=1x2x20x20 w=2x2x9x9 bias",
        "input_grad2d x=1x16x9x9 w=16x16x3x3 stride=2 padding=1 bias",
        "input_grad2d x=1x16x9x9 w=16x1x1x1 groups=16 bias",
    ],
)
def test_what_was_prepared_is_a_copy(text):
    problem = Problem.parse(text)
    for row in TABLE:
        if row.refuses(problem, host_target()) is not None:
            continue
        given = operands(problem, 2)
        prepared = make_plan(problem, algorithm=row.NAME).prepare(given.second, given.bias)
        before = prepared(given.first)
        given.second[...], given.bias[...] = 0, 0
        np.testing.assert_array_equal(prepared(given.first), before, err_msg=row.NAME)


def test_no_jobs_where_run_would_copy():
    plan = make_plan("conv2d x=1x3x8x8 w=4x3x3x3", algorithm="direct").prepare(np.ones((4, 3, 3, 3), np.float32))
    x, out = np.ones((1, 3, 8, 8), np.float32), np.empty((1, 4, 6, 6), np.float32)
    assert plan.jobs(x, out) is not None
    assert plan.jobs(x.astype(np.float64), out) is None
    assert plan.jobs(x, np.empty((1, 4, 6, 12), np.float32)[..., ::2]) is not None
    assert plan.jobs(x, np.empty((1, 4, 12, 6), np.float32)[:, :, ::2]) is None


@pytest.mark.parametrize("last", ["", " channels_last"])
def test_phases_woven_in_several_turns(monkeypatch, last):
    monkeypatch.setattr(adjoint, "MOST_BYTES", 2 * 6 * 14 * 18 * 4)  # two of seven pictures
    problem = Problem.parse(f"input_grad2d x=7x6x14x18 w=9x6x3x3 stride=2 padding=1{last}")
    given = operands(problem, 0)
    plan = make_plan(problem, algorithm="adjoint")
    out = np.full(problem.result_shape, np.nan, np.float32)
    if problem.channels_last:
        out = np.moveaxis(np.moveaxis(out, 1, -1).copy(), -1, 1)
    room = memory.aligned_empty(plan.prepare_bytes, np.uint8)
    jobs = plan.jobs(given.first, given.second, None, out, room)
    assert len(jobs) > 4 * 5
    JobList(jobs).run()
    np.testing.assert_array_equal(out, make_plan(problem, algorithm="numpy")(given.first, given.second))
