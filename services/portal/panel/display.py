"""Figures as sellers read them. A figure that is missing is a dash, never a 0."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from services.aggregator.judge.rules import RuleSet
from services.common.display import minute_text, percent

__all__ = ["corrected_figure", "local_minute", "percent", "plain_number", "rate_text"]


def rate_text(rate: dict[str, Any], rule_set: RuleSet) -> str:
    """The rate in percent as the rule set rounds it, to one digit where it does not."""
    shown = rate["rate_shown"]
    if rate["rate"] is None or shown is None or rule_set.rounding == "none":
        return percent(rate["rate"])
    return f"{float(shown):g} %"


def plain_number(value: Any) -> str:
    """A figure as machines read it, for the attribute `value`; "" when it is missing."""
    return "" if value is None else str(value)


def corrected_figure(column: str, stored: str) -> str:
    """A share, count or day of a correction, which is stored as text. Shares have two decimal places, since corrections may be small."""
    if column in ("rate", "coverage"):
        return f"{float(stored) * 100:.2f} %"
    return f"{float(stored):g} %" if column == "rate_shown" else stored


def local_minute(at: datetime | None, time_zone: str) -> str:
    """An instant to the minute in a time zone, which the page names; a dash for None."""
    return minute_text(None if at is None else at.astimezone(ZoneInfo(time_zone)))
