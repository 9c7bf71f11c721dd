"""The matrix drawn is the convolution, and its transpose the transposed convolution."""

import numpy as np
import pytest

import starconv as sc
from starconv.view import matrix


@pytest.mark.parametrize(
    ("options", "shape", "weights"),
    [
        ({}, (1, 7, 7), (1, 1, 3, 3)),
        ({"stride": (1, 2), "padding": 1}, (2, 5, 6), (3, 2, 2, 3)),
        ({"dilation": 2, "padding": ((1, 0), (2, 1)), "groups": 2}, (4, 6, 5), (2, 2, 3, 2)),
    ],
)
def test_products_are_the_convolution_and_its_transpose(options, shape, weights):
    random = np.random.default_rng(6)
    x, w = random.integers(-5, 6, shape), random.integers(-5, 6, weights)
    data = matrix(x, w, **options).data
    expected = sc.conv2d(x, w, None, **options)
    np.testing.assert_array_equal(data.result, expected)
    np.testing.assert_array_equal(data.back, sc.grad.conv2d_input((1, *shape), w, expected[None], **options)[0])
    # Each entry is the kernel's value at the tap that colours it.
    values, taps = data.matrix.toarray(), data.taps.toarray()
    rows, columns = np.nonzero(taps)
    channels, members = rows // expected[0].size, columns // x[0].size % weights[1]
    flat = w.reshape(*weights[:2], -1)
    np.testing.assert_array_equal(values[rows, columns], flat[channels, members, taps[rows, columns] - 1])
    assert not values[taps == 0].any()


def test_the_element_followed_reads_what_its_row_holds():
    data = matrix((6, 6), (3, 3), stride=2, padding=1, at=(1, 2)).data
    read = sorted(data.taps[[data.row]].nonzero()[1].tolist())
    inside = [[at for at in along if 0 <= at < 6] for along in data.step.reads]
    assert read == sorted(row * 6 + column for row in inside[0] for column in inside[1])
