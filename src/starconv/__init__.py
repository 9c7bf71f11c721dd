"""Convolution you can run, train and see.

>>> import numpy as np
>>> import starconv as sc
>>> picture = np.zeros((6, 6), "float32")
>>> picture[3:] = 1  # dark above light: a horizontal edge
>>> sc.correlate(picture, [[-1, -1, -1], [0, 0, 0], [1, 1, 1]])[:, 0]
array([0., 0., 3., 3., 0., 0.], dtype=float32)
"""

from typing import TYPE_CHECKING

from . import grad
from .engine.plan import Plan
from .engine.planner import make_plan as plan
from .errors import ArgumentTypeError, ArgumentValueError, StarconvError
from .filters import convolve, correlate
from .functional import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .geometry import Axis, ReceptiveField, output_size, receptive_field
from .later import found_later
from .matrix import conv_matrix
from .problem import Problem

if TYPE_CHECKING:
    from . import bias, data, interop, nets, nn, view
    from .engine.runtime.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "Axis",
    "Plan",
    "Problem",
    "ReceptiveField",
    "StarconvError",
    "__version__",
    "bias",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_matrix",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convolve",
    "correlate",
    "data",
    "get_num_threads",
    "grad",
    "interop",
    "nets",
    "nn",
    "output_size",
    "plan",
    "receptive_field",
    "set_num_threads",
    "view",
]


__getattr__ = found_later(
    __name__,
    {
        "bias": ".bias",
        "data": ".data",
        "get_num_threads": ".engine.runtime.threads",
        "interop": ".interop",
        "nets": ".nets",
        "nn": ".nn",
        "set_num_threads": ".engine.runtime.threads",
        "view": ".view",
    },
)
"""Imported when they are first asked for: figures, layers, networks, the runtime."""
