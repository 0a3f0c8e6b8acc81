"""An independent recount of reply rates: from dumps of the topics to the rows of `replay`, in plain Python.

Written from the rules and the contracts, not from the services, and sharing no code with them: its own join, merge,
hashes, calendar and arithmetic. It is slow and simple on purpose. Instants are whole microseconds since 1970 (UTC),
seconds are fractions until the last line. `noticed` counts which rules had something to decide, so that a test can say
that its histories reach them.
"""

import hashlib
import hmac
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import cache
from math import ceil, floor
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import idna
import rfc8785

Json = dict[str, Any]

SECOND = 1_000_000
GRACE = 300 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

DEFAULTS: Json = {
    "max_settle_days": 14,
    "exclude": [],
    "evidence": "any",
    "unmeasured": "separate",
    "min_coverage": 0,
    "small_sample": "show",
    "period_by": "receipt",
    "rounding": "none",
    "average_over": "answered",
    "calendar": "always",
}
"""What a rule set need not say (schemas/rule-set.schema.json)."""

MATCHED_BY = ("in-reply-to", "references", "relay-address", "buyer-address")
"""The four tests of the join, strongest first."""

SOURCES = ("mail", "platform", "status")
"""In the order in which replies of one instant are taken."""


def rule_set(path: Path) -> Json:
    """A rule set as it stands in its file, with what it leaves out."""
    return DEFAULTS | tomllib.loads(path.read_text())


# Instants and days


_INSTANT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,6}))?Z")


def instant(text: str) -> int:
    """Microseconds of an RFC 3339 instant in UTC; ValueError for anything else."""
    found = _INSTANT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not an instant like 2026-03-02T01:15:00Z")
    whole = datetime.fromisoformat(found[1] + "+00:00")
    return (whole - EPOCH) // MICROSECOND + int((found[2] or "").ljust(6, "0"))


def instant_text(at: int) -> str:
    """The instant with `Z`, its fraction only if there is one."""
    return (EPOCH + at * MICROSECOND).isoformat().replace("+00:00", "Z")


def instant_or_none(text: str | None) -> int | None:
    """The same for a field that may be null."""
    return None if text is None else instant(text)


@cache
def local_day(at: int, zone: str) -> date:
    """The day that a wall clock in the zone shows."""
    return (EPOCH + at * MICROSECOND).astimezone(ZoneInfo(zone)).date()


@cache
def first_instant(day: date, zone: str) -> int:
    """The first microsecond of a local day, also where midnight is skipped or comes twice: searched, not computed."""
    middle = (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // MICROSECOND
    before, after = middle - 30 * 3600 * SECOND, middle + 30 * 3600 * SECOND
    while after - before > 1:
        between = (before + after) // 2
        if local_day(between, zone) < day:
            before = between
        else:
            after = between
    return after


def judged_at(as_of: str, zone: str) -> tuple[int, date]:
    """(now, day of the row) of `replay --as-of`: a date is judged when it has ended, an instant then and there."""
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", as_of):
        day = date.fromisoformat(as_of)
        return first_instant(day + timedelta(days=1), zone), day
    now = instant(as_of)
    return now, local_day(now - 1, zone)


# Names and hashes


def hashed(key: bytes, kind: str, company_id: str, value: str) -> str:
    """What stands for an address, a Message-ID or a content outside the vault."""
    text = "\x1f".join((kind, company_id, value)).encode()
    return hmac.new(key, text, hashlib.sha256).digest()[:16].hex()


def without_comments(text: str) -> str:
    """Text without what stands in parentheses, nested ones too; quoted parentheses are none."""
    kept, depth, quoted, escaped = [], 0, False, False
    for letter in text:
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == '"' and depth == 0:
            quoted = not quoted
        elif letter == "(" and not quoted:
            depth += 1
            continue
        elif letter == ")" and not quoted and depth > 0:
            depth -= 1
            continue
        if depth == 0:
            kept.append(letter)
    return "".join(kept)


def normal_address(text: str) -> str | None:
    """`Buyer <Buyer@Bücher.example>` as `buyer@xn--bcher-kva.example`; None when it is no address."""
    plain = without_comments(text)
    pointed = re.search(r"<([^<>]*)>", plain)
    bare = (pointed[1] if pointed else plain).strip()
    local, at_sign, domain = bare.rpartition("@")
    local, domain = local.strip(), domain.strip()
    if not at_sign or not local or not domain or re.search(r"\s", bare):
        return None
    try:
        domain = idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        domain = domain.lower()
    return f"{local.lower()}@{domain}"


def normal_message_id(text: str) -> str | None:
    """`<A@b>` as `A@b`; None when nothing is left."""
    pointed = re.search(r"<([^>]*)>", text)
    bare = pointed[1] if pointed else without_comments(text)
    return re.sub(r"\s", "", bare) or None


# Facts


@dataclass(frozen=True, slots=True)
class Reply:
    """One entry of an inquiry's replies; `source` `status` only while an answer is looked for."""

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


def facts_id(key: bytes, data: Json) -> str:
    """The name of what one `inquiry-received` says: a hash of its canonical form."""

    def known(part: Json, names: Iterable[str]) -> Json:
        kept = {name: part[name] for name in names if part.get(name) is not None}
        return {name: sorted(set(value)) if isinstance(value, list) else value for name, value in kept.items()}

    own = known(
        data,
        (
            "company_id",
            "account_id",
            "inquiry_id",
            "received_at",
            "message_ids",
            "reply_addresses",
            "thread_id",
            "channel",
        ),
    )
    own["buyer"] = known(data["buyer"], ("id", "addresses", "region", "sent_from_region"))
    return hashed(key, "content", data["company_id"], rfc8785.dumps(own).decode())


def of_type(events: Iterable[Json], kind: str) -> list[Json]:
    """The `data` of the events of one type."""
    return [event["data"] for event in events if event["type"] == f"replyrate.{kind}.v1"]


def joined(inquiries: Sequence[Json], sent: Sequence[Json], key: bytes, *, bounded: bool = True) -> list[Inquiry]:
    """The join of both topics: every inquiry whose receipt is told, with its statuses and replies.

    `bounded` keeps of many mail replies the few that the contract promises to keep.
    """
    erased: dict[str, int] = {}
    for data in of_type(inquiries, "company-erased"):
        erased[data["company_id"]] = max(instant(data["at"]), erased.get(data["company_id"], 0))

    def left(events: Iterable[Json], kind: str, when: str) -> list[Json]:
        return [data for data in of_type(events, kind) if instant(data[when]) > erased.get(data["company_id"], -1)]

    records: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for data in left(inquiries, "inquiry-received", "received_at"):
        records[data["company_id"], data["inquiry_id"]].append(data)
    statuses: dict[tuple[str, str], set[Status]] = defaultdict(set)
    for data in left(inquiries, "inquiry-status-changed", "at"):
        status = Status(instant(data["at"]), data["status"], data.get("account_id"))
        statuses[data["company_id"], data["inquiry_id"]].add(status)
    replies: dict[tuple[str, str], set[Reply]] = defaultdict(set)
    for data in left(inquiries, "reply-recorded", "replied_at"):
        kind = "automatic" if data.get("automatic") else "human"
        reply = Reply(
            instant(data["replied_at"]),
            "platform",
            data["reply_id"],
            data["account_id"],
            kind=kind,
            matched_by="platform",
        )
        replies[data["company_id"], data["inquiry_id"]].add(reply)
    messages: dict[str, list[Json]] = defaultdict(list)
    for data in left(sent, "message-sent", "sent_at"):
        messages[data["company_id"]].append(data)

    found = []
    for (company_id, inquiry_id), told in sorted(records.items()):
        first = min(told, key=lambda data: (instant(data["received_at"]), facts_id(key, data)))
        received_at = instant(first["received_at"])
        message_ids: set[str] = set()
        relays: set[str] = set()
        addresses: set[str] = set()
        for data in told:
            for raw, names, normal, kind in (
                (data.get("message_ids"), message_ids, normal_message_id, "message"),
                (data.get("reply_addresses"), relays, normal_address, "address"),
                (data["buyer"].get("addresses"), addresses, normal_address, "address"),
            ):
                names.update(
                    hashed(key, kind, company_id, name) for text in raw or () if (name := normal(text)) is not None
                )
        mail = set()
        for message in messages[company_id]:
            if instant(message["sent_at"]) < received_at - GRACE:
                continue
            recipients = set(message.get("recipients") or ())
            holds = {
                "in-reply-to": message_ids & set(message.get("in_reply_to") or ()),
                "references": message_ids & set((message.get("references") or ())[-20:]),
                "relay-address": relays & recipients,
                "buyer-address": addresses & recipients,
            }
            for matched_by in MATCHED_BY[2:] if message["kind"] == "forward" else MATCHED_BY:
                if holds[matched_by]:
                    mail.add(
                        Reply(
                            instant(message["sent_at"]),
                            "mail",
                            message["message_id"],
                            message["account_id"],
                            message["mailbox_id"],
                            message["kind"],
                            message.get("kind_reason"),
                            message["evidence"],
                            matched_by,
                        )
                    )
        own = replies[company_id, inquiry_id]
        found.append(
            Inquiry(
                company_id,
                inquiry_id,
                first["account_id"],
                received_at,
                first["buyer"]["id"],
                (first["buyer"].get("region"), first["buyer"].get("sent_from_region")),
                first.get("thread_id"),
                frozenset(statuses[company_id, inquiry_id]),
                frozenset(own | (smallest(mail) if bounded else mail)),
            )
        )
    return found


def smallest(mail: Iterable[Reply]) -> set[Reply]:
    """Of each kind, test and evidence the four earliest."""
    groups: dict[tuple[str, str | None, str | None], list[Reply]] = defaultdict(list)
    for reply in mail:
        groups[reply.kind, reply.matched_by, reply.evidence].append(reply)
    return {reply for group in groups.values() for reply in sorted(group, key=lambda reply: reply.place)[:4]}


# Coverage


@dataclass(slots=True)
class Mailbox:
    """What the known rows say of one mailbox."""

    account_id: str
    connected_at: int | None
    removed_at: int | None
    intervals: list[tuple[int, int]]

    def covers(self, start: int, end: int) -> bool:
        """Whether one stretch of joined intervals holds all of [start, end]."""
        reach: tuple[int, int] | None = None
        for low, high in sorted(self.intervals):
            reach = (reach[0], max(reach[1], high)) if reach is not None and low <= reach[1] else (low, high)
            if reach[0] <= start and end <= reach[1]:
                return True
        return False


@dataclass(slots=True)
class Coverage:
    """One company's mailboxes and platform syncs, as known at an instant."""

    mailboxes: dict[str, Mailbox] = field(default_factory=dict)
    synced: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)
    """Account → (from, removed_at)."""

    def covered(self, account_id: str, start: int, end: int, noticed: Counter[str]) -> bool:
        """Whether an unanswered unit of the account would have been seen answered."""
        since, removed_at = self.synced.get(account_id, (None, None))
        if since is not None and since <= start:
            if removed_at is None or removed_at >= end:
                noticed["covered by platform sync"] += 1
                return True
            noticed["platform sync ended"] += 1
        own = [mailbox for mailbox in self.mailboxes.values() if mailbox.account_id == account_id]
        counted = [
            mailbox
            for mailbox in own
            if mailbox.connected_at is not None
            and mailbox.connected_at <= end
            and (mailbox.removed_at is None or mailbox.removed_at >= end)
        ]
        if counted:
            yes = all(mailbox.covers(start, end) for mailbox in counted)
            noticed[f"coverage by {'one mailbox' if len(counted) == 1 else 'mailboxes'}: {yes}"] += 1
            if not yes and any(mailbox.covers(start, end) for mailbox in counted):
                noticed["one of several mailboxes does not cover"] += 1
            return yes
        yes = any(mailbox.covers(start, end) for mailbox in own)
        if own:
            noticed[f"coverage without a mailbox in charge: {yes}"] += 1
        return yes

    def complete(self, through: int) -> bool:
        """Whether every mailbox that is not removed is complete through the instant."""
        return all(
            mailbox.removed_at is not None or max((high for _, high in mailbox.intervals), default=-1) >= through
            for mailbox in self.mailboxes.values()
        )


def coverages(
    lines: Sequence[Json], now: int, noticed: Counter[str]
) -> tuple[dict[str, Coverage], dict[str, set[str]]]:
    """Company → coverage as known then, and company → accounts that the file names, whenever it does."""
    by_company: dict[str, Coverage] = defaultdict(Coverage)
    accounts: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        accounts[line["company_id"]].add(line["account_id"])
    known = [line for line in lines if instant(line["recorded_at"]) < now]
    known.sort(key=lambda line: instant(line["recorded_at"]))  # stable: of equal instants the later line comes later
    last: dict[tuple[str, str, str | None], tuple[str, str | None, str | None]] = {}
    for line in known:
        coverage = by_company[line["company_id"]]
        connected_at, removed_at = instant_or_none(line.get("connected_at")), instant_or_none(line.get("removed_at"))
        low, high = instant_or_none(line.get("from")), instant_or_none(line.get("through"))
        name = (line["company_id"], line["account_id"], line.get("mailbox_id"))
        said = (line["recorded_at"], line.get("connected_at"), line.get("removed_at"))
        if name in last and last[name][0] == said[0] and last[name] != said:
            noticed["coverage rows of one instant"] += 1
        last[name] = said
        if line.get("mailbox_id") is None:
            since, _ = coverage.synced.get(line["account_id"], (None, None))
            coverage.synced[line["account_id"]] = (since if low is None else low, removed_at)
            continue
        mailbox = coverage.mailboxes.setdefault(line["mailbox_id"], Mailbox(line["account_id"], None, None, []))
        mailbox.connected_at, mailbox.removed_at = connected_at, removed_at
        if low is not None and high is not None:
            mailbox.intervals.append((low, high))
    return by_company, accounts


# Judgement


@dataclass(slots=True)
class Unit:
    """What is counted once."""

    members: list[Inquiry]
    start: int
    account_id: str
    day: date
    answer: Reply | None
    seconds: Fraction | None
    outcome: str
    reason: str | None
    covered: bool

    @property
    def inquiry_id(self) -> str:
        """Of its first member."""
        return self.members[0].inquiry_id


@dataclass(slots=True)
class Judge:
    """One company by one rule set at one instant; `coverage` None: everything counts as covered and final."""

    rule: Json
    now: int
    as_of: date
    coverage: Coverage | None
    noticed: Counter[str]

    @property
    def target(self) -> int:
        """In microseconds."""
        return int(self.rule["target_seconds"]) * SECOND

    def day_of(self, start: int) -> date:
        """The day on which an inquiry or a unit counts."""
        return local_day(start + (self.target if self.rule["period_by"] == "deadline" else 0), self.rule["time_zone"])

    def statuses(self, inquiry: Inquiry) -> list[Status]:
        """The known ones that exist for this rule set, in their order: of spam and spam-undone only the latest."""
        known = sorted((status for status in inquiry.statuses if status.at < self.now), key=lambda status: status.place)
        spam = [status for status in known if status.status in ("spam", "spam-undone")]
        if len(spam) > 1:
            self.noticed["spam more than once"] += 1
            if spam[-1].at == spam[-2].at and spam[-1].status != spam[-2].status:
                self.noticed["spam and spam-undone of one instant"] += 1
        return [status for status in known if status not in spam[:-1]]

    def owner(self, inquiry: Inquiry) -> str:
        """Without a look at replies."""
        if self.rule["attribution"] == "current-owner":
            moves = [status for status in self.statuses(inquiry) if status.status == "reassigned"]
            if moves:
                if len(moves) > 1:
                    self.noticed["reassigned more than once"] += 1
                    if moves[-1].at == moves[-2].at:
                        self.noticed["reassigned twice in one instant"] += 1
                assert moves[-1].account_id is not None
                return moves[-1].account_id
        return inquiry.account_id

    def exclusion(self, inquiry: Inquiry) -> str | None:
        """The first reason in the rule set's order, None when the inquiry counts."""
        statuses = self.statuses(inquiry)
        reasons = []
        for entry in self.rule["exclude"]:
            when, within = entry["when"], entry.get("within_seconds")
            if when == "mainland-china-buyer":
                if "CN" in inquiry.regions:
                    reasons.append(when)
                continue
            for status in statuses:
                if status.status != when:
                    continue
                apart = status.at - inquiry.received_at
                if within is not None and abs(apart - within * SECOND) <= 1:
                    self.noticed[f"within_seconds {apart - within * SECOND:+d} µs"] += 1
                if within is None or apart <= within * SECOND:
                    reasons.append(when)
                elif when == "spam" and any(
                    earlier.status == "spam" and earlier.at - inquiry.received_at <= within * SECOND
                    for earlier in inquiry.statuses
                ):
                    self.noticed["an earlier spam inside the limit changes nothing"] += 1
        if len(set(reasons)) > 1:
            self.noticed["several reasons"] += 1
        return reasons[0] if reasons else None

    def group(self, inquiry: Inquiry) -> tuple[str, ...]:
        """Inquiries of one group are one unit."""
        match self.rule["unit"]:
            case "first-per-buyer-day":
                return "day", inquiry.buyer_id, local_day(inquiry.received_at, self.rule["time_zone"]).isoformat()
            case "first-per-thread" if inquiry.thread_id is not None:
                return "thread", inquiry.buyer_id, inquiry.thread_id
            case "each-inquiry" | "first-per-thread":
                return "inquiry", inquiry.inquiry_id
        raise ValueError(self.rule["unit"])

    def stops(self, reply: Reply) -> bool:
        """Whether a mail or platform reply stops the clock."""
        if reply.kind == "automatic":
            return "automatic-reply" in self.rule["answered_by"]
        if reply.source == "platform":
            return "platform-reply" in self.rule["answered_by"]
        return reply.kind in ("human", "forward") and "human-reply" in self.rule["answered_by"]

    def unit(self, members: list[Inquiry]) -> Unit:
        """The unit of inquiries that are not excluded."""
        members = sorted(members, key=lambda inquiry: (inquiry.received_at, inquiry.inquiry_id))
        first = members[0]
        if len(members) > 1 and members[1].received_at == first.received_at:
            self.noticed["first members of one instant"] += 1
        start, end = first.received_at, first.received_at + self.target
        replies = [
            reply for member in members for reply in member.replies if reply.at < self.now and reply.at >= start - GRACE
        ]
        if any(reply.at == start - GRACE for reply in replies):
            self.noticed["reply 300 s before the start"] += 1
        listed = {"rejected": "rejected", "declined": "declined", "spam": "spam-report"}
        answers = [reply for reply in replies if self.stops(reply)]
        answers += [
            Reply(status.at, "status", status.status, status.account_id)
            for member in members
            for status in self.statuses(member)
            if listed.get(status.status) in self.rule["answered_by"] and status.at >= start - GRACE
        ]
        in_time = [
            reply
            for reply in answers
            if reply.at <= end
            and (self.rule["evidence"] == "any" or reply.source != "mail" or reply.evidence == "verified")
        ]
        answer = min(in_time or answers, key=lambda reply: reply.place, default=None)
        account_id = self.owner(first)
        if self.rule["attribution"] == "responder" and answer is not None and answer.account_id is not None:
            account_id = answer.account_id
        seconds = None if answer is None else max(Fraction(answer.at - start, SECOND), Fraction(0))
        covered, reason = True, None
        if answer is not None:
            outcome = "timely" if in_time else "late"
            self._notice(answer, answers, start, end)
            if not in_time and answer.at <= end:
                self.noticed["in time without evidence"] += 1
        else:
            if self.coverage is not None:
                covered = self.coverage.covered(account_id, start, end, self.noticed)
            if self.now < end:
                outcome = "pending"
            elif not covered and self.rule["unmeasured"] == "separate":
                outcome = "unmeasured"
            else:
                outcome = "unanswered"
                if replies and all(reply.kind == "automatic" for reply in replies):
                    reason = "only-automatic-replies"
            if self.now == end:
                self.noticed["judged at the deadline"] += 1
        return Unit(members, start, account_id, self.day_of(start), answer, seconds, outcome, reason, covered)

    def _notice(self, answer: Reply, answers: list[Reply], start: int, end: int) -> None:
        for apart in (answer.at - end, answer.at - start, answer.at - start + GRACE):
            if abs(apart) <= 1:
                edge = "target" if apart == answer.at - end else "start" if apart == answer.at - start else "-300 s"
                self.noticed[f"answer at {edge} {apart:+d} µs"] += 1
        if answer.at < start:
            self.noticed["answer before the start"] += 1
        rivals = [reply for reply in answers if reply.at == answer.at and reply.place != answer.place]
        if rivals:
            rival = min(rivals, key=lambda reply: reply.place)
            names = ("at", "source", "reply_id", "account_id", "mailbox_id", "kind_reason", "evidence")
            differ = next(name for name, one, two in zip(names, answer.place, rival.place, strict=True) if one != two)
            self.noticed[f"tie by {differ}"] += 1

    def settled(self, day: date) -> bool:
        """Whether nothing of the day is expected to change any more."""
        if self.coverage is None:
            return True
        reached = self.as_of - timedelta(days=self.rule["settle_days"])
        if day > reached:
            return False
        if day <= reached - timedelta(days=self.rule["max_settle_days"]):
            return True
        return self.coverage.complete(first_instant(day + timedelta(days=1), self.rule["time_zone"]) + self.target)

    def rows(self, inquiries: list[Inquiry], named: set[str]) -> tuple[list[Json], list[Json]]:
        """(`reply_rate`, `inquiry_outcomes`) of one company's known inquiries; `named` accounts have a row anyway."""
        excluded: list[tuple[Inquiry, str]] = []
        groups: dict[tuple[str, ...], list[Inquiry]] = defaultdict(list)
        for inquiry in inquiries:
            reason = self.exclusion(inquiry)
            if reason is None:
                groups[self.group(inquiry)].append(inquiry)
            else:
                excluded.append((inquiry, reason))
        units = [self.unit(members) for members in groups.values()]
        # Each inquiry's own owner; who answers a unit answers all of its members.
        own = {inquiry.inquiry_id: self.owner(inquiry) for inquiry in inquiries}
        if self.rule["attribution"] == "responder":
            own |= {
                member.inquiry_id: unit.answer.account_id
                for unit in units
                for member in unit.members
                if unit.answer is not None and unit.answer.account_id is not None
            }

        outcomes = [self._excluded_row(inquiry, reason, own[inquiry.inquiry_id]) for inquiry, reason in excluded]
        for unit in units:
            outcomes += self._unit_rows(unit)
        accounts = set(named)
        for inquiry in inquiries:
            accounts.add(inquiry.account_id)
            accounts.update(s.account_id for s in inquiry.statuses if s.at < self.now and s.account_id is not None)
            accounts.update(r.account_id for r in inquiry.replies if r.at < self.now and r.account_id is not None)
        out = {inquiry.inquiry_id for inquiry, _ in excluded}
        asked = [(own[i.inquiry_id], self.day_of(i.received_at), i.inquiry_id in out) for i in inquiries]
        company_id = inquiries[0].company_id
        rows = [self._row(company_id, None, asked, units)]
        for account_id in sorted(accounts):
            own_asked = [entry for entry in asked if entry[0] == account_id]
            rows.append(
                self._row(company_id, account_id, own_asked, [unit for unit in units if unit.account_id == account_id])
            )
        return rows, outcomes

    def _excluded_row(self, inquiry: Inquiry, reason: str, account_id: str) -> Json:
        day = self.day_of(inquiry.received_at)
        return self._outcome(inquiry, account_id, day, None) | {"outcome": "excluded", "reason": reason}

    def _unit_rows(self, unit: Unit) -> list[Json]:
        first, *others = (self._outcome(i, unit.account_id, unit.day, unit.inquiry_id) for i in unit.members)
        first |= {"outcome": unit.outcome, "reason": unit.reason}
        if unit.answer is not None and unit.seconds is not None:
            mail = unit.answer.source == "mail"
            same = {
                reply.matched_by
                for member in unit.members
                for reply in member.replies
                if (reply.source, reply.reply_id) == ("mail", unit.answer.reply_id) and reply.at < self.now
            }
            first |= {
                "first_reply_at": instant_text(unit.answer.at),
                "reply_seconds": float(unit.seconds),
                "reply_source": unit.answer.source,
                "matched_by": next(name for name in MATCHED_BY if name in same) if mail else unit.answer.matched_by,
                "mailbox_id": unit.answer.mailbox_id if mail else None,
                "evidence": unit.answer.evidence if mail else None,
            }
        return [first, *(other | {"outcome": "merged"} for other in others)]

    def _outcome(self, inquiry: Inquiry, account_id: str, day: date, unit_inquiry_id: str | None) -> Json:
        return {
            "rule_set": self.rule["name"],
            "company_id": inquiry.company_id,
            "account_id": account_id,
            "inquiry_id": inquiry.inquiry_id,
            "buyer_id": inquiry.buyer_id,
            "unit_day": day.isoformat(),
            "unit_inquiry_id": unit_inquiry_id,
            "received_at": instant_text(inquiry.received_at),
            "first_reply_at": None,
            "reply_seconds": None,
            "reason": None,
            "reply_source": None,
            "matched_by": None,
            "mailbox_id": None,
            "evidence": None,
            "state": "final" if self.settled(day) else "provisional",
            "revision": 1,
        }

    def _row(
        self, company_id: str, account_id: str | None, asked: list[tuple[str, date, bool]], units: list[Unit]
    ) -> Json:
        end = self.as_of - timedelta(days=self.rule["settle_days"])
        start = end - timedelta(days=self.rule["window_days"] - 1)

        def counted_from(day: date) -> list[Unit]:
            inside = [u for u in units if day <= u.day <= end and u.outcome in ("timely", "late", "unanswered")]
            return sorted(inside, key=lambda unit: (unit.start, unit.inquiry_id))

        counted = counted_from(start)
        small = self.rule["small_sample"]
        hidden = False
        if small != "show" and len(counted) < small["min_counted"]:
            if small["mode"] == "hide":
                hidden = True
                self.noticed["hidden"] += 1
            else:
                wide = counted_from(end - timedelta(days=small["max_days"] - 1))
                last = wide[-small["min_counted"] :]
                if last:
                    if len(last) < len(wide) and wide[-len(last) - 1].day == last[0].day:
                        self.noticed["widened, more on the first day"] += 1
                    self.noticed["widened" if last[0].day < start else "widened, the window stays"] += 1
                    start = min(start, last[0].day)
                    counted = counted_from(start)

        def inside(outcome: str) -> int:
            return sum(unit.outcome == outcome and start <= unit.day <= end for unit in units)

        sums = Counter(unit.outcome for unit in counted)
        unmeasured = inside("unmeasured")
        measured = len(counted) + unmeasured
        coverage = Fraction(sum(unit.covered for unit in counted), measured) if measured else None
        rate = Fraction(sums["timely"], len(counted)) if counted and not hidden else None
        if rate is not None and coverage is not None:
            least = Fraction(str(self.rule["min_coverage"]))
            if coverage == least:
                self.noticed["exactly min_coverage"] += 1
            if coverage < least:
                self.noticed["under min_coverage"] += 1
                rate = None
        seconds = sorted(unit.seconds for unit in counted if unit.seconds is not None)
        averaged = seconds
        if self.rule["average_over"] == "fastest-80-percent":
            averaged = seconds[: ceil(Fraction(4, 5) * len(seconds))]
        days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
        return {
            "rule_set": self.rule["name"],
            "level": "company" if account_id is None else "account",
            "company_id": company_id,
            "account_id": account_id,
            "as_of": self.as_of.isoformat(),
            "window_start": start.isoformat(),
            "window_end": end.isoformat(),
            "inquiries": sum(start <= day <= end for _, day, _ in asked),
            "excluded": sum(out and start <= day <= end for _, day, out in asked),
            "counted": len(counted),
            "timely": sums["timely"],
            "late": sums["late"],
            "unanswered": sums["unanswered"],
            "unmeasured": unmeasured,
            "pending": inside("pending"),
            "rate": number(rate),
            "mean_seconds": number(sum(averaged, Fraction(0)) / len(averaged)) if averaged else None,
            "median_seconds": number(percentile(seconds, Fraction(1, 2))),
            "p90_seconds": number(percentile(seconds, Fraction(9, 10))),
            "p95_seconds": number(percentile(seconds, Fraction(19, 20))),
            "rate_shown": number(shown(rate, self.rule["rounding"])),
            "coverage": number(coverage),
            "state": "final" if all(self.settled(day) for day in days) else "provisional",
        }


def percentile(values: Sequence[Fraction], part: Fraction) -> Fraction | None:
    """`percentile_cont` of sorted values: between two neighbours in proportion."""
    if not values:
        return None
    place = part * (len(values) - 1)
    low = floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def shown(rate: Fraction | None, rounding: str) -> Fraction | None:
    """The percentage that people read."""
    if rate is None:
        return None
    percent = 100 * rate
    match rounding:
        case "none":
            return percent
        case "down-1":
            return Fraction(floor(percent * 10), 10)
        case "half-up-0":
            return Fraction(floor(percent + Fraction(1, 2)))
    raise ValueError(rounding)


def bucket(seconds: Fraction) -> int:
    """Which bar of the histogram an answer is in: whole hours from 1 to 24, then 25."""
    hours = max(1, ceil(seconds / 3600))
    return min(hours, 25)


def number(value: Fraction | None) -> float | None:
    """Where exact arithmetic ends."""
    return None if value is None else float(value)


def judged(
    inquiries: Sequence[Inquiry],
    coverage: Sequence[Json] | None,
    rule: Json,
    as_of: str,
    noticed: Counter[str] | None = None,
) -> dict[str, list[Json]]:
    """Both arrays of `replay --as-of` for one rule set: {"reply_rate": […], "inquiry_outcomes": […]}."""
    noticed = Counter() if noticed is None else noticed
    now, day = judged_at(as_of, rule["time_zone"])
    by_company, named = coverages(coverage or (), now, noticed)
    known: dict[str, list[Inquiry]] = defaultdict(list)
    for inquiry in inquiries:
        if inquiry.received_at < now:
            known[inquiry.company_id].append(inquiry)
    found: dict[str, list[Json]] = {"reply_rate": [], "inquiry_outcomes": []}
    for company_id, own in sorted(known.items()):
        mailboxes = None if coverage is None else by_company.get(company_id, Coverage())
        judge = Judge(rule, now, day, mailboxes, noticed)
        rows, outcomes = judge.rows(own, named.get(company_id, set()))
        found["reply_rate"] += rows
        found["inquiry_outcomes"] += outcomes
    return found


def recount(
    inquiries: Sequence[Json],
    sent: Sequence[Json],
    coverage: Sequence[Json] | None,
    rules: Sequence[Json],
    as_of: str,
    key: bytes,
    noticed: Counter[str] | None = None,
) -> dict[str, list[Json]]:
    """What `replay` must print for these dumps, without `computed_at`, `changed_at` and `rule_version`."""
    told = joined(inquiries, sent, key)
    found: dict[str, list[Json]] = {"reply_rate": [], "inquiry_outcomes": []}
    for rule in rules:
        for name, rows in judged(told, coverage, rule, as_of, noticed).items():
            found[name] += rows
    return found
