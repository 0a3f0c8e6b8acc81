"""Marks over offsets: an instant passes exactly when everything that was published before it has been counted."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.aggregator.judge.watermark import Observation, PartitionWatermark
from services.common.topics import INQUIRIES, SENT

BEGIN = datetime(2026, 11, 25, tzinfo=UTC)


def at(second: float) -> datetime:
    return BEGIN + timedelta(seconds=second)


IDLE = Observation(
    at=at(0), merged=7, committed={INQUIRIES: 3, SENT: 5}, inputs={INQUIRIES: (0, 3), SENT: (0, 5)},
    replies=(0, 7),
)  # fmt: skip


def test_where_nothing_waits_every_look_passes() -> None:
    passage = PartitionWatermark()
    assert [passage.note(replace(IDLE, at=at(second))) for second in (0, 5, 10)] == [at(0), at(5), at(10)]


def test_where_nothing_was_ever_published_or_all_of_it_is_gone_nothing_waits() -> None:
    empty = replace(IDLE, merged=0, committed={}, inputs={INQUIRIES: (0, 0), SENT: (0, 0)}, replies=(0, 0))
    assert PartitionWatermark().note(empty) == at(0)
    expired = replace(IDLE, committed={}, inputs={INQUIRIES: (3, 3), SENT: (9, 9)})
    assert PartitionWatermark().note(expired) == at(0)


@pytest.mark.parametrize("topic", [INQUIRIES, SENT])
def test_a_matcher_that_stands_still_holds_the_mark(topic: str) -> None:
    passage = PartitionWatermark()
    waiting = replace(IDLE, committed={**IDLE.committed, topic: IDLE.inputs[topic][1] - 1})
    assert [passage.note(replace(waiting, at=at(second))) for second in (0, 5, 5000)] == [None] * 3
    # What waited is read: its answer goes out, and must be merged too.
    joined = replace(IDLE, at=at(5005), replies=(0, 8))
    assert passage.note(joined) is None
    assert passage.note(replace(joined, at=at(5010), merged=8)) == at(5010)


def test_the_mark_is_the_instant_before_its_ends_were_read() -> None:
    passage = PartitionWatermark()
    assert passage.note(replace(IDLE, inputs={**IDLE.inputs, SENT: (0, 6)})) is None
    # More came meanwhile; what the mark waited for is read and merged, the rest is not.
    later = replace(IDLE, at=at(5), inputs={**IDLE.inputs, SENT: (0, 90)}, committed={**IDLE.committed, SENT: 6})
    assert passage.note(later) == at(0)
    assert passage.note(replace(later, at=at(10))) is None


def test_a_topic_that_was_made_anew_begins_anew() -> None:
    passage = PartitionWatermark()
    assert passage.note(replace(IDLE, committed={INQUIRIES: 3, SENT: 0})) is None
    # What the group committed belongs to the topic before; nobody has read the new one.
    anew = replace(IDLE, at=at(5), inputs={INQUIRIES: (0, 3), SENT: (0, 2)}, committed={INQUIRIES: 3, SENT: 5})
    assert passage.note(anew) is None
    read = replace(anew, at=at(10), committed={INQUIRIES: 3, SENT: 2})
    assert passage.note(read) == at(10)


def test_replies_that_were_made_anew_begin_anew() -> None:
    passage = PartitionWatermark()
    joined = replace(IDLE, replies=(0, 9))
    assert passage.note(joined) is None
    # The ledger stands in the topic before: none of the new one's records is merged.
    anew = replace(IDLE, at=at(5), merged=1000, replies=(0, 8))
    assert passage.note(anew) is None
    assert passage.note(replace(anew, at=at(10), merged=0)) is None
    assert passage.note(replace(anew, at=at(15), merged=8)) == at(15)


def test_one_record_that_waits_is_enough_for_however_long() -> None:
    passage = PartitionWatermark()
    assert passage.note(IDLE) == at(0)
    waiting = replace(IDLE, inputs={**IDLE.inputs, SENT: (0, 6)})
    assert [passage.note(replace(waiting, at=at(second))) for second in range(5, 100_000, 500)] == [None] * 200


@pytest.mark.parametrize("seed", range(200))
def test_nothing_that_was_published_before_a_passed_instant_is_uncounted(seed: int) -> None:
    """A world of publishers, a matcher that is now there and now not, a ledger, and looks whose questions lie apart."""
    chance, passage = random.Random(seed), PartitionWatermark()
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
            what = chance.choice(["publish", "join", "join", "commit", "merge", "merge", "nothing"])
            if what == "publish":
                published[topic].append(clock)
            elif what == "join" and joined[topic] < len(published[topic]):
                outputs.append((topic, joined[topic]))
                joined[topic] += 1
            elif what == "commit":
                committed[topic] = joined[topic]
            elif what == "merge":
                merged = min(len(outputs), merged + chance.randrange(3))

    for _ in range(60):
        happens()
        now, stood = clock, merged
        clock += 1
        happens()
        offsets = {topic: offset for topic, offset in committed.items() if offset}
        happens()
        look = Observation(
            at=at(now), merged=stood, committed=offsets,
            inputs={topic: (0, len(times)) for topic, times in published.items()}, replies=(0, len(outputs)),
        )  # fmt: skip
        found = passage.note(look)
        if found is None:
            continue
        assert found > at(passed)
        passed = round((found - BEGIN).total_seconds())
        counted = set(outputs[:stood])
        for topic, times in published.items():
            assert all((topic, offset) in counted for offset, time in enumerate(times) if time <= passed)
    while merged < len(outputs) or committed != {topic: len(times) for topic, times in published.items()}:
        happens()
        committed.update(joined)
    last = Observation(
        at=at(clock + 1), merged=merged, committed=committed,
        inputs={topic: (0, len(times)) for topic, times in published.items()}, replies=(0, len(outputs)),
    )  # fmt: skip
    assert passage.note(last) is not None or passage.note(last) is not None, "it is no trap"
