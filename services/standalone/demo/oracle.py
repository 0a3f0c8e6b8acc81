"""An independent recount: rates in plain Python, written from docs/rules.md and not from the SQL.

The demo compares its numbers with this before it shows them; the tests do the same with random facts. Slow and plain
on purpose: one inquiry at a time, one rule at a time, no cleverness shared with the product.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from services.standalone.world.world import World, WorldMail

GRACE = timedelta(seconds=300)
SOURCES = ("mail", "platform", "status")
STRENGTH = ("in-reply-to", "references", "relay-address", "buyer-address", "platform")


@dataclass(frozen=True, slots=True)
class AskedInquiry:
    """A known inquiry."""

    inquiry_id: str
    account_id: str
    received_at: datetime
    buyer_id: str
    thread_id: str | None = None
    from_china: bool = False


@dataclass(frozen=True, slots=True)
class StatusMark:
    """A status of an inquiry."""

    inquiry_id: str
    status: str
    at: datetime
    account_id: str = ""


@dataclass(frozen=True, slots=True)
class GivenReply:
    """A reply attached to an inquiry."""

    inquiry_id: str
    reply_id: str
    source: str
    account_id: str
    replied_at: datetime
    kind: str
    matched_by: str
    mailbox_id: str = ""
    evidence: str = ""
    kind_reason: str = ""


@dataclass(frozen=True, slots=True)
class CoveredInterval:
    """One line of the coverage history, in the order in which it was recorded."""

    account_id: str
    mailbox_id: str | None
    connected_at: datetime
    recorded_at: datetime
    removed_at: datetime | None = None
    from_at: datetime | None = None
    through_at: datetime | None = None


@dataclass(slots=True)
class RecountFacts:
    """Everything that is known of one company."""

    accounts: set[str] = field(default_factory=set)
    asked: list[AskedInquiry] = field(default_factory=list)
    marked: list[StatusMark] = field(default_factory=list)
    replied: list[GivenReply] = field(default_factory=list)
    covered: list[CoveredInterval] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RecountOutcome:
    """What became of one inquiry."""

    inquiry_id: str
    account_id: str
    owner: str
    own_day: date
    unit_day: date
    unit_inquiry_id: str | None
    outcome: str
    reason: str | None = None
    first_reply_at: datetime | None = None
    reply_seconds: float | None = None
    reply_source: str | None = None
    matched_by: str | None = None
    mailbox_id: str | None = None
    evidence: str | None = None
    is_covered: bool = False
    started_at: datetime | None = None


def outcomes(facts: RecountFacts, rules: dict[str, Any], now: datetime) -> list[RecountOutcome]:
    """The fate of every inquiry that is known at `now`, by the parameters of a rule set."""
    zone = ZoneInfo(rules["time_zone"])
    target = timedelta(seconds=rules["target_seconds"])
    found: list[RecountOutcome] = []
    units: dict[tuple[Any, ...], list[AskedInquiry]] = defaultdict(list)
    for asked in facts.asked:
        if asked.received_at >= now:
            continue
        day = asked.received_at.astimezone(zone).date()
        reason = _excluded(asked, _statuses(facts, asked, now), rules)
        if reason is not None:
            owner, counted = _owner(facts, asked, rules, now), _period(asked.received_at, rules, zone)
            found.append(RecountOutcome(asked.inquiry_id, owner, owner, counted, counted, None, "excluded", reason))
        else:
            units[_unit(asked, day, rules)].append(asked)
    for members in units.values():
        members.sort(key=lambda asked: (asked.received_at, asked.inquiry_id))
        found += _judge_unit(facts, members, rules, now, zone, target)
    return found


def _unit(asked: AskedInquiry, day: date, rules: dict[str, Any]) -> tuple[Any, ...]:
    if rules["unit"] == "each-inquiry":
        return (asked.inquiry_id,)
    if rules["unit"] == "first-per-buyer-day":
        return asked.buyer_id, day
    return (
        (asked.buyer_id, asked.thread_id) if asked.thread_id is not None else (asked.buyer_id, None, asked.inquiry_id)
    )


def _judge_unit(
    facts: RecountFacts,
    members: list[AskedInquiry],
    rules: dict[str, Any],
    now: datetime,
    zone: ZoneInfo,
    target: timedelta,
) -> Iterable[RecountOutcome]:
    first = members[0]
    start, unit_day = first.received_at, _period(first.received_at, rules, zone)
    account = _owner(facts, first, rules, now)
    ids = {member.inquiry_id for member in members}
    replies = [reply for reply in facts.replied if reply.inquiry_id in ids and start - GRACE <= reply.replied_at < now]
    answers = [
        (reply.replied_at, SOURCES.index(reply.source), reply.reply_id, reply.account_id, reply.mailbox_id,
         reply.kind_reason, reply.evidence)
        for reply in replies if _answers(reply, rules)
    ]  # fmt: skip
    for member in members:
        for mark in _statuses(facts, member, now):
            listed = mark.status in ("rejected", "declined") and mark.status in rules["answered_by"]
            spam = mark.status == "spam" and "spam-report" in rules["answered_by"]
            if mark.at >= start - GRACE and (listed or spam):
                answers.append((mark.at, SOURCES.index("status"), mark.status, mark.account_id, "", "", ""))
    chosen = _chosen(answers, rules, start + target)
    responder = (chosen[3] or None) if chosen is not None and rules["attribution"] == "responder" else None
    for member in members[1:]:
        own = _period(member.received_at, rules, zone)
        owner = responder or _owner(facts, member, rules, now)
        yield RecountOutcome(member.inquiry_id, responder or account, owner, own, unit_day, first.inquiry_id, "merged")
    base: dict[str, Any] = {
        "inquiry_id": first.inquiry_id, "account_id": responder or account, "owner": responder or account, "own_day": unit_day,
        "unit_day": unit_day, "unit_inquiry_id": first.inquiry_id, "started_at": start,
    }  # fmt: skip
    if chosen is None:
        is_covered = _is_covered(facts, account, start, start + target, now)
        if now < start + target:
            yield RecountOutcome(**base, outcome="pending", is_covered=is_covered)
        elif not is_covered and rules["unmeasured"] == "separate":
            yield RecountOutcome(**base, outcome="unmeasured")
        else:
            silent = bool(replies) and all(reply.kind == "automatic" for reply in replies)
            reason = "only-automatic-replies" if silent else None
            yield RecountOutcome(**base, outcome="unanswered", reason=reason, is_covered=is_covered)
        return
    at, number, reply_id, _, mailbox_id, _, evidence = chosen
    source = SOURCES[number]
    seconds = max(0.0, (at - start).total_seconds())
    ways = [reply.matched_by for reply in replies if reply.reply_id == reply_id and reply.source == source]
    yield RecountOutcome(
        **base,
        outcome="timely" if at - start <= target and _makes_timely(chosen, rules) else "late",
        first_reply_at=at,
        reply_seconds=seconds,
        reply_source=source,
        matched_by=min(ways, key=STRENGTH.index) if ways else None,
        mailbox_id=mailbox_id if source == "mail" else None,
        evidence=evidence if source == "mail" else None,
        is_covered=True,
    )


Answer = tuple[datetime, int, str, str, str, str, str]


def _makes_timely(answer: Answer, rules: dict[str, Any]) -> bool:
    return rules["evidence"] == "any" or SOURCES[answer[1]] != "mail" or answer[6] == "verified"


def _chosen(answers: Sequence[Answer], rules: dict[str, Any], due: datetime) -> Answer | None:
    """The earliest answer that makes the unit timely; if none does, the earliest."""
    timely = [answer for answer in answers if answer[0] <= due and _makes_timely(answer, rules)]
    return min(timely or answers, default=None)


def _period(received_at: datetime, rules: dict[str, Any], zone: ZoneInfo) -> date:
    """The local day that an inquiry or unit counts on."""
    late = timedelta(seconds=rules["target_seconds"]) if rules["period_by"] == "deadline" else timedelta()
    return (received_at + late).astimezone(zone).date()


def rate(found: Sequence[RecountOutcome], rules: dict[str, Any], as_of: date, account: str | None) -> dict[str, Any]:
    """One row of reply_rate: counts and times of a window, of one account or (None) of the company."""
    last = as_of - timedelta(days=rules["settle_days"])
    first = last - timedelta(days=rules["window_days"] - 1)
    sample = rules["small_sample"]
    if sample != "show" and sample["mode"] == "widen":
        first = _widened(found, sample, first, last, account)
    received = [one for one in found if first <= one.own_day <= last and account in (None, one.owner)]
    units = [
        one for one in found
        if one.inquiry_id == one.unit_inquiry_id and first <= one.unit_day <= last and account in (None, one.account_id)
    ]  # fmt: skip
    count = {
        name: sum(one.outcome == name for one in units)
        for name in ("timely", "late", "unanswered", "unmeasured", "pending")
    }
    counted = count["timely"] + count["late"] + count["unanswered"]
    measured = counted + count["unmeasured"]
    coverage = sum(one.is_covered for one in units if one.outcome != "pending") / measured if measured else None
    hidden = sample != "show" and sample["mode"] == "hide" and counted < sample["min_counted"]
    known = counted and coverage is not None and coverage >= rules["min_coverage"] and not hidden
    seconds = sorted(one.reply_seconds for one in units if one.reply_seconds is not None)
    fastest = seconds[: math.ceil(len(seconds) * 4 / 5)] if rules["average_over"] == "fastest-80-percent" else seconds
    return {
        "window_start": first,
        "window_end": last,
        "inquiries": len(received),
        "excluded": sum(one.outcome == "excluded" for one in received),
        "counted": counted,
        **count,
        "rate": count["timely"] / counted if known else None,
        "rate_shown": _shown(Fraction(count["timely"], counted), rules["rounding"]) if known else None,
        "mean_seconds": sum(fastest) / len(fastest) if fastest else None,
        "median_seconds": percentile(seconds, 0.5),
        "p90_seconds": percentile(seconds, 0.9),
        "p95_seconds": percentile(seconds, 0.95),
        "coverage": coverage,
    }


def _widened(
    found: Sequence[RecountOutcome], sample: dict[str, Any], first: date, last: date, account: str | None
) -> date:
    """The first day of a window that counts too few: that of the last `min_counted` counted units within reach."""
    earliest = last - timedelta(days=sample["max_days"] - 1)
    counted = sorted(
        (one.started_at, one.inquiry_id, one.unit_day) for one in found
        if one.outcome in ("timely", "late", "unanswered") and earliest <= one.unit_day <= last
        and account in (None, one.account_id)
    )  # fmt: skip
    if sum(day >= first for *_, day in counted) >= sample["min_counted"]:
        return first
    return min([day for *_, day in counted[-sample["min_counted"] :]] + [first])


def _shown(rate: Fraction, rounding: str) -> float:
    """Percent as a person is shown it."""
    if rounding == "down-1":
        return math.floor(rate * 1000) / 10
    if rounding == "half-up-0":
        return float(math.floor(rate * 100 + Fraction(1, 2)))
    return float(rate * 100)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The continuous percentile: linear between the two nearest values."""
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def judged_at(as_of: date, rules: dict[str, Any], now: datetime) -> datetime:
    """The instant at which a row is judged: the first one of the next local day, or now."""
    return min(now, datetime.combine(as_of + timedelta(days=1), time.min, ZoneInfo(rules["time_zone"])))


def _statuses(facts: RecountFacts, asked: AskedInquiry, now: datetime) -> list[StatusMark]:
    """Statuses known at `now`; of spam and spam-undone only the latest."""
    mine = sorted(
        (mark for mark in facts.marked if mark.inquiry_id == asked.inquiry_id and mark.at < now),
        key=lambda mark: (mark.at, mark.status, mark.account_id),
    )
    spam = [mark for mark in mine if mark.status in ("spam", "spam-undone")]
    return [mark for mark in mine if mark not in spam] + spam[-1:]


def _excluded(asked: AskedInquiry, statuses: list[StatusMark], rules: dict[str, Any]) -> str | None:
    for entry in rules["exclude"]:
        when, within = entry["when"], entry.get("within_seconds")
        if when == "mainland-china-buyer":
            if asked.from_china:
                return str(when)
            continue
        limit = None if within is None else asked.received_at + timedelta(seconds=within)
        if any(mark.status == when and (limit is None or mark.at <= limit) for mark in statuses):
            return str(when)
    return None


def _owner(facts: RecountFacts, asked: AskedInquiry, rules: dict[str, Any], now: datetime) -> str:
    if rules["attribution"] != "current-owner":
        return asked.account_id
    moves = [mark for mark in _statuses(facts, asked, now) if mark.status == "reassigned"]
    return max(moves, key=lambda mark: (mark.at, mark.account_id)).account_id if moves else asked.account_id


def _answers(reply: GivenReply, rules: dict[str, Any]) -> bool:
    by = rules["answered_by"]
    if reply.kind == "automatic":
        return "automatic-reply" in by
    if reply.source == "mail":
        return reply.kind in ("human", "forward") and "human-reply" in by
    return reply.kind == "human" and "platform-reply" in by


def _is_covered(facts: RecountFacts, account: str, start: datetime, end: datetime, now: datetime) -> bool:
    lines = [line for line in facts.covered if line.account_id == account and line.recorded_at < now]
    boxes: dict[str | None, list[CoveredInterval]] = defaultdict(list)
    for line in lines:
        boxes[line.mailbox_id].append(line)
    if synced := boxes.pop(None, None):
        latest = max(synced, key=lambda line: line.recorded_at)
        if (
            latest.from_at is not None
            and latest.from_at <= start
            and (latest.removed_at is None or latest.removed_at >= end)
        ):
            return True
    due = []
    for history in boxes.values():
        latest = max(history, key=lambda line: line.recorded_at)
        if latest.connected_at <= end and (latest.removed_at is None or latest.removed_at >= end):
            due.append(_complete(history, start, end))
    return all(due) if due else any(_complete(history, start, end) for history in boxes.values())


def _complete(history: Sequence[CoveredInterval], start: datetime, end: datetime) -> bool:
    """Whether the union of the closed intervals holds all of [start, end]."""
    spans = sorted((line.from_at, line.through_at) for line in history if line.from_at and line.through_at)
    reached: datetime | None = None
    for low, high in spans:
        if reached is not None and low <= reached:
            reached = max(reached, high)
        else:
            if reached is not None and reached >= end:
                return True
            reached = high if low <= start else None
    return reached is not None and reached >= end


def world_facts(world: World, company_id: str, covered: Sequence[CoveredInterval]) -> RecountFacts:
    """What replyrate must come to know of a company of the demo world: connected mailboxes only."""
    company = next(company for company in world.companies if company.company_id == company_id)
    facts = RecountFacts(accounts={account.account_id for account in company.accounts}, covered=list(covered))
    connected = {mailbox.key: mailbox for mailbox in company.mailboxes if mailbox.connected}
    mails = [mail for mail in world.mails if mail.mailbox in connected]
    for inquiry in world.inquiries:
        if inquiry.company_id != company_id:
            continue
        facts.asked.append(
            AskedInquiry(
                inquiry.inquiry_id, inquiry.account_id, inquiry.received_at, inquiry.buyer_id,
                from_china=inquiry.region == "CN",
            )
        )  # fmt: skip
        for mail in mails:
            mailbox = connected[mail.mailbox]
            facts.replied += [
                GivenReply(
                    inquiry.inquiry_id, mail.letter.message_id or "", "mail", mailbox.account_id, mail.counts_at,
                    mail.kind, way, mailbox.key,
                )
                for way in _ways(mail, inquiry.addresses, inquiry.reply_addresses, inquiry.message_ids)
                if mail.counts_at >= inquiry.received_at - GRACE
            ]  # fmt: skip
    facts.marked = [
        StatusMark(mark.inquiry_id, mark.status, mark.at, mark.account_id or "")
        for mark in world.statuses
        if mark.company_id == company_id
    ]
    facts.replied += [
        GivenReply(
            reply.inquiry_id, reply.reply_id, "platform", reply.account_id, reply.replied_at,
            "automatic" if reply.automatic else "human", "platform",
        )
        for reply in world.platform_replies if reply.company_id == company_id
    ]  # fmt: skip
    return facts


def _ways(mail: WorldMail, addresses: Sequence[str], relays: Sequence[str], message_ids: Sequence[str]) -> list[str]:
    letter, ways = mail.letter, []
    if letter.kind != "forward":
        if letter.in_reply_to in message_ids:
            ways.append("in-reply-to")
        if set(letter.references) & set(message_ids):
            ways.append("references")
    to = {address.lower() for address in (*letter.to, *letter.cc)}
    if to & {address.lower() for address in relays}:
        ways.append("relay-address")
    if to & {address.lower() for address in addresses}:
        ways.append("buyer-address")
    return ways
