"""Histories dense with edge cases: `history(seed)` is one company's dumps, made around an instant at which it is judged.

Nothing is uniform: instants are on the boundaries of days, targets, limits and coverage, or a microsecond beside them;
names sort differently by code point than by eye or by UTF-16; facts come twice, late, and in conflict.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import Any

from services.recount.facts import Json
from services.recount.instants import SECOND, first_instant, instant, instant_text, judged_at
from services.recount.join import GRACE
from services.recount.names import hashed

KEY = bytes(range(32))
"""The hash key of every history."""

PACIFIC = "America/Los_Angeles"
HOUR = 3600 * SECOND
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Judgement:
    """One run of `replay`: `--as-of`, and whether it has `--coverage`."""

    as_of: str
    covered: bool = True


ANCHORS: tuple[tuple[Judgement, ...], ...] = (
    # the day of 23 hours 2026-03-08, a microsecond after the clocks went forward; then settled
    (Judgement("2026-03-08T10:00:00.000001Z"), Judgement("2026-03-09"), Judgement("2026-03-15", covered=False)),
    # half an hour after the Pacific midnight that ends the day of 25 hours
    (Judgement("2026-11-02T08:30:00.000001Z"), Judgement("2026-11-07")),
    # a microsecond after the midnight that ends 2021-03-14
    (Judgement("2021-03-15T07:00:00.000001Z"), Judgement("2021-03-20")),
    # exactly the midnight that ends 2021-11-07: still that day's row
    (Judgement("2021-11-08T08:00:00Z"), Judgement("2021-11-13"), Judgement("2021-11-07", covered=False)),
    # the middle of an ordinary day
    (Judgement("2026-06-17T12:34:56.789013Z"), Judgement("2026-06-21"), Judgement("2027-01-01")),
)
"""A history belongs to one of these anchors (its seed decides) and is judged at each of the anchor's instants."""

CHANGE_DAYS = tuple(date.fromisoformat(day) for day in ("2026-03-08", "2026-11-01", "2021-03-14", "2021-11-07"))


@dataclass(slots=True)
class History:
    """One company: lines of `--inquiries`, `--sent` and `--coverage`, and when it is judged."""

    company_id: str
    inquiries: list[Json] = field(default_factory=list)
    sent: list[Json] = field(default_factory=list)
    coverage: list[Json] = field(default_factory=list)
    judgements: tuple[Judgement, ...] = ()


def anchor_of(seed: int) -> int:
    """Index into ANCHORS."""
    return seed % len(ANCHORS)


def history(seed: int) -> History:
    """The history of a seed; the same seed always gives the same history."""
    return _Maker(seed).history()


@dataclass(slots=True)
class _Asked:
    """An inquiry as the generator knows it."""

    inquiry_id: str
    received_at: int
    buyer_id: str
    addresses: list[str]
    message_ids: list[str]
    relays: list[str]
    account_id: str
    quiet: bool = False
    """It gets no answer, so that coverage decides."""


class _Maker:
    def __init__(self, seed: int) -> None:
        self.chance = Random(f"history {seed}")
        self.company_id = f"h{seed:04}"
        self.judgements = ANCHORS[anchor_of(seed)]
        self.events: list[Json] = []
        self.sent: list[Json] = []
        self.lines: list[Json] = []
        self.asked: list[_Asked] = []
        self.count = 0
        chance = self.chance
        self.nows = sorted(
            {judged_at(judgement.as_of, zone)[0] for judgement in self.judgements[:2] for zone in (PACIFIC, "UTC")}
        )
        self.accounts = chance.sample(["a1", "a2", "B3", "é4", "買5"], chance.choice([1, 2, 2, 3]))
        self.owners = [*self.accounts, "a9"]
        self.buyers = {
            f"{chance.choice('bB')}{n}": chance.sample(
                [
                    "Öne@example.com",
                    "two@bücher.example",
                    "Three.X@Example.org",
                    "four@sub.example.net",
                    "5@a-b.example",
                ],
                chance.choice([1, 1, 2, 3]),
            )
            for n in range(chance.choice([1, 2, 3]))
        }
        self.mailboxes = {
            f"{chance.choice('mM')}{n}{account}": account
            for account in self.accounts
            for n in range(chance.choice([0, 1, 1, 2]))
        }

    # Instants

    def odd(self, at: int) -> int:
        """An instant near this one with only one text form: whole seconds, or six digits that do not end in zero."""
        return at if at % SECOND == 0 or at % 10 else at + 3

    def text(self, at: int) -> str:
        """An instant in one of its text forms."""
        plain = instant_text(at)
        if "." in plain:
            return plain
        return plain.replace("Z", self.chance.choice(["Z", "Z", "Z", ".0Z", ".000Z", ".000000Z"]))

    def day_edge(self) -> int:
        """The first instant of a day that is a boundary for some rule set."""
        chance = self.chance
        zone = chance.choice([PACIFIC, PACIFIC, "UTC", "UTC", "America/Havana", "Asia/Kathmandu"])
        _, as_of = judged_at(chance.choice(self.judgements[:2]).as_of, zone)
        if chance.random() < 0.15:
            return first_instant(
                chance.choice([day for day in CHANGE_DAYS if abs((as_of - day).days) < 120] or [as_of]), zone
            )
        settle = chance.choice([0, 1, 1, 2, 3, 5, 5, 7])
        back = settle + chance.choice([-1, 0, 0, 0, 1, 1, 2, 4, 5, 13, 14, 15, 19, 20, 28, 29, 30, 39, 40, 88, 89, 90])
        return first_instant(as_of - timedelta(days=max(back, -1)), zone)

    def received(self) -> int:
        """A time of receipt."""
        chance = self.chance
        if chance.random() < 0.28:
            target = chance.choice([DAY, DAY, HOUR, 25 * HOUR])
            return self.odd(
                chance.choice(self.nows) - chance.choice([0, target, 2 * DAY]) + chance.choice([-1, 0, 1, -HOUR, HOUR])
            )
        if chance.random() < 0.6 and self.asked:
            near = chance.choice(self.asked).received_at
            return self.odd(
                near + chance.choice([0, 0, 1, -1, -GRACE, GRACE, HOUR, 80 * 60 * SECOND, 10 * HOUR, DAY, DAY + 1])
            )
        return self.odd(
            self.day_edge()
            + chance.choice(
                [
                    0,
                    0,
                    1,
                    -1,
                    -SECOND,
                    -70 * 60 * SECOND,
                    10 * 60 * SECOND,
                    chance.randrange(DAY),
                    chance.randrange(DAY),
                ]
            )
        )

    def replied(self, start: int) -> int:
        """A time of answer for something that started then."""
        chance = self.chance
        if chance.random() < 0.1:
            return self.odd(chance.choice(self.nows) + chance.choice([-1, 0, 1, -HOUR]))
        edge = chance.choice([-GRACE, -GRACE, 0, HOUR, DAY, DAY, DAY, 25 * HOUR, 25 * HOUR, 3 * DAY])
        apart = chance.choice([-1, 0, 0, 1, -SECOND, 5 * SECOND, -chance.randrange(HOUR), chance.randrange(DAY)])
        return self.odd(start + edge + apart)

    # Events

    def event(self, kind: str, data: Json, source: str = "platform") -> Json:
        """An event; its `time` is the latest instant inside, or up to a day earlier."""
        self.count += 1
        names = ("received_at", "at", "replied_at", "sent_at", "date_header", "internal_date", "filed_before")
        latest = max(instant(data[name]) for name in names if data.get(name) is not None)
        return {
            "specversion": "1.0",
            "id": data["message_id"] if kind == "message-sent" else f"e{self.count}",
            "source": source,
            "type": f"replyrate.{kind}.v1",
            "time": instant_text(latest - self.chance.choice([0, 0, 1, DAY])),
            "datacontenttype": "application/json",
            "data": {"company_id": self.company_id, **data},
        }

    def spelled(self, address: str) -> str:
        """The same address in another spelling."""
        local, _, domain = address.partition("@")
        return self.chance.choice(
            [
                address,
                f"{local.upper()}@{domain.upper()}",
                f"Some Body <{address}>",
                f'"Body, (Some)" <{local}@{domain}>',
                f" {address} ",
                f"{address} (at work (mostly))",
                f"{local}@{domain.replace('bücher', 'xn--bcher-kva')}",
            ]
        )

    def spelled_id(self, message_id: str) -> str:
        """The same Message-ID in another spelling."""
        return self.chance.choice([f"<{message_id}>", message_id, f"  <{message_id}> ", f"{message_id} (here)"])

    def inquiry(self) -> None:
        """Add an inquiry, perhaps with a second, different record."""
        chance = self.chance
        number = len(self.asked)
        inquiry_id = chance.choice(["i-1", "I", "é", "\uff21", "\uff21", "\U0001f600", "\U0001f600"]) + str(number)
        quiet = chance.random() < 0.3
        buyer_id = f"q{number}" if quiet else chance.choice(list(self.buyers))
        addresses = [f"quiet{number}@example.com"] if quiet else self.buyers[buyer_id]
        if chance.random() < 0.3:
            addresses = addresses[:1]
        asked = _Asked(
            inquiry_id,
            self.received(),
            buyer_id,
            addresses,
            [
                f"{chance.choice(['Q', 'q', 'Q(1)', 'q(B)'])}{number}.{n}@platform.example"
                for n in range(chance.choice([0, 1, 1, 2]))
            ],
            [f"r{number}@reply.platform.example"] if chance.random() < 0.5 else [],
            chance.choice(self.accounts),
            quiet,
        )
        data: Json = {
            "account_id": asked.account_id,
            "inquiry_id": inquiry_id,
            "received_at": instant_text(asked.received_at),
            "buyer": {"id": buyer_id, "addresses": [self.spelled(address) for address in addresses]},
            "message_ids": [self.spelled_id(message_id) for message_id in asked.message_ids],
            "reply_addresses": [self.spelled(relay) for relay in asked.relays],
            "thread_id": chance.choice(
                [None, None, "t1", "t2", chance.choice(self.asked).inquiry_id if self.asked else "t1"]
            ),
            "channel": chance.choice(["inquiry", "chat"]),
        }
        if chance.random() < 0.25 and not quiet:
            data["buyer"][chance.choice(["region", "sent_from_region"])] = chance.choice(["CN", "CN", "DE", "TW", "HK"])
        if chance.random() < 0.1:
            data["buyer"]["addresses"].append(chance.choice(["no address", "", "@example.com", "somebody@"]))
        if chance.random() < 0.1:
            data["unknown"] = {"any": "thing"}
        if chance.random() < 0.1:
            data["buyer"]["addresses"] = [*data["buyer"]["addresses"], self.spelled(addresses[0])][:8]
        for name in ("thread_id", "channel", "message_ids", "reply_addresses"):
            if not data[name] or (name == "channel" and data[name] == "inquiry"):
                match chance.choice(["as it is", "null", "absent"]):
                    case "null":
                        data[name] = None
                    case "absent":
                        del data[name]
        if self.asked and chance.random() < 0.12:
            self.twin(asked, data)
        self.events.append(self.event("inquiry-received", data))
        self.asked.append(asked)
        if chance.random() < 0.25:
            self.second_record(asked, data)

    def twin(self, asked: _Asked, data: Json) -> None:
        """Make it arrive together with an earlier one: same buyer, thread and microsecond."""
        earlier = self.chance.choice(self.asked)
        asked.received_at, asked.buyer_id, asked.addresses, asked.quiet = (
            earlier.received_at,
            earlier.buyer_id,
            earlier.addresses,
            earlier.quiet,
        )
        data["received_at"] = instant_text(earlier.received_at)
        data["buyer"] = {"id": earlier.buyer_id, "addresses": [self.spelled(address) for address in earlier.addresses]}
        data["thread_id"] = next(
            event["data"].get("thread_id")
            for event in self.events
            if event["data"].get("inquiry_id") == earlier.inquiry_id
        )

    def second_record(self, asked: _Asked, data: Json) -> None:
        """Add a second record of the same inquiry with other values."""
        chance = self.chance
        second: Json = json.loads(json.dumps(data))
        at = self.odd(asked.received_at + chance.choice([0, 0, 0, 1, -1, HOUR, -HOUR, DAY, -DAY, -2 * GRACE]))
        if chance.random() < 0.2:
            at = self.odd(chance.choice(self.nows) + chance.choice([-1, 0, DAY]))
        second["received_at"] = instant_text(at)
        change = chance.choice(["account", "buyer", "thread", "ids", "relays", "region", "nothing"])
        match change:
            case "account":
                second["account_id"] = chance.choice(self.owners)
            case "buyer":
                second["buyer"] = {"id": chance.choice([*self.buyers, "b9"]), "addresses": ["nine@example.com"]}
                asked.addresses = [*asked.addresses, "nine@example.com"]
            case "thread":
                second["thread_id"] = chance.choice(["t1", "t2", "t3"])
            case "ids":
                second["message_ids"] = ["<Again@platform.example>"]
                asked.message_ids = [*asked.message_ids, "Again@platform.example"]
            case "relays":
                second["reply_addresses"] = ["again@reply.platform.example"]
                asked.relays = [*asked.relays, "again@reply.platform.example"]
            case "region":
                second["buyer"]["region"] = chance.choice(["CN", "FR"])
        self.events.append(self.event("inquiry-received", second))
        asked.received_at = chance.choice([asked.received_at, min(asked.received_at, at)])

    def status(self, asked: _Asked, status: str, at: int, account_id: str | None = None) -> None:
        """Add a status; a reassignment has its account."""
        data: Json = {"inquiry_id": asked.inquiry_id, "status": status, "at": self.text(self.odd(at))}
        if status == "reassigned":
            data["account_id"] = account_id or self.chance.choice([*self.owners, "c7"])
        elif account_id is not None:
            data["account_id"] = account_id
        self.events.append(self.event("inquiry-status-changed", data))

    def status_at(self, asked: _Asked) -> int:
        """A time of a status: on a limit, next to it, before the receipt, or around now."""
        chance = self.chance
        if chance.random() < 0.1:
            return chance.choice(self.nows) + chance.choice([-1, 0, 1])
        limit = chance.choice([0, HOUR, DAY, DAY, DAY, 3 * DAY, 3 * DAY, -GRACE])
        return asked.received_at + limit + chance.choice([-1, -1, 0, 0, 1, 1, -HOUR, HOUR, chance.randrange(DAY)])

    def statuses(self, asked: _Asked) -> None:
        """Add no status, one, or a chain."""
        chance = self.chance
        if asked.quiet:
            if chance.random() < 0.25:
                self.status(asked, "reassigned", self.status_at(asked), chance.choice(self.accounts))
            return
        match chance.choice(["none"] * 8 + ["one"] * 6 + ["spam", "spam", "moves", "moves", "answers", "several"]):
            case "one":
                words = [
                    "spam",
                    "rejected",
                    "declined",
                    "withdrawn",
                    "trashed",
                    "blacklisted",
                    "buyer-closed",
                    "reassigned",
                ]
                account_id = chance.choice([None, None, *self.accounts])
                self.status(asked, chance.choice(words), self.status_at(asked), account_id)
            case "several":
                words = ["spam", "rejected", "withdrawn", "trashed", "blacklisted", "buyer-closed"]
                for status in chance.sample(words, 3):
                    self.status(asked, status, self.status_at(asked))
                    if chance.random() < 0.3:
                        self.status(asked, status, self.status_at(asked))
            case "spam":
                at = self.status_at(asked)
                for _ in range(chance.choice([2, 2, 3])):
                    self.status(
                        asked, chance.choice(["spam", "spam", "spam-undone"]), at, chance.choice([None, *self.owners])
                    )
                    at = chance.choice([at, at + 1, self.status_at(asked)])
            case "moves":
                at = self.status_at(asked)
                for _ in range(chance.choice([1, 2, 3])):
                    self.status(asked, "reassigned", at)
                    at = chance.choice([at, at, at + 1, self.status_at(asked)])
            case "answers":
                at = self.replied(asked.received_at)
                for status in chance.choice(
                    [["declined"], ["rejected", "declined"], ["rejected", "spam"], ["declined", "declined"]]
                ):
                    self.status(asked, status, at, chance.choice([None, *self.owners]))

    def platform(self, asked: _Asked, at: int, *, reply_id: str | None = None) -> None:
        """Add a reply on the platform's own channel."""
        chance = self.chance
        data: Json = {
            "account_id": chance.choice([*self.owners, "d8"]),
            "inquiry_id": asked.inquiry_id,
            "reply_id": reply_id or f"{chance.choice('pPé')}{chance.randrange(4)}",
            "replied_at": self.text(at),
            "channel": "chat",
        }
        if chance.random() < 0.4:
            data["automatic"] = chance.choice([True, True, False, None])
        self.events.append(self.event("reply-recorded", data))

    def hashes(self, kind: str, names: Sequence[str]) -> list[str]:
        """Values as a fetcher would send them."""
        shape = {"two@bücher.example": "two@xn--bcher-kva.example"}
        return [
            hashed(
                KEY,
                kind,
                self.company_id,
                shape.get(name, name) if kind == "message" else shape.get(name, name).lower(),
            )
            for name in names
        ]

    def mail(self, asked: _Asked, at: int, *, kind: str | None = None) -> str:
        """Add a message, perhaps with copies in other mailboxes; returns its id."""
        chance = self.chance
        number = len(self.sent)
        message_id = hashed(KEY, "message", self.company_id, f"sent{number}@{chance.randrange(9)}")
        kind = kind or chance.choice(["human"] * 5 + ["forward", "bulk", "bounce", "automatic", "automatic"])
        tests = [
            name
            for name, there in (
                ("in_reply_to", asked.message_ids),
                ("references", asked.message_ids),
                ("relay", asked.relays),
                ("buyer", asked.addresses),
            )
            if there
        ]
        chosen = set(chance.sample(tests, chance.randint(1, len(tests))))
        noise = [f"{n:032x}" for n in range(20)]
        references = self.hashes("message", asked.message_ids[-1:]) if "references" in chosen else []
        if chance.random() < 0.2:
            references = chance.choice(
                [[*noise[: 20 - len(references)], *references], [*references, *noise[: 20 - len(references)]]]
            )
        recipients = [noise[0]] if chance.random() < 0.3 else []
        if "relay" in chosen:
            recipients += self.hashes("address", asked.relays[-1:])
        if "buyer" in chosen:
            recipients += self.hashes("address", [chance.choice(asked.addresses)])
        data: Json = {
            "mailbox_id": "m0",
            "account_id": chance.choice(self.accounts),
            "message_id": message_id,
            "sent_at": self.text(at),
            "sent_at_basis": "date",
            "evidence": chance.choice(["verified", "verified", "backfill", "suspect"]),
            "kind": kind,
            "kind_reason": chance.choice([None, "ordinary", "subject", "list-id"]),
            "date_header": self.date_header(asked, at),
            "recipients": recipients,
            "in_reply_to": self.hashes("message", asked.message_ids[:1]) if "in_reply_to" in chosen else [],
            "references": references,
        }
        if chance.random() < 0.15:
            data["senders"] = self.hashes("address", [chance.choice([*asked.addresses, "seller@alias.example"])])
        boxes = list(self.mailboxes.items())
        if boxes:
            data["mailbox_id"], data["account_id"] = chance.choice(boxes)
        self.sent.append(self.event("message-sent", data, f"replyrate/fetcher/{data['mailbox_id']}"))
        for _ in range(chance.choice([0, 0, 0, 1, 2])):
            self.copy(asked, data, at)
        return message_id

    def date_header(self, asked: _Asked, at: int) -> str | None:
        """A Date beside the time that counts; now and then that of an old mail: a week before, or about when the buyer asked."""
        chance = self.chance
        if chance.random() < 0.2:
            old = chance.choice([at - 7 * DAY, at - 8 * DAY, at - 400 * DAY, asked.received_at - GRACE])
            return instant_text(self.odd(old + chance.choice([-1, 0, 1])))
        return instant_text(at - 1) if chance.random() < 0.5 else None

    def copy(self, asked: _Asked, data: Json, at: int) -> None:
        """Add the same message again with another mailbox, time, kind, evidence or set of recipients."""
        chance = self.chance
        duplicate = dict(data)
        if chance.random() < 0.6:
            boxes = [*self.mailboxes.items(), ("m0", data["account_id"])]
            duplicate["mailbox_id"], duplicate["account_id"] = chance.choice(boxes)
        for change in chance.sample(
            ["time", "kind", "evidence", "reason", "recipients", "threading", "account", "nothing"],
            chance.choice([1, 2, 3]),
        ):
            match change:
                case "time":
                    duplicate["sent_at"] = instant_text(
                        self.odd(
                            chance.choice([at - 1, at + 1, at - HOUR, at + HOUR, at + DAY, chance.choice(self.nows)])
                        )
                    )
                    duplicate["date_header"] = None
                case "kind":
                    duplicate["kind"] = chance.choice(["human", "automatic", "bulk", "forward"])
                case "evidence":
                    duplicate["evidence"] = chance.choice(["verified", "backfill", "suspect"])
                case "reason":
                    duplicate["kind_reason"] = chance.choice([None, "auto-submitted", "ordinary", "Zeta"])
                case "recipients":
                    duplicate["recipients"] = duplicate["recipients"][1:]
                case "threading":
                    duplicate["in_reply_to"] = (
                        self.hashes("message", asked.message_ids[:1]) if chance.random() < 0.7 else []
                    )
                    if chance.random() < 0.3:
                        duplicate["sent_at"] = instant_text(self.odd(chance.choice(self.nows)))
                case "account":
                    duplicate["account_id"] = chance.choice(self.accounts)
        self.sent.append(self.event("message-sent", duplicate, f"replyrate/fetcher/{duplicate['mailbox_id']}"))

    def replies(self, asked: _Asked) -> None:
        """Add replies that answer an inquiry, or nearly do."""
        chance = self.chance
        start = asked.received_at
        if asked.quiet:
            return
        reachable = bool(asked.addresses or asked.message_ids or asked.relays)
        match chance.choice(["none"] * 4 + ["mail"] * 4 + ["platform", "both", "tie", "automatic", "many", "pair"]):
            case "mail" if reachable:
                self.mail(asked, self.replied(start))
            case "pair" if reachable:
                self.mail(asked, self.replied(start))
                self.mail(asked, self.replied(start))
            case "platform":
                self.platform(asked, self.replied(start))
            case "both" if reachable:
                self.mail(asked, self.replied(start))
                self.platform(asked, self.replied(start))
            case "tie":
                at = self.replied(start)
                message_id = self.mail(asked, at, kind="human") if reachable and chance.random() < 0.5 else None
                self.platform(asked, at, reply_id=chance.choice([None, message_id]))
                self.platform(asked, at)
                if chance.random() < 0.5:
                    self.mail(asked, at, kind="human")
                if chance.random() < 0.5:
                    self.status(asked, chance.choice(["rejected", "declined"]), at, chance.choice(self.owners))
                if chance.random() < 0.3:
                    self.status(asked, "spam", at)
            case "automatic" if reachable:
                for _ in range(chance.choice([1, 2])):
                    self.mail(asked, self.replied(start), kind="automatic")
            case "many" if reachable:
                kind = chance.choice(["human", "human", "automatic", "bulk"])
                at = self.replied(start)
                for _ in range(chance.choice([5, 6, 7])):
                    self.mail(asked, at, kind=chance.choice([kind, kind, kind, "human"]))
                    at = self.odd(at + chance.choice([0, 1, HOUR]))

    # Coverage

    def line(self, mailbox_id: str | None, account_id: str, *, recorded_at: int, **instants: int | None) -> None:
        """Add one row of coverage."""
        names = {"low": "from", "high": "through"}
        self.lines.append(
            {
                "company_id": self.company_id,
                "account_id": account_id,
                "mailbox_id": mailbox_id,
                **{
                    names.get(name, name): None if at is None else self.text(at)
                    for name, at in {
                        "connected_at": None,
                        "removed_at": None,
                        "low": None,
                        "high": None,
                        **instants,
                    }.items()
                },
                "recorded_at": self.text(recorded_at),
            }
        )

    def focus(self, account_id: str | None = None) -> int:
        """The receipt of an inquiry decided by coverage, of that account if it has one."""
        quiet = [asked for asked in self.asked if asked.quiet] or self.asked
        return self.chance.choice([asked for asked in quiet if asked.account_id == account_id] or quiet).received_at

    def cuts(self) -> list[int]:
        """An edge of coverage: a start or a deadline, or a microsecond next to it."""
        chance = self.chance
        return sorted(
            self.focus() + chance.choice([0, 0, DAY, DAY, HOUR, 12 * HOUR]) + chance.choice([-1, 0, 0, 1])
            for _ in range(chance.choice([1, 2, 3]))
        )

    def last_through(self) -> int:
        """How far a mailbox is complete: exactly as far as the last day of a window needs, or nearly."""
        chance = self.chance
        zone = chance.choice([PACIFIC, PACIFIC, "UTC", "America/Havana"])
        _, as_of = judged_at(chance.choice(self.judgements[:2]).as_of, zone)
        day = as_of - timedelta(days=chance.choice([0, 1, 2, 3, 5, 5, 5, 7, 7, 19, 21]))
        target = chance.choice([DAY, DAY, HOUR])
        edge = first_instant(day + timedelta(days=1), zone) + target
        return chance.choice([edge, edge - 1, edge + 1, chance.choice(self.nows) - SECOND])

    def cover(self) -> None:
        """Add the coverage of each mailbox and account."""
        chance = self.chance
        long_ago = min([*self.nows, *(asked.received_at for asked in self.asked)]) - 200 * DAY
        together = chance.choice([self.last_through(), self.last_through(), max(self.nows) - SECOND, None])
        all_well = chance.random() < 0.3
        for account_id in self.accounts:
            boxes = [name for name, owner in self.mailboxes.items() if owner == account_id]
            way = "well kept" if all_well else chance.choice(["well kept", "at the edge", "at the edge", "anyhow"])
            if way == "at the edge":
                self.cover_edge(account_id, [*boxes, f"x{account_id}", f"y{account_id}"], long_ago)
                continue
            for mailbox_id in boxes:
                if way == "well kept":
                    self.cover_well(mailbox_id, account_id, long_ago, together or self.last_through())
                elif chance.random() < 0.9:
                    self.cover_mailbox(mailbox_id, account_id, long_ago)
            if chance.random() < 0.2:
                self.sync(account_id, long_ago)
        if chance.random() < 0.1:
            self.line(None, "e6", connected_at=long_ago, low=long_ago, recorded_at=long_ago)
        if chance.random() < 0.1:
            self.line(None, chance.choice(self.accounts), connected_at=long_ago, recorded_at=long_ago - 1)
        if chance.random() < 0.1:
            now = chance.choice(self.nows)
            self.line(
                "m-late",
                "f5",
                connected_at=now - DAY,
                low=long_ago,
                high=now - 1,
                recorded_at=now + chance.choice([-1, 0]),
            )

    def sync(self, account_id: str, long_ago: int) -> None:
        """Add coverage by the platform's sync, perhaps ended."""
        chance = self.chance
        start = self.focus(account_id)
        since = chance.choice([long_ago, start + chance.choice([-1, 0, 1])])
        self.line(None, account_id, connected_at=since, low=since, recorded_at=since + 1)
        if chance.random() < 0.5:
            end = max(start + chance.choice([0, HOUR, DAY - 1, DAY, DAY, DAY + 1]), since + 1)
            self.line(
                None, account_id, connected_at=since, removed_at=end, low=chance.choice([since, None]), recorded_at=end
            )

    def cover_well(self, mailbox_id: str, account_id: str, long_ago: int, end: int) -> None:
        """Add one interval in pieces that touch; perhaps the mailbox was removed long ago."""
        chance = self.chance
        low = long_ago
        for cut in [*(cut for cut in self.cuts() if cut <= end), end]:
            recorded_at = cut + chance.choice([0, 1, SECOND])
            self.line(mailbox_id, account_id, connected_at=long_ago, low=low, high=cut, recorded_at=recorded_at)
            low = cut
            if chance.random() < 0.15:
                self.line(
                    mailbox_id,
                    account_id,
                    connected_at=long_ago,
                    removed_at=low,
                    low=low,
                    high=low,
                    recorded_at=low + SECOND,
                )
                if chance.random() < 0.6 and low + HOUR < end:
                    again = low + chance.choice([HOUR, DAY, 6 * DAY])
                    since = chance.choice([long_ago, again - chance.choice([0, 2 * DAY, 10 * DAY])])
                    self.line(mailbox_id, account_id, connected_at=again, recorded_at=again)
                    if again < end:
                        self.line(
                            mailbox_id, account_id, connected_at=again, low=since, high=end, recorded_at=end + SECOND
                        )
                return

    def cover_edge(self, account_id: str, boxes: list[str], long_ago: int) -> None:
        """Add coverage that just covers an unanswered inquiry of the account, or just does not, for a single reason."""
        chance = self.chance
        start = self.focus(account_id)
        end = start + chance.choice([DAY, DAY, HOUR, 25 * HOUR, 25 * HOUR])
        late = end + 5 * DAY

        def beside(at: int) -> int:
            return at + chance.choice([-1, 0, 0, 1])

        def keep(
            mailbox_id: str,
            low: int,
            high: int,
            *,
            connected_at: int = long_ago,
            removed_at: int | None = None,
            later: int = 1,
        ) -> None:
            recorded_at = high + later
            self.line(
                mailbox_id,
                account_id,
                recorded_at=recorded_at,
                connected_at=connected_at,
                removed_at=removed_at,
                low=low,
                high=high,
            )

        match chance.choice(
            [
                "interval",
                "pieces",
                "connected",
                "connected alone",
                "connected alone",
                "removed",
                "removed",
                "removed alone",
                "sync",
            ]
        ):
            case "interval":
                keep(
                    boxes[0],
                    *chance.choice([(beside(start), late), (long_ago, beside(end)), (beside(start), beside(end))]),
                )
            case "pieces":
                cut = chance.choice([start, end, (start + end) // 2]) + 1
                keep(boxes[0], long_ago, cut)
                keep(boxes[0], cut + chance.choice([-1, 0, 0, 1, 1]), late)
            case "connected":
                keep(boxes[0], long_ago, late)
                at = beside(chance.choice([start, end, end]))
                self.line(boxes[1], account_id, connected_at=at, recorded_at=at)
            case "connected alone":
                at = beside(end)
                keep(boxes[0], beside(start), late, connected_at=at)
                keep(boxes[1], late, late, connected_at=at)
            case "removed":
                keep(boxes[0], long_ago, late)
                at = beside(chance.choice([start, end, end]))
                keep(boxes[1], long_ago, start)
                keep(boxes[1], start, start, removed_at=at, later=max(at - start, 1))
            case "removed alone":
                keep(boxes[0], long_ago, end)
                keep(boxes[0], end, end, removed_at=beside(end))
            case "sync":
                self.sync(account_id, long_ago)

    def cover_mailbox(self, mailbox_id: str, account_id: str, long_ago: int) -> None:
        """Add rows of one mailbox: intervals that touch, overlap or leave a gap; perhaps a removal, perhaps a return."""
        chance = self.chance
        connected_at = long_ago
        if chance.random() < 0.35:
            apart = chance.choice([0, HOUR, DAY, DAY, 25 * HOUR, 2 * DAY]) + chance.choice([-1, 0, 1])
            connected_at = self.focus(account_id) + apart
        low = (
            chance.choice([long_ago, long_ago, *self.cuts()])
            if connected_at == long_ago
            else chance.choice([long_ago, connected_at])
        )
        end = max(self.last_through(), low)
        if chance.random() < 0.15:
            self.line(mailbox_id, account_id, connected_at=connected_at, recorded_at=connected_at)
        if chance.random() < 0.06:
            return
        for cut in [*(cut for cut in self.cuts() if cut <= end), end]:
            if cut < low:
                continue
            self.line(
                mailbox_id,
                account_id,
                connected_at=connected_at,
                low=low,
                high=cut,
                recorded_at=cut + chance.choice([0, 1, SECOND]),
            )
            low = cut + chance.choice([0, 0, 0, 1, -HOUR, HOUR])
        if (
            chance.random() < 0.25
            and self.lines
            and self.lines[-1]["mailbox_id"] == mailbox_id
            and self.lines[-1]["through"]
        ):
            through = instant(self.lines[-1]["through"])
            removed_at = max(
                through,
                chance.choice([through, *(a.received_at + DAY + chance.choice([-1, 0, 1]) for a in self.asked)]),
            )
            self.line(
                mailbox_id,
                account_id,
                connected_at=connected_at,
                removed_at=removed_at,
                low=through,
                high=through,
                recorded_at=removed_at,
            )
            if chance.random() < 0.3:
                again = removed_at + chance.choice([0, 0, DAY])
                self.line(mailbox_id, account_id, connected_at=connected_at, low=again, high=again, recorded_at=again)
        elif chance.random() < 0.1:
            now = chance.choice(self.nows)
            low = min(low, now)
            self.line(
                mailbox_id,
                account_id,
                connected_at=connected_at,
                low=low,
                high=now,
                recorded_at=now + chance.choice([0, 1]),
            )

    # Everything together

    def history(self) -> History:
        """The complete history: shuffled, some events twice."""
        chance = self.chance
        many = chance.random() < 0.25
        for _ in range(chance.randint(18, 30) if many else chance.randint(4, 12)):
            self.inquiry()
        for asked in self.asked:
            self.statuses(asked)
            self.replies(asked)
        if chance.random() < 0.2:
            unpublished = _Asked("nobody-asked", self.received(), "b0", [], [], [], "a1")
            self.platform(unpublished, unpublished.received_at)
            self.status(unpublished, "reassigned", unpublished.received_at, "g4")
        if chance.random() < 0.12:
            asked = chance.choice(self.asked)
            for _ in range(chance.choice([1, 1, 2])):
                at = asked.received_at + chance.choice([-1, 0, HOUR, DAY])
                self.events.append(self.event("company-erased", {"at": self.text(at)}))
        self.cover()
        for events in (self.events, self.sent):
            events += [
                event | ({"id": f"again{n}"} if chance.random() < 0.5 else {})
                for n, event in enumerate(list(events))
                if chance.random() < 0.08
            ]
            chance.shuffle(events)
        if chance.random() < 0.5:
            chance.shuffle(self.lines)
        return History(self.company_id, self.events, self.sent, self.lines, self.judgements)


def lines(rows: Sequence[Any]) -> str:
    """Events as NDJSON."""
    return "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in rows)
