"""`recompute`: the numbers of a rule set computed anew, beside those that are shown, then shown at once."""

import time
from datetime import date, datetime

import click
import psycopg

from services.aggregator.refresh import recompute as work
from services.cli.context import ProgressBars, Tell, as_json, database, errors, guarded, load_config, print_json
from services.common.errors import ReplyrateError
from services.common.postgres import clock

DAY = click.DateTime(["%Y-%m-%d"])
PAUSE_SECONDS = 0.5


@click.command()
@click.option("--rules", "name", required=True, help="Rule set that counts, or is being computed.")
@click.option("--from", "from_day", type=DAY, help="First as_of day; every row that may still change when not given.")
@click.option("--to", "to_day", type=DAY, help="Last as_of day; today when not given.")
@as_json
@guarded
def recompute(name: str, from_day: datetime | None, to_day: datetime | None, json_: bool) -> None:
    """Compute outcomes and rates anew from the facts; readers see the old numbers until all of the new ones are there.

    Ctrl-C or a kill loses nothing: aggregators go on, and so does the same command. A final number that comes out
    differently gets a line in report_v1.corrections.
    """
    started = time.monotonic()
    with database(load_config()) as connection:
        with connection.transaction():
            wanted = {one.rule_set.name: one.rule_set for one in work.unfinished(connection)}
            counting = {one.name: one for one in work.active(connection)}
        if name not in wanted and name not in counting:
            raise ReplyrateError(f"{name} does not count; `replyrate rules activate {name}` computes and shows it")
        rule_set = wanted.get(name) or counting[name]
        if name not in wanted or from_day is not None or to_day is not None:
            work.begin(connection, rule_set, _day(from_day), _day(to_day))
        since = clock(connection)
        with ProgressBars() as tell:
            companies = follow(connection, name, tell)
        corrected = connection.execute(
            "SELECT count(*) FROM ledger.corrections WHERE rule_set = %s AND changed_at >= %s"
            " AND cause IN ('recompute', 'rule-version')",
            (name, since),
        ).fetchone()
    assert corrected is not None
    seconds = round(time.monotonic() - started, 1)
    if json_:
        print_json({"rule_set": name, "companies": companies, "corrections": corrected[0], "seconds": seconds})
    else:
        errors.print(
            f"{name}: {companies} companies computed anew, {corrected[0]} corrections; {seconds} s", markup=False
        )


def follow(connection: psycopg.Connection, name: str, tell: Tell) -> int:
    """Help until the recompute is shown; returns how many companies it has."""
    companies = 0
    while True:
        (row,) = [one for one in work.progress(connection) if one["rule_set"] == name] or (None,)
        if row is None:
            return companies
        companies = row["companies"]
        tell("companies", row["done"], companies)
        if not work.step(connection) and not work.finish(connection):
            time.sleep(PAUSE_SECONDS)  # another process is at the companies that lack


def _day(at: datetime | None) -> date | None:
    return None if at is None else at.date()
