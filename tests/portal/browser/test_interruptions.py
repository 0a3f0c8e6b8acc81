"""A seller whose work is interrupted, in a browser: by the end of a process, by a lost connection, by Back, reload and a second tab."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import playwright.sync_api as playwright
import pytest

from services.common.postgres import connect
from services.connect import texts
from services.portal.pages.texts import text
from tests.imap_lab.profiles import NETEASE, Defect
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill
from tests.portal.browser.seller_steps import SellerSteps
from tests.support.browser_lab import BrowserVisit, Visit
from tests.support.builders import now
from tests.support.processes import until
from tests.support.provider_lab import topics
from tests.support.seller_lab import MakeSellerLab, SellerLab, make_seller_lab

__all__ = ["make_seller_lab", "topics"]

USER, HOST = "seller@163.com", "imap.163.com"
LIVE = "[role=status][aria-live=polite]"
SEALED = "sealed IS NOT NULL"


@pytest.fixture
def lab(make_seller_lab: MakeSellerLab) -> SellerLab:
    return make_seller_lab()


@pytest.fixture
def server(lab: SellerLab) -> LabServer:
    server = lab.serve(HOST, NETEASE, USER)
    fill(server, [now() - timedelta(days=20), now() - timedelta(hours=3)])
    return server


@pytest.fixture
def window(lab: SellerLab, visit: Visit) -> Iterator[BrowserVisit]:
    """At the page of the password; there is no fetcher any more."""
    with lab.fetcher():
        pass
    with visit(lab.portal.origin, "en") as opened:
        steps = SellerSteps(opened)
        steps.open_link(lab.link())
        steps.consent()
        steps.address(USER)
        yield opened
        # A connection that is lost is written as an error, and is what these tests are about.
        opened.problems[:] = [problem for problem in opened.problems if not problem.startswith("htmx: htmx:")]


def change(lab: SellerLab, assignment: str) -> None:
    """Change the request that waits or runs."""
    with connect(lab.dsn, "tests") as connection:
        changed = connection.execute(f"UPDATE registry.connect_requests SET {assignment} WHERE sealed IS NOT NULL")
    assert changed.rowcount == 1


def heading(window: BrowserVisit) -> str:
    return window.page.inner_text("h1")


def test_the_page_goes_on_whichever_process_is_killed(lab: SellerLab, server: LabServer, window: BrowserVisit) -> None:
    page, steps = window.page, SellerSteps(window)
    steps.login(password=server.secret)
    live = page.wait_for_selector(LIVE)
    assert live is not None and text("progress.waiting", "en") in live.inner_text()
    server.defects.add(Defect.SILENT)
    with lab.fetcher() as fetcher:
        stage = texts.stage_name("greeting", "en")
        page.wait_for_selector(f"{LIVE} >> text={stage}", state="attached", timeout=60_000)
        assert live.evaluate("region => region.isConnected && region.textContent").find(stage) > 0, (
            "announced in its place"
        )
        fetcher.kill()
    server.defects.discard(Defect.SILENT)
    # Instead of waiting 20 seconds for the end of the lease.
    change(lab, "claimable_at = clock_timestamp()")
    with lab.fetcher():
        steps.until_finished()
        assert heading(window) == text("progress.title_passed", "en"), page.inner_text("main")
        until(lambda: lab.count(SEALED) == 0, 30, "what was typed is deleted")

    page.click("a[href='/connect']")
    steps.press("/connect/mailboxes/")
    steps.address(USER)
    steps.login(password=server.secret)
    lab.portal.process.kill()
    with lab.portal_again(), lab.fetcher():
        steps.until_finished()
        assert heading(window) == text("progress.title_passed", "en"), page.inner_text("main")
    assert lab.count(SEALED) == 0


def test_what_was_typed_ends_with_its_life_while_the_page_waits(
    lab: SellerLab, server: LabServer, window: BrowserVisit
) -> None:
    steps, late_scripts = SellerSteps(window), list[playwright.Route]()

    def hold(route: playwright.Route) -> None:
        late_scripts.append(route)

    window.page.route("**/static/htmx-sse*", hold)
    steps.login(password=server.secret)
    # Not wait_for_function, which asks again by eval() in the page: the policy of the page forbids it.
    until(lambda: window.page.evaluate("'htmx' in window") is True, 60, "the library is loaded")
    window.page.evaluate("new Promise(resolve => setTimeout(resolve))")
    late_scripts.pop().continue_()
    window.page.unroute("**/static/htmx-sse*")
    change(lab, "expires_at = clock_timestamp()")
    steps.until_finished()
    assert texts.load()["request"]["request-expired"]["en"]["says"] in window.page.inner_text(LIVE)
    with lab.fetcher():
        until(lambda: lab.count(SEALED) == 0, 30, "what was typed is deleted")
        steps.go_on("/connect/login")
        assert window.page.input_value("#password") == ""
        steps.login(password=server.secret)
        steps.until_finished()
    assert heading(window) == text("progress.title_passed", "en")


def test_a_lost_connection_back_reload_and_a_second_tab(
    lab: SellerLab, server: LabServer, window: BrowserVisit
) -> None:
    page, steps = window.page, SellerSteps(window)
    page.fill("#password", "not sent yet")
    page.go_back()
    assert page.input_value("#address") == USER
    page.go_forward()
    assert page.input_value("#host") == HOST
    page.reload()
    assert page.input_value("#password") == ""
    steps.login(password=server.secret)
    waiting = page.url
    page.reload()
    assert page.url == waiting and lab.count("purpose = 'connect'") == 1, "nothing is sent for the second time"
    with ExitStack() as stack:
        tab = page.context.new_page()
        stack.callback(tab.close)
        tab.goto(f"{lab.portal.origin}/connect")
        tab.click(f"main a[href='{waiting.removeprefix(lab.portal.origin)}']")
        assert tab.inner_text("h1") == heading(window)

        page.context.set_offline(True)
        with lab.fetcher():
            until(lambda: lab.count("state = 'passed' AND purpose = 'connect'") == 1, 60, "the test goes on")
        page.context.set_offline(False)
        steps.until_finished()
        assert heading(window) == text("progress.title_passed", "en")
        tab.wait_for_selector("main .result")

        page.go_back()
        assert page.input_value("#password") == ""
        page.goto(waiting)
        steps.press("/connect/end")
        page.go_back()
        expect_ended(page)
        tab.reload()
        expect_ended(tab)
    with connect(lab.dsn, "tests") as connection:
        assert connection.execute("SELECT count(*) FROM registry.secrets").fetchone() == (1,)


def test_a_page_that_waits_says_that_its_session_was_ended_in_another_tab(
    lab: SellerLab, server: LabServer, window: BrowserVisit
) -> None:
    page = window.page
    SellerSteps(window).login(password=server.secret)
    page.wait_for_selector(LIVE)
    tab = page.context.new_page()
    tab.goto(f"{lab.portal.origin}/connect")
    tab.click("form[action='/connect/end'] button")
    page.wait_for_selector(f"h1 >> text={text('problem-session-ended.title', 'en')}", timeout=60_000)
    assert "Traceback" not in lab.portal.process.log.read_text("utf-8")


def expect_ended(page: playwright.Page) -> None:
    """A page of a session that is over shows nothing of it."""
    assert page.inner_text("h1") == text("problem-session-ended.title", "en")
