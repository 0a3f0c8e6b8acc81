"""Everything that is stored about one mailbox, table by table, described by schemas/personal_data.toml.

Sealed values are shown by their size and never opened. The tables are those with the id of a mailbox, and a few related ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from services.common.language import Language
from services.common.postgres import translate
from services.common.topics import DEAD, INQUIRIES, REPLIES, SENT
from services.imap.folders import folder_text
from services.registry import personal_data
from services.registry.personal_data import PersonalDataTable

FEW: Final = 5
"""Rows up to which a table is shown row by row; above, only their number is shown."""

READABLE: Final = """
    SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
        AND has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT')
    ORDER BY a.attnum"""
"""The columns of a table that the user of this connection may read."""
IDENTITY: Final = ("company_id", "mailbox_id")
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
OUTSIDE_POSTGRES: Final[Mapping[Language, tuple[str, str]]] = {
    "en": (
        f"in Kafka: {SENT} holds keyed hashes, times and a kind for each message for {{days}} days; {REPLIES} holds what was"
        f" joined from them until the company is erased; {DEAD} names the mailbox of a message that could not be read,"
        f" without its text, until its retention ends; {INQUIRIES} belongs to the platform",
        "not stored anywhere: bodies, subjects, names, addresses of recipients; headers are read and discarded",
    ),
    "zh": (
        f"Kafka 中：{SENT} 保存每封邮件的密钥哈希、时间和类别，{{days}} 天；{REPLIES} 保存由此匹配的结果，直到公司数据被清除；"
        f"{DEAD} 在保留期内记录无法读取的邮件所属的邮箱（不含内容）；{INQUIRIES} 是平台自己的数据",
        "任何地方都不保存：正文、主题、姓名、收件人地址；邮件头读取后即丢弃",
    ),
}
"""By language: what Kafka holds, and what is not stored at all."""


@dataclass(frozen=True, slots=True)
class StoredValue:
    """What one table stores about a mailbox. `rows` is None when this database user may not count them; `shown` has the columns
    that it may read, and is empty when there are more than FEW rows."""

    table: PersonalDataTable
    rows: int | None
    shown: tuple[Mapping[str, Any], ...] = ()

    def hidden(self, kind: str) -> list[str]:
        """The columns of one kind whose values are not shown."""
        shown_columns = {column for values in self.shown for column in values}
        return [column for column in self.table.of_kind(kind) if column not in shown_columns]


def companies(connection: psycopg.Connection, mailbox_id: str) -> list[str]:
    """The companies that have a mailbox with this id."""
    with translate():
        owners = connection.execute(
            "SELECT company_id FROM registry.mailboxes WHERE mailbox_id = %s ORDER BY 1", (mailbox_id,)
        ).fetchall()
    return [company_id for (company_id,) in owners]


def outside_postgres(language: Language, horizon_days: int) -> tuple[str, str]:
    """Sentences: what Kafka holds about a mailbox, and what is not stored anywhere."""
    in_kafka, not_stored = OUTSIDE_POSTGRES[language]
    return in_kafka.format(days=horizon_days), not_stored


def own(connection: psycopg.Connection, company_id: str, mailbox_id: str) -> list[StoredValue]:
    """What each table stores about a mailbox of the session whose token this transaction has.

    Rows are counted in every table; values are shown as far as the web process may read them.
    """
    with translate():
        counted = connection.execute("SELECT table_name, rows FROM registry.own_holdings(%s)", (mailbox_id,)).fetchall()
    rows: dict[str, int] = dict(counted)
    return [
        replace(stored, rows=rows.get(stored.table.name, stored.rows))
        for stored in read(connection, company_id, mailbox_id)
    ]


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
        readable = [column["attname"] for column in cursor.execute(READABLE, table.name.split(".")).fetchall()]
        if not set(readable).issuperset(IDENTITY if condition == OF_MAILBOX else table.columns):
            return StoredValue(table, None)
        columns = sql.SQL(", ").join(sql.Identifier("t", column) for column in readable)
        key = {"company_id": company_id, "mailbox_id": mailbox_id}
        where = sql.SQL("FROM {} t WHERE ").format(name) + sql.SQL(condition)
        counted = cursor.execute(sql.SQL("SELECT count(*) AS rows ") + where, key).fetchone()
        assert counted is not None
        rows = (
            cursor.execute(sql.SQL("SELECT {} ").format(columns) + where, key).fetchall()
            if counted["rows"] <= FEW
            else []
        )
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
