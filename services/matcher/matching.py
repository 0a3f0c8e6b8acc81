"""The four tests that attach a sent message to an inquiry, and the hashes that both have in common. Pure.

| `matched_by` | holds when |
|---|---|
| `in-reply-to` | a hash of In-Reply-To is one of the inquiry's Message-IDs |
| `references` | a hash of References is |
| `relay-address` | a recipient is one of the inquiry's reply addresses |
| `buyer-address` | a recipient is one of the buyer's addresses, and the message is no old mail that was filed again |

An old mail has a Date more than a week before `sent_at` and before the inquiry: it was written to the same buyer about something else
(docs/decisions/0071-old-mail-answers-nothing-new.md). Of a message of kind `forward` only its recipients are tested. Where From is one of the buyer's addresses, each entry is made
twice, the second time with the kind_reason `from-buyer`: an address may become known after the message was attached, and
facts are only ever added.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, cast

from services.common.events import (
    FROM_BUYER,
    Evidence,
    HashedBuyer,
    InquiryReceived,
    InquiryReplies,
    Kind,
    MatchedBy,
    MessageSent,
    ReplyFact,
)
from services.common.hashing import Hasher
from services.matcher import state
from services.matcher.state import MessageEntry

OLD_MAIL: Final = timedelta(days=7)
"""A Date at least this long before the time that counts says when an old mail was written."""


def hashed_inquiry(inquiry: InquiryReceived, facts_text: str, hasher: Hasher) -> tuple[InquiryReplies, int]:
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


def matches(inquiry: InquiryReplies, hashed_value: str, message: MessageEntry) -> list[ReplyFact]:
    """The replies that `message` is to `inquiry` through one of its hashes: one for each test that holds."""
    if inquiry.received_at is None or message.sent_at < inquiry.received_at - state.GRACE:
        return []
    tests: list[MatchedBy] = []
    if message.kind != "forward" and hashed_value in inquiry.message_ids:
        tests += ["in-reply-to"] if message.roles & state.IN_REPLY_TO else []
        tests += ["references"] if message.roles & state.REFERENCES else []
    if message.roles & state.RECIPIENT:
        tests += ["relay-address"] if hashed_value in inquiry.reply_addresses else []
        is_to_the_buyer = inquiry.buyer is not None and hashed_value in inquiry.buyer.addresses
        tests += ["buyer-address"] if is_to_the_buyer and not _is_older(message, inquiry.received_at) else []
    reasons = [message.kind_reason or None]
    if (
        message.senders
        and inquiry.buyer is not None
        and any(sender in inquiry.buyer.addresses for sender in message.senders)
    ):
        reasons.append(FROM_BUYER)
    return [
        ReplyFact(
            reply_id=message.message_id,
            source="mail",
            account_id=message.account_id,
            mailbox_id=message.mailbox_id,
            replied_at=message.sent_at,
            evidence=cast(Evidence, message.evidence),
            kind=cast(Kind, message.kind),
            kind_reason=reason,
            matched_by=test,
        )
        for test in tests
        for reason in reasons
    ]


def _is_older(message: MessageEntry, received_at: datetime) -> bool:
    """Whether a message is an old mail that was written before an inquiry."""
    written_at = message.sent_at - timedelta(microseconds=message.date_before_us)
    return message.date_before_us > 0 and written_at < received_at - state.GRACE


def roles_of(message: MessageSent) -> dict[str, int]:
    """The hashes by which a message can be joined, each with its roles in the message (state.RECIPIENT, …)."""
    roles: dict[str, int] = {}
    for hashes, role in (
        (message.in_reply_to, state.IN_REPLY_TO),
        (message.references, state.REFERENCES),
        (message.recipients, state.RECIPIENT),
    ):
        if message.kind == "forward" and role != state.RECIPIENT:
            continue
        for hashed_value in hashes:
            roles[hashed_value] = roles.get(hashed_value, 0) | role
    return roles


def entry_of(message: MessageSent, roles: int) -> MessageEntry:
    """A message as it is stored under one of its hashes."""
    before = timedelta() if message.date_header is None else message.sent_at - message.date_header
    return MessageEntry(
        message.sent_at, message.message_id, message.account_id, message.mailbox_id, message.kind,
        message.kind_reason or "", message.evidence, roles, tuple(sorted(set(message.senders))),
        before // timedelta(microseconds=1) if before > OLD_MAIL else 0,
    )  # fmt: skip


def hashes_of(inquiry: InquiryReplies) -> frozenset[str]:
    """The hashes on which an inquiry waits."""
    return frozenset(hashed_value for _, hashed_value in hashes_with_roles(inquiry))


def hashes_with_roles(inquiry: InquiryReplies) -> frozenset[tuple[str, str]]:
    """(role, hash) of an inquiry: a Message-ID, a relay address or an address of the buyer."""
    addresses = inquiry.buyer.addresses if inquiry.buyer is not None else ()
    groups = (("message", inquiry.message_ids), ("relay", inquiry.reply_addresses), ("buyer", addresses))
    return frozenset((role, hashed_value) for role, hashes in groups for hashed_value in hashes)


def _present(hashes: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({hashed_value for hashed_value in hashes if hashed_value is not None}))
