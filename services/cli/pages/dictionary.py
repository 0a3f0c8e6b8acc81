"""The data dictionary: docs/data-dictionary.md, made of the contract of the views (schemas/report_v1.json)."""

import json
from importlib import resources
from typing import Any


def contract() -> dict[str, Any]:
    """schemas/report_v1.json: each view with its comment, its key, what it means for people, and its columns in order."""
    found: dict[str, Any] = json.loads(resources.files("schemas").joinpath("report_v1.json").read_text("utf-8"))
    return found


def page() -> str:
    """docs/data-dictionary.md."""
    found = contract()
    lines = [
        "# Data dictionary",
        "",
        "Rendered by `replyrate config docs --write docs` from `schemas/report_v1.json`, which a test compares with the",
        f"database. These are the views of the schema `{found['schema']}`; the role `replyrate_dashboard` reads them and no more.",
        "",
        f"{found['comment']} A new column stands at the end of its",
        "view: name the columns you read. Text sorts by code point. [rules.md](rules.md) explains the words.",
    ]
    for name, view in found["views"].items():
        key = ", ".join(f"`{column}`" for column in view["key"])
        lines += ["", f"## {name}", "", view["comment"], "", view["meaning"], "", f"One row for each {key}.", ""]
        lines += ["| Column | Type | Meaning |", "|---|---|---|"]
        lines += [f"| `{column['name']}` | {column['type']} | {column['comment']} |" for column in view["columns"]]
    return "\n".join(lines) + "\n"
