"""The console in a real browser, without scripts: every page at both widths in both languages, and how many bytes it has.

With CONSOLE_PICTURES=docs/images it also draws the pictures of docs/console.md.
"""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from services.common.language import Language
from services.common.postgres import connect
from tests.portal.browser.console_look import look
from tests.support.browser_lab import Visit
from tests.support.console_lab import console_dsn, console_in_thread, console_link
from tests.support.panel_world import seed_world
from tests.support.portal_lab import ServedPages

__all__ = ["console_dsn"]

PAGE_BYTES = 250 * 1024
COMPANY = "lt-textile"


@pytest.fixture
def console(console_dsn: str, kafka: str, dsn: str) -> Iterator[ServedPages]:
    with connect(dsn, "tests") as owner:
        seed_world(owner, 1, ("default",), (COMPANY, "bf-valves"))
    with console_in_thread(kafka, console_dsn) as served:
        yield served


def paths(dsn: str) -> list[tuple[str, str]]:
    """Of every page for people who have signed in, and the name of its picture, if it has one."""
    with connect(dsn, "tests") as connection:
        named = connection.execute(
            "SELECT (SELECT min(mailbox_id) FROM registry.mailboxes WHERE company_id = %(company)s),"
            " (SELECT min(inquiry_id) FROM ledger.inquiries WHERE company_id = %(company)s)",
            {"company": COMPANY},
        ).fetchone()
    assert named is not None
    mailbox, inquiry = named
    company = f"/companies/{COMPANY}"
    return [
        ("/", ""), ("/?q=lt-", "search"), ("/?q=nothing", ""), (company, "company"), ("/companies/bf-valves", ""),
        (f"{company}/mailboxes/{quote(mailbox, safe='')}", "mailbox"), (f"{company}/inquiries/{inquiry}", "explanation"),
        ("/mailboxes", "mailboxes"), ("/mailboxes/list", "mailbox-list"), ("/mailboxes/list?state=removed", ""), ("/audit", "audit"),
        ("/nothing", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_is_in_order(console: ServedPages, dsn: str, visit: Visit, language: Language) -> None:
    with visit(console.origin, language, "no-scripts") as browser:
        for path, picture in (("/sign-in", "sign-in"), (console_link(dsn, "operator"), "")):
            browser.open(f"{path}?lang={language}")
            look(browser, picture)
        browser.page.click("main button")
        for path, picture in paths(dsn):
            browser.open(path)
            for seen in look(browser, picture):
                assert seen.compressed < PAGE_BYTES, (path, seen)
