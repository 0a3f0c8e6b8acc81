"""Step 1 of the pipeline: the records of a batch as facts, once.

A record that is not a valid event of its topic is rejected. A record of inquiries.v1 in the wrong partition (the
producer's partitioner is not murmur2) is sent to the right one, once; anywhere else it is rejected as `misrouted`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from logging import getLogger
from typing import Any, Final, cast

from services.common import codec
from services.common.clock_witness import ClockWitness
from services.common.errors import InvalidEvent
from services.common.events import InquiryReceived
from services.common.hashing import Hasher
from services.common.topics import ACCEPTED, INPUT_BYTES, INQUIRIES, REROUTED, partition_of
from services.common.tracing import OFF, Tracer
from services.dead_letters.rejected import AROUND_BYTES
from services.matcher.handoff import Rows
from services.matcher.join import Fact
from services.matcher.matching import hashed_inquiry
from services.matcher.traces import BatchTraces

log = getLogger(__name__)

REJECTED_IN_A_ROW: Final = 10_000
"""Invalid records without a valid one between them, after which the topic is taken for a wrong one."""
AHEAD: Final = timedelta(days=2)
"""How far the `time` of a record may be after this host's clock. Clocks differ by minutes; platforms also write the year 9999
for "no date", and an instant like that would count as the newest fact for ever."""


@dataclass(slots=True)
class DecodedBatch:
    """What the records of one batch say."""

    traces: BatchTraces
    facts: list[Fact] = field(default_factory=list)
    origins: list[Any] = field(default_factory=list)
    """The record of each fact, by the same index."""
    rejected: list[tuple[Any, InvalidEvent]] = field(default_factory=list)
    """Records that become dead letters, and why."""
    rerouted: Rows = field(default_factory=dict)
    """Records for other partitions of inquiries.v1."""
    ids_dropped: int = 0
    """Addresses and ids of inquiries that could not be normalised."""


class BatchDecoder:
    """Decodes batches; hashes the addresses and ids of inquiries, so that no plain one goes further."""

    def __init__(self, hasher: Hasher, partitions: int, clock: Callable[[], datetime], tracer: Tracer = OFF) -> None:
        """`partitions`: of each input topic."""
        self._clock = clock
        self._hasher = hasher
        self._partitions = partitions
        self._tracer = tracer
        self._clock_witness = ClockWitness(AHEAD)
        self._rejected_in_a_row = 0
        self.wrong_topic: str | None = None
        """Why the topic must be a wrong one, and what to do; None while nothing says so."""

    def decode(self, records: Sequence[Any]) -> DecodedBatch:
        """The batch as values; sets `wrong_topic` after REJECTED_IN_A_ROW invalid records in a row.

        ConfigError when this host's clock must be wrong.
        """
        batch, now = DecodedBatch(BatchTraces(self._tracer)), self._clock()
        for record in records:
            try:
                fact = self._decode(record, batch, now)
            except InvalidEvent as error:
                self._clock_witness.note(error, record.timestamp, now)
                # Its frames hold this batch, and the batch holds it: only the garbage collector would free the records.
                error.__traceback__ = error.__context__ = None
                batch.rejected.append((record, error))
                self._rejected_in_a_row += 1
                if self._rejected_in_a_row >= REJECTED_IN_A_ROW:
                    self.wrong_topic = (
                        f"{self._rejected_in_a_row} invalid records in a row, the last one in {record.topic}, partition "
                        f"{record.partition}, offset {record.offset}: is this the right topic? They are dead letters "
                        "(`replyrate dlq list`) and their offsets are committed. Stop the producer that writes them; a restart "
                        "continues behind them"
                    )
                continue
            self._clock_witness.note(None, record.timestamp, now)
            if fact is not None:
                self._rejected_in_a_row = 0
                batch.facts.append(fact)
                batch.origins.append(record)
                if record.headers:
                    batch.traces.add(fact, record)
        return batch

    def _decode(self, record: Any, batch: DecodedBatch, now: datetime) -> Fact | None:
        """The fact of one record; None if the record was sent to its partition."""
        if record.value is None:
            raise InvalidEvent("not-json", "the record has no value")
        envelope = codec.decode(record.value, accept=ACCEPTED[record.topic], latest=now + AHEAD)
        event = envelope.data
        company_id: str = event.company_id  # type: ignore[union-attr] # no type that is accepted here lacks it
        home = partition_of(company_id.encode(), self._partitions)
        if home != record.partition:
            self._reroute(company_id, home, record, batch)
            return None
        if isinstance(event, InquiryReceived):
            fact, dropped = hashed_inquiry(event, codec.facts_text(envelope), self._hasher)
            batch.ids_dropped += dropped
            return fact
        return cast(Fact, event)

    def _reroute(self, company_id: str, home: int, record: Any, batch: DecodedBatch) -> None:
        """Send a record to its partition. InvalidEvent if that was done before, or cannot be done."""
        if record.topic != INQUIRIES or REROUTED in record.headers:
            raise InvalidEvent("misrouted", "the partition is not murmur2(company_id); set the producer's partitioner")
        size = len(record.value) + sum(len(name.encode()) + len(value or b"") + 8 for name, value in record.headers)
        if size > INPUT_BYTES - AROUND_BYTES:
            # A topic's limit applies to compressed batches, and the matcher sends uncompressed ones.
            raise InvalidEvent(
                "limit", f"the record is in the wrong partition, and its {size} bytes are too many to move"
            )
        moved_record = (company_id.encode(), record.value, [*record.headers, REROUTED])
        batch.rerouted.setdefault(home, []).append(moved_record)
        log.info(
            "sent to its partition", extra={"action": "record-rerouted", "partition": record.partition, "home": home}
        )
