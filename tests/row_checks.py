"""What tests of single rows of the table check alike, each on problems of its own."""

from dataclasses import replace

import numpy as np
import pytest
from guarded import guarded
from strategies import contiguous, expected, operands, outputs, targets

from starconv import Problem, get_num_threads, plan, set_num_threads
from starconv.engine.algorithms import Algorithm, Compound
from starconv.engine.emit.target import host_target

__all__ = [
    "any_layout_of_the_result",
    "exact_between_guard_pages",
    "no_more_memory_than_stated",
    "same_bits_for_any_number_of_threads",
    "unread_columns_play_no_part",
]


def exact_between_guard_pages(row: Algorithm | Compound, text: str, last: bool, *, within: float = 0.0) -> None:
    """On whole numbers, for all targets that run here; with `last`, the first operand has its channels last.

    Rows that transform what they sum are exact `within` a part of the largest result.
    """
    problem = replace(Problem.parse(text), channels_last=last)
    given = operands(problem, 3)
    answer = expected(problem, given)
    for target in targets():
        if target is None or row.refuses(problem, target) is not None:
            continue
        chosen = plan(problem, algorithm=row.NAME, target=target)
        for end in (True, False):
            x, w = guarded(contiguous(given.first), end=end), guarded(contiguous(given.second), end=end)
            if last:  # the second operand stays as it is: each may lie in its own way
                x = np.moveaxis(guarded(np.ascontiguousarray(np.moveaxis(x, 1, -1)), end=end), -1, 1)
            out = guarded(np.full(problem.result_shape, np.nan, problem.dtype), end=end)
            chosen(x, w, given.bias, residual=given.residual, out=out)
            np.testing.assert_allclose(out, answer, rtol=0, atol=within * np.abs(answer).max(initial=0))


def any_layout_of_the_result(row: Algorithm, text: str) -> None:
    """Every element of `out` is written, and nothing between them."""
    problem = _problem(row, text)
    given = operands(problem, 5)
    answer = expected(problem, given)
    chosen = plan(problem, algorithm=row.NAME)
    for name, out, whole in outputs(problem.result_shape, problem.dtype):
        chosen(given.first, given.second, given.bias, residual=given.residual, out=out)
        np.testing.assert_array_equal(out, answer, err_msg=name)
        out[...] = np.nan
        assert np.isnan(whole).all(), f"something else was written: {name}"


def same_bits_for_any_number_of_threads(row: Algorithm, text: str) -> None:
    """With one, two and three of them."""
    problem = _problem(row, text)
    given = operands(problem, 11, integers=False)
    before, results = get_num_threads(), set()
    try:
        for count in (1, 2, 3):
            set_num_threads(count)
            chosen = plan(problem, algorithm=row.NAME)
            results.add(chosen(given.first, given.second, given.bias, residual=given.residual).tobytes())
    finally:
        set_num_threads(before)
    assert len(results) == 1


def no_more_memory_than_stated(row: Algorithm, text: str, cores: int) -> None:
    """Beside the weights, of scratch memory: for any number of threads up to so many cores."""
    problem = Problem.parse(text)
    given = [np.empty(shape, problem.dtype) for shape in (problem.input_shape, problem.output_shape)]
    for target in targets():
        if target is None or row.refuses(problem, target) is not None:
            continue
        many = replace(target, cores=cores)
        solution = row.build(problem, many)
        stated = row.workspace(problem, many) - solution.panels.bytes
        taken = [solution.bind(*given, count).scratch for count in range(1, cores + 1)]
        assert max(taken) <= stated, f"{target.name}, vectors of {target.vector_bytes} bytes: {taken}"


def reads_channels_last_in_place(row: Algorithm, text: str) -> None:
    """Of a weight gradient: both operands next to guard pages, and backwards."""
    problem = Problem.parse(text)
    chosen, other = (plan(problem, algorithm=name) for name in (row.NAME, "numpy"))
    generator = np.random.default_rng(1)
    arrays = [generator.integers(-9, 9, shape).astype(problem.dtype) for shape in problem.operand_shapes]
    answer = other(*arrays)
    for end in (True, False):
        last = [np.moveaxis(guarded(np.ascontiguousarray(np.moveaxis(a, 1, -1)), end=end), -1, 1) for a in arrays]
        np.testing.assert_array_equal(chosen(*last), answer)
    backwards = [array[..., ::-1] for array in arrays]
    mirrored = [array[..., ::-1].copy() for array in arrays]
    np.testing.assert_array_equal(chosen(*backwards), other(*mirrored))


def unread_columns_play_no_part(row: Algorithm, text: str, answer: int) -> None:
    """Of a weight gradient of ones, whose windows reach neither the last row nor the last column of the input."""
    problem = _problem(row, text)
    x = np.ones(problem.input_shape, np.float32)
    x[..., -1] = np.nan
    x[:, :, -1] = np.nan
    result = plan(problem, algorithm=row.NAME)(x, np.ones(problem.output_shape, np.float32))
    np.testing.assert_array_equal(result, answer)


def _problem(row: Algorithm, text: str) -> Problem:
    problem = Problem.parse(text)
    if row.refuses(problem, host_target()) is not None:
        pytest.skip("not on this target")
    return problem
