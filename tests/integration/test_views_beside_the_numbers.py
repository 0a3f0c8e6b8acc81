"""The views rule_sets, accounts, freshness and coverage_daily say what the registry and the ledger know."""

import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from services.aggregator.judge import rules
from services.common.postgres import connect
from services.registry.coverage import CoverageRecords, PolledSpan
from services.standalone.servers.paths import ROOT
from tests.support.seeded import COMPANIES, DAYS, NOW, reply, seed

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAY_SECONDS = 86_400
Span = tuple[datetime, datetime]


@pytest.fixture(scope="module")
def seeded_dsn(postgres: Any) -> str:
    dsn: str = postgres()
    with connect(dsn, "tests") as connection:
        seed(connection)
    return dsn


@pytest.fixture
def connection(seeded_dsn: str) -> Iterator[psycopg.Connection]:
    """A transaction that is rolled back."""
    with connect(seeded_dsn, "tests") as session, session.transaction(force_rollback=True):
        yield session


def rows(connection: psycopg.Connection, view: str, company_id: str = "c1") -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        where = "" if view == "rule_sets" else " WHERE company_id = %(company_id)s"
        return cursor.execute(f"SELECT * FROM report_v1.{view}{where}".encode(), {"company_id": company_id}).fetchall()


def cover(
    connection: psycopg.Connection, mailbox_id: str | None, connected_at: datetime, span: Span | None = None,
    removed_at: datetime | None = None,
) -> None:  # fmt: skip
    from_at, through_at = span or (None, None)
    connection.execute(
        "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, removed_at, from_at, through_at)"
        " VALUES ('c9', 'main', %s, %s, %s, %s, %s)",
        (mailbox_id, connected_at, removed_at, from_at, through_at if mailbox_id else None),
    )


def test_a_rule_set_shows_its_definition(connection: psycopg.Connection) -> None:
    by_name = {entry["rule_set"]: entry for entry in rows(connection, "rule_sets")}
    for name in ("default", "first-reply-24h"):
        rule_set, entry = rules.load_builtin(name), by_name[name]
        assert (entry["rule_version"], entry["content_hash"]) == (rule_set.identity, rule_set.content_hash)
        assert entry["active"] and rules.stored(json.dumps(entry["parameters"])) == rule_set
        for column in {"title", "source", "time_zone", "calendar", "target_seconds", "window_days", "settle_days"} | {
            "max_settle_days", "unit", "period_by", "min_coverage",
        }:  # fmt: skip
            assert entry[column] == getattr(rule_set, column), column


def test_an_account_shows_its_mailboxes_by_state_and_its_inquiries(connection: psycopg.Connection) -> None:
    accounts = {entry["account_id"]: entry for entry in rows(connection, "accounts")}
    assert set(accounts) == {"main", "idle"}
    main, idle = accounts["main"], accounts["idle"]
    assert (main["kind"], idle["kind"]) == ("main", "sub")
    assert (main["mailboxes"], main["mailboxes_active"], idle["mailboxes"]) == (1, 1, 0)
    assert (main["inquiries"], main["newest_inquiry_at"]) == (DAYS * 2, NOW - timedelta(hours=1))
    assert main["first_inquiry_at"] == NOW - timedelta(hours=12 * (DAYS * 2 - 1) + 1)
    assert (idle["inquiries"], idle["first_inquiry_at"]) == (0, None)
    connection.execute("UPDATE registry.mailboxes SET state = 'needs_reconnect' WHERE company_id = 'c1'")
    (main,) = [entry for entry in rows(connection, "accounts") if entry["account_id"] == "main"]
    assert (main["mailboxes"], main["mailboxes_active"], main["mailboxes_needs_reconnect"]) == (1, 0, 1)
    states = connection.execute("SELECT DISTINCT to_state FROM registry.mailbox_moves").fetchall()
    assert {column for column in main if column.startswith("mailboxes_")} == {f"mailboxes_{name}" for (name,) in states}


def test_every_account_of_a_rate_is_an_account(connection: psycopg.Connection) -> None:
    connection.execute("DELETE FROM registry.accounts WHERE company_id = 'c1' AND account_id = 'idle'")
    (entry,) = [entry for entry in rows(connection, "accounts") if entry["account_id"] == "idle"]
    assert (entry["kind"], entry["registered_at"], entry["mailboxes"]) == (None, None, 0)


def test_freshness_says_up_to_when_numbers_are_known(connection: psycopg.Connection) -> None:
    (fresh,) = rows(connection, "freshness")
    assert (fresh["newest_inquiry_at"], fresh["read_through"]) == (NOW - timedelta(hours=1), NOW)
    days = connection.execute(
        "SELECT max(as_of), max(as_of) FILTER (WHERE state = 'final') FROM report_v1.reply_rate"
        " WHERE company_id = 'c1' AND level = 'company' GROUP BY rule_set"
    ).fetchall()
    assert fresh["newest_as_of"] == min(newest for newest, _ in days)
    assert fresh["newest_final_as_of"] == min(newest for _, newest in days if newest is not None)
    assert (fresh["counted_through"], fresh["pipeline_age_seconds"], fresh["waiting_since"]) == (None, None, None)
    connection.execute("INSERT INTO ledger.pipeline VALUES (0, now() - interval '90 seconds'), (1, now())")
    connection.execute("INSERT INTO ledger.dirty (company_id, since) VALUES ('c1', %s)", [NOW])
    connection.execute("UPDATE registry.mailboxes SET complete_through = NULL WHERE company_id = 'c1'")
    (fresh,) = rows(connection, "freshness")
    assert 90 <= fresh["pipeline_age_seconds"] < 180 and fresh["waiting_since"] == NOW
    assert fresh["read_through"] is None, "a mailbox that is not complete hides how far others are"
    connection.execute("UPDATE ledger.companies SET partition = 1 WHERE company_id = 'c1'")
    assert rows(connection, "freshness")[0]["pipeline_age_seconds"] < 90


def test_coverage_of_a_day_is_what_is_covered_waits_or_is_missing(connection: psycopg.Connection) -> None:
    start = TODAY - timedelta(days=4)
    hour = timedelta(hours=1)
    # Read through the third hour of a day, then connected again, from where eight hours are missing.
    cover(connection, "gap", start, (start, start + 3 * hour))
    cover(connection, "gap", start + 20 * hour, (start + 11 * hour, TODAY - 30 * hour))
    cover(connection, "never-read", TODAY - 12 * hour)
    cover(connection, "removed", start, (start, start + 6 * hour))
    cover(connection, "removed", start, (start + 6 * hour, start + 6 * hour), removed_at=start + 7 * hour)
    cover(connection, None, start, (start, start))
    cover(connection, None, start, (start, start), removed_at=start + 36 * hour)
    by_mailbox: dict[str | None, dict[date, tuple[float, ...]]] = {}
    for entry in rows(connection, "coverage_daily", "c9"):
        by_mailbox.setdefault(entry["mailbox_id"], {})[entry["day"]] = (
            *(entry[f"{part}_seconds"] / 3600 for part in ("expected", "covered", "waiting", "gap")),
            entry["gaps"],
        )
    days = [(start + timedelta(days=number)).date() for number in range(5)]
    gap, never_read = by_mailbox["gap"], by_mailbox["never-read"]
    assert [gap[day] for day in days[:4]] == [
        (24, 16, 0, 8, 1),
        (24, 24, 0, 0, 0),
        (24, 18, 6, 0, 0),
        (24, 0, 24, 0, 0),
    ]
    assert gap[days[4]][1:2] == (0,) and set(gap) <= set(days) | {datetime.now(UTC).date()}
    assert never_read[days[3]] == (12, 0, 12, 0, 0)
    assert by_mailbox["removed"] == {days[0]: (7, 6, 1, 0, 0)}
    assert by_mailbox[None] == {days[0]: (24, 24, 0, 0, 0), days[1]: (12, 12, 0, 0, 0)}


@pytest.mark.parametrize("seed_number", range(6))
def test_coverage_of_days_equals_a_recount_by_the_minute(connection: psycopg.Connection, seed_number: int) -> None:
    """Also after the rows that polls no longer need are gone, and for rows older than the view shows."""
    generator = random.Random(seed_number)
    begin = TODAY - timedelta(days=102)
    covered: set[int] = set()
    connected = generator.randrange(1_440)
    first, polled = connected, connected
    records = CoverageRecords(connection)
    for _ in range(60):
        polled += generator.randrange(1, 400)
        ends = (begin + timedelta(minutes=minute) for minute in (connected, first, polled))
        records.record([PolledSpan("c9", "main", "m", *ends)], recorded_at=begin + timedelta(minutes=polled))
        covered |= set(range(first, polled))
        if generator.random() < 0.15:
            connected = polled + generator.randrange(1, 900)
            first = connected - generator.randrange(400)
            polled = max(first, polled)
    (stored,) = connection.execute("SELECT count(*) FROM registry.coverage WHERE company_id = 'c9'").fetchall()
    assert stored[0] < 60
    shown = rows(connection, "coverage_daily", "c9")
    assert min(entry["day"] for entry in shown) == (datetime.now(UTC) - timedelta(days=99)).date()
    for entry in shown:
        offset = round((datetime.combine(entry["day"], datetime.min.time(), UTC) - begin).total_seconds() / 60)
        of_day = covered & set(range(offset, offset + 1_440))
        assert entry["covered_seconds"] == 60 * len(of_day), entry["day"]
        parts = entry["covered_seconds"], entry["waiting_seconds"], entry["gap_seconds"]
        assert entry["expected_seconds"] == sum(parts) <= DAY_SECONDS and min(parts) >= 0
        assert (entry["gap_seconds"] > 0) == (entry["gaps"] > 0)
        assert entry["waiting_seconds"] == 0 or max(covered) < offset + 1_440


def test_a_company_sees_nothing_of_another(connection: psycopg.Connection) -> None:
    reply(connection, "c2", 3, NOW)
    for view in ("accounts", "freshness", "coverage_daily"):
        for company_id in COMPANIES:
            shown = rows(connection, view, company_id)
            assert shown and {entry["company_id"] for entry in shown} == {company_id}


def test_the_queries_of_the_page_run_as_a_dashboard(connection: psycopg.Connection) -> None:
    page = (ROOT / "docs" / "dashboards.md").read_text("utf-8")
    queries = [
        text for text in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) if text.startswith("SELECT company_id")
    ]
    assert len(queries) >= 2
    start = TODAY - timedelta(days=2)
    cover(connection, "gap", start, (start, start + timedelta(hours=3)))
    cover(connection, "gap", start + timedelta(hours=20), (start + timedelta(hours=11), TODAY))
    connection.execute("SET LOCAL ROLE replyrate_dashboard")
    for query in queries:
        assert connection.execute(query.encode()).fetchall(), query
