"""The gradients drawn are the library's, and the products followed add up to the entry they lead to."""

import numpy as np
import pytest

import starconv as sc
from starconv.view import gradient


@pytest.mark.parametrize("tap", [(0, 0, 0, 0), (2, 1, 1, 2), (3, 0, 0, 1)])
@pytest.mark.parametrize(
    "options", [{}, {"stride": (1, 2), "padding": 1}, {"dilation": 2, "padding": ((0, 2), (1, 3))}]
)
def test_products_add_up_to_the_entry(options, tap):
    random = np.random.default_rng(7)
    x, w = random.integers(-5, 6, (4, 6, 7)), random.integers(-5, 6, (4, 2, 2, 3))
    output = sc.conv2d(x, w, groups=2, **options)
    upstream = random.integers(-5, 6, output.shape)
    data = gradient(x, w, upstream, groups=2, tap=tap, **options).data
    assert data.channel == tap[1] + 2 * (tap[0] // 2)
    assert data.products.sum() == data.weight_gradient[tap]
    arguments = {"groups": 2, **options}
    expected = sc.grad.conv2d_weight(x[None], w.shape, upstream[None], **arguments)
    np.testing.assert_array_equal(data.weight_gradient, expected)
    expected = sc.grad.conv2d_input((1, *x.shape), w, upstream[None], **arguments)[0]
    np.testing.assert_array_equal(data.input_gradient, expected)


def test_without_a_gradient_the_loss_is_the_sum_of_the_output():
    data = gradient([1, 2, 3, 4], [1, 10]).data
    assert data.weight_gradient.ravel().tolist() == [6, 9]
    assert data.input_gradient.ravel().tolist() == [1, 11, 11, 10]
