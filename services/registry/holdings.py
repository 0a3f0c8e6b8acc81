"""Everything that is stored about one mailbox, table by table, described by schemas/personal_data.toml.

Sealed values are shown by their size and never opened. The tables are those with the id of a mailbox, and a few related ones.
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
"""Rows up to which a table is shown row by row; above, only their number is shown."""

OF_MAILBOX: Final = "t.company_id = %(company_id)s AND t.mailbox_id = %(mailbox_id)s"
RELATED: Final[Mapping[str, LiteralString]] = {
    "registry.addresses": """EXISTS (
        SELECT FROM registry.mailboxes m WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s
            AND (t.company_id, t.account_id, t.role) = (m.company_id, m.account_id, m.role)
    )""",
    "registry.mailbox_links": """EXISTS (
        SELECT FROM registry.mailboxes m WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s
            AND t.login_hash = m.login_hash AND m.company_id IN (t.company_id, t.other_company_id)
    )""",
    "registry.connection_tests": "t.company_id = %(company_id)s",
    "registry.published_messages": """t.message_key BETWEEN registry.message_key(%(company_id)s, %(mailbox_id)s, repeat('0', 32))
        AND registry.message_key(%(company_id)s, %(mailbox_id)s, repeat('f', 32))""",
}
"""Tables without the id of a mailbox, and which of their rows belong to one: the address of its account in its role, the links
of its login, its published messages. Connection tests are shown for the whole company, since their hash does not include the server."""


@dataclass(frozen=True, slots=True)
class StoredValue:
    """What one table stores about a mailbox. `rows` is None when this database user may not read it, `shown` is empty when there
    are more than FEW rows."""

    table: PersonalDataTable
    rows: int | None
    shown: tuple[Mapping[str, Any], ...] = ()


def companies(connection: psycopg.Connection, mailbox_id: str) -> list[str]:
    """The companies that have a mailbox with this id."""
    with translate():
        owners = connection.execute(
            "SELECT company_id FROM registry.mailboxes WHERE mailbox_id = %s ORDER BY 1", (mailbox_id,)
        ).fetchall()
    return [company_id for (company_id,) in owners]


def read(connection: psycopg.Connection, company_id: str, mailbox_id: str) -> list[StoredValue]:
    """What each table stores about a mailbox, tables with its id first."""
    tables = personal_data.load().tables
    stored = [
        _read(connection, table, company_id, mailbox_id, OF_MAILBOX)
        for table in tables.values()
        if "mailbox_id" in table.columns
    ]
    stored += [
        _read(connection, tables[name], company_id, mailbox_id, condition) for name, condition in RELATED.items()
    ]
    return stored


def _read(
    connection: psycopg.Connection,
    table: PersonalDataTable,
    company_id: str,
    mailbox_id: str,
    condition: LiteralString,
) -> StoredValue:
    name = sql.Identifier(*table.name.split("."))
    with translate(), connection.cursor(row_factory=dict_row) as cursor:
        readable = cursor.execute(
            "SELECT has_schema_privilege(%s, 'USAGE') AND has_table_privilege(%s, 'SELECT') AS readable",
            (table.name.split(".")[0], table.name),
        ).fetchone()
        if readable != {"readable": True}:
            return StoredValue(table, None)
        key = {"company_id": company_id, "mailbox_id": mailbox_id}
        where = sql.SQL("FROM {} t WHERE ").format(name) + sql.SQL(condition)
        counted = cursor.execute(sql.SQL("SELECT count(*) AS rows ") + where, key).fetchone()
        assert counted is not None
        rows = cursor.execute(sql.SQL("SELECT t.* ") + where, key).fetchall() if counted["rows"] <= FEW else []
    return StoredValue(table, counted["rows"], tuple(_shown(table, values) for values in rows))


def _shown(table: PersonalDataTable, values: Mapping[str, Any]) -> dict[str, Any]:
    return {column: _value(table.columns[column], value) for column, value in values.items() if value is not None}


def _value(kind: str, value: Any) -> Any:
    if kind == "sealed":
        return f"{len(value)} bytes"
    if isinstance(value, bytes) and kind == "server":
        return folder_text(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list):
        return [_value(kind, element) for element in value]
    return value
