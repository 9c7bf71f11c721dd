"""The tour in a browser: nothing goes wrong, nothing is loaded, nothing is wider than the window, the stepper steps."""

import json
import shutil

import pytest

from starconv.tour import write_tour

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return write_tour(tmp_path_factory.mktemp("tour")).as_uri()


@pytest.fixture(scope="module")
def browser():
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, address):
    """Opens the tour; afterwards nothing may have been reported or requested that should not be."""
    faults: list[str] = []
    contexts = []

    def opened(width=1280, scheme="light", **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("request", lambda request: _note_request(request.url, faults))
        page.goto(address)
        page.wait_for_load_state("networkidle")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def _note_request(url, faults):
    if not url.startswith(("file:", "data:")):
        faults.append(f"request: {url}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 390, 320])
def test_nothing_is_wider_than_the_window(open_page, width, scheme):
    page = open_page(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Text that a box cuts off would not make the page wider: figures must hold what is in them. (Code may scroll.)
    wide = page.evaluate(
        """[...document.querySelectorAll("figure, nav, header, .equation, .steps, .formula")]
               .filter((box) => box.scrollWidth > box.clientWidth + 1)
               .map((box) => box.closest("section")?.id + " " + box.className)"""
    )
    assert wide == []


def test_all_pictures_are_loaded(open_page):
    page = open_page()
    sizes = page.evaluate("[...document.images].map((image) => image.complete && image.naturalWidth)")
    assert len(sizes) > 15
    assert all(sizes)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme_follows_the_system_and_the_button(open_page, scheme):
    page = open_page(scheme=scheme)
    dark = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 128"
    assert page.evaluate(dark) == (scheme == "dark")
    page.click("#theme")
    assert page.evaluate(dark) == (scheme != "dark")
    page.reload()
    assert page.evaluate(dark) == (scheme != "dark")
    page.click("#theme")
    assert page.evaluate(dark) == (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(open_page, scheme):
    """Every text of the page's own palette against what is behind it: WCAG 2's 4.5 to 1."""
    page = open_page(scheme=scheme)
    weak = page.evaluate(
        """(() => {
             const luminance = (colour) => {
               const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((v) => v / 255)
                 .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
               return 0.2126 * r + 0.7152 * g + 0.0722 * b;
             };
             const behind = (element) => {
               for (let e = element; e; e = e.parentElement) {
                 const colour = getComputedStyle(e).backgroundColor;
                 if (colour !== "rgba(0, 0, 0, 0)") return colour;
               }
               return "rgb(255, 255, 255)";
             };
             const found = [];
             const texts = "p, h1, h2, a, li, figcaption, summary, td, th, caption, code span, .label, .legend, button";
             for (const e of document.querySelectorAll(texts)) {
               if (!e.textContent.trim() || e.closest("#stepper")) continue;
               const [a, b] = [luminance(getComputedStyle(e).color), luminance(behind(e))];
               const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
               const name = `${e.tagName}.${e.className} ${e.textContent.slice(0, 20)}`;
               if (ratio < 4.5) found.push(`${name}: ${ratio.toFixed(2)}`);
             }
             return [...new Set(found)];
           })()"""
    )
    assert weak == []


def test_stepping_by_keyboard_shows_the_numbers_of_python(open_page):
    page = open_page()
    data = json.loads(page.text_content("#step-data"))
    steps, columns = data["steps"], data["columns"]

    def check(index):
        step = steps[index]
        assert page.text_content("#step-title") == f"{step['title']} = {step['sum']}"
        terms = page.eval_on_selector_all("#step-products .term", "all => all.map(e => e.firstChild.textContent)")
        assert terms == step["terms"]
        assert (
            page.eval_on_selector_all("#step-products small", "all => all.map(e => e.textContent)") == step["products"]
        )
        assert page.text_content("#step-products strong") == step["sum"]
        marked = {
            table: page.eval_on_selector_all(f"#{table} td.on", "all => all.map(e => e.dataset.at)")
            for table in ("step-x", "step-k", "step-o")
        }
        assert marked == {"step-x": step["inputs"], "step-k": step["taps"], "step-o": [step["output"]]}

    check(0)
    page.focus("#stepper")
    for index in range(1, len(steps)):
        page.keyboard.press("ArrowRight")
        check(index)
    page.keyboard.press("ArrowRight")
    check(0)
    page.keyboard.press("ArrowLeft")
    check(len(steps) - 1)
    page.keyboard.press("ArrowUp")
    check(len(steps) - 1 - columns)
    page.keyboard.press("ArrowDown")
    check(len(steps) - 1)
    page.keyboard.press("Home")
    check(0)
    page.keyboard.press("End")
    check(len(steps) - 1)
    # The buttons, also from the keyboard, and the output itself.
    page.focus("#step-back")
    page.keyboard.press("Enter")
    check(len(steps) - 2)
    page.click("#step-on")
    check(len(steps) - 1)
    page.click("#step-o td[data-at='0,1']")
    check(1)


def test_without_scripts_everything_is_there(open_page):
    page = open_page(java_script_enabled=False)
    assert page.is_visible("#step-o td[data-at='2,2']")
    assert not page.is_visible("#step-controls")
    page.click("figure details summary")
    assert page.locator("figure details tbody tr").count() == 9
