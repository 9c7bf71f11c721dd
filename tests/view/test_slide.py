"""What slide draws is what the library computes: the guide's fifteen animations, and everything beyond them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import starconv as sc
from starconv.cli import app
from starconv.errors import ArgumentValueError
from starconv.view import slide
from starconv.view.slide import generated
from starconv.view.slide_scenes import GatherScene, StampScene, sum_text
from starconv.view.theme import format_number, theme_of
from starconv.view.trace import Trace

GOLDEN = Path(__file__).parent / "golden"

# The fifteen animations of github.com/vdumoulin/conv_arithmetic by their names: what one types, the output's side,
# and the side of the padded (transposed: stretched and padded) input, by the guide's relationships 1 to 14.
GUIDE = {
    "no_padding_no_strides": ("-i 4x4 -k 3x3", 2, 4),
    "arbitrary_padding_no_strides": ("-i 5x5 -k 4x4 -p 2", 6, 9),
    "same_padding_no_strides": ("-i 5x5 -k 3x3 -p same", 5, 7),
    "full_padding_no_strides": ("-i 5x5 -k 3x3 -p full", 7, 9),
    "no_padding_strides": ("-i 5x5 -k 3x3 -s 2", 2, 5),
    "padding_strides": ("-i 5x5 -k 3x3 -s 2 -p 1", 3, 7),
    "padding_strides_odd": ("-i 6x6 -k 3x3 -s 2 -p 1", 3, 8),
    "dilation": ("-i 7x7 -k 3x3 -d 2", 3, 7),
    "no_padding_no_strides_transposed": ("-t -i 2x2 -k 3x3", 4, 6),
    "arbitrary_padding_no_strides_transposed": ("-t -i 6x6 -k 4x4 -p 2", 5, 8),
    "same_padding_no_strides_transposed": ("-t -i 5x5 -k 3x3 -p 1", 5, 7),
    "full_padding_no_strides_transposed": ("-t -i 7x7 -k 3x3 -p full", 5, 7),
    "no_padding_strides_transposed": ("-t -i 2x2 -k 3x3 -s 2", 5, 7),
    "padding_strides_transposed": ("-t -i 3x3 -k 3x3 -s 2 -p 1", 5, 7),
    "padding_strides_odd_transposed": ("-t -i 3x3 -k 3x3 -s 2 -p 1 --output-padding 1", 6, 8),
}

BEYOND = {
    "asymmetric padding": ((5, 6), (3, 2), {"padding": ((2, 0), (1, 3)), "stride": (1, 2)}),
    "not square": ((3, 9), (2, 4), {"dilation": (1, 2), "padding": 1}),
    "one axis": ((11,), (4,), {"stride": 2, "padding": ((3, 1),)}),
    "one axis, channels": ((2, 9), (3, 2, 3), {"padding": 1, "bias": [1, -1, 0]}),
    "grouped": ((4, 5, 4), (4, 2, 2, 3), {"groups": 2, "bias": [0, 5, -5, 1]}),
    "depthwise": ((3, 4, 4), (3, 1, 3, 3), {"groups": 3, "padding": 1}),
    "reflect": ((5, 5), (3, 3), {"padding": 2, "padding_mode": "reflect"}),
    "transposed, grouped": ((2, 3, 3), (2, 1, 3, 3), {"groups": 2, "stride": 2, "padding": 1, "transposed": True}),
    "transposed, one axis": ((4,), (3,), {"stride": 3, "transposed": True, "output_padding": 1}),
    "1x1": ((3, 4, 4), (2, 3, 1, 1), {}),
    "one output": ((5, 5), (5, 5), {}),
}


def library(x, w, bias=None, transposed=False, **arguments):
    """The public function's result for arrays with channels."""
    x, w = np.asarray(x), np.asarray(w)
    w = w if w.ndim > 2 else w[None, None]
    x = x if x.ndim == w.ndim - 1 else x[None]
    names = (sc.conv1d, sc.conv2d) if not transposed else (sc.conv_transpose1d, sc.conv_transpose2d)
    return names[w.ndim - 3](x, w, bias, **arguments)


def as_numbers(texts):
    return [int(text.replace("−", "-")) for text in texts if text]


@pytest.mark.parametrize("name", GUIDE)
def test_the_guide_s_animations_are_one_command_each(name, tmp_path):
    arguments, side, _ = GUIDE[name]
    path = tmp_path / f"{name}.gif"
    result = CliRunner().invoke(app, ["slide", *arguments.split(), "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert f"→ {side}×{side}" in result.output
    with Image.open(path) as gif:
        assert gif.n_frames == side**2
        assert gif.size == (960, 540)


@pytest.mark.parametrize("name", GUIDE)
def test_the_guide_s_sizes(name):
    from starconv.cli.parsing import padding_value, per_axis_value

    words = GUIDE[name][0].replace("-t", "-t yes").split()
    given = dict(zip(words[::2], words[1::2], strict=True))
    animation = slide(
        per_axis_value("input", given["-i"]),
        per_axis_value("kernel", given["-k"]),
        per_axis_value("stride", given.get("-s", "1")),
        padding_value(given.get("-p", "0")),
        per_axis_value("dilation", given.get("-d", "1")),
        transposed="-t" in given,
        output_padding=int(given.get("--output-padding", 0)),
    )
    trace = animation.data
    assert trace.output.shape == (1, GUIDE[name][1], GUIDE[name][1])
    assert trace.canvas.shape == (1, GUIDE[name][2], GUIDE[name][2])


@pytest.mark.parametrize("case", BEYOND)
def test_every_number_drawn_is_the_library_s(case):
    size, kernel, arguments = BEYOND[case]
    groups = arguments.get("groups", 1)
    x, w = generated(size, kernel, groups, transposed=arguments.get("transposed", False), seed=3)
    options = dict(arguments)
    bias = options.pop("bias", None)
    expected = library(x, w, bias, **options)
    trace = Trace.of(x, w, bias, **options)
    scene = GatherScene(trace, theme_of("light"), "title", range(len(trace)))
    assert as_numbers(text for grid in scene.input.grids for text in grid.texts) == trace.canvas.ravel().tolist()
    for number in range(scene.frames):
        artists = scene.draw(number)
        step = trace.step(number)
        shown = as_numbers(text for grid in scene.drawn["output"] for text in grid.texts)
        assert shown == expected.ravel()[: number + 1].tolist()
        patches, products = (
            as_numbers(text for grid in scene.drawn[key] for text in grid.texts) for key in ("first", "products")
        )
        assert patches == [value for part in step.parts for value in part.patch.ravel().tolist()]
        assert sum(products) + (step.bias or 0) == expected.ravel()[number]
        assert sum_text(step)[-1].endswith(f"= {format_number(expected.ravel()[number], 7)}")
        for artist in artists:
            artist.remove()


def test_stamps_drawn_add_up_to_the_library_s_result():
    x, w = generated((2, 3, 3), (2, 2, 3, 3), transposed=True, seed=1)
    trace = Trace.of(x, w, stride=2, padding=1, transposed=True)
    scene = StampScene(trace, theme_of("dark"), "title", range(trace.x.size))
    total = np.zeros(trace.stamped_shape, int)
    for number in range(scene.frames):
        scene.draw(number)
        stamp = trace.stamp(number)
        total[np.ix_(stamp.channels, *stamp.window)] += stamp.products
        shown = as_numbers(text for grid in scene.drawn["output"] for text in grid.texts)
        assert shown == total.ravel().tolist()
    assert np.array_equal(total[:, 1:-1, 1:-1], sc.conv_transpose2d(x, w, stride=2, padding=1))


def layouts():
    for case, (size, kernel, arguments) in BEYOND.items():
        yield pytest.param(size, kernel, arguments, id=case)
    yield pytest.param((4,), (3,), {"stride": 2, "transposed": True, "method": "stamp"}, id="stamps, one axis")
    yield pytest.param((3, 3), (3, 3), {"stride": 2, "transposed": True, "method": "stamp"}, id="stamps")
    yield pytest.param((4, 8, 8), (4, 4, 3, 3), {"padding": 1}, id="many channels")
    yield pytest.param((20, 30), (3, 3), {}, id="many cells")
    yield pytest.param((9, 9), (7, 7), {"padding": 3}, id="large kernel")
    yield pytest.param(np.random.default_rng(0).normal(size=(64, 48)) * 100, (5, 5), {"stride": 3}, id="picture")
    yield pytest.param(np.random.default_rng(0).normal(size=(7, 7)), np.ones((3, 3)) / 9, {}, id="fractions")
    yield pytest.param((60,), (5,), {}, id="long signal")


@pytest.mark.parametrize(("x", "kernel", "arguments"), list(layouts()))
def test_text_is_neither_cut_nor_on_top_of_other_text(x, kernel, arguments):
    animation = slide(x, kernel, **arguments)
    for frame in {0, animation.frames - 1}:
        figure = animation.still(frame).figure
        renderer = figure.canvas.get_renderer()
        width, height = figure.bbox.size
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.axes[0].texts]
        for text, box in boxes:
            assert box.x0 >= 0, text
            assert box.y0 >= 0, text
            assert box.x1 <= width, text
            assert box.y1 <= height, text
        for number, (one, box) in enumerate(boxes):
            for other, another in boxes[:number]:
                apart = box.x1 <= another.x0 + 1 or another.x1 <= box.x0 + 1
                apart = apart or box.y1 <= another.y0 + 3 or another.y1 <= box.y0 + 3  # descenders that are not there
                assert apart, (one, other)


def test_generated_numbers_are_small_integers_that_the_seed_decides():
    x, kernel = generated((5, 7), (3, 3), seed=4)
    assert np.array_equal(x, generated((5, 7), (3, 3), seed=4)[0])
    assert not np.array_equal(x, generated((5, 7), (3, 3), seed=5)[0])
    assert np.abs(x).max() < 5
    assert np.abs(kernel).max() < 5


@pytest.mark.parametrize(
    ("x", "kernel", "groups", "shapes"),
    [
        (5, 3, 1, ((5, 5), (3, 3))),
        ((12,), 3, 1, ((12,), (3,))),
        ((3, 5, 5), (3, 3), 1, ((3, 5, 5), (1, 3, 3, 3))),
        ((4, 5, 5), (3, 3), 2, ((4, 5, 5), (2, 2, 3, 3))),
        (np.zeros((6, 7)), 3, 1, ((6, 7), (3, 3))),
        ([1, 2, 3], [1, 2], 1, ((3,), (2,))),
    ],
)
def test_sizes_and_data_can_be_mixed(x, kernel, groups, shapes):
    assert tuple(np.shape(array) for array in generated(x, kernel, groups)) == shapes


def test_of_many_steps_some_are_shown_the_first_and_last_among_them():
    animation = slide((30, 30), (3, 3), max_frames=10)
    assert len(animation) == 10
    scene = animation._draw.__self__
    assert (scene.numbers[0], scene.numbers[-1]) == (0, 28 * 28 - 1)


@pytest.mark.parametrize(
    ("named", "arguments"),
    [
        ("method", {"method": "stamp"}),
        ("method", {"method": "scatter", "transposed": True}),
        ("theme", {"theme": "blue"}),
        ("x", {"x": (9, 5, 5), "kernel": (1, 9, 3, 3)}),
        ("kernel", {"x": (1, 5, 5), "kernel": (9, 1, 3, 3)}),
        ("x", {"x": (1, 3, 3, 3), "kernel": (1, 1, 2, 2, 2)}),
        ("kernel_size", {"x": (2, 2), "kernel": (3, 3)}),
    ],
)
def test_wrong_calls_name_the_argument(named, arguments):
    with pytest.raises(ArgumentValueError, match=rf"^{named} = "):
        slide(**arguments)


@pytest.mark.parametrize(
    ("kernel", "channels"), [((1, 1), 1), ((5, 2), 1), ((1, 1), 3), ((3, 3), 3)], ids=["1", "narrow", "1s", "sums"]
)
def test_no_arrow_meets_a_heading_or_a_sum(kernel, channels):
    x = np.random.default_rng(1).normal(size=(channels, 6, 6)) * 100
    w = np.random.default_rng(2).integers(-1, 3, (2, channels, *kernel))
    drawing = slide(x, w).still()
    drawing.figure.canvas.draw()
    axes = drawing.figure.axes[0]
    inches = axes.transData.inverted()
    texts = [t for t in axes.texts if t.get_text() in ("patch", "kernel", "products") or t.get_text()[:1] == "Σ"]
    assert len(texts) == 3 + channels * (channels > 1)
    right = max(inches.transform(text.get_window_extent())[:, 0].max() for text in texts)
    scene_arrow = max(place[0][0] for place in _arrows(x, w))
    assert right < scene_arrow


def _arrows(x, w):
    trace = Trace.of(x, w)
    return GatherScene(trace, theme_of("light"), trace.describe(), [0]).arrow_gaps


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"padding": 1}, ", padded"),
        ({"transposed": True}, ", padded"),
        ({"transposed": True, "stride": 2, "padding": 2}, ", stretched"),
        ({"transposed": True, "stride": 2}, ", stretched, padded"),
        ({"transposed": True, "padding": 2}, ""),
    ],
)
def test_the_heading_says_what_was_done_to_the_input(arguments, words):
    texts = [text.get_text() for text in slide((5, 5), (3, 3), **arguments).figure.axes[0].texts]
    assert f"Input  5×5{words}" in texts


PICTURES = {
    "strided": ((5, 5), (3, 3), {"stride": 2, "padding": 1}),
    "stamps": ((3, 3), (3, 3), {"stride": 2, "transposed": True, "method": "stamp", "theme": "dark"}),
    "channels": ((2, 4, 4), (2, 2, 3, 3), {"bias": [1, -1], "dilation": 1}),
}


def difference(path, golden):
    """Largest difference between means of 6x6 pixels: a digit matters, how a curve is smoothed does not."""
    means = []
    for file in (path, golden):
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("L"), float)
        rows, columns = (size // 6 * 6 for size in pixels.shape)
        means.append(pixels[:rows, :columns].reshape(rows // 6, 6, columns // 6, 6).mean((1, 3)))
    assert means[0].shape == means[1].shape
    return np.abs(means[0] - means[1]).max()


@pytest.mark.parametrize("name", PICTURES)
def test_golden_pictures(name, tmp_path):
    """To renew after looking at them: delete the file in tests/view/golden and run this test twice."""
    x, kernel, arguments = PICTURES[name]
    golden = GOLDEN / f"{name}.png"
    path = slide(x, kernel, **arguments).save(tmp_path / "now.png", dpi=60)
    if not golden.exists():
        GOLDEN.mkdir(exist_ok=True)
        golden.write_bytes(path.read_bytes())
        pytest.fail(f"{golden} was missing and is now written: look at it")
    assert difference(path, golden) < 25
    other = slide(x, kernel, seed=9, **arguments).save(tmp_path / "other.png", dpi=60)
    assert difference(other, golden) > 25  # the comparison can fail


def test_a_photograph_is_drawn_coarsely_and_computed_exactly():
    picture = np.random.default_rng(0).integers(0, 256, (1800, 2600)).astype(np.float64)
    animation = slide(picture, np.ones((3, 3)))
    drawn = [image.get_array() for image in animation.figure.axes[0].images]
    assert drawn
    assert max(array.shape[0] * array.shape[1] for array in drawn) <= picture.size // 4
    np.testing.assert_array_equal(animation.data.output[0], sc.conv2d(picture[np.newaxis], np.ones((1, 1, 3, 3)))[0])
