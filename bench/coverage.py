"""Coverage after a year of polls: rows, what a poll writes, how fast old rows are compacted, and a judgement beside that of a day.

The year is what a release before migration 0020 left, a row for every poll, compacted by the fetcher's own job. Part of `PARTS=scale`.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg

from bench.measure import Figure, Usage, scratch, seconds
from bench.narrow import narrow_seconds
from services.aggregator.judge import rules
from services.common import migrations
from services.common.lifecycle import Stop
from services.common.postgres import connect
from services.registry.coverage import CoverageRecords, PolledSpan
from services.standalone.servers.postgres import EmbeddedPostgres

MAILBOXES: Final = (1, 5, 50)
DAYS: Final = {"day": 1, "year": 365}
INTERVALS: Final = (10, 600, 3600)
"""Seconds between two polls."""
WRITTEN_MAILBOXES: Final = 5
NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)

COMPANY: Final = """
WITH company AS (INSERT INTO registry.companies (company_id) VALUES (%(company)s)),
account AS (INSERT INTO registry.accounts (company_id, account_id) VALUES (%(company)s, 'a')),
ledger AS (INSERT INTO ledger.companies (company_id) VALUES (%(company)s)),
inquiry AS (
    INSERT INTO ledger.inquiries (company_id, inquiry_id, account_id, received_at, facts_id, buyer_id)
    SELECT %(company)s, 'i' || number, 'a', %(now)s - number * interval '37 minutes', 'f', 'b' || number
    FROM generate_series(1, 40) number
)
INSERT INTO registry.mailboxes (company_id, mailbox_id, account_id, role, state, address_masked, address_hash, host, port,
    login_hash, consent_by, consent_at, consent_text_version, connected_at, complete_from, complete_through, last_success_at)
SELECT %(company)s, 'm' || number, 'a', 'registered', 'active', 'x', 'x' || number, 'x', 993, %(company)s || number, 'x', now(), '1',
    %(from)s, %(from)s, %(now)s, %(now)s
FROM generate_series(1, %(mailboxes)s) number
"""
POLLS: Final = """
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at)
SELECT mailbox.company_id, 'a', mailbox.mailbox_id, mailbox.connected_at, mailbox.complete_from, poll, poll + interval '2 seconds'
FROM registry.mailboxes mailbox, generate_series(%(from)s, %(now)s - interval '10 seconds', interval '10 minutes') poll
WHERE mailbox.company_id = %(company)s ORDER BY poll
"""


def measure(repeats: int) -> list[Figure]:
    """Measured once, whatever `repeats` is."""
    del repeats
    with scratch() as folder, EmbeddedPostgres(folder / "postgres", durable=True) as server:
        dsn = server.create_database("bench")
        with connect(dsn, "bench", statement_seconds=3600) as connection:
            migrations.migrate(connection, lambda _: None)
            return [*_written(connection), *_judged(connection)]


def _written(connection: psycopg.Connection) -> list[Figure]:
    """A day of polls through the statement of the fetcher, at each interval."""
    rows = Figure(
        "coverage_rows_per_mailbox_day", f"rows of a mailbox and a day, polled every {_list(INTERVALS)} s", 4, smaller_is_better=True,
    )  # fmt: skip
    cost = Figure("coverage_write_cpu_ms", "… Postgres' CPU for the span of a poll, in batches of 5", None)
    records, usage = CoverageRecords(connection), Usage(connection.info.backend_pid)
    for interval in INTERVALS:
        before, polls, at, days = usage.cpu_seconds(), 0, NOW - timedelta(days=40), 2 if interval > 60 else 1
        end = at + timedelta(days=days)
        while at < end:
            at += timedelta(seconds=interval)
            spans = [
                PolledSpan("written", f"a{interval}", f"m{number}", NOW - timedelta(days=50), NOW - timedelta(days=99), at)
                for number in range(WRITTEN_MAILBOXES)
            ]  # fmt: skip
            records.record(spans, at)
            polls += len(spans)
        (stored,) = connection.execute(
            "SELECT count(*) FROM registry.coverage WHERE account_id = %s", (f"a{interval}",)
        ).fetchall()
        rows.values.append(stored[0] / WRITTEN_MAILBOXES / days)
        cost.values.append(1000 * (usage.cpu_seconds() - before) / polls)
    return [rows, cost]


def _judged(connection: psycopg.Connection) -> list[Figure]:
    """Companies with a day and with a year of polls: compacted, judged, and judged narrowly in turns."""
    ratio = Figure(
        "judgement_year_vs_day", f"Postgres' CPU, narrow judgement after 365 days of polls ÷ after one, {_list(MAILBOXES)} mailboxes", 1.2,
        smaller_is_better=True,
    )  # fmt: skip
    compacted = Figure("coverage_compaction_rows_per_second", "rows of an older release that the job deletes", None)
    before = Figure("coverage_rows_before_and_after", "rows of the year per mailbox and day before and after", None)
    for number in MAILBOXES:
        for name, days in DAYS.items():
            values: dict[str, Any] = {
                "company": f"{name}-{number}", "mailboxes": number, "now": NOW, "from": NOW - timedelta(days=days),
            }  # fmt: skip
            connection.execute(COMPANY.encode(), values)
            connection.execute(POLLS.encode(), values)
    stored = _rows(connection)
    taken = seconds(lambda: sum(CoverageRecords(connection).compact(Stop())))
    left = _rows(connection)
    connection.execute("VACUUM ANALYZE registry.coverage")
    compacted.values.append((stored - left) / taken)
    before.values += [stored / sum(MAILBOXES) / sum(DAYS.values()), left / sum(MAILBOXES) / sum(DAYS.values())]
    rule_set = rules.load_builtin("default")
    for number in MAILBOXES:
        taken_each = narrow_seconds(connection, rule_set, [f"{name}-{number}" for name in DAYS], NOW)
        ratio.values.append(taken_each[1] / taken_each[0])
        ratio.detail[f"{number} mailboxes: milliseconds"] = [round(1000 * value, 1) for value in taken_each]
    return [ratio, compacted, before]


def _rows(connection: psycopg.Connection) -> int:
    (stored,) = connection.execute("SELECT count(*) FROM registry.coverage WHERE account_id = 'a'").fetchall()
    return int(stored[0])


def _list(numbers: tuple[int, ...]) -> str:
    return ", ".join(f"{number:,}" for number in numbers)
