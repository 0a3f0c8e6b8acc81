"""Watermark: an instant is passed exactly when every record published before it has been counted."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.aggregator.judge.watermark import Observation, PartitionWatermark
from services.common.topics import INQUIRIES, SENT

START = datetime(2026, 11, 25, tzinfo=UTC)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


IDLE = Observation(
    at=at(0), merged=7, committed={INQUIRIES: 3, SENT: 5}, inputs={INQUIRIES: (0, 3), SENT: (0, 5)},
    replies=(0, 7),
)  # fmt: skip


def test_every_observation_of_an_idle_partition_advances_the_watermark() -> None:
    watermark = PartitionWatermark()
    assert [watermark.advance(replace(IDLE, at=at(second))) for second in (0, 5, 10)] == [at(0), at(5), at(10)]


def test_empty_and_expired_topics_are_not_waited_for() -> None:
    empty = replace(IDLE, merged=0, committed={}, inputs={INQUIRIES: (0, 0), SENT: (0, 0)}, replies=(0, 0))
    assert PartitionWatermark().advance(empty) == at(0)
    expired = replace(IDLE, committed={}, inputs={INQUIRIES: (3, 3), SENT: (9, 9)})
    assert PartitionWatermark().advance(expired) == at(0)


@pytest.mark.parametrize("topic", [INQUIRIES, SENT])
def test_a_stopped_matcher_stops_the_watermark(topic: str) -> None:
    watermark = PartitionWatermark()
    waiting = replace(IDLE, committed={**IDLE.committed, topic: IDLE.inputs[topic][1] - 1})
    assert [watermark.advance(replace(waiting, at=at(second))) for second in (0, 5, 5000)] == [None] * 3
    # The waiting record is read: its output is published, and must be merged too.
    joined = replace(IDLE, at=at(5005), replies=(0, 8))
    assert watermark.advance(joined) is None
    assert watermark.advance(replace(joined, at=at(5010), merged=8)) == at(5010)


def test_the_watermark_is_the_instant_before_the_ends_were_read() -> None:
    watermark = PartitionWatermark()
    assert watermark.advance(replace(IDLE, inputs={**IDLE.inputs, SENT: (0, 6)})) is None
    # More records were published since; those the mark waited for are read and merged, the others are not.
    later = replace(IDLE, at=at(5), inputs={**IDLE.inputs, SENT: (0, 90)}, committed={**IDLE.committed, SENT: 6})
    assert watermark.advance(later) == at(0)
    assert watermark.advance(replace(later, at=at(10))) is None


def test_a_recreated_input_topic_starts_a_new_mark() -> None:
    watermark = PartitionWatermark()
    assert watermark.advance(replace(IDLE, committed={INQUIRIES: 3, SENT: 0})) is None
    # The committed offset belongs to the previous topic; the new one has not been read.
    recreated = replace(IDLE, at=at(5), inputs={INQUIRIES: (0, 3), SENT: (0, 2)}, committed={INQUIRIES: 3, SENT: 5})
    assert watermark.advance(recreated) is None
    read = replace(recreated, at=at(10), committed={INQUIRIES: 3, SENT: 2})
    assert watermark.advance(read) == at(10)


def test_a_recreated_replies_topic_starts_a_new_mark() -> None:
    watermark = PartitionWatermark()
    joined = replace(IDLE, replies=(0, 9))
    assert watermark.advance(joined) is None
    # The ledger's offset belongs to the previous topic: no record of the new one has been merged.
    recreated = replace(IDLE, at=at(5), merged=1000, replies=(0, 8))
    assert watermark.advance(recreated) is None
    assert watermark.advance(replace(recreated, at=at(10), merged=0)) is None
    assert watermark.advance(replace(recreated, at=at(15), merged=8)) == at(15)


def test_a_single_waiting_record_stops_the_watermark_for_any_time() -> None:
    watermark = PartitionWatermark()
    assert watermark.advance(IDLE) == at(0)
    waiting = replace(IDLE, inputs={**IDLE.inputs, SENT: (0, 6)})
    assert [watermark.advance(replace(waiting, at=at(second))) for second in range(5, 100_000, 500)] == [None] * 200


@pytest.mark.parametrize("seed", range(200))
def test_every_record_published_before_a_passed_instant_is_counted(seed: int) -> None:
    """Random publishers, matcher and ledger; between the reads of one observation more happens."""
    chance, watermark = random.Random(seed), PartitionWatermark()
    published: dict[str, list[int]] = {INQUIRIES: [], SENT: []}
    joined, committed = dict.fromkeys(published, 0), dict.fromkeys(published, 0)
    outputs: list[tuple[str, int]] = []
    merged = clock = 0
    passed = -1

    def happens() -> None:
        nonlocal merged, clock
        for _ in range(chance.randrange(4)):
            clock += 1
            topic = chance.choice([INQUIRIES, SENT])
            action = chance.choice(["publish", "join", "join", "commit", "merge", "merge", "nothing"])
            if action == "publish":
                published[topic].append(clock)
            elif action == "join" and joined[topic] < len(published[topic]):
                outputs.append((topic, joined[topic]))
                joined[topic] += 1
            elif action == "commit":
                committed[topic] = joined[topic]
            elif action == "merge":
                merged = min(len(outputs), merged + chance.randrange(3))

    for _ in range(60):
        happens()
        now, merged_then = clock, merged
        clock += 1
        happens()
        offsets = {topic: offset for topic, offset in committed.items() if offset}
        happens()
        observation = Observation(
            at=at(now), merged=merged_then, committed=offsets,
            inputs={topic: (0, len(times)) for topic, times in published.items()}, replies=(0, len(outputs)),
        )  # fmt: skip
        passed_at = watermark.advance(observation)
        if passed_at is None:
            continue
        assert passed_at > at(passed)
        passed = round((passed_at - START).total_seconds())
        counted = set(outputs[:merged_then])
        for topic, times in published.items():
            assert all((topic, offset) in counted for offset, time in enumerate(times) if time <= passed)
    while merged < len(outputs) or committed != {topic: len(times) for topic, times in published.items()}:
        happens()
        committed.update(joined)
    last = Observation(
        at=at(clock + 1), merged=merged, committed=committed,
        inputs={topic: (0, len(times)) for topic, times in published.items()}, replies=(0, len(outputs)),
    )  # fmt: skip
    assert watermark.advance(last) is not None or watermark.advance(last) is not None, "the watermark never catches up"
