"""Migrations: bring a database to the schema of this release, by the files of schemas/database, in order, each once.

Files are plain SQL in dbmate's format (`-- migrate:up`, `-- migrate:down`). One runner works at a time (advisory
lock); each file runs in a transaction of its own together with its row in `replyrate.migrations`. A file that changed
after it was applied, or that this release does not know, is an error that an operator must resolve. A file whose up part
says `-- additive: yes` removes nothing that an older release uses, so services of that release continue during an upgrade.

`-- migrate:up transaction:false` runs each statement by itself, as CREATE INDEX CONCURRENTLY needs: writers go on while the index is
built. A statement ends with a `;` at the end of a line. Such a file is run again from its start after a failure, so it begins with
`DROP INDEX CONCURRENTLY IF EXISTS`, which also removes the invalid index that a failed attempt leaves.
"""

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import resources
from logging import getLogger
from typing import LiteralString

import psycopg
from psycopg import errors

from services.common.errors import ConfigError, TransientError
from services.common.postgres import AWAY, is_pooled, translate

log = getLogger(__name__)

LOCK = 7_233_116_021
"""Key of the advisory lock; any constant that nothing else in the database uses."""
LOCK_SECONDS = 5
ATTEMPTS = 12
PAUSE_SECONDS = 5.0
"""How long a migration waits for a lock on a table, how often it tries, and the pause in between."""
RUNNER_SECONDS = 0.2
"""How often a runner looks whether another one has ended."""
_FILE = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_UP = "-- migrate:up"
_DOWN = "-- migrate:down"
_NO_TRANSACTION = " transaction:false\n"
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


RECORD: LiteralString = "INSERT INTO replyrate.migrations (number, name, sha256, additive) VALUES (%s, %s, %s, %s)"
LOCK_HOLDERS: LiteralString = """
SELECT activity.pid, activity.application_name, activity.usename, to_char(activity.xact_start, 'YYYY-MM-DD HH24:MI:SS TZ')
FROM pg_stat_activity activity
WHERE activity.pid <> pg_backend_pid() AND activity.pid IN (
    SELECT lock.pid FROM pg_locks lock
    JOIN pg_class class ON class.oid = lock.relation JOIN pg_namespace namespace ON namespace.oid = class.relnamespace
    WHERE lock.granted AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND namespace.nspname !~ '^(pg_|information_schema$)'
)
ORDER BY activity.xact_start NULLS LAST LIMIT 5
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name, checksum and the statements of its up part."""

    number: int
    name: str
    sha256: str
    up: LiteralString
    in_transaction: bool = True

    @property
    def statements(self) -> list[LiteralString]:
        """What is sent to the server at a time: the whole file, or each of its statements."""
        if self.in_transaction:
            return [self.up]
        return [f"{statement};" for statement in self.up.split(";\n") if statement.strip()]

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
        in_transaction = not up.startswith(_NO_TRANSACTION)
        migrations.append(
            Migration(
                int(matched[1]),
                matched[2],
                hashlib.sha256(text.encode()).hexdigest(),
                up if in_transaction else up.removeprefix(_NO_TRANSACTION),
                in_transaction,
            )
        )
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


def migrate(
    connection: psycopg.Connection, progress: Callable[[str], None], pause: Callable[[float], None] = time.sleep
) -> int:
    """Apply the missing migrations; returns their number. Runners that start together wait for each other.

    `progress` is called with the name of each file before it runs. ConfigError as in `pending`, and behind a pooler, since the lock
    belongs to a session; a failed file leaves no trace.
    """
    if is_pooled(connection):
        raise ConfigError(
            "migrations need a session of their own, and REPLYRATE_POSTGRES__DSN leads to a connection pooler;"
            " write the address of Postgres itself for this command"
        )
    timeouts = [_set_timeout(connection, name, "0") for name in ("statement_timeout", "lock_timeout")]
    with translate():
        while connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone() != (True,):
            # A statement that waits for the lock would keep the other runner waiting: CREATE INDEX CONCURRENTLY waits for every
            # statement that began before it.
            time.sleep(RUNNER_SECONDS)
    try:
        _set_timeout(connection, "lock_timeout", f"{LOCK_SECONDS}s")
        _with_retries(connection, [CREATE], pause)
        todo = pending(connection)
        for migration in todo:
            progress(f"{migration.number:04}_{migration.name}")
            try:
                _with_retries(connection, migration.statements, pause, migration)
            except psycopg.errors.InsufficientPrivilege as error:
                raise ConfigError(
                    f"migration {migration.number:04} ({migration.name}) is not allowed for this database user"
                    f" ({error.diag.message_primary}); run `replyrate migrate` as the owner of the database"
                ) from None
    finally:
        with translate():
            connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
        for name, value in zip(("statement_timeout", "lock_timeout"), timeouts, strict=True):
            _set_timeout(connection, name, value)
    return len(todo)


def _set_timeout(connection: psycopg.Connection, name: str, value: str) -> str:
    """Set a timeout of the session; returns the value before."""
    with translate():
        before = connection.execute(
            "SELECT current_setting(%(name)s), set_config(%(name)s, %(value)s, false)", {"name": name, "value": value}
        ).fetchone()
    assert before is not None
    return str(before[0])


def _with_retries(
    connection: psycopg.Connection,
    statements: Sequence[LiteralString],
    pause: Callable[[float], None],
    migration: Migration | None = None,
) -> None:
    """Execute statements, with the row of their migration, in one transaction unless the migration wants none; again while another
    session has a lock on a table.

    A statement that waits for a lock makes every later statement on that table wait as well. So it waits a few seconds only, and
    the services go on in the pauses. TransientError that names the other sessions after the last attempt.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with connection.transaction() if migration is None or migration.in_transaction else nullcontext():
                for statement in statements:
                    connection.execute(statement)
                if migration is not None:
                    connection.execute(RECORD, (migration.number, migration.name, migration.sha256, migration.additive))
            return
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            name = (
                "the table of migrations"
                if migration is None
                else f"migration {migration.number:04} ({migration.name})"
            )
            text = f"{name} waits for locks of {_lock_holders(connection)}; it is tried again, or end that session"
            if attempt == ATTEMPTS:
                raise TransientError(text) from None
            log.warning("%s", text, extra={"action": "dependency-away", "dependency": "postgres", "attempt": attempt})
            pause(PAUSE_SECONDS)
        except AWAY:
            with translate():
                raise


def _lock_holders(connection: psycopg.Connection) -> str:
    """The other sessions that have locks on our tables, the oldest transaction first; never the text of a query."""
    with translate():
        holders = connection.execute(LOCK_HOLDERS).fetchall()
    return (
        "; ".join(
            f"pid {pid} ({application or 'no application name'}, user {user}, since {since or 'an unknown time'})"
            for pid, application, user, since in holders
        )
        or "a session that has ended meanwhile"
    )


def verify(connection: psycopg.Connection) -> None:
    """Return if the database has the schema of this release, or of a newer one that only added to it; otherwise ConfigError
    with the command that fixes it."""
    missing = pending(connection)
    if missing:
        raise ConfigError(f"{len(missing)} migration(s) are missing in the database; run `replyrate migrate`")
