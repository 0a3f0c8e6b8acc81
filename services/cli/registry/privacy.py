"""`privacy show MAILBOX`: everything that is stored about a mailbox."""

from collections.abc import Sequence
from typing import Final

import click
import psycopg

from services.aggregator.archive.files import archive_folder
from services.aggregator.archive.holdings import archived_replies
from services.cli.context import as_json, database, guarded, in_language, load_config
from services.cli.output import echo, print_json, text
from services.common.errors import ReplyrateError
from services.common.language import Language
from services.registry import holdings, personal_data
from services.registry.holdings import StoredValue

UNREADABLE: Final[dict[Language, str]] = {
    "en": "not readable for this user; use one that also has the role replyrate_aggregator",
    "zh": "当前用户无权读取；请同时使用具有 replyrate_aggregator 角色的用户查询",
}
"""Why a table shows no count."""
ARCHIVE: Final[dict[Language, str]] = {
    "en": "replies in the archive, as keyed hashes, times and a kind, until the company is erased: {replies}",
    "zh": "归档中的回复（带密钥的哈希值、时间和类别，保留至公司数据被清除）：{replies}",
}
"""What the Parquet files of the archive hold (docs/archive.md)."""
ELSEWHERE: Final[dict[Language, str]] = {
    "en": "not counted; set REPLYRATE_AGGREGATOR__ARCHIVE_DIR to count them",
    "zh": "未统计；设置 REPLYRATE_AGGREGATOR__ARCHIVE_DIR 后可统计",
}


@click.group()
def privacy() -> None:
    """What is stored about a mailbox."""


@privacy.command("show")
@click.argument("mailbox_id")
@click.option("--company", "company_id", help="Its company; needed when several have a mailbox with this id.")
@in_language
@as_json
@guarded
def privacy_show(mailbox_id: str, company_id: str | None, language: Language, json_: bool) -> None:
    """Show everything that is stored about a mailbox.

    Lists every table, what its columns are, and for how long its rows are kept. Sealed values are not opened. docs/personal-data.md describes every table in the same way.
    """
    config = load_config()
    with database(config) as connection:
        company_id = _owner(connection, mailbox_id, company_id)
        tables = holdings.read(connection, company_id, mailbox_id)
        archived = archived_replies(connection, archive_folder(config.aggregator), company_id, mailbox_id)
    in_kafka, not_stored = holdings.outside_postgres(language, config.horizon_days)
    if json_:
        print_json(
            {
                "company_id": company_id,
                "mailbox_id": mailbox_id,
                "tables": [_table_data(table, language, config.horizon_days) for table in tables],
                "archived_replies": archived,
                "kafka": in_kafka,
                "not_held": not_stored,
            }
        )
        return
    _print_tables(tables, language, config.horizon_days)
    echo(ARCHIVE[language].format(replies=ELSEWHERE[language] if archived is None else archived))
    echo(in_kafka)
    echo(not_stored)


def _owner(connection: psycopg.Connection, mailbox_id: str, company_id: str | None) -> str:
    """The company of a mailbox. Raises ReplyrateError when there is none, or several to choose from."""
    owners = holdings.companies(connection, mailbox_id)
    if company_id is None and len(owners) > 1:
        raise ReplyrateError(f"several companies have a mailbox {mailbox_id}: add --company {' or '.join(owners)}")
    if not owners or company_id not in (None, *owners):
        of_company = f" of {company_id}" if company_id else ""
        raise ReplyrateError(
            f"there is no mailbox {mailbox_id}{of_company}: see `replyrate mailbox list`; nothing is stored about an erased"
            " company"
        )
    return company_id or owners[0]


def _print_tables(tables: Sequence[StoredValue], language: Language, horizon_days: int) -> None:
    catalog, unreadable = personal_data.load(), UNREADABLE[language]
    for stored in tables:
        echo(f"{stored.table.name}: {unreadable if stored.rows is None else stored.rows}")
        if not stored.rows:
            continue
        echo(f"  {catalog.retention(stored.table, language, horizon_days)}")
        for kind in catalog.kinds:
            columns = stored.table.of_kind(kind)
            if columns and not stored.shown:
                echo(f"  {', '.join(columns)}: {catalog.kinds[kind][language]}")
        for values in stored.shown:
            for column, value in values.items():
                echo(f"  {column:22} {text(value)}  ({stored.table.columns[column]})")


def _table_data(stored: StoredValue, language: Language, horizon_days: int) -> dict[str, object]:
    return {
        "table": stored.table.name,
        "rows": stored.rows,
        "kept": personal_data.load().retention(stored.table, language, horizon_days),
        "columns": dict(stored.table.columns),
        "shown": list(stored.shown),
    }
