"""The events of the pipeline as values, one struct per JSON Schema in schemas/events/.

Instants are aware UTC datetimes. Hashes are lower-case hex of 16 bytes. Optional fields that are absent and fields
that are null mean the same. Lists are read as sets. Limits are enforced by services.common.codec, tied to the JSON
Schemas by tests/contract.

`gc=False`: an event consists of text, numbers and tuples of them, never of itself, so the collector need not visit it.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

INQUIRY_RECEIVED = "replyrate.inquiry-received.v1"
STATUS_CHANGED = "replyrate.inquiry-status-changed.v1"
REPLY_RECORDED = "replyrate.reply-recorded.v1"
COMPANY_ERASED = "replyrate.company-erased.v1"
MESSAGE_SENT = "replyrate.message-sent.v1"
INQUIRY_REPLIES = "replyrate.inquiry-replies.v1"
DEAD_LETTER = "replyrate.dead-letter.v1"

PLATFORM_TYPES = frozenset({INQUIRY_RECEIVED, STATUS_CHANGED, REPLY_RECORDED, COMPANY_ERASED})
"""Event types that the platform publishes to inquiries.v1."""

NO_CONTROL = "^[^\\u0000-\\u001f\\u007f-\\u009f]*(?![\\s\\S])"
"""No control character. The look-ahead means end of text, and a line break does not satisfy it, in every regex dialect."""
Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=NO_CONTROL)]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{32}(?![\\s\\S])")]
Region = Annotated[str, Meta(pattern="^[A-Z]{2}(?![\\s\\S])")]
Code = Annotated[str, Meta(min_length=1, max_length=64, pattern=NO_CONTROL)]
UInt = Annotated[int, Meta(ge=0)]

Status = Literal[
    "spam",
    "spam-undone",
    "rejected",
    "declined",
    "withdrawn",
    "trashed",
    "blacklisted",
    "buyer-closed",
    "reassigned",
]
Evidence = Literal["verified", "backfill", "suspect"]
Basis = Literal["date", "save-date", "internal-date", "interval-end"]
Kind = Literal["human", "automatic", "bulk", "bounce", "forward"]
MatchedBy = Literal["in-reply-to", "references", "relay-address", "buyer-address", "platform"]
MATCH_ORDER: tuple[MatchedBy, ...] = ("in-reply-to", "references", "relay-address", "buyer-address", "platform")
"""Strongest first."""
FROM_BUYER = "from-buyer"
"""`kind_reason` of the entry that marks a mail as the buyer's own; the mail has its ordinary entries as well."""


class Buyer(msgspec.Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """The buyer as the platform reports it; the addresses are plain and stay in inquiries.v1."""

    id: Id
    addresses: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    region: Region | None = None
    sent_from_region: Region | None = None


class InquiryReceived(msgspec.Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """A buyer wrote to a seller's account at `received_at`; the clock starts there."""

    company_id: Id
    account_id: Id
    inquiry_id: Id
    received_at: datetime
    buyer: Buyer
    message_ids: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    reply_addresses: Annotated[tuple[str, ...], Meta(max_length=4)] = ()
    thread_id: Id | None = None
    channel: Id = "inquiry"


class StatusChanged(msgspec.Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """The platform changed an inquiry's status; `account_id` is required when the status is `reassigned`."""

    company_id: Id
    inquiry_id: Id
    status: Status
    at: datetime
    account_id: Id | None = None


class ReplyRecorded(msgspec.Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """A reply on one of the platform's own channels (its mail, chat, app)."""

    company_id: Id
    account_id: Id
    inquiry_id: Id
    reply_id: Id
    replied_at: datetime
    channel: Id
    automatic: bool = False


class CompanyErased(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """Everything of the company up to `at` is forgotten downstream."""

    company_id: Id
    at: datetime


class MessageSent(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """One message seen in a Sent folder: hashes and times only, no address, name, subject or body."""

    company_id: Id
    account_id: Id
    mailbox_id: Id
    message_id: Hash
    sent_at: datetime
    sent_at_basis: Basis
    evidence: Evidence
    kind: Kind
    kind_reason: Code | None = None
    date_header: datetime | None = None
    internal_date: datetime | None = None
    save_date: datetime | None = None
    filed_after: datetime | None = None
    filed_before: datetime | None = None
    recipients: Annotated[tuple[Hash, ...], Meta(max_length=64)] = ()
    in_reply_to: Annotated[tuple[Hash, ...], Meta(max_length=4)] = ()
    references: Annotated[tuple[Hash, ...], Meta(max_length=20)] = ()
    senders: Annotated[tuple[Hash, ...], Meta(max_length=4)] = ()


class HashedBuyer(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """The buyer, from the matcher on: hashes instead of addresses."""

    id: Id
    addresses: Annotated[tuple[Hash, ...], Meta(max_length=64)] = ()
    region: Region | None = None
    sent_from_region: Region | None = None


class StatusFact(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """One status of an inquiry inside the joined state."""

    status: Status
    at: datetime
    account_id: Id | None = None


class ReplyFact(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """One reply inside the joined state. `source` says whether it comes from a mailbox or from the platform."""

    reply_id: Id
    source: Literal["mail", "platform"]
    account_id: Id
    mailbox_id: Id | None = None
    replied_at: datetime
    evidence: Evidence | None = None
    kind: Kind
    kind_reason: Code | None = None
    matched_by: MatchedBy


class InquiryReplies(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """The joined state of one inquiry. With `received_at` null the inquiry itself is not (or no longer) known.

    `buyer.addresses`, `message_ids` and `reply_addresses` hold hashes.
    """

    company_id: Id
    inquiry_id: Id
    account_id: Id | None = None
    received_at: datetime | None = None
    buyer: HashedBuyer | None = None
    message_ids: Annotated[tuple[Hash, ...], Meta(max_length=64)] = ()
    reply_addresses: Annotated[tuple[Hash, ...], Meta(max_length=64)] = ()
    thread_id: Id | None = None
    channel: Id | None = None
    facts_id: Hash | None = None
    statuses: tuple[StatusFact, ...] = ()
    replies: tuple[ReplyFact, ...] = ()


class DeadLetter(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """What was rejected, its position, and why. `value` is base64; null for inquiries.v1, for mail, and for a
    record that is too large for a letter."""

    reason: Code
    detail: Annotated[str, Meta(max_length=1024)]
    service: Id
    service_version: Id
    at: datetime
    topic: Id | None = None
    partition: UInt | None = None
    offset: UInt | None = None
    key: str | None = None
    value: str | None = None
    mailbox_id: Id | None = None
    uidvalidity: UInt | None = None
    uid: UInt | None = None


Event = InquiryReceived | StatusChanged | ReplyRecorded | CompanyErased | MessageSent | InquiryReplies | DeadLetter
TYPES: dict[str, type[msgspec.Struct]] = {
    INQUIRY_RECEIVED: InquiryReceived,
    STATUS_CHANGED: StatusChanged,
    REPLY_RECORDED: ReplyRecorded,
    COMPANY_ERASED: CompanyErased,
    MESSAGE_SENT: MessageSent,
    INQUIRY_REPLIES: InquiryReplies,
    DEAD_LETTER: DeadLetter,
}
