"""Deletes what the registry need not keep any longer; schemas/personal_data.toml says for how long it keeps what.

Small portions, each a transaction of its own: nobody waits for it, and several fetchers may do it at once.
"""

from logging import getLogger
from typing import Final

import psycopg

from services.common import metrics
from services.common.lifecycle import Stop
from services.common.postgres import load_statements, translate

log = getLogger(__name__)

SQL: Final = load_statements("services.registry", "retention.sql")
"""One statement for each table that is trimmed, by the table's name."""
EVERY_SECONDS: Final = 3600.0
MOST: Final = 5_000
"""Rows that one statement deletes."""


def trim(connection: psycopg.Connection, horizon_days: int) -> dict[str, int]:
    """Delete what is too old, portion by portion; returns rows by table. TransientError when Postgres goes away."""
    gone = dict.fromkeys(SQL, 0)
    for table, statement in SQL.items():
        while True:
            with translate():
                rows = connection.execute(statement, {"horizon_days": horizon_days, "most": MOST}).rowcount
            gone[table] += rows
            metrics.ROWS_EXPIRED.labels(f"registry.{table}").inc(rows)
            if rows < MOST:
                break
    return gone


def run(connection: psycopg.Connection, horizon_days: int, stop: Stop) -> None:
    """Trim now and every hour until `stop` is set. TransientError when Postgres goes away."""
    while not stop.is_set():
        gone = {table: rows for table, rows in trim(connection, horizon_days).items() if rows}
        if gone:
            log.info("deleted what need not be kept any longer", extra={"action": "rows-expired", "rows": gone})
        stop.wait(EVERY_SECONDS)
