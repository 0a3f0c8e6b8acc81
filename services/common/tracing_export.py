"""The only door to OpenTelemetry's SDK (the extra `telemetry`): spans by OTLP over HTTP, in a thread of the library's.

What cannot be sent is dropped after a bounded queue: no poll, join or merge ever waits for a collector.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Tracer

QUEUE_SPANS: Final = 2048
SEND_SECONDS: Final = 5
CLOSE_SECONDS: Final = 1
LOST_EVERY_SECONDS: Final = 60.0


class LostSpansFilter(logging.Filter):
    """Replaces the library's messages, which name no setting and may quote the endpoint, by one line of ours a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._logged_at = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged, with another text."""
        if record.levelno < logging.ERROR or record.created < self._logged_at + LOST_EVERY_SECONDS:
            return False
        self._logged_at = record.created
        record.msg, record.args, record.exc_info = (
            "spans are lost: the collector at REPLYRATE_TELEMETRY__ENDPOINT does not accept them; check that it can be reached"
            " from here and that it takes OTLP over HTTP at that path", (), None,
        )  # fmt: skip
        record.action = "spans-lost"
        return True


LOST: Final = LostSpansFilter()


@contextmanager
def exporting(endpoint: str, sample_ratio: float, service: str, version: str) -> Iterator[Tracer]:
    """A tracer that sends spans to `endpoint`; at the end of the block what is queued is sent, for CLOSE_SECONDS at most."""
    # No host name, nor anything else that the library could detect by itself.
    resource = Resource(
        {"service.namespace": "replyrate", "service.name": f"replyrate-{service}", "service.version": version}
    )
    # For a trace that came with a record, its first span has already decided whether it is sampled.
    provider = TracerProvider(
        resource=resource, sampler=ParentBased(TraceIdRatioBased(sample_ratio)), shutdown_on_exit=False
    )
    logging.getLogger(OTLPSpanExporter.__module__).addFilter(LOST)
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=SEND_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE_SPANS, schedule_delay_millis=1000))
    try:
        yield provider.get_tracer("replyrate", version)
    finally:
        # The library's own limits apply to one batch each, and a process must stop in time whatever the collector does.
        closing = threading.Thread(target=provider.shutdown, name="spans-close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
