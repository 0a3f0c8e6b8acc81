"""`storage`: what the database keeps, how it grows and for how long the disk lasts."""

import re
from dataclasses import asdict
from typing import Final

import click

from services.cli.context import as_json, database, guarded, load_config
from services.cli.output import echo, print_json, print_table
from services.registry import storage

UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE: Final = re.compile(r"^(\d+(?:\.\d+)?)([kMGT]?)B?$")


class Size(click.ParamType):
    """A size like 500GB, in bytes."""

    name = "size"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes."""
        if (matched := _SIZE.match(value)) is None:
            self.fail(f"{value!r} is no size; write a number with kB, MB, GB or TB, like 500GB", param, ctx)
        return int(float(matched[1]) * UNITS[matched[2]])


@click.command("storage")
@click.option("--disk", type=Size(), help="Size of the disk of Postgres, like 500GB: shows when it will be full.")
@as_json
@guarded
def storage_command(disk: int | None, json_: bool) -> None:
    """Show how large each table is and what bounds it.

    Rows, bytes, and growth a day; with --disk also in how many days the disk is full.
    """
    with database(load_config()) as connection:
        stored = storage.measure(connection)
    days_until_full = None if disk is None else stored.days_until_full(disk)
    if json_:
        print_json(
            {
                "tables": [
                    {
                        "table": table.name, "rows": table.rows, "bytes": table.bytes, "table_bytes": table.table_bytes,
                        "index_bytes": table.index_bytes, "rows_a_day": table.rows_a_day, "bytes_a_day": table.bytes_a_day,
                        "bound": table.bound.code, "bounded_by": table.bound.sentence,
                    }
                    for table in stored.tables
                ],
                "database_bytes": stored.bytes, "bytes_a_day": stored.bytes_a_day, "counted_days": stored.days,
                "disk_bytes": disk, "days_until_full": days_until_full, "archive": asdict(stored.archive),
            }
        )  # fmt: skip
        return
    print_table(
        [
            {
                "table": table.name, "rows": f"{table.rows:,}", "bytes": size(table.bytes),
                "growth": size(table.bytes_a_day) if table.bytes_a_day else None, "bounded_by": table.bound.sentence,
            }
            for table in stored.tables
        ],
        {"table": "table", "rows": "rows", "bytes": "size", "growth": "growth a day", "bounded_by": "bounded by"},
    )  # fmt: skip
    echo(
        f"The database has {size(stored.bytes)} and grew by {size(stored.bytes_a_day)} a day"
        f" (the average of {stored.days:.1f} days)."
    )
    if (archive := stored.archive).files:
        echo(
            f"The archive has {archive.inquiries:,} inquiries in {archive.files:,} files of {size(archive.bytes)},"
            f" {archive.first_month:%Y-%m} to {archive.last_month:%Y-%m}."
        )
    if disk is None:
        echo("With --disk SIZE: when a disk of that size will be full.")
    elif days_until_full is None:
        echo("It does not grow, so the disk lasts.")
    else:
        echo(f"A disk of {size(disk)} will be full in {days_until_full:,.0f} days.")


def size(value: float) -> str:
    """A size with a unit, for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
