"""Layers in words, and the shapes that the drawing of a network shows."""

import numpy as np
import pytest

import starconv as sc
from starconv.view import Layer, Skip, shapes
from starconv.view.layers import as_layers, stages


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("conv 6x3x5 stride=2x1 padding=1x2 dilation=2", lambda x, w: sc.conv2d(x, w, None, (2, 1), (1, 2), 2)),
        ("conv 6x3x5 padding=0:1x2:0", lambda x, w: sc.conv2d(x, w, None, 1, ((0, 1), (2, 0)))),
        ("conv 6x3x5 s2 p1 g2", lambda x, w: sc.conv2d(x, w, None, 2, 1, 1, 2)),
        ("conv 6 k3x5 padding=same", lambda x, w: sc.conv2d(x, w, None, 1, "same")),
        (
            "transposed 6x3x5 stride=3 padding=1 output_padding=2 groups=2",
            lambda x, w: sc.conv_transpose2d(x, w, None, 3, 1, 2, 2),
        ),
        ("dense 10", lambda x, w: sc.conv2d(x, w)),
    ],
)
def test_a_layer_has_the_shapes_of_the_function_it_stands_for(text, function):
    shape = (4, 9, 11)
    (stage,) = shapes(shape, text).data.stages
    weights = np.zeros(stage.layer.weight_shape(shape))
    assert stage.output_shape == function(np.zeros(shape), weights).shape
    assert stage.parameters == weights.size + stage.output_shape[0]


def test_pooling_keeps_the_channels_and_has_no_parameters():
    data = shapes((8, 10, 10), "pool 2x2; pool 3x3 stride=1; k2 s1; pool").data
    assert [stage.output_shape for stage in data.stages] == [(8, 5, 5), (8, 3, 3), (8, 2, 2), (8, 1, 1)]
    assert data.parameters == 0


def test_resnet_18_s_first_block_has_the_published_number_of_weights():
    block = "skip(conv 64x3x3 padding=1; conv 64x3x3 padding=1)"
    (stage,) = stages((64, 56, 56), block)
    assert stage.output_shape == (64, 56, 56)
    assert stage.parameters == 2 * (64 * 64 * 9 + 64)


def test_text_and_objects_describe_the_same_stack():
    text = "first: conv 4x3x3 padding=1; skip(conv 4x3x3 padding=1 | )"
    layers = [Layer("conv", 4, (3, 3), padding=1), Skip(((Layer("conv", 4, (3, 3), padding=1),), ()))]
    assert as_layers(text) == as_layers(layers)
    assert as_layers("; ".join(map(str, layers))) == as_layers(layers)
