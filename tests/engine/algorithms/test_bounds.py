"""What algorithms promise of their results: error bounds, bits, and where a NaN may appear."""

from collections.abc import Iterator

import numpy as np
import pytest
from strategies import VIEWS, Operands, declared_bound, error_scale, every_algorithm, only_reorders, operands, targets

from starconv import Problem, get_num_threads, plan, set_num_threads
from starconv.engine import planner
from starconv.engine.algorithms import blocks
from starconv.engine.emit.target import host_target

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

BOUNDED = [
    "conv2d x=1x512x5x5 w=20x512x3x3 padding=1 bias",
    "conv2d x=1x64x9x9 w=40x64x1x1 bias relu",
    "conv2d x=1x3x20x20 w=8x3x7x7 stride=2 padding=3",
    "conv2d x=1x1x40x40 w=2x1x31x31 padding=15 bias",
    "conv2d x=1x32x8x8 w=32x1x3x3 padding=1 groups=32 channels_last bias",
    "conv3d x=1x8x6x7x8 w=8x8x3x3x3 padding=1",
    "conv1d x=1x300x40 w=17x300x5 dtype=float64",
]


@pytest.mark.parametrize("text", BOUNDED)
@pytest.mark.parametrize("numbers", ["normal", "same sign", "cancelling"])
def test_errors_within_the_bound_that_the_plan_states(text: str, numbers: str) -> None:
    problem = Problem.parse(text)
    generator = np.random.default_rng(4)
    shapes = [*problem.operand_shapes, (problem.out_channels,)]
    x, w, b = (generator.standard_normal(shape).astype(problem.dtype) for shape in shapes)
    if numbers == "same sign":  # partial sums are as large as can be, and so are their roundings
        x, w, b = np.abs(x), np.abs(w), np.abs(b)
    elif numbers == "cancelling":  # results near zero: a bound relative to them could not hold
        x[:, ::2] *= 1e4
    bias = b if problem.bias else None
    extended = np.longdouble if problem.dtype == "float64" else np.float64
    exact = exact_result(problem, x, w, bias, extended)
    scale = error_scale(problem, Operands(x, w, bias))
    for chosen in every_algorithm(problem, on=targets()):
        error = np.abs(chosen(x, w, bias) - exact)
        assert (error <= declared_bound(chosen) * scale).all(), chosen.explain()
        assert declared_bound(chosen) < 1e-2


def exact_result(problem: Problem, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, kind: type) -> np.ndarray:
    """The definition in the type `kind`, tap by tap."""
    pads = [(0, 0), (0, 0), *((axis.before, axis.after) for axis in problem.axes)]
    x = np.pad(x.astype(kind), pads)
    groups, per_group = problem.groups, problem.in_channels // problem.groups
    total = np.zeros(problem.output_shape, kind)
    for tap in np.ndindex(*w.shape[2:]):
        window = tuple(
            slice(t * axis.dilation, t * axis.dilation + (axis.output - 1) * axis.stride + 1, axis.stride)
            for t, axis in zip(tap, problem.axes, strict=True)
        )
        for kernel in range(problem.out_channels):
            first = kernel // (problem.out_channels // groups) * per_group
            picture = x[:, first : first + per_group][(..., *window)]
            total[:, kernel] += np.einsum("nc...,c->n...", picture, w[kernel][(..., *tap)].astype(kind))
    if b is not None:
        total += b.astype(kind).reshape(-1, *[1] * problem.spatial)
    return np.maximum(total, 0) if problem.activation == "relu" else total


@pytest.fixture
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Several threads for small problems too, and their number as it was afterwards."""
    before = get_num_threads()
    monkeypatch.setattr(blocks, "SERIAL_PRODUCTS", 4)
    planner._plan.cache_clear()  # plans remember how they were cut
    yield
    set_num_threads(before)
    planner._plan.cache_clear()


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize("text", [*BOUNDED, "conv2d x=3x24x17x19 w=70x24x3x3 padding=1 relu"])
def test_bits_do_not_depend_on_threads_or_views(text: str) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 9, integers=False)
    # A plan of its own: blocks are cut when a shape is bound first.
    for chosen in every_algorithm(problem, on=targets()):
        if chosen.algorithm == "numpy":
            continue
        bits = set()
        for threads in (1, 2, 3, 5):
            set_num_threads(threads)
            prepared = chosen.prepare(given.second, given.bias)
            bits.add(prepared(given.first).tobytes())
        for view in VIEWS.values():
            bits.add(chosen(view(given.first), view(given.second), given.bias).tobytes())
        assert len(bits) == 1, chosen.explain()


@pytest.mark.parametrize("text", [text for text in BOUNDED if "512" not in text])
def test_direct_and_stencil_have_the_same_bits(text: str) -> None:
    problem = Problem.parse(text)
    given = operands(problem, 11, integers=False)
    for target in targets():
        results = [
            chosen(given.first, given.second, given.bias)
            for chosen in every_algorithm(problem, on=[target])
            if chosen.algorithm in ("direct", "stencil")
        ]
        for result in results[1:]:
            assert result.tobytes() == results[0].tobytes(), target


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "text",
    [
        "conv2d x=2x9x12x12 w=19x9x3x3 padding=1 bias",
        "conv2d x=2x3x12x30 w=3x1x3x5 stride=2 padding=1 groups=3 relu",
        "conv2d x=2x8x9x9 w=8x1x3x3 padding=1 groups=8 channels_last",
        "conv1d x=2x2x40 w=3x2x3",
    ],
)
def test_one_nan_in_a_corner_of_the_second_picture(text: str, value: float) -> None:
    """The zeros that fill up panels of kernels meet it nowhere that shows: 0 * NaN would be NaN."""
    problem = Problem.parse(text)
    given = operands(problem, 13)
    spoiled = given.first.copy()
    spoiled[(1, 0, *[-1] * problem.spatial)] = value
    for chosen in every_algorithm(problem, on=targets()):
        if not only_reorders(chosen):
            continue
        clean = chosen(given.first, given.second, given.bias)
        with np.errstate(invalid="ignore"):
            result = chosen(spoiled, given.second, given.bias)
        changed = ~((result == clean) | (np.isnan(result) & np.isnan(clean)))
        assert changed.any() or problem.activation == "relu", chosen.explain()
        where = np.argwhere(changed)
        assert (where[:, 0] == 1).all(), chosen.explain()
        reach = problem.axes[-1]
        first = (reach.input + reach.before - reach.extent) // reach.stride
        assert where[:, -1].min(initial=first) >= first, chosen.explain()
        group = problem.out_channels // problem.groups
        assert where[:, 1].max(initial=0) < group, chosen.explain()


def test_padding_may_hold_nan() -> None:
    problem = Problem.parse("conv2d x=1x4x6x6 w=5x4x3x3 padding=1")
    given = operands(problem, 2)
    for chosen in every_algorithm(problem, on=targets()):
        with np.errstate(invalid="ignore"):
            result = chosen(given.first, given.second, fill=np.nan)
        if only_reorders(chosen):
            assert np.isnan(result[:, :, [0, -1]]).all(), chosen.explain()
            assert not np.isnan(result[:, :, 1:-1, 1:-1]).any(), chosen.explain()


def test_a_plan_says_its_bound() -> None:
    text = plan("conv2d x=1x64x8x8 w=64x64x3x3 padding=1", algorithm="direct").explain()
    assert "error at most 3.4e-05 of the sum of |x||w|" in text
    assert "exact" in plan("conv2d x=1x4x8x8 w=4x4x3x3 dtype=int64").explain()
