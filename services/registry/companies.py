"""Companies of the platform. SQL is in companies.sql."""

import psycopg

from services.common.postgres import Statements, load_statements
from services.registry.errors import RegistryError
from services.registry.refusals import reason, words

SQL = load_statements("services.registry", "companies.sql")


class Companies:
    """Reads and writes registry.companies over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)

    def add(self, company_id: str) -> bool:
        """Register a company; False when it is registered already."""
        check_id("company", company_id)
        return self._sql.one("add_company", company_id=company_id) is not None

    def check_exists(self, company_id: str) -> None:
        """RegistryError when a company is not registered."""
        if self._sql.one("company", company_id=company_id) is None:
            raise RegistryError(reason("company-unknown", company_id=company_id), "company-add", company_id=company_id)


def check_id(what: str, text: str) -> None:
    """RegistryError when `text` cannot be the id of a company or an account."""
    if not 1 <= len(text) <= 128 or any(char < " " or "\x7f" <= char <= "\x9f" for char in text):
        raise RegistryError(reason("id-malformed", what=words()[what]))
