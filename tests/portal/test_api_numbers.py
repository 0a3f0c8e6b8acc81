"""Figures through the API: the rows of the views, page by page and whole, for the companies of the key and for no other."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from services.common.postgres import connect
from services.common.tabular import plain
from tests.support.api_lab import api_client, new_key, problem
from tests.support.portal_lab import Portal, make_portal, portal, portal_dsn
from tests.support.rates import edit_rates
from tests.support.seeded import seed

__all__ = ["make_portal", "portal", "portal_dsn"]

LISTS = {
    "rates": "reply_rate_latest", "rates/history": "reply_rate_history", "outcomes": "inquiry_outcomes", "daily": "reply_daily",
    "corrections": "corrections", "due-soon": "due_soon", "diagnosis": "zero_rate_diagnosis", "histogram": "reply_time_histogram",
}  # fmt: skip
"""Path below a company → the view whose rows it lists."""
PATHS = [*LISTS, "timeline", "inquiries/i5/explanation"]
ADDED = {"rate_missing", "title_en", "title_zh", "deadline_passed"}
"""What the API adds to the rows of the views."""


@pytest.fixture
def owner(dsn: str) -> Iterator[psycopg.Connection]:
    """Two companies with numbers by two rule sets, seen by the owner of the database."""
    with connect(dsn, "tests") as connection:
        seed(connection)
        yield connection


@pytest.fixture
def client(owner: psycopg.Connection, portal: Portal, dsn: str) -> Iterator[httpx.Client]:
    """A client with the key of c1."""
    with api_client(portal, new_key(dsn, "c1").secret) as sending:
        yield sending


def pages(client: httpx.Client, path: str, limit: int, **query: str) -> list[dict[str, Any]]:
    """Every item of a list, page by page."""
    items: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = client.get(path, params={"limit": str(limit), **query, **after}).json()
        items += page["items"]
        if page["next"] is None:
            return items
        assert len(page["items"]) == limit
        after = {"after": page["next"]}


def comparable(rows: list[dict[str, Any]]) -> list[str]:
    """Rows without what the API adds, in one order; numbers of one value alike."""
    return sorted(
        json.dumps({name: float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
                    for name, value in cells.items() if name not in ADDED}, sort_keys=True)
        for cells in rows
    )  # fmt: skip


def stored(owner: psycopg.Connection, view: str, company_id: str = "c1") -> list[dict[str, Any]]:
    # The newest day depends on the time zone of the rule set.
    newest = " AND as_of = (SELECT max(r.as_of) FROM report_v1.reply_rate r WHERE r.rule_set = reply_time_histogram.rule_set)"
    condition = newest if view == "reply_time_histogram" else ""
    with owner.cursor(row_factory=dict_row) as cursor:
        statement = f"SELECT * FROM report_v1.{view} WHERE company_id = %s{condition}"
        return [plain(cells) for cells in cursor.execute(statement.encode(), [company_id]).fetchall()]


def test_every_list_has_the_rows_of_its_view_in_pages_and_in_exports(
    owner: psycopg.Connection, client: httpx.Client
) -> None:
    for path, view in LISTS.items():
        rows = stored(owner, view)
        assert rows, view
        first = client.get(f"/v1/companies/c1/{path}", params={"limit": 500})
        assert first.status_code == 200, (path, first.text)
        limit = max(2, len(rows) // 7)
        assert comparable(pages(client, f"/v1/companies/c1/{path}", limit)) == comparable(rows), path
        lines = client.get(f"/v1/companies/c1/{path}", params={"format": "ndjson"})
        assert lines.headers["content-type"] == "application/x-ndjson"
        assert comparable([json.loads(line) for line in lines.text.splitlines()]) == comparable(rows), path
        table = client.get(f"/v1/companies/c1/{path}", params={"format": "csv"})
        assert table.headers["content-type"] == "text/csv; charset=utf-8"
        cells = list(csv.DictReader(io.StringIO(table.text)))
        assert len(cells) == len(rows) and set(cells[0]) - ADDED == set(rows[0]), path


def test_no_key_reads_a_figure_of_another_company(owner: psycopg.Connection, portal: Portal, dsn: str) -> None:
    with (
        api_client(portal, new_key(dsn, "c1").secret) as client,
        api_client(portal, new_key(dsn, "", ("registry:read", "inquiries:write")).secret) as unscoped,
        portal.client() as nobody,
    ):
        for path in PATHS:
            assert client.get(f"/v1/companies/c1/{path}").status_code == 200, path
            for company_id in ("c2", "c11", "no-such-company"):
                problem(client.get(f"/v1/companies/{company_id}/{path}"), 404, "company-unknown")
            problem(unscoped.get(f"/v1/companies/c1/{path}"), 403, "scope-missing")
            problem(nobody.get(f"/v1/companies/c1/{path}"), 401, "not-authenticated")
        assert {rate["company_id"] for rate in pages(client, "/v1/rates", 500)} == {"c1"}
        assert client.get("/v1/rates", params={"prefix": "c2"}).json() == {"items": [], "next": None}
    with api_client(portal, new_key(dsn, "c").secret) as platform:
        for prefix, expected in (("", {"c1", "c2"}), ("c2", {"c2"})):
            first = platform.get("/v1/rates", params={"prefix": prefix, "limit": 1}).json()
            later = platform.get("/v1/rates", params={"prefix": prefix, "limit": 1, "after": first["next"]}).json()
            rates = first["items"] + later["items"]
            assert {rate["company_id"] for rate in rates} == expected
            assert len(rates) == 2 * len(expected), "by both rule sets"


def test_a_rate_that_is_not_measured_is_null_with_its_reason(owner: psycopg.Connection, client: httpx.Client) -> None:
    (idle,) = client.get("/v1/companies/c1/rates", params={"account_id": "idle", "rule_set": "default"}).json()["items"]
    assert (idle["rate"], idle["rate_shown"], idle["rate_missing"]["code"]) == (None, None, "nothing")
    assert "idle" in idle["rate_missing"]["en"] and "无回复率" in idle["rate_missing"]["zh"]
    assert "explanation" in idle["rate_missing"]["next_en"] and "判定说明" in idle["rate_missing"]["next_zh"]
    edit_rates(owner, "rate = NULL, rate_shown = NULL, coverage = 0.25", "account_id = 'main'")
    (main,) = client.get("/v1/companies/c1/rates", params={"account_id": "main", "rule_set": "default"}).json()["items"]
    assert main["rate_missing"]["code"] == "coverage" and "25.0 %" in main["rate_missing"]["en"]
    assert main["rate_missing"]["next_en"].startswith("Connect each mailbox")
    table = client.get("/v1/companies/c1/rates", params={"account_id": "idle", "rule_set": "default", "format": "csv"})
    (cells,) = csv.DictReader(io.StringIO(table.text))
    assert (cells["rate"], cells["rate_missing"]) == ("", "nothing")


def test_rates_of_a_day_and_of_the_last_days(owner: psycopg.Connection, client: httpx.Client) -> None:
    (newest,) = client.get("/v1/companies/c1/timeline", params={"days": 1, "rule_set": "default"}).json()["items"]
    line = client.get("/v1/companies/c1/timeline", params={"rule_set": "default"}).json()["items"]
    assert len(line) == 30 and line[-1] == newest and newest["account_id"] is None
    assert [day["as_of"] for day in line] == sorted({day["as_of"] for day in line})
    of_a_day = client.get("/v1/companies/c1/rates", params={"as_of": line[3]["as_of"], "rule_set": "default"}).json()
    assert [rate["account_id"] for rate in of_a_day["items"]] == [None, "idle", "main"]
    assert of_a_day["items"][0] == line[3]
    assert newest["computed_at"].endswith("Z")


def test_outcomes_by_account_day_and_outcome(owner: psycopg.Connection, client: httpx.Client) -> None:
    path = "/v1/companies/c1/outcomes"
    late = pages(client, path, 500, rule_set="default", outcome="late")
    assert late and {outcome["outcome"] for outcome in late} == {"late"}
    day = late[0]["unit_day"]
    of_the_day = pages(client, path, 500, **{"from": day, "to": day})
    assert {outcome["unit_day"] for outcome in of_the_day} == {day}
    assert {outcome["inquiry_id"] for outcome in of_the_day} >= {late[0]["inquiry_id"]}
    assert client.get(path, params={"account_id": "idle"}).json()["items"] == []


def test_an_inquiry_is_explained_in_both_languages(client: httpx.Client) -> None:
    path = "/v1/companies/c1/inquiries/{}/explanation"
    explanations = client.get(path.format("i5")).json()["items"]
    assert [explanation["rule_set"] for explanation in explanations] == ["default", "first-reply-24h"]
    explanation = explanations[0]
    assert explanation["sentences"]["en"][0].startswith("Answered") and "回复" in explanation["sentences"]["zh"][0]
    assert explanation["considered"][0]["verdict"] == "answer"
    assert explanation["unit"]["unit_inquiry_id"] and explanation["facts"]["inquiries"][0]["inquiry_id"] == "i5"
    problem(client.get(path.format("no-such-inquiry")), 404, "inquiry-unknown")


WRONG: list[tuple[dict[str, str], str]] = [
    ({"rule_set": "no-such-set"}, "rule_set"), ({"after": "x"}, "after"), ({"after": "W10"}, "after"),
    ({"after": "WyIiLCIyMDI2LTEzLTAxIiwiIl0"}, "after"), ({"limit": "0"}, "limit"), ({"limit": "501"}, "limit"),
    ({"from": "today"}, "from"), ({"outcome": "good"}, "outcome"), ({"format": "xml"}, "format"), ({"account_id": "a\x00b"}, "account_id"),
]  # fmt: skip


def test_a_wrong_parameter_is_named(client: httpx.Client) -> None:
    for query, field in WRONG:
        members = problem(client.get("/v1/companies/c1/outcomes", params=query), 422, "invalid-request")
        assert [error["field"] for error in members["errors"]] == [field]


def test_text_that_a_spreadsheet_would_take_for_a_formula_is_quoted_in_csv(
    owner: psycopg.Connection, client: httpx.Client
) -> None:
    owner.execute("UPDATE ledger.outcomes SET inquiry_id = '=1+cmd()', buyer_id = '@a' WHERE inquiry_id = 'i5'")
    query = {"rule_set": "default", "format": "csv"}
    table = client.get("/v1/companies/c1/outcomes", params=query).text
    assert "'=1+cmd()" in table and "'@a" in table and ",=1" not in table
