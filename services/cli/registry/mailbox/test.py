"""`mailbox test`: the connection test of a mailbox, without connecting it."""

import click

from services.cli.context import as_json, guarded, in_language, load_config, open_registry
from services.cli.output import errors
from services.cli.registry.mailbox.options import NEW_LOGIN, LoginOptions, login_options
from services.cli.registry.mailbox.report import connection_tester, operators_log, print_result
from services.cli.registry.mailbox.secret import read_secret
from services.cli.registry.mailbox.server import server_of
from services.common.language import Language
from services.common.settings import Settings
from services.connect.onboarding import MailboxRefused
from services.connect.requests import ConnectRequest, requested_login
from services.mail.values import Login
from services.signin.access_tokens import AccessTokens
from services.signin.token_store import KIND, MemoryTokenStore, TokenStore


@click.command("test")
@click.argument("company_id")
@click.argument("mailbox_id", required=False)
@click.option("--address", help="Address of a mailbox that is not connected yet, instead of MAILBOX_ID.")
@login_options(NEW_LOGIN)
@in_language
@as_json
@guarded
def mailbox_test(
    company_id: str,
    mailbox_id: str | None,
    address: str | None,
    options: LoginOptions,
    language: Language,
    json_: bool,
) -> None:
    """Test the connection to a mailbox, stage by stage.

    Prints what to do about the stage that fails. Nothing in the mailbox is changed. A connected mailbox is tested with its stored login; for one that is not connected yet, give --address and its
    password. Standard output may be shown to the owner of the mailbox; log lines on standard error are for the operator.
    """
    if (mailbox_id is None) == (address is None):
        raise click.UsageError("name a connected mailbox (MAILBOX_ID), or one that is not connected with --address")
    if mailbox_id is not None and options.is_given:
        raise click.UsageError("a connected mailbox is tested with its stored login; leave the other options out")
    config = load_config()
    operators_log(config)
    tokens = AccessTokens(config.oauth2)
    typed_login: Login | None = None
    if address is not None:
        try:
            # Before the database is opened: a sign-in takes minutes.
            typed_login = _typed_login(config, company_id, address, options, tokens, quiet=json_)
        except MailboxRefused as error:
            print_result(error.report, language, json_=json_)
            return
    token_store: TokenStore
    with open_registry(config) as registry:
        if typed_login is not None:
            login, token_store = typed_login, MemoryTokenStore(typed_login.password)
        else:
            assert mailbox_id is not None
            login, token_store = (
                registry.logins.with_password(company_id, mailbox_id),
                registry.logins.token_store(company_id, mailbox_id),
            )
        report, _ = connection_tester(config, tokens).test(registry, company_id, login, token_store)
    if options.password_file is not None and token_store.read() != login.password:
        errors.print(
            "The provider replaced the refresh token of the file; the old one may be worthless now, and a test does not keep"
            " the new one. Sign in without --password-file to connect this mailbox.",
            style="yellow", markup=False, soft_wrap=True,
        )  # fmt: skip
    print_result(report, language, json_=json_)


def _typed_login(
    config: Settings, company_id: str, address: str, options: LoginOptions, tokens: AccessTokens, *, quiet: bool
) -> Login:
    """The login that the options describe, with a secret that is asked for. Raises MailboxRefused."""
    server = server_of(address, options.host, options.port, options.starttls, config.imap, quiet=quiet)
    user = options.user or address
    secret = read_secret(options.password_file, server.host, user, tokens if options.oauth2 else None, config.oauth2)
    return requested_login(ConnectRequest(
        company_id, "", address, secret, "", host=server.host, port=server.port, tls=server.tls, user=options.user,
        sent_override=options.sent_override, kind=KIND if options.oauth2 else "password",
    ))  # fmt: skip
