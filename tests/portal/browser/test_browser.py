"""The pages that need no link, in a real browser; and that the checks of these tests find what they are for."""

import shutil
from pathlib import Path

import pytest

from services.common.language import Language
from tests.portal.browser.states import LANGUAGES, WIDTHS, Scripts
from tests.support import browser_lab
from tests.support.browser_lab import OVERFLOW, UNLISTED, BrowserVisit, Visit
from tests.support.portal_lab import Portal, make_portal, portal, portal_dsn

__all__ = ["make_portal", "portal", "portal_dsn"]


@pytest.mark.parametrize("scripts", ["scripts", "no-scripts"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_landing_page(portal: Portal, visit: Visit, language: Language, scripts: Scripts) -> None:
    with visit(portal.origin, language, scripts) as window:
        window.open("/")
        window.look("landing")


CUT_OFF = """
[...document.querySelectorAll('header *, nav *, main *')].filter(element =>
    element.closest('thead') === null && getComputedStyle(element).display !== 'inline' && element.scrollWidth > element.clientWidth + 1
).map(element => element.outerHTML.slice(0, 200))
"""
BROKEN_HEADINGS = """
[...document.querySelectorAll('thead th')].filter(heading =>
    heading.clientHeight > 1.9 * parseFloat(getComputedStyle(heading).lineHeight)
).map(heading => heading.textContent)
"""
SHORTEN = (
    "document.querySelectorAll('article:nth-of-type(n + 4), tbody tr:nth-child(n + 12)').forEach(part => part.remove())"
)
"""All articles come from one template, and axe takes a minute for the whole page."""


def test_the_reference_of_the_api(portal: Portal, visit: Visit) -> None:
    with visit(portal.origin, "en") as window:
        window.open("/v1/reference")
        window.page.keyboard.press("Tab")
        assert window.page.evaluate("document.activeElement.className") == "skip"
        window.page.keyboard.press("Enter")
        assert window.page.evaluate("document.activeElement.id") == "content"
        window.page.keyboard.press("Tab")
        assert window.page.evaluate("document.activeElement.closest('main') !== null"), "the contents are skipped"
        for width, height in WIDTHS.items():
            window.page.set_viewport_size({"width": width, "height": height})
            assert window.page.evaluate(OVERFLOW) == 0, width
            assert window.page.evaluate(CUT_OFF) == [], width
        window.page.set_viewport_size({"width": max(WIDTHS), "height": WIDTHS[max(WIDTHS)]})
        assert window.page.evaluate(BROKEN_HEADINGS) == []
        window.page.evaluate(SHORTEN)
        window.look(UNLISTED)


BROKEN = '<html lang="en"><head><title>broken</title></head><body><main><h1>Form</h1><input>{}</main></body></html>'
SMALL = '<a href="/" style="display: block; height: 1rem">a</a>'
"""Two of them below each other are too close: their text alone is less than 24 pixels high."""
WRONG_PAGES = {
    BROKEN.format(""): "label",
    BROKEN.replace("<input>", "").format('<p style="width: 1400px">wide</p>'): "wider than its window",
    BROKEN.replace("<input>", "").format('<img alt="" src="https://elsewhere.example/a.png">'): r"elsewhere\.example",
    BROKEN.replace("<input>", "").format("<script>missing()</script>"): "error in a script",
    BROKEN.replace("<input>", "").replace('"en"', '"de"').format(""): "'de'",
    BROKEN.replace("<input>", "").format(2 * SMALL): "target-size",
    BROKEN.replace("<input>", "").format(
        '<h2 id="x">A</h2><h2 id="x">B</h2><section aria-labelledby="x">C</section>'
    ): "duplicate-id-aria",
}
"""A page that is not in order → what is said about it."""


def test_a_page_that_is_not_in_order_is_found_out(portal: Portal, visit: Visit) -> None:
    for body, said in WRONG_PAGES.items():
        with pytest.raises(AssertionError, match=said), visit(portal.origin, "en") as window:
            show(window, body)
            window.look(UNLISTED)


def show(window: BrowserVisit, body: str) -> None:
    """Answer the window's next request with a page of this text."""
    window.page.route("**/page", lambda route: route.fulfill(body=body, content_type="text/html"))
    window.open("/page")


def test_scripts_are_off_where_a_test_says_so(portal: Portal, visit: Visit) -> None:
    body = BROKEN.replace("<input>", "").format("<script>document.title = 'with scripts'</script>")
    for scripts, title in (("scripts", "with scripts"), ("no-scripts", "broken")):
        with visit(portal.origin, "en", scripts) as window:
            show(window, body)
            window.look(UNLISTED)
            assert window.page.title() == title


def test_without_chromium_the_tests_fail_and_say_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(pytest.fail.Exception, match=r"run \.ci/install-browser"):
        next(browser_lab.chromium.__wrapped__())  # type: ignore[attr-defined]
    assert (Path(__file__).parents[3] / ".ci" / "install-browser").exists()
