"""What the fetcher makes of a message, as a person sees it: the same as the fetcher, and each dropped value with its reason."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.hashing import Hasher
from services.mail import messages
from services.mail.headers import FETCHED, MAX_BYTES, Headers, parse
from services.mail.inspection import DropReason, Inspection, NotAMessage, hashes, inspect, select_fields, trusted_times
from services.mail.messages import ParsedMessage

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
HASHER = Hasher(bytes(range(32)))


def message(*lines: str, end: str = "\r\n") -> bytes:
    return end.join([*lines, "", "body"]).encode()


def inspected(*lines: str) -> Inspection:
    raw = message(*lines)
    return inspect(raw, len(raw), NOW)


def dropped(inspection: Inspection) -> Counter[tuple[str, str]]:
    return Counter((value.field, value.reason) for value in inspection.dropped)


def test_a_usual_answer_is_read_completely() -> None:
    inspection = inspected(
        "Received: by mx.example",
        "Message-ID: <1@Mail.test>",
        "In-Reply-To: <ask@platform.example>",
        "References: <first@platform.example> <ask@platform.example>",
        "Date: Wed, 1 Jul 2026 18:00:00 +0800",
        "From: Seller <Seller@Mail.test>",
        'To: "Buyer, Big" <Buyer@Shop.example>',
        "Cc: x@例子.公司",
        "Subject: Re: price",
    )
    assert (inspection.message_id, inspection.identity) == ("1@Mail.test", "message-id")
    assert inspection.in_reply_to == ("ask@platform.example",)
    assert inspection.references == ("first@platform.example", "ask@platform.example")
    assert inspection.recipients == ("buyer@shop.example", "x@xn--fsqu00a.xn--55qx5d")
    assert inspection.senders == ("seller@mail.test",)
    assert inspection.date == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert (inspection.kind, inspection.kind_reason, inspection.dropped) == ("human", None, ())


EXAMPLES: list[tuple[list[str], Counter[tuple[str, str]]]] = [
    (["To: Buyer, b@c.d"], Counter({("to", "no-address"): 1})),
    (["Cc: b@c..d"], Counter({("cc", "not-an-address"): 1})),
    (["Bcc: " + ", ".join(f"a{number}@b.c" for number in range(66))], Counter({("bcc", "over-limit"): 2})),
    (["Message-ID: none"], Counter({("message-id", "no-id"): 1})),
    (["Message-ID: <a\x01b@c>"], Counter({("message-id", "not-an-id"): 1})),
    (["Message-ID: <a@b>", "Message-ID: <c@d>"], Counter({("message-id", "repeated"): 1})),
    (["Message-ID: <a@b> <c@d>"], Counter({("message-id", "over-limit"): 1})),
    (["In-Reply-To: your mail"], Counter({("in-reply-to", "no-id"): 1})),
    (["In-Reply-To: " + " ".join(f"<{number}@b>" for number in range(6))], Counter({("in-reply-to", "over-limit"): 2})),
    (["References: " + " ".join(f"<{number}@b>" for number in range(23))], Counter({("references", "over-limit"): 3})),
    (["Date: soon"], Counter({("date", "not-a-date"): 1})),
    (["Date: Thu, 1 Jan 1998 00:00:00 +0000"], Counter({("date", "not-a-date"): 1})),
    (["Date: Fri, 3 Jul 2026 12:00:00 +0000"], Counter({("date", "in-the-future"): 1})),
    (["Date: Wed, 1 Jul 2026 10:00:00 +0000"] * 2, Counter({("date", "repeated"): 1})),
    (["Subject: " + "x" * MAX_BYTES, "To: b@c.d"], Counter({("header", "truncated"): 1})),
]


@pytest.mark.parametrize(("lines", "expected"), EXAMPLES, ids=lambda part: None)
def test_a_dropped_value_has_its_field_and_a_reason(lines: list[str], expected: Counter[tuple[str, str]]) -> None:
    assert dropped(inspected(*lines)) == expected


def test_every_reason_has_an_example() -> None:
    assert {reason for _, expected in EXAMPLES for _, reason in expected} == set(get_args(DropReason))


def test_the_first_and_the_last_references_and_the_first_recipients_are_used() -> None:
    inspection = inspected(
        "References: " + " ".join(f"<{number}@b>" for number in range(23)),
        "To: " + ", ".join(f"a{number}@b.c" for number in range(66)),
    )
    assert inspection.references == ("0@b", *(f"{number}@b" for number in range(4, 23)))
    assert inspection.recipients == tuple(f"a{number}@b.c" for number in range(64))


def test_fields_that_the_fetcher_does_not_ask_for_count_for_nothing() -> None:
    inspection = inspected("X-Large: " + "x" * 2 * MAX_BYTES, " folded", "To: b@c.d", "X-To: e@f.g", "\tfolded@h.i")
    assert (inspection.recipients, inspection.dropped) == (("b@c.d",), ())
    assert set(parse(inspection.fetched.header).fields) <= set(FETCHED)  # type: ignore[union-attr]


def test_a_message_without_a_message_id_is_identified_by_its_content() -> None:
    inspection = inspected("Date: Wed, 1 Jul 2026 10:00:00 +0000", "From: a@b.c", "To: d@e.f", "Subject: x")
    assert (inspection.message_id, inspection.identity) == (None, "content")
    raw = message("Date: Wed, 1 Jul 2026 10:00:00 +0000", "From: a@b.c", "To: d@e.f", "Subject: x")
    content = "\x1f".join(["Wed, 1 Jul 2026 10:00:00 +0000", "a@b.c", "d@e.f", "x", str(len(raw))])
    assert hashes(inspection, "c1", HASHER, NOW)["message_id"] == HASHER.content("c1", content)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*FETCHED, "received", "x-other"]),
            st.sampled_from(["<1@b>", "a@b.c", "A <x@Y.z>, q", "Wed, 1 Jul 2026 10:00:00 +0000", "no", "\x1b[31m", ""]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_it_says_what_the_fetcher_publishes(fields: list[tuple[str, str]]) -> None:
    raw = message(*(f"{name}: {value}" for name, value in fields))
    try:
        inspection = inspect(raw, len(raw), NOW)
    except NotAMessage:
        assert not {name for name, _ in fields} & set(FETCHED)
        return
    parsed = messages.parse_message("c1", inspection.fetched, HASHER)
    assert isinstance(parsed, ParsedMessage)
    event, ignored = messages.event("c1", "a1", "m1", parsed, HASHER, after=None, first_seen=NOW)
    assert (event.kind, event.kind_reason, event.date_header) == (
        inspection.kind, inspection.kind_reason, inspection.date,
    )  # fmt: skip
    assert event.recipients == tuple(HASHER.address("c1", address) for address in inspection.recipients)
    assert event.in_reply_to == tuple(HASHER.message("c1", text) for text in inspection.in_reply_to)
    assert event.references == tuple(HASHER.message("c1", text) for text in inspection.references)
    if inspection.message_id is not None:
        assert event.message_id == HASHER.message("c1", inspection.message_id)
    assert hashes(inspection, "c1", HASHER, NOW)["message_id"] == event.message_id
    # What the fetcher counts in replyrate_fetcher_headers_dropped_total has its reason here.
    counted = sum(
        count
        for (field, reason), count in dropped(inspection).items()
        if field not in ("from", "message-id") and reason in ("not-an-address", "not-an-id")
    )
    assert counted >= ignored


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: b"To: " + text.encode("utf-8", "replace")))
def test_no_bytes_make_it_fail_in_any_other_way(raw: bytes) -> None:
    try:
        inspection = inspect(raw, len(raw), NOW)
    except NotAMessage:
        return
    assert isinstance(parse(inspection.fetched.header), Headers)
    assert len(inspection.fetched.header) <= MAX_BYTES


def test_an_mbox_envelope_is_no_field_and_the_body_is_not_read() -> None:
    selected, has_header = select_fields(b"From a@b Wed Jul  1\nTo: b@c.d\n more@c.d\nX: y\n\nTo: body@x.y\n")
    assert (selected, has_header) == (b"To: b@c.d\n more@c.d\n", True)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"hello\n", "no header field at its start"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "binary data"),
        (b"Received: by mx\r\n\r\n", "none of the header fields that the fetcher reads"),
    ],
)
def test_what_is_no_message_is_refused_with_the_reason(raw: bytes, words: str) -> None:
    with pytest.raises(NotAMessage, match=words):
        inspect(raw, len(raw), NOW)


def test_the_time_that_counts_depends_on_when_the_message_was_seen() -> None:
    times = trusted_times(NOW - timedelta(days=3), NOW)
    assert {situation: (time.basis, time.evidence) for situation, time in times.items()} == {
        "regular-poll": ("date", "verified"), "gap": ("date", "suspect"), "first-scan": ("date", "suspect"),
    }  # fmt: skip
    for date in (None, NOW + timedelta(hours=20)):
        assert {(time.basis, time.evidence) for time in trusted_times(date, NOW).values()} == {
            ("interval-end", "suspect")
        }
