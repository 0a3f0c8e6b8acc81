"""Sealing everything with another vault key. SQL is in rotation.sql."""

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
"""Rows that are sealed anew in one transaction; pollers wait for their rows that long, some milliseconds."""

State = Literal["current", "old", "rotated", "another-key", "unreadable"]


@dataclass(frozen=True, slots=True)
class SealedCounts:
    """A row with sealed values: `what` is a mailbox, or an account and a role; the key it is under now."""

    company_id: str
    what: str
    state: State


class Rotation:
    """Every sealed value of the registry over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, vault: Vault) -> None:
        self._sql = Statements(connection, SQL)
        self._vault = vault

    def rotate(self, *, write: bool = True) -> Iterator[SealedCounts]:
        """Open every sealed value and seal it with the vault key, some rows in one transaction; each row as it is done.

        What is under the vault key already is left, so a rotation that was ended goes on where it was. With `write`
        False nothing is changed: each row says what it is.
        """
        last = {"company_id": "", "mailbox_id": ""}
        while rows := self._rotate_some("sealed_mailboxes", last, self._seal_mailbox, write):
            yield from (sealed for _, sealed in rows)
            last = {name: rows[-1][0][name] for name in last}
        last = {"company_id": "", "account_id": "", "role": ""}
        while rows := self._rotate_some("sealed_addresses", last, self._seal_address, write):
            yield from (sealed for _, sealed in rows)
            last = {name: rows[-1][0][name] for name in last}

    def sealed(self) -> int:
        """How many rows `rotate` goes through."""
        row = self._sql.one("sealed")
        assert row is not None
        count: int = next(iter(row.values()))
        return count

    def _rotate_some(
        self, name: str, last: Mapping[str, str], seal: Callable[[dict[str, Any], bool], State], write: bool
    ) -> list[tuple[dict[str, Any], SealedCounts]]:
        with self._sql.transaction():
            done = []
            for row in self._sql.all(name, **last, count=SEALED_TOGETHER):
                what = row.get("mailbox_id") or f"{row['account_id']}/{row['role']}"
                try:
                    state = seal(row, write)
                except ConfigError:
                    state = "another-key"
                except WrongContext:
                    state = "unreadable"
                done.append((row, SealedCounts(row["company_id"], what, state)))
            return done

    def _seal_mailbox(self, row: dict[str, Any], write: bool) -> State:
        vault, place = self._vault, (row["company_id"], row["mailbox_id"], row["host"], str(row["port"]))
        user = vault.open(row["user_sealed"], *place, "user")
        address = None if row["address_sealed"] is None else vault.open(row["address_sealed"], *place, "address")
        secret_at = seal_context(*place, user, kind=row["kind"])
        password = None if row["secret"] is None else vault.open(row["secret"], *secret_at)
        values = [value for value in (row["user_sealed"], row["address_sealed"], row["secret"]) if value is not None]
        if all(vault.is_current(value) for value in values):
            return "current"
        if write:
            key = {"company_id": row["company_id"], "mailbox_id": row["mailbox_id"]}
            sealed = None if address is None else vault.seal(address, *place, "address")
            self._sql.run("seal_mailbox", **key, user=vault.seal(user, *place, "user"), address=sealed)
            if password is not None:
                self._sql.run("seal_secret", **key, sealed=vault.seal(password, *secret_at), key_id=vault.key_id)
        return "rotated" if write else "old"

    def _seal_address(self, row: dict[str, Any], write: bool) -> State:
        place = (row["company_id"], row["account_id"], row["role"])
        address = self._vault.open(row["address_sealed"], *place)
        if self._vault.is_current(row["address_sealed"]):
            return "current"
        if write:
            key = dict(zip(("company_id", "account_id", "role"), place, strict=True))
            self._sql.run("seal_address", **key, sealed=self._vault.seal(address, *place))
        return "rotated" if write else "old"
