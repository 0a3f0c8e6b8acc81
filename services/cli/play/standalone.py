"""`standalone`: one's own mailboxes on one machine, and how it stands with them."""

import os
import signal
import threading
from dataclasses import asdict
from pathlib import Path

import click

from services.cli.context import WORLD, as_json, errors, guarded, load_config, print_json, print_table
from services.standalone.own import InstallationStatus, OwnInstallation, read_settings, status

COLUMNS = {
    "company_id": "company", "account_id": "account", "mailbox_id": "mailbox", "role": "role", "state": "state",
    "messages_seen": "messages", "last_success_at": "last poll (UTC)", "advice_en": "what to do",
}  # fmt: skip


@click.command()
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), envvar="REPLYRATE_DATA",
    help="Folder that keeps everything; made when it is not there.",
)  # fmt: skip
@click.option("--status", "status_", is_flag=True, help="Say how it stands with the world of --data, and end.")
@as_json
@click.pass_context
@guarded
def standalone(context: click.Context, data: Path | None, status_: bool, json_: bool) -> None:
    """Run Postgres, Kafka and the three services on this machine, for your own mailboxes, until Ctrl-C.

    Data, keys and logs stay in the folder; start it again and it goes on. Other commands find it by
    `replyrate --data DIR COMMAND`, or with REPLYRATE_DATA set. docs/own-mailbox.md walks through it.
    """
    data = data or (context.parent.params.get("data") if context.parent is not None else None)
    if data is None:
        raise click.UsageError("name the folder that keeps everything: replyrate standalone --data DIR")
    if status_:
        use_world(data)
        print_status(status(load_config()), json_)
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with OwnInstallation(data, os.environ, lambda line: errors.print(line, markup=False)) as world:
        if json_:
            print_json(
                {"data": world.folder, "kafka": world.bootstrap_servers, "settings": world.folder / "settings.env"}
            )
        errors.print(
            f"\neverything is up; in another terminal:\n\n  export REPLYRATE_DATA={world.folder}", markup=False
        )
        for line in NEXT:
            errors.print(f"  {line}", markup=False, soft_wrap=True)
        errors.print("\nlogs are in its folder logs; Ctrl-C ends it, and nothing is lost")
        world.keep(stop.wait)
        errors.print("stopping the services")
    errors.print("stopped; start it again with the same folder to go on")


NEXT = (
    "replyrate company add my-shop",
    "replyrate account add my-shop main",
    "replyrate mailbox add --company my-shop --account main --address you@example.com --host imap.example.com",
    "replyrate publish examples/inquiries.csv",
    "replyrate standalone --status",
    "replyrate rate my-shop",
)


def use_world(data: Path) -> None:
    """Let every command of this process use the servers of the world in `data`."""
    guarded(lambda: WORLD.update(read_settings(data)))()


def print_status(found: InstallationStatus, json_: bool) -> None:
    """Print a status."""
    if json_:
        print_json({**asdict(found), "settled": found.settled})
        return
    if found.mailboxes:
        print_table(found.mailboxes, COLUMNS)
    else:
        errors.print("no mailbox is connected; `replyrate mailbox add --help` tells how")
    click.echo(
        f"\n{found.inquiries} inquiries known; waiting: {found.matcher_lag} records before the matcher,"
        f" {found.aggregator_lag} before the aggregator, {found.companies_waiting} companies to be judged"
    )
    click.echo("every published fact stands in the numbers" if found.settled else "the numbers are still moving")
