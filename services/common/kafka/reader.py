"""The reader: records of one topic, from partitions taken by hand or assigned by a consumer group."""

import queue
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from kafka import KafkaConsumer, TopicPartition, errors
from kafka.consumer.fetcher import Fetcher
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.record import default_records
from kafka.structs import OffsetAndMetadata

from services.common.errors import TransientError
from services.common.kafka.client import REQUEST_MS, KafkaClient, client_options, translate
from services.common.kafka.unpacking import LimitedBatches, limit_decoders
from services.common.settings import KafkaSettings

limit_decoders(default_records)

FETCH_BYTES: Final = 4 * 1024 * 1024
POLL_RECORDS: Final = 2000


class Record(NamedTuple):
    """One record of a partition. `value` None is a tombstone."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int = 0
    """Since 1970; of its producer, or of the broker if the topic says so."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """Partitions of the reader's topic were assigned to this process."""

    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Partitions of the reader's topic were taken from this process."""

    partitions: frozenset[int]


class _Changes(ConsumerRebalanceListener):  # type: ignore[misc]
    """Queues changes of the assignment. Runs on the library's I/O thread, so it does nothing else."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Assigned | Revoked] = queue.SimpleQueue()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.queue.put(Assigned(frozenset(tp.partition for tp in assigned)))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.queue.put(Revoked(frozenset(tp.partition for tp in revoked)))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self.queue.put(Revoked(frozenset(tp.partition for tp in lost)))


class _LimitedPartition(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of a fetched partition, unpacked within the limits of unpacking.py."""

    def _unpack_records(self, tp: TopicPartition, records: Any, *deserializers: Any) -> Any:
        # Overridden (Fetcher.PartitionRecords, kafka-python 3.0.12): the only place between the fetched batches and their records.
        return super()._unpack_records(tp, LimitedBatches(records, tp.topic, tp.partition), *deserializers)


class Reader(KafkaClient):
    """Reads one topic: partitions taken by hand (`assign`) or assigned by the group (`subscribe`).

    The caller keeps the positions: after `Assigned` seek each partition, then poll. Not to be shared by threads.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        client_id: str,
        topic: str,
        *,
        group: str | None = None,
        session_timeout_seconds: float = 45,
        max_records: int = POLL_RECORDS,
    ) -> None:
        """TransientError when no broker answers."""
        self._topic = topic
        self._changes = _Changes()
        session_ms = int(session_timeout_seconds * 1000)
        with translate():
            self._consumer = KafkaConsumer(
                **client_options(settings, client_id),
                group_id=group,
                enable_auto_commit=False,
                metrics_enabled=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                max_poll_records=max_records,
                max_poll_interval_ms=300_000,
                session_timeout_ms=session_ms,
                heartbeat_interval_ms=max(100, min(3000, session_ms // 3)),
                fetch_max_wait_ms=200,
                max_partition_fetch_bytes=FETCH_BYTES,
            )
        # The fetcher makes its partitions with this attribute of its class (3.0.12).
        self._consumer._fetcher.PartitionRecords = _LimitedPartition

    def assign(self, partitions: Iterable[int]) -> None:
        """Read these partitions, outside any group; `seek` each before the first poll, else reading starts at the beginning."""
        with translate():
            self._consumer.assign([TopicPartition(self._topic, partition) for partition in partitions])

    def subscribe(self) -> None:
        """Read the partitions that the group assigns to this process; `changes` returns them."""
        with translate():
            self._consumer.subscribe([self._topic], listener=self._changes)

    def changes(self) -> list[Assigned | Revoked]:
        """Assigned and revoked partitions since the last call, in order. Call after each poll, before using its records."""
        changes: list[Assigned | Revoked] = []
        while True:
            try:
                changes.append(self._changes.queue.get_nowait())
            except queue.Empty:
                return changes

    def seek(self, partition: int, offset: int) -> None:
        """Continue at `offset`. TransientError when the partition is not (or no longer) assigned here."""
        try:
            with translate():
                self._consumer.seek(TopicPartition(self._topic, partition), offset)
        except AssertionError:
            raise TransientError(f"partition {partition} of {self._topic} is not assigned here") from None

    def position(self, partition: int) -> int | None:
        """The offset to read next, behind gaps that compaction left; None when the partition is not assigned here."""
        with translate():
            try:
                offset: int | None = self._consumer.position(TopicPartition(self._topic, partition), timeout_ms=1000)
            except errors.IllegalStateError:
                return None
            return offset

    def poll(self, seconds: float, max_records: int | None = None) -> dict[int, list[Record]]:
        """Records by partition, in order; empty after `seconds` without any.

        ConfigError with topic and partition when records have a codec whose library is missing.
        """
        with translate():
            batches = self._consumer.poll(timeout_ms=int(seconds * 1000), max_records=max_records)
        return {
            tp.partition: [
                Record(r.topic, r.partition, r.offset, r.key, r.value, tuple(r.headers or ()), r.timestamp)
                for r in records
            ]
            for tp, records in batches.items()
        }

    def beginning_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        """First offset that still exists, by partition."""
        with translate():
            wanted = [TopicPartition(self._topic, partition) for partition in partitions]
            offsets = self._consumer.beginning_offsets(wanted, timeout_ms=REQUEST_MS)
            return {tp.partition: offset for tp, offset in offsets.items()}

    def end_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        """Offset behind the last record, by partition."""
        with translate():
            wanted = [TopicPartition(self._topic, partition) for partition in partitions]
            offsets = self._consumer.end_offsets(wanted, timeout_ms=REQUEST_MS)
            return {tp.partition: offset for tp, offset in offsets.items()}

    def partitions(self) -> frozenset[int]:
        """The partitions of the topic; empty when it does not exist."""
        with translate():
            return frozenset(self._consumer.partitions_for_topic(self._topic) or ())

    def commit(self, offsets: Mapping[int, int]) -> bool:
        """Commit the positions to the group's coordinator, for tools that show lag. False when it did not accept them."""
        wanted = {
            TopicPartition(self._topic, partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
        }
        try:
            self._consumer.commit(wanted, timeout_ms=5000)
        except errors.KafkaError:
            return False
        return True

    def close(self) -> None:
        """Leave the group and close the connections."""
        with suppress(errors.KafkaError):
            self._consumer.close(autocommit=False, timeout_ms=3000)
