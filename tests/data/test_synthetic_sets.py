"""Edges and shapes to learn from: their labels are true, the classes even, and a seed says everything."""

import numpy as np
import pytest
from scipy import ndimage

import starconv as sc
from starconv.data.synthetic_sets import SHAPES, edge_classes, edges, shapes


@pytest.mark.parametrize("classes", [2, 4, 7])
def test_the_gradient_of_an_edge_has_the_orientation_of_its_class(classes):
    train, _ = edges(70, size=24, classes=classes, noise=0)
    for image, label in zip(train.images[:, 0].astype(float), train.labels, strict=True):
        smooth = np.array([[3, 10, 3]])  # Scharr's, whose directions are right to a fraction of a degree
        down, across = (
            sc.correlate(image, kernel)[1:-1, 1:-1] for kernel in (smooth * [[-1], [0], [1]], smooth.T * [-1, 0, 1])
        )
        # Of all gradients the common axis: the angle of the doubled angles' mean. An edge is across its gradient.
        axis = np.angle(np.sum((across - 1j * down) ** 2)) / 2 + np.pi / 2
        off = (np.rad2deg(axis) - 180 * label / classes + 90) % 180 - 90
        assert abs(off) <= 180 / classes / 3 + 3


def test_shapes_are_what_they_are_called():
    train, _ = shapes(400, size=64, noise=0)
    images = train.images[:, 0]
    light = (images - images.min((1, 2), keepdims=True)) / np.ptp(images, axis=(1, 2), keepdims=True)
    holes, corners, areas = [], [], []
    for picture in light:
        inside = picture > 0.5
        assert ndimage.label(inside)[1] == 1
        assert not inside[[0, -1]].any()
        assert not inside[:, [0, -1]].any()
        rows, columns = ndimage.find_objects(inside.astype(int))[0]
        box = inside[rows, columns]
        holes.append(box.mean())  # the share of its bounding box
        corners.append([box[i, j] for i in (0, -1) for j in (0, -1)])
        areas.append(picture.sum())
    shares = np.array([np.mean(np.array(holes)[train.labels == label]) for label in range(4)])
    np.testing.assert_allclose(shares, [np.pi / 4, 1, 0.5, 5 / 9], atol=0.04)
    marked = [np.mean(np.array(corners, float)[train.labels == label], axis=0) for label in range(4)]
    np.testing.assert_allclose(marked[1], 1, atol=0.05)
    np.testing.assert_allclose(marked[3], 0, atol=0.05)
    assert marked[2][:2].max() < 0.1  # the tip of a triangle is up
    areas = np.array([np.mean(np.array(areas)[train.labels == label]) for label in range(4)])
    assert np.ptp(areas) < 0.15 * areas.mean()  # the amount of light tells little


@pytest.mark.parametrize("make", [edges, shapes])
def test_seeds_and_parts(make):
    one, same, other = make(40, seed=3), make(40, seed=3), make(40, seed=4)
    for first, second in zip(one, same, strict=True):
        np.testing.assert_array_equal(first.images, second.images)
        np.testing.assert_array_equal(first.labels, second.labels)
    assert not np.array_equal(one.train.images, other.train.images)
    assert not np.array_equal(one.train.images[:10], one.test.images)
    assert one.train.images.dtype == np.float32
    assert one.train.images.min() >= 0
    assert one.train.images.max() <= 1
    assert np.bincount(one.train.labels).tolist() == [10] * 4
    assert len(make(40, test=7).test.labels) == 7


def test_names():
    assert edge_classes(2) == ("0°", "90°")
    assert len(SHAPES) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count = 0"),
        ({"size": 7}, "size = 7"),
        ({"noise": -1}, "noise = -1"),
        ({"seed": -1}, "seed = -1"),
    ],
)
@pytest.mark.parametrize("make", [edges, shapes])
def test_wrong_calls(make, arguments, message):
    with pytest.raises(sc.ArgumentValueError, match=message):
        make(**arguments)
    with pytest.raises(sc.ArgumentTypeError, match="count"):
        make(2.5)
    with pytest.raises(sc.ArgumentValueError, match="classes = 1"):
        edges(classes=1)
