"""Which days of a company to judge again after a change, and in which portions. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from services.aggregator.judge.days import (
    EVER,
    LAST_DAY,
    Judgement,
    first_rate_day,
    judgements,
    local_day,
    settled_through,
)
from services.aggregator.judge.rules import LATE_DAYS, RuleSet

EVERYTHING: Final = datetime.min.replace(tzinfo=UTC)
"""As the instant from which facts changed: every day is judged again."""
STATEMENT_ROWS: Final = 100_000
"""About how many inquiries one statement judges: some seconds."""
LATE_FACT: Final = "late-fact"
ERASE: Final = "erase"


@dataclass(frozen=True, slots=True)
class Delta:
    """Why a company is judged again.

    `earliest`: instant of the earliest fact that changed (None: none did). `cause`: recorded when a final number changes.
    `received_from`: earliest receipt of an inquiry with a changed fact. `covered_from`: earliest time that new coverage says
    something about (None: there is none). `connected`: a mailbox was connected, which decides about mail of any age where
    connections reach back for some days only.
    """

    earliest: datetime | None = EVERYTHING
    cause: str = LATE_FACT
    received_from: datetime | None = None
    covered_from: datetime | None = None
    connected: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The judgements of one company; outcomes are final through the day `settled`, rows start on `first_rate_day`.

    `weight` is about how many inquiries one day looks at, `weight_per_day` how many more each further day.
    """

    company_id: str
    judgements: tuple[Judgement, ...]
    settled: date
    first_rate_day: date
    weight: int = 1
    weight_per_day: int = 1

    @property
    def statement_weight(self) -> int:
        """About how many inquiries all of its judgements look at: consecutive days look at almost the same ones."""
        return self.weight + self.weight_per_day * max(0, len(self.judgements) - 1)

    def fitting_judgements(self, weight: int) -> int:
        """How many of its judgements look at up to `weight` inquiries."""
        return 0 if weight < self.weight else 1 + (weight - self.weight) // self.weight_per_day

    @property
    def includes_outcomes(self) -> bool:
        """Whether outcomes are judged; also true for a company without inquiries, which has no outcomes."""
        return not self.judgements or self.judgements[0].day is None

    @property
    def includes_all_outcomes(self) -> bool:
        """Whether the outcomes of every inquiry are judged."""
        return self.includes_outcomes and (not self.judgements or self.judgements[0].first_day == EVER)


def plan_company(
    rule_set: RuleSet,
    inputs: Mapping[str, Any],
    delta: Delta,
    now: datetime,
    *,
    days_from: date = date.min,
    days_to: date = date.max,
) -> Plan:
    """What to judge of a company after a change; `inputs` is its row of the statement planning_inputs.

    Only rows of `days_from` … `days_to` are judged.
    """
    company_id = inputs["company_id"]
    if inputs["first_received_at"] is None:
        return Plan(company_id, (), date.min, date.max)
    # Records published after the watermark may still have to be counted: they settle nothing.
    settled = settled_through(rule_set, inputs["passed_at"], inputs["mailboxes"], inputs["complete_through"])
    settled_before: date | None = inputs["settled"]
    if settled_before is not None:
        # A settled day stays settled, whatever mailbox is connected now.
        settled = max(settled, settled_before)
    today, first_rate = local_day(now, rule_set), first_rate_day(inputs["first_received_at"], rule_set)
    if days_from > date.min:
        first = max(first_rate, days_from)
    else:
        first = min(max(first_touched_day(rule_set, inputs, delta.earliest, today), first_rate), today)
    inquiries_per_day = inputs["inquiries"] / ((today - first_rate).days + 1)
    weight = min(inputs["inquiries"], round(inquiries_per_day * (rule_set.reach_days + rule_set.settle_days)))
    outcomes_from = first_touched_receipt(rule_set, inputs, delta)
    planned = judgements(rule_set, first, now, settled, days_to, outcomes_from, inputs["passed_at"])
    return Plan(
        company_id,
        tuple(planned),
        settled,
        first_rate,
        max(1, weight),
        min(max(1, weight), math.ceil(inquiries_per_day)),
    )


def first_touched_receipt(rule_set: RuleSet, inputs: Mapping[str, Any], delta: Delta) -> date:
    """The first local day of receipt whose outcomes may differ now.

    A fact touches its inquiry, coverage what was open in its time, time alone what is not final and facts that were dated
    in the future.
    """
    if inputs["last_as_of"] is None or delta.earliest == EVERYTHING or inputs["never_judged"]:
        return EVER
    if delta.connected and rule_set.is_reach_limited:
        return EVER
    covered_from = delta.covered_from - timedelta(seconds=rule_set.target_seconds) if delta.covered_from else None
    candidates = (delta.received_from, covered_from, inputs["open_from"], inputs["announced_from"])
    instants = [at for at in candidates if at is not None]
    # One day earlier: instants represent days, and a day may start a day earlier in another zone.
    return local_day(min(instants), rule_set) - timedelta(days=1) if instants else date.max


def first_touched_day(rule_set: RuleSet, inputs: Mapping[str, Any], changed_from: datetime | None, today: date) -> date:
    """The first as_of day whose row may differ now.

    A row knows what happened and what was recorded before the end of its day. So a changed fact touches its own day and
    later ones, however long ago that is; coverage and time alone touch the last judged day, later ones, and those that
    are not final. With a new rule set, rows start where they may still change.
    """
    oldest = today - timedelta(days=rule_set.reach_days + LATE_DAYS)
    last: date | None = inputs["last_as_of"]
    if last is None or changed_from == EVERYTHING:
        return oldest if last is None else min(last, oldest)
    # Days missed while nothing ran are judged now, however many they are.
    touched: list[date] = [last, *([inputs["provisional_from"]] if inputs["provisional_from"] else [])]
    if changed_from is not None:
        touched.append(local_day(changed_from, rule_set))
    return min(touched)


def portions(plans: Sequence[Plan]) -> Iterator[list[Plan]]:
    """The same judgements in portions that one statement judges in seconds, however large a company is.

    A statement looks at all inquiries of its first window, so it takes as many days as add half of that again.
    """
    portion: list[Plan] = []
    rows_left = STATEMENT_ROWS
    for plan in plans:
        remaining = plan
        while True:
            available = rows_left if portion else max(rows_left, remaining.weight * 3 // 2)
            fitting = remaining.fitting_judgements(available)
            if fitting >= len(remaining.judgements):
                portion.append(remaining)
                rows_left -= remaining.statement_weight
                break
            if fitting > 0:
                portion.append(replace(remaining, judgements=remaining.judgements[:fitting]))
                remaining = replace(remaining, judgements=remaining.judgements[fitting:])
            yield portion
            portion, rows_left = [], STATEMENT_ROWS
    if portion:
        yield portion


def columns(plans: Sequence[Plan], rule_set: RuleSet) -> dict[str, list[Any]]:
    """Plans and their judgements as parameters of the statements, a list for each column.

    `companies` are those of the plans; the others have an entry for each judgement. `receipts_from` and `receipts_until`
    bound the days of receipt that a row can depend on at all.
    """
    shift = timedelta(days=rule_set.target_seconds // 86_400 + 2) if rule_set.period_by == "deadline" else timedelta()
    widening = timedelta(days=rule_set.reach_days - rule_set.window_days)
    judged = [(plan, judgement) for plan in plans for judgement in plan.judgements]
    return {
        "companies": [plan.company_id for plan in plans],
        "judged_companies": [plan.company_id for plan, _ in judged],
        "settled_through": [plan.settled for plan, _ in judged],
        "receipts_from": [
            judgement.first_day if judgement.day is None else judgement.first_day - widening - shift
            for _, judgement in judged
        ],
        "receipts_until": [LAST_DAY if judgement.day is None else judgement.last_day for _, judgement in judged],
        "as_ofs": [judgement.day for _, judgement in judged],
        "nows": [judgement.now for _, judgement in judged],
        "first_days": [judgement.first_day for _, judgement in judged],
        "last_days": [judgement.last_day for _, judgement in judged],
        "states": [judgement.state for _, judgement in judged],
        "days_over_at": [judgement.over_at for _, judgement in judged],
    }
