"""Pages of companies, accounts and mailboxes, as the HTTP API shows them. SQL is in lists.sql.

A page begins after a key and not at a number, so that it costs the same wherever it is, and neither skips nor repeats an entry that
stays while others come and go.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from services.common.postgres import Statements, load_statements
from services.registry.errors import unknown_mailbox
from services.registry.keyset import KeysetRange

SQL: Final = load_statements("services.registry", "lists.sql")


@dataclass(frozen=True, slots=True)
class MailboxFilter:
    """Which mailboxes a list has; None: all. `hosts`: servers of a provider."""

    companies: KeysetRange
    company_id: str | None = None
    account_id: str | None = None
    states: Sequence[str] | None = None
    reason: str | None = None
    hosts: Sequence[str] | None = None


class RegistryLists:
    """Reads the registry over one connection; shows what the token of its transaction may see. Not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)

    def companies(self, companies: KeysetRange, after: str, limit: int) -> list[dict[str, Any]]:
        """At most `limit` companies after one ("": from the first)."""
        return self._sql.all("company_page", **companies.values, after=after, limit=limit)

    def accounts(self, company_id: str, after: str, limit: int) -> list[dict[str, Any]]:
        """At most `limit` accounts of a company after one ("": from the first)."""
        return self._sql.all("account_page", company_id=company_id, after=after, limit=limit)

    def addresses(self, company_id: str, account_id: str) -> list[dict[str, Any]]:
        """The addresses of an account, masked: at most one for each role, the registered one first."""
        return self._sql.all("addresses", company_id=company_id, account_id=account_id)

    def mailboxes(self, wanted: MailboxFilter, after: tuple[str, str], limit: int) -> list[dict[str, Any]]:
        """At most `limit` mailboxes after (company, mailbox); ("", ""): from the first."""
        return self._sql.all(
            "mailbox_page", **wanted.companies.values, company_id=wanted.company_id, account_id=wanted.account_id,
            states=None if wanted.states is None else list(wanted.states), reason=wanted.reason,
            hosts=None if wanted.hosts is None else list(wanted.hosts), after_company=after[0], after_mailbox=after[1],
            limit=limit,
        )  # fmt: skip

    def mailbox(self, company_id: str, mailbox_id: str) -> dict[str, Any]:
        """A mailbox with the columns of a page. RegistryError when there is none."""
        mailbox = self._sql.one("mailbox", company_id=company_id, mailbox_id=mailbox_id)
        if mailbox is None:
            raise unknown_mailbox(company_id, mailbox_id)
        return mailbox

    def session(self, session_id: str) -> dict[str, Any] | None:
        """What became of a link for a seller; None when there is none."""
        return self._sql.one("session", session_id=session_id)

    def history(self, company_id: str, mailbox_id: str) -> dict[str, list[dict[str, Any]]]:
        """`history` and `consents` of a mailbox, oldest first."""
        return {
            name: self._sql.all(f"mailbox_{name}", company_id=company_id, mailbox_id=mailbox_id)
            for name in ("history", "consents")
        }
