"""conv1d, conv2d, conv3d and their transposes: the public functions. What happens to a call is told in `calls`."""

from numpy.typing import ArrayLike

from .arguments import Array
from .calls import convolve, transpose
from .geometry import Padding, PerAxis

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


def conv1d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCW",
    precision: str = "float32",
    out: Array | None = None,
) -> Array:
    """1-D convolution (cross-correlation): :func:`conv2d` with one axis, x (N, C, W) and w (K, C / groups, k).

    >>> conv1d([[[1, 2, 3, 4]]], [[[1, -1]]])
    array([[[-1, -1, -1]]])
    """
    return convolve(1, x, w, b, stride, padding, dilation, groups, padding_mode, layout, precision, out)


def conv2d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
    precision: str = "float32",
    out: Array | None = None,
) -> Array:
    """2-D convolution as in deep learning (cross-correlation, the kernel is not flipped).

    O[n, s, i, j] = b[s] + sum_r sum_p sum_q X[n, r, i * stride + p * dilation, j * stride + q * dilation] K[s, r, p, q]
    with X padded and r over the channels of the kernel's group. Arguments and results are those of
    ``torch.nn.functional.conv2d``, with more kinds of padding.

    Args:
        x: input (N, C, H, W), or (C, H, W) for one picture. Any strides; read-only is fine.
        w: kernels (K, C / groups, kh, kw).
        b: bias (K,), added to every output channel.
        stride: step between windows, an int or (vertical, horizontal).
        padding: an int, one per axis, a (before, after) pair per axis, "valid", "same" or "full".
        dilation: distance between taps, an int or one per axis.
        groups: the channels and kernels fall into this many groups that do not see each other.
        padding_mode: "zeros", "reflect", "replicate" or "circular" (torch.nn's words), or "symmetric".
        layout: "NCHW", or "NHWC" for x (N, H, W, C) and a result (N, H', W', K); w is (K, C / groups, kh, kw) in both.
        precision: "float32" allows every algorithm within its declared error bound, "strict" only the plain sum. NaN
            and infinity in x reach the outputs that the definition gives them to, and with "float32" (Winograd's
            tiles) outputs up to 3 pixels further.
        out: array to write the result to, of its shape and dtype.

    Returns:
        (N, K, H', W') with H' = floor((H + 2p - d(k - 1) - 1) / s) + 1, without N if x had none. The dtype follows
        NumPy's promotion of x, w and b; integers and bools are summed and returned as int64 (exact, as ``numpy.sum``),
        float16 is summed in float32. A channels-last view (NHWC seen as NCHW) gives a channels-last view.

    Raises:
        ArgumentValueError, ArgumentTypeError: a ValueError or TypeError naming the argument, its value, what was
            expected and the shapes.

    >>> import numpy as np
    >>> x = np.arange(25).reshape(1, 1, 5, 5)
    >>> horizontal_edges = [[[[-1, -1, -1], [0, 0, 0], [1, 1, 1]]]]
    >>> conv2d(x, horizontal_edges, stride=2)
    array([[[[30, 30],
             [30, 30]]]])
    >>> conv2d(x, horizontal_edges, padding="same").shape
    (1, 1, 5, 5)
    """
    return convolve(2, x, w, b, stride, padding, dilation, groups, padding_mode, layout, precision, out)


def conv3d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCDHW",
    precision: str = "float32",
    out: Array | None = None,
) -> Array:
    """3-D convolution (cross-correlation): :func:`conv2d` with x (N, C, D, H, W) and w (K, C / groups, kd, kh, kw).

    >>> import numpy as np
    >>> conv3d(np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 3, 3, 3))).item()
    27.0
    """
    return convolve(3, x, w, b, stride, padding, dilation, groups, padding_mode, layout, precision, out)


def conv_transpose1d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    *,
    layout: str = "NCW",
    precision: str = "float32",
    out: Array | None = None,
) -> Array:
    """1-D transposed convolution: :func:`conv_transpose2d` with one axis, x (N, C, W) and w (C, K / groups, k).

    >>> conv_transpose1d([[[1, 2]]], [[[1, 10, 100]]])
    array([[[  1,  12, 120, 200]]])
    """
    return transpose(1, x, w, b, stride, padding, output_padding, groups, dilation, layout, precision, out)


def conv_transpose2d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    *,
    layout: str = "NCHW",
    precision: str = "float32",
    out: Array | None = None,
) -> Array:
    """2-D transposed convolution: multiplies by A^T where the convolution with the same arguments multiplies by A.

    It is the gradient of a convolution with respect to its input; every input element stamps its kernel, scaled, onto
    the output. Arguments, their order and their meaning are those of ``torch.nn.functional.conv_transpose2d``:
    `padding` is the padding of the convolution that this one transposes, so it is cut off the result.

    Args:
        x: input (N, C, H, W), or (C, H, W) for one picture.
        w: kernels (C, K / groups, kh, kw): those of the convolution that is transposed, from K channels to C.
        b: bias (K,).
        stride: distance between stamps.
        padding: an int, one per axis, a (before, after) pair per axis, "valid" or "full".
        output_padding: elements added at the end, less than the stride or the dilation.
        groups: as in :func:`conv2d`.
        dilation: distance between taps.
        layout, precision, out: as in :func:`conv2d`.

    Returns:
        (N, K, H', W') with H' = (H - 1)s - 2p + d(k - 1) + output_padding + 1; dtype as in :func:`conv2d`.

    Raises:
        ArgumentValueError, ArgumentTypeError: naming the argument, its value, what was expected and the shapes.

    >>> import numpy as np
    >>> conv_transpose2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), stride=2, output_padding=1)[0, 0]
    array([[1., 1., 1., 1., 0.],
           [1., 1., 1., 1., 0.],
           [1., 1., 1., 1., 0.],
           [1., 1., 1., 1., 0.],
           [0., 0., 0., 0., 0.]])
    """
    return transpose(2, x, w, b, stride, padding, output_padding, groups, dilation, layout, precision, out)


def conv_transpose3d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    *,
    layout: str = "NCDHW",
    precision: str = "float32",
    out: Array | None = None,
) -> Array:
    """3-D transposed convolution: :func:`conv_transpose2d` with three axes, w (C, K / groups, kd, kh, kw).

    >>> import numpy as np
    >>> conv_transpose3d(np.ones((1, 1, 2, 2, 2)), np.ones((1, 1, 3, 3, 3)), stride=2, padding=1).shape
    (1, 1, 3, 3, 3)
    """
    return transpose(3, x, w, b, stride, padding, output_padding, groups, dilation, layout, precision, out)
