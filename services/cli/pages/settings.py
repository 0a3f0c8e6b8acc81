"""docs/settings.md: every setting, from its declaration in services/common/settings."""

from services.common.settings import SERVICES, declarations, readers


def page() -> str:
    """The page: a row for each setting."""
    lines = [
        "# Settings",
        "",
        "Rendered by `replyrate config docs --write docs`. All settings come from the environment. A secret may also be read",
        "from a file: set `NAME_FILE` to its path instead of `NAME`.",
        "",
        "A service needs and checks only the settings that it reads; a setting of another service does no harm. The command",
        "line reads all of them but `REPLYRATE_CONSOLE__CLIENT_SECRET`.",
        "",
        "| Name | Read by | Kind | Default | Meaning |",
        "|---|---|---|---|---|",
    ]
    for setting in declarations():
        default = "**required**" if setting.default is None else f"`{setting.default}`"
        services = readers(setting)
        read_by = "all" if len(services) == len(SERVICES) else ", ".join(services)
        lines.append(f"| `{setting.name}` | {read_by} | {setting.kind} | {default} | {setting.description} |")
    return "\n".join(lines) + "\n"
