"""The connect page in a real browser, with Dovecot behind it: from the link to the withdrawal, and what is refused.

The way to the withdrawal is walked in each language with and without scripts, and at each width with and without scripts. All walks
share a web process and a fetcher; each has a company of its own.
"""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from services.common.language import Language
from services.common.postgres import connect
from services.portal.pages.texts import text
from services.standalone.servers.ca import CertificateAuthority
from tests.portal.browser.seller_steps import PRESSES, SellerSteps
from tests.portal.browser.states import LANGUAGES, SCRIPTS, WIDTHS, Scripts
from tests.support import containers
from tests.support.browser_lab import UNLISTED, Visit
from tests.support.dovecot import Dovecot
from tests.support.fetcher_lab import USER, letter
from tests.support.panel_lab import panel_link
from tests.support.panel_world import add_rules
from tests.support.processes import Process
from tests.support.provider_lab import topics
from tests.support.seller_lab import STARTTLS_PORT, TLS_PORT, MakeSellerLab, SellerLab, make_seller_lab
from tests.support.servers import USERS

__all__ = ["make_seller_lab", "topics"]

PLATFORM = "https://marketplace.example/mailboxes"
PHONE, DESKTOP = WIDTHS
WALKS: Final[list[tuple[Language, Scripts, int]]] = [
    ("en", "scripts", DESKTOP),
    ("en", "no-scripts", PHONE),
    ("zh", "scripts", PHONE),
    ("zh", "no-scripts", DESKTOP),
]


@pytest.fixture(scope="module")
def dovecot(server_folder: Path, ca: CertificateAuthority) -> Iterator[Dovecot]:
    with containers.dovecot(server_folder / "dovecot-of-states", USERS, ca) as server:
        yield server


@pytest.fixture(scope="module")
def lab(make_seller_lab: MakeSellerLab, dovecot: Dovecot) -> SellerLab:
    lab = make_seller_lab()
    lab.network.lead("localhost", {TLS_PORT: dovecot.port, STARTTLS_PORT: dovecot.starttls_port})
    return lab


@pytest.fixture(scope="module")
def fetcher(lab: SellerLab) -> Iterator[Process]:
    with lab.fetcher() as process:
        yield process


@pytest.mark.parametrize(("language", "scripts", "width"), WALKS)
def test_from_the_link_to_the_withdrawal(
    lab: SellerLab, fetcher: Process, dovecot: Dovecot, visit: Visit, language: Language, scripts: Scripts, width: int
) -> None:
    sent_at = datetime.now(UTC) - timedelta(days=3)
    dovecot.append(USER, "Sent", letter(1, sent_at), sent_at)
    with visit(lab.portal.origin, language, scripts) as window:
        window.page.set_viewport_size({"width": width, "height": WIDTHS[width]})
        look = partial(window.look, widths=(width,))
        page, steps = window.page, SellerSteps(window)
        window.open(lab.link(language=language, company_id=f"c-{language}-{scripts}", return_url=PLATFORM))
        look("link")
        steps.press("/link/")
        look("consent")
        steps.press("/connect/consent")
        look("consent-errors")
        steps.consent()
        look("address")
        steps.address("li wei")
        look("address-malformed")

        # The fetcher stands still: the pages say that the work waits, and go on when it goes on.
        fetcher.signal(signal.SIGSTOP)
        steps.address(USER)
        look("look-up")
        fetcher.signal(signal.SIGCONT)
        steps.until_looked_up()
        look("login-other-server")
        steps.press("/connect/login")
        look("login-errors")
        fetcher.signal(signal.SIGSTOP)
        steps.login(password="not the password", host="localhost", port=TLS_PORT)
        look("test-waiting")
        fetcher.signal(signal.SIGCONT)
        steps.until_finished()
        look("test-failed")
        steps.go_on("/connect/login")
        assert page.input_value("#host") == "localhost", "what was typed, but the password, is there again"
        assert page.input_value("#password") == ""
        steps.login(password=USERS[USER], host="localhost", port=STARTTLS_PORT, starttls=True)
        steps.until_finished()
        look("connected")
        assert page.get_attribute(f"a[href='{PLATFORM}']", "rel") == "noreferrer"

        page.click("a[href='/connect']")
        look("mailboxes")
        steps.press("/connect/mailboxes/")
        steps.address(USER)
        steps.until_looked_up()
        steps.login(password=USERS[USER], host="localhost", port=TLS_PORT)
        steps.until_finished()
        look("reconnected")
        page.click("a[href='/connect']")
        page.click("a[href$='/withdraw']")
        look("withdraw")
        page.fill("#name", "")
        steps.press("/connect/mailboxes/")
        look("withdraw-errors")
        page.fill("#name", "Li Wei")
        steps.press("/connect/mailboxes/")
        steps.until_finished()
        look("withdrawn")
        steps.press("/connect/end")
        look("ended")
        window.open("/connect")
        look("session-ended")


def connect_from_panel(lab: SellerLab, steps: SellerSteps, company_id: str, user: str, language: Language) -> None:
    """Open the panel of a new company whose rates are judged, and connect its first mailbox from there."""
    with connect(lab.dsn, "tests") as owner:
        add_rules(owner, ("default",))
    lab.link(company_id=company_id)
    page = steps.window.page
    steps.open_link(panel_link(lab.dsn, company_id, "main", language=language))
    page.click("nav.tabs a[href$='/mailboxes']")
    steps.press("/connect/new")
    steps.consent()
    steps.address(user)
    steps.until_looked_up()
    steps.login(password=USERS[user], host="localhost", port=TLS_PORT)
    steps.until_finished()


@pytest.mark.parametrize(("user", "walk"), [("seller-2@mail.test", WALKS[0]), ("seller-3@mail.test", WALKS[3])])
def test_from_the_panel_to_the_verdict_of_the_test_mail(
    lab: SellerLab, fetcher: Process, dovecot: Dovecot, visit: Visit, user: str, walk: tuple[Language, Scripts, int]
) -> None:
    language, scripts, width = walk
    company_id = f"t-{language}"
    with visit(lab.portal.origin, language, scripts) as window:
        page, steps = window.page, SellerSteps(window)
        connect_from_panel(lab, steps, company_id, user, language)
        page.click("a[href='/panel']")
        page.click("nav.tabs a[href$='/mailboxes']")
        page.click("#test a.button")
        window.look(UNLISTED, (width,))
        steps.press("/panel/test-mail")
        page.wait_for_selector("#probe")
        window.look(UNLISTED, (width,))
        sent_at = datetime.now(UTC)
        dovecot.append(user, "Sent", letter(1, sent_at, to=user), sent_at)
        if scripts == "no-scripts":
            for _ in range(PRESSES):
                if page.query_selector("[data-verdict]"):
                    break
                page.click("a[href$='/test-mail/result']")
        page.wait_for_selector("[data-verdict=filed]", timeout=60_000)
        window.look(UNLISTED, (width,))
        with connect(lab.dsn, "tests") as owner:
            assert owner.execute(
                "SELECT count(*) FROM registry.connect_requests WHERE company_id = %s AND purpose NOT IN ('look-up', 'connect')",
                [company_id],
            ).fetchone() == (0,), "the test mail needs no request to a fetcher"


@pytest.mark.parametrize(("user", "walk"), [("seller-4@mail.test", WALKS[1]), ("seller-5@mail.test", WALKS[2])])
def test_from_the_cause_in_the_panel_to_the_chosen_folders_without_the_password(
    lab: SellerLab, fetcher: Process, dovecot: Dovecot, visit: Visit, user: str, walk: tuple[Language, Scripts, int]
) -> None:
    language, scripts, width = walk
    sent_at = datetime.now(UTC) - timedelta(days=3)
    for folder in ("Sent", "Archiv"):
        dovecot.append(user, folder, letter(1, sent_at), sent_at)
    company_id = f"f-{language}"
    with visit(lab.portal.origin, language, scripts) as window:
        page, steps = window.page, SellerSteps(window)
        page.set_viewport_size({"width": width, "height": WIDTHS[width]})
        connect_from_panel(lab, steps, company_id, user, language)
        with connect(lab.dsn, "tests") as owner:
            owner.execute(
                "INSERT INTO ledger.diagnoses SELECT 'default', %s, account_id, 'wrong-sent-folder', current_date, 'high', '{}', 'a', 'z', now()"
                " FROM unnest(ARRAY['', 'main']) account_id",
                [company_id],
            )
        window.open("/panel/diagnosis?account=main")
        page.click("[data-cause=wrong-sent-folder] form[action$='/folders'] button")
        steps.until_listed()
        window.look("folders", (width,))
        assert page.locator("#folders input:checked").count() == 1, "the folder that is read now is ticked"
        page.uncheck("#folders input[value=Sent]")
        page.check("#folders input[value=Archiv]")
        steps.press("/connect/requests/")
        steps.until_finished()
        window.look("folders-chosen", (width,))
        assert page.inner_text("h1") == text("progress.title_chosen", language)
        assert page.locator("#progress ul").first.locator("li").all_inner_texts() == [
            text("progress.folder", language, name="Archiv", messages=1)
        ]
        with dovecot.password_changed(user):
            page.click("a[href='/connect']")
            page.click("form[action$='/folders'] button")
            steps.until_finished()
            window.look("folders-not-listed", (width,))
            page.click("form[action$='/reconnect'] button")
            page.wait_for_url("**/connect/address*")
    with connect(lab.dsn, "tests") as owner:
        assert owner.execute(
            "SELECT sent_override FROM registry.mailboxes WHERE company_id = %s", [company_id]
        ).fetchone() == ([b"Archiv"],)


@pytest.mark.parametrize("scripts", SCRIPTS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_refused_has_a_page_that_helps(
    lab: SellerLab, fetcher: Process, visit: Visit, language: Language, scripts: Scripts
) -> None:
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
