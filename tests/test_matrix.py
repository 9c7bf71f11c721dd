"""vec(O) = A vec(X), and A^T is the transposed convolution: exactly, on whole numbers, for every argument."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from strategies import operands, problems, seeds
from test_functional import CONVOLUTIONS, MODES, TRANSPOSED, arguments

import starconv as sc


@given(problems(operations=["conv"]), seeds)
def test_matrix_is_the_convolution(problem: sc.Problem, seed: int) -> None:
    given = operands(problem, seed)
    options = arguments(problem) | {"padding_mode": MODES[problem.border]}
    matrix = sc.conv_matrix(given.second, problem.input_shape[1:], **options)
    assert isinstance(matrix, scipy.sparse.csr_array)
    assert matrix.dtype == problem.dtype
    for x, o in zip(given.first, CONVOLUTIONS[problem.spatial](given.first, given.second, **options), strict=True):
        np.testing.assert_array_equal(matrix @ x.ravel(), o.ravel())


@given(problems(operations=["input_grad"], borders=["constant"]), seeds)
def test_its_transpose_is_the_transposed_convolution(problem: sc.Problem, seed: int) -> None:
    if any(axis.after < 0 for axis in problem.axes):
        return
    given = operands(problem, seed)
    options = arguments(problem)
    matrix = sc.conv_matrix(given.second, problem.input_shape[1:], **options)
    extra = [axis.output_padding for axis in problem.axes]
    results = TRANSPOSED[problem.spatial](given.first, given.second, output_padding=extra, **options)
    for y, x in zip(given.first, results, strict=True):
        np.testing.assert_array_equal(matrix.T @ y.ravel(), x.ravel())


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 4), st.integers(0, 4), seeds)
def test_doubly_toeplitz(kh: int, kw: int, more_h: int, more_w: int, seed: int) -> None:
    """One channel, stride 1: every block depends on i' - i only, and within a block every entry on j' - j only."""
    height, width = kh + more_h, kw + more_w
    w = np.random.default_rng(seed).integers(1, 9, (kh, kw))
    matrix = sc.conv_matrix(w, (height, width)).toarray().reshape(more_h + 1, more_w + 1, height, width)
    for i, j, row, column in np.ndindex(matrix.shape):
        inside = 0 <= row - i < kh and 0 <= column - j < kw
        assert matrix[i, j, row, column] == (w[row - i, column - j] if inside else 0)


def test_bare_kernels_and_sizes() -> None:
    w = np.array([[1, 2], [3, 4]])
    whole = sc.conv_matrix(w[None, None], (1, 3, 4)).toarray()
    for size in [(3, 4), [3, 4], np.array([3, 4]), (1, 3, 4)]:
        np.testing.assert_array_equal(sc.conv_matrix(w, size).toarray(), whole)
    assert sc.conv_matrix(w, 3).shape == sc.conv_matrix(w, np.int64(3)).shape == (4, 9)
    assert sc.conv_matrix([1, 2], 4).shape == (3, 4)
    assert sc.conv_matrix(np.ones((4, 1, 3)), 5, groups=2).shape == (4 * 3, 2 * 5)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8"])
def test_entries_that_are_sums_do_not_wrap(dtype: str) -> None:
    w = np.full(5, np.iinfo(dtype).max if dtype != "bool" else True, dtype)
    matrix = sc.conv_matrix(w, 2, padding=2, padding_mode="replicate")
    np.testing.assert_array_equal(
        matrix @ [1, 10], sc.conv1d([[1, 10]], w[None, None], padding=2, padding_mode="replicate")[0]
    )


def test_zero_entries_are_stored() -> None:
    assert sc.conv_matrix([[1, 0], [0, 1]], (3, 3)).nnz == 16


def test_float16_becomes_float32() -> None:
    assert sc.conv_matrix(np.ones((2, 2), "float16"), 3).dtype == "float32"
