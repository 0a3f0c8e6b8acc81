"""Why a rate is 0 or missing, as sellers read it: on a page of the panel, in its exports, and as JSON with a token of a frame.

Advice of operators names commands, which sellers have not. At company level the facts are sums of what is known about the mailboxes of
all accounts; a main account is shown causes and counts of inquiries and units, and each account the rest of its own.
"""

from collections.abc import Mapping
from string import Formatter
from typing import Any, Final

from services.aggregator.doctor import diagnosis
from services.aggregator.judge.rules import RuleSet
from services.aggregator.texts import Texts
from services.common.language import Language
from services.common.tables import read_table
from services.portal.api.figures import with_title

OF_COMPANY: Final = frozenset({
    "units", "inquiries", "later_inquiries", "last_inquiry_on", "excluded", "excluded_by", "pending", "timely", "late", "unanswered",
    "unmeasured", "waiting_seconds", "silent_units", "automatic_units", "suspect_units", "units_before", "units_changed", "units_blind",
    "units_invisible",
})  # fmt: skip
"""Facts of a company that say nothing of its mailboxes."""


def for_sellers(cause: dict[str, Any], rule_set: RuleSet) -> dict[str, Any]:
    """A row of zero_rate_diagnosis with its title, and with the facts and the advice for sellers."""
    facts = cause["facts"]
    if cause["account_id"] is None:
        facts = {name: value for name, value in facts.items() if name in OF_COMPANY}
    advice = {
        "advice_en": seller_advice(cause["cause"], facts, "en"),
        "advice_zh": seller_advice(cause["cause"], facts, "zh"),
    }
    return {**with_title(cause, rule_set), "facts": facts, **advice}


def seller_advice(cause: str, facts: Mapping[str, Any], language: Language) -> str:
    """What was found and what the seller can do; without the facts for it, where to read that."""
    text = diagnosis.advice_text(cause, "seller", facts, language)
    if not {name for _, name, _, _ in Formatter().parse(text) if name} <= facts.keys():
        return str(read_table("services.portal.api", "advice.toml")["company"]["by_account"][language])
    return text.format(**{name: fact_text(value, language) for name, value in facts.items()})


def fact_text(value: Any, language: Language) -> str:
    """A fact as text: numbers and days as they are, counts of inquiries with the words for why they are excluded."""
    if value is None:
        return "–"
    if isinstance(value, dict):
        text = Texts("explain", language)
        reasons = {text("excluded", code, within="").rstrip(".。"): count for code, count in value.items()}
        return "; ".join(f"{reason}: {count}" for reason, count in reasons.items()) or "–"
    return str(value)
