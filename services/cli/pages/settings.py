"""docs/settings.md: every setting, from its declaration in services/common/settings.py."""

from services.common.settings import declarations


def page() -> str:
    """The page: a row for each setting."""
    lines = [
        "# Settings",
        "",
        "Rendered by `replyrate config docs --write docs`. All settings come from the environment. A secret may also be read",
        "from a file: set `NAME_FILE` to its path instead of `NAME`.",
        "",
        "| Name | Kind | Default | Meaning |",
        "|---|---|---|---|",
    ]
    for setting in declarations():
        default = "**required**" if setting.default is None else f"`{setting.default}`"
        lines.append(f"| `{setting.name}` | {setting.kind} | {default} | {setting.description} |")
    return "\n".join(lines) + "\n"
