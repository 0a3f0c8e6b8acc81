"""What the web process may see in Postgres: nothing by itself, and with a token what the token allows (docs/decisions/0070)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from services.common.connection_pool import ConnectionPool
from services.common.postgres import connect, translate

AUTHORISE: Final = "SELECT set_config('replyrate.token', %s, true)"
"""For this transaction only: the next one that uses the connection has no token."""
STATEMENT_SECONDS: Final = 15.0
"""A page that takes longer has lost its reader."""


class TokenDatabase:
    """Transactions that see what a token allows. Safe to use from any thread."""

    def __init__(self, dsn: str, connections: int, application_name: str = "replyrate-portal") -> None:
        """At most `connections`; a request waits until one is free."""
        self._pool = ConnectionPool(
            lambda: connect(dsn, application_name, statement_seconds=STATEMENT_SECONDS), connections
        )

    @contextmanager
    def transaction(self, token: str) -> Iterator[psycopg.Connection]:
        """A transaction with the rights of a token; with one that is unknown, or "", no row of a company is visible.

        TransientError when Postgres is away.
        """
        with translate(), self._pool.connection() as connection, connection.transaction():
            connection.execute(AUTHORISE, (token,))
            yield connection

    def close(self) -> None:
        """Close the connections that no request uses."""
        self._pool.close()
