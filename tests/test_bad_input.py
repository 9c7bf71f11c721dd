"""Wrong calls over the whole public interface, each with the message its caller sees, word for word.

A message names the argument, its value, what was expected, and the shapes that do not fit together. Wrong files are in
the tests of the command line.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import starconv as sc
from starconv.geometry import Axis

X = np.ones((1, 3, 8, 8), "float32")
W = np.ones((4, 3, 3, 3), "float32")
G = np.ones((1, 4, 6, 6), "float32")
KERNEL = np.ones((3, 3))
READ_ONLY = np.ones((1, 4, 6, 6), "float32")
READ_ONLY.flags.writeable = False

NUMBERS = "an array of float16, float32, float64, bool or integers up to int64"
FILTERED = "an array of bool, integers, float16 to float64 or complex numbers"
PADDING = "an integer >= 0, 2 of them or 2 (before, after) pairs, one per axis, or 'valid', 'same' or 'full'"
SHAPES = "(input shape (1, 3, 8, 8), kernel shape (4, 3, 3, 3))"

V, T = sc.ArgumentValueError, sc.ArgumentTypeError

WRONG_CALLS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # Arrays: kind, dtype, number of axes, and whether they fit together.
    (lambda: sc.conv2d("photo.png", W), T, f"x = 'photo.png': expected {NUMBERS}"),
    (lambda: sc.conv2d(None, W), T, f"x = None: expected {NUMBERS}"),
    (lambda: sc.conv2d(X + 1j, W), T, f"x = array of shape (1, 3, 8, 8) and dtype complex64: expected {NUMBERS}"),
    (
        lambda: sc.conv2d(X.astype("longdouble"), W),
        T,
        f"x = array of shape (1, 3, 8, 8) and dtype {np.dtype('longdouble')}: expected {NUMBERS}",
    ),
    (
        lambda: sc.conv2d(X.astype("uint64"), W),
        T,
        f"x = array of shape (1, 3, 8, 8) and dtype uint64: expected {NUMBERS}",
    ),
    (
        lambda: sc.conv2d([[1, 2], [3]], W),
        V,
        "x = [[1, 2], [3]]: expected an array of numbers (setting an array element with a sequence...",
    ),
    (
        lambda: sc.conv2d(X[0, 0], W),
        V,
        "x = array of shape (8, 8) and dtype float32: expected 4 axes (N, C, H, W), or 3 without N",
    ),
    (
        lambda: sc.conv3d(X[0, 0], W, layout=None),
        V,
        "x = array of shape (8, 8) and dtype float32: expected 5 axes (N, C, D, H, W), or 4 without N",
    ),
    (
        lambda: sc.conv1d(X[0, 0, 0], W, layout="NWC"),
        V,
        "x = array of shape (8,) and dtype float32: expected 3 axes (N, W, C), or 2 without N",
    ),
    (
        lambda: sc.conv2d(X, W[0, 0]),
        V,
        "w = (3, 3): expected 4 axes (K, C / groups, ...), as many as x "
        "(input shape (1, 3, 8, 8), kernel shape (3, 3))",
    ),
    (
        lambda: sc.conv2d(X, 2.0),
        V,
        "w = (): expected 4 axes (K, C / groups, ...), as many as x (input shape (1, 3, 8, 8), kernel shape ())",
    ),
    (
        lambda: sc.conv2d(X, W[:, :2]),
        V,
        "w = (4, 2, 3, 3): expected C / groups = 3 input channels / 1 groups = 3, at least 1 "
        "(input shape (1, 3, 8, 8), kernel shape (4, 2, 3, 3))",
    ),
    (
        lambda: sc.conv2d(X, W[:0]),
        V,
        "groups = 1: expected a divisor of 3 input channels and of 0 output channels, both at least 1 "
        "(input shape (1, 3, 8, 8), kernel shape (0, 3, 3, 3))",
    ),
    (
        lambda: sc.conv2d(X[:, :0], W[:, :0]),
        V,
        "w = (4, 0, 3, 3): expected C / groups = 0 input channels / 1 groups = 0, at least 1 "
        "(input shape (1, 0, 8, 8), kernel shape (4, 0, 3, 3))",
    ),
    (
        lambda: sc.conv2d(X, W[:, :, :0]),
        V,
        "kernel_size = (0, 3): expected an integer >= 1 or 2 of them, one per axis",
    ),
    (
        lambda: sc.conv2d(X, W, np.ones(3)),
        V,
        "b = array of shape (3,) and dtype float64: expected shape (4,), one value per output channel",
    ),
    (
        lambda: sc.conv2d(X, W, 1.0),
        V,
        "b = array of shape () and dtype float64: expected shape (4,), one value per output channel",
    ),
    # Geometry.
    (
        lambda: sc.conv2d(X, np.ones((1, 3, 9, 1))),
        V,
        "kernel_size = (9, 1): expected at most the padded input: dilation * (kernel - 1) + 1 = 9 does not fit into "
        "8 + 0 + 0 = 8 (input size (8, 8), padding ((0, 0), (0, 0)), dilation (1, 1))",
    ),
    (lambda: sc.conv2d(X, W, stride=0), V, "stride = 0: expected an integer >= 1 or 2 of them, one per axis"),
    (
        lambda: sc.conv2d(X, W, stride=(1, -1)),
        V,
        "stride = (1, -1): expected an integer >= 1 or 2 of them, one per axis",
    ),
    (lambda: sc.conv2d(X, W, stride=1.5), T, "stride = 1.5: expected an integer >= 1 or 2 of them, one per axis"),
    (lambda: sc.conv2d(X, W, stride="2"), T, "stride = '2': expected an integer >= 1 or 2 of them, one per axis"),
    (lambda: sc.conv2d(X, W, stride=True), T, "stride = True: expected an integer >= 1 or 2 of them, one per axis"),
    (lambda: sc.conv2d(X, W, stride=None), T, "stride = None: expected an integer >= 1 or 2 of them, one per axis"),
    (
        lambda: sc.conv2d(X, W, dilation=(1, 1, 1)),
        V,
        "dilation = (1, 1, 1): expected an integer >= 1 or 2 of them, one per axis",
    ),
    (lambda: sc.conv2d(X, W, dilation=()), V, "dilation = (): expected an integer >= 1 or 2 of them, one per axis"),
    (lambda: sc.conv2d(X, W, padding=-1), V, f"padding = -1: expected {PADDING}"),
    (lambda: sc.conv2d(X, W, padding="SAME"), V, f"padding = 'SAME': expected {PADDING}"),
    (lambda: sc.conv2d(X, W, padding=1.0), T, f"padding = 1.0: expected {PADDING}"),
    (lambda: sc.conv2d(X, W, padding=((1, 1), (1, -1))), V, f"padding = ((1, 1), (1, -1)): expected {PADDING}"),
    (
        lambda: sc.conv2d(X, W, padding=((1, 1, 1), (1, 1, 1))),
        T,
        f"padding = ((1, 1, 1), (1, 1, 1)): expected {PADDING}",
    ),
    (lambda: sc.conv2d(X, W, padding=[(1, 1)]), V, f"padding = [(1, 1)]: expected {PADDING}"),
    (lambda: sc.conv2d(X, W, padding=("same", "same")), T, f"padding = ('same', 'same'): expected {PADDING}"),
    (
        lambda: sc.conv2d(X[:, :, :0], W, padding=1, padding_mode="reflect"),
        V,
        "kernel_size = (3, 3): expected at most the padded input: dilation * (kernel - 1) + 1 = 3 does not fit into "
        "0 + 1 + 1 = 2 (input size (0, 8), padding ((1, 1), (1, 1)), dilation (1, 1))",
    ),
    (
        lambda: sc.conv2d(X[:, :, :0], W, padding=2, padding_mode="reflect"),
        V,
        "padding_mode = 'reflect': expected at least one element to repeat (axis length 0)",
    ),
    # The other arguments.
    (
        lambda: sc.conv2d(X, W, groups=0),
        V,
        f"groups = 0: expected a divisor of 3 input channels and of 4 output channels, both at least 1 {SHAPES}",
    ),
    (
        lambda: sc.conv2d(X, W, groups=2),
        V,
        f"groups = 2: expected a divisor of 3 input channels and of 4 output channels, both at least 1 {SHAPES}",
    ),
    (lambda: sc.conv2d(X, W, groups=1.0), T, "groups = 1.0: expected an integer >= 1"),
    (lambda: sc.conv2d(X, W, groups=None), T, "groups = None: expected an integer >= 1"),
    (
        lambda: sc.conv2d(X, W, padding_mode="mirror"),
        V,
        "padding_mode = 'mirror': expected 'zeros', 'reflect', 'replicate', 'circular' or 'symmetric'",
    ),
    (
        lambda: sc.conv2d(X, W, padding_mode=["zeros"]),
        T,
        "padding_mode = ['zeros']: expected 'zeros', 'reflect', 'replicate', 'circular' or 'symmetric'",
    ),
    (lambda: sc.conv2d(X, W, layout="CHWN"), V, "layout = 'CHWN': expected 'NCHW' or 'NHWC'"),
    (lambda: sc.conv3d(X[None], W[None], layout="NHWD"), V, "layout = 'NHWD': expected 'NCDHW' or 'NDHWC'"),
    (lambda: sc.conv2d(X, W, layout=["NCHW"]), T, "layout = ['NCHW']: expected 'NCHW' or 'NHWC'"),
    (lambda: sc.conv2d(X, W, precision="bfloat16"), V, "precision = 'bfloat16': expected 'float32' or 'strict'"),
    (
        lambda: sc.conv2d(X, W, out=np.empty((1, 4, 8, 8), "float32")),
        V,
        "out = array of shape (1, 4, 8, 8) and dtype float32: expected a writable array of shape (1, 4, 6, 6) and "
        "dtype float32",
    ),
    (
        lambda: sc.conv2d(X, W, out=np.empty((1, 4, 6, 6))),
        V,
        "out = array of shape (1, 4, 6, 6) and dtype float64: expected a writable array of shape (1, 4, 6, 6) and "
        "dtype float32",
    ),
    (
        lambda: sc.conv2d(X, W, out=READ_ONLY),
        V,
        "out = array of shape (1, 4, 6, 6) and dtype float32: expected a writable array of shape (1, 4, 6, 6) and "
        "dtype float32; this one is read-only",
    ),
    (
        lambda: sc.conv2d(X, W, out=[0]),
        T,
        "out = [0]: expected a writable array of shape (1, 4, 6, 6) and dtype float32",
    ),
    # The transposed convolution, whose kernels are (C, K / groups, ...).
    (
        lambda: sc.conv_transpose2d(X, W),
        V,
        "w = array of shape (4, 3, 3, 3) and dtype float32: expected shape (C, K / groups, ...) with C = 3 and "
        "2 kernel sizes (input shape (1, 3, 8, 8))",
    ),
    (
        lambda: sc.conv_transpose2d(G, W, groups=3),
        V,
        "groups = 3: expected a divisor of 4 input channels, both at least 1 "
        "(input shape (1, 4, 6, 6), kernel shape (4, 3, 3, 3))",
    ),
    (lambda: sc.conv_transpose2d(G, W, groups=None), T, "groups = None: expected an integer >= 1"),
    (
        lambda: sc.conv_transpose2d(G, W[:, :0]),
        V,
        "w = array of shape (4, 0, 3, 3) and dtype float32: expected at least one output channel, w.shape[1] >= 1 "
        "(input shape (1, 4, 6, 6), kernel shape (4, 0, 3, 3))",
    ),
    (
        lambda: sc.conv_transpose2d(G, W, np.ones(4)),
        V,
        "b = array of shape (4,) and dtype float64: expected shape (3,), one value per output channel",
    ),
    (
        lambda: sc.conv_transpose2d(G, W, stride=2, output_padding=2),
        V,
        "output_padding = (2, 2): expected less than the stride or the dilation (stride (2, 2), dilation (1, 1))",
    ),
    (
        lambda: sc.conv_transpose2d(G, W, output_padding=-1),
        V,
        "output_padding = -1: expected an integer >= 0 or 2 of them, one per axis",
    ),
    (
        lambda: sc.conv_transpose2d(G, W, padding="same"),
        V,
        "padding = 'same': expected an integer, one or a (before, after) pair per axis, 'valid' or 'full'",
    ),
    (
        lambda: sc.conv_transpose2d(G, W, padding=4),
        V,
        "padding = ((4, 4), (4, 4)): expected an output of at least one element: "
        "(6 - 1) * 1 - 4 - 4 + 1 * (3 - 1) + 0 + 1 = 0 (input size (6, 6), kernel size (3, 3))",
    ),
    (
        lambda: sc.conv_transpose2d(G[:, :, :0], W),
        V,
        "input_size = (0, 6): expected at least one element along every axis",
    ),
    (lambda: sc.output_size(np.array(5), 3), T, "input_size = 5: expected one integer >= 0 per axis"),
    (
        lambda: [sc.conv2d(X, W, padding=padding) for padding in ((1, 1), "(1, 1)")],
        V,
        "padding = '(1, 1)': expected an integer >= 0, 2 of them or 2 (before, after) pairs, one per axis, "
        "or 'valid', 'same' or 'full'",
    ),
    # Gradients.
    (
        lambda: sc.grad.conv2d_input((1, 3, 8), W, G),
        V,
        "input_size = (1, 3, 8): expected the whole shape, 4 integers",
    ),
    (lambda: sc.grad.conv2d_input(8, W, G), T, "input_size = 8: expected the whole shape, 4 integers"),
    (lambda: sc.grad.conv2d_input("8888", W, G), T, "input_size = '8888': expected the whole shape, 4 integers"),
    (
        lambda: sc.grad.conv2d_input(X.shape, W, G[:, :, 1:]),
        V,
        "grad_output = array of shape (1, 4, 5, 6) and dtype float32: expected the output's shape (1, 4, 6, 6) "
        "(input shape (1, 3, 8, 8), kernel shape (4, 3, 3, 3))",
    ),
    (
        lambda: sc.grad.conv2d_weight(X, (4, 2, 3, 3), G),
        V,
        "weight_size = (4, 2, 3, 3): expected C / groups = 3 input channels / 1 groups = 3, at least 1 "
        "(input shape (1, 3, 8, 8), kernel shape (4, 2, 3, 3))",
    ),
    (
        lambda: sc.grad.conv2d_weight(X, (4, 3, 3.0, 3), G),
        T,
        "weight_size = (4, 3, 3.0, 3): expected the whole shape, 4 integers",
    ),
    (
        lambda: sc.grad.conv2d_weight(X[0], W.shape, G),
        V,
        "x = array of shape (3, 8, 8) and dtype float32: expected 4 axes (N, C, ...)",
    ),
    # The matrix.
    (
        lambda: sc.conv_matrix(3.0, 5),
        V,
        "w = array of shape () and dtype float64: expected (K, C / groups, ...) with 1 to 3 spatial axes, or a bare "
        "1-D or 2-D kernel",
    ),
    (
        lambda: sc.conv_matrix(KERNEL, (1, 1, 8, 8)),
        V,
        "input_size = (1, 1, 8, 8): expected an integer >= 0 or 2 of them, one per axis",
    ),
    (
        lambda: sc.conv_matrix(KERNEL, None),
        T,
        "input_size = None: expected an integer >= 0 or 2 of them, one per axis",
    ),
    (
        lambda: sc.conv_matrix(W, (2, 8, 8)),
        V,
        "w = (4, 3, 3, 3): expected C / groups = 2 input channels / 1 groups = 2, at least 1 "
        "(input shape (1, 2, 8, 8), kernel shape (4, 3, 3, 3))",
    ),
    # Filters.
    (
        lambda: sc.correlate(1j * np.ones((2, 2)), [[1]], output="float32"),
        V,
        "output = 'float32': expected None, a numeric dtype or a writable array of shape (2, 2), complex",
    ),
    (
        lambda: sc.correlate([1.0], [1], mode="constant", cval=10**30 * 10**300),
        V,
        f"cval = 1{'0' * 78}…: expected a number that a float64 can hold",
    ),
    (lambda: sc.correlate(["a"], [1]), T, f"input = ['a']: expected {FILTERED}"),
    (lambda: sc.correlate([1, 2], [None]), T, f"weights = [None]: expected {FILTERED}"),
    (
        lambda: sc.correlate(X, KERNEL),
        V,
        "weights = array of shape (3, 3) and dtype float64: expected 4 axes of at least one element, one per filtered "
        "axis of the input, and one before them for several kernels (input shape (1, 3, 8, 8))",
    ),
    (
        lambda: sc.correlate([1, 2], []),
        V,
        "weights = array of shape (0,) and dtype float64: expected 1 axes of at least one element, one per filtered "
        "axis of the input, and one before them for several kernels (input shape (2,))",
    ),
    (
        lambda: sc.convolve(KERNEL, KERNEL, mode="zeros"),
        V,
        "mode = 'zeros': expected 'reflect', 'grid-mirror', 'mirror', 'nearest', 'constant', 'grid-constant', "
        "'wrap' or 'grid-wrap'",
    ),
    (
        lambda: sc.convolve(KERNEL, KERNEL, mode=["wrap", "wrap"]),
        T,
        "mode = ['wrap', 'wrap']: expected 'reflect', 'grid-mirror', 'mirror', 'nearest', 'constant', 'grid-constant', "
        "'wrap' or 'grid-wrap'",
    ),
    (lambda: sc.convolve(KERNEL, KERNEL, cval="0"), T, "cval = '0': expected a real number for a real input"),
    (lambda: sc.convolve(KERNEL, KERNEL, cval=1j), V, "cval = 1j: expected a real number for a real input"),
    (
        lambda: sc.convolve(KERNEL, KERNEL, origin=2),
        V,
        "origin = 2: expected an integer or 2 of them, each from -(size // 2) to (size - 1) // 2 (kernel shape (3, 3))",
    ),
    (
        lambda: sc.convolve(KERNEL, KERNEL, origin=(0, 0, 0)),
        V,
        "origin = (0, 0, 0): expected an integer or 2 of them, each from -(size // 2) to (size - 1) // 2 "
        "(kernel shape (3, 3))",
    ),
    (
        lambda: sc.convolve(KERNEL, KERNEL, origin=0.5),
        T,
        "origin = 0.5: expected an integer or 2 of them, each from -(size // 2) to (size - 1) // 2",
    ),
    (lambda: sc.correlate(X, KERNEL, axes=(2, 4)), V, "axes = (2, 4): expected distinct axes of an input with 4"),
    (lambda: sc.correlate(X, KERNEL, axes=(2, -2)), V, "axes = (2, -2): expected distinct axes of an input with 4"),
    (lambda: sc.correlate(X, KERNEL, axes="HW"), T, "axes = 'HW': expected distinct axes of an input with 4"),
    (
        lambda: sc.correlate(KERNEL, KERNEL, output=np.empty((3, 4))),
        V,
        "output = array of shape (3, 4) and dtype float64: expected None, a numeric dtype or a writable array of "
        "shape (3, 3)",
    ),
    (
        lambda: sc.correlate(KERNEL, KERNEL, output="nothing"),
        T,
        "output = 'nothing': expected None, a numeric dtype or a writable array of shape (3, 3)",
    ),
    (
        lambda: sc.correlate(KERNEL + 1j, KERNEL, output="f4"),
        V,
        "output = 'f4': expected None, a numeric dtype or a writable array of shape (3, 3), complex",
    ),
    # Sizes and plans.
    (
        lambda: sc.output_size(5, 7),
        V,
        "kernel_size = (7,): expected at most the padded input: dilation * (kernel - 1) + 1 = 7 does not fit into "
        "5 + 0 + 0 = 5 (input size (5,), padding ((0, 0),), dilation (1,))",
    ),
    (lambda: sc.output_size("224", 7), T, "input_size = '224': expected one integer >= 0 per axis"),
    (lambda: sc.output_size(None, 7), T, "input_size = None: expected one integer >= 0 per axis"),
    (lambda: sc.output_size(2.5, 1), T, "input_size = 2.5: expected one integer >= 0 per axis"),
    (lambda: sc.output_size((), 1), V, "input_size = (): expected one integer >= 0 per axis, for at least one axis"),
    (lambda: sc.output_size((5, -1), 1), V, "input_size = (5, -1): expected one integer >= 0 per axis"),
    (
        lambda: sc.output_size((5, 5), (3, 3, 3)),
        V,
        "kernel_size = (3, 3, 3): expected an integer >= 1 or 2 of them, one per axis",
    ),
    (lambda: sc.output_size(5, 3, output_padding=1), V, "output_padding = 1: expected 0 unless transposed=True"),
    (
        lambda: sc.plan("conv2d x=1x1x5x5 w=1x1x3x3", algorithm="magic"),
        V,
        "algorithm = 'magic': expected ...",
    ),
    (
        lambda: sc.plan("conv2d x=1x3x8x8 w=4x3x3x3")(X, W[:2]),
        V,
        "second operand = array of shape (2, 3, 3, 3) and dtype float32: expected shape (4, 3, 3, 3)",
    ),
    (
        lambda: sc.plan("conv2d x=1x3x8x8 w=4x3x3x3")(X.tolist(), W),
        T,
        "expected a NumPy array of shape (1, 3, 8, 8)",
    ),
    (
        lambda: sc.plan("conv2d x=1x3x8x8 w=4x3x3x3 bias")(X, W),
        V,
        "bias = None: expected an array",
    ),
    (
        lambda: sc.Problem("conv", 1, 1, 1, (Axis(3, 5),)),
        V,
        "expected at least one output element along every axis",
    ),
    (
        lambda: sc.Problem("conv", 1, 1, 1, (Axis(9, 3, before=-2, after=2),)),
        V,
        "expected 0 or more elements of padding before the first input",
    ),
    (lambda: sc.Problem("conv", 1, 1, 1, (Axis(9, 3, stride=0),)), V, "expected sizes and steps of at least 1"),
    (lambda: sc.Problem("conv", 1, 1, 1, (Axis(9, 0),)), V, "expected sizes and steps of at least 1"),
    (lambda: sc.Problem("conv", 1, 1, 1, ()), V, "axes = (): expected 1 to 3 spatial axes"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG_CALLS, ids=[message[:60] for _, _, message in WRONG_CALLS])
def test_message(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    found = str(caught.value)
    if message.endswith("..."):  # NumPy's own words, or the names of the algorithms, follow
        assert found.startswith(message[:-3])
    elif message.startswith("expected "):  # the repr of a long value precedes
        assert found.endswith(message)
    else:
        assert found == message
    assert isinstance(caught.value, sc.StarconvError)
    assert isinstance(caught.value, ValueError if kind is V else TypeError), "as NumPy and PyTorch users expect"
    assert caught.value.__cause__ is None, "one error, not two"


HUGE = 10**30
PICTURES, KERNELS = np.ones((1, 2, 5, 5), "float32"), np.ones((2, 2, 3, 3), "float32")


@pytest.mark.parametrize("argument", ["stride", "padding", "dilation", "groups"])
@pytest.mark.parametrize("value", [HUGE, (1, HUGE), 2**31])
def test_huge_integers(argument: str, value: Any) -> None:
    """No overflow of NumPy's or of the kernels' 64 bits."""
    if argument == "groups" and isinstance(value, tuple):
        return
    options = {argument: value}
    calls: list[Callable[[], Any]] = [
        lambda: sc.conv2d(PICTURES, KERNELS, **options),
        lambda: sc.conv_transpose2d(PICTURES, KERNELS, **options),
        lambda: sc.grad.conv2d_input(PICTURES.shape, KERNELS, np.ones((1, 2, 3, 3)), **options),
        lambda: sc.grad.conv2d_weight(PICTURES, KERNELS.shape, np.ones((1, 2, 3, 3)), **options),
    ]
    if argument != "groups":
        calls.append(lambda: sc.output_size((5, 5), 3, **options))
    for call in calls:
        with pytest.raises(sc.ArgumentValueError, match=f"^{argument} = "):
            call()


def test_arrays_that_no_memory_can_hold() -> None:
    with pytest.raises(sc.ArgumentValueError, match=r"up to 2\*\*60 elements"):
        sc.conv2d(PICTURES, KERNELS, padding=2**31 - 1)
    with pytest.raises(sc.ArgumentValueError, match=r"^input_size = "):
        sc.output_size(HUGE, 3)


def test_sizes_are_no_truth_values() -> None:
    for shape in ((True, 2, 5, 5), (np.True_, 2, 5, 5)):
        with pytest.raises(sc.ArgumentTypeError, match=r"^input_size = "):
            sc.grad.conv2d_input(shape, KERNELS, np.ones((1, 2, 3, 3)))
    with pytest.raises(sc.ArgumentTypeError, match=r"^weight_size = "):
        sc.grad.conv2d_weight(PICTURES, (2, 2, True, 3), np.ones((1, 2, 5, 3)))


def test_receptive_field_takes_axes() -> None:
    assert sc.receptive_field([sc.Axis(9, 3), sc.Axis(7, 3, stride=2)]).size == 5
    wrong: list[Any] = [None, 3, [3], [(9, 3)], sc.Axis(9, 3), "ab"]
    for layers in wrong:
        with pytest.raises(sc.ArgumentTypeError, match=r"^layers = .* sequence of starconv\.Axis"):
            sc.receptive_field(layers)


def test_messages_stay_short() -> None:
    with pytest.raises(T) as caught:
        sc.conv2d(X, W, stride=[1] * 1000 + [0.5])
    assert len(str(caught.value)) < 200
