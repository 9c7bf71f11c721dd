"""The shape files: every row is a problem, is written in the one way, and whole networks add up."""

import numpy as np
import pytest

from bench import shapes
from starconv.problem import Problem


@pytest.mark.parametrize("suite", shapes.suites())
def test_rows_are_written_the_way_problems_print(suite):
    lines = (shapes.FOLDER / f"{suite}.txt").read_text(encoding="utf-8").splitlines()
    written = [line.partition("#")[0].strip() for line in lines]
    assert [str(row.problem) for row in shapes.read(suite)] == [text for text in written if text]


@pytest.mark.parametrize("suite", shapes.suites())
def test_no_row_twice(suite):
    names = [row.name for row in shapes.read(suite)]
    assert names
    assert len(set(names)) == len(names)


# Multiply-adds of all convolutions: the published figures for 224x224 pictures less the dense layers at the end.
@pytest.mark.parametrize(
    ("suite", "products", "layers"),
    [("resnet18", 1_814_073_344 - 512_000, 20), ("vgg16", 15_470_264_320 - 123_633_664, 13)],
)
def test_whole_networks_add_up(suite, products, layers):
    rows = shapes.read(suite)
    assert sum(row.count for row in rows) == layers
    assert sum(row.count * row.problem.multiply_adds for row in rows) == products


def test_depthwise_rows_are_the_seventeen_blocks_of_mobilenet():
    rows = shapes.read("mobilenet_v2_depthwise")
    assert sum(row.count for row in rows) == 17
    assert all(row.problem.groups == row.problem.in_channels == row.problem.out_channels for row in rows)


def test_batch_replaces_the_number_of_pictures():
    rows = shapes.select(["resnet18"], "256x256x3x3", batches=(1, 16))
    assert [row.problem.input_shape for row in rows] == [(1, 256, 14, 14), (16, 256, 14, 14)]
    assert all(row.count == 3 for row in rows)


def test_selection_by_problem_and_by_note():
    assert [row.note for row in shapes.select(["vgg16"], "conv1_2")] == ["conv1_2"]
    assert {row.suite for row in shapes.select((), "stride=16")} == {"first_layers"}
    assert all(row.gaussian for row in shapes.select(["images"], "gaussian"))


def test_a_line_that_is_no_problem_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "FOLDER", tmp_path)
    (tmp_path / "broken.txt").write_text("# fine\n\nconv2d x=1x3x8x8 w=4x2x3x3\n")
    with pytest.raises(ValueError, match=r"broken.txt:3: .*w"):
        shapes.read("broken")


@pytest.mark.parametrize(
    "text",
    [
        "conv2d x=2x4x9x8 w=6x2x3x3 padding=1 groups=2 bias relu",
        "conv2d x=2x4x9x8 w=6x4x3x3 channels_last",
        "input_grad2d x=2x4x9x8 w=6x4x3x3 stride=2",
        "weight_grad2d x=2x4x9x8 w=6x4x3x3 dtype=float64",
        "conv1d x=1x1x9 w=2x1x3 dtype=int64",
    ],
)
def test_operands_fit_their_problem_and_stay_the_same(text):
    row = shapes.Row("test", Problem.parse(text))
    made, again = shapes.operands(row), shapes.operands(row)
    assert (made.first.shape, made.second.shape) == row.problem.operand_shapes
    assert made.first.dtype == made.second.dtype == row.problem.dtype
    assert (made.bias is not None) == row.problem.bias
    np.testing.assert_array_equal(made.first, again.first)
    if row.problem.channels_last:
        assert made.first.strides[1] == made.first.itemsize


def test_a_gaussian_has_rank_one_and_sums_to_one():
    kernel = shapes.operands(shapes.Row("test", Problem.parse("conv2d x=1x1x9x9 w=1x1x7x5"), "gaussian")).second[0, 0]
    assert np.linalg.matrix_rank(kernel, tol=1e-6) == 1
    assert kernel.sum() == pytest.approx(1)
    assert kernel.argmax() == kernel.size // 2
