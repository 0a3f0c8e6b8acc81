"""`mailbox list`, `mailbox show` and `mailbox history`."""

from datetime import UTC, datetime
from typing import Any, Final

import click

from services.cli.context import as_json, guarded, in_language, load_config, open_registry
from services.cli.output import echo, errors, print_json, print_table, text
from services.cli.registry.mailbox.forecast import forecast_data, settling_rule
from services.common.language import Language
from services.connect import texts
from services.connect.completeness import forecast_numbers
from services.imap.folders import folder_text
from services.registry import states

COLUMNS: Final = {
    "company_id": "company", "mailbox_id": "mailbox", "account_id": "account", "role": "role", "state": "state",
    "state_reason": "reason", "address_masked": "address", "messages_seen": "messages",
    "complete_from": "complete from", "complete_through": "complete through",
}  # fmt: skip


@click.command("list")
@click.argument("company_id", required=False)
@as_json
@guarded
def mailbox_list(company_id: str | None, json_: bool) -> None:
    """List the mailboxes of a company, or all."""
    with open_registry(load_config()) as registry:
        mailboxes = registry.mailboxes.summaries(company_id)
    if json_:
        print_json(mailboxes)
    elif mailboxes:
        print_table(mailboxes, COLUMNS)
    else:
        errors.print("No mailbox is connected. Connect one: replyrate mailbox add --help")


@click.command("show")
@click.argument("company_id")
@click.argument("mailbox_id")
@in_language
@as_json
@guarded
def mailbox_show(company_id: str, mailbox_id: str, language: Language, json_: bool) -> None:
    """Show the state of a mailbox and what was read of it.

    Shows the reason for the state, since when its numbers are complete, folders, messages by kind. With --json each folder has its raw name as the server lists it (`folder`) and a readable one (`name`); --sent-folder
    accepts either.
    """
    config = load_config()
    with open_registry(config) as registry:
        mailbox = registry.mailboxes.details(company_id, mailbox_id)
    settling, complete_from = settling_rule(config), mailbox["complete_from"] or mailbox["expected_from"]
    forecast = None
    if mailbox["state"] == "active" and complete_from is not None:
        forecast = forecast_numbers(complete_from, settling, datetime.now(UTC))
    if json_:
        folders = [{**folder, "name": folder_text(folder["folder"])} for folder in mailbox["folders"]]
        print_json({**mailbox, "folders": folders, "numbers": None if forecast is None else forecast_data(forecast)})
        return
    _print_mailbox(mailbox, language)
    if forecast is not None:
        _print_field("numbers", texts.forecast(forecast, settling, language))


def _print_mailbox(mailbox: dict[str, Any], language: Language) -> None:
    for name, value in mailbox.items():
        if name == "state":
            _print_field("state", f"{value} ({_state_name(value, language)})")
        elif name == "state_reason":
            reason = texts.state_reason(value, language)
            _print_field("reason", f"{value}: {reason}" if reason else text(value))
        elif not isinstance(value, list):
            _print_field(name, text(value))
    for folder in mailbox["folders"]:
        _print_field("folder", folder_progress(folder))
    for kind in mailbox["kinds"]:
        _print_field("messages", f"{kind['kind']}: {kind['sum']}")
    for link in mailbox["links"]:
        _print_field("linked with", f"{link['company_id']} (by {link['linked_by']}, {text(link['linked_at'])})")


def _print_field(label: str, value: str) -> None:
    echo(f"{label:18} {value}")


def folder_progress(folder: dict[str, Any]) -> str:
    """How far a folder has been read, in words."""
    name = folder_text(folder["folder"])
    waiting = f"; {folder['waiting']} that the server does not show are asked for again" if folder["waiting"] else ""
    if folder["scan_down_to_uid"] is None:
        return f"{name}: {folder['messages']} messages, read back to the horizon{waiting}"
    return f"{name}: scan running, {folder['scan_done']} of at most {folder['messages']} messages read{waiting}"


@click.command("history")
@click.argument("company_id")
@click.argument("mailbox_id")
@in_language
@as_json
@guarded
def mailbox_history(company_id: str, mailbox_id: str, language: Language, json_: bool) -> None:
    """Show every state change and consent of a mailbox.

    For each change: when, by whom, why.
    """
    with open_registry(load_config()) as registry:
        mailbox = registry.mailboxes.details(company_id, mailbox_id)
    changes = [{**change, "says": texts.state_reason(change["reason"], language)} for change in mailbox["history"]]
    if json_:
        print_json({"history": changes, "consents": mailbox["consents"]})
        return
    for change in changes:
        from_state, to_state = change["from_state"], change["to_state"]
        before = "" if from_state in (None, to_state) else f"{_state_name(from_state, language)} → "
        echo(
            f"{text(change['changed_at'])}  {before}{_state_name(to_state, language)}"
            f"  ({change['changed_by']})  {change['says']}"
        )
    for consent in mailbox["consents"]:
        withdrawn_at, withdrawn_by = consent["withdrawn_at"], consent["withdrawn_by"]
        withdrawal = f", withdrawn {text(withdrawn_at)} by {withdrawn_by}" if withdrawn_at else ""
        echo(
            f"{text(consent['consented_at'])}  consent of {consent['consented_by']} to text {consent['text_version']}"
            f" ({consent['language']}){withdrawal}"
        )


def _state_name(state: str, language: Language) -> str:
    names = states.load().names
    return names[state].text(language) if state in names else state  # type: ignore[index]
