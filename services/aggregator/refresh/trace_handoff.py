"""The trace of a record on its way through the aggregator: from the merge, in one thread, to the refresh in another.

Only while spans are on. What another aggregator judges has its trace end with the merge: nothing of it is in Postgres.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from services.common.kafka import Record
from services.common.trace_context import sampled
from services.common.tracing import OFF, Tracer, ended, is_enabled, set_values, start_span, traceparent_of

MOST_COMPANIES: Final = 10_000
FRESH_SECONDS: Final = 60.0
"""How many companies are remembered, and for how long: some are judged by another aggregator, or changed in nothing."""


class TraceHandoff:
    """Spans of merges, and by company the one that its next refresh belongs to."""

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
        """A span for each sampled trace among the records, while they are merged."""
        if not is_enabled(self._tracer):
            yield
            return
        first: dict[bytes, Record] = {}
        companies: dict[bytes, set[str]] = {}
        for record in records:
            if (trace := sampled(record.headers)) is not None:
                first.setdefault(trace, record)
                companies.setdefault(trace, set()).add(
                    (record.key or b"").partition(b"\x1f")[0].decode("utf-8", "replace")
                )
        made: dict[bytes, bytes] = {}
        with ExitStack() as stack:
            for trace, record in first.items():
                span = stack.enter_context(ended(start_span(self._tracer, "merge", trace)))
                set_values(span, topic=record.topic, partition=record.partition, first_offset=record.offset)
                made[trace] = traceparent_of(span) or trace
            yield
        # Now it is committed: a refresh that was under way did not see it.
        for trace, own in made.items():
            self._remember(companies[trace], own)

    def _remember(self, companies: Iterable[str], trace: bytes) -> None:
        with self._lock:
            for company_id in companies:
                self._waiting.pop(company_id, None)
                self._waiting[company_id] = (self._monotonic(), trace)
            while len(self._waiting) > MOST_COMPANIES:
                del self._waiting[next(iter(self._waiting))]

    @contextmanager
    def refreshing(self, due: Iterable[str]) -> Iterator[None]:
        """A span for each trace whose merge made one of these companies due, while they are judged."""
        if not is_enabled(self._tracer):
            yield
            return
        fresh = self._monotonic() - FRESH_SECONDS
        with self._lock:
            taken = {one: self._waiting.pop(one) for one in due if one in self._waiting}
        try:
            with ExitStack() as stack:
                for trace in {trace for at, trace in taken.values() if at >= fresh}:
                    stack.enter_context(ended(start_span(self._tracer, "refresh", trace)))
                yield
        except BaseException:
            # It is judged again, and that one belongs to them too.
            with self._lock:
                self._waiting = {**taken, **self._waiting}
            raise
