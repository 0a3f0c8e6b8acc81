"""The pages of a service."""

import socket
import threading
from contextlib import ExitStack, suppress

import pytest

from services.common import http
from services.common.errors import ConfigError
from services.common.http import serve
from services.common.settings import HttpSettings
from services.standalone.servers.child import free_port
from tests.support.processes import get, until


def settings(port: int) -> HttpSettings:
    return HttpSettings.model_validate({"port": port})


def test_state_pages_give_the_reasons_and_an_unhealthy_service_is_not_ready() -> None:
    healthy: list[str] = []
    ready = ["kafka does not answer", "no partition is assigned"]
    with serve(settings(free_port()), "fetcher", lambda: healthy, lambda: ready) as port:
        assert get(port, "/healthz") == (200, "yes\n")
        assert get(port, "/readyz") == (503, "no\nkafka does not answer\nno partition is assigned\n")
        ready.clear()
        assert get(port, "/readyz?x=1") == (200, "yes\n")
        healthy.append("the join loop has not progressed for 301 s")
        assert (
            get(port, "/healthz") == get(port, "/readyz") == (503, "no\nthe join loop has not progressed for 301 s\n")
        )
        assert get(port, "/else")[0] == 404


def test_a_service_shows_its_own_metrics_and_no_false_0_of_another() -> None:
    with serve(settings(free_port()), "fetcher", list, list) as port:
        text = get(port, "/metrics")[1]
    assert "replyrate_fetcher_poll_delay_seconds" in text and "replyrate_dependency_failures_total" in text
    assert "replyrate_matcher_" not in text and "replyrate_aggregator_" not in text
    assert "replyrate_dead_letters_waiting" not in text


def test_port_0_serves_nothing() -> None:
    with serve(settings(0), "matcher", list, list) as port:
        assert port == 0


def test_a_taken_port_is_named() -> None:
    with (
        serve(settings(free_port()), "matcher", list, list) as port,
        pytest.raises(ConfigError, match="REPLYRATE_HTTP__PORT"),
        serve(settings(port), "matcher", list, list),
    ):
        pass


def ask(port: int, request: bytes) -> bytes:
    """Everything that is answered to these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(request)
        return all_of(client)


def all_of(client: socket.socket) -> bytes:
    answer = b""
    with suppress(ConnectionError):
        while received := client.recv(65536):
            answer += received
    return answer


def answering() -> int:
    return sum(thread.name == "http-page" for thread in threading.enumerate())


@pytest.mark.parametrize("request_start", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_clients_that_never_finish_take_all_seats_and_lose_them(
    request_start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 2.0)
    monkeypatch.setattr(http, "SEAT_WAIT_SECONDS", 0.05)
    with serve(settings(free_port()), "fetcher", list, list) as port, ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(http.SEATS + 8)
        ]
        for client in slow:
            with suppress(ConnectionError):
                client.sendall(request_start)
        until(lambda: answering() == http.SEATS, 30, "every seat is taken")
        refused = get(port, "/healthz")[0]
        assert refused in (0, 503) and answering() <= http.SEATS
        until(lambda: get(port, "/healthz") == (200, "yes\n"), 30, "the seats are free again")
        assert all(
            all_of(client).partition(b"\r\n")[0] in (b"", b"HTTP/1.0 503 Service Unavailable") for client in slow
        )


def test_a_client_that_drips_bytes_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 1.0)
    with (
        serve(settings(free_port()), "fetcher", list, list) as port,
        socket.create_connection(("127.0.0.1", port), timeout=0.1) as client,
    ):
        sent = 0
        with suppress(ConnectionError):
            client.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
            while sent < 1000:
                client.sendall(b"x")
                sent += 1
                with suppress(TimeoutError):
                    assert client.recv(1) == b""
                    break
        assert sent < 1000


def test_a_client_that_reads_no_answer_loses_its_seat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 1.0)
    with (
        serve(settings(free_port()), "fetcher", lambda: ["x" * 50_000_000], list) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as client,
    ):
        client.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        until(lambda: answering() == 1, 30, "the answer is being sent")
        until(lambda: answering() == 0, 30, "the answer was given up")


@pytest.mark.parametrize(
    "head",
    [b"GET /" + b"x" * http.HEAD_BYTES, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * http.HEAD_BYTES, b"\x00" * http.HEAD_BYTES],
)  # fmt: skip
def test_a_head_that_is_too_long_is_refused(head: bytes) -> None:
    with serve(settings(free_port()), "fetcher", list, list) as port:
        assert ask(port, head[: http.HEAD_BYTES + 1].ljust(http.HEAD_BYTES + 1, b"y")).startswith(b"HTTP/1.0 431 ")
        assert get(port, "/healthz") == (200, "yes\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"canary-request\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/canary\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/9.9\r\n\r\n", b"505"),
        (b"CANARY /healthz HTTP/1.1\r\n\r\n", b"501"),
        (b"GET /canary<script> HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /healthz HTTP/1.1\r\n" + b"A: canary\r\n" * 200 + b"\r\n", b"431"),
    ],
)
def test_a_bad_request_is_refused_without_repeating_it(request_bytes: bytes, status: bytes) -> None:
    with serve(settings(free_port()), "fetcher", list, list) as port:
        answer = ask(port, request_bytes)
    assert answer.split()[1] == status
    assert b"canary" not in answer.lower()
