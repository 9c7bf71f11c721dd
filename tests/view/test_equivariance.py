"""Equivariance as drawn: exact inside for a convolution, broken at the border, and by layers that share no weights."""

import numpy as np
import pytest

import starconv as sc
from starconv.view import equivariance


@pytest.mark.parametrize("shift", [(2, 0), (-3, 1), (0, -2)])
@pytest.mark.parametrize("options", [{}, {"padding": 1}, {"dilation": 2, "padding": 2}, {"padding": 1, "groups": 2}])
def test_a_convolution_is_exactly_equivariant_inside(options, shift):
    random = np.random.default_rng(10)
    x = random.integers(-5, 6, (2, 12, 13))
    w = random.integers(-5, 6, (2, 2 // options.get("groups", 1), 3, 3))
    data = equivariance(x, w, shift, **options).data
    shared, dense = data.layers
    assert shared.error_inside == 0
    assert shared.inside.any()
    assert dense.error_inside > 0.1
    assert dense.weights > 100 * shared.weights
    np.testing.assert_array_equal(shared.shift_first, sc.conv2d(data.shifted, w, **options)[0])
    known = ~np.isnan(shared.layer_first)
    np.testing.assert_array_equal(shared.difference[known], (shared.shift_first - shared.layer_first)[known])


def test_padding_breaks_it_at_the_border():
    x = np.ones((8, 8))
    shared = equivariance(x, np.ones((3, 3)), 2, padding=1).data.layers[0]
    assert shared.error_inside == 0
    assert shared.error > 0


def test_a_stride_that_does_not_divide_the_shift_breaks_it():
    x = np.random.default_rng(11).normal(size=(16, 16))
    whole = equivariance(x, np.ones((3, 3)), 2, stride=2).data
    broken = equivariance(x, np.ones((3, 3)), 3, stride=2).data
    assert whole.exact
    assert whole.layers[0].error_inside < 1e-12
    assert not broken.exact
    assert broken.layers[0].error_inside > 0.01


def test_any_callable():
    kernel = np.random.default_rng(12).normal(size=(3, 1, 3, 3))
    x = np.random.default_rng(13).normal(size=(14, 14))
    (layer,) = equivariance(x, lambda x: np.tanh(sc.conv2d(x, kernel, padding=1)), 3, margin=1).data.layers
    assert layer.weights is None
    assert layer.error_inside < 1e-12 < layer.error
    (flipped,) = equivariance(x, lambda x: x[..., ::-1], 3, margin=1).data.layers
    assert flipped.error_inside > 0.1
