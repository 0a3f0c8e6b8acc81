"""All that is held about one mailbox, table by table, as schemas/personal_data.toml says what it is.

Sealed values are told by their size, never opened; the tables to look at are those that have a mailbox's id.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from services.common.postgres import translate
from services.imap.folders import folder_text
from services.registry import personal_data
from services.registry.personal_data import PersonalDataTable

FEW: Final = 5
"""A table with more rows of the mailbox is told by its number of rows alone."""


OF_MAILBOX: Final = "t.company_id = %(company_id)s AND t.mailbox_id = %(mailbox_id)s"
BESIDE: Final[Mapping[str, LiteralString]] = {
    "registry.addresses": """EXISTS (
        SELECT FROM registry.mailboxes m WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s
            AND (t.company_id, t.account_id, t.role) = (m.company_id, m.account_id, m.role)
    )""",
    "registry.mailbox_links": """EXISTS (
        SELECT FROM registry.mailboxes m WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s
            AND t.login_hash = m.login_hash AND m.company_id IN (t.company_id, t.other_company_id)
    )""",
    "registry.connection_tests": "t.company_id = %(company_id)s",
}
"""Tables without a mailbox's id, and which of their rows belong to one: the address of its account in its role, the links of
its login; tries of the connection test are told for the whole company, since their hash knows no server."""


@dataclass(frozen=True, slots=True)
class StoredValue:
    """What one table holds; `rows` is None when this user may not read it, `shown` is empty when there are many."""

    table: PersonalDataTable
    rows: int | None
    shown: tuple[Mapping[str, Any], ...] = ()


def companies(connection: psycopg.Connection, mailbox_id: str) -> list[str]:
    """The companies that have a mailbox of this id."""
    with translate():
        rows = connection.execute(
            "SELECT company_id FROM registry.mailboxes WHERE mailbox_id = %s ORDER BY 1", (mailbox_id,)
        ).fetchall()
    return [company_id for (company_id,) in rows]


def look(connection: psycopg.Connection, company_id: str, mailbox_id: str) -> list[StoredValue]:
    """What each table with a mailbox's id holds of this one, registry first."""
    tables = personal_data.load().tables
    found = [
        _look(connection, table, company_id, mailbox_id, OF_MAILBOX)
        for table in tables.values()
        if "mailbox_id" in table.columns
    ]
    found += [_look(connection, tables[name], company_id, mailbox_id, of) for name, of in BESIDE.items()]
    return found


def _look(
    connection: psycopg.Connection, table: PersonalDataTable, company_id: str, mailbox_id: str, of: LiteralString
) -> StoredValue:
    name = sql.Identifier(*table.name.split("."))
    with translate(), connection.cursor(row_factory=dict_row) as cursor:
        readable = cursor.execute(
            "SELECT has_schema_privilege(%s, 'USAGE') AND has_table_privilege(%s, 'SELECT') AS readable",
            (table.name.split(".")[0], table.name),
        ).fetchone()
        if readable != {"readable": True}:
            return StoredValue(table, None)
        place = {"company_id": company_id, "mailbox_id": mailbox_id}
        where = sql.SQL("FROM {} t WHERE ").format(name) + sql.SQL(of)
        counted = cursor.execute(sql.SQL("SELECT count(*) AS rows ") + where, place).fetchone()
        assert counted is not None
        rows = cursor.execute(sql.SQL("SELECT t.* ") + where, place).fetchall() if counted["rows"] <= FEW else []
    return StoredValue(table, counted["rows"], tuple(_told(table, row) for row in rows))


def _told(table: PersonalDataTable, row: Mapping[str, Any]) -> dict[str, Any]:
    return {column: _value(table.columns[column], value) for column, value in row.items() if value is not None}


def _value(kind: str, value: Any) -> Any:
    if kind == "sealed":
        return f"{len(value)} bytes"
    if isinstance(value, bytes) and kind == "server":
        return folder_text(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list):
        return [_value(kind, one) for one in value]
    return value
