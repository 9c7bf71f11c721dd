"""The formula against counting, and every relation of sizes that the rest of the library leans on."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import axes

from starconv import ArgumentValueError, output_size, receptive_field
from starconv.geometry import BORDERS, Axis, border_sources, convolution_axes, transposed_axes, window_counts

sizes = st.integers(1, 30)
kernels = st.integers(1, 6)
steps = st.integers(1, 4)


@given(st.integers(0, 30), kernels, steps, st.integers(0, 8), st.integers(0, 8), steps)
def test_output_size_counts_windows(
    size: int, kernel: int, stride: int, before: int, after: int, dilation: int
) -> None:
    last_tap = (kernel - 1) * dilation
    starts = [start for start in range(0, size + before + after, stride) if start + last_tap < size + before + after]
    if starts:
        assert output_size(size, kernel, stride, [(before, after)], dilation) == len(starts)
    else:
        with pytest.raises(ArgumentValueError, match=r"^kernel_size = "):
            output_size(size, kernel, stride, [(before, after)], dilation)


@given(sizes, kernels, steps, steps)
def test_padding_by_name(size: int, kernel: int, stride: int, dilation: int) -> None:
    extent = dilation * (kernel - 1) + 1
    assert output_size(size, kernel, stride, "same", dilation) == -(-size // stride)
    assert output_size(size, kernel, 1, "full", dilation) == size + extent - 1
    if extent <= size:
        assert output_size(size, kernel, stride, "valid", dilation) == (size - extent) // stride + 1
    (same,) = convolution_axes((size,), (kernel,), stride, "same", dilation)
    assert same.after - same.before in (0, 1), "the odd element is at the end"
    if same.before + same.after:
        assert same.output_padding == 0, "not more padding than the last window needs"


def test_the_sizes_of_the_text_books() -> None:
    assert output_size(224, 7, 2, 3) == 112
    assert output_size((5, 5), 3) == (3, 3)
    assert output_size((5, 5), 3, padding=1) == (5, 5), "a 3x3 kernel with padding 1 keeps the size"
    assert output_size((5, 6), 3, stride=2, padding=1) == (3, 3), "what is left over at the end is not read"
    assert output_size((7, 9, 11), (3, 1, 5), (1, 2, 3), (0, 1, 2), (2, 1, 1)) == (3, 6, 4)
    assert output_size(np.int64(8), np.int64(3)) == 6
    assert output_size(np.array([8, 9]), [3], padding=np.array([[0, 1], [1, 0]])) == (7, 8)


@given(sizes, kernels, steps, st.integers(0, 5), st.integers(0, 4), steps)
def test_transposed_size_is_torchs(size: int, kernel: int, stride: int, pad: int, extra: int, dilation: int) -> None:
    assume(extra < max(stride, dilation))
    torchs = (size - 1) * stride - 2 * pad + dilation * (kernel - 1) + extra + 1
    assume(torchs >= 1)
    assert output_size(size, kernel, stride, pad, dilation, transposed=True, output_padding=extra) == torchs
    (axis,) = transposed_axes((size,), (kernel,), stride, pad, extra, dilation)
    assert axis.output == size, "the convolution that is transposed leads back"


@given(axes())
def test_adjoint_sizes(axis: Axis) -> None:
    """From an output size, with its output padding, the transposed convolution finds the input size again."""
    assume(axis.input >= 1)
    pads = [(axis.before, axis.after)]
    (back,) = transposed_axes((axis.output,), (axis.kernel,), axis.stride, pads, axis.output_padding, axis.dilation)
    assert back == axis
    assert 0 <= axis.output_padding < axis.stride


@given(axes(transposed=True))
def test_reads_and_read_by_are_inverse(axis: Axis) -> None:
    readers = defaultdict(list)
    for output in range(axis.output):
        reads = axis.reads(output)
        assert len(reads) == axis.kernel
        for tap, position in enumerate(reads):
            assert -axis.before <= position < axis.input + axis.after, "inside the padded input"
            assert position == output * axis.stride + tap * axis.dilation - axis.before
            readers[position].append((tap, output))
    for position in range(-axis.before - 2, axis.input + max(axis.after, 0) + 2):
        pairs = list(axis.read_by(position))
        assert pairs == sorted(readers[position], key=lambda pair: pair[1])


@given(st.data())
def test_receptive_field_through_a_stack(data: st.DataObject) -> None:
    """Follow what an element reads, layer by layer, in unbounded signals."""
    layers = [data.draw(axes()) for _ in range(data.draw(st.integers(0, 4)))]
    field = receptive_field(layers)
    for output in (0, 1, 5):
        reached = {output}
        for axis in reversed(layers):
            reached = {position for element in reached for position in axis.reads(element)}
        start = field.start + output * field.jump
        assert min(reached) == start
        assert max(reached) == start + field.size - 1


@given(st.integers(1, 7), st.integers(0, 20), st.integers(0, 20), st.sampled_from(BORDERS))
def test_border_sources_are_numpys(length: int, before: int, after: int, border: str) -> None:
    elements = np.arange(length)
    options = {"constant_values": -1} if border == "constant" else {}
    np.testing.assert_array_equal(
        border_sources(length, before, after, border), np.pad(elements, (before, after), mode=border, **options)
    )


@pytest.mark.parametrize("border", BORDERS)
def test_borders_of_nothing(border: str) -> None:
    assert border_sources(0, 0, 0, border).tolist() == []
    if border == "constant":
        assert border_sources(0, 1, 2, border).tolist() == [-1, -1, -1]
    else:
        with pytest.raises(ArgumentValueError, match="at least one element to repeat"):
            border_sources(0, 1, 0, border)


@pytest.mark.parametrize(
    ("padding", "pairs"),
    [
        (1, [(1, 1), (1, 1)]),
        ([2], [(2, 2), (2, 2)]),
        ((1, 2), [(1, 1), (2, 2)]),
        ([(0, 1), (2, 3)], [(0, 1), (2, 3)]),
        (((0, 1), 2), [(0, 1), (2, 2)]),
        (np.array([[0, 1], [2, 3]]), [(0, 1), (2, 3)]),
        ("valid", [(0, 0), (0, 0)]),
        ("full", [(1, 1), (4, 4)]),
        ("same", [(0, 1), (2, 2)]),
    ],
)
def test_forms_of_padding(padding: object, pairs: list[tuple[int, int]]) -> None:
    found = convolution_axes((6, 7), (2, 3), padding=padding, dilation=(1, 2))
    assert [(axis.before, axis.after) for axis in found] == pairs


@given(axes(), st.integers(0, 3), st.integers(0, 3))
def test_window_counts_are_those_of_the_places_read(axis: Axis, before: int, after: int) -> None:
    counts = [sum(-before <= place < axis.input + after for place in axis.reads(i)) for i in range(axis.output)]
    assert window_counts((axis,), ((before, after),)) == (tuple(counts),)
