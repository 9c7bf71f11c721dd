"""starconv's convolutions for JAX: under jit, grad, jvp and vmap, in float32, float64, and the halves.

The three operations of a convolution are one JAX primitive. It is bilinear, and its transposes are the other two
operations, so derivatives of every order and direction exist, forwards and backwards. Computing leaves XLA by
``jax.pure_callback``: arrays are on the CPU, and are not copied on the way in.

>>> import jax, jax.numpy as jnp
>>> from starconv.interop.jax import conv2d
>>> x, w = jnp.ones((1, 2, 4, 4)), jnp.ones((3, 2, 3, 3))
>>> jax.jit(conv2d)(x, w)[0, 0]
Array([[18., 18.],
       [18., 18.]], dtype=float32)
>>> jax.grad(lambda w: conv2d(x, w, padding=1).sum())(w)[0, 0]
Array([[ 9., 12.,  9.],
       [12., 16., 12.],
       [ 9., 12.,  9.]], dtype=float32)
"""

from typing import Any

import numpy as np

from ..arguments import Array, border_of, is_channels_last
from ..calls import transposed_problem
from ..data.files import MissingPackageError
from ..engine.planner import make_plan
from ..errors import ArgumentTypeError, ArgumentValueError
from ..geometry import Padding, PerAxis
from ..problem import Problem

try:
    import jax
    import jax.numpy as jnp
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir
except ImportError as error:
    raise MissingPackageError("starconv.interop.jax needs jax, which is not installed: pip install jax") from error

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


def conv1d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCW",
    precision: str = "float32",
) -> Any:
    """:func:`starconv.conv1d` for JAX; see :func:`conv2d`."""
    return _conv(1, x, w, b, stride, padding, dilation, groups, padding_mode, layout, precision)


def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
    precision: str = "float32",
) -> Any:
    """:func:`starconv.conv2d` for JAX arrays and tracers, with derivatives of every order.

    Args:
        x: input (N, C, H, W) or (C, H, W); with the layout "NHWC" (N, H, W, C) or (H, W, C).
        w: kernels (K, C / groups, kh, kw).
        b: bias (K,).
        stride, padding, dilation, groups, padding_mode, layout, precision: as for :func:`starconv.conv2d`; plain Python
            values, not traced.

    Returns:
        The convolution, of the dtype that JAX promotes the operands to. Halves are summed in float32.

    Raises:
        ArgumentTypeError: operands that are not floating-point.
        ArgumentValueError: shapes and arguments that do not fit.
    """
    return _conv(2, x, w, b, stride, padding, dilation, groups, padding_mode, layout, precision)


def conv3d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCDHW",
    precision: str = "float32",
) -> Any:
    """:func:`starconv.conv3d` for JAX; see :func:`conv2d`."""
    return _conv(3, x, w, b, stride, padding, dilation, groups, padding_mode, layout, precision)


def conv_transpose1d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    *,
    layout: str = "NCW",
    precision: str = "float32",
) -> Any:
    """:func:`starconv.conv_transpose1d` for JAX; see :func:`conv2d`."""
    return _transpose(1, x, w, b, stride, padding, output_padding, groups, dilation, layout, precision)


def conv_transpose2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    *,
    layout: str = "NCHW",
    precision: str = "float32",
) -> Any:
    """:func:`starconv.conv_transpose2d` for JAX, w (C, K / groups, kh, kw); see :func:`conv2d`."""
    return _transpose(2, x, w, b, stride, padding, output_padding, groups, dilation, layout, precision)


def conv_transpose3d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    *,
    layout: str = "NCDHW",
    precision: str = "float32",
) -> Any:
    """:func:`starconv.conv_transpose3d` for JAX; see :func:`conv2d`."""
    return _transpose(3, x, w, b, stride, padding, output_padding, groups, dilation, layout, precision)


def _conv(
    spatial: int,
    x: Any,
    w: Any,
    b: Any,
    stride: object,
    padding: object,
    dilation: object,
    groups: int,
    padding_mode: str,
    layout: str,
    precision: str,
) -> Any:
    x, w, b, dtype, last = _operands(spatial, x, w, b, layout)
    pictures = _batched(spatial, x)
    problem = Problem.of_shapes(
        _channels_first(pictures.shape, last),
        w.shape,
        stride,
        padding,
        dilation,
        groups,
        dtype=str(w.dtype),
        border=border_of(padding_mode),
        channels_last=last,
        precision=precision,
    )
    return _finished(problem, pictures, w, b, dtype, single=x.ndim == spatial + 1)


def _transpose(
    spatial: int,
    x: Any,
    w: Any,
    b: Any,
    stride: object,
    padding: object,
    output_padding: object,
    groups: int,
    dilation: object,
    layout: str,
    precision: str,
) -> Any:
    x, w, b, dtype, last = _operands(spatial, x, w, b, layout)
    pictures = _batched(spatial, x)
    problem = transposed_problem(
        _channels_first(pictures.shape, last),
        w.shape,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        dtype=str(w.dtype),
        channels_last=last,
        precision=precision,
    )
    return _finished(problem, pictures, w, b, dtype, single=x.ndim == spatial + 1)


def _operands(spatial: int, x: Any, w: Any, b: Any, layout: str) -> tuple[Any, Any, Any, Any, bool]:
    """The operands in the dtype of the sums, the dtype of the result, and whether channels are last."""
    last = is_channels_last(layout, spatial)
    given = {"x": x, "w": w} | ({} if b is None else {"b": b})
    arrays = {}
    for name, value in given.items():
        arrays[name] = array = jnp.asarray(value)
        if not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.itemsize < 2:
            raise ArgumentTypeError(name, array, "an array of float16, bfloat16, float32 or float64")
    if arrays["x"].ndim not in (spatial + 1, spatial + 2):
        raise ArgumentValueError("x", arrays["x"], f"{spatial + 2} axes, or {spatial + 1} without N")
    dtype = jnp.result_type(*arrays.values())
    wide = jnp.float32 if dtype.itemsize == 2 else dtype
    x, w, b = (None if name not in arrays else arrays[name].astype(wide) for name in "xwb")
    return x, w, b, dtype, last


def _batched(spatial: int, x: Any) -> Any:
    return x[None] if x.ndim == spatial + 1 else x


def _channels_first(shape: tuple[int, ...], last: bool) -> tuple[int, ...]:
    return (shape[0], shape[-1], *shape[1:-1]) if last else tuple(shape)


def _finished(problem: Problem, x: Any, w: Any, b: Any, dtype: Any, *, single: bool) -> Any:
    """The result with its bias, in the caller's dtype, with N if the caller has it."""
    result = _convolution.bind(x, w, problem=problem)
    if b is not None:
        channels = problem.result_shape[1]
        if b.shape != (channels,):
            raise ArgumentValueError("b", b, f"shape ({channels},), one value per output channel")
        result = result + (b if problem.channels_last else b.reshape(-1, *[1] * problem.spatial))
    result = result.astype(dtype)
    return result[0] if single else result


_convolution = Primitive("starconv")
"""The operation of its parameter `problem`, of two operands of its dtype; X and O as (N, ..., C) if channels_last."""

_GIVEN = {"conv": ("x", "w"), "input_grad": ("o", "w"), "weight_grad": ("x", "o")}
_SOUGHT = {"conv": "o", "input_grad": "x", "weight_grad": "w"}
_SEEKS = {sought: operation for operation, sought in _SOUGHT.items()}


def _result_shape(problem: Problem) -> tuple[int, ...]:
    shape = problem.result_shape
    if problem.channels_last and problem.operation != "weight_grad":
        return (shape[0], *shape[2:], shape[1])
    return shape


def _on_the_host(problem: Problem) -> Any:
    """What the callback does, in NumPy."""

    def compute(first: Any, second: Any) -> Array:
        operands = [np.asarray(first), np.asarray(second)]
        out = np.empty(_result_shape(problem), problem.dtype)
        views = dict(zip(_GIVEN[problem.operation], operands, strict=True)) | {_SOUGHT[problem.operation]: out}
        if problem.channels_last:
            views |= {name: np.moveaxis(views[name], -1, 1) for name in "xo" if name in views}
        first, second = (views[name] for name in _GIVEN[problem.operation])
        make_plan(problem)(first, second, out=views[_SOUGHT[problem.operation]])
        return out

    return compute


def _computed(first: Any, second: Any, *, problem: Problem) -> Any:
    result = jax.ShapeDtypeStruct(_result_shape(problem), np.dtype(problem.dtype))
    return jax.pure_callback(_on_the_host(problem), result, first, second)


def _abstract(first: Any, second: Any, *, problem: Problem) -> Any:
    return first.update(shape=_result_shape(problem), dtype=np.dtype(problem.dtype), weak_type=False)


def _pulled_back(sought: int) -> Any:
    """The transpose with respect to operand `sought`: the operation that seeks it, given the other and the result's."""

    def rule(cotangent: Any, first: Any, second: Any, *, problem: Problem) -> Any:
        names = _GIVEN[problem.operation]
        known = {_SOUGHT[problem.operation]: cotangent, names[1 - sought]: (first, second)[1 - sought]}
        operation = _SEEKS[names[sought]]
        one, other = _GIVEN[operation]
        return _convolution.bind(known[one], known[other], problem=problem.with_operation(operation))

    return rule


def _batch(operands: Any, axes: Any, *, problem: Problem) -> Any:
    """One after the other: each is a batch of its own."""
    moved = [None if axis is None else jnp.moveaxis(one, axis, 0) for one, axis in zip(operands, axes, strict=True)]

    def single(parts: Any) -> Any:
        both = [one if part is None else part for one, part in zip(operands, parts, strict=True)]
        return _convolution.bind(*both, problem=problem)

    return jax.lax.map(single, moved), 0


_convolution.def_impl(jax.jit(_computed, static_argnames="problem"))
_convolution.def_abstract_eval(_abstract)
mlir.register_lowering(_convolution, mlir.lower_fun(_computed, multiple_results=False))
ad.defbilinear(_convolution, _pulled_back(0), _pulled_back(1))
batching.primitive_batchers[_convolution] = _batch
