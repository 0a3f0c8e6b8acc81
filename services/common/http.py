"""`/live`, `/ready` and `/metrics` of a service, for orchestrators and Prometheus. Nothing here changes anything."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.common.errors import ConfigError
from services.common.metrics import REGISTRY


@contextmanager
def serve(port: int, live: Callable[[], bool], ready: Callable[[], bool], *, host: str = "127.0.0.1") -> Iterator[int]:
    """Answer on `host`:`port` until the block ends; yields the port, 0 when `port` is 0 and nothing is served.

    `live` and `ready` must return at once: they report what the loop last knew, they ask nobody.
    """
    if port == 0:
        yield 0
        return
    try:
        server = ThreadingHTTPServer((host, port), _handler(live, ready))
    except OSError as error:
        reason = (error.strerror or "cannot listen").lower()
        raise ConfigError(
            f"REPLYRATE_HTTP__PORT: {reason}; write a port that is free on {host}, or 0 for none"
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


def _handler(live: Callable[[], bool], ready: Callable[[], bool]) -> type[BaseHTTPRequestHandler]:
    class Pages(BaseHTTPRequestHandler):
        timeout = 10
        server_version = "replyrate"
        sys_version = ""

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/live":
                    self._answer_state(live())
                case "/ready":
                    self._answer_state(ready())
                case "/metrics":
                    self._answer(200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST)
                case _:
                    self._answer(404, b"pages: /live /ready /metrics\n", "text/plain; charset=utf-8")

        def _answer_state(self, good: bool) -> None:
            self._answer(200 if good else 503, b"yes\n" if good else b"no\n", "text/plain; charset=utf-8")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a probe every second is no news."""

    return Pages
