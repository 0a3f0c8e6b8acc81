"""The console of the staff over HTTP: who gets in, what they see, and what is recorded of it."""

from collections.abc import Iterator

import pytest

from services.common.postgres import connect
from tests.support.connect_lab import Browser
from tests.support.console_lab import (
    NAME,
    MakeConsole,
    actions,
    console_dsn,
    console_link,
    make_console,
    staff_browser,
)
from tests.support.portal_lab import Portal

__all__ = ["console_dsn", "make_console"]


@pytest.fixture
def console(make_console: MakeConsole) -> Iterator[Portal]:
    with make_console() as started:
        yield started


def test_a_link_of_the_command_line_begins_one_session_in_one_browser(console: Portal, dsn: str) -> None:
    browser = Browser(console.origin).get("/")
    assert browser.path == "/sign-in" and browser.shows("replyrate console-link")
    link = console_link(dsn, "operator")
    assert browser.get(link).heading == "Open the console"
    assert actions(dsn) == [], "opening the page begins no session"
    browser.fill_in("/link/.*")
    assert browser.path == "/" and browser.heading == "Search" and browser.shows(f"{NAME} (operator)")
    stranger = Browser(console.origin).get(link).fill_in("/link/.*")
    assert stranger.status == 410 and stranger.heading == "This link cannot be used any more"
    assert actions(dsn) == [("sign-in", None, None, None)]
    browser.fill_in("/sign-out")
    assert browser.path == "/sign-in?signed-out=1" and browser.get("/").path == "/sign-in"
    assert [action for action, *_ in actions(dsn)] == ["sign-in", "sign-out"]


@pytest.mark.parametrize(
    "change",
    [
        "expires_at = clock_timestamp()",
        "used_at = clock_timestamp() - interval '31 minutes'",
        "ended_at = clock_timestamp()",
    ],
)
def test_a_session_ends(console: Portal, dsn: str, change: str) -> None:
    browser = staff_browser(console, dsn)
    with connect(dsn, "tests") as connection:
        connection.execute(f"UPDATE registry.staff_sessions SET {change}".encode())
    assert browser.get("/").path == "/sign-in"


def test_a_form_of_another_site_or_session_is_refused(console: Portal, dsn: str) -> None:
    browser = staff_browser(console, dsn)
    form = browser.page.forms[0]
    assert browser.post("/sign-out", form.values, Origin="https://other.example").status == 403
    assert browser.post("/sign-out", {"csrf": "guessed"}).status == 403
    assert browser.get("/").heading == "Search"
