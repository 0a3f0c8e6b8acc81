"""`replyrate storage`: what the database keeps, how it grows, and when a disk is full."""

import json

import pytest
from click.testing import CliRunner

from services.cli.__main__ import main
from services.cli.operate.storage import size
from services.common.postgres import connect


def run(dsn: str, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["storage", *arguments], env={"REPLYRATE_POSTGRES__DSN": dsn, "COLUMNS": "200"})
    assert done.exit_code == code, (done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def fill(dsn: str) -> None:
    """1,000 inquiries in the ledger, added within the two days since the first migration."""
    with connect(dsn, "tests") as connection:
        connection.execute(
            "INSERT INTO ledger.inquiries (company_id, inquiry_id, received_at)"
            " SELECT 'c1', inquiry::text, now() FROM generate_series(1, 1000) inquiry"
        )
        connection.execute("UPDATE replyrate.migrations SET applied_at = applied_at - interval '2 days'")
        connection.execute("ANALYZE ledger.inquiries")
        connection.execute("SELECT pg_stat_force_next_flush()")


def test_tables_with_rows_bytes_growth_and_bounds(dsn: str) -> None:
    fill(dsn)
    printed = json.loads(run(dsn, "--disk", "10GB", "--json"))
    tables = {table["table"]: table for table in printed["tables"]}
    inquiries = tables["ledger.inquiries"]
    assert inquiries["rows"] == 1000
    assert inquiries["bytes"] == inquiries["table_bytes"] + inquiries["index_bytes"] > 50_000
    assert inquiries["rows_a_day"] == pytest.approx(1000 / printed["counted_days"])
    assert inquiries["bytes_a_day"] == pytest.approx(inquiries["bytes"] / printed["counted_days"])
    assert (inquiries["bound"], tables["ledger.dirty"]["bytes_a_day"]) == ("time", 0)
    assert printed["bytes_a_day"] == pytest.approx(sum(table["bytes_a_day"] for table in printed["tables"]))
    assert printed["days_until_full"] == pytest.approx((10**10 - printed["database_bytes"]) / printed["bytes_a_day"])


def test_for_people(dsn: str) -> None:
    fill(dsn)
    shown = run(dsn, "--disk", "1TB")
    assert "ledger.inquiries" in shown and "1,000" in shown and "until the company is erased" in shown
    assert "A disk of 1.0 TB will be full in" in shown
    assert "With --disk SIZE" in run(dsn)
    assert "write a number with kB, MB, GB or TB" in run(dsn, "--disk", "much", code=2)


def test_sizes() -> None:
    assert [size(value) for value in (0, 999, 1500, 2.5e9, 7e15)] == ["0 B", "999 B", "1.5 kB", "2.5 GB", "7,000.0 TB"]
