"""Judges one company by one rule set: outcomes as they are now, and a row of reply_rate for every day that is touched.

Everything is SQL over the facts (judge.sql); here only the days are laid out. A row for as_of = D is judged at the
first instant of D + 1 in the rule's zone, or now if that is earlier: facts count when strictly earlier than that.
"""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from services.aggregator import rules
from services.aggregator.rules import RuleSet
from services.common.events import MATCH_ORDER
from services.common.postgres import load_statements

SQL: Final = load_statements("services.aggregator", "judge.sql")
EVERYTHING: Final = datetime.min.replace(tzinfo=UTC)
"""As the instant from which facts changed: every day is judged again."""
LATE_DAYS: Final = 45
"""How many days longer than it looks back a row may still change: settling, an outage, a fortnight of late facts."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What one judgement wrote, and when time alone will change something next."""

    outcomes_changed: int
    rates_written: int
    next_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class AsOf:
    """One judgement: the row's day (None: outcomes as they are now), its instant, its window, its state."""

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
    """The local day of an instant."""
    return at.astimezone(rule_set.zone).date()


def settled_through(rule_set: RuleSet, now: datetime, mailboxes: int, complete_through: datetime | None) -> date:
    """The last local day that is settled: by rule and, as far as there are mailboxes, by their completeness.

    An outage delays it until `max_settle_days` more have passed.
    """
    # A day's own row exists once the day is over, so what is settled is counted from yesterday.
    by_rule = local_day(now, rule_set) - timedelta(days=1 + rule_set.settle_days)
    if not mailboxes:
        return by_rule
    waited = by_rule - timedelta(days=rule_set.max_settle_days)
    if complete_through is None:
        return waited
    # A day is complete when the first instant of the next one + target has been read.
    complete = local_day(complete_through - timedelta(seconds=rule_set.target_seconds), rule_set) - timedelta(days=1)
    return max(waited, min(by_rule, complete))


def days(rule_set: RuleSet, first: date, now: datetime, settled: date) -> list[AsOf]:
    """The judgements that a refresh makes: outcomes now, and every as_of from `first` to today."""
    today = local_day(now, rule_set)
    found = [AsOf(None, now, date(1970, 1, 1), date(9999, 12, 31), "provisional", now)]
    for number in range((today - first).days + 1):
        day = first + timedelta(days=number)
        over_at = start_of(day + timedelta(days=1), rule_set)
        last = day - timedelta(days=rule_set.settle_days)
        state = "final" if now >= over_at and last <= settled else "provisional"
        found.append(
            AsOf(day, min(now, over_at), last - timedelta(days=rule_set.window_days - 1), last, state, over_at)
        )
    return found


def judge_company(
    connection: psycopg.Connection,
    rule_set: RuleSet,
    company_id: str,
    *,
    now: datetime,
    changed_from: datetime | None = EVERYTHING,
    days_from: date = date.min,
) -> Judged:
    """Write outcomes and rates of a company as of `now`, inside the caller's transaction.

    `changed_from` is the instant of the earliest fact that changed since the last judgement, None when none did: days
    that ended before it, and are final, are not judged again. No row of reply_rate before `days_from` is judged.
    """
    cursor = connection.cursor(row_factory=dict_row)
    place = {"company_id": company_id, "rule_set": rule_set.name, "identity": rule_set.identity, "now": now}
    cursor.execute(SQL["planner"])
    cursor.execute(SQL["workspace"])
    cursor.execute(SQL["forget_last"])
    span = _row(cursor, "span", place)
    if span["first_at"] is None:
        changed = cursor.execute(SQL["gone"], place).rowcount
        cursor.execute(SQL["forget_rates"], place)
        return Judged(changed, 0, None)
    through = _row(cursor, "complete_through", place)
    settled = settled_through(rule_set, now, through["mailboxes"], through["through"])
    today = local_day(now, rule_set)
    first = first_touched(rule_set, span, changed_from, today)
    judgements = days(rule_set, min(max(first, days_from), today), now, settled)
    values = {**place, **_parameters(rule_set), **_arrays(judgements, rule_set), "settled": settled}
    cursor.execute(SQL["judge"], values)
    outcomes = cursor.execute(SQL["outcomes"], values).rowcount
    outcomes += cursor.execute(SQL["gone"], values).rowcount
    rows = cursor.execute(SQL["rates"], values).fetchall()
    cursor.executemany(SQL["add_rates"], [{**place, "rounding": rule_set.rounding, **row} for row in rows])
    deadline = _row(cursor, "next_deadline", values)["due_at"]
    turn = start_of(today + timedelta(days=1), rule_set)
    return Judged(outcomes, len(rows), min(deadline, turn) if deadline is not None else turn)


def first_touched(rule_set: RuleSet, span: dict[str, Any], changed_from: datetime | None, today: date) -> date:
    """The first as_of day whose row may be another one now.

    A row knows what happened and what was recorded before its day's end. So a changed fact touches its own day and
    later ones; coverage and time alone touch the last judged day, later ones, and those that are not final.
    """
    begin = local_day(span["first_at"], rule_set)
    last: date | None = span["last_as_of"]
    oldest = today - timedelta(days=rule_set.reach_days + LATE_DAYS)
    if last is None or changed_from == EVERYTHING:
        return max(begin, oldest if last is None else min(last, oldest))
    touched: list[date] = [last, *([span["provisional_from"]] if span["provisional_from"] else [])]
    if changed_from is not None:
        touched.append(local_day(changed_from, rule_set))
    # Days that were missed because nothing ran are made up for, however many they are.
    return max(begin, min(last, max(oldest, min(touched))))


def activate(connection: psycopg.Connection, rule_set: RuleSet, *, at_start: bool = False) -> bool:
    """Store a rule set as active; True when it is new or changed, and every company is judged again then.

    `at_start` is for the rule sets that settings name: one that a person has switched off stays off.
    """
    values = {
        "name": rule_set.name,
        "identity": rule_set.identity,
        "parameters": json.dumps(rule_set.parameters(), ensure_ascii=False),
    }
    with connection.transaction():
        name = "activate_at_start" if at_start else "activate"
        new = connection.execute(SQL[name], values).fetchone() is not None
        if new:
            connection.execute(SQL["judge_all_again"])
    return new


def deactivate(connection: psycopg.Connection, name: str) -> bool:
    """Switch a rule set off: its rates go to the history, its outcomes go. False when it was not active."""
    with connection.transaction():
        if connection.execute(SQL["deactivate"], {"name": name}).fetchone() is None:
            return False
        for statement in ("retire_rates", "retire_outcomes"):
            connection.execute(SQL[statement], {"name": name})
    return True


def active(connection: psycopg.Connection) -> list[RuleSet]:
    """The rule sets that count now, by name; they stay so until the caller's transaction ends."""
    return [rules.stored(row[0]) for row in connection.execute(SQL["active"]).fetchall()]


def _parameters(rule_set: RuleSet) -> dict[str, Any]:
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
        "ways": list(MATCH_ORDER),
    }


def _arrays(judgements: list[AsOf], rule_set: RuleSet) -> dict[str, list[Any]]:
    """The judgements as columns; `reaches` and `untils` bound the days of receipt that a row can depend on at all."""
    threads = rule_set.unit == "first-per-thread"
    shift = timedelta(days=rule_set.target_seconds // 86_400 + 2) if rule_set.period_by == "deadline" else timedelta()
    wider = timedelta(days=rule_set.reach_days - rule_set.window_days)
    bounded = [None if threads or one.day is None else one.first_day - wider - shift for one in judgements]
    return {
        "reaches": [one or date(1970, 1, 1) for one in bounded],
        "untils": [date(9999, 12, 31) if threads or one.day is None else one.last_day for one in judgements],
        "as_ofs": [one.day for one in judgements],
        "nows": [one.now for one in judgements],
        "firsts": [one.first_day for one in judgements],
        "lasts": [one.last_day for one in judgements],
        "states": [one.state for one in judgements],
        "overs": [one.over_at for one in judgements],
    }


def _row(cursor: psycopg.Cursor[dict[str, Any]], name: str, values: dict[str, Any]) -> dict[str, Any]:
    row = cursor.execute(SQL[name], values).fetchone()
    assert row is not None
    return row
