"""The numbers as the web process reads them: the rows of the token, and an explanation made with these rights alone."""

import json
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from psycopg import conninfo, sql

from services.aggregator.explain import explain_inquiry
from services.aggregator.judge import rules
from services.common.postgres import connect
from services.registry.published import PublishedMessage, PublishedMessages
from tests.integration.test_connect_requests import OF_NO_COMPANY, readable
from tests.support.builders import a_sent_message, now
from tests.support.seeded import COMPANIES, seed

KEY, SESSION = "key-of-{}", "session-of-{}-main"
FACTS = (
    "inquiries", "replies", "outcomes", "outcome_history", "rate_ranges", "rate_ends", "settled", "companies", "passed",
)  # fmt: skip
VIEWS = (
    "SELECT relname, array_agg(attname || ' ' || atttypid::regtype ORDER BY attnum) FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0"
    " WHERE nspname = %s AND relkind = 'v' GROUP BY relname"
)


@pytest.fixture
def portal_dsn(dsn: str) -> Iterator[str]:
    """The connection string of a web process; each of two companies has numbers, the key of a platform and a session."""
    database = dsn.rsplit("/", 1)[1]
    login = sql.Identifier(f"{database}_portal")
    with connect(dsn, "tests") as connection:
        seed(connection)
        connection.execute("INSERT INTO ledger.dirty (company_id) SELECT company_id FROM ledger.companies")
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'portal-only' IN ROLE replyrate_portal").format(login)
        )
        for number, company_id in enumerate(COMPANIES):
            connection.execute(
                "INSERT INTO registry.api_keys (key_id, secret_hash, name, scopes, company_prefix, created_by)"
                " VALUES (%s, sha256(%s), 'platform', '{}', %s, 'tests')",
                (f"k-{number:012x}", KEY.format(company_id).encode(), company_id),
            )
            connection.execute(
                "INSERT INTO registry.portal_sessions (session_id, token_hash, company_id, account_id, role, language, created_by,"
                " opened_at, expires_at) VALUES (%s, sha256(%s), %s, 'main', 'registered', 'en', 'tests', now(), now() + interval '1 hour')",
                (f"s-{number:012x}", SESSION.format(company_id).encode(), company_id),
            )
        yield conninfo.make_conninfo(dsn, user=f"{database}_portal", password="portal-only")
        connection.execute(sql.SQL("DROP OWNED BY {}").format(login))
        connection.execute(sql.SQL("DROP ROLE {}").format(login))


def own_connection(portal_dsn: str, token: str) -> psycopg.Connection:
    connection = connect(portal_dsn, "tests")
    connection.execute("SELECT set_config('replyrate.token', %s, false)", (token,))
    return connection


def test_every_view_of_the_numbers_is_repeated_for_the_web_process(dsn: str) -> None:
    with connect(dsn, "tests") as connection:
        views: list[dict[str, list[str]]] = [
            dict(connection.execute(VIEWS, [schema]).fetchall()) for schema in ("report_v1", "report_token_v1")
        ]
    assert views[0] == views[1], "CALL access.repeat_views()"
    assert len(views[0]) >= 9


@pytest.mark.parametrize("company_id", COMPANIES)
def test_a_key_reads_every_view_and_fact_of_its_companies_and_of_no_other(portal_dsn: str, company_id: str) -> None:
    tables = readable(portal_dsn, KEY.format(company_id))
    expected = {f"report_token_v1.{view}" for view in report_views(portal_dsn)} | {f"ledger.{name}" for name in FACTS}
    for table in (expected - OF_NO_COMPANY) | {"registry.coverage"}:
        assert {json.loads(text)["company_id"] for text in tables[table]} == {company_id}, table
    for table in set(tables) - OF_NO_COMPANY:
        assert all(json.loads(text)["company_id"] == company_id for text in tables[table]), table


@pytest.mark.parametrize("company_id", COMPANIES)
def test_a_session_reads_the_numbers_of_its_account_and_no_fact(portal_dsn: str, company_id: str) -> None:
    tables = readable(portal_dsn, SESSION.format(company_id))
    for view in report_views(portal_dsn):
        if f"report_token_v1.{view}" in OF_NO_COMPANY:
            continue
        rows = [json.loads(text) for text in tables[f"report_token_v1.{view}"]]
        # The rate of this account is above 0, so it has no diagnosis; freshness is about the whole company.
        expected = set() if view in ("zero_rate_diagnosis", "freshness") else {(company_id, "main")}
        assert {(data["company_id"], data["account_id"]) for data in rows} == expected, view
    for name in (f"ledger.{name}" for name in FACTS):
        assert tables[name] == [], name


@pytest.mark.parametrize("token", ["", "guessed"])
def test_without_a_valid_token_no_number_is_read(portal_dsn: str, token: str) -> None:
    tables = readable(portal_dsn, token)
    assert {table for table, rows in tables.items() if rows} <= OF_NO_COMPANY


def report_views(portal_dsn: str) -> set[str]:
    with connect(portal_dsn, "tests") as connection:
        return set(dict(connection.execute(VIEWS, ["report_token_v1"]).fetchall()))


def test_no_function_of_the_reader_sees_a_row_before_the_token_is_checked(portal_dsn: str) -> None:
    shown: list[str] = []
    with own_connection(portal_dsn, KEY.format("c1")) as own:
        own.add_notice_handler(lambda notice: shown.append(notice.message_primary or ""))
        own.execute(
            "CREATE FUNCTION pg_temp.show(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS"
            " $$ BEGIN RAISE WARNING '%', $1; RETURN true; END $$"
        )
        for table in ("report_token_v1.inquiry_outcomes", "ledger.inquiries"):
            own.execute(f"SELECT count(*) FROM {table} WHERE pg_temp.show(company_id)".encode())
    assert set(shown) == {"c1"}


def test_a_key_explains_an_inquiry_as_the_owner_of_the_database_does(dsn: str, portal_dsn: str) -> None:
    rule_set = rules.load_builtin("default")
    stories = []
    with connect(dsn, "tests") as owner, own_connection(portal_dsn, KEY.format("c1")) as own:
        for connection in (owner, own):
            story = explain_inquiry(connection, rule_set, "c1", "i5")
            stories.append({name: value for name, value in story.items() if name not in ("now", "counted_until")})
        assert explain_inquiry(own, rule_set, "c2", "i5")["outcome"] == "unknown"
    assert stories[0] == stories[1]
    assert stories[0]["considered"] and stories[0]["facts"]["replies"]


def test_a_key_reads_stored_messages_of_its_companies_only(dsn: str, portal_dsn: str) -> None:
    with connect(dsn, "tests") as owner:
        for company_id in COMPANIES:
            event = a_sent_message(company_id=company_id, sent_at=now() - timedelta(days=1), filed_before=now())
            PublishedMessages(owner).save(
                {"company_id": company_id, "mailbox_id": "m1"}, [PublishedMessage(event, b"{}")]
            )
    for token in (*(KEY.format(company_id) for company_id in COMPANIES), SESSION.format("c1"), ""):
        with own_connection(portal_dsn, token) as own:
            stored = [
                own.execute(
                    "SELECT record FROM registry.stored_message(%s, 'm1', %s)", (company_id, event.message_id)
                ).fetchall()
                for company_id in COMPANIES
            ]
        assert stored == [[(b"{}",)] if token == KEY.format(company_id) else [] for company_id in COMPANIES]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.rates SET rate = 1", "UPDATE ledger.rate_ranges SET rate = 1", "SELECT * FROM ledger.rate_rows", "SELECT * FROM ledger.rate_days", "DELETE FROM ledger.outcomes", "INSERT INTO ledger.dirty (company_id) VALUES ('c1')",
        "SELECT * FROM ledger.companies", "SELECT * FROM ledger.diagnoses", "SELECT * FROM report_v1.reply_rate",
        "SELECT * FROM report_company_v1.reply_rate", "SELECT * FROM shadow.rates", "SELECT * FROM registry.published",
        "SELECT * FROM registry.published_messages", "SELECT * FROM registry.published_records",
        "CALL access.repeat_views()",
    ],
)  # fmt: skip
def test_what_the_web_process_may_not_do_with_the_numbers(portal_dsn: str, statement: str) -> None:
    with (
        own_connection(portal_dsn, KEY.format("c1")) as own,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        own.execute(statement.encode())
