"""Spans by OpenTelemetry's API, from a poll to a rate; the API does nothing unless an endpoint is set.

`poll → publish` (fetcher) → `join` (matcher) → `merge → refresh` (aggregator): one trace, carried by the record header
`traceparent` (services.common.trace_context). A span holds counts, codes, topics and positions. No company, mailbox, address
or host: a collector is often operated by another party, and the log line of a poll has its `trace_id` next to the ids
(docs/decisions/0028). The API (opentelemetry-api) is always installed; what records and sends spans, the SDK and the
exporter, is the extra `telemetry` and imported only when an endpoint is set.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from opentelemetry.trace import NoOpTracer, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.common.errors import ConfigError
from services.common.settings import TelemetrySettings
from services.common.trace_context import TRACEPARENT

SpanName = Literal["poll", "publish", "join", "merge", "refresh"]

OFF: Final[Tracer] = NoOpTracer()
_KINDS: Final[dict[SpanName, SpanKind]] = {
    "poll": SpanKind.INTERNAL,
    "publish": SpanKind.PRODUCER,
    "join": SpanKind.CONSUMER,
    "merge": SpanKind.CONSUMER,
    "refresh": SpanKind.INTERNAL,
}
_PROPAGATOR: Final = TraceContextTextMapPropagator()


@contextmanager
def tracer_for(settings: TelemetrySettings, service: str, version: str) -> Iterator[Tracer]:
    """The tracer of this process, shared by its threads: it sends spans to the endpoint until the block ends, or is OFF.

    ConfigError when an endpoint is set and the extra is not installed.
    """
    if settings.endpoint is None:
        yield OFF
        return
    try:
        from services.common.tracing_export import exporting
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise ConfigError(
            "REPLYRATE_TELEMETRY__ENDPOINT is set and OpenTelemetry's exporter is not installed; run"
            " pip install --require-hashes -r requirements/telemetry.txt (images: TELEMETRY=yes into .env, then docker"
            " compose build), or remove the setting"
        ) from None
    with exporting(settings.endpoint, settings.sample_ratio, service, version) as tracer:
        yield tracer


def is_enabled(tracer: Tracer) -> bool:
    """Whether the tracer sends spans anywhere."""
    return tracer is not OFF


def start_span(tracer: Tracer, name: SpanName, parent: bytes | None = None) -> Span:
    """A span below `parent` (a `traceparent`), or the first of a new trace. A span that is never ended is never sent."""
    context = None if parent is None else _PROPAGATOR.extract({TRACEPARENT: parent.decode("ascii")})
    return tracer.start_span(name, context=context, kind=_KINDS[name])


def traceparent_of(span: Span) -> bytes | None:
    """The header for the records that this step causes; None when the span is not recorded."""
    if not span.get_span_context().trace_flags.sampled:
        return None
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span))
    return carrier[TRACEPARENT].encode("ascii") if TRACEPARENT in carrier else None


def set_values(span: Span, **values: str | int | float | bool) -> None:
    """Set counts and codes of this step as attributes `replyrate.NAME`."""
    span.set_attributes({f"replyrate.{name}": value for name, value in values.items()})


def set_failed(span: Span, code: str) -> None:
    """Mark the step as failed. `code` is never the text of an error, which may quote values."""
    span.set_status(Status(StatusCode.ERROR, code))


@contextmanager
def ended(span: Span) -> Iterator[Span]:
    """End `span` with the block, as failed when the block raises.

    Not OpenTelemetry's `use_span`, which puts the text of the error into the span.
    """
    try:
        yield span
    except BaseException as error:
        set_failed(span, type(error).__name__)
        raise
    finally:
        span.end()


__all__ = [
    "OFF", "Span", "SpanName", "Tracer", "ended", "is_enabled", "set_failed", "set_values", "start_span", "traceparent_of",
    "tracer_for",
]  # fmt: skip
