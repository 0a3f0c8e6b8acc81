"""Links: an operator lets two companies read the same login. SQL is in links.sql."""

from typing import Any

import psycopg

from services.common.postgres import Statements, load_statements
from services.registry import states
from services.registry.companies import Companies
from services.registry.errors import RegistryError
from services.registry.refusals import reason
from services.registry.state_changes import StateChanges
from services.registry.states import CONNECTED

SQL = load_statements("services.registry", "links.sql")


class Links:
    """Reads and writes registry.mailbox_links over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)
        self._companies = Companies(connection)
        self._changes = StateChanges(connection)

    def add(self, company_id: str, mailbox_id: str, other_id: str, *, by: str) -> None:
        """Let another company connect the login of a mailbox too."""
        self._companies.check_exists(other_id)
        if other_id == company_id:
            raise RegistryError(reason("link-with-itself"))
        values = {"company_id": company_id, "mailbox_id": mailbox_id, "other_id": other_id}
        with self._sql.transaction():
            state = self._changes.lock(company_id, mailbox_id)
            if state not in CONNECTED:
                raise RegistryError(reason("link-not-connected", mailbox_id=mailbox_id, state=states.shown(state)))
            if self._sql.one("link", **values, connected=list(CONNECTED), by=by) is None:
                raise RegistryError(reason("link-exists", company_id=company_id, linked_id=other_id))

    def remove(self, company_id: str, mailbox_id: str, other_id: str) -> None:
        """Remove a link; refused while both companies have the mailbox connected."""
        with self._sql.transaction():
            self._changes.lock(company_id, mailbox_id)
            for link in self.of_mailbox(company_id, mailbox_id):
                if link["company_id"] == other_id and link["mailbox_id"] is not None:
                    raise RegistryError(
                        reason("link-in-use", company_id=other_id, mailbox_id=link["mailbox_id"]), "link-remove-there",
                        company_id=other_id, mailbox_id=link["mailbox_id"],
                    )  # fmt: skip
            if self._sql.one("unlink", company_id=company_id, mailbox_id=mailbox_id, other_id=other_id) is None:
                raise RegistryError(reason("link-missing", mailbox_id=mailbox_id, linked_id=other_id))

    def of_mailbox(self, company_id: str, mailbox_id: str) -> list[dict[str, Any]]:
        """The companies that may read the login of a mailbox too, who linked them, and their mailbox if it is connected."""
        return self._sql.all("links", company_id=company_id, mailbox_id=mailbox_id, connected=list(CONNECTED))

    def delete_all(self, company_id: str, mailbox_id: str) -> None:
        """Delete the links of the login of a mailbox that is connected."""
        self._sql.run("delete_links", company_id=company_id, mailbox_id=mailbox_id, connected=list(CONNECTED))
