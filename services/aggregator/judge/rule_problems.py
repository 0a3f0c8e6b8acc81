"""Why a rule set cannot be used: the sentences of rule_problems.toml."""

from collections.abc import Mapping
from typing import Literal

from services.common.language import Bilingual, filled
from services.common.tables import read_sentences

RuleProblem = Literal[
    "zone", "max-days", "value", "own-file", "own-name", "no-rule-set", "unreadable", "file-name", "horizon", "version", "no-company",
]  # fmt: skip


def load() -> Mapping[str, Bilingual]:
    """The sentence of each code."""
    return read_sentences("services.aggregator.judge", "rule_problems.toml")


def rule_problem(code: RuleProblem, **values: str | int) -> Bilingual:
    """The sentence of a code with its placeholders filled in."""
    return filled(load()[code], **values)
