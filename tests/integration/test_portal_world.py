"""The database that bench/portal.py measures: it follows the schema, and every list of the API has rows in it."""

import psycopg

from bench import portal_world
from bench.portal import called_companies
from services.common.postgres import connect

COMPANIES, INQUIRIES = 40, 4_000
VIEWS = (
    "reply_rate_latest", "reply_rate_history", "inquiry_outcomes", "reply_daily", "corrections", "due_soon", "reply_time_histogram",
    "zero_rate_diagnosis",
)  # fmt: skip


def number(connection: psycopg.Connection, statement: str) -> int:
    result = connection.execute(statement.encode()).fetchone()
    assert result is not None
    return int(result[0])


def test_every_list_has_rows_and_few_companies_have_most_inquiries(dsn: str) -> None:
    with connect(dsn, "tests") as connection:
        portal_world.load(connection, COMPANIES, INQUIRIES)
        for view in VIEWS:
            assert number(connection, f"SELECT count(*) FROM report_v1.{view}") > 0, view
        # As an installation of today stores rates.
        assert number(connection, "SELECT count(*) FROM ledger.rates") == 0
        assert number(connection, "SELECT count(*) FROM registry.mailboxes") == COMPANIES * portal_world.ACCOUNTS
        assert number(connection, "SELECT count(*) FROM ledger.outcomes") == INQUIRIES
        by_company = "SELECT count(*) AS inquiries FROM ledger.inquiries GROUP BY company_id"
        assert number(connection, f"SELECT max(inquiries) FROM ({by_company}) company") > 3 * INQUIRIES / COMPANIES


def test_the_called_companies_exist_and_begin_with_the_largest() -> None:
    companies = called_companies()
    assert companies[0] == "company-0" and len(set(companies)) == len(companies)
    assert max(int(company_id.removeprefix("company-")) for company_id in companies) < portal_world.COMPANIES
