"""`provider check`: compares the provider directory with the DNS."""

import sys
from dataclasses import asdict

import click

from services.cli.context import as_json, guarded
from services.cli.output import echo, errors, print_json
from services.common.errors import EXIT_FAILED
from services.connect.directory_check import SENTENCES, check_directory
from services.connect.dns_records import DnsRecords
from services.providers import catalog


@click.command("check")
@as_json
@guarded
def provider_check(json_: bool) -> None:
    """Compare the provider directory with the DNS.

    Asks for the addresses of servers, for MX suffixes, and for MX and SRV records of domains. Needs no configuration and
    connects to no mail server. Each change is printed with the month in which the entry was last confirmed. Exit 0 when
    nothing differs, 1 when something does, 69 when no resolver answers.
    """
    check = check_directory(catalog.load(), DnsRecords())
    if json_:
        print_json({
            "changes": [{**asdict(change), "says": SENTENCES[change.code]} for change in check.changes],
            "not_checked": check.not_checked,
            "answered": check.answered,
        })  # fmt: skip
    else:
        for change in check.changes:
            seen = f": {change.seen}" if change.seen else ""
            echo(
                f"{change.provider}  {change.key}  {change.name}: {SENTENCES[change.code]}{seen} (confirmed {change.as_of})"
            )
        for query in check.not_checked:
            errors.print(f"warning: not checked, the DNS did not answer: {query}", style="yellow")
        errors.print(f"{len(check.changes)} changes, {check.answered} queries answered.")
    if check.changes:
        sys.exit(EXIT_FAILED)
