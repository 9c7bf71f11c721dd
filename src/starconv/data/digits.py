"""The handwritten digits that come with starconv: 1797 pictures of 8 x 8 pixels, and their split for training.

Optical Recognition of Handwritten Digits (its test set, 13 writers), E. Alpaydin and C. Kaynak (1998), UCI Machine
Learning Repository, doi:10.24432/C50P49, licensed CC BY 4.0. The attribution lies beside the file, as digits.txt.
"""

from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Digits", "Split", "digits"]

TEST_EVERY = 5
"""Picture i is for testing if i % 5 == 4: 359 of them, spread over all writers; the other 1438 are for training."""


class Digits(NamedTuple):
    """Pictures (N, 1, H, W) float32 from 0 (white paper) to 1 (ink), and labels (N,) int64."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


class Split(NamedTuple):
    """What to learn from, and what to be asked about."""

    train: Digits
    test: Digits


def digits() -> Split:
    """The 8 x 8 digits: 1438 to learn from, 359 (every fifth) to be asked about; always the same split.

    >>> train, test = digits()
    >>> train.images.shape, test.images.shape, test.labels[:5]
    ((1438, 1, 8, 8), (359, 1, 8, 8), array([4, 9, 4, 9, 4]))
    """
    with files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as archive:
        images = archive["images"][:, np.newaxis].astype(np.float32) / 16
        labels = archive["labels"].astype(np.int64)
    testing = np.arange(len(labels)) % TEST_EVERY == TEST_EVERY - 1
    return Split(Digits(images[~testing], labels[~testing]), Digits(images[testing], labels[testing]))
