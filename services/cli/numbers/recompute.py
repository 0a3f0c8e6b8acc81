"""`recompute`: compute the numbers of a rule set again beside those that are shown, then replace them at once."""

import time
from datetime import date, datetime

import click
import psycopg

from services.aggregator.archive.files import ArchiveFolder, archive_folder
from services.aggregator.refresh import recompute
from services.cli.context import as_json, database, guarded, load_config
from services.cli.output import ProgressBars, ReportProgress, errors, print_json
from services.common.errors import ReplyrateError
from services.common.postgres import clock

DAY = click.DateTime(["%Y-%m-%d"])
PAUSE_SECONDS = 0.5


@click.command("recompute")
@click.option("--rules", "name", required=True, help="Rule set that is active or being computed.")
@click.option(
    "--from",
    "from_day",
    type=DAY,
    metavar="YYYY-MM-DD",
    help="First as_of day. Default: every row that may still change.",
)
@click.option("--to", "to_day", type=DAY, metavar="YYYY-MM-DD", help="Last as_of day. Default: today.")
@as_json
@guarded
def recompute_command(name: str, from_day: datetime | None, to_day: datetime | None, json_: bool) -> None:
    """Compute outcomes and rates of a rule set again.

    They are computed from the facts; readers see the old numbers until all new ones are complete. Interrupting the command loses nothing: aggregators continue the work, and so does the same command. A final number that
    changes gets a row in report_v1.corrections.
    """
    started = time.monotonic()
    config = load_config()
    with database(config) as connection:
        with connection.transaction():
            unfinished = {
                unfinished.rule_set.name: unfinished.rule_set for unfinished in recompute.unfinished(connection)
            }
            active = {rule_set.name: rule_set for rule_set in recompute.active(connection)}
        if name not in unfinished and name not in active:
            raise ReplyrateError(f"{name} is not active; `replyrate rules activate {name}` computes and shows it")
        rule_set = unfinished.get(name) or active[name]
        if name not in unfinished or from_day is not None or to_day is not None:
            recompute.start(connection, rule_set, _day(from_day), _day(to_day))
        since = clock(connection)
        with ProgressBars() as report:
            companies = follow(connection, name, report, archive_folder(config.aggregator))
        corrections = recompute.corrections_since(connection, name, since)
    seconds = round(time.monotonic() - started, 1)
    if json_:
        print_json({"rule_set": name, "companies": companies, "corrections": corrections, "seconds": seconds})
    else:
        errors.print(f"{name}: {companies} companies recomputed, {corrections} corrections; {seconds} s.", markup=False)


def follow(
    connection: psycopg.Connection, name: str, report: ReportProgress, archive: ArchiveFolder | None = None
) -> int:
    """Help with the recompute until its numbers are shown; returns its number of companies."""
    companies = 0
    while True:
        progress = next((stored for stored in recompute.progress(connection) if stored["rule_set"] == name), None)
        if progress is None:
            return companies
        companies = progress["companies"]
        report("companies", progress["done"], companies)
        if not recompute.step(connection, archive=archive) and not recompute.publish(connection):
            time.sleep(PAUSE_SECONDS)  # Another process is computing the remaining companies.


def _day(at: datetime | None) -> date | None:
    return None if at is None else at.date()
