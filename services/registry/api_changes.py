"""What the keys of platforms changed through the HTTP API. SQL is in api_changes.sql."""

from typing import Any, Final, Literal

import psycopg

from services.common.postgres import Statements, load_statements
from services.registry.keyset import KeysetRange

SQL: Final = load_statements("services.registry", "api_changes.sql")

ApiAction = Literal[
    "company-added", "account-added", "mailbox-paused", "mailbox-resumed", "mailbox-rescanned", "mailbox-removal-requested",
    "mailbox-linked", "mailbox-unlinked", "platform-sync-requested", "address-change-requested", "address-removal-requested",
    "connect-session-created", "panel-session-created", "panel-token-created", "connection-test-requested", "connect-requested",
]  # fmt: skip
"""What was done to the company or to the subject that the entry names."""


class ApiChanges:
    """Reads and writes registry.api_changes in a transaction of one API key; not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)

    def note(self, key_id: str, key_name: str, company_id: str, action: ApiAction, subject: str = "") -> None:
        """Record a change in the transaction that makes it. `subject`: id of the account, mailbox, session or request."""
        self._sql.run(
            "note_change", key_id=key_id, key_name=key_name, company_id=company_id, action=action, subject=subject
        )

    def page(
        self, companies: KeysetRange, company_id: str | None, before: int | None, limit: int
    ) -> list[dict[str, Any]]:
        """Changes, newest first: at most `limit` of those before the change `before`."""
        return self._sql.all(
            "changes",
            **companies.values,
            company_id=company_id,
            before=before if before is not None else 2**62,
            limit=limit,
        )
