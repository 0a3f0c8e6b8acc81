"""`standalone`: replyrate for your own mailboxes on one machine, and its status."""

import os
import signal
import threading
from dataclasses import asdict
from pathlib import Path

import click

from services.cli.context import as_json, guarded, load_config, use_environment
from services.cli.output import echo, errors, print_json, print_table
from services.standalone.installation import Installation, read_settings
from services.standalone.status import InstallationStatus, status

COLUMNS = {
    "company_id": "company", "account_id": "account", "mailbox_id": "mailbox", "role": "role", "state": "state",
    "messages_seen": "messages", "last_success_at": "last poll (UTC)", "advice_en": "what to do",
}  # fmt: skip


@click.command()
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), envvar="REPLYRATE_DATA",
    help="Folder that keeps everything; created if missing.",
)  # fmt: skip
@click.option("--status", "status_", is_flag=True, help="Print the status of the installation in --data and exit.")
@as_json
@click.pass_context
@guarded
def standalone(context: click.Context, data: Path | None, status_: bool, json_: bool) -> None:
    """Run replyrate on this machine for your own mailboxes.

    Postgres, Kafka and the services run until Ctrl-C. Data, keys and logs are kept in the folder; the next start continues with them. Other commands use the installation with
    `replyrate --data DIR COMMAND`, or with REPLYRATE_DATA set. docs/own-mailbox.md is a walk-through.
    """
    data = data or (context.parent.params.get("data") if context.parent is not None else None)
    if data is None:
        raise click.UsageError("name the folder of the installation: replyrate standalone --data DIR")
    if status_:
        use_environment(read_settings(data))
        print_status(status(load_config()), json_)
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Installation(data, os.environ, lambda line: errors.print(line, markup=False)) as installation:
        if json_:
            print_json(
                {
                    "data": installation.folder,
                    "kafka": installation.bootstrap_servers,
                    "portal": installation.portal_url,
                    "console": installation.console_url,
                    "settings": installation.folder / "settings.env",
                }
            )
        errors.print(
            f"\nEverything is running. Pages for sellers: {installation.portal_url}\nConsole for staff: {installation.console_url} (replyrate console-link --role operator prints a link that opens it)\nIn another terminal:\n\n  export REPLYRATE_DATA={installation.folder}",
            markup=False,
        )
        for line in NEXT:
            errors.print(f"  {line}", markup=False, soft_wrap=True)
        errors.print("\nThe logs are in its subfolder logs. Press Ctrl-C to stop; nothing is lost.")
        installation.keep(stop.wait)
        errors.print("stopping the services")
    errors.print("Stopped. Start again with the same folder to continue.")


NEXT = (
    "replyrate company add my-shop",
    "replyrate account add my-shop main",
    "replyrate mailbox add --company my-shop --account main --address you@example.com --host imap.example.com",
    "replyrate publish examples/inquiries.csv",
    "replyrate standalone --status",
    "replyrate rate my-shop",
)


def print_status(installation_status: InstallationStatus, json_: bool) -> None:
    """Print the mailboxes of an installation and how many records and companies still have to be processed."""
    if json_:
        print_json({**asdict(installation_status), "settled": installation_status.settled})
        return
    if installation_status.mailboxes:
        print_table(installation_status.mailboxes, COLUMNS)
    else:
        errors.print("No mailbox is connected. Connect one: replyrate mailbox add --help")
    echo(
        f"\n{installation_status.inquiries} inquiries known; waiting: {installation_status.matcher_lag} records for the matcher,"
        f" {installation_status.aggregator_lag} for the aggregator, {installation_status.companies_waiting} companies to be judged."
    )
    echo(
        "The numbers include every published fact."
        if installation_status.settled
        else "The numbers are still changing."
    )
