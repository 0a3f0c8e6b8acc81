"""The pages of docs/ that are rendered from code and data, so that they cannot be out of date: one module per page."""

from services.cli.pages import (
    analysts,
    dictionary,
    environment,
    grafana,
    mailbox_states,
    metrics,
    personal_data,
    providers,
    rule_sets,
    settings,
)


def render_all() -> dict[str, str]:
    """File name, relative to the folder docs, → text of every rendered page."""
    return {
        "settings.md": settings.page(),
        "metrics.md": metrics.page(),
        "rule-sets.md": rule_sets.page(),
        "data-dictionary.md": dictionary.page(),
        "providers.md": providers.page(),
        "personal-data.md": personal_data.page(),
        "mailbox-states.md": mailbox_states.page(),
        "../.env.example": environment.example(),
        **grafana.pages(),
        **analysts.pages(),
    }
