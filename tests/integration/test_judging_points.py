"""Judging many days at once equals judging each of them by itself.

An inquiry is judged only at the instants at which its outcome can change (`judging points`, judge.sql), and a row of reply_rate is a
sum over days (rates.sql). A plan with a single judgement has neither: each inquiry is judged at that instant.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from services.aggregator.judge import judge, plan, rules
from services.aggregator.judge.plan import Delta, Plan
from services.aggregator.judge.rules import RuleSet
from services.common.postgres import connect
from services.recount.company import CompanyFacts, CoveredInterval, GivenReply, StatusMark
from tests.integration.test_judge import RULES, STATUSES, put, random_facts
from tests.oracle.drawn_rules import drawn, file_text

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
COMPANIES = 8
SAMPLED_DAYS = 20
DRAWN = [rules.parse(file_text(drawn(seed)), f"drawn-{seed}.toml") for seed in range(12)]
RATES = "SELECT * FROM counted ORDER BY company_id, level, account_id, as_of"
OUTCOMES = """SELECT company_id, inquiry_id, account_id, owner, buyer_id, own_day, unit_day, unit_inquiry_id, received_at, first_reply_at,
    reply_seconds, outcome, reason, reply_source, matched_by, mailbox_id, evidence, covered, due_at, state
FROM judged WHERE is_current ORDER BY company_id, inquiry_id"""


def eventful_facts(seed: int) -> CompanyFacts:
    """Random facts, and what changes an outcome long after the receipt: late answers and statuses, new owners, coverage with gaps,
    mailboxes that are removed and connected again."""
    facts, chance = random_facts(seed, NOW), random.Random(f"eventful {seed}")
    accounts = sorted(facts.accounts)
    for asked in facts.asked:
        for _ in range(chance.choice([0, 0, 1, 2])):
            at = (
                asked.received_at
                + chance.choice([0, 1, 3, 6, 10, 20, 30]) * DAY
                + timedelta(seconds=chance.randrange(86_400))
            )
            draw = chance.random()
            if draw < 0.4:
                kind, evidence = chance.choice(["human", "automatic"]), chance.choice(["verified", "suspect"])
                facts.replied.append(
                    GivenReply(asked.inquiry_id, f"late{chance.randrange(99)}", "mail", chance.choice(accounts), at, kind, "references", "m1", evidence)
                )  # fmt: skip
            elif draw < 0.6:
                facts.marked.append(StatusMark(asked.inquiry_id, "reassigned", at, chance.choice(accounts)))
            else:
                facts.marked.append(StatusMark(asked.inquiry_id, chance.choice(STATUSES), at))
    for account in accounts:
        for number in range(chance.choice([0, 1, 2])):
            facts.covered += polls(chance, account, f"{account}-polled{number}")
    ordered = sorted(facts.covered, key=lambda line: line.recorded_at)
    facts.covered = [
        replace(line, recorded_at=line.recorded_at + timedelta(microseconds=number))
        for number, line in enumerate(ordered)
    ]
    return facts


def polls(chance: random.Random, account: str, mailbox: str) -> list[CoveredInterval]:
    """One row of coverage on most days; some begin after a gap, and now and then the mailbox is removed or connected again."""
    connected = NOW - chance.choice([20, 45, 70]) * DAY
    visible_from, removed = connected - chance.choice([0, 10]) * DAY, None
    lines = []
    for day in range(75):
        polled = connected + day * DAY + timedelta(seconds=chance.randrange(80_000))
        if polled >= NOW:
            break
        if chance.random() < 0.15:
            visible_from = polled
        if chance.random() < 0.05:
            removed = None if removed else polled
        if chance.random() < 0.8:
            recorded = polled + timedelta(microseconds=chance.randrange(1, 10**6))
            lines.append(CoveredInterval(account, mailbox, connected, recorded, removed, visible_from, polled))
    return lines


def judged(connection: psycopg.Connection, rule_set: RuleSet, plans: Sequence[Plan], rows: str) -> list[dict[str, Any]]:
    """Rows of the workspace after one statement for all of the plans."""
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        judge.use_schema(connection, "ledger")
        judge.judge_units(connection, rule_set, plans, NOW)
        return cursor.execute(rows.encode()).fetchall()


@pytest.mark.parametrize("rule_set", [*RULES, *DRAWN], ids=lambda rule_set: rule_set.name)
def test_many_days_at_once_equal_each_day_by_itself(dsn: str, rule_set: RuleSet) -> None:
    chance = random.Random(rule_set.name)
    with connect(dsn, "tests") as connection:
        companies = [f"c{number}" for number in range(COMPANIES)]
        for company in companies:
            put(connection, company, eventful_facts(chance.randrange(10**6)))
        # Of every other company not everything that was published has been counted yet.
        connection.execute("INSERT INTO ledger.pipeline VALUES (0, %s), (1, %s)", (NOW - 3 * DAY, NOW))
        for number, company in enumerate(companies):
            connection.execute(
                "INSERT INTO ledger.companies (company_id, partition) VALUES (%s, %s)", (company, number % 2)
            )
        with connection.transaction():
            judge.use_schema(connection, "ledger")
            inputs = judge.planning_inputs(connection, rule_set, companies, NOW)
        plans = [plan.plan_company(rule_set, company, Delta(), NOW) for company in inputs]
        together = judged(connection, rule_set, plans, RATES)
        assert judged(connection, rule_set, plans, OUTCOMES) == judged(
            connection, rule_set, [replace(each, judgements=each.judgements[:1]) for each in plans], OUTCOMES
        )
        days = sorted({rate["as_of"] for rate in together})
        for day in chance.sample(days, min(SAMPLED_DAYS, len(days))):
            single = [
                replace(each, judgements=tuple(judgement for judgement in each.judgements if judgement.day == day))
                for each in plans
            ]
            alone = judged(connection, rule_set, [each for each in single if each.judgements], RATES)
            assert [rate for rate in together if rate["as_of"] == day] == alone, (rule_set.name, day)
