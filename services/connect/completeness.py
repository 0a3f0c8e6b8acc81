"""From when on the numbers of a mailbox are complete, and when that can be seen. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from services.mail.values import OpenedFolder
from services.providers.provider import ProviderLimits

SLACK: Final = timedelta(days=2)
"""A provider that shows D days shows a message this much older in vain: it shows more than it says."""


@dataclass(frozen=True, slots=True)
class SettlingRule:
    """What of a rule set decides when a day is shown: days and seconds as there."""

    name: str
    zone: ZoneInfo
    target_seconds: int
    window_days: int
    settle_days: int


@dataclass(frozen=True, slots=True)
class NumbersForecast:
    """Local days of the rule set: the first whose replies are all known, the day on which it is settled and shown, and the
    first on which every day of the rate is such a day. `today` is the day they were worked out on."""

    complete_from: datetime
    first_day: date
    visible_on: date
    whole_on: date
    today: date


def expected_from(
    now: datetime, horizon_days: int, limits: ProviderLimits | None, folders: Iterable[OpenedFolder]
) -> datetime:
    """How far back a mailbox can be complete that was just tested: the horizon, or what its provider shows.

    A window of days is open when older mail was seen; one of messages closes when a folder is full (QQ: 30 days, Yahoo:
    10,000 messages).
    """
    opened = list(folders)
    begins = [now - timedelta(days=horizon_days)]
    days, most = (limits.visible_days, limits.visible_messages) if limits is not None else (None, None)
    if days is not None:
        edge = now - timedelta(days=days)
        earliest = min((one.earliest_at for one in opened if one.earliest_at is not None), default=None)
        if earliest is None or earliest > edge - SLACK:
            begins.append(edge)
    if most is not None:
        begins += [one.earliest_at or now for one in opened if one.messages >= most]
    return max(begins)


def numbers(complete_from: datetime, settling: SettlingRule, now: datetime) -> NumbersForecast:
    """What a person is told of a mailbox that is complete from an instant on. Nothing is visible before `now`."""
    today = now.astimezone(settling.zone).date()
    first = complete_from.astimezone(settling.zone).date()
    if _begin(first, settling.zone) < complete_from:
        first += timedelta(days=1)
    # Settled by rule, and not before the last answer that could be in time.
    last_answer = _begin(first + timedelta(days=1), settling.zone) + timedelta(seconds=settling.target_seconds)
    settled = max(first + timedelta(days=settling.settle_days), last_answer.astimezone(settling.zone).date())
    whole = settled + timedelta(days=settling.window_days - 1)
    return NumbersForecast(complete_from, first, max(settled, today), max(whole, today), today)


def _begin(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local day, in UTC arithmetic."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
