"""The publisher: sends records and waits until the in-sync replicas have them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, Final

from kafka import KafkaProducer, errors
from kafka.producer.transaction_manager import TransactionState

from services.common.errors import ConfigError
from services.common.kafka import built_batches
from services.common.kafka.client import REQUEST_MS, KafkaClient, client_options, translate
from services.common.settings import KafkaSettings
from services.common.topics import DEAD, LETTER_BYTES

MAX_REQUEST_BYTES: Final = LETTER_BYTES
"""The limit of the topic with the largest records; each broker enforces each topic's own limit."""
BATCH_BYTES: Final = 32 * 1024
"""Well under the 64 KiB that the input topics allow for one batch."""
BUILT_BYTES: Final = 56 * 1024
"""The same of a batch that is built as a whole. Each is a request of its own, which costs as much as a hundred records."""

REFUSED: Final[tuple[type[BaseException], ...]] = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidRecordError,
)
"""Answers of the broker about one record that will not change: the record's fault, not the broker's."""
OUT_OF_RANGE: Final = "is out of range. The timestamp should be within"
"""What the broker says about each record whose timestamp it refuses (Apache Kafka's LogValidator)."""


@dataclass(frozen=True, slots=True)
class QueuedRecord:
    """What is sent, for a second try."""

    topic: str
    key: bytes
    value: bytes | None
    partition: int | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Pending:
    """A record on its way; `Publisher.wait` reports its result."""

    record: QueuedRecord
    producer: KafkaProducer
    future: Any
    """None: the client has refused it."""


class Publisher(KafkaClient):
    """Sends records and waits until all replicas in sync have them. May be shared by threads.

    After an answer that will not change, about one record, an idempotent producer of kafka-python (3.0.12,
    `TransactionManager.classify_batch_error`) takes no further record and drops those that wait, with the error of that one. It is
    replaced then, and what it has dropped is sent again. One that gave up a batch after it was sent, because no answer came in time,
    sends nothing any more either (`_has_failed`), and is replaced before the next record.
    """

    def __init__(self, settings: KafkaSettings, client_id: str, *, delivery_seconds: float = 60) -> None:
        """TransientError when no broker answers."""
        self._delivery_seconds = delivery_seconds
        self._options = {
            **client_options(settings, client_id),
            "acks": "all",
            "enable_idempotence": True,
            "metrics_enabled": False,
            "linger_ms": 5,
            "batch_size": BATCH_BYTES,
            "max_request_size": MAX_REQUEST_BYTES,
            "max_block_ms": REQUEST_MS,
            "request_timeout_ms": REQUEST_MS,
            "delivery_timeout_ms": int(delivery_seconds * 1000),
            "allow_auto_create_topics": False,
        }
        self._replacing = Lock()
        with translate():
            self._producer = KafkaProducer(**self._options)

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Pending:
        """Queue a record for sending; without `partition` murmur2 of the key decides.

        TransientError when the topic cannot be found or the buffer stays full.
        """
        with translate():
            self._replace_failed()
            return _queue(self._producer, QueuedRecord(topic, key, value, partition, headers))

    def send_all(
        self, topic: str, key: bytes, values: Sequence[bytes], *, headers: Sequence[tuple[str, bytes]] = ()
    ) -> list[Pending]:
        """Queue records of one key in their order, as `send` does, at a small part of its cost.

        TransientError when the topic cannot be found.
        """
        if any(len(value) > BATCH_BYTES for value in values):
            return [self.send(topic, key, value, headers=headers) for value in values]
        with translate():
            self._replace_failed()
            producer = self._producer
            futures = built_batches.queue(producer, topic, key, values, headers, BUILT_BYTES)
        return [
            Pending(QueuedRecord(topic, key, value, None, headers), producer, future)
            for value, future in zip(values, futures, strict=True)
        ]

    def wait(self, pendings: Sequence[Pending], seconds: float | None = None) -> list[int]:
        """Wait until every record is acknowledged; returns the indexes of those that the broker refuses for their own fault.

        TransientError when the broker does not answer in time, or refuses the clock of this host: whether those records were
        written is unknown, and they must be sent again.
        """
        until = monotonic() + (seconds if seconds is not None else self._delivery_seconds + 5)
        with translate():
            try:
                for producer in {pending.producer for pending in pendings}:
                    with suppress(errors.UnknownError):  # a batch was split (RecordAccumulator.await_flush_completion)
                        producer.flush(timeout=max(until - monotonic(), 0))
                refused = [index for index, pending in enumerate(pendings) if _is_refused(pending, until)]
            finally:
                self._replace_failed()
            unclear = {index: pendings[index].record for index in refused if _has_failed(pendings[index].producer)}
            return sorted(set(refused) - self._send_again(unclear, until))

    def _send_again(self, records: Mapping[int, QueuedRecord], until: float) -> set[int]:
        """Send records by themselves that were refused, or dropped because of a refused one; returns those that are accepted.

        The producer is of this call alone: what another thread sends can drop none of them.
        """
        accepted: set[int] = set()
        producer: KafkaProducer | None = None
        try:
            for index, record in records.items():
                if producer is None or _has_failed(producer):
                    _close(producer)
                    producer = KafkaProducer(**self._options)
                if not _is_refused(_queue(producer, record), until):
                    accepted.add(index)
        finally:
            _close(producer)
        return accepted

    def _replace_failed(self) -> None:
        """Go on with a new producer when the present one takes no further record."""
        with self._replacing:
            failed = self._producer
            if _has_failed(failed):
                self._producer = KafkaProducer(**self._options)
                _close(failed)

    def wait_letters(self, pendings: Sequence[Pending]) -> None:
        """Wait until dead letters are acknowledged. ConfigError when one is refused: the topic's limit is too low, and the
        letter, which replaces a record, must not be lost too."""
        if self.wait(pendings):
            raise ConfigError(
                f"{DEAD} refuses a dead letter that is within the limit of the topic; run `replyrate topics check` and fix what it reports"
            )

    def close(self) -> None:
        """Close the client. Records that are not acknowledged yet are not waited for."""
        _close(self._producer)


def _queue(producer: KafkaProducer, record: QueuedRecord) -> Pending:
    try:
        future = producer.send(
            record.topic, record.value, key=record.key, partition=record.partition, headers=list(record.headers)
        )
    except REFUSED:
        future = None
    return Pending(record, producer, future)


def _close(producer: KafkaProducer | None) -> None:
    with suppress(errors.KafkaError):  # it flushes first, and a hanging broker must not make a clean stop fail
        if producer is not None:
            producer.close(timeout=2)


def _is_refused(pending: Pending, until: float) -> bool:
    """Whether the broker or the client refuses a record for a fault of the record. KafkaError when `until` (monotonic) passes."""
    if pending.future is None:
        return True
    try:
        pending.future.get(max(until - monotonic(), 0.001))
    except REFUSED as error:
        if OUT_OF_RANGE in str(error):
            # kafka-python 3.0.12 reports several refused timestamps of a batch as invalid records (sender.py).
            raise errors.InvalidTimestampError(str(error)) from error
        return True
    return False


def _has_failed(producer: KafkaProducer) -> bool:
    """Whether a producer sends nothing any more."""
    # Private in kafka-python, which tells it to transactional producers only.
    manager = producer._transaction_manager
    # When a batch expires that was sent before, 3.0.12 drops the producer id (Sender._send_producer_data), but requests one only in
    # the state UNINITIALIZED (TransactionManager.init_producer_id): the sender waits for it for ever.
    has_lost_id = manager._current_state == TransactionState.READY and not manager.has_producer_id()
    return has_lost_id or bool(manager.has_fatal_error())
