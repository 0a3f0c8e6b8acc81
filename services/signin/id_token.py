"""Who signed in: the claims of an id token (OpenID Connect Core section 2), checked as its section 3.1.3.7 says. Pure.

The signature is not checked. The token comes from the token endpoint itself, over TLS whose certificate was verified, and section 3.1.3.7
(6) lets that connection stand for the signature. Nothing else is believed because of a claim: the mailbox opens only if its mail server
accepts the access token for that user (docs/decisions/0076).
"""

import base64
import hmac
import json
from datetime import datetime
from typing import Any, Final

from services.common.normal_forms import MAX_ADDRESS
from services.signin.clients import RedirectClient, is_issuer
from services.signin.refusals import SignInRefused

LEEWAY_SECONDS: Final = 300
"""How far the clocks of the provider and of this machine may differ."""


def identities(token: object, client: RedirectClient, nonce: str, now: datetime) -> tuple[str, ...]:
    """The addresses of the account that signed in, as the provider writes them. SignInRefused."""
    claims = checked_claims(token, client, nonce, now)
    return tuple(
        claims[name]
        for name in client.identity_claims
        if _is_address(claims.get(name)) and not (name == "email" and claims.get("email_verified") in (False, "false"))
    )


def checked_claims(token: object, client: RedirectClient, nonce: str, now: datetime) -> dict[str, Any]:
    """The claims of an id token that is of this client's issuer, for it, of this sign-in, and not expired. SignInRefused."""
    claims = _claims(token)
    _check(claims, client, nonce, now)
    return claims


def _is_address(value: object) -> bool:
    return isinstance(value, str) and "@" in value and len(value) <= MAX_ADDRESS and value.isprintable()


def _claims(token: object) -> dict[str, Any]:
    try:
        _, payload, _ = str(token).split(".")
        claims = json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4), b"-_", validate=True))
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise SignInRefused("sign-in-unavailable", "the token endpoint answers without a readable id token")
    return claims


def _check(claims: dict[str, Any], client: RedirectClient, nonce: str, now: datetime) -> None:
    if not is_issuer(client.issuer, str(claims.get("iss"))):
        raise SignInRefused("issuer-differs", "the id token is of another issuer than the one expected")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    party = claims.get("azp", client.client_id if len(audiences) == 1 else None)
    if client.client_id not in audiences or party != client.client_id:
        raise SignInRefused("issuer-differs", "the id token is for another client")
    if not hmac.compare_digest(str(claims.get("nonce")).encode("utf-8", "surrogatepass"), nonce.encode()):
        raise SignInRefused("other-session", "the id token is of another sign-in")
    expires = claims.get("exp")
    if not isinstance(expires, int | float) or not expires + LEEWAY_SECONDS >= now.timestamp():  # also NaN
        raise SignInRefused("code-expired", "the id token has expired; compare the clock of this machine")
