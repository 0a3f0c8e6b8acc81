"""Which rule sets count, and numbers computed anew beside those that are shown.

A rule set that is new or changed, and one that a person has computed anew, is judged into the schema `shadow`, company
by company, by whoever finds time: aggregators between two refreshes, `replyrate recompute`. A refresh keeps both up to
date. When every company has been, one transaction puts the shadow in the place of what was shown: readers see the old
numbers or the new ones, and a final number that differs gets its correction.

    activate ─▶ under way ──(each company judged in the shadow)──▶ whole ──(one transaction)──▶ counts
                    └── killed: goes on where it was ──┘
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import psycopg
from psycopg.rows import class_row, dict_row

from services.aggregator.judge import judge, rules
from services.aggregator.judge.judge import Delta, Plan, RefreshResult
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh.quarantine import isolating
from services.common.errors import ReplyrateError
from services.common.postgres import clock, load_statements

SQL: Final = load_statements("services.aggregator.refresh", "recompute.sql")
COMPANIES: Final = 8
"""How many companies are judged in one transaction."""
RECOMPUTE: Final = "recompute"
RULE_VERSION: Final = "rule-version"


@dataclass(frozen=True, slots=True)
class Recompute:
    """A recompute under way: a rule set, and which as_of days are computed anew."""

    rule_set: RuleSet
    days_from: date
    days_to: date


@dataclass(frozen=True, slots=True)
class StoredRuleSet:
    """A rule set as it was last activated; `parameters` is JSON."""

    name: str
    is_active: bool
    parameters: str

    @property
    def rule_set(self) -> RuleSet:
        """Its parameters, checked. Raises ConfigError when this release cannot read them."""
        return rules.stored(self.parameters)


def active(connection: psycopg.Connection) -> list[RuleSet]:
    """The rule sets that count now, by name; they stay so until the caller's transaction ends."""
    return [rules.stored(row[0]) for row in connection.execute(SQL["active"]).fetchall()]


def active_readonly(connection: psycopg.Connection) -> list[RuleSet]:
    """The rule sets that count now, by name, for somebody who only reads."""
    return [rules.stored(row[0]) for row in connection.execute(SQL["counting"]).fetchall()]


def stored_rule_sets(connection: psycopg.Connection) -> list[StoredRuleSet]:
    """Every rule set that is or was active, by name."""
    with connection.cursor(row_factory=class_row(StoredRuleSet)) as cursor:
        return cursor.execute(SQL["stored"]).fetchall()


def corrections_since(connection: psycopg.Connection, name: str, since: datetime) -> int:
    """Number of final numbers of a rule set that a recompute or a new rule version has corrected since an instant."""
    corrections = connection.execute(SQL["corrections_since"], {"name": name, "since": since}).fetchone()
    assert corrections is not None
    return int(corrections[0])


def unfinished(connection: psycopg.Connection) -> list[Recompute]:
    """The recomputes under way; none of them is shown before the caller's transaction ends."""
    return [
        Recompute(rules.stored(parameters), first or date.min, last or date.max)
        for parameters, first, last in connection.execute(SQL["all"]).fetchall()
    ]


def progress(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """Rule set, identity, beginning, companies and how many of them are done, of each recompute under way."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(SQL["progress"]).fetchall()


def activate(connection: psycopg.Connection, rule_set: RuleSet, *, at_start: bool = False) -> bool:
    """Let a rule set count; True when it is new or changed. It counts as soon as every company was judged by it.

    `at_start` is for the rule sets that settings name: one that a person has switched off stays off, and one of a higher
    number stays as it is (an aggregator of an older release starts beside newer ones).
    """
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        held = cursor.execute(SQL["held"], {"name": rule_set.name}).fetchone()
        coming = cursor.execute(SQL["under_way"], {"name": rule_set.name}).fetchone()
        if at_start and held is not None and not held["active"]:
            return False
        if at_start and any(one is not None and _number(one["identity"]) > rule_set.version for one in (held, coming)):
            return False
        if held is not None and held["active"] and held["identity"] == rule_set.identity:
            if coming is not None and coming["identity"] != rule_set.identity:
                # What was on its way to other parameters is not wanted any more.
                _end(connection, rule_set.name)
            return False
        new = begin(connection, rule_set)
    finish(connection)
    return new


def deactivate(connection: psycopg.Connection, name: str) -> bool:
    """Switch a rule set off: its rates go to the history, its outcomes go. False when it was not active."""
    with connection.transaction():
        stopped = connection.execute(SQL["under_way"], {"name": name}).fetchone() is not None
        if stopped:
            _end(connection, name)
        if connection.execute(SQL["deactivate"], {"name": name}).fetchone() is None:
            return stopped
        for statement in ("retire_rates", "retire_outcomes"):
            connection.execute(SQL[statement], {"name": name})
    return True


def begin(
    connection: psycopg.Connection, rule_set: RuleSet, from_day: date | None = None, to_day: date | None = None
) -> bool:
    """Compute a rule set anew, or go on with it; False when that is under way already.

    `from_day` … `to_day` are as_of days; without them every row that may still change. ReplyrateError when they are
    given for a rule set that does not count by these parameters yet: all of its rows must be.
    """
    if from_day is not None and to_day is not None and to_day < from_day:
        raise ReplyrateError(f"--to {to_day} lies before --from {from_day}; give the days in order")
    with connection.transaction():
        counts = connection.execute(SQL["held"], {"name": rule_set.name}).fetchone()
        if (from_day or to_day) and counts != (rule_set.name, rule_set.identity, True):
            raise ReplyrateError(
                f"{rule_set.name} {rule_set.identity} does not count yet; compute all of it (without --from and --to) first"
            )
        held = connection.execute(SQL["under_way"], {"name": rule_set.name}).fetchone()
        if held == (rule_set.identity, from_day, to_day):
            return False
        if held is not None:
            _end(connection, rule_set.name)
        values = {
            "name": rule_set.name,
            "identity": rule_set.identity,
            "parameters": json.dumps(rule_set.parameters(), ensure_ascii=False),
            "from_day": from_day,
            "to_day": to_day,
        }
        # Nothing comes back when another process begins the same at this moment: then it is under way.
        return connection.execute(SQL["begin"], values).fetchone() is not None


def step(connection: psycopg.Connection, most: int = COMPANIES, aside: Sequence[str] = ()) -> list[str]:
    """Judge some companies that a recompute lacks, but for those `aside`, in a transaction of their own; returns them.

    Unjudged when one of them may be the reason that Postgres refused.
    """
    done: list[str] = []
    with connection.transaction():
        for one in unfinished(connection):
            values = {"name": one.rule_set.name, "most": most, "aside": list(aside)}
            lacking = [company_id for (company_id,) in connection.execute(SQL["lacking"], values).fetchall()]
            if lacking:
                with isolating(lacking):
                    judge_in_shadow(connection, one, dict.fromkeys(lacking, Delta()), clock(connection))
                done += lacking
    return done


def judge_in_shadow(
    connection: psycopg.Connection, one: Recompute, companies: Mapping[str, Delta], now: datetime
) -> RefreshResult:
    """Judge companies beside what is shown, inside the caller's transaction."""
    found = judge.judge_companies(
        connection,
        one.rule_set,
        companies,
        now=now,
        days_from=one.days_from,
        days_to=one.days_to,
        schema="shadow",
    )
    due = found.next_due
    connection.execute(SQL["done"], {"name": one.rule_set.name, "companies": list(due), "due_ats": list(due.values())})
    return found


def finish(connection: psycopg.Connection) -> list[RuleSet]:
    """Show every recompute in which no company lacks, each in one transaction; returns their rule sets."""
    return [
        rules.stored(parameters)
        for parameters, _, _ in connection.execute(SQL["all"]).fetchall()
        if _show(connection, rules.stored(parameters))
    ]


def _show(connection: psycopg.Connection, rule_set: RuleSet) -> bool:
    name = {"name": rule_set.name}
    if connection.execute(SQL["whole"], name).fetchone() != (True,):
        return False
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(SQL["patience"])
        found = cursor.execute(SQL["under_way"], name).fetchone()
        whole = cursor.execute(SQL["whole"], name).fetchone()
        # Another process may have been faster, or a company may have come.
        if found is None or found["identity"] != rule_set.identity or whole != {"whole": True}:
            return False
        held = cursor.execute(SQL["held"], name).fetchone()
        same = held is None or held["identity"] == rule_set.identity
        now = clock(connection)
        judge.use_schema(connection, "ledger")
        judge.prepare(connection)
        values = {**name, "zone": rule_set.time_zone, "now": now}
        cursor.execute(SQL["judged"], values)
        cursor.execute(SQL["counted"], values)
        plans = [
            Plan(row["company_id"], (), row["through"], judge.first_day(row["first_at"], rule_set))
            for row in cursor.execute(SQL["companies"], values).fetchall()
        ]
        causes = dict.fromkeys((one.company_id for one in plans), RECOMPUTE if same else RULE_VERSION)
        waiting = {row["company_id"]: row["cause"] for row in cursor.execute(SQL["waiting"]).fetchall()}
        judge.store_results(
            connection, rule_set, plans, {**causes, **{k: v for k, v in waiting.items() if k in causes}}, now
        )
        parameters = json.dumps(rule_set.parameters(), ensure_ascii=False)
        cursor.execute(SQL["count"], {**name, "identity": rule_set.identity, "parameters": parameters})
        _end(connection, rule_set.name)
    return True


def _number(identity: str) -> int:
    return int(identity.partition("+")[0])


def _end(connection: psycopg.Connection, name: str) -> None:
    for statement in ("clear", "end"):
        connection.execute(SQL[statement], {"name": name})
