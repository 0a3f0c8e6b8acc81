"""`connect-link` and `panel-link COMPANY ACCOUNT`: the links with which a seller connects a mailbox, and sees the figures, on the portal."""

from collections.abc import Callable
from typing import Any, get_args

import click

from services.cli.context import as_json, guarded, load_config, open_registry
from services.cli.output import echo, errors, print_json
from services.common.language import Language
from services.connect.consent import check_name
from services.registry.addresses import ROLES
from services.registry.portal_sessions import LinkRequest, PortalSessions
from services.registry.state_changes import OPERATOR


def link_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every link."""
    for option in (
        click.option("--lang", "language", type=click.Choice(get_args(Language)), default="en", show_default=True,
                     help="Language of the pages; the seller can change it."),
        click.option("--by", default=OPERATOR, show_default=True, help="Who hands out the link."),
        click.option("--minutes", type=click.IntRange(1, 10_080),
                     help="Life of the link. Default: REPLYRATE_PORTAL__LINK_MINUTES."),
        click.option("--return-url", help="Page of the platform that the last page leads back to, https://…"),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("connect-link")
@click.argument("company_id")
@click.argument("account_id")
@click.option("--role", type=click.Choice(ROLES), default="registered", show_default=True,
              help="Which address of the account the mailbox belongs to.")  # fmt: skip
@click.option("--mailbox", "mailbox_id", help="Mailbox to connect again. Default: connect a new one.")
@click.option("--expected-address", help="The only address that may be connected. Default: any.")
@link_options
@as_json
@guarded
def connect_link(
    company_id: str,
    account_id: str,
    role: str,
    mailbox_id: str | None,
    expected_address: str | None,
    return_url: str | None,
    minutes: int | None,
    by: str,
    language: Language,
    json_: bool,
) -> None:
    """Print a link with which a seller connects a mailbox.

    The link can be opened once. Anyone who has it can connect a mailbox to the account, so send it only to the seller.
    """
    _print_link(
        LinkRequest(company_id, account_id, by, role, language, mailbox_id, expected_address, return_url),
        minutes,
        json_,
    )


@click.command("panel-link")
@click.argument("company_id")
@click.argument("account_id")
@link_options
@as_json
@guarded
def panel_link(
    company_id: str,
    account_id: str,
    return_url: str | None,
    minutes: int | None,
    by: str,
    language: Language,
    json_: bool,
) -> None:
    """Print a link with which a seller sees the reply rate.

    The seller sees what is behind the rate as well, can connect mailboxes and withdraw the consent. A main account sees the
    figures of the whole company, a sub-account its own. The link can be opened once; send it only to the seller.
    """
    _print_link(
        LinkRequest(company_id, account_id, by, language=language, return_url=return_url, purpose="panel"),
        minutes,
        json_,
    )


def _print_link(wanted: LinkRequest, minutes: int | None, json_: bool) -> None:
    check_name("--by", wanted.created_by)
    config = load_config()
    with open_registry(config) as registry:
        link = PortalSessions(registry.connection).make_link(wanted, minutes or config.portal.link_minutes)
    url = link.url(config.portal.public_url, wanted.language)
    if json_:
        print_json({"url": url, "session_id": link.session_id, "expires_at": link.expires_at})
        return
    echo(url)
    errors.print(f"It can be opened once, until {link.expires_at:%Y-%m-%d %H:%M} UTC.")
