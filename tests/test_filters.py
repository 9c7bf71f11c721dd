"""correlate and convolve against scipy.ndimage, conv2d against scipy.signal, and what a linear filter must be.

Numbers are multiples of 1/4, so that every sum is exact and every cut towards zero has only one right answer.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import VIEWS, Array, examples, seeds

import starconv as sc
from starconv import filter_sums
from starconv.errors import ArgumentTypeError, ArgumentValueError
from starconv.filters import MODES

REAL = ["float32", "float64", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"]
COMPLEX = ["complex64", "complex128"]
PAIRS = [(sc.correlate, scipy.ndimage.correlate), (sc.convolve, scipy.ndimage.convolve)]
both = st.sampled_from(PAIRS)


@dataclass
class Call:
    """The arguments of one filter call."""

    input: Array
    weights: Array
    options: dict[str, Any]

    def run(self, function: Any, **more: Any) -> Array:
        return function(self.input, self.weights, **(self.options | more))


def numbers(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    kind = np.dtype(dtype).kind
    if kind == "c":
        return (numbers(generator, shape, "float64") + 1j * numbers(generator, shape, "float64")).astype(dtype)
    if kind == "f":
        return (generator.integers(-20, 21, shape) / 4).astype(dtype)
    return generator.integers(0 if kind in "ub" else -5, 2 if kind == "b" else 6, shape).astype(dtype)


@st.composite
def calls(
    draw: st.DrawFn, *, dtypes: list[str] = REAL, weights: list[str] | None = None, max_ndim: int = 4, smallest: int = 1
) -> Call:
    """A call with any mode, origins, axes in any order, and kernels that may be larger than the input."""
    ndim = draw(st.integers(1, max_ndim))
    longest = {1: 12, 2: 7}.get(ndim, 4)
    shape = tuple(draw(st.lists(st.integers(smallest, longest), min_size=ndim, max_size=ndim)))
    axes = draw(st.none() | st.lists(st.sampled_from(range(ndim)), min_size=1, max_size=ndim, unique=True))
    count = ndim if axes is None else len(axes)
    sizes = tuple(draw(st.lists(st.integers(1, {1: 15, 2: 5}.get(count, 3)), min_size=count, max_size=count)))
    options: dict[str, Any] = {
        "mode": draw(st.sampled_from(sorted(MODES))),
        "cval": draw(st.sampled_from([0, 1, -2.5])),
    }
    if axes is not None:
        options["axes"] = tuple(draw(st.sampled_from([axis, axis - ndim])) for axis in axes)
    by_axis = [draw(st.integers(-(size // 2), (size - 1) // 2)) for size in sizes]
    if draw(st.booleans()):
        # The kernel's axes follow the filtered axes in rising order; origins follow `axes` as they are given.
        order = range(count) if axes is None else [sorted(axes).index(axis) for axis in axes]
        options["origin"] = tuple(by_axis[position] for position in order)
    generator = np.random.default_rng(draw(seeds))
    kernel = numbers(
        generator, sizes, draw(st.sampled_from(weights or ["float64", "float32", "int64", "int8", "bool"]))
    )
    return Call(numbers(generator, shape, draw(st.sampled_from(dtypes))), kernel, options)


def as_scipy_means_it(call: Call) -> Call:
    """scipy forgets the order of `axes` for `origin` where `axes` names them all; its manual, and starconv, do not."""
    axes, origin = call.options.get("axes"), call.options.get("origin")
    if axes is None or origin is None or len(axes) < call.input.ndim:
        return call
    rising = [value for _, value in sorted(zip((axis % call.input.ndim for axis in axes), origin, strict=True))]
    return Call(call.input, call.weights, call.options | {"origin": rising, "axes": None})


def same(result: Array, answer: Array) -> None:
    assert result.dtype == answer.dtype
    np.testing.assert_array_equal(result, answer)


@examples(5)
@given(calls(), both)
def test_scipys_results(call: Call, functions: tuple[Any, Any]) -> None:
    ours, theirs = functions
    same(call.run(ours), as_scipy_means_it(call).run(theirs))


@examples(3)
@given(calls(), both, st.sampled_from(REAL))
def test_output_as_a_dtype(call: Call, functions: tuple[Any, Any], output: str) -> None:
    ours, theirs = functions
    answer = as_scipy_means_it(call).run(theirs, output=np.dtype(output))
    for form in (output, np.dtype(output), np.dtype(output).type):
        same(call.run(ours, output=form), answer)


@given(calls(), both, st.sampled_from(REAL), st.sampled_from(sorted(VIEWS)))
def test_output_as_an_array(call: Call, functions: tuple[Any, Any], dtype: str, view: str) -> None:
    ours, theirs = functions
    out = VIEWS[view](np.zeros(call.input.shape, dtype))
    if not out.flags.writeable:
        return
    assert call.run(ours, output=out) is out
    same(out, as_scipy_means_it(call).run(theirs, output=np.dtype(dtype)))


@given(calls(smallest=2), both)
def test_output_over_the_input(call: Call, functions: tuple[Any, Any]) -> None:
    ours, theirs = functions
    answer = as_scipy_means_it(call).run(theirs)
    image = call.input.copy()
    assert ours(image, call.weights, image, **call.options) is image
    same(image, answer)
    back = call.input[..., ::-1].copy()[..., ::-1]
    ours(back, call.weights, back[::-1], **call.options)
    same(back[::-1], answer)


@examples(3)
@given(
    calls(dtypes=[*COMPLEX, "float32", "float64", "uint8"], weights=[*COMPLEX, "float64"], max_ndim=3), both, st.data()
)
def test_complex(call: Call, functions: tuple[Any, Any], data: st.DataObject) -> None:
    assume("c" in call.input.dtype.kind + call.weights.dtype.kind)
    ours, theirs = functions
    if call.input.dtype.kind == "c":
        call.options["cval"] = data.draw(st.sampled_from([0, 2 - 0.5j, 1j]))
    same(call.run(ours), as_scipy_means_it(call).run(theirs))
    out = np.empty(call.input.shape, "complex128")
    assert call.run(ours, output=out) is out
    same(out, as_scipy_means_it(call).run(theirs, output=np.complex128))


@pytest.mark.parametrize("output", [np.float32, np.dtype("float64"), int])
def test_complex_results_do_not_become_real(output: Any) -> None:
    """A real dtype is made a complex one, with SciPy's own warning; a name or an array of real numbers is refused."""
    x = np.arange(9).reshape(3, 3) + 1j
    weights = np.array([[0, 1, 0], [1, 2j, 1], [0, 0, 3]])
    with pytest.warns(UserWarning, match="promoting specified output dtype to complex") as caught:
        result = sc.correlate(x, weights, output=output)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="promoting"):
        answer = scipy.ndimage.correlate(x, weights, output=output)
    assert result.dtype == answer.dtype
    np.testing.assert_allclose(result, answer, rtol=1e-6)
    for refused in ("float32", np.zeros((3, 3))):
        with pytest.raises(sc.ArgumentValueError, match=r"^output = "):
            sc.correlate(x, weights, output=refused)


def test_complex_infinities_stay_in_their_part() -> None:
    x = np.array([1, complex(np.inf, 2), 3])
    with np.errstate(invalid="ignore"):
        answer = scipy.ndimage.correlate(x, [2.0, 1.0])
    np.testing.assert_array_equal(sc.correlate(x, [2.0, 1.0]), answer)


@given(calls(dtypes=["float16"], weights=["float16", "int8"]), both)
def test_float16_which_scipy_refuses(call: Call, functions: tuple[Any, Any]) -> None:
    ours, theirs = functions
    wide = as_scipy_means_it(Call(call.input.astype("float32"), call.weights, call.options))
    same(call.run(ours), wide.run(theirs).astype("float16"))


@given(calls(dtypes=["float32", "float64"], weights=["float64"]), both, seeds)
def test_fractions_within_rounding(call: Call, functions: tuple[Any, Any], seed: int) -> None:
    ours, theirs = functions
    generator = np.random.default_rng(seed)
    call.input = generator.standard_normal(call.input.shape).astype(call.input.dtype)
    call.weights = generator.standard_normal(call.weights.shape)
    absolute = Call(abs(call.input), abs(call.weights), call.options | {"cval": abs(call.options["cval"])})
    bound = 2 * (call.weights.size + 2) * np.finfo(call.input.dtype).eps
    bound = bound * as_scipy_means_it(absolute).run(theirs, output=np.float64)
    difference = np.abs(call.run(ours) - as_scipy_means_it(call).run(theirs, output=np.float64))
    assert (difference <= bound).all()


@given(calls(dtypes=["float32", "int16"], smallest=0), both)
def test_views_and_byte_order(call: Call, functions: tuple[Any, Any]) -> None:
    ours, _ = functions
    answer = call.run(ours)
    for name, view in VIEWS.items():
        result = Call(view(call.input), view(call.weights), call.options).run(ours)
        np.testing.assert_array_equal(result, answer, err_msg=name)
    swapped = call.input.astype(call.input.dtype.newbyteorder())
    same(Call(swapped, call.weights, call.options).run(ours), answer)


@pytest.mark.parametrize("mode", ["grid-mirror", "grid-wrap", "grid-constant"])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_other_words_for_modes(mode: str, ours: Any, theirs: Any) -> None:
    """With a value beyond the edge, and a kernel that reaches past the whole input."""
    image, kernel = np.arange(20.0).reshape(4, 5), np.arange(45.0).reshape(5, 9)
    same(ours(image, kernel, mode=mode, cval=3), theirs(image, kernel, mode=mode, cval=3))
    same(ours(1j * image, kernel, mode=mode, cval=3j), theirs(1j * image, kernel, mode=mode, cval=3j))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_empty_input(shape: tuple[int, ...], ours: Any, theirs: Any) -> None:
    empty, kernel = np.ones(shape, "uint8"), np.ones((2,) * len(shape))
    same(ours(empty, kernel), theirs(empty, kernel))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_no_axes_and_many(ours: Any, theirs: Any) -> None:
    assert ours(np.float64(3), 2.0) == theirs(np.float64(3), 2.0) == 6
    generator = np.random.default_rng(0)
    image, kernel = numbers(generator, (3, 2, 4, 3, 2), "float32"), numbers(generator, (2, 1, 3, 2, 3), "float32")
    for mode in MODES:
        same(ours(image, kernel, mode=mode, cval=2), theirs(image, kernel, mode=mode, cval=2))
    kernel = kernel[0]
    same(ours(image, kernel, axes=(4, 0, 1, -2)), theirs(image, kernel, axes=(4, 0, 1, 3)))


@pytest.mark.parametrize("most", [1, 2, 5, 12, 1 << 17])
@examples(0.5)
@given(calls(), both, st.sampled_from(REAL))
def test_casting_in_blocks(most: int, call: Call, functions: tuple[Any, Any], output: str) -> None:
    """Of any number of elements: single ones, parts of rows, some rows."""
    ours, theirs = functions
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filter_sums, "CAST_ELEMENTS", most)
        same(call.run(ours, output=output), as_scipy_means_it(call).run(theirs, output=np.dtype(output)))


def test_casts_of_large_results_round_clip_and_wrap_alike_in_every_block() -> None:
    """Sums beyond every type's range, in a result of several blocks, against the cast of one piece."""
    picture = np.linspace(-3e19, 3e19, 300_007)
    for output in REAL:
        answer = np.concatenate([sc.correlate(part, [1.0], output=output) for part in np.array_split(picture, 50)])
        same(sc.correlate(picture, [1.0], output=output), answer)
        wide = np.zeros((300_007, 2), output)[:, 0]
        same(sc.correlate(picture, [1.0], output=wide), answer)


def test_origin_follows_axes_where_scipy_forgets() -> None:
    image, kernel = np.arange(12).reshape(3, 4), np.array([[1, 2, 3]])
    by_axis = scipy.ndimage.correlate(image, kernel, origin=(0, 1))
    same(sc.correlate(image, kernel, origin=(0, 1)), by_axis)
    same(sc.correlate(image, kernel, axes=(0, 1), origin=(0, 1)), by_axis)
    same(sc.correlate(image, kernel, axes=(1, 0), origin=(1, 0)), by_axis)


def test_integers_are_exact_where_scipy_rounds() -> None:
    big = 2**53 + 1
    assert sc.correlate([big, big], [1]).tolist() == [big, big]
    assert sc.correlate([big, big], [1], cval=float("nan")).tolist() == [big, big], "cval is for mode constant only"
    assert scipy.ndimage.correlate([big, big], [1]).tolist() == [2**53, 2**53]
    assert sc.correlate(np.array([2**63 + 2**40], "uint64"), [1.0]).tolist() == [2**63 + 2**40]


@examples(2)
@given(
    calls(dtypes=["uint64", "int64"], weights=["uint64", "int64", "int8", "uint8", "bool"]),
    both,
    seeds,
    st.sampled_from(["uint64", "int64", "uint8", "int32", "bool"]),
)
def test_large_integers_are_exact_modulo_their_range(
    call: Call, functions: tuple[Any, Any], seed: int, output: str
) -> None:
    """Against sums of halves of 32 bits: each is exact in scipy's float64, and so are both together modulo 2^64."""
    ours, theirs = functions
    generator = np.random.default_rng(seed)
    limits = np.iinfo(call.input.dtype)
    call.input = generator.integers(limits.min, limits.max, call.input.shape, call.input.dtype, endpoint=True)
    call.options["cval"] = int(call.options["cval"])
    parts = as_scipy_means_it(call)
    filled = parts.options | {"cval": 0}
    bits = call.input.astype("uint64")
    low = Call(bits & np.uint64(0xFFFFFFFF), parts.weights.astype("float64"), parts.options)
    high = Call(bits >> np.uint64(32), parts.weights.astype("float64"), filled)
    answer = high.run(theirs, output=np.float64).astype("int64") << 32
    answer = answer + low.run(theirs, output=np.float64).astype("int64")
    same(call.run(ours, output=output), answer != 0 if output == "bool" else answer.astype(output))


def test_uint64_beyond_what_floats_hold() -> None:
    top = 2**64 - 1
    picture = np.array([top, 2**53 + 1, 3], "uint64")
    assert sc.correlate(picture, [1]).tolist() == picture.tolist()
    assert sc.correlate(picture.astype(">u8"), [1]).tolist() == picture.tolist()
    assert sc.convolve(picture, np.array([0, 1, 1], "uint8"), mode="constant").tolist() == [top, 2**53, 2**53 + 4]
    assert sc.correlate([1, 2], np.array([top], "uint64")).tolist() == [-1, -2]
    # The largest sums are no negative numbers, and no integer has the room for 2^64 and more.
    assert sc.correlate(picture, [1], output="float64").tolist() == [2.0**64, 2.0**53, 3.0]
    same(sc.correlate(picture, [-1], output="float64"), scipy.ndimage.correlate(picture, [-1], output=np.float64))


def test_integer_results_of_float32_sum_in_float64() -> None:
    image = np.full(3, 2.0**24, "float32")
    answer = scipy.ndimage.correlate(image, [1, 0, 0.5], output=np.int32)
    same(sc.correlate(image + 0, [1, 0, 0.5], output=np.int32), answer)
    same(
        sc.correlate(np.array([2.0**24, 1, 0], "float32"), [1, 1, 0], output="int32"),
        np.array([2**25, 2**24 + 1, 1], "int32"),
    )


def test_cval_that_is_no_small_integer() -> None:
    for cval in (1e300, -(2.0**60), np.inf, 0.5, np.float32(2), np.array(3), True):
        result = sc.correlate(np.array([1, 2, 3]), [1, 1], mode="constant", cval=cval, origin=-1, output=float)
        assert result.tolist() == [3, 5, 3 + float(cval)]


# What a linear filter is, whatever anybody else computes.


@given(calls(dtypes=["int64"], weights=["int64"], max_ndim=3))
def test_impulse(call: Call) -> None:
    """The kernel appears around an impulse: as it is under convolve, flipped under correlate."""
    assume("axes" not in call.options)
    impulse_at = call.weights.shape
    shape = tuple(2 * size + 1 for size in impulse_at)
    impulse = np.zeros(shape, int)
    impulse[impulse_at] = 1
    origin = call.options.get("origin", (0,) * impulse.ndim)
    convolved = np.zeros(shape, int)
    # O[i] = sum over t of K[t] X[i + n // 2 + origin - t]
    befores = [size // 2 + shift for size, shift in zip(impulse_at, origin, strict=True)]
    for tap in np.ndindex(call.weights.shape):
        place = tuple(at + t - before for at, t, before in zip(impulse_at, tap, befores, strict=True))
        convolved[place] = call.weights[tap]
    same(sc.convolve(impulse, call.weights, mode="constant", origin=origin), convolved)


@given(calls(dtypes=["int64"], weights=["int64"]), both, seeds)
def test_linear(call: Call, functions: tuple[Any, Any], seed: int) -> None:
    ours, _ = functions
    call.options["cval"] = 0
    other = np.random.default_rng(seed).integers(-5, 6, call.input.shape)
    combined = ours(3 * call.input - 2 * other, call.weights, **call.options)
    same(combined, 3 * call.run(ours) - 2 * ours(other, call.weights, **call.options))


@given(calls(dtypes=["int64"], weights=["int64"]), both, st.integers(0, 5))
def test_shift_equivariance(call: Call, functions: tuple[Any, Any], shift: int) -> None:
    """On a ring (mode wrap) it is exact everywhere: filter(roll(x)) = roll(filter(x))."""
    ours, _ = functions
    options = call.options | {"mode": "wrap"}
    rolled = np.roll(call.input, shift, axis=tuple(range(call.input.ndim)))
    answer = np.roll(ours(call.input, call.weights, **options), shift, axis=tuple(range(call.input.ndim)))
    same(ours(rolled, call.weights, **options), answer)


@given(calls(dtypes=["int64"], weights=["int64"]), st.sampled_from(["wrap", "constant"]), seeds)
def test_convolve_is_the_adjoint_of_correlate(call: Call, mode: str, seed: int) -> None:
    """<correlate(x), y> = <x, convolve(y)>, for even sizes and shifted origins too."""
    options = call.options | {"mode": mode, "cval": 0}
    y = np.random.default_rng(seed).integers(-5, 6, call.input.shape)
    forward = sc.correlate(call.input, call.weights, **options)
    assert np.vdot(forward, y) == np.vdot(call.input, sc.convolve(y, call.weights, **options))


# scipy.signal, whose correlate2d is a conv2d of one channel.


@given(
    st.tuples(*[st.integers(1, 6)] * 2),
    st.tuples(*[st.integers(0, 6)] * 2),
    st.sampled_from(["full", "same", "valid"]),
    seeds,
)
def test_scipy_signal(kernel_size: tuple[int, int], more: tuple[int, int], mode: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    kernel = generator.integers(-5, 6, kernel_size)
    image = generator.integers(-5, 6, tuple(size + extra for size, extra in zip(kernel_size, more, strict=True)))
    flipped = kernel[::-1, ::-1]
    # "same" puts the odd element of an even kernel's padding at the end, as PyTorch and ONNX do, and scipy.signal's
    # correlate2d. Its convolve2d has it at the start.
    halves = {"same": [(size // 2, (size - 1) // 2) for size in kernel_size]}.get(mode, mode)
    same(sc.conv2d(image[None], flipped[None, None], padding=halves)[0], scipy.signal.convolve2d(image, kernel, mode))
    same(sc.conv2d(image[None], kernel[None, None], padding=mode)[0], scipy.signal.correlate2d(image, kernel, mode))


@given(st.tuples(*[st.integers(1, 5)] * 2), st.tuples(*[st.integers(0, 5)] * 2), seeds)
def test_scipy_signal_boundaries(kernel_size: tuple[int, int], more: tuple[int, int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    kernel = generator.integers(-5, 6, kernel_size)
    image = generator.integers(-5, 6, tuple(size + extra for size, extra in zip(kernel_size, more, strict=True)))
    for padding_mode, boundary in [("circular", "wrap"), ("symmetric", "symm")]:
        ours = sc.conv2d(image[None], kernel[None, None], padding="full", padding_mode=padding_mode)
        same(ours[0], scipy.signal.correlate2d(image, kernel, "full", boundary))


@pytest.mark.parametrize(("function", "twin"), PAIRS)
@pytest.mark.parametrize("shape", [(9,), (9, 12), (4, 5, 6)])
def test_a_call_like_one_before_answers_what_it_asks(function: Any, twin: Any, shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    pictures = [generator.integers(-9, 9, shape).astype(dtype) for dtype in "fd"]
    kernels = [generator.integers(-3, 4, (3,) * len(shape)).astype(kind) for kind in "fdi"]
    origins = (0, 1, -1)
    asked = itertools.product(pictures, kernels, ("reflect", "constant", "wrap"), (0, 1.5, np.float32(3), -2), origins)
    for picture, kernel, mode, cval, origin in asked:
        for view in (picture, picture[::-1], picture.copy(order="F"), picture.astype(f">{picture.dtype.char}")):
            arguments = {"mode": mode, "cval": cval, "origin": origin}
            answer = twin(view, kernel, **arguments)
            np.testing.assert_array_equal(function(view, kernel, **arguments), answer)
            for output in (np.empty(shape, picture.dtype), np.empty((*shape, 2), picture.dtype)[..., 0]):
                assert function(view, kernel, output, **arguments) is output
                np.testing.assert_array_equal(output, answer)
            in_place = picture.copy()
            assert function(in_place, kernel, in_place, **arguments) is in_place
            np.testing.assert_array_equal(in_place, twin(picture, kernel, **arguments))
    with pytest.raises(ArgumentTypeError):
        function(pictures[0], kernels[0], mode=["reflect"])
    with pytest.raises(ArgumentValueError):
        function(pictures[0], kernels[0], origin=2)
