"""The interactive page in a real browser: keys, buttons, dragging, what is on the screen, and that it stays silent."""

import os
import re
import shutil
import time

import numpy as np
import pytest

import starconv as sc
from starconv.view import slide
from starconv.view.slide import generated

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH, or its path in $CHROMIUM"),
]


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Open an animation's page; any message on the console, error or request fails the test."""
    pages, complaints = [], []

    def open_page(animation, **options):
        path = animation.save(tmp_path / "slide.html")
        page = browser.new_page(viewport={"width": 1200, "height": 800}, **options)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert [text for text in complaints if not text.startswith("data:")] == []


def texts(page, selector):
    return [text for text in page.locator(selector).all_text_contents() if text]


def numbers(page, selector):
    return [int(text.replace("−", "-")) for text in texts(page, selector)]


def step(page):
    return int(page.locator("body").get_attribute("data-step"))


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


SIZE, KERNEL, ARGUMENTS = (7, 7), (3, 3), {"stride": 2, "padding": 1}


@pytest.fixture
def page(opened):
    return opened(slide(SIZE, KERNEL, **ARGUMENTS))


@pytest.fixture
def expected():
    x, w = generated(SIZE, KERNEL)
    return x, w, sc.conv2d(x[None], w[None, None], **ARGUMENTS)[0]


def test_the_numbers_of_every_step_are_right(page, expected):
    x, w, result = expected
    padded = np.pad(x, 1)
    assert numbers(page, ".input svg > text") == padded.ravel().tolist()
    for number, (i, j) in enumerate(np.ndindex(result.shape)):
        assert step(page) == number
        patch = padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        assert numbers(page, '[data-kind="first"]') == patch.ravel().tolist()
        assert numbers(page, '[data-kind="kernel"]') == w.ravel().tolist()
        assert numbers(page, '[data-kind="product"]') == (patch * w).ravel().tolist()
        assert numbers(page, ".output svg > text") == result.ravel()[: number + 1].tolist()
        says = page.locator("#sum").text_content()
        assert int(says.rpartition("= ")[2].replace("−", "-")) == result[i, j]
        page.keyboard.press("ArrowRight")
    assert step(page) == result.size - 1  # there is no step after the last


def test_keys(page):
    for key, where in (
        ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowDown", 6), ("ArrowLeft", 5), ("ArrowUp", 1), ("End", 15),
        ("ArrowRight", 15), ("Home", 0), ("ArrowLeft", 0), ("ArrowUp", 0),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert step(page) == where, key


def test_buttons_and_the_slider(page):
    for button, where in (("#next", 1), ("#next", 2), ("#back", 1), ("#last", 15), ("#first", 0)):
        page.locator(button).click()
        assert step(page) == where
    page.locator("#step").fill("9")
    assert step(page) == 9
    assert page.locator("#count").text_content() == "10 / 16"
    assert page.locator("#step").get_attribute("aria-valuetext").startswith("step 10: ")
    page.locator("#step").focus()
    page.keyboard.press("ArrowRight")
    assert step(page) == 10


def test_play_and_pause_with_the_space_key(page):
    page.locator("#speed").select_option("120")
    page.locator("h1").click()
    page.keyboard.press("Space")
    until(lambda: step(page) >= 2)
    page.keyboard.press("Space")
    where = step(page)
    assert where < 15
    page.wait_for_timeout(400)
    assert step(page) == where
    assert page.locator("#play").get_attribute("aria-label") == "Play"
    page.locator("#play").focus()
    page.keyboard.press("Space")  # on the button itself: once, not twice
    until(lambda: step(page) == 15)
    page.wait_for_timeout(300)
    assert page.locator("#play").get_attribute("aria-label") == "Play"  # stopped at the end by itself


def cell(page, panel, row, column, columns):
    box = page.locator(f".{panel} rect.cell").nth(row * columns + column).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_dragging_the_window_over_the_input(page):
    page.mouse.move(*cell(page, "input", 1, 1, 9))
    page.mouse.down()
    assert step(page) == 0
    page.mouse.move(*cell(page, "input", 3, 5, 9), steps=4)
    assert step(page) == 1 * 4 + 2
    page.mouse.move(*cell(page, "input", 8, 8, 9), steps=4)
    assert step(page) == 15
    page.mouse.up()
    page.mouse.move(*cell(page, "input", 1, 1, 9), steps=2)
    assert step(page) == 15  # nothing is held any more
    page.mouse.click(*cell(page, "output", 2, 1, 4))
    assert step(page) == 9


def test_dragging_stays_in_its_output_channel(opened):
    page = opened(slide((2, 5, 5), (3, 2, 3, 3)))
    page.locator("#step").fill("10")  # second output channel, at (0, 1)
    page.mouse.click(*cell(page, "input", 3, 3, 5))
    assert step(page) == 9 + 2 * 3 + 2


def test_fingers(opened):
    page = opened(slide((7, 7), (3, 3)), has_touch=True)
    page.touchscreen.tap(*cell(page, "input", 3, 3, 7))
    assert step(page) == 2 * 5 + 2


@pytest.mark.parametrize(
    ("size", "kernel", "arguments", "count"),
    [
        ((12,), (3,), {"padding": 1, "dilation": 2}, 10),
        ((3, 6), (2, 3, 2), {"bias": [1, 2]}, 10),
        ((4, 5, 5), (4, 2, 3, 3), {"groups": 2}, 36),
        ((3, 3), (3, 3), {"stride": 2, "padding": 1, "transposed": True}, 25),
        ((3, 3), (3, 3), {"stride": 2, "padding": 1, "transposed": True, "method": "stamp"}, 9),
        ((4,), (3,), {"stride": 2, "transposed": True, "method": "stamp"}, 4),
    ],
)
def test_every_kind_ends_with_the_whole_output(opened, size, kernel, arguments, count):
    animation = slide(size, kernel, **arguments)
    page = opened(animation)
    page.keyboard.press("End")
    assert page.locator("#count").text_content() == f"{count} / {count}"
    selector = ".output svg > text" + (":not(.padding)" if arguments.get("method") == "stamp" else "")
    assert numbers(page, selector) == animation.data.output.ravel().tolist()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_and_their_button(opened, theme):
    page = opened(slide((5, 5), (3, 3), theme=theme))
    shade = "getComputedStyle(document.body).backgroundColor"
    brightness = [sum(map(int, re.findall(r"\d+", page.evaluate(shade))))]
    page.locator("#theme").click()
    brightness.append(sum(map(int, re.findall(r"\d+", page.evaluate(shade)))))
    assert (brightness[0] > brightness[1]) == (theme == "light")


@pytest.mark.parametrize("width", [380, 800, 1200])
def test_nothing_is_wider_than_the_window(opened, width):
    page = opened(slide((7, 7), (3, 3), padding=1))
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_in_a_notebook_s_frame(browser):
    """Jupyter puts _repr_html_ into its own page; the player lives in a frame of it."""
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(f"<!doctype html><body>{slide((5, 5), (3, 3))._repr_html_()}</body>")
    frame = page.frame_locator("iframe")
    frame.locator("#next").click()
    assert frame.locator("#count").text_content() == "2 / 9"
    assert errors == []
    page.close()
