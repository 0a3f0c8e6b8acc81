"""The entries that the matcher stores, and how two versions of one entry merge. Pure.

Four kinds of entries, each under a key that begins with its kind and its company:

    i company ‖ 0x1f ‖ inquiry_id            Inquiry: the joined state, as it is published
    k company ‖ 0x1f ‖ hash                  JoinKey: inquiries that wait on an address or id, days with messages
    d company ‖ 0x1f ‖ hash ‖ 0x1f ‖ day     JoinDay: messages of that UTC day that carried it
    e company                                Erasure: facts up to this instant are forgotten

Every merge is a set union with bounds: commutative, associative, idempotent (tests/properties/test_matcher_laws.py).
An entry never grows without bound; `cut_by` says what the bounds cut, and the join counts it.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from services.common.events import FROM_BUYER, HashedBuyer, InquiryReplies, ReplyFact, StatusFact
from services.common.hashing import SEPARATOR
from services.common.topics import KEY_SEPARATOR, reply_key

GRACE: Final = timedelta(seconds=300)
"""A reply may carry a clock that runs this far before the inquiry's."""
MAIL_REPLIES: Final = 4
PLATFORM_REPLIES: Final = 64
STATUSES: Final = 16
HASHES: Final = 64
JOIN_KEY_INQUIRIES: Final = 256
JOIN_DAY_MESSAGES: Final = 256
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

CUT_REASONS: Final = ("replies", "statuses", "addresses-and-ids", "join-day", "join-key")
"""What the bounds can cut: facts of a joined state; a message or an inquiry from what one address or id finds."""

IN_REPLY_TO: Final = 1
REFERENCES: Final = 2
RECIPIENT: Final = 4


class MessageEntry(msgspec.Struct, gc=False, frozen=True, array_like=True, order=True):
    """A sent message under one of its hashes: everything that a reply to an inquiry is made of."""

    sent_at: datetime
    message_id: str
    account_id: str
    mailbox_id: str
    kind: str
    kind_reason: str
    evidence: str
    roles: int
    """Where the message carries the hash: IN_REPLY_TO, REFERENCES, RECIPIENT."""
    senders: tuple[str, ...] = ()
    """Hashes of its From, except the mailbox's own address. Entries of earlier versions lack it."""
    date_before_us: int = 0
    """How many microseconds its Date is before `sent_at`, if that is more than a week: an old mail, filed again. Else 0."""


class JoinKeyEntry(msgspec.Struct, gc=False, array_like=True):
    """The inquiries that wait on a hash (inquiry_id → day of received_at), and the days on which messages carried it."""

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
    return b"i" + reply_key(company_id, inquiry_id)


def join_key(company_id: str, hashed: str) -> bytes:
    """Key of the entry of an address or Message-ID."""
    return f"k{company_id}{SEPARATOR}{hashed}".encode()


def join_day(company_id: str, hashed: str, day: int) -> bytes:
    """Key of the entry of an address or Message-ID on one day."""
    return f"d{company_id}{SEPARATOR}{hashed}{SEPARATOR}{day}".encode()


def erasure_key(company_id: str) -> bytes:
    """Key of the erasure of a company."""
    return f"e{company_id}".encode()


def company_prefixes(company_id: str) -> tuple[bytes, bytes, bytes]:
    """The prefixes of the keys of a company's entries, except its erasure."""
    name = company_id.encode() + KEY_SEPARATOR
    return b"i" + name, b"k" + name, b"d" + name


def company_of(key: bytes) -> str:
    """The company of an entry's key."""
    return key[1:].partition(KEY_SEPARATOR)[0].decode()


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
    """The bytes of an entry in the store and in the changelog."""
    return _ENCODER.encode(entry)


def unpack(key: bytes, value: bytes) -> Entry:
    """The entry under `key`."""
    entry: Entry = _DECODERS[key[:1]].decode(value)
    return entry


def merge(key: bytes, left: bytes, right: bytes) -> bytes:
    """Two stored values of one key as one: recovery merges, so that an old value takes nothing away."""
    if left == right:
        return left
    pair = unpack(key, left), unpack(key, right)
    match pair:
        case InquiryReplies() as inquiry, InquiryReplies() as older:
            return pack(merge_inquiries(inquiry, older))
        case JoinKeyEntry() as join_key_entry, JoinKeyEntry() as older_key:
            return pack(merge_keys(join_key_entry, older_key))
        case JoinDayEntry(messages), JoinDayEntry(older_messages):
            return pack(JoinDayEntry(smallest_messages({*messages, *older_messages})))
        case ErasureEntry(at), ErasureEntry(earlier):
            return pack(ErasureEntry(max(at, earlier)))
    raise TypeError("two kinds of entries under one key")


def merge_keys(left: JoinKeyEntry, right: JoinKeyEntry) -> JoinKeyEntry:
    """Union; of two days for one inquiry the earlier."""
    inquiries = dict(left.inquiries)
    for inquiry_id, day in right.inquiries.items():
        inquiries[inquiry_id] = min(day, inquiries.get(inquiry_id, day))
    return JoinKeyEntry(smallest_inquiries(inquiries), sorted({*left.days, *right.days}))


def smallest_inquiries(inquiries: dict[str, int]) -> dict[str, int]:
    """The 256 smallest ids: the same ones in whichever order the inquiries came."""
    if len(inquiries) <= JOIN_KEY_INQUIRIES:
        return inquiries
    return {inquiry_id: inquiries[inquiry_id] for inquiry_id in sorted(inquiries)[:JOIN_KEY_INQUIRIES]}


def smallest_messages(messages: Iterable[MessageEntry]) -> list[MessageEntry]:
    """The 256 earliest messages, ascending: the same ones in whichever order they came."""
    return sorted(messages)[:JOIN_DAY_MESSAGES]


def merge_inquiries(stored: InquiryReplies, arriving: InquiryReplies) -> InquiryReplies:
    """The union of the facts in two states of one inquiry, within the bounds of the contract."""
    if stored == arriving:
        return stored
    if arriving.received_at is None:
        # A reply or a status: the facts of the inquiry itself cannot change.
        return msgspec.structs.replace(
            stored,
            statuses=bounded_statuses({*stored.statuses, *arriving.statuses}) if arriving.statuses else stored.statuses,
            replies=bounded_replies({*stored.replies, *arriving.replies}, stored.received_at)
            if arriving.replies
            else stored.replies,
        )
    received = [state for state in (stored, arriving) if state.received_at is not None]
    # The fields that are not united come from the record with the smallest (received_at, facts_id).
    senior = min(received, key=_seniority, default=stored)
    received_at = senior.received_at
    buyer = None
    if senior.buyer is not None:
        addresses = _smallest({a for state in (stored, arriving) if state.buyer for a in state.buyer.addresses})
        buyer = msgspec.structs.replace(senior.buyer, addresses=addresses)
    return InquiryReplies(
        company_id=stored.company_id,
        inquiry_id=stored.inquiry_id,
        account_id=senior.account_id,
        received_at=received_at,
        buyer=buyer,
        message_ids=_smallest({*stored.message_ids, *arriving.message_ids}),
        reply_addresses=_smallest({*stored.reply_addresses, *arriving.reply_addresses}),
        thread_id=senior.thread_id,
        channel=senior.channel,
        facts_id=senior.facts_id,
        statuses=bounded_statuses({*stored.statuses, *arriving.statuses}),
        replies=bounded_replies({*stored.replies, *arriving.replies}, received_at),
    )


def cut_by(stored: InquiryReplies, arriving: InquiryReplies, merged: InquiryReplies) -> dict[str, int]:
    """How many facts of the two states are not in `merged`, by what they are (CUT_REASONS); empty: nothing was cut."""
    cut: dict[str, int] = {}
    for reason, before, arrived, after in (
        ("replies", stored.replies, arriving.replies, merged.replies),
        ("statuses", stored.statuses, arriving.statuses, merged.statuses),
    ):
        # Sets are built only if the union can be larger than the merged list.
        if len(after) < len(before) + len(arrived):
            missing = len({*before, *arrived}) - len(after)
            if missing > 0:
                cut[reason] = missing
    if arriving.received_at is not None:
        pairs = zip(_hash_lists(stored), _hash_lists(arriving), _hash_lists(merged), strict=True)
        if missing := sum(len({*before, *arrived}) - len(after) for before, arrived, after in pairs):
            cut["addresses-and-ids"] = missing
    return cut


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
    bounded: set[StatusFact] = set()
    for group in _groups(facts, lambda fact: fact.status):
        group.sort(key=status_order)
        bounded.update(group[:STATUSES], group[-STATUSES:])
    return tuple(sorted(bounded, key=status_order))


def bounded_replies(facts: Collection[ReplyFact], received_at: datetime | None) -> tuple[ReplyFact, ...]:
    """Mail: 4 smallest of each (kind, matched_by, evidence) from `received_at` − 300 s on; platform: 64 of each kind.

    Mail is not cut while `received_at` is unknown. Marks of the buyer's own mail (FROM_BUYER) are a group of their own.
    """
    facts = set(facts)
    if not facts:
        return ()
    bounded: list[ReplyFact] = []
    mail = [fact for fact in facts if fact.source == "mail"]
    if received_at is None:
        bounded += mail
    else:
        earliest = received_at - GRACE
        timely = [fact for fact in mail if fact.replied_at >= earliest]
        if len(timely) <= MAIL_REPLIES:
            bounded += timely
        else:
            for group in _groups(timely, _mail_group):
                bounded += sorted(group, key=reply_order)[:MAIL_REPLIES]
    if len(facts) > len(mail):
        platform = (fact for fact in facts if fact.source == "platform")
        for group in _groups(platform, lambda fact: fact.kind):
            bounded += sorted(group, key=reply_order)[:PLATFORM_REPLIES]
    return tuple(sorted(bounded, key=reply_order))


def _mail_group(fact: ReplyFact) -> tuple[Any, ...]:
    return fact.kind, fact.kind_reason == FROM_BUYER, fact.matched_by, fact.evidence


def status_order(fact: StatusFact) -> tuple[Any, ...]:
    """Statuses are ordered by (at, account_id), then by name."""
    return fact.at, fact.account_id or "", fact.status


def reply_order(fact: ReplyFact) -> tuple[Any, ...]:
    """Replies are ordered by (replied_at, reply_id, account_id, mailbox_id, kind_reason), then by their other fields."""
    return (
        fact.replied_at, fact.reply_id, fact.account_id, fact.mailbox_id or "", fact.kind_reason or "",
        fact.source, fact.kind, fact.matched_by, fact.evidence or "",
    )  # fmt: skip


def latest_instant(state: InquiryReplies) -> datetime | None:
    """The latest instant in a state: the time of its event, and the age of its entry."""
    instants = [fact.at for fact in state.statuses] + [fact.replied_at for fact in state.replies]
    if state.received_at is not None:
        instants.append(state.received_at)
    return max(instants, default=None)


def _seniority(state: InquiryReplies) -> tuple[datetime, str]:
    assert state.received_at is not None
    return state.received_at, state.facts_id or ""


def _hash_lists(state: InquiryReplies) -> tuple[tuple[str, ...], ...]:
    return state.message_ids, state.reply_addresses, state.buyer.addresses if state.buyer is not None else ()


def _smallest(hashes: Collection[str]) -> tuple[str, ...]:
    if len(hashes) < 2:
        return tuple(hashes)
    return tuple(sorted(set(hashes))[:HASHES])


FactT = TypeVar("FactT")


def _groups(facts: Iterable[FactT], key: Callable[[FactT], object]) -> Iterable[list[FactT]]:
    groups: dict[object, list[FactT]] = {}
    for fact in facts:
        groups.setdefault(key(fact), []).append(fact)
    return groups.values()
