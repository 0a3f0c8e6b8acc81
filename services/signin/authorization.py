"""The browser's part of a sign-in by redirect: authorization code (RFC 6749 section 4.1) with PKCE (RFC 7636). Pure but for new_state.

1. The web process makes a state, stores its hash, and derives verifier and nonce from it and the token of the session.
2. The browser goes to the provider with the state, the nonce and the hash of the verifier, and comes back with the state and a code.
3. The web process derives the verifier again and seals it with the code for a fetcher, which exchanges them (code_exchange.py).

Only the browser has the token of its session, so nobody who reads the database can finish the sign-in of somebody else, and nothing
secret has to be stored between the steps.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from services.signin.clients import RedirectClient, is_issuer
from services.signin.token_endpoint import is_token

_CODE_BYTES: Final = 8 * 1024
"""The longest code that is passed on; Microsoft's have about 2 KiB."""
ERRORS: Final = {
    "server_error": "sign-in-unavailable",
    "temporarily_unavailable": "sign-in-unavailable",
    "unauthorized_client": "client-refused",
    "invalid_client": "client-refused",
    "invalid_request": "client-refused",
    "invalid_scope": "client-refused",
    "unsupported_response_type": "client-refused",
    "access_denied": "sign-in-declined",
}
"""Error of an authorization endpoint (RFC 6749 section 4.1.2.1) → our code. Others: `sign-in-incomplete`."""


@dataclass(frozen=True, slots=True)
class SignInSecrets:
    """The code verifier (RFC 7636) and the nonce (OpenID Connect Core section 3.1.2.1) of one sign-in."""

    verifier: str = field(repr=False)
    nonce: str = field(repr=False)

    @property
    def challenge(self) -> str:
        """The code challenge by S256."""
        return _base64url(hashlib.sha256(self.verifier.encode()).digest())


@dataclass(frozen=True, slots=True)
class AuthorizationAnswer:
    """What a browser brought back: a code, or an error with a description that is compared and never shown."""

    state: str = field(repr=False)
    code: str | None = field(repr=False)
    error: str | None
    description: str = field(repr=False)
    issuer: str | None


def new_state() -> str:
    """A state of 256 random bits."""
    return secrets.token_urlsafe(32)


def secrets_of(session_token: str, state: str) -> SignInSecrets:
    """Verifier and nonce of a sign-in: HMAC-SHA-256 with the session's token as key; the same whenever they are needed."""
    verifier, nonce = (
        _base64url(hmac.digest(session_token.encode(), f"{purpose}\x1f{state}".encode(), "sha256"))
        for purpose in ("code verifier", "nonce")
    )
    return SignInSecrets(verifier, nonce)


def authorization_url(
    client: RedirectClient, redirect_uri: str, state: str, sign_in: SignInSecrets, login_hint: str | None
) -> str:
    """Where the browser goes. `login_hint`: the address of the mailbox, so that its owner need not type it again."""
    parameters = {
        **client.parameters,
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(client.scopes),
        "state": state,
        "code_challenge": sign_in.challenge,
        "code_challenge_method": "S256",
        **({"login_hint": login_hint} if login_hint is not None else {}),
        **({"nonce": sign_in.nonce} if client.issuer else {}),
    }
    return f"{client.authorize_url}{'&' if '?' in client.authorize_url else '?'}{urlencode(parameters)}"


def parse_answer(parameters: Iterable[tuple[str, str]]) -> AuthorizationAnswer | None:
    """The answer in the parameters of the callback; None when it is none: a parameter twice, no state, or neither code nor error."""
    values: dict[str, str] = {}
    for name, value in parameters:
        if name in values:  # RFC 6749 section 3.1
            return None
        values[name] = value
    state, code, error = values.get("state", ""), values.get("code"), values.get("error")
    if not is_token(state) or (code is None) == (error is None):
        return None
    if code is not None and (len(code) > _CODE_BYTES or not is_token(code)):
        return None
    return AuthorizationAnswer(state, code, error, values.get("error_description", ""), values.get("iss"))


def refusal_of(answer: AuthorizationAnswer, client: RedirectClient) -> str | None:
    """Our code of an answer that brings no access; None when it has a code of this client's provider."""
    if answer.issuer is not None and not is_issuer(client.issuer, answer.issuer):
        return "issuer-differs"
    if answer.error is None:
        return None
    if needs_admin(client, answer.error, answer.description):
        return "admin-consent-needed"
    return ERRORS.get(answer.error, "sign-in-incomplete")


def needs_admin(client: RedirectClient, error: str, description: str) -> bool:
    """Whether only an administrator of the seller's organisation can help."""
    return error in client.admin_consent or description.startswith(client.admin_consent)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
