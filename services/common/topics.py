"""The topics: names, accepted events, keys, partitions, policies. Pure; schemas/asyncapi.yaml describes them for others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from services.common.events import COMPANY_ERASED, DEAD_LETTER, INQUIRY_REPLIES, MESSAGE_SENT, PLATFORM_TYPES
from services.common.hashing import SEPARATOR

INQUIRIES: Final = "inquiries.v1"
SENT: Final = "sent-messages.v1"
REPLIES: Final = "inquiry-replies.v1"
DEAD: Final = "dead-letters.v1"

ACCEPTED: Final[Mapping[str, frozenset[str]]] = {
    INQUIRIES: PLATFORM_TYPES,
    SENT: frozenset({MESSAGE_SENT}),
    REPLIES: frozenset({INQUIRY_REPLIES, COMPANY_ERASED}),
    DEAD: frozenset({DEAD_LETTER}),
}
"""Topic → the types of events that its consumers accept."""

DEFAULT_APP_ID: Final = "replyrate-matcher"
"""The matcher's consumer group, unless a setting names another."""

DEAD_GROUP: Final = "replyrate-dlq"
"""Consumer group of `replyrate dlq`: its committed offsets say which dead letters are processed."""

INPUT_BYTES: Final = 64 * 1024
STATE_BYTES: Final = 1024 * 1024
LETTER_BYTES: Final = 2 * STATE_BYTES
"""A rejected record may be as large as any topic allows, and grows by a third as base64."""
DAY_MS: Final = 86_400_000
KEY_SEPARATOR: Final = SEPARATOR.encode()
REROUTED: Final = ("rerouted", b"1")
"""Header of an inquiry that the matcher moved to the partition of its key."""

HASH_KEY: Final = "hash-key"
"""Header of a record of sent-messages.v1: the fingerprint of the key of its hashes."""
REPLAYED: Final = "replayed"
"""Header of a record that `replyrate dlq` sent back: how often so far. It is copied to the dead letter."""


def replays(headers: Iterable[tuple[str, bytes | None]]) -> int:
    """How often a record was sent back, by its headers; a header of another form, or with a null value, does not count."""
    for name, value in headers:
        if name == REPLAYED and value is not None and value.isdigit():
            return int(value[:9])
    return 0


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """Name and configuration of one topic."""

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
    """Every topic of an installation. Topics that are deleted by age keep records for `horizon_days`."""
    by_age = {"cleanup.policy": "delete", "retention.ms": str(horizon_days * DAY_MS)}
    compacted = {"cleanup.policy": "compact", "max.message.bytes": str(STATE_BYTES)}
    inputs = {**by_age, "max.message.bytes": str(INPUT_BYTES)}
    rejected = {**by_age, "max.message.bytes": str(LETTER_BYTES)}
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


def risks(name: str, configs: Mapping[str, str]) -> list[str]:
    """One sentence for each configuration of a topic with which facts can be lost, with the fix; `configs` as the broker has them."""
    fix = f"fix it with kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config"
    sentences = []
    if configs.get("unclean.leader.election.enable") == "true":
        sentences.append(
            f"topic {name} has unclean.leader.election.enable=true: a replica that lags may become leader, and acknowledged"
            f" records are lost; {fix} unclean.leader.election.enable=false"
        )
    after_ms = configs.get("message.timestamp.after.max.ms", "")
    if after_ms.isdigit() and int(after_ms) > DAY_MS and configs.get("message.timestamp.type") != "LogAppendTime":
        sentences.append(
            f"topic {name} has message.timestamp.after.max.ms={after_ms}: a producer whose clock is ahead writes records that are"
            f" kept too long, and Kafka's timestamps are no measure for clocks any more; {fix}"
            " message.timestamp.after.max.ms=3600000"
        )
    before_ms = configs.get("message.timestamp.before.max.ms", "")
    if before_ms.isdigit() and int(before_ms) < DAY_MS and configs.get("message.timestamp.type") != "LogAppendTime":
        sentences.append(
            f"topic {name} has message.timestamp.before.max.ms={before_ms}: records that wait for Kafka for longer are refused;"
            f" {fix} message.timestamp.before.max.ms={2**63 - 1}"
        )
    return sentences


def reply_key(company_id: str, inquiry_id: str) -> bytes:
    """Key in inquiry-replies.v1; an empty `inquiry_id` is the company itself (its erase)."""
    return company_id.encode() + KEY_SEPARATOR + inquiry_id.encode()


def partial_key(company_id: str, inquiry_id: str) -> bytes:
    """Key in inquiry-replies.v1 of a state that lacks the inquiry's own facts, so that compaction does not replace them by it."""
    return reply_key(company_id, inquiry_id) + KEY_SEPARATOR


def company_of(key: bytes | None) -> str:
    """The company of a record, by its key."""
    return (key or b"").partition(KEY_SEPARATOR)[0].decode("utf-8", "replace")


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Java's default partitioner (murmur2, sign bit off, modulo) gives to `key`."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bit, with Kafka's seed; https://github.com/apache/kafka/blob/trunk/clients/.../Utils.java.

    Not kafka.partitioner's: this module is pure, and the join, which uses it, must not reach a client. A test compares the two.
    """
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    mixed = 0x9747B28C ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        block = int.from_bytes(data[start : start + 4], "little") * multiplier & mask
        block = (block ^ block >> 24) * multiplier & mask
        mixed = (mixed * multiplier & mask) ^ block
    if tail := data[whole:]:
        mixed = (mixed ^ int.from_bytes(tail, "little")) * multiplier & mask
    mixed = (mixed ^ mixed >> 13) * multiplier & mask
    return mixed ^ mixed >> 15
