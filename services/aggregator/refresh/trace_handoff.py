"""Hands the trace of a record from ingest to refresh: from the merge in one thread to the refresh in another.

Only while tracing is enabled. If another aggregator judges the company, the trace ends with the merge: Postgres stores no
traces.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from services.common.kafka import Record
from services.common.topics import company_of
from services.common.trace_context import sampled
from services.common.tracing import OFF, Tracer, ended, is_enabled, set_values, start_span, traceparent_of

MAX_COMPANIES: Final = 10_000
FRESH_SECONDS: Final = 60.0
"""How many companies are remembered, and for how long: some are judged by another aggregator, or have no change to judge."""


class TraceHandoff:
    """Spans of merges, and for each company the span that its next refresh continues."""

    def __init__(self, tracer: Tracer = OFF, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tracer = tracer
        self._monotonic = monotonic
        self._waiting: dict[str, tuple[float, bytes]] = {}
        self._lock = threading.Lock()

    @property
    def on(self) -> bool:
        """Whether tracing is enabled."""
        return is_enabled(self._tracer)

    @contextmanager
    def merging(self, records: Sequence[Record]) -> Iterator[None]:
        """Open a span for each sampled trace among the records while they are merged."""
        if not is_enabled(self._tracer):
            yield
            return
        first: dict[bytes, Record] = {}
        companies: dict[bytes, set[str]] = {}
        for record in records:
            if (trace := sampled(record.headers)) is not None:
                first.setdefault(trace, record)
                companies.setdefault(trace, set()).add(company_of(record.key))
        merge_spans: dict[bytes, bytes] = {}
        with ExitStack() as stack:
            for trace, record in first.items():
                span = stack.enter_context(ended(start_span(self._tracer, "merge", trace)))
                set_values(span, topic=record.topic, partition=record.partition, first_offset=record.offset)
                merge_spans[trace] = traceparent_of(span) or trace
            yield
        # The merge is committed now; a refresh that was already running has not seen it.
        for trace, merge_span in merge_spans.items():
            self._remember(companies[trace], merge_span)

    def _remember(self, companies: Iterable[str], trace: bytes) -> None:
        with self._lock:
            for company_id in companies:
                self._waiting.pop(company_id, None)
                self._waiting[company_id] = (self._monotonic(), trace)
            while len(self._waiting) > MAX_COMPANIES:
                del self._waiting[next(iter(self._waiting))]

    @contextmanager
    def refreshing(self, due: Iterable[str]) -> Iterator[None]:
        """Open a span for each trace whose merge made one of these companies due while they are judged."""
        if not is_enabled(self._tracer):
            yield
            return
        fresh = self._monotonic() - FRESH_SECONDS
        with self._lock:
            taken = {company_id: self._waiting.pop(company_id) for company_id in due if company_id in self._waiting}
        try:
            with ExitStack() as stack:
                for trace in {trace for at, trace in taken.values() if at >= fresh}:
                    stack.enter_context(ended(start_span(self._tracer, "refresh", trace)))
                yield
        except BaseException:
            # The companies are judged again later; that refresh continues these traces.
            with self._lock:
                self._waiting = {**taken, **self._waiting}
            raise
