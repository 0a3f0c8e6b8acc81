"""The panel in a real browser: every page at both widths in both languages, and within a frame on a page of another site."""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, Page, Response, Route

from services.aggregator.judge import rules
from services.common.language import Language
from services.common.postgres import connect
from services.portal.panel import texts
from tests.portal.browser.question_paths import MOST_CLICKS, PATHS, shown_text
from tests.portal.browser.states import WIDTHS, Scripts
from tests.support.api_lab import api_client, new_key
from tests.support.browser_lab import UNLISTED, Visit
from tests.support.panel_lab import panel_link
from tests.support.panel_world import seed_world
from tests.support.portal_lab import MakePortal, Portal, make_portal, portal_dsn

__all__ = ["make_portal", "portal_dsn"]

PAGE_BYTES = 250 * 1024
PAGES = ("", "/inquiries", "/due", "/diagnosis", "/changes", "/mailboxes", "/questions", "/providers", "/test-mail")
READERS = (("lt-textile", "lt-main"), ("lt-textile", "lt-sub-wu"), ("bf-valves", "bf-main"))
"""A company with sub-accounts, one that is not measured, and one with a rate of 0."""
LINK_NEEDED = "messages.filter(message => message.type === 'replyrate-link-needed')"
SHOW_FRAME = """
<html lang="en"><head><title>Marketplace</title></head><body><h1>Replies</h1>
<script>const messages = []; addEventListener("message", event => messages.push(event.data));</script>
<iframe title="Reply rate" width="1100" height="900" src="{}"></iframe></body></html>
"""


class PlatformSite:
    """A page of a platform that shows `frame_url` in a frame. A real server: a browser may keep a page that a test made up from
    reaching this computer."""

    def __init__(self) -> None:
        self.frame_url = ""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = SHOW_FRAME.format(site.frame_url).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://localhost:{self._server.server_address[1]}"

    def __enter__(self) -> "PlatformSite":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Scene:
    """A world behind a web process, and the sites of a platform and of a stranger."""

    owner: psycopg.Connection
    portal: Portal
    dsn: str
    platform: PlatformSite
    stranger: PlatformSite

    def frame_token(self) -> dict[str, Any]:
        """A token for a frame, as the backend of the platform gets it."""
        with api_client(self.portal, new_key(self.dsn).secret) as client:
            created: dict[str, Any] = client.post(
                "/v1/panel-tokens", json={"company_id": "lt-textile", "account_id": "lt-main"}
            ).json()
            return created


@pytest.fixture
def scene(dsn: str, make_portal: MakePortal) -> Iterator[Scene]:
    with PlatformSite() as platform, PlatformSite() as stranger, connect(dsn, "tests") as owner:
        seed_world(owner, 1, companies=("lt-textile", "bf-valves", "jh-marine"))
        with make_portal(PORTAL__FRAME_ORIGINS=platform.origin) as portal:
            yield Scene(owner, portal, dsn, platform, stranger)


@pytest.mark.parametrize(("language", "scripts"), [("en", "scripts"), ("zh", "no-scripts")])
def test_every_page_is_in_order(scene: Scene, visit: Visit, language: Language, scripts: Scripts) -> None:
    for company_id, account_id in READERS:
        with visit(scene.portal.origin, language, scripts) as window:
            received: list[int] = []
            window.page.on("response", partial(note_size, received))
            window.open(panel_link(scene.dsn, company_id, account_id, language=language))
            window.page.click("form[action^='/link/'] button")
            assert sum(received) < PAGE_BYTES
            for path in PAGES if (company_id, account_id) == READERS[0] else PAGES[::3]:
                window.open(f"/panel{path}")
                window.look(UNLISTED)
            window.open("/panel/inquiries")
            window.page.click("#inquiries a[href*='/why']")
            window.page.wait_for_selector("#sentences p")
            window.look(UNLISTED)


@pytest.mark.parametrize(("language", "width", "scripts"), [("en", 1280, "scripts"), ("zh", 390, "no-scripts")])
def test_each_frequent_question_is_answered_within_three_clicks(
    scene: Scene, visit: Visit, language: Language, width: int, scripts: Scripts
) -> None:
    for company_id, account_id in (("bf-valves", "bf-main"), ("jh-marine", "jh-main")):
        with visit(scene.portal.origin, language, scripts) as window:
            page = window.page
            page.set_viewport_size({"width": width, "height": WIDTHS[width]})
            window.open(panel_link(scene.dsn, company_id, account_id, language=language))
            page.click("form[action^='/link/'] button")
            for path in PATHS.values():
                if path.reader != company_id:
                    continue
                page.goto(f"{scene.portal.origin}/panel")
                for number, (selector, name) in enumerate(path.clicks, 1):
                    link = page.locator(selector).first
                    assert shown_text(name, language) in link.inner_text(), path.code
                    link.click()
                    if number == 1:
                        answer = page.locator(f"section[aria-labelledby=question-{path.code}] h2 + p")
                        answer.wait_for()
                        assert answer.inner_text() == answer_text(path.code, language)
                place = page.locator(path.place).first
                place.filter(has_text=shown_text(path.text, language)).wait_for()
                assert len(path.clicks) <= MOST_CLICKS


def answer_text(code: str, language: Language) -> str:
    """The answer to a question for a seller under the default rules."""
    days = rules.load_builtin("default").settle_days
    return texts.text(f"answer.{code}", language, days=days, minimum="")


def note_size(received: list[int], response: Response) -> None:
    """Add the bytes of an answer, not compressed."""
    received.append(len(response.body()) if response.status == 200 else 0)


@pytest.fixture
def page(scene: Scene, chromium: Browser) -> Iterator[Page]:
    """A page of the platform with the panel in a frame, in a browser of its own."""
    scene.platform.frame_url = scene.frame_token()["url"]
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.goto(scene.platform.origin)
        page.frame_locator("iframe").locator("#rate data").wait_for()
        yield page
    finally:
        context.close()


def test_the_frame_has_its_token_in_memory_and_no_cookie(scene: Scene, page: Page) -> None:
    frame = page.frame_locator("iframe")
    assert all("token" not in shown.url for shown in page.frames)

    frame.locator("nav a", has_text="Inquiries").click()
    with page.expect_download() as download:
        frame.locator("a[download][href*='/outcomes'][href*='csv']").click()
    assert download.value.suggested_filename == "outcomes.csv"
    frame.locator("#outcome").select_option("late")
    frame.locator("form.filters button:not(.second)").click()
    frame.locator("[data-outcome=late]").first.wait_for()
    frame.locator("#inquiries a[href*='/why']").first.click()
    frame.locator("#sentences").wait_for()
    frame.locator("a[hreflang]").click()
    frame.locator("html[lang=zh-CN]").wait_for()
    frame.locator("nav a", has_text="邮箱").wait_for()
    assert page.context.cookies() == []

    # The token ends: the page stays until the platform sends another one, which is not asked for without an end.
    scene.owner.execute("UPDATE registry.portal_sessions SET expires_at = clock_timestamp()")
    frame.locator("nav a", has_text="概览").click()
    for count in (1, 2, 3):
        page.wait_for_function(
            f"messages.filter(message => message.type === 'replyrate-token-needed').length === {count}"
        )
        frame.locator("#sentences").wait_for()
        send_token(page, "rrs_" + "x" * 43)
    frame.locator("#frame-note").wait_for()
    send_token(page, scene.frame_token()["token"])
    frame.locator("#rate data").wait_for()
    assert page.evaluate("messages.filter(message => message.type === 'replyrate-token-needed').length") == 3
    assert frame.locator("#frame-note").count() == 0


def test_what_a_frame_does_not_do_is_asked_of_the_platform(page: Page) -> None:
    frame = page.frame_locator("iframe")
    frame.locator("nav a[href*='/mailboxes']").click()
    frame.locator("[data-link-needed]").click()
    frame.locator("#frame-note", has_text="Your marketplace was asked").wait_for()
    frame.locator("#test a").click()
    frame.locator("[data-link-needed=test-mail]").click()
    page.wait_for_function(f"{LINK_NEEDED}.length === 2")
    assert page.evaluate(LINK_NEEDED) == [
        {"type": "replyrate-link-needed", "page": "mailboxes"},
        {"type": "replyrate-link-needed", "page": "test-mail"},
    ]


def test_no_other_origin_hears_what_is_asked_of_the_platform(scene: Scene, chromium: Browser) -> None:
    """Without a frame the page is its own parent, of an origin that is not registered: it hears what is sent to any origin."""
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.add_init_script("window.messages = []; addEventListener('message', event => messages.push(event.data));")
        page.goto(scene.frame_token()["url"])
        page.locator("nav a[href*='/mailboxes']").click()
        page.locator("[data-link-needed]").click()
        page.locator("#frame-note").wait_for()
        page.evaluate("postMessage({type: 'the-last'}, '*')")
        page.wait_for_function("messages.at(-1).type === 'the-last'")
        assert page.evaluate("messages.some(message => message.type === 'replyrate-height')")
        assert page.evaluate(LINK_NEEDED) == []
    finally:
        context.close()


@pytest.fixture
def strict_page(scene: Scene, chromium: Browser, tmp_path: Path) -> Iterator[Page]:
    """A page in a browser that blocks cookies and storage of other sites."""
    preferences = tmp_path / "profile" / "Default" / "Preferences"
    preferences.parent.mkdir(parents=True)
    preferences.write_text('{"profile": {"cookie_controls_mode": 1, "block_third_party_cookies": true}}')
    context = chromium.browser_type.launch_persistent_context(
        preferences.parents[1], executable_path=shutil.which("chromium"), args=["--no-sandbox"]
    )
    try:
        yield context.pages[0]
    finally:
        context.close()


STORE = """async () => {
    const attempt = async act => { try { return String(await act()); } catch (error) { return error.name; } };
    return [
        await attempt(() => { document.cookie = 'third=1; SameSite=None; Secure'; return document.cookie; }),
        await attempt(() => { localStorage.setItem('third', '1'); return localStorage.length; }),
    ];
}"""
"""What a page can store: its cookies, and the number of its values."""
STORED = """async () => {
    const attempt = async act => { try { return await act(); } catch (error) { return 0; } };
    return [
        document.cookie.length, await attempt(() => localStorage.length), await attempt(() => sessionStorage.length),
        await attempt(async () => (await indexedDB.databases()).length), await attempt(async () => (await caches.keys()).length),
        await attempt(async () => (await navigator.serviceWorker.getRegistrations()).length),
    ];
}"""
"""What a page has stored; 0 where it may not even look."""


def test_the_frame_works_where_cookies_of_other_sites_are_blocked(scene: Scene, strict_page: Page) -> None:
    page = strict_page
    # The browser does what it is set to: a page that stores values by itself stores none within a frame of another site.
    page.goto(f"{scene.portal.origin}/panel/frame")
    assert page.evaluate(STORE) == ["third=1", "1"]
    page.evaluate("localStorage.clear(); document.cookie = 'third=; Max-Age=0; SameSite=None; Secure'")
    scene.platform.frame_url = f"{scene.portal.origin}/panel/frame"
    page.goto(scene.platform.origin)
    (framed,) = (frame for frame in page.frames if frame.url.startswith(scene.portal.origin))
    assert framed.evaluate(STORE) == ["", "SecurityError"]

    scene.platform.frame_url = scene.frame_token()["url"]
    page.goto(scene.platform.origin)
    frame = page.frame_locator("iframe")
    frame.locator("#rate data").wait_for()
    frame.locator("nav a[href*='/inquiries']").click()
    frame.locator("#inquiries a[href*='/why']").first.click()
    frame.locator("#sentences").wait_for()
    frame.locator("nav a[href*='/mailboxes']").click()
    frame.locator("#test a").click()
    frame.locator("p.note").wait_for()
    frame.locator("a[hreflang]").click()
    frame.locator("html[lang=zh-CN]").wait_for()
    assert frame.locator("form[method=post]").count() == 0
    (framed,) = (shown for shown in page.frames if shown.url.startswith(scene.portal.origin))
    assert framed.evaluate(STORED) == [0] * 6 and "token" not in framed.url
    assert page.context.cookies() == []


def test_the_frame_shows_the_page_that_was_asked_for_last(page: Page) -> None:
    frame = page.frame_locator("iframe")
    tall = last_height(page)

    # A slow page that the reader no longer waits for does not replace the present one.
    slow: list[Route] = []
    page.route("**/panel/inquiries*", lambda route: slow.append(route))  # noqa: PLW0108 (it wants a function)
    with page.expect_request("**/panel/inquiries*"):
        frame.locator("nav a", has_text="Inquiries").click()
    frame.locator("nav a", has_text="Mailboxes").click()
    frame.locator("#test").wait_for()
    assert frame.locator("#content").evaluate("content => content === document.activeElement")
    with page.expect_event("requestfinished", lambda request: "/panel/inquiries" in request.url):
        slow[0].continue_()
    page.wait_for_function("messages.at(-1).type === 'replyrate-height'")
    frame.locator("#test").wait_for()
    assert last_height(page) < tall, "the frame becomes lower again"

    # A lost connection leaves the page as it is.
    page.route("**/panel/changes*", lambda route: route.abort())
    frame.locator("nav a", has_text="Changes").click()
    frame.locator("#frame-note").wait_for()
    frame.locator("#test").wait_for()

    # What cannot be shown leads back to the panel, and a link within the page stays there.
    page.unroute("**/panel/changes*")
    frame.locator("nav a", has_text="Changes").evaluate("link => { link.href = '/panel/export/x?lang=en'; }")
    frame.locator("nav a", has_text="Changes").click()
    frame.locator("h1", has_text="There is no such page").wait_for()
    frame.locator("a.skip").evaluate("link => link.click()")
    frame.locator("h1", has_text="There is no such page").wait_for()
    frame.locator("#content a.button").click()
    frame.locator("#rate data").wait_for()
    assert page.context.cookies() == []


def last_height(page: Page) -> int:
    """The height that the frame sent last."""
    height: int = page.evaluate("messages.filter(message => message.type === 'replyrate-height').at(-1).height")
    return height


def test_a_page_of_another_origin_shows_no_frame(scene: Scene, chromium: Browser) -> None:
    scene.stranger.frame_url = scene.frame_token()["url"]
    context = chromium.new_context()
    try:
        page = context.new_page()
        with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
            page.goto(scene.stranger.origin)
        assert not any(frame.url.startswith(scene.portal.origin) for frame in page.frames)
    finally:
        context.close()


def send_token(page: Page, token: str) -> None:
    """What the page of the platform does when the frame asks for a token."""
    page.evaluate(
        "token => document.querySelector('iframe').contentWindow.postMessage({type: 'replyrate-token', token}, '*')",
        token,
    )
