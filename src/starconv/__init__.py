"""Convolution you can run, train and see.

>>> import numpy as np
>>> import starconv as sc
>>> picture = np.zeros((6, 6), "float32")
>>> picture[3:] = 1  # dark above light: a horizontal edge
>>> sc.correlate(picture, [[-1, -1, -1], [0, 0, 0], [1, 1, 1]])[:, 0]
array([0., 0., 3., 3., 0., 0.], dtype=float32)
"""

from typing import TYPE_CHECKING, Any

from . import grad
from .engine.planner import Plan
from .engine.planner import make_plan as plan
from .engine.runtime.threads import get_num_threads, set_num_threads
from .errors import ArgumentTypeError, ArgumentValueError, StarconvError
from .filters import convolve, correlate
from .functional import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .geometry import ReceptiveField, output_size, receptive_field
from .matrix import conv_matrix
from .problem import Problem

if TYPE_CHECKING:
    from . import view

__version__ = "0.1.0"

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "Plan",
    "Problem",
    "ReceptiveField",
    "StarconvError",
    "__version__",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_matrix",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convolve",
    "correlate",
    "get_num_threads",
    "grad",
    "output_size",
    "plan",
    "receptive_field",
    "set_num_threads",
    "view",
]


def __getattr__(name: str) -> Any:
    """Import the figures when they are first asked for: most programs never do."""
    if name == "view":
        from importlib import import_module

        return import_module(".view", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
