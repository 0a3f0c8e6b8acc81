"""A provider's sign-in service on loopback: TLS, refresh tokens that rotate, codes for a sign-in, and scripted faults."""

import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl

from services.standalone.servers.ca import CertificateAuthority

Answer = tuple[int, Any]


class TokenEndpoint:
    """Returns an access token for each refresh token in `valid`; the answers in `script` come first, in order.

    An answer of the script is (status, body), or a function that returns one: bytes are sent unchanged, anything else as JSON.
    """

    def __init__(self, ca: CertificateAuthority) -> None:
        self.valid = {"Refresh-canary-0"}
        self.rotates = False
        self.seconds = 3600
        self.script: list[Answer | Callable[[], Answer]] = []
        self.asked: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.given: set[str] = set()
        """Valid access tokens; a mail server of the lab may share the set."""
        self.headers: dict[str, str] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        files = ca.issue(f"tokens-{self._server.server_port}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def url(self, path: str = "/token") -> str:
        """The address of a path."""
        return f"https://localhost:{self._server.server_port}{path}"

    def __enter__(self) -> "TokenEndpoint":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _tokens(self, form: dict[str, str]) -> Answer:
        if form["grant_type"] == "refresh_token" and form["refresh_token"] not in self.valid:
            return 400, {"error": "invalid_grant", "error_description": f"canary {form['refresh_token']} is gone"}
        number = len(self.asked)
        access = f"Access-canary-{number}"
        self.given.add(access)
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": self.seconds}
        if self.rotates or form["grant_type"] != "refresh_token":
            if form["grant_type"] == "refresh_token":
                self.valid.discard(form["refresh_token"])
            answer["refresh_token"] = f"Refresh-canary-{number}"
            self.valid.add(f"Refresh-canary-{number}")
        return 200, answer

    def answer(self, path: str, form: dict[str, str]) -> Answer:
        """What is said to a form."""
        self.asked.append(form)
        self.paths.append(path)
        if self.script:
            step = self.script.pop(0)
            return step() if callable(step) else step
        if path == "/device":
            return 200, {
                "device_code": "Device-canary", "user_code": "ABCD-EFGH", "verification_uri": "https://sign.in/device",
                "expires_in": 900, "interval": 1,
            }  # fmt: skip
        return self._tokens(form)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                form = dict(parse_qsl(self.rfile.read(length).decode(), keep_blank_values=True))
                status, body = endpoint.answer(self.path, form)
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                try:
                    self.send_response(status)
                    for name, value in endpoint.headers.items():
                        self.send_header(name, value)
                    if raw != DRIP:
                        self.send_header("Content-Length", str(len(raw)))
                    self.end_headers()
                    if raw == DRIP:
                        for _ in range(100):
                            self.wfile.write(b" ")
                            self.wfile.flush()
                            time.sleep(0.05)
                    else:
                        self.wfile.write(raw)
                except (OSError, ssl.SSLError):
                    pass  # the client has closed the connection

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        return Handler


DRIP = b"drip"
"""A body that is sent byte by byte."""
