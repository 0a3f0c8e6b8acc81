"""Connection tests: each is counted before it is made, and its result is stored. SQL is in connection_tests.sql.

The limits keep people from using the connection test to look for servers or to guess passwords.
"""

from datetime import datetime

import psycopg

from services.common.hashing import Hasher
from services.common.postgres import Statements, load_statements
from services.registry.companies import Companies
from services.registry.errors import RegistryError

SQL = load_statements("services.registry", "connection_tests.sql")
TRIES_PER_HOUR = 5
"""Failed connection tests of one mailbox; tests that pass are not limited."""
COMPANY_TRIES_PER_HOUR = 30
"""Failed connection tests of all mailboxes of a company together."""


class TooManyTests(RegistryError):
    """Too many tests of a mailbox, or of the mailboxes of a company, failed; the next one may start at `again_at`.

    `last_code`: why the last test of this mailbox by this company failed; None without one.
    """

    def __init__(self, again_at: datetime, last_code: str | None) -> None:
        self.again_at = again_at
        self.last_code = last_code
        super().__init__(f"too many failed tries in the last hour; try again at {again_at:%H:%M} UTC")


class ConnectionTests:
    """Reads and writes registry.connection_tests over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, hasher: Hasher) -> None:
        self._sql = Statements(connection, SQL)
        self._companies = Companies(connection)
        self._hasher = hasher

    def begin(self, company_id: str, user: str) -> tuple[int, datetime]:
        """Count a test; returns its number and the database's now. TooManyTests when a limit of the last hour is reached.

        A test counts against the user name, whatever host is typed, and as failed until it has passed.
        """
        self._companies.check_exists(company_id)
        values = {"company_id": company_id, "login_hash": self._hasher.mailbox("", user)}
        with self._sql.transaction():
            self._sql.run("lock_tests", **values)
            failed = self._sql.one("failed_tests", **values)
            assert failed is not None
            if failed["of_login"] >= TRIES_PER_HOUR:
                raise TooManyTests(failed["login_again_at"], failed["login_code"])
            if failed["of_company"] >= COMPANY_TRIES_PER_HOUR:
                raise TooManyTests(failed["company_again_at"], failed["login_code"])
            test = self._sql.one("begin_test", **values)
            assert test is not None
        return test["test_id"], test["tested_at"]

    def end(self, test_id: int, stage: str | None, code: str, detail: str) -> None:
        """Store the result of a test; `detail` is for the operator."""
        self._sql.run("end_test", test_id=test_id, stage=stage, code=code, detail=detail or None)
