"""torch's own threads for starconv's jobs: layers of both take turns, and only one pool may keep the cores busy.

OpenMP's threads poll for milliseconds after a parallel region, longer than a layer takes. With a pool of starconv's
beside them a training step of a ResNet-20 with batch norm and ReLU by torch took 1.2 to 1.4 times as long (two cores).
"""

import contextlib
import ctypes
import sys
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import torch

from ...engine.runtime.threads import Lender

__all__ = ["torchs_threads"]


def torchs_threads() -> AbstractContextManager[None]:
    """While entered, jobs run on as many of torch's threads as it uses itself; on starconv's if torch has no OpenMP."""
    parallel = _gomp_parallel()
    return Lender(parallel, torch.get_num_threads()) if parallel else contextlib.nullcontext()


@cache
def _gomp_parallel() -> int:
    """The address of GOMP_parallel in the OpenMP library that torch is linked with (GCC's, LLVM's and Intel's have it).

    0 where there is none. The symbol is looked up in libtorch_cpu and in what it was loaded with, so it is this very
    library, whatever its file is called, and not another copy that some other package brought along.
    """
    suffix = {"linux": "so", "darwin": "dylib"}.get(sys.platform)
    if suffix is None or not torch.backends.openmp.is_available():
        return 0
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / f"libtorch_cpu.{suffix}"))
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return 0
