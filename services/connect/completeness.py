"""From when on a mailbox is complete, and when its numbers can be seen. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from services.mail.values import OpenedFolder
from services.mail.visibility import FolderExtent, visible_from
from services.providers.provider import ProviderLimits


@dataclass(frozen=True, slots=True)
class SettlingRule:
    """The parameters of a rule set that decide when a day is shown; days and seconds as in the rule set."""

    name: str
    zone: ZoneInfo
    target_seconds: int
    window_days: int
    settle_days: int


@dataclass(frozen=True, slots=True)
class NumbersForecast:
    """When the numbers of a mailbox can be seen, in local days of the rule set.

    `first_day`: the first day of which every reply is known. `visible_on`: the day on which it is final and shown.
    `whole_on`: the first day on which every day of the rate is such a day. `today`: the day of the forecast.
    """

    complete_from: datetime
    first_day: date
    visible_on: date
    whole_on: date
    today: date


def expected_from(
    now: datetime, horizon_days: int, limits: ProviderLimits | None, folders: Iterable[OpenedFolder]
) -> datetime:
    """How far back a mailbox that was just tested can be complete: the horizon, or what its provider shows."""
    horizon = now - timedelta(days=horizon_days)
    if limits is None:
        return horizon
    extents = [FolderExtent(folder.messages, folder.earliest_at) for folder in folders]
    visible = visible_from(limits, extents, now)
    return horizon if visible is None else max(horizon, visible)


def forecast_numbers(complete_from: datetime, rule: SettlingRule, now: datetime) -> NumbersForecast:
    """The forecast for a mailbox that is complete from an instant on. Nothing is visible before `now`."""
    today = now.astimezone(rule.zone).date()
    first = complete_from.astimezone(rule.zone).date()
    if _start_of(first, rule.zone) < complete_from:
        first += timedelta(days=1)
    # Settled by rule, and not before the last answer that could be in time.
    last_answer = _start_of(first + timedelta(days=1), rule.zone) + timedelta(seconds=rule.target_seconds)
    settled = max(first + timedelta(days=rule.settle_days), last_answer.astimezone(rule.zone).date())
    whole = settled + timedelta(days=rule.window_days - 1)
    return NumbersForecast(complete_from, first, max(settled, today), max(whole, today), today)


def _start_of(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local day, in UTC arithmetic."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
