"""The join: a batch of facts and a store in, changed entries and changed inquiries out. No clock, no I/O.

A sent message is attached to an inquiry of its company when it is not older than `received_at` − 300 s and one of four
tests holds; each test that holds makes an entry with its `matched_by`. Both sides are stored, so either may come
first: a message looks up who waits on its hashes, an inquiry reads the days from `received_at` on.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

import msgspec

from services.common.errors import InvalidEvent
from services.common.events import (
    CompanyErased,
    Evidence,
    HashedBuyer,
    InquiryReceived,
    InquiryReplies,
    Kind,
    MatchedBy,
    MessageSent,
    ReplyFact,
    ReplyRecorded,
    StatusChanged,
    StatusFact,
)
from services.common.hashing import Hasher
from services.matcher import state
from services.matcher.state import Entry, ErasureEntry, JoinDayEntry, JoinKeyEntry, MessageEntry

Fact = InquiryReplies | StatusChanged | ReplyRecorded | MessageSent | CompanyErased
Read = Callable[[bytes], bytes | None]
Scan = Callable[[bytes], Iterable[bytes]]


@dataclass(slots=True)
class JoinResult:
    """What a batch did."""

    changes: dict[bytes, bytes | None] = field(default_factory=dict)
    """Entries to write; None drops one. Each also is one row of the changelog."""
    changed: list[InquiryReplies] = field(default_factory=list)
    """Inquiries whose state is another one now, each once."""
    erased: list[tuple[CompanyErased, tuple[str, ...]]] = field(default_factory=list)
    """Erased companies with the inquiries that were dropped."""
    refused: list[tuple[int, InvalidEvent]] = field(default_factory=list)
    """Facts (by index) that went over a bound or came too late."""
    conflicts: int = 0
    cut: int = 0
    matched: dict[str, int] = field(default_factory=dict)
    """Replies that are new to an inquiry, by `matched_by`."""


def hashed(inquiry: InquiryReceived, facts_text: str, hasher: Hasher) -> tuple[InquiryReplies, int]:
    """The inquiry as it is stored, addresses and ids as hashes; and how many of them could not be normalised."""
    company_id = inquiry.company_id
    addresses = [hasher.address(company_id, address) for address in inquiry.buyer.addresses]
    relays = [hasher.address(company_id, address) for address in inquiry.reply_addresses]
    ids = [hasher.message(company_id, message_id) for message_id in inquiry.message_ids]
    fact = InquiryReplies(
        company_id=company_id,
        inquiry_id=inquiry.inquiry_id,
        account_id=inquiry.account_id,
        received_at=inquiry.received_at,
        buyer=HashedBuyer(
            id=inquiry.buyer.id,
            addresses=_present(addresses),
            region=inquiry.buyer.region,
            sent_from_region=inquiry.buyer.sent_from_region,
        ),
        message_ids=_present(ids),
        reply_addresses=_present(relays),
        thread_id=inquiry.thread_id,
        channel=inquiry.channel,
        facts_id=hasher.content(company_id, facts_text),
    )
    return fact, (addresses + relays + ids).count(None)


def instant_of(fact: Fact) -> datetime:
    """When the fact happened."""
    match fact:
        case InquiryReplies():
            assert fact.received_at is not None
            return fact.received_at
        case ReplyRecorded():
            return fact.replied_at
        case MessageSent():
            return fact.sent_at
        case _:
            return fact.at


def apply(
    read: Read, scan: Scan, facts: Sequence[Fact], *, earliest: datetime | None = None, bounded: bool = True
) -> JoinResult:
    """Join `facts` with what is stored.

    `read` gives the stored value of a key, `scan` the stored keys with a prefix. Facts before `earliest` (the horizon)
    are refused as `late`; None refuses nothing. `bounded` refuses what makes a join key grow over its bound.
    """
    work = _BatchJoin(read, scan, bounded)
    for index, fact in enumerate(facts):
        try:
            if earliest is not None and instant_of(fact) < earliest and not isinstance(fact, CompanyErased):
                raise InvalidEvent("late", "the fact happened before the horizon (REPLYRATE_HORIZON_DAYS)")
            work.take(fact)
        except InvalidEvent as error:
            work.applied.refused.append((index, error))
    return work.done()


def sweep(key: bytes, value: bytes, cutoff: datetime) -> bytes | None:
    """What is left of a stored entry when everything before `cutoff` is dropped; None when nothing is."""
    entry = state.unpack(key, value)
    first = state.day_of(cutoff)
    match entry:
        case InquiryReplies():
            latest = entry.received_at or state.latest_instant(entry)
            return None if latest is None or latest < cutoff else value
        case JoinDayEntry():
            return None if int(key.rpartition(state.SEPARATOR)[2]) < first else value
        case JoinKeyEntry():
            left = JoinKeyEntry(
                {inquiry_id: day for inquiry_id, day in entry.inquiries.items() if day >= first},
                [day for day in entry.days if day >= first],
            )
            return value if left == entry else state.pack(left) if left.inquiries or left.days else None
        case ErasureEntry():
            # Kept a day longer than what it erased: facts that old are refused anyway.
            return None if entry.at < cutoff - timedelta(days=1) else value


class _BatchJoin:
    """Entries touched by one batch: each is read once, changed in memory and written once."""

    def __init__(self, read: Read, scan: Scan, bounded: bool) -> None:
        self.applied = JoinResult()
        self._bounded = bounded
        self._read = read
        self._scan = scan
        self._entries: dict[bytes, Entry | None] = {}
        self._before: dict[bytes, bytes | None] = {}
        self._dirty: set[bytes] = set()

    def take(self, fact: Fact) -> None:
        erased = self._get(state.erasure_key(fact.company_id))
        if isinstance(fact, CompanyErased):
            self._erase(fact, erased)
        elif isinstance(erased, ErasureEntry) and instant_of(fact) <= erased.at:
            return
        elif isinstance(fact, MessageSent):
            self._message(fact)
        elif isinstance(fact, InquiryReplies):
            self._inquiry(fact)
        elif isinstance(fact, StatusChanged):
            status = StatusFact(status=fact.status, at=fact.at, account_id=fact.account_id)
            self._merge(_empty(fact.company_id, fact.inquiry_id, statuses=(status,)))
        else:
            self._merge(_empty(fact.company_id, fact.inquiry_id, replies=(_platform_reply(fact),)))

    def done(self) -> JoinResult:
        applied = self.applied
        for key in sorted(self._dirty):
            entry = self._entries[key]
            value = None if entry is None else state.pack(entry)
            if value == self._before.get(key):
                continue
            applied.changes[key] = value
            if isinstance(entry, InquiryReplies):
                applied.changed.append(entry)
        return applied

    def _get(self, key: bytes) -> Entry | None:
        try:
            return self._entries[key]
        except KeyError:
            value = self._before[key] = self._read(key)
            entry = self._entries[key] = None if value is None else state.unpack(key, value)
            return entry

    def _put(self, key: bytes, entry: Entry | None) -> None:
        self._entries[key] = entry
        self._dirty.add(key)

    def _merge(self, fact: InquiryReplies) -> InquiryReplies:
        """Merge one more piece of knowledge into an inquiry's entry; returns the entry."""
        key = state.inquiry_key(fact.company_id, fact.inquiry_id)
        held = self._get(key)
        if not isinstance(held, InquiryReplies):
            merged = state.normal(fact)
        else:
            merged = state.merge_inquiries(held, fact)
            if merged is not held and len(merged.replies) + len(merged.statuses) < (
                len(held.replies) + len(fact.replies) + len(held.statuses) + len(fact.statuses)
            ):
                before = len({*held.replies, *fact.replies}) + len({*held.statuses, *fact.statuses})
                self.applied.cut += max(0, before - len(merged.replies) - len(merged.statuses))
        if merged != held:
            self._put(key, merged)
            if fact.replies:
                known = held.replies if isinstance(held, InquiryReplies) else ()
                for reply in merged.replies:
                    if reply not in known:
                        self.applied.matched[reply.matched_by] = self.applied.matched.get(reply.matched_by, 0) + 1
        return merged

    def _message(self, fact: MessageSent) -> None:
        company_id, day = fact.company_id, state.day_of(fact.sent_at)
        found: list[tuple[str, bytes, list[MessageEntry], MessageEntry]] = []
        for hashed_value, roles in _roles(fact).items():
            key = state.join_day(company_id, hashed_value, day)
            held = self._get(key)
            messages = held.messages if isinstance(held, JoinDayEntry) else []
            message = _message(fact, roles)
            if self._bounded and len(messages) >= state.JOIN_DAY_MESSAGES and message not in messages:
                raise InvalidEvent(
                    "over-bound", f"more than {state.JOIN_DAY_MESSAGES} messages of a day carry one address or id"
                )
            found.append((hashed_value, key, messages, message))
        for hashed_value, key, messages, message in found:
            if message not in messages:
                self._put(key, JoinDayEntry(sorted([*messages, message])))
            join = state.join_key(company_id, hashed_value)
            entry = self._get(join)
            waiting = entry if isinstance(entry, JoinKeyEntry) else JoinKeyEntry()
            # Looked at even when the day is known: after a crash one of the two rows may be durable without the other.
            if day not in waiting.days:
                self._put(join, JoinKeyEntry(waiting.inquiries, sorted([*waiting.days, day])))
            for inquiry_id in tuple(waiting.inquiries):
                self._attach(company_id, inquiry_id, hashed_value, (message,))

    def _inquiry(self, fact: InquiryReplies) -> None:
        key = state.inquiry_key(fact.company_id, fact.inquiry_id)
        before = self._get(key)
        held = before if isinstance(before, InquiryReplies) else None
        if held is not None and held.facts_id is not None and held.facts_id != fact.facts_id:
            self.applied.conflicts += 1
        fact = state.normal(fact)
        for hashed_value in sorted(_hashes(fact)):
            waiting = self._get(state.join_key(fact.company_id, hashed_value))
            if (
                self._bounded
                and isinstance(waiting, JoinKeyEntry)
                and fact.inquiry_id not in waiting.inquiries
                and len(waiting.inquiries) >= state.JOIN_KEY_INQUIRIES
            ):
                raise InvalidEvent(
                    "over-bound", f"more than {state.JOIN_KEY_INQUIRIES} inquiries share one address or id"
                )
        merged = self._merge(fact)
        assert merged.received_at is not None
        fell = held is None or held.received_at is None or merged.received_at < held.received_at
        # By what it is known too: an address that is named as a message's id as well answers another test.
        known = frozenset() if held is None or fell else _named(held)
        fresh = {hashed_value for _, hashed_value in _named(merged) - known}
        day = state.day_of(merged.received_at)
        first = state.day_of(merged.received_at - state.GRACE)
        for hashed_value in sorted(_hashes(merged)):
            join = state.join_key(fact.company_id, hashed_value)
            entry = self._get(join)
            waiting_key = entry if isinstance(entry, JoinKeyEntry) else JoinKeyEntry()
            if waiting_key.inquiries.get(fact.inquiry_id) != day:
                self._put(join, JoinKeyEntry({**waiting_key.inquiries, fact.inquiry_id: day}, waiting_key.days))
            for found in waiting_key.days:
                if found >= first and hashed_value in fresh:
                    there = self._get(state.join_day(fact.company_id, hashed_value, found))
                    if isinstance(there, JoinDayEntry):
                        self._attach(fact.company_id, fact.inquiry_id, hashed_value, there.messages)

    def _attach(self, company_id: str, inquiry_id: str, hashed_value: str, messages: Iterable[MessageEntry]) -> None:
        held = self._get(state.inquiry_key(company_id, inquiry_id))
        if not isinstance(held, InquiryReplies) or held.received_at is None:
            return
        replies = tuple(reply for message in messages for reply in matches(held, hashed_value, message))
        if replies:
            self._merge(_empty(company_id, inquiry_id, replies=replies))

    def _erase(self, fact: CompanyErased, before: Entry | None) -> None:
        at = max(fact.at, before.at) if isinstance(before, ErasureEntry) else fact.at
        self._put(state.erasure_key(fact.company_id), ErasureEntry(at))
        prefixes = state.company_prefixes(fact.company_id)
        keys = {key for prefix in prefixes for key in self._scan(prefix)}
        keys |= {key for key in self._entries if key.startswith(prefixes)}
        dropped: list[str] = []
        # Sorted, what was sent and asked comes before the keys that point to it (d, i, k).
        for key in sorted(keys):
            entry = self._get(key)
            if entry is None:
                continue
            left = (
                self._pointing(fact.company_id, key, entry) if isinstance(entry, JoinKeyEntry) else _without(entry, at)
            )
            if left != entry:
                self._put(key, left)
                if isinstance(entry, InquiryReplies) and left is None:
                    dropped.append(entry.inquiry_id)
        self.applied.erased.append((fact, tuple(dropped)))

    def _pointing(self, company_id: str, key: bytes, entry: JoinKeyEntry) -> JoinKeyEntry | None:
        """What points to an inquiry or to messages that are there. By the day alone, a hash of the day of an erase stayed."""
        hashed = key.partition(state.SEPARATOR)[2].decode()
        inquiries = {}
        for inquiry_id, day in entry.inquiries.items():
            there = self._get(state.inquiry_key(company_id, inquiry_id))
            if isinstance(there, InquiryReplies) and there.received_at is not None:
                inquiries[inquiry_id] = day
        days = [day for day in entry.days if self._get(state.join_day(company_id, hashed, day)) is not None]
        return JoinKeyEntry(inquiries, days) if inquiries or days else None


def matches(inquiry: InquiryReplies, hashed_value: str, message: MessageEntry) -> list[ReplyFact]:
    """The replies that `message` is to `inquiry` through one of its hashes: one per test that holds."""
    if inquiry.received_at is None or message.sent_at < inquiry.received_at - state.GRACE:
        return []
    tests: list[MatchedBy] = []
    if message.kind != "forward" and hashed_value in inquiry.message_ids:
        tests += ["in-reply-to"] if message.roles & state.IN_REPLY_TO else []
        tests += ["references"] if message.roles & state.REFERENCES else []
    if message.roles & state.RECIPIENT:
        tests += ["relay-address"] if hashed_value in inquiry.reply_addresses else []
        tests += ["buyer-address"] if inquiry.buyer is not None and hashed_value in inquiry.buyer.addresses else []
    return [
        ReplyFact(
            reply_id=message.message_id,
            source="mail",
            account_id=message.account_id,
            mailbox_id=message.mailbox_id,
            replied_at=message.sent_at,
            evidence=cast(Evidence, message.evidence),
            kind=cast(Kind, message.kind),
            kind_reason=message.kind_reason or None,
            matched_by=test,
        )
        for test in tests
    ]


def _roles(fact: MessageSent) -> dict[str, int]:
    roles: dict[str, int] = {}
    for hashes, role in (
        (fact.in_reply_to, state.IN_REPLY_TO),
        (fact.references, state.REFERENCES),
        (fact.recipients, state.RECIPIENT),
    ):
        if fact.kind == "forward" and role != state.RECIPIENT:
            continue
        for hashed_value in hashes:
            roles[hashed_value] = roles.get(hashed_value, 0) | role
    return roles


def _message(fact: MessageSent, roles: int) -> MessageEntry:
    return MessageEntry(
        fact.sent_at, fact.message_id, fact.account_id, fact.mailbox_id, fact.kind, fact.kind_reason or "",
        fact.evidence, roles,
    )  # fmt: skip


def _platform_reply(fact: ReplyRecorded) -> ReplyFact:
    return ReplyFact(
        reply_id=fact.reply_id,
        source="platform",
        account_id=fact.account_id,
        replied_at=fact.replied_at,
        kind="automatic" if fact.automatic else "human",
        matched_by="platform",
    )


def _hashes(inquiry: InquiryReplies) -> frozenset[str]:
    return frozenset(hashed_value for _, hashed_value in _named(inquiry))


def _named(inquiry: InquiryReplies) -> frozenset[tuple[str, str]]:
    """Its hashes with what each is: a Message-ID, a relay address or the buyer's."""
    addresses = inquiry.buyer.addresses if inquiry.buyer is not None else ()
    groups = (("message", inquiry.message_ids), ("relay", inquiry.reply_addresses), ("buyer", addresses))
    return frozenset((name, hashed_value) for name, hashes in groups for hashed_value in hashes)


def _empty(
    company_id: str, inquiry_id: str, *, statuses: tuple[StatusFact, ...] = (), replies: tuple[ReplyFact, ...] = ()
) -> InquiryReplies:
    return InquiryReplies(company_id=company_id, inquiry_id=inquiry_id, statuses=statuses, replies=replies)


def _present(hashes: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({value for value in hashes if value is not None}))


def _without(entry: InquiryReplies | JoinDayEntry | ErasureEntry, at: datetime) -> Entry | None:
    """What an erase up to `at` leaves of an entry."""
    match entry:
        case InquiryReplies():
            statuses = tuple(fact for fact in entry.statuses if fact.at > at)
            replies = tuple(fact for fact in entry.replies if fact.replied_at > at)
            if entry.received_at is not None and entry.received_at > at:
                return msgspec.structs.replace(entry, statuses=statuses, replies=replies)
            # The inquiry is gone, and with it the only thing a mail could be a reply to.
            replies = tuple(fact for fact in replies if fact.source == "platform")
            left = _empty(entry.company_id, entry.inquiry_id, statuses=statuses, replies=replies)
            return left if statuses or replies else None
        case JoinDayEntry():
            messages = [message for message in entry.messages if message.sent_at > at]
            return JoinDayEntry(messages) if messages else None
        case ErasureEntry():
            return entry
