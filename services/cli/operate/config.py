"""`config check|print|docs`: the settings of this environment."""

from pathlib import Path

import click

from services.cli.context import as_json, guarded, load_config
from services.cli.output import echo, errors, print_json
from services.cli.pages import render_all
from services.common.settings import Settings, declarations

MASK = "********"


@click.group()
def config() -> None:
    """Check, print and document the settings."""


@config.command("check")
@guarded
def config_check() -> None:
    """Check every setting and key file.

    All problems are reported at once.
    """
    settings = load_config()
    settings.hash_key()
    if settings.vault_key_file is not None:
        settings.vault_key()
    settings.old_vault_key()
    errors.print("Configuration is valid.")


@config.command("print")
@as_json
@guarded
def config_print(json_: bool) -> None:
    """Print the effective settings, secrets masked."""
    settings = load_config()
    values = {setting.name: printable_value(settings, setting.path, setting.secret) for setting in declarations()}
    if json_:
        print_json(values)
    else:
        for name, value in values.items():
            echo(f"{name}={'' if value is None else value}")


@config.command("docs")
@click.option("--write", type=click.Path(file_okay=False, path_type=Path), help="Folder to write the pages into.")
def config_docs(write: Path | None) -> None:
    """Render the pages that are made from code and data.

    These are settings, metrics and log actions, rule sets, providers, mailbox states, personal data, data dictionary,
    .env.example, the Grafana boards and the files for analysts.
    """
    for name, page in render_all().items():
        if write is None:
            click.echo(page)
        else:
            (write / name).parent.mkdir(parents=True, exist_ok=True)
            (write / name).write_text(page, "utf-8")


def printable_value(settings: Settings, path: tuple[str, ...], is_secret: bool) -> object:
    """The value of the setting at `path`; masked when it is a secret."""
    value: object = settings
    for part in path:
        value = getattr(value, part)
    if value is None:
        return None
    if is_secret:
        return MASK
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return value if isinstance(value, int | float | str) else str(value)
