"""`replyrate storage`: what the database keeps, how it grows, and when a disk is full."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli.__main__ import main
from services.cli.operate.storage import size
from services.common.postgres import connect


@pytest.fixture
def run(dsn: str, tmp_path: Path) -> Callable[..., str]:
    """The command on a database with 1,000 inquiries, added within the two days since the first migration."""
    (tmp_path / "hash.key").write_bytes(bytes(32))
    env = {
        "REPLYRATE_POSTGRES__DSN": dsn, "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "localhost:9092", "COLUMNS": "200",
        "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "hash.key"),
    }  # fmt: skip

    def call(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["storage", *arguments], env=env)
        assert done.exit_code == code, (done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    with connect(dsn, "tests") as connection:
        connection.execute(
            "INSERT INTO ledger.inquiries (company_id, inquiry_id, received_at)"
            " SELECT 'c1', inquiry::text, now() FROM generate_series(1, 1000) inquiry"
        )
        connection.execute(
            "INSERT INTO registry.published_messages (sent_at, first_seen, message_key, message_tail, record)"
            " SELECT now() - number * interval '1 hour', now(), gen_random_uuid(), number, 'x' FROM generate_series(1, 600) number"
        )
        connection.execute("UPDATE replyrate.migrations SET applied_at = applied_at - interval '2 days'")
        connection.execute("SELECT pg_stat_force_next_flush()")
        connection.execute("ANALYZE ledger.inquiries")
    return call


def test_tables_with_rows_bytes_growth_and_bounds(run: Callable[..., str]) -> None:
    printed = json.loads(run("--disk", "10GB", "--json"))
    tables = {table["table"]: table for table in printed["tables"]}
    inquiries = tables["ledger.inquiries"]
    assert inquiries["rows"] == 1000
    assert inquiries["bytes"] == inquiries["table_bytes"] + inquiries["index_bytes"] > 50_000
    assert inquiries["rows_a_day"] == pytest.approx(1000 / printed["counted_days"])
    assert inquiries["bytes_a_day"] == pytest.approx(inquiries["bytes"] / printed["counted_days"])
    assert (inquiries["bound"], tables["ledger.dirty"]["bytes_a_day"]) == ("facts", 0)
    assert printed["bytes_a_day"] == pytest.approx(sum(table["bytes_a_day"] for table in printed["tables"]))
    assert printed["days_until_full"] == pytest.approx((10**10 - printed["database_bytes"]) / printed["bytes_a_day"])


def test_a_table_by_the_week_is_one_line(run: Callable[..., str]) -> None:
    printed = json.loads(run("--json"))
    tables = {table["table"]: table for table in printed["tables"] if "published_messages" in table["table"]}
    (messages,) = tables.values()
    assert (messages["table"], messages["rows"], messages["bound"]) == ("registry.published_messages", 600, "weeks")
    assert messages["bytes"] == messages["table_bytes"] + messages["index_bytes"] > 600 * 100
    assert messages["rows_a_day"] == pytest.approx(600 / printed["counted_days"])


def test_for_people(run: Callable[..., str]) -> None:
    shown = run("--disk", "1TB")
    assert "ledger.inquiries" in shown and "1,000" in shown and "until the company is erased" in shown
    assert "A disk of 1.0 TB will be full in" in shown
    assert "With --disk SIZE" in run()
    assert "write a number with kB, MB, GB or TB" in run("--disk", "much", code=2)


def test_sizes() -> None:
    assert [size(value) for value in (0, 999, 1500, 2.5e9, 7e15)] == ["0 B", "999 B", "1.5 kB", "2.5 GB", "7,000.0 TB"]
