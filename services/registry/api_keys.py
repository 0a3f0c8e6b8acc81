"""API keys of platforms: what a platform's backend signs in with. SQL is in api_keys.sql.

The secret is shown once, when the key is created; the database stores its SHA-256. A key allows the operations of its scopes for the
companies whose id begins with its prefix.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

import psycopg

from services.common.postgres import Statements, load_statements
from services.registry.errors import RegistryError
from services.registry.secret_tokens import new_id, new_token, token_hash

SQL = load_statements("services.registry", "api_keys.sql")

ApiScope = Literal["registry:read", "registry:write", "connect:write", "inquiries:write", "numbers:read", "audit:read"]
"""What a key may do: read and change companies, accounts and mailboxes; create connect links and test logins; publish inquiries; read
rates and what belongs to them; read what keys have changed."""
SCOPES: Final[tuple[ApiScope, ...]] = get_args(ApiScope)
KEY_PREFIX: Final = "rrk_"
"""Of the secrets of keys."""
NAME_CHARACTERS: Final = 100
PREFIX_CHARACTERS: Final = 128


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was just created. `secret` is not stored and cannot be shown again."""

    key_id: str
    secret: str

    def __repr__(self) -> str:
        return f"NewApiKey({self.key_id})"


class ApiKeys:
    """Reads and writes registry.api_keys over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)

    def add(
        self, name: str, scopes: tuple[str, ...], company_prefix: str, *, by: str, expires_at: datetime | None = None
    ) -> NewApiKey:
        """Create a key. An empty prefix allows every company. RegistryError for a name, scope or prefix that cannot be stored."""
        _check_text("name", name, 1, NAME_CHARACTERS)
        _check_text("company prefix", company_prefix, 0, PREFIX_CHARACTERS)
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise RegistryError(
                f"{f'there is no scope {unknown[0]}' if unknown else 'the key has no scope'}; choose from {', '.join(SCOPES)}"
            )
        ordered = [scope for scope in SCOPES if scope in scopes]
        return self._insert(name, ordered, company_prefix, by, expires_at)

    def all(self) -> list[dict[str, Any]]:
        """Every key without its hash, newest first."""
        return self._sql.all("api_keys")

    def rotate(self, key_id: str, overlap_hours: int, *, by: str) -> NewApiKey:
        """A new key with the name, scopes and prefix of a valid one, which expires after `overlap_hours`. RegistryError.

        `by` is recorded as who created the new key and revoked the previous one.
        """
        with self._sql.transaction():
            replaced = self._sql.one("expire_key", key_id=key_id, hours=overlap_hours, by=by)
            if replaced is None:
                raise _no_valid_key(key_id)
            return self._insert(
                replaced["name"], replaced["scopes"], replaced["company_prefix"], by, replaced["expired_at"]
            )

    def revoke(self, key_id: str, *, by: str) -> None:
        """Make a key invalid at once. RegistryError when there is no valid key with this id."""
        if self._sql.one("revoke_key", key_id=key_id, by=by) is None:
            raise _no_valid_key(key_id)

    def _insert(
        self, name: str, scopes: list[Any], company_prefix: str, by: str, expires_at: datetime | None
    ) -> NewApiKey:
        key = NewApiKey(new_id("k"), new_token(KEY_PREFIX))
        self._sql.run(
            "insert_key", key_id=key.key_id, secret_hash=token_hash(key.secret), key_name=name, scopes=scopes,
            company_prefix=company_prefix, by=by, expires_at=expires_at,
        )  # fmt: skip
        return key


def _check_text(what: str, text: str, least: int, most: int) -> None:
    if not least <= len(text) <= most or not text.isprintable() or "@" in text:
        raise RegistryError(
            f"the {what} must have {least} to {most} characters, no control character and no @: it is stored readable"
        )


def _no_valid_key(key_id: str) -> RegistryError:
    return RegistryError(f"there is no valid key {key_id}; `replyrate api-key list` shows all keys")
