"""Companies and their accounts: `company add`, `account add|change-address|remove-address|platform-sync`."""

from datetime import UTC, datetime

import click

from services.cli.context import guarded, load_config, open_registry
from services.cli.output import errors
from services.common.display import printable
from services.connect.consent import check_name
from services.registry.errors import RegistryError
from services.registry.registry import Registry
from services.registry.state_changes import OPERATOR


@click.group()
def company() -> None:
    """Companies (sellers)."""


@company.command("add")
@click.argument("company_id")
@guarded
def company_add(company_id: str) -> None:
    """Register a company."""
    with open_registry(load_config()) as registry:
        is_new = registry.companies.add(company_id)
    errors.print(
        f"Company {printable(company_id)} is registered."
        if is_new
        else f"Company {printable(company_id)} already exists."
    )


@click.group()
def account() -> None:
    """Main accounts and sub-accounts of a company."""


@account.command("add")
@click.argument("company_id")
@click.argument("account_id")
@click.option("--sub", is_flag=True, help="A sub-account. Default: a main account.")
@click.option(
    "--synced-by-platform", is_flag=True, help="It replies through the platform's own mail and needs no mailbox."
)
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="Start of the sync by the platform, a UTC day. Default: now.",
)
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
        raise click.UsageError("--since is the start of the sync by the platform: add --synced-by-platform")
    synced_from = None
    if synced_by_platform:
        synced_from = since.replace(tzinfo=UTC) if since is not None else datetime.now(UTC)
        if synced_from > datetime.now(UTC):
            raise click.UsageError("--since is in the future; name the day on which the sync started")
    addresses = {
        role: value for role, value in (("registered", address), ("backup", backup_address)) if value is not None
    }
    with open_registry(load_config()) as registry:
        is_new = registry.accounts.add(company_id, account_id, kind="sub" if sub else "main", synced_from=synced_from)
        reconnect = _set_addresses(registry, company_id, account_id, addresses, is_new=is_new)
    errors.print(
        f"Account {printable(account_id)} is registered."
        if is_new
        else f"Account {printable(account_id)} already exists."
    )
    _print_reconnect(company_id, reconnect)


def _set_addresses(
    registry: Registry, company_id: str, account_id: str, addresses: dict[str, str], *, is_new: bool
) -> list[str]:
    """Set the addresses that the account does not have yet, by role; returns the mailboxes to connect again.

    Raises RegistryError when one of the roles has another address. All are compared before the first is written, so that
    a command that fails has changed nothing.
    """
    same = {
        role: None if is_new else registry.addresses.matches(company_id, account_id, role, value)
        for role, value in addresses.items()
    }
    for role in addresses:
        if same[role] is False:
            raise RegistryError(
                f"account {printable(account_id)} has another {role} address; change it with: replyrate account change-address"
                f" {printable(company_id)} {printable(account_id)} ADDRESS"
                + (" --role backup" if role == "backup" else "")
            )
    reconnect: list[str] = []
    for role, value in addresses.items():
        if same[role] is None:
            reconnect += registry.addresses.set(company_id, account_id, role, value)
    return reconnect


@account.command("change-address")
@click.argument("company_id")
@click.argument("account_id")
@click.argument("address")
@click.option(
    "--role", type=click.Choice(["registered", "backup"]), default="registered", show_default=True,
    help="Which address of the account changed.",
)  # fmt: skip
@click.option("--by", metavar="ACCOUNT", help="Account that changes it. Default: the account itself.")
@guarded
def account_change_address(company_id: str, account_id: str, address: str, role: str, by: str | None) -> None:
    """Record that the address of an account changed.

    The address is the one on the platform. A mailbox must then be connected again: the mailbox of the previous address; when none was known, every mailbox of this role with another address. The
    registered address of a sub-account is changed by the main account.
    """
    with open_registry(load_config()) as registry:
        reconnect = registry.addresses.change(company_id, account_id, role, address, by=by)
    _print_reconnect(company_id, reconnect)
    if not reconnect:
        errors.print("No connected mailbox is affected.")


@account.command("remove-address")
@click.argument("company_id")
@click.argument("account_id")
@click.option(
    "--role", type=click.Choice(["registered", "backup"]), default="registered", show_default=True,
    help="Which address of the account to forget.",
)  # fmt: skip
@click.option("--by", metavar="ACCOUNT", help="Account that removes it. Default: the account itself.")
@guarded
def account_remove_address(company_id: str, account_id: str, role: str, by: str | None) -> None:
    """Forget an address of an account.

    Its mailboxes stay connected: without a known address none is compared.
    """
    with open_registry(load_config()) as registry:
        registry.addresses.remove(company_id, account_id, role, by=by)
    errors.print(f"The {role} address of account {printable(account_id)} is forgotten.")


def _print_reconnect(company_id: str, mailbox_ids: list[str]) -> None:
    for mailbox_id in mailbox_ids:
        errors.print(
            f"Mailbox {printable(mailbox_id)} must be connected again (address-changed): replyrate mailbox reconnect"
            f" {printable(company_id)} {printable(mailbox_id)} --address ADDRESS (and --user USER where the login has another name). If the"
            f" account no longer uses the mailbox: replyrate mailbox remove {printable(company_id)} {printable(mailbox_id)}",
            markup=False,
            soft_wrap=True,
        )


@account.command("platform-sync")
@click.argument("company_id")
@click.argument("account_id")
@click.option("--on/--off", required=True, help="Whether the account replies through the platform's own mail.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="With --on: start, a UTC day. Default: now.",
)
@click.option("--by", default=OPERATOR, show_default=True, help="Person to record as having decided it.")
@guarded
def account_platform_sync(company_id: str, account_id: str, on: bool, since: datetime | None, by: str) -> None:
    """Record whether an account replies through the platform.

    That is, through the platform's own mail instead of a mailbox. With --on its mailboxes are no longer read and their passwords are deleted; after --off they must be connected again.
    """
    if since is not None and not on:
        raise click.UsageError("--since is the start of the sync by the platform: it goes with --on")
    check_name("--by", by)
    with open_registry(load_config()) as registry:
        if on:
            synced_from = since.replace(tzinfo=UTC) if since is not None else datetime.now(UTC)
            mailbox_ids = registry.accounts.start_platform_sync(company_id, account_id, synced_from, by=by)
        else:
            mailbox_ids = registry.accounts.end_platform_sync(company_id, account_id, by=by)
    errors.print(f"Account {printable(account_id)} is {'synced' if on else 'no longer synced'} by the platform.")
    for mailbox_id in mailbox_ids:
        errors.print(
            f"Mailbox {printable(mailbox_id)} is no longer read; its password is deleted."
            if on
            else f"Mailbox {printable(mailbox_id)} must be connected again: replyrate mailbox reconnect {printable(company_id)} {printable(mailbox_id)}",
            markup=False,
            soft_wrap=True,
        )
