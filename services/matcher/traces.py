"""Traces that come with the facts of a batch, and the header that the states they change go out with."""

from logging import getLogger
from typing import Any

from services.common.events import CompanyErased, InquiryReplies, MessageSent
from services.common.topics import reply_key
from services.common.trace_context import TRACEPARENT, is_sampled, trace_id, traceparent
from services.common.tracing import OFF, Span, Tracer, is_enabled, set_values, start_span, traceparent_of

log = getLogger(__name__)

Headers = list[tuple[str, bytes]]
NO_HEADERS: Headers = []


class BatchTraces:
    """The traces of one batch; empty, and then free, for records without a `traceparent`."""

    def __init__(self, tracer: Tracer = OFF) -> None:
        self._tracer = tracer
        self._headers: dict[str | bytes, bytes] = {}
        """`traceparent` by what it came with: the key of an inquiry's state, or the id of a message."""
        self._spans: dict[bytes, Span] = {}
        """One span for each trace of the batch, by its `traceparent`; empty while tracing is off."""

    def add(self, event: Any, record: Any) -> None:
        """Remember the trace of a record, if it has one; a sampled one is logged, or recorded as a span."""
        header = traceparent(record.headers)
        if header is None or isinstance(event, CompanyErased):
            return
        origin = event.message_id if isinstance(event, MessageSent) else reply_key(event.company_id, event.inquiry_id)
        self._headers[origin] = header
        if not is_sampled(header):
            return
        if not is_enabled(self._tracer):
            position = f"{record.topic}/{record.partition}/{record.offset}"
            log.info("joined", extra={"action": "record-traced", "position": position, "trace_id": trace_id(header)})
            return
        if (span := self._spans.get(header)) is None:
            span = self._spans[header] = start_span(self._tracer, "join", header)
            set_values(span, topic=record.topic, partition=record.partition, first_offset=record.offset)
        set_values(span, last_offset=record.offset)
        self._headers[origin] = traceparent_of(span) or header

    def headers_of(self, key: bytes, inquiry: InquiryReplies) -> Headers:
        """The headers of an inquiry's state: the trace of its own fact, else that of a message among its replies."""
        if not self._headers:
            return NO_HEADERS
        header = self._headers.get(key)
        if header is None:
            by_reply = (self._headers.get(reply.reply_id) for reply in inquiry.replies)
            header = next((header for header in by_reply if header is not None), None)
        return NO_HEADERS if header is None else [(TRACEPARENT, header)]

    def end(self) -> None:
        """End the spans: what the batch publishes is acknowledged."""
        for span in self._spans.values():
            span.end()
