"""The operator's OAuth2 clients: which one signs in at a mail server, with which addresses and scopes."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from services.common.settings import OAuth2Client, OAuth2PublicClient, OAuth2PublicSettings, OAuth2Settings
from services.common.tables import read_table
from services.imap.errors import SignInNotConfigured
from services.imap.tls import tls_context
from services.providers import catalog

GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""A tenant id of Microsoft."""


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
class RedirectClient:
    """What is public about a client: where a browser signs in and how the answer is checked. It has no secret."""

    name: str
    client_id: str
    authorize_url: str
    parameters: Mapping[str, str]
    scopes: tuple[str, ...]
    issuer: str
    """`{tid}` stands for any tenant id; empty: the provider issues no id tokens, and only its mail server knows who signed in."""
    identity_claims: tuple[str, ...]
    admin_consent: tuple[str, ...]


def client_for(host: str, settings: OAuth2Settings) -> OAuthClient:
    """The operator's client for a mail server. SignInNotConfigured when there is none: no token goes to an unknown server."""
    name, client_id = _name_and_id(host, settings)
    configured: OAuth2Client = getattr(settings, name)
    service = sign_in_services()[name]
    return OAuthClient(
        name,
        client_id,
        None if configured.client_secret is None else configured.client_secret.get_secret_value(),
        (configured.token_url or service["token_url"]).replace("{tenant}", configured.tenant),
        (configured.device_url or service["device_url"]).replace("{tenant}", configured.tenant),
        configured.scopes or tuple(service["scopes"]),
    )


def redirect_client_for(host: str, settings: OAuth2PublicSettings) -> RedirectClient:
    """The same client for a sign-in by redirect. SignInNotConfigured also when no authorization endpoint is known."""
    name, client_id = _name_and_id(host, settings)
    configured: OAuth2PublicClient = getattr(settings, name)
    service = sign_in_services()[name]
    authorize_url = (configured.authorize_url or service["authorize_url"]).replace("{tenant}", configured.tenant)
    if not authorize_url:
        raise SignInNotConfigured("login", f"REPLYRATE_OAUTH2__{name.upper()}__AUTHORIZE_URL is not set")
    issuer = configured.issuer or service["issuer"]
    if GUID.fullmatch(configured.tenant):
        issuer = issuer.replace("{tid}", configured.tenant.lower())
    scopes = configured.scopes or tuple(service["scopes"])
    return RedirectClient(
        name,
        client_id,
        authorize_url,
        service["authorize_parameters"],
        (*scopes, *service["sign_in_scopes"]) if issuer else scopes,
        issuer,
        tuple(service["identity_claims"]),
        tuple(service["admin_consent"]),
    )


def is_issuer(expected: str, issuer: str) -> bool:
    """Whether `issuer` is the expected one, where `{tid}` stands for any tenant id."""
    pattern = GUID.pattern.join(re.escape(part) for part in expected.split("{tid}"))
    return re.fullmatch(pattern, issuer) is not None


def _name_and_id(host: str, settings: OAuth2PublicSettings) -> tuple[str, str]:
    """The section of the settings that is for a mail server, and its client id. SignInNotConfigured."""
    provider = catalog.load().by_host(host)
    for name, service in sign_in_services().items():
        configured: OAuth2PublicClient = getattr(settings, name)
        if host in configured.hosts or (provider is not None and provider.id in service["providers"]):
            if not configured.client_id:
                raise SignInNotConfigured("login", f"REPLYRATE_OAUTH2__{name.upper()}__CLIENT_ID is not set")
            return name, configured.client_id
    raise SignInNotConfigured("login", "no client is set up for this server; see REPLYRATE_OAUTH2__OTHER__HOSTS")


@cache
def sign_in_services() -> Mapping[str, Mapping[str, Any]]:
    """The entries of oauth.toml by name."""
    return read_table("services.signin", "oauth.toml")


def token_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verified TLS that trusts the operator's authorities beside the system's."""
    return tls_context(ca_file, setting="REPLYRATE_OAUTH2__CA_FILE")
