"""`mailbox add` and `mailbox reconnect`: consent, the connection test, then the mailbox is active."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import NoReturn

import click

from services.cli.context import as_json, guarded, in_language, load_config, open_registry
from services.cli.output import echo, errors, print_json
from services.cli.registry.mailbox.consent import ask_consent
from services.cli.registry.mailbox.forecast import forecast_data, settling_rule
from services.cli.registry.mailbox.options import CHANGED_LOGIN, NEW_LOGIN, LoginOptions, login_options
from services.cli.registry.mailbox.report import connection_tester, exit_refused, operators_log, print_report
from services.cli.registry.mailbox.secret import read_secret
from services.cli.registry.mailbox.server import checked_server, server_of
from services.common.language import Language
from services.common.settings import ImapSettings, Settings
from services.connect import consent, texts
from services.connect.completeness import forecast_numbers
from services.connect.onboarding import ConnectedMailbox, MailboxRefused, add_mailbox, reconnect_mailbox, refuse_mailbox
from services.connect.requests import ConnectRequest, LoginChanges, changed_login
from services.imap.folders import folder_text
from services.mail.values import Login
from services.providers.addresses import domain_of
from services.providers.mail_server import MailServer
from services.signin.access_tokens import AccessTokens
from services.signin.token_store import KIND


@click.command("add")
@click.option("--company", "company_id", required=True, help="Company.")
@click.option("--account", "account_id", required=True, help="Account of the company.")
@click.option("--address", required=True, help="Address of the mailbox.")
@click.option("--role", type=click.Choice(["registered", "backup"]), default="registered", show_default=True,
              help="Which address of the account the mailbox belongs to.")  # fmt: skip
@login_options(NEW_LOGIN)
@click.option("--consent-by", default="", help="Name of the person who consents (see `mailbox consent-text`).")
@click.option("--consent-text", help="Version of the text that was shown; rejected when it is not the current one.")
@in_language
@as_json
@guarded
def mailbox_add(
    company_id: str,
    account_id: str,
    address: str,
    role: str,
    options: LoginOptions,
    consent_by: str,
    consent_text: str | None,
    language: Language,
    json_: bool,
) -> None:
    """Connect a mailbox.

    Records the consent, runs the connection test (see `mailbox test`), then activates the mailbox. Without --password-file the password is asked for. It is encrypted at once and never shown again.
    """
    config = load_config()
    operators_log(config)
    request = ConnectRequest(
        company_id, account_id, address, password="", consent_by=consent_by, role=role, user=options.user,
        sent_override=options.sent_override, language=language, text_version=consent_text,
    )  # fmt: skip
    try:
        server = server_of(address, options.host, options.port, options.starttls, config.imap, quiet=json_)
    except MailboxRefused as error:
        _exit_unsupported(error, config, request, json_=json_)
    request = replace(
        request, host=server.host, port=server.port, tls=server.tls, consent_by=consent_by or ask_consent(language)
    )
    with open_registry(config) as registry:
        # Checked first: without consent, or for an account that needs no mailbox, no password is asked for.
        consent.give(request.consent_by, language, consent_text)
        registry.accounts.check_needs_mailbox(company_id, account_id)
    tokens = AccessTokens(config.oauth2)
    user = request.user or address
    secret = read_secret(options.password_file, server.host, user, tokens if options.oauth2 else None, config.oauth2)
    request = replace(request, password=secret, kind=KIND if options.oauth2 else request.kind)
    try:
        with open_registry(config) as registry:
            connected = add_mailbox(registry, request, connection_tester(config, tokens))
    except MailboxRefused as error:
        exit_refused(error, company_id, language, json_=json_)
    _print_connected(config, connected, language, json_=json_)


def _exit_unsupported(error: MailboxRefused, config: Settings, request: ConnectRequest, *, json_: bool) -> NoReturn:
    """Exit for a server that cannot be used; the wish to connect to an unsupported provider is recorded."""
    if error.code == "provider-unsupported" and request.consent_by:
        with open_registry(config) as registry:
            error = refuse_mailbox(registry, request, error.report)
    exit_refused(error, request.company_id, request.language, json_=json_)


@click.command("reconnect")
@click.argument("company_id")
@click.argument("mailbox_id")
@click.option("--address", help="Address of the mailbox. Default: as before.")
@login_options(CHANGED_LOGIN)
@click.option(
    "--consent-by", default="", help="Name of the person who consents; needed for the login of another mailbox."
)
@in_language
@as_json
@guarded
def mailbox_reconnect(
    company_id: str,
    mailbox_id: str,
    address: str | None,
    options: LoginOptions,
    consent_by: str,
    language: Language,
    json_: bool,
) -> None:
    """Connect a mailbox again, for example with a new password.

    Use it after the address, password, server or user name changed. The password is always needed again, and nothing changes until the connection test has passed. With the same login,
    reading continues where it was. Another login is another mailbox: it needs consent and is read from the start.
    """
    config = load_config()
    operators_log(config)
    tokens = AccessTokens(config.oauth2)
    with open_registry(config) as registry:
        stored = registry.logins.without_password(company_id, mailbox_id)
        # Before asking for a secret, check that one is needed and which server would receive it.
        registry.connection_attempts.check_reconnect(
            company_id, mailbox_id, replace(stored, address=address or stored.address)
        )
        try:
            server = _changed_server(stored, address, options, config.imap, quiet=json_)
            secret = read_secret(
                options.password_file, server.host, options.user or address or stored.user,
                tokens if options.oauth2 else None, config.oauth2,
            )  # fmt: skip
            login = changed_login(stored, LoginChanges(
                password=secret, kind=KIND if options.oauth2 else "password", address=address, host=server.host,
                port=server.port, tls=server.tls, user=options.user, sent_override=options.sent_override if options.sent_folder else None,
            ))  # fmt: skip
            if not consent_by and not registry.logins.is_same(company_id, mailbox_id, login):
                consent_by = ask_consent(language)
            connected = reconnect_mailbox(
                registry, company_id, mailbox_id, login, connection_tester(config, tokens), consent_by=consent_by,
                language=language,
            )  # fmt: skip
        except MailboxRefused as error:
            exit_refused(error, company_id, language, json_=json_)
    _print_connected(config, connected, language, json_=json_)


def _changed_server(
    stored: Login, address: str | None, options: LoginOptions, settings: ImapSettings, *, quiet: bool
) -> MailServer:
    """The server, changed or as before. Raises MailboxRefused for one that cannot be used."""
    has_moved = address is not None and domain_of(address) != domain_of(stored.address)
    if options.host is not None or ((options.port is not None or options.starttls) and not has_moved):
        host = options.host or stored.host
        return checked_server(host, options.port, options.starttls, address or stored.address, settings)
    if has_moved:
        # The password of another provider must not go to the previous server.
        return server_of(address or "", None, options.port, options.starttls, settings, quiet=quiet)
    return MailServer(stored.host, stored.port, stored.tls)


def _print_connected(config: Settings, connected: ConnectedMailbox, language: Language, *, json_: bool) -> None:
    folders = [folder_text(folder.name) for folder in connected.folders]
    settling = settling_rule(config)
    forecast = forecast_numbers(connected.expected_from, settling, datetime.now(UTC))
    if json_:
        print_json(
            {
                "company_id": connected.company_id,
                "mailbox_id": connected.mailbox_id,
                "state": "active",
                "sent_folders": folders,
                "messages": connected.messages,
                "read_anew": connected.from_start,
                "complete_from": connected.expected_from,
                "numbers": forecast_data(forecast),
                "test": texts.as_data(connected.report),
            }
        )
        return
    print_report(connected.report, language)
    errors.print(
        f"Mailbox {connected.mailbox_id} is active: {', '.join(folders)} with {connected.messages} messages.",
        markup=False,
    )
    echo(texts.forecast(forecast, settling, language))
    errors.print(
        "The first scan starts now; `replyrate mailbox show` shows its progress."
        if connected.from_start
        else "Reading continues where it was."
    )
