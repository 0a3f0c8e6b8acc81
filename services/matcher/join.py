"""The join: a batch of facts and a store in, changed entries and changed inquiries out. No clock, no I/O.

A sent message is attached to an inquiry of its company when it is not older than `received_at` − 300 s and one of four
tests holds; each test that holds makes an entry with its `matched_by`. Both sides are stored, so either may come
first: a message looks up the inquiries that wait on its hashes, an inquiry reads the days from `received_at` on.

A fact that does not count is never dropped without a trace: it is refused (and becomes a dead letter), ignored or cut,
and `JoinResult` says which, with a reason.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

import msgspec

from services.common.errors import InvalidEvent
from services.common.events import (
    FROM_BUYER,
    CompanyErased,
    InquiryReplies,
    MessageSent,
    ReplyFact,
    ReplyRecorded,
    StatusChanged,
    StatusFact,
)
from services.common.topics import KEY_SEPARATOR
from services.matcher import state
from services.matcher.entries import BatchEntries, Read, Scan
from services.matcher.matching import entry_of, hashes_of, hashes_with_roles, matches, roles_of
from services.matcher.state import Entry, ErasureEntry, JoinDayEntry, JoinKeyEntry, MessageEntry

Fact = InquiryReplies | StatusChanged | ReplyRecorded | MessageSent | CompanyErased
IgnoredReason = Literal["erased", "no-join-key"]
"""`erased`: an erase of the company covers the instant of the fact; `no-join-key`: a sent message without a recipient,
In-Reply-To or References that could join it with an inquiry."""
IGNORED_REASONS: Final[tuple[str, ...]] = get_args(IgnoredReason)


@dataclass(slots=True)
class JoinResult:
    """What a batch did."""

    changes: dict[bytes, bytes | None] = field(default_factory=dict)
    """Entries to write; None drops one. Each is also one row of the changelog."""
    changed: list[InquiryReplies] = field(default_factory=list)
    """Inquiries whose state has changed, each once."""
    erased: list[tuple[CompanyErased, tuple[str, ...]]] = field(default_factory=list)
    """Erased companies with the inquiries that were dropped."""
    refused: list[tuple[int, InvalidEvent]] = field(default_factory=list)
    """Facts (by index) that came too late."""
    ignored: Counter[IgnoredReason] = field(default_factory=Counter)
    """Valid facts that change nothing, by reason."""
    cut: Counter[str] = field(default_factory=Counter)
    """What the bounds cut, by what it is (state.CUT_REASONS)."""
    erased_entries: int = 0
    """Entries that an erase dropped or reduced."""
    conflicts: int = 0
    """Inquiries that were received again with different facts."""
    matched: Counter[str] = field(default_factory=Counter)
    """Replies that are new to an inquiry, by `matched_by`."""


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
    are refused as `late`; None refuses nothing. `bounded`: an address or id finds no more inquiries, and no more messages of a
    day, than its bound; what is beyond it is still joined by its other addresses and ids.
    """
    batch = _BatchJoin(BatchEntries(read, scan), bounded)
    for index, fact in enumerate(facts):
        try:
            if earliest is not None and instant_of(fact) < earliest and not isinstance(fact, CompanyErased):
                raise InvalidEvent("late", "the fact happened before the horizon (REPLYRATE_HORIZON_DAYS)")
            batch.add(fact)
        except InvalidEvent as error:
            batch.result.refused.append((index, error))
    return batch.finish()


def sweep(key: bytes, value: bytes, cutoff: datetime) -> bytes | None:
    """The part of a stored entry that remains when everything before `cutoff` is dropped; None if nothing remains."""
    entry = state.unpack(key, value)
    first_day = state.day_of(cutoff)
    match entry:
        case InquiryReplies():
            latest = entry.received_at or state.latest_instant(entry)
            return None if latest is None or latest < cutoff else value
        case JoinDayEntry():
            return None if int(key.rpartition(KEY_SEPARATOR)[2]) < first_day else value
        case JoinKeyEntry():
            remaining = JoinKeyEntry(
                {inquiry_id: day for inquiry_id, day in entry.inquiries.items() if day >= first_day},
                [day for day in entry.days if day >= first_day],
            )
            if remaining == entry:
                return value
            return state.pack(remaining) if remaining.inquiries or remaining.days else None
        case ErasureEntry():
            # Kept a day longer than what it erased: facts that old are refused anyway.
            return None if entry.at < cutoff - timedelta(days=1) else value


class _BatchJoin:
    """Joins the facts of one batch, one after the other."""

    def __init__(self, entries: BatchEntries, bounded: bool) -> None:
        self.result = JoinResult()
        self._entries = entries
        self._bounded = bounded

    def add(self, fact: Fact) -> None:
        """Join one fact."""
        erasure = self._entries.erasure(state.erasure_key(fact.company_id))
        if isinstance(fact, CompanyErased):
            self._erase(fact, erasure)
        elif erasure is not None and instant_of(fact) <= erasure.at:
            self.result.ignored["erased"] += 1
        elif isinstance(fact, MessageSent):
            self._add_message(fact)
        elif isinstance(fact, InquiryReplies):
            self._add_inquiry(fact)
        elif isinstance(fact, StatusChanged):
            status = StatusFact(status=fact.status, at=fact.at, account_id=fact.account_id)
            self._merge(_partial_state(fact.company_id, fact.inquiry_id, statuses=(status,)))
        else:
            self._merge(_partial_state(fact.company_id, fact.inquiry_id, replies=(_platform_reply(fact),)))

    def finish(self) -> JoinResult:
        """The result, with the entries that differ from the stored ones."""
        result = self.result
        for key, entry, value in self._entries.changes():
            result.changes[key] = value
            if isinstance(entry, InquiryReplies):
                result.changed.append(entry)
        return result

    def _merge(self, partial: InquiryReplies) -> InquiryReplies:
        """Merge a partial state into the entry of its inquiry; returns the entry."""
        key = state.inquiry_key(partial.company_id, partial.inquiry_id)
        stored = self._entries.inquiry(key)
        if stored is None:
            merged = state.normal(partial)
        else:
            merged = state.merge_inquiries(stored, partial)
            if merged is not stored and (cut := state.cut_by(stored, partial, merged)):
                self.result.cut.update(cut)
        if merged != stored:
            self._entries.put(key, merged)
            if partial.replies:
                replies_before = () if stored is None else stored.replies
                for reply in merged.replies:
                    if reply not in replies_before and reply.kind_reason != FROM_BUYER:
                        self.result.matched[reply.matched_by] += 1
        return merged

    def _add_message(self, fact: MessageSent) -> None:
        """Store a message under each of its hashes, and attach it to the inquiries that wait on one of them."""
        company_id, day = fact.company_id, state.day_of(fact.sent_at)
        roles = roles_of(fact)
        if not roles:
            self.result.ignored["no-join-key"] += 1
            return
        entries = self._entries
        for hashed_value, role in roles.items():
            message = entry_of(fact, role)
            self._store_message(state.join_day(company_id, hashed_value, day), message)
            join_key = state.join_key(company_id, hashed_value)
            waiting = entries.join_key(join_key)
            # Checked even if the day is stored: after a crash one of the two rows may be durable without the other.
            if day not in waiting.days:
                entries.put(join_key, JoinKeyEntry(waiting.inquiries, sorted([*waiting.days, day])))
            for inquiry_id in tuple(waiting.inquiries):
                self._attach(company_id, inquiry_id, hashed_value, (message,))

    def _store_message(self, day_key: bytes, message: MessageEntry) -> None:
        """Add a message to the day of one of its hashes; a full day keeps the earliest messages."""
        messages = self._entries.join_day(day_key).messages
        if message in messages:
            return
        if self._bounded and len(messages) >= state.JOIN_DAY_MESSAGES:
            self.result.cut["join-day"] += 1
            if message > messages[-1]:
                return
            self._entries.put(day_key, JoinDayEntry(state.smallest_messages([*messages, message])))
        else:
            self._entries.put(day_key, JoinDayEntry(sorted([*messages, message])))

    def _wait_on(self, join_key: bytes, waiting: JoinKeyEntry, inquiry_id: str, day: int) -> None:
        """Let a hash find an inquiry; a full join key keeps the smallest ids."""
        if waiting.inquiries.get(inquiry_id) == day:
            return
        inquiries = {**waiting.inquiries, inquiry_id: day}
        if self._bounded and len(inquiries) > state.JOIN_KEY_INQUIRIES:
            self.result.cut["join-key"] += 1
            inquiries = state.smallest_inquiries(inquiries)
        self._entries.put(join_key, JoinKeyEntry(inquiries, waiting.days))

    def _add_inquiry(self, fact: InquiryReplies) -> None:
        """Merge an inquiry, make it wait on each of its hashes, and attach the messages that came before it."""
        stored = self._entries.inquiry(state.inquiry_key(fact.company_id, fact.inquiry_id))
        if stored is not None and stored.facts_id is not None and stored.facts_id != fact.facts_id:
            self.result.conflicts += 1
        merged = self._merge(state.normal(fact))
        assert merged.received_at is not None
        # By role as well: an address that is now also named as a Message-ID passes another test.
        searched = frozenset[tuple[str, str]]()
        if stored is not None and stored.received_at is not None and merged.received_at >= stored.received_at:
            searched = hashes_with_roles(stored)
            if _addresses_of(merged) != _addresses_of(stored):
                searched = frozenset()  # the new address may be the sender of a message that is attached already
        to_search = {hashed_value for _, hashed_value in hashes_with_roles(merged) - searched}
        day, first_day = state.day_of(merged.received_at), state.day_of(merged.received_at - state.GRACE)
        for hashed_value in sorted(hashes_of(merged)):
            join_key = state.join_key(fact.company_id, hashed_value)
            waiting = self._entries.join_key(join_key)
            self._wait_on(join_key, waiting, fact.inquiry_id, day)
            if hashed_value not in to_search:
                continue
            for message_day in waiting.days:
                if message_day >= first_day:
                    day_key = state.join_day(fact.company_id, hashed_value, message_day)
                    messages = self._entries.join_day(day_key).messages
                    self._attach(fact.company_id, fact.inquiry_id, hashed_value, messages)

    def _attach(self, company_id: str, inquiry_id: str, hashed_value: str, messages: Iterable[MessageEntry]) -> None:
        """Merge the messages that are replies to an inquiry by this hash into the inquiry."""
        inquiry = self._entries.inquiry(state.inquiry_key(company_id, inquiry_id))
        if inquiry is None or inquiry.received_at is None:
            return
        replies = tuple(reply for message in messages for reply in matches(inquiry, hashed_value, message))
        if replies:
            self._merge(_partial_state(company_id, inquiry_id, replies=replies))

    def _erase(self, fact: CompanyErased, earlier: ErasureEntry | None) -> None:
        """Drop what the company's entries hold up to the erase, and remember the erase."""
        at = fact.at if earlier is None else max(fact.at, earlier.at)
        self._entries.put(state.erasure_key(fact.company_id), ErasureEntry(at))
        dropped: list[str] = []
        # In the order of the keys, messages and inquiries come before the join keys that point to them (d, i, k).
        for key in self._entries.keys(state.company_prefixes(fact.company_id)):
            entry: Entry | None = self._entries.get(key)
            if entry is None:
                continue
            if isinstance(entry, JoinKeyEntry):
                remaining: Entry | None = self._without_dangling(fact.company_id, key, entry)
            else:
                remaining = _after_erase(entry, at)
            if remaining != entry:
                self._entries.put(key, remaining)
                self.result.erased_entries += 1
                if isinstance(entry, InquiryReplies) and remaining is None:
                    dropped.append(entry.inquiry_id)
        self.result.erased.append((fact, tuple(dropped)))

    def _without_dangling(self, company_id: str, key: bytes, entry: JoinKeyEntry) -> JoinKeyEntry | None:
        """The join key with only the inquiries and days that still exist.

        The day alone does not decide: then a hash of the day of the erase would remain.
        """
        hashed_value = key.partition(KEY_SEPARATOR)[2].decode()
        inquiries = {}
        for inquiry_id, day in entry.inquiries.items():
            inquiry = self._entries.inquiry(state.inquiry_key(company_id, inquiry_id))
            if inquiry is not None and inquiry.received_at is not None:
                inquiries[inquiry_id] = day
        days = [
            day for day in entry.days if self._entries.get(state.join_day(company_id, hashed_value, day)) is not None
        ]
        return JoinKeyEntry(inquiries, days) if inquiries or days else None


def _addresses_of(inquiry: InquiryReplies) -> tuple[str, ...]:
    return inquiry.buyer.addresses if inquiry.buyer is not None else ()


def _after_erase(entry: InquiryReplies | JoinDayEntry | ErasureEntry, at: datetime) -> Entry | None:
    """The part of an entry that an erase up to `at` leaves; None if nothing remains."""
    match entry:
        case InquiryReplies():
            statuses = tuple(fact for fact in entry.statuses if fact.at > at)
            replies = tuple(fact for fact in entry.replies if fact.replied_at > at)
            if entry.received_at is not None and entry.received_at > at:
                return msgspec.structs.replace(entry, statuses=statuses, replies=replies)
            # The inquiry is gone, and with it the only thing that a mail could be a reply to.
            replies = tuple(fact for fact in replies if fact.source == "platform")
            remaining = _partial_state(entry.company_id, entry.inquiry_id, statuses=statuses, replies=replies)
            return remaining if statuses or replies else None
        case JoinDayEntry():
            messages = [message for message in entry.messages if message.sent_at > at]
            return JoinDayEntry(messages) if messages else None
        case ErasureEntry():
            return entry


def _platform_reply(fact: ReplyRecorded) -> ReplyFact:
    return ReplyFact(
        reply_id=fact.reply_id,
        source="platform",
        account_id=fact.account_id,
        replied_at=fact.replied_at,
        kind="automatic" if fact.automatic else "human",
        matched_by="platform",
    )


def _partial_state(
    company_id: str, inquiry_id: str, *, statuses: tuple[StatusFact, ...] = (), replies: tuple[ReplyFact, ...] = ()
) -> InquiryReplies:
    """A state of an inquiry that holds these facts and nothing else."""
    return InquiryReplies(company_id=company_id, inquiry_id=inquiry_id, statuses=statuses, replies=replies)
