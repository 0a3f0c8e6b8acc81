"""Compares two rule sets over the same facts: both are judged inside a transaction that is rolled back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from services.aggregator.judge import judge
from services.aggregator.judge.plan import Delta, Plan, plan_company
from services.aggregator.judge.rules import RuleSet
from services.common.postgres import clock, load_statements

SQL: Final = load_statements("services.aggregator.judge", "comparison.sql")
BATCH_COMPANIES: Final = 32
"""How many companies are judged in one transaction."""


def companies(connection: psycopg.Connection, company_id: str | None) -> list[str]:
    """Companies with facts, or only the one with this id, if it has facts."""
    return [company[0] for company in connection.execute(SQL["companies"], {"company_id": company_id}).fetchall()]


def compare(
    connection: psycopg.Connection,
    first: RuleSet,
    second: RuleSet,
    companies: Sequence[str],
    progress: Callable[[str, int, int], None],
    restore: Callable[[RuleSet, Sequence[str], datetime], None] = lambda rule_set, companies, now: None,
) -> Iterator[dict[str, Any]]:
    """For each company today's rate (exact, and as each rule set rounds it: `rate_shown`), counted and unmeasured units by both rule sets
    (`…_a`, `…_b`), the same for its `accounts`, and the `inquiries` that count differently: in outcome, reason, account, unit, or whether
    they are in today's window. `restore`: brings archived units back, inside the transaction, that today's rows depend on."""
    for start in range(0, len(companies), BATCH_COMPANIES):
        batch = companies[start : start + BATCH_COMPANIES]
        with connection.transaction(force_rollback=True), connection.cursor(row_factory=dict_row) as cursor:
            now = clock(connection)
            judge.use_schema(connection, "ledger")
            for rule_set in (first, second):
                restore(rule_set, batch, now)
            for rule_set, save in ((first, "save_a"), (second, "save_b")):
                plans = []
                for inputs in judge.planning_inputs(connection, rule_set, batch, now):
                    plan = plan_company(rule_set, inputs, Delta(), now)
                    # Outcomes as they are, and today's row.
                    judgements = (plan.judgements[0], plan.judgements[-1]) if plan.judgements else ()
                    plans.append(Plan(plan.company_id, judgements, plan.settled, plan.first_rate_day))
                judge.judge_units(connection, rule_set, plans, now)
                cursor.execute(SQL[save])
            rates = cursor.execute(SQL["rates"]).fetchall()
            outcomes = cursor.execute(SQL["outcomes"]).fetchall()
        for rate in rates:
            if rate["account_id"] is None:
                company_id = rate["company_id"]
                yield {
                    **{name: value for name, value in rate.items() if name != "account_id"},
                    "accounts": [_within(account) for account in rates
                                 if account["company_id"] == company_id and account["account_id"] is not None],
                    "inquiries": [_within(outcome) for outcome in outcomes if outcome["company_id"] == company_id],
                }  # fmt: skip
        progress("companies", start + len(batch), len(companies))


def differs(company: Mapping[str, Any]) -> bool:
    """Whether the two rule sets give a company another rate, another number of counted units or other outcomes."""
    return bool(company["inquiries"]) or any(
        company[f"{name}_a"] != company[f"{name}_b"] for name in ("rate", "counted")
    )


def _within(row_of_company: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row_of_company.items() if name != "company_id"}
