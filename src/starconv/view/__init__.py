"""Pictures of your own convolutions: every function draws data that the library's geometry and arithmetic give it."""

from .channels import channels
from .equivariance import equivariance
from .field import receptive_field
from .gradient import gradient
from .grids import feature_maps, filters
from .layers import Layer, Skip
from .matrix import matrix
from .save import Animation, Still
from .shapes import shapes
from .slide import slide
from .template import template

__all__ = [
    "Animation",
    "Layer",
    "Skip",
    "Still",
    "channels",
    "equivariance",
    "feature_maps",
    "filters",
    "gradient",
    "matrix",
    "receptive_field",
    "shapes",
    "slide",
    "template",
]
