"""Changes of a mailbox's state, each an event of states.toml. SQL is in state_changes.sql."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from services.common.postgres import Statements, load_statements
from services.registry import states
from services.registry.errors import RegistryError, unknown_mailbox
from services.registry.refusals import reason
from services.registry.states import StateEvent

SQL = load_statements("services.registry", "state_changes.sql")
OPERATOR: Final = "operator"
"""The actor of a change when no other is named."""


class StateChanges:
    """Makes events happen to mailboxes over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)

    @contextmanager
    def transaction(self, event: StateEvent, by: str) -> Iterator[None]:
        """A transaction; the history of states records its changes with this event and `by` as the actor."""
        with self._sql.transaction():
            self._sql.run("actor", actor=by, reason=event.name)
            yield

    def lock(self, company_id: str, mailbox_id: str) -> str:
        """The state of a mailbox, whose row stays locked until the transaction ends. RegistryError when there is none."""
        mailbox = self._sql.one("lock", company_id=company_id, mailbox_id=mailbox_id)
        if mailbox is None:
            raise unknown_mailbox(company_id, mailbox_id)
        return str(mailbox["state"])

    def move(
        self,
        company_id: str,
        mailbox_id: str,
        event: StateEvent,
        *,
        state: str | None = None,
        reason: str | None = None,
        reconnected: bool = False,
    ) -> None:
        """Make an event happen to a mailbox. RegistryError when its state does not allow it, which names `state`."""
        moved = self._sql.one(
            "move", company_id=company_id, mailbox_id=mailbox_id, froms=list(event.froms), to=event.to, reason=reason,
            reconnected=reconnected,
        )  # fmt: skip
        if moved is None:
            raise refused(event, company_id, mailbox_id, state or "")

    def happen(self, event: StateEvent, company_id: str, mailbox_id: str, by: str) -> None:
        """A transaction in which one event happens to a mailbox and nothing else."""
        with self.transaction(event, by):
            self.move(company_id, mailbox_id, event, state=self.lock(company_id, mailbox_id))


def refused(event: StateEvent, company_id: str, mailbox_id: str, state: str) -> RegistryError:
    """The refusal of an event that the state of a mailbox does not allow."""
    return RegistryError(
        reason("mailbox-state", mailbox_id=mailbox_id, state=states.shown(state), only=event.only), event.remedy,
        company_id=company_id, mailbox_id=mailbox_id,
    )  # fmt: skip
