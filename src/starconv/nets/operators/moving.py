"""Operators that move numbers and do not change them: shapes, slices, gathering, padding; and arithmetic of shapes."""

from typing import Any

import numpy as np

from .elementwise import dtype_of
from .table import Array, Call, Refusal, axes_of, axis_of, integers_of, operator

# Shapes


@operator("Shape")
def shape(call: Call, x: Array) -> Array:
    """The sizes of x, or some of them."""
    return np.array(x.shape[call.integer("start", 0) : call.integer("end", x.ndim)], np.int64)


@operator("Size")
def size(call: Call, x: Array) -> Array:
    """The number of elements."""
    return np.array(x.size, np.int64)


@operator("Reshape")
def reshape(call: Call, x: Array, sizes: Array) -> Array:
    """x in another shape; 0 keeps a size (unless allowzero), -1 is what is left."""
    wanted = list(integers_of(sizes, "the shape"))
    if not call.integer("allowzero", 0):
        for number, length in enumerate(wanted):
            if length == 0:
                if number >= x.ndim:
                    raise Refusal(f"shape {tuple(wanted)} keeps a size that is not there")
                wanted[number] = x.shape[number]
    if any(length < -1 for length in wanted) or wanted.count(-1) > 1:
        raise Refusal(f"shape {tuple(wanted)} should have sizes >= 0 and at most one -1")
    if -1 in wanted and x.size == 0:
        # NumPy refuses a -1 that any size would do for; ONNX's other sizes decide.
        rest = int(np.prod([length for length in wanted if length >= 0]))
        if rest == 0:
            wanted[wanted.index(-1)] = 0
    return x.reshape(wanted)


@operator("Flatten")
def flatten(call: Call, x: Array) -> Array:
    """x as a matrix: the axes before `axis` and those from it on."""
    axis = call.integer("axis", 1)
    axis = x.ndim if axis == x.ndim else axis_of(axis, x.ndim) if x.ndim else 0
    rows = int(np.prod(x.shape[:axis]))
    return x.reshape(rows, int(np.prod(x.shape[axis:])))


@operator("Transpose")
def transpose(call: Call, x: Array) -> Array:
    """Axes in another order, by default reversed."""
    order = call.integers("perm")
    if order is None:
        return x.T
    if sorted(order) != list(range(x.ndim)):
        raise Refusal(f"perm {order} should be an order of {x.ndim} axes")
    return x.transpose(order)


@operator("Squeeze")
def squeeze(call: Call, x: Array, axes: Array | None = None) -> Array:
    """Axes of one element away."""
    listed = call.listed("axes", axes)
    return x.squeeze() if listed is None else x.squeeze(axes_of(listed, x.ndim))


@operator("Unsqueeze")
def unsqueeze(call: Call, x: Array, axes: Array | None = None) -> Array:
    """New axes of one element, at those places of the result."""
    listed = call.listed("axes", axes)
    if listed is None:
        raise Refusal("axes are missing")
    return np.expand_dims(x, axes_of(listed, x.ndim + len(listed)))


@operator("Expand")
def expand(call: Call, x: Array, sizes: Array) -> Array:
    """x broadcast together with a shape."""
    wanted = integers_of(sizes, "the shape")
    return np.broadcast_to(x, call.room(np.broadcast_shapes(x.shape, wanted), x.dtype)).copy()


@operator("Tile")
def tile(call: Call, x: Array, repeats: Array) -> Array:
    """x so many times along each axis."""
    counts = integers_of(repeats, "repeats")
    if len(counts) != x.ndim or any(count < 0 for count in counts):
        raise Refusal(f"repeats {counts} should be {x.ndim} integers >= 0")
    call.room([length * count for length, count in zip(x.shape, counts, strict=True)], x.dtype)
    return np.tile(x, counts)


def _blocks(call: Call, x: Array) -> tuple[int, int, int, int, int]:
    block = call.integer("blocksize")
    if x.ndim != 4 or block < 1:
        raise Refusal("the input should have 4 axes, blocksize be at least 1")
    return (*x.shape, block)


@operator("DepthToSpace")
def depth_to_space(call: Call, x: Array) -> Array:
    """b x b channels side by side become blocks of pixels."""
    n, c, h, w, b = _blocks(call, x)
    if c % (b * b):
        raise Refusal(f"blocksize^2 = {b * b} should divide {c} channels")
    if call.word("mode", "DCR", ("DCR", "CRD")) == "DCR":
        parts = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c // (b * b), h * b, w * b)


@operator("SpaceToDepth")
def space_to_depth(call: Call, x: Array) -> Array:
    """Blocks of b x b pixels become channels."""
    n, c, h, w, b = _blocks(call, x)
    if h % b or w % b:
        raise Refusal(f"blocksize {b} should divide the height {h} and the width {w}")
    crd = call.word("mode", "DCR", ("DCR", "CRD")) == "CRD"
    parts = x.reshape(n, c, h // b, b, w // b, b).transpose((0, 1, 3, 5, 2, 4) if crd else (0, 3, 5, 1, 2, 4))
    return parts.reshape(n, c * b * b, h // b, w // b)


# Parts


@operator("Concat")
def concat(call: Call, first: Array, *more: Array) -> Array:
    """Arrays one after the other along an axis."""
    arrays = (first, *more)
    if any(array is None or array.dtype != first.dtype for array in arrays):
        raise Refusal("all inputs should be there and have the same type")
    axis = axis_of(call.integer("axis"), first.ndim)
    if all(array.ndim == first.ndim for array in arrays):
        total = sum(array.shape[axis] for array in arrays)
        call.room((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype)
    return np.concatenate(arrays, axis)


@operator("Split")
def split(call: Call, x: Array, sizes: Array | None = None) -> tuple[Array, ...]:
    """x cut along an axis, into parts of the given sizes or as equal as can be."""
    axis, parts = axis_of(call.integer("axis", 0), x.ndim), len(call.node.outputs)
    listed = call.listed("split", sizes)
    length = x.shape[axis]
    if listed is None:
        count = call.integer("num_outputs", parts)
        if count != parts:
            raise Refusal(f"num_outputs = {count}, but {parts} outputs are named")
        part = -(-length // count)
        listed = tuple(min(part, max(length - number * part, 0)) for number in range(count))
        if not call.has("num_outputs") and length % count:
            raise Refusal(f"{length} elements do not fall into {count} equal parts")
    if len(listed) != parts or min(listed) < 0 or sum(listed) != length:
        raise Refusal(f"parts {listed} should be {parts} sizes that add up to {length}")
    return tuple(np.split(x, np.cumsum(listed)[:-1], axis))


@operator("Slice")
def slice_(
    call: Call,
    x: Array,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    """x[start:end:step] along some axes, with Python's meaning of ends that lie outside."""
    first, last = call.listed("starts", starts), call.listed("ends", ends)
    if first is None or last is None:
        raise Refusal("starts and ends are missing")
    along = call.listed("axes", axes)
    along = axes_of(range(len(first)) if along is None else along, x.ndim)
    step = integers_of(steps, "steps") if steps is not None else (1,) * len(first)
    if not len(first) == len(last) == len(along) == len(step) or 0 in step:
        raise Refusal("starts, ends, axes and steps should be equally many, and no step 0")
    cuts = [slice(None)] * x.ndim
    for axis, begin, end, stride in zip(along, first, last, step, strict=True):
        # Towards the front, an end before the first element means all of them, which Python writes as None.
        beyond = stride < 0 and end < -x.shape[axis]
        cuts[axis] = slice(begin, None if beyond else end, stride)
    return x[tuple(cuts)]


@operator("Gather")
def gather(call: Call, x: Array, index: Array) -> Array:
    """Elements of an axis by their numbers; negative ones count from the end."""
    axis = axis_of(call.integer("axis", 0), x.ndim)
    _check_index(index, x.shape[axis])
    call.room((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]), x.dtype)
    return np.asarray(np.take(x, index, axis))


def _check_index(index: Array, length: int) -> None:
    if index.dtype.kind not in "iu":
        raise Refusal("the indices should be integers")
    if index.size and not (-length <= index.min() and index.max() < length):
        raise Refusal(f"the indices should be from {-length} to {length - 1}")


@operator("GatherElements")
def gather_elements(call: Call, x: Array, index: Array) -> Array:
    """numpy.take_along_axis."""
    axis = axis_of(call.integer("axis", 0), x.ndim)
    _check_index(index, x.shape[axis])
    if index.ndim != x.ndim:
        raise Refusal("the indices should have as many axes as the input")
    region = tuple(slice(None) if number == axis else slice(length) for number, length in enumerate(index.shape))
    return np.take_along_axis(x[region], index, axis)


@operator("GatherND")
def gather_nd(call: Call, x: Array, index: Array) -> Array:
    """Parts of x by tuples of numbers, the last axis of the indices."""
    batch = call.integer("batch_dims", 0)
    if not index.ndim or not 0 <= batch < min(x.ndim, index.ndim) or not 1 <= index.shape[-1] <= x.ndim - batch:
        raise Refusal("batch_dims and the indices' last size do not fit the input")
    depth = index.shape[-1]
    for number in range(depth):
        _check_index(index[..., number], x.shape[batch + number])
    if x.shape[:batch] != index.shape[:batch]:
        raise Refusal("the batch axes of input and indices should have the same sizes")
    call.room((*index.shape[:-1], *x.shape[batch + depth :]), x.dtype)
    places = [
        np.arange(length).reshape(-1, *[1] * (index.ndim - 2 - number)) for number, length in enumerate(x.shape[:batch])
    ]
    return np.asarray(x[(*places, *(index[..., number] for number in range(depth)))])


@operator("ScatterND")
def scatter_nd(call: Call, x: Array, index: Array, updates: Array) -> Array:
    """x with parts replaced, or added to, multiplied, ..."""
    if not index.ndim or not 1 <= index.shape[-1] <= x.ndim or updates.dtype != x.dtype:
        raise Refusal("the indices or the type of the updates do not fit the input")
    for number in range(index.shape[-1]):
        _check_index(index[..., number], x.shape[number])
    result, at = x.copy(), tuple(index[..., number] for number in range(index.shape[-1]))
    _put(result, at, updates, call.word("reduction", "none", tuple(_PUT)))
    return result


@operator("ScatterElements")
def scatter_elements(call: Call, x: Array, index: Array, updates: Array) -> Array:
    """x with elements replaced along an axis, or added to, multiplied, ..."""
    axis = axis_of(call.integer("axis", 0), x.ndim)
    _check_index(index, x.shape[axis])
    if index.shape != updates.shape or index.ndim != x.ndim or updates.dtype != x.dtype:
        raise Refusal("updates should have the shape of the indices and the type of the input")
    at: list[Any] = list(np.indices(index.shape, sparse=True))
    at[axis] = index
    result = x.copy()
    _put(result, tuple(at), updates, call.word("reduction", "none", tuple(_PUT)))
    return result


_PUT: dict[str, np.ufunc | None] = {
    "none": None,
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}


def _put(result: Array, at: tuple[Any, ...], updates: Array, how: str) -> None:
    function = _PUT[how]
    if function is None:
        result[at] = updates
    else:
        function.at(result, at, updates)


@operator("Trilu")
def trilu(call: Call, x: Array, k: Array | None = None) -> Array:
    """The upper or the lower triangle, else 0."""
    offset = 0 if k is None else integers_of(k, "k")[0]
    offset = max(min(offset, 2**31), -(2**31))
    return np.triu(x, offset) if call.integer("upper", 1) else np.tril(x, offset)


# Padding


@operator("Pad")
def pad(
    call: Call, x: Array, pads: Array | None = None, value: Array | None = None, axes: Array | None = None
) -> Array:
    """Elements added around, or taken away where a number is negative."""
    flat = call.listed("pads", pads)
    along = tuple(range(x.ndim)) if axes is None else axes_of(integers_of(axes, "axes"), x.ndim)
    if flat is None or len(flat) != 2 * len(along):
        raise Refusal(f"pads {flat} should be {2 * len(along)} integers")
    mode = call.word("mode", "constant", ("constant", "reflect", "edge", "wrap"))
    pairs = [(0, 0)] * x.ndim
    for number, axis in enumerate(along):
        pairs[axis] = (flat[number], flat[number + len(along)])
    call.room([length + before + after for length, (before, after) in zip(x.shape, pairs, strict=True)], x.dtype)
    cut = x[
        tuple(
            slice(max(-before, 0), length - max(-after, 0))
            for length, (before, after) in zip(x.shape, pairs, strict=True)
        )
    ]
    around = [(max(before, 0), max(after, 0)) for before, after in pairs]
    call.room([length + before + after for length, (before, after) in zip(cut.shape, around, strict=True)], x.dtype)
    if mode != "constant":
        return np.pad(cut, around, mode=mode)  # type: ignore[call-overload,no-any-return]
    if value is not None and value.size > 1:
        raise Refusal("the constant should be one number")
    fill = value.reshape(-1)[0] if value is not None and value.size else call.number("value", 0.0)
    return np.pad(cut, around, constant_values=x.dtype.type(fill))


# Made from little


@operator("Constant")
def constant(call: Call) -> Array:
    """The array or the numbers of the attribute."""
    given = call.node.attributes
    for name, kind in (
        ("value_int", np.int64),
        ("value_ints", np.int64),
        ("value_float", np.float32),
        ("value_floats", np.float32),
    ):
        if name in given:
            return np.array(given[name], kind)
    if not isinstance(given.get("value"), np.ndarray):
        raise Refusal("a value of numbers is missing")
    return np.asarray(given["value"])


@operator("ConstantOfShape", kinds="iu")
def constant_of_shape(call: Call, sizes: Array) -> Array:
    """One number everywhere."""
    value = call.node.attributes.get("value", np.zeros(1, np.float32))
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise Refusal("the value should be an array of one number")
    return np.full(call.room(integers_of(sizes, "the shape"), value.dtype), value.reshape(())[()])


@operator("Range", alike=True, kinds="iuf")
def range_(call: Call, start: Array, limit: Array, delta: Array) -> Any:
    """Start, start + delta, ... below the limit."""
    first, last, step = (_single(value) for value in (start, limit, delta))
    if step == 0:
        raise Refusal("the step should not be 0")
    count = max(int(np.ceil((last - first) / step)), 0)
    call.room((count,), start.dtype)
    return (first + np.arange(count) * step).astype(start.dtype)


def _single(value: Array) -> Any:
    if value.size != 1:
        raise Refusal("start, limit and step should be single numbers")
    return value.reshape(-1)[0].item()


@operator("OneHot", kinds="iuf")
def one_hot(call: Call, index: Array, depth: Array, values: Array) -> Any:
    """Along a new axis the on value at the index, elsewhere the off value."""
    if depth.size != 1 or values.shape != (2,):
        raise Refusal("depth should be one number, values two")
    count, axis = int(depth.reshape(-1)[0]), axis_of(call.integer("axis", -1), index.ndim + 1)
    call.room((*index.shape, count), values.dtype)
    number = np.expand_dims(np.where(index < 0, index + count, index), axis)
    places = np.arange(count).reshape(-1, *[1] * (index.ndim - axis))
    return np.where(number == places, values[1], values[0])


@operator("EyeLike")
def eye_like(call: Call, x: Array) -> Array:
    """Ones on a diagonal."""
    if x.ndim != 2:
        raise Refusal("the input should be a matrix")
    kind = dtype_of(call.integer("dtype")) if call.has("dtype") else x.dtype
    call.room(x.shape, kind)
    offset = max(min(call.integer("k", 0), 2**31), -(2**31))
    return np.eye(x.shape[0], x.shape[1], k=offset, dtype=kind)


@operator("Compress")
def compress(call: Call, x: Array, condition: Array) -> Array:
    """The elements of an axis for which the condition holds."""
    if condition.ndim != 1 or condition.dtype.kind != "b":
        raise Refusal("the condition should be a list of bool")
    flat, axis = (x.reshape(-1), 0) if not call.has("axis") else (x, axis_of(call.integer("axis"), x.ndim))
    return np.compress(condition, flat, axis)
