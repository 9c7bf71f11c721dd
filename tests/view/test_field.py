"""Receptive fields: geometry against measurement, through everything a network is made of."""

import numpy as np
import pytest

import starconv as sc
from starconv.geometry import Axis
from starconv.view import receptive_field
from starconv.view.field import receptive_field_data

BLOCK = "skip(conv 4x3x3 padding=1; conv 4x3x3 padding=1)"


@pytest.mark.parametrize(
    "layers",
    [
        "conv 4x3x5 stride=2 padding=1x2",
        "conv 4x3x3 dilation=4 padding=2; pool 2x2",
        f"conv 4x7x7 stride=2 padding=3; pool 3x3 stride=2 padding=1; {BLOCK}; {BLOCK}",
        "skip(conv 4x3x3 stride=2 padding=1; conv 4x3x3 padding=1 | conv 4x1x1 stride=2)",
        "skip(conv 4x1x5 padding=0x2 | conv 4x5x1 padding=2x0)",
        "conv 4x5x5 stride=2 padding=2; transposed 2x4x4 stride=2 padding=1; k3 p1",
        "transposed 2x3x3 stride=3 output_padding=2; conv 1x3x3 dilation=2",
        "pool 4x4; dense 3",
        "k3 s2 p1; skip(conv 8x3x3 padding=1 groups=4)",
    ],
)
@pytest.mark.parametrize("corner", [True, False])
def test_geometry_names_exactly_the_elements_that_act(layers, corner):
    data = receptive_field_data(layers, (26, 24), (0, 0) if corner else None)
    assert data.agrees
    assert data.measured.any()


def test_a_cross_of_two_paths_is_no_rectangle():
    data = receptive_field_data("skip(conv 4x1x5 padding=0x2 | conv 4x5x1 padding=2x0)", (9, 9))
    assert data.theory.sum() == 9


def test_the_field_is_the_one_that_the_geometry_computes():
    data = receptive_field("k7 s2 p3; k3 s2 p1", (224, 224)).data
    axes = [Axis(224, 7, stride=2, before=3, after=3), Axis(112, 3, stride=2, before=1, after=1)]
    field = sc.receptive_field(axes)
    assert data.steps[-1].size == (field.size, field.size) == (11, 11)
    first, last = data.span[0]
    assert (first, last) == (field.start + 28 * field.jump, field.start + 28 * field.jump + field.size - 1)


def test_a_callable_is_measured_by_changing_its_input():
    kernel = np.random.default_rng(8).normal(size=(4, 1, 3, 5))

    def layer(x):
        return np.maximum(sc.conv2d(x, kernel, stride=2, padding=(1, 2)), 0)

    picture = np.random.default_rng(9).normal(size=(20, 22))
    data = receptive_field(layer, picture, (4, 5)).data
    expected = receptive_field_data("conv 1x3x5 stride=2 padding=1x2", picture.shape, (4, 5))
    assert data.agrees is None
    assert data.measured_span == expected.measured_span == expected.span
