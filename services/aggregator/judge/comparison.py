"""What two rule sets say of the same facts: judged one after the other, compared, nothing kept."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from services.aggregator.judge import judge
from services.aggregator.judge.judge import Delta, Plan
from services.aggregator.judge.rules import RuleSet
from services.common.postgres import clock, load_statements

SQL: Final = load_statements("services.aggregator.judge", "comparison.sql")
COMPANIES: Final = 32
"""How many companies are judged at a time."""


def companies(connection: psycopg.Connection, company_id: str | None) -> list[str]:
    """The companies with facts, or the one of that name if it has some."""
    return [row[0] for row in connection.execute(SQL["companies"], {"company_id": company_id}).fetchall()]


def compare(
    connection: psycopg.Connection,
    one: RuleSet,
    other: RuleSet,
    companies: Sequence[str],
    tell: Callable[[str, int, int], None],
) -> Iterator[dict[str, Any]]:
    """For each company today's rate, counted and unmeasured units by both (`…_a`, `…_b`), the same of its `accounts`, and
    `inquiries` that count differently: outcome, reason, account, day, or whether they lie in today's window."""
    for begin in range(0, len(companies), COMPANIES):
        batch = companies[begin : begin + COMPANIES]
        with connection.transaction(force_rollback=True), connection.cursor(row_factory=dict_row) as cursor:
            now = clock(connection)
            judge.use_schema(connection, "ledger")
            for rule_set, table in ((one, "a"), (other, "b")):
                plans = []
                for span in judge.spans(connection, rule_set, batch, now):
                    plan = judge.plan(rule_set, span, Delta(), now)
                    # Outcomes as they are, and today's row.
                    last = (plan.judgements[0], plan.judgements[-1]) if plan.judgements else ()
                    plans.append(Plan(plan.company_id, last, plan.settled, plan.begin))
                judge.judge_units(connection, rule_set, plans, now)
                cursor.execute(SQL[f"keep_{table}"])
            rates = cursor.execute(SQL["rates"]).fetchall()
            differ = cursor.execute(SQL["outcomes"]).fetchall()
        for row in rates:
            if row["account_id"] is None:
                mine = [
                    one for one in rates if one["company_id"] == row["company_id"] and one["account_id"] is not None
                ]
                found = [one for one in differ if one["company_id"] == row["company_id"]]
                told = {name: value for name, value in row.items() if name != "account_id"}
                yield {**told, "accounts": _without_company(mine), "inquiries": _without_company(found)}
        tell("companies", begin + len(batch), len(companies))


def _without_company(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "company_id"} for row in rows]
