"""The events of the pipeline as values, one struct per JSON Schema in schemas/events/.

Instants are aware UTC datetimes. Hashes are lower-case hex of 16 bytes. Optional fields that are absent and fields
that are null mean the same. Lists are read as sets. Limits are enforced by services.common.codec, tied to the JSON
Schemas by tests/contract.
"""

from datetime import datetime
from typing import Literal

import msgspec

INQUIRY_RECEIVED = "replyrate.inquiry-received.v1"
STATUS_CHANGED = "replyrate.inquiry-status-changed.v1"
REPLY_RECORDED = "replyrate.reply-recorded.v1"
COMPANY_ERASED = "replyrate.company-erased.v1"
MESSAGE_SENT = "replyrate.message-sent.v1"
INQUIRY_REPLIES = "replyrate.inquiry-replies.v1"
DEAD_LETTER = "replyrate.dead-letter.v1"

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


class Buyer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who asked. `addresses` are plain in inquiries.v1 and hashes everywhere behind it."""

    id: str
    addresses: tuple[str, ...] = ()
    region: str | None = None
    sent_from_region: str | None = None


class InquiryReceived(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A buyer wrote to a seller's account at `received_at`; the clock starts there."""

    company_id: str
    account_id: str
    inquiry_id: str
    received_at: datetime
    buyer: Buyer
    message_ids: tuple[str, ...] = ()
    reply_addresses: tuple[str, ...] = ()
    thread_id: str | None = None
    channel: str = "inquiry"


class StatusChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The platform changed an inquiry's status; `account_id` is required when the status is `reassigned`."""

    company_id: str
    inquiry_id: str
    status: Status
    at: datetime
    account_id: str | None = None


class ReplyRecorded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reply on a channel of the platform's own (its mail, chat, app)."""

    company_id: str
    account_id: str
    inquiry_id: str
    reply_id: str
    replied_at: datetime
    channel: str
    automatic: bool = False


class CompanyErased(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of the company up to `at` is forgotten downstream."""

    company_id: str
    at: datetime


class MessageSent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message seen in a Sent folder: hashes and times only, no address, name, subject or body."""

    company_id: str
    account_id: str
    mailbox_id: str
    message_id: str
    sent_at: datetime
    sent_at_basis: Basis
    evidence: Evidence
    kind: Kind
    kind_reason: str | None = None
    date_header: datetime | None = None
    internal_date: datetime | None = None
    save_date: datetime | None = None
    filed_after: datetime | None = None
    filed_before: datetime | None = None
    recipients: tuple[str, ...] = ()
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


class StatusFact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, order=True):
    """One status of an inquiry inside the joined state."""

    status: Status
    at: datetime
    account_id: str | None = None


class ReplyFact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reply inside the joined state. `source` says whether a mailbox or the platform told it."""

    reply_id: str
    source: Literal["mail", "platform"]
    account_id: str
    replied_at: datetime
    kind: Kind
    matched_by: MatchedBy
    mailbox_id: str | None = None
    evidence: Evidence | None = None
    kind_reason: str | None = None


class InquiryReplies(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The joined state of one inquiry. With `received_at` null the inquiry itself is not (or no longer) held.

    `buyer.addresses`, `message_ids` and `reply_addresses` hold hashes.
    """

    company_id: str
    inquiry_id: str
    account_id: str | None = None
    received_at: datetime | None = None
    buyer: Buyer | None = None
    message_ids: tuple[str, ...] = ()
    reply_addresses: tuple[str, ...] = ()
    thread_id: str | None = None
    channel: str | None = None
    facts_id: str | None = None
    statuses: tuple[StatusFact, ...] = ()
    replies: tuple[ReplyFact, ...] = ()


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was rejected, where it stands and why. `value` is base64, null for inquiries.v1 and for mail."""

    reason: str
    detail: str
    service: str
    service_version: str
    at: datetime
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    key: str | None = None
    value: str | None = None
    mailbox_id: str | None = None
    uidvalidity: int | None = None
    uid: int | None = None


Event = (
    InquiryReceived
    | StatusChanged
    | ReplyRecorded
    | CompanyErased
    | MessageSent
    | InquiryReplies
    | DeadLetter
)
TYPES: dict[str, type[msgspec.Struct]] = {
    INQUIRY_RECEIVED: InquiryReceived,
    STATUS_CHANGED: StatusChanged,
    REPLY_RECORDED: ReplyRecorded,
    COMPANY_ERASED: CompanyErased,
    MESSAGE_SENT: MessageSent,
    INQUIRY_REPLIES: InquiryReplies,
    DEAD_LETTER: DeadLetter,
}
