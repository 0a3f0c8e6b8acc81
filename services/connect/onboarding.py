"""Connecting a mailbox: consent, settings, a connection test that finds a Sent folder, then it is active.

The test goes through the same code as every later poll, so what passed here works there. What a seller is told names
the stage and the cure; what the network said stays with the operator: in the log, and in registry.connection_tests.
"""

import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from logging import getLogger

from services.common.hashing import normalise_address
from services.common.language import Language
from services.common.settings import ImapSettings, OAuth2Settings
from services.connect import completeness, connection_test, consent, texts
from services.connect.connection_test import TestReport
from services.imap.host_policy import HostPolicy, Resolver
from services.imap.limits import SessionLimits
from services.imap.tls import tls_context
from services.mail.values import Login, OpenedFolder
from services.providers import catalog
from services.providers.addresses import host_name
from services.registry.addresses import ROLES
from services.registry.connection_attempts import ConnectionAttempt, GivenConsent
from services.registry.connection_tests import TooManyTests
from services.registry.errors import RegistryError
from services.registry.login_slots import LoginSlots, NoSlotFree
from services.registry.logins import LoginTaken
from services.registry.registry import Registry
from services.registry.state_changes import OPERATOR
from services.signin.access_tokens import AccessTokens
from services.signin.token_store import KIND, MemoryTokenStore, TokenStore

log = getLogger(__name__)
MOST_NAME = 200
"""Characters of the name of somebody who consents or acts."""


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """What a person typed. `mailbox_id` None: one is made up. `text_version` None: the text that is shown now."""

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
    language: Language = "en"
    text_version: str | None = None
    kind: str = "password"
    """`oauth2`: `password` is a refresh token."""


@dataclass(frozen=True, slots=True)
class LoginChanges:
    """What a person typed to connect a mailbox again; None: as before. The password is always typed."""

    password: str
    address: str | None = None
    host: str | None = None
    port: int | None = None
    user: str | None = None
    sent_override: tuple[bytes, ...] | None = None
    kind: str = "password"


@dataclass(frozen=True, slots=True)
class ConnectedMailbox:
    """A mailbox that is active now. `anew`: it is read from the start."""

    company_id: str
    mailbox_id: str
    connected_at: datetime
    report: TestReport
    expected_from: datetime
    anew: bool = True

    @property
    def folders(self) -> tuple[OpenedFolder, ...]:
        """Its Sent folders."""
        return self.report.folders

    @property
    def messages(self) -> int:
        """Messages in them."""
        return sum(folder.messages for folder in self.folders)


class MailboxRefused(RegistryError):
    """The connection test failed, or could not be worth a try; `report` says at which stage, and what to do. A mailbox that
    was begun is in `state`, and no password of it is stored; none was when `mailbox_id` is empty."""

    def __init__(self, report: TestReport, mailbox_id: str = "", state: str = "") -> None:
        failed = report.failed
        assert failed is not None
        self.report = report
        self.mailbox_id = mailbox_id
        self.state = state
        self.stage = failed.name
        self.code = failed.code
        super().__init__(f"{texts.sentence(report, 'en')} (step: {failed.name})")


@dataclass(frozen=True, slots=True)
class ConnectionTester:
    """What a connection test needs of the world. `horizon_days`: how far back a mailbox is read."""

    settings: ImapSettings
    resolve: Resolver
    version: str
    horizon_days: int = 60
    budgets: SessionLimits | None = None
    progress: Callable[[str], None] = lambda _: None
    context: ssl.SSLContext | None = None
    tokens: AccessTokens | None = None

    def test(
        self, registry: Registry, company_id: str, login: Login, keeping: TokenStore
    ) -> tuple[TestReport, datetime]:
        """Test a mailbox, counted against the tries of an hour; with how far back it can be complete. What happened goes to
        the operator's log and table. `keeping` holds the refresh token of a login that has one: the test may change it."""
        known = catalog.load()
        try:
            test_id, now = registry.connection_tests.begin(company_id, login.user)
        except TooManyTests as error:
            return connection_test.spent(login, known, error.again_at), error.again_at
        try:
            with LoginSlots(registry.connection, self.settings).session(login.host):
                outcome = connection_test.run(
                    login, known, hosts=HostPolicy.of(self.settings, self.resolve), context=self.context or tls_context(self.settings.ca_file),
                    version=self.version, budgets=self.budgets or SessionLimits(), now=now, progress=self.progress,
                    authorize=self._authorize(login, keeping),
                )  # fmt: skip
        except NoSlotFree as error:
            outcome = connection_test.postponed(login, known, now + timedelta(seconds=error.again_seconds), str(error))
        report = outcome.report
        failed = report.failed
        stage, code = (failed.name, failed.code) if failed is not None else (None, "passed")
        registry.connection_tests.end(test_id, stage, code, outcome.detail)
        if failed is not None:
            log.warning(
                "%s", outcome.detail,
                extra={"action": "connection-tested", "company_id": company_id, "test_id": test_id, "stage": stage, "code": code},
            )  # fmt: skip
        limits = report.provider.limits if report.provider is not None else None
        return report, completeness.expected_from(now, self.horizon_days, limits, report.folders)

    def _authorize(self, login: Login, keeping: TokenStore) -> Callable[[Callable[[str], None]], None] | None:
        if login.kind != KIND:
            return None
        tokens = self.tokens or AccessTokens(OAuth2Settings.model_validate({}))
        return lambda attempt: tokens.log_in(login.host, login.user, login.password, keeping, attempt)


def consented(by: str, language: Language, text_version: str | None = None) -> GivenConsent:
    """A consent to the text of today. RegistryError that says what to do when nobody gave one, or to another text."""
    name, current = by.strip(), consent.load().current
    if not name:
        raise RegistryError("nobody consented, and without consent no mailbox is read", "consent-give")
    check_name("--consent-by", name)
    if text_version is not None and text_version != current.version:
        raise RegistryError(
            f"consent text {text_version} is not the current one, which is {current.version}", "consent-show-again"
        )
    if language not in current.texts:
        raise RegistryError(f"there is no consent text in {language}; choose of {', '.join(current.texts)}")
    return GivenConsent(name, current.version, language)


def check_name(option: str, name: str) -> None:
    """RegistryError when this is no name that may be kept readable."""
    if not 1 <= len(name) <= MOST_NAME or not name.isprintable():
        raise RegistryError(f"{option} must have 1 to {MOST_NAME} characters and no control character")
    if "@" in name:
        raise RegistryError(f"{option} is kept readable, so it must be a name or an account, not an address")


def add_mailbox(registry: Registry, request: ConnectRequest, trial: ConnectionTester) -> ConnectedMailbox:
    """Consent, a test, and an active mailbox. RegistryError (Rejected for a failed test) with what to do.

    What was begun stays, without the password, as a mailbox that waits for a passed test; the next `add` for the account
    and role takes it up.
    """
    consent = consented(request.consent_by, request.language, request.text_version)
    if request.role not in ROLES:
        raise RegistryError("the role must be registered or backup")
    login = login_of(request)
    registry.accounts.check_needs_mailbox(request.company_id, request.account_id)
    _check_login(registry, request.company_id, login)
    mailbox_id = registry.connection_attempts.begin(_attempt(request, login, consent))
    kept = MemoryTokenStore(login.password)
    report, expected_from = trial.test(registry, request.company_id, login, kept)
    login = replace(login, password=kept.read())
    if not report.passed:
        raise _rejected(registry, request.company_id, mailbox_id, report, consent.by)
    connected_at = registry.connection_attempts.connect(
        request.company_id, mailbox_id, login, expected_from, by=consent.by
    )
    return ConnectedMailbox(request.company_id, mailbox_id, connected_at, report, expected_from)


def refuse_mailbox(registry: Registry, request: ConnectRequest, report: TestReport) -> MailboxRefused:
    """Write down that somebody wanted to connect a mailbox whose provider cannot be read (`connection_test.unsupported`);
    returns the error to raise."""
    consent = consented(request.consent_by, request.language, request.text_version)
    registry.accounts.check_needs_mailbox(request.company_id, request.account_id)
    login = Login(request.address, "", request.port, request.user or request.address, "")
    mailbox_id = registry.connection_attempts.begin(_attempt(request, login, consent))
    return _rejected(registry, request.company_id, mailbox_id, report, consent.by)


def reconnect_mailbox(
    registry: Registry,
    company_id: str,
    mailbox_id: str,
    login: Login,
    trial: ConnectionTester,
    *,
    consent_by: str = "",
    language: Language = "en",
) -> ConnectedMailbox:
    """Connect a mailbox again (see `changed_login`); the test must pass first. RegistryError as `add_mailbox`.

    The same login goes on where it was. Another one is another mailbox: somebody consents to it, and it is read from the
    start.
    """
    registry.connection_attempts.check_reconnect(company_id, mailbox_id, login)
    _check_login(registry, company_id, login, mailbox_id)
    consent = None
    if consent_by or not registry.logins.is_same(company_id, mailbox_id, login):
        consent = consented(consent_by, language)
    by = OPERATOR if consent is None else consent.by
    kept = MemoryTokenStore(login.password)
    report, expected_from = trial.test(registry, company_id, login, kept)
    login = replace(login, password=kept.read())
    if not report.passed:
        raise _rejected(registry, company_id, mailbox_id, report, by)
    anew = registry.connection_attempts.reconnect(company_id, mailbox_id, login, expected_from, consent=consent, by=by)
    shown = registry.mailboxes.details(company_id, mailbox_id)
    return ConnectedMailbox(company_id, mailbox_id, shown["connected_at"], report, expected_from, anew)


def changed_login(stored: Login, changes: LoginChanges) -> Login:
    """What is tested: as stored, with what was typed. A user name that was the address follows it. RegistryError when
    something is missing."""
    address = changes.address or stored.address
    if not address:
        raise RegistryError("the stored address cannot be opened", "address-name")
    if normalise_address(address) is None:
        raise RegistryError("this is not an e-mail address; write it as name@domain")
    follows = not stored.user or stored.user == stored.address
    if changes.user is None and not follows and changes.address not in (None, stored.address):
        raise RegistryError("the stored user name is not the address, so the new one cannot be derived", "user-name")
    user = changes.user or (address if follows else stored.user)
    if not changes.password:
        raise RegistryError("the password is needed again", "password-give")
    return replace(
        stored,
        address=address,
        host=host_name(changes.host) if changes.host else stored.host,
        port=changes.port or stored.port,
        user=user,
        password=changes.password,
        kind=changes.kind,
        sent_override=stored.sent_override if changes.sent_override is None else changes.sent_override,
    )


def login_of(request: ConnectRequest) -> Login:
    """What is tested of what was typed. RegistryError when something is missing."""
    if normalise_address(request.address) is None:
        raise RegistryError("this is not an e-mail address; write it as name@domain")
    if not request.host:
        raise RegistryError("the IMAP server of this mailbox is missing", "host-name")
    if not request.password:
        raise RegistryError("a password is needed", "password-give")
    user = request.user or request.address
    return Login(
        request.address,
        host_name(request.host),
        request.port,
        user,
        request.password,
        request.sent_override,
        request.kind,
    )


def _attempt(request: ConnectRequest, login: Login, consent: GivenConsent) -> ConnectionAttempt:
    mailbox_id = request.mailbox_id or f"m-{secrets.token_hex(6)}"
    return ConnectionAttempt(request.company_id, request.account_id, mailbox_id, request.role, login, consent)


def _check_login(registry: Registry, company_id: str, login: Login, mailbox_id: str = "") -> None:
    try:
        registry.logins.check_available(company_id, login.host, login.user, mailbox_id)
    except LoginTaken as error:
        # Counted as a try: nobody asks here which logins other companies have.
        test_id, _ = registry.connection_tests.begin(company_id, login.user)
        registry.connection_tests.end(test_id, None, "login-taken", str(error))
        holder, held = error.holder
        log.warning(
            "the login is mailbox %s of company %s", held, holder,
            extra={"action": "login-taken", "company_id": company_id},
        )  # fmt: skip
        raise


def _rejected(registry: Registry, company_id: str, mailbox_id: str, report: TestReport, by: str) -> MailboxRefused:
    assert report.failed is not None
    state = registry.connection_attempts.fail(company_id, mailbox_id, report.failed.code, by=by)
    return MailboxRefused(report, mailbox_id, state)
