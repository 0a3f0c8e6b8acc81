"""Who is who in the demo world: eight sellers, four of them with a rate of 0 for the four well-known reasons.

`build(seed, now)` plans about 40 days of history, `build_live(world, at)` what happens while the demo runs. Both are
functions of their arguments; only random.Random(seed) is drawn from. Two things are kept clear of chance, so that the
plan has one right answer: no deadline lies near `now`, and no answer lies near 24 hours.
"""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

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
ADDRESS_CHANGED_DAYS = 37
"""The seller whose address changed has answered from the new one for so long: longer than the window looks back."""

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


def build(seed: int, now: datetime) -> World:
    """The history: companies, mailboxes, inquiries, what the platform told, and the mail in the Sent folders."""
    now = now.astimezone(UTC).replace(microsecond=0)
    script = _Script(seed, now)
    _healthy(script)
    _sub_account(script)
    _backup_connected(script)
    _synced(script)
    for company_id, title, story in (
        ("bf-valves", "北方阀门 Beifang Valves", "wrong-mailbox"),
        ("ds-toys", "东升玩具 Dongsheng Toys", "backup-not-connected"),
        ("km-plastics", "凯美塑料 Kaimei Plastics", "sent-not-stored"),
    ):
        _zero(script, company_id, title, story)
    _address_changed(script)
    return script.world()


def build_live(world: World, at: datetime) -> World:
    """What happens from `at` on: fresh inquiries in the healthy companies, most of them answered at once."""
    at = at.astimezone(UTC).replace(microsecond=0)
    script = _Script(world.seed + 1, at, prefix="live")
    for company in world.companies:
        connected = [mailbox for mailbox in company.mailboxes if mailbox.connected]
        if company.story not in ("healthy", "sub-account", "backup-connected"):
            continue
        for number in range(4):
            mailbox = connected[number % len(connected)]
            received_at = at - timedelta(minutes=3 + 2 * number)
            inquiry = script.inquiry(company.company_id, mailbox.account_id, received_at, wave="live")
            if number == 2:
                script.reply(inquiry, mailbox, timedelta(seconds=30), kind="automatic", wave="live")
            elif number != 3:
                script.reply(inquiry, mailbox, at - received_at - timedelta(seconds=5 + number), wave="live")
    return replace(script.world(), companies=world.companies)


def _healthy(script: "_Script") -> None:
    """One account, one mailbox, nearly everything in time; and every kind of mail that is not a reply."""
    account = script.account("hx-tools", "hx-main", address="zhang.wei@hx-tools.example")
    mailbox = script.mailbox(account, "已发送")
    script.company("hx-tools", "华兴五金 Huaxin Tools", "healthy", [account], [mailbox])
    inquiries = script.inquiries(account, 80)
    script.answer(inquiries, mailbox, timely=0.88, late=0.06, wave_from=50)
    script.specials(inquiries, account, mailbox)
    script.noise(mailbox, 60)


def _sub_account(script: "_Script") -> None:
    """A main account and two sub-accounts; the third one has no mailbox, so what it leaves open is not measured."""
    main = script.account("lt-textile", "lt-main", address="sales@lt-textile.example")
    sub = script.account("lt-textile", "lt-sub-chen", kind="sub", address="chen@lt-textile.example")
    bare = script.account("lt-textile", "lt-sub-wu", kind="sub")
    first, second = script.mailbox(main, "Sent Messages"), script.mailbox(sub, "Sent")
    script.company("lt-textile", "蓝天纺织 Lantian Textile", "sub-account", [main, sub, bare], [first, second])
    script.answer(script.inquiries(main, 40), first, timely=0.7, late=0.15, wave_from=20)
    script.answer(script.inquiries(sub, 35), second, timely=0.5, late=0.3, wave_from=35)
    # The main account's mailbox answers some of what the bare sub-account got; nobody looks into its own mail.
    orphans = script.inquiries(bare, 16)
    script.answer(orphans[:5], first, timely=1.0, late=0.0, wave_from=9)
    moved = script.inquiry("lt-textile", "lt-main", script.past(15))
    script.status(moved, "reassigned", moved.received_at + timedelta(hours=3), account_id="lt-sub-chen")
    script.reply(moved, second, timedelta(hours=9))
    script.noise(first, 25)
    script.noise(second, 20)


def _backup_connected(script: "_Script") -> None:
    """Replies leave from the registered mailbox and from the backup one; both are connected."""
    account = script.account(
        "rd-lighting", "rd-main", address="info@rd-lighting.example", backup="rd.export@mail-backup.example"
    )
    registered, backup = script.mailbox(account, "Sent Items"), script.mailbox(account, "Sent", role="backup")
    script.company("rd-lighting", "瑞达照明 Ruida Lighting", "backup-connected", [account], [registered, backup])
    inquiries = script.inquiries(account, 60)
    script.answer(inquiries[::2], registered, timely=0.6, late=0.2, wave_from=15)
    script.answer(inquiries[1::2], backup, timely=0.75, late=0.15, wave_from=15)
    # One message in both Sent folders is one reply.
    twice = script.inquiry("rd-lighting", "rd-main", script.past(12))
    letter = script.reply(twice, registered, timedelta(hours=2))
    script.mails.append(WorldMail(backup.key, letter, letter.date + timedelta(seconds=20)))
    script.noise(registered, 20)
    script.noise(backup, 20)


def _synced(script: "_Script") -> None:
    """No mailbox at all: the account answers through the platform's own mail."""
    account = replace(
        script.account("jh-marine", "jh-main"), synced_from=script.now - timedelta(days=HISTORY_DAYS + 10)
    )
    script.company("jh-marine", "金海船配 Jinhai Marine", "synced-by-platform", [account], [])
    for number, inquiry in enumerate(script.inquiries(account, 45)):
        luck = script.random.random()
        if luck < 0.08:
            script.status(inquiry, "declined", inquiry.received_at + timedelta(hours=5))
        elif luck < 0.72:
            script.platform_reply(inquiry, script.timely())
        elif luck < 0.86:
            script.platform_reply(inquiry, script.late())
        if number % 4 == 0:
            script.platform_reply(inquiry, timedelta(seconds=20), automatic=True)


def _zero(script: "_Script", company_id: str, title: str, story: str) -> None:
    """A seller who answers nearly everything, from a mailbox that nobody reads."""
    domain = f"{company_id}.example"
    backup = f"{company_id}.sales@mail-backup.example" if story == "backup-not-connected" else None
    account = script.account(company_id, f"{company_id[:2]}-main", address=f"info@{domain}", backup=backup)
    connected = script.mailbox(account, "Sent")
    other_role: Literal["registered", "backup"] = "backup" if backup else "registered"
    address = backup or f"sales@{domain}"
    unseen = replace(
        script.mailbox(account, "Sent"),
        key=f"{connected.key}/unseen",
        role=other_role,
        address=address,
        connected=False,
    )
    script.company(company_id, title, story, [account], [connected, unseen])
    script.answer(script.inquiries(account, 40), unseen, timely=0.85, late=0.1, wave_from=20)
    if story != "sent-not-stored":
        script.noise(connected, 70 if story == "wrong-mailbox" else 12, touches_buyers=False)


def _address_changed(script: "_Script") -> None:
    """The old mailbox was connected and answered; then the address changed, and replies leave from the new one."""
    account = script.account("yg-ceramics", "yg-main", address="export@yg-ceramics.example")
    old = replace(script.mailbox(account, "已发送"), address_changes=True)
    new = replace(old, key=f"{old.key}/new", address="export@yg-group.example", connected=False, address_changes=False)
    script.company("yg-ceramics", "永光陶瓷 Yongguang Ceramics", "address-changed", [account], [old, new])
    change = script.now - timedelta(days=ADDRESS_CHANGED_DAYS)
    inquiries = script.inquiries(account, 45)
    before = [inquiry for inquiry in inquiries if inquiry.received_at < change - timedelta(days=1)]
    script.answer(before, old, timely=1.0, late=0.0, wave_from=99)
    script.answer([inquiry for inquiry in inquiries if inquiry not in before], new, timely=0.9, late=0.1, wave_from=20)
    for number in range(12):
        script.other(old, change - timedelta(days=number, hours=5))


class _Script:
    """Writes the plan down; holds the dice."""

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
        self.companies.append(WorldCompany(company_id, title, story, tuple(accounts), tuple(mailboxes)))  # type: ignore[arg-type]
        for mailbox in mailboxes:
            self._mailboxes[mailbox.key] = mailbox
            if mailbox.connected and story != "sent-not-stored":
                # Something older than any window, and something older than the horizon.
                self.other(mailbox, self.now - timedelta(days=55))
                self.other(mailbox, self.now - timedelta(days=75))

    def account(
        self,
        company_id: str,
        account_id: str,
        *,
        kind: str = "main",
        address: str | None = None,
        backup: str | None = None,
    ) -> WorldAccount:
        return WorldAccount(company_id, account_id, kind, None, address, backup)  # type: ignore[arg-type]

    def mailbox(self, account: WorldAccount, folder: str, role: str = "registered") -> WorldMailbox:
        address = account.backup_address if role == "backup" else account.registered_address
        assert address is not None
        key = f"{account.company_id}/{account.account_id}/{role}"
        password = f"pw-{self.random.getrandbits(64):016x}"
        return WorldMailbox(key, account.company_id, account.account_id, role, address, password, folder)  # type: ignore[arg-type]

    def past(self, days: float) -> datetime:
        """About so many days ago, at any time of the day, no fraction of a second."""
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
        found = []
        for number in range(count):
            if number % 13 == 12:
                age = self.random.uniform(2, 20) / 24
            else:
                age = self.random.uniform(28 / 24, HISTORY_DAYS)
            received_at = self.now - timedelta(seconds=round(age * 86_400))
            found.append((received_at, number))
        return [self.inquiry(account.company_id, account.account_id, received_at) for received_at, _ in sorted(found)]

    def inquiry(
        self,
        company_id: str,
        account_id: str,
        received_at: datetime,
        *,
        wave: Wave = "first",
        of: WorldInquiry | None = None,
    ) -> WorldInquiry:
        """One inquiry of a new buyer, or of the buyer of another inquiry."""
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
        """Answer a share in time and a share late; from number `wave_from` on the platform publishes after the scan."""
        for number, inquiry in enumerate(inquiries):
            luck = self.random.random()
            if luck < timely + late:
                delay = self.timely() if luck < timely else self.late()
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
        """A reply that the rules can attach: by thread, by relay address, or by one of the buyer's addresses."""
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
            subject=self._subject(subjects),
            date=at,
            message_id=None if kind == "human" and self.random.random() < 0.03 else self._message_id(mailbox),
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
        self.statuses.append(
            StatusChange(inquiry.company_id, inquiry.inquiry_id, status, at, account_id)  # type: ignore[arg-type]
        )

    def platform_reply(self, inquiry: WorldInquiry, delay: timedelta, *, automatic: bool = False) -> None:
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

    def specials(self, inquiries: list[WorldInquiry], account: WorldAccount, mailbox: WorldMailbox) -> None:
        """The cases that decide whether a counter is right."""
        company, owner = account.company_id, account.account_id

        def fresh(days: float) -> WorldInquiry:
            return self.inquiry(company, owner, self.past(days))

        for status, hours in (("spam", 2), ("blacklisted", 20), ("withdrawn", 1), ("buyer-closed", 60)):
            self.status(fresh(14), status, self.planned[-1].received_at + timedelta(hours=hours))
        self.status(fresh(13), "spam", self.planned[-1].received_at + timedelta(days=3))
        undone = fresh(11)
        self.status(undone, "spam", undone.received_at + timedelta(hours=1))
        self.status(undone, "spam-undone", undone.received_at + timedelta(hours=6))
        for status in ("rejected", "declined"):
            self.status(fresh(16), status, self.planned[-1].received_at + timedelta(hours=7))
        self.planned[-1] = replace(self.planned[-1], copies=3)
        domestic = fresh(12)
        self.planned[self.planned.index(domestic)] = replace(domestic, region="CN")
        # One buyer, twice within minutes: one unit. One buyer on two days: two units, one reply for both.
        once = fresh(18)
        self.inquiry(company, owner, once.received_at + timedelta(minutes=20), of=once)
        self.reply(once, mailbox, timedelta(hours=4))
        evening = fresh(20)
        self.reply(
            self.inquiry(company, owner, evening.received_at + timedelta(hours=20), of=evening),
            mailbox,
            timedelta(hours=2),
        )
        # A client that dates its mail back by 20 hours: the server's date counts, and the answer is late.
        backdated = fresh(10)
        letter = MailText(
            mailbox.address, backdated.addresses[:1], "Re: 报价", backdated.received_at + timedelta(hours=9),
            self._message_id(mailbox), agent=letters.AGENTS[1],
        )  # fmt: skip
        self.mails.append(WorldMail(mailbox.key, letter, backdated.received_at + timedelta(hours=29)))
        # A forward to a colleague keeps the thread and answers nobody.
        passed_on = fresh(9)
        self.mails.append(
            WorldMail(
                mailbox.key,
                MailText(
                    mailbox.address, ("colleague@hx-tools.example",), self._subject(letters.FORWARD_SUBJECTS),
                    passed_on.received_at + timedelta(hours=1), self._message_id(mailbox), kind="forward",
                    in_reply_to=(passed_on.message_ids or ("x@notify.platform.example",))[0], references=passed_on.message_ids,
                ),
                passed_on.received_at + timedelta(hours=1, seconds=3),
            )
        )  # fmt: skip
        # A newsletter reaches buyers who wait for an answer, and is none.
        waiting = tuple(inquiry.addresses[0] for inquiry in inquiries[-12:])
        for number, bulk_by in enumerate(("list", "precedence")):
            self._newsletter(mailbox, waiting, self.past(4 + number), bulk_by)

    def noise(self, mailbox: WorldMailbox, count: int, *, touches_buyers: bool = True) -> None:
        """Mail to other people, newsletters, bounces."""
        for number in range(count):
            at = self.now - timedelta(seconds=self.random.randrange(3600, HISTORY_DAYS * 86_400))
            if number % 10 == 9:
                crowd = tuple(f"list{self.numbers}.{member}@reader.example" for member in range(6))
                self._newsletter(mailbox, crowd, at, "list")
            elif number % 17 == 16 and touches_buyers:
                self.numbers += 1
                letter = MailText(
                    mailbox.address, (f"sender{self.numbers}@supplier.example",), "Undelivered Mail Returned to Sender",
                    at, self._message_id(mailbox), kind="bounce",
                )  # fmt: skip
                self.mails.append(WorldMail(mailbox.key, letter, at))
            else:
                self.other(mailbox, at)

    def other(self, mailbox: WorldMailbox, at: datetime) -> None:
        """An ordinary mail to somebody who never asked anything."""
        self.numbers += 1
        letter = MailText(
            mailbox.address, (f"partner{self.numbers}@supplier.example",), self._subject(letters.OTHER_SUBJECTS), at,
            self._message_id(mailbox), cc=(f"cc{self.numbers}@supplier.example",) if self.random.random() < 0.2 else (),
            agent=self.random.choice(letters.AGENTS),
        )  # fmt: skip
        self.mails.append(WorldMail(mailbox.key, letter, at + timedelta(seconds=self.random.randrange(30))))

    def _newsletter(self, mailbox: WorldMailbox, to: tuple[str, ...], at: datetime, bulk_by: str) -> None:
        letter = MailText(
            mailbox.address, to, self._subject(letters.NEWSLETTER_SUBJECTS), at, self._message_id(mailbox),
            kind="bulk", bulk_by=bulk_by,
        )  # fmt: skip
        self.mails.append(WorldMail(mailbox.key, letter, at))

    def _subject(self, forms: tuple[str, ...]) -> str:
        return self.random.choice(forms).format(product=self.random.choice(PRODUCTS), number=self.numbers)

    def _message_id(self, mailbox: WorldMailbox) -> str:
        return f"{self.random.getrandbits(64):016x}.{self.prefix}@{mailbox.address.split('@')[1]}"
