"""Every number in Postgres against the recount of services.standalone.demo.oracle: for the demo and for the tests.

What the ledger holds, what became of each inquiry and each row of reply_rate_latest must be what the world's plan says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from services.aggregator.judge import rules
from services.common.hashing import Hasher
from services.standalone.demo import oracle
from services.standalone.demo.oracle import CoveredInterval
from services.standalone.world.world import World

COVERAGE = """
SELECT account_id, mailbox_id, connected_at, recorded_at, removed_at, from_at, through_at
FROM registry.coverage WHERE company_id = %(company_id)s ORDER BY recorded_at, coverage_id
"""
REPLIES = """
SELECT inquiry_id, source, reply_id, account_id, replied_at, kind, matched_by
FROM ledger.replies WHERE company_id = %(company_id)s
"""
STATUSES = "SELECT inquiry_id, status, at, account_id FROM ledger.statuses WHERE company_id = %(company_id)s"
INQUIRIES = "SELECT inquiry_id, account_id, received_at FROM ledger.inquiries WHERE company_id = %(company_id)s"


@dataclass(slots=True)
class Comparison:
    """What was compared, and one sentence for each difference."""

    differences: list[str] = field(default_factory=list)
    rates: int = 0
    outcomes: int = 0


def compare(connection: psycopg.Connection, world: World, rule_sets: Sequence[str]) -> Comparison:
    """Every row of reply_rate_latest and every outcome against the recount."""
    latest = rows(connection, "SELECT * FROM report_v1.reply_rate_latest")
    outcomes = rows(connection, "SELECT * FROM report_v1.inquiry_outcomes")
    found: list[str] = []
    for company in world.companies:
        company_id = company.company_id
        covered = [CoveredInterval(*row) for row in connection.execute(COVERAGE, {"company_id": company_id}).fetchall()]
        facts = oracle.world_facts(world, company_id, covered)
        for name in rule_sets:
            parameters = rules.load_builtin(name).parameters()
            counted = oracle.outcomes(facts, parameters, datetime.now(UTC))
            mine = [row for row in outcomes if (row["company_id"], row["rule_set"]) == (company_id, name)]
            found += _differing_outcomes(company_id, name, counted, mine)
            shown = {
                row["account_id"]: row for row in latest if (row["company_id"], row["rule_set"]) == (company_id, name)
            }
            for account in (None, *sorted(facts.accounts)):
                if account not in shown:
                    found.append(f"{company_id} {name}: no row for {account or 'the company'}")
                    continue
                wanted = oracle.rate(counted, parameters, shown[account]["as_of"], account)
                found += [
                    f"{company_id} {name} {account or 'company'}: {key} is {shown[account][key]}, must be {value}"
                    for key, value in wanted.items()
                    if not _same(shown[account][key], value)
                ]
    return Comparison(found, len(latest), len(outcomes))


def compare_ledger(connection: psycopg.Connection, world: World, hasher: Hasher) -> Comparison:
    """Every fact of the ledger against the plan: nothing lost, nothing twice, nothing that nobody told.

    A fact is what decides a number; how a reply's clock was believed (evidence) depends on when it was seen. The plan
    must stay below the bounds of the contract.
    """
    found: list[str] = []
    for company in world.companies:
        company_id = company.company_id
        place = {"company_id": company_id}
        facts = oracle.world_facts(world, company_id, ())
        planned: dict[str, set[tuple[Any, ...]]] = {
            "inquiry": {(one.inquiry_id, one.account_id, one.received_at) for one in facts.asked},
            "status": {(one.inquiry_id, one.status, one.at, one.account_id) for one in facts.marked},
            "reply": {
                (
                    one.inquiry_id, one.source,
                    hasher.message(company_id, one.reply_id) if one.source == "mail" else one.reply_id,
                    one.account_id, one.replied_at, one.kind, one.matched_by,
                )
                for one in facts.replied
            },
        }  # fmt: skip
        for name, statement in (("inquiry", INQUIRIES), ("status", STATUSES), ("reply", REPLIES)):
            held = set(connection.execute(statement.encode(), place).fetchall())
            found += [f"{company_id}: {name} {fact} is lost" for fact in sorted(planned[name] - held)]
            found += [f"{company_id}: {name} {fact} was never told" for fact in sorted(held - planned[name])]
    return Comparison(found)


def rows(connection: psycopg.Connection, statement: str) -> list[dict[str, Any]]:
    """All rows of a statement, as dicts."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement.encode()).fetchall()


def _differing_outcomes(
    company_id: str, name: str, counted: list[oracle.RecountOutcome], rows: list[dict[str, Any]]
) -> list[str]:
    mine = {row["inquiry_id"]: row for row in rows}
    found = [
        f"{company_id} {name}: an outcome for {extra}, which is not known"
        for extra in mine.keys() - {one.inquiry_id for one in counted}
    ]
    for one in counted:
        row = mine.get(one.inquiry_id)
        if row is None:
            found.append(f"{company_id} {name}: no outcome for {one.inquiry_id}")
            continue
        wanted = (
            one.outcome,
            one.reason,
            one.account_id,
            one.unit_day,
            one.unit_inquiry_id,
            one.first_reply_at,
            one.reply_source,
            one.matched_by,
        )
        is_ = tuple(
            row[key]
            for key in (
                "outcome",
                "reason",
                "account_id",
                "unit_day",
                "unit_inquiry_id",
                "first_reply_at",
                "reply_source",
                "matched_by",
            )
        )
        if wanted != is_:
            found.append(f"{company_id} {name} {one.inquiry_id}: is {is_}, must be {wanted}")
    return found


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None or isinstance(other, date):
        return bool(one == other)
    return abs(float(one) - float(other)) < 1e-6
