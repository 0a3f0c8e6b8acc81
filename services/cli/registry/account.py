"""Companies and their accounts: `company add`, `account add|change-address|platform-sync`."""

from datetime import UTC, datetime

import click

from services.cli.context import errors, guarded, load_config, registry
from services.connect.onboarding import check_name
from services.registry.registry import OPERATOR, RegistryError


@click.group()
def company() -> None:
    """Companies (sellers)."""


@company.command("add")
@click.argument("company_id")
@guarded
def company_add(company_id: str) -> None:
    """Register a company."""
    with registry(load_config()) as found:
        added = found.add_company(company_id)
    errors.print(f"company {company_id} is registered" if added else f"company {company_id} was registered before")


@click.group()
def account() -> None:
    """Accounts and sub-accounts of a company."""


@account.command("add")
@click.argument("company_id")
@click.argument("account_id")
@click.option("--sub", is_flag=True, help="A sub-account; the default is a main account.")
@click.option(
    "--synced-by-platform", is_flag=True, help="It answers through the platform's own mail: no mailbox needed."
)
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Since when it does (UTC day; default: now).")
@click.option("--address", help="Its registered address on the platform.")
@click.option("--backup-address", help="Its backup address on the platform.")
@guarded
def account_add(
    company_id: str,
    account_id: str,
    sub: bool,
    synced_by_platform: bool,
    since: datetime | None,
    address: str | None,
    backup_address: str | None,
) -> None:
    """Register an account."""
    if since is not None and not synced_by_platform:
        raise click.UsageError("--since says since when the platform syncs the account: add --synced-by-platform")
    synced_from = None
    if synced_by_platform:
        synced_from = since.replace(tzinfo=UTC) if since is not None else datetime.now(UTC)
        if synced_from > datetime.now(UTC):
            raise click.UsageError("--since lies in the future; name the day since when the platform does")
    changed: list[str] = []
    with registry(load_config()) as found:
        added = found.add_account(company_id, account_id, kind="sub" if sub else "main", synced_from=synced_from)
        told = {
            role: value for role, value in (("registered", address), ("backup", backup_address)) if value is not None
        }
        held = {role: None if added else found.has_address(company_id, account_id, role, told[role]) for role in told}
        # Both before the first is written: what a refused command had changed would be told nobody.
        for role in told:
            if held[role] is False:
                raise RegistryError(
                    f"account {account_id} has another {role} address; change it with: replyrate account change-address"
                    f" {company_id} {account_id} ADDRESS" + (" --role backup" if role == "backup" else "")
                )
        for role, value in told.items():
            if held[role] is None:
                changed += found.set_address(company_id, account_id, role, value)
    errors.print(f"account {account_id} is registered" if added else f"account {account_id} was registered before")
    _connect_again(company_id, changed)


@account.command("change-address")
@click.argument("company_id")
@click.argument("account_id")
@click.argument("address")
@click.option("--role", type=click.Choice(["registered", "backup"]), default="registered", show_default=True)
@click.option("--by", metavar="ACCOUNT", help="The account that changes it; itself when not given.")
@guarded
def account_change_address(company_id: str, account_id: str, address: str, role: str, by: str | None) -> None:
    """An address of an account changed on the platform: its mailbox must be connected again.

    That is the mailbox of the address before; when none was known, every one of this role with another address. The
    registered address of a sub-account is changed by the main account.
    """
    with registry(load_config()) as found:
        changed = found.change_address(company_id, account_id, role, address, by=by)
    _connect_again(company_id, changed)
    if not changed:
        errors.print("no connected mailbox is affected")


def _connect_again(company_id: str, mailbox_ids: list[str]) -> None:
    for mailbox_id in mailbox_ids:
        errors.print(
            f"mailbox {mailbox_id} needs to be connected again (address-changed): replyrate mailbox reconnect"
            f" {company_id} {mailbox_id} --address ADDRESS (and --user USER where the login has another name); or, when the"
            f" account does not use it any more: replyrate mailbox remove {company_id} {mailbox_id}",
            markup=False,
            soft_wrap=True,
        )


@account.command("platform-sync")
@click.argument("company_id")
@click.argument("account_id")
@click.option("--on/--off", required=True, help="Whether it answers through the platform's own mail now.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="With --on: since when (UTC day; default: now).")
@click.option("--by", default=OPERATOR, show_default=True, help="Who decided it.")
@guarded
def account_platform_sync(company_id: str, account_id: str, on: bool, since: datetime | None, by: str) -> None:
    """An account answers through the platform's own mail from now on, or does not any more.

    With --on its mailboxes are not read any more and their passwords are deleted; after --off they must be connected again.
    """
    if since is not None and not on:
        raise click.UsageError("--since says since when the platform syncs the account: it goes with --on")
    check_name("--by", by)
    with registry(load_config()) as found:
        if on:
            begins = since.replace(tzinfo=UTC) if since is not None else datetime.now(UTC)
            moved = found.begin_platform_sync(company_id, account_id, begins, by=by)
        else:
            moved = found.end_platform_sync(company_id, account_id, by=by)
    errors.print(f"account {account_id} is {'synced' if on else 'not synced any more'} by the platform")
    for mailbox_id in moved:
        errors.print(
            f"mailbox {mailbox_id} is not read any more; its password is deleted"
            if on
            else f"mailbox {mailbox_id} must be connected again: replyrate mailbox reconnect {company_id} {mailbox_id}",
            markup=False,
            soft_wrap=True,
        )
