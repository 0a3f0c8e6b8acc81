"""Judges companies by one rule set: outcomes as they are now, and a row of reply_rate for every day that is touched.

Everything is SQL over the facts (judge.sql, rates.sql); here only the days are laid out. A row for as_of = D is judged
at the first instant of D + 1 in the rule's zone, or now if that is earlier: facts count when strictly earlier than that.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal

import psycopg
from psycopg.rows import dict_row

from services.aggregator.judge.rules import RuleSet
from services.common.events import MATCH_ORDER
from services.common.postgres import load_statements

SQL: Final = load_statements("services.aggregator.judge", "judge.sql")
RATES: Final = load_statements("services.aggregator.judge", "rates.sql")
EVER: Final = date(1970, 1, 1)
"""Before every day that is counted."""
EVERYTHING: Final = datetime.min.replace(tzinfo=UTC)
"""As the instant from which facts changed: every day is judged again."""
LATE_DAYS: Final = 45
"""How many days longer than it looks back a row may still change: settling, an outage, a fortnight of late facts."""
Schema = Literal["ledger", "shadow"]
STATEMENT_ROWS: Final = 100_000
"""About how many inquiries, each as often as it is looked at, one statement judges: some seconds."""
LATE_FACT: Final = "late-fact"
ERASE: Final = "erase"


@dataclass(frozen=True, slots=True)
class Delta:
    """Why a company is judged again: the instant of the earliest fact that changed since (None when none did), what a
    final number is corrected for, the earliest receipt of an inquiry that such a fact belongs to, and the earliest time
    that new coverage says something about (None: there is none)."""

    earliest: datetime | None = EVERYTHING
    cause: str = LATE_FACT
    received_from: datetime | None = None
    covered_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """What one judgement wrote, by company when time alone will change something next, and how far its mailboxes must have
    been read for another day to settle (None: not for want of that)."""

    outcomes_changed: int
    rates_written: int
    next_due: dict[str, datetime | None]
    settles_at: dict[str, datetime | None]


@dataclass(frozen=True, slots=True)
class AsOf:
    """One judgement: the row's day (None: outcomes as they are now), its instant, its window, its state."""

    day: date | None
    now: datetime
    first_day: date
    last_day: date
    state: str
    over_at: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """The judgements of one company; its outcomes are final through the day `settled`, its rows begin at `begin`.

    `weight` is about how many inquiries one of its days looks at.
    """

    company_id: str
    judgements: tuple[AsOf, ...]
    settled: date
    begin: date
    weight: int = 1

    @property
    def of_outcomes(self) -> bool:
        """Whether outcomes are judged; they are too when nothing is known, and then there are none."""
        return not self.judgements or self.judgements[0].day is None

    @property
    def of_all_outcomes(self) -> bool:
        """Whether those of every inquiry are."""
        return self.of_outcomes and (not self.judgements or self.judgements[0].first_day == EVER)


def start_of(day: date, rule_set: RuleSet) -> datetime:
    """First instant of a local day."""
    return datetime.combine(day, time.min, rule_set.zone)


def local_day(at: datetime, rule_set: RuleSet) -> date:
    """The local day of an instant."""
    return at.astimezone(rule_set.zone).date()


def first_day(first_at: datetime | None, rule_set: RuleSet) -> date:
    """The day of a company's first row; after every day when nothing is known of it."""
    return date.max if first_at is None else local_day(first_at, rule_set)


def as_of_day(now: datetime, rule_set: RuleSet) -> date:
    """The day whose row is judged at `now`: the local day of the last microsecond before it."""
    return local_day(now - timedelta(microseconds=1), rule_set)


def window(day: date, rule_set: RuleSet) -> tuple[date, date]:
    """First and last local day of the row for `day`, both inclusive, before any widening."""
    last = day - timedelta(days=rule_set.settle_days)
    return last - timedelta(days=rule_set.window_days - 1), last


def settled_through(rule_set: RuleSet, now: datetime, mailboxes: int, complete_through: datetime | None) -> date:
    """The last local day that is settled: by rule and, as far as there are mailboxes, by their completeness.

    An outage delays it until `max_settle_days` more have passed.
    """
    by_rule = window(as_of_day(now, rule_set), rule_set)[1]
    if not mailboxes:
        return by_rule
    waited = by_rule - timedelta(days=rule_set.max_settle_days)
    if complete_through is None:
        return waited
    # A day is complete when the first instant of the next one + target has been read.
    complete = local_day(complete_through - timedelta(seconds=rule_set.target_seconds), rule_set) - timedelta(days=1)
    return max(waited, min(by_rule, complete))


def settles_at(rule_set: RuleSet, now: datetime, settled: date) -> datetime | None:
    """How far all mailboxes must have been read for the day after `settled` to settle; None when it is time that it lacks."""
    if settled >= window(as_of_day(now, rule_set), rule_set)[1]:
        return None
    return start_of(settled + timedelta(days=2), rule_set) + timedelta(seconds=rule_set.target_seconds)


def outcomes_of_units_at(now: datetime, first: date = EVER) -> AsOf:
    """The judgement of outcomes as they are at `now`, of inquiries received on the local day `first` or later."""
    return AsOf(None, now, first, date(9999, 12, 31), "provisional", now)


def days(
    rule_set: RuleSet,
    first: date,
    now: datetime,
    settled: date,
    last: date = date.max,
    outcomes_from: date = EVER,
    passed_at: datetime | None = None,
) -> list[AsOf]:
    """The judgements that a refresh makes: outcomes now, and every as_of from `first` to today (or `last`).

    A row is final when its day is over, also for what was published in it (`passed_at`, now when None), and its window is
    settled: until then it is still being counted.
    """
    today = min(local_day(now, rule_set), last)
    found = [outcomes_of_units_at(now, outcomes_from)]
    for number in range((today - first).days + 1):
        day = first + timedelta(days=number)
        over_at = start_of(day + timedelta(days=1), rule_set)
        first_day, last_day = window(day, rule_set)
        state = "final" if (passed_at or now) >= over_at and last_day <= settled else "provisional"
        found.append(AsOf(day, min(now, over_at), first_day, last_day, state, over_at))
    return found


def plan(
    rule_set: RuleSet,
    span: Mapping[str, Any],
    changed: Delta,
    now: datetime,
    *,
    days_from: date = date.min,
    days_to: date = date.max,
) -> Plan:
    """What to judge of a company whose `span` (judge.sql) is known, after what `changed`.

    No row of reply_rate outside of `days_from` … `days_to` is judged.
    """
    company_id = span["company_id"]
    if span["first_at"] is None:
        return Plan(company_id, (), date.min, date.max)
    # What was published since may still have to be counted (passage.py): nothing settles by it.
    settled = settled_through(rule_set, span["passed_at"], span["mailboxes"], span["complete_through"])
    before: date | None = span["settled"]
    if before is not None:
        # What was settled stays so, whoever connects another mailbox now.
        settled = max(settled, before)
    today, begin = local_day(now, rule_set), first_day(span["first_at"], rule_set)
    if days_from > date.min:
        first = max(begin, days_from)
    else:
        first = min(max(first_touched(rule_set, span, changed.earliest, today), begin), today)
    density = span["inquiries"] / ((today - begin).days + 1)
    weight = min(span["inquiries"], round(density * (rule_set.reach_days + rule_set.settle_days)))
    touched = outcomes_touched(rule_set, span, changed)
    judgements = days(rule_set, first, now, settled, days_to, touched, span["passed_at"])
    return Plan(company_id, tuple(judgements), settled, begin, max(1, weight))


def outcomes_touched(rule_set: RuleSet, span: Mapping[str, Any], changed: Delta) -> date:
    """The first local day of receipt whose outcomes may be other ones now.

    A fact touches its inquiry, coverage what was open in its time, time alone what is not final or was told beforehand.
    """
    if span["last_as_of"] is None or changed.earliest == EVERYTHING or span["unjudged"]:
        return EVER
    covered = changed.covered_from - timedelta(seconds=rule_set.target_seconds) if changed.covered_from else None
    instants = [at for at in (changed.received_from, covered, span["open_from"], span["come_from"]) if at is not None]
    # A day more: instants stand for days, and a day may begin a day earlier in another zone.
    return local_day(min(instants), rule_set) - timedelta(days=1) if instants else date.max


def slices(plans: Sequence[Plan]) -> Iterator[list[Plan]]:
    """The same judgements in portions that one statement can do in seconds, however large a company is."""
    portion: list[Plan] = []
    left = STATEMENT_ROWS
    for whole in plans:
        rest = whole
        while True:
            fits = left // whole.weight
            if not portion:
                fits = max(1, fits)
            if fits >= len(rest.judgements):
                portion.append(rest)
                left -= whole.weight * len(rest.judgements)
                break
            if fits > 0:
                portion.append(replace(rest, judgements=rest.judgements[:fits]))
                rest = replace(rest, judgements=rest.judgements[fits:])
            yield portion
            portion, left = [], STATEMENT_ROWS
    if portion:
        yield portion


def first_touched(rule_set: RuleSet, span: Mapping[str, Any], changed_from: datetime | None, today: date) -> date:
    """The first as_of day whose row may be another one now.

    A row knows what happened and what was recorded before its day's end. So a changed fact touches its own day and
    later ones, however long ago that is; coverage and time alone touch the last judged day, later ones, and those that
    are not final. Without an instant (a new rule set) rows begin where one may still change.
    """
    oldest = today - timedelta(days=rule_set.reach_days + LATE_DAYS)
    last: date | None = span["last_as_of"]
    if last is None or changed_from == EVERYTHING:
        return oldest if last is None else min(last, oldest)
    # Days that were missed because nothing ran are made up for, however many they are.
    touched: list[date] = [last, *([span["provisional_from"]] if span["provisional_from"] else [])]
    if changed_from is not None:
        touched.append(local_day(changed_from, rule_set))
    return min(touched)


def judge_companies(
    connection: psycopg.Connection,
    rule_set: RuleSet,
    companies: Mapping[str, Delta],
    *,
    now: datetime,
    days_from: date = date.min,
    days_to: date = date.max,
    schema: Schema = "ledger",
) -> RefreshResult:
    """Write outcomes and rates of companies as of `now` into the tables of `schema`, inside the caller's transaction."""
    use_schema(connection, schema)
    known = spans(connection, rule_set, list(companies), now)
    plans = [
        plan(rule_set, span, companies[span["company_id"]], now, days_from=days_from, days_to=days_to) for span in known
    ]
    causes = {company_id: changed.cause for company_id, changed in companies.items()}
    outcomes = rates = 0
    for portion in slices(plans):
        judge_units(connection, rule_set, portion, now)
        written = store_results(connection, rule_set, portion, causes, now)
        outcomes, rates = outcomes + written[0], rates + written[1]
    turns = {
        span["company_id"]: start_of(local_day(span["passed_at"], rule_set) + timedelta(days=1), rule_set)
        for span, one in zip(known, plans, strict=True)
        if one.judgements
    }
    place = {"companies": list(companies), "now": now, "rule_set": rule_set.name}
    found = connection.execute(SQL["next_due"], place).fetchall()
    return RefreshResult(
        outcomes,
        rates,
        {company_id: _earlier(at, turns.get(company_id)) for company_id, at in found},
        {
            span["company_id"]: settles_at(rule_set, span["passed_at"], one.settled) if one.judgements else None
            for span, one in zip(known, plans, strict=True)
        },
    )


def judge_company(
    connection: psycopg.Connection,
    rule_set: RuleSet,
    company_id: str,
    *,
    now: datetime,
    changed_from: datetime | None = EVERYTHING,
    days_from: date = date.min,
) -> RefreshResult:
    """`judge_companies` for one."""
    return judge_companies(connection, rule_set, {company_id: Delta(changed_from)}, now=now, days_from=days_from)


def use_schema(connection: psycopg.Connection, schema: Schema) -> None:
    """Until the transaction ends, numbers are read from and written to the tables of `schema`."""
    connection.execute(SQL["into"], {"schema": schema})


def spans(
    connection: psycopg.Connection, rule_set: RuleSet, companies: Sequence[str], now: datetime
) -> list[dict[str, Any]]:
    """What `plan` must know of each company."""
    values = {"companies": list(companies), "rule_set": rule_set.name, "identity": rule_set.identity, "now": now}
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(SQL["span"], values).fetchall()


def judge_units(connection: psycopg.Connection, rule_set: RuleSet, plans: Sequence[Plan], now: datetime) -> None:
    """Fill the temporary tables `judged` and `counted` with what the plans ask for; gone with the transaction."""
    prepare(connection)
    if any(one.judgements for one in plans):
        values = {**parameters(rule_set), **arrays(plans, rule_set), "now": now}
        connection.execute(SQL["keep"] + "\n" + SQL["judgement"] + "\n" + SQL["judge"], values)
        connection.execute(RATES["count"], values)


def prepare(connection: psycopg.Connection) -> None:
    """The temporary tables, empty."""
    for statement in (SQL["planner"], SQL["workspace"], SQL["forget_last"], RATES["workspace"], RATES["forget_last"]):
        connection.execute(statement)


def store_results(
    connection: psycopg.Connection, rule_set: RuleSet, plans: Sequence[Plan], causes: Mapping[str, str], now: datetime
) -> tuple[int, int]:
    """Write what stands in `judged` and `counted` into the tables that `into` named, with corrections.

    Returns how many outcomes and how many rates are other ones now.
    """
    values = {
        "rule_set": rule_set.name,
        "identity": rule_set.identity,
        "now": now,
        "companies": [one.company_id for one in plans],
        "each_company": [one.company_id for one in plans],
        "each_cause": [causes[one.company_id] for one in plans],
        "each_begin": [one.begin for one in plans],
        "each_settled": [one.settled for one in plans],
    }
    of_outcomes = {**values, "companies": [one.company_id for one in plans if one.of_outcomes]}
    outcomes = connection.execute(SQL["outcomes"], of_outcomes).rowcount
    # Only an erase takes inquiries away, and after one every outcome is judged.
    of_all = {**values, "companies": [one.company_id for one in plans if one.of_all_outcomes]}
    outcomes += connection.execute(SQL["gone"], of_all).rowcount
    for name in ("forget_before", "vanished", "unchanged", "correct", "retire", "replace"):
        connection.execute(RATES[name], values)
    rates = connection.execute(RATES["add"], values).rowcount
    connection.execute(SQL["settle"], values)
    return outcomes, rates


def parameters(rule_set: RuleSet) -> dict[str, Any]:
    """The rule set as the statements want it."""
    sample = rule_set.small_sample
    return {
        "evidence": rule_set.evidence,
        "period_by": rule_set.period_by,
        "average_over": rule_set.average_over,
        "small_sample": "show" if sample == "show" else sample.mode,
        "min_counted": 0 if sample == "show" else sample.min_counted,
        "max_days": rule_set.reach_days,
        "parameters": json.dumps(rule_set.parameters()),
        "zone": rule_set.time_zone,
        "unit": rule_set.unit,
        "attribution": rule_set.attribution,
        "answered_by": list(rule_set.answered_by),
        "target": rule_set.target_seconds,
        "unmeasured": rule_set.unmeasured,
        "min_coverage": rule_set.min_coverage,
        "rounding": rule_set.rounding,
        "ways": list(MATCH_ORDER),
    }


def arrays(plans: Sequence[Plan], rule_set: RuleSet) -> dict[str, list[Any]]:
    """The judgements as columns, `each` naming the company; `reaches` and `untils` bound the days of receipt that a row
    can depend on at all."""
    shift = timedelta(days=rule_set.target_seconds // 86_400 + 2) if rule_set.period_by == "deadline" else timedelta()
    wider = timedelta(days=rule_set.reach_days - rule_set.window_days)
    each = [(company, one) for company in plans for one in company.judgements]
    return {
        "companies": [company.company_id for company in plans],
        "each": [company.company_id for company, _ in each],
        "settled": [company.settled for company, _ in each],
        "reaches": [one.first_day if one.day is None else one.first_day - wider - shift for _, one in each],
        "untils": [date(9999, 12, 31) if one.day is None else one.last_day for _, one in each],
        "as_ofs": [one.day for _, one in each],
        "nows": [one.now for _, one in each],
        "firsts": [one.first_day for _, one in each],
        "lasts": [one.last_day for _, one in each],
        "states": [one.state for _, one in each],
        "overs": [one.over_at for _, one in each],
    }


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((at for at in (one, other) if at is not None), default=None)
