"""Spans of the way from a poll to a rate, for whoever runs an OpenTelemetry collector; off unless an endpoint is set.

`poll → publish` (fetcher) → `join` (matcher) → `merge → refresh` (aggregator): one trace, carried by `traceparent`
(services.common.trace). A span holds counts, codes, topics and positions. No company, mailbox, address or host: a
collector is often somebody else's, and the log line of a poll has its `trace_id` next to the ids (docs/decisions/0028).
While it is off nothing of OpenTelemetry is imported and every call here does nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, Protocol

from services.common.errors import ConfigError
from services.common.settings import TelemetrySettings

Name = Literal["poll", "publish", "join", "merge", "refresh"]
Value = str | int | float | bool


class Span(Protocol):
    """One step of a trace. To be ended once; what is never ended is never told."""

    @property
    def traceparent(self) -> bytes | None:
        """The header for what this step causes; None while spans are off."""

    def set(self, **values: Value) -> None:
        """Counts and codes of this step; their names get the prefix `replyrate.`."""

    def failed(self, code: str) -> None:
        """It did not end well. A code, never the text of an error."""

    def end(self) -> None:
        """It is over, and so told."""


class Tracing(Protocol):
    """Starts spans; may be shared by threads."""

    @property
    def on(self) -> bool:
        """Whether spans are told to anybody."""

    def start(self, name: Name, parent: bytes | None = None) -> Span:
        """A span below `parent` (a `traceparent`), or the first of a new trace."""

    def close(self) -> None:
        """Tell what was not told yet, for some seconds at most."""


class _NoSpan:
    traceparent: Final = None

    def set(self, **values: Value) -> None:
        """Nobody asks."""

    def failed(self, code: str) -> None:
        """Nobody asks."""

    def end(self) -> None:
        """Nobody asks."""


class _Off:
    on: Final = False

    def start(self, name: Name, parent: bytes | None = None) -> Span:
        """The span of nothing."""
        return NO_SPAN

    def close(self) -> None:
        """There is nothing to tell."""


NO_SPAN: Final = _NoSpan()
OFF: Final[Tracing] = _Off()


def opened(settings: TelemetrySettings, service: str, version: str) -> Tracing:
    """Where the spans of this process go. ConfigError when an endpoint is set and the extra is not installed."""
    if settings.endpoint is None:
        return OFF
    try:
        from services.common.spans import OpenTelemetry
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise ConfigError(
            "REPLYRATE_TELEMETRY__ENDPOINT is set and OpenTelemetry is not installed; run"
            " pip install --require-hashes -r requirements/telemetry.txt (images: TELEMETRY=yes into .env, then docker"
            " compose build), or take the setting away"
        ) from None
    return OpenTelemetry(settings.endpoint, settings.sample_ratio, service, version)


@contextmanager
def telling(settings: TelemetrySettings, service: str, version: str) -> Iterator[Tracing]:
    """`opened` until the block ends."""
    tracing = opened(settings, service, version)
    try:
        yield tracing
    finally:
        tracing.close()


@contextmanager
def ended(span: Span) -> Iterator[Span]:
    """End `span` with the block, as failed when the block raises."""
    try:
        yield span
    except BaseException as error:
        span.failed(type(error).__name__)
        raise
    finally:
        span.end()
