"""What the demo shows, read from the views and the registry; nothing is counted here."""

from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from services.aggregator.doctor import diagnosis
from services.aggregator.judge.rules import load_builtin
from services.common.postgres import clock, load_statements
from services.standalone.world.world import World

SQL: Final = load_statements("services.standalone.demo", "results.sql")


def companies(connection: psycopg.Connection, world: World) -> list[dict[str, Any]]:
    """The newest rates of the world's companies, each with the company's title and story."""
    planned = {company.company_id: company for company in world.companies}
    return [
        {**rate, "title": planned[rate["company_id"]].title, "story": planned[rate["company_id"]].story}
        for rate in _rows(connection, "companies")
        if rate["company_id"] in planned
    ]


def histogram(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """The number of units answered within each hour, over all companies."""
    return _rows(connection, "histogram")


def stories(connection: psycopg.Connection, world: World) -> list[dict[str, Any]]:
    """The figures behind each company's rate, and the doctor's findings where the rate is 0 or missing."""
    figures = {company["company_id"]: company for company in _rows(connection, "stories")}
    diagnoses = diagnosis.diagnose(connection, load_builtin("default"), list(figures), clock(connection))
    findings = {company.company_id: company.findings for company in diagnoses if not company.account_id}
    return [
        {
            "title": company.title, "story": company.story, **figures[company.company_id],
            "diagnosis": [
                {"cause": finding.cause, "confidence": finding.confidence, "title": diagnosis.title(finding, "en")}
                for finding in findings.get(company.company_id, ())
            ],
        }
        for company in world.companies
    ]  # fmt: skip


def _rows(connection: psycopg.Connection, name: str) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(SQL[name]).fetchall()
