"""Access tokens and the values around them."""

from collections.abc import Iterator

import pytest

from services.common.settings import OAuth2Settings
from services.imap.errors import MailboxError
from services.imap.tls import tls_context
from services.signin.access_tokens import AccessTokens
from services.signin.clients import OAuthClient
from services.signin.device_flow import start_sign_in
from services.signin.token_endpoint import refresh_grant
from services.signin.token_store import MemoryTokenStore
from services.standalone.servers.ca import CertificateAuthority
from tests.support.provider_lab import HASHER, SMALL, Lab, Serve, serve, topics  # noqa: F401
from tests.support.token_endpoint import TokenEndpoint

CANARY = "canary"


@pytest.fixture
def endpoint(ca: CertificateAuthority) -> Iterator[TokenEndpoint]:
    with TokenEndpoint(ca) as opened:
        yield opened


@pytest.fixture
def client(endpoint: TokenEndpoint) -> OAuthClient:
    return OAuthClient(
        "other", "our-client", "Client-canary", endpoint.url(), endpoint.url("/device"), ("mail", "offline")
    )


def test_values_with_tokens_do_not_show_them(
    client: OAuthClient, endpoint: TokenEndpoint, ca: CertificateAuthority
) -> None:
    context = tls_context(ca.ca_file)
    device = start_sign_in(client, context)
    tokens = refresh_grant(client, "Refresh-canary-0", context)
    endpoint.valid.clear()
    with pytest.raises(MailboxError) as error:
        AccessTokens(OAuth2Settings.model_validate(
            {"other": {"client_id": "c", "token_url": endpoint.url(), "hosts": "localhost"}, "ca_file": ca.ca_file}
        )).renew("localhost", "u", "Refresh-canary-0", MemoryTokenStore("Refresh-canary-0"))  # fmt: skip
    for value in (client, device, tokens, error.value):
        assert CANARY not in repr(value).lower() and CANARY not in str(value).lower()
