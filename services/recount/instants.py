"""Instants as whole microseconds since 1970 (UTC), and the days of a time zone."""

import re
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

_INSTANT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,6}))?Z")


def instant(text: str) -> int:
    """Microseconds of an RFC 3339 instant in UTC; ValueError for anything else."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an instant like 2026-03-02T01:15:00Z")
    whole = datetime.fromisoformat(match[1] + "+00:00")
    return (whole - EPOCH) // MICROSECOND + int((match[2] or "").ljust(6, "0"))


def instant_of(at: datetime) -> int:
    """Microseconds of an aware datetime."""
    return (at - EPOCH) // MICROSECOND


def instant_text(at: int) -> str:
    """The instant with `Z`, its fraction only if there is one."""
    return (EPOCH + at * MICROSECOND).isoformat().replace("+00:00", "Z")


def instant_or_none(text: str | None) -> int | None:
    """The same for a field that may be null."""
    return None if text is None else instant(text)


@cache
def local_day(at: int, zone: str) -> date:
    """The day that a wall clock in the zone shows."""
    return (EPOCH + at * MICROSECOND).astimezone(ZoneInfo(zone)).date()


@cache
def first_instant(day: date, zone: str) -> int:
    """The first microsecond of a local day, also where midnight is skipped or happens twice: searched, not computed."""
    middle = (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // MICROSECOND
    before, after = middle - 30 * 3600 * SECOND, middle + 30 * 3600 * SECOND
    while after - before > 1:
        between = (before + after) // 2
        if local_day(between, zone) < day:
            before = between
        else:
            after = between
    return after


def judged_at(as_of: str, zone: str) -> tuple[int, date]:
    """(now, day of the row) of `replay --as-of`: a date is judged at its end, an instant at that instant."""
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", as_of):
        day = date.fromisoformat(as_of)
        return first_instant(day + timedelta(days=1), zone), day
    now = instant(as_of)
    return now, local_day(now - 1, zone)
