"""`mailbox consent-text`, and the question to the owner of a mailbox who is about to connect it."""

import sys

import click

from services.cli.context import as_json, guarded, in_language
from services.cli.output import echo, errors, print_json
from services.common.language import Language
from services.connect import consent
from services.registry.errors import RegistryError


@click.command("consent-text")
@click.option("--version", "number", help="Version of the text. Default: the current one.")
@in_language
@as_json
@guarded
def mailbox_consent_text(number: str | None, language: Language, json_: bool) -> None:
    """Print the text that the owner of a mailbox consents to."""
    catalog = consent.load()
    texts = {text.version: text for text in catalog.versions}
    if number is not None and number not in texts:
        raise RegistryError(f"there is no consent text {number}; choose one of {', '.join(texts)}")
    shown = texts[number] if number is not None else catalog.current
    if json_:
        print_json({"version": shown.version, "since": shown.since, "sha256": shown.sha256, "texts": shown.texts})
        return
    if language not in shown.texts:
        raise RegistryError(f"consent text {shown.version} exists only in {', '.join(shown.texts)}")
    echo(f"{shown.texts[language]}\n")
    errors.print(f"version {shown.version}", style="dim")


def ask_consent(language: Language) -> str:
    """Show the current text and ask who consents; empty without a terminal or an answer."""
    if not sys.stdin.isatty():
        return ""
    current = consent.load().current
    errors.print(current.texts[language], markup=False)
    name: str = click.prompt("Your name, if you own this mailbox and consent", default="", show_default=False, err=True)
    return name
