"""Connecting a mailbox.

1. The owner consents (consent.py), and what was typed becomes a login (requests.py).
2. The registry stores the attempt, without the password.
3. The connection test finds a Sent folder (tester.py, connection_test.py).
4. The mailbox is active: the password is stored sealed, and fetchers read it from now on.

What the person sees names the stage that failed and what to do; what the network answered is only for the operator, in the
log and in registry.connection_tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from logging import getLogger

from services.common.language import Language
from services.connect import consent, texts
from services.connect.report import ConnectionTestReport
from services.connect.requests import ConnectRequest, requested_login
from services.connect.tester import ConnectionTester
from services.mail.values import Login, OpenedFolder
from services.registry.addresses import ROLES
from services.registry.connection_attempts import ConnectionAttempt, GivenConsent
from services.registry.errors import RegistryError
from services.registry.logins import LoginTaken
from services.registry.refusals import reason
from services.registry.registry import Registry
from services.registry.secret_tokens import new_id
from services.registry.state_changes import OPERATOR
from services.signin.token_store import MemoryTokenStore

log = getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectedMailbox:
    """A mailbox that is active now."""

    company_id: str
    mailbox_id: str
    connected_at: datetime
    report: ConnectionTestReport
    expected_from: datetime
    """From when on it can be complete."""
    from_start: bool = True
    """Whether it is read from the start; else reading continues where it was."""

    @property
    def folders(self) -> tuple[OpenedFolder, ...]:
        """Its Sent folders."""
        return self.report.folders

    @property
    def messages(self) -> int:
        """Messages in its Sent folders."""
        return sum(folder.messages for folder in self.folders)


class MailboxRefused(RegistryError):
    """The connection test failed or was not worth making; `report` names the stage and what to do.

    An attempt that was stored is in `state` and has no password; `mailbox_id` is empty when none was stored.
    """

    def __init__(self, report: ConnectionTestReport, mailbox_id: str = "", state: str = "") -> None:
        failed = report.failed
        assert failed is not None
        self.report = report
        self.mailbox_id = mailbox_id
        self.state = state
        self.stage = failed.name
        self.code = failed.code
        super().__init__(f"{texts.sentence(report, 'en')} (step: {failed.name})")


def add_mailbox(registry: Registry, request: ConnectRequest, tester: ConnectionTester) -> ConnectedMailbox:
    """Connect a mailbox. RegistryError, MailboxRefused when the test fails.

    The attempt stays in the registry, without the password, as a mailbox that waits for its test; the next `add_mailbox` for
    this account and role continues it.
    """
    given = consent.give(request.consent_by, request.language, request.text_version, request.session_id)
    if request.role not in ROLES:
        raise RegistryError(reason("role-unknown"))
    login = requested_login(request)
    registry.accounts.check_needs_mailbox(request.company_id, request.account_id)
    _check_available(registry, request.company_id, login)
    mailbox_id = registry.connection_attempts.begin(_attempt(request, login, given))
    token_store = MemoryTokenStore(login.password)
    report, expected_from = tester.test(registry, request.company_id, login, token_store)
    login = replace(login, password=token_store.read())
    if not report.passed:
        raise _refused(registry, request.company_id, mailbox_id, login, report, given.by)
    connected_at = registry.connection_attempts.connect(
        request.company_id, mailbox_id, login, expected_from, by=given.by
    )
    return ConnectedMailbox(request.company_id, mailbox_id, connected_at, report, expected_from)


def refuse_mailbox(registry: Registry, request: ConnectRequest, report: ConnectionTestReport) -> MailboxRefused:
    """Store the attempt to connect a mailbox whose provider cannot be read (`report.unsupported`); returns the error to
    raise."""
    given = consent.give(request.consent_by, request.language, request.text_version, request.session_id)
    registry.accounts.check_needs_mailbox(request.company_id, request.account_id)
    login = Login(request.address, "", request.port, request.user or request.address, "")
    mailbox_id = registry.connection_attempts.begin(_attempt(request, login, given))
    return _refused(registry, request.company_id, mailbox_id, login, report, given.by)


def reconnect_mailbox(
    registry: Registry,
    company_id: str,
    mailbox_id: str,
    login: Login,
    tester: ConnectionTester,
    *,
    consent_by: str = "",
    text_version: str | None = None,
    language: Language = "en",
    session_id: str | None = None,
) -> ConnectedMailbox:
    """Connect a mailbox again with a changed login (`changed_login`) once it passes the test. RegistryError, MailboxRefused.

    With the same login, reading continues where it was. Another login leads to another mailbox, which needs its own consent
    and is read from the start. `text_version`: the consent text that was shown; None: the current one.
    """
    registry.connection_attempts.check_reconnect(company_id, mailbox_id, login)
    _check_available(registry, company_id, login, mailbox_id)
    given = None
    if consent_by or not registry.logins.is_same(company_id, mailbox_id, login):
        given = consent.give(consent_by, language, text_version, session_id)
    by = OPERATOR if given is None else given.by
    token_store = MemoryTokenStore(login.password)
    report, expected_from = tester.test(registry, company_id, login, token_store)
    login = replace(login, password=token_store.read())
    if not report.passed:
        raise _refused(registry, company_id, mailbox_id, login, report, by)
    from_start = registry.connection_attempts.reconnect(
        company_id, mailbox_id, login, expected_from, consent=given, by=by
    )
    connected_at = registry.mailboxes.details(company_id, mailbox_id)["connected_at"]
    return ConnectedMailbox(company_id, mailbox_id, connected_at, report, expected_from, from_start)


def list_folders(
    registry: Registry, company_id: str, mailbox_id: str, tester: ConnectionTester
) -> ConnectionTestReport:
    """List the folders of an active mailbox, with its stored secret. RegistryError."""
    registry.connection_attempts.check_folder_choice(company_id, mailbox_id)
    login = registry.logins.with_password(company_id, mailbox_id)
    return tester.list_folders(registry, company_id, login, registry.logins.token_store(company_id, mailbox_id))


def choose_folders(
    registry: Registry, company_id: str, mailbox_id: str, folders: Sequence[bytes], tester: ConnectionTester, *, by: str
) -> ConnectionTestReport:
    """Read other Sent folders of an active mailbox, once they pass the test with its stored secret; none: those that are recognised.
    RegistryError.

    Nothing changes when the test fails. Reading continues where it was; a folder that was not read before is read from the start.
    """
    registry.connection_attempts.check_folder_choice(company_id, mailbox_id)
    login = replace(registry.logins.with_password(company_id, mailbox_id), sent_override=tuple(folders))
    token_store = registry.logins.token_store(company_id, mailbox_id)
    report, expected_from = tester.test(registry, company_id, login, token_store)
    if report.passed:
        registry.connection_attempts.choose_folders(company_id, mailbox_id, login, expected_from, by=by)
    return report


def _attempt(request: ConnectRequest, login: Login, given: GivenConsent) -> ConnectionAttempt:
    mailbox_id = request.mailbox_id or new_id("m")
    return ConnectionAttempt(request.company_id, request.account_id, mailbox_id, request.role, login, given)


def _check_available(registry: Registry, company_id: str, login: Login, mailbox_id: str = "") -> None:
    """RegistryError when another mailbox holds a login; LoginTaken when it is another company's."""
    try:
        registry.logins.check_available(company_id, login, mailbox_id)
    except LoginTaken as error:
        # Counted as a failed test, so that nobody can find out in this way which logins other companies have.
        test_id, _ = registry.connection_tests.begin(company_id, login.user)
        registry.connection_tests.end(test_id, None, "login-taken", str(error))
        holder_company, holder_mailbox = error.holder
        log.warning(
            "the login is mailbox %s of company %s", holder_mailbox, holder_company,
            extra={"action": "login-taken", "company_id": company_id},
        )  # fmt: skip
        raise


def _refused(
    registry: Registry, company_id: str, mailbox_id: str, login: Login, report: ConnectionTestReport, by: str
) -> MailboxRefused:
    assert report.failed is not None
    state = registry.connection_attempts.fail(company_id, mailbox_id, login, report.failed.code, by=by)
    return MailboxRefused(report, mailbox_id, state)
