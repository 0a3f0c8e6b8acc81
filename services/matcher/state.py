"""What the matcher remembers, and how two memories of one thing merge.

Four kinds of entries, each under a key that begins with its kind and its company:

    i company ‖ 0x1f ‖ inquiry_id            Inquiry: the joined state, as it is published
    k company ‖ 0x1f ‖ hash                  JoinKey: inquiries that wait on an address or id, days with messages
    d company ‖ 0x1f ‖ hash ‖ 0x1f ‖ day     JoinDay: messages of that UTC day that carried it
    e company                                Erasure: facts up to this instant are forgotten

Every merge is a set union with bounds: commutative, associative, idempotent (tests/properties/test_matcher_laws.py).
An entry never grows without bound; what a bound cuts is counted by the caller.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from services.common.events import HashedBuyer, InquiryReplies, ReplyFact, StatusFact

SEPARATOR: Final = b"\x1f"
GRACE: Final = timedelta(seconds=300)
"""A reply may carry a clock that runs this far before the inquiry's."""
MAIL_REPLIES: Final = 4
PLATFORM_REPLIES: Final = 64
STATUSES: Final = 16
HASHES: Final = 64
JOIN_KEY_INQUIRIES: Final = 256
JOIN_DAY_MESSAGES: Final = 256
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

IN_REPLY_TO: Final = 1
REFERENCES: Final = 2
RECIPIENT: Final = 4


class MessageEntry(msgspec.Struct, gc=False, frozen=True, array_like=True, order=True):
    """A sent message under one of its hashes: what an inquiry needs to make a reply of it."""

    sent_at: datetime
    message_id: str
    account_id: str
    mailbox_id: str
    kind: str
    kind_reason: str
    evidence: str
    roles: int
    """How the hash stands in the message: IN_REPLY_TO, REFERENCES, RECIPIENT."""


class JoinKeyEntry(msgspec.Struct, gc=False, array_like=True):
    """Who waits on a hash (inquiry_id → day of received_at), and on which days messages carried it."""

    inquiries: dict[str, int] = {}
    days: list[int] = []


class JoinDayEntry(msgspec.Struct, gc=False, array_like=True):
    """The messages of one day, ascending."""

    messages: list[MessageEntry] = []


class ErasureEntry(msgspec.Struct, gc=False, array_like=True):
    """Facts of the company up to `at` are forgotten."""

    at: datetime


Entry = InquiryReplies | JoinKeyEntry | JoinDayEntry | ErasureEntry


def inquiry_key(company_id: str, inquiry_id: str) -> bytes:
    """Key of an inquiry's entry."""
    return f"i{company_id}\x1f{inquiry_id}".encode()


def join_key(company_id: str, hashed: str) -> bytes:
    """Key of the entry of an address or Message-ID."""
    return f"k{company_id}\x1f{hashed}".encode()


def join_day(company_id: str, hashed: str, day: int) -> bytes:
    """Key of the entry of an address or Message-ID on one day."""
    return f"d{company_id}\x1f{hashed}\x1f{day}".encode()


def erasure_key(company_id: str) -> bytes:
    """Key of the entry that says up to when a company was erased."""
    return f"e{company_id}".encode()


def company_prefixes(company_id: str) -> tuple[bytes, bytes, bytes]:
    """What the keys of a company's entries begin with, its erasure aside."""
    name = company_id.encode() + SEPARATOR
    return b"i" + name, b"k" + name, b"d" + name


def company_of(key: bytes) -> str:
    """The company of an entry's key."""
    return key[1:].partition(SEPARATOR)[0].decode()


def day_of(at: datetime) -> int:
    """UTC day, counted from 1970-01-01."""
    return (at - EPOCH).days


_KINDS: Final[dict[bytes, type[Any]]] = {
    b"i": InquiryReplies,
    b"k": JoinKeyEntry,
    b"d": JoinDayEntry,
    b"e": ErasureEntry,
}
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODERS = {kind: msgspec.msgpack.Decoder(cls) for kind, cls in _KINDS.items()}


def pack(entry: Entry) -> bytes:
    """An entry as it is stored and written to the changelog."""
    return _ENCODER.encode(entry)


def unpack(key: bytes, value: bytes) -> Entry:
    """The entry under `key`."""
    entry: Entry = _DECODERS[key[:1]].decode(value)
    return entry


def merge(key: bytes, one: bytes, other: bytes) -> bytes:
    """Two stored values of one key as one: recovery merges, so that an old value takes nothing away."""
    if one == other:
        return one
    a, b = unpack(key, one), unpack(key, other)
    if isinstance(a, InquiryReplies) and isinstance(b, InquiryReplies):
        return pack(merge_inquiries(a, b))
    if isinstance(a, JoinKeyEntry) and isinstance(b, JoinKeyEntry):
        return pack(merge_keys(a, b))
    if isinstance(a, JoinDayEntry) and isinstance(b, JoinDayEntry):
        return pack(JoinDayEntry(sorted({*a.messages, *b.messages})[:JOIN_DAY_MESSAGES]))
    if isinstance(a, ErasureEntry) and isinstance(b, ErasureEntry):
        return pack(ErasureEntry(max(a.at, b.at)))
    raise TypeError("two kinds of entries under one key")


def merge_keys(one: JoinKeyEntry, other: JoinKeyEntry) -> JoinKeyEntry:
    """Union; of two days for one inquiry the earlier."""
    inquiries = dict(one.inquiries)
    for inquiry_id, day in other.inquiries.items():
        inquiries[inquiry_id] = min(day, inquiries.get(inquiry_id, day))
    kept = sorted(inquiries)[:JOIN_KEY_INQUIRIES]
    return JoinKeyEntry({inquiry_id: inquiries[inquiry_id] for inquiry_id in kept}, sorted({*one.days, *other.days}))


def merge_inquiries(one: InquiryReplies, other: InquiryReplies) -> InquiryReplies:
    """The union of what two states of one inquiry know, within the bounds of the contract."""
    if one == other:
        return one
    if other.received_at is None:
        # A reply or a status for an inquiry that is held: nothing but the facts can change.
        return msgspec.structs.replace(
            one,
            statuses=bounded_statuses({*one.statuses, *other.statuses}) if other.statuses else one.statuses,
            replies=bounded_replies({*one.replies, *other.replies}, one.received_at) if other.replies else one.replies,
        )
    known = [state for state in (one, other) if state.received_at is not None]
    chosen = min(known, key=_seniority, default=one)
    received_at = chosen.received_at
    buyer = None
    if chosen.buyer is not None:
        addresses = _smallest({a for state in (one, other) if state.buyer for a in state.buyer.addresses})
        buyer = msgspec.structs.replace(chosen.buyer, addresses=addresses)
    return InquiryReplies(
        company_id=one.company_id,
        inquiry_id=one.inquiry_id,
        account_id=chosen.account_id,
        received_at=received_at,
        buyer=buyer,
        message_ids=_smallest({*one.message_ids, *other.message_ids}),
        reply_addresses=_smallest({*one.reply_addresses, *other.reply_addresses}),
        thread_id=chosen.thread_id,
        channel=chosen.channel,
        facts_id=chosen.facts_id,
        statuses=bounded_statuses({*one.statuses, *other.statuses}),
        replies=bounded_replies({*one.replies, *other.replies}, received_at),
    )


def normal(state: InquiryReplies) -> InquiryReplies:
    """`state` with its lists sorted, without repeats and within their bounds."""
    addresses = state.buyer.addresses if state.buyer is not None else ()
    if (
        not state.replies
        and not state.statuses
        and max(map(len, (addresses, state.message_ids, state.reply_addresses))) < 2
    ):
        return state
    buyer: HashedBuyer | None = state.buyer
    if buyer is not None:
        buyer = msgspec.structs.replace(buyer, addresses=_smallest(buyer.addresses))
    return msgspec.structs.replace(
        state,
        buyer=buyer,
        message_ids=_smallest(state.message_ids),
        reply_addresses=_smallest(state.reply_addresses),
        statuses=bounded_statuses(state.statuses),
        replies=bounded_replies(state.replies, state.received_at),
    )


def bounded_statuses(facts: Collection[StatusFact]) -> tuple[StatusFact, ...]:
    """Of each status the 16 smallest and the 16 largest by (at, account_id), sorted."""
    if not facts:
        return ()
    kept: set[StatusFact] = set()
    for group in _groups(facts, lambda fact: fact.status):
        group.sort(key=status_order)
        kept.update(group[:STATUSES], group[-STATUSES:])
    return tuple(sorted(kept, key=status_order))


def bounded_replies(facts: Collection[ReplyFact], received_at: datetime | None) -> tuple[ReplyFact, ...]:
    """Mail: 4 smallest of each (kind, matched_by, evidence) from `received_at` − 300 s on; platform: 64 of each kind.

    Mail is not cut while `received_at` is unknown.
    """
    facts = set(facts)
    if not facts:
        return ()
    kept: list[ReplyFact] = []
    mail = [fact for fact in facts if fact.source == "mail"]
    if received_at is None:
        kept += mail
    else:
        earliest = received_at - GRACE
        timely = [fact for fact in mail if fact.replied_at >= earliest]
        if len(timely) <= MAIL_REPLIES:
            kept += timely
        else:
            for group in _groups(timely, lambda fact: (fact.kind, fact.matched_by, fact.evidence)):
                kept += sorted(group, key=reply_order)[:MAIL_REPLIES]
    if len(facts) > len(mail):
        platform = (fact for fact in facts if fact.source == "platform")
        for group in _groups(platform, lambda fact: fact.kind):
            kept += sorted(group, key=reply_order)[:PLATFORM_REPLIES]
    return tuple(sorted(kept, key=reply_order))


def status_order(fact: StatusFact) -> tuple[Any, ...]:
    """Statuses are ordered by (at, account_id), then by name."""
    return fact.at, fact.account_id or "", fact.status


def reply_order(fact: ReplyFact) -> tuple[Any, ...]:
    """Replies are ordered by (replied_at, reply_id, account_id, mailbox_id, kind_reason), then by all that is left."""
    return (
        fact.replied_at, fact.reply_id, fact.account_id, fact.mailbox_id or "", fact.kind_reason or "",
        fact.source, fact.kind, fact.matched_by, fact.evidence or "",
    )  # fmt: skip


def latest_instant(state: InquiryReplies) -> datetime | None:
    """The latest instant inside: the time of the event, and how old the entry is."""
    instants = [fact.at for fact in state.statuses] + [fact.replied_at for fact in state.replies]
    if state.received_at is not None:
        instants.append(state.received_at)
    return max(instants, default=None)


def _seniority(state: InquiryReplies) -> tuple[datetime, str]:
    assert state.received_at is not None
    return state.received_at, state.facts_id or ""


def _smallest(hashes: Collection[str]) -> tuple[str, ...]:
    if len(hashes) < 2:
        return tuple(hashes)
    return tuple(sorted(set(hashes))[:HASHES])


T = TypeVar("T")


def _groups(facts: Iterable[T], key: Callable[[T], object]) -> Iterable[list[T]]:
    groups: dict[object, list[T]] = {}
    for fact in facts:
        groups.setdefault(key(fact), []).append(fact)
    return groups.values()
