"""The values of the demo world: sellers, inquiries, the mail in each Sent folder, what the platform publishes.

A world is a plan: the demo puts it into real servers, and the recount says which numbers must result. Everything is a
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
Wave = Literal["first", "second", "live"]
"""When the platform publishes a fact: before any mailbox is read, after the first scan, or while the demo runs."""


@dataclass(frozen=True, slots=True)
class WorldMailbox:
    """A mailbox on the IMAP server. Only a `connected` one is registered with replyrate."""

    key: str
    company_id: str
    account_id: str
    role: Literal["registered", "backup"]
    address: str
    password: str = field(repr=False)
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
    """An inquiry as the platform publishes it; `copies` > 1: more than once."""

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
        """The kind that the classifier must find."""
        return self.letter.kind

    @property
    def counts_at(self) -> datetime:
        """The time that counts: the client's date when the server agrees, else the later one."""
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

    def joined(self, live: "World") -> "World":
        """This world with the facts of its live part added."""
        return World(
            seed=self.seed,
            now=live.now,
            companies=self.companies,
            inquiries=self.inquiries + live.inquiries,
            statuses=self.statuses + live.statuses,
            platform_replies=self.platform_replies + live.platform_replies,
            mails=self.mails + live.mails,
        )
