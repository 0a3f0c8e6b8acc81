"""No statement that runs periodically or for each event reads a table that grows from end to end."""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
import pytest

from services.aggregator.judge import judge
from services.cli.pages import dictionary
from services.common.postgres import connect
from services.common.tables import read_table
from services.registry import staff_actions
from services.registry.staff_actions import ActionFilter
from tests.support import large_database
from tests.support.plans import NamedStatement, plan, statements, whole_reads

TYPES: Final = {
    "target_days": "integer", "settle_days": "integer", "window_days": "integer", "reach_days": "integer", "now": "timestamptz",
}  # fmt: skip
"""Types of parameters that Postgres does not infer from the statement."""
WHILE_JUDGING: Final = (
    "judge.sql:",
    "rates.sql:",
    "refresh.sql:clean",
    "refresh.sql:mark_judged",
    "refresh.sql:await_watermark",
)
"""Statements that run after the judge has changed settings of the planner."""


ROLES: Final = {
    "services/registry/": "replyrate_fetcher",
    "services/aggregator/": "replyrate_aggregator",
    "services/portal/": "replyrate_portal",
}
"""Folder of statements → the role of the service that runs them."""
OF_THE_PORTAL: Final = (
    "insert_request", "insert_link", "mailbox_of_link", "open_link", "own_session", "give_consent", "end_session", "own_mailboxes",
    "claim_name", "answer", "forget_answer", "store_answer", "note_change",
    "begin_sign_in", "use_sign_in", "note_sign_in_request", "insert_frame", "begin_probe", "own_probe", "since",
    "expire_without_reading",
)  # fmt: skip
"""Statements of the registry that only the web process runs."""
OF_THE_CONSOLE: Final = {
    "services/registry/staff_sessions.sql:open_link", "services/registry/staff_sessions.sql:begin", "services/registry/staff_sessions.sql:own_session",
    "services/registry/staff_sessions.sql:use", "services/registry/staff_sessions.sql:end", "services/registry/staff_actions.sql:note",
    "services/registry/staff_actions.sql:note_each", "services/registry/staff_actions.sql:note_outcome", "services/registry/staff_actions.sql:registered",
    "services/registry/staff_actions.sql:plan_with_values",
}  # fmt: skip
"""Those that only the staff console runs."""
AUDITED: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""An old day of the audit."""
OF_THE_OWNER: Final = {"services/registry/staff_sessions.sql:insert_link"}
"""Those that only the command line runs, as the owner of the database."""


def role_of(statement: NamedStatement, role: str) -> str:
    """Who runs a statement, where `role` runs most of its folder."""
    if statement.title in OF_THE_CONSOLE:
        return "replyrate_console"
    if statement.title in OF_THE_OWNER:
        return "postgres"
    return "replyrate_portal" if statement.name in OF_THE_PORTAL else role


@pytest.fixture(scope="module")
def large_dsn(postgres: Callable[[], str]) -> str:
    """A database of some size."""
    dsn = postgres()
    with connect(dsn, "tests") as connection:
        large_database.load(connection, companies=10_000, mailboxes=30_000, inquiries=60_000, days=2)
    return dsn


@pytest.fixture
def connection(large_dsn: str) -> Iterator[psycopg.Connection]:
    """A session that plans without values."""
    with connect(large_dsn, "tests") as connection:
        connection.prepare_threshold = None  # plan() prepares its own
        connection.execute("SET plan_cache_mode = force_generic_plan")
        yield connection


def growing(connection: psycopg.Connection) -> set[str]:
    """Tables whose bound grows with size or time, and their partitions with rows; without those of a recompute, which are empty here."""
    storage = read_table("schemas", "storage.toml")
    tables = {
        name for name, bound in storage["tables"].items() if storage["bounds"][bound]["grows"] and bound != "recompute"
    }
    partitions = connection.execute(
        "SELECT relnamespace::regnamespace || '.' || relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE inhparent::regclass::text = ANY (%s) AND relpages > 0",
        (list(tables),),
    ).fetchall()
    return tables | {name for (name,) in partitions}


def reads(connection: psycopg.Connection, statement: NamedStatement, role: str = "") -> list[str]:
    """What a statement reads from end to end, as it is planned where it runs. `role`: who runs it; "": the owner."""
    with connection.transaction():
        if role:
            connection.execute(f"SET LOCAL ROLE {role}".encode())
        if any(part in statement.title for part in WHILE_JUDGING):
            judge.use_schema(connection, "ledger")
            judge.prepare(connection)
        return list(whole_reads(plan(connection, statement, TYPES), growing(connection)))


def test_no_statement_reads_a_growing_table_from_end_to_end(connection: psycopg.Connection) -> None:
    planned = [statement for statement in statements() if statement.is_planned and not statement.is_rare]
    whole = [f"{statement.title}: {read}" for statement in planned for read in reads(connection, statement)]
    assert not whole, (
        "\n".join(whole)
        + "\n"
        + "add an index, or write `-- by hand: …` or `-- rare: …` below the name if it runs seldom"
    )
    assert len(planned) > 100


@pytest.mark.parametrize(("folder", "role"), ROLES.items())
def test_each_service_may_run_its_statements_with_its_own_role(
    connection: psycopg.Connection, folder: str, role: str
) -> None:
    """EXPLAIN checks privileges, so one that a migration forgot to grant shows here and not in a container."""
    refused = []
    for statement in statements():
        if statement.file.startswith(folder) and statement.is_planned and not statement.is_by_hand:
            try:
                reads(connection, statement, role_of(statement, role))
            except psycopg.errors.InsufficientPrivilege as error:
                refused.append(f"{statement.title}: {error.diag.message_primary}")
    assert not refused, "\n".join(refused)


@pytest.mark.parametrize(
    ("wanted", "indexes"),
    [
        (ActionFilter(who="somebody rare"), {"staff_actions_subject", "staff_actions_name"}),
        (ActionFilter(since=AUDITED, until=AUDITED + timedelta(days=1)), {"staff_actions_done"}),
    ],
)
def test_the_audit_finds_a_rare_person_and_an_old_day_by_an_index(
    connection: psycopg.Connection, wanted: ActionFilter, indexes: set[str]
) -> None:
    name = "page" if wanted.who is None else "page_of_person"
    with connection.transaction(force_rollback=True):
        connection.execute(
            "INSERT INTO registry.staff_actions (done_at, session_id, subject, display_name, role, action, expires_at)"
            " SELECT %s::timestamptz + day * interval '1 day', 'w', 's', 'n', 'support', 'company', now()"
            " FROM generate_series(0, 999) day, generate_series(1, 20)",
            [AUDITED],
        )
        connection.execute("ANALYZE registry.staff_actions")
        connection.execute(staff_actions.SQL["plan_with_values"])
        explained = connection.execute(
            "EXPLAIN (FORMAT JSON) " + staff_actions.SQL[name],
            {"before": None, "limit": 50, **asdict(wanted)},
        ).fetchone()
        assert explained is not None
    assert set(re.findall(r"'Index Name': '(\w+)'", str(explained[0]))) == indexes


@pytest.mark.parametrize(
    ("role", "source"),
    [
        ("replyrate_dashboard", "report_v1.{} WHERE company_id = %(company_id)s"),
        ("replyrate_dashboard", "report_v1.{} WHERE company_id IN ('company-1', 'company-2')"),
        ("replyrate_company", "report_company_v1.{}"),
    ],
)
def test_a_view_reads_the_rows_of_the_companies_that_are_asked_for(
    connection: psycopg.Connection, role: str, source: str
) -> None:
    views = [name for name in dictionary.contract()["views"] if name != "rule_sets"]
    whole = {}
    for view in views:
        text = f"SELECT * FROM {source.format(view)}"
        statement = NamedStatement("report_v1", view, text, is_rare=False, is_by_hand=False)
        whole[view] = reads(connection, statement, role)
    assert whole == {view: [] for view in views}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT * FROM ledger.companies WHERE judged_at + interval '1 s' < statement_timestamp()", 1),
        ("SELECT count(*) FROM registry.mailboxes GROUP BY port", 1),
        ("SELECT 1 FROM registry.mailboxes WHERE state = 'active' AND next_poll_at <= clock_timestamp() ORDER BY next_poll_at LIMIT 1", 1),
        ("SELECT 1 FROM registry.mailboxes WHERE state = 'active' AND next_poll_at <= statement_timestamp() ORDER BY next_poll_at LIMIT 1", 0),
        ("SELECT 1 FROM ledger.companies WHERE due_at <= statement_timestamp() ORDER BY due_at LIMIT 1", 0),
    ],
)  # fmt: skip
def test_the_test_sees_it(connection: psycopg.Connection, text: str, expected: int) -> None:
    assert len(reads(connection, NamedStatement("x.sql", "x", text, is_rare=False, is_by_hand=False))) == expected


def test_every_table_says_what_bounds_it(connection: psycopg.Connection) -> None:
    storage = read_table("schemas", "storage.toml")
    tables = connection.execute(
        "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
        " AND relnamespace::regnamespace::text IN ('registry', 'ledger', 'shadow', 'access', 'replyrate')"
    ).fetchall()
    assert storage["tables"].keys() == {name for (name,) in tables}, "correct schemas/storage.toml"
    assert set(storage["tables"].values()) == storage["bounds"].keys()
