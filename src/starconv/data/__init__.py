"""Things to convolve and to learn from: pictures in files, kernels by name or from text, data sets."""

from typing import TYPE_CHECKING

from ..later import found_later

if TYPE_CHECKING:
    from .fetch import fashion_mnist, mnist
    from .synthetic_sets import edges, shapes

__all__ = ["edges", "fashion_mnist", "mnist", "shapes"]

__getattr__ = found_later(
    __name__, {"edges": ".synthetic_sets", "fashion_mnist": ".fetch", "mnist": ".fetch", "shapes": ".synthetic_sets"}
)
"""Imported when they are first asked for: what fetches takes 5 MB, and networks need the files beside it alone."""
