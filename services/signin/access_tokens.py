"""Access tokens of this process: cached in memory, renewed with the mailbox's refresh token (RFC 6749 §6).

A refresh token is a secret like a password and is stored sealed beside it (services.registry.tokens). Providers may give
another one with every access token and revoke the old one: the new one is sealed and saved before anything is done with
it. Access tokens are kept in memory alone. A token goes to the servers of its provider (oauth.toml, or the operator's
settings), whatever host a seller types.
"""

import hashlib
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from services.common.clocks import boot_seconds
from services.common.errors import TransientError
from services.common.hashing import SEPARATOR
from services.common.settings import OAuth2Settings
from services.imap.errors import GrantEnded, LoginRefused
from services.signin.clients import client_for, token_context
from services.signin.token_endpoint import TokenGrant, refresh_grant
from services.signin.token_store import TokenStore

MIN_REMAINING_SECONDS: Final = 300.0
"""A token that expires sooner is not used: a poll must not outlive it."""


@dataclass(frozen=True, slots=True)
class _CachedToken:
    access: str = field(repr=False)
    expires: float
    """Seconds of `boot_seconds`: a token ages while the machine is suspended."""


@dataclass(frozen=True, slots=True)
class _UnsavedToken:
    """A refresh token that arrived while Postgres was away."""

    store: TokenStore
    old: str = field(repr=False)
    new: str = field(repr=False)


class AccessTokens:
    """Cache of access tokens by mailbox and refresh token; shared by the threads of a process."""

    def __init__(
        self,
        settings: OAuth2Settings,
        *,
        context: Callable[[], ssl.SSLContext] | None = None,
        monotonic: Callable[[], float] = boot_seconds,
    ) -> None:
        self._settings = settings
        self._context = context or (lambda: token_context(settings.ca_file))
        self._monotonic = monotonic
        self._cache: dict[str, _CachedToken] = {}
        self._lock = threading.Lock()
        self._unsaved: list[_UnsavedToken] = []
        self._saving = threading.Lock()

    def cached(self, host: str, user: str, refresh: str) -> str | None:
        """The access token got with this refresh token if it is valid for some minutes more, else None: renew it."""
        with self._lock:
            entry = self._cache.get(_cache_key(host, user, refresh))
        if entry is None or entry.expires - MIN_REMAINING_SECONDS <= self._monotonic():
            return None
        return entry.access

    def put(self, host: str, user: str, refresh: str, grant: TokenGrant) -> None:
        """Cache an access token; drop those that have expired."""
        now = self._monotonic()
        with self._lock:
            self._cache = {key: entry for key, entry in self._cache.items() if entry.expires > now}
            self._cache[_cache_key(host, user, refresh)] = _CachedToken(grant.access, now + grant.seconds)

    def renew(self, host: str, user: str, refresh: str, store: TokenStore) -> str:
        """Get a new access token; a new refresh token is stored before this returns.

        GrantEnded, TokenUnavailable, TokenThrottled, ClientRefused, SignInNotConfigured; what `store` raises.
        """
        client = client_for(host, self._settings)
        try:
            grant = refresh_grant(client, refresh, self._context())
        except GrantEnded:
            # Another process may have stored the next refresh token in the meantime: that one is tried once.
            stored = store.read()
            if stored is None or stored == refresh:
                raise
            refresh = stored
            grant = refresh_grant(client, refresh, self._context())
        if grant.refresh is not None and grant.refresh != refresh:
            try:
                store.replace(refresh, grant.refresh)
            except TransientError:
                with self._saving:
                    self._unsaved.append(_UnsavedToken(store, refresh, grant.refresh))
                raise
            refresh = grant.refresh
        self.put(host, user, refresh, grant)
        return grant.access

    def save(self, connection: object) -> None:
        """Save the refresh tokens that could not be stored when they arrived. Call it before leasing a mailbox, so that no
        thread of this process uses an old one. TransientError: call it again for those that are left."""
        with self._saving:
            while self._unsaved:
                unsaved = self._unsaved[0]
                unsaved.store.replace_on(connection, unsaved.old, unsaved.new)
                del self._unsaved[0]

    def log_in(self, host: str, user: str, refresh: str, store: TokenStore, attempt: Callable[[str], None]) -> None:
        """Log in with `attempt`, which takes an access token: the cached one, then once a new one if that is refused."""
        cached = self.cached(host, user, refresh)
        if cached is not None:
            try:
                attempt(cached)
            except LoginRefused:
                pass  # revoked before its time
            else:
                return
        attempt(self.renew(host, user, refresh, store))


def _cache_key(*parts: str) -> str:
    return hashlib.sha256(SEPARATOR.join(parts).encode()).hexdigest()
