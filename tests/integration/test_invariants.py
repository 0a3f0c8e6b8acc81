"""services/aggregator/invariants.sql: empty for real numbers, and each statement finds its violation."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb

from services.aggregator.judge import judge, rules
from services.aggregator.judge.plan import Delta
from services.common.postgres import connect, load_statements
from services.recount.company import CoveredInterval
from services.standalone.demo.planned import planned_facts
from services.standalone.servers.paths import ROOT
from services.standalone.world import cast
from tests.integration.test_judge import put, random_facts
from tests.support.rates import edit_rates, keep_days
from tests.support.worked import load, psql_environ

SQL = load_statements("services.aggregator", "invariants.sql")
PRESETS = [rules.load_builtin(name) for name in rules.builtin_names()]
NOW = datetime(2026, 3, 21, 12, tzinfo=UTC)


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with connect(dsn, "tests") as connection:
        yield connection


def broken(connection: psycopg.Connection) -> dict[str, list[tuple[object, ...]]]:
    """The rows that violate each invariant, by its name."""
    violations = {name: connection.execute(statement).fetchall() for name, statement in SQL.items()}
    return {name: rows for name, rows in violations.items() if rows}


def judged(connection: psycopg.Connection, companies: list[str], now: datetime) -> None:
    for rule_set in PRESETS:
        connection.execute(
            "INSERT INTO ledger.rule_sets (name, identity, parameters) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (rule_set.name, rule_set.identity, Jsonb(rule_set.parameters())),
        )
        with connection.transaction():
            judge.judge_companies(connection, rule_set, dict.fromkeys(companies, Delta()), now=now)


def test_the_worked_example_violates_no_invariant(connection: psycopg.Connection) -> None:
    load(connection, PRESETS)
    assert broken(connection) == {}
    # Desk's window is wider than the company's: the case that the first statement skips.
    rows = connection.execute(
        "SELECT account_id, timely FROM report_v1.reply_rate WHERE rule_set = 'airbnb' AND as_of = '2026-03-20' ORDER BY 1"
    ).fetchall()
    assert rows == [("desk", 2), ("main", 7), (None, 8)]


def test_the_demo_world_violates_no_invariant(connection: psycopg.Connection) -> None:
    """Eight sellers with sub-accounts, reassignments and mailboxes that are read only part of the time."""
    world = cast.build(7, NOW)
    for company in world.companies:
        covered = [
            CoveredInterval(mailbox.account_id, mailbox.key, NOW - timedelta(days=50), NOW - timedelta(days=3, seconds=number), None,
                    NOW - timedelta(days=50 - 15 * (number % 2)), NOW - timedelta(days=4))
            for number, mailbox in enumerate(company.mailboxes) if mailbox.connected
        ]  # fmt: skip
        put(connection, company.company_id, planned_facts(world, company.company_id, covered))
    judged(connection, [company.company_id for company in world.companies], NOW)
    (rows,) = connection.execute("SELECT count(*), count(DISTINCT account_id) FROM report_v1.reply_rate").fetchall()
    assert rows[0] > 5_000 and rows[1] > len(world.companies)
    assert broken(connection) == {}


@pytest.mark.parametrize("seed", range(5))
def test_random_facts_violate_no_invariant(connection: psycopg.Connection, seed: int) -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    put(connection, "c1", random_facts(seed, now))
    judged(connection, ["c1"], now)
    assert broken(connection) == {}


@pytest.mark.parametrize(
    ("change", "violated"),
    [
        ("inquiries = inquiries + 1", {"accounts_add_up"}),
        ("pending = pending + 1", {"accounts_add_up"}),
        ("unmeasured = unmeasured + 1", {"accounts_add_up"}),
        ("timely = timely + 1, unanswered = unanswered - 1", {"accounts_add_up", "parts_add_up", "histogram_adds_up"}),
        ("window_start = window_start - 1", {"one_window"}),
        ("window_end = window_end - 1", {"one_window"}),
        ("rate = 0", {"parts_add_up"}),
        ("buckets[25] = buckets[25] + 1", {"histogram_adds_up", "histograms_add_up"}),
        ("buckets = buckets[1:24]", {"histogram_adds_up", "histograms_add_up"}),
    ],
)
def test_a_number_changed_by_hand_is_found(connection: psycopg.Connection, change: str, violated: set[str]) -> None:
    keep_days(connection)
    load(connection, [*PRESETS[:1], rules.load_builtin("default")])
    place = "rule_set = 'default' AND level = 'account' AND account_id = 'main' AND as_of = '2026-03-20'"
    connection.execute(f"UPDATE ledger.rates SET {change} WHERE {place}".encode())
    assert set(broken(connection)) == violated


def test_the_file_runs_with_psql(dsn: str) -> None:
    """As docs/failures.md says."""
    with connect(dsn, "tests") as connection:
        load(connection, PRESETS[:1])
    page = (ROOT / "docs/failures.md").read_text("utf-8")
    (line,) = [line.strip() for line in page.splitlines() if line.startswith("    ") and "invariants.sql" in line]

    def output_of_psql() -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            env=psql_environ(dsn),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert output_of_psql().count("(0 rows)") == len(SQL)
    with connect(dsn, "tests") as connection:
        edit_rates(connection, "late = late + 1", "as_of = '2026-03-20' AND account_id = 'main'")
    assert output_of_psql().count("(0 rows)") < len(SQL) and "accounts" in output_of_psql()
