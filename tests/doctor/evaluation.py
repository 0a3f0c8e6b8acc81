"""Runs the doctor over many worlds with known causes; renders how often it is right."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from services.aggregator.doctor import diagnosis
from services.aggregator.doctor.causes import CAUSES, Finding
from services.aggregator.judge import days, judge, rules
from services.aggregator.judge.plan import Delta
from tests.doctor.worlds import NOW, STORIES, World, load, worlds

SEED, EACH, HEALTHY = 20261120, 40, 140
LOT = 50


@dataclass(frozen=True, slots=True)
class Case:
    """One world under one rule set: the true cause and the doctor's findings; no findings if the rate is above 0."""

    cause: str
    company_id: str
    rule_set: str
    findings: tuple[Finding, ...]

    @property
    def top(self) -> frozenset[str]:
        """The causes with the highest confidence."""
        return frozenset(
            finding.cause for finding in self.findings if finding.confidence == self.findings[0].confidence
        )

    @property
    def high(self) -> frozenset[str]:
        """The causes found with `high`, except `none`."""
        return frozenset(
            finding.cause for finding in self.findings if finding.confidence == "high" and finding.cause != "none"
        )


def evaluate(connection: psycopg.Connection, evaluated: Sequence[World] = ()) -> list[Case]:
    """Load the worlds, judge them, and diagnose each account `main`."""
    evaluated = evaluated or worlds(SEED, EACH, HEALTHY)
    load(connection, evaluated)
    cases = []
    for name in sorted({name for world in evaluated for name in world.rule_sets}):
        rule_set = rules.load_builtin(name)
        judged = [world for world in evaluated if name in world.rule_sets]
        for at in range(0, len(judged), LOT):
            companies = [world.company_id for world in judged[at : at + LOT]]
            with connection.transaction():
                judge.judge_companies(
                    connection,
                    rule_set,
                    dict.fromkeys(companies, Delta()),
                    now=NOW,
                    days_from=days.local_day(NOW, rule_set),
                )
            findings = {
                diagnosed.company_id: diagnosed.findings
                for diagnosed in diagnosis.diagnose(connection, rule_set, companies, NOW)
                if diagnosed.account_id == "main"
            }
            cases += [
                Case(world.cause, world.company_id, name, findings.get(world.company_id, ()))
                for world in judged[at : at + LOT]
            ]
    return cases


def conditions() -> str:
    """The table of conditions, from the docstrings of the functions that decide."""
    lines = ["| Cause | Confidence |", "|---|---|"]
    for cause in CAUSES:
        lines.append(f"| `{cause.code}` | {' '.join((cause.confidence.__doc__ or '').split())} |")
    return "\n".join(lines) + "\n"


def render(cases: Sequence[Case]) -> str:
    """The confusion table: true cause × causes with the highest confidence, and the promised figures."""
    zero = [case for case in cases if case.findings]
    codes = [cause.code for cause in CAUSES]
    used = [code for code in codes if code in STORIES]
    lines = [
        f"{len(cases)} judgements of {len({case.company_id for case in cases})} worlds; {len(zero)} of them have a rate of 0 or none.",
        "",
        "| True cause | cases | among the top | alone at the top | causes at the top | `high` |",
        "|---|---|---|---|---|---|",
    ]
    for code in used:
        of_cause = [case for case in zero if case.cause == code]
        right, alone = sum(code in case.top for case in of_cause), sum(case.top == {code} for case in of_cause)
        width = sum(len(case.top) for case in of_cause) / len(of_cause)
        sure = sum(bool(case.high) for case in of_cause)
        lines.append(
            f"| `{code}` | {len(of_cause)} | {100 * right / len(of_cause):.1f} % | {100 * alone / len(of_cause):.0f} % | {width:.1f} | {sure} |"
        )
    lines += [
        "",
        "In percent of the cases of a row: how often each cause stood at the top (several may).",
        "",
        "| True cause | " + " | ".join(str(number) for number in range(1, len(codes) + 1)) + " |",
        "|---|" + "---|" * len(codes),
    ]
    for number, code in enumerate(codes, 1):
        of_cause = [case for case in zero if case.cause == code]
        found_at_top = Counter(cause for case in of_cause for cause in case.top)
        cells = " | ".join(
            f"{100 * found_at_top[column] / len(of_cause):.0f}" if found_at_top[column] else "" for column in codes
        )
        lines.append(f"| {number} `{code}` | {cells} |")
    return "\n".join(lines) + "\n"
