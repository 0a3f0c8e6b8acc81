"""Access tokens: a refresh token that a person gave becomes one (RFC 6749 §6), and a sign-in with a code (RFC 8628).

A refresh token is a secret like a password and stands sealed beside it. Providers may give another one with every access
token and take the old one back: the new one is sealed and saved before anything is done with it. Access tokens live in
memory alone. A token goes to the servers of its provider (oauth.toml, or the operator's settings), whatever host a seller
types. What a provider answers goes no further than the error codes known here.
"""

import hashlib
import http.client
import json
import socket
import ssl
import threading
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlencode, urlsplit

import psycopg

from services.common.errors import ReplyrateError, TransientError
from services.common.postgres import Statements, load_statements
from services.common.settings import OAuth2Client, OAuth2Settings
from services.imap.session import LoginRefused, MailboxError, Throttled, tls_context
from services.providers import catalog
from services.registry.vault import Vault, WrongContext

SQL = load_statements("services.signin", "oauth.sql")
KIND: Final = "oauth2"
"""The kind of a secret that is a refresh token."""
ANSWER_BYTES: Final = 64 * 1024
ANSWER_SECONDS: Final = 10.0
EARLY_SECONDS: Final = 300.0
"""A token that ends sooner is not used: a poll must not outlive it."""
LONGEST_SECONDS: Final = 24 * 3600.0
MOST_TOKEN: Final = 16 * 1024
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"


class GrantEnded(LoginRefused):
    """The refresh token is worth nothing any more: taken back, expired, or more is asked of its owner. No use in a retry."""

    code = "oauth2-grant-ended"
    definite = True


class TokenUnavailable(MailboxError):
    """The provider's sign-in service does not answer as it should; nothing is held against the mailbox."""

    code = "oauth2-unavailable"


class TokenThrottled(Throttled):
    """The provider's sign-in service asks to come less often."""

    code = "oauth2-unavailable"


class ClientRefused(MailboxError):
    """The provider refuses the operator's client, not the mailbox's owner."""

    code = "oauth2-client-refused"


class SignInNotConfigured(MailboxError):
    """The operator has registered no client for this server."""

    code = "oauth2-not-set-up"


class SignInFailed(ReplyrateError):
    """A sign-in with a code did not come to its end; the text says what to do."""


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """The operator's client at a provider: `name` is the section of its settings."""

    name: str
    client_id: str
    secret: str | None = field(repr=False)
    token_url: str
    device_url: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """An access token, how long it holds, and a refresh token where the provider gave another one."""

    access: str = field(repr=False)
    seconds: float
    refresh: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """A sign-in that waits for a person: `code` is typed at `url`."""

    url: str
    code: str
    seconds: float
    interval: float
    secret: str = field(repr=False)


class TokenStore(Protocol):
    """Where the refresh token of one mailbox is kept."""

    def read(self) -> str | None:
        """The one that is kept now; None when there is none any more."""

    def rotated(self, before: str, after: str) -> None:
        """Keep `after` in place of `before`. An error when the mailbox is somebody else's now; TransientError when it could
        not be kept."""

    def over(self, connection: psycopg.Connection) -> "TokenStore":
        """The same over another connection, whoever has the mailbox."""


class MemoryTokenStore:
    """The refresh token of a mailbox that is not connected yet."""

    def __init__(self, token: str) -> None:
        self._token = token

    def read(self) -> str:
        """The newest one."""
        return self._token

    def rotated(self, before: str, after: str) -> None:
        """Take the new one."""
        self._token = after

    def over(self, connection: psycopg.Connection) -> "MemoryTokenStore":
        """Itself: memory does not go away."""
        return self


class RegistryTokenStore:
    """The refresh token of a mailbox in the registry, over one connection (autocommit)."""

    def __init__(
        self,
        connection: psycopg.Connection,
        vault: Vault,
        company_id: str,
        mailbox_id: str,
        *,
        epoch: int | None = None,
        lost: Callable[[], Exception] | None = None,
    ) -> None:
        """`epoch`: the lease under which it is used, `lost` makes the error for one that is gone."""
        self._sql = Statements(connection, SQL)
        self._vault = vault
        self._key = {"company_id": company_id, "mailbox_id": mailbox_id}
        self._epoch = epoch
        self._lost = lost

    def read(self) -> str | None:
        """The one that is kept now."""
        with self._sql.transaction():
            found = self._held()
        return None if found is None else found[0]

    def rotated(self, before: str, after: str) -> None:
        """Save the new one while `before` stands there, and raise when the lease is gone.

        Who lost the lease saves all the same, as long as nobody wrote another one: the provider may have taken `before`
        back, and whoever has the lease now reads again what stands here when it is refused.
        """
        with self._sql.transaction():
            found = self._held()
            if found is not None and found[0] == before:
                _, place, row = found
                self._sql.run(
                    "rotate_token", **self._key, sealed=self._vault.seal(after, *place), key_id=self._vault.key_id,
                    before=row["sealed"],
                )  # fmt: skip
        stands = found is not None and found[0] == before
        held = self._epoch is None or (
            found is not None and found[2]["lease_epoch"] == self._epoch and found[2]["leased"]
        )
        if self._lost is not None and not (stands and held):
            raise self._lost()

    def over(self, connection: psycopg.Connection) -> "RegistryTokenStore":
        """The same over another connection, whoever has the mailbox."""
        return RegistryTokenStore(connection, self._vault, self._key["company_id"], self._key["mailbox_id"])

    def _held(self) -> tuple[str, tuple[str, ...], dict[str, Any]] | None:
        row = self._sql.one("held_token", **self._key)
        if row is None or row["kind"] != KIND or row["user_sealed"] is None:
            return None
        place = (self._key["company_id"], self._key["mailbox_id"], row["host"], str(row["port"]))
        user = self._vault.open(row["user_sealed"], *place, "user")
        sealed_at = seal_context(*place, user, kind=KIND)
        return self._vault.open(row["sealed"], *sealed_at), sealed_at, row


def seal_context(company_id: str, mailbox_id: str, host: str, port: str, user: str, *, kind: str) -> tuple[str, ...]:
    """Where a secret belongs. Its kind is a part of it, so that no refresh token is ever opened as a password."""
    place = (company_id, mailbox_id, host, port, user)
    return (*place, KIND) if kind == KIND else place


class AccessTokens:
    """Access tokens of this process, by mailbox and refresh token; threads share it."""

    def __init__(
        self,
        settings: OAuth2Settings,
        *,
        context: Callable[[], ssl.SSLContext] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._context = context or (lambda: token_context(settings.ca_file))
        self._monotonic = monotonic
        self._held: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._unsaved: list[tuple[TokenStore, str, str]] = []
        """Refresh tokens (before, after) that came while Postgres was away."""
        self._saving = threading.Lock()

    def held(self, host: str, user: str, refresh: str) -> str | None:
        """An access token that still holds for some minutes, got with this refresh token; None: ask for one."""
        with self._lock:
            token, until = self._held.get(_identity(host, user, refresh), ("", 0.0))
        return token if token and until - EARLY_SECONDS > self._monotonic() else None

    def put(self, host: str, user: str, refresh: str, tokens: TokenGrant) -> None:
        """Remember an access token; those that ended are forgotten."""
        now = self._monotonic()
        with self._lock:
            self._held = {key: one for key, one in self._held.items() if one[1] > now}
            self._held[_identity(host, user, refresh)] = (tokens.access, now + tokens.seconds)

    def renew(self, host: str, user: str, refresh: str, keeping: TokenStore) -> str:
        """A new access token; another refresh token is kept before this returns.

        GrantEnded, TokenUnavailable, TokenThrottled, ClientRefused, NotSetUp; what `keeping` raises.
        """
        client = client_of(host, self._settings)
        try:
            found = refreshed(client, refresh, self._context())
        except GrantEnded:
            # Another process may have got the next one in the meantime; that one counts, and is asked with once.
            kept = keeping.read()
            if kept is None or kept == refresh:
                raise
            refresh = kept
            found = refreshed(client, refresh, self._context())
        if found.refresh is not None and found.refresh != refresh:
            try:
                keeping.rotated(refresh, found.refresh)
            except TransientError:
                with self._saving:
                    self._unsaved.append((keeping, refresh, found.refresh))
                raise
            refresh = found.refresh
        self.put(host, user, refresh, found)
        return found.access

    def save(self, connection: psycopg.Connection) -> None:
        """Save the refresh tokens that could not be when they came; before a mailbox is leased, so that nobody in this
        process asks with an old one. TransientError: what is left is tried again."""
        with self._saving:
            while self._unsaved:
                keeping, before, after = self._unsaved[0]
                with suppress(WrongContext):  # who leases the mailbox tells of it
                    keeping.over(connection).rotated(before, after)
                del self._unsaved[0]

    def log_in(self, host: str, user: str, refresh: str, keeping: TokenStore, attempt: Callable[[str], None]) -> None:
        """Log in with `attempt`, which is given an access token: one that is held, and once more with a new one when that
        is refused."""
        held = self.held(host, user, refresh)
        if held is not None:
            try:
                attempt(held)
            except LoginRefused:
                pass  # taken back before its time
            else:
                return
        attempt(self.renew(host, user, refresh, keeping))


def client_of(host: str, settings: OAuth2Settings) -> OAuthClient:
    """The operator's client for a mail server. NotSetUp when there is none: no token goes to an unknown server."""
    provider = catalog.load().by_host(host)
    for name, known in services().items():
        own: OAuth2Client = getattr(settings, name)
        if host in own.hosts or (provider is not None and provider.id in known["providers"]):
            if not own.client_id:
                raise SignInNotConfigured("login", f"REPLYRATE_OAUTH2__{name.upper()}__CLIENT_ID is not set")
            return OAuthClient(
                name,
                own.client_id,
                None if own.client_secret is None else own.client_secret.get_secret_value(),
                (own.token_url or known["token_url"]).replace("{tenant}", own.tenant),
                (own.device_url or known["device_url"]).replace("{tenant}", own.tenant),
                own.scopes or tuple(known["scopes"]),
            )
    raise SignInNotConfigured("login", "no client is set up for this server; see REPLYRATE_OAUTH2__OTHER__HOSTS")


@cache
def services() -> Mapping[str, Mapping[str, Any]]:
    """oauth.toml."""
    return tomllib.loads(resources.files("services.signin").joinpath("oauth.toml").read_text("utf-8"))


def token_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verified TLS, with the operator's authorities beside the system's."""
    return tls_context(ca_file, setting="REPLYRATE_OAUTH2__CA_FILE")


def refreshed(client: OAuthClient, refresh: str, context: ssl.SSLContext) -> TokenGrant:
    """An access token for a refresh token (RFC 6749 §6)."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh, "scope": " ".join(client.scopes)}
    status, answer = _ask(client, client.token_url, form, context)
    if status == 200:
        return _tokens(answer)
    raise _failure(status, answer)


def begin(client: OAuthClient, context: ssl.SSLContext) -> DeviceCode:
    """Begin a sign-in with a code (RFC 8628 §3.1). SignInFailed when the provider has none for mail."""
    if not client.device_url:
        raise SignInFailed(
            f"there is no sign-in with a code for mail at {client.name}; get a refresh token with the provider's own tools"
            " and give it: --password-file FILE (docs/oauth.md)"
        )
    status, answer = _ask(client, client.device_url, {"scope": " ".join(client.scopes)}, context)
    if status != 200:
        raise _failure(status, answer)
    url = answer.get("verification_uri", answer.get("verification_url"))
    code, secret = answer.get("user_code"), answer.get("device_code")
    if not (_is_shown(url) and str(url).startswith("https://") and _is_shown(code) and _is_token(secret)):
        raise TokenUnavailable("login", "an answer without a code or an address")
    return DeviceCode(
        str(url), str(code), _seconds(answer.get("expires_in"), 900), _seconds(answer.get("interval"), 5), str(secret)
    )


def finish(
    client: OAuthClient,
    device: DeviceCode,
    context: ssl.SSLContext,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> TokenGrant:
    """Wait until the person has signed in (RFC 8628 §3.4, §3.5). SignInFailed with what to do when they do not."""
    ends, interval = monotonic() + device.seconds, device.interval
    form = {"grant_type": DEVICE_GRANT, "device_code": device.secret}
    while monotonic() + interval < ends:
        sleep(interval)
        try:
            status, answer = _ask(client, client.token_url, form, context)
        except TokenUnavailable:
            interval *= 2
            continue
        error = answer.get("error")
        if status == 200:
            found = _tokens(answer)
            if found.refresh is None:
                raise SignInFailed(
                    "the provider gave no refresh token; let the client ask for lasting access (the scope offline_access)"
                )
            return found
        if error == "authorization_pending":
            continue
        if error == "slow_down":
            interval += 5
        elif error in ("access_denied", "authorization_declined"):
            raise SignInFailed("the sign-in was declined; begin again when the owner agrees")
        elif error == "expired_token":
            break
        elif status == 429 or status >= 500:
            interval *= 2
        else:
            raise _failure(status, answer)
    raise SignInFailed("nobody signed in before the code expired; begin again for a new code")


_ENDED: Final = frozenset(("invalid_grant", "interaction_required", "consent_required", "login_required"))
_CLIENT: Final = frozenset(
    (
        "invalid_client",
        "unauthorized_client",
        "invalid_scope",
        "unsupported_grant_type",
        "invalid_request",
        "access_denied",
    )
)


def _failure(status: int, answer: Mapping[str, Any]) -> MailboxError:
    """What an answer that is none means. Only codes that are known here are repeated: the rest may hold anything."""
    error = answer.get("error")
    if status == 429:
        return TokenThrottled("login", "the sign-in service asks to come less often")
    if status >= 500 or not isinstance(error, str):
        return TokenUnavailable("login", f"the sign-in service answers {status}")
    if error in _ENDED:
        return GrantEnded("login", error)
    if error in _CLIENT:
        return ClientRefused("login", error)
    return TokenUnavailable("login", f"the sign-in service answers {status}, an unknown error")


def _tokens(answer: Mapping[str, Any]) -> TokenGrant:
    access, refresh = answer.get("access_token"), answer.get("refresh_token")
    if not _is_token(access) or str(answer.get("token_type", "bearer")).lower() != "bearer":
        raise TokenUnavailable("login", "an answer without a bearer token")
    if refresh is not None and not _is_token(refresh):
        raise TokenUnavailable("login", "a refresh token that is none")
    return TokenGrant(str(access), _seconds(answer.get("expires_in"), 3600), refresh)


def _is_token(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MOST_TOKEN and all("!" <= char <= "~" for char in value)


def _is_shown(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 300 and value.isascii() and value.isprintable()


def _seconds(value: object, default: float) -> float:
    try:
        return min(max(float(value), 1.0), LONGEST_SECONDS)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return default


def _ask(
    client: OAuthClient, url: str, form: Mapping[str, str], context: ssl.SSLContext
) -> tuple[int, Mapping[str, Any]]:
    secret = {} if client.secret is None else {"client_secret": client.secret}
    status, body = post(url, {**form, "client_id": client.client_id, **secret}, context)
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        if status == 429:
            return status, {}
        raise TokenUnavailable("login", f"the sign-in service answers {status} and no JSON")
    return status, answer


def post(
    url: str, form: Mapping[str, str], context: ssl.SSLContext, *, seconds: float = ANSWER_SECONDS
) -> tuple[int, bytes]:
    """POST a form and take an answer of at most 64 KiB within so many seconds in all; redirects are answers, not followed.
    TokenUnavailable."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    sockets: list[socket.socket] = []
    connection = http.client.HTTPSConnection(host, parts.port or 443, context=context)

    late = threading.Event()

    def end() -> None:
        late.set()
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    try:
        plain = socket.create_connection((host, parts.port or 443), timeout=seconds)
        sockets.append(plain)
        timer.start()
        secured = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        sockets.append(secured)
        secured.do_handshake()
        connection.sock = secured
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        connection.request("POST", parts.path or "/", urlencode(form), headers)
        answer = connection.getresponse()
        body = answer.read(ANSWER_BYTES + 1)
    except ssl.SSLError as error:
        raise TokenUnavailable("login", f"TLS with the sign-in service failed: {error.reason or 'closed'}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TokenUnavailable("login", f"the sign-in service cannot be reached ({type(error).__name__})") from None
    finally:
        timer.cancel()
        connection.close()
        for one in sockets:
            one.close()
    if late.is_set():  # what was cut off may look like a whole answer
        raise TokenUnavailable("login", "the sign-in service answers too slowly")
    if len(body) > ANSWER_BYTES:
        raise TokenUnavailable("login", "the sign-in service answers more than 64 KiB")
    return answer.status, body


def _identity(*parts: Sequence[str] | str) -> str:
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()


__all__ = [
    "KIND",
    "AccessTokens",
    "ClientRefused",
    "DeviceCode",
    "GrantEnded",
    "MemoryTokenStore",
    "OAuthClient",
    "RegistryTokenStore",
    "SignInFailed",
    "SignInNotConfigured",
    "TokenGrant",
    "TokenThrottled",
    "TokenUnavailable",
    "begin",
    "client_of",
    "finish",
    "refreshed",
    "seal_context",
]  # fmt: skip
