"""Pictures of your own convolutions: every function draws data that the library's geometry and arithmetic give it."""

# Most functions have the name of their module, so they are bound here at once: a later import of the module keeps
# them. That costs little, because matplotlib is imported when the first figure is drawn.
from .channels import channels
from .comparison import bias_comparison
from .confusion import confusion
from .equivariance import equivariance
from .field import receptive_field
from .gradient import gradient
from .grids import feature_maps, filters
from .history import history
from .layers import Layer, Skip
from .matrix import matrix
from .save import Animation, Still
from .shapes import shapes
from .slide import slide
from .template import template
from .theme import THEMES, Theme
from .trace import Part, Stamp, Step, Trace

__all__ = [
    "THEMES",
    "Animation",
    "Layer",
    "Part",
    "Skip",
    "Stamp",
    "Step",
    "Still",
    "Theme",
    "Trace",
    "bias_comparison",
    "channels",
    "confusion",
    "equivariance",
    "feature_maps",
    "filters",
    "gradient",
    "history",
    "matrix",
    "receptive_field",
    "shapes",
    "slide",
    "template",
]
