"""The convolution as what it is, a linear map: its sparse matrix A with vec(O) = A vec(X)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .arguments import as_array, border_of, sum_dtype
from .errors import ArgumentValueError
from .geometry import Padding, PerAxis, border_sources, convolution_axes, per_axis
from .problem import Problem, as_groups, check_kernels

if TYPE_CHECKING:
    import scipy.sparse

__all__ = ["conv_matrix"]


def conv_matrix(
    w: ArrayLike,
    input_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> "scipy.sparse.csr_array":
    """The matrix A of a convolution: ``conv_matrix(w, x.shape[1:]) @ x.ravel()`` is ``conv(x, w).ravel()``.

    Row (s, i, j) holds kernel s where its window at (i, j) lies over the input; with one channel and stride 1, A is
    doubly block-Toeplitz. A.T @ y.ravel() is the transposed convolution of y, which is also the input gradient.

    Args:
        w: kernels (K, C / groups, ...) with 1 to 3 spatial axes, or a bare kernel (kh, kw) for one channel.
        input_size: of one picture, (H, W) or (C, H, W); an int means a square (of as many axes as the kernel has).
        stride, padding, dilation, groups: as in :func:`starconv.conv2d`.
        padding_mode: as in :func:`starconv.conv2d`; in all modes but "zeros" padding repeats input elements, so that
            one entry may be the sum of several kernel entries.

    Returns:
        scipy.sparse.csr_array of shape (K H' W', C H W). Its dtype is the one in which a convolution with `w` sums:
        int64 for integers and bools, float32 for float16, else w's. Kernel entries that are zero are stored too.

    Raises:
        ArgumentValueError, ArgumentTypeError: naming the argument, its value, what was expected and the shapes.

    >>> conv_matrix([[1, 2]], (1, 4)).toarray()
    array([[1, 2, 0, 0],
           [0, 1, 2, 0],
           [0, 0, 1, 2]])
    """
    import scipy.sparse  # here, because it takes three times as long to import as all of starconv

    kernels = as_array("w", w)
    # Not w's own dtype: an entry may be a sum, and scipy.sparse has no float16.
    kernels = kernels.astype(sum_dtype(kernels)[0], copy=False)
    channels_given = kernels.ndim - 2 if kernels.ndim >= 3 else None
    spatial = kernels.ndim - 2 if kernels.ndim >= 3 else kernels.ndim
    if not 1 <= spatial <= 3:
        raise ArgumentValueError(
            "w", kernels, "(K, C / groups, ...) with 1 to 3 spatial axes, or a bare 1-D or 2-D kernel"
        )
    if channels_given is None:
        kernels = kernels[np.newaxis, np.newaxis]
    groups = as_groups(groups)
    if isinstance(input_size, (Sequence, np.ndarray)) and len(input_size) == spatial + 1:
        sizes = per_axis("input_size", input_size, spatial + 1, minimum=0)
    else:
        sizes = (kernels.shape[1] * max(groups, 1), *per_axis("input_size", input_size, spatial, minimum=0))
    check_kernels((1, *sizes), kernels.shape, groups)
    axes = convolution_axes(sizes[1:], kernels.shape[2:], stride, padding, dilation)
    problem = Problem("conv", 1, sizes[0], len(kernels), axes, groups, border=border_of(padding_mode))

    # All index arrays broadcast over (K, C/g, output and tap of the first axis, output and tap of the second, ...).
    total = 2 + 2 * spatial

    def along(position: int, values: np.ndarray) -> np.ndarray:
        return values.reshape(*[1] * position, -1, *[1] * (total - position - 1))

    kernel = along(0, np.arange(problem.out_channels))
    channel = along(1, np.arange(kernels.shape[1]))
    rows = kernel
    columns = kernel // (problem.out_channels // groups) * kernels.shape[1] + channel
    inside = np.ones((1,) * total, bool)
    taps = []
    for number, axis in enumerate(axes):
        output = along(2 + 2 * number, np.arange(axis.output))
        tap = along(3 + 2 * number, np.arange(axis.kernel))
        sources = border_sources(axis.input, axis.before, axis.after, problem.border)
        source = sources[output * axis.stride + tap * axis.dilation]
        rows = rows * axis.output + output
        columns = columns * axis.input + source
        inside = inside & (source >= 0)
        taps.append(tap)
    shape = np.broadcast_shapes(rows.shape, columns.shape, *(tap.shape for tap in taps))
    keep = np.broadcast_to(inside, shape)
    values = np.broadcast_to(kernels[(kernel, channel, *taps)], shape)[keep]
    coordinates = (np.broadcast_to(rows, shape)[keep], np.broadcast_to(columns, shape)[keep])
    size = (int(np.prod(problem.output_shape[1:])), int(np.prod(problem.input_shape[1:])))
    return scipy.sparse.coo_array((values, coordinates), shape=size).tocsr()
