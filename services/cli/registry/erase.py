"""`erase COMPANY`: forget a company everywhere."""

import sys

import click

from services.cli.context import as_json, database, errors, guarded, load_config, print_json, text
from services.common import verify
from services.common.errors import EXIT_FAILED
from services.common.kafka import Publisher
from services.common.topics import INQUIRIES
from services.registry import erasure

LEFT = (
    "What stays: that it was erased and until when; plain buyer addresses in inquiries.v1 and hashes in"
    " sent-messages.v1 until their retention ends (docs/privacy.md)."
)


@click.command()
@click.argument("company_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be deleted.")
@as_json
@guarded
def erase(company_id: str, yes: bool, dry_run: bool, json_: bool) -> None:
    """Forget a company: its mailboxes, secrets and marks at once, its facts and numbers as soon as matcher and
    aggregator read the event. It cannot be undone. Run it again when it was interrupted.

    Facts up to now (up to the end of a poll that is under way) are forgotten. What the platform publishes about the
    company afterwards is counted anew, so stop that first.
    """
    found = load_config()
    with database(found) as connection:
        rows = erasure.held(connection, company_id)
        if not json_:
            shown = ", ".join(f"{count} {name}" for name, count in rows.items() if count)
            errors.print(
                f"the registry holds of {company_id}: {shown}"
                if shown
                else f"the registry holds nothing of {company_id}: it was erased before, or its id is written another way;"
                " what matcher and ledger hold by this id is erased all the same",
                markup=False,
                soft_wrap=True,
            )
        if dry_run:
            if json_:
                print_json({"company_id": company_id, "rows": rows, "at": None})
            return
        if not yes:
            if not is_interactive():
                raise click.UsageError("nobody is there to be asked; add --yes when it is meant")
            if (
                click.prompt("Type the company's id to erase it", default="", show_default=False, err=True)
                != company_id
            ):
                errors.print("that is another id; nothing was erased", style="red")
                sys.exit(EXIT_FAILED)
        # Before anything is deleted: without Kafka the half of it would be done.
        verify.topics(found, "replyrate-cli-check", (INQUIRIES,))
        with Publisher(found.kafka, "replyrate-cli") as publisher:
            erased = erasure.erase(connection, publisher, company_id)
    if json_:
        print_json({"company_id": company_id, "rows": erased.rows, "at": erased.at})
        return
    errors.print(
        f"{company_id} is erased from the registry; matcher and ledger forget its facts up to {text(erased.at)} UTC",
        markup=False,
        soft_wrap=True,
    )
    errors.print(LEFT, markup=False, soft_wrap=True)


def is_interactive() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()
