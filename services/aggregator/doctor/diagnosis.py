"""Diagnoses: made on request for `replyrate doctor`, and stored by the refresh loop for report_v1.zero_rate_diagnosis."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any, Final, Literal

import psycopg

from services.aggregator.doctor import causes, evidence
from services.aggregator.doctor.causes import Finding
from services.aggregator.doctor.symptoms import Symptoms
from services.aggregator.judge.rules import RuleSet
from services.common.postgres import load_statements
from services.common.tables import read_table

SQL: Final = load_statements("services.aggregator.doctor", "diagnosis.sql")
LANGUAGES: Final = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why one row of reply_rate_latest is 0 or missing; `account_id` is empty at company level. There is at least one finding."""

    company_id: str
    account_id: str
    as_of: date
    window_start: date
    window_end: date
    findings: tuple[Finding, ...]


def diagnose(
    connection: psycopg.Connection, rule_set: RuleSet, companies: Sequence[str], now: datetime
) -> list[Diagnosis]:
    """Diagnoses of companies from the facts as they are now; empty if every newest rate is above 0."""
    diagnoses = []
    for company in evidence.read(connection, rule_set, companies, now).values():
        accounts = [(symptoms, causes.diagnose(symptoms)) for symptoms in company if symptoms.account_id]
        diagnoses += [_diagnosis(symptoms, findings) for symptoms, findings in accounts]
        diagnoses += [
            _diagnosis(symptoms, causes.of_company(accounts) if accounts else causes.diagnose(symptoms))
            for symptoms in company
            if not symptoms.account_id
        ]
    return sorted(diagnoses, key=lambda diagnosis: (diagnosis.company_id, diagnosis.account_id))


def record(
    connection: psycopg.Connection, rule_sets: Sequence[RuleSet], companies: Sequence[str], now: datetime
) -> int:
    """Store why companies have rates of 0, inside the caller's transaction; returns the number of findings."""
    total = 0
    for rule_set in rule_sets:
        findings = [
            (diagnosis, finding)
            for diagnosis in diagnose(connection, rule_set, companies, now)
            for finding in diagnosis.findings
        ]
        values = {
            "rule_set": rule_set.name,
            "active": [active.name for active in rule_sets],
            "companies": list(companies),
            "now": now,
            "company_ids": [diagnosis.company_id for diagnosis, _ in findings],
            "account_ids": [diagnosis.account_id for diagnosis, _ in findings],
            "as_ofs": [diagnosis.as_of for diagnosis, _ in findings],
            "causes": [finding.cause for _, finding in findings],
            "confidences": [finding.confidence for _, finding in findings],
            "facts": [json.dumps(finding.facts) for _, finding in findings],
            "advices_en": [advice(finding, "en") for _, finding in findings],
            "advices_zh": [advice(finding, "zh") for _, finding in findings],
        }
        connection.execute(SQL["delete_outdated"], values)
        connection.execute(SQL["store"], values)
        total += len(findings)
    return total


def title(finding: Finding, language: str) -> str:
    """The cause of a finding in a few words."""
    return str(texts()[finding.cause]["title"][language])


def advice(finding: Finding, language: str) -> str:
    """What a finding says and what to do, with its facts filled in."""
    shown = {name: "–" if value is None else value for name, value in finding.facts.items()}
    return advice_text(finding.cause, "advice", finding.facts, language).format(**shown)


def advice_text(cause: str, reader: Literal["advice", "seller"], facts: Mapping[str, Any], language: str) -> str:
    """The advice on a cause with its placeholders: for operators (`advice`), or for sellers where they have their own. Some causes have
    another one for accounts without a mailbox, whose number of answers by mail is unknown (None)."""
    has_no_mailbox = facts.get("answered_by_mail", 0) is None
    names: tuple[str, ...] = (reader, "advice")
    if has_no_mailbox:
        names = (f"{reader}_without_mailbox", "advice_without_mailbox", *names)
    by_name = texts()[cause]
    return str(next(by_name[name] for name in names if name in by_name)[language])


@cache
def texts() -> dict[str, Any]:
    """All sections of causes.toml."""
    return read_table("services.aggregator.doctor", "causes.toml")


def _diagnosis(symptoms: Symptoms, findings: Sequence[Finding]) -> Diagnosis:
    return Diagnosis(
        symptoms.company_id,
        symptoms.account_id,
        symptoms.as_of,
        symptoms.window_start,
        symptoms.window_end,
        tuple(findings),
    )
