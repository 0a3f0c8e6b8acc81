"""The only door to kafka-python: a publisher that waits for acks, a reader, an admin.

What the library does that shaped this (3.0.12): rebalance listeners run on its I/O thread and must not block, so
changes of the assignment are put in a queue and taken by the loop after `poll`; `commit` without a time limit retries
for ever; a record whose ack is late may have been written all the same, so everything sent is sent again with the
same identity.
"""

import queue
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.admin import ConfigResource, OffsetSpec
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.structs import OffsetAndMetadata

from services.common.errors import ConfigError, TransientError
from services.common.settings import KafkaSettings
from services.common.topics import DEAD, LETTER_BYTES, TopicSpec

REQUEST_MS = 10_000
COORDINATOR_SECONDS = 10
MAX_REQUEST_BYTES = LETTER_BYTES
"""As much as the topic with the largest records takes; each broker holds each topic to its own limit."""
BATCH_BYTES = 32 * 1024
FETCH_BYTES = 4 * 1024 * 1024
POLL_RECORDS = 2000
"""Well under the 64 KiB that the input topics allow for one batch."""

REFUSED: tuple[type[BaseException], ...] = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidRecordError,
    errors.InvalidTimestampError,
)
"""What the broker says about one record and will say again: the record's fault, not the broker's."""

FORBIDDEN: tuple[type[BaseException], ...] = (errors.AuthorizationError, errors.SaslAuthenticationFailedError)


class Record(NamedTuple):
    """One record as it stands in a partition. `value` None is a tombstone."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Assigned:
    """Partitions of the reader's topic came to this process."""

    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Partitions of the reader's topic left this process."""

    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Pending:
    """A record on its way; `Publisher.wait` tells what became of it."""

    future: Any
    refused: bool = False


@contextmanager
def translate() -> Iterator[None]:
    """Errors of the library as ours: no access → ConfigError, everything else goes away by itself."""
    try:
        yield
    except FORBIDDEN as error:
        raise ConfigError(
            f"Kafka refuses this user ({type(error).__name__}); check REPLYRATE_KAFKA__SASL_… and the access rules of the topic"
        ) from error
    except errors.KafkaError as error:
        if "Unable to bootstrap" in str(error):
            # The library tries again until the time is over and does not say whether a login was refused.
            raise TransientError(
                "Kafka is away or refuses us; check that it runs and that REPLYRATE_KAFKA__BOOTSTRAP_SERVERS names it. With SASL"
                " or SSL a wrong user, password or authority (REPLYRATE_KAFKA__SASL_…, …__SSL_CA_FILE) looks the same"
            ) from error
        raise TransientError(f"Kafka is away or busy ({type(error).__name__})") from error


def client_config(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """What every client of the library gets: where the brokers are and how they are talked to."""
    config: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "client_id": client_id,
        "security_protocol": settings.security_protocol,
        "bootstrap_timeout_ms": REQUEST_MS,
        "reconnect_backoff_max_ms": 2000,
    }
    if settings.security_protocol.endswith("SSL"):
        config["ssl_context"] = ssl.create_default_context(cafile=settings.ssl_ca_file)
    if settings.security_protocol.startswith("SASL"):
        config["sasl_mechanism"] = settings.sasl_mechanism
        config["sasl_plain_username"] = settings.sasl_username
        config["sasl_plain_password"] = settings.sasl_password.get_secret_value() if settings.sasl_password else None
    return config


class Publisher:
    """Sends records and waits until all replicas in sync have them. May be shared by threads."""

    def __init__(self, settings: KafkaSettings, client_id: str, *, delivery_seconds: float = 60) -> None:
        """TransientError when no broker answers."""
        self._delivery_seconds = delivery_seconds
        with translate():
            self._producer = KafkaProducer(
                **client_config(settings, client_id),
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
        """Put a record on its way; the partition is murmur2 of the key when none is given.

        TransientError when the topic cannot be found or the buffer stays full.
        """
        with translate():
            try:
                return Pending(self._producer.send(topic, value, key=key, partition=partition, headers=list(headers)))
            except REFUSED:
                return Pending(None, refused=True)

    def wait(self, pendings: Sequence[Pending], seconds: float | None = None) -> list[int]:
        """Wait until every record is written; returns the indexes of those that the broker refuses for their own fault.

        TransientError when the broker does not answer in time: nothing is known about those records then, and they
        must be sent again.
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
                except REFUSED:
                    refused.append(index)
            return refused

    def wait_letters(self, pendings: Sequence[Pending]) -> None:
        """The same for dead letters. ConfigError when one is refused: the topic takes less than it must, and what stands for
        a record may not be lost as well."""
        if self.wait(pendings):
            raise ConfigError(
                f"{DEAD} refuses a dead letter that is not too large for it; run `replyrate topics check` and mend what it tells"
            )

    def close(self) -> None:
        """Let go of the brokers; what is not acknowledged by now was not waited for."""
        with suppress(errors.KafkaError):  # it flushes first, and a broker that hangs is no reason to end badly
            self._producer.close(timeout=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Changes(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs on the library's I/O thread: puts what happened in a queue, and nothing else."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Assigned | Revoked] = queue.SimpleQueue()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.queue.put(Assigned(frozenset(where.partition for where in assigned)))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.queue.put(Revoked(frozenset(where.partition for where in revoked)))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self.queue.put(Revoked(frozenset(where.partition for where in lost)))


class Reader:
    """Reads one topic: partitions taken by hand (`assign`) or given by the group (`subscribe`).

    Positions are the caller's: after `Assigned` seek each partition, then poll. Not to be shared by threads.
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
                **client_config(settings, client_id),
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

    def assign(self, partitions: Iterable[int]) -> None:
        """Read these partitions, whoever else does; `seek` each before the first poll, else from the beginning."""
        with translate():
            self._consumer.assign([TopicPartition(self._topic, partition) for partition in partitions])

    def subscribe(self) -> None:
        """Read what the group gives to this process; `changes` tells what that is."""
        with translate():
            self._consumer.subscribe([self._topic], listener=self._changes)

    def changes(self) -> list[Assigned | Revoked]:
        """What came and went since the last call, in order. Call after each poll and before using its records."""
        found: list[Assigned | Revoked] = []
        while True:
            try:
                found.append(self._changes.queue.get_nowait())
            except queue.Empty:
                return found

    def assignment(self) -> frozenset[int]:
        """The partitions read now."""
        return frozenset(where.partition for where in self._consumer.assignment())

    def seek(self, partition: int, offset: int) -> None:
        """Go on at `offset`. TransientError when the partition is not (or no longer) ours."""
        try:
            with translate():
                self._consumer.seek(TopicPartition(self._topic, partition), offset)
        except AssertionError:
            raise TransientError(f"partition {partition} of {self._topic} is not assigned here") from None

    def position(self, partition: int) -> int | None:
        """Where this partition is read next, gaps that compaction left included; None when it is not ours."""
        with translate():
            try:
                found: int | None = self._consumer.position(TopicPartition(self._topic, partition), timeout_ms=1000)
            except errors.IllegalStateError:
                return None
            return found

    def poll(self, seconds: float, max_records: int | None = None) -> dict[int, list[Record]]:
        """Records by partition, in order; empty after `seconds` without any."""
        with translate():
            batches = self._consumer.poll(timeout_ms=int(seconds * 1000), max_records=max_records)
        return {
            where.partition: [
                Record(
                    found.topic, found.partition, found.offset, found.key, found.value,
                    tuple(found.headers or ()), found.timestamp,
                )
                for found in records
            ]
            for where, records in batches.items()
        }  # fmt: skip

    def beginning_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        """First offset that still exists, by partition."""
        with translate():
            wanted = [TopicPartition(self._topic, partition) for partition in partitions]
            found = self._consumer.beginning_offsets(wanted, timeout_ms=REQUEST_MS)
            return {where.partition: offset for where, offset in found.items()}

    def end_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        """Offset behind the last record, by partition."""
        with translate():
            wanted = [TopicPartition(self._topic, partition) for partition in partitions]
            found = self._consumer.end_offsets(wanted, timeout_ms=REQUEST_MS)
            return {where.partition: offset for where, offset in found.items()}

    def partitions(self) -> frozenset[int]:
        """The partitions that the topic has; empty when there is no such topic."""
        with translate():
            return frozenset(self._consumer.partitions_for_topic(self._topic) or ())

    def commit(self, offsets: Mapping[int, int]) -> bool:
        """Tell the group's coordinator how far we are: a hint for tools that show lag. False when it did not take it."""
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
        """Leave the group and let go of the brokers."""
        with suppress(errors.KafkaError):
            self._consumer.close(autocommit=False, timeout_ms=3000)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Admin:
    """Makes our topics and compares those that are there with what they must be."""

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        """TransientError when no broker answers."""
        with translate():
            self._client = KafkaAdminClient(**client_config(settings, client_id), request_timeout_ms=REQUEST_MS)

    def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Make the topics that are missing; returns their names. Those that exist are left as they are."""
        with translate():
            there = set(self._client.list_topics())
            missing = [spec for spec in specs if spec.name not in there]
            for spec in missing:
                try:
                    self._client.create_topics(
                        {
                            spec.name: {
                                "num_partitions": spec.partitions,
                                "replication_factor": spec.replication_factor,
                                "configs": dict(spec.configs),
                            }
                        },
                        wait_for_metadata=True,
                    )
                except errors.TopicAlreadyExistsError:
                    continue
                except errors.InvalidReplicationFactorError:
                    raise ConfigError(
                        f"topic {spec.name} cannot have {spec.replication_factor} replicas;"
                        " lower REPLYRATE_KAFKA__REPLICATION_FACTOR to the number of brokers"
                    ) from None
            return [spec.name for spec in missing]

    def check_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """One sentence for each topic that is missing or differs, with what mends it; empty when all are right."""
        with translate():
            described = {
                topic["name"]: topic for topic in self._client.describe_topics() if not topic.get("error_code")
            }
            present = [spec for spec in specs if spec.name in described]
            configs = self._configs([spec.name for spec in present])
        problems = [
            f"topic {spec.name} is missing; run `replyrate topics create`"
            for spec in specs
            if spec.name not in described
        ]
        for spec in present:
            partitions = len(described[spec.name]["partitions"])
            if partitions != spec.partitions:
                problems.append(
                    f"topic {spec.name} has {partitions} partitions instead of {spec.partitions};"
                    f" set REPLYRATE_KAFKA__PARTITIONS={partitions} for every service, or delete all topics and create them again"
                )
            for name, wanted in spec.configs.items():
                found = configs.get(spec.name, {}).get(name)
                if found != wanted:
                    problems.append(
                        f"topic {spec.name} has {name}={found} instead of {wanted}; mend it with kafka-configs.sh"
                        f" --alter --entity-type topics --entity-name {spec.name} --add-config {name}={wanted}"
                    )
        return problems

    def topic_id(self, name: str) -> str | None:
        """What tells a topic from another one of the same name that was deleted; None when there is no such topic."""
        with translate():
            for topic in self._client.describe_topics():
                if topic["name"] == name and not topic.get("error_code"):
                    return str(topic["topic_id"])
        return None

    def spans(self, topics: Iterable[str]) -> dict[tuple[str, int], tuple[int, int]]:
        """(first offset that still exists, offset behind the last record) by (topic, partition).

        TransientError when a topic is missing or has no leader now.
        """
        with translate():
            partitions = [
                TopicPartition(topic["name"], partition["partition_index"])
                for topic in self._client.describe_topics(sorted(topics))
                for partition in topic["partitions"]
            ]
            first, end = (
                self._client.list_partition_offsets(dict.fromkeys(partitions, which))
                for which in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
            )
            return {(where.topic, where.partition): (first[where].offset, end[where].offset) for where in partitions}

    def delete_before(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Delete the records of `topic` before an offset, by partition, for every reader."""
        with translate():
            self._client.delete_records(
                {TopicPartition(topic, partition): offset for partition, offset in offsets.items()},
                timeout_ms=REQUEST_MS,
            )

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """Offsets that a consumer group committed, by (topic, partition); empty when it never did."""
        return {where: offset for where, (offset, _) in self.noted(group).items()}

    def noted(self, group: str) -> dict[tuple[str, int], tuple[int, str]]:
        """The same, each with the metadata of the commit."""
        with translate():
            try:
                found = _coordinated(lambda: self._client.list_group_offsets([group]))[group]
            except errors.GroupIdNotFoundError:
                return {}
            return {(where.topic, where.partition): (one.offset, one.metadata or "") for where, one in found.items()}

    def commit(self, group: str, topic: str, offsets: Mapping[int, tuple[int, str]]) -> None:
        """Set the offsets of a group that has no members, each with its metadata.

        TransientError when the broker does not take them.
        """
        wanted = {
            TopicPartition(topic, partition): OffsetAndMetadata(offset, note, -1)
            for partition, (offset, note) in offsets.items()
        }
        with translate():
            for refused in _coordinated(lambda: self._client.alter_group_offsets(group, wanted)).values():
                if refused is not errors.NoError:
                    raise refused()

    def close(self) -> None:
        """Let go of the brokers."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        resources = [ConfigResource("TOPIC", name) for name in names]
        found = self._client.describe_configs(resources, config_filter="all")
        return {
            name: {key: _config_value(value) for key, value in entries.items()}
            for name, entries in found["topic"].items()
        }


def _coordinated(ask: Callable[[], Any]) -> Any:
    """The answer of a group's coordinator, which a new or restarted cluster takes some seconds to have."""
    deadline = time.monotonic() + COORDINATOR_SECONDS
    while True:
        try:
            return ask()
        except (errors.CoordinatorNotAvailableError, errors.CoordinatorLoadInProgressError, errors.NotCoordinatorError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _config_value(found: Any) -> str:
    return str(found["value"] if isinstance(found, dict) else found)
