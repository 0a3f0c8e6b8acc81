"""The operators' pages of the console in a real browser: each at both widths and in both languages, without a violation of axe's rules.

With CONSOLE_PICTURES=docs/images it also draws the pictures of docs/console.md.
"""

import pytest

from services.aggregator.refresh.refresh import Refresher
from services.common.language import Language
from tests.portal.browser.console_look import look
from tests.portal.browser.states import Scripts
from tests.support.browser_lab import BrowserVisit, Visit
from tests.support.console_lab import console_dsn, console_link
from tests.support.operator_lab import RULES, OperatorRoom, letter, of_record, room

__all__ = ["console_dsn", "room"]

DESKTOP = 1280


def finish(window: BrowserVisit) -> None:
    """Wait for the result of the work that is shown: with scripts by its events, else by the link."""
    page = window.page
    for _ in range(12):
        if page.locator("a[href$='/result']").count() == 0:
            return
        if window.scripts == "scripts":
            page.wait_for_selector("a[href$='/result']", state="detached")
        else:
            page.click("a[href$='/result']")
    raise AssertionError(page.content())


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("language", "scripts"), [("en", "scripts"), ("zh", "no-scripts")])
def test_every_page_of_operators_is_in_order(
    room: OperatorRoom, visit: Visit, language: Language, scripts: Scripts
) -> None:
    room.plant(of_record(1), of_record(2, "late", age_hours=30), of_record(3, "not-json"))
    room.plant(letter("unreadable-message", mailbox_id="m-c1", uidvalidity=1, uid=5))
    with visit(room.console.origin, language, scripts) as window:
        page = window.page
        window.open(f"{console_link(room.dsn, 'operator')}?lang={language}")
        page.click("form[action^='/link/'] button")
        window.open("/overview")
        look(window, "overview")
        window.open("/dead-letters")
        look(window, "dead-letters")
        page.click("#letters a >> nth=0")
        look(window, "dead-letter")
        window.open("/dead-letters")
        page.click("button[value='replay']")
        finish(window)
        look(window, "replay-check")
        page.click("form[action='/dead-letters/carry-out'] button")
        finish(window)
        look(window, "replay-done")
        window.open("/dead-letters")
        look(window)
        window.open("/companies/c1/mailboxes/m-c1")
        page.click("#actions summary >> nth=0")
        look(window, "mailbox-actions")
        page.click("form[action$='/pause'] button")
        look(window)
        _walk_rule_sets(room, window)
        window.open("/api-keys")
        look(window)
        window.open("/api-keys/new")
        page.click("form[action='/api-keys'] button")
        look(window)
        page.fill("#name", "order system, production")
        page.check("#scope-numbers-read")
        page.click("form[action='/api-keys'] button")
        look(window)
        window.open("/api-keys")
        look(window, "api-keys")
        page.click("#keys a >> nth=0")
        look(window, "api-key")


def _walk_rule_sets(room: OperatorRoom, window: BrowserVisit) -> None:
    """A new definition from the form to the numbers."""
    page = window.page
    window.open("/rule-sets")
    look(window, "rule-sets")
    window.open("/rule-sets/default")
    look(window)
    window.open("/rule-sets/new")
    page.fill("#definition", "name = 1")
    page.click("form[action='/rule-sets/compare'] button")
    look(window)
    page.fill("#definition", RULES)
    page.click("form[action='/rule-sets/compare'] button")
    finish(window)
    look(window, "rules-diff")
    page.click("form[action='/rule-sets/activate'] button")
    look(window, "rules-progress")
    refresher = Refresher(room.owner, [])
    while refresher.refresh():
        pass
    finish(window)
    assert page.locator("progress").count() == 0
    look(window)
