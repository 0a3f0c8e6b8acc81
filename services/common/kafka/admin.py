"""The admin client: creates our topics, compares them with what they must be, reads and sets offsets of groups."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from kafka import KafkaAdminClient, TopicPartition, errors
from kafka.admin import ConfigResource, OffsetSpec
from kafka.protocol.consumer.offsets import IsolationLevel
from kafka.structs import OffsetAndMetadata

from services.common.errors import ConfigError
from services.common.kafka.client import REQUEST_MS, KafkaClient, client_options, translate
from services.common.settings import KafkaSettings
from services.common.topics import TopicSpec, risks

COORDINATOR_SECONDS: Final = 10


class Admin(KafkaClient):
    """Creates our topics and compares existing ones with what they must be; reads and sets committed offsets."""

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        """TransientError when no broker answers."""
        with translate():
            self._client = KafkaAdminClient(**client_options(settings, client_id), request_timeout_ms=REQUEST_MS)

    def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the topics that are missing; returns their names. Existing ones are left unchanged."""
        with translate():
            existing = set(self._client.list_topics())
            missing = [spec for spec in specs if spec.name not in existing]
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
        """One sentence for each topic that is missing or differs, with the fix; empty when all are right."""
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
                value = configs.get(spec.name, {}).get(name)
                if value != wanted:
                    problems.append(
                        f"topic {spec.name} has {name}={value} instead of {wanted}; fix it with kafka-configs.sh"
                        f" --alter --entity-type topics --entity-name {spec.name} --add-config {name}={wanted}"
                    )
        return problems

    def topic_risks(self, names: Sequence[str]) -> list[str]:
        """One sentence for each configuration of existing topics with which facts can be lost; no service refuses to start for it."""
        with translate():
            existing = set(self._client.list_topics())
            configs = self._configs([name for name in names if name in existing])
        return [sentence for name, entries in configs.items() for sentence in risks(name, entries)]

    def topic_id(self, name: str) -> str | None:
        """The topic id, which changes when a topic is deleted and created again; None when there is no such topic."""
        with translate():
            for topic in self._client.describe_topics():
                if topic["name"] == name and not topic.get("error_code"):
                    return str(topic["topic_id"])
        return None

    def spans(self, topics: Iterable[str], *, readable: bool = False) -> dict[tuple[str, int], tuple[int, int]]:
        """(first offset that still exists, offset behind the last record) by (topic, partition).

        `readable`: the second is where an open transaction begins, if there is one: what lies behind it must wait.
        TransientError when a topic is missing or has no leader at the moment.
        """
        isolation = IsolationLevel.READ_COMMITTED if readable else IsolationLevel.READ_UNCOMMITTED
        with translate():
            partitions = [
                TopicPartition(topic["name"], partition["partition_index"])
                for topic in self._client.describe_topics(sorted(topics))
                for partition in topic["partitions"]
            ]
            first, end = (
                self._client.list_partition_offsets(dict.fromkeys(partitions, which), isolation_level=isolation)
                for which in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
            )
            return {(tp.topic, tp.partition): (first[tp].offset, end[tp].offset) for tp in partitions}

    def delete_before(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Delete the records of `topic` before an offset, by partition, for every reader."""
        with translate():
            self._client.delete_records(
                {TopicPartition(topic, partition): offset for partition, offset in offsets.items()},
                timeout_ms=REQUEST_MS,
            )

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """Offsets that a consumer group committed, by (topic, partition); empty when it has committed none."""
        return {tp: offset for tp, (offset, _) in self.commits(group).items()}

    def commits(self, group: str) -> dict[tuple[str, int], tuple[int, str]]:
        """Offset and metadata of what a consumer group committed, by (topic, partition)."""
        with translate():
            try:
                offsets = _coordinated(lambda: self._client.list_group_offsets([group]))[group]
            except errors.GroupIdNotFoundError:
                return {}
            return {(tp.topic, tp.partition): (commit.offset, commit.metadata or "") for tp, commit in offsets.items()}

    def commit(self, group: str, topic: str, offsets: Mapping[int, tuple[int, str]]) -> None:
        """Set the offsets of a group that has no members, each with its metadata.

        TransientError when the broker does not accept them.
        """
        wanted = {
            TopicPartition(topic, partition): OffsetAndMetadata(offset, metadata, -1)
            for partition, (offset, metadata) in offsets.items()
        }
        with translate():
            for refused in _coordinated(lambda: self._client.alter_group_offsets(group, wanted)).values():
                if refused is not errors.NoError:
                    raise refused()

    def close(self) -> None:
        """Close the connections to the brokers."""
        self._client.close()

    def _configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        resources = [ConfigResource("TOPIC", name) for name in names]
        described = self._client.describe_configs(resources, config_filter="all")
        return {
            name: {key: _config_value(value) for key, value in entries.items()}
            for name, entries in described["topic"].items()
        }


def _coordinated(ask: Callable[[], Any]) -> Any:
    """The answer of a group's coordinator, which a new or restarted cluster takes some seconds to elect."""
    deadline = time.monotonic() + COORDINATOR_SECONDS
    while True:
        try:
            return ask()
        except (errors.CoordinatorNotAvailableError, errors.CoordinatorLoadInProgressError, errors.NotCoordinatorError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _config_value(value: Any) -> str:
    return str(value["value"] if isinstance(value, dict) else value)
