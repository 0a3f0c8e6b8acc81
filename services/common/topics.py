"""The topics: names, keys, partitions, policies. schemas/asyncapi.yaml says the same to everybody else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

INQUIRIES: Final = "inquiries.v1"
SENT: Final = "sent-messages.v1"
REPLIES: Final = "inquiry-replies.v1"
DEAD: Final = "dead-letters.v1"

DEFAULT_APP_ID: Final = "replyrate-matcher"
"""The matcher's consumer group, unless a setting names another."""

DEAD_GROUP: Final = "replyrate-dlq"
"""Consumer group of `replyrate dlq`: its committed offsets say which dead letters are done with."""

INPUT_BYTES: Final = 64 * 1024
STATE_BYTES: Final = 1024 * 1024
LETTER_BYTES: Final = 2 * STATE_BYTES
"""A rejected record may be as large as any topic allows, and grows by a third as base64."""
DAY_MS: Final = 86_400_000
KEY_SEPARATOR: Final = b"\x1f"
REROUTED: Final = ("rerouted", b"1")
"""Header of an inquiry that the matcher moved to the partition of its key."""

REPLAYED: Final = "replayed"
"""Header of a record that `replyrate dlq` sent back: how often so far. It is handed on to the dead letter."""


def replays(headers: Iterable[tuple[str, bytes]]) -> int:
    """How often a record was sent back, by its headers."""
    for name, value in headers:
        if name == REPLAYED and value.isdigit():
            return int(value[:9])
    return 0


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it must be."""

    name: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str]


def changelog_name(app_id: str = DEFAULT_APP_ID) -> str:
    """The topic in which the matcher keeps its state: Faust's name for the changelog of the table `joined`."""
    return f"{app_id}-joined-changelog"


def specs(
    *,
    partitions: int,
    horizon_days: int,
    replication_factor: int = 1,
    min_insync_replicas: int = 1,
    app_id: str = DEFAULT_APP_ID,
) -> tuple[TopicSpec, ...]:
    """Every topic of an installation. What is deleted by age stays for `horizon_days`."""
    kept = {"cleanup.policy": "delete", "retention.ms": str(horizon_days * DAY_MS)}
    compacted = {"cleanup.policy": "compact", "max.message.bytes": str(STATE_BYTES)}
    inputs = {**kept, "max.message.bytes": str(INPUT_BYTES)}
    rejected = {**kept, "max.message.bytes": str(LETTER_BYTES)}
    shapes = {
        INQUIRIES: inputs,
        SENT: inputs,
        REPLIES: compacted,
        changelog_name(app_id): compacted,
        DEAD: rejected,
    }
    return tuple(
        TopicSpec(
            name,
            partitions,
            replication_factor,
            {**configs, "min.insync.replicas": str(min_insync_replicas)},
        )
        for name, configs in shapes.items()
    )


def reply_key(company_id: str, inquiry_id: str) -> bytes:
    """Key in inquiry-replies.v1; an empty `inquiry_id` is the company itself (its erase)."""
    return company_id.encode() + KEY_SEPARATOR + inquiry_id.encode()


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Java's default partitioner (murmur2, sign bit off, modulo) gives to `key`."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bit, with Kafka's seed; https://github.com/apache/kafka/blob/trunk/clients/.../Utils.java."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
