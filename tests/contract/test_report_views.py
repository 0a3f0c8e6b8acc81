"""The views of report_v1 in a real Postgres equal those in schemas/report_v1.json, both ways."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from services.aggregator.judge import rules
from services.aggregator.judge.judge import RATES
from services.aggregator.judge.rate_ranges import SQL as RANGES
from services.cli.pages import dictionary
from services.common.postgres import connect
from services.standalone.demo.comparison import RATE_COLUMNS
from tests.support.worked import load

CATALOGUE = """
SELECT c.relname, obj_description(c.oid), a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'report_v1'::regnamespace AND c.relkind <> 'i'
ORDER BY c.relname, a.attnum
"""
UNSORTED = """
SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'report_v1'::regnamespace AND a.atttypid = 'text'::regtype AND a.attcollation <> '"C"'::regcollation
    AND (a.attname LIKE '%\\_id' OR a.attname IN ('rule_set', 'outcome', 'column_name'))
"""
RATE = (
    "rule_set", "rule_version", "level", "company_id", "account_id", "as_of", "window_start", "window_end", "inquiries",
    "excluded", "counted", "timely", "late", "unanswered", "unmeasured", "pending", "rate", "mean_seconds",
    "median_seconds", "p90_seconds", "p95_seconds", "rate_shown", "coverage", "state", "computed_at",
)  # fmt: skip
# Columns that dashboards of the first release read; later releases may add columns after them, and other views.
FIRST: dict[str, tuple[str, ...]] = {
    "reply_rate": RATE,
    "reply_rate_latest": RATE,
    "reply_rate_history": (*RATE, "valid_from", "valid_to"),
    "corrections": (
        "rule_set", "rule_version", "level", "company_id", "account_id", "as_of", "column_name", "old_value", "new_value",
        "cause", "changed_at",
    ),
    "reply_time_histogram": ("rule_set", "level", "company_id", "account_id", "as_of", "bucket", "label", "answered"),
    "reply_daily": (
        "rule_set", "level", "company_id", "account_id", "day", "inquiries", "excluded", "counted", "timely", "late",
        "unanswered", "unmeasured", "pending", "state",
    ),
    "inquiry_outcomes": (
        "rule_set", "company_id", "account_id", "inquiry_id", "buyer_id", "unit_day", "unit_inquiry_id", "received_at",
        "first_reply_at", "reply_seconds", "outcome", "reason", "reply_source", "matched_by", "mailbox_id", "evidence",
        "state", "changed_at", "revision",
    ),
    "due_soon": ("rule_set", "company_id", "account_id", "inquiry_id", "due_at"),
    "mailbox_health": (
        "company_id", "account_id", "mailbox_id", "role", "state", "state_reason", "advice_en", "advice_zh",
        "last_success_at", "complete_from", "complete_through", "sent_folders", "messages_seen", "next_poll_at",
    ),
}  # fmt: skip
COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
KEY_OF_RATES = {"rule_set", "level", "company_id", "account_id", "as_of"}
VERSION_OF_RATES = {"computed_at", "valid_from", "valid_to"}
Views = dict[str, dict[str, Any]]


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with connect(dsn, "tests") as connection:
        yield connection


def catalogue(connection: psycopg.Connection) -> Views:
    """The views of the database, in the form of the contract."""
    views: Views = {}
    for view, view_comment, name, kind, comment in connection.execute(CATALOGUE).fetchall():
        entry = views.setdefault(view, {"comment": view_comment, "columns": []})
        entry["columns"].append({"name": name, "type": kind, "comment": comment})
    return views


def promised() -> Views:
    """The same views as the contract states them."""
    return {
        name: {"comment": view["comment"], "columns": view["columns"]}
        for name, view in dictionary.contract()["views"].items()
    }


def test_the_database_equals_the_contract(connection: psycopg.Connection) -> None:
    views, contract = catalogue(connection), promised()
    assert sorted(views) == sorted(contract)
    for name, view in contract.items():
        assert views[name] == view, f"schemas/report_v1.json, views.{name}; then `make docs`"
    schema = connection.execute("SELECT obj_description('report_v1'::regnamespace)").fetchone()
    assert schema == (dictionary.contract()["comment"],)


@pytest.mark.parametrize(
    "change",
    [
        "COMMENT ON COLUMN report_v1.due_soon.due_at IS 'other'",
        "COMMENT ON VIEW report_v1.due_soon IS NULL",
        "ALTER VIEW report_v1.due_soon RENAME COLUMN due_at TO due",
        "CREATE OR REPLACE VIEW report_v1.due_soon AS SELECT rule_set, company_id, account_id, inquiry_id, due_at, 1 AS more"
        " FROM ledger.outcomes WHERE outcome = 'pending'",
        "CREATE VIEW report_v1.other AS SELECT 1 AS one",
        "DROP VIEW report_v1.due_soon CASCADE",
    ],
)
def test_a_view_that_differs_is_found(connection: psycopg.Connection, change: str) -> None:
    connection.execute(change.encode())
    assert catalogue(connection) != promised()


@pytest.mark.parametrize("name", FIRST)
def test_columns_of_the_first_release_stay(name: str) -> None:
    """The contract may grow at its end; the columns of the first release keep name and position."""
    columns = [column["name"] for column in promised()[name]["columns"]]
    assert tuple(columns[: len(FIRST[name])]) == FIRST[name]


def test_every_view_and_column_of_the_contract_has_a_comment() -> None:
    for name, view in dictionary.contract()["views"].items():
        assert view["comment"] and view["meaning"], name
        assert set(view["key"]) <= {column["name"] for column in view["columns"]}, name
        assert all(column["comment"] for column in view["columns"]), name


def test_every_list_of_rate_columns_in_sql_is_complete(connection: psycopg.Connection) -> None:
    """A column added to ledger.rates is counted, compared and corrected, in both schemas."""
    stored, shadow = (
        [name for (name,) in connection.execute(COLUMNS, {"table": f"{schema}.rates"}).fetchall()]
        for schema in ("ledger", "shadow")
    )
    assert stored == shadow, "add the column to ledger.rates and shadow.rates, at the end"
    counted = re.search(r"INSERT INTO counted \(([^)]*)\)", RATES["count"])
    assert counted is not None
    assert set(re.findall(r"\w+", counted[1])) == {*stored} - {"valid_to"}
    compared = {*stored} - KEY_OF_RATES - VERSION_OF_RATES - {"rate_shown"}  # which follows from rate and rule version
    for side in ("stored", "new"):
        names = re.findall(rf"\b{side}\.(\w+)", RATES["keep_changed"].split("valid_to IS NULL")[1])
        assert set(names) == compared, side
    corrected = re.findall(r"\(\d+, '(\w+)', [^\n]*?stored\.(\w+)[^\n]*?new\.(\w+)", RATES["correct"])
    assert all(name == old == new for name, old, new in corrected)
    assert {name for name, _, _ in corrected} == compared - {"rule_version", "buckets"} | {"rate_shown"}


def test_every_list_of_columns_of_ranges_in_sql_is_complete(connection: psycopg.Connection) -> None:
    """A column added to ledger.rates is expanded from ranges, and two days with different values are no range."""
    days, ranges = (
        {name for (name,) in connection.execute(COLUMNS, {"table": f"ledger.{table}"}).fetchall()}
        for table in ("rates", "rate_ranges")
    )
    expanded = re.search(r"INSERT INTO touched_rates \(([^)]*)\)", RANGES["expand"])
    formed = re.search(r"INSERT INTO new_range \(([^)]*)\)", RANGES["form_ranges"])
    assert expanded is not None and formed is not None
    assert {*re.findall(r"\w+", expanded[1])} == days and {*re.findall(r"\w+", formed[1])} == ranges
    content = ranges - {
        "rule_set",
        "company_id",
        "account_id",
        "valid_to",
        "first_as_of",
        "days",
        "computed_at",
        "computed_ats",
    }
    for compared in RANGES["form_ranges"].split("ROW (")[1:]:
        names = {*re.findall(r"\w+", compared.split("buckets)")[0])} - {"as_of", "1", "scale"} | {"buckets"}
        assert {name.removeprefix("own_") for name in names} == content


def test_ids_sort_by_code_point(connection: psycopg.Connection) -> None:
    assert connection.execute(UNSORTED.encode()).fetchall() == []


def test_a_key_identifies_one_row(connection: psycopg.Connection) -> None:
    load(connection, [rules.load_builtin(name) for name in rules.builtin_names()])
    for name, view in dictionary.contract()["views"].items():
        key = ", ".join(view["key"])
        (counts,) = connection.execute(
            f"SELECT count(*), count(DISTINCT ROW({key})) FROM report_v1.{name}".encode()
        ).fetchall()
        assert counts[0] == counts[1], name
        assert counts[0] or name == "corrections", f"the worked example leaves {name} empty"
        assert broken_promises(connection, name, view) == []


def broken_promises(connection: psycopg.Connection, name: str, view: Mapping[str, Any]) -> list[str]:
    """What the rows of a view have that its contract excludes: nulls, values of no list, references to no row."""
    columns = {column["name"] for column in view["columns"]}
    conditions = [f"{column} IS NULL" for column in sorted(columns - {*view["nullable"]})]
    for column, values in view["values"].items():
        conditions.append(f"{column} NOT IN ({', '.join(repr(value) for value in values)})")
    for reference in view["references"]:
        present = " AND ".join(f"source.{column} IS NOT NULL" for column in reference["columns"])
        equal = " AND ".join(f"target.{column} = source.{column}" for column in reference["columns"])
        conditions.append(f"{present} AND NOT EXISTS (SELECT FROM report_v1.{reference['view']} target WHERE {equal})")
    return [
        condition
        for condition in conditions
        if connection.execute(f"SELECT FROM report_v1.{name} source WHERE {condition} LIMIT 1".encode()).fetchall()
    ]


def test_a_broken_promise_is_found(connection: psycopg.Connection) -> None:
    load(connection, [rules.load_builtin("default")])
    view = {**dictionary.contract()["views"]["inquiry_outcomes"], "nullable": [], "values": {"outcome": ["timely"]}}
    view["references"] = [{"columns": ["company_id", "inquiry_id"], "view": "due_soon"}]
    assert len(broken_promises(connection, "inquiry_outcomes", view)) > 3


def test_keys_and_references_of_the_contract_name_columns() -> None:
    views = dictionary.contract()["views"]
    for name, view in views.items():
        columns = {column["name"] for column in view["columns"]}
        named = {*view["key"], *view["nullable"], *view["values"], *view.get("measures", ())}
        named |= {ratio[part] for ratio in view.get("ratios", ()) for part in ("numerator", "denominator")}
        named |= {column for reference in view["references"] for column in reference["columns"]}
        named |= {view["freshness"]["column"]} if "freshness" in view else set()
        assert named <= columns, name
        for reference in view["references"]:
            assert views[reference["view"]]["key"] == reference["columns"], name


def test_a_dashboard_reads_the_views_and_nothing_else(connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL ROLE replyrate_dashboard")
        for name in dictionary.contract()["views"]:
            connection.execute(f"SELECT * FROM report_v1.{name} LIMIT 1".encode())
    for table in (
        "ledger.inquiries",
        "ledger.rates",
        "ledger.rate_ranges",
        "ledger.rate_rows",
        "registry.mailboxes",
        "shadow.rates",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("SET LOCAL ROLE replyrate_dashboard")
            connection.execute(f"SELECT * FROM {table} LIMIT 1".encode())


def test_the_latest_rates_have_the_columns_of_all_rates_and_the_demo_compares_only_those() -> None:
    """`reply_rate_latest` does not follow `reply_rate` by itself."""
    views = dictionary.contract()["views"]
    columns = [column["name"] for column in views["reply_rate"]["columns"]]
    assert [column["name"] for column in views["reply_rate_latest"]["columns"]] == columns
    assert set(RATE_COLUMNS) <= set(columns)
