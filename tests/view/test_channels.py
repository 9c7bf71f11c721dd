"""The numbers in the drawing of the channels are the library's, and add up."""

import numpy as np
import pytest

import starconv as sc
from starconv.view import channels


@pytest.mark.parametrize(
    ("options", "shape", "weights"),
    [
        ({"padding": 1}, (3, 5, 6), (2, 3, 3, 3)),
        ({"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": 2}, (6, 9, 8), (4, 6, 2, 3)),
        ({"groups": 2, "padding_mode": "reflect", "padding": 1}, (4, 6, 6), (6, 2, 3, 3)),
        ({"padding": 1}, (5, 12), (2, 5, 3)),
    ],
)
def test_partials_sums_and_outputs_are_the_library_s(options, shape, weights):
    random = np.random.default_rng(1)
    x, w, b = random.integers(-5, 6, shape), random.integers(-5, 6, weights), random.integers(-9, 9, weights[0])
    convolve = sc.conv1d if len(shape) == 2 else sc.conv2d
    data = channels(x, w, b, **options).data
    expected = convolve(x, w, b, **options)
    groups = options.get("groups", 1)
    members = len(x) // groups
    for column in data.columns:
        s = column.channel
        np.testing.assert_array_equal(column.output, expected[s])
        np.testing.assert_array_equal(column.sum + column.bias, column.output)
        shown = [part for part in column.partials if part is not None]
        np.testing.assert_array_equal(sum(shown) + (0 if column.rest is None else column.rest), column.sum)
        alone = {key: value for key, value in options.items() if key != "groups"}
        first = s // (len(w) // groups) * members
        for r, kernel, partial in zip(data.input_channels, column.kernels, column.partials, strict=True):
            if not first <= r < first + members:
                assert kernel is None
                assert partial is None
                continue
            np.testing.assert_array_equal(kernel, w[s, r - first])
            np.testing.assert_array_equal(partial, convolve(x[r : r + 1], w[s : s + 1, [r - first]], **alone)[0])


def test_channels_left_out_are_still_in_the_sum():
    data = channels((12, 4, 4), (3, 12, 2, 2), input_channels=[11, 0], output_channels=[2]).data
    assert data.hidden == 10
    assert [column.channel for column in data.columns] == [2]
    np.testing.assert_array_equal(sum(data.columns[0].partials) + data.columns[0].rest, data.columns[0].output)
