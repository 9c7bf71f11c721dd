"""Convolution you can run, train and see.

>>> import numpy as np
>>> import starconv as sc
>>> picture = np.zeros((6, 6), "float32")
>>> picture[3:] = 1  # dark above light: a horizontal edge
>>> sc.correlate(picture, [[-1, -1, -1], [0, 0, 0], [1, 1, 1]])[:, 0]
array([0., 0., 3., 3., 0., 0.], dtype=float32)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import grad
from .engine.plan import Plan
from .engine.planner import make_plan as plan
from .errors import ArgumentTypeError, ArgumentValueError, StarconvError
from .filters import convolve, correlate
from .functional import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .geometry import Axis, ReceptiveField, output_size, receptive_field
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


_LATER = {
    "bias": ".bias",
    "data": ".data",
    "get_num_threads": ".engine.runtime.threads",
    "interop": ".interop",
    "nets": ".nets",
    "nn": ".nn",
    "set_num_threads": ".engine.runtime.threads",
    "view": ".view",
}
"""Names that are imported when they are first asked for, and from where: figures, layers, networks, the runtime."""


def __getattr__(name: str) -> Any:
    """Find a name of `_LATER`: importing starconv costs little, and most programs never ask."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_LATER[name], __name__)
    globals()[name] = found = getattr(module, name, module)
    return found
