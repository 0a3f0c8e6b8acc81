"""Deletes what the registry no longer needs; schemas/personal_data.toml defines how long each table keeps its rows.

Published messages are dropped by the week, as whole tables. Other rows are deleted in small batches, each in its own transaction, so
that other work does not wait and several fetchers may do it at the same time.
"""

from collections.abc import Iterable
from logging import getLogger
from typing import Final

from services.common import metrics
from services.common.lifecycle import Stop
from services.common.postgres import ConnectionSource, borrowed, load_statements, translate
from services.registry.coverage import CoverageRecords
from services.registry.published import PublishedMessages

log = getLogger(__name__)

SQL: Final = load_statements("services.registry", "retention.sql")
"""One statement for each table that is trimmed, by the table's name."""
COUNTS: Final = load_statements("services.registry", "mailbox_counts.sql")
EVERY_SECONDS: Final = 3600.0
MOST: Final = 5_000
"""Rows that one statement deletes."""
PROGRESS_ROWS: Final = 1_000_000
"""Compacted rows after which the log shows the progress."""


def trim(connection: ConnectionSource, horizon_days: int) -> dict[str, int]:
    """Delete what is too old, batch by batch; returns rows by table. TransientError when Postgres is away."""
    deleted = dict.fromkeys(SQL, 0)
    for table, statement in SQL.items():
        while True:
            with translate(), borrowed(connection) as lent:
                rows = lent.execute(statement, {"horizon_days": horizon_days, "most": MOST}).rowcount
            deleted[table] += rows
            metrics.ROWS_EXPIRED.labels(f"registry.{table}").inc(rows)
            if rows < MOST:
                break
    return deleted


def keep_weeks(connection: ConnectionSource, horizon_days: int) -> int:
    """Create the weeks of published messages to come and drop those before the horizon; returns their rows, estimated.
    TransientError when Postgres is away."""
    rows = PublishedMessages(connection).keep_weeks(horizon_days)
    metrics.ROWS_EXPIRED.labels("registry.published_messages").inc(rows)
    return rows


def sum_up_counts(connection: ConnectionSource) -> None:
    """Sum up the changes of the number of mailboxes in each state. TransientError when Postgres is away."""
    with translate(), borrowed(connection) as lent:
        lent.execute(COUNTS["sum_up"])


def run(connection: ConnectionSource, horizon_days: int, stop: Stop) -> None:
    """Trim and sum up now and every hour until `stop` is set. TransientError when Postgres is away.

    The tables of weeks reach five weeks ahead: without that of its week no message can be saved, so a wall clock that was set forward
    is noticed within a minute.
    """
    while not stop.is_set():
        sum_up_counts(connection)
        dropped = {"published_messages": keep_weeks(connection, horizon_days)}
        deleted = {table: rows for table, rows in {**dropped, **trim(connection, horizon_days)}.items() if rows}
        if deleted:
            log.info("deleted rows that are no longer needed", extra={"action": "rows-expired", "rows": deleted})
        compact(connection, stop)
        move_records(connection, horizon_days, stop)
        stop.wait_on_clocks(EVERY_SECONDS)


def compact(connection: ConnectionSource, stop: Stop) -> int:
    """Compact the coverage that older releases have written, and log the progress; returns how many rows were deleted."""
    return _log_progress(CoverageRecords(connection).compact(stop), "coverage", "coverage-compacted")


def move_records(connection: ConnectionSource, horizon_days: int, stop: Stop) -> int:
    """Store the published messages of an earlier release in the compact form, and log the progress; returns how many."""
    batches = PublishedMessages(connection).move_records(horizon_days, stop)
    return _log_progress(batches, "published messages", "published-compacted")


def _log_progress(batches: Iterable[int], subject: str, action: str) -> int:
    """The sum of the rows of batches, logged every PROGRESS_ROWS and at the end."""
    total = logged = 0
    for rows in batches:
        total += rows
        if total - logged >= PROGRESS_ROWS:
            log.info("compacting %s", subject, extra={"action": action, "rows": total})
            logged = total
    if total > logged:
        log.info("compacted %s", subject, extra={"action": action, "rows": total})
    return total
