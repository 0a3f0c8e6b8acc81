"""Connecting a mailbox: from an attempt that waits for its test to an active mailbox, and again after a change of login.

SQL is in connection_attempts.sql. The password of an attempt is not stored before it passed the connection test. Nothing is locked
during the test, so what follows it is done only if the mailbox still has the login that was tested.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg

from services.common.postgres import Statements, load_statements
from services.mail.values import Login
from services.registry import states
from services.registry.accounts import Accounts
from services.registry.addresses import Addresses
from services.registry.errors import RegistryError
from services.registry.links import Links
from services.registry.logins import Logins, login_connected
from services.registry.mailboxes import Mailboxes
from services.registry.refusals import reason, words
from services.registry.state_changes import OPERATOR, StateChanges, refused
from services.registry.states import CONNECTED, NEVER_CONNECTED

SQL = load_statements("services.registry", "connection_attempts.sql")
TEST_SECONDS: Final = 120.0
"""For so long an attempt without a result is being tested; its process has ended otherwise, and another login may be tried."""


@dataclass(frozen=True, slots=True)
class GivenConsent:
    """Who consented to which text."""

    by: str
    text_version: str
    language: str
    text_sha256: str = ""
    session_id: str | None = None
    """The session of the web page on which it was given."""


@dataclass(frozen=True, slots=True)
class ConnectionAttempt:
    """A mailbox that a person starts to connect."""

    company_id: str
    account_id: str
    mailbox_id: str
    role: str
    login: Login
    consent: GivenConsent


class ConnectionAttempts:
    """Writes of connecting over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, logins: Logins, addresses: Addresses) -> None:
        self._sql = Statements(connection, SQL)
        self._changes = StateChanges(connection)
        self._accounts = Accounts(connection)
        self._mailboxes = Mailboxes(connection)
        self._links = Links(connection)
        self._logins = logins
        self._addresses = addresses

    def begin(self, attempt: ConnectionAttempt) -> str:
        """Store the consent and a mailbox that waits for its test; returns its id.

        An earlier attempt of this account and role is continued under its own id. RegistryError when another login of it is being
        tested, or when this one was connected meanwhile.
        """
        event = states.load().events["connecting"]
        consent = attempt.consent
        place = {"company_id": attempt.company_id, "account_id": attempt.account_id, "role": attempt.role}
        try:
            with self._changes.transaction(event, consent.by):
                self._sql.run("lock_account", company_id=attempt.company_id, account_id=attempt.account_id)
                earlier = self._sql.one("attempt", **place, states=list(NEVER_CONNECTED), test_seconds=TEST_SECONDS)
                mailbox_id = attempt.mailbox_id if earlier is None else earlier["mailbox_id"]
                if (
                    earlier is not None
                    and earlier["is_tested"]
                    and not self._logins.is_same(attempt.company_id, mailbox_id, attempt.login)
                ):
                    raise RegistryError(reason("attempt-running"))
                self._sql.run(
                    "insert_attempt" if earlier is None else "update_attempt",
                    **place, mailbox_id=mailbox_id, to=event.to, consent_by=consent.by, text_version=consent.text_version,
                    **self._logins.columns(attempt.company_id, mailbox_id, attempt.login),
                )  # fmt: skip
                # After the statements that wait for a lock: what became active meanwhile is visible now.
                self._logins.check_available(attempt.company_id, attempt.login, mailbox_id)
                self._store_consent(attempt.company_id, mailbox_id, consent)
        except psycopg.errors.UniqueViolation as error:
            if error.diag.constraint_name == "mailboxes_attempt":
                raise RegistryError(reason("attempt-running")) from None
            raise RegistryError(reason("mailbox-exists", mailbox_id=attempt.mailbox_id)) from None
        return mailbox_id

    def fail(self, company_id: str, mailbox_id: str, login: Login, code: str, *, by: str = OPERATOR) -> str:
        """The connection test of a login failed with `code`; returns the state of the mailbox, which one that was connected keeps, or
        that has another login by now."""
        event = states.load().after_test(code)
        with self._changes.transaction(event, by):
            state = self._changes.lock(company_id, mailbox_id)
            if not event.allows(state) or not self._logins.is_same(company_id, mailbox_id, login):
                return state
            self._changes.move(company_id, mailbox_id, event, reason=code)
        return event.to

    def connect(
        self, company_id: str, mailbox_id: str, login: Login, expected_from: datetime, *, by: str = OPERATOR
    ) -> datetime:
        """The test of an attempt passed: store its password and read the mailbox from now on. Returns when it was connected.

        `expected_from`: from when on its mail is likely to be visible. RegistryError when the attempt has another login by now, or when
        another request has connected this one.
        """
        event = states.load().events["connected"]
        values = {"company_id": company_id, "mailbox_id": mailbox_id}
        with self._login_taken_meanwhile(company_id, mailbox_id, login), self._changes.transaction(event, by):
            state = self._changes.lock(company_id, mailbox_id)
            if state != "removed" and not self._logins.is_same(company_id, mailbox_id, login):
                raise RegistryError(reason("login-changed-meanwhile", mailbox_id=mailbox_id))
            if state in CONNECTED:
                raise login_connected(company_id, mailbox_id)
            self._store_login(company_id, mailbox_id, login, expected_from)
            connected = self._sql.one("connect", **values)
            assert connected is not None
            self._changes.move(company_id, mailbox_id, event, state=state)
            self._sql.run("connected_coverage", **values, **connected)
        connected_at: datetime = connected["connected_at"]
        return connected_at

    def check_reconnect(self, company_id: str, mailbox_id: str, login: Login) -> None:
        """RegistryError when a mailbox cannot be connected again with this login, before any server is contacted."""
        mailbox = self._mailboxes.details(company_id, mailbox_id)
        account_id, role = mailbox["account_id"], mailbox["role"]
        event = states.load().events["reconnected"]
        if mailbox["state"] == "synced_by_platform":
            self._accounts.check_needs_mailbox(company_id, account_id)
        if not event.allows(mailbox["state"]):
            raise refused(event, company_id, mailbox_id, mailbox["state"])
        if mailbox["state_reason"] != "address-changed":
            return
        if self._addresses.matches(company_id, account_id, role, login.address) is False:
            address = self._addresses.masked(company_id, account_id, role) or ""
            raise RegistryError(
                reason("address-differs", role=words()[role], account_id=account_id, address=address),
                "new-address-connect",
            )

    def reconnect(
        self,
        company_id: str,
        mailbox_id: str,
        login: Login,
        expected_from: datetime,
        *,
        consent: GivenConsent | None,
        by: str,
    ) -> bool:
        """The test of another login passed. True when it leads to another mailbox, which is read from the start; else reading
        continues where it was."""
        event = states.load().events["reconnected"]
        values: dict[str, Any] = {"company_id": company_id, "mailbox_id": mailbox_id}
        with self._login_taken_meanwhile(company_id, mailbox_id, login), self._changes.transaction(event, by):
            state = self._changes.lock(company_id, mailbox_id)
            is_another = not self._logins.is_same(company_id, mailbox_id, login)
            if is_another:
                self._links.delete_all(company_id, mailbox_id)
            self._store_login(company_id, mailbox_id, login, expected_from)
            if consent is not None:
                self._store_consent(company_id, mailbox_id, consent)
            if is_another:
                connected = self._sql.one("start_over", **values)
                assert connected is not None
                self._sql.run("connected_coverage", **values, **connected)
            self._changes.move(company_id, mailbox_id, event, state=state, reconnected=True)
        return is_another

    def check_folder_choice(self, company_id: str, mailbox_id: str) -> None:
        """RegistryError when other Sent folders of a mailbox cannot be chosen, before any server is contacted."""
        event, state = states.load().events["folders-chosen"], self._mailboxes.details(company_id, mailbox_id)["state"]
        if not event.allows(state):
            raise refused(event, company_id, mailbox_id, state)

    def choose_folders(
        self, company_id: str, mailbox_id: str, login: Login, expected_from: datetime, *, by: str
    ) -> None:
        """The test of the stored login with other Sent folders passed: they are read from now on. RegistryError when the login has
        been changed since, or the state of the mailbox."""
        event = states.load().events["folders-chosen"]
        values = {"company_id": company_id, "mailbox_id": mailbox_id}
        with self._changes.transaction(event, by):
            state = self._changes.lock(company_id, mailbox_id)
            if not self._logins.is_same(company_id, mailbox_id, login):
                raise RegistryError(reason("login-changed-meanwhile", mailbox_id=mailbox_id))
            self._sql.run(
                "choose_folders", **values, sent_override=list(login.sent_override) or None, expected_from=expected_from
            )
            self._changes.move(company_id, mailbox_id, event, state=state, reconnected=True)

    def _store_login(self, company_id: str, mailbox_id: str, login: Login, expected_from: datetime) -> None:
        """Store the login that was tested, and its secret. RegistryError when another mailbox holds it."""
        linked = self._logins.check_available(company_id, login, mailbox_id)
        self._sql.run(
            "store_login", company_id=company_id, mailbox_id=mailbox_id, expected_from=expected_from, linked=linked,
            **self._logins.columns(company_id, mailbox_id, login),
        )  # fmt: skip
        self._logins.store_secret(company_id, mailbox_id, login)

    def _store_consent(self, company_id: str, mailbox_id: str, consent: GivenConsent) -> None:
        self._sql.run(
            "insert_consent", company_id=company_id, mailbox_id=mailbox_id, consent_by=consent.by,
            text_version=consent.text_version, text_sha256=consent.text_sha256 or None, language=consent.language,
            session_id=consent.session_id,
        )  # fmt: skip

    @contextmanager
    def _login_taken_meanwhile(self, company_id: str, mailbox_id: str, login: Login) -> Iterator[None]:
        """RegistryError when another person connected the same login while the block ran."""
        try:
            yield
        except psycopg.errors.UniqueViolation:
            self._logins.check_available(company_id, login, mailbox_id)
            raise RegistryError(reason("login-connected-meanwhile")) from None
