"""An OpenTelemetry collector on loopback: keeps the spans that arrive by OTLP over HTTP, or fails as configured."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """A context manager. `spans` are plain values; `bytes` is everything that ever arrived."""

    def __init__(self, *, status: int = 200, hang_seconds: float = 0) -> None:
        self.status = status
        self.hang_seconds = hang_seconds
        self.asked = 0
        self.bytes = b""
        self._spans: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def endpoint(self) -> str:
        """The value of REPLYRATE_TELEMETRY__ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def spans(self, name: str | None = None) -> list[dict[str, Any]]:
        """The spans that arrived: service, name, trace, id, parent, failed, attributes."""
        with self._lock:
            return [span for span in self._spans if name is None or span["name"] == name]

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.asked += 1
            self.bytes += body
            if self.status != 200:
                return
            for of in request.resource_spans:
                resource = {attribute.key: _value(attribute.value) for attribute in of.resource.attributes}
                self._spans += [
                    {
                        "service": resource["service.name"], "resource": resource, "name": span.name,
                        "trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                        "failed": span.status.message if span.status.code == 2 else None,
                        "attributes": {attribute.key: _value(attribute.value) for attribute in span.attributes},
                    }
                    for scope in of.scope_spans for span in scope.spans
                ]  # fmt: skip

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                collector._take(body)
                collector._stop.wait(collector.hang_seconds)
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing."""

        return Handler

    def __enter__(self) -> "Collector":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def _value(any_value: Any) -> Any:
    return getattr(any_value, any_value.WhichOneof("value"))
