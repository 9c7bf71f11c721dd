"""The synthetic pictures: what a kernel finds in them is known beforehand."""

import numpy as np
import pytest
from scipy import ndimage

from starconv import ArgumentTypeError, ArgumentValueError
from starconv.data.kernels import named_kernel
from starconv.data.synthetic import edges_picture, shapes_picture


@pytest.mark.parametrize("size", [3, 12, 64, (30, 7)])
def test_both_kinds_of_horizontal_edge_and_nothing_else(size):
    picture = edges_picture(size, dark=10, light=90)
    height, width = (size, size) if isinstance(size, int) else size
    assert picture.shape == (height, width)
    response = ndimage.correlate(picture, named_kernel("horizontal-edges"), mode="nearest")
    upper, lower = height // 3, height - height // 3  # the first row of the band, the first below it
    assert (response[upper - 1] == 240).all()  # dark above light: light line
    assert (response[lower] == -240).all()  # light above dark: dark line
    if height > 3:
        quiet = np.delete(response, [upper - 1, upper, lower - 1, lower], axis=0)
        assert (quiet == 0).all()
    assert not ndimage.correlate(picture, named_kernel("vertical-edges")).any()


def test_shapes():
    picture = shapes_picture(60)
    assert set(np.unique(picture)) == {0.0, 1.0}
    assert ndimage.label(picture)[1] == 3
    assert picture[0].sum() == picture[-1].sum() == 0
    assert shapes_picture((40, 80), dark=2, light=3).shape == (40, 80)


@pytest.mark.parametrize("make", [edges_picture, shapes_picture])
@pytest.mark.parametrize(
    ("size", "error"),
    [(2, ArgumentValueError), ((5, 2), ArgumentValueError), ((5, 5, 5), ArgumentValueError), (2.5, ArgumentTypeError)],
)
def test_wrong_size(make, size, error):
    with pytest.raises(error, match=r"^size = .*: expected an integer >= 3, or a height and a width"):
        make(size)
