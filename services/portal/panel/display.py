"""Figures as sellers read them. A figure that is missing is a dash, never a 0."""

from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from services.aggregator.judge.rules import RuleSet
from services.common.display import minute_text, percent
from services.common.language import Language

__all__ = ["corrected_figure", "duration", "local_minute", "percent", "plain_number", "rate_text"]

UNITS: Final[dict[Language, tuple[str, str, str]]] = {"en": (" d", " h", " min"), "zh": ("天", "小时", "分钟")}
"""Days, hours and minutes."""


def rate_text(rate: dict[str, Any], rule_set: RuleSet) -> str:
    """The rate in percent as the rule set rounds it, to one digit where it does not."""
    shown = rate["rate_shown"]
    if rate["rate"] is None or shown is None or rule_set.rounding == "none":
        return percent(rate["rate"])
    return f"{float(shown):g} %"


def duration(seconds: Any, language: Language) -> str:
    """`2 d 3 h`, `3 h 20 min` or `5 min`; a dash for None."""
    if seconds is None:
        return "–"
    days, hours, minutes = UNITS[language]
    gap = "" if language == "zh" else " "
    total_minutes = round(float(seconds) / 60)
    if total_minutes >= 48 * 60:
        whole_days, left_hours = divmod(round(total_minutes / 60), 24)
        return f"{whole_days}{days}" + (f"{gap}{left_hours}{hours}" if left_hours else "")
    whole_hours, left_minutes = divmod(total_minutes, 60)
    if not whole_hours:
        return f"{left_minutes}{minutes}"
    return f"{whole_hours}{hours}" + (f"{gap}{left_minutes}{minutes}" if left_minutes else "")


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
