"""The comparison report in a real browser."""

import re
import shutil

import pytest

from support.reports import CASES

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium is installed")
    quiet = ("background-networking", "component-update", "sync", "quic", "gpu")
    arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def show(browser):
    """show(page, width, scheme): a page in a window; `complaints` holds what it asked for and said on the console."""
    contexts = []

    def opened(page, width=1200, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        window = context.new_page()
        window.complaints = []
        window.on("console", lambda message: window.complaints.append(message.text))
        window.on("pageerror", lambda error: window.complaints.append(str(error)))
        window.on(
            "request",
            lambda request: request.url.startswith("data:") or window.complaints.append(f"request {request.url}"),
        )
        window.goto(page.as_uri(), wait_until="load")
        window.complaints.remove(f"request {page.as_uri()}")
        return window

    yield opened
    for context in contexts:
        context.close()


VISIBLE_FIGURES = """() => [...document.images].filter(image => image.checkVisibility()).map(image => ({
    scheme: image.className, alt: image.alt, natural: [image.naturalWidth, image.naturalHeight],
    size: [image.clientWidth, image.clientHeight]}))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_shows_in_both_schemes(show, pages, scheme):
    figures_shown = show(pages("usual"), scheme=scheme).evaluate(VISIBLE_FIGURES)
    assert len(figures_shown) == 6
    for figure in figures_shown:
        assert figure["scheme"] == f"on-{scheme}"
        assert figure["alt"]
        assert min(figure["natural"]) > 100
        assert min(figure["size"]) > 100


def test_print_is_light_and_opens_what_is_collapsed(show, pages):
    window = show(pages("usual"), scheme="dark")
    rows = "() => [...document.querySelectorAll('details:not([open]) :is(tr, pre)')].map(row => row.checkVisibility())"
    on_screen = window.evaluate(rows)
    assert len(on_screen) > 200
    assert not any(on_screen)
    window.emulate_media(media="print")
    assert all(window.evaluate(rows))
    assert {figure["scheme"] for figure in window.evaluate(VISIBLE_FIGURES)} == {"on-light"}
    assert window.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_quiet_and_fits_every_window(show, pages, case):
    window = show(pages(case), width=400, scheme="dark")
    window.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    assert window.evaluate("document.documentElement.scrollWidth") == 400
    for width in (320, 700, 980, 1200):
        window.set_viewport_size({"width": width, "height": 900})
        assert window.evaluate("document.documentElement.scrollWidth") == width
    assert window.complaints == []


@pytest.mark.parametrize("case", ["usual", "much"])
def test_tables_are_readable_on_a_telephone(show, pages, case):
    window = show(pages(case), width=400)
    window.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    cells = window.evaluate("""() => [...document.querySelectorAll('tbody :is(th, td):not(.group)')].map(cell => ({
        size: parseFloat(getComputedStyle(cell).fontSize), label: getComputedStyle(cell, '::before').content,
        right: cell.getBoundingClientRect().right}))""")
    assert len(cells) > 500
    for cell in cells:
        assert cell["size"] >= 12
        assert re.fullmatch(r'"\w.*"', cell["label"])
        assert cell["right"] <= 400


def test_a_click_selects_a_command_as_it_was_given(show, pages):
    made = CASES["usual"]()
    window = show(pages("usual"))
    window.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    shown = window.locator("pre code")
    wanted = [
        *(entry["command"] for entry in made["parity"]),
        made["command"],
        *(run["command"] for run in made["runs"]),
    ]
    assert shown.count() == len(wanted)
    for index in (0, len(wanted) - 1):
        shown.nth(index).click()
        assert window.evaluate("getSelection().toString()") == wanted[index]
