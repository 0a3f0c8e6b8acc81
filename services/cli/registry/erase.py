"""`erase COMPANY`: forget a company everywhere."""

import sys
from collections.abc import Mapping
from typing import Final

import click

from services.cli.context import as_json, database, guarded, load_config
from services.cli.output import errors, print_json, text
from services.common import verify
from services.common.display import printable
from services.common.errors import EXIT_FAILED
from services.common.kafka import Publisher
from services.common.topics import INQUIRIES
from services.registry import erasure

REMAINS: Final = (
    "What remains: the fact that the company was erased, and up to when; plain buyer addresses in inquiries.v1 and hashes"
    " in sent-messages.v1 until their retention ends (docs/privacy.md)."
)


@click.command()
@click.argument("company_id")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--dry-run", is_flag=True, help="Only print what would be deleted.")
@as_json
@guarded
def erase(company_id: str, yes: bool, dry_run: bool, json_: bool) -> None:
    """Forget a company. This cannot be undone.

    Its mailboxes, secrets and cursors are deleted at once, its facts and numbers as soon as matcher and aggregator have
    read the event. If the command is interrupted, run it again.

    Facts up to now (up to the end of a poll that is running) are forgotten. What the platform publishes about the company
    afterwards is counted as new, so stop that first.
    """
    config = load_config()
    with database(config) as connection:
        rows = erasure.count_rows(connection, company_id)
        if not json_:
            _print_holdings(company_id, rows)
        if dry_run:
            if json_:
                print_json({"company_id": company_id, "rows": rows, "at": None})
            return
        if not yes:
            _confirm(company_id)
        # Before anything is deleted: without Kafka the company would be erased in part only.
        verify.topics(config, "replyrate-cli-check", (INQUIRIES,))
        with Publisher(config.kafka, "replyrate-cli") as publisher:
            erased = erasure.erase(connection, publisher, company_id)
    if json_:
        print_json({"company_id": company_id, "rows": erased.rows, "at": erased.at})
        return
    errors.print(
        f"{printable(company_id)} is erased from the registry; matcher and ledger forget its facts up to {text(erased.at)} UTC.",
        markup=False,
        soft_wrap=True,
    )
    errors.print(REMAINS, markup=False, soft_wrap=True)


def _print_holdings(company_id: str, rows: Mapping[str, int]) -> None:
    counts = ", ".join(f"{count} {printable(name)}" for name, count in rows.items() if count)
    errors.print(
        f"The registry holds for {printable(company_id)}: {counts}."
        if counts
        else f"The registry holds nothing for {printable(company_id)}: it was erased before, or the id is misspelt. Matcher and ledger"
        " data under this id will still be erased.",
        markup=False,
        soft_wrap=True,
    )


def _confirm(company_id: str) -> None:
    """Ask for the id of the company; exits when it does not match or there is no terminal."""
    if not is_interactive():
        raise click.UsageError("Not a terminal: pass --yes to confirm.")
    if click.prompt("Type the company's id to erase it", default="", show_default=False, err=True) != company_id:
        errors.print("The id does not match. Nothing was erased.", style="red")
        sys.exit(EXIT_FAILED)


def is_interactive() -> bool:
    """Whether standard input is a terminal, so that a question can be answered."""
    return sys.stdin.isatty()
