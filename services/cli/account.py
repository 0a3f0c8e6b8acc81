"""Companies and their accounts: `company add`, `account add|change-address`."""

from datetime import UTC, datetime

import click

from services.cli.context import errors, guarded, registry, settings


@click.group()
def company() -> None:
    """Companies (sellers)."""


@company.command("add")
@click.argument("company_id")
@guarded
def company_add(company_id: str) -> None:
    """Register a company."""
    with registry(settings()) as found:
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
    with registry(settings()) as found:
        added = found.add_account(company_id, account_id, kind="sub" if sub else "main", synced_from=synced_from)
        for role, value in (("registered", address), ("backup", backup_address)):
            if value is not None:
                found.set_address(company_id, account_id, role, value)
    errors.print(f"account {account_id} is registered" if added else f"account {account_id} was registered before")


@account.command("change-address")
@click.argument("company_id")
@click.argument("account_id")
@click.argument("address")
@click.option("--role", type=click.Choice(["registered", "backup"]), default="registered", show_default=True)
@guarded
def account_change_address(company_id: str, account_id: str, address: str, role: str) -> None:
    """The platform changed an address of an account: its mailbox must be connected again."""
    with registry(settings()) as found:
        changed = found.set_address(company_id, account_id, role, address)
    for mailbox_id in changed:
        errors.print(f"mailbox {mailbox_id} needs to be connected again (address-changed)")
    if not changed:
        errors.print("no connected mailbox is affected")
