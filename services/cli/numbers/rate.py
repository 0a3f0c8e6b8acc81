"""`rate [COMPANY]`: the numbers, as a table with sparklines and a histogram, CSV or JSON."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import click
import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table

from services.aggregator.judge import rules
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import recompute
from services.cli.context import (
    as_json,
    bar,
    database,
    duration,
    errors,
    guarded,
    load_config,
    percent,
    plain,
    print_json,
)
from services.cli.texts import LANGUAGES, Texts
from services.common.errors import EXIT_FAILED

SELECT = """
SELECT * FROM {view}
WHERE (%(company)s::text IS NULL OR company_id = %(company)s) AND (%(rules)s::text IS NULL OR rule_set = %(rules)s)
    AND (%(as_of)s::date IS NULL OR as_of = %(as_of)s)
ORDER BY rule_set, company_id, level DESC, account_id
"""
TREND = """
SELECT rule_set, company_id, account_id, as_of, rate FROM report_v1.reply_rate
WHERE (%(company)s::text IS NULL OR company_id = %(company)s) AND (%(rules)s::text IS NULL OR rule_set = %(rules)s)
    AND as_of > %(last)s::date - 30 AND as_of <= %(last)s::date
"""
HISTOGRAM = """
SELECT rule_set, company_id, array_agg(answered ORDER BY bucket) FROM report_v1.reply_time_histogram
JOIN unnest(%(sets)s::text[], %(companies)s::text[], %(days)s::date[]) row (rule_set, company_id, as_of)
    USING (rule_set, company_id, as_of)
WHERE level = 'company' GROUP BY rule_set, company_id
"""
TREND_DAYS = 30
Key = tuple[str, str, str | None]


@click.command()
@click.argument("company_id", required=False)
@click.option(
    "--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Local day of the rule set; the newest when not given."
)
@click.option("--rules", "name", help="Rule set; all active ones when not given.")
@click.option("--csv", "csv_", is_flag=True, help="Print CSV with the columns of report_v1.reply_rate.")
@click.option("--lang", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Language of the table.")
@as_json
@guarded
def rate(company_id: str | None, as_of: datetime | None, name: str | None, csv_: bool, lang: str, json_: bool) -> None:
    """Reply rates of a company and its accounts, or of all companies.

    --json: the rows of report_v1.reply_rate, each with `trend` (30 rates, the row's day last; null is no rate) and, at
    company level, `histogram` (25 counts).
    """
    if csv_ and json_:
        raise click.UsageError("--csv and --json: choose one")
    view = sql.Identifier("report_v1", "reply_rate" if as_of is not None else "reply_rate_latest")
    values = {"company": company_id, "rules": name, "as_of": None if as_of is None else as_of.date()}
    with database(load_config()) as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(sql.SQL(SELECT).format(view=view), values).fetchall()
        trends, histograms = (trend(connection, rows, values), histogram(connection, rows)) if rows else ({}, {})
        stored = {
            row["name"]: rules.stored(row["parameters"]) for row in cursor.execute(recompute.SQL["stored"]).fetchall()
        }
    if json_:
        print_json(
            [
                {**row, "trend": trends[_key(row)]}
                | (
                    {"histogram": histograms.get(row["rule_set"], {}).get(row["company_id"])}
                    if row["account_id"] is None
                    else {}
                )
                for row in rows
            ]
        )
    elif csv_:
        click.echo(as_csv(rows), nl=False)
    elif rows:
        for one in sorted({row["rule_set"] for row in rows}):
            mine = [row for row in rows if row["rule_set"] == one]
            print_rate(mine, stored[one], trends, histograms.get(one, {}), Texts("rate", lang))
    if not rows and name is not None and name not in stored:
        errors.print(f"the rule set {name} does not count; `replyrate rules list` tells which do", markup=False)
        sys.exit(EXIT_FAILED)
    if not rows:
        errors.print(
            "no rate: no inquiry of this company is known, or not for this day and rule set;"
            " publish inquiries (replyrate publish FILE) and let the services run"
        )
        sys.exit(EXIT_FAILED)


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows with a header line; empty where a value is null."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows([{name: plain(value) for name, value in row.items()} for row in rows])
    return out.getvalue()


def trend(
    connection: psycopg.Connection, rows: Sequence[Mapping[str, Any]], values: Mapping[str, Any]
) -> dict[Key, list[Any]]:
    """The rates of the 30 days that end with each row's, oldest first; None where there is none."""
    last = max(row["as_of"] for row in rows)
    with connection.cursor(row_factory=dict_row) as cursor:
        found = {
            (_key(row), row["as_of"]): row["rate"] for row in cursor.execute(TREND, {**values, "last": last}).fetchall()
        }
    return {
        _key(row): [found.get((_key(row), row["as_of"] - timedelta(days=ago))) for ago in range(TREND_DAYS - 1, -1, -1)]
        for row in rows
    }


def histogram(connection: psycopg.Connection, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """By rule set and company: how many units were answered in each of the 25 buckets."""
    companies = [row for row in rows if row["account_id"] is None]
    place = {
        "sets": [row["rule_set"] for row in companies],
        "companies": [row["company_id"] for row in companies],
        "days": [row["as_of"] for row in companies],
    }
    found: dict[str, dict[str, list[int]]] = {}
    for name, company_id, counts in connection.execute(HISTOGRAM, place).fetchall():
        found.setdefault(name, {})[company_id] = counts
    return found


def print_rate(
    rows: list[dict[str, Any]],
    rule_set: RuleSet,
    trends: Mapping[Key, Sequence[Any]],
    histograms: Mapping[str, Sequence[int]],
    text: Texts,
) -> None:
    """Table, histogram, and why a rate is missing."""
    out = Console(highlight=False)
    days = {"first": min(row["window_start"] for row in rows), "last": max(row["window_end"] for row in rows)}
    as_of: date = max(row["as_of"] for row in rows)
    out.print()
    show(rows, text("head", "title", rules=rule_set.name, as_of=as_of, **days), trends=trends, text=text)
    begin = as_of - timedelta(days=TREND_DAYS - 1)
    out.print(text("head", "trend", first=begin), style="dim", markup=False)
    if any(row["state"] == "provisional" for row in rows):
        code = "settling" if rule_set.settle_days else "settling_at_once"
        out.print(text("no_rate", code, days=rule_set.settle_days), style="dim", markup=False)
    for row in rows:
        if row["rate"] is None:
            out.print(why_no_rate(row, rule_set, text), style="yellow", markup=False)
    if histograms:
        out.print(f"\n{text('head', 'histogram')}", style="bold", markup=False)
        draw([sum(counts) for counts in zip(*histograms.values(), strict=True)], text)


def why_no_rate(row: Mapping[str, Any], rule_set: RuleSet, text: Texts) -> str:
    """A sentence for a row without a rate: an empty rate is not a 0."""
    who = row["account_id"] or row["company_id"]
    coverage, sample = row["coverage"], rule_set.small_sample
    if coverage is not None and coverage < rule_set.min_coverage:
        least = percent(rule_set.min_coverage)
        return text("no_rate", "coverage", who=who, coverage=percent(coverage), least=least)
    if row["counted"] and sample != "show":
        return text("no_rate", "small", who=who, counted=row["counted"], least=sample.min_counted)
    return text("no_rate", "nothing", who=who)


def draw(counts: Sequence[int], text: Texts) -> None:
    """25 bars: hours until the answer, and later."""
    out = Console(highlight=False)
    most = max(counts) or 1
    for number, answered in enumerate(counts):
        hours = {"from": number, "to": number + 1}
        label = text("head", "later") if number == 24 else text("head", "hours", **hours)
        out.print(f"  {label:>8}  {answered:>4} [cyan]{bar(answered / most, 40)}[/]")


def spark(rates: Sequence[Any]) -> str:
    """A sign for each rate: eight heights from 0 to 1, a dot for none."""
    return "".join("·" if rate is None else "▁▂▃▄▅▆▇█"[min(7, int(float(rate) * 8))] for rate in rates)


def show(
    rows: list[dict[str, Any]],
    title: str,
    names: Mapping[str, str] | None = None,
    trends: Mapping[Key, Sequence[Any]] | None = None,
    text: Texts | None = None,
) -> None:
    """A table for people; `names` are titles of companies, `trends` are drawn below each name."""
    text, out = text or Texts("rate", "en"), Console(highlight=False)
    roomy = trends is None and out.width >= 100
    table = Table(
        title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold"
    )  # fmt: skip
    table.add_column(text("head", "who"), overflow="fold", min_width=TREND_DAYS if trends else 20)
    table.add_column(text("head", "rate"), justify="right", no_wrap=True)
    if roomy:
        table.add_column("", width=8, no_wrap=True)
    for heading in ("counted", "parts", "median", *(("p90",) if roomy else ()), "coverage"):
        table.add_column(text("head", heading), justify="right", no_wrap=True)
    table.add_column(text("head", "state"), no_wrap=True)
    for row in rows:
        company = row["account_id"] is None
        name = (names or {}).get(row["company_id"], row["company_id"]) if company else f"  {row['account_id']}"
        table.add_row(
            f"{name}\n[green]{spark(trends[_key(row)])}[/]" if trends else name,
            percent(row["rate"]),
            *((f"[green]{bar(float(row['rate'] or 0), 8)}[/]",) if roomy else ()),
            str(row["counted"]),
            f"{row['timely']}/{row['late']}/{row['unanswered']}/{row['unmeasured']}",
            duration(row["median_seconds"]),
            *((duration(row["p90_seconds"]),) if roomy else ()),
            percent(row["coverage"]),
            text("state", row["state"]),
        )
    out.print(table)


def _key(row: Mapping[str, Any]) -> Key:
    return row["rule_set"], row["company_id"], row["account_id"]
