"""The world of a fault run: sellers, inquiries and sent mail, with an exact answer that is known beforehand.

History is in the Sent folders before the first scan; its inquiries are published later, in any order. Fresh inquiries
arrive during the faults, and their answers are filed within minutes. No buyer sends enough inquiries to reach a bound.
"""

import random
from dataclasses import replace
from datetime import datetime, timedelta

from services.standalone.world.letters import MailText
from services.standalone.world.world import (
    PlatformReply,
    StatusChange,
    World,
    WorldAccount,
    WorldCompany,
    WorldInquiry,
    WorldMail,
    WorldMailbox,
)

COMPANIES = 6
STATUSES = ("spam", "rejected", "declined", "withdrawn", "buyer-closed", "reassigned")


class Story:
    """Creates a world: `history` once, `fresh` during the run. Everything follows from the seed and the instants."""

    def __init__(self, seed: int, now: datetime) -> None:
        self.seed = seed
        self.now = now
        self.chance = random.Random(seed)
        self.numbers = 0
        self.companies = tuple(_company(number) for number in range(COMPANIES))

    def history(self, inquiries: int) -> World:
        """`inquiries` of the last 25 days, and the mail that was sent then."""
        world = World(self.seed, self.now, self.companies)
        for number in range(inquiries):
            at = self.now - timedelta(seconds=self.chance.randrange(2 * 86_400, 25 * 86_400))
            world = world.joined(self._inquiry(self.companies[number % COMPANIES], at, None))
        return world

    def fresh(self, inquiries: int, now: datetime) -> World:
        """`inquiries` of the last two minutes before `now`, and their answers."""
        world = World(self.seed, now, self.companies)
        for _ in range(inquiries):
            at = now - timedelta(seconds=self.chance.randrange(60, 120))
            world = world.joined(self._inquiry(self.chance.choice(self.companies), at, now))
        return world

    def _inquiry(self, company: WorldCompany, at: datetime, now: datetime | None) -> World:
        """One inquiry with its answers, statuses and replies; with `now` all of them happened before it."""
        chance = self.chance
        self.numbers += 1
        number = self.numbers
        account = chance.choice(company.accounts)
        mailbox = next(candidate for candidate in company.mailboxes if candidate.account_id == account.account_id)
        inquiry = WorldInquiry(
            company.company_id,
            account.account_id,
            f"inquiry-{number:05d}",
            at,
            f"buyer-{number if chance.random() < 0.9 else number - 1:05d}",
            (f"buyer{number}@shop{number % 50}.example",),
            (f"ask-{number}@notify.platform.example",) if chance.random() < 0.6 else (),
            (f"relay-{number}@relay.platform.example",) if chance.random() < 0.3 else (),
            copies=2 if chance.random() < 0.1 else 1,
        )

        taken: set[int] = set()

        def later(longest_hours: float) -> datetime:
            """A unique instant: of two answers at the same instant the recount and the ledger may choose different ones."""
            while True:
                seconds = (
                    chance.randrange(1, 50) if now is not None else chance.randrange(30, int(longest_hours * 3600))
                )
                if seconds not in taken:
                    taken.add(seconds)
                    return at + timedelta(seconds=seconds)

        mails: list[WorldMail] = []
        for kind, likely in (("automatic", 0.2), ("human", 0.65), ("human", 0.1), ("forward", 0.05)):
            if chance.random() < likely:
                sent = later(40)
                mails.append(WorldMail(mailbox.key, self._letter(kind, mailbox, inquiry, sent), sent))
        if chance.random() < 0.5:
            sent = later(40)
            unrelated = replace(
                inquiry, addresses=(f"partner{number}@supplier.example",), message_ids=(), reply_addresses=()
            )
            mails.append(WorldMail(mailbox.key, self._letter("human", mailbox, unrelated, sent), sent))
        statuses: tuple[StatusChange, ...] = ()
        if chance.random() < 0.15:
            status = chance.choice(STATUSES)
            to = chance.choice(company.accounts).account_id if status == "reassigned" else None
            statuses = (StatusChange(company.company_id, inquiry.inquiry_id, status, later(30), to, "first"),)  # type: ignore[arg-type]
            if status == "spam" and chance.random() < 0.5:
                undone = StatusChange(
                    company.company_id,
                    inquiry.inquiry_id,
                    "spam-undone",
                    statuses[0].at + timedelta(seconds=5),
                    wave="first",
                )
                statuses += (undone,)
        replies: tuple[PlatformReply, ...] = ()
        if chance.random() < 0.15:
            replies = (
                PlatformReply(
                    company.company_id, account.account_id, inquiry.inquiry_id, f"reply-{number}", later(50),
                    chance.random() < 0.3, "first",
                ),
            )  # fmt: skip
        return World(self.seed, at, self.companies, (inquiry,), statuses, replies, tuple(mails))

    def _letter(self, kind: str, mailbox: WorldMailbox, inquiry: WorldInquiry, sent: datetime) -> MailText:
        chance = self.chance
        by_thread = bool(inquiry.message_ids) and (kind == "forward" or chance.random() < 0.4)
        to = chance.choice((*inquiry.addresses, *inquiry.reply_addresses))
        if kind == "forward" or (by_thread and chance.random() < 0.5):
            to = f"colleague{self.numbers}@office.example"
        return MailText(
            mailbox.address,
            (to,),
            "Fwd: Inquiry"
            if kind == "forward"
            else "Automatic reply: Inquiry"
            if kind == "automatic"
            else "Re: Inquiry",
            sent,
            f"{chance.getrandbits(64):016x}@{mailbox.address.partition('@')[2]}",
            kind=kind,  # type: ignore[arg-type]
            in_reply_to=inquiry.message_ids[0] if by_thread else None,
            references=inquiry.message_ids if by_thread else (),
        )


def _company(number: int) -> WorldCompany:
    company_id = f"seller-{number}"
    names = ("main", "sales") if number % 2 else ("main",)
    accounts = tuple(
        WorldAccount(
            company_id, name, "main" if name == "main" else "sub",
            registered_address=f"{name}{number}@{company_id}.example",
        )
        for name in names
    )  # fmt: skip
    mailboxes = tuple(
        WorldMailbox(
            f"{company_id}/{account.account_id}", company_id, account.account_id, "registered",
            account.registered_address or "", f"Canary-{number}-{account.account_id}", "Sent",
        )
        for account in accounts
    )  # fmt: skip
    return WorldCompany(company_id, company_id, "healthy", accounts, mailboxes)
