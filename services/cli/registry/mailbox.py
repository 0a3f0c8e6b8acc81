"""Mailboxes: `mailbox consent-text|add|reconnect|test|list|show|history|pause|resume|rescan|remove|link|unlink`."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from services.aggregator.judge import rules
from services.cli.context import as_json, errors, guarded, load_config, print_json, print_table, registry, text
from services.cli.registry.connection import (
    checked,
    in_language,
    operators_log,
    password_file_option,
    print_report,
    server_of,
)
from services.cli.registry.sign_in import asked_secret, sign_in_option
from services.common.errors import EXIT_FAILED
from services.common.settings import Settings
from services.common.version import version
from services.connect import consent
from services.connect import texts as connection_texts
from services.connect.completeness import NumbersForecast, SettlingRule, numbers
from services.connect.connection_test import TestReport
from services.connect.onboarding import (
    ConnectedMailbox,
    ConnectionTester,
    ConnectRequest,
    LoginChanges,
    MailboxRefused,
    add_mailbox,
    changed_login,
    check_name,
    consented,
    login_of,
    reconnect_mailbox,
    refuse_mailbox,
)
from services.imap.connection import folder_name, folder_text
from services.imap.session import Login, resolve
from services.providers.catalog import Language, domain_of
from services.registry import states
from services.registry.registry import OPERATOR, RegistryError
from services.signin.oauth import KIND, AccessTokens, MemoryTokenStore, TokenStore

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
@sign_in_option
@click.option("--consent-by", default="", help="Who consented (see `mailbox consent-text`).")
@click.option("--consent-text", help="Version of the text that was shown; refused when it is not the one of today.")
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
    oauth2: bool,
    consent_by: str,
    consent_text: str | None,
    sent_folder: tuple[str, ...],
    language: Language,
    json_: bool,
) -> None:
    """Connect a mailbox: consent, the connection test (see `mailbox test`), then it is active.

    Without --password-file the password is asked for; it is sealed at once and never shown again.
    """
    found = load_config()
    operators_log(found)
    request = ConnectRequest(
        company_id=company_id,
        account_id=account_id,
        address=address,
        password="",
        consent_by=consent_by,
        role=role,
        user=user,
        sent_override=_chosen(sent_folder),
        language=language,
        text_version=consent_text,
    )
    try:
        server, number = server_of(address, host, port, found.imap, quiet=json_)
    except MailboxRefused as error:
        if error.code == "provider-unsupported" and consent_by:
            with registry(found) as held:
                error = refuse_mailbox(held, request, error.report)
        _refused(error, company_id, language, json_=json_)
    request = replace(request, host=server, port=number, consent_by=consent_by or _asked_consent(language))
    with registry(found) as held:
        # Before a password is asked for: without consent, or without need, none is wanted.
        consented(request.consent_by, language, consent_text)
        held.check_account(company_id, account_id)
    tokens = AccessTokens(found.oauth2)
    secret = asked_secret(password_file, server, request.user or address, tokens if oauth2 else None, found.oauth2)
    request = replace(request, password=secret, kind=KIND if oauth2 else request.kind)
    try:
        with registry(found) as held:
            connected = add_mailbox(held, request, _trial(found, tokens))
    except MailboxRefused as error:
        _refused(error, company_id, language, json_=json_)
    _connected(found, connected, language, json_=json_)


@mailbox.command("reconnect")
@click.argument("company_id")
@click.argument("mailbox_id")
@click.option("--address", help="Its address, when it is another one now.")
@click.option("--host", help="IMAP server, when it is another one now.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port, when it is another one now.")
@click.option("--user", help="User name, when it is another one now.")
@password_file_option
@sign_in_option
@click.option(
    "--sent-folder", multiple=True,
    help="Name of the Sent folder as the server lists it; may be repeated. Left out: as before; '': found by itself.",
)  # fmt: skip
@click.option("--consent-by", default="", help="Who consents; needed when the login is that of another mailbox.")
@in_language
@as_json
@guarded
def mailbox_reconnect(
    company_id: str,
    mailbox_id: str,
    address: str | None,
    host: str | None,
    port: int | None,
    user: str | None,
    password_file: Path | None,
    oauth2: bool,
    sent_folder: tuple[str, ...],
    consent_by: str,
    language: Language,
    json_: bool,
) -> None:
    """Connect a mailbox again: after a changed address or password, with another server or user name.

    The password is always needed again, and the connection test must pass before anything changes. The same login is read
    on from where it was; another one is another mailbox, which needs consent and is read from the start.
    """
    found = load_config()
    operators_log(found)
    with registry(found) as held:
        stored = held.stored(company_id, mailbox_id)
        # Before a secret is asked for: whether it is wanted at all, and where it would go.
        held.check_reconnect(company_id, mailbox_id, replace(stored, address=address or stored.address))
        moved = address is not None and domain_of(address) != domain_of(stored.address)
        try:
            if host is not None or (port is not None and not moved):
                host, port = checked(host or stored.host, port, address or stored.address, found.imap)
            elif moved:
                # Another provider's password does not go to the server of before.
                host, port = server_of(address or "", None, port, found.imap, quiet=json_)
        except MailboxRefused as error:
            _refused(error, company_id, language, json_=json_)
        tokens = AccessTokens(found.oauth2)
        account = user or address or stored.user
        secret = asked_secret(password_file, host or stored.host, account, tokens if oauth2 else None, found.oauth2)
        changes = LoginChanges(
            password=secret,
            kind=KIND if oauth2 else "password",
            address=address,
            host=host,
            port=port,
            user=user,
            sent_override=_chosen(sent_folder) if sent_folder else None,
        )
        login = changed_login(stored, changes)
        if not consent_by and not held.is_same_login(company_id, mailbox_id, login):
            consent_by = _asked_consent(language)
        try:
            connected = reconnect_mailbox(
                held, company_id, mailbox_id, login, _trial(found, tokens), consent_by=consent_by, language=language
            )
        except MailboxRefused as error:
            _refused(error, company_id, language, json_=json_)
    _connected(found, connected, language, json_=json_)


def _asked_consent(language: Language) -> str:
    """Show the text and ask who consents; empty when nobody is there."""
    if not sys.stdin.isatty():
        return ""
    current = consent.load().current
    errors.print(current.texts[language], markup=False)
    name: str = click.prompt("Who consents, as owner of this mailbox (name)", default="", show_default=False, err=True)
    return name


def _connected(found: Settings, connected: ConnectedMailbox, language: Language, *, json_: bool) -> None:
    folders = [folder_text(folder.name) for folder in connected.folders]
    settling = _settling(found)
    expected = numbers(connected.expected_from, settling, datetime.now(UTC))
    if json_:
        print_json(
            {
                "company_id": connected.company_id,
                "mailbox_id": connected.mailbox_id,
                "state": "active",
                "sent_folders": folders,
                "messages": connected.messages,
                "read_anew": connected.anew,
                "complete_from": connected.expected_from,
                "numbers": _numbers(expected),
                "test": connection_texts.as_data(connected.report),
            }
        )
        return
    print_report(connected.report, language)
    errors.print(
        f"mailbox {connected.mailbox_id} is active: {', '.join(folders)} with {connected.messages} messages",
        markup=False,
    )
    click.echo(connection_texts.told(expected, settling, language))
    errors.print(
        "the first scan begins at once; `replyrate mailbox show` tells how far it is"
        if connected.anew
        else "reading goes on where it was"
    )


def _settling(found: Settings) -> SettlingRule:
    """What of the rule set `default` decides when a number is shown."""
    rule_set = rules.load("default", found.aggregator.rules_dir)
    return SettlingRule(
        rule_set.name, rule_set.zone, rule_set.target_seconds, rule_set.window_days, rule_set.settle_days
    )


def _numbers(expected: NumbersForecast) -> dict[str, Any]:
    return {
        "first_day": expected.first_day,
        "visible_on": expected.visible_on,
        "whole_on": expected.whole_on,
        "rule_set": "default",
    }


@mailbox.command("consent-text")
@click.option("--version", "number", help="An older version; the one of today when not given.")
@in_language
@as_json
@guarded
def mailbox_consent_text(number: str | None, language: Language, json_: bool) -> None:
    """What the owner of a mailbox consents to."""
    known = consent.load()
    texts = {one.version: one for one in known.versions}
    if number is not None and number not in texts:
        raise RegistryError(f"there is no consent text {number}; choose of {', '.join(texts)}")
    shown = texts[number] if number is not None else known.current
    if json_:
        print_json({"version": shown.version, "since": shown.since, "sha256": shown.sha256, "texts": shown.texts})
        return
    if language not in shown.texts:
        raise RegistryError(f"consent text {shown.version} was shown in {', '.join(shown.texts)} alone")
    click.echo(f"{shown.texts[language]}\n")
    errors.print(f"version {shown.version}", style="dim")


@mailbox.command("history")
@click.argument("company_id")
@click.argument("mailbox_id")
@in_language
@as_json
@guarded
def mailbox_history(company_id: str, mailbox_id: str, language: Language, json_: bool) -> None:
    """Every change of a mailbox's state: when, by whom, why; and who consented to what."""
    with registry(load_config()) as found:
        row = found.mailbox(company_id, mailbox_id)
    changes = [{**one, "says": connection_texts.state_reason(one["reason"], language)} for one in row["history"]]
    if json_:
        print_json({"history": changes, "consents": row["consents"]})
        return
    for one in changes:
        before = "" if one["from_state"] in (None, one["to_state"]) else f"{_state(one['from_state'], language)} → "
        click.echo(
            f"{text(one['changed_at'])}  {before}{_state(one['to_state'], language)}"
            f"  ({one['changed_by']})  {one['says']}"
        )
    for one in row["consents"]:
        ended = f", withdrawn {text(one['withdrawn_at'])} by {one['withdrawn_by']}" if one["withdrawn_at"] else ""
        click.echo(
            f"{text(one['consented_at'])}  consent of {one['consented_by']} to text {one['text_version']}"
            f" ({one['language']}){ended}"
        )


def _state(state: str, language: Language) -> str:
    known = states.load().names
    return known[state].text(language) if state in known else state  # type: ignore[index]


@mailbox.command("test")
@click.argument("company_id")
@click.argument("mailbox_id", required=False)
@click.option("--address", help="Address of a mailbox that is not connected yet, instead of MAILBOX_ID.")
@click.option("--host", help="IMAP server; looked up by the address when not given.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port, TLS from the start; 993 when not given.")
@click.option("--user", help="User name; the address when not given.")
@password_file_option
@sign_in_option
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
    oauth2: bool,
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
    if mailbox_id is not None and any((host, port, user, password_file, oauth2, sent_folder)):
        raise click.UsageError("a connected mailbox is tried as it is stored; leave the other options out")
    found = load_config()
    operators_log(found)
    overrides = _chosen(sent_folder)
    tokens = AccessTokens(found.oauth2)
    typed: Login | None = None
    if address is not None:
        try:
            server, number = server_of(address, host, port, found.imap, quiet=json_)
        except MailboxRefused as error:
            _told(error.report, language, json_=json_)
            return
        # Before the database is opened: who signs in takes minutes.
        secret = asked_secret(password_file, server, user or address, tokens if oauth2 else None, found.oauth2)
        request = ConnectRequest(
            company_id, "", address, secret, "", host=server, port=number, user=user, sent_override=overrides,
            kind=KIND if oauth2 else "password",
        )  # fmt: skip
        typed = login_of(request)
    keeping: TokenStore
    with registry(found) as held:
        if typed is not None:
            login, keeping = typed, MemoryTokenStore(typed.password)
        else:
            assert mailbox_id is not None
            login, keeping = held.credentials(company_id, mailbox_id), held.token_store(company_id, mailbox_id)
        report, _ = _trial(found, tokens).test(held, company_id, login, keeping)
    if password_file is not None and keeping.read() != login.password:
        errors.print(
            "the provider gave another refresh token for the one in the file, which may be worth nothing now, and a test keeps"
            " none; sign in without --password-file to connect this mailbox",
            style="yellow", markup=False, soft_wrap=True,
        )  # fmt: skip
    _told(report, language, json_=json_)


def _told(report: TestReport, language: Language, *, json_: bool) -> None:
    if json_:
        print_json(connection_texts.as_data(report))
    else:
        print_report(report, language)
    if not report.passed:
        sys.exit(EXIT_FAILED)


def _refused(error: MailboxRefused, company_id: str, language: Language, *, json_: bool) -> NoReturn:
    if json_:
        print_json(
            {
                "company_id": company_id,
                "mailbox_id": error.mailbox_id or None,
                "state": error.state or None,
                "test": connection_texts.as_data(error.report),
            }
        )
        sys.exit(EXIT_FAILED)
    print_report(error.report, language)
    errors.print(connection_texts.sentence(error.report, language), style="red", markup=False, soft_wrap=True)
    sys.exit(EXIT_FAILED)


def _chosen(sent_folder: tuple[str, ...]) -> tuple[bytes, ...]:
    """Raw names of the Sent folders that were named; none when an empty name was given: they are found by themselves."""
    return tuple(folder_name(name) for name in sent_folder if name)


def _trial(found: Settings, tokens: AccessTokens) -> ConnectionTester:
    return ConnectionTester(found.imap, resolve, version(), found.horizon_days, progress=_began, tokens=tokens)


def _began(stage: str) -> None:
    errors.print(f"  {stage} …", style="dim")


@mailbox.command("list")
@click.argument("company_id", required=False)
@as_json
@guarded
def mailbox_list(company_id: str | None, json_: bool) -> None:
    """Mailboxes of a company, or all."""
    with registry(load_config()) as found:
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
@in_language
@as_json
@guarded
def mailbox_show(company_id: str, mailbox_id: str, language: Language, json_: bool) -> None:
    """One mailbox: state and why, since when its numbers are complete, folders, messages by kind.

    With --json each folder has its raw name as the server lists it (`folder`) and as people read it (`name`); --sent-folder
    takes either.
    """
    found = load_config()
    with registry(found) as held:
        row = held.mailbox(company_id, mailbox_id)
    settling, begins = _settling(found), row["complete_from"] or row["expected_from"]
    expected = None
    if row["state"] == "active" and begins is not None:
        expected = numbers(begins, settling, datetime.now(UTC))
    if json_:
        folders = [{**folder, "name": folder_text(folder["folder"])} for folder in row["folders"]]
        print_json({**row, "folders": folders, "numbers": None if expected is None else _numbers(expected)})
        return
    for name, value in row.items():
        if not isinstance(value, list):
            click.echo(f"{name:18} {text(value)}")
    for folder in row["folders"]:
        click.echo(f"{'folder':18} {progress(folder)}")
    for kind in row["kinds"]:
        click.echo(f"{'messages':18} {kind['kind']}: {kind['sum']}")
    for link in row["links"]:
        click.echo(f"{'linked with':18} {link['company_id']} (by {link['linked_by']}, {text(link['linked_at'])})")
    click.echo(f"{'that is':18} {_state(row['state'], language)}")
    if row["state_reason"]:
        click.echo(f"{'because':18} {connection_texts.state_reason(row['state_reason'], language)}")
    if expected is not None:
        click.echo(f"{'numbers':18} {connection_texts.told(expected, settling, language)}")


def progress(folder: dict[str, Any]) -> str:
    """How far a folder is read, in words."""
    name = folder_text(folder["folder"])
    if folder["scan_down_to_uid"] is None:
        return f"{name}: {folder['messages']} messages, read to the horizon"
    return f"{name}: scanning, {folder['scan_done']} of at most {folder['messages']} messages read"


@mailbox.command("pause")
@click.argument("company_id")
@click.argument("mailbox_id")
@click.option("--by", default=OPERATOR, show_default=True, help="Who wants it.")
@guarded
def mailbox_pause(company_id: str, mailbox_id: str, by: str) -> None:
    """Read a mailbox no more until it is resumed."""
    check_name("--by", by)
    with registry(load_config()) as found:
        found.pause(company_id, mailbox_id, by=by)
    errors.print(f"mailbox {mailbox_id} is paused")


@mailbox.command("resume")
@click.argument("company_id")
@click.argument("mailbox_id")
@click.option("--by", default=OPERATOR, show_default=True, help="Who wants it.")
@guarded
def mailbox_resume(company_id: str, mailbox_id: str, by: str) -> None:
    """Read a paused mailbox again."""
    check_name("--by", by)
    with registry(load_config()) as found:
        found.resume(company_id, mailbox_id, by=by)
    errors.print(f"mailbox {mailbox_id} is active")


@mailbox.command("rescan")
@click.argument("company_id")
@click.argument("mailbox_id")
@guarded
def mailbox_rescan(company_id: str, mailbox_id: str) -> None:
    """Read everything within the horizon again; what is known is published unchanged."""
    with registry(load_config()) as found:
        found.rescan(company_id, mailbox_id)
        state = found.mailbox(company_id, mailbox_id)["state"]
    errors.print(
        f"mailbox {mailbox_id} is read again from the newest message to the horizon"
        + ("" if state == "active" else f" once it is active; now it is {state}"),
        soft_wrap=True,
    )


@mailbox.command("remove")
@click.argument("company_id")
@click.argument("mailbox_id")
@click.option("--by", default=OPERATOR, show_default=True, help="Who withdraws the consent.")
@in_language
@guarded
def mailbox_remove(company_id: str, mailbox_id: str, by: str, language: Language) -> None:
    """Withdraw the consent: a mailbox is never read again; its password, address and user name are deleted."""
    check_name("--by", by)
    with registry(load_config()) as found:
        found.remove(company_id, mailbox_id, by=by)
    errors.print(f"mailbox {mailbox_id} is removed; its secrets are deleted")
    for sentence in consent.load().remains[language]:
        click.echo(sentence)


@mailbox.command("link")
@click.argument("company_id")
@click.argument("mailbox_id")
@click.argument("other_company_id")
@click.option("--by", required=True, help="The operator who decided it.")
@guarded
def mailbox_link(company_id: str, mailbox_id: str, other_company_id: str, by: str) -> None:
    """Let another company connect the login of this mailbox too; each reads it by itself."""
    check_name("--by", by)
    with registry(load_config()) as found:
        found.link(company_id, mailbox_id, other_company_id, by=by)
    errors.print(f"company {other_company_id} may connect the login of mailbox {mailbox_id} too: replyrate mailbox add")


@mailbox.command("unlink")
@click.argument("company_id")
@click.argument("mailbox_id")
@click.argument("other_company_id")
@guarded
def mailbox_unlink(company_id: str, mailbox_id: str, other_company_id: str) -> None:
    """Take that back; the other company must have removed the mailbox first."""
    with registry(load_config()) as found:
        found.unlink(company_id, mailbox_id, other_company_id)
    errors.print(f"company {other_company_id} may not connect the login of mailbox {mailbox_id} any more")
