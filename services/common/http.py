"""`/healthz`, `/readyz` and `/metrics` of a service, for orchestrators and Prometheus; read-only.

`/healthz` and `/readyz` answer 200 `yes`, or 503 `no` and a line for each reason.

A client of the port can use only limited resources: at most SEATS requests are answered at a time, each within REQUEST_SECONDS from the first
byte of its head to the last byte of its answer, and a head has at most HEAD_BYTES.
"""

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from logging import getLogger
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST

from services.common import metrics
from services.common.errors import ConfigError
from services.common.health import Problems
from services.common.settings import HttpSettings

log = getLogger(__name__)

States = Callable[[], Problems]

SEATS: Final = 32
"""Requests that are answered at a time, each by a thread; a probe and a scraper need two."""
SEAT_WAIT_SECONDS: Final = 1.0
"""How long a connection waits for a free seat before it is refused with 503."""
WAITING_CONNECTIONS: Final = 64
"""Connections that the kernel accepts before this process does."""
REQUEST_SECONDS: Final = 5.0
HEAD_BYTES: Final = 8192
"""Request line and header fields together."""
PLAIN: Final = "text/plain; charset=utf-8"


@contextmanager
def serve(settings: HttpSettings, service: metrics.Service, healthy: States, ready: States) -> Iterator[int]:
    """Answer requests until the block ends; yields the port, or 0 when the settings turn the pages off.

    `healthy` and `ready` return the reasons why the service is not; they must return at once, without asking a dependency. A
    service that is not healthy is not ready either. ConfigError when the port cannot be used.
    """
    host, port = settings.host, settings.port
    if port == 0:
        yield 0
        return
    try:
        server = _Server((host, port), _handler(service, healthy, ready))
    except OSError as error:
        reason = (error.strerror or "cannot listen").lower()
        raise ConfigError(
            f"REPLYRATE_HTTP__PORT: {reason}; write a port that is free on {host}, or 0 for no pages"
        ) from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


class _Server(HTTPServer):
    """A thread for each request, and no more than SEATS of them."""

    request_queue_size = WAITING_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._seats = threading.BoundedSemaphore(SEATS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a seat, or refuse it."""
        if not self._seats.acquire(timeout=SEAT_WAIT_SECONDS):
            with suppress(OSError):
                request.settimeout(0)
                request.send(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n")
            self.shutdown_request(request)
            return
        threading.Thread(target=self._answer, args=(request, client_address), name="http-page", daemon=True).start()

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client left, or was too slow
        except Exception as error:
            log.warning("a page could not be rendered: %s", type(error).__name__, extra={"action": "crashed"})
        finally:
            self.shutdown_request(request)
            self._seats.release()


def _handler(service: metrics.Service, healthy: States, ready: States) -> type[BaseHTTPRequestHandler]:
    class Pages(BaseHTTPRequestHandler):
        server_version = "replyrate"
        sys_version = ""

        def handle(self) -> None:
            """Read the head within its limits, then let the base class parse it."""
            self._ends = time.monotonic() + REQUEST_SECONDS
            self.requestline, self.request_version, self.command = "", "HTTP/1.0", ""
            head = _read_head(self.connection, self._ends)
            if head is None:
                self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return
            self.rfile.close()
            self.rfile = io.BufferedReader(io.BytesIO(head))
            self.handle_one_request()

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/healthz" | "/live":
                    self._answer_state(healthy())
                case "/readyz" | "/ready":
                    self._answer_state([*healthy(), *ready()])
                case "/metrics":
                    self._answer(200, metrics.page(service), CONTENT_TYPE_LATEST)
                case _:
                    self._answer(404, b"pages: /healthz /readyz /metrics\n", PLAIN)

        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            """The standard phrase of a status, and nothing of what the client sent."""
            self._answer(code, f"{HTTPStatus(code).phrase}\n".encode(), PLAIN)

        def _answer_state(self, problems: Problems) -> None:
            text = "\n".join(["no", *problems] if problems else ["yes"]) + "\n"
            self._answer(503 if problems else 200, text.encode(), PLAIN)

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.request_version = (
                "HTTP/1.0"  # the base class omits the status line of a request whose version it has not read
            )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            # The socket's time limit holds for the answer as a whole (socket.sendall).
            self.connection.settimeout(max(0.1, self._ends - time.monotonic()))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: a probe every second is not worth a line."""

    return Pages


def _read_head(connection: socket.socket, ends: float) -> bytes | None:
    """The request line and the header fields; None when they are too long. TimeoutError at `ends`, OSError when the client left."""
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        if len(head) > HEAD_BYTES:
            return None
        seconds = ends - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        connection.settimeout(seconds)
        received = connection.recv(HEAD_BYTES + 1 - len(head))
        if not received:
            raise ConnectionResetError
        head += received
    return head
