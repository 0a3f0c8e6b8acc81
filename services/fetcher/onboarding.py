"""Connecting a mailbox: consent, settings, a connection test that finds a Sent folder, then it is active.

The test goes through the same code as every later poll, so what passed here works there. What a seller is told names
the stage and the cure; what the network said stays with the operator: in the log, and in registry.connection_tests.
"""

import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from logging import getLogger

from services.common.hashing import normalise_address
from services.common.settings import ImapSettings
from services.fetcher import connection_test, connection_texts, directory
from services.fetcher.connection_test import OpenedFolder, Report
from services.fetcher.registry import NewMailbox, Registry, RegistryError, TriesSpent
from services.fetcher.session import Budgets, Login, Resolver, tls_context

log = getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What a person typed. `mailbox_id` None: one is made up."""

    company_id: str
    account_id: str
    address: str
    password: str
    consent_by: str
    role: str = "registered"
    host: str | None = None
    port: int = 993
    user: str | None = None
    mailbox_id: str | None = None
    sent_override: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Connected:
    """A mailbox that is active now."""

    company_id: str
    mailbox_id: str
    connected_at: datetime
    report: Report

    @property
    def folders(self) -> tuple[OpenedFolder, ...]:
        """Its Sent folders."""
        return self.report.folders

    @property
    def messages(self) -> int:
        """Messages in them."""
        return sum(folder.messages for folder in self.folders)


class Rejected(RegistryError):
    """The connection test failed; nothing was stored. `report` says at which stage, and what to do."""

    def __init__(self, report: Report) -> None:
        failed = report.failed
        assert failed is not None
        self.report = report
        self.stage = failed.name
        self.code = failed.code
        super().__init__(f"{connection_texts.sentence(report, 'en')} (step: {failed.name})")


def add_mailbox(
    registry: Registry,
    settings: ImapSettings,
    request: Request,
    *,
    resolve: Resolver,
    version: str,
    budgets: Budgets | None = None,
    progress: Callable[[str], None] = lambda _: None,
    context: ssl.SSLContext | None = None,
) -> Connected:
    """Test a mailbox and store it as active. RegistryError (Rejected for a failed test) with what to do."""
    if not request.consent_by.strip():
        raise RegistryError("nobody consented: say who did with --consent-by NAME; without consent no mailbox is read")
    if request.role not in ("registered", "backup"):
        raise RegistryError("the role must be registered or backup")
    login = login_of(request)
    registry.check_new_mailbox(request.company_id, request.account_id, login.host, login.user)
    report = try_mailbox(
        registry, settings, request.company_id, login, resolve=resolve, version=version, budgets=budgets,
        progress=progress, context=context,
    )  # fmt: skip
    if not report.passed:
        raise Rejected(report)
    mailbox_id = request.mailbox_id or f"m-{secrets.token_hex(6)}"
    connected_at = registry.add_mailbox(
        NewMailbox(
            company_id=request.company_id,
            account_id=request.account_id,
            mailbox_id=mailbox_id,
            role=request.role,
            address=request.address,
            host=login.host,
            port=login.port,
            user=login.user,
            password=request.password,
            consent_by=request.consent_by,
            sent_override=request.sent_override,
        )
    )
    return Connected(request.company_id, mailbox_id, connected_at, report)


def login_of(request: Request) -> Login:
    """What is tested of what was typed. RegistryError when something is missing."""
    if normalise_address(request.address) is None:
        raise RegistryError("this is no e-mail address; write it as name@domain")
    if not request.host:
        raise RegistryError(
            "name the IMAP server of this mailbox: --host imap.example.com (its provider's help tells it)"
        )
    if not request.password:
        raise RegistryError("a password is needed: --password-file FILE, or type it when asked")
    host = request.host.strip().rstrip(".").lower()
    user = request.user or request.address
    return Login(request.address, host, request.port, user, request.password, request.sent_override)


def try_mailbox(
    registry: Registry,
    settings: ImapSettings,
    company_id: str,
    login: Login,
    *,
    resolve: Resolver,
    version: str,
    budgets: Budgets | None = None,
    progress: Callable[[str], None] = lambda _: None,
    context: ssl.SSLContext | None = None,
) -> Report:
    """Test a mailbox, counted against the tries of an hour. What happened goes to the operator's log and table."""
    known = directory.load()
    try:
        test_id, now = registry.begin_test(company_id, login.user)
    except TriesSpent as error:
        return connection_test.spent(login, known, error.again_at)
    outcome = connection_test.run(
        login, settings, known, resolve=resolve, context=context or tls_context(settings.ca_file), version=version,
        budgets=budgets or Budgets(), now=now, progress=progress,
    )  # fmt: skip
    failed = outcome.report.failed
    stage, code = (failed.name, failed.code) if failed is not None else (None, "passed")
    registry.end_test(test_id, stage, code, outcome.detail)
    if failed is not None:
        log.warning(
            "%s", outcome.detail,
            extra={"action": "connection-tested", "company_id": company_id, "test_id": test_id, "stage": stage, "code": code},
        )  # fmt: skip
    return outcome.report
