"""The state of all mailboxes together, without naming any. SQL is in waiting_mailboxes.sql."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg

from services.common.postgres import Statements, load_statements

SQL: Final = load_statements("services.registry", "waiting_mailboxes.sql")


@dataclass(frozen=True, slots=True)
class WaitingMailboxes:
    """Mailboxes by state; of the active ones: how long the most overdue waits, and the age of the oldest last good poll."""

    states: Mapping[str, int]
    delay_seconds: float
    age_seconds: float


def measure(connection: psycopg.Connection) -> WaitingMailboxes:
    """The state of all mailboxes that the connection may read."""
    statements = Statements(connection, SQL)
    waiting = statements.one("waiting")
    assert waiting is not None
    states = {count["state"]: count["mailboxes"] for count in statements.all("states")}
    return WaitingMailboxes(states, waiting["delay"], waiting["age"])
