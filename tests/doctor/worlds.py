"""Sellers with a known reason for a rate of 0, generated from events in the world and not from the doctor's facts.

A world states what its seller really does: which mailbox answers whom and when, what a mail program files where, what is
deleted, when a login breaks, when an address changes. `observed` then derives what the services would have stored: a first
scan, polls every ten minutes, the clocks that count (services.mail.trust), matching by thread and by the buyer's address.
Only that goes into the tables. Everything is drawn from the random generator that is passed in, and happens before NOW.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg

from services.mail import trust

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
HORIZON = 60 * DAY
POLL = 10 * MINUTE
BOTH = ("default", "alibaba-2019")


@dataclass
class Inquiry:
    """An inquiry; `threaded`: the seller got it as a mail whose Message-ID the platform publishes."""

    inquiry_id: str
    received_at: datetime
    buyer: str
    threaded: bool
    region: str = "DE"
    closed_at: datetime | None = None


@dataclass
class Letter:
    """One message, really sent at `at`; `clock` is the time by the client's clock, `filed` by the server's."""

    at: datetime
    kind: str = "human"
    answers: Inquiry | None = None
    to_known: bool = True
    in_thread: bool = True
    folder: str = "Sent"
    clock: datetime | None = None
    filed: datetime | None = None
    gone_after: timedelta | None = None


@dataclass
class Box:
    """A connected mailbox, its messages, and its problems."""

    connected_at: datetime
    letters: list[Letter] = field(default_factory=list)
    address: str = "info@seller"
    role: str = "registered"
    host: str = "imap.seller.example"
    state: str = "active"
    reason: str | None = None
    failures: int = 0
    ends_at: datetime | None = None
    shows_newest: int | None = None
    shows_days: int | None = None
    older: int = 0
    """Number of messages older than anything that is read."""


@dataclass
class World:
    """One company whose account `main` has a rate of 0; `cause` is the true reason."""

    company_id: str
    cause: str
    inquiries: list[Inquiry] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    addresses: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    rule_sets: tuple[str, ...] = BOTH
    stuck_since: datetime | None = None
    paused: bool = False
    synced: bool = False
    elsewhere: bool = False
    """Another account of the company answers everything in time."""


Story = Callable[[random.Random, World], None]


def worlds(seed: int, each: int, healthy: int) -> list[World]:
    """`each` worlds of every cause, and `healthy` ones in which nothing is wrong; the same for the same seed."""
    dice = random.Random(seed)
    all_worlds: list[World] = []
    for cause, story in STORIES.items():
        for number in range(healthy if cause == "none" else each):
            world = World(f"{cause}-{number:03}", cause)
            world.addresses["registered"] = ("info@seller", NOW - 400 * DAY)
            world.elsewhere = dice.random() < 0.2
            story(dice, world)
            disturb(dice, world)
            all_worlds.append(world)
    return all_worlds


def disturb(dice: random.Random, world: World) -> None:
    """Add random events that explain nothing: a server that was unavailable this morning, a few deleted copies, an old folder of
    another program, automatic replies to some, a clock that was wrong for some messages."""
    for mailbox in world.boxes:
        if mailbox.state == "active" and mailbox.ends_at is None and dice.random() < 0.15:
            mailbox.ends_at = NOW - dice.uniform(0.2, 8) * HOUR
            mailbox.reason, mailbox.failures = (
                dice.choice(("unreachable", "throttled", "budget-spent")),
                dice.randint(1, 6),
            )
        if dice.random() < 0.15:
            mailbox.letters += [
                Letter(mailbox.connected_at - dice.uniform(1, 300) * DAY, folder="Gesendet")
                for _ in range(dice.randint(1, 60))
            ]
        for letter in mailbox.letters:
            if letter.gone_after is None and dice.random() < 0.02:
                letter.gone_after = dice.uniform(1, 60) * MINUTE
            if letter.clock is None and dice.random() < 0.03:
                letter.clock = letter.at - dice.uniform(1, 9) * HOUR
        if dice.random() < 0.3:
            mailbox.letters += [
                Letter(inquiry.received_at + dice.uniform(5, 300) * timedelta(seconds=1), "automatic", inquiry)
                for inquiry in world.inquiries
                if dice.random() < 0.12
            ]
        if dice.random() < 0.03 and mailbox.shows_days is None and mailbox.shows_newest is None:
            mailbox.older = max(0, 1000 - len(mailbox.letters))


def asked(dice: random.Random, world: World, few: int, many: int, oldest: float, newest: float) -> list[Inquiry]:
    """Inquiries at any time of the day, `oldest` to `newest` days ago; whether they are mailed depends on the platform."""
    mailed = dice.choice((0.0, 0.7, 1.0))
    for _ in range(dice.randint(few, many)):
        number = len(world.inquiries)
        world.inquiries.append(
            Inquiry(f"i{number}", NOW - dice.uniform(newest, oldest) * DAY, f"b{number}", dice.random() < mailed)
        )
    return world.inquiries


def window(dice: random.Random, world: World) -> list[Inquiry]:
    """Inquiries of the weeks that count (at least some, otherwise that would be the cause), and of the time before and after."""
    asked(dice, world, 2, 6, 33, 9)
    return asked(dice, world, 2, 40, 52, 0.1)


def box(dice: random.Random, world: World, ago: tuple[float, float] = (9, 120), **values: Any) -> Box:
    """A mailbox that was connected long enough ago to be settled."""
    mailbox = Box(NOW - dice.uniform(*ago) * DAY, older=dice.choice((0, 0, 40, 900)), **values)
    world.boxes.append(mailbox)
    return mailbox


def delay(dice: random.Random) -> timedelta:
    """Response time of a good seller."""
    return timedelta(seconds=min(21.5 * 3600, max(240, dice.lognormvariate(1.4, 0.9) * 3600)))


def replies(dice: random.Random, inquiries: Sequence[Inquiry], willing: float = 0.9) -> Iterator[Letter]:
    """Answers in time to most inquiries, by reply or by a new mail."""
    for inquiry in inquiries:
        if dice.random() < willing:
            at = inquiry.received_at + delay(dice)
            if at < NOW:
                yield Letter(at, answers=inquiry, in_thread=dice.random() < 0.7)


def other_mail(dice: random.Random, few: int, many: int, oldest: float = 58, newest: float = 0.1) -> list[Letter]:
    """Mail that has nothing to do with inquiries: suppliers, old customers, newsletters, bounces."""
    kinds = ("human", "human", "human", "human", "bulk", "bounce", "forward")
    return [
        Letter(NOW - dice.uniform(newest, oldest) * DAY, dice.choice(kinds)) for _ in range(dice.randint(few, many))
    ]


def answers_elsewhere(dice: random.Random, world: World) -> None:
    """FAQ 1: an unconnected mailbox answers; the connected one is used for other mail, or hardly at all."""
    window(dice, world)
    mailbox = box(dice, world)
    mailbox.letters = other_mail(dice, 15, 150) if dice.random() < 0.75 else other_mail(dice, 0, 3)
    if dice.random() < 0.3:
        world.addresses["backup"] = ("backup@seller", NOW - 300 * DAY)


def address_changed(dice: random.Random, world: World) -> None:
    """FAQ 2: the registered address changed; the old mailbox stays connected and is silent (or closed) from then on."""
    changed_at = NOW - dice.uniform(18, 56) * DAY
    mailbox = box(dice, world, (60, 150), state="needs_reconnect", reason="address-changed", ends_at=changed_at)
    inquiries = window(dice, world)
    mailbox.letters = [
        letter for letter in (*replies(dice, inquiries), *other_mail(dice, 5, 60)) if letter.at < changed_at
    ]
    world.addresses["registered"] = ("new@seller", changed_at)


def backup_answers(dice: random.Random, world: World) -> None:
    """FAQ 3: replies leave from the backup mailbox, which is not connected; now and then, late, from the connected one."""
    inquiries = window(dice, world)
    mailbox = box(dice, world)
    mailbox.letters = other_mail(dice, 0, 60)
    for inquiry in inquiries:
        if dice.random() < 0.08 and inquiry.received_at < NOW - 4 * DAY:
            mailbox.letters.append(Letter(inquiry.received_at + dice.uniform(26, 80) * HOUR, answers=inquiry))
    world.addresses["backup"] = ("backup@seller", NOW - 300 * DAY)


def not_stored(dice: random.Random, world: World) -> None:
    """FAQ 4: Outlook or Foxmail answers and files nothing on the server; a stray mail by the web page is filed."""
    window(dice, world)
    mailbox = box(dice, world, host=dice.choice(("imap.exmail.qq.com", "imap.qiye.aliyun.com", "imap.seller.example")))
    mailbox.letters = other_mail(dice, 0, 2)
    if dice.random() < 0.3:  # it used to be filed, until the program was set up again
        mailbox.letters += other_mail(dice, 5, 30, 58, 45)


def settling(dice: random.Random, world: World) -> None:
    """A seller who is new, or whose mailbox was connected within the settling days."""
    if dice.random() < 0.4:
        inquiries = asked(dice, world, 1, 12, 4.2, 0.2)
        mailbox = box(dice, world, (3, 20))
        mailbox.letters = [*replies(dice, inquiries), *other_mail(dice, 0, 40)]
        return
    inquiries = asked(dice, world, 8, 40, 45, 0.1)
    mailbox = box(dice, world, (0.3, 4.5))
    # The server has nothing older: the program has filed there only since it was set up.
    mailbox.letters = [letter for letter in replies(dice, inquiries) if letter.at > mailbox.connected_at]
    mailbox.older = 0


def no_inquiries(dice: random.Random, world: World) -> None:
    """Denominator 0: the last inquiry was long ago."""
    asked(dice, world, 1, 4, 58, 50)
    if dice.random() < 0.8:
        box(dice, world).letters = other_mail(dice, 0, 80)


def excluded(dice: random.Random, world: World) -> None:
    """Every inquiry comes from mainland China or from a buyer whose account was closed."""
    inquiries = asked(dice, world, 2, 25, 36, 8)
    for inquiry in inquiries:
        if dice.random() < 0.7:
            inquiry.region = "CN"
        else:
            inquiry.closed_at = inquiry.received_at + dice.uniform(1, 40) * HOUR
            inquiry.closed_at = min(inquiry.closed_at, NOW - MINUTE)
    box(dice, world).letters = [*replies(dice, inquiries, 0.4), *other_mail(dice, 0, 60)]


def wrong_folder(dice: random.Random, world: World) -> None:
    """The program files into a Sent folder that it created; the server's folder is watched and stays almost empty."""
    inquiries = window(dice, world)
    mailbox = box(dice, world)
    mailbox.letters = [*replies(dice, inquiries), *other_mail(dice, 0, 60)]
    for letter in mailbox.letters:
        letter.folder = "Sent Messages"
    mailbox.letters += other_mail(dice, 0, 2)


def login_fails(dice: random.Random, world: World) -> None:
    """The password changed, the mailbox was closed, its server is unavailable, no fetcher reads it any more, or it was paused
    while another mailbox of the account is read."""
    ends_at = NOW - dice.uniform(18, 50) * DAY
    inquiries = window(dice, world)
    if dice.random() < 0.25:
        paused = dice.random() < 0.7
        mailbox = box(dice, world, (55, 150), ends_at=ends_at, state="paused" if paused else "active")
        mailbox.letters = [*replies(dice, inquiries), *other_mail(dice, 0, 80)]
        if paused:
            box(dice, world, (55, 150)).letters = other_mail(dice, 0, 80)
        return
    refused = dice.random() < 0.7
    mailbox = box(
        dice, world, (55, 150), ends_at=ends_at, state="needs_reconnect" if refused else "active",
        reason="login-refused" if refused else dice.choice(("unreachable", "tls-failed", "no-sent-folder")),
        failures=3 if refused else dice.randint(20, 400),
    )  # fmt: skip
    mailbox.letters = [*replies(dice, inquiries), *other_mail(dice, 0, 80)]


def short_window(dice: random.Random, world: World) -> None:
    """The provider shows the last 30 days, or the newest thousand messages; earlier answers cannot be seen."""
    if dice.random() < 0.5:
        world.rule_sets = ("etsy",)
        mailbox = box(dice, world, (5, 12), shows_days=30, host="imap.qq.com")
        ago = (NOW - mailbox.connected_at) / DAY
        inquiries = asked(dice, world, 8, 40, 85, ago + 32)
        mailbox.letters = [*replies(dice, inquiries), *other_mail(dice, 30, 90, 85, 0.1)]
    else:
        cap = dice.choice((1000, 2000))
        mailbox = box(dice, world, (9, 14), shows_newest=cap)
        ago = (NOW - mailbox.connected_at) / DAY
        inquiries = asked(dice, world, 8, 40, 36, ago + 9)
        mailbox.letters = [*replies(dice, inquiries), *other_mail(dice, cap * 24 // 10, cap * 27 // 10, ago + 8, 0.1)]
    mailbox.older = 0


def automatic(dice: random.Random, world: World) -> None:
    """Only a rule of the mail program answers."""
    inquiries = window(dice, world)
    mailbox = box(dice, world)
    share = dice.uniform(0.85, 1.0)
    mailbox.letters = [
        Letter(inquiry.received_at + dice.uniform(5, 300) * timedelta(seconds=1), "automatic", inquiry)
        for inquiry in inquiries
        if dice.random() < share
    ]
    mailbox.letters += other_mail(dice, 0, 80)


def wrong_clock(dice: random.Random, world: World) -> None:
    """A clock that is days ahead, or a mailbox that was moved to another server: in the first scan the clocks of messages
    disagree, and the later one counts."""
    mailbox = box(dice, world, (9, 14))
    ago = (NOW - mailbox.connected_at) / DAY
    ahead = dice.random() < 0.5
    days = dice.uniform(1.5, 5) if ahead else 0
    inquiries = asked(dice, world, 6, 30, 36, ago + 6.5)
    mailbox.letters = [*replies(dice, inquiries), *other_mail(dice, 2, 25, 40, ago + 0.5)]
    moved_at = mailbox.connected_at - dice.uniform(0.2, 4) * DAY
    for letter in mailbox.letters:
        if ahead:
            letter.clock = letter.at + days * DAY
        elif letter.at < moved_at:
            letter.filed = moved_at
    mailbox.older = 0


def second_address(dice: random.Random, world: World) -> None:
    """Buyers later write from another address, and are answered there."""
    inquiries = window(dice, world)
    mailbox = box(dice, world)
    for letter in replies(dice, inquiries):
        letter.to_known, letter.in_thread = False, False
        mailbox.letters.append(letter)
    mailbox.letters += other_mail(dice, 0, 40)


def deleted(dice: random.Random, world: World) -> None:
    """Sent copies are deleted, or moved to a folder on the computer, at once or every few minutes."""
    inquiries = window(dice, world)
    mailbox = box(dice, world, (50, 140))
    mailbox.letters = [*replies(dice, inquiries), *other_mail(dice, 0, 20)]
    for letter in mailbox.letters:
        letter.gone_after = dice.uniform(0.5, 20) * timedelta(seconds=1)
    remaining = other_mail(dice, 0, 4)
    for letter in remaining:
        letter.gone_after = dice.choice((None, dice.uniform(1, 48) * HOUR))
    mailbox.letters += remaining


def behind(dice: random.Random, world: World) -> None:
    """Replies are published, but nothing has been counted since the inquiries came."""
    inquiries = window(dice, world)
    box(dice, world, (55, 140)).letters = [*replies(dice, inquiries), *other_mail(dice, 0, 80)]
    world.stuck_since = NOW - dice.choice((dice.uniform(0.4, 24) * HOUR, dice.uniform(1, 20) * DAY))


def not_connected(dice: random.Random, world: World) -> None:
    """A (sub-)account without a mailbox, or whose mailbox was paused long ago, or whose test was never passed."""
    window(dice, world)
    kind = dice.randrange(3)
    if kind == 1:
        ends_at = NOW - dice.uniform(45, 80) * DAY
        mailbox = box(dice, world, (90, 150), state="paused", ends_at=ends_at)
        mailbox.letters = other_mail(dice, 0, 30)
    elif kind == 2:
        mailbox = box(dice, world, (5, 60), state="pending_test")
        mailbox.ends_at = mailbox.connected_at


def healthy(dice: random.Random, world: World) -> None:
    """Mailboxes work and everything is read; the rate is right."""
    inquiries = asked(dice, world, 1, 6, 34, 8) if dice.random() < 0.2 else window(dice, world)
    mailbox = box(dice, world, (40, 140), host=dice.choice(("imap.gmail.com", "imap.seller.example", "imap.qq.com")))
    mailbox.letters = other_mail(dice, 0, 120)
    kind = dice.choice(("diligent", "late", "lazy", "lazy", "lazy with a backup", "little to do", "answered once"))
    if kind == "diligent":
        mailbox.letters += replies(dice, inquiries)
    elif kind in ("late", "answered once"):
        share = 0.9 if kind == "late" else 0.15
        for inquiry in inquiries:
            at = inquiry.received_at + dice.uniform(25, 90) * HOUR
            if dice.random() < share and at < NOW:
                mailbox.letters.append(Letter(at, answers=inquiry, in_thread=dice.random() < 0.7))
    elif kind == "lazy with a backup":
        world.addresses["backup"] = ("backup@seller", NOW - 300 * DAY)
    elif kind == "little to do":
        mailbox.letters = other_mail(dice, 0, 4)


STORIES: dict[str, Story] = {
    "mailbox-does-not-answer": answers_elsewhere,
    "address-changed": address_changed,
    "backup-not-connected": backup_answers,
    "sent-not-stored": not_stored,
    "settling-not-over": settling,
    "no-valid-inquiries": no_inquiries,
    "all-excluded": excluded,
    "wrong-sent-folder": wrong_folder,
    "login-failing-since": login_fails,
    "provider-window-too-short": short_window,
    "only-automatic-replies": automatic,
    "clock-trouble": wrong_clock,
    "buyers-second-address": second_address,
    "copies-deleted": deleted,
    "pipeline-behind": behind,
    "mailbox-not-connected": not_connected,
    "none": healthy,
}


@dataclass
class Seen:
    """What the services have stored about one mailbox."""

    counts: Counter[tuple[date, str]] = field(default_factory=Counter)
    suspects: Counter[tuple[date, str]] = field(default_factory=Counter)
    in_folder: int = 0
    uids_passed: int = 0
    uids_found: int = 0
    other_first: int = 0
    other_now: int = 0
    through: datetime | None = None
    matched: list[tuple[Inquiry, str, datetime, str, str, str]] = field(default_factory=list)


def observed(world: World, mailbox: Box) -> Seen:
    """What polls every ten minutes find, and which inquiries the mailbox answers."""
    seen = Seen()
    last = min(mailbox.ends_at or NOW, NOW)
    tested = mailbox.state != "pending_test"
    seen.through = last - (last - mailbox.connected_at) % POLL if tested and last > mailbox.connected_at else None
    first_scan = mailbox.connected_at + 2 * MINUTE
    watched = [letter for letter in mailbox.letters if letter.folder == "Sent"]
    here_at_first = sorted(
        letter.at for letter in watched if letter.at <= mailbox.connected_at and not gone(letter, first_scan)
    )
    shown_from = datetime.min.replace(tzinfo=UTC)
    if mailbox.shows_newest is not None and len(here_at_first) > mailbox.shows_newest:
        shown_from = here_at_first[-mailbox.shows_newest]
    if mailbox.shows_days is not None:
        shown_from = mailbox.connected_at - mailbox.shows_days * DAY
    for number, letter in enumerate(sorted(watched, key=lambda each_letter: each_letter.at)):
        internal = letter.filed or letter.at
        if letter.at <= mailbox.connected_at:
            poll, after = first_scan, None
            there = max(letter.at, shown_from) == letter.at and letter.at > first_scan - HORIZON
        else:
            steps = (letter.at - mailbox.connected_at) // POLL + 1
            poll = mailbox.connected_at + steps * POLL
            after = poll - POLL
            there = True
            seen.uids_passed += tested and poll <= last
        there = there and tested and poll <= last and not gone(letter, poll)
        seen.uids_found += there and after is not None
        if not there:
            continue
        clock = letter.clock or letter.at
        sent = trust.trusted_time(
            date=clock if clock <= poll + DAY else None, internal=internal, save=None, after=after, first_seen=poll
        )
        key = (sent.sent_at.date(), letter.kind)
        seen.counts[key] += 1
        seen.suspects[key] += sent.evidence == "suspect"
        if letter.answers is not None and letter.kind in ("human", "automatic"):
            way = (
                "in-reply-to"
                if letter.in_thread and letter.answers.threaded
                else "buyer-address"
                if letter.to_known
                else ""
            )
            if way and sent.sent_at >= letter.answers.received_at - 300 * timedelta(seconds=1):
                seen.matched.append(
                    (letter.answers, f"m{mailbox.role}{number}", sent.sent_at, letter.kind, way, sent.evidence)
                )
    seen.in_folder = mailbox.older + sum(
        letter.at >= shown_from and not gone(letter, last) for letter in watched if letter.at <= last
    )
    if mailbox.shows_newest is not None:
        seen.in_folder = min(seen.in_folder, mailbox.shows_newest)
    elsewhere = [letter for letter in mailbox.letters if letter.folder != "Sent" and letter.at <= last]
    seen.other_first = sum(letter.at <= mailbox.connected_at + DAY for letter in elsewhere)
    seen.other_now = len(elsewhere)
    return seen


def gone(letter: Letter, at: datetime) -> bool:
    """Whether a copy is deleted at an instant."""
    return letter.gone_after is not None and letter.at + letter.gone_after < at


def load(connection: psycopg.Connection, loaded: Sequence[World]) -> None:
    """Store what was observed in the tables of registry and ledger."""
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
    for world in loaded:
        _rows(world, rows)
    with connection.transaction(), connection.cursor() as cursor:
        for table, columns in TABLES.items():
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
                for values in rows[table]:
                    copy.write_row(values)


def stored_rows(world: World) -> dict[str, list[dict[str, Any]]]:
    """Table → rows of a world as they are stored, by column."""
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
    _rows(world, rows)
    return {
        table: [dict(zip(columns.split(", "), values, strict=True)) for values in rows[table]]
        for table, columns in TABLES.items()
    }


def _rows(world: World, rows: dict[str, list[tuple[Any, ...]]]) -> None:
    company = world.company_id
    rows["registry.companies"].append((company,))
    rows["registry.accounts"].append((company, "main"))
    rows["ledger.companies"].append((company, world.stuck_since))
    for role, (address, changed_at) in world.addresses.items():
        rows["registry.addresses"].append((company, "main", role, b"", "x", address, changed_at))
    for inquiry in world.inquiries:
        _inquiry(rows, company, "main", inquiry)
    if world.stuck_since is not None:
        rows["ledger.dirty"].append((company, world.stuck_since))
    for number, mailbox in enumerate(world.boxes):
        _mailbox(rows, world, f"m{number}", mailbox)
    if world.elsewhere:
        rows["registry.accounts"].append((company, "second"))
        for number in range(6):
            asked_at = NOW - (7 + 4 * number) * DAY
            inquiry = Inquiry(f"s{number}", asked_at, f"sb{number}", True)
            _inquiry(rows, company, "second", inquiry)
            rows["ledger.replies"].append(
                (
                    company,
                    f"s{number}",
                    f"rs{number}",
                    "platform",
                    "second",
                    "",
                    asked_at + HOUR,
                    "",
                    "human",
                    "",
                    "platform",
                )
            )


def _inquiry(rows: dict[str, list[tuple[Any, ...]]], company: str, account: str, inquiry: Inquiry) -> None:
    rows["ledger.inquiries"].append(
        (company, inquiry.inquiry_id, account, inquiry.received_at, "f", inquiry.buyer, inquiry.region)
    )
    if inquiry.closed_at is not None:
        rows["ledger.statuses"].append((company, inquiry.inquiry_id, "buyer-closed", inquiry.closed_at))


def _mailbox(rows: dict[str, list[tuple[Any, ...]]], world: World, mailbox_id: str, mailbox: Box) -> None:
    company, seen = world.company_id, observed(world, mailbox)
    complete_from = None if seen.through is None else mailbox.connected_at - HORIZON
    rows["registry.mailboxes"].append(
        (company, mailbox_id, "main", mailbox.role, mailbox.state, mailbox.reason, "x", mailbox.address, mailbox.host, 993,
         f"{company}/{mailbox_id}", "x", mailbox.connected_at, "1", mailbox.connected_at,
         mailbox.failures, seen.through, seen.through, complete_from,
         mailbox.ends_at or mailbox.connected_at)
    )  # fmt: skip
    rows["registry.coverage"].append(
        (
            company,
            "main",
            mailbox_id,
            mailbox.connected_at,
            complete_from,
            seen.through,
            seen.through or mailbox.connected_at,
        )
    )
    if seen.through is None:
        return
    rows["registry.folders"].append(
        (company, mailbox_id, b"Sent", 1, seen.in_folder, seen.uids_passed, seen.uids_found)
    )
    if seen.other_now:
        rows["registry.other_folders"].append((company, mailbox_id, b"Sent Messages", seen.other_now, seen.other_first))
    for (day, kind), count in seen.counts.items():
        rows["registry.message_counts"].append(
            (company, mailbox_id, b"Sent", day, kind, count, seen.suspects[(day, kind)])
        )
    for inquiry, reply_id, at, kind, way, evidence in seen.matched:
        if world.stuck_since is None:
            rows["ledger.replies"].append(
                (company, inquiry.inquiry_id, reply_id, "mail", "main", mailbox_id, at, evidence, kind, "", way)
            )


TABLES = {
    "registry.companies": "company_id",
    "registry.accounts": "company_id, account_id",
    "registry.addresses": "company_id, account_id, role, address_sealed, address_masked, address_hash, changed_at",
    "registry.mailboxes": "company_id, mailbox_id, account_id, role, state, state_reason, address_masked, address_hash, host,"
    " port, login_hash, consent_by, consent_at, consent_text_version, connected_at, failures, last_success_at,"
    " complete_through, complete_from, state_changed_at",
    "registry.coverage": "company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at",
    "registry.folders": "company_id, mailbox_id, folder, uidvalidity, messages, uids_passed, uids_found",
    "registry.other_folders": "company_id, mailbox_id, folder, messages, first_messages",
    "registry.message_counts": "company_id, mailbox_id, folder, day, kind, messages, suspect",
    "ledger.companies": "company_id, due_at",
    "ledger.dirty": "company_id, since",
    "ledger.inquiries": "company_id, inquiry_id, account_id, received_at, facts_id, buyer_id, buyer_region",
    "ledger.statuses": "company_id, inquiry_id, status, at",
    "ledger.replies": "company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence, kind,"
    " kind_reason, matched_by",
}
