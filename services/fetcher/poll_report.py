"""The report of one poll: its spans, its metrics and its log lines. Nothing here decides."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from logging import getLogger
from typing import get_args

from services.common import metrics
from services.common.events import Kind
from services.common.topics import SENT
from services.common.trace_context import TRACEPARENT, trace_id
from services.common.tracing import Span, Tracer, set_failed, set_values, start_span, traceparent_of
from services.fetcher.poll_tally import PollTally
from services.fetcher.postponements import Postponements
from services.imap.errors import LoginRefused, MailboxError
from services.registry.leases import LeasedMailbox
from services.registry.login_slots import NoSlotFree
from services.registry.published import PublishedMessage

log = getLogger(__name__)


class PollReport:
    """What one poll did, and the log lines and metrics about it. Close it when the poll has ended, whatever happened."""

    def __init__(self, leased: LeasedMailbox, tracer: Tracer, tally: PollTally) -> None:
        self.published = 0
        self.new = 0
        self.dropped: Counter[str] = Counter()
        self._ids = {"company_id": leased.company_id, "mailbox_id": leased.mailbox_id}
        self._started = time.monotonic()
        self._seconds: float | None = None
        self._tally = tally
        self._tracer = tracer
        self._span = start_span(tracer, "poll")
        self._unacknowledged: list[Span] = []

    @property
    def elapsed(self) -> timedelta:
        """Time since the poll started."""
        return timedelta(seconds=time.monotonic() - self._started)

    def trace_headers(self) -> list[tuple[str, bytes]]:
        """Record headers that make a record part of this poll's trace."""
        return trace_headers(self._span)

    def scan_started(self, why: str, messages: int) -> None:
        """A folder is read from its newest message down to the horizon."""
        log.info(
            "scanning the folder down to the horizon",
            extra={"action": "mailbox-scan", "why": why, "messages": messages, **self._ids},
        )

    def horizon_reached(self) -> None:
        """A scan is complete."""
        log.info("the scan reached the horizon", extra={"action": "mailbox-scan", **self._ids})

    def folder_refused(self) -> None:
        """A folder that only has the name of a Sent folder cannot be opened; the others are read."""
        log.warning("a folder cannot be opened; the others are read", extra={"action": "mailbox-failed", **self._ids})

    def folders_uncounted(self, error: MailboxError) -> None:
        """Sent-like folders that are not read could not be counted."""
        log.info("unread folders were not counted: %s", error, extra={"action": "mailbox-scan", **self._ids})

    def batch_sent(self, messages: int) -> Span:
        """A batch of `messages` was decided on; the span of its publication, ended by `batch_acknowledged`."""
        metrics.BATCH_MESSAGES.observe(messages)
        span = start_span(self._tracer, "publish", traceparent_of(self._span))
        self._unacknowledged.append(span)
        return span

    def batch_acknowledged(self, span: Span, records: int, rejected: int, new: Sequence[PublishedMessage]) -> None:
        """Every record and dead letter of a batch is acknowledged; `new` were published for the first time."""
        set_values(span, topic=SENT, records=records, rejected=rejected)
        span.end()
        self._unacknowledged.remove(span)
        self.published += records
        self.new += len(new)
        metrics.MESSAGES_PUBLISHED.labels("yes").inc(records - len(new))
        metrics.MESSAGES_PUBLISHED.labels("no").inc(len(new))
        for kind, count in Counter(message.kind for message in new).items():
            metrics.MESSAGES_SEEN.labels(kind).inc(count)

    def batch_dropped(self, reasons: Sequence[str], values: int) -> None:
        """Messages of a batch that are not published, by reason, and `values` (addresses, ids) left out of its records."""
        for reason in reasons:
            metrics.MESSAGES_DROPPED.labels(reason).inc()
        self.dropped.update(reasons)
        metrics.HEADERS_DROPPED.inc(values)

    def message_rejected(self, uid: int, detail: str) -> None:
        """A message became a dead letter."""
        metrics.RECORDS_REJECTED.labels("fetcher", "unreadable-message").inc()
        log.warning("%s", detail, extra={"action": "message-rejected", "uid": uid, **self._ids})

    def read(self) -> None:
        """The session is over; what remains is to settle the poll. The time that the poll took ends here."""
        self._seconds = self.elapsed.total_seconds()

    def finished(self, *, complete: bool) -> None:
        """The poll ended well and is settled. Not complete: it used up its budget, and the next poll continues."""
        elapsed = self.elapsed.total_seconds() if self._seconds is None else self._seconds
        self._end("complete" if complete else "stopped")
        metrics.POLL_SECONDS.observe(elapsed)
        if not log.isEnabledFor(logging.DEBUG):
            return
        dropped = {f"dropped_{reason.replace('-', '_')}": count for reason, count in sorted(self.dropped.items())}
        log.debug(
            "complete" if complete else "stopped at its budget; the next poll continues",
            extra={
                "action": "mailbox-polled", "published": self.published, "new": self.new, **dropped,
                "seconds": round(elapsed, 3), **self._place(),
            },
        )  # fmt: skip

    def postponed(self) -> None:
        """The provider has no login slot free for another session of this poll."""
        self._end("postponed", counted=False)

    def lease_lost(self) -> None:
        """Another process owns the mailbox."""
        self._end("lease-lost", failed=True)
        log.warning("nothing was written", extra={"action": "mailbox-lease-lost", **self._place()})

    def dependency_away(self, error: Exception) -> None:
        """Kafka or Postgres did not answer."""
        self._end("dependency-away", failed=True)
        log.warning("%s", error, extra={"action": "dependency-away", **self._place()})

    def crashed(self) -> None:
        """An unexpected error; call it while the error is handled."""
        self._end("crashed", failed=True)
        log.exception("a poll failed unexpectedly", extra={"action": "mailbox-failed", **self._place()})

    def failed(self, error: MailboxError, again_seconds: float) -> None:
        """The mailbox or its server failed."""
        self._end(error.code, failed=True)
        log.warning(
            "%s", error,
            extra={
                "action": "mailbox-failed", "code": error.code, "stage": error.stage,
                "again_seconds": round(again_seconds), **self._place(),
            },
        )  # fmt: skip

    def close(self) -> None:
        """End the spans; batches without an acknowledgement are marked as failed."""
        for span in self._unacknowledged:
            set_failed(span, "not-acknowledged")
            span.end()
        set_values(self._span, published=self.published, new=self.new, dropped=self.dropped.total())
        self._span.end()

    def _end(self, result: str, *, failed: bool = False, counted: bool = True) -> None:
        if counted:
            metrics.POLLS.labels(result).inc()
            self._tally.count(result, published=self.published, new=self.new)
        set_values(self._span, result=result)
        if failed:
            set_failed(self._span, result)

    def _place(self) -> dict[str, str]:
        """The ids, and next to them the trace of the poll: in the log and nowhere else."""
        parent = traceparent_of(self._span)
        return self._ids if parent is None else {**self._ids, "trace_id": trace_id(parent)}


def mailboxes_postponed(
    error: NoSlotFree, seconds: float, mailboxes: int, tally: PollTally, lines: Postponements
) -> None:
    """A provider has no login slot free for some mailboxes. `seconds`: until the last of them is due again."""
    metrics.POLLS.labels("postponed").inc(mailboxes)
    tally.count("postponed", mailboxes)
    if (count := lines.count(error.provider, mailboxes)) is not None:
        log.info(
            "%s", error,
            extra={"action": "mailbox-postponed", "mailboxes": count, "again_seconds": round(seconds)},
        )  # fmt: skip


def trace_headers(span: Span) -> list[tuple[str, bytes]]:
    """Record headers that make a record part of a span's trace; none while tracing is off."""
    parent = traceparent_of(span)
    return [] if parent is None else [(TRACEPARENT, parent)]


def login_result(error: type[MailboxError]) -> str:
    """The `result` under which a failed login is counted: every refusal as one, whatever it means in particular."""
    return LoginRefused.code if issubclass(error, LoginRefused) else error.code


def metrics_from_zero() -> None:
    """Start the series of every known label value at 0."""
    metrics.from_zero(metrics.RECORDS_REJECTED, ["fetcher"], metrics.REASONS["fetcher"])
    metrics.from_zero(metrics.LOGINS, ["done", *_login_results(MailboxError)])
    metrics.from_zero(metrics.MESSAGES_SEEN, get_args(Kind))
    metrics.from_zero(metrics.MESSAGES_DROPPED, metrics.DROP_REASONS["fetcher"])


def _login_results(error: type[MailboxError]) -> set[str]:
    """`login_result` of an error and of every particular one of it."""
    particular = (result for subclass in error.__subclasses__() for result in _login_results(subclass))
    return {login_result(error), *particular}
