"""The OpenID provider at which staff sign in: its endpoints by discovery, the exchange of a code, and what the id token says.

Authorization code (RFC 6749 section 4.1) with PKCE (RFC 7636), state, nonce and the issuer of the answer (RFC 9207), by the parts with which
sellers sign in (services/signin). The claims are checked and the signature is not: the token comes from the token endpoint itself over verified
TLS (OpenID Connect Core section 3.1.3.7, 6).
"""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from services.common.settings import ConsoleSettings
from services.imap.errors import MailboxError
from services.imap.tls import tls_context
from services.registry.staff_sessions import NAME_CHARACTERS, StaffRole
from services.signin import http, token_endpoint
from services.signin.authorization import SignInSecrets, authorization_url
from services.signin.clients import OAuthClient, RedirectClient
from services.signin.id_token import checked_claims
from services.signin.refusals import SignInRefused

CALLBACK_PATH: Final = "/sign-in/callback"
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
DISCOVERED_FOR: Final = timedelta(hours=1)
NAME_CLAIMS: Final = ("name", "preferred_username", "email", "sub")
SUBJECT_CHARACTERS: Final = 255


@dataclass(frozen=True, slots=True)
class SignedInStaff:
    """Who signed in. `role`: None when no value of the claim means one."""

    subject: str = field(repr=False)
    display_name: str = field(repr=False)
    role: StaffRole | None


@dataclass(frozen=True, slots=True)
class ProviderEndpoints:
    """What discovery said, and when."""

    authorize_url: str
    token_url: str
    read_at: datetime


class StaffProvider:
    """The provider of the settings. Safe to use from any thread: two that discover at once read the same."""

    def __init__(self, settings: ConsoleSettings, origin: str) -> None:
        """`origin`: the public address of the console. ConfigError when the file of the authorities cannot be used."""
        assert settings.issuer and settings.client_id and settings.client_secret
        self._settings = settings
        self._issuer, self._client_id, self._secret = settings.issuer, settings.client_id, settings.client_secret
        self._redirect_uri = f"{origin}{CALLBACK_PATH}"
        self._context: ssl.SSLContext = tls_context(settings.ca_file, setting="REPLYRATE_CONSOLE__CA_FILE")
        self._endpoints: ProviderEndpoints | None = None

    def url(self, state: str, sign_in: SignInSecrets, now: datetime) -> str:
        """Where the browser goes to sign in. SignInRefused when the provider does not answer."""
        return authorization_url(self.client(now), self._redirect_uri, state, sign_in, None)

    def client(self, now: datetime) -> RedirectClient:
        """The client as services/signin knows it. SignInRefused when the provider does not answer."""
        authorize_url = self._discovered(now).authorize_url
        return RedirectClient(
            "console", self._client_id, authorize_url, {}, self._settings.scopes, self._issuer, (), ()
        )

    def exchange(self, code: str, sign_in: SignInSecrets, now: datetime) -> SignedInStaff:
        """Who signed in, by the code that the browser brought back. SignInRefused."""
        endpoints, scopes = self._discovered(now), self._settings.scopes
        client = OAuthClient(
            "console", self._client_id, self._secret.get_secret_value(), endpoints.token_url, "", scopes
        )
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self._redirect_uri, "code_verifier": sign_in.verifier,
        }  # fmt: skip
        try:
            status, answer = token_endpoint.request(client, endpoints.token_url, form, self._context)
            if status != 200:
                raise token_endpoint.error_of(status, answer)
        except MailboxError as error:
            raise SignInRefused("sign-in-unavailable", str(error)) from None
        return staff_of(checked_claims(answer.get("id_token"), self.client(now), sign_in.nonce, now), self._settings)

    def _discovered(self, now: datetime) -> ProviderEndpoints:
        known_endpoints = self._endpoints
        if known_endpoints is not None and now - known_endpoints.read_at < DISCOVERED_FOR:
            return known_endpoints
        try:
            status, body = http.get(self._issuer.rstrip("/") + DISCOVERY_PATH, self._context)
            document = json.loads(body) if status == 200 else None
        except MailboxError as error:
            raise SignInRefused("sign-in-unavailable", str(error)) from None
        except (ValueError, RecursionError):
            document = None
        self._endpoints = endpoints_of(document, self._issuer, now)
        return self._endpoints


def endpoints_of(document: object, issuer: str, now: datetime) -> ProviderEndpoints:
    """The endpoints in a document of discovery. SignInRefused when it is none of this issuer."""
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise SignInRefused("issuer-differs", "the discovery document is not of REPLYRATE_CONSOLE__ISSUER")
    urls = [document.get(name) for name in ("authorization_endpoint", "token_endpoint")]
    if not all(isinstance(url, str) and urlsplit(url).scheme == "https" for url in urls):
        raise SignInRefused("sign-in-unavailable", "the discovery document names no endpoints with https")
    return ProviderEndpoints(str(urls[0]), str(urls[1]), now)


def staff_of(claims: Mapping[str, Any], settings: ConsoleSettings) -> SignedInStaff:
    """Who the claims of an id token name, and the role by the settings. SignInRefused without a subject."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARACTERS or not subject.isprintable():
        raise SignInRefused("sign-in-unavailable", "an id token without a usable subject")
    names = (claims.get(name) for name in NAME_CLAIMS)
    display_name = next(name for name in names if isinstance(name, str) and name.strip() and name.isprintable())
    return SignedInStaff(
        subject, display_name.strip()[:NAME_CHARACTERS], role_of(claims.get(settings.role_claim), settings)
    )


def role_of(value: object, settings: ConsoleSettings) -> StaffRole | None:
    """The role that a claim means: a text, or a list of texts; the stronger one where several match."""
    values = {part for part in (value if isinstance(value, list) else [value]) if isinstance(part, str)}
    if values & set(settings.operator_values):
        return "operator"
    return "support" if values & set(settings.support_values) else None
