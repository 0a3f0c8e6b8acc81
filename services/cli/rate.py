"""`rate [COMPANY]`: the numbers, as a table with bars, CSV or JSON."""

import csv
import io
import sys
from datetime import datetime
from typing import Any

import click
from psycopg import sql
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table

from services.cli.context import as_json, bar, database, duration, errors, guarded, percent, plain, print_json, settings
from services.common.errors import EXIT_FAILED

SELECT = """
SELECT * FROM {view}
WHERE (%(company)s::text IS NULL OR company_id = %(company)s) AND (%(rules)s::text IS NULL OR rule_set = %(rules)s)
    AND (%(as_of)s::date IS NULL OR as_of = %(as_of)s)
ORDER BY rule_set, company_id, level DESC, account_id
"""


@click.command()
@click.argument("company_id", required=False)
@click.option(
    "--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Local day of the rule set; the newest when not given."
)
@click.option("--rules", help="Rule set; all active ones when not given.")
@click.option("--csv", "csv_", is_flag=True, help="Print CSV with the columns of report_v1.reply_rate.")
@as_json
@guarded
def rate(company_id: str | None, as_of: datetime | None, rules: str | None, csv_: bool, json_: bool) -> None:
    """Reply rates of a company and its accounts, or of all companies."""
    if csv_ and json_:
        raise click.UsageError("--csv and --json: choose one")
    view = sql.Identifier("report_v1", "reply_rate" if as_of is not None else "reply_rate_latest")
    values = {"company": company_id, "rules": rules, "as_of": None if as_of is None else as_of.date()}
    with database(settings()) as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(sql.SQL(SELECT).format(view=view), values).fetchall()
    if json_:
        print_json(rows)
    elif csv_:
        click.echo(as_csv(rows), nl=False)
    elif rows:
        for name in sorted({row["rule_set"] for row in rows}):
            show([row for row in rows if row["rule_set"] == name], f"{name} (as of {rows[0]['as_of']})")
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


def show(rows: list[dict[str, Any]], title: str, names: dict[str, str] | None = None) -> None:
    """A table for people."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("company / account", overflow="fold", min_width=20)
    table.add_column("rate", justify="right", no_wrap=True)
    table.add_column("", width=8, no_wrap=True)
    table.add_column("timely/late/\nunanswered/\nunmeasured", justify="right", no_wrap=True)
    for heading in ("median", "p90", "coverage"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        name = (names or {}).get(row["company_id"], row["company_id"])
        table.add_row(
            name if row["level"] == "company" else f"  {row['account_id']}",
            percent(row["rate"]),
            f"[green]{bar(float(row['rate'] or 0), 8)}[/]",
            f"{row['timely']}/{row['late']}/{row['unanswered']}/{row['unmeasured']}",
            duration(row["median_seconds"]),
            duration(row["p90_seconds"]),
            percent(row["coverage"]),
        )
    Console(highlight=False).print(table)
