"""The publisher: sends records and waits until the in-sync replicas have them."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaProducer, errors

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
class Pending:
    """A record on its way; `Publisher.wait` reports its result."""

    future: Any
    refused: bool = False


class Publisher(KafkaClient):
    """Sends records and waits until all replicas in sync have them. May be shared by threads."""

    def __init__(self, settings: KafkaSettings, client_id: str, *, delivery_seconds: float = 60) -> None:
        """TransientError when no broker answers."""
        self._delivery_seconds = delivery_seconds
        with translate():
            self._producer = KafkaProducer(
                **client_options(settings, client_id),
                acks="all",
                enable_idempotence=True,
                metrics_enabled=False,
                linger_ms=5,
                batch_size=BATCH_BYTES,
                max_request_size=MAX_REQUEST_BYTES,
                max_block_ms=REQUEST_MS,
                request_timeout_ms=REQUEST_MS,
                delivery_timeout_ms=int(delivery_seconds * 1000),
                allow_auto_create_topics=False,
            )

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
            try:
                return Pending(self._producer.send(topic, value, key=key, partition=partition, headers=list(headers)))
            except REFUSED:
                return Pending(None, refused=True)

    def send_all(
        self, topic: str, key: bytes, values: Sequence[bytes], *, headers: Sequence[tuple[str, bytes]] = ()
    ) -> list[Pending]:
        """Queue records of one key in their order, as `send` does, at a small part of its cost.

        TransientError when the topic cannot be found.
        """
        if any(len(value) > BATCH_BYTES for value in values):
            return [self.send(topic, key, value, headers=headers) for value in values]
        with translate():
            return [
                Pending(record)
                for record in built_batches.queue(self._producer, topic, key, values, headers, BUILT_BYTES)
            ]

    def wait(self, pendings: Sequence[Pending], seconds: float | None = None) -> list[int]:
        """Wait until every record is acknowledged; returns the indexes of those that the broker refuses for their own fault.

        TransientError when the broker does not answer in time, or refuses the clock of this host: whether those records were
        written is unknown, and they must be sent again.
        """
        with translate():
            self._producer.flush(timeout=seconds if seconds is not None else self._delivery_seconds + 5)
            refused = []
            for index, pending in enumerate(pendings):
                try:
                    if pending.refused:
                        refused.append(index)
                    else:
                        pending.future.get(timeout=0.001)
                except REFUSED as error:
                    if OUT_OF_RANGE in str(error):
                        # kafka-python 3.0.12 reports several refused timestamps of a batch as invalid records (sender.py).
                        raise errors.InvalidTimestampError(str(error)) from error
                    refused.append(index)
            return refused

    def wait_letters(self, pendings: Sequence[Pending]) -> None:
        """Wait until dead letters are acknowledged. ConfigError when one is refused: the topic's limit is too low, and the
        letter, which replaces a record, must not be lost too."""
        if self.wait(pendings):
            raise ConfigError(
                f"{DEAD} refuses a dead letter that is within the limit of the topic; run `replyrate topics check` and fix what it reports"
            )

    def close(self) -> None:
        """Close the client. Records that are not acknowledged yet are not waited for."""
        with suppress(errors.KafkaError):  # it flushes first, and a hanging broker must not make a clean stop fail
            self._producer.close(timeout=2)
