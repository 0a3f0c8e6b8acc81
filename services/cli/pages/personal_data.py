"""docs/personal-data.md: what every column of the database holds, from schemas/personal_data.toml."""

from services.registry import personal_data


def page() -> str:
    """The page: the kinds of data, then every table with its columns by kind."""
    catalog = personal_data.load()
    lines = [
        "# What every column holds",
        "",
        "Rendered by `replyrate config docs --write docs` from `schemas/personal_data.toml`, which a test compares with the",
        "database. [privacy.md](privacy.md) explains what is read and why.",
        "",
        "| Kind | Meaning | 含义 |",
        "|---|---|---|",
    ]
    lines += [f"| {kind} | {meaning['en']} | {meaning['zh']} |" for kind, meaning in catalog.kinds.items()]
    lines += ["", "| Table | Rows are kept | Columns by kind |", "|---|---|---|"]
    for table in catalog.tables.values():
        parts = []
        for kind in catalog.kinds:
            columns = table.of_kind(kind)
            if columns:
                parts.append(f"**{kind}** " + ", ".join(f"`{column}`" for column in columns))
        lines.append(
            f"| `{table.name}` | {catalog.retention(table, 'en', '`REPLYRATE_HORIZON_DAYS`')} | {'; '.join(parts)} |"
        )
    return "\n".join(lines) + "\n"
