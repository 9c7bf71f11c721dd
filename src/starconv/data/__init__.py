"""Things to convolve and to learn from: pictures in files, kernels by name or from text, data sets."""

from .fetch import fashion_mnist, mnist
from .synthetic_sets import edges, shapes

__all__ = ["edges", "fashion_mnist", "mnist", "shapes"]
