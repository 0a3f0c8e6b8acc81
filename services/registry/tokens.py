"""Refresh tokens in registry.secrets, sealed; a compare-and-set, so that no process overwrites a newer token.

A provider may give another refresh token with every access token and revoke the old one (services.signin.access_tokens).
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from services.common.postgres import ConnectionSource, Statements, load_statements
from services.registry.vault import UnknownKey, Vault, WrongContext
from services.signin.token_store import KIND

SQL: Final = load_statements("services.registry", "tokens.sql")


@dataclass(frozen=True, slots=True)
class _StoredToken:
    token: str = field(repr=False)
    context: tuple[str, ...] = field(repr=False)
    """Associated data of its seal."""
    columns: dict[str, Any] = field(repr=False)


class RegistryTokenStore:
    """The refresh token of a connected mailbox, over one connection (autocommit)."""

    def __init__(
        self,
        connection: ConnectionSource,
        vault: Vault,
        company_id: str,
        mailbox_id: str,
        *,
        epoch: int | None = None,
        lost: Callable[[], Exception] | None = None,
    ) -> None:
        """`epoch`: the lease under which the store is used; `lost` makes the error to raise when that lease is gone."""
        self._sql = Statements(connection, SQL)
        self._vault = vault
        self._key = {"company_id": company_id, "mailbox_id": mailbox_id}
        self._epoch = epoch
        self._lost = lost

    def read(self) -> str | None:
        """The token stored now; None when there is none any more."""
        with self._sql.transaction():
            stored = self._stored()
        return None if stored is None else stored.token

    def replace(self, old: str, new: str) -> None:
        """Store `new` if `old` is stored (compare-and-set); raise `lost` when the lease is gone or another token was stored.

        A process that lost the lease still stores its token as long as no other one was written: the provider may have
        revoked `old`, and the process that holds the lease now reads the stored token again when its own is refused.
        """
        with self._sql.transaction():
            stored = self._stored()
            replaced = stored is not None and stored.token == old
            if stored is not None and replaced:
                self._sql.run(
                    "rotate_token", **self._key, sealed=self._vault.seal(new, *stored.context, field="secret"), key_id=self._vault.key_id,
                    before=stored.columns["sealed"],
                )  # fmt: skip
        has_lease = self._epoch is None or (
            stored is not None and stored.columns["lease_epoch"] == self._epoch and stored.columns["leased"]
        )
        if self._lost is not None and not (replaced and has_lease):
            raise self._lost()

    def replace_on(self, connection: ConnectionSource, old: str, new: str) -> None:
        """The same over another connection, without the lease check.

        A secret that cannot be opened any more stays as it is: the next lease of its mailbox reports it.
        """
        store = RegistryTokenStore(connection, self._vault, self._key["company_id"], self._key["mailbox_id"])
        with suppress(WrongContext, UnknownKey):
            store.replace(old, new)

    def _stored(self) -> _StoredToken | None:
        stored = self._sql.one("stored_token", **self._key)
        if stored is None or stored["kind"] != KIND or stored["user_sealed"] is None:
            return None
        place = (self._key["company_id"], self._key["mailbox_id"], stored["host"], str(stored["port"]))
        user = self._vault.open(stored["user_sealed"], *place, field="user")
        context = seal_context(*place, user, kind=KIND)
        return _StoredToken(self._vault.open(stored["sealed"], *context, field="secret"), context, stored)


def opens_any_secret(connection: ConnectionSource, vault: Vault) -> bool:
    """Whether any stored secret is sealed with a key of this vault: else it is the vault that has the wrong key."""
    return Statements(connection, SQL).one("opens_any", key_ids=vault.key_ids) is not None


def seal_context(company_id: str, mailbox_id: str, host: str, port: str, user: str, *, kind: str) -> tuple[str, ...]:
    """Associated data of a secret's seal. The kind is a part of it, so that no refresh token is ever opened as a password."""
    place = (company_id, mailbox_id, host, port, user)
    return (*place, KIND) if kind == KIND else place
