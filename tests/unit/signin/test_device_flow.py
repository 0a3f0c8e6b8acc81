"""Sign-in with a code, against a scripted provider."""

from collections.abc import Iterator
from typing import Any

import pytest

from services.imap.errors import TokenUnavailable
from services.imap.tls import tls_context
from services.signin.clients import OAuthClient
from services.signin.device_flow import DEVICE_GRANT, SignInFailed, start_sign_in, wait_for_sign_in
from services.standalone.servers.ca import CertificateAuthority
from tests.support.provider_lab import HASHER, SMALL, Lab, Serve, serve, topics  # noqa: F401
from tests.support.token_endpoint import TokenEndpoint


@pytest.fixture
def endpoint(ca: CertificateAuthority) -> Iterator[TokenEndpoint]:
    with TokenEndpoint(ca) as opened:
        yield opened


@pytest.fixture
def client(endpoint: TokenEndpoint) -> OAuthClient:
    return OAuthClient(
        "other", "our-client", "Client-canary", endpoint.url(), endpoint.url("/device"), ("mail", "offline")
    )


def test_a_sign_in_with_a_code_waits_as_the_provider_demands(
    client: OAuthClient, endpoint: TokenEndpoint, ca: CertificateAuthority
) -> None:
    context, slept = tls_context(ca.ca_file), list[float]()
    device = start_sign_in(client, context)
    assert (device.url, device.code) == ("https://sign.in/device", "ABCD-EFGH")
    endpoint.script = [
        (400, {"error": "authorization_pending"}), (400, {"error": "slow_down"}), (503, b"away"), (400, {"error": "authorization_pending"}),
    ]  # fmt: skip
    grant = wait_for_sign_in(client, device, context, sleep=slept.append, monotonic=lambda: sum(slept))
    assert slept == [1, 1, 6, 12, 12]
    assert grant.refresh in endpoint.valid
    assert endpoint.asked[-1]["grant_type"] == DEVICE_GRANT
    assert endpoint.asked[-1]["device_code"] == "Device-canary"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((400, {"error": "access_denied"}), "declined"), ((400, {"error": "expired_token"}), "expired"),
        ((400, {"error": "authorization_pending"}), "expired"), ((200, {"access_token": "a"}), "offline_access"),
    ],
)  # fmt: skip
def test_a_failed_sign_in_says_what_to_do(
    client: OAuthClient, endpoint: TokenEndpoint, ca: CertificateAuthority, answer: Any, says: str
) -> None:
    context, slept = tls_context(ca.ca_file), list[float]()
    device = start_sign_in(client, context)
    endpoint.script = [answer] * 1000
    with pytest.raises(SignInFailed, match=says):
        wait_for_sign_in(client, device, context, sleep=slept.append, monotonic=lambda: sum(slept) * 10)


def test_an_invalid_device_answer_is_refused(
    client: OAuthClient, endpoint: TokenEndpoint, ca: CertificateAuthority
) -> None:
    good = {
        "device_code": "x",
        "user_code": "A",
        "verification_uri": "https://sign.in",
        "interval": "no",
        "expires_in": None,
    }
    for bad in (
        {"user_code": "\x1b[2J"},
        {"verification_uri": "http://sign.in"},
        {"device_code": ""},
        {"user_code": 7},
    ):
        endpoint.script = [(200, good | bad)]
        with pytest.raises(TokenUnavailable):
            start_sign_in(client, tls_context(ca.ca_file))
    endpoint.script = [(200, good)]
    device = start_sign_in(client, tls_context(ca.ca_file))
    assert (device.interval, device.seconds) == (5, 900)
