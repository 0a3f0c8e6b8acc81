"""The statements of a poll read what they need, however many mailboxes and login slots there are."""

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from services.common.postgres import connect
from services.registry import leases, login_slots

MAILBOXES = (
    "INSERT INTO registry.mailboxes (company_id, mailbox_id, account_id, role, state, address_masked, address_hash, host, port,"
    " login_hash, consent_by, consent_at, consent_text_version, next_poll_at) SELECT 'c', 'm' || n, 'a' || n, 'registered', 'active', 'x', 'x',"
    " 'imap.some.example', 993, 'l' || n, 'x', now(), '1', now() + interval '1 hour' + n * interval '1 second'"
    " FROM generate_series(1, 3000) n"
)
SLOTS = (
    "INSERT INTO registry.login_slots (provider, kind, number) SELECT 'imap.some.example', kind, n"
    " FROM generate_series(1, 20000) n, unnest(ARRAY['login', 'session']) kind"
)
LEASE = {"owner": "tests", "seconds": 60, "most": 2}
TAKE = {
    "providers": ["imap.some.example"], "logins": [30_000], "sessions": [30_000], "pairs": [3], "holder": "h",
    "login_seconds": 60.0, "session_seconds": 60.0,
}  # fmt: skip


@pytest.fixture
def registry(dsn: str) -> Iterator[psycopg.Connection]:
    """3,000 mailboxes that are not due, and 20,000 unused slots of each kind."""
    with connect(dsn, "tests") as connection:
        connection.execute("INSERT INTO registry.companies VALUES ('c')")
        connection.execute("INSERT INTO registry.accounts SELECT 'c', 'a' || n FROM generate_series(1, 3000) n")
        connection.execute(MAILBOXES)
        connection.execute(SLOTS)
        connection.execute("ANALYZE registry.mailboxes, registry.login_slots")
        yield connection


def rows_read(connection: psycopg.Connection, statement: str, values: Mapping[str, Any]) -> int:
    """Rows of tables that a statement reads when it is executed."""
    with connection.transaction(force_rollback=True):
        explained = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values).fetchone()
    assert explained is not None
    return _rows(explained[0][0]["Plan"])


def _rows(plan: Mapping[str, Any]) -> int:
    own = 0
    if "Relation Name" in plan and "Scan" in plan["Node Type"]:
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        own = int((plan["Actual Rows"] + removed) * plan["Actual Loops"])
    return own + sum(_rows(below) for below in plan.get("Plans", ()))


def test_a_look_for_a_due_mailbox_reads_none_that_is_not_due(registry: psycopg.Connection) -> None:
    assert rows_read(registry, leases.SQL["lease"], LEASE) == 0
    registry.execute("UPDATE registry.mailboxes SET next_poll_at = now() WHERE mailbox_id IN ('m1', 'm2')")
    assert rows_read(registry, leases.SQL["lease"], LEASE) < 10


def test_taking_slots_reads_as_many_as_it_takes(registry: psycopg.Connection) -> None:
    assert rows_read(registry, login_slots.SQL["take"], TAKE) < 50
