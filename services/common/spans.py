"""The only door to OpenTelemetry (the extra `telemetry`): spans by OTLP over HTTP, in a thread of the library's.

What cannot be sent is dropped after a bounded queue: no poll, join or merge ever waits for a collector.
"""

import logging
import threading
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from services.common.telemetry import Name, Value
from services.common.trace import is_sampled, trace_id

KINDS: Final[dict[Name, SpanKind]] = {
    "poll": SpanKind.INTERNAL,
    "publish": SpanKind.PRODUCER,
    "join": SpanKind.CONSUMER,
    "merge": SpanKind.CONSUMER,
    "refresh": SpanKind.INTERNAL,
}
QUEUE: Final = 2048
SEND_SECONDS: Final = 5
CLOSE_SECONDS: Final = 1


LOST_EVERY_SECONDS: Final = 60.0


class _Lost(logging.Filter):
    """One line of ours a minute for all that the library says, which names no setting and may quote the endpoint."""

    def __init__(self) -> None:
        super().__init__()
        self._said = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is let through, with another text."""
        if record.levelno < logging.ERROR or record.created < self._said + LOST_EVERY_SECONDS:
            return False
        self._said = record.created
        record.msg, record.args, record.exc_info = (
            "spans are lost: no collector takes them at REPLYRATE_TELEMETRY__ENDPOINT; is it reached from here, and does it"
            " take OTLP over HTTP at that path?", (), None,
        )  # fmt: skip
        record.action = "spans-lost"
        return True


LOST: Final = _Lost()


class OpenTelemetry:
    """Spans of one process to one endpoint."""

    on: Final = True

    def __init__(self, endpoint: str, sample_ratio: float, service: str, version: str) -> None:
        # Neither the machine's name nor anything else that the library could find out by itself.
        resource = Resource(
            {"service.namespace": "replyrate", "service.name": f"replyrate-{service}", "service.version": version}
        )
        # A trace that came with a record was decided where it began.
        self._provider = TracerProvider(
            resource=resource, sampler=ParentBased(TraceIdRatioBased(sample_ratio)), shutdown_on_exit=False
        )
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(LOST)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=SEND_SECONDS)
        self._processor = BatchSpanProcessor(exporter, max_queue_size=QUEUE, schedule_delay_millis=1000)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("replyrate", version)

    def start(self, name: Name, parent: bytes | None = None) -> "RecordingSpan":
        """A span below `parent`, or the first of a new trace."""
        context = None
        if parent is not None:
            flags = TraceFlags(TraceFlags.SAMPLED if is_sampled(parent) else TraceFlags.DEFAULT)
            above = SpanContext(int(trace_id(parent), 16), int(parent[36:52], 16), is_remote=True, trace_flags=flags)
            context = set_span_in_context(NonRecordingSpan(above))
        return RecordingSpan(self._tracer.start_span(name, context=context, kind=KINDS[name]))

    def close(self) -> None:
        """Tell what was not told yet, for some seconds at most."""
        # The library's own limits hold for one batch each, and a process must stop in time whoever listens.
        closing = threading.Thread(target=self._provider.shutdown, name="spans-close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


class RecordingSpan:
    """A span as services.common.telemetry describes it."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> bytes | None:
        """The header for what this step causes; None when nobody is told of it."""
        own = self._span.get_span_context()
        if not own.is_valid or not own.trace_flags.sampled:
            return None
        return f"00-{own.trace_id:032x}-{own.span_id:016x}-01".encode()

    def set(self, **values: Value) -> None:
        """Counts and codes of this step."""
        self._span.set_attributes({f"replyrate.{name}": value for name, value in values.items()})

    def failed(self, code: str) -> None:
        """It did not end well."""
        self._span.set_status(Status(StatusCode.ERROR, code))

    def end(self) -> None:
        """It is over, and so told."""
        self._span.end()


__all__ = ["OpenTelemetry", "RecordingSpan"]
