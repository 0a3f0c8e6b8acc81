"""Windows, local days and settled days of a rule set."""

from datetime import UTC, date, datetime, timedelta

import pytest
from msgspec.structs import replace

from services.aggregator.judge import days, rules

DEFAULT = rules.load_builtin("default")


@pytest.mark.parametrize(
    ("settle", "as_of", "first", "last"),
    [
        (5, date(2016, 12, 28), date(2016, 11, 24), date(2016, 12, 23)),
        (7, date(2019, 5, 7), date(2019, 4, 1), date(2019, 4, 30)),
        (1, date(2021, 1, 31), date(2021, 1, 1), date(2021, 1, 30)),
    ],
)
def test_windows_end_settle_days_before_the_day(settle: int, as_of: date, first: date, last: date) -> None:
    rule_set = replace(DEFAULT, settle_days=settle)
    now = days.start_of(as_of + timedelta(days=1), rule_set)
    (judgement,) = [each for each in days.judgements(rule_set, as_of, now, as_of) if each.day == as_of]
    assert (judgement.first_day, judgement.last_day) == (first, last)


@pytest.mark.parametrize(
    ("day", "starts", "hours"),
    [
        (date(2021, 1, 15), "2021-01-15T08:00", 24),
        (date(2021, 3, 14), "2021-03-14T08:00", 23),
        (date(2021, 11, 7), "2021-11-07T07:00", 25),
    ],
)
def test_pacific_days_have_23_to_25_hours(day: date, starts: str, hours: int) -> None:
    start = days.start_of(day, DEFAULT)
    assert start.astimezone(UTC) == datetime.fromisoformat(starts).replace(tzinfo=UTC)
    assert days.start_of(day + timedelta(days=1), DEFAULT).astimezone(UTC) - start.astimezone(UTC) == timedelta(
        hours=hours
    )


NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BY_RULE = date(2026, 11, 15)
"""The last settled day at NOW by settle_days alone."""


@pytest.mark.parametrize(
    ("mailboxes", "complete_through", "settled"),
    [
        (0, None, BY_RULE),
        (1, NOW, BY_RULE),
        # Complete through the first instant of 13 November + target: 12 November is the last complete day.
        (1, datetime(2026, 11, 14, 8, tzinfo=UTC), date(2026, 11, 12)),
        (1, datetime(2026, 11, 14, 7, 59, 59, tzinfo=UTC), date(2026, 11, 11)),
        (1, datetime(2026, 9, 1, tzinfo=UTC), BY_RULE - timedelta(days=14)),
        (1, None, BY_RULE - timedelta(days=14)),
    ],
    ids=["no-mailbox", "complete", "exactly-complete", "a-second-short", "long-outage", "never-complete"],
)
def test_a_day_settles_when_mailboxes_are_complete_or_after_max_settle_days(
    mailboxes: int, complete_through: datetime | None, settled: date
) -> None:
    assert days.settled_through(DEFAULT, NOW, mailboxes, complete_through) == settled


def test_the_coverage_that_a_day_waits_for_settles_it() -> None:
    settled = date(2026, 11, 11)
    needed = days.read_through_needed(DEFAULT, NOW, settled)
    assert needed is not None
    assert days.settled_through(DEFAULT, NOW, 1, needed) == settled + timedelta(days=1)
    assert days.settled_through(DEFAULT, NOW, 1, needed - timedelta(microseconds=1)) == settled
    assert days.read_through_needed(DEFAULT, NOW, BY_RULE) is None


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "Pacific/Kiritimati", "America/Los_Angeles", "UTC"])
def test_the_last_instant_has_a_local_day_in_every_zone(zone: str) -> None:
    rule_set = replace(DEFAULT, time_zone=zone)
    last = datetime.max.replace(tzinfo=UTC)
    assert days.local_day(last, rule_set) == date.max == days.first_rate_day(last, rule_set)
