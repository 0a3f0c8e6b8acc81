"""docs/metrics.md: every metric and every log action."""

from services.common import logs, metrics


def page() -> str:
    """The page: a table of metrics, a table of log actions."""
    lines = [
        "# Metrics and log actions",
        "",
        "Rendered by `replyrate config docs --write docs`. Each service exposes its own metrics, and those of `all`, on",
        "`/metrics`. No label has a value per mailbox or company.",
        "",
        "| Metric | Service | Type | Meaning |",
        "|---|---|---|---|",
        *(
            f"| `{metric.name}` | {metric.service} | {metric.type} | {metric.meaning} |"
            for metric in metrics.declared()
        ),
        "",
        "Every log line has an `action` from this list.",
        "",
        "| Action | Meaning |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, meaning in sorted(logs.ACTIONS.items())),
    ]
    return "\n".join(lines) + "\n"
