"""The joined facts that are judged: inquiries with their statuses and replies."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

MATCHED_BY = ("in-reply-to", "references", "relay-address", "buyer-address")
"""The four tests of the join, strongest first."""

TO_BUYER = ("relay-address", "buyer-address")
"""Those of them by which a mail went to the buyer."""

BY_BUYER = "from-buyer"
"""The reason of the entry that marks a mail as the buyer's own."""

SOURCES = ("mail", "platform", "status")
"""In the order in which replies of one instant are taken."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One entry of an inquiry's replies; the source `status` exists only while an answer is looked for."""

    at: int
    source: str
    reply_id: str
    account_id: str | None
    mailbox_id: str | None = None
    kind: str = "human"
    kind_reason: str | None = None
    evidence: str | None = None
    matched_by: str | None = None

    @property
    def place(self) -> tuple[int, int, str, str, str, str, str]:
        """Earliest first, then the order of ties."""
        words = (self.reply_id, self.account_id, self.mailbox_id, self.kind_reason, self.evidence)
        ties = [word or "" for word in words]
        return self.at, SOURCES.index(self.source), ties[0], ties[1], ties[2], ties[3], ties[4]


@dataclass(frozen=True, slots=True)
class Status:
    """A change of an inquiry's status."""

    at: int
    status: str
    account_id: str | None

    @property
    def place(self) -> tuple[int, str, str]:
        """The order of statuses; the last is the latest."""
        return self.at, self.status, self.account_id or ""


@dataclass(slots=True)
class Inquiry:
    """Everything known of one inquiry, whenever it became known."""

    company_id: str
    inquiry_id: str
    account_id: str
    received_at: int
    buyer_id: str
    regions: tuple[str | None, str | None]
    thread_id: str | None
    statuses: frozenset[Status]
    replies: frozenset[Reply]
    reachable: bool = True
    """Whether the platform stated an address of the buyer or one made for the inquiry."""
