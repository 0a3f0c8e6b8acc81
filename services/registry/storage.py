"""What the database keeps: rows, bytes and growth of each table, what bounds it, and for how long the disk lasts.

What bounds a table is data (schemas/storage.toml). Growth is the average since Postgres' statistics began: rows inserted
less rows deleted, at the present bytes per row. A table bounded by the horizon stops growing when the horizon is full.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any, Final

import psycopg

from services.common.postgres import Statements, load_statements
from services.common.tables import read_table

SQL: Final = load_statements("services.registry", "storage.sql")


@dataclass(frozen=True, slots=True)
class Bound:
    """What limits the number of rows of a table. `grows`: with the size of the installation or with time."""

    code: str
    grows: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class StoredTable:
    """One table with its partitions and indexes. Sizes in bytes."""

    name: str
    rows: int
    table_bytes: int
    index_bytes: int
    rows_a_day: float
    bound: Bound

    @property
    def bytes(self) -> int:
        """Size of table and indexes."""
        return self.table_bytes + self.index_bytes

    @property
    def bytes_a_day(self) -> float:
        """Growth at the present size of a row; 0 for a queue, whose rows come and go."""
        return self.rows_a_day * self.bytes / self.rows if self.rows and self.bound.grows else 0.0


@dataclass(frozen=True, slots=True)
class StoredArchive:
    """The Parquet files of the archive (docs/archive.md), with the first and the last month of their units."""

    files: int
    inquiries: int
    bytes: int
    first_month: date | None
    last_month: date | None


@dataclass(frozen=True, slots=True)
class Storage:
    """The whole database. `days`: for how long its growth has been counted."""

    tables: tuple[StoredTable, ...]
    bytes: int
    days: float
    archive: StoredArchive

    @property
    def bytes_a_day(self) -> float:
        """Growth of all tables."""
        return sum(table.bytes_a_day for table in self.tables)

    def days_until_full(self, disk_bytes: int) -> float | None:
        """Days until the database fills a disk of this size; None when it does not grow."""
        return max(0.0, disk_bytes - self.bytes) / self.bytes_a_day if self.bytes_a_day else None


@cache
def bounds() -> Mapping[str, Bound]:
    """What bounds each table: schemas/storage.toml."""
    data = read_table("schemas", "storage.toml")
    by_code = {code: Bound(code, entry["grows"], entry["en"]) for code, entry in data["bounds"].items()}
    return {name: by_code[code] for name, code in data["tables"].items()}


def measure(connection: psycopg.Connection) -> Storage:
    """Read sizes and statistics. TransientError when Postgres is away."""
    sql = Statements(connection, SQL)
    database = sql.one("database")
    archive = sql.one("archive")
    assert database is not None and archive is not None
    return Storage(
        tuple(_table(stored, database["days"]) for stored in sql.all("tables")),
        database["bytes"],
        database["days"],
        StoredArchive(**archive),
    )


def _table(stored: Mapping[str, Any], days: float) -> StoredTable:
    return StoredTable(
        stored["name"], stored["rows"] or 0, stored["table_bytes"], stored["index_bytes"],
        (stored["rows_added"] or 0) / days, bounds()[stored["name"]],
    )  # fmt: skip
