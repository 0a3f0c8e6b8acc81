"""Facts for tests: each builder fills in the fields that a test does not mention.

Instants start at T0, ids are those of one company, one account, one inquiry and one mailbox.
"""

from datetime import UTC, datetime
from typing import Any, Final

from services.common.events import (
    Buyer,
    CompanyErased,
    HashedBuyer,
    InquiryReceived,
    InquiryReplies,
    MessageSent,
    ReplyFact,
    ReplyRecorded,
    StatusChanged,
    StatusFact,
)

T0: Final = datetime(2026, 11, 1, tzinfo=UTC)
COMPANY: Final = "c1"
ACCOUNT: Final = "main"
INQUIRY: Final = "i1"
MAILBOX: Final = "m1"


def now() -> datetime:
    """This instant, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def hash_of(number: int) -> str:
    """A value in the form of a hash."""
    return f"{number:032x}"


def a_received_inquiry(**fields: Any) -> InquiryReceived:
    """The platform's event, with plain addresses."""
    defaults: dict[str, Any] = {
        "company_id": COMPANY, "account_id": ACCOUNT, "inquiry_id": INQUIRY, "received_at": T0, "buyer": Buyer(id="b1"),
    }  # fmt: skip
    return InquiryReceived(**{**defaults, **fields})


def an_inquiry(**fields: Any) -> InquiryReplies:
    """An inquiry as the matcher stores and publishes it: addresses and ids are hashes, no reply yet."""
    defaults: dict[str, Any] = {
        "company_id": COMPANY, "account_id": ACCOUNT, "inquiry_id": INQUIRY, "received_at": T0,
        "buyer": HashedBuyer(id="b1"), "channel": "inquiry", "facts_id": hash_of(1),
    }  # fmt: skip
    return InquiryReplies(**{**defaults, **fields})


def a_sent_message(**fields: Any) -> MessageSent:
    """A message of kind `human` from a Sent folder, without any recipient or reference."""
    defaults: dict[str, Any] = {
        "company_id": COMPANY, "account_id": ACCOUNT, "mailbox_id": MAILBOX, "message_id": hash_of(2), "sent_at": T0,
        "sent_at_basis": "date", "evidence": "verified", "kind": "human",
    }  # fmt: skip
    return MessageSent(**{**defaults, **fields})


def a_platform_reply(**fields: Any) -> ReplyRecorded:
    """A reply through the platform."""
    defaults: dict[str, Any] = {
        "company_id": COMPANY, "account_id": ACCOUNT, "inquiry_id": INQUIRY, "reply_id": "r1", "replied_at": T0,
        "channel": "chat",
    }  # fmt: skip
    return ReplyRecorded(**{**defaults, **fields})


def a_status(**fields: Any) -> StatusChanged:
    """A change of an inquiry's status to `spam`."""
    defaults: dict[str, Any] = {"company_id": COMPANY, "inquiry_id": INQUIRY, "status": "spam", "at": T0}
    return StatusChanged(**{**defaults, **fields})


def an_erase(**fields: Any) -> CompanyErased:
    """The erase of a company."""
    return CompanyErased(**{"company_id": COMPANY, "at": T0, **fields})


def a_reply(**fields: Any) -> ReplyFact:
    """A reply by mail inside a joined state."""
    defaults: dict[str, Any] = {
        "reply_id": hash_of(2), "source": "mail", "account_id": ACCOUNT, "mailbox_id": MAILBOX, "replied_at": T0,
        "evidence": "verified", "kind": "human", "matched_by": "in-reply-to",
    }  # fmt: skip
    return ReplyFact(**{**defaults, **fields})


def a_status_fact(**fields: Any) -> StatusFact:
    """A status inside a joined state."""
    return StatusFact(**{"status": "spam", "at": T0, **fields})
