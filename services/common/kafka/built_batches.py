"""Records of one partition that are built into batches together and given to the producer of kafka-python as such.

`KafkaProducer.send` (3.0.12) takes about 45 µs of CPU for each record, in two threads: it hashes the key, looks up the partition,
takes locks, and makes and completes a future. Here this happens once for each batch. Batches go through the producer's own queue,
so that sequence numbers, retries, timeouts, order and acknowledgements are those of `send`.

Private in kafka-python: what `RecordAccumulator.append` does to add a batch to its queue, and `_record_futures` of a batch,
which only `split_and_reenqueue` reads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer, errors
from kafka.producer.future import FutureRecordMetadata
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.structs import TopicPartition

MAGIC = 2
"""The format of batches since Kafka 0.11, which idempotence needs."""


class BuiltBatch(ProducerBatch):  # type: ignore[misc]
    """A batch that takes no further record, and whose records have one result together until it is split."""

    def __init__(self, partition: TopicPartition, records: MemoryRecordsBuilder) -> None:
        self.split_futures: list[FutureRecordMetadata] = []
        super().__init__(partition, records)

    def try_append(self, *record: Any, **options: Any) -> None:
        """None: there is no room for another record."""

    @property
    def _record_futures(self) -> list[FutureRecordMetadata]:
        """A future for each record, for a batch that the broker finds too large: its halves have results of their own."""
        if not self.split_futures:
            self.split_futures = [
                FutureRecordMetadata(self.produce_future, index, None, None, -1, -1, -1)
                for index in range(self.record_count)
            ]
        return self.split_futures

    @_record_futures.setter
    def _record_futures(self, futures: list[FutureRecordMetadata]) -> None:
        """The constructor of the original sets an empty list."""


@dataclass(frozen=True, slots=True)
class BuiltRecord:
    """A record of a batch, with the part of a future's interface that `Publisher.wait` uses."""

    batch: BuiltBatch
    index: int

    def get(self, timeout: float | None = None) -> None:
        """Return when it is acknowledged; raises what became of it otherwise, as `FutureRecordMetadata.get` does."""
        result = self.batch.produce_future
        if not result.wait(timeout):
            raise errors.KafkaTimeoutError(f"not acknowledged after {timeout} s")
        if not result.is_done:
            self.batch.split_futures[self.index].get(timeout)
            return
        _, _, error_of = result.value
        if error_of is not None:
            raise error_of(self.index)


def queue(
    producer: KafkaProducer,
    topic: str,
    key: bytes,
    values: Sequence[bytes],
    headers: Sequence[tuple[str, bytes]],
    batch_bytes: int,
) -> list[BuiltRecord]:
    """Queue records of one key for sending, in their order. KafkaError when the topic cannot be found or the producer is closed."""
    producer.partitions_for(topic)  # waits for the metadata of a topic that is not known yet
    number = producer._partition(topic, None, key, None, key, None)
    if number is None:
        raise errors.UnknownTopicOrPartitionError(topic)
    partition = TopicPartition(topic, number)
    batches = list(_built(partition, key, values, headers, batch_bytes))
    accumulator = producer._accumulator
    accumulator._appends_in_progress.increment()
    try:
        with accumulator._tp_lock(partition):
            if accumulator._closed:
                raise errors.IllegalStateError("the producer is closed")
            for batch in batches:
                accumulator._batches[partition].append(batch)
                accumulator._incomplete.add(batch)
    finally:
        accumulator._appends_in_progress.decrement()
    producer._sender.wakeup()
    return [BuiltRecord(batch, index) for batch in batches for index in range(batch.record_count)]


def _built(
    partition: TopicPartition,
    key: bytes,
    values: Sequence[bytes],
    headers: Sequence[tuple[str, bytes]],
    batch_bytes: int,
) -> Iterator[BuiltBatch]:
    records, header_list = MemoryRecordsBuilder(MAGIC, 0, batch_bytes), list(headers)
    for value in values:
        if records.append(None, key, value, header_list) is None:
            yield BuiltBatch(partition, records)
            records = MemoryRecordsBuilder(MAGIC, 0, batch_bytes)
            records.append(None, key, value, header_list)  # the first record of a batch may have any size
    if records.next_offset():
        yield BuiltBatch(partition, records)
