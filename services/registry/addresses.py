"""The platform's e-mail addresses of an account, one for each role. SQL is in addresses.sql.

An address is stored sealed, masked for display, and hashed for comparison.
"""

from typing import Final, Literal, get_args

import psycopg

from services.common.hashing import Hasher
from services.common.postgres import Statements, load_statements
from services.registry import states
from services.registry.accounts import Accounts
from services.registry.errors import RegistryError
from services.registry.refusals import reason, words
from services.registry.state_changes import OPERATOR, StateChanges
from services.registry.vault import Vault, masked

SQL = load_statements("services.registry", "addresses.sql")
Role = Literal["registered", "backup"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)


class Addresses:
    """Reads and writes registry.addresses over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, hasher: Hasher, vault: Vault) -> None:
        self._sql = Statements(connection, SQL)
        self._changes = StateChanges(connection)
        self._accounts = Accounts(connection)
        self._hasher = hasher
        self._vault = vault

    def set(self, company_id: str, account_id: str, role: str, address: str, *, by: str = OPERATOR) -> list[str]:
        """Set the address of an account in a role. Returns the mailboxes that must be connected again because of it: those
        of the previous address, and those of any other address when no previous one is known."""
        self._accounts.get(company_id, account_id)
        new_hash = address_hash(self._hasher, company_id, address)
        values = {"company_id": company_id, "account_id": account_id, "role": role}
        event = states.load().events["address-changed"]
        with self._changes.transaction(event, by):
            stored = self._sql.one("address", **values)
            previous_hash = None if stored is None else stored["address_hash"]
            if previous_hash == new_hash:
                return []
            sealed = self._vault.seal(address, company_id, account_id, role, field="account-address")
            self._sql.run("set_address", **values, sealed=sealed, masked=masked(address), hash=new_hash)
            mailboxes = self._sql.all(
                "address_changed", **values, previous_hash=previous_hash, hash=new_hash, to=event.to, froms=list(event.froms),
                reason=event.name,
            )  # fmt: skip
        return [mailbox["mailbox_id"] for mailbox in mailboxes]

    def change(self, company_id: str, account_id: str, role: str, address: str, *, by: str | None = None) -> list[str]:
        """Set an address on behalf of an account of the company (None: the account itself); returns as `set`."""
        actor = check_may_change(self._accounts, company_id, account_id, role, by)
        return self.set(company_id, account_id, role, address, by=f"account {actor}")

    def remove(self, company_id: str, account_id: str, role: str, *, by: str | None = None) -> None:
        """Forget the address of an account in a role, on behalf of an account as in `change`. Mailboxes stay as they are."""
        check_may_change(self._accounts, company_id, account_id, role, by)
        if self._sql.one("remove_address", company_id=company_id, account_id=account_id, role=role) is None:
            raise address_missing(account_id, role)

    def matches(self, company_id: str, account_id: str, role: str, address: str) -> bool | None:
        """Whether this is the account's address in a role; None when none is stored."""
        stored = self._sql.one("address", company_id=company_id, account_id=account_id, role=role)
        return (
            None if stored is None else bool(stored["address_hash"] == address_hash(self._hasher, company_id, address))
        )

    def masked(self, company_id: str, account_id: str, role: str) -> str | None:
        """The account's address in a role as people may see it; None when none is stored."""
        stored = self._sql.one("address", company_id=company_id, account_id=account_id, role=role)
        return None if stored is None else str(stored["address_masked"])


def address_hash(hasher: Hasher, company_id: str, address: str) -> str:
    """The hash of an address within a company. RegistryError when it is not an e-mail address."""
    hashed = hasher.address(company_id, address)
    if hashed is None:
        raise RegistryError(reason("address-malformed"))
    return hashed


def check_may_change(accounts: Accounts, company_id: str, account_id: str, role: str, by: str | None) -> str:
    """The account on whose behalf an address is changed: `by`, or the account itself. RegistryError when it may not.

    The registered address of a sub-account is changed by the main account only.
    """
    kind = accounts.get(company_id, account_id)["kind"]
    actor = account_id if by is None else by
    is_main = accounts.get(company_id, actor)["kind"] == "main"
    if kind == "sub" and role == "registered" and not is_main:
        raise RegistryError(reason("address-of-sub-account", account_id=account_id), "main-account-name")
    if actor != account_id and not is_main:
        raise RegistryError(reason("address-of-another-account", actor=actor))
    return actor


def address_missing(account_id: str, role: str) -> RegistryError:
    """The refusal to remove an address that is not stored."""
    return RegistryError(reason("address-missing", account_id=account_id, role=words()[role]))
