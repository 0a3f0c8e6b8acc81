"""The ingest loop: merges inquiry-replies.v1 into the ledger.

One `Sink.step`, for each partition of a poll:

1. poll       read records; after an assignment take ownership of the partitions in Postgres and seek to the ledger's offsets
2. decode     events to merge, and dead letters for invalid records
3. wait       until the dead letters are acknowledged
4. merge      the events and the new offset, in one transaction; one by one if the facts of a record cannot be stored
5. commit     the offset to Kafka, only for tools that show consumer lag

The position in the topic is the ledger's, never Kafka's.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from logging import getLogger
from typing import Final

from services.aggregator.ingest.acceptance import AHEAD, accepted
from services.aggregator.ingest.ledger import Ledger, PartitionOwnership
from services.aggregator.refresh.quarantine import code_of
from services.aggregator.refresh.trace_handoff import TraceHandoff
from services.common import metrics
from services.common.clock_witness import ClockWitness
from services.common.errors import InvalidEvent, UnsureError
from services.common.events import CompanyErased, InquiryReplies
from services.common.kafka import Assigned, Pending, Publisher, Reader, Record
from services.common.topics import DEAD, LETTER_BYTES, REPLIES
from services.common.trace_context import sampled, trace_id
from services.dead_letters import rejected

log = getLogger(__name__)

MAX_CONSECUTIVE_REJECTS: Final = 10_000
CHECK_TOPIC_SECONDS: Final = 5.0


class Sink:
    """Merges joined states of inquiries into the ledger, poll by poll."""

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
        traces: TraceHandoff | None = None,
    ) -> None:
        self._reader = reader
        self._ledger = ledger
        self._publisher = publisher
        self._version = version
        self._topic_id = topic_id
        self._clock = clock
        self._monotonic = monotonic
        self._traces = traces or TraceHandoff()
        self._owned: dict[int, PartitionOwnership] = {}
        self._consecutive_rejects = 0
        self._clock_witness = ClockWitness(AHEAD)
        self._topic_checked_at = monotonic()
        rejected.rejections_from_zero("aggregator")

    def positions(self) -> dict[int, int]:
        """The consumer position of each partition that this process owns."""
        positions = {partition: self._reader.position(partition) for partition in self._owned}
        return {partition: position for partition, position in positions.items() if position is not None}

    def step(self, seconds: float) -> None:
        """Poll once and merge the records."""
        batches = self._reader.poll(seconds)
        for change in self._reader.changes():
            if isinstance(change, Assigned):
                log.info("assigned", extra={"action": "partitions-assigned", "count": len(change.partitions)})
                self._take(change.partitions)
                # This poll read them from Kafka's committed position; they are read again from the ledger's.
                batches = {
                    partition: records for partition, records in batches.items() if partition not in change.partitions
                }
            else:
                log.info("revoked", extra={"action": "partitions-revoked", "count": len(change.partitions)})
                for partition in change.partitions:
                    self._owned.pop(partition, None)
        if self._monotonic() - self._topic_checked_at > CHECK_TOPIC_SECONDS:
            self._topic_checked_at = self._monotonic()
            if self._recreated():
                self._take(self._owned)
                return
        for partition, records in batches.items():
            if partition in self._owned:
                self._merge(self._owned[partition], records)
        for partition, position in self.positions().items():
            # Records that compaction removed at the end of a partition never arrive: skip their offsets.
            if position > self._owned[partition].next_offset:
                self._ledger.merge(self._owned[partition], position, [])

    def _recreated(self) -> bool:
        """Whether the topic was recreated since the ledger stored its id; the new id is stored then."""
        topic_id = self._topic_id()
        if topic_id is None or self._ledger.check_topic(topic_id):
            return False
        log.warning(
            "the topic was recreated; reading from its start", extra={"action": "topic-recreated", "topic": REPLIES}
        )
        return True

    def _take(self, partitions: Iterable[int]) -> None:
        partitions = sorted(partitions)
        if not partitions:
            return
        self._recreated()
        starts, ends = self._reader.beginning_offsets(partitions), self._reader.end_offsets(partitions)
        for owned in self._ledger.take(partitions):
            self._owned[owned.partition] = owned
            # An offset outside the range of the broker: records were deleted, or the topic was restored to an earlier state.
            offset = owned.next_offset
            if not starts[owned.partition] <= offset <= ends[owned.partition]:
                offset = starts[owned.partition]
            self._reader.seek(owned.partition, offset)

    def _merge(self, owned: PartitionOwnership, records: list[Record]) -> None:
        accepted_events: list[tuple[Record, InquiryReplies | CompanyErased]] = []
        rejections: list[tuple[Record, InvalidEvent]] = []
        now = self._clock()
        for record in records:
            if record.value is None:
                continue  # a tombstone: the erase event before it has already removed the inquiry
            try:
                accepted_events.append((record, accepted(record.value, now)))
                self._consecutive_rejects = 0
                self._clock_witness.note(None, record.timestamp_ms, now)
            except InvalidEvent as error:
                self._clock_witness.note(error, record.timestamp_ms, now)
                rejections.append((record, error))
        # Not before the last record: it may show that the clock is wrong, and no record is.
        if letters := [self._dead_letter(record, error) for record, error in rejections]:
            self._publisher.wait_letters(letters)
        with self._traces.merging(records):
            merged = self._store(owned, accepted_events, records[-1].offset + 1)
        metrics.STATES_MERGED.inc(merged)
        metrics.AGGREGATOR_BATCH_RECORDS.observe(len(records))
        self._reader.commit({owned.partition: owned.next_offset})
        if self._consecutive_rejects >= MAX_CONSECUTIVE_REJECTS:
            # Only now: their letters are acknowledged and the offset is stored, so a restart does not read them again.
            raise UnsureError(
                f"{self._consecutive_rejects} invalid records in a row, the last one at {rejected.position(records[-1])}: is"
                f" {REPLIES} the right topic? They are dead letters (`replyrate dlq list`) and their offsets are stored. Stop"
                " the producer that writes them; a restart continues behind them"
            )
        for record in () if self._traces.on else records:
            if (trace := sampled(record.headers)) is not None:
                where = rejected.position(record)
                log.info("merged", extra={"action": "record-traced", "position": where, "trace_id": trace_id(trace)})

    def _store(
        self,
        owned: PartitionOwnership,
        events: Sequence[tuple[Record, InquiryReplies | CompanyErased]],
        next_offset: int,
    ) -> int:
        """Merge events and move the offset; returns how many were merged.

        If the facts of one record cannot be stored, the records are merged one by one, and that one becomes a dead letter.
        """
        try:
            self._ledger.merge(owned, next_offset, [event for _, event in events])
        except Exception as error:
            if code_of(error) is None:
                raise
        else:
            return len(events)
        merged = 0
        for record, event in events:
            try:
                self._ledger.merge(owned, record.offset + 1, [event])
                merged += 1
            except Exception as error:
                if (code := code_of(error)) is None:
                    raise
                refused = InvalidEvent("schema", f"the ledger cannot store its facts ({code})")
                self._publisher.wait_letters([self._dead_letter(record, refused)])
        if owned.next_offset < next_offset:
            self._ledger.merge(owned, next_offset, [])
        return merged

    def _dead_letter(self, record: Record, error: InvalidEvent) -> Pending:
        self._consecutive_rejects += 1
        letter = rejected.reject(
            record, error, service="aggregator", version=self._version, at=self._clock(), most_bytes=LETTER_BYTES
        )
        return self._publisher.send(DEAD, letter.key, letter.value, headers=letter.headers)
