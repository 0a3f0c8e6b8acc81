"""Accounts of a company: main accounts and sub-accounts. SQL is in accounts.sql."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg

from services.common.codec import EARLIEST
from services.common.postgres import Statements, load_statements
from services.registry.companies import Companies, check_id
from services.registry.errors import RegistryError
from services.registry.mailboxes import Mailboxes
from services.registry.refusals import reason, words
from services.registry.state_changes import OPERATOR

SQL = load_statements("services.registry", "accounts.sql")
CLOCK_DIFFERENCE: Final = timedelta(minutes=1)
"""How far the clock of a caller may be ahead of the database's."""


class Accounts:
    """Reads and writes registry.accounts over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)
        self._companies = Companies(connection)
        self._mailboxes = Mailboxes(connection)

    def add(self, company_id: str, account_id: str, *, kind: str = "main", synced_from: datetime | None = None) -> bool:
        """Register an account; False when it is registered already with these values, RegistryError when with others.

        `synced_from`: since when the account answers through the platform's own mail.
        """
        check_id("account", account_id)
        _check_start(synced_from)
        self._companies.check_exists(company_id)
        with self._sql.transaction():
            values = {"company_id": company_id, "account_id": account_id}
            added = self._sql.one("add_account", **values, kind=kind, synced_from=synced_from) is not None
            if added and synced_from is not None:
                self._sql.run("platform_sync_started", **values, from_at=synced_from)
        if not added:
            self._check_same(company_id, account_id, kind, synced_from)
        return added

    def get(self, company_id: str, account_id: str) -> Mapping[str, Any]:
        """The kind of an account (`kind`) and since when the platform syncs it (`synced_by_platform_from`).

        RegistryError when there is no such account.
        """
        account = self._sql.one("account", company_id=company_id, account_id=account_id)
        if account is None:
            raise RegistryError(
                reason("account-unknown", company_id=company_id, account_id=account_id), "account-add", company_id=company_id,
                account_id=account_id,
            )  # fmt: skip
        return account

    def check_needs_mailbox(self, company_id: str, account_id: str) -> None:
        """RegistryError when there is no such account, or when it needs no mailbox since the platform syncs it."""
        if self.get(company_id, account_id)["synced_by_platform_from"] is not None:
            raise RegistryError(reason("account-needs-no-mailbox", account_id=account_id))

    def start_platform_sync(
        self, company_id: str, account_id: str, since: datetime, *, by: str = OPERATOR
    ) -> list[str]:
        """The account answers through the platform's own mail from `since` on: its mailboxes are no longer read, and their
        passwords are deleted. Returns the mailboxes that were connected; those that never were are removed."""
        _check_start(since)
        account = self.get(company_id, account_id)
        if account["synced_by_platform_from"] is not None:
            day = f"{account['synced_by_platform_from']:%Y-%m-%d}"
            raise RegistryError(reason("account-synced-already", account_id=account_id, day=day))
        values = {"company_id": company_id, "account_id": account_id}
        with self._sql.transaction():
            changed = self._sql.one("set_synced", **values, synced_from=since)
            if changed is None:
                raise RegistryError(reason("changed-at-the-same-moment"))
            if since > changed["now"] + CLOCK_DIFFERENCE:
                raise RegistryError(reason("sync-in-the-future"), "since-in-the-past")
            self._sql.run("platform_sync_started", **values, from_at=min(since, changed["now"]))
            return self._mailboxes.leave_to_platform(company_id, account_id, by=by)

    def end_platform_sync(self, company_id: str, account_id: str, *, by: str = OPERATOR) -> list[str]:
        """The platform no longer syncs the account. Returns its mailboxes, which must be connected again."""
        since = self.get(company_id, account_id)["synced_by_platform_from"]
        values = {"company_id": company_id, "account_id": account_id}
        with self._sql.transaction():
            changed = self._sql.one("set_synced", **values, synced_from=None)
            if changed is None:
                raise RegistryError(reason("account-not-synced", account_id=account_id))
            self._sql.run("platform_sync_ended", **values, from_at=since, removed_at=changed["now"])
            return self._mailboxes.take_back_from_platform(company_id, account_id, by=by)

    def _check_same(self, company_id: str, account_id: str, kind: str, synced_from: datetime | None) -> None:
        account = self.get(company_id, account_id)
        if account["kind"] != kind:
            raise RegistryError(reason("account-of-other-kind", account_id=account_id, kind=words()[account["kind"]]))
        if synced_from is not None and account["synced_by_platform_from"] is None:
            raise RegistryError(
                reason("account-exists-not-synced", account_id=account_id), "account-platform-sync", company_id=company_id,
                account_id=account_id,
            )  # fmt: skip


def _check_start(synced_from: datetime | None) -> None:
    """RegistryError when a sync would start before every fact: Postgres stores instants that cannot be read back."""
    if synced_from is not None and synced_from < EARLIEST:
        raise RegistryError(reason("sync-too-early", day=f"{EARLIEST:%Y-%m-%d}"), "since-later")
