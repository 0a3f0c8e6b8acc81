"""Judges companies by one rule set: outcomes as they are now, and a row of reply_rate for every day that may have changed.

Everything is SQL over the facts (judge.sql, rates.sql); plan.py decides which days to judge, and here the statements run:

1. planning_inputs, plan    which days of each company
2. judge_units              `judged`: a row for each judgement and inquiry; `counted`: rows of reply_rate
3. store_results            differences into outcomes and rates, with history and corrections
4. next_due                 when time alone will change something
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from services.aggregator.judge import rate_ranges
from services.aggregator.judge.days import EVER, LAST_DAY, local_day, read_through_needed, start_of
from services.aggregator.judge.plan import Delta, Plan, columns, plan_company, portions
from services.aggregator.judge.rules import MAX_REACH_BACK_DAYS, RuleSet
from services.common.events import MATCH_ORDER
from services.common.postgres import load_statements

JUDGE: Final = load_statements("services.aggregator.judge", "judge.sql")
RATES: Final = load_statements("services.aggregator.judge", "rates.sql")
WORKSPACE: Final = (JUDGE["workspace"], RATES["workspace"], RATES["day_end_workspace"], *rate_ranges.WORKSPACE)
"""The statements that create the temporary tables."""
WORKSPACE_FORM: Final = hashlib.sha256("\n".join(WORKSPACE).encode()).hexdigest()[:16]
Schema = Literal["ledger", "shadow"]


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """What a refresh wrote, and by company: when time alone changes something next, and the instant through which its
    mailboxes must be read for another day to settle (None: no day waits for that)."""

    outcomes_changed: int
    rates_written: int
    next_due: dict[str, datetime | None]
    read_through_needed: dict[str, datetime | None]


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
    inputs = planning_inputs(connection, rule_set, list(companies), now)
    plans = [
        plan_company(rule_set, company, companies[company["company_id"]], now, days_from=days_from, days_to=days_to)
        for company in inputs
    ]
    causes = {company_id: delta.cause for company_id, delta in companies.items()}
    outcomes = rates = 0
    for portion in portions(plans):
        judge_units(connection, rule_set, portion, now)
        outcomes_changed, rates_written = store_results(connection, rule_set, portion, causes, now, schema=schema)
        outcomes, rates = outcomes + outcomes_changed, rates + rates_written
    next_days = {
        plan.company_id: start_of(local_day(company["passed_at"], rule_set) + timedelta(days=1), rule_set)
        for company, plan in zip(inputs, plans, strict=True)
        if plan.judgements
    }
    values = {"companies": list(companies), "now": now, "rule_set": rule_set.name}
    due = connection.execute(JUDGE["next_due"], values).fetchall()
    return RefreshResult(
        outcomes,
        rates,
        {company_id: earliest((due_at, next_days.get(company_id))) for company_id, due_at in due},
        {
            plan.company_id: read_through_needed(rule_set, company["passed_at"], plan.settled)
            if plan.judgements
            else None
            for company, plan in zip(inputs, plans, strict=True)
        },
    )


def use_schema(connection: psycopg.Connection, schema: Schema) -> None:
    """Read and write the numbers in the tables of `schema` until the transaction ends."""
    connection.execute(JUDGE["use_schema"], {"schema": schema})


def planning_inputs(
    connection: psycopg.Connection, rule_set: RuleSet, companies: Sequence[str], now: datetime
) -> list[dict[str, Any]]:
    """What `plan_company` needs to know of each company."""
    values = {"companies": list(companies), "rule_set": rule_set.name, "identity": rule_set.identity, "now": now}
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(JUDGE["planning_inputs"], values).fetchall()


def judge_units(connection: psycopg.Connection, rule_set: RuleSet, plans: Sequence[Plan], now: datetime) -> None:
    """Fill the temporary tables `judged` and `counted` as planned; they are emptied at the end of the transaction."""
    prepare(connection)
    if any(plan.judgements for plan in plans):
        values = {**parameters(rule_set), **columns(plans, rule_set), "now": now}
        inquiries = "every_inquiry"
        if (received_froms := first_receipts(plans, values, rule_set)) is not None:
            inquiries, values["received_froms"] = "recent_inquiries", received_froms
        statement = JUDGE["insert_judged"] + "\n" + judging(JUDGE["select_outcomes"], JUDGE[inquiries])
        connection.execute(statement, values)
        connection.execute(RATES["count"], values)
        connection.execute(RATES["insert_day_ends"], values)


def first_receipts(plans: Sequence[Plan], values: Mapping[str, Any], rule_set: RuleSet) -> list[datetime] | None:
    """The first instant of receipt that the judgements of each plan look at (`values`: their columns); None where one looks at every
    inquiry. A thread is a unit with all of its inquiries, however old."""
    if rule_set.unit == "first-per-thread":
        return None
    first_days: dict[str, date] = {plan.company_id: LAST_DAY for plan in plans}
    for company_id, first_day in zip(values["judged_companies"], values["receipts_from"], strict=True):
        first_days[company_id] = min(first_days[company_id], first_day)
    if min(first_days.values()) <= EVER:
        return None
    return [start_of(first_day, rule_set) for first_day in first_days.values()]


def judging(select: LiteralString, inquiries: LiteralString = JUDGE["every_inquiry"]) -> LiteralString:
    """A statement that continues from the steps of judge.sql; its parameters are `parameters` and `columns`.

    `inquiries`: the step `ledger_inquiry`, when other inquiries than all are judged.
    """
    return inquiries + "\n" + JUDGE["steps"] + "\n" + select


def prepare(connection: psycopg.Connection) -> None:
    """Create the temporary tables, or empty them."""
    connection.execute(JUDGE["planner_settings"])
    if connection.execute(JUDGE["workspace_is_ours"], {"form": WORKSPACE_FORM}).fetchone() == (True,):
        connection.execute(JUDGE["clear_workspace"])
        connection.execute(RATES["clear_workspace"])
        rate_ranges.clear(connection)
        return
    connection.execute(JUDGE["drop_workspace"])
    for statement in WORKSPACE:
        connection.execute(statement)
    connection.execute(sql.SQL(JUDGE["mark_workspace"]).format(form=sql.Literal(WORKSPACE_FORM)))


def store_results(
    connection: psycopg.Connection,
    rule_set: RuleSet,
    plans: Sequence[Plan],
    causes: Mapping[str, str],
    now: datetime,
    source: Literal["judged_outcomes", "shadow_outcomes"] = "judged_outcomes",
    schema: Schema = "ledger",
) -> tuple[int, int]:
    """Write the differences between outcomes and `counted` and the tables of `schema`, which is in use, with corrections.

    `source`: the statement that selects the new outcomes. Returns how many outcomes and how many rates have changed.
    """
    planned_companies = [plan.company_id for plan in plans]
    values = {
        "rule_set": rule_set.name,
        "identity": rule_set.identity,
        "now": now,
        "companies": planned_companies,
        "planned_companies": planned_companies,
        "causes": [causes[company_id] for company_id in planned_companies],
        "first_rate_days": [plan.first_rate_day for plan in plans],
        "settled_through": [plan.settled for plan in plans],
    }
    with_outcomes = [plan.company_id for plan in plans if plan.includes_outcomes]
    # Only an erase removes inquiries, and after one every outcome is judged.
    with_all_outcomes = [plan.company_id for plan in plans if plan.includes_all_outcomes]
    few = source == "judged_outcomes" and not with_all_outcomes
    stored = JUDGE["looked_up_outcomes" if few else "every_stored_outcome"]
    outcomes = 0
    for companies, parts in (
        (with_all_outcomes, (JUDGE["delete_unknown_outcomes"],)), (with_outcomes, (stored, JUDGE["update_outcomes"])),
        (with_outcomes, (stored, JUDGE["add_outcomes"])),
    ):  # fmt: skip
        if companies:
            statement = "\n".join((JUDGE[source], *parts))
            outcomes += connection.execute(statement, {**values, "companies": companies}).rowcount
    # A recompute, which nobody reads, stores a row for each day.
    with rate_ranges.touched_days(connection, values) if schema == "ledger" else nullcontext("rates") as table:
        for name in (
            "delete_before_first", "remove_unnamed_accounts", "keep_changed", "correct", "retire", "delete_running",
        ):  # fmt: skip
            connection.execute(rate_ranges.on_table(RATES[name], table), values)
        rates = connection.execute(rate_ranges.on_table(RATES["add"], table)).rowcount
    connection.execute(JUDGE["store_settled"], values)
    return outcomes, rates


def parameters(rule_set: RuleSet) -> dict[str, Any]:
    """The rule set as parameters of the statements, each under its own name.

    Values that are lists of tables are JSON; a small_sample table is its mode, `min_counted` and `reach_days`.
    """
    own, sample = rule_set.parameters(), rule_set.small_sample
    return {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in own.items()},
        "rule_set": rule_set.name,
        "identity": rule_set.identity,
        "exclude": json.dumps(own["exclude"]),
        "small_sample": "show" if sample == "show" else sample.mode,
        "min_counted": 0 if sample == "show" else sample.min_counted,
        "reach_days": rule_set.reach_days,
        "reach_back_unlimited": MAX_REACH_BACK_DAYS,
        "match_order": list(MATCH_ORDER),
    }


def earliest(instants: Sequence[datetime | None]) -> datetime | None:
    """The earliest of some instants; None when there is none."""
    return min((at for at in instants if at is not None), default=None)
