"""The decision what becomes of each message of a batch: laws over drawn batches, and one example of each class."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common import codec, metrics
from services.common.events import MESSAGE_SENT, Kind, MessageSent
from services.common.hashing import Hasher
from services.fetcher import publication
from services.fetcher.poll_report import metrics_from_zero
from services.fetcher.publication import (
    BEHIND_HORIZON,
    DUPLICATE,
    DroppedMessage,
    FetchedBatch,
    ParsedBatch,
    PublicationPlan,
    Sighting,
    Unreadable,
    decide,
    parse_batch,
)
from services.mail import messages
from services.mail.headers import Skipped
from services.mail.messages import ParsedMessage
from services.mail.values import FetchedHeader

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
HORIZON = timedelta(days=60)
EARLIEST = NOW - HORIZON
HASHER = Hasher(bytes(range(32)))
Published = dict[str, tuple[datetime, bytes]]


def header(
    uid: int,
    *,
    name: int | str | None = None,
    sent: datetime | None = NOW - timedelta(hours=1),
    filed: datetime | None = None,
    draft: bool = False,
) -> FetchedHeader:
    lines = [f"Message-ID: <{uid if name is None else name}@mail.test>", "To: buyer@shop.example"]
    if sent is not None:
        lines.append(f"Date: {sent:%a, %d %b %Y %H:%M:%S} +0000")
    raw = "\r\n".join([*lines, "", ""]).encode()
    return FetchedHeader(uid, sent if filed is None else filed, None, 100, draft, raw)


def sighting(*, since: datetime | None = None, rescan: bool = False) -> Sighting:
    return Sighting("c1", "a1", "m1", NOW, since, EARLIEST, rescan)


def batch(*headers: FetchedHeader, unreadable: tuple[Unreadable, ...] = ()) -> FetchedBatch:
    return FetchedBatch(1, [part.uid for part in headers], headers, unreadable)


def plan(
    *headers: FetchedHeader, published: Published | None = None, seen: Sighting | None = None
) -> PublicationPlan:  # fmt: skip
    return decide(parse_batch("c1", batch(*headers), HASHER), published or {}, seen or sighting(), HASHER)


def identity(name: int | str) -> str:
    return str(HASHER.message("c1", f"{name}@mail.test"))


def sent_record(record: bytes) -> MessageSent:
    event = codec.decode(record, accept=frozenset({MESSAGE_SENT})).data
    assert isinstance(event, MessageSent)
    return event


# Few names and instants around the horizon, so that copies and every class are drawn often.
instants = st.none() | st.sampled_from(
    [timedelta(0), timedelta(minutes=30), timedelta(days=30), HORIZON - timedelta(1), HORIZON, HORIZON + timedelta(1)]
).map(lambda age: NOW - age)
drawn_headers = st.lists(
    st.tuples(st.integers(1, 5), instants, instants, st.booleans()), max_size=8
).map(
    lambda rows: [
        header(uid, name=name, sent=sent, filed=filed, draft=draft)
        for uid, (name, sent, filed, draft) in enumerate(rows, 1)
    ]
)  # fmt: skip
drawn_published = st.dictionaries(
    st.integers(1, 5).map(identity), st.tuples(instants.map(lambda at: at or NOW), st.binary(min_size=1, max_size=4))
)
drawn_sightings = st.builds(
    lambda since, rescan: sighting(since=since, rescan=rescan),
    st.none() | st.just(NOW - timedelta(minutes=10)) | st.just(NOW - timedelta(days=2)),
    st.booleans(),
)


@given(drawn_headers, drawn_published, drawn_sightings)
def test_every_message_is_in_exactly_one_class(
    headers: list[FetchedHeader], published: Published, seen: Sighting
) -> None:
    decided = plan(*headers, published=published, seen=seen)
    uids = [planned.uid for planned in decided.records]
    uids += [message.uid for message in decided.unreadable] + [message.uid for message in decided.dropped]
    assert sorted(uids) == [fetched.uid for fetched in headers]
    assert {message.reason for message in decided.dropped} <= set(metrics.DROP_REASONS["fetcher"])


@given(drawn_headers, drawn_published, drawn_sightings)
def test_a_message_published_before_is_published_again_unchanged(
    headers: list[FetchedHeader], published: Published, seen: Sighting
) -> None:
    decided = plan(*headers, published=published, seen=seen)
    assert not decided.new.keys() & published.keys()
    new = {message.record for message in decided.new.values()}
    parsed = {
        message.fetched.uid: message.message_id for message in parse_batch("c1", batch(*headers), HASHER).messages
    }
    for planned in decided.records:
        message_id = parsed[planned.uid]
        if message_id in published:
            assert planned.record == published[message_id][1]
        else:
            assert planned.record in new
    again = Counter(parsed[planned.uid] for planned in decided.records if parsed[planned.uid] in published)
    present = Counter(message_id for message_id in parsed.values() if message_id in published)
    assert again == {key: count for key, count in present.items() if published[key][0] >= seen.earliest}


@given(drawn_headers, drawn_published, drawn_sightings)
def test_nothing_within_the_horizon_is_lost(headers: list[FetchedHeader], published: Published, seen: Sighting) -> None:
    decided = plan(*headers, published=published, seen=seen)
    sent = {sent_record(message.record).message_id for message in decided.new.values()}
    assert sent == decided.new.keys()
    parsed = parse_batch("c1", batch(*headers), HASHER)
    for message in parsed.messages:
        if message.message_id in published:
            continue
        # Neither the server nor the message itself places it before the horizon.
        clocks = [at for at in (message.fetched.internal_date, message.headers.date) if at is not None]
        if all(at >= seen.earliest for at in clocks):
            assert message.message_id in sent
    for first in decided.new.values():
        assert first.sent_at >= seen.earliest


@given(drawn_headers, drawn_published, drawn_sightings, st.randoms(use_true_random=False))
def test_the_order_of_the_messages_does_not_matter(
    headers: list[FetchedHeader], published: Published, seen: Sighting, chance: Random
) -> None:
    shuffled = chance.sample(headers, len(headers))

    def classes(decided: PublicationPlan) -> tuple[object, ...]:
        dropped = sorted(decided.dropped, key=lambda message: message.uid)
        return decided.records, decided.new, decided.unreadable, dropped, decided.values_dropped

    before, after = (classes(plan(*order, published=published, seen=seen)) for order in (headers, shuffled))
    assert before == after


@given(drawn_headers, drawn_published, drawn_sightings)
def test_a_repeated_batch_changes_nothing(headers: list[FetchedHeader], published: Published, seen: Sighting) -> None:
    first = plan(*headers, published=published, seen=seen)
    remembered = published | {key: (message.sent_at, message.record) for key, message in first.new.items()}
    second = plan(*headers, published=remembered, seen=seen)
    assert not second.new
    assert {planned.record for planned in second.records} == {planned.record for planned in first.records}
    # Copies in one batch change nothing either: each message is new once.
    copies = [header(uid + 100, name=1, sent=NOW - timedelta(hours=1)) for uid in range(3)]
    assert len(plan(*copies, seen=sighting()).new) == 1


def test_a_new_message_gets_its_record() -> None:
    decided = plan(header(7, sent=NOW - timedelta(minutes=5)), seen=sighting(since=NOW - timedelta(minutes=10)))
    (planned,) = decided.records
    event = sent_record(planned.record)
    assert (event.message_id, event.evidence, event.mailbox_id) == (identity(7), "verified", "m1")
    assert decided.new[identity(7)].record == planned.record


def test_of_two_copies_the_one_with_the_lower_uid_is_published() -> None:
    decided = plan(
        header(9, name="a", sent=NOW - timedelta(minutes=60)), header(4, name="a", sent=NOW - timedelta(minutes=65))
    )
    assert [planned.uid for planned in decided.records] == [4]
    assert decided.new[identity("a")].sent_at == NOW - timedelta(minutes=65)
    assert decided.dropped == [DroppedMessage(9, DUPLICATE)]


def addressed(uid: int, to: str, sent: datetime, *more: str) -> FetchedHeader:
    lines = ["Message-ID: <a@mail.test>", f"To: {to}", f"Date: {sent:%a, %d %b %Y %H:%M:%S} +0000", *more, "", ""]
    return FetchedHeader(uid, sent, None, 100, False, "\r\n".join(lines).encode())


LATER = NOW - timedelta(hours=3)
FIRST = addressed(1, "buyer@shop.example", NOW - timedelta(hours=30))


@pytest.mark.parametrize(
    ("second", "two"),
    [
        (addressed(2, "other@shop.example", LATER), True),
        (addressed(2, "buyer@shop.example", LATER), True),
        (addressed(2, "other@shop.example", NOW - timedelta(hours=30)), True),
        (addressed(2, "buyer@shop.example, other@shop.example", NOW - timedelta(hours=30)), True),
        (addressed(2, "", NOW - timedelta(hours=30)), False),
        (addressed(2, "buyer@shop.example", NOW - timedelta(hours=30, minutes=-5)), False),
    ],
    ids=["both", "date", "recipient", "one-more-recipient", "copy-without-bcc", "copy-minutes-later"],
)
@pytest.mark.parametrize("together", [True, False])
def test_one_message_id_with_other_content_is_another_message(second: FetchedHeader, two: bool, together: bool) -> None:
    if together:
        first = decided = plan(FIRST, second)
    else:
        first = plan(FIRST)
        decided = plan(second, published={key: (sent.sent_at, sent.record) for key, sent in first.new.items()})
    new = {**first.new, **decided.new}
    assert len(new) == (2 if two else 1) and identity("a") in first.new
    # Whatever of them is forgotten or comes first, a message that was published stays the same.
    stored = {key: (sent.sent_at, sent.record) for key, sent in new.items()}
    again = plan(second, FIRST, published=stored)
    assert not again.new and {planned.record for planned in again.records} == {record for _, record in stored.values()}
    without_first = {key: value for key, value in stored.items() if key != identity("a")}
    if two:
        assert not plan(second, published=without_first).new


def test_a_rescan_takes_a_message_that_an_earlier_version_read_otherwise_for_the_published_one() -> None:
    """The parser finds one more recipient than it did when the message was published."""
    stored = {key: (sent.sent_at, sent.record) for key, sent in plan(FIRST).new.items()}
    read_again = addressed(1, "buyer@shop.example, other@shop.example", NOW - timedelta(hours=30))
    rescan = sighting(since=NOW - timedelta(minutes=10), rescan=True)
    assert not plan(read_again, published=stored, seen=rescan).new
    moved = replace(read_again, internal_date=LATER)
    assert plan(moved, published=stored, seen=rescan).new


@pytest.mark.parametrize("field", ["In-Reply-To", "References"])
@pytest.mark.parametrize(
    ("asked", "two"), [("<q2@platform.example>", True), ("<q1@platform.example>", False), ("", False)]
)
def test_one_message_id_in_another_conversation_is_another_message(field: str, asked: str, two: bool) -> None:
    """A mailer with one id for all its mails answers two inquiries within minutes, at the address that they share."""
    first = addressed(1, "inbox@platform.example", NOW - timedelta(hours=2), f"{field}: <q1@platform.example>")
    second = addressed(2, "inbox@platform.example", NOW - timedelta(hours=2, minutes=-3), f"{field}: {asked}")
    assert len(plan(first, second).new) == (2 if two else 1)


def test_a_message_behind_the_horizon_is_dropped_in_each_of_its_forms() -> None:
    old = EARLIEST - timedelta(hours=2)
    fresh = plan(header(1, sent=old))
    rescanned = plan(header(1, sent=old), seen=sighting(since=NOW - timedelta(days=1), rescan=True))
    again = plan(header(1, sent=NOW), published={identity(1): (old, b"record")})
    for decided in (fresh, rescanned, again):
        assert (decided.records, decided.dropped) == ([], [DroppedMessage(1, BEHIND_HORIZON)])


def test_a_rescan_takes_a_message_within_the_horizon_for_one_sent_since_the_last_poll() -> None:
    since = NOW - timedelta(days=1)
    decided = plan(header(1, sent=NOW - timedelta(days=30)), seen=sighting(since=since, rescan=True))
    assert decided.new[identity(1)].sent_at == NOW and decided.new[identity(1)].suspect


def test_drafts_and_messages_without_headers_are_dropped_with_their_reason() -> None:
    empty = FetchedHeader(2, NOW, None, 0, False, b"\r\n")
    assert parse_batch("c1", batch(header(1, draft=True), empty), HASHER) == ParsedBatch(
        [], [], [DroppedMessage(1, "draft"), DroppedMessage(2, "empty")]
    )


def test_an_error_in_the_parser_costs_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = messages.parse_message

    def failing(company_id: str, fetched: FetchedHeader, hasher: Hasher) -> ParsedMessage | Skipped:
        if fetched.uid == 2:
            raise RecursionError
        return parse(company_id, fetched, hasher)

    monkeypatch.setattr(messages, "parse_message", failing)
    refused = Unreadable(4, "the server refuses to show it")
    parsed = parse_batch("c1", batch(header(1), header(2), header(3), unreadable=(refused,)), HASHER)
    assert [message.fetched.uid for message in parsed.messages] == [1, 3]
    assert parsed.unreadable == [refused, Unreadable(2, "parsing failed (RecursionError)")]


def test_an_event_that_cannot_be_made_costs_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = parse_batch("c1", batch(header(1), header(2)), HASHER)
    make = publication.first_record

    def failing(message: ParsedMessage, seen: Sighting, hasher: Hasher) -> object:
        if message.fetched.uid == 1:
            raise ValueError("an address")
        return make(message, seen, hasher)

    monkeypatch.setattr(publication, "first_record", failing)
    decided = decide(parsed, {}, sighting(), HASHER)
    assert [planned.uid for planned in decided.records] == [2]
    assert decided.unreadable == [Unreadable(1, "no event can be made of it (ValueError)")]


def test_every_reason_is_counted_from_zero() -> None:
    metrics_from_zero()
    samples = [
        sample
        for family in metrics.MESSAGES_DROPPED.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    ]
    assert {sample.labels["reason"] for sample in samples} == {"draft", "empty", BEHIND_HORIZON, DUPLICATE}
    kinds = {sample.labels["kind"] for family in metrics.MESSAGES_SEEN.collect() for sample in family.samples}
    assert set(get_args(Kind)) <= kinds
