"""Postgres: connections with limits on every wait, errors as ours, statements from .sql files.

A .sql file holds named statements: a line `-- name: …`, lines `-- …` that describe it, the statement. Parameters are
psycopg's (`%(name)s`). No value is ever formatted into a statement.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, LiteralString, cast

import psycopg
from psycopg import conninfo, errors
from psycopg.rows import dict_row

from services.common.connection_pool import ConnectionPool
from services.common.errors import ConfigError, TransientError

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 120

FETCHER_CONNECTIONS = 7
"""Connections of a fetcher with the defaults: two that its threads share and the health pages' (REPLYRATE_FETCHER__CONNECTIONS), and
four for connect requests (REPLYRATE_FETCHER__CONNECT_WORKERS)."""
AGGREGATOR_CONNECTIONS = 4
"""Connections of an aggregator: ingest, refresh, health pages, watermark."""
PORTAL_CONNECTIONS = 9
"""Most connections of a portal with the defaults: those of its requests (REPLYRATE_PORTAL__CONNECTIONS) and the health pages'."""

AWAY: tuple[type[psycopg.Error], ...] = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.SerializationFailure,
    errors.DeadlockDetected,
)
"""Errors that pass: the server stops, restarts, fails over or is full, or two transactions conflicted."""


def connect(dsn: str, application_name: str, *, statement_seconds: float = STATEMENT_SECONDS) -> psycopg.Connection:
    """A connection in autocommit mode (use `with connection.transaction()`), in UTC, with limits on every wait.

    TransientError when the server cannot be reached, ConfigError when the DSN cannot be parsed or is refused.
    """
    try:
        conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        # The library's text quotes the DSN, which contains a password.
        raise ConfigError(
            "REPLYRATE_POSTGRES__DSN cannot be parsed; write postgresql://user:password@host:port/database"
        ) from None
    milliseconds = int(statement_seconds * 1000)
    try:
        return psycopg.connect(
            dsn,
            autocommit=True,
            application_name=application_name,
            connect_timeout=CONNECT_SECONDS,
            target_session_attrs="read-write",
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=30_000,
            options=(
                f"-c timezone=UTC -c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
                f" -c idle_in_transaction_session_timeout={milliseconds} -c client_min_messages=warning"
                # Statements here read a few rows; on large tables compiling one took ten times as long as running it.
                " -c jit=off"
            ),
        )
    except (errors.InvalidPassword, errors.InvalidAuthorizationSpecification, errors.InvalidCatalogName) as error:
        raise ConfigError(
            f"Postgres refuses REPLYRATE_POSTGRES__DSN ({error.sqlstate}); check user, password and database"
        ) from None
    except psycopg.OperationalError as error:
        raise _connect_failure(error) from None


def _connect_failure(error: psycopg.OperationalError) -> Exception:
    text = str(error)
    if "password authentication failed" in text or re.search(r'(database|role) ".*" does not exist', text):
        return ConfigError("Postgres refuses REPLYRATE_POSTGRES__DSN; check user, password and database")
    return TransientError("Postgres does not answer; check that it runs and that REPLYRATE_POSTGRES__DSN names it")


def connections(*, fetchers: int, aggregators: int, portals: int) -> int:
    """Connections of all services together, whatever the number of workers. A test counts them on a server."""
    return fetchers * FETCHER_CONNECTIONS + aggregators * AGGREGATOR_CONNECTIONS + portals * PORTAL_CONNECTIONS


def clock(connection: psycopg.Connection) -> datetime:
    """The current time of the server, also inside a transaction: one clock for all that write into one database."""
    result = connection.execute("SELECT clock_timestamp()").fetchone()
    assert result is not None
    now: datetime = result[0]
    return now


@contextmanager
def translate() -> Iterator[None]:
    """Turn errors that pass into TransientError; the server's own text stays out, since it may quote values."""
    try:
        yield
    except AWAY as error:
        raise TransientError(f"Postgres is not reachable or busy ({error.sqlstate or type(error).__name__})") from error


ConnectionSource = psycopg.Connection | ConnectionPool
"""Where statements are executed: over one connection, or over any of a pool."""


def borrowed(source: ConnectionSource) -> AbstractContextManager[psycopg.Connection]:
    """The connection itself, or one of the pool while the block runs."""
    return nullcontext(source) if isinstance(source, psycopg.Connection) else source.connection()


class Statements:
    """Named statements over one connection (autocommit) or a pool; a row maps its column names.

    With a single connection not to be shared by threads.
    """

    def __init__(
        self,
        connection: ConnectionSource,
        statements: Mapping[str, LiteralString],
        *,
        translates: bool = True,
        **constants: Any,
    ) -> None:
        """`translates` False: psycopg's errors pass, for a caller that distinguishes them. `constants`: values of parameters
        that are the same in every call."""
        self.connection = connection
        self._statements = statements
        self._errors = translate if translates else nullcontext
        self._constants = constants

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction: the statements inside take effect together or not at all."""
        with self._errors(), self._borrowed() as connection, connection.transaction():
            yield

    def run(self, name: str, **values: Any) -> None:
        """Execute a statement whose rows, if any, are not needed."""
        with self._errors(), self._borrowed() as connection:
            connection.execute(self._statements[name], {**self._constants, **values})

    def one(self, name: str, **values: Any) -> dict[str, Any] | None:
        """The first row; None when there is none."""
        with self._errors(), self._borrowed() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(self._statements[name], {**self._constants, **values}).fetchone()

    def all(self, name: str, **values: Any) -> list[dict[str, Any]]:
        """Every row."""
        with self._errors(), self._borrowed() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(self._statements[name], {**self._constants, **values}).fetchall()

    def tuples(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        """Every row as a tuple of its columns."""
        with self._errors(), self._borrowed() as connection:
            return connection.execute(self._statements[name], {**self._constants, **values}).fetchall()

    def _borrowed(self) -> AbstractContextManager[psycopg.Connection]:
        return borrowed(self.connection)


_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)\s*$", re.MULTILINE)


@cache
def load_statements(package: str, file: str) -> Mapping[str, LiteralString]:
    """The named statements of `file` inside `package`, each with its comment lines.

    ConfigError when a statement has no description or a name is used twice: the file is part of the program.
    """
    text = resources.files(package).joinpath(file).read_text("utf-8")
    parts = _NAME.split(text)
    statements: dict[str, LiteralString] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in statements:
            raise ConfigError(f"{package}/{file}: the name {name} is used twice")
        if not body.lstrip("\n").startswith("-- "):
            raise ConfigError(f"{package}/{file}: statement {name} has no description")
        # Text of our own package, never of a user, so as literal as a string in this file.
        statements[name] = cast(LiteralString, body.strip())
    return statements
