"""docs/data-dictionary.md: the views of the schema report_v1, from their contract schemas/report_v1.json."""

from typing import Any

from services.common.tables import read_json


def contract() -> dict[str, Any]:
    """schemas/report_v1.json: each view with its comment, its key, its meaning in plain words, and its columns in order."""
    return read_json("schemas", "report_v1.json")


def page() -> str:
    """The page: a section for each view, a row for each column."""
    schema = contract()
    lines = [
        "# Data dictionary",
        "",
        "Rendered by `replyrate config docs --write docs` from `schemas/report_v1.json`, which a test compares with the",
        f"database. These are the views of the schema `{schema['schema']}`; the role `replyrate_dashboard` can read them and",
        "nothing else.",
        "",
        f"{schema['comment']} A new column is added at the end of its",
        "view, so name the columns you read. Text sorts by code point. [rules.md](rules.md) explains the terms.",
    ]
    for name, view in schema["views"].items():
        key = ", ".join(f"`{column}`" for column in view["key"])
        lines += ["", f"## {name}", "", view["comment"], "", view["meaning"], "", f"One row for each {key}.", ""]
        lines += ["| Column | Type | Meaning |", "|---|---|---|"]
        lines += [f"| `{column['name']}` | {column['type']} | {column['comment']} |" for column in view["columns"]]
    return "\n".join(lines) + "\n"
