"""Runs the doctor over many worlds with known causes; renders how often it is right."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from services.aggregator.doctor import diagnosis
from services.aggregator.doctor.causes import CAUSES, Finding
from services.aggregator.judge import judge, rules
from services.aggregator.judge.judge import Delta
from tests.doctor.worlds import NOW, STORIES, World, load, worlds

SEED, EACH, HEALTHY = 20261120, 40, 140
LOT = 50


@dataclass(frozen=True, slots=True)
class Case:
    """One world under one rule set: the truth, and what the doctor says; no findings when the rate is above 0."""

    cause: str
    company_id: str
    rule_set: str
    findings: tuple[Finding, ...]

    @property
    def top(self) -> frozenset[str]:
        """The causes of the highest confidence."""
        return frozenset(one.cause for one in self.findings if one.confidence == self.findings[0].confidence)

    @property
    def high(self) -> frozenset[str]:
        """What it is almost sure of, apart from nothing being wrong."""
        return frozenset(one.cause for one in self.findings if one.confidence == "high" and one.cause != "none")


def evaluate(connection: psycopg.Connection, made: Sequence[World] = ()) -> list[Case]:
    """Load the worlds, judge them, ask the doctor about each account `main`."""
    made = made or worlds(SEED, EACH, HEALTHY)
    load(connection, made)
    cases = []
    for name in sorted({name for world in made for name in world.rule_sets}):
        rule_set = rules.load_builtin(name)
        judged = [world for world in made if name in world.rule_sets]
        for at in range(0, len(judged), LOT):
            companies = [world.company_id for world in judged[at : at + LOT]]
            with connection.transaction():
                judge.judge_companies(
                    connection,
                    rule_set,
                    dict.fromkeys(companies, Delta()),
                    now=NOW,
                    days_from=judge.local_day(NOW, rule_set),
                )
            said = {
                one.company_id: one.findings
                for one in diagnosis.look(connection, rule_set, companies, NOW)
                if one.account_id == "main"
            }
            cases += [
                Case(world.cause, world.company_id, name, said.get(world.company_id, ()))
                for world in judged[at : at + LOT]
            ]
    return cases


def conditions() -> str:
    """The table of conditions, out of the functions that decide."""
    lines = ["| Cause | Confidence |", "|---|---|"]
    for cause in CAUSES:
        lines.append(f"| `{cause.code}` | {' '.join((cause.confidence.__doc__ or '').split())} |")
    return "\n".join(lines) + "\n"


def render(cases: Sequence[Case]) -> str:
    """The confusion table: true cause × causes of the highest confidence, and the figures that are promised."""
    zero = [one for one in cases if one.findings]
    codes = [cause.code for cause in CAUSES]
    used = [code for code in codes if code in STORIES]
    lines = [
        f"{len(cases)} judgements of {len({one.company_id for one in cases})} worlds; {len(zero)} of them have a rate of 0 or none.",
        "",
        "| True cause | cases | among the top | alone at the top | causes at the top | `high` |",
        "|---|---|---|---|---|---|",
    ]
    for code in used:
        held = [one for one in zero if one.cause == code]
        right, alone = sum(code in one.top for one in held), sum(one.top == {code} for one in held)
        width = sum(len(one.top) for one in held) / len(held)
        sure = sum(bool(one.high) for one in held)
        lines.append(
            f"| `{code}` | {len(held)} | {100 * right / len(held):.1f} % | {100 * alone / len(held):.0f} % | {width:.1f} | {sure} |"
        )
    lines += [
        "",
        "In percent of the cases of a row: how often each cause stood at the top (several may).",
        "",
        "| True cause | " + " | ".join(str(number) for number in range(1, len(codes) + 1)) + " |",
        "|---|" + "---|" * len(codes),
    ]
    for number, code in enumerate(codes, 1):
        held = [one for one in zero if one.cause == code]
        told = Counter(cause for one in held for cause in one.top)
        cells = " | ".join(f"{100 * told[other] / len(held):.0f}" if told[other] else "" for other in codes)
        lines.append(f"| {number} `{code}` | {cells} |")
    return "\n".join(lines) + "\n"
