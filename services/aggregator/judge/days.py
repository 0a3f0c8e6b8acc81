"""Local days of a rule set: windows, settled days, and the judgements that they call for. Pure.

A row for as_of = D is judged at the first instant of D + 1 in the rule set's zone, or now if that is earlier: facts count
when strictly earlier than that.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from services.aggregator.judge.rules import RuleSet

EVER: Final = date(1970, 1, 1)
"""A day before every day that is counted."""
LAST_DAY: Final = date(9999, 12, 31)
"""A day after every day that is counted, as Postgres takes it."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judgement: the day of the row (None: outcomes as they are now), its instant, its window, its state."""

    day: date | None
    now: datetime
    first_day: date
    last_day: date
    state: str
    over_at: datetime


def start_of(day: date, rule_set: RuleSet) -> datetime:
    """First instant of a local day."""
    return datetime.combine(day, time.min, rule_set.zone)


def local_day(at: datetime, rule_set: RuleSet) -> date:
    """The local day of an instant; the last or first day that there is for an instant beyond it in the zone."""
    try:
        return at.astimezone(rule_set.zone).date()
    except OverflowError:
        return date.max if at.year > EVER.year else date.min


def first_rate_day(first_received_at: datetime | None, rule_set: RuleSet) -> date:
    """The day of a company's first row; after every day for a company without inquiries."""
    return date.max if first_received_at is None else local_day(first_received_at, rule_set)


def as_of_day(now: datetime, rule_set: RuleSet) -> date:
    """The day whose row is judged at `now`: the local day of the last microsecond before it."""
    return local_day(now - timedelta(microseconds=1), rule_set)


def window(day: date, rule_set: RuleSet) -> tuple[date, date]:
    """First and last local day of the row for `day`, both inclusive, before any widening."""
    last = day - timedelta(days=rule_set.settle_days)
    return last - timedelta(days=rule_set.window_days - 1), last


def settled_through(rule_set: RuleSet, now: datetime, mailboxes: int, complete_through: datetime | None) -> date:
    """The last settled local day: by rule and, if there are mailboxes, by how far all of them are complete.

    An outage delays it until `max_settle_days` more have passed.
    """
    by_rule = window(as_of_day(now, rule_set), rule_set)[1]
    if not mailboxes:
        return by_rule
    at_the_latest = by_rule - timedelta(days=rule_set.max_settle_days)
    if complete_through is None:
        return at_the_latest
    # A day is complete when mailboxes have been read through the first instant of the next day + target.
    complete = local_day(complete_through - timedelta(seconds=rule_set.target_seconds), rule_set) - timedelta(days=1)
    return max(at_the_latest, min(by_rule, complete))


def read_through_needed(rule_set: RuleSet, now: datetime, settled: date) -> datetime | None:
    """The instant through which all mailboxes must be read so that the day after `settled` settles; None if only time has
    to pass."""
    if settled >= window(as_of_day(now, rule_set), rule_set)[1]:
        return None
    return start_of(settled + timedelta(days=2), rule_set) + timedelta(seconds=rule_set.target_seconds)


def judgement_of_outcomes(now: datetime, first: date = EVER) -> Judgement:
    """The judgement of outcomes as they are at `now`, of inquiries received on the local day `first` or later."""
    return Judgement(None, now, first, LAST_DAY, "provisional", now)


def judgements(
    rule_set: RuleSet,
    first: date,
    now: datetime,
    settled: date,
    last: date = date.max,
    outcomes_from: date = EVER,
    passed_at: datetime | None = None,
) -> list[Judgement]:
    """The judgements that a refresh makes: outcomes now, and every as_of day from `first` to today (or `last`).

    A row is final when its window is settled and its day is over also by the watermark `passed_at` (None: `now`): until then
    records published on that day are still being counted.
    """
    today = min(local_day(now, rule_set), last)
    result = [judgement_of_outcomes(now, outcomes_from)]
    for offset in range((today - first).days + 1):
        day = first + timedelta(days=offset)
        over_at = start_of(day + timedelta(days=1), rule_set)
        first_day, last_day = window(day, rule_set)
        state = "final" if (passed_at or now) >= over_at and last_day <= settled else "provisional"
        result.append(Judgement(day, min(now, over_at), first_day, last_day, state, over_at))
    return result
