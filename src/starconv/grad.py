"""Gradients of a convolution with respect to its input, kernels and bias, under torch.nn.grad's names."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .arguments import Array, as_array, channels_last_in_memory, sum_dtype
from .calls import Call, planned, recalled, run
from .errors import ArgumentTypeError, ArgumentValueError
from .geometry import Padding, PerAxis
from .problem import Problem, check_kernels

__all__ = [
    "conv1d_input",
    "conv1d_weight",
    "conv2d_input",
    "conv2d_weight",
    "conv3d_input",
    "conv3d_weight",
    "conv_bias",
]


def conv1d_input(
    input_size: Sequence[int],
    w: ArrayLike,
    grad_output: ArrayLike,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    precision: str = "float32",
) -> Array:
    """Gradient of :func:`starconv.conv1d` with respect to its input; see :func:`conv2d_input`."""
    return _input(1, input_size, w, grad_output, stride, padding, dilation, groups, precision)


def conv1d_weight(
    x: ArrayLike,
    weight_size: Sequence[int],
    grad_output: ArrayLike,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    precision: str = "float32",
) -> Array:
    """Gradient of :func:`starconv.conv1d` with respect to its kernels; see :func:`conv2d_weight`."""
    return _weight(1, x, weight_size, grad_output, stride, padding, dilation, groups, precision)


def conv2d_input(
    input_size: Sequence[int],
    w: ArrayLike,
    grad_output: ArrayLike,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    precision: str = "float32",
) -> Array:
    """Gradient of :func:`starconv.conv2d` with respect to its input: A^T vec(grad_output) for vec(O) = A vec(X).

    Args:
        input_size: shape of the input, (N, C, H, W). Not derivable from the output's where a stride left elements over.
        w: kernels (K, C / groups, kh, kw).
        grad_output: gradient with respect to the output, (N, K, H', W').
        stride, padding, dilation, groups: those of the convolution.
        precision: "float32", or "strict" for the plain sum only, as in :func:`starconv.conv2d`.

    Returns:
        The gradient (N, C, H, W).

    Raises:
        ArgumentValueError, ArgumentTypeError: naming the argument, its value, what was expected and the shapes.

    >>> import numpy as np
    >>> conv2d_input((1, 1, 3, 3), np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)))[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    return _input(2, input_size, w, grad_output, stride, padding, dilation, groups, precision)


def conv2d_weight(
    x: ArrayLike,
    weight_size: Sequence[int],
    grad_output: ArrayLike,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    precision: str = "float32",
) -> Array:
    """Gradient of :func:`starconv.conv2d` with respect to its kernels.

    dO[i, j] / dK[p, q] = X[i * stride + p * dilation, j * stride + q * dilation], so the gradient is the correlation of
    the input with grad_output, summed over pictures and positions.

    Args:
        x: input (N, C, H, W).
        weight_size: shape of the kernels, (K, C / groups, kh, kw).
        grad_output: gradient with respect to the output, (N, K, H', W').
        stride, padding, dilation, groups: those of the convolution.
        precision: "float32", or "strict" for the plain sum only, as in :func:`starconv.conv2d`.

    Returns:
        The gradient (K, C / groups, kh, kw).

    Raises:
        ArgumentValueError, ArgumentTypeError: naming the argument, its value, what was expected and the shapes.

    >>> import numpy as np
    >>> conv2d_weight(np.arange(9.0).reshape(1, 1, 3, 3), (1, 1, 2, 2), np.ones((1, 1, 2, 2)))[0, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """
    return _weight(2, x, weight_size, grad_output, stride, padding, dilation, groups, precision)


def conv3d_input(
    input_size: Sequence[int],
    w: ArrayLike,
    grad_output: ArrayLike,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    precision: str = "float32",
) -> Array:
    """Gradient of :func:`starconv.conv3d` with respect to its input; see :func:`conv2d_input`."""
    return _input(3, input_size, w, grad_output, stride, padding, dilation, groups, precision)


def conv3d_weight(
    x: ArrayLike,
    weight_size: Sequence[int],
    grad_output: ArrayLike,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    precision: str = "float32",
) -> Array:
    """Gradient of :func:`starconv.conv3d` with respect to its kernels; see :func:`conv2d_weight`."""
    return _weight(3, x, weight_size, grad_output, stride, padding, dilation, groups, precision)


def conv_bias(grad_output: ArrayLike) -> Array:
    """Gradient of a convolution with respect to its bias: the output's gradient, summed over pictures and positions.

    The sums are formed in float64 (integers: int64), so that they do not depend on how the array lies in memory.

    Args:
        grad_output: gradient with respect to the output, (N, K, ...) with 1 to 3 spatial axes.

    Returns:
        The gradient (K,).

    Raises:
        ArgumentValueError, ArgumentTypeError: not such an array.

    >>> import numpy as np
    >>> conv_bias(np.arange(8.0).reshape(2, 2, 2))
    array([10., 18.])
    """
    gradient = as_array("grad_output", grad_output)
    if gradient.ndim not in (3, 4, 5):
        raise ArgumentValueError("grad_output", gradient, "(N, K, ...) with 1 to 3 spatial axes")
    dtype, result_dtype = sum_dtype(gradient)
    wide = dtype if np.dtype(dtype).kind == "i" else "float64"
    # First the positions, one after the other in memory, then the pictures.
    total = gradient.sum(axis=tuple(range(2, gradient.ndim)), dtype=wide).sum(axis=0)
    return np.asarray(total).astype(result_dtype, copy=False)


def _input(
    spatial: int,
    input_size: Sequence[int],
    w: ArrayLike,
    grad_output: ArrayLike,
    stride: object,
    padding: object,
    dilation: object,
    groups: int,
    precision: str,
) -> Array:

    def described() -> Call:
        kernels = as_array("w", w)
        shapes = _shape("input_size", input_size, spatial), kernels.shape
        return _described("input_grad", *shapes, kernels, grad_output, (stride, padding, dilation, groups), precision)

    arguments = "input_grad", spatial, input_size, stride, padding, dilation, groups, precision
    return run(recalled(grad_output, w, None, arguments, described), grad_output, w, None, None)


def _weight(
    spatial: int,
    x: ArrayLike,
    weight_size: Sequence[int],
    grad_output: ArrayLike,
    stride: object,
    padding: object,
    dilation: object,
    groups: int,
    precision: str,
) -> Array:

    def described() -> Call:
        picture = as_array("x", x)
        if picture.ndim != spatial + 2:
            raise ArgumentValueError("x", picture, f"{spatial + 2} axes (N, C, ...)")
        shapes = picture.shape, _shape("weight_size", weight_size, spatial)
        check_kernels(*shapes, groups, argument="weight_size")
        return _described("weight_grad", *shapes, picture, grad_output, (stride, padding, dilation, groups), precision)

    arguments = "weight_grad", spatial, weight_size, stride, padding, dilation, groups, precision
    return run(recalled(x, grad_output, None, arguments, described), x, grad_output, None, None)


def _shape(argument: str, value: Sequence[int], spatial: int) -> tuple[int, ...]:
    expected = f"the whole shape, {spatial + 2} integers"
    try:
        sizes = tuple(value)
        shape = tuple(int(size.__index__()) for size in sizes)
    except (TypeError, AttributeError):
        raise ArgumentTypeError(argument, value, expected) from None
    if any(isinstance(size, (bool, np.bool_)) for size in sizes):
        raise ArgumentTypeError(argument, value, expected)
    if len(shape) != spatial + 2 or min(shape) < 0:
        raise ArgumentValueError(argument, value, expected)
    return shape


def _described(
    operation: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    operand: Array,
    grad_output: ArrayLike,
    arguments: tuple[object, object, object, int],
    precision: str,
) -> Call:
    gradient = as_array("grad_output", grad_output)
    dtype, result_dtype = sum_dtype(operand, gradient)
    last = channels_last_in_memory(gradient)
    if operation == "weight_grad":  # which reads both: where only one has its channels last, the other is not turned
        last = last and channels_last_in_memory(operand)
    problem = Problem.of_shapes(
        x_shape, w_shape, *arguments, operation=operation, dtype=dtype, channels_last=last, precision=precision
    )
    if gradient.shape != problem.output_shape:
        raise ArgumentValueError(
            "grad_output",
            gradient,
            f"the output's shape {problem.output_shape}",
            input_shape=x_shape,
            kernel_shape=w_shape,
        )
    first, second = (operand, gradient) if operation == "weight_grad" else (gradient, operand)
    return planned(problem, result_dtype, first, second)
