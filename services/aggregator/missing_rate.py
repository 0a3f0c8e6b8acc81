"""Why a row of reply_rate has no rate: a missing rate is not 0. Pure."""

from collections.abc import Mapping
from typing import Any, Literal

from services.aggregator.judge.rules import RuleSet
from services.aggregator.texts import Texts
from services.common.display import percent

MissingRate = Literal["coverage", "small", "nothing"]
"""Too little of the time is covered by mailboxes, too few units were counted, or none was."""


def missing_rate(rate_row: Mapping[str, Any], rule_set: RuleSet) -> MissingRate | None:
    """The reason of a row of reply_rate that was computed by `rule_set`; None when it has a rate."""
    if rate_row["rate"] is not None:
        return None
    coverage = rate_row["coverage"]
    if coverage is not None and coverage < rule_set.min_coverage:
        return "coverage"
    return "small" if rate_row["counted"] and rule_set.small_sample != "show" else "nothing"


def missing_rate_text(code: MissingRate, rate_row: Mapping[str, Any], rule_set: RuleSet, text: Texts) -> str:
    """The reason in a sentence; `text` has the sentences of rate.toml."""
    sample = rule_set.small_sample
    return text(
        "no_rate", code, who=rate_row["account_id"] or rate_row["company_id"],
        counted=rate_row["counted"], coverage=percent(rate_row["coverage"]),
        least=0 if sample == "show" else sample.min_counted,
        minimum=percent(rule_set.min_coverage),
    )  # fmt: skip
