"""Diagnoses: looked at for a person, or written down by the refresh loop behind report_v1.zero_rate_diagnosis."""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from importlib import resources
from typing import Any, Final

import psycopg

from services.aggregator.doctor import causes, evidence
from services.aggregator.doctor.causes import Finding, Symptoms
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import recompute
from services.aggregator.refresh.quarantine import isolating
from services.common.postgres import clock, load_statements

SQL: Final = load_statements("services.aggregator.doctor", "diagnosis.sql")
LANGUAGES: Final = ("en", "zh")
MOST: Final = 50
"""Companies that are looked at together."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why one row of reply_rate_latest is 0 or missing; `account_id` is empty at company level. Never without findings."""

    company_id: str
    account_id: str
    as_of: date
    window_start: date
    window_end: date
    findings: tuple[Finding, ...]


def look(connection: psycopg.Connection, rule_set: RuleSet, companies: Sequence[str], now: datetime) -> list[Diagnosis]:
    """Diagnoses of companies as the facts are now; empty where every newest rate is above 0."""
    found = []
    for company in evidence.read(connection, rule_set, companies, now).values():
        accounts = [(one, causes.diagnose(one)) for one in company if one.account_id]
        found += [_diagnosis(one, findings) for one, findings in accounts]
        found += [
            _diagnosis(one, causes.of_company(accounts) if accounts else causes.diagnose(one))
            for one in company
            if not one.account_id
        ]
    return sorted(found, key=lambda one: (one.company_id, one.account_id))


def step(connection: psycopg.Connection, most: int = MOST, aside: Sequence[str] = ()) -> list[str]:
    """Look at some companies that were judged since, but for those `aside`; returns them. One transaction of its own.

    Unjudged when one of them may be the reason that Postgres refused.
    """
    with connection.transaction():
        found = connection.execute(SQL["stale"], {"most": most, "aside": list(aside)}).fetchall()
        companies = [company_id for (company_id,) in found]
        if companies:
            now = clock(connection)
            with isolating(companies):
                record(connection, recompute.active(connection), companies, now)
                connection.execute(SQL["looked"], {"companies": companies, "now": now})
    return companies


def record(
    connection: psycopg.Connection, rule_sets: Sequence[RuleSet], companies: Sequence[str], now: datetime
) -> int:
    """Write down why companies have rates of 0, inside the caller's transaction; returns how many
    findings there are."""
    total = 0
    for rule_set in rule_sets:
        rows = [(one, finding) for one in look(connection, rule_set, companies, now) for finding in one.findings]
        values = {
            "rule_set": rule_set.name,
            "active": [one.name for one in rule_sets],
            "companies": list(companies),
            "now": now,
            "company_ids": [one.company_id for one, _ in rows],
            "account_ids": [one.account_id for one, _ in rows],
            "as_ofs": [one.as_of for one, _ in rows],
            "causes": [finding.cause for _, finding in rows],
            "confidences": [finding.confidence for _, finding in rows],
            "facts": [json.dumps(finding.facts) for _, finding in rows],
            "advices_en": [advice(finding, "en") for _, finding in rows],
            "advices_zh": [advice(finding, "zh") for _, finding in rows],
        }
        connection.execute(SQL["forget"], values)
        connection.execute(SQL["write"], values)
        total += len(rows)
    return total


def title(finding: Finding, language: str) -> str:
    """The cause in a few words."""
    return str(texts()[finding.cause]["title"][language])


def advice(finding: Finding, language: str) -> str:
    """What was found and what to do, with the counts filled in."""
    shown = {name: "–" if value is None else value for name, value in finding.facts.items()}
    return str(texts()[finding.cause]["advice"][language]).format(**shown)


@cache
def texts() -> dict[str, Any]:
    """All sections of causes.toml."""
    return tomllib.loads(resources.files("services.aggregator.doctor").joinpath("causes.toml").read_text("utf-8"))


def _diagnosis(one: Symptoms, findings: Sequence[Finding]) -> Diagnosis:
    return Diagnosis(one.company_id, one.account_id, one.as_of, one.window_start, one.window_end, tuple(findings))
