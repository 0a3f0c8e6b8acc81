"""Checks before a service starts: the schema of the database, the topics and groups of the broker."""

import time
from collections.abc import Collection
from typing import Final

from services.common import migrations
from services.common.errors import ConfigError
from services.common.hashing import Hasher
from services.common.kafka import Admin, Reader
from services.common.postgres import connect
from services.common.settings import KafkaSettings, MatcherConfig, PostgresSettings, ServiceConfig, Settings
from services.common.topics import DEFAULT_APP_ID, HASH_KEY, SENT, TopicSpec, specs

NEWEST_MESSAGES: Final = 20
"""How many records of a partition are looked at for the hash key."""
LOOK_SECONDS: Final = 10.0


def wanted_topics(config: Settings) -> tuple[TopicSpec, ...]:
    """Every topic of this installation as it must be."""
    return _specs(config.kafka, config.horizon_days, config.matcher.app_id)


def _specs(kafka: KafkaSettings, horizon_days: int, app_id: str) -> tuple[TopicSpec, ...]:
    return specs(
        partitions=kafka.partitions,
        horizon_days=horizon_days,
        replication_factor=kafka.replication_factor,
        min_insync_replicas=kafka.min_insync_replicas,
        app_id=app_id,
    )


def topics_named(kafka: KafkaSettings, horizon_days: int, names: Collection[str]) -> list[TopicSpec]:
    """These topics as they must be; not the matcher's changelog, whose name depends on its group."""
    return [spec for spec in _specs(kafka, horizon_days, DEFAULT_APP_ID) if spec.name in names]


def schema(postgres: PostgresSettings, client: str) -> None:
    """ConfigError with the command when the database is not of this release, TransientError when it is not reachable."""
    with connect(postgres.dsn.get_secret_value(), client) as connection:
        migrations.verify(connection)


def topics(config: ServiceConfig, client: str, names: Collection[str] | None = None) -> None:
    """ConfigError with the fix when a topic (one of `names`, or any) is missing or differs."""
    # The matcher's group is part of the changelog's name, and only the matcher checks the changelog.
    app_id = config.matcher.app_id if isinstance(config, MatcherConfig) else DEFAULT_APP_ID
    wanted = [spec for spec in _specs(config.kafka, config.horizon_days, app_id) if names is None or spec.name in names]
    with Admin(config.kafka, client) as admin:
        if problems := admin.check_topics(wanted):
            raise ConfigError(problems)


def matcher_group(kafka: KafkaSettings, group: str, client: str) -> None:
    """ConfigError with the fix when Kafka does not let this user see the matcher's progress."""
    with Admin(kafka, client) as admin:
        try:
            admin.committed(group)
        except ConfigError as error:
            raise ConfigError(
                "Kafka does not let this user see the progress of the matcher, and without it replies that are on their way"
                f" look like silence; allow Describe on the group {group} (schemas/kafka-access.toml has every rule)"
            ) from error


def hash_key_of_messages(kafka: KafkaSettings, hasher: Hasher, client: str) -> None:
    """ConfigError when the newest messages were hashed with another key than this process has: nothing would ever match.

    A single record with another fingerprint stops nobody: only if no partition shows ours, the key is another one.
    """
    fingerprints: set[bytes] = set()
    with Reader(kafka, client, SENT) as reader:
        partitions = reader.partitions()
        first, end = reader.beginning_offsets(partitions), reader.end_offsets(partitions)
        unread = {partition for partition in partitions if end[partition] > first[partition]}
        reader.assign(unread)
        for partition in unread:
            reader.seek(partition, max(first[partition], end[partition] - NEWEST_MESSAGES))
        deadline = time.monotonic() + LOOK_SECONDS
        while unread and time.monotonic() < deadline:
            for records in reader.poll(0.2).values():
                fingerprints |= {text for record in records for name, text in record.headers if name == HASH_KEY}
            unread = {partition for partition in unread if (reader.position(partition) or 0) < end[partition]}
    if fingerprints and hasher.fingerprint().encode() not in fingerprints:
        raise ConfigError(
            f"the newest records of {SENT} were hashed with another hash key than this process has, so replies would match no"
            " inquiry; point REPLYRATE_HASH_KEY_FILE to the file that the fetcher uses. To start over with a new key, see"
            " docs/keys-and-backup.md"
        )
