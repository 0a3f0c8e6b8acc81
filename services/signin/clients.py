"""The operator's OAuth2 clients: which one signs in at a mail server, with which addresses and scopes."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from services.common.settings import OAuth2Client, OAuth2Settings
from services.common.tables import read_table
from services.imap.errors import SignInNotConfigured
from services.imap.tls import tls_context
from services.providers import catalog


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """The operator's client at a provider: `name` is the section of its settings."""

    name: str
    client_id: str
    secret: str | None = field(repr=False)
    token_url: str
    device_url: str
    scopes: tuple[str, ...]


def client_for(host: str, settings: OAuth2Settings) -> OAuthClient:
    """The operator's client for a mail server. SignInNotConfigured when there is none: no token goes to an unknown server."""
    provider = catalog.load().by_host(host)
    for name, service in sign_in_services().items():
        configured: OAuth2Client = getattr(settings, name)
        if host in configured.hosts or (provider is not None and provider.id in service["providers"]):
            if not configured.client_id:
                raise SignInNotConfigured("login", f"REPLYRATE_OAUTH2__{name.upper()}__CLIENT_ID is not set")
            return OAuthClient(
                name,
                configured.client_id,
                None if configured.client_secret is None else configured.client_secret.get_secret_value(),
                (configured.token_url or service["token_url"]).replace("{tenant}", configured.tenant),
                (configured.device_url or service["device_url"]).replace("{tenant}", configured.tenant),
                configured.scopes or tuple(service["scopes"]),
            )
    raise SignInNotConfigured("login", "no client is set up for this server; see REPLYRATE_OAUTH2__OTHER__HOSTS")


@cache
def sign_in_services() -> Mapping[str, Mapping[str, Any]]:
    """The entries of oauth.toml by name."""
    return read_table("services.signin", "oauth.toml")


def token_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verified TLS that trusts the operator's authorities beside the system's."""
    return tls_context(ca_file, setting="REPLYRATE_OAUTH2__CA_FILE")
