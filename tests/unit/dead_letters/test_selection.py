"""Which dead letters a dry run chooses and a confirmation finds again, without a broker."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.events import DeadLetter
from services.dead_letters.letters import DeadLetterRecord, DeadLetters, NoSuchLetter, Spans, spans_of
from services.dead_letters.selection import (
    MAIL,
    LetterQuery,
    Selection,
    SelectionChanged,
    chosen_spans,
    confirmed,
    merged,
    overlap,
)

AT = datetime(2026, 11, 30, tzinfo=UTC)
spans = st.dictionaries(
    st.integers(0, 2),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)).map(lambda run: (run[0], run[0] + run[1])), max_size=5),
    max_size=3,
)


def letter(offset: int, reason: str = "schema", **place: Any) -> DeadLetterRecord:
    data = DeadLetter(reason=reason, detail="", service="matcher", service_version="0", at=AT, **place)
    return DeadLetterRecord(0, offset, b"c1", data, 0)


class FakeLetters:
    """Letters in partition 0, of which some are open."""

    def __init__(self, *records: DeadLetterRecord) -> None:
        self.records = {record.offset: record for record in records}
        self.open_offsets = set(self.records)

    def waiting(self) -> Spans:
        return {0: [(offset, offset + 1) for offset in sorted(self.open_offsets)]}

    def at(self, position: str) -> DeadLetterRecord:
        offset = int(position.partition("/")[2])
        if offset not in self.records:
            raise NoSuchLetter(position)
        return self.records[offset]

    def read(self, spans_: Spans) -> Iterator[DeadLetterRecord]:
        for first, end in merged(spans_).get(0, []):
            yield from (self.records[offset] for offset in range(first, end))


def offsets_of(chosen: Spans) -> set[tuple[int, int]]:
    return {(partition, offset) for partition, runs in chosen.items() for a, b in runs for offset in range(a, b)}


@given(spans, spans)
def test_spans_are_sets_of_offsets(
    left: dict[int, list[tuple[int, int]]], right: dict[int, list[tuple[int, int]]]
) -> None:
    joined, common = merged(left), overlap(merged(left), merged(right))
    assert offsets_of(joined) == offsets_of(left)
    assert all(runs[i][1] < runs[i + 1][0] for runs in joined.values() for i in range(len(runs) - 1))
    assert offsets_of(common) == offsets_of(left) & offsets_of(right)
    assert (Selection.of(left) == Selection.of(right)) == (offsets_of(left) == offsets_of(right))


@given(st.sets(st.integers(0, 30)))
def test_positions_in_order_are_joined_as_they_come(offsets: set[int]) -> None:
    spans_ = spans_of(letter(offset) for offset in sorted(offsets))
    assert merged(spans_) == spans_ and offsets_of(spans_) == {(0, offset) for offset in offsets}


def test_letters_are_chosen_by_topic_reason_and_position() -> None:
    fake = FakeLetters(
        letter(0, topic="inquiries.v1"), letter(1, "late", topic="inquiries.v1"), letter(2, mailbox_id="m1"),
        letter(3, topic="sent-messages.v1"),
    )  # fmt: skip
    letters = cast(DeadLetters, fake)
    for query, wanted in {
        LetterQuery(): {0, 1, 2, 3},
        LetterQuery(topic="inquiries.v1"): {0, 1},
        LetterQuery(topic="inquiries.v1", reason="late"): {1},
        LetterQuery(topic=MAIL): {2},
        LetterQuery(position="0/3"): {3},
        LetterQuery(position="0/3", reason="late"): set(),
    }.items():
        assert {offset for _, offset in offsets_of(chosen_spans(letters, query))} == wanted, query
    fake.open_offsets = {0, 1}
    assert chosen_spans(letters, LetterQuery(position="0/3")) == {}
    with pytest.raises(NoSuchLetter):
        chosen_spans(letters, LetterQuery(position="0/9"))


def test_a_confirmation_takes_the_letters_of_its_dry_run_or_none() -> None:
    fake = FakeLetters(letter(0), letter(1, "late"), letter(2))
    letters, query = cast(DeadLetters, fake), LetterQuery(reason="schema")
    shown = Selection.of(chosen_spans(letters, query))
    assert (shown.letters, shown.ends) == (2, {0: 3})
    fake.records[3] = letter(3)
    fake.open_offsets.add(3)
    reports: list[tuple[int, int]] = []
    confirmed(letters, query, shown, lambda done, total: reports.append((done, total)))
    assert reports and reports[0][0] == 0 < reports[0][1], "a confirmation that reads letters tells how many"
    assert offsets_of(confirmed(letters, query, shown)) == {(0, 0), (0, 2)}, "a letter that arrived later is not taken"
    fake.open_offsets.remove(1)
    assert offsets_of(confirmed(letters, query, shown)) == {(0, 0), (0, 2)}, (
        "a letter that was not chosen does not matter"
    )
    fake.open_offsets.remove(2)
    with pytest.raises(SelectionChanged):
        confirmed(letters, query, shown)
