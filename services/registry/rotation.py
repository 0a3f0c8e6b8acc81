"""Rotation of the vault key: every sealed value is sealed again with the new key. SQL is in rotation.sql."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import psycopg

from services.common.errors import ConfigError
from services.common.postgres import Statements, load_statements
from services.registry.tokens import seal_context
from services.registry.vault import Vault, WrongContext

SQL = load_statements("services.registry", "rotation.sql")
SEALED_TOGETHER = 50
"""Rows that are sealed again in one transaction; pollers wait that long for their rows, some milliseconds."""

State = Literal["current", "old", "rotated", "another-key", "unreadable"]


@dataclass(frozen=True, slots=True)
class RotatedRow:
    """A row with sealed values and the key they are sealed with now. `what`: a mailbox, or an account and a role."""

    company_id: str
    what: str
    state: State


class Rotation:
    """Seals the registry again over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, vault: Vault) -> None:
        self._sql = Statements(connection, SQL)
        self._vault = vault

    def rotate(self, *, write: bool = True) -> Iterator[RotatedRow]:
        """Open every sealed value and seal it with the current vault key, some rows in one transaction; yields each row.

        Values that have the current key already are left alone, so an interrupted rotation continues where it was. With
        `write` False nothing is changed: each row reports its state.
        """
        yield from self._rotate_table("sealed_mailboxes", ("company_id", "mailbox_id"), self._rotate_mailbox, write)
        yield from self._rotate_table(
            "sealed_addresses", ("company_id", "account_id", "role"), self._rotate_address, write
        )

    def count(self) -> int:
        """How many rows `rotate` yields."""
        counted = self._sql.one("count_sealed")
        assert counted is not None
        count: int = counted["count"]
        return count

    def _rotate_table(
        self, name: str, key: tuple[str, ...], rotate_row: Callable[[dict[str, Any], bool], State], write: bool
    ) -> Iterator[RotatedRow]:
        """Go through a table in the order of its key, a few rows at a time."""
        last = dict.fromkeys(key, "")
        while True:
            with self._sql.transaction():
                rows = self._sql.all(name, **last, count=SEALED_TOGETHER)
                rotated = [_rotated(stored, rotate_row, write) for stored in rows]
            if not rows:
                return
            yield from rotated
            last = {column: rows[-1][column] for column in key}

    def _rotate_mailbox(self, mailbox: Mapping[str, Any], write: bool) -> State:
        vault = self._vault
        place = (mailbox["company_id"], mailbox["mailbox_id"], mailbox["host"], str(mailbox["port"]))
        user = vault.open(mailbox["user_sealed"], *place, field="user")
        sealed_address, sealed_secret = mailbox["address_sealed"], mailbox["secret"]
        address = None if sealed_address is None else vault.open(sealed_address, *place, field="address")
        context = seal_context(*place, user, kind=mailbox["kind"])
        password = None if sealed_secret is None else vault.open(sealed_secret, *context, field="secret")
        sealed = [value for value in (mailbox["user_sealed"], sealed_address, sealed_secret) if value is not None]
        if all(vault.is_current(value) for value in sealed):
            return "current"
        if not write:
            return "old"
        key = {"company_id": mailbox["company_id"], "mailbox_id": mailbox["mailbox_id"]}
        self._sql.run(
            "seal_mailbox", **key, user=vault.seal(user, *place, field="user"),
            address=None if address is None else vault.seal(address, *place, field="address"),
        )  # fmt: skip
        if password is not None:
            self._sql.run(
                "seal_secret", **key, sealed=vault.seal(password, *context, field="secret"), key_id=vault.key_id
            )
        return "rotated"

    def _rotate_address(self, stored: Mapping[str, Any], write: bool) -> State:
        key = {column: stored[column] for column in ("company_id", "account_id", "role")}
        address = self._vault.open(stored["address_sealed"], *key.values(), field="account-address")
        if self._vault.is_current(stored["address_sealed"]):
            return "current"
        if not write:
            return "old"
        self._sql.run("seal_address", **key, sealed=self._vault.seal(address, *key.values(), field="account-address"))
        return "rotated"


def _rotated(stored: dict[str, Any], rotate_row: Callable[[dict[str, Any], bool], State], write: bool) -> RotatedRow:
    what = stored.get("mailbox_id") or f"{stored['account_id']}/{stored['role']}"
    try:
        state = rotate_row(stored, write)
    except ConfigError:
        state = "another-key"
    except WrongContext:
        state = "unreadable"
    return RotatedRow(stored["company_id"], what, state)
