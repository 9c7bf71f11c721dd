"""A folder of folders of pictures, one per class, as something to learn from."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.digits import Digits, Split
from ..data.files import FileContentError
from ..data.images import Image, read_image

__all__ = ["class_folders"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")
TEST_EVERY = 5
"""Of every class, in the order of their names, every fifth picture is for testing."""


def class_folders(folder: str | os.PathLike[str]) -> tuple[Split, list[str]]:
    """The pictures in ``folder/CLASS/*`` and the names of the classes, in alphabetical order.

    Pictures must have one size. They come as (N, C, H, W) float32 from 0 to 1, C = 1 if all are grey, else 3. Of every
    class every fifth is for testing.

    Raises:
        FileContentError: fewer than two classes, a class with fewer than two pictures, pictures of several sizes.
        OSError: something cannot be read.
    """
    place = Path(folder)
    classes = sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise FileContentError(place, f"at least two folders with pictures, one per class; there are {len(classes)}")
    images: list[Image] = []
    labels: list[int] = []
    testing: list[bool] = []
    for label, directory in enumerate(classes):
        paths = sorted(path for path in directory.iterdir() if path.suffix.lower() in _SUFFIXES)
        if len(paths) < 2:
            raise FileContentError(directory, f"at least two pictures ({', '.join(_SUFFIXES)}); there are {len(paths)}")
        for number, path in enumerate(paths):
            image = read_image(path)
            if images and image.array.shape[:2] != images[0].array.shape[:2]:
                first, found = (" x ".join(map(str, one.array.shape[1::-1])) for one in (images[0], image))
                raise FileContentError(path, f"a picture of the size of the others, {first}; it is {found}")
            images.append(image)
            labels.append(label)
            # The last of five, but of fewer than five the last of all, so that every class is tested.
            testing.append(number % TEST_EVERY == TEST_EVERY - 1 or (len(paths) < TEST_EVERY and path == paths[-1]))
    channels = max(image.channels for image in images)
    pictures = np.stack([_planes(image, channels) for image in images])
    numbers, chosen = np.array(labels, np.int64), np.array(testing)
    split = Split(Digits(pictures[~chosen], numbers[~chosen]), Digits(pictures[chosen], numbers[chosen]))
    return split, [path.name for path in classes]


def _planes(image: Image, channels: int) -> NDArray[np.float32]:
    """(C, H, W); a grey picture among coloured ones has three equal channels."""
    array = image.array if image.array.ndim == 3 else image.array[..., np.newaxis]
    planes = np.moveaxis(np.broadcast_to(array, (*array.shape[:2], channels)), -1, 0)
    result: NDArray[np.float32] = np.divide(planes, image.white, dtype=np.float32)
    return result
