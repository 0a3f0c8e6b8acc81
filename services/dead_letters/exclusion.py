"""One replay or purge at a time, of all consoles and command lines: two would choose the same letters, and send each of them.

The lock is one of Postgres and belongs to a transaction, so it works behind a pooler too, and ends with its process. SQL is in exclusion.sql.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final

import psycopg

from services.common.errors import TransientError
from services.common.postgres import Statements, connect, load_statements

SQL: Final = load_statements("services.dead_letters", "exclusion.sql")


class LettersBusy(TransientError):
    """Another replay or purge is running."""

    def __init__(self) -> None:
        super().__init__(
            "another replay or purge of dead letters is running, in a console or at a command line; nothing was done."
            " Try again when it has ended"
        )


@contextmanager
def exclusive(dsn: str, application_name: str) -> Iterator[Callable[[], None]]:
    """Excludes other replays and purges; open letters must be chosen inside.

    Yields a check to be called before each batch: TransientError when the lock is lost because Postgres is away. LettersBusy,
    TransientError.
    """
    with closing(connect(dsn, application_name)) as connection:
        connection.autocommit = False
        statements = Statements(connection, SQL)
        lock = statements.one("lock")
        if lock is None or not lock["locked"]:
            raise LettersBusy
        yield lambda: statements.run("check")
        # What was done is done, also when Postgres is away by now; the server ends the lock then.
        with suppress(psycopg.Error):
            connection.rollback()
