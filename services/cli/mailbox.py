"""Mailboxes: `mailbox add|test|list|show|pause|resume|rescan|remove`."""

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from services.cli.connection import (
    asked_password,
    in_language,
    operators_log,
    password_file_option,
    print_report,
    server_of,
)
from services.cli.context import as_json, errors, guarded, print_json, print_table, registry, settings, text
from services.common.errors import EXIT_FAILED
from services.common.version import version
from services.fetcher import connection_texts
from services.fetcher.connection_test import Report
from services.fetcher.directory import Language
from services.fetcher.imap import folder_text
from services.fetcher.onboarding import Rejected, Request, add_mailbox, login_of, try_mailbox
from services.fetcher.session import resolve

COLUMNS = {
    "company_id": "company", "mailbox_id": "mailbox", "account_id": "account", "role": "role", "state": "state",
    "state_reason": "reason", "address_masked": "address", "messages_seen": "messages",
    "complete_from": "complete from", "complete_through": "through",
}  # fmt: skip


@click.group()
def mailbox() -> None:
    """Mailboxes whose Sent folders are read."""


@mailbox.command("add")
@click.option("--company", "company_id", required=True, help="Company.")
@click.option("--account", "account_id", required=True, help="Account of the company.")
@click.option("--address", required=True, help="Address of the mailbox.")
@click.option("--role", type=click.Choice(["registered", "backup"]), default="registered", show_default=True)
@click.option("--host", help="IMAP server; looked up by the address when not given (`replyrate provider lookup`).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port, TLS from the start; 993 when not given.")
@click.option("--user", help="User name; the address when not given.")
@password_file_option
@click.option("--consent-by", default="", help="Who consented that the Sent folder is read.")
@click.option("--sent-folder", multiple=True, help="Name of the Sent folder as the server lists it; may be repeated.")
@in_language
@as_json
@guarded
def mailbox_add(
    company_id: str,
    account_id: str,
    address: str,
    role: str,
    host: str | None,
    port: int | None,
    user: str | None,
    password_file: Path | None,
    consent_by: str,
    sent_folder: tuple[str, ...],
    language: Language,
    json_: bool,
) -> None:
    """Connect a mailbox: consent, the connection test (see `mailbox test`), then it is active.

    Without --password-file the password is asked for; it is sealed at once and never shown again.
    """
    found = settings()
    operators_log(found)
    try:
        server, number = server_of(address, host, port, found.imap, quiet=json_)
    except Rejected as error:
        _refused(error, company_id, language, json_=json_)
    if not consent_by and sys.stdin.isatty():
        errors.print(
            "The Sent folder will be read: headers only, nothing is changed or marked. docs/privacy.md says more."
        )
        consent_by = click.prompt(
            "Who consents, as owner of this mailbox (name)", default="", show_default=False, err=True
        )
    password = asked_password(password_file)
    request = Request(
        company_id=company_id,
        account_id=account_id,
        address=address,
        password=password,
        consent_by=consent_by,
        role=role,
        host=server,
        port=number,
        user=user,
        sent_override=tuple(name.encode() for name in sent_folder),
    )
    try:
        with registry(found) as held:
            connected = add_mailbox(held, found.imap, request, resolve=resolve, version=version(), progress=_began)
    except Rejected as error:
        _refused(error, company_id, language, json_=json_)
    folders = [folder_text(folder.name) for folder in connected.folders]
    if json_:
        print_json(
            {
                "company_id": company_id,
                "mailbox_id": connected.mailbox_id,
                "state": "active",
                "sent_folders": folders,
                "messages": connected.messages,
                "test": connection_texts.as_data(connected.report),
            }
        )
    else:
        print_report(connected.report, language)
        errors.print(
            f"mailbox {connected.mailbox_id} is active: {', '.join(folders)} with {connected.messages} messages",
            markup=False,
        )
        errors.print("the first scan begins at once; `replyrate mailbox show` tells how far it is")


@mailbox.command("test")
@click.argument("company_id")
@click.argument("mailbox_id", required=False)
@click.option("--address", help="Address of a mailbox that is not connected yet, instead of MAILBOX_ID.")
@click.option("--host", help="IMAP server; looked up by the address when not given.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port, TLS from the start; 993 when not given.")
@click.option("--user", help="User name; the address when not given.")
@password_file_option
@click.option("--sent-folder", multiple=True, help="Name of the Sent folder as the server lists it; may be repeated.")
@in_language
@as_json
@guarded
def mailbox_test(
    company_id: str,
    mailbox_id: str | None,
    address: str | None,
    host: str | None,
    port: int | None,
    user: str | None,
    password_file: Path | None,
    sent_folder: tuple[str, ...],
    language: Language,
    json_: bool,
) -> None:
    """Try a mailbox stage by stage and say what to do about the one that fails. Nothing in it is changed.

    A connected mailbox is tried as it is stored; one that is not connected yet with --address and its password. Standard
    output may be shown to the owner of the mailbox; the log lines on standard error are the operator's.
    """
    if (mailbox_id is None) == (address is None):
        raise click.UsageError("name a connected mailbox (MAILBOX_ID), or one that is not connected with --address")
    if mailbox_id is not None and any((host, port, user, password_file, sent_folder)):
        raise click.UsageError("a connected mailbox is tried as it is stored; leave the other options out")
    found = settings()
    operators_log(found)
    overrides = tuple(name.encode() for name in sent_folder)
    with registry(found) as held:
        if mailbox_id is not None:
            login = held.credentials(company_id, mailbox_id)
        else:
            assert address is not None
            try:
                server, number = server_of(address, host, port, found.imap, quiet=json_)
            except Rejected as error:
                _told(error.report, language, json_=json_)
                return
            password = asked_password(password_file)
            request = Request(
                company_id, "", address, password, "", host=server, port=number, user=user, sent_override=overrides
            )
            login = login_of(request)
        report = try_mailbox(held, found.imap, company_id, login, resolve=resolve, version=version(), progress=_began)
    _told(report, language, json_=json_)


def _told(report: Report, language: Language, *, json_: bool) -> None:
    if json_:
        print_json(connection_texts.as_data(report))
    else:
        print_report(report, language)
    if not report.passed:
        sys.exit(EXIT_FAILED)


def _refused(error: Rejected, company_id: str, language: Language, *, json_: bool) -> NoReturn:
    if json_:
        print_json({"company_id": company_id, "state": "refused", "test": connection_texts.as_data(error.report)})
        sys.exit(EXIT_FAILED)
    print_report(error.report, language)
    raise error


def _began(stage: str) -> None:
    errors.print(f"  {stage} …", style="dim")


@mailbox.command("list")
@click.argument("company_id", required=False)
@as_json
@guarded
def mailbox_list(company_id: str | None, json_: bool) -> None:
    """Mailboxes of a company, or all."""
    with registry(settings()) as found:
        rows = found.mailboxes(company_id)
    if json_:
        print_json(rows)
    elif rows:
        print_table(rows, COLUMNS)
    else:
        errors.print("no mailbox is connected; connect one: replyrate mailbox add --help")


@mailbox.command("show")
@click.argument("company_id")
@click.argument("mailbox_id")
@as_json
@guarded
def mailbox_show(company_id: str, mailbox_id: str, json_: bool) -> None:
    """One mailbox: state, folders, messages by kind."""
    with registry(settings()) as found:
        row = found.mailbox(company_id, mailbox_id)
    if json_:
        print_json(row)
        return
    for name, value in row.items():
        if not isinstance(value, list):
            click.echo(f"{name:18} {text(value)}")
    for folder in row["folders"]:
        click.echo(f"{'folder':18} {progress(folder)}")
    for kind in row["kinds"]:
        click.echo(f"{'messages':18} {kind['kind']}: {kind['sum']}")


def progress(folder: dict[str, Any]) -> str:
    """How far a folder is read, in words."""
    name = folder["folder"].decode("utf-8", "backslashreplace")
    if folder["scan_down_to_uid"] is None:
        return f"{name}: {folder['messages']} messages, read to the horizon"
    return f"{name}: scanning, {folder['scan_done']} of at most {folder['messages']} messages read"


@mailbox.command("pause")
@click.argument("company_id")
@click.argument("mailbox_id")
@guarded
def mailbox_pause(company_id: str, mailbox_id: str) -> None:
    """Read a mailbox no more until it is resumed."""
    with registry(settings()) as found:
        found.pause(company_id, mailbox_id)
    errors.print(f"mailbox {mailbox_id} is paused")


@mailbox.command("resume")
@click.argument("company_id")
@click.argument("mailbox_id")
@guarded
def mailbox_resume(company_id: str, mailbox_id: str) -> None:
    """Read a paused mailbox again."""
    with registry(settings()) as found:
        found.resume(company_id, mailbox_id)
    errors.print(f"mailbox {mailbox_id} is active")


@mailbox.command("rescan")
@click.argument("company_id")
@click.argument("mailbox_id")
@guarded
def mailbox_rescan(company_id: str, mailbox_id: str) -> None:
    """Read everything within the horizon again; what is known is published unchanged."""
    with registry(settings()) as found:
        found.rescan(company_id, mailbox_id)
    errors.print(f"mailbox {mailbox_id} is read again from the newest message to the horizon")


@mailbox.command("remove")
@click.argument("company_id")
@click.argument("mailbox_id")
@guarded
def mailbox_remove(company_id: str, mailbox_id: str) -> None:
    """Read a mailbox never again; its password, address and user name are deleted."""
    with registry(settings()) as found:
        found.remove(company_id, mailbox_id)
    errors.print(f"mailbox {mailbox_id} is removed; its secrets are deleted")
