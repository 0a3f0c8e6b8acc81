"""The folder of the archive: Parquet files, written completely or not at all.

    _archive.json                                        which database it belongs to
    company_group=07/month=2026-03/7f3a….parquet         units of companies of a group; readable by DuckDB and others

A file is written under another name, flushed to the disk and renamed. Whether it counts is decided by Postgres alone
(ledger.archive_files), so what a killed process leaves is removed later.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from services.aggregator.archive.unit_rows import INQUIRY, NESTED, SCHEMA_VERSION, Row
from services.common.errors import ReplyrateError, TransientError
from services.common.settings.sections import AggregatorSettings

IDENTITY: Final = "_archive.json"
_FACT_TYPES: Final = {
    "at": "instant", "received_at": "instant", "replied_at": "instant", "first_reply_at": "instant", "changed_at": "instant",
    "due_at": "instant", "own_day": "day", "unit_day": "day", "covered": "boolean", "revision": "integer", "provisional_at": "instant",
    "provisional_revision": "integer", "reply_seconds": "seconds",
    "buyer_addresses": "texts", "message_ids": "texts", "reply_addresses": "texts",
}  # fmt: skip
"""Types of columns; all others are texts."""


class ArchiveUnreadable(ReplyrateError):
    """A file of the archive is missing, damaged, or this process has no folder of the archive."""


class ArchiveUnusable(TransientError):
    """The folder of the archive is not there, belongs to another database, is full or refuses this user."""


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A file that was written completely. `path` is relative to the folder."""

    file_id: uuid.UUID
    path: str
    bytes: int
    sha256: str


class ArchiveFolder:
    """The folder with the files of one database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def verify(self, archive_id: str) -> None:
        """ArchiveUnusable unless this is the folder of this database. Called before each change: a volume can go away."""
        try:
            stored_id = json.loads((self.folder / IDENTITY).read_text("utf-8")).get("archive_id")
        except FileNotFoundError:
            raise ArchiveUnusable(
                f"REPLYRATE_AGGREGATOR__ARCHIVE_DIR: {self.folder} lacks the files of this database; mount the volume on"
                " which they are"
            ) from None
        except (OSError, ValueError, AttributeError) as error:
            raise self._unusable(error) from None
        if stored_id != archive_id:
            raise ArchiveUnusable(
                f"REPLYRATE_AGGREGATOR__ARCHIVE_DIR: {self.folder} is the archive of another database; give each database a"
                " folder of its own"
            )

    def begin(self, archive_id: str) -> None:
        """Make the folder that of a database without files in the archive; one that is a database's already stays as it is."""
        identity = self.folder / IDENTITY
        try:
            if not identity.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                _write_durably(identity, json.dumps({"archive_id": archive_id}).encode())
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> ArchiveUnusable:
        return ArchiveUnusable(
            f"REPLYRATE_AGGREGATOR__ARCHIVE_DIR: {self.folder} cannot be used ({type(error).__name__}); create the folder and"
            " let this user write there"
        )

    def write(self, company_group: int, month: date, rows: Sequence[Row]) -> ArchiveFile:
        """Write a new file. ArchiveUnusable when the disk refuses it; then there is no file, or one that does not count."""
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.Table.from_pylist(list(rows), schema=_schema())
        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink, compression="zstd", row_group_size=10_000)
        content = sink.getvalue().to_pybytes()
        file_id = uuid.uuid4()
        path = f"company_group={company_group:02d}/month={month:%Y-%m}/{file_id}.parquet"
        try:
            target = self.folder / path
            # Not the folder itself: without it, its volume is away.
            for parent in (target.parent.parent, target.parent):
                if not parent.exists():
                    parent.mkdir(exist_ok=True)
                    _flush_folder(parent.parent)
            _write_durably(target, content)
        except OSError as error:
            raise ArchiveUnusable(
                f"the archive cannot be written ({error.strerror or type(error).__name__}); free space in"
                f" {self.folder} or let this user write there"
            ) from None
        return ArchiveFile(file_id, path, len(content), hashlib.sha256(content).hexdigest())

    def read(self, path: str, sha256: str, companies: Iterable[str]) -> list[Row]:
        """The rows of some companies in a file. ArchiveUnreadable when the file is missing or not what was written."""
        import pyarrow
        import pyarrow.parquet

        try:
            content = (self.folder / path).read_bytes()
        except OSError as error:
            raise ArchiveUnreadable(
                f"{self.folder / path} cannot be read ({type(error).__name__}); mount the volume of the archive, or restore"
                " the file from the backup"
            ) from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ArchiveUnreadable(f"{self.folder / path} is damaged; restore the file from the backup")
        table = pyarrow.parquet.read_table(
            pyarrow.BufferReader(content), filters=[("company_id", "in", sorted(companies))]
        )
        rows: list[Row] = table.to_pylist()
        return rows

    def paths(self) -> Iterator[str]:
        """Every file of the archive, also unfinished ones."""
        for file in self.folder.glob("company_group=*/month=*/*"):
            yield str(file.relative_to(self.folder))

    def written_at(self, path: str) -> datetime | None:
        """When a file was written; None when it is not there any more."""
        try:
            return datetime.fromtimestamp((self.folder / path).stat().st_mtime, UTC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from None

    def remove(self, path: str) -> None:
        """Remove a file that no longer counts. What cannot be removed now is removed by a later look."""
        try:
            (self.folder / path).unlink(missing_ok=True)
        except OSError as error:
            raise ArchiveUnusable(f"{self.folder / path} cannot be removed ({type(error).__name__})") from None


def archive_folder(settings: AggregatorSettings) -> ArchiveFolder | None:
    """The folder that the settings name; None without one."""
    return None if settings.archive_dir is None else ArchiveFolder(settings.archive_dir)


def _write_durably(target: Path, content: bytes) -> None:
    # Readers of the folder pass over names that begin with a dot or an underscore.
    partial = target.with_name(f".{target.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(target)
    # The names of files are part of their folder, and a new folder's of the one above.
    for folder in (target.parent, target.parent.parent):
        _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _schema() -> Any:
    import pyarrow

    types = {
        "instant": pyarrow.timestamp("us", tz="UTC"),
        "day": pyarrow.date32(),
        "boolean": pyarrow.bool_(),
        "integer": pyarrow.int32(),
        "seconds": pyarrow.decimal128(20, 6),
        "texts": pyarrow.list_(pyarrow.string()),
        "text": pyarrow.string(),
    }

    def field(name: str) -> Any:
        return pyarrow.field(name, types[_FACT_TYPES.get(name, "text")])

    nested = [
        pyarrow.field(name, pyarrow.list_(pyarrow.struct([field(column) for column in columns])))
        for name, columns in NESTED.items()
    ]
    return pyarrow.schema(
        [*(field(name) for name in INQUIRY), *nested], metadata={"replyrate_schema_version": str(SCHEMA_VERSION)}
    )
