"""Every number in Postgres against the recount (services.recount), for the demo and for the tests.

The facts of the ledger, the outcome of each inquiry and each row of reply_rate_latest must be those of the world's plan.
The recount computes, this module compares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from services.aggregator.judge import rules
from services.common.hashing import Hasher
from services.common.postgres import load_statements
from services.recount.company import CompanyRecount, CoveredInterval
from services.recount.instants import instant_of, instant_text
from services.standalone.demo.planned import planned_facts
from services.standalone.world.world import World

SQL: Final = load_statements("services.standalone.demo", "comparison.sql")
OUTCOME_COLUMNS: Final = (
    "outcome", "reason", "account_id", "unit_day", "unit_inquiry_id", "first_reply_at", "reply_source", "matched_by",
)  # fmt: skip
"""Compared columns of inquiry_outcomes. The plan does not know mailbox_id and evidence: both exist once a mailbox is read."""
RATE_COLUMNS: Final = (
    "window_start", "window_end", "inquiries", "excluded", "counted", "timely", "late", "unanswered", "unmeasured", "pending",
    "rate", "rate_shown", "mean_seconds", "median_seconds", "p90_seconds", "p95_seconds", "coverage",
)  # fmt: skip
"""Compared columns of reply_rate_latest."""


@dataclass(slots=True)
class Comparison:
    """What was compared, and one sentence for each difference."""

    differences: list[str] = field(default_factory=list)
    rates: int = 0
    outcomes: int = 0


def compare(connection: psycopg.Connection, world: World, rule_sets: Sequence[str]) -> Comparison:
    """Every row of reply_rate_latest and every outcome against the recount."""
    rates, outcomes = _rows(connection, "rates"), _rows(connection, "outcomes")
    differences: list[str] = []
    for company in world.companies:
        company_id = company.company_id
        coverage = connection.execute(SQL["coverage"], {"company_id": company_id}).fetchall()
        facts = planned_facts(world, company_id, [CoveredInterval(*line) for line in coverage])
        for name in rule_sets:
            now = datetime.now(UTC)
            recount = CompanyRecount(company_id, facts, rules.load_builtin(name).parameters())
            key = (company_id, name)
            actual = {
                outcome["inquiry_id"]: outcome
                for outcome in outcomes
                if (outcome["company_id"], outcome["rule_set"]) == key
            }
            differences += _differing_outcomes(f"{company_id} {name}", recount.outcomes(now), actual)
            shown = {rate["account_id"]: rate for rate in rates if (rate["company_id"], rate["rule_set"]) == key}
            for account_id in (None, *sorted(facts.accounts)):
                if account_id not in shown:
                    differences.append(f"{company_id} {name}: no row for {account_id or 'the company'}")
                    continue
                actual_rate = shown[account_id]
                expected_rate = recount.rates(actual_rate["as_of"], now).get(account_id, {})
                differences += [
                    f"{company_id} {name} {account_id or 'company'}: {column} is {actual_rate[column]},"
                    f" must be {expected_rate.get(column)}"
                    for column in RATE_COLUMNS
                    if not same(actual_rate[column], expected_rate.get(column))
                ]
    return Comparison(differences, len(rates), len(outcomes))


def compare_ledger(connection: psycopg.Connection, world: World, hasher: Hasher) -> Comparison:
    """Every fact of the ledger against the plan: nothing lost, nothing twice, nothing that was never published.

    A fact is what decides a number; how far a reply's clock is trusted (evidence) depends on when it was seen. The plan
    must stay below the bounds of the contract.
    """
    differences: list[str] = []
    for company in world.companies:
        company_id = company.company_id
        facts = planned_facts(world, company_id, ())
        planned: dict[str, set[tuple[Any, ...]]] = {
            "inquiry": {(asked.inquiry_id, asked.account_id, asked.received_at) for asked in facts.asked},
            "status": {(mark.inquiry_id, mark.status, mark.at, mark.account_id) for mark in facts.marked},
            "reply": {
                (
                    reply.inquiry_id, reply.source,
                    hasher.message(company_id, reply.reply_id) if reply.source == "mail" else reply.reply_id,
                    reply.account_id, reply.replied_at, reply.kind, reply.matched_by,
                )
                for reply in facts.replied
            },
        }  # fmt: skip
        for name, expected in planned.items():
            actual = set(connection.execute(SQL[name], {"company_id": company_id}).fetchall())
            differences += [f"{company_id}: {name} {fact} is lost" for fact in sorted(expected - actual)]
            differences += [f"{company_id}: {name} {fact} was never published" for fact in sorted(actual - expected)]
    return Comparison(differences)


def same(actual: Any, expected: Any) -> bool:
    """Whether a value of the views is that of the recount: days and instants as text, numbers within 0.000001."""
    if actual is None or expected is None:
        return actual is expected
    if isinstance(actual, datetime):
        return bool(instant_text(instant_of(actual)) == expected)
    if isinstance(actual, date):
        return bool(actual.isoformat() == expected)
    if isinstance(actual, str):
        return bool(actual == expected)
    return abs(float(actual) - float(expected)) < 1e-6


def _differing_outcomes(
    name: str, expected: Mapping[str, Mapping[str, Any]], actual: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    differences = [
        f"{name}: an outcome for {inquiry_id}, which is not known" for inquiry_id in actual.keys() - expected
    ]
    for inquiry_id, outcome in expected.items():
        if inquiry_id not in actual:
            differences.append(f"{name}: no outcome for {inquiry_id}")
            continue
        actual_outcome = actual[inquiry_id]
        differences += [
            f"{name} {inquiry_id}: {column} is {actual_outcome[column]}, must be {outcome[column]}"
            for column in OUTCOME_COLUMNS
            if not same(actual_outcome[column], outcome[column])
        ]
    return differences


def _rows(connection: psycopg.Connection, name: str) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(SQL[name]).fetchall()
