"""The database of the portal's measurements: 10,000 mailboxes of 2,000 companies and a million inquiries, in rows that Postgres generates.

Outcomes and rates are written as a rule set would judge them, not judged: judging them takes most of an hour (bench/recompute.py).
"""

from collections.abc import Callable
from typing import Final

import psycopg
from psycopg.types.json import Jsonb

from services.aggregator.judge import rate_ranges, rules
from services.aggregator.refresh import recompute
from services.common.postgres import load_statements

SQL: Final = load_statements("bench", "portal_world.sql")
COMPANIES: Final = 2_000
ACCOUNTS: Final = 5
"""Of each company; each has a mailbox."""
INQUIRIES: Final = 1_000_000
DAYS: Final = 60
CAUSES: Final = ("no-valid-inquiries", "address-changed")


def load(
    connection: psycopg.Connection, companies: int = COMPANIES, inquiries: int = INQUIRIES, *,
    report: Callable[[str], None] = lambda _: None,
) -> None:  # fmt: skip
    """Fill a migrated, empty database and ANALYZE it. `report` is called with the name of each table that is filled."""
    rule_set = rules.load_builtin("default")
    values = {
        "companies": companies, "accounts": ACCOUNTS, "inquiries": inquiries, "days": DAYS, "rule_set": rule_set.name,
        "identity": rule_set.identity, "causes": list(CAUSES),
    }  # fmt: skip
    with connection.transaction():
        # Triggers would write one row after the other what is counted at the end.
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            "INSERT INTO ledger.rule_sets (name, identity, parameters) VALUES (%s, %s, %s)",
            [rule_set.name, rule_set.identity, Jsonb(rule_set.parameters())],
        )
        for name, statement in SQL.items():
            report(name)
            connection.execute(statement, values)
    report("ranges of days")
    while recompute.move_days(connection):
        pass
    assert rate_ranges.keep(connection)
    connection.execute("VACUUM ANALYZE")
