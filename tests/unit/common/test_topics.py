"""Partitions as every other client computes them, policies, keys."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from services.common import topics

PARTITIONS = 12


@given(st.binary(max_size=200), st.integers(1, 200))
@example(b"", 12)
@example(b"\xff" * 7, 12)
def test_partition_of_is_that_of_kafka_python(key: bytes, partitions: int) -> None:
    assert topics.partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


@pytest.mark.parametrize(
    ("key", "hashed"),
    [  # from Kafka's own UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_partition_of_is_that_of_java(key: bytes, hashed: int) -> None:
    assert topics.partition_of(key, 2**31 - 1) == (hashed & 0x7FFFFFFF) % (2**31 - 1)


def test_the_key_of_a_joined_state() -> None:
    assert topics.reply_key("c-1", "買-1") == b"c-1\x1f" + "買-1".encode()
    assert topics.reply_key("c-1", "") == b"c-1\x1f"


@given(*[st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=9)] * 4)
def test_two_inquiries_never_share_a_key(c1: str, i1: str, c2: str, i2: str) -> None:
    assert (topics.reply_key(c1, i1) == topics.reply_key(c2, i2)) == ((c1, i1) == (c2, i2))


def test_policies_of_the_topics() -> None:
    by_name = {
        spec.name: spec
        for spec in topics.specs(partitions=PARTITIONS, horizon_days=60, replication_factor=3, min_insync_replicas=2)
    }
    assert list(by_name) == [
        "inquiries.v1",
        "sent-messages.v1",
        "inquiry-replies.v1",
        "replyrate-matcher-joined-changelog",
        "dead-letters.v1",
    ]
    assert {spec.partitions for spec in by_name.values()} == {PARTITIONS}
    assert {spec.replication_factor for spec in by_name.values()} == {3}
    assert {spec.configs["min.insync.replicas"] for spec in by_name.values()} == {"2"}
    for name in (topics.INQUIRIES, topics.SENT):
        assert by_name[name].configs["cleanup.policy"] == "delete"
        assert by_name[name].configs["retention.ms"] == "5184000000"
        assert by_name[name].configs["max.message.bytes"] == "65536"
    for name in (topics.REPLIES, topics.changelog_name()):
        assert by_name[name].configs["cleanup.policy"] == "compact"
        assert by_name[name].configs["max.message.bytes"] == "1048576"
        assert "retention.ms" not in by_name[name].configs


def test_a_dead_letter_may_contain_the_largest_record_in_base64() -> None:
    dead = next(spec for spec in topics.specs(partitions=1, horizon_days=1) if spec.name == topics.DEAD)
    assert int(dead.configs["max.message.bytes"]) > topics.STATE_BYTES * 4 / 3 + 4096


def test_two_installations_have_changelogs_of_their_own() -> None:
    names = {spec.name for spec in topics.specs(partitions=1, horizon_days=1, app_id="other")}
    assert "other-joined-changelog" in names
    assert topics.changelog_name() not in names


@pytest.mark.parametrize("value", [None, b"", b"\xff", "²".encode(), b"-1", b"1.0", b" 1"])
def test_a_replay_count_of_another_form_does_not_count(value: bytes | None) -> None:
    assert topics.replays([("replayed", value), ("replayed", b"2")]) == 2
    assert topics.replays([("replayed", value)]) == 0


@pytest.mark.parametrize(
    ("configs", "count"),
    [
        ({}, 0),
        ({"unclean.leader.election.enable": "false", "message.timestamp.after.max.ms": "3600000"}, 0),
        ({"message.timestamp.before.max.ms": str(2**63 - 1), "compression.type": "zstd"}, 0),
        ({"unclean.leader.election.enable": "true"}, 1),
        ({"message.timestamp.after.max.ms": str(2**63 - 1)}, 1),
        ({"message.timestamp.before.max.ms": "1000"}, 1),
        ({"message.timestamp.before.max.ms": "1000", "message.timestamp.type": "LogAppendTime"}, 0),
    ],
)
def test_a_configuration_with_which_facts_can_be_lost_is_named_with_its_fix(
    configs: dict[str, str], count: int
) -> None:
    sentences = topics.risks("inquiries.v1", configs)
    assert len(sentences) == count
    assert all("--entity-name inquiries.v1 --add-config" in sentence for sentence in sentences)
