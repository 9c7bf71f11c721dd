"""Pictures for networks: Pillow's bytes, torchvision's sizes, and the arithmetic by hand."""

import numpy as np
import pytest
from PIL import Image

from starconv.errors import ArgumentTypeError, ArgumentValueError
from starconv.nets.preprocess import (
    MEAN,
    STANDARD_DEVIATION,
    crop,
    fitted,
    imagenet_classes,
    normalise,
    preprocess,
    resize,
)

SIZES = (
    ((37, 53), (16, 23)),
    ((16, 23), (37, 53)),
    ((40, 40), (40, 17)),
    ((5, 900), (3, 7)),
    ((1, 1), (4, 6)),
    ((64, 9), (1, 1)),
)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_eight_bits_are_scaled_to_the_bytes_of_pillow(before, after):
    rng = np.random.default_rng(0)
    for pixels in (rng.integers(0, 256, (*before, 3), np.uint8), np.full((*before, 3), 255, np.uint8)):
        # Along rows, then along columns: some versions of Pillow take the other order where that is quicker.
        picture = Image.fromarray(pixels).resize((after[1], before[0]), Image.Resampling.BILINEAR)
        expected = np.asarray(picture.resize(after[::-1], Image.Resampling.BILINEAR))
        found = resize(pixels, after)
        assert np.array_equal(found, expected)
        at_once = np.asarray(Image.fromarray(pixels).resize(after[::-1], Image.Resampling.BILINEAR))
        assert np.abs(found.astype(int) - at_once).max() <= 1


def test_floats_are_scaled_as_pillow_scales_them():
    pixels = np.random.default_rng(0).random((37, 53)).astype(np.float32)
    expected = np.asarray(Image.fromarray(pixels).resize((23, 16), Image.Resampling.BILINEAR))
    assert np.allclose(resize(pixels[..., np.newaxis], (16, 23))[..., 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "size", "scaled"),
    [
        # torchvision's Resize(256): the longer side is cut down to an integer, as int(256 * 341 / 200) = 436 is.
        ((200, 341), (224, 224), (256, 436)),
        ((341, 200), (224, 224), (436, 256)),
        ((300, 300), (224, 224), (256, 256)),
        # 70 rows and 140 columns out of 100 x 300 and of 300 x 100: 8/7 of the side of which less is left over.
        ((100, 300), (70, 140), (80, 240)),
        ((300, 100), (70, 140), (480, 160)),
    ],
)
def test_the_side_of_which_less_is_left_decides(shape, size, scaled):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert np.array_equal(fitted(pixels, size), crop(resize(pixels, scaled), size))
    assert preprocess(pixels, size=size).shape == (1, 3, *size)
    assert preprocess(pixels, size=None).shape == (1, 3, *shape)


def test_the_shorter_side_can_be_given():
    pixels = np.random.default_rng(0).integers(0, 256, (200, 341), np.uint8)
    assert np.array_equal(fitted(pixels, 100, 150), crop(resize(pixels[..., np.newaxis], (150, 255)), (100, 100)))


def test_the_middle_is_cut_out():
    pixels = np.arange(35, dtype=np.uint8).reshape(5, 7, 1)
    assert np.array_equal(crop(pixels, (3, 3))[..., 0], [[9, 10, 11], [16, 17, 18], [23, 24, 25]])
    # Where it cannot be the middle, torchvision rounds half a pixel to the even number: (7 - 2) / 2 becomes 2.
    assert np.array_equal(crop(pixels, (1, 2))[..., 0], [[16, 17]])
    with pytest.raises(ArgumentValueError, match="no more than the picture has"):
        crop(pixels, (6, 3))


def test_normalised_by_hand():
    colours = np.array([[[255, 0, 51]]], np.uint8)
    expected = [(value - m) / d for value, m, d in zip((1, 0, 0.2), MEAN, STANDARD_DEVIATION, strict=True)]
    assert np.allclose(normalise(colours).ravel(), expected, atol=1e-6)
    grey = normalise(np.full((2, 2), 128, np.uint8))
    assert np.allclose(grey[0, :, 0, 0], [(128 / 255 - m) / d for m, d in zip(MEAN, STANDARD_DEVIATION, strict=True)])


def test_all_depths_agree():
    bytes_ = np.random.default_rng(0).integers(0, 256, (300, 280, 3), np.uint8)
    one = preprocess(bytes_, size=None)
    assert one.dtype == np.float32
    assert one.flags.c_contiguous
    for other in (bytes_.astype(np.uint16) * 257, (bytes_ / 255).astype(np.float32), bytes_ / 255):
        assert np.allclose(preprocess(other, size=None), one, atol=1e-5)
    # With scaling the bytes are rounded twice: half a grey level each, over the smallest deviation.
    scaled = preprocess(bytes_ / 255)
    assert np.abs(scaled - preprocess(bytes_)).max() <= 1.01 / 255 / min(STANDARD_DEVIATION)


@pytest.mark.parametrize(
    ("picture", "options", "error"),
    [
        (np.zeros((4, 4), int), {}, ArgumentTypeError),
        (np.zeros((4, 4, 4), np.uint8), {}, ArgumentValueError),
        (np.zeros((0, 4), np.uint8), {}, ArgumentValueError),
        (np.zeros(4), {}, ArgumentValueError),
        (np.zeros((300, 300)), {"shorter": 0}, ArgumentValueError),
        (np.zeros((300, 300)), {"shorter": 100}, ArgumentValueError),
        (np.zeros((300, 300)), {"size": 0}, ArgumentValueError),
    ],
)
def test_what_is_no_picture(picture, options, error):
    with pytest.raises(error):
        preprocess(picture, **options)


def test_the_names_of_the_classes():
    names = imagenet_classes()
    assert len(names) == 1000
    assert all(name == name.strip() != "" for name in names)
    # Numbers that any list of ILSVRC 2012's classes has.
    assert [names[n] for n in (0, 1, 388, 812, 999)] == [
        "tench",
        "goldfish",
        "giant panda",
        "space shuttle",
        "toilet paper",
    ]


def test_no_picture_is_scaled_to_any_size():
    with pytest.raises(ArgumentValueError, match=r"size = .* at most 100000000 pixels"):
        preprocess(np.zeros((10, 10, 3), np.uint8), size=10**8)
    with pytest.raises(ArgumentValueError, match=r"shorter = 80: .*, not 80 x 160000000"):
        preprocess(np.zeros((1, 2 * 10**6), np.uint8), size=8, shorter=80)
