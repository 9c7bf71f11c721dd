"""Image filters of OpenCV and SciPy: one channel, the same size out as in."""

# ruff: noqa: D102  (what the methods mean, Entrant says)
from collections.abc import Callable
from typing import Any

import numpy as np

from starconv.problem import Problem

from ..shapes import Operands
from .entrant import Entrant, is_filter
from .own import NDIMAGE_MODES


class _Filter(Entrant):
    """A filter's result has no axes for pictures and channels."""

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        return None if is_filter(problem) else "no filter of one channel"

    def array(self, result: Any) -> np.ndarray:
        return np.asarray(result)[np.newaxis, np.newaxis]


class OpenCV(_Filter):
    """``cv2.filter2D``."""

    name = "opencv filter2D"
    module = "cv2"

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        if problem.spatial != 2:
            return "pictures only"
        return "no border wrap" if problem.border == "wrap" else super().refuses(problem, operands)

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        import cv2

        cv2.setNumThreads(threads)
        picture, kernel = operands.first[0, 0], operands.second[0, 0]
        out, border = np.empty_like(picture), _border(problem)
        return lambda: cv2.filter2D(picture, -1, kernel, out, (-1, -1), 0, border)


class OpenCVSeparable(OpenCV):
    """``cv2.sepFilter2D``, where the kernel is an outer product."""

    name = "opencv sepFilter2D"

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        reason = super().refuses(problem, operands)
        return reason or (None if _factors(operands.second[0, 0]) else "the kernel's rank is not 1")

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        import cv2

        cv2.setNumThreads(threads)
        picture, (down, across) = operands.first[0, 0], _factors(operands.second[0, 0])
        out, border = np.empty_like(picture), _border(problem)
        return lambda: cv2.sepFilter2D(picture, -1, across, down, out, (-1, -1), 0, border)


class Ndimage(_Filter):
    """``scipy.ndimage.correlate``, always on one thread."""

    name = "scipy.ndimage"
    module = "scipy"

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        return "half a minute a call" if problem.multiply_adds > 1e10 else super().refuses(problem, operands)

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        from scipy import ndimage

        picture, kernel = operands.first[0, 0], operands.second[0, 0]
        out, mode = np.empty_like(picture), NDIMAGE_MODES[problem.border]
        return lambda: ndimage.correlate(picture, kernel, out, mode)


class SignalFFT(_Filter):
    """``scipy.signal.fftconvolve`` with the kernel flipped, its transforms on all threads."""

    name = "scipy fftconvolve"
    module = "scipy"
    function = "fftconvolve"

    def refuses(self, problem: Problem, operands: Operands) -> str | None:
        if problem.border != "constant":
            return "no border but zeros"
        if any(axis.kernel % 2 == 0 for axis in problem.axes):
            return "another centre for even kernels"
        return super().refuses(problem, operands)

    def ready(self, problem: Problem, operands: Operands, threads: int) -> Callable[[], Any]:
        from scipy import fft, signal

        convolve = getattr(signal, self.function)
        picture, kernel = operands.first[0, 0], np.flip(operands.second[0, 0])

        def call() -> Any:
            with fft.set_workers(threads):
                return convolve(picture, kernel, mode="same")

        return call


class SignalOverlapAdd(SignalFFT):
    """``scipy.signal.oaconvolve``: the same in blocks."""

    name = "scipy oaconvolve"
    function = "oaconvolve"


def _border(problem: Problem) -> int:
    import cv2

    return {
        "constant": cv2.BORDER_CONSTANT,
        "edge": cv2.BORDER_REPLICATE,
        "reflect": cv2.BORDER_REFLECT_101,
        "symmetric": cv2.BORDER_REFLECT,
    }[problem.border]


def _factors(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The column and the row whose outer product the kernel is, or None where it is none."""
    columns, values, rows = np.linalg.svd(kernel.astype("float64"))
    if values[1:].max(initial=0) > 1e-6 * values[0]:
        return None
    scale = values[0] ** 0.5
    return (columns[:, 0] * scale).astype(kernel.dtype), (rows[0] * scale).astype(kernel.dtype)
