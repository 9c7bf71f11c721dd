"""The matches drawn are the highest and the lowest responses, and their windows do not overlap."""

import itertools

import numpy as np

import starconv as sc
from starconv.data.kernels import named_kernel
from starconv.view import template


def test_matches_are_inner_products_of_the_patches_drawn():
    picture = np.random.default_rng(2).integers(0, 9, (20, 23))
    kernel = named_kernel("sobel-x")
    data = template(picture, kernel, stride=(1, 2), padding=1, matches=5).data
    expected = sc.conv2d(picture[None], kernel[None, None], stride=(1, 2), padding=1)[0]
    np.testing.assert_array_equal(data.response, expected)
    assert data.best[0].total == expected.max()
    assert data.worst[0].total == expected.min()
    assert [step.total for step in data.best] == sorted((step.total for step in data.best), reverse=True)
    for step in (*data.best, *data.worst):
        assert step.total == expected[step.output[1:]] == (step.parts[0].patch * kernel).sum()
    for steps in (data.best, data.worst):
        assert len(steps) == 5
        for one, other in itertools.combinations(steps, 2):
            assert any(a[-1] < b[0] or b[-1] < a[0] for a, b in zip(one.window, other.window, strict=True))


def test_no_number_no_match():
    data = template(np.full((4, 4), np.nan), np.ones((2, 2))).data
    assert data.best == data.worst == ()
