"""The panel and the console with the keyboard alone: every control of a page is reached in order, can be seen and can be left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import pytest

from services.common.postgres import connect
from services.registry.connect_requests import ConnectRequests
from services.registry.sealing import OpeningKeys
from tests.portal.browser.console_scenes import COMPANY, ConsoleStates, finish, lab
from tests.portal.browser.keyboard import Keyboard
from tests.portal.browser.states import WIDTHS
from tests.support.browser_lab import BrowserVisit, Visit
from tests.support.console_lab import console_dsn, console_link, make_console
from tests.support.fetcher_lab import VAULT_KEY
from tests.support.operator_lab import of_record
from tests.support.panel_lab import panel_link
from tests.support.panel_world import seed_world
from tests.support.portal_lab import MakePortal, Portal, make_portal, portal_dsn

__all__ = ["console_dsn", "lab", "make_console", "make_portal", "portal_dsn"]

SELLER, ACCOUNT = "bf-valves", "bf-main"
"""A seller whose rate is 0, with a cause and a step."""
PANEL_PAGES = (
    "",
    "/inquiries",
    "/due",
    "/diagnosis",
    "/changes",
    "/mailboxes",
    "/questions",
    "/providers",
    "/test-mail",
)
CONSOLE_PAGES = ("/", "/mailboxes", "/overview", "/dead-letters", "/rule-sets/new", "/api-keys/new", "/audit")


@dataclass
class Panel:
    """A web process with a seller of the demo world."""

    portal: Portal
    dsn: str


@pytest.fixture
def panel(dsn: str, make_portal: MakePortal) -> Iterator[Panel]:
    with connect(dsn, "tests") as owner, make_portal() as portal:
        seed_world(owner, 1, companies=(SELLER,))
        ConnectRequests(owner).publish_key(OpeningKeys(VAULT_KEY).current)
        yield Panel(portal, dsn)


def set_width(window: BrowserVisit, width: int) -> None:
    """Make the window that wide."""
    window.page.set_viewport_size({"width": width, "height": WIDTHS[width]})


def open_link(window: BrowserVisit, keys: Keyboard, link: str) -> None:
    """Open a link and press its button."""
    window.open(link)
    keys.skip()
    keys.press("Tab")
    assert keys.has_focus("form[action^='/link/'] button")
    keys.follow()


def walk_pages(window: BrowserVisit, keys: Keyboard, paths: Sequence[str]) -> None:
    """Reach every control of each page; the widths alternate."""
    for path, width in zip(paths, cycle(WIDTHS), strict=False):
        set_width(window, width)
        window.open(path)
        assert keys.walk() > 8, path


def test_a_seller_from_the_link_to_the_withdrawal(panel: Panel, visit: Visit) -> None:
    with visit(panel.portal.origin, "en") as window:
        page, keys = window.page, Keyboard(window)
        open_link(window, keys, panel_link(panel.dsn, SELLER, ACCOUNT))
        walk_pages(window, keys, [f"/panel{path}" for path in PANEL_PAGES])

        window.open("/panel")
        keys.skip()
        keys.reach("nav.tabs a[href*='/inquiries']")
        keys.follow()
        keys.reach("#inquiries a[href*='/why']")
        keys.follow()
        page.wait_for_selector("#sentences p")
        keys.reach("nav.tabs a[href*='/diagnosis']")
        keys.follow()
        keys.reach(".finding .button, .finding button")
        path = page.url
        keys.follow()
        page.wait_for_url(lambda url: url != path)  # the step of a cause leads somewhere
        page.wait_for_selector("main h1")
        window.open("/panel/inquiries")
        keys.reach("a[download][href*='csv']")
        with page.expect_download() as download:
            keys.press("Enter")
        assert download.value.suggested_filename == "outcomes.csv"
        keys.reach("nav.tabs a[href*='/mailboxes']", "Shift+Tab")
        keys.follow()
        keys.reach("a[href$='/withdraw']")
        keys.follow()
        keys.type("#name", "Li Wei")
        keys.follow()
        page.wait_for_selector("#progress")  # the withdrawal was sent


def test_an_operator_from_the_sign_in_to_a_comparison(lab: ConsoleStates, visit: Visit) -> None:
    lab.room.plant(of_record(1), key=COMPANY.encode())
    with visit(lab.room.console.origin, "en") as window:
        page, keys = window.page, Keyboard(window)
        window.open("/sign-in")
        keys.skip()
        open_link(window, keys, console_link(lab.room.dsn, "operator"))
        walk_pages(window, keys, CONSOLE_PAGES)

        window.open("/")
        keys.skip()
        keys.type("#q", COMPANY)
        keys.follow()
        keys.reach("#companies a")
        keys.follow()
        keys.type("#inquiry", lab.first("inquiry_id", "ledger.inquiries"))
        keys.follow()
        page.wait_for_selector("#sentences p")

        keys.reach("nav.tabs a[href='/dead-letters']")
        keys.follow()
        keys.reach("#letters a")
        keys.follow()
        keys.reach("button[value=replay]")
        keys.follow()
        finish(window, "console_letters_check")
        keys.reach("form[action='/dead-letters/carry-out'] button")
        keys.follow()
        finish(window, "console_letters_done")
        assert lab.room.open_letters() == 0

        window.open("/rule-sets")
        keys.reach("#rules a[href$='/amazon']")
        keys.follow()
        keys.reach("#against")
        keys.press("Tab")
        keys.send("/rule-sets/compare")
        finish(window, "console_rules_diff")
        page.wait_for_selector("#summary")
        keys.walk()
