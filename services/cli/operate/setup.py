"""Set-up: `migrate`, `topics create|check`, `config check|print|docs`."""

import sys
from pathlib import Path

import click

from services.cli.context import as_json, database, errors, guarded, load_config, print_json
from services.cli.numbers import rules
from services.cli.pages import dictionary, environment, mailbox_states
from services.cli.registry import privacy, provider
from services.common import logs, metrics, migrations
from services.common.errors import EXIT_FAILED
from services.common.kafka import Admin
from services.common.settings import Settings, declarations
from services.common.verify import wanted_topics


@click.command()
@guarded
def migrate() -> None:
    """Bring the database to the schema of this release."""
    with database(load_config()) as connection:
        count = migrations.migrate(connection, lambda name: errors.print(f"applying {name}", markup=False))
    errors.print(f"{count} migration(s) applied" if count else "the schema is up to date")


@click.group()
def topics() -> None:
    """Kafka topics: make them, compare them."""


@topics.command("create")
@as_json
@guarded
def topics_create(json_: bool) -> None:
    """Make the topics that are missing; those that exist stay as they are."""
    found = load_config()
    with Admin(found.kafka, "replyrate-cli") as admin:
        made = admin.create_topics(wanted_topics(found))
        problems = admin.check_topics(wanted_topics(found))
    if json_:
        print_json({"created": made, "problems": problems})
    else:
        for name in made:
            errors.print(f"created {name}", markup=False)
        if not made:
            errors.print("all topics are there")
    fail_on_problems(problems)


@topics.command("check")
@as_json
@guarded
def topics_check(json_: bool) -> None:
    """Compare the topics with what they must be; exit 1 with what mends them."""
    found = load_config()
    with Admin(found.kafka, "replyrate-cli") as admin:
        problems = admin.check_topics(wanted_topics(found))
    if json_:
        print_json({"problems": problems})
    elif not problems:
        errors.print("all topics are as they must be")
    fail_on_problems(problems)


@click.group()
def config() -> None:
    """Settings: check them, print them, document them."""


@config.command("check")
@guarded
def config_check() -> None:
    """Read every setting and both keys; all problems at once."""
    found = load_config()
    found.hash_key()
    if found.vault_key_file is not None:
        found.vault_key()
    found.old_vault_key()
    errors.print("the configuration can be used")


@config.command("print")
@as_json
@guarded
def config_print(json_: bool) -> None:
    """Print the settings that hold; secrets blotted out."""
    found = load_config()
    values = {one.name: shown(found, one.path, one.secret) for one in declarations()}
    if json_:
        print_json(values)
    else:
        for name, value in values.items():
            click.echo(f"{name}={'' if value is None else value}")


@config.command("docs")
@click.option("--write", type=click.Path(file_okay=False, path_type=Path), help="Folder to write the pages into.")
def config_docs(write: Path | None) -> None:
    """Render the pages that are made from the code: settings, metrics, log actions, rule sets, providers, data dictionary."""
    for name, page in pages().items():
        if write is None:
            click.echo(page)
        else:
            (write / name).write_text(page, "utf-8")


def pages() -> dict[str, str]:
    """File name (from the folder docs) → text of every rendered page."""
    return {
        "settings.md": settings_page(),
        "metrics.md": metrics_page(),
        "rule-sets.md": rules.page(),
        "data-dictionary.md": dictionary.page(),
        "providers.md": provider.page(),
        "personal-data.md": privacy.page(),
        "mailbox-states.md": mailbox_states.page(),
        "../.env.example": environment.example(),
    }


def settings_page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Rendered by `replyrate config docs --write docs`. All settings come from the environment; a secret may also",
        "stand in a file that the same name with `_FILE` names.",
        "",
        "| Name | Kind | Default | Meaning |",
        "|---|---|---|---|",
    ]
    for one in declarations():
        default = "**required**" if one.default is None else f"`{one.default}`"
        lines.append(f"| `{one.name}` | {one.kind} | {default} | {one.description} |")
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """docs/metrics.md."""
    lines = [
        "# Metrics and log actions",
        "",
        "Rendered by `replyrate config docs --write docs`. Metrics stand on `/metrics` of each service; no label has a",
        "value per mailbox or company.",
        "",
        "| Metric | Type | Meaning |",
        "|---|---|---|",
        *(f"| `{name}` | {kind} | {text} |" for name, kind, text in metrics.declared()),
        "",
        "Every log line carries an `action` out of this list.",
        "",
        "| Action | Meaning |",
        "|---|---|",
        *(f"| `{name}` | {text} |" for name, text in sorted(logs.ACTIONS.items())),
    ]
    return "\n".join(lines) + "\n"


def fail_on_problems(problems: list[str]) -> None:
    """Print problems and end with 1 when there are any."""
    for problem in problems:
        errors.print(problem, style="red", markup=False)
    if problems:
        sys.exit(EXIT_FAILED)


def shown(found: Settings, path: tuple[str, ...], secret: bool) -> object:
    """A setting's value as it may be printed."""
    value: object = found
    for part in path:
        value = getattr(value, part)
    if value is None:
        return None
    if secret:
        return "********"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return value if isinstance(value, int | float | str) else str(value)
