"""Events and records as Hypothesis strategies, with emphasis on the limits of the contract.

`events(kind)` gives valid events, `records(kind)` them as bytes with an envelope, `broken(record)` the same record with
one change, which may or may not make it invalid.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st

from services.common import codec
from services.common.events import (
    TYPES,
    Basis,
    Buyer,
    CompanyErased,
    DeadLetter,
    Event,
    Evidence,
    HashedBuyer,
    InquiryReceived,
    InquiryReplies,
    Kind,
    MatchedBy,
    MessageSent,
    ReplyFact,
    ReplyRecorded,
    Status,
    StatusChanged,
    StatusFact,
)

BASE = datetime(2026, 3, 2, 1, 15, tzinfo=UTC)
SOURCE = "tests"

_letters = st.characters(exclude_categories=["Cs", "Cc"])
ids = st.one_of(
    st.sampled_from(["c-1", "a-1", "i-1", "x", "買" * 128, "\U0001f600" * 128, "a b", "Ä", "A\u0308", '"\\/']),
    st.text(_letters, min_size=1, max_size=128),
)
codes = st.one_of(st.sampled_from(["auto-submitted", "r" * 64]), st.text(_letters, min_size=1, max_size=64))
hashes = st.one_of(st.sampled_from(["0" * 32, "f" * 32, "ab" * 16]), st.binary(min_size=16, max_size=16).map(bytes.hex))
regions = st.sampled_from(["CN", "DE", "ZZ", "AA"])
addresses = st.one_of(
    st.sampled_from(
        ["buyer@example.com", "Buyer <Buyer@Example.com>", "", "no address", "x@bücher.example", "a@b\u0000"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)
message_ids = st.one_of(st.sampled_from(["<1@example.com>", "1@example.com", ""]), addresses)
instants = st.one_of(
    st.sampled_from(
        [
            codec.EARLIEST,
            BASE,
            BASE + timedelta(microseconds=1),
            BASE + codec.LEAD,
            datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
        ]
    ),
    st.datetimes(datetime(2000, 1, 1), datetime(2026, 3, 3), timezones=st.just(UTC)),
    st.integers(-7200, 7200).map(lambda seconds: BASE + timedelta(seconds=seconds)),
)


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """`values`, or nothing."""
    return st.none() | values


def several(values: st.SearchStrategy[Any], limit: int) -> st.SearchStrategy[tuple[Any, ...]]:
    """Tuples of up to `limit` values, often with repeats, sometimes at the limit."""
    return st.one_of(
        st.lists(values, max_size=min(limit, 4)),
        values.map(lambda value: [value] * limit),
        st.lists(values, min_size=min(limit, 8), max_size=min(limit, 8)),
    ).map(tuple)


def one_of_literal(literal: Any) -> st.SearchStrategy[Any]:
    """One value of a Literal."""
    return st.sampled_from(get_args(literal))


buyers = st.builds(
    Buyer, id=ids, addresses=several(addresses, 8), region=optional(regions), sent_from_region=optional(regions)
)
inquiries_received = st.builds(
    InquiryReceived,
    company_id=ids,
    account_id=ids,
    inquiry_id=ids,
    received_at=instants,
    buyer=buyers,
    message_ids=several(message_ids, 8),
    reply_addresses=several(addresses, 4),
    thread_id=optional(ids),
    channel=st.sampled_from(["inquiry", "chat"]),
)
_status = one_of_literal(Status)
statuses_changed = st.builds(
    StatusChanged, company_id=ids, inquiry_id=ids, status=_status, at=instants, account_id=optional(ids)
).filter(lambda event: event.status != "reassigned" or event.account_id is not None)
replies_recorded = st.builds(
    ReplyRecorded,
    company_id=ids,
    account_id=ids,
    inquiry_id=ids,
    reply_id=ids,
    replied_at=instants,
    channel=ids,
    automatic=st.booleans(),
)
companies_erased = st.builds(CompanyErased, company_id=ids, at=instants)
messages_sent = st.builds(
    MessageSent,
    company_id=ids,
    account_id=ids,
    mailbox_id=ids,
    message_id=hashes,
    sent_at=instants,
    sent_at_basis=one_of_literal(Basis),
    evidence=one_of_literal(Evidence),
    kind=one_of_literal(Kind),
    kind_reason=optional(codes),
    date_header=optional(instants),
    internal_date=optional(instants),
    save_date=optional(instants),
    filed_after=optional(instants),
    filed_before=optional(instants),
    recipients=several(hashes, 64),
    in_reply_to=several(hashes, 4),
    references=several(hashes, 20),
    senders=several(hashes, 4),
)
hashed_buyers = st.builds(
    HashedBuyer, id=ids, addresses=several(hashes, 64), region=optional(regions), sent_from_region=optional(regions)
)
status_facts = st.builds(StatusFact, status=_status, at=instants, account_id=optional(ids))
reply_facts = st.builds(
    ReplyFact,
    reply_id=ids,
    source=st.sampled_from(["mail", "platform"]),
    account_id=ids,
    mailbox_id=optional(ids),
    replied_at=instants,
    evidence=optional(one_of_literal(Evidence)),
    kind=one_of_literal(Kind),
    kind_reason=optional(codes),
    matched_by=one_of_literal(MatchedBy),
)
inquiry_replies = st.builds(
    InquiryReplies,
    company_id=ids,
    inquiry_id=ids,
    account_id=optional(ids),
    received_at=optional(instants),
    buyer=optional(hashed_buyers),
    message_ids=several(hashes, 64),
    reply_addresses=several(hashes, 64),
    thread_id=optional(ids),
    channel=optional(ids),
    facts_id=optional(hashes),
    statuses=st.lists(status_facts, max_size=3).map(tuple),
    replies=st.lists(reply_facts, max_size=3).map(tuple),
)
counts = st.sampled_from([0, 1, 2**31, 2**63 - 1])
dead_letters = st.builds(
    DeadLetter,
    reason=codes,
    detail=st.text(_letters, max_size=40) | st.just("d" * 1024),
    service=ids,
    service_version=ids,
    at=instants,
    topic=optional(ids),
    partition=optional(counts),
    offset=optional(counts),
    key=optional(st.text(_letters, max_size=20)),
    value=optional(st.just("e30=")),
    mailbox_id=optional(ids),
    uidvalidity=optional(counts),
    uid=optional(counts),
)
BY_TYPE: dict[type[msgspec.Struct], st.SearchStrategy[Any]] = {
    InquiryReceived: inquiries_received,
    StatusChanged: statuses_changed,
    ReplyRecorded: replies_recorded,
    CompanyErased: companies_erased,
    MessageSent: messages_sent,
    InquiryReplies: inquiry_replies,
    DeadLetter: dead_letters,
}


def events(kind: type[msgspec.Struct] | None = None) -> st.SearchStrategy[Event]:
    """Valid events, of one kind or of any."""
    return st.one_of(*BY_TYPE.values()) if kind is None else BY_TYPE[kind]


def records(kind: type[msgspec.Struct] | None = None) -> st.SearchStrategy[bytes]:
    """Valid records: every instant is within a day of the envelope's time."""
    return st.builds(
        lambda event, id: codec.encode(event, id=id, source=SOURCE, time=BASE + timedelta(hours=12)),
        events(kind),
        ids,
    )


@dataclass(frozen=True, slots=True)
class Broken:
    """A record with one change, and a description of the change."""

    record: bytes
    change: str


_values: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, True, False, 0, -1, 1.5, "", "x", "x" * 64, "x" * 65, "x" * 128, "x" * 129, "x\n", "\u0000", "\u0085", "\u2028",
        [], {}, [None], ["x"], ["a" * 32] * 4, ["a" * 32] * 5, ["a" * 32] * 9, ["a" * 32] * 21, ["a" * 32] * 65, "A" * 32,
        "a" * 32, "a" * 32 + "\n", "CN", "CN\n", "cn", "CHN", "spam", "reassigned", "human", "x" * 512, "x" * 513, "d" * 1025,
        "2026-03-02T01:15:00Z", "2026-03-02T01:15:00.1234567Z", "2026-03-02T01:15:00", "2026-03-02T01:15:00+00:00",
        "2026-03-02t01:15:00z", "2026-03-02 01:15:00Z", "2026-03-02T24:00:00Z", "2026-02-29T00:00:00Z",
        "2024-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2016-12-31T23:59:60Z", "2026-03-02T01:15:00Z\n", "2026-03-02",
        "1999-12-31T23:59:59.999999Z", "2000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "0000-01-01T00:00:00Z",
        "2026-13-01T00:00:00Z", "٢٠٢٦-03-02T01:15:00Z", "2026-03-02T01:15:00.Z", "2026-03-02T01:15Z", "20260302T011500Z",
        *TYPES,
    ]
)  # fmt: skip


@st.composite
def broken(draw: st.DrawFn, kind: type[msgspec.Struct] | None = None) -> Broken:
    """A valid record with one part removed, replaced, added or repeated."""
    document = json.loads(draw(records(kind)))
    places = list(_places(document))
    parent, name = draw(st.sampled_from(places))
    change: Callable[[Any, Any], str] = draw(st.sampled_from([_removed, _replaced(draw(_values)), _repeated]))
    description = change(parent, name)
    return Broken(json.dumps(document, ensure_ascii=False).encode(), description)


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in items:
        yield value, name
        yield from _places(part)


def _removed(parent: Any, name: Any) -> str:
    del parent[name]
    return f"{name} removed"


def _replaced(value: Any) -> Callable[[Any, Any], str]:
    def replace(parent: Any, name: Any) -> str:
        parent[name] = value
        return f"{name} = {value!r}"

    return replace


def _repeated(parent: Any, name: Any) -> str:
    if isinstance(parent[name], list):
        parent[name] = parent[name] * 2
        return f"{name} twice as long"
    if isinstance(parent[name], str):
        parent[name] = parent[name] * 2
        return f"{name} twice"
    if isinstance(parent, dict):
        parent[f"{name}_too"] = parent[name]
        return f"{name} under another name"
    parent.append(parent[name])
    return f"{name} once more"
