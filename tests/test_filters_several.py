"""Several kernels in one pass: the same as one after the other, to the bit."""

import numpy as np
import pytest

import starconv as sc


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int32", "complex64"])
@pytest.mark.parametrize("axes", [None, (0,), (1,), (2, 0)])
@pytest.mark.parametrize("function", [sc.correlate, sc.convolve])
def test_several_kernels(function, dtype, axes):
    random = np.random.default_rng(0)
    picture = random.integers(0, 50, (5, 6, 7)).astype(dtype)
    dimensions = 3 if axes is None else len(axes)
    kernels = random.integers(-3, 4, (4, *(3, 2, 4)[:dimensions]))
    together = function(picture, kernels, mode="mirror", axes=axes)
    assert together.shape == (4, 5, 6, 7)
    for kernel, result in zip(kernels, together, strict=True):
        np.testing.assert_array_equal(result, function(picture, kernel, mode="mirror", axes=axes))


def test_several_kernels_into_an_output():
    picture = np.arange(30, dtype="float32").reshape(5, 6)
    output = np.zeros((2, 6, 5), "float32").swapaxes(1, 2)
    kernels = np.ones((2, 3, 3), "float32")
    assert sc.correlate(picture, kernels, output=output) is output
    np.testing.assert_array_equal(output[1], sc.correlate(picture, kernels[1]))


@pytest.mark.parametrize(("peak", "weight"), [(255, 1), (255, 70_000), (2**31 - 1, 3), (2**40, 2**20)])
def test_integers_stay_exact_however_they_are_summed(peak, weight):
    dtype = "uint8" if peak == 255 else "int64"
    picture = np.array([[peak, 0, peak], [peak, peak, 1], [0, 0, peak]], dtype)
    kernel = np.array([[weight, -weight, 1], [weight, weight, -1], [-weight, 0, weight]])
    expected = np.zeros((3, 3), object)
    for i, j, p, q in np.ndindex(3, 3, 3, 3):
        if 0 <= i + p - 1 < 3 and 0 <= j + q - 1 < 3:
            expected[i, j] += int(picture[i + p - 1, j + q - 1]) * int(kernel[p, q])
    found = sc.correlate(picture, kernel, output=np.int64, mode="constant")
    assert found.tolist() == expected.tolist()
