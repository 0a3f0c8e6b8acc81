"""`rate [COMPANY]`: the numbers, as a table with sparklines and a histogram, CSV or JSON."""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import click
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from services.aggregator.refresh import recompute
from services.aggregator.texts import LANGUAGES, Texts
from services.cli.context import as_json, database, guarded, load_config
from services.cli.numbers.rate_table import TREND_DAYS, RowKey, print_rule_set, row_key
from services.cli.output import errors, print_csv, print_json
from services.common.errors import EXIT_FAILED
from services.common.postgres import load_statements

SQL: Final = load_statements("services.cli.numbers", "rate.sql")


@click.command()
@click.argument("company_id", required=False)
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="Day in the time zone of the rule set. Default: the newest.",
)
@click.option("--rules", "name", help="Rule set. Default: every active one.")
@click.option("--csv", "csv_", is_flag=True, help="Print CSV with the columns of report_v1.reply_rate.")
@click.option("--lang", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Language of the table.")
@as_json
@guarded
def rate(company_id: str | None, as_of: datetime | None, name: str | None, csv_: bool, lang: str, json_: bool) -> None:
    """Show the reply rates of a company and its accounts, or all.

    --json prints the rows of report_v1.reply_rate, each with `trend` (30 rates, ending with the day of the row; null where
    there is no rate) and, at company level, `histogram` (25 counts). In --csv, text that a spreadsheet would take for a formula
    has a ' before it.
    """
    if csv_ and json_:
        raise click.UsageError("--csv and --json: choose one")
    view = sql.Identifier("report_v1", "reply_rate" if as_of is not None else "reply_rate_latest")
    values = {"company": company_id, "rules": name, "as_of": None if as_of is None else as_of.date()}
    with database(load_config()) as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(sql.SQL(SQL["rates"]).format(view=view), values).fetchall()
        trends, histograms = (_trends(connection, rows, values), _histograms(connection, rows)) if rows else ({}, {})
        rule_sets = {stored.name: stored.rule_set for stored in recompute.stored_rule_sets(connection)}
    if json_:
        print_json([_row_data(rate_row, trends, histograms) for rate_row in rows])
    elif csv_:
        print_csv(rows)
    else:
        for rule_set_name in sorted({rate_row["rule_set"] for rate_row in rows}):
            rows_of_set = [rate_row for rate_row in rows if rate_row["rule_set"] == rule_set_name]
            print_rule_set(
                rows_of_set, rule_sets[rule_set_name], trends, histograms.get(rule_set_name, {}), Texts("rate", lang)
            )
    if not rows:
        errors.print(
            f"The rule set {name} is not active; `replyrate rules list` shows the active ones."
            if name is not None and name not in rule_sets
            else "No rate: no inquiry of this company is known, or none for this day and rule set."
            " Publish inquiries (replyrate publish FILE) and let the services run.",
            markup=False,
        )
        sys.exit(EXIT_FAILED)


def _row_data(
    rate_row: dict[str, Any],
    trends: Mapping[RowKey, Sequence[Any]],
    histograms: Mapping[str, Mapping[str, Sequence[int]]],
) -> dict[str, Any]:
    data = {**rate_row, "trend": trends[row_key(rate_row)]}
    if rate_row["account_id"] is None:
        data["histogram"] = histograms.get(rate_row["rule_set"], {}).get(rate_row["company_id"])
    return data


def _trends(
    connection: psycopg.Connection, rows: Sequence[Mapping[str, Any]], values: Mapping[str, Any]
) -> dict[RowKey, list[Any]]:
    """By row: the rates of the 30 days that end with the day of the row, oldest first; None where there is no rate."""
    last = max(rate_row["as_of"] for rate_row in rows)
    with connection.cursor(row_factory=dict_row) as cursor:
        rates = {
            (row_key(day_row), day_row["as_of"]): day_row["rate"]
            for day_row in cursor.execute(SQL["trend"], {**values, "last": last}).fetchall()
        }
    return {
        row_key(rate_row): [
            rates.get((row_key(rate_row), rate_row["as_of"] - timedelta(days=ago)))
            for ago in range(TREND_DAYS - 1, -1, -1)
        ]
        for rate_row in rows
    }


def _histograms(connection: psycopg.Connection, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """By rule set and company: how many units were answered in each of the 25 buckets."""
    companies = [rate_row for rate_row in rows if rate_row["account_id"] is None]
    values = {
        "rule_sets": [company_row["rule_set"] for company_row in companies],
        "companies": [company_row["company_id"] for company_row in companies],
        "days": [company_row["as_of"] for company_row in companies],
    }
    histograms: dict[str, dict[str, list[int]]] = {}
    for name, company_id, counts in connection.execute(SQL["histograms"], values).fetchall():
        histograms.setdefault(name, {})[company_id] = counts
    return histograms
