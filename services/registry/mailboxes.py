"""Mailboxes as people see them, and what happens to one that was connected. SQL is in mailboxes.sql.

How a mailbox is connected is in connection_attempts.py, how it is polled in leases.py.
"""

from typing import Any, Literal

import psycopg

from services.common.postgres import Statements, load_statements
from services.registry import states
from services.registry.errors import RegistryError, unknown_mailbox
from services.registry.links import Links
from services.registry.refusals import reason
from services.registry.state_changes import OPERATOR, StateChanges
from services.registry.states import NEVER_CONNECTED

SQL = load_statements("services.registry", "mailboxes.sql")

MailboxAction = Literal["pause", "resume", "rescan"]
"""What is done with a connected mailbox; the names are those of the command line and of the API."""


class Mailboxes:
    """Reads and writes registry.mailboxes over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)
        self._changes = StateChanges(connection)
        self._links = Links(connection)

    def summaries(self, company_id: str | None = None, mailbox_id: str | None = None) -> list[dict[str, Any]]:
        """Mailboxes of one company or of all, with their addresses masked."""
        return self._sql.all("mailboxes", company_id=company_id, mailbox_id=mailbox_id)

    def details(self, company_id: str, mailbox_id: str) -> dict[str, Any]:
        """The summary of a mailbox with its folders, messages by kind, consents, history and links.

        RegistryError when there is no such mailbox.
        """
        summaries = self.summaries(company_id, mailbox_id)
        if not summaries:
            raise unknown_mailbox(company_id, mailbox_id)
        lists = ("folders", "kinds", "consents", "history")
        return {
            **summaries[0],
            **{name: self._sql.all(name, company_id=company_id, mailbox_id=mailbox_id) for name in lists},
            "links": self._links.of_mailbox(company_id, mailbox_id),
        }

    def pause(self, company_id: str, mailbox_id: str, *, by: str = OPERATOR) -> None:
        """Stop reading a mailbox until it is resumed."""
        self._changes.happen(states.load().events["paused"], company_id, mailbox_id, by)

    def resume(self, company_id: str, mailbox_id: str, *, by: str = OPERATOR) -> None:
        """Read a paused mailbox again, at once."""
        self._changes.happen(states.load().events["resumed"], company_id, mailbox_id, by)

    def rescan(self, company_id: str, mailbox_id: str) -> None:
        """Read everything within the horizon again."""
        if self._sql.one("rescan", company_id=company_id, mailbox_id=mailbox_id) is None:
            self._changes.lock(company_id, mailbox_id)
            raise RegistryError(reason("mailbox-removed", mailbox_id=mailbox_id), "mailbox-add-again")

    def change(self, action: MailboxAction, company_id: str, mailbox_id: str, *, by: str) -> None:
        """Do what an action names."""
        match action:
            case "pause":
                self.pause(company_id, mailbox_id, by=by)
            case "resume":
                self.resume(company_id, mailbox_id, by=by)
            case "rescan":
                self.rescan(company_id, mailbox_id)

    def remove(self, company_id: str, mailbox_id: str, *, by: str = OPERATOR) -> None:
        """Consent is withdrawn: stop reading a mailbox for good, and delete whatever identifies its owner.

        consent.toml lists what remains.
        """
        event = states.load().events["withdrawn"]
        values = {"company_id": company_id, "mailbox_id": mailbox_id}
        with self._changes.transaction(event, by):
            state = self._changes.lock(company_id, mailbox_id)
            self._links.delete_all(company_id, mailbox_id)
            self._changes.move(company_id, mailbox_id, event, state=state)
            self._sql.run("delete_secret", **values)
            self._sql.run("withdraw_consents", **values, by=by)
            removed = self._sql.one("remove", **values)
            assert removed is not None
            if state not in NEVER_CONNECTED:
                self._sql.run(
                    "removed_coverage", **values, account_id=removed["account_id"], connected_at=removed["connected_at"],
                    removed_at=removed["removed_at"], through=removed["complete_through"],
                )  # fmt: skip

    def leave_to_platform(self, company_id: str, account_id: str, *, by: str) -> list[str]:
        """Stop reading an account's mailboxes because the platform syncs it; their passwords are deleted.

        Removes those that were never connected and returns the others. To be called in a transaction.
        """
        event = states.load().events["platform-syncs"]
        for mailbox_id in self._lock_of_account(company_id, account_id, NEVER_CONNECTED):
            self.remove(company_id, mailbox_id, by=by)
        mailbox_ids = self._lock_of_account(company_id, account_id, event.froms)
        for mailbox_id in mailbox_ids:
            with self._changes.transaction(event, by):
                self._changes.move(company_id, mailbox_id, event)
                self._sql.run("delete_secret", company_id=company_id, mailbox_id=mailbox_id)
        return mailbox_ids

    def take_back_from_platform(self, company_id: str, account_id: str, *, by: str) -> list[str]:
        """The mailboxes of an account that the platform no longer syncs: they must be connected again.

        To be called in a transaction.
        """
        event = states.load().events["platform-sync-ended"]
        mailbox_ids = self._lock_of_account(company_id, account_id, event.froms)
        for mailbox_id in mailbox_ids:
            with self._changes.transaction(event, by):
                self._changes.move(company_id, mailbox_id, event, reason=event.name)
        return mailbox_ids

    def _lock_of_account(self, company_id: str, account_id: str, in_states: tuple[str, ...]) -> list[str]:
        mailboxes = self._sql.all(
            "lock_of_account", company_id=company_id, account_id=account_id, states=list(in_states)
        )
        return [mailbox["mailbox_id"] for mailbox in mailboxes]
