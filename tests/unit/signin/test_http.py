"""The bounded POST."""

import time
from collections.abc import Iterator

import pytest

from services.imap.errors import TokenUnavailable
from services.imap.tls import tls_context
from services.signin.http import post
from services.standalone.servers.ca import CertificateAuthority
from tests.support.provider_lab import HASHER, SMALL, Lab, Serve, serve, topics  # noqa: F401
from tests.support.token_endpoint import DRIP, TokenEndpoint


@pytest.fixture
def endpoint(ca: CertificateAuthority) -> Iterator[TokenEndpoint]:
    with TokenEndpoint(ca) as opened:
        yield opened


def test_a_dripping_answer_ends_in_time(endpoint: TokenEndpoint, ca: CertificateAuthority) -> None:
    endpoint.script = [(200, DRIP)]
    started = time.monotonic()
    with pytest.raises(TokenUnavailable):
        status, body = post(endpoint.url(), {}, tls_context(ca.ca_file), seconds=0.5)
        raise AssertionError((status, body))
    assert time.monotonic() - started < 4
