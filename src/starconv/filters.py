"""correlate and convolve: scipy.ndimage's functions of the same names, with its signature, modes and results."""

import operator
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .arguments import Array, exact_float, heaviest, peak
from .engine.plan import Plan
from .engine.planner import wisdom_state
from .engine.remembered import Remembered
from .engine.runtime.recycling import recycled_empty
from .errors import ArgumentTypeError, ArgumentValueError, choices
from .filter_sums import Geometry, complex_sums, plan_for, real_sums

__all__ = ["convolve", "correlate"]

MODES = {
    "reflect": "symmetric",
    "grid-mirror": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "constant": "constant",
    "grid-constant": "constant",
    "wrap": "wrap",
    "grid-wrap": "wrap",
}
"""scipy.ndimage's modes by the names that ``numpy.pad`` gives the same borders."""


def correlate(
    input: ArrayLike,
    weights: ArrayLike,
    output: Array | DTypeLike | None = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    axes: int | Sequence[int] | None = None,
) -> Array:
    """Correlation of an array of any dimension with a kernel, the same size as the input.

    Arguments and results are those of ``scipy.ndimage.correlate``, except that sums are formed in the input's own float
    type (float32 sums for float32 input; ask for ``output=np.float64`` to have them in float64). Integers are exact,
    modulo 2**64, if the weights are integers too; only uint64 with a float output goes through float64, as in scipy.

    Args:
        input: array of any shape; bool, integer, float or complex.
        weights: kernel, with one axis per filtered axis. With one axis more, several kernels (n, ...): they are applied
            in one pass and the result is (n, *input.shape). This is an extension; SciPy has one kernel at a time.
        output: an array of the input's shape to write to, or the dtype of a new one; default the input's dtype. Sums
            are cut towards zero for an integer output, as scipy does.
        mode: beyond the edge: "reflect" (d c b a | a b c d), "mirror" (d c b | a b c d), "nearest" (a a a | a b c d),
            "wrap" (b c d | a b c d) or "constant" (`cval`). As in scipy "grid-mirror", "grid-wrap" and "grid-constant"
            are other words for "reflect", "wrap" and "constant".
        cval: value beyond the edge for mode "constant".
        origin: shift of the kernel's centre from element size // 2, per filtered axis.
        axes: the axes to filter along, default all. `origin` follows their order; the kernel's axes follow the filtered
            axes in rising order.

    Returns:
        Array of the input's shape.

    Raises:
        ArgumentValueError, ArgumentTypeError: naming the argument, its value, what was expected and the shapes.

    >>> correlate([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([ 8, 26,  8, 12,  7, 28, 36,  9])
    >>> correlate([2, 8, 0], weights=[[1, 3], [1, 0]])
    array([[ 8, 26,  8],
           [ 2,  2,  8]])
    """
    return _filter(input, weights, output, mode, cval, origin, axes, flip=False)


def convolve(
    input: ArrayLike,
    weights: ArrayLike,
    output: Array | DTypeLike | None = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    axes: int | Sequence[int] | None = None,
) -> Array:
    """Convolution in the strict sense, with the kernel flipped; otherwise as :func:`correlate`.

    Arguments and results are those of ``scipy.ndimage.convolve``.

    >>> convolve([0, 0, 1, 0, 0], weights=[1, 2, 3])
    array([0, 1, 2, 3, 0])
    """
    return _filter(input, weights, output, mode, cval, origin, axes, flip=True)


def _filter(
    input: ArrayLike,
    weights: ArrayLike,
    output: Array | DTypeLike | None,
    mode: str,
    cval: complex,
    origin: int | Sequence[int],
    axes: int | Sequence[int] | None,
    *,
    flip: bool,
) -> Array:
    signature = _signature(input, weights, output, mode, cval, origin, axes, flip)
    plan = _plans.get(signature) if signature is not None else None
    if plan is not None:
        return _again(plan, input, weights, output, mode, cval, flip)
    picture, kernel = _numbers("input", input), _numbers("weights", weights)
    filtered = _axes_of(axes, picture.ndim)
    several = kernel.ndim == len(filtered) + 1
    if kernel.ndim - several != len(filtered) or kernel.size == 0:
        expected = (
            f"{len(filtered)} axes of at least one element, one per filtered axis of the input, "
            "and one before them for several kernels"
        )
        raise ArgumentValueError("weights", kernel, expected, input_shape=picture.shape)
    if not isinstance(mode, str):
        raise ArgumentTypeError("mode", mode, choices(MODES))
    if mode not in MODES:
        raise ArgumentValueError("mode", mode, choices(MODES))
    cval = _checked_cval(cval, picture)
    kernels = kernel if several else kernel[np.newaxis]
    befores = _befores(origin, filtered, kernels.shape[1:], flip)
    if flip:
        kernels = np.flip(kernels, tuple(range(1, kernels.ndim)))
    elif kernels.dtype.kind == "c":
        kernels = kernels.conj()  # as numpy.correlate and scipy.ndimage.correlate do
    is_complex = "c" in picture.dtype.kind + kernels.dtype.kind
    shape = kernels.shape[:1] + picture.shape if several else picture.shape
    result = _allocate(output, shape, picture.dtype, is_complex)
    results = result if several else result[np.newaxis]
    geometry = Geometry(tuple(sorted(filtered)), tuple(befores), MODES[mode])
    if np.may_share_memory(result, kernels):
        kernels = kernels.copy()  # pieces read them again after results have been written
    if is_complex:
        narrow = picture.dtype in (np.complex64, np.float32) and result.dtype == np.complex64
        complex_sums(picture, kernels, cval, geometry, "float32" if narrow else "float64", results)
    else:
        beyond = cval.real if MODES[mode] == "constant" else 0.0
        real_sums(picture, kernels, beyond, geometry, _sum_dtype(picture, kernels, beyond, result.dtype), results)
    if signature is not None:
        _plans.keep(signature, plan_for(picture, kernels, geometry, picture.dtype.name))
    return result


_plans = Remembered[Plan](most=1024)
"""Of calls seen before, by all that decides them. A repeated call of an 8x8 picture takes 10 microseconds, not 31."""


def _signature(
    picture: object,
    kernel: object,
    output: object,
    mode: object,
    cval: object,
    origin: object,
    axes: object,
    flip: bool,
) -> tuple[object, ...] | None:
    """What decides a call, or None where it is not worth remembering: anything but one kernel over all of a picture.

    Of plain floats: True and 1.0 equal 1, and a call with them must not pass for one that was checked.
    """
    if type(picture) is not np.ndarray or type(kernel) is not np.ndarray or axes is not None:
        return None
    if output is not None and not _is_like(output, picture):
        return None
    floats = picture.dtype.char in "fd" and picture.dtype.isnative and kernel.dtype.char in "fd"
    if not floats or not 1 <= picture.ndim <= 3 or kernel.ndim != picture.ndim or not picture.size:
        return None
    plain = type(cval) is float or (type(cval) is int and abs(cval) < 2**53)
    if not plain or type(mode) is not str or type(origin) is not int:
        return None
    return wisdom_state(), picture.shape, picture.dtype, kernel.shape, mode, origin, flip


def _is_like(output: object, picture: Array) -> bool:
    """Whether it is an array that the result for `picture` can be written to as it is."""
    if type(output) is not np.ndarray:
        return False
    return output.shape == picture.shape and output.dtype == picture.dtype and output.flags.writeable


def _again(plan: Plan, picture: Any, kernel: Any, output: Any, mode: str, cval: Any, flip: bool) -> Array:
    """A call like one that was checked before."""
    result = recycled_empty(picture.shape, picture.dtype) if output is None else output
    taps = np.flip(kernel) if flip else kernel
    taps = taps.astype(picture.dtype, copy=False)
    fill = float(cval) if MODES[mode] == "constant" else 0.0
    plan(picture[np.newaxis, np.newaxis], taps[np.newaxis, np.newaxis], out=result[np.newaxis, np.newaxis], fill=fill)
    return cast("Array", result)


def _numbers(argument: str, value: ArrayLike) -> NDArray[np.generic]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ArgumentValueError(argument, value, f"an array of numbers ({error})") from None
    if array.dtype.kind not in "biufc" or array.dtype.itemsize > 16 or array.dtype == np.longdouble:
        raise ArgumentTypeError(argument, value, "an array of bool, integers, float16 to float64 or complex numbers")
    return array


def _checked_cval(cval: object, picture: Array) -> complex:
    expected = "a number" if picture.dtype.kind == "c" else "a real number for a real input"
    if isinstance(cval, np.ndarray) and cval.ndim == 0:
        cval = cval[()]
    if not isinstance(cval, (int, float, complex, np.number, np.bool_)):
        raise ArgumentTypeError("cval", cval, expected)
    if picture.dtype.kind != "c" and isinstance(cval, (complex, np.complexfloating)):
        raise ArgumentValueError("cval", cval, expected)
    try:
        return complex(cval)
    except OverflowError:
        raise ArgumentValueError("cval", cval, "a number that a float64 can hold") from None


def _listed(value: object) -> list[Any]:
    return list(value) if isinstance(value, Iterable) else [value]


def _axes_of(axes: object, ndim: int) -> list[int]:
    expected = f"distinct axes of an input with {ndim}"
    if axes is None:
        return list(range(ndim))
    try:
        numbers = [operator.index(axis) for axis in _listed(axes)]
    except TypeError:
        raise ArgumentTypeError("axes", axes, expected) from None
    if any(not -ndim <= axis < ndim for axis in numbers) or len({axis % ndim for axis in numbers}) != len(numbers):
        raise ArgumentValueError("axes", axes, expected)
    return [axis % ndim for axis in numbers]


def _befores(origin: object, filtered: list[int], sizes: tuple[int, ...], flip: bool) -> list[int]:
    """Taps before the output position, per filtered axis in rising order.

    The kernel's axes follow the filtered axes in rising order, as in scipy, and the origins the order in which they are
    given, as scipy's manual says. (scipy itself forgets that order if all axes are given, as in axes=(1, 0).)
    """
    expected = f"an integer or {len(filtered)} of them, each from -(size // 2) to (size - 1) // 2"
    try:
        given = _listed(origin) * (1 if isinstance(origin, Iterable) else len(filtered))
        origins = [operator.index(value) for value in given]
    except TypeError:
        raise ArgumentTypeError("origin", origin, expected) from None
    if len(origins) != len(filtered):
        raise ArgumentValueError("origin", origin, expected, kernel_shape=sizes)
    by_axis = [value for _, value in sorted(zip(filtered, origins, strict=True))]
    if flip:
        by_axis = [-value - (size % 2 == 0) for value, size in zip(by_axis, sizes, strict=True)]
    for value, size in zip(by_axis, sizes, strict=True):
        if not -(size // 2) <= value <= (size - 1) // 2:
            raise ArgumentValueError("origin", origin, expected, kernel_shape=sizes)
    return [size // 2 + value for size, value in zip(sizes, by_axis, strict=True)]


def _allocate(output: object, shape: tuple[int, ...], given: np.dtype[Any], is_complex: bool) -> Array:
    expected = f"None, a numeric dtype or a writable array of shape {shape}" + (", complex" if is_complex else "")
    if isinstance(output, np.ndarray):
        if output.shape != shape or not output.flags.writeable or output.dtype.kind not in "biufc":
            raise ArgumentValueError("output", output, expected)
        if is_complex and output.dtype.kind != "c":
            raise ArgumentValueError("output", output, expected)
        return output
    if output is None:
        dtype = np.promote_types(given, np.complex64) if is_complex else given.newbyteorder("=")
        return recycled_empty(shape, dtype)
    try:
        dtype = np.dtype(output)  # type: ignore[call-overload]
    except TypeError:
        raise ArgumentTypeError("output", output, expected) from None
    if dtype.kind not in "biufc" or (is_complex and dtype.kind != "c" and isinstance(output, str)):
        raise ArgumentValueError("output", output, expected)
    if is_complex and dtype.kind != "c":  # scipy.ndimage: a name must be a complex one, a dtype is made one, aloud
        warnings.warn("promoting specified output dtype to complex", stacklevel=4)
        dtype = np.promote_types(dtype, np.complex64)
    return recycled_empty(shape, dtype)


def _sum_dtype(picture: Array, kernels: Array, cval: float, result: np.dtype[np.generic]) -> str:
    """Integers with integer kernels are exact; float32 or float16 in and out sums in float32; else float64.

    Exact in floats, which are compiled, as long as no sum can reach 2^24 or 2^53; else in int64, modulo 2^64.
    """
    whole = all(array.dtype.kind in "biu" for array in (picture, kernels))
    # Read as int64, sums of uint64 are right modulo 2^64, which is all that an integer keeps; a float needs the sign.
    wraps = result.kind in "iub" or all(array.dtype != np.uint64 for array in (picture, kernels))
    if whole and cval.is_integer() and abs(cval) < 2**53:
        return exact_float(max(float(peak(picture)), abs(cval)) * heaviest(kernels)) or (
            "int64" if wraps else "float64"
        )
    narrow = all(dtype.kind == "f" and dtype.itemsize <= 4 for dtype in (picture.dtype, result))
    return "float32" if narrow else "float64"
