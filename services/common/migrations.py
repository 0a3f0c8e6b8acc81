"""Migrations: bring a database to the schema of this release, by the files of schemas/database, in order, each once.

Files are plain SQL in dbmate's format (`-- migrate:up`, `-- migrate:down`). One runner works at a time (advisory
lock); each file runs in a transaction of its own together with its row in `replyrate.migrations`. A file that changed
after it was applied, or that this release does not know, is an error that an operator must resolve. A file whose up part
says `-- additive: yes` removes nothing that an older release uses, so services of that release continue during an upgrade.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import LiteralString

import psycopg

from services.common.errors import ConfigError
from services.common.postgres import translate

LOCK = 7_233_116_021
"""Key of the advisory lock; any constant that nothing else in the database uses."""
_FILE = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_UP = "-- migrate:up"
_DOWN = "-- migrate:down"
ADDITIVE = "-- additive: yes\n"
"""The mark in the up part of a file that only adds."""

CREATE: LiteralString = """
CREATE SCHEMA IF NOT EXISTS replyrate;
CREATE TABLE IF NOT EXISTS replyrate.migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE replyrate.migrations ADD COLUMN IF NOT EXISTS additive boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN replyrate.migrations.additive IS 'Whether a release that does not know the file can go on.';
COMMENT ON TABLE replyrate.migrations IS 'Files of schemas/database that were applied here, with their checksums.';
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name, checksum and the statements of its up part."""

    number: int
    name: str
    sha256: str
    up: LiteralString

    @property
    def additive(self) -> bool:
        """Whether older releases can continue after it."""
        return ADDITIVE in self.up


def available() -> list[Migration]:
    """The migrations of this release in order. ConfigError when numbers are not 1, 2, 3, … or a file has no up part."""
    migrations = []
    for entry in resources.files("schemas").joinpath("database").iterdir():
        if (matched := _FILE.match(entry.name)) is None:
            continue
        text = entry.read_text("utf-8")
        head, marker, body = text.partition(_UP)
        if not marker or head.strip():
            raise ConfigError(f"schemas/database/{entry.name} must start with the line `{_UP}`")
        up: LiteralString = body.partition(_DOWN)[0]
        migrations.append(Migration(int(matched[1]), matched[2], hashlib.sha256(text.encode()).hexdigest(), up))
    migrations.sort(key=lambda migration: migration.number)
    if [migration.number for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise ConfigError("the files of schemas/database must be numbered 0001, 0002, … without a gap")
    return migrations


def applied(connection: psycopg.Connection) -> dict[int, tuple[str, str, bool]]:
    """The migrations of this database: number → (name, sha256, additive); empty for one that was never migrated."""
    with translate():
        if connection.execute("SELECT to_regclass('replyrate.migrations')").fetchone() == (None,):
            return {}
        # As JSON, since a database that an older release migrated has no such column yet.
        rows = connection.execute(
            "SELECT number, name, sha256, coalesce((to_jsonb(m) ->> 'additive')::boolean, false)"
            " FROM replyrate.migrations m ORDER BY number"
        ).fetchall()
    return {number: (name, sha256, additive) for number, name, sha256, additive in rows}


def pending(connection: psycopg.Connection) -> list[Migration]:
    """The migrations still to run. ConfigError when the database and this release contradict each other."""
    done = applied(connection)
    ours = available()
    problems = [
        f"migration {number:04} ({name}) is in the database, but not in this release;"
        " run the release that it belongs to, or a newer one"
        for number, (name, _, additive) in done.items()
        if number not in {migration.number for migration in ours} and not additive
    ]
    problems += [
        f"migration {migration.number:04} ({migration.name}) was changed after it was applied;"
        " restore the file and write a new migration"
        for migration in ours
        if migration.number in done and done[migration.number][1] != migration.sha256
    ]
    if problems:
        raise ConfigError(problems)
    return [migration for migration in ours if migration.number not in done]


def migrate(connection: psycopg.Connection, progress: Callable[[str], None]) -> int:
    """Apply the missing migrations; returns their number. Runners that start together wait for each other.

    `progress` is called with the name of each file before it runs. ConfigError as in `pending`; a failed file leaves no trace.
    """
    with translate():
        connection.execute("SELECT set_config('lock_timeout', '0', false)")
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    try:
        with translate(), connection.transaction():
            connection.execute(CREATE)
        todo = pending(connection)
        for migration in todo:
            progress(f"{migration.number:04}_{migration.name}")
            try:
                with translate(), connection.transaction():
                    connection.execute(migration.up)
                    connection.execute(
                        "INSERT INTO replyrate.migrations (number, name, sha256, additive) VALUES (%s, %s, %s, %s)",
                        (migration.number, migration.name, migration.sha256, migration.additive),
                    )
            except psycopg.errors.InsufficientPrivilege as error:
                raise ConfigError(
                    f"migration {migration.number:04} ({migration.name}) is not allowed for this database user"
                    f" ({error.diag.message_primary}); run `replyrate migrate` as the owner of the database"
                ) from None
    finally:
        with translate():
            connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
            connection.execute("RESET lock_timeout")
    return len(todo)


def verify(connection: psycopg.Connection) -> None:
    """Return if the database has the schema of this release, or of a newer one that only added to it; otherwise ConfigError
    with the command that fixes it."""
    missing = pending(connection)
    if missing:
        raise ConfigError(f"{len(missing)} migration(s) are missing in the database; run `replyrate migrate`")
