"""`privacy show MAILBOX`, and the page that says what every column holds."""

import click

from services.cli.context import as_json, database, guarded, load_config, print_json, text
from services.cli.registry.connection import in_language
from services.common.errors import ReplyrateError
from services.common.topics import DEAD, INQUIRIES, REPLIES, SENT
from services.providers.catalog import Language
from services.registry import holdings, personal_data
from services.registry.holdings import StoredValue

KAFKA = {
    "en": (
        f"in Kafka: {SENT} has keyed hashes, times and a kind of each message for {{days}} days; {REPLIES} has what was joined"
        f" from them until the company is erased; {DEAD} names the mailbox of a mail that could not be read, without its text, until its"
        f" retention ends; {INQUIRIES} is the platform's own",
        "not held anywhere: bodies, subjects, names, addresses of recipients; headers are read and thrown away",
        "not readable for this user; ask as one with the role replyrate_aggregator too",
    ),
    "zh": (
        f"Kafka 中：{SENT} 保存每封邮件的密钥哈希、时间和类别，{{days}} 天；{REPLIES} 保存由此匹配的结果，直到公司数据被清除；"
        f"{DEAD} 在保留期内记录无法读取的邮件所属的邮箱（不含内容）；{INQUIRIES} 是平台自己的数据",
        "任何地方都不保存：正文、主题、姓名、收件人地址；邮件头读取后即丢弃",
        "当前用户无权读取；请同时使用具有 replyrate_aggregator 角色的用户查询",
    ),
}


@click.group()
def privacy() -> None:
    """What is held about a mailbox."""


@privacy.command("show")
@click.argument("mailbox_id")
@click.option("--company", "company_id", help="Its company, when several have a mailbox of this id.")
@in_language
@as_json
@guarded
def privacy_show(mailbox_id: str, company_id: str | None, language: Language, json_: bool) -> None:
    """All we hold about a mailbox: every table, what its columns are, for how long they are kept.

    Nothing sealed is opened. docs/personal-data.md has the same for every table.
    """
    found = load_config()
    with database(found) as connection:
        owners = holdings.companies(connection, mailbox_id)
        if company_id is None and len(owners) > 1:
            raise ReplyrateError(f"several companies have a mailbox {mailbox_id}: add --company {' or '.join(owners)}")
        if company_id not in (None, *owners) or not owners:
            raise ReplyrateError(
                f"there is no mailbox {mailbox_id}"
                + (f" of {company_id}" if company_id else "")
                + ": see `replyrate mailbox"
                " list`; of an erased company nothing is held"
            )
        company_id = company_id or owners[0]
        held = holdings.look(connection, company_id, mailbox_id)
    in_kafka, nowhere, unreadable = KAFKA[language]
    in_kafka = in_kafka.format(days=found.horizon_days)
    if json_:
        print_json(
            {
                "company_id": company_id,
                "mailbox_id": mailbox_id,
                "tables": [_data(one, language) for one in held],
                "kafka": in_kafka,
                "not_held": nowhere,
            }
        )
        return
    known = personal_data.load()
    for one in held:
        click.echo(f"{one.table.name}: {unreadable if one.rows is None else one.rows}")
        if not one.rows:
            continue
        click.echo(f"  {known.kept[one.table.kept][language]}")
        for kind in known.kinds:
            columns = one.table.of_kind(kind)
            if columns and not one.shown:
                click.echo(f"  {', '.join(columns)}: {known.kinds[kind][language]}")
        for row in one.shown:
            for column, value in row.items():
                click.echo(f"  {column:22} {text(value)}  ({one.table.columns[column]})")
    click.echo(in_kafka)
    click.echo(nowhere)


def _data(one: StoredValue, language: Language) -> dict[str, object]:
    known = personal_data.load()
    return {
        "table": one.table.name,
        "rows": one.rows,
        "kept": known.kept[one.table.kept][language],
        "columns": dict(one.table.columns),
        "shown": list(one.shown),
    }


def page() -> str:
    """docs/personal-data.md."""
    known = personal_data.load()
    lines = [
        "# What every column holds",
        "",
        "Rendered by `replyrate config docs --write docs` from `schemas/personal_data.toml`, which a test compares with the",
        "database. [privacy.md](privacy.md) says what is read and why.",
        "",
        "| Kind | Meaning | 含义 |",
        "|---|---|---|",
    ]
    lines += [f"| {kind} | {said['en']} | {said['zh']} |" for kind, said in known.kinds.items()]
    lines += ["", "| Table | Rows are kept | What stands in it |", "|---|---|---|"]
    for table in known.tables.values():
        parts = []
        for kind in known.kinds:
            columns = table.of_kind(kind)
            if columns:
                parts.append(f"**{kind}** " + ", ".join(f"`{column}`" for column in columns))
        lines.append(f"| `{table.name}` | {known.kept[table.kept]['en']} | {'; '.join(parts)} |")
    return "\n".join(lines) + "\n"
