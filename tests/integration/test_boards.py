"""Every panel of the business boards on a seeded database, as the dashboard's login: its SQL runs and returns rows."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from services.cli.pages import grafana
from services.common.postgres import connect
from tests.support.monitoring import BOARDS
from tests.support.rates import edit_rates
from tests.support.seeded import COMPANIES, NOW, seed

BOARD = BOARDS["en/business"]
LATEST = datetime.now(UTC) + timedelta(minutes=5)


def as_grafana_sends_it(raw: str, **variables: tuple[str, ...]) -> str:
    """`raw` with the macros and variables that the board uses replaced the way Grafana does it."""
    text = raw.replace("$__timeFrom()", f"'{NOW - timedelta(days=60):%Y-%m-%dT%H:%M:%SZ}'")
    text = text.replace("$__timeTo()", f"'{LATEST:%Y-%m-%dT%H:%M:%SZ}'")
    for name, values in variables.items():
        quoted = ",".join("'" + value.replace("'", "''") + "'" for value in values)
        text = text.replace("${" + name + ":sqlstring}", quoted)
    assert "$" not in text, "a macro or variable that this test does not know"
    return text


@pytest.fixture
def dashboard(dsn: str) -> Any:
    login = dsn.rsplit("/", 1)[1] + "_grafana"
    with connect(dsn, "tests") as connection:
        seed(connection)
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' IN ROLE replyrate_dashboard").format(sql.Identifier(login))
        )
        with psycopg.connect(conninfo.make_conninfo(dsn, user=login, password="x"), autocommit=True) as viewer:
            yield viewer
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))


def test_every_panel_returns_rows(dashboard: psycopg.Connection) -> None:
    for language in grafana.LANGUAGES:
        check_panels(dashboard, BOARDS[f"{language}/business"], language)


def check_panels(dashboard: psycopg.Connection, board: dict[str, Any], language: str) -> None:
    variables = {}
    for variable in board["templating"]["list"]:
        variables[variable["name"]] = tuple(values[0] for values in dashboard.execute(variable["query"]).fetchall())
    assert variables["company"] == COMPANIES
    variables["rule_set"] = variables["rule_set"][:1]
    definitions = grafana.definition("business")["panels"]
    for panel, definition in zip(board["panels"], definitions, strict=True):
        (target,) = panel["targets"]
        cursor = dashboard.execute(as_grafana_sends_it(target["rawSql"], **variables).encode())
        rows = cursor.fetchall()
        columns = [column.name for column in cursor.description or ()]
        assert rows, panel["title"]
        assert columns == definition["columns"], panel["title"]
        if "advice" in columns:
            texts = [str(values[columns.index("advice")]) for values in rows]
            assert all(bool(re.search(r"[\u4e00-\u9fff]", text)) == (language == "zh") for text in texts)
        if target["format"] == "time_series":
            assert columns[0] == "time" and isinstance(rows[0][0], datetime), panel["title"]
            assert any(value is not None for cells in rows for value in cells[1:])
        if panel["type"] == "stat":
            assert len(rows) == 1 and rows[0][0] is not None, panel["title"]
        if panel["type"] == "barchart":
            assert len(rows) == 25 and sum(bucket_row[1] for bucket_row in rows) > 0
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["options"] in columns


def test_what_is_not_measured_is_no_zero(dashboard: psycopg.Connection, dsn: str) -> None:
    (panel,) = [candidate for candidate in BOARD["panels"] if candidate["title"] == "Reply rate"]

    def shown(*companies: str) -> float | None:
        raw = panel["targets"][0]["rawSql"]
        rate_row = dashboard.execute(
            as_grafana_sends_it(raw, company=companies, rule_set=("default",)).encode()
        ).fetchone()
        assert rate_row is not None
        return rate_row[0]  # type: ignore[no-any-return]

    alone = shown("c1")
    # Its mailbox covered too little: what was counted is no rate.
    with connect(dsn, "tests") as connection:
        edit_rates(connection, "rate = NULL, timely = 0, late = counted", "company_id = 'c2'")
    assert shown("c2") is None
    assert shown("c1", "c2") == shown("c1") == alone


def test_a_company_without_data_has_no_number(dashboard: psycopg.Connection) -> None:
    """Not even a 0: what is null or missing shows the text for missing values."""
    for panel in BOARD["panels"]:
        if panel["title"] == "Rule set":
            continue
        raw = panel["targets"][0]["rawSql"]
        rows = dashboard.execute(
            as_grafana_sends_it(raw, company=("c-unknown",), rule_set=("default",)).encode()
        ).fetchall()
        assert all(value is None for values in rows for value in values), panel["title"]


def test_a_hostile_name_stays_a_value(dashboard: psycopg.Connection) -> None:
    for panel in BOARD["panels"]:
        raw = panel["targets"][0]["rawSql"]
        assert not re.search(r"\$\{?(company|rule_set)(?!:sqlstring)\b", raw), panel["title"]
        text = as_grafana_sends_it(raw, company=("x'); DROP SCHEMA report_v1; --",), rule_set=("default",))
        dashboard.execute(text.encode())
