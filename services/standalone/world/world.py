"""The values of the demo world: who sells, who asks, what lies in which Sent folder, what the platform tells.

A world is a plan: the demo puts it into real servers and the oracle counts what must come out. Everything is a
function of (seed, now); see services.standalone.world.cast for who is who. Instants are aware UTC, whole seconds.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from services.common.events import Kind, Status
from services.standalone.world.letters import MailText

Story = Literal[
    "healthy", "sub-account", "backup-connected", "synced-by-platform",
    "wrong-mailbox", "address-changed", "backup-not-connected", "sent-not-stored",
]  # fmt: skip
ZERO_STORIES: tuple[Story, ...] = ("wrong-mailbox", "address-changed", "backup-not-connected", "sent-not-stored")
Wave = Literal["first", "second", "live"]
"""When the platform publishes a fact: before any mailbox is read, after the first scan, or while the demo runs."""


@dataclass(frozen=True, slots=True)
class WorldMailbox:
    """A mailbox on the IMAP server. Only a `connected` one is told to replyrate."""

    key: str
    company_id: str
    account_id: str
    role: Literal["registered", "backup"]
    address: str
    password: str
    folder: str
    connected: bool = True
    address_changes: bool = False


@dataclass(frozen=True, slots=True)
class WorldAccount:
    """A main or sub-account of a company; `synced_from` when it answers through the platform's own mail."""

    company_id: str
    account_id: str
    kind: Literal["main", "sub"] = "main"
    synced_from: datetime | None = None
    registered_address: str | None = None
    backup_address: str | None = None


@dataclass(frozen=True, slots=True)
class WorldCompany:
    """One seller."""

    company_id: str
    title: str
    story: Story
    accounts: tuple[WorldAccount, ...]
    mailboxes: tuple[WorldMailbox, ...]


@dataclass(frozen=True, slots=True)
class WorldInquiry:
    """A buyer's question as the platform tells it. `copies` > 1: the platform publishes it more than once."""

    company_id: str
    account_id: str
    inquiry_id: str
    received_at: datetime
    buyer_id: str
    addresses: tuple[str, ...]
    message_ids: tuple[str, ...] = ()
    reply_addresses: tuple[str, ...] = ()
    region: str = "US"
    wave: Wave = "first"
    copies: int = 1


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A status that the platform gave an inquiry."""

    company_id: str
    inquiry_id: str
    status: Status
    at: datetime
    account_id: str | None = None
    wave: Wave = "second"


@dataclass(frozen=True, slots=True)
class PlatformReply:
    """A reply through the platform's own mail or chat."""

    company_id: str
    account_id: str
    inquiry_id: str
    reply_id: str
    replied_at: datetime
    automatic: bool = False
    wave: Wave = "second"


@dataclass(frozen=True, slots=True)
class WorldMail:
    """One message in a Sent folder: what the client wrote and when the server filed it."""

    mailbox: str
    letter: MailText
    filed_at: datetime
    wave: Wave = "first"

    @property
    def kind(self) -> Kind:
        """What a careful reader takes it for."""
        return self.letter.kind

    @property
    def counts_at(self) -> datetime:
        """The time that counts (imap: which time counts): the client's when the server agrees, else the later."""
        if abs(self.letter.date - self.filed_at) <= timedelta(minutes=10):
            return self.letter.date
        return max(self.letter.date, self.filed_at)


@dataclass(frozen=True, slots=True)
class World:
    """A whole plan."""

    seed: int
    now: datetime
    companies: tuple[WorldCompany, ...]
    inquiries: tuple[WorldInquiry, ...] = ()
    statuses: tuple[StatusChange, ...] = ()
    platform_replies: tuple[PlatformReply, ...] = ()
    mails: tuple[WorldMail, ...] = field(default=())

    @property
    def mailboxes(self) -> tuple[WorldMailbox, ...]:
        """Every mailbox on the IMAP server, connected or not."""
        return tuple(mailbox for company in self.companies for mailbox in company.mailboxes)

    def joined(self, other: "World") -> "World":
        """This world with the facts of another one (the live part) added."""
        return World(
            seed=self.seed,
            now=other.now,
            companies=self.companies,
            inquiries=self.inquiries + other.inquiries,
            statuses=self.statuses + other.statuses,
            platform_replies=self.platform_replies + other.platform_replies,
            mails=self.mails + other.mails,
        )
