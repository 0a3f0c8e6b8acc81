"""What applies to every request: headers, the host, sizes, languages, and how the process starts and stops."""

import contextlib
import select
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from services.common.language import Language
from services.portal.pages.templates import LANGUAGE_TAGS
from services.portal.pages.texts import text
from services.portal.request_limits import BODY_BYTES
from services.portal.web_server import bound_listener
from tests.support.connect_lab import Browser, SellerPages, add_account
from tests.support.portal_lab import MakePortal, Portal, TlsProxy, make_portal, portal_dsn, portal_login, running_portal

__all__ = ["make_portal", "portal_dsn"]


HTTPS = "https://replies.example"


@pytest.fixture(scope="module")
def portal(kafka: str, postgres: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """A web process for all tests of this file; a body must arrive within two seconds."""
    folder = tmp_path_factory.mktemp("portal")
    with portal_login(postgres()) as login, running_portal(kafka, login, folder, PORTAL__BODY_SECONDS="2") as started:
        yield started


def test_every_answer_has_the_security_headers(portal: Portal) -> None:
    with portal.client() as client:
        for path in ("/", "/static/portal.css", "/no-such-page"):
            headers = client.get(path).headers
            assert headers["content-security-policy"].startswith(
                "default-src 'none'; script-src 'self'; style-src 'self'"
            )
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "strict-origin"
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
        ("en; q=0.8, zh-TW ; Q=0.9", "", "zh-CN"),
        ("zh;q=0", "", "en"),
        ("zh;q=0.0,de", "", "en"),
        ("zh-CN;q=0, zh;q=0.4, en;q=0.3", "", "zh-CN"),
    ],
)
def test_a_page_has_the_language_of_its_reader(portal: Portal, accepted: str, asked: str, tag: str) -> None:
    with portal.client(headers={"accept-language": accepted}) as client:
        assert f'<html lang="{tag}">' in client.get(f"/{asked}").text


def shows_problem(head: str, body: str, language: Language = "en") -> bool:
    """Whether an answer is a page that says how to go on, and that no other site can frame."""
    return (
        "frame-ancestors 'none'" in head
        and f'<html lang="{LANGUAGE_TAGS[language]}">' in body
        and text("progress.next", language) in body
    )


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "", "127.0.0.1:1@evil.example", "[evil.example"])
def test_a_request_for_another_host_is_refused(portal: Portal, host: str, language: Language) -> None:
    with portal.client() as client:
        answer = client.get("/connect", headers={"host": host, "accept-language": language})
    assert answer.status_code == 421
    assert shows_problem(str(answer.headers), answer.text, language), answer.text


def test_a_large_body_is_refused_whether_it_tells_its_size_or_not(portal: Portal) -> None:
    body = b"x" * (BODY_BYTES + 1)
    with portal.client() as client:
        answer = client.post("/", content=body)
        assert answer.status_code == 413 and shows_problem(str(answer.headers), answer.text)
        problem = client.post("/v1/connection-tests", content=body)
        assert (problem.status_code, problem.json()["code"]) == (413, "body-too-large")
        assert client.post("/", content=iter([body])).status_code in (405, 413)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/connect/address", "application/x-www-form-urlencoded"), ("/v1/connection-tests", "application/json")],
)
def test_a_slow_body_is_refused_and_the_connection_ends(portal: Portal, path: str, kind: str) -> None:
    parts = urlsplit(portal.origin)
    assert parts.port is not None
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {kind}\r\nContent-Length: 60000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", parts.port)) as client:
        client.sendall(head.encode())
        client.settimeout(30)
        while not select.select([client], [], [], 0.1)[0]:
            client.send(b" ")
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # the last byte may have met the end of the connection
            while received := client.recv(4096):
                answer += received
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b"connection: close" in answer.lower()
    head, _, content = answer.decode().partition("\r\n\r\n")
    is_api = path.startswith("/v1/")
    assert ('"code":"body-too-slow"' in content) == is_api and shows_problem(head, content) != is_api, answer
    with portal.client() as prompt:
        assert prompt.get("/").status_code == 200


def test_behind_a_proxy_that_ends_tls_the_public_address_is_https(make_portal: MakePortal, dsn: str) -> None:
    add_account(dsn)
    with make_portal(PORTAL__PUBLIC_URL=HTTPS) as portal, TlsProxy(portal) as proxy:
        browser = Browser(HTTPS, proxy)
        browser.get(SellerPages(dsn, portal).link())
        assert browser.answer.headers["strict-transport-security"].startswith("max-age=31536000")
        browser.fill_in("/link/.*").fill_in("/connect/consent", name="Li Wei", agreed="yes")
        assert browser.path == "/connect/address"
        assert browser.fill_in("/connect/address", address="seller@qq.com").path == "/connect/login"
        cookies = list(browser.client.cookies.jar)
        assert len(cookies) >= 2
        for cookie in cookies:
            assert cookie.name.startswith("__Host-") and cookie.secure and cookie.path == "/", cookie
            assert not cookie.domain_specified and cookie.has_nonstandard_attr("HttpOnly")
        browser.client.follow_redirects = False
        assert browser.get("/connect/address/").answer.headers["location"] == f"{HTTPS}/connect/address"
        foreign = browser.post("/connect/address", {"address": "x@qq.com"}, Origin=portal.origin)
        assert foreign.status == 403
        assert browser.client.get("/", headers={"host": urlsplit(portal.origin).netloc}).status_code == 421
        browser.client.close()


def test_a_stopped_process_ends_with_code_0_while_a_client_is_connected(make_portal: MakePortal) -> None:
    with make_portal() as portal:
        parts = urlsplit(portal.origin)
        assert parts.port is not None
        with socket.create_connection(("127.0.0.1", parts.port)) as idle:
            idle.sendall(b"GET / HTTP/1.1\r\n")
            assert portal.process.terminate() == 0


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_headers() -> None:
    with bound_listener("PORTAL", "127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
