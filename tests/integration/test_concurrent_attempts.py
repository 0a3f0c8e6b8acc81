"""Two requests connect a mailbox of the same account and role at the same time: each login stays with its own secret."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from services.common.hashing import Hasher
from services.common.postgres import connect
from services.common.settings import ImapSettings
from services.connect.consent import load as consent_texts
from services.connect.onboarding import ConnectedMailbox, MailboxRefused, add_mailbox
from services.connect.report import PASSED, STAGES, ConnectionTestReport, StageResult
from services.connect.request_runner import RequestRunner
from services.connect.requests import ConnectRequest
from services.connect.tester import ConnectionTester
from services.connect.typed_login import TypedLogin
from services.imap.host_policy import resolve
from services.mail.values import Login
from services.registry.connect_requests import TakenRequest
from services.registry.errors import RegistryError
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.signin.token_store import TokenStore

SECONDS: Final = 60
FIRST: Final = ConnectRequest("c1", "main", "a@mail.test", "secret-a", "Li", host="imap.mail.test", mailbox_id="m-1")
SECOND: Final = replace(FIRST, address="b@mail.test", password="secret-b", mailbox_id="m-2")
SAME: Final = replace(FIRST, port=143, tls="starttls", mailbox_id="m-2")
"""The login of FIRST at the other port of its server."""


@dataclass(frozen=True, slots=True)
class SlowTester(ConnectionTester):
    """Tests without a server: calls `during`, and then the stage `dns` has `code`."""

    during: Callable[[], object] = lambda: None
    code: str = PASSED

    def test(
        self, registry: Registry, company_id: str, login: Login, token_store: TokenStore
    ) -> tuple[ConnectionTestReport, datetime]:
        self.during()
        stages = tuple(StageResult(name, self.code if name == STAGES[0] else PASSED, 0.0) for name in STAGES)
        report = ConnectionTestReport(login.host, login.port, None, stages, {"host": login.host})
        return report, datetime.now(UTC) - timedelta(days=60)


def slow_tester(**changes: Any) -> SlowTester:
    return SlowTester(ImapSettings.model_validate({}), resolve, "0", **changes)


@contextmanager
def opened(dsn: str) -> Iterator[Registry]:
    with connect(dsn, "tests") as connection:
        yield Registry(connection, Hasher(bytes(32)), Vault(bytes(32)))


def add(dsn: str, request: ConnectRequest, **changes: Any) -> ConnectedMailbox:
    """Connect a mailbox over a connection of its own. `changes`: of its SlowTester."""
    with opened(dsn) as registry:
        return add_mailbox(registry, request, slow_tester(**changes))


@pytest.fixture
def registry(dsn: str) -> Iterator[Registry]:
    with opened(dsn) as registry:
        registry.companies.add("c1")
        registry.accounts.add("c1", "main")
        yield registry


def login_of(registry: Registry, mailbox_id: str) -> tuple[str, str, int]:
    """Address, password and port of an active mailbox, opened as a poll opens them."""
    assert registry.mailboxes.details("c1", mailbox_id)["state"] == "active"
    login = registry.logins.with_password("c1", mailbox_id)
    return login.address, login.password, login.port


def forget_test(registry: Registry) -> None:
    """As if the running test had begun long ago."""
    registry.connection.execute("UPDATE registry.mailboxes SET state_changed_at = now() - interval '1 hour'")


def test_an_attempt_whose_login_is_tested_is_not_given_another_login(registry: Registry, dsn: str) -> None:
    def meanwhile() -> None:
        with pytest.raises(RegistryError, match="another person is connecting"):
            add(dsn, SECOND)

    assert add(dsn, FIRST, during=meanwhile).mailbox_id == "m-1"
    assert login_of(registry, "m-1") == ("a@mail.test", "secret-a", 993)
    assert add(dsn, SECOND).mailbox_id == "m-2"
    assert login_of(registry, "m-2") == ("b@mail.test", "secret-b", 993)


def test_after_a_failed_test_another_login_is_tested_at_once(registry: Registry, dsn: str) -> None:
    with pytest.raises(MailboxRefused):
        add(dsn, FIRST, code="login-refused")
    assert add(dsn, SECOND).mailbox_id == "m-1", "the attempt is continued"
    assert login_of(registry, "m-1") == ("b@mail.test", "secret-b", 993)


@pytest.mark.parametrize("code", [PASSED, "login-refused", "oauth2-needed"])
def test_a_test_that_ends_after_its_attempt_was_given_another_login_changes_nothing(
    registry: Registry, dsn: str, code: str
) -> None:
    def in_second() -> None:
        with pytest.raises(MailboxRefused if code != PASSED else RegistryError) as refused:
            add(dsn, FIRST, during=begin_second, code=code)
        assert code != PASSED or "was changed at the same moment" in str(refused.value)

    begun, ended = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert ended.wait(SECONDS)

    def begin_second() -> None:
        forget_test(registry)
        threads.submit(add, dsn, SECOND, during=hold)
        assert begun.wait(SECONDS)

    with ThreadPoolExecutor() as threads:
        try:
            in_second()
            mailbox = registry.mailboxes.details("c1", "m-1")
            assert (mailbox["state"], mailbox["state_reason"]) == ("pending_test", None)
        finally:
            ended.set()
    assert login_of(registry, "m-1") == ("b@mail.test", "secret-b", 993)


def test_of_two_tests_of_one_login_the_first_to_pass_connects_the_mailbox(registry: Registry, dsn: str) -> None:
    both = threading.Barrier(2, timeout=SECONDS / 2)
    with ThreadPoolExecutor() as threads:
        futures = [threads.submit(add, dsn, request, during=both.wait) for request in (FIRST, SAME)]
        errors = [future.exception(SECONDS) for future in futures]
    (connected,) = [request for request, error in zip((FIRST, SAME), errors, strict=True) if error is None]
    (error,) = [error for error in errors if error is not None]
    assert "this login is connected already" in str(error)
    (mailbox,) = registry.mailboxes.summaries("c1")
    assert login_of(registry, mailbox["mailbox_id"]) == ("a@mail.test", "secret-a", connected.port)


@pytest.mark.parametrize(("role", "passes"), [("registered", True), ("backup", False)])
def test_the_second_request_of_a_form_that_was_sent_twice_passes(
    registry: Registry, dsn: str, role: str, passes: bool
) -> None:
    """Both are tested when the other one connects the mailbox, or the second one begins after it."""
    (created_at,) = registry.connection.execute("SELECT clock_timestamp()").fetchone() or ()
    typed = TypedLogin("a@mail.test", "secret-a", "Li", consent_texts().current.version, "en", role, "localhost", 993)
    taken = TakenRequest("r-2", "c1", "main", "m-2", "connect", b"", 1, created_at)
    first = replace(FIRST, host="localhost")
    settings = ImapSettings.model_validate({"allowed_private_networks": ("127.0.0.0/8", "::1/128")})

    def run(during: Callable[[], object] = lambda: None) -> tuple[bool, str, str]:
        runner = RequestRunner(settings, slow_tester(during=during))
        result = runner.run(registry, taken, typed, lambda _: None)
        return result.passed, result.code, result.mailbox_id

    tested_at_once = run(lambda: add(dsn, first))
    (mailbox_id,) = [
        mailbox["mailbox_id"] for mailbox in registry.mailboxes.summaries("c1") if mailbox["state"] == "active"
    ]
    expected = (True, "passed", mailbox_id) if passes else (False, "login-connected", "m-2")
    assert tested_at_once == expected
    assert run() == expected
    assert login_of(registry, mailbox_id)[:2] == ("a@mail.test", "secret-a")
    late = replace(taken, created_at=datetime.now(UTC) + timedelta(seconds=1))
    assert RequestRunner(settings, slow_tester()).run(registry, late, typed, lambda _: None).code == "login-connected"


def test_a_login_that_was_connected_before_its_second_attempt_is_stored_leaves_no_attempt(
    registry: Registry, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mailbox becomes active after the first look and before the attempt is stored."""
    begin = registry.connection_attempts.begin
    monkeypatch.setattr(registry.connection_attempts, "begin", lambda attempt: (add(dsn, FIRST), begin(attempt))[1])
    with pytest.raises(RegistryError, match="this login is connected already"):
        add_mailbox(registry, SAME, slow_tester())
    (mailbox,) = registry.mailboxes.summaries("c1")
    assert (mailbox["mailbox_id"], mailbox["state"]) == ("m-1", "active")
