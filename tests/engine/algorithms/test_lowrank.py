"""Separable kernels: found by their values alone, exact on whole numbers, within the stated bound on fractions."""

from dataclasses import replace

import numpy as np
import pytest
from guarded import guarded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from strategies import VIEWS, error_scale, expected, operands, outputs, targets

import starconv as sc
from starconv import Problem, get_num_threads, plan, set_num_threads
from starconv.engine.algorithms import lowrank
from starconv.engine.emit.target import host_target
from starconv.errors import ArgumentValueError
from starconv.geometry import BORDERS, Axis

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

PROBLEMS = [
    *(f"conv2d x=1x1x40x50 w=1x1x7x5 padding=3 border={border}" for border in BORDERS),
    "conv2d x=2x3x33x70 w=6x1x5x9 padding=9 groups=3 bias relu border=symmetric",
    "conv2d x=1x1x150x2100 w=1x1x31x31 padding=15 border=edge",
    "conv2d x=1x1x5x5 w=1x1x5x5 dtype=float64",
    "conv2d x=1x1x1x5 w=1x1x4x4 padding=9",
]


def separable(problem: Problem, seed: int, *, integers: bool) -> np.ndarray:
    generator = np.random.default_rng(seed)
    kernels, (height, width) = problem.out_channels, problem.weight_shape[2:]
    if integers:
        column, row = (generator.integers(-3, 4, (kernels, 1, *shape)) for shape in ((height, 1), (1, width)))
        column[:, :, 0] = row[..., :1] = 1
    else:
        column, row = (generator.standard_normal((kernels, 1, *shape)) for shape in ((height, 1), (1, width)))
    return (column * row).astype(problem.dtype)


def check(problem: Problem, seed: int, *, integers: bool) -> None:
    given = operands(problem, seed, integers=integers, fill=2.0)
    given = replace(given, second=separable(problem, seed, integers=integers))
    answer, scale = expected(problem, given), error_scale(problem, given)
    for target in targets():
        chosen = plan(problem, algorithm="lowrank", target=target)
        prepared = chosen.prepare(given.second, given.bias, fill=given.fill)
        assert prepared.algorithm == "lowrank"
        result = prepared(given.first)
        if integers:
            np.testing.assert_array_equal(result, answer)
        else:
            assert (np.abs(result - answer) <= (lowrank.error_bound(problem) + 1e-15) * scale + 1e-36).all()


@pytest.mark.parametrize("integers", [True, False])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("kernel", ["4x4", "7x5", "5x9", "9x9"])
def test_large_pictures_go_past_the_caches(kernel: str, border: str, integers: bool) -> None:
    target = host_target()
    if target is None or target.name != "avx512":
        pytest.skip("not on this target")
    small = replace(target, l3_bytes=1 << 10)
    for width in (240, 256):
        text = f"conv2d x=1x2x84x{width} w=4x1x{kernel} padding=2 groups=2 bias relu border={border}"
        problem = Problem.parse(text)
        assert isinstance(lowrank.build(problem, small), lowrank.SeparableStreams)
        given = operands(problem, 5, integers=integers, fill=2.0)
        given = replace(given, second=separable(problem, 5, integers=integers))
        result = plan(problem, algorithm="lowrank", target=small).prepare(given.second, given.bias, fill=2.0)(
            given.first
        )
        answer = expected(problem, given)
        within = 0 if integers else (lowrank.error_bound(problem) + 1e-15) * error_scale(problem, given) + 1e-36
        assert (np.abs(result - answer) <= within).all()


@pytest.mark.parametrize("integers", [True, False])
@pytest.mark.parametrize("text", PROBLEMS)
def test_what_the_definition_says(text: str, integers: bool) -> None:
    check(Problem.parse(text), 3, integers=integers)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    axes = []
    for _ in range(2):
        kernel, before, after = draw(st.integers(4, 9)), draw(st.integers(0, 12)), draw(st.integers(0, 12))
        axes.append(Axis(draw(st.integers(max(kernel - before - after, 1), 40)), kernel, 1, before, after))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    return Problem(
        "conv",
        draw(st.sampled_from([1, 1, 2])),
        groups,
        groups * draw(st.sampled_from([1, 1, 2])),
        tuple(axes),
        groups,
        dtype=draw(st.sampled_from(["float32", "float64"])),
        border=draw(st.sampled_from(BORDERS)),
        bias=draw(st.booleans()),
        activation=draw(st.sampled_from(["none", "relu"])),
    )


@settings(max_examples=60)
@given(problems(), st.integers(0, 2**32 - 1), st.booleans())
def test_any_sizes_and_borders(problem: Problem, seed: int, integers: bool) -> None:
    check(problem, seed, integers=integers)


@settings(max_examples=60)
@given(problems(), st.integers(0, 2**32 - 1), st.booleans())
def test_nothing_outside_the_arrays_is_touched(problem: Problem, seed: int, end: bool) -> None:
    first = guarded(operands(problem, seed).first, end=end)
    bias = np.ones(problem.out_channels, problem.dtype) if problem.bias else None
    out = guarded(np.full(problem.output_shape, np.nan, problem.dtype), end=end)
    plan(problem, algorithm="lowrank").prepare(separable(problem, seed, integers=True), bias)(first, out=out)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("text", PROBLEMS)
def test_bits_do_not_depend_on_threads_views_or_out(text: str) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 9, integers=False)
    weights = separable(problem, 9, integers=False)
    chosen, before, bits = plan(problem, algorithm="lowrank"), get_num_threads(), set()
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            for view in VIEWS.values():
                bits.add(chosen(view(given.first), view(weights), given.bias).tobytes())
            for _, out, _ in outputs(problem.output_shape, problem.dtype):
                bits.add(chosen(given.first, weights, given.bias, out=out).tobytes())
    finally:
        set_num_threads(before)
    assert len(bits) == 1


@pytest.mark.parametrize("border", ["constant", "symmetric"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_stay_where_the_geometry_says(border: str, value: float) -> None:
    problem = Problem.parse(f"conv2d x=1x1x40x50 w=1x1x7x5 padding=3x2 border={border}")
    given = operands(problem, 4)
    given.first[0, 0, 20, 2] = value
    weights = np.ones((1, 1, 7, 5), np.float32)
    result = plan(problem, algorithm="lowrank")(given.first, weights)
    np.testing.assert_array_equal(result, expected(problem, replace(given, second=weights)))


def test_filters_land_here_by_themselves() -> None:
    generator = np.random.default_rng(1)
    picture = generator.random((300, 400), np.float32)
    taps = np.exp(-(np.linspace(-2, 2, 15) ** 2))
    gaussian = np.outer(taps, taps) / taps.sum() ** 2
    box = np.ones((15, 15))
    edges = np.outer(taps * np.linspace(-2, 2, 15), taps)
    for kernel in (gaussian, box, edges):
        single = kernel.astype(np.float32)
        sides = [(size // 2, size // 2) for size in single.shape]
        chosen = plan(Problem.of_shapes((1, 1, 300, 400), (1, 1, *single.shape), padding=sides, border="symmetric"))
        assert chosen.special is not None
        assert chosen.prepare(single[None, None]).algorithm == "lowrank"
        result = sc.correlate(picture, single)
        np.testing.assert_array_equal(result, chosen(picture[None, None], single[None, None])[0, 0])
        exact = ndimage.correlate(picture.astype(np.float64), kernel)
        assert np.abs(result - exact).max() < 3e-6 * np.abs(kernel).sum()


def test_other_weights_go_to_the_plan_s_algorithm() -> None:
    generator = np.random.default_rng(2)
    chosen = plan("conv2d x=1x1x512x512 w=1x1x15x15 padding=7")
    nearly = np.ones((1, 1, 15, 15), np.float32)
    nearly[0, 0, 3, 4] += 1e-5
    for weights in (generator.random((1, 1, 15, 15), np.float32), nearly, np.full_like(nearly, np.nan)):
        assert chosen.prepare(weights).algorithm == chosen.algorithm != "lowrank"
    assert "where the kernels are separable: lowrank, predicted" in chosen.explain()
    named = plan("conv2d x=1x1x512x512 w=1x1x15x15 padding=7", algorithm="stencil")
    assert named.prepare(np.ones((1, 1, 15, 15), np.float32)).algorithm == "stencil"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("conv2d x=1x1x512x512 w=1x1x15x15 precision=strict", "strict"),
        ("conv2d x=1x1x512x512 w=1x1x15x15 stride=2", "strides"),
        ("conv2d x=1x2x512x512 w=1x2x15x15", "one input channel"),
        ("conv2d x=1x4x512x512 w=4x1x15x15 groups=4 channels_last", "rows of pixels"),
        ("conv2d x=1x1x512x512 w=1x1x3x15", "4x4"),
        ("conv1d x=1x1x512 w=1x1x15", "two axes"),
    ],
)
def test_refusals_have_reasons(text: str, reason: str) -> None:
    with pytest.raises(ArgumentValueError, match=reason):
        plan(text, algorithm="lowrank")
    assert plan(text).special is None


def test_factors() -> None:
    assert lowrank.factors(np.eye(5)) is None
    u, v = lowrank.factors(np.zeros((4, 5))) or (None, None)
    assert not np.any(u)
    assert not np.any(v)
    sobel = np.outer([1, 4, 6, 4, 1], [-2, -4, 0, 4, 2]).astype(np.float32)
    u, v = lowrank.factors(sobel) or (None, None)
    np.testing.assert_array_equal(np.outer(u, v), sobel)
    assert (u == np.rint(u)).all()
    assert (v == np.rint(v)).all()
    tiny = np.outer(np.exp(-(np.linspace(-5, 5, 31) ** 2)), np.exp(-(np.linspace(-5, 5, 31) ** 2))).astype(np.float32)
    u, v = lowrank.factors(tiny) or (None, None)
    np.testing.assert_allclose(np.outer(u, v), tiny, rtol=1e-6)


def test_weights_that_may_change_have_no_jobs_that_look_for_factors() -> None:
    problem, target = Problem.parse("conv2d x=1x1x20x20 w=1x1x5x5"), host_target()
    if target is None or lowrank.refuses(problem, target) is not None:
        pytest.skip("not on this target")
    solution = lowrank.build(problem, target)
    assert solution.prepare_jobs(np.ones((1, 1, 5, 5), np.float32), None, np.empty(0, np.uint8)) is None
    assert solution.weight_form is None
