"""A trace says of every output element what the library itself computes: no number and no position is its own."""

import itertools

import numpy as np
import pytest

import starconv as sc
from starconv import geometry
from starconv.errors import ArgumentTypeError, ArgumentValueError
from starconv.geometry import stretched_axis
from starconv.view.trace import Cell, Trace

CASES = [
    {"stride": stride, "padding": padding, "dilation": dilation}
    for stride, padding, dilation in itertools.product((1, 2, (3, 1)), (0, 1, ((1, 0), (0, 2)), "full"), (1, 2, (1, 2)))
]


def integers(*shape, seed=0):
    return np.random.default_rng(seed).integers(-4, 5, shape)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_steps_add_up_to_the_library_s_result(case, groups):
    x, w, b = integers(4, 6, 5), integers(2, 4 // groups, 3, 2, seed=1), np.array([10, -20])
    trace = Trace.of(x, w, b, groups=groups, **case)
    expected = sc.conv2d(x, w, b, groups=groups, **case)
    assert np.array_equal(trace.output, expected)
    steps = list(trace.steps())
    assert [step.total for step in steps] == expected.ravel().tolist()
    for step in steps:
        assert sum(part.sum for part in step.parts) + step.bias == step.total
        for part in step.parts:
            assert np.array_equal(part.products, part.patch * part.kernel)
            assert part.products.sum() == part.sum


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("extra", [0, 1])
def test_transposed_gathering_and_stamping_give_the_library_s_result(case, groups, extra):
    steps = np.broadcast_to(case["stride"], 2), np.broadcast_to(case["dilation"], 2)
    if extra >= np.maximum(*steps).min():
        pytest.skip("an output padding must be less than the stride or the dilation")
    x, w, b = integers(4, 5, 5), integers(4, 1, 3, 2, seed=1), integers(groups, seed=2)
    trace = Trace.of(x, w, b, groups=groups, transposed=True, output_padding=extra, **case)
    expected = sc.conv_transpose2d(x, w, b, groups=groups, output_padding=extra, **case)
    assert np.array_equal(trace.output, expected)
    for step in trace.steps():
        assert sum(part.sum for part in step.parts) + step.bias == step.total == expected[step.output]
    total = np.zeros(trace.stamped_shape, np.int64)
    for stamp in trace.stamps():
        total[np.ix_(stamp.channels, *stamp.window)] += stamp.products
        assert stamp.value == x[stamp.input]
    inside = tuple(slice(axis.before, axis.before + axis.input) for axis in trace.problem.axes)
    assert np.array_equal(total[(slice(None), *inside)] + b[:, None, None], expected)
    assert np.array_equal(trace.stamped(x.size), total)


def test_patches_are_read_where_the_geometry_says():
    trace = Trace.of(integers(5, 7), integers(3, 2), stride=(2, 1), padding=((1, 0), (2, 1)), dilation=(1, 3))
    for step in trace.steps():
        for axis, reads, at in zip(trace.problem.axes, step.reads, step.output[1:], strict=True):
            assert list(reads) == axis.reads(at)
        for place in np.ndindex(3, 2):
            row, column = step.reads[0][place[0]], step.reads[1][place[1]]
            padding = not (0 <= row < 5 and 0 <= column < 7)
            assert (step.parts[0].cells[place] == Cell.PADDING) == padding
            assert step.parts[0].patch[place] == (0 if padding else trace.x[0, row, column])


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "symmetric"])
def test_padding_that_repeats_shows_what_it_repeats(mode):
    x, w = integers(4, 5), integers(3, 3)
    trace = Trace.of(x, w, padding=2, padding_mode=mode)
    numpy_mode = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
    assert np.array_equal(trace.canvas[0], np.pad(x, 2, mode=numpy_mode))
    assert trace.cells[0, 0] == Cell.REPEATED
    assert trace.cells[2, 2] == Cell.INPUT


WALKS = list(itertools.product((1, 2, 3), (1, 2), (0, 1, 3), (0, 2), (0, 1)))


@pytest.mark.parametrize(("stride", "dilation", "before", "after", "extra"), WALKS)
def test_the_stretched_walk_meets_the_pairs_of_the_convolution_it_transposes(stride, dilation, before, after, extra):
    """Every (tap, output) pair that Axis.read_by names is a tap of the walk on an element, and no other tap is."""
    if extra >= max(stride, dilation):
        pytest.skip("not a transposed convolution")
    try:
        (axis,) = geometry.transposed_axes((4,), (3,), stride, ((before, after),), extra, dilation)
    except ArgumentValueError:
        pytest.skip("no output")
    walk = stretched_axis(axis)
    assert walk.output == axis.input
    for position in range(axis.input):
        found = {
            (axis.kernel - 1 - tap, read // axis.stride)
            for tap, read in enumerate(walk.reads(position))
            if 0 <= read < walk.input and read % axis.stride == 0
        }
        assert found == set(axis.read_by(position))


def test_one_and_three_axes():
    signal = Trace.of([1, 2, 3, 4], [1, -1])
    assert signal.output.tolist() == [[-1, -1, -1]]
    assert signal.step((0, 2)).parts[0].patch.tolist() == [3, 4]
    volume = Trace.of(integers(3, 4, 5)[None], integers(1, 1, 2, 2, 2))
    assert len(volume) == 2 * 3 * 4
    assert volume.step(5).parts[0].sum == volume.output.flat[5]


def test_fractions_stay_exact_in_float64():
    x = np.random.default_rng(0).normal(size=(5, 5)).astype("float32")
    trace = Trace.of(x, np.full((3, 3), 1 / 9))
    assert trace.output.dtype == np.float64
    for step in trace.steps():
        assert step.parts[0].sum == pytest.approx(step.total, rel=1e-13, abs=1e-15)


def test_a_trace_cannot_be_changed_by_its_step_objects():
    step = Trace.of(integers(3, 3), integers(2, 2)).step(0)
    with pytest.raises(AttributeError):
        step.total = 3


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("3×3 kernel, stride 2, padding 1: 7×7 → 4×4", {"stride": 2, "padding": 1}),
        (
            "3×3 kernel, stride 1×2, padding 1:0 × 2:1, dilation 2: 7×7 → 4×3",
            {"stride": (1, 2), "padding": ((1, 0), (2, 1)), "dilation": 2},
        ),
        ("3×3 kernel, padding 1, reflect: 7×7 → 7×7", {"padding": 1, "padding_mode": "reflect"}),
        (
            "3×3 kernel, transposed, stride 2, output padding 1: 7×7 → 16×16",
            {"stride": 2, "transposed": True, "output_padding": 1},
        ),
    ],
)
def test_description(text, arguments):
    assert Trace.of(integers(7, 7), integers(3, 3), **arguments).describe() == text


@pytest.mark.parametrize(
    ("error", "named", "arguments"),
    [
        (ArgumentValueError, "x", {"x": np.zeros((2, 3, 4, 5)), "w": np.zeros((1, 1, 2, 2))}),
        (ArgumentValueError, "w", {"x": np.zeros((3, 4)), "w": np.zeros(())}),
        (ArgumentTypeError, "x", {"x": np.zeros((3, 4), complex), "w": np.zeros((2, 2))}),
        (ArgumentValueError, "output_padding", {"x": np.zeros((3, 4)), "w": np.zeros((2, 2)), "output_padding": 1}),
        (
            ArgumentValueError,
            "padding_mode",
            {"x": np.zeros((3, 4)), "w": np.zeros((2, 2)), "transposed": True, "padding_mode": "reflect"},
        ),
        (ArgumentValueError, "groups", {"x": np.zeros((3, 4, 4)), "w": np.zeros((2, 1, 2, 2)), "groups": 2}),
    ],
)
def test_wrong_calls_name_the_argument(error, named, arguments):
    with pytest.raises(error, match=rf"^{named} = "):
        Trace.of(**arguments)


def test_only_transposed_convolutions_stamp():
    with pytest.raises(ArgumentValueError, match="transposed"):
        Trace.of(integers(3, 3), integers(2, 2)).stamp(0)
