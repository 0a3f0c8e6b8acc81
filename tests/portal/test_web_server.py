"""What applies to every request: headers, the host, sizes, languages, and how the process starts and stops."""

import socket
from urllib.parse import urlsplit

import pytest

from services.portal.request_limits import BODY_BYTES
from tests.support.portal_lab import Portal, make_portal, portal, portal_dsn

__all__ = ["make_portal", "portal", "portal_dsn"]


def test_every_answer_has_the_security_headers(portal: Portal) -> None:
    with portal.client() as client:
        for path in ("/", "/static/portal.css", "/no-such-page"):
            headers = client.get(path).headers
            assert headers["content-security-policy"].startswith(
                "default-src 'none'; script-src 'self'; style-src 'self'"
            )
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
            assert "server" not in headers
        assert client.get("/").headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in client.get("/").headers


@pytest.mark.parametrize(
    ("accepted", "asked", "tag"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "", "zh-CN"),
        ("de,en-GB;q=0.7,zh;q=0.3", "", "en"),
        ("fr", "", "en"),
        ("zh", "?lang=en", "en"),
        ("zh;q=x,,;q=1", "?lang=<b>", "en"),
    ],
)
def test_a_page_has_the_language_of_its_reader(portal: Portal, accepted: str, asked: str, tag: str) -> None:
    with portal.client(headers={"accept-language": accepted}) as client:
        assert f'<html lang="{tag}">' in client.get(f"/{asked}").text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "", "127.0.0.1:1@evil.example"])
def test_a_request_for_another_host_is_refused(portal: Portal, host: str) -> None:
    with portal.client() as client:
        assert client.get("/", headers={"host": host}).status_code == 421


def test_a_large_body_is_refused_whether_it_tells_its_size_or_not(portal: Portal) -> None:
    body = b"x" * (BODY_BYTES + 1)
    with portal.client() as client:
        assert client.post("/", content=body).status_code == 413
        assert client.post("/", content=iter([body])).status_code in (405, 413)


def test_a_stopped_process_ends_with_code_0_while_a_client_is_connected(portal: Portal) -> None:
    parts = urlsplit(portal.origin)
    assert parts.port is not None
    with socket.create_connection(("127.0.0.1", parts.port)) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\n")
        assert portal.process.terminate() == 0
