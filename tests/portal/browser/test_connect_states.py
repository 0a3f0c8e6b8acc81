"""The connect page in a real browser, with Dovecot behind it: from the link to the withdrawal, and what is refused.

Each state is checked at both widths (tests/support/browser_lab.py).
"""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from services.common.language import Language
from tests.portal.browser.seller_steps import SellerSteps
from tests.portal.browser.states import LANGUAGES, Scripts
from tests.support.browser_lab import Visit
from tests.support.connect_lab import ConnectLab, make_connect_lab, running_fetcher
from tests.support.dovecot import Dovecot
from tests.support.fetcher_lab import USER, letter, make_lab
from tests.support.portal_lab import make_portal, portal_dsn
from tests.support.processes import Process
from tests.support.servers import USERS

__all__ = ["make_connect_lab", "make_lab", "make_portal", "portal_dsn"]

PLATFORM = "https://marketplace.example/mailboxes"
MakeConnectLab = Callable[..., ConnectLab]
SCRIPTS: tuple[Scripts, ...] = ("scripts", "no-scripts")


@dataclass
class Running:
    """A web process and a fetcher beside mail servers."""

    lab: ConnectLab
    fetcher: Process


@pytest.fixture
def dovecot_lab(make_connect_lab: MakeConnectLab, dovecot: Dovecot) -> Iterator[Running]:
    lab = make_connect_lab(dovecot, with_fetcher=False)
    with running_fetcher(lab.lab) as fetcher:
        yield Running(lab, fetcher)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("scripts", SCRIPTS)
@pytest.mark.parametrize("language", ["en"])
def test_from_the_link_to_the_withdrawal(
    dovecot_lab: Running, dovecot: Dovecot, visit: Visit, language: Language, scripts: Scripts
) -> None:
    sent_at = datetime.now(UTC) - timedelta(days=3)
    dovecot.append(USER, "Sent", letter(1, sent_at), sent_at)
    lab, fetcher = dovecot_lab.lab, dovecot_lab.fetcher
    with visit(lab.portal.origin, language, scripts) as window:
        page, steps = window.page, SellerSteps(window)
        window.open(lab.link(language=language, return_url=PLATFORM))
        window.look("link")
        steps.press("/link/")
        window.look("consent")
        steps.press("/connect/consent")
        window.look("consent-errors")
        steps.consent()
        window.look("address")
        steps.address("li wei")
        window.look("address-malformed")

        # The fetcher stands still: the pages say that the work waits, and go on when it goes on.
        fetcher.signal(signal.SIGSTOP)
        steps.address(USER)
        window.look("look-up")
        fetcher.signal(signal.SIGCONT)
        steps.until_looked_up()
        window.look("login-other-server")
        steps.press("/connect/login")
        window.look("login-errors")
        fetcher.signal(signal.SIGSTOP)
        steps.login(password="not the password", host="localhost", port=dovecot.port)
        window.look("test-waiting")
        fetcher.signal(signal.SIGCONT)
        steps.until_finished()
        window.look("test-failed")
        steps.go_on("/connect/login")
        assert page.input_value("#host") == "localhost", "what was typed, but the password, is there again"
        assert page.input_value("#password") == ""
        steps.login(password=USERS[USER], host="localhost", port=dovecot.starttls_port, starttls=True)
        steps.until_finished()
        window.look("connected")
        assert page.get_attribute(f"a[href='{PLATFORM}']", "rel") == "noreferrer"

        page.click("a[href='/connect']")
        window.look("mailboxes")
        steps.press("/connect/mailboxes/")
        steps.address(USER)
        steps.until_looked_up()
        steps.login(password=USERS[USER], host="localhost", port=dovecot.port)
        steps.until_finished()
        window.look("reconnected")
        page.click("a[href='/connect']")
        page.click("a[href$='/withdraw']")
        window.look("withdraw")
        page.fill("#name", "")
        steps.press("/connect/mailboxes/")
        window.look("withdraw-errors")
        page.fill("#name", "Li Wei")
        steps.press("/connect/mailboxes/")
        steps.until_finished()
        window.look("withdrawn")
        steps.press("/connect/end")
        window.look("ended")
        window.open("/connect")
        window.look("session-ended")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("scripts", SCRIPTS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_refused_has_a_page_that_helps(
    dovecot_lab: Running, visit: Visit, language: Language, scripts: Scripts
) -> None:
    lab = dovecot_lab.lab
    link = lab.link(language=language)
    with visit(lab.portal.origin, language, scripts) as first_window:
        SellerSteps(first_window).open_link(link)
        first_window.look("consent")
    with visit(lab.portal.origin, language, scripts) as window:
        steps = SellerSteps(window)
        steps.open_link(link)
        window.look("link-used")
        steps.open_link(lab.link(language=language, expected_address="another@mail.test"))
        steps.consent()
        steps.address(USER)
        window.look("address-not-expected")
        window.open("/connect/requests/r-0")
        window.look("not-found")
        window.page.context.clear_cookies()
        steps.open_link(lab.link(language=language))
        with visit(lab.portal.origin, language, scripts) as stranger:
            stranger.open(window.page.url)
            stranger.look("session-ended")
