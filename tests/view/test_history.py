"""The course of a training, the confusion matrix, the comparison: what is drawn is the data, and nothing is cut."""

import math

import numpy as np
import pytest

import starconv as sc
from starconv import nn, view


def epochs(count, validation=True, classes=True):
    nan = math.nan
    return nn.History(
        nn.Epoch(
            number,
            0.1,
            2 / number**2,
            1 - 0.5 / number if classes else nan,
            2.5 / number if validation else nan,
            1 - 0.6 / number if validation and classes else nan,
        )
        for number in range(1, count + 1)
    )


def texts_inside(still):
    """Every text of a figure lies on it."""
    renderer = still.figure.canvas.get_renderer()
    still.figure.canvas.draw()
    width, height = still.figure.bbox.size
    texts = [text.get_window_extent(renderer) for text in still.figure.axes[0].texts if text.get_text()]
    # Of a chart, what is drawn: locators name ticks beyond its ends too.
    charts = [axes.get_tightbbox(renderer) for axes in still.figure.axes[1:]]
    for box in (*texts, *charts):
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1


def lines_of(still, axes):
    return [line for line in still.figure.axes[axes].get_lines() if line.get_label()[0] != "_"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("count", [1, 2, 12, 100])
def test_history_draws_every_number(theme, count):
    history = epochs(count)
    still = view.history(history, theme=theme)
    for axes, name in ((1, "loss"), (2, "accuracy")):
        for line, column in zip(lines_of(still, axes), (name, f"validation_{name}"), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), history.column(column))
            np.testing.assert_array_equal(line.get_xdata(), history.column("epoch"))
    assert still.data.validation_loss == tuple(history.column("validation_loss"))
    assert still.figure.axes[1].get_yscale() == ("log" if count > 2 else "linear")
    assert f"{100 * history[-1].validation_accuracy:.2f} %" in still.description
    texts_inside(still)


def test_history_without_validation_or_classes():
    still = view.history(epochs(5, validation=False))
    assert [len(lines_of(still, axes)) for axes in (1, 2)] == [1, 1]
    assert still.data.validation_accuracy == ()
    still = view.history(epochs(5, classes=False), title="The edge kernel")
    assert len(still.figure.axes) == 2
    assert len(lines_of(still, 1)) == 2
    texts_inside(still)


def test_history_wrong_calls():
    with pytest.raises(sc.ArgumentValueError, match="at least one epoch"):
        view.history([])
    for wrong in (3, [1, 2], "history"):
        with pytest.raises(sc.ArgumentTypeError, match="History"):
            view.history(wrong)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "names",
    [(), ("no", "a class with a very long name indeed, longer than a margin"), tuple(f"c {i}" for i in range(60))],
)
def test_confusion(theme, names):
    count = len(names) or 10
    matrix = np.random.default_rng(0).poisson(0.5, (count, count)) + 5 * np.eye(count, dtype=int)
    still = view.confusion(matrix, names, theme=theme)
    np.testing.assert_array_equal(still.data.matrix, matrix)
    assert (still.data.right, still.data.total) == (np.trace(matrix), matrix.sum())
    assert f"{100 * np.trace(matrix) / matrix.sum():.2f} % right" in still.description
    texts_inside(still)


def test_confusion_of_nothing_and_of_wrong_things():
    view.confusion(np.zeros((3, 3), int))
    for wrong in (np.zeros((2, 3), int), np.zeros((0, 0), int), -np.eye(2, dtype=int)):
        with pytest.raises(sc.ArgumentValueError, match="matrix"):
            view.confusion(wrong)
    with pytest.raises(sc.ArgumentTypeError, match="counts"):
        view.confusion(np.eye(2))
    with pytest.raises(sc.ArgumentValueError, match="2 names"):
        view.confusion(np.eye(2, dtype=int), ["a"])
