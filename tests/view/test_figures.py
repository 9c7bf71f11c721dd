"""Every figure: text inside the page and clear of other text, the same bytes twice, odd input, wrong calls, golden
pictures (`STARCONV_GOLDEN=write pytest tests/view/test_figures.py` makes them anew)."""

import io
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from starconv import view
from starconv.data.kernels import named_kernel
from starconv.data.synthetic import edges_picture, shapes_picture
from starconv.errors import ArgumentTypeError, ArgumentValueError

GOLDEN = Path(__file__).parent / "golden_figures"
RANDOM = np.random.default_rng(0)
NAN = np.where(np.eye(6) > 0, np.nan, 1.0)
STEM = "conv 64x7x7 stride=2 padding=3; pool 3x3 stride=2 padding=1"

FIGURES = {
    "channels": lambda **o: view.channels((3, 5, 5), (2, 3, 3, 3), [1, -2], padding=1, **o),
    "channels-1d": lambda **o: view.channels((2, 16), (2, 2, 3), padding=1, **o),
    "channels-many": lambda **o: view.channels((12, 20, 30), (8, 6, 3, 3), groups=2, input_channels=[0, 7], **o),
    "channels-nan": lambda **o: view.channels(NAN, [[1, 2]], **o),
    "channels-infinite": lambda **o: view.channels(np.full((4, 4), np.inf), [[1.0, 0.0]], **o),
    "channels-1x1": lambda **o: view.channels((2, 3, 4), (1, 2, 1, 1), **o),
    "shapes-layer": lambda **o: view.shapes((3, 224, 224), "conv 64x7x7 stride=2 padding=3", **o),
    "shapes-grouped-1d": lambda **o: view.shapes((8, 16000), "conv 16x25 stride=4 groups=2", **o),
    "shapes-transposed": lambda **o: view.shapes((4, 5, 6), "transposed 2x3x3 stride=2", **o),
    "shapes-chain": lambda **o: view.shapes(
        (3, 224, 224), f"{STEM}; skip(conv 128x3x3 stride=2 padding=1 | conv 128x1x1 stride=2); pool; dense 1000", **o
    ),
    "shapes-long": lambda **o: view.shapes((3, 64, 64), "conv 8x3x3 padding=1;" * 20, **o),
    "template": lambda **o: view.template(edges_picture((12, 10)), named_kernel("horizontal-edges"), padding=1, **o),
    "template-1d": lambda **o: view.template([0, 1, 2, 3, 2, 1, 0, 0, 5, 0, 0], [1, 2, 1], **o),
    "template-constant": lambda **o: view.template(np.ones((9, 9)), named_kernel("sobel-x"), **o),
    "template-nan": lambda **o: view.template(np.full((5, 5), np.nan), np.ones((3, 3)), **o),
    "filters": lambda **o: view.filters(RANDOM.normal(size=(3, 4, 3, 3)), **o),
    "filters-rgb": lambda **o: view.filters(RANDOM.normal(size=(16, 3, 5, 5)), **o),
    "filters-1x1": lambda **o: view.filters(RANDOM.normal(size=(5, 1, 1, 1)), **o),
    "feature-maps": lambda **o: view.feature_maps({"conv1": RANDOM.normal(size=(20, 14, 17))}, **o),
    "feature-maps-1d": lambda **o: view.feature_maps(RANDOM.normal(size=(5, 40)), scale="shared", **o),
    "feature-maps-nan": lambda **o: view.feature_maps(np.stack([NAN, np.zeros((6, 6)), np.full((6, 6), np.inf)]), **o),
    "matrix": lambda **o: view.matrix((7, 7), (3, 3), **o),
    "matrix-strided": lambda **o: view.matrix((2, 5, 6), (2, 2, 2, 3), stride=(1, 2), padding=1, **o),
    "matrix-1d": lambda **o: view.matrix((9,), (3,), dilation=2, padding=((1, 0),), **o),
    "matrix-nan": lambda **o: view.matrix(NAN, (3, 3), **o),
    "matrix-1x1": lambda **o: view.matrix([[1.0]], [[2.0]], **o),
    "gradient": lambda **o: view.gradient((6, 6), (3, 3), tap=(0, 1), **o),
    "gradient-strided": lambda **o: view.gradient((2, 5, 6), (4, 1, 2, 3), stride=(1, 2), padding=1, groups=2, **o),
    "gradient-nan": lambda **o: view.gradient(NAN, (3, 3), **o),
    "gradient-1x1": lambda **o: view.gradient((5, 4), (1, 1), **o),
    "gradient-1d": lambda **o: view.gradient((9,), (3,), dilation=2, **o),
    "field": lambda **o: view.receptive_field(f"{STEM}; skip(conv 64x3x3 padding=1)", shapes_picture(64), **o),
    "field-corner": lambda **o: view.receptive_field("conv 4x3x3 dilation=4 padding=4", (24, 20), (0, 1), **o),
    "field-nan": lambda **o: view.receptive_field("conv 64x3x3", NAN, **o),
    "field-constant": lambda **o: view.receptive_field("dense 3", np.ones((9, 5)), **o),
    "field-1d": lambda **o: view.receptive_field("conv 4x3 stride=2; transposed 2x4 stride=2", (20,), **o),
    "field-deep": lambda **o: view.receptive_field("conv 8x3x3 padding=1;" * 30, (48, 48), **o),
    "equivariance": lambda **o: view.equivariance(
        shapes_picture(16), named_kernel("horizontal-edges"), (2, 3), padding=1, **o
    ),
    "equivariance-nan": lambda **o: view.equivariance(NAN, (3, 3), 1, **o),
    "equivariance-1d": lambda **o: view.equivariance((16,), (3,), 3, stride=2, **o),
    "equivariance-large": lambda **o: view.equivariance(shapes_picture(64), named_kernel("sobel-x"), (-5, 0), **o),
}


@pytest.mark.parametrize(("theme", "dpi"), [("light", 100), ("dark", 62)])
@pytest.mark.parametrize("name", FIGURES)
def test_text_is_inside_the_page_and_overlaps_no_other(name, theme, dpi):
    figure = FIGURES[name](theme=theme).figure
    figure.set_dpi(dpi)  # letters are rounded to pixels, so that text is wider at some resolutions
    renderer = figure.canvas.get_renderer()
    boxes = []
    for artist in figure.axes[0].texts:
        if artist.get_text():
            box = artist.get_window_extent(renderer)
            assert box.x0 >= 0, artist.get_text()
            assert box.y0 >= 0, artist.get_text()
            assert box.x1 <= figure.bbox.x1, artist.get_text()
            assert box.y1 <= figure.bbox.y1, artist.get_text()
            boxes.append((artist.get_text(), box.padded(-dpi / 100)))
            assert artist.get_fontsize() >= 6, artist.get_text()
    for (one, box), (other, beside) in itertools.combinations(boxes, 2):
        assert not box.overlaps(beside), (one, other)


@pytest.mark.parametrize(
    "name", ["channels", "shapes-chain", "template", "matrix", "gradient", "field", "equivariance"]
)
def test_the_same_call_gives_the_same_bytes(name, tmp_path):
    made = []
    for number in range(2):
        drawing = FIGURES[name]()
        made.append([drawing.save(tmp_path / f"{number}.{kind}").read_bytes() for kind in ("png", "svg")])
    assert made[0] == made[1]


@pytest.mark.parametrize("name", FIGURES)
def test_a_drawing_describes_itself(name):
    drawing = FIGURES[name]()
    assert drawing.description
    assert drawing.data is not None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: view.channels((3, 5, 5), (2, 3, 3, 3), input_channels=[3]), "input_channels"),
        (lambda: view.channels((3, 5, 5), (2, 3, 3, 3), output_channels="no"), "output_channels"),
        (lambda: view.channels((2, 4, 4, 4), (1, 2, 2, 2, 2)), "x = "),
        (lambda: view.channels((3, 5, 5), (2, 3, 3, 3), theme="neon"), "theme"),
        (lambda: view.shapes((3, 8, 8), ""), "layers"),
        (lambda: view.shapes((3, 8, 8), "conv 4x9x9"), "kernel_size"),
        (lambda: view.shapes((3, 8, 8), "convolution 4x3x3"), "layer"),
        (lambda: view.shapes((3, 8, 8), "conv 4x3x3 strides=2"), "strides=2"),
        (lambda: view.shapes((3, 8, 8), "conv 4x3x3 groups=2"), "groups"),
        (lambda: view.shapes((3, 8, 8), "skip(conv 4x3x3)"), "layers"),
        (lambda: view.shapes((3, 8, 8), "skip(conv 4x3x3"), "brackets"),
        (lambda: view.shapes((0, 8, 8), "conv 4x3x3"), "input_shape"),
        (lambda: view.template(np.ones((3, 4, 4)), np.ones((2, 2))), "picture"),
        (lambda: view.template(np.ones((4, 4)), np.ones(2)), "kernel"),
        (lambda: view.template(np.ones((4, 4)), np.ones((2, 2)), matches=0), "matches"),
        (lambda: view.filters(np.ones((2, 3, 4, 5, 6))), "w = "),
        (lambda: view.feature_maps({"a": np.ones((2, 3, 3)), "b": np.ones((2, 3, 3))}), "'a' or 'b'"),
        (lambda: view.feature_maps({"a": np.ones((2, 3, 3))}, "c"), "layer = 'c'"),
        (lambda: view.feature_maps(np.ones((2, 3, 3)), channels=[2]), "channels"),
        (lambda: view.feature_maps(np.ones((2, 3, 3)), scale="log"), "scale"),
        (lambda: view.feature_maps(np.ones((0, 3, 3))), "maps"),
        (lambda: view.matrix((80, 80), (3, 3)), "4,000,000"),
        (lambda: view.matrix((7, 7), (3, 3), at=(5, 0)), "at = "),
        (lambda: view.gradient((7, 7), (3, 3), np.ones((4, 4))), "grad_output"),
        (lambda: view.gradient((7, 7), (3, 3), tap=(3, 0)), "tap"),
        (lambda: view.receptive_field("", (8, 8)), "layers"),
        (lambda: view.receptive_field("conv 4x3x3", (8, 8), (6, 0)), "at = "),
        (lambda: view.receptive_field("conv 4x3x3", (8, 8, 8)), "picture"),
        (lambda: view.equivariance((8, 8), (3, 3), 8), "shift"),
        (lambda: view.equivariance(np.ones((8, 8)), lambda x: 3.0), "layer"),
    ],
)
def test_a_wrong_call_names_its_argument(call, message):
    with pytest.raises((ArgumentValueError, ArgumentTypeError)) as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["channels", "shapes-chain", "template", "matrix", "gradient", "field-corner"])
def test_golden(name):
    from PIL import Image

    file = io.BytesIO()
    FIGURES[name]().figure.savefig(file, dpi=40)
    drawn = Image.open(file).convert("RGB")
    path = GOLDEN / f"{name}.png"
    if os.environ.get("STARCONV_GOLDEN") == "write":
        drawn.save(path, optimize=True)
    golden = Image.open(path).convert("RGB")
    assert drawn.size == golden.size
    # Rasterisers differ in their rounding at edges, so blurred: a cell, a line or a word in another place is far more.
    small = (drawn.width // 4, drawn.height // 4)
    difference = np.abs(np.subtract(*(np.asarray(image.resize(small), float) for image in (drawn, golden))))
    assert difference.mean() < 1.5
    assert difference.max() < 40
