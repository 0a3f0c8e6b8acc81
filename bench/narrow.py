"""What a narrow judgement costs: one that a single changed fact of the last hour leads to."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import psycopg

from bench.measure import Usage
from services.aggregator.judge import judge
from services.aggregator.judge.plan import Delta
from services.aggregator.judge.rules import RuleSet

NARROW: Final = 30
"""Narrow judgements of each company."""


def narrow_seconds(
    connection: psycopg.Connection, rule_set: RuleSet, companies: Sequence[str], now: datetime
) -> list[float]:
    """CPU seconds of Postgres for a narrow judgement of each company: the mean of those made in turns after a whole one."""
    usage = Usage(connection.info.backend_pid)
    taken = dict.fromkeys(companies, 0.0)

    def judge_company(company_id: str, delta: Delta, at: datetime) -> float:
        before = usage.cpu_seconds()
        with connection.transaction():
            judge.judge_companies(connection, rule_set, {company_id: delta}, now=at)
        return usage.cpu_seconds() - before

    for company_id in companies:
        judge_company(company_id, Delta(), now)
    connection.execute("VACUUM ANALYZE")
    changed = now - timedelta(hours=1)
    for step in range(1, NARROW + 1):
        for company_id in companies:
            delta = Delta(changed, received_from=changed)
            taken[company_id] += judge_company(company_id, delta, now + timedelta(seconds=step))
    return [taken[company_id] / NARROW for company_id in companies]
