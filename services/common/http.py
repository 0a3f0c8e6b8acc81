"""`/healthz`, `/readyz` and `/metrics` of a service, for orchestrators and Prometheus; read-only.

`/healthz` and `/readyz` answer 200 `yes`, or 503 `no` and a line for each reason.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST

from services.common import metrics
from services.common.errors import ConfigError
from services.common.health import Problems
from services.common.settings import HttpSettings

States = Callable[[], Problems]


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
        server = ThreadingHTTPServer((host, port), _handler(service, healthy, ready))
    except OSError as error:
        reason = (error.strerror or "cannot listen").lower()
        raise ConfigError(
            f"REPLYRATE_HTTP__PORT: {reason}; write a port that is free on {host}, or 0 for no pages"
        ) from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def _handler(service: metrics.Service, healthy: States, ready: States) -> type[BaseHTTPRequestHandler]:
    class Pages(BaseHTTPRequestHandler):
        timeout = 10
        server_version = "replyrate"
        sys_version = ""

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/healthz" | "/live":
                    self._answer_state(healthy())
                case "/readyz" | "/ready":
                    self._answer_state([*healthy(), *ready()])
                case "/metrics":
                    self._answer(200, metrics.page(service), CONTENT_TYPE_LATEST)
                case _:
                    self._answer(404, b"pages: /healthz /readyz /metrics\n", "text/plain; charset=utf-8")

        def _answer_state(self, problems: Problems) -> None:
            text = "\n".join(["no", *problems] if problems else ["yes"]) + "\n"
            self._answer(503 if problems else 200, text.encode(), "text/plain; charset=utf-8")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: a probe every second is not worth a line."""

    return Pages
