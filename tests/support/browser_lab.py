"""Debian's Chromium for the tests of the web pages: one process for each file of tests, one context for each visit.

`BrowserVisit.look` checks the page that is shown, at every width: axe finds no violation, nothing is cut off, it has at most 250 kB, and so far nothing was
requested from another origin, refused by the page's own policy or failed in a script.
"""

import base64
import gzip
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, CDPSession, Error, Page, Request, sync_playwright

from services.common.language import Language
from services.portal.static_files import STATIC
from tests.portal.browser.console_states import TEMPLATE
from tests.portal.browser.states import STATES, WIDTHS, Scripts, SeenState

MISSING: Final = (
    "Chromium is missing: run .ci/install-browser, which installs Debian's packages chromium and fonts-noto-cjk"
)
LOCALES: Final[dict[Language, str]] = {"en": "en-GB", "zh": "zh-CN"}
UNLISTED: Final = "unlisted"
"""The state of a page that only a test has."""
STYLES_OF_PROVIDER: Final = "https://cdn.jsdelivr.net"
"""Named by the pages of oidc-provider-mock; nothing is asked there."""
RUN_AXE: Final = """
axe.run({resultTypes: ['violations', 'incomplete'], rules: {'target-size': {enabled: true}}}).then(results => ({
    violations: [
        ...results.violations, ...results.incomplete.filter(rule => ['duplicate-id-aria', 'target-size'].includes(rule.id))
    ].map(rule => rule.id + ': ' + rule.nodes.map(node => node.html).join(' ')),
    passed: results.passes.length,
}))
"""
"""All rules of WCAG 2.2 A and AA and of good practice. `target-size` is the one of 2.2 that axe does not run by itself; of that rule, and
of the one about ids, also what axe leaves to a person."""
OVERFLOW: Final = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
FILES: Final = (
    "[...document.querySelectorAll('link[href], script[src], img[src]')].map(element => element.href || element.src)"
)
MOST_BYTES: Final = 250 * 1024
"""Of a page with all that it loads, compressed."""
TRIES: Final = 5
"""A page with scripts is loaded again when its request is finished, maybe in the middle of a check."""
PICTURE_BYTES: Final = 40_000
"""Of a picture of the guides, as tests/unit/test_docs.py requires it."""
QUALITY_STEP: Final = 8


class BrowserVisit:
    """A person with a browser window, in one language, with or without scripts."""

    def __init__(self, page: Page, session: CDPSession, origin: str, language: Language, scripts: Scripts) -> None:
        self.page = page
        self.language = language
        self.scripts: Scripts = scripts
        self.problems: list[str] = []
        """What was requested elsewhere, refused by the page's policy, or failed in a script."""
        self.allowed_origins: list[str] = []
        """Further origins that may be asked; a test answers in their place."""
        self._session = session
        self.origin = origin
        self._axe = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
        page.on("request", self._note_request)
        page.on("pageerror", lambda error: self.problems.append(f"error in a script: {error}"))
        page.on("console", lambda message: self._note_console(message.type, message.text))
        self._allow_scripts(scripts == "scripts")

    def open(self, path: str) -> None:
        """Go to a page of the portal."""
        self.page.goto(path if path.startswith("http") else self.origin + path)

    def look(self, state: str, widths: Iterable[int] = tuple(WIDTHS)) -> list[SeenState]:
        """Check the page that is shown, at each width; `state`: of states.py or console_states.py, or UNLISTED. Returns what was seen."""
        assert state in STATES or state in TEMPLATE or state == UNLISTED
        assert self.problems == [], f"{state}: {self.problems}"
        tag = self.page.get_attribute("html", "lang")
        assert tag is not None and tag.partition("-")[0] == self.language, (state, tag)
        seen = []
        for width in widths:
            self.page.set_viewport_size({"width": width, "height": WIDTHS[width]})
            result = self._retried(self._check)
            assert result["violations"] == [], f"{state} ({self.language}, {width}): {json.dumps(result, indent=1)}"
            assert result["overflow"] <= 0, f"{state} ({self.language}, {width}) is wider than its window"
            template = self.page.get_attribute("body", "data-template") or ""
            size = self._compressed_bytes()
            assert size <= MOST_BYTES, f"{state} ({self.language}, {width}) has {size} bytes"
            seen.append(SeenState(state, template, self.language, width, self.scripts, result["passed"], size))
        return seen

    def picture(self, file: Path, *, quality: int, most_height: int) -> None:
        """The page from its top as WebP, at the width that was looked at last and at most so high; in a lower quality if the file of
        one for the guides, which is cut off, would be too large."""
        size = self.page.evaluate("({width: innerWidth, height: document.documentElement.scrollHeight})")
        clip = {"x": 0, "y": 0, "scale": 1, "width": size["width"], "height": min(size["height"], most_height)}
        options = {"format": "webp", "captureBeyondViewport": True, "clip": clip}
        for lower in range(quality, 0, -QUALITY_STEP):
            answer = self._session.send("Page.captureScreenshot", {**options, "quality": lower})
            picture = base64.b64decode(answer["data"])
            if len(picture) < PICTURE_BYTES or clip["height"] == size["height"]:
                break
        file.write_bytes(picture)

    def _compressed_bytes(self) -> int:
        """Of the page and everything that it loads, each file compressed by gzip."""
        files: list[str] = self.page.evaluate(FILES)
        return sum(_compressed_bytes(file.rpartition("/")[2]) for file in files) + len(
            gzip.compress(self.page.content().encode())
        )

    def _check(self) -> dict[str, Any]:
        # Timers of axe stand still while scripts are off; the page's own ones were not run when it was loaded.
        self._allow_scripts(True)
        try:
            if not self.page.evaluate("'axe' in window"):
                self.page.evaluate(self._axe)
            result: dict[str, Any] = self.page.evaluate(RUN_AXE)
            result["overflow"] = self.page.evaluate(OVERFLOW)
            return result
        finally:
            self._allow_scripts(self.scripts == "scripts")

    def _retried(self, check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        for _ in range(TRIES - 1):
            try:
                return check()
            except Error as error:
                if "context was destroyed" not in str(error) and "navigation" not in str(error):
                    raise
                self.page.wait_for_load_state()
        return check()

    def _allow_scripts(self, allowed: bool) -> None:
        self._session.send("Emulation.setScriptExecutionDisabled", {"value": not allowed})

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith((self.origin + "/", *self.allowed_origins)):
            self.problems.append(f"request to {request.url}")

    def _note_console(self, kind: str, text: str) -> None:
        # A refusal of the server (401, 422) is also written as an error, and is what a test may be about.
        if kind == "error" and "Failed to load resource" not in text:
            self.problems.append(text)


@cache
def _compressed_bytes(name: str) -> int:
    return len(gzip.compress((STATIC / name).read_bytes()))


Visit = Callable[..., AbstractContextManager[BrowserVisit]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser. It ends with its file: while Playwright runs, no other test of the process can run an event loop."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.fail(MISSING)
    with sync_playwright() as playwright:
        # As root, as in a container, Chromium's own sandbox cannot be used; the pages are ours.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Visit:
    """`visit(origin, language, scripts)` opens a window with its own cookies; at its end everything that it saw must have been in order.

    `provider`: origin of a provider of the tests at which the person signs in; its certificate is of the tests' own authority.
    """

    @contextmanager
    def open_window(
        origin: str, language: Language, scripts: Scripts = "scripts", *, provider: str | None = None
    ) -> Iterator[BrowserVisit]:
        context = chromium.new_context(
            locale=LOCALES[language], reduced_motion="reduce", ignore_https_errors=provider is not None
        )
        context.set_default_timeout(60_000)
        try:
            page = context.new_page()
            visit = BrowserVisit(page, context.new_cdp_session(page), origin, language, scripts)
            if provider is not None:
                visit.allowed_origins += [provider, STYLES_OF_PROVIDER]
                page.route(f"{STYLES_OF_PROVIDER}/**", lambda route: route.abort())
            yield visit
            assert visit.problems == [], visit.problems
        finally:
            context.close()

    return open_window
