"""The aggregator's loop: `poll | decode | dead letters acked | merge and move the offset, together`.

The position in the topic is the ledger's, never Kafka's: after every assignment each partition is owned anew in
Postgres and read from where the ledger stands. Commits to Kafka are a hint for tools that show lag.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from logging import getLogger
from typing import Final

from services.aggregator.ingest.ledger import Ledger, PartitionOwnership
from services.aggregator.refresh.trace_handoff import TraceHandoff
from services.common import codec, metrics
from services.common.errors import InvalidEvent
from services.common.events import COMPANY_ERASED, INQUIRY_REPLIES, CompanyErased, InquiryReplies
from services.common.kafka import Assigned, Pending, Publisher, Reader, Record
from services.common.topics import DEAD, LETTER_BYTES, REPLIES
from services.common.trace_context import sampled, trace_id
from services.dead_letters import rejected

log = getLogger(__name__)

ACCEPT: Final = frozenset({INQUIRY_REPLIES, COMPANY_ERASED})
REJECTED_IN_A_ROW: Final = 10_000
CHECK_TOPIC_SECONDS: Final = 5.0


class Sink:
    """Merges the topic of joined states into the ledger, poll by poll."""

    def __init__(
        self,
        reader: Reader,
        ledger: Ledger,
        publisher: Publisher,
        *,
        version: str,
        topic_id: Callable[[], str | None],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        merged: TraceHandoff | None = None,
    ) -> None:
        self._reader = reader
        self._ledger = ledger
        self._publisher = publisher
        self._version = version
        self._topic_id = topic_id
        self._clock = clock
        self._monotonic = monotonic
        self._merged = merged or TraceHandoff()
        self._owned: dict[int, PartitionOwnership] = {}
        self._rejected_in_a_row = 0
        self._checked = monotonic()
        metrics.from_zero(metrics.RECORDS_REJECTED, ["aggregator"], metrics.REASONS["aggregator"])

    def positions(self) -> dict[int, int]:
        """Where each partition that this process owns is read next."""
        positions = {partition: self._reader.position(partition) for partition in self._owned}
        return {partition: position for partition, position in positions.items() if position is not None}

    def step(self, seconds: float) -> None:
        """One poll and what it brought."""
        batches = self._reader.poll(seconds)
        for change in self._reader.changes():
            if isinstance(change, Assigned):
                log.info("assigned", extra={"action": "partitions-assigned", "count": len(change.partitions)})
                self._take(change.partitions)
                # What this poll brought of them came from wherever Kafka thought; it is read again from our position.
                batches = {
                    partition: found for partition, found in batches.items() if partition not in change.partitions
                }
            else:
                log.info("revoked", extra={"action": "partitions-revoked", "count": len(change.partitions)})
                for partition in change.partitions:
                    self._owned.pop(partition, None)
        if self._monotonic() - self._checked > CHECK_TOPIC_SECONDS:
            self._checked = self._monotonic()
            if self._recreated():
                self._take(self._owned)
                return
        for partition, records in batches.items():
            if partition in self._owned:
                self._merge(self._owned[partition], records)
        for partition, position in self.positions().items():
            # What compaction took away at the end of a partition never comes; nothing waits there.
            if position > self._owned[partition].next_offset:
                self._ledger.merge(self._owned[partition], position, [])

    def _recreated(self) -> bool:
        """Whether the topic is another one than the ledger knows; it is remembered then."""
        topic_id = self._topic_id()
        if topic_id is None or self._ledger.check_topic(topic_id):
            return False
        log.warning("read from its start", extra={"action": "topic-recreated", "topic": REPLIES})
        return True

    def _take(self, partitions: Iterable[int]) -> None:
        partitions = sorted(partitions)
        if not partitions:
            return
        self._recreated()
        begins, ends = self._reader.beginning_offsets(partitions), self._reader.end_offsets(partitions)
        for owned in self._ledger.take(partitions):
            self._owned[owned.partition] = owned
            # A position outside of what the broker has: records were deleted, or the topic is younger than it looks.
            at = owned.next_offset
            if not begins[owned.partition] <= at <= ends[owned.partition]:
                at = begins[owned.partition]
            self._reader.seek(owned.partition, at)

    def _merge(self, owned: PartitionOwnership, records: list[Record]) -> None:
        events: list[InquiryReplies | CompanyErased] = []
        letters: list[Pending] = []
        for record in records:
            if record.value is None:
                continue  # a tombstone: what it meant to remove was removed by the erase before it
            try:
                event = codec.decode(record.value, accept=ACCEPT).data
                assert isinstance(event, InquiryReplies | CompanyErased)
                events.append(event)
                self._rejected_in_a_row = 0
            except InvalidEvent as error:
                letters.append(self._bury(record, error))
        if letters:
            self._publisher.wait_letters(letters)
        with self._merged.merging(records):
            self._ledger.merge(owned, records[-1].offset + 1, events)
        metrics.STATES_MERGED.inc(len(events))
        metrics.AGGREGATOR_BATCH_RECORDS.observe(len(records))
        self._reader.commit({owned.partition: owned.next_offset})
        for record in () if self._merged.on else records:
            if (trace := sampled(record.headers)) is not None:
                where = rejected.position(record)
                log.info("merged", extra={"action": "record-traced", "position": where, "trace_id": trace_id(trace)})

    def _bury(self, record: Record, error: InvalidEvent) -> Pending:
        self._rejected_in_a_row += 1
        if self._rejected_in_a_row >= REJECTED_IN_A_ROW:
            raise RuntimeError(f"{REJECTED_IN_A_ROW} invalid records in a row; is this the right topic?")
        metrics.RECORDS_REJECTED.labels("aggregator", error.reason).inc()
        log.warning(
            "rejected: %s", error.detail,
            extra={"action": "record-rejected", "reason": error.reason, "position": rejected.position(record)},
        )  # fmt: skip
        letter = rejected.letter(
            record, error, service="aggregator", version=self._version, at=self._clock(), most_bytes=LETTER_BYTES
        )
        return self._publisher.send(DEAD, letter.key, letter.value, headers=letter.headers)
