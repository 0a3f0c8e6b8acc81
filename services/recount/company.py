"""One company's joined facts as flat values with datetimes, and their judgement: what the demo and the tests compare."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from services.recount.coverage import Coverage, coverages
from services.recount.facts import Inquiry, Json, Reply, Status
from services.recount.instants import first_instant, instant_of, instant_text, local_day
from services.recount.judge import Judge
from services.recount.recount import DEFAULTS
from services.recount.rows import company_rows


@dataclass(frozen=True, slots=True)
class AskedInquiry:
    """A known inquiry."""

    inquiry_id: str
    account_id: str
    received_at: datetime
    buyer_id: str
    thread_id: str | None = None
    from_china: bool = False
    reachable: bool = True
    """Whether an address of the buyer or one made for the inquiry is known."""


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
class CompanyFacts:
    """Everything that is known about one company."""

    accounts: set[str] = field(default_factory=set)
    asked: list[AskedInquiry] = field(default_factory=list)
    marked: list[StatusMark] = field(default_factory=list)
    replied: list[GivenReply] = field(default_factory=list)
    covered: list[CoveredInterval] = field(default_factory=list)
    unread: frozenset[str] = frozenset()
    """Mailboxes that are neither active nor to be reconnected."""

    def inquiries(self, company_id: str) -> list[Inquiry]:
        """The inquiries with their statuses and replies."""
        statuses: dict[str, set[Status]] = {asked.inquiry_id: set() for asked in self.asked}
        for mark in self.marked:
            statuses[mark.inquiry_id].add(Status(instant_of(mark.at), mark.status, mark.account_id or None))
        replies: dict[str, set[Reply]] = {asked.inquiry_id: set() for asked in self.asked}
        for reply in self.replied:
            replies[reply.inquiry_id].add(
                Reply(
                    instant_of(reply.replied_at), reply.source, reply.reply_id, reply.account_id, reply.mailbox_id or None,
                    reply.kind, reply.kind_reason or None, reply.evidence or None, reply.matched_by,
                )
            )  # fmt: skip
        return [
            Inquiry(
                company_id, asked.inquiry_id, asked.account_id, instant_of(asked.received_at), asked.buyer_id,
                ("CN" if asked.from_china else None, None), asked.thread_id,
                frozenset(statuses[asked.inquiry_id]), frozenset(replies[asked.inquiry_id]), asked.reachable,
            )
            for asked in self.asked
        ]  # fmt: skip

    def coverage_lines(self, company_id: str) -> list[Json]:
        """The coverage history as `replyrate replay` reads it."""
        return [
            {
                "company_id": company_id,
                "account_id": line.account_id,
                "mailbox_id": line.mailbox_id,
                "connected_at": _text(line.connected_at),
                "removed_at": _text(line.removed_at),
                "from": _text(line.from_at),
                "through": _text(line.through_at),
                "recorded_at": _text(line.recorded_at),
            }
            for line in self.covered
        ]


class CompanyRecount:
    """The recount of one company's facts under one rule set; `parameters` are those of the rule set."""

    def __init__(self, company_id: str, facts: CompanyFacts, parameters: Json) -> None:
        self._company_id = company_id
        self._accounts = facts.accounts
        self._inquiries = facts.inquiries(company_id)
        self._lines = facts.coverage_lines(company_id)
        self._unread = facts.unread
        self._rule = {"name": "", **DEFAULTS, **parameters}

    def outcomes(self, now: datetime) -> dict[str, Json]:
        """Inquiry id → its row of inquiry_outcomes, for every inquiry known at `now`."""
        at = instant_of(now)
        _, outcomes = self._rows(at, local_day(at - 1, self._rule["time_zone"]))
        return {outcome["inquiry_id"]: outcome for outcome in outcomes}

    def rates(self, as_of: date, now: datetime) -> dict[str | None, Json]:
        """Account id (None: the company) → its row of reply_rate for a day, judged at `now`."""
        rates, _ = self._rows(instant_of(now), as_of)
        return {rate["account_id"]: rate for rate in rates}

    def rates_then(self, as_of: date, now: datetime) -> dict[str | None, Json]:
        """The same, judged when the day ended, or at `now` when it has not."""
        end = first_instant(as_of + timedelta(days=1), self._rule["time_zone"])
        rates, _ = self._rows(min(instant_of(now), end), as_of)
        return {rate["account_id"]: rate for rate in rates}

    def state(self, as_of: date, now: datetime) -> str:
        """Whether the row of a day is final, as known at `now`: the day is over, and the last day of its window is settled."""
        zone, at = self._rule["time_zone"], instant_of(now)
        judge = Judge(self._rule, at, local_day(at - 1, zone), self._coverage(at), Counter())
        is_over = at >= first_instant(as_of + timedelta(days=1), zone)
        return (
            "final" if is_over and judge.settled(as_of - timedelta(days=self._rule["settle_days"])) else "provisional"
        )

    def _coverage(self, now: int) -> Coverage:
        by_company, _ = coverages(self._lines, now, Counter())
        return replace(by_company.get(self._company_id, Coverage()), unread=self._unread)

    def _rows(self, now: int, as_of: date) -> tuple[Sequence[Json], Sequence[Json]]:
        inquiries = [inquiry for inquiry in self._inquiries if inquiry.received_at < now]
        if not inquiries:
            return (), ()
        return company_rows(Judge(self._rule, now, as_of, self._coverage(now), Counter()), inquiries, self._accounts)


def _text(at: datetime | None) -> str | None:
    return None if at is None else instant_text(instant_of(at))
