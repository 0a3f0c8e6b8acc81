"""Where the refresh token of one mailbox is stored: the protocol, and the store of a mailbox that is not connected yet.

The store of a connected mailbox is services.registry.tokens.RegistryTokenStore.
"""

from typing import Any, Final, Protocol

KIND: Final = "oauth2"
"""The kind of a secret that is a refresh token."""


class TokenStore(Protocol):
    """Stores the refresh token of one mailbox."""

    def read(self) -> str | None:
        """The token stored now; None when there is none any more."""

    def replace(self, old: str, new: str) -> None:
        """Store `new` in place of `old`. Raises when another process leases the mailbox now; TransientError when the token
        could not be stored."""

    def replace_on(self, connection: Any, old: str, new: str) -> None:
        """The same over another Postgres connection and without the lease check, for a token that could not be stored when
        it arrived. Leaves a stored secret alone that cannot be opened any more. TransientError."""


class MemoryTokenStore:
    """The refresh token of a mailbox that is not connected yet."""

    def __init__(self, token: str) -> None:
        self._token = token

    def read(self) -> str:
        """The newest token."""
        return self._token

    def replace(self, old: str, new: str) -> None:
        """Store the new token."""
        self._token = new

    def replace_on(self, connection: Any, old: str, new: str) -> None:
        """Store the new token; memory needs no connection."""
        self._token = new
