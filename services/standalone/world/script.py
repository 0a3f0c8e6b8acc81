"""Writes the plan of a world: inquiries, answers and other mail, drawn from one seeded random generator.

Two things are not left to chance, so that the plan has exactly one right result: no deadline is near `now`, and no
answer is near 24 hours.
"""

import random
from dataclasses import replace
from datetime import datetime, timedelta

from services.standalone.world import letters
from services.standalone.world.letters import MailText
from services.standalone.world.world import (
    PlatformReply,
    StatusChange,
    Wave,
    World,
    WorldAccount,
    WorldCompany,
    WorldInquiry,
    WorldMail,
    WorldMailbox,
)

HISTORY_DAYS = 40

PRODUCTS = (
    "LED panel light",
    "铝型材",
    "ball valve DN50",
    "涤纶面料",
    "ceramic mug",
    "toy robot",
    "PVC film",
    "marine winch",
)
GIVEN = ("anna", "james", "maria", "omar", "lucas", "ines", "peter", "sofia", "yuki", "carlos", "emma", "ivan", "nadia")
FAMILY = ("mueller", "smith", "rossi", "haddad", "silva", "dubois", "novak", "garcia", "tanaka", "larsen", "kaya")
FIRMS = ("import", "trading", "wholesale", "home", "industrial", "retail", "supply")
REGIONS = ("US", "DE", "BR", "GB", "FR", "AU", "MX", "AE", "ZA", "JP")


class Script:
    """Collects the plan of a world; draws from one seeded random generator."""

    def __init__(self, seed: int, now: datetime, prefix: str = "q") -> None:
        self.seed, self.now, self.prefix = seed, now, prefix
        self.random = random.Random(seed)
        self.companies: list[WorldCompany] = []
        self.planned: list[WorldInquiry] = []
        self.statuses: list[StatusChange] = []
        self.platform_replies: list[PlatformReply] = []
        self.mails: list[WorldMail] = []
        self.numbers = 0
        self._mailboxes: dict[str, WorldMailbox] = {}

    def world(self) -> World:
        """The finished plan, mail in the order in which it was filed."""
        return World(
            self.seed, self.now, tuple(self.companies), tuple(self.planned), tuple(self.statuses),
            tuple(self.platform_replies), tuple(sorted(self.mails, key=lambda mail: (mail.filed_at, mail.mailbox))),
        )  # fmt: skip

    def company(
        self, company_id: str, title: str, story: str, accounts: list[WorldAccount], mailboxes: list[WorldMailbox]
    ) -> None:
        """Add a company with its accounts and mailboxes."""
        self.companies.append(WorldCompany(company_id, title, story, tuple(accounts), tuple(mailboxes)))  # type: ignore[arg-type]
        for mailbox in mailboxes:
            self._mailboxes[mailbox.key] = mailbox
            if mailbox.connected and story != "sent-not-stored":
                # Something older than any window, and something older than the horizon.
                self.ordinary_mail(mailbox, self.now - timedelta(days=55))
                self.ordinary_mail(mailbox, self.now - timedelta(days=75))

    def account(
        self,
        company_id: str,
        account_id: str,
        *,
        kind: str = "main",
        address: str | None = None,
        backup: str | None = None,
    ) -> WorldAccount:
        """A new account; it belongs to the plan once its company is added."""
        return WorldAccount(company_id, account_id, kind, None, address, backup)  # type: ignore[arg-type]

    def mailbox(self, account: WorldAccount, folder: str, role: str = "registered") -> WorldMailbox:
        """A new mailbox of an account; it belongs to the plan once its company is added."""
        address = account.backup_address if role == "backup" else account.registered_address
        assert address is not None
        key = f"{account.company_id}/{account.account_id}/{role}"
        password = f"pw-{self.random.getrandbits(64):016x}"
        return WorldMailbox(key, account.company_id, account.account_id, role, address, password, folder)  # type: ignore[arg-type]

    def past(self, days: float) -> datetime:
        """An instant `days` ago or up to half a day earlier, without a fraction of a second."""
        return self.now - timedelta(seconds=round(days * 86_400) + self.random.randrange(43_200))

    def timely(self) -> timedelta:
        """A delay well under 24 hours; most answers come within a working day."""
        hours = min(22.5, self.random.lognormvariate(1.4, 0.9))
        return timedelta(seconds=max(240, round(hours * 3600)))

    def late(self) -> timedelta:
        """A delay well over 24 hours."""
        return timedelta(seconds=round(self.random.uniform(26, 90) * 3600))

    def inquiries(self, account: WorldAccount, count: int) -> list[WorldInquiry]:
        """`count` inquiries spread over the history, some of them from today; oldest first."""
        receipts = []
        for number in range(count):
            if number % 13 == 12:
                age = self.random.uniform(2, 20) / 24
            else:
                age = self.random.uniform(28 / 24, HISTORY_DAYS)
            received_at = self.now - timedelta(seconds=round(age * 86_400))
            receipts.append((received_at, number))
        return [
            self.inquiry(account.company_id, account.account_id, received_at) for received_at, _ in sorted(receipts)
        ]

    def inquiry(
        self,
        company_id: str,
        account_id: str,
        received_at: datetime,
        *,
        wave: Wave = "first",
        of: WorldInquiry | None = None,
    ) -> WorldInquiry:
        """Add an inquiry of a new buyer, or of the buyer of the inquiry `of`."""
        self.numbers += 1
        number = self.numbers
        name = f"{self.random.choice(GIVEN)}.{self.random.choice(FAMILY)}"
        addresses = [f"{name}.{number}@{self.random.choice(FIRMS)}.example"]
        if self.random.random() < 0.3:
            addresses.append(f"{name.split('.', maxsplit=1)[0]}{self.prefix}{number}@mobile.example")
        serial = f"{company_id}-{self.prefix}{number:04d}"
        mailed = self.random.random() < 0.7
        inquiry = WorldInquiry(
            company_id=company_id,
            account_id=account_id,
            inquiry_id=serial,
            received_at=received_at,
            buyer_id=of.buyer_id if of else f"buyer-{self.prefix}{number:04d}",
            addresses=of.addresses if of else tuple(addresses),
            message_ids=(f"inquiry.{serial}@notify.platform.example",) if mailed else (),
            reply_addresses=(f"reply+{serial}@relay.platform.example",) if self.random.random() < 0.25 else (),
            region=self.random.choice(REGIONS),
            wave=wave,
            copies=2 if self.random.random() < 0.1 else 1,
        )
        self.planned.append(inquiry)
        return inquiry

    def answer(
        self, inquiries: list[WorldInquiry], mailbox: WorldMailbox, *, timely: float, late: float, wave_from: int
    ) -> None:
        """Answer a share in time and a share late; from number `wave_from` on the platform publishes after the first scan."""
        for number, inquiry in enumerate(inquiries):
            draw = self.random.random()
            if draw < timely + late:
                delay = self.timely() if draw < timely else self.late()
                if inquiry.received_at + delay < self.now - timedelta(minutes=5):
                    if self.random.random() < 0.1:
                        self.reply(inquiry, mailbox, timedelta(seconds=45), kind="automatic")
                    self.reply(inquiry, mailbox, delay)
                    if self.random.random() < 0.15 and inquiry.received_at + 2 * delay < self.now:
                        self.reply(inquiry, mailbox, 2 * delay)
            elif self.random.random() < 0.5:
                self.reply(inquiry, mailbox, timedelta(seconds=60), kind="automatic")
            if number >= wave_from:
                self.planned[self.planned.index(inquiry)] = replace(inquiry, wave="second")

    def reply(
        self,
        inquiry: WorldInquiry,
        mailbox: WorldMailbox,
        delay: timedelta,
        *,
        kind: str = "human",
        wave: Wave = "first",
    ) -> MailText:
        """Add a reply that the join can match: by thread, by relay address, or by one of the buyer's addresses."""
        self.numbers += 1
        at = inquiry.received_at + delay
        to: str = self.random.choice(inquiry.addresses)
        thread: str | None = None
        references: tuple[str, ...] = ()
        ways = (
            ["buyer"] + ["relay"] * bool(inquiry.reply_addresses) + ["thread", "references"] * bool(inquiry.message_ids)
        )
        way = "thread" if kind == "automatic" and inquiry.message_ids else self.random.choice(ways)
        if way == "relay":
            to = inquiry.reply_addresses[0]
        elif way == "thread":
            thread, references = inquiry.message_ids[0], inquiry.message_ids
        elif way == "references":
            to = f"office{self.numbers}@colleague.example"
            thread = f"{self.numbers}.later@mail.example"
            references = (*inquiry.message_ids, thread)
        subjects = letters.AUTOMATIC_SUBJECTS if kind == "automatic" else letters.REPLY_SUBJECTS
        letter = MailText(
            sender=mailbox.address,
            to=(to,),
            subject=self.subject(subjects),
            date=at,
            message_id=None if kind == "human" and self.random.random() < 0.03 else self.message_id(mailbox),
            kind=kind,  # type: ignore[arg-type]
            in_reply_to=thread,
            references=references,
            automatic_by="subject" if thread and self.random.random() < 0.5 else "header",
            agent=self.random.choice(letters.AGENTS),
            extra=(("X-Auto-Response-Suppress", "All"),) if self.random.random() < 0.05 else (),
        )
        self.mails.append(WorldMail(mailbox.key, letter, at + timedelta(seconds=self.random.randrange(40)), wave))
        return letter

    def status(self, inquiry: WorldInquiry, status: str, at: datetime, account_id: str | None = None) -> None:
        """Add a status of an inquiry."""
        self.statuses.append(
            StatusChange(inquiry.company_id, inquiry.inquiry_id, status, at, account_id)  # type: ignore[arg-type]
        )

    def platform_reply(self, inquiry: WorldInquiry, delay: timedelta, *, automatic: bool = False) -> None:
        """Add a reply through the platform's own mail."""
        self.numbers += 1
        at = inquiry.received_at + delay
        if at < self.now - timedelta(minutes=5):
            self.platform_replies.append(
                PlatformReply(
                    inquiry.company_id,
                    inquiry.account_id,
                    inquiry.inquiry_id,
                    f"reply-{self.numbers:05d}",
                    at,
                    automatic,
                )
            )

    def noise(self, mailbox: WorldMailbox, count: int, *, touches_buyers: bool = True) -> None:
        """Add mail to other people, newsletters and bounces."""
        for number in range(count):
            at = self.now - timedelta(seconds=self.random.randrange(3600, HISTORY_DAYS * 86_400))
            if number % 10 == 9:
                crowd = tuple(f"list{self.numbers}.{member}@reader.example" for member in range(6))
                self.newsletter(mailbox, crowd, at, "list")
            elif number % 17 == 16 and touches_buyers:
                self.numbers += 1
                letter = MailText(
                    mailbox.address, (f"sender{self.numbers}@supplier.example",), "Undelivered Mail Returned to Sender",
                    at, self.message_id(mailbox), kind="bounce",
                )  # fmt: skip
                self.mails.append(WorldMail(mailbox.key, letter, at))
            else:
                self.ordinary_mail(mailbox, at)

    def ordinary_mail(self, mailbox: WorldMailbox, at: datetime) -> None:
        """Add an ordinary mail to an address that sent no inquiry."""
        self.numbers += 1
        letter = MailText(
            mailbox.address, (f"partner{self.numbers}@supplier.example",), self.subject(letters.OTHER_SUBJECTS), at,
            self.message_id(mailbox), cc=(f"cc{self.numbers}@supplier.example",) if self.random.random() < 0.2 else (),
            agent=self.random.choice(letters.AGENTS),
        )  # fmt: skip
        self.mails.append(WorldMail(mailbox.key, letter, at + timedelta(seconds=self.random.randrange(30))))

    def newsletter(self, mailbox: WorldMailbox, to: tuple[str, ...], at: datetime, bulk_by: str) -> None:
        """Add a bulk mail."""
        letter = MailText(
            mailbox.address, to, self.subject(letters.NEWSLETTER_SUBJECTS), at, self.message_id(mailbox),
            kind="bulk", bulk_by=bulk_by,
        )  # fmt: skip
        self.mails.append(WorldMail(mailbox.key, letter, at))

    def subject(self, forms: tuple[str, ...]) -> str:
        """A drawn subject, filled in."""
        return self.random.choice(forms).format(product=self.random.choice(PRODUCTS), number=self.numbers)

    def message_id(self, mailbox: WorldMailbox) -> str:
        """A new Message-ID of a mailbox, without angle brackets."""
        return f"{self.random.getrandbits(64):016x}.{self.prefix}@{mailbox.address.split('@')[1]}"
