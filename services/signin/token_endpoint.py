"""Requests to a provider's token endpoint (RFC 6749) and what its answers mean.

Of an answer only the error codes known here are repeated: any other text may hold names or tokens.
"""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.imap.errors import ClientRefused, GrantEnded, MailboxError, TokenThrottled, TokenUnavailable
from services.signin.clients import OAuthClient
from services.signin.http import post

MAX_SECONDS: Final = 24 * 3600.0
"""Longer lifetimes are taken for this one."""
MAX_TOKEN_LENGTH: Final = 16 * 1024
_GRANT_ENDED: Final = frozenset(("invalid_grant", "interaction_required", "consent_required", "login_required"))
_CLIENT_REFUSED: Final = frozenset((
    "invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type", "invalid_request", "access_denied",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """An access token, its lifetime in seconds, and a refresh token where the provider gave a new one."""

    access: str = field(repr=False)
    seconds: float
    refresh: str | None = field(repr=False)


def refresh_grant(client: OAuthClient, refresh: str, context: ssl.SSLContext) -> TokenGrant:
    """An access token for a refresh token (RFC 6749 §6). GrantEnded, TokenUnavailable, TokenThrottled, ClientRefused."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh, "scope": " ".join(client.scopes)}
    status, answer = request(client, client.token_url, form, context)
    if status == 200:
        return parse_grant(answer)
    raise error_of(status, answer)


def request(
    client: OAuthClient, url: str, form: Mapping[str, str], context: ssl.SSLContext
) -> tuple[int, Mapping[str, Any]]:
    """POST a form with the client's credentials; status and JSON object of the answer. TokenUnavailable."""
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


def error_of(status: int, answer: Mapping[str, Any]) -> MailboxError:
    """The error that an answer other than 200 stands for."""
    error = answer.get("error")
    if status == 429:
        return TokenThrottled("login", "the sign-in service asks for fewer requests")
    if status >= 500 or not isinstance(error, str):
        return TokenUnavailable("login", f"the sign-in service answers {status}")
    if error in _GRANT_ENDED:
        return GrantEnded("login", error)
    if error in _CLIENT_REFUSED:
        return ClientRefused("login", error)
    return TokenUnavailable("login", f"the sign-in service answers {status}, an unknown error")


def parse_grant(answer: Mapping[str, Any]) -> TokenGrant:
    """The tokens of a 200 answer (RFC 6749 §5.1). TokenUnavailable when it holds no usable ones."""
    access, refresh = answer.get("access_token"), answer.get("refresh_token")
    if not is_token(access) or str(answer.get("token_type", "bearer")).lower() != "bearer":
        raise TokenUnavailable("login", "an answer without a bearer token")
    if refresh is not None and not is_token(refresh):
        raise TokenUnavailable("login", "an answer with an invalid refresh token")
    return TokenGrant(str(access), seconds_of(answer.get("expires_in"), 3600), refresh)


def is_token(value: object) -> bool:
    """Whether a value of an answer can be a token: visible ASCII of a bounded length."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TOKEN_LENGTH and all("!" <= char <= "~" for char in value)


def seconds_of(value: object, default: float) -> float:
    """A number of seconds out of an answer, between one second and a day."""
    try:
        return min(max(float(value), 1.0), MAX_SECONDS)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return default
