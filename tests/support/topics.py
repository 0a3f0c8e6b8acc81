"""Read and write whole topics in tests, through the product's own Kafka client."""

from collections.abc import Sequence
from typing import Any

from services.common.kafka import Admin, Publisher, Reader, Record
from services.common.settings import KafkaSettings
from services.common.topics import specs

PARTITIONS = 4
CODECS = ("gzip", "snappy", "lz4", "zstd")
"""Every codec of Kafka's protocol, beside none: a producer may use any of them, on any topic."""


def kafka_settings(bootstrap_servers: str, partitions: int = PARTITIONS) -> KafkaSettings:
    """Settings for the test broker."""
    return KafkaSettings.model_validate({"bootstrap_servers": bootstrap_servers, "partitions": partitions})


def create_topics(settings: KafkaSettings, app_id: str = "replyrate-matcher") -> None:
    """All topics of an installation."""
    with Admin(settings, "tests") as admin:
        admin.create_topics(specs(partitions=settings.partitions, horizon_days=60, app_id=app_id))


def publish(settings: KafkaSettings, topic: str, records: list[tuple[bytes, bytes | None]], **options: int) -> None:
    """Send records and wait for every ack."""
    with Publisher(settings, "tests") as publisher:
        pendings = [publisher.send(topic, key, value, **options) for key, value in records]  # type: ignore[arg-type]
        assert publisher.wait(pendings) == []


def publish_compressed(
    settings: KafkaSettings,
    topic: str,
    key: bytes,
    value: bytes,
    headers: Sequence[tuple[str, bytes]] = (),
    compression: str = "gzip",
    **options: int,
) -> None:
    """Send a compressed record, as another producer may; the topic's limit then allows a larger one."""
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, compression_type=compression, max_request_size=64 * 1024 * 1024
    )
    try:
        producer.send(topic, value, key=key, headers=list(headers), **options).get(30)
    finally:
        producer.close(timeout=5)


def set_config(bootstrap_servers: str, topic: str, name: str, value: str) -> None:
    """Change one setting of a topic."""
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource

    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers, client_id="tests")
    try:
        admin.alter_configs([ConfigResource("TOPIC", topic, {name: value})])
    finally:
        admin.close()


def read_all(settings: KafkaSettings, topic: str) -> list[Record]:
    """Every record that a topic has now, by partition and offset."""
    with Reader(settings, "tests", topic) as reader:
        partitions = reader.partitions()
        ends = {partition: end for partition, end in reader.end_offsets(partitions).items() if end}
        reader.assign(partitions)
        read: list[Record] = []
        # Positions, not offsets of records: a partition may end with the marker of a transaction.
        while any((reader.position(partition) or 0) < end for partition, end in ends.items()):
            for records in reader.poll(1).values():
                read += records
        return sorted(read, key=lambda record: (record.partition, record.offset))


def latest(records: list[Record]) -> dict[bytes, bytes | None]:
    """The last value of each key, as compaction would leave it."""
    return {record.key or b"": record.value for record in records}


def committed(settings: KafkaSettings, group: str) -> dict[tuple[str, int], int]:
    """Offsets that a group committed."""
    from kafka import KafkaAdminClient, errors

    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    try:
        try:
            offsets = admin.list_group_offsets([group])[group]
        except errors.RetriableError:
            return {}  # a broker that has just started creates its offsets topic first
        return {
            (where.topic, where.partition): offset_and_metadata.offset for where, offset_and_metadata in offsets.items()
        }
    finally:
        admin.close()


class RawName(str):
    """A header name that is encoded as the bytes it was made of."""

    def __new__(cls, raw: bytes) -> "RawName":
        name = super().__new__(cls, raw.decode("latin-1"))
        name.raw = raw
        return name

    raw: bytes

    def encode(self, *_: Any) -> bytes:
        return self.raw
