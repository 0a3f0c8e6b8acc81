"""Dashboard logins read report_v1 and nothing else; a company's login reads only its own rows of every view."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import conninfo, sql

from services.common.postgres import connect
from tests.support.seeded import COMPANIES, seed

OF_NO_COMPANY = {"rule_sets"}
"""Views that are the same for every company."""
OF_TODAY = {
    "coverage_daily": "company_id, account_id, mailbox_id, day, covered_seconds, gap_seconds, gaps",
    "freshness": "company_id, newest_inquiry_at, read_through, judged_at, newest_as_of, newest_final_as_of",
}
"""Columns of views that do not change from second to second."""
OWN_SCHEMAS = "n.nspname !~ '^(pg_|information_schema$)'"
SECRET = "dashboards-only"


@pytest.fixture
def seeded(dsn: str) -> Iterator[psycopg.Connection]:
    with connect(dsn, "tests") as connection:
        seed(connection)
        yield connection


@pytest.fixture
def logins(dsn: str) -> Iterator[dict[str, str]]:
    """Connection strings of a login for all companies, one for each company, and one without a company."""
    names = {
        "everything": "replyrate_dashboard", "c1": "replyrate_company", "c2": "replyrate_company", "none": "replyrate_company",
    }  # fmt: skip
    database = dsn.rsplit("/", 1)[1]
    with connect(dsn, "tests") as connection:
        for name, role in names.items():
            login = sql.Identifier(f"{database}_{name}")
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                    login, sql.Literal(SECRET), sql.Identifier(role)
                )
            )
        for company in COMPANIES:
            connection.execute("INSERT INTO access.dashboards VALUES (%s, %s)", [f"{database}_{company}", company])
        yield {name: conninfo.make_conninfo(dsn, user=f"{database}_{name}", password=SECRET) for name in names}
        for name in names:
            login = sql.Identifier(f"{database}_{name}")
            connection.execute(sql.SQL("DROP OWNED BY {}").format(login))
            connection.execute(sql.SQL("DROP ROLE {}").format(login))


def views(connection: psycopg.Connection, schema: str) -> list[str]:
    rows = connection.execute(
        "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relkind = 'v'"
        " ORDER BY 1",
        [schema],
    ).fetchall()
    return [schema_row[0] for schema_row in rows]


def select(connection: psycopg.Connection, schema: str, view: str, what: str = "count(*)") -> list[tuple[object, ...]]:
    return connection.execute(
        sql.SQL("SELECT {} FROM {}.{}").format(sql.SQL(what), sql.Identifier(schema), sql.Identifier(view))
    ).fetchall()


@pytest.mark.parametrize(
    ("role", "schema"), [("replyrate_dashboard", "report_v1"), ("replyrate_company", "report_company_v1")]
)
def test_the_catalogue_gives_a_dashboard_its_views_and_nothing_else(dsn: str, role: str, schema: str) -> None:
    with connect(dsn, "tests") as connection:
        granted = connection.execute(
            "SELECT n.nspname, c.relname, p.privilege FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p (privilege)"
            f" WHERE {OWN_SCHEMAS} AND c.relkind IN ('r', 'v', 'm', 'f', 'p')"
            " AND (has_table_privilege(%(role)s, c.oid, p.privilege) OR p.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')"
            "   AND has_any_column_privilege(%(role)s, c.oid, p.privilege))",
            {"role": role},
        ).fetchall()
        assert len(granted) >= 8
        assert set(granted) == {(schema, view, "SELECT") for view in views(connection, schema)}
        used = connection.execute(
            f"SELECT n.nspname FROM pg_namespace n WHERE {OWN_SCHEMAS} AND has_schema_privilege(%s, n.oid, 'USAGE')",
            [role],
        ).fetchall()
        assert set(used) <= {(schema,), ("public",)}
        may_create = (
            f"SELECT n.nspname FROM pg_namespace n WHERE {OWN_SCHEMAS} AND has_schema_privilege(%s, n.oid, 'CREATE')"
        )
        assert connection.execute(may_create, [role]).fetchall() == []
        called = (
            "SELECT n.nspname, f.proname FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace"
            f" WHERE {OWN_SCHEMAS} AND has_function_privilege(%s, f.oid, 'EXECUTE')"
        )
        assert connection.execute(called, [role]).fetchall() == []
        counted = (
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S'"
            f" AND {OWN_SCHEMAS} AND (has_sequence_privilege(%(role)s, c.oid, 'USAGE') OR has_sequence_privilege(%(role)s, c.oid, 'SELECT'))"
        )
        assert connection.execute(counted, {"role": role}).fetchall() == []
        definition = connection.execute(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolcanlogin FROM pg_roles WHERE rolname = %s",
            [role],
        ).fetchone()
        assert definition == (False,)


def test_a_dashboard_can_read_every_view_and_write_nothing(seeded: psycopg.Connection, logins: dict[str, str]) -> None:
    with psycopg.connect(logins["everything"], autocommit=True) as dashboard:
        for view in views(seeded, "report_v1"):
            if view in OF_NO_COMPANY:
                assert select(dashboard, "report_v1", view) == [(2,)]
                continue
            companies = {company[0] for company in select(dashboard, "report_v1", view, "DISTINCT company_id")}
            assert companies == set(COMPANIES), view
            with pytest.raises(psycopg.Error):
                dashboard.execute(sql.SQL("DELETE FROM report_v1.{}").format(sql.Identifier(view)))
        for statement in (
            "SELECT FROM ledger.rates", "SELECT FROM ledger.rate_ranges", "SELECT FROM ledger.rate_rows", "SELECT FROM registry.secrets", "SELECT FROM replyrate.migrations",
            "SELECT FROM access.dashboards", "SELECT FROM report_company_v1.reply_rate", "CREATE SCHEMA mine",
            "CREATE TABLE public.mine (x int)", "SELECT ledger.smallest('{}', '{}')", "CALL access.repeat_views()",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                dashboard.execute(statement.encode())


def test_a_companys_login_sees_its_own_rows_of_every_view(seeded: psycopg.Connection, logins: dict[str, str]) -> None:
    every = views(seeded, "report_v1")
    assert every == views(seeded, "report_company_v1"), "a view is not repeated: CALL access.repeat_views()"
    for view in every:
        columns = [
            seeded.execute(
                "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
                " ORDER BY ordinal_position",
                [schema, view],
            ).fetchall()
            for schema in ("report_v1", "report_company_v1")
        ]
        assert columns[0] == columns[1], f"{view} has other columns: CALL access.repeat_views()"
        for company in COMPANIES:
            columns_shown = OF_TODAY.get(view, "*")
            with psycopg.connect(logins[company]) as own:
                seen = sorted(map(str, select(own, "report_company_v1", view, columns_shown)))
            condition = "TRUE OR %s = ''" if view in OF_NO_COMPANY else "company_id = %s"
            all_rows = seeded.execute(
                f"SELECT {columns_shown} FROM report_v1.{view} WHERE {condition}".encode(), [company]
            ).fetchall()
            assert seen == sorted(map(str, all_rows)) and seen, (view, company)
        with psycopg.connect(logins["none"]) as nobody:
            assert select(nobody, "report_company_v1", view) == [(2 if view in OF_NO_COMPANY else 0,)]


def test_no_trick_shows_another_companys_rows(seeded: psycopg.Connection, logins: dict[str, str]) -> None:
    with psycopg.connect(logins["c1"], autocommit=True) as own:
        told: list[str] = []
        own.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        # Cheap, so that the planner would evaluate it first; it reports every row that it is evaluated for.
        own.execute(
            "CREATE FUNCTION pg_temp.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS"
            " $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"
        )
        own.execute("SELECT count(*) FROM report_company_v1.inquiry_outcomes WHERE pg_temp.tell(company_id)")
        assert told and set(told) == {"c1"}
        for statement in (
            "SELECT FROM report_v1.reply_rate",
            "INSERT INTO access.dashboards VALUES (current_user, 'c2')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute(statement.encode())
        own.execute("SET ROLE replyrate_company")
        assert select(own, "report_company_v1", "reply_rate") == [(0,)]
    # Without the barrier the same query reports the other company's rows: the trick would work.
    seeded.execute("ALTER VIEW report_company_v1.inquiry_outcomes SET (security_barrier = false)")
    with psycopg.connect(logins["c1"], autocommit=True) as own:
        own.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        own.execute(
            "CREATE FUNCTION pg_temp.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS"
            " $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"
        )
        own.execute("SELECT count(*) FROM report_company_v1.inquiry_outcomes WHERE pg_temp.tell(company_id)")
        assert "c2" in told
