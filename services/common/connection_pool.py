"""A few connections to Postgres that all threads of a process share.

A connection is lent for one statement or one transaction and carries no session state from one borrower to the next, so the
number of connections does not depend on the number of threads, and a pooler in transaction mode may stand in between.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg


class ConnectionPool:
    """Lends at most `size` connections, opened when they are first needed. Safe to use from any thread.

    A thread that borrows while it has one gets the same connection: the statements of a transaction go over it.
    """

    def __init__(self, open_connection: Callable[[], psycopg.Connection], size: int) -> None:
        """`open_connection` raises TransientError when the server cannot be reached."""
        self._open_connection = open_connection
        self._idle: list[psycopg.Connection] = []
        self._permits = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._lent = threading.local()

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        """A connection while the block runs; waits until one is free. What opening one raises."""
        borrowed: psycopg.Connection | None = getattr(self._lent, "connection", None)
        if borrowed is not None:
            yield borrowed
            return
        with self._permits:
            connection = self._idle_connection() or self._open_connection()
            self._lent.connection = connection
            try:
                yield connection
            finally:
                self._lent.connection = None
                self._take_back(connection)

    def close(self) -> None:
        """Close the connections that are not lent."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _idle_connection(self) -> psycopg.Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _take_back(self, connection: psycopg.Connection) -> None:
        if connection.closed:
            # The server went away: the idle connections lead nowhere either.
            self.close()
            return
        if connection.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)
