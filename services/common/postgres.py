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
from typing import Any, Final, LiteralString, cast

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

MARK: Final = "replyrate.session"
"""A parameter of our own that every session begins with. A pooler in transaction mode drops what a client begins with."""
BEGUN: Final[LiteralString] = (
    "SELECT current_setting('replyrate.session', true) = 'direct', current_setting('timezone'),"
    " current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')"
)


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
    try:
        connection = psycopg.connect(
            dsn,
            autocommit=True,
            application_name=application_name,
            connect_timeout=CONNECT_SECONDS,
            target_session_attrs="read-write",
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=30_000,
            options=" ".join(f"-c {name}={value}" for name, value in _parameters(statement_seconds).items()),
        )
    except (errors.InvalidPassword, errors.InvalidAuthorizationSpecification, errors.InvalidCatalogName) as error:
        raise ConfigError(
            f"Postgres refuses REPLYRATE_POSTGRES__DSN ({error.sqlstate}); check user, password and database"
        ) from None
    except psycopg.OperationalError as error:
        raise _connect_failure(error) from None
    try:
        _adapt_to_pooler(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _parameters(statement_seconds: float) -> dict[str, str]:
    """What every session begins with."""
    milliseconds = str(int(statement_seconds * 1000))
    return {
        "timezone": "UTC",
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        "client_min_messages": "warning",
        # Statements here read a few rows; on large tables compiling one took ten times as long as running it.
        "jit": "off",
        MARK: "direct",
    }


def is_pooled(connection: psycopg.Connection) -> bool:
    """Whether a pooler in transaction mode is in between: what a session keeps between transactions may then be another's."""
    return connection.prepare_threshold is None


def _adapt_to_pooler(connection: psycopg.Connection) -> None:
    """Find out whether a pooler is in between, and prepare no statements then: another session may get the next transaction.

    ConfigError when the server's own defaults lack what the pooler dropped.
    """
    with translate():
        begun = connection.execute(BEGUN, prepare=False).fetchone()
    assert begun is not None
    is_direct, zone, *timeouts = begun
    if is_direct:
        return
    connection.prepare_threshold = None
    if zone != "UTC" or "0" in timeouts:
        raise ConfigError(
            "REPLYRATE_POSTGRES__DSN leads to a connection pooler, and the login has no defaults for what it drops; run"
            " `replyrate init` again, or ALTER ROLE … SET timezone = 'UTC', statement_timeout = '120s',"
            " idle_in_transaction_session_timeout = '120s' (docs/install.md)"
        )


def _connect_failure(error: psycopg.OperationalError) -> Exception:
    text = str(error)
    if "startup parameter" in text:
        return ConfigError(
            "The connection pooler refuses what a session begins with; set `ignore_startup_parameters = options` in"
            " pgbouncer.ini (docs/install.md)"
        )
    # The last two are PgBouncer's.
    if re.search(
        r'password authentication failed|(database|role) ".*" does not exist|SASL authentication failed|no such user',
        text,
    ):
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
