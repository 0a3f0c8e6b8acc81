"""Units and their outcomes: one company under one rule set at one instant."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

from services.recount.coverage import Coverage
from services.recount.facts import BY_BUYER, TO_BUYER, Inquiry, Json, Reply, Status
from services.recount.instants import SECOND, first_instant, local_day
from services.recount.join import GRACE


@dataclass(slots=True)
class Unit:
    """Inquiries that count once."""

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
        """The id of its first member."""
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
        """The target, in microseconds."""
        return int(self.rule["target_seconds"]) * SECOND

    @property
    def reach(self) -> int:
        """How far a connection reaches back, in microseconds."""
        return int(self.rule["reach_back_days"]) * 86_400 * SECOND

    def _is_within_reach(self, reply: Reply) -> bool:
        """Whether a mail is verified, or not too old for the connection that found it."""
        if reply.source != "mail" or reply.evidence == "verified" or self.coverage is None:
            return True
        mailbox = self.coverage.mailboxes.get(reply.mailbox_id or "")
        if mailbox is None or mailbox.account_id != reply.account_id:
            return True
        connected_at = mailbox.found_by(reply.at)
        return connected_at is None or reply.at >= connected_at - self.reach

    def day_of(self, start: int) -> date:
        """The day on which an inquiry or a unit counts."""
        return local_day(start + (self.target if self.rule["period_by"] == "deadline" else 0), self.rule["time_zone"])

    def statuses(self, inquiry: Inquiry) -> list[Status]:
        """The statuses known at the judge's instant, in their order: of spam and spam-undone only the latest."""
        known_statuses = [status for status in inquiry.statuses if status.at < self.now]
        known_statuses.sort(key=lambda status: status.place)
        spam = [status for status in known_statuses if status.status in ("spam", "spam-undone")]
        if len(spam) > 1:
            self.noticed["spam more than once"] += 1
            if spam[-1].at == spam[-2].at and spam[-1].status != spam[-2].status:
                self.noticed["spam and spam-undone of one instant"] += 1
        return [status for status in known_statuses if status not in spam[:-1]]

    def owner(self, inquiry: Inquiry) -> str:
        """The account that an inquiry counts for, whoever replies."""
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

    def answers(self, reply: Reply) -> bool:
        """Whether a mail or platform reply answers the unit."""
        if reply.kind == "automatic":
            return "automatic-reply" in self.rule["answered_by"]
        if reply.source == "platform":
            return "platform-reply" in self.rule["answered_by"]
        return reply.kind in ("human", "forward") and "human-reply" in self.rule["answered_by"]

    def _of_the_seller(self, members: list[Inquiry], replies: list[Reply]) -> list[Reply]:
        """The replies without mail that the buyer wrote, and without mail to somebody else where the rule set refuses it."""
        mail = [
            reply for member in members for reply in member.replies if reply.source == "mail" and reply.at < self.now
        ]
        by_buyer = {reply.reply_id for reply in mail if reply.kind_reason == BY_BUYER}
        accepted = [reply for reply in replies if reply.source != "mail" or reply.reply_id not in by_buyer]
        if len(accepted) < len(replies):
            self.noticed["mail of the buyer"] += 1
        if self.rule["answer_to"] == "anyone":
            return accepted
        to_buyer = {reply.reply_id for reply in mail if reply.matched_by in TO_BUYER}
        no_address = {
            reply for member in members if not member.reachable for reply in member.replies if reply.source == "mail"
        }
        addressed = [
            reply for reply in accepted if reply.source != "mail" or reply.reply_id in to_buyer or reply in no_address
        ]
        if len(addressed) < len(accepted):
            self.noticed["mail to somebody else"] += 1
        return addressed

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
        within_reach = [reply for reply in replies if self._is_within_reach(reply)]
        if len(within_reach) < len(replies):
            self.noticed["mail beyond the reach of a connection"] += 1
        replies = self._of_the_seller(members, within_reach)
        if any(reply.at == start - GRACE for reply in replies):
            self.noticed["reply 300 s before the start"] += 1
        listed = {"rejected": "rejected", "declined": "declined", "spam": "spam-report"}
        answers = [reply for reply in replies if self.answers(reply)]
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
                covered = self.coverage.covered(account_id, start, end, self.reach, self.noticed)
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
            places = zip(names, answer.place, rival.place, strict=True)
            differing = next(name for name, of_answer, of_rival in places if of_answer != of_rival)
            self.noticed[f"tie by {differing}"] += 1

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
