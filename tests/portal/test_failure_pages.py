"""The page of every way in which a test of a mailbox can end without connecting it, in both languages: what happened, and the next step.

The results are stored as a fetcher stores them. tests/portal/browser has the ways that differ in what a seller does next, with mail servers.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg
import pytest

from services.common.language import Language
from services.common.postgres import connect
from services.connect import texts
from services.connect.report import EARLIER, PASSED, SKIPPED, STAGES, ConnectionTestReport, StageResult
from services.portal.pages.texts import text
from services.registry.connect_requests import ConnectRequests
from services.registry.sealing import OpeningKeys
from tests.support.connect_lab import ACCOUNT, COMPANY, Browser, PageParser, SellerPages, add_account
from tests.support.portal_lab import portal_login, running_portal

KEYS = OpeningKeys(bytes(range(32)))
TESTED, BESIDE = sorted(texts.load()["code"]), sorted(texts.load()["request"])
"""Codes of stages of the connection test, and of requests that ended before or beside it."""
CHINESE = re.compile(r"[\u4e00-\u9fff]")
ENGLISH_SENTENCE = re.compile(r"(?:\b[A-Za-z]+ ){5}")
KEY = re.compile(r"\b(?:progress|login|problem|sign_in|site|mailboxes)\.[a-z]\w+|[{}]")
"""Of a text that is missing, and a placeholder that was not filled in."""
VALUES = {
    "host": "imap.shop.test", "candidates": "Drafts, Trash", "again_at": "12:00 UTC", "folders": "3", "names": "Sent", "messages": "7",
    EARLIER: "login-refused",
}  # fmt: skip
LOGIN, ADDRESS, CONSENT, MAILBOXES = "/connect/login", "/connect/address", "/connect/consent", "/connect"
OTHER_PAGES = {
    "login-connected": {MAILBOXES, ADDRESS}, "consent-changed": {CONSENT, ADDRESS}, "consent-missing": {CONSENT, ADDRESS},
    "provider-unsupported": {ADDRESS}, "address-malformed": {ADDRESS}, "login-taken": {ADDRESS}, "address-differs": {ADDRESS},
    "not-possible": {ADDRESS},
}  # fmt: skip
"""Code → where its page leads; that of the others leads to the password again, or to another address."""


@dataclass
class StoredFailures:
    """A seller with an open session, and requests that ended without a mailbox."""

    browser: Browser
    connection: psycopg.Connection

    def store(self, code: str, report: dict[str, Any] | None) -> str:
        """Store a request that ended so; its id."""
        ConnectRequests(self.connection).add(KEYS.current, COMPANY, ACCOUNT, "m-0123456789ab", "connect", b"{}")
        return self.end(code, report)

    def end(self, code: str, report: dict[str, Any] | None) -> str:
        """End the request that waits, as a fetcher does; its id."""
        requests = ConnectRequests(self.connection)
        taken = requests.take("tests", KEYS)
        assert taken is not None
        requests.finish(taken.request_id, "tests", passed=False, code=code, mailbox_id=taken.mailbox_id, report=report)
        return taken.request_id

    def page(self, request_id: str, language: Language) -> PageParser:
        """The page of a request: what is below its header."""
        answer = self.browser.get(f"/connect/requests/{request_id}?lang={language}").answer
        assert answer.status_code == 200
        assert f'<html lang="{"zh-CN" if language == "zh" else "en"}">' in answer.text
        assert 'role="status"' in answer.text
        return PageParser(answer.text.partition("<main")[2].partition(">")[2].partition("</main>")[0])


@pytest.fixture(scope="module")
def failures(
    kafka: str, postgres: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StoredFailures]:
    dsn = postgres()
    add_account(dsn)
    folder = tmp_path_factory.mktemp("failures")
    with (
        portal_login(dsn) as login,
        running_portal(kafka, login, folder) as portal,
        connect(dsn, "tests") as connection,
    ):
        ConnectRequests(connection).publish_key(KEYS.current)
        yield StoredFailures(SellerPages(dsn, portal).seller(), connection)


def report_of(code: str, stage: str = "login") -> dict[str, Any]:
    """What a fetcher stores of a test whose stage failed with a code."""
    failed = STAGES.index(stage)
    stages = [
        StageResult(name, PASSED if number < failed else code if number == failed else SKIPPED, None)
        for number, name in enumerate(STAGES)
    ]
    report = ConnectionTestReport("imap.shop.test", 993, None, tuple(stages), VALUES, candidates=(b"Drafts", b"Trash"))
    data: dict[str, Any] = msgspec.to_builtins(texts.as_data(report, on_page=True))
    return data


def check(page: PageParser, code: str, sentences: tuple[str, str], language: Language) -> None:
    """The page says what happened and what to do, in its language, and leads to where it can be done."""
    shown = " ".join(page.texts)
    assert sentences[0] in shown and sentences[1] in shown, shown
    for sentence in sentences:
        assert sentence and bool(CHINESE.search(sentence)) is (language == "zh"), sentence
    wrong = CHINESE.search(shown) if language == "en" else ENGLISH_SENTENCE.search(shown)
    assert wrong is None, wrong
    assert KEY.search(shown) is None and ("-" not in code or code not in shown), shown
    assert text("progress.next", language) in page.texts
    ways = {link.partition("?")[0] for link in page.links.values()}
    assert ways == OTHER_PAGES.get(code, {LOGIN, ADDRESS}), ways


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize("code", TESTED)
def test_each_code_of_the_connection_test_has_its_page(failures: StoredFailures, code: str, language: Language) -> None:
    report = report_of(code)
    page = failures.page(failures.store(code, report), language)
    failed = next(stage for stage in report["stages"] if stage["code"] == code)
    check(page, code, (failed["says"][language], report["next"][language]), language)
    assert text("progress.title_failed", language) in page.texts
    states = [text(f"progress.state_{state}", language) for state in ("passed", "failed", "skipped")]
    assert [page.texts.count(state) for state in states] == [4, 1, 5], page.texts


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize("code", BESIDE)
def test_each_end_before_or_beside_the_test_has_its_page(
    failures: StoredFailures, code: str, language: Language
) -> None:
    sentences = texts.request_sentences(code, language)
    assert sentences is not None
    report = {"identity": "s***@shop.test", "confirm": "0" * 32} if code == "identity-differs" else None
    page = failures.page(failures.store(code, report), language)
    check(page, code, sentences, language)
    assert bool(page.forms) is (code == "identity-differs")


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize("dns_failed", [True, False])
def test_an_unknown_server_leads_to_the_form_by_hand(
    failures: StoredFailures, dns_failed: bool, language: Language
) -> None:
    browser = failures.browser
    browser.get(f"/connect/address?lang={language}").fill_in("/connect/address", address="seller@firm.example")
    waiting = browser.path
    failures.end(
        "server-unknown", {"servers": [], "trusted": False, "provider": None, "how": "ask", "dns_failed": dns_failed}
    )
    assert browser.get(waiting).path.startswith(f"{LOGIN}?request=r-")
    shown = "server_not_looked_up" if dns_failed else "server_unknown"
    assert browser.shows(text(f"login.{shown}", language))
    assert {"host", "port", "user"} <= set(browser.page.forms[-1].values)
    browser.get(f"{LOGIN}?provider=exmail")
    assert browser.page.forms[-1].values["host"] == "imap.exmail.qq.com", "the seller may also choose the provider"
