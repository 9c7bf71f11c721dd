"""Colours can be told apart and read, numbers say what they can in their cells, and nothing leaves the canvas."""

import importlib
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starconv.data.files import MissingPackageError
from starconv.errors import ArgumentValueError
from starconv.view.canvas import SMALLEST_NUMBER, Canvas, draw_grid
from starconv.view.theme import THEMES, data_limits, format_number, text_width, theme_of, tidy


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", THEMES)
def test_text_is_readable_on_what_it_stands_on(name):
    look = THEMES[name]
    for fill in (look.background, look.input_fill, look.kernel_fill, look.output_fill, look.accent_fill):
        assert contrast(look.text, fill) >= 7  # WCAG 2.1 AAA
    for label in (look.input, look.kernel, look.output, look.accent, look.muted):
        assert contrast(label, look.background) >= 3  # AA for large text, which labels are


# Machado, Oliveira and Fernandes (2009), full severity, on linear RGB.
DEFICIENCIES = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("name", THEMES)
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_roles_can_be_told_apart_without_red_or_green_cones(name, deficiency):
    look = THEMES[name]

    def seen(colour):
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        linear = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
        return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)

    for one, other in itertools.combinations((look.input, look.kernel, look.output), 2):
        assert np.linalg.norm(seen(one) - seen(other)) > 40
    assert np.linalg.norm(seen(look.low) - seen(look.high)) > 80


def test_signed_colours_are_neutral_at_zero():
    assert data_limits([-1, 3], signed=True) == (-3, 3)
    assert data_limits([np.nan, 2, np.inf, 5]) == (2, 5)
    assert data_limits([]) == (0, 1)
    for look in THEMES.values():
        middle = np.array(look.signed(0.5)[:3]) * 255
        assert np.ptp(middle) < 12


@given(st.floats(width=64), st.integers(3, 8))
def test_a_number_never_has_more_characters_than_it_may(value, characters):
    assert 1 <= len(format_number(value, characters)) <= characters


@given(st.floats(-9999, 99999))
def test_a_number_is_near_to_what_it_says(value):
    shown = float(format_number(value).replace("−", "-"))
    digits = 0.06 if abs(value) >= 1e-3 else 0.5  # one digit and the exponent
    assert math.isclose(shown, value, rel_tol=digits, abs_tol=1e-9)


def test_integers_are_themselves():
    assert [format_number(n) for n in (0, -0.0, 7, -12, 99999)] == ["0", "0", "7", "−12", "99999"]


def test_fractions_are_rounded_to_the_largest_of_them():
    assert tidy([0.04, 12.3456]).tolist() == [0.0, 12.3]
    assert tidy([123456.789]).tolist() == [123457.0]
    assert tidy(np.array([1, 2])).dtype.kind == "i"


@pytest.mark.parametrize("cell", [0.15, 0.2, 0.3, 0.5])
@pytest.mark.parametrize("values", [[[1, -2]], [[-99999, 3]], [[0.123456, -1e-7]]], ids=str)
def test_numbers_fit_their_cells(cell, values):
    grid = Canvas().grid(values, left=1, top=1, cell=cell, mode="numbers")
    for text in grid.texts:
        assert text_width(text, grid.font_size) <= 0.83 * cell
    assert grid.font_size / 72 <= cell


def test_auto_draws_pixels_where_numbers_could_not_be_read():
    canvas = Canvas()
    assert canvas.grid([[1, 2]], left=0, top=0, cell=0.4).font_size >= SMALLEST_NUMBER
    assert canvas.grid([[1, 2]], left=0, top=0, cell=0.05).font_size == 0
    assert canvas.grid(np.zeros((64, 64)), left=0, top=0, cell=0.4).texts == ()


def test_numbers_stand_in_the_middle_of_their_cells():
    canvas = Canvas(width=3, height=3)
    grid = canvas.grid([[8]], left=1, top=1, cell=1, mode="numbers")
    box = grid.artists[-1].get_path().get_extents()
    assert (box.x0 + box.x1) / 2 == pytest.approx(1.5, abs=0.01)
    assert (box.y0 + box.y1) / 2 == pytest.approx(1.5, abs=0.01)


def test_long_text_becomes_smaller_and_stays_on_the_canvas():
    canvas = Canvas(width=4, height=2)
    for across, x in (("left", 0.2), ("center", 2), ("right", 3.8), ("left", 3)):
        text = canvas.text(x, 1, "a sentence that is far too long for this", across=across)
        box = text.get_window_extent(canvas.figure.canvas.get_renderer())
        assert box.x0 >= 0
        assert box.x1 <= 400


def test_cells_that_are_not_shown_are_not_drawn():
    canvas = Canvas()
    grid = draw_grid(
        canvas.axes, [[1, 2], [3, 4]], left=0, top=0, cell=0.5, shown=[[True, False], [False, True]], mode="numbers"
    )
    assert grid.texts == ("1", "", "", "4")
    assert len(grid.artists[0].get_paths()) == 2


def test_unknown_theme():
    with pytest.raises(ArgumentValueError, match="'light' or 'dark'"):
        theme_of("sepia")


def test_matplotlib_is_neither_imported_early_nor_through_pyplot():
    program = (
        "import sys, starconv.view\n"
        "assert 'matplotlib' not in sys.modules\n"
        "starconv.view.slide((3, 3), (2, 2)).images().__next__()\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    def missing(name, *arguments):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *arguments)

    original = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingPackageError, match=r"starconv\[view\]"):
        Canvas()
